//! Loads: how many connections, devices behind each and registers of each, as configurations of
//! andon and of collectd that read the same from the same server.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::workshop::Workshop;

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) connections: u16,
    /// Devices behind each connection.
    pub(super) units: u16,
    /// Registers of each device, one reading each, at most 100.
    pub(super) registers: usize,
    pub(super) period: Duration,
}

/// Where andon's readings go beside the journal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outputs<'a> {
    pub(super) broker: Option<u16>,
    pub(super) store: Option<&'a str>,
}

/// The items of a device in the order of its registers: a hundred names of the closed list whose
/// quantities can be what the server serves.
fn items() -> impl Iterator<Item = String> {
    let single = ["power.active", "voltage", "current", "frequency"].map(str::to_owned);
    let channels = ["temperature", "noise", "co2"]
        .into_iter()
        .flat_map(|base| (1..=32).map(move |channel| format!("{base}.{channel}")));
    single.into_iter().chain(channels)
}

impl Shape {
    /// Readings a second, if all is read in time.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.connections) * f64::from(self.units) * self.registers as f64
            / self.period.as_secs_f64()
    }

    /// Writes andon's configuration: a machine per device with its activity and a rule.
    pub(super) fn andon(&self, dir: &Path, ports: &[u16], outputs: Outputs<'_>) -> Result<PathBuf> {
        let profiles = dir.join("profiles");
        fs::create_dir_all(profiles.join("bench"))?;
        fs::write(profiles.join("bench/device.toml"), self.profile())?;
        let mut text = format!("[profiles]\ndir = \"{}\"\n", profiles.display());
        if let Some(port) = outputs.broker {
            // What the broker has taken is delivered: no recorder takes part in the figure.
            writeln!(text, "[mqtt]\nhost = \"127.0.0.1\"\nport = {port}")?;
        }
        if let Some(url) = outputs.store {
            writeln!(text, "[store]\nurl = \"{url}\"\nbucket = \"andon\"")?;
        }
        for (bus, port) in (1..=self.connections).zip(ports) {
            writeln!(
                text,
                "[bus.b{bus}]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}"
            )?;
            for unit in 1..=self.units {
                let millis = self.period.as_millis();
                writeln!(
                    text,
                    "[source.b{bus}-{unit}]\nbus = \"b{bus}\"\nunit_id = {unit}\n\
                     profile = \"bench/device\"\nperiod = \"{millis} ms\"\n\
                     [machine.b{bus}-{unit}]\nkind = \"other\"\nsource = \"b{bus}-{unit}\"\n\
                     activity = {{ from = \"power.active\", idle_above = \"5 W\", \
                     run_above = \"25 W\" }}\n\
                     [rule.b{bus}-{unit}]\nmachine = \"b{bus}-{unit}\"\n\
                     when = \"power.active > 500 W\"\nfor = \"2 s\"\nmessage = \"Look at it.\""
                )?;
            }
        }
        Workshop::new(dir).with(&text).write(dir)
    }

    /// A profile with the device's registers, and an example that its check asks for.
    fn profile(&self) -> String {
        let names: Vec<String> = items().take(self.registers).collect();
        let mut text = "title = \"Device of the benchmark\"\nsource = \"tests/src/bench\"\n\
                        evidence = \"trial\"\n"
            .to_owned();
        for (address, name) in names.iter().enumerate() {
            write!(
                text,
                "[[item]]\nname = \"{name}\"\nread = \"input:0x{address:04X}\"\ntype = \"u16\"\n\
                 scale = 0.1\n"
            )
            .ok();
        }
        let words = vec!["200"; names.len()].join(", ");
        let expect: Vec<String> = names.iter().map(|name| format!("\"{name}\" = 20.0")).collect();
        write!(
            text,
            "[[example]]\nregisters = {{ \"input:0x0000\" = [{words}] }}\nexpect = {{ {} }}\n",
            expect.join(", ")
        )
        .ok();
        text
    }

    /// Writes collectd's configuration: the same registers into the same broker.
    pub(super) fn collectd(&self, dir: &Path, ports: &[u16], broker: u16) -> Result<PathBuf> {
        let mut text = format!(
            "Hostname \"bench\"\nFQDNLookup false\nBaseDir \"{0}\"\nPIDFile \"{0}/collectd.pid\"\n\
             PluginDir \"/usr/lib/collectd\"\nTypesDB \"/usr/share/collectd/types.db\"\n\
             ReadThreads 5\nWriteThreads 2\nLoadPlugin logfile\n\
             <Plugin logfile>\nLogLevel \"warning\"\nFile \"STDERR\"\n</Plugin>\n\
             LoadPlugin mqtt\n<Plugin mqtt>\n<Publish \"out\">\nHost \"127.0.0.1\"\n\
             Port {broker}\nClientId \"collectd\"\nQoS 0\n</Publish>\n</Plugin>\n\
             LoadPlugin modbus\n<Plugin modbus>\n",
            dir.display()
        );
        for (address, name) in items().take(self.registers).enumerate() {
            writeln!(
                text,
                "<Data \"{name}\">\nRegisterBase {address}\nRegisterType Uint16\n\
                 RegisterCmd ReadInput\nType temperature\nInstance \"{name}\"\nScale 0.1\n</Data>"
            )?;
        }
        for (bus, port) in (1..=self.connections).zip(ports) {
            let seconds = self.period.as_secs_f64();
            writeln!(
                text,
                "<Host \"b{bus}\">\nAddress \"127.0.0.1\"\nPort \"{port}\"\nInterval {seconds}"
            )?;
            for unit in 1..=self.units {
                writeln!(text, "<Slave {unit}>\nInstance \"{unit}\"")?;
                for name in items().take(self.registers) {
                    writeln!(text, "Collect \"{name}\"")?;
                }
                writeln!(text, "</Slave>")?;
            }
            writeln!(text, "</Host>")?;
        }
        writeln!(text, "</Plugin>")?;
        let path = dir.join("collectd.conf");
        fs::write(&path, text)?;
        Ok(path)
    }
}
