//! Small workshops, written as the configuration files that a user would write.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The site's id in every test.
pub const SITE: &str = "test";

/// What the pymodbus server serves for a meter of these tests, and the items that read it:
/// (kind:address, item, factor from the served value to the canonical unit).
pub const METER: &[(&str, u16, &str, f64)] = &[
    ("input", 0x0000, "voltage", 1.0),
    ("input", 0x0006, "current", 1.0),
    ("input", 0x000C, "power.active", 1.0),
    ("input", 0x0046, "frequency", 1.0),
    ("counter", 0x0048, "energy.import", 1000.0),
];

/// The `--map` of the pymodbus server for [`METER`].
pub fn meter_map() -> String {
    let entries: Vec<String> =
        METER.iter().map(|(kind, address, ..)| format!("{kind}:{address}")).collect();
    entries.join(",")
}

/// A configuration under construction.
#[derive(Debug, Default)]
pub struct Workshop {
    text: String,
    machines: Vec<String>,
}

impl Workshop {
    /// A site that believes the system's clock, keeps its state in `dir` and shows its board on a
    /// free port.
    pub fn new(dir: &Path) -> Self {
        let state = dir.join("state");
        let text = format!(
            "[site]\nid = \"{SITE}\"\nname = {{ en = \"Test\", zh = \"测试\" }}\n\
             time_zone = \"Asia/Shanghai\"\n\
             [clock]\ntrust_wall = true\n[state]\ndir = \"{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            state.display()
        );
        Self { text, machines: Vec::new() }
    }

    /// Adds any piece of configuration.
    #[must_use]
    pub fn with(mut self, piece: &str) -> Self {
        self.text.push_str(piece);
        self.text.push('\n');
        self
    }

    /// Publishes to a broker, delivery confirmed by the recorder `main`.
    #[must_use]
    pub fn mqtt(self, port: u16) -> Self {
        self.with(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nrecorder = \"main\"\n"))
    }

    /// A Modbus TCP gateway on loopback.
    #[must_use]
    pub fn tcp_bus(self, id: &str, port: u16) -> Self {
        self.with(&format!(
            "[bus.{id}]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n"
        ))
    }

    /// A serial line.
    #[must_use]
    pub fn rtu_bus(self, id: &str, port: &Path, baud: u32) -> Self {
        self.with(&format!(
            "[bus.{id}]\ntype = \"modbus-rtu\"\nport = \"{}\"\nbaud = {baud}\n",
            port.display()
        ))
    }

    /// An Eastron SDM120 with a machine of its own, named `BUS-UNIT`.
    #[must_use]
    pub fn meter(mut self, bus: &str, unit: u8, period: &str) -> Self {
        let id = format!("{bus}-{unit}");
        write!(
            self.text,
            "[source.{id}]\nbus = \"{bus}\"\nunit_id = {unit}\nprofile = \"eastron/sdm120\"\n\
             period = \"{period}\"\n[machine.{id}]\nname = \"{id}\"\nkind = \"other\"\nitems = {{ "
        )
        .ok();
        let items: Vec<String> =
            METER.iter().map(|(_, _, item, _)| format!("\"{item}\" = \"{id}.{item}\"")).collect();
        writeln!(self.text, "{} }}", items.join(", ")).ok();
        self.machines.push(id);
        self
    }

    /// Writes `andon.toml` into `dir`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("andon.toml");
        std::fs::write(&path, &self.text)?;
        Ok(path)
    }
}
