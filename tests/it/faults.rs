//! Devices that lie, stall and vanish: no wrong value leaves the gateway, everything else still
//! arrives, and the reason is visible in `andon read`, over MQTT and on the board.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use andon_tests::andon;
use andon_tests::peers::Mosquitto;
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::{METER, SITE, Workshop};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A unit that cost the line too much is asked again after half a minute at the latest.
const PATIENCE: Duration = Duration::from_secs(75);

/// Observations of the healthy neighbour that must arrive while the fault lasts.
const NEIGHBOUR_SAMPLES: usize = 10;

/// What each unit's items are set to; no two are equal, so a value that belongs elsewhere shows.
fn truth(unit: u8) -> BTreeMap<&'static str, f64> {
    let values = [231.25, 3.125, 750.5, 50.25, 1250.0];
    let shifted =
        |(index, value): (usize, f64)| value + f64::from(unit) * 4.0 + index as f64 / 64.0;
    METER
        .iter()
        .map(|(.., item, _)| *item)
        .zip(values.into_iter().enumerate().map(shifted))
        .collect()
}

/// A fault, the words that may explain it, and the items that it takes away.
struct Case {
    name: &'static str,
    fault: &'static str,
    why: &'static [&'static str],
    lost: Lost,
}

enum Lost {
    All,
    Only(&'static str),
    Nothing,
}

const CASES: &[Case] = &[
    Case { name: "silence", fault: "silence", why: &["timeout"], lost: Lost::All },
    Case { name: "late", fault: "late ms=700", why: &["timeout"], lost: Lost::All },
    Case { name: "unit", fault: "unit", why: &["garbled", "timeout"], lost: Lost::All },
    Case { name: "function", fault: "function", why: &["garbled", "timeout"], lost: Lost::All },
    Case { name: "bytecount", fault: "bytecount", why: &["garbled", "timeout"], lost: Lost::All },
    Case { name: "short", fault: "short", why: &["garbled", "timeout"], lost: Lost::All },
    Case { name: "crc", fault: "crc", why: &["garbled", "timeout"], lost: Lost::All },
    Case {
        name: "cut",
        fault: "cut",
        why: &["timeout", "garbled", "disconnected"],
        lost: Lost::All,
    },
    Case { name: "exception", fault: "exception code=4", why: &["refused"], lost: Lost::All },
    Case {
        name: "hole",
        fault: "hole start=12 count=2 table=input",
        why: &["refused"],
        lost: Lost::Only("power.active"),
    },
    Case {
        name: "nan",
        fault: "nan item=current",
        why: &["sentinel"],
        lost: Lost::Only("current"),
    },
    Case {
        name: "noise",
        fault: "noise bytes=7",
        why: &["garbled", "timeout"],
        lost: Lost::Nothing,
    },
];

/// One line with a meter that has the fault and a healthy one.
struct Line {
    dir: PathBuf,
    devices: Simulator,
    watch: Process,
    url: String,
    config: PathBuf,
    _gateway: Process,
    _broker: Mosquitto,
}

/// A sensor of the tests' own whose maker says with FFFF that it has no value.
const PROBE: &str = r#"title = "Probe"
source = "made up for tests"
evidence = "datasheet"
[[item]]
name = "temperature"
read = "input:0x0001"
type = "i16"
divide_by = 10
sentinel = 0xFFFF
[[item]]
name = "humidity"
read = "input:0x0002"
type = "u16"
unit = "%"
divide_by = 10
[[example]]
registers = { "input:0x0001" = [0x0131, 0x0222] }
expect = { temperature = 30.5, humidity = 0.546 }
[[example]]
registers = { "input:0x0001" = [0xFFFF, 0x0222] }
expect = { temperature = "sentinel", humidity = 0.546 }
"#;

/// The probe as the third unit of the line.
const PROBE_ON_LINE: &str = "[profiles]\ndir = \"profiles\"\n\
    [source.line-3]\nbus = \"line\"\nunit_id = 3\nprofile = \"test/probe\"\nperiod = \"200 ms\"\n\
    [machine.line-3]\nname = \"line-3\"\nkind = \"other\"\nitems = { \
    \"temperature\" = \"line-3.temperature\", \"humidity\" = \"line-3.humidity\" }\n";

/// What the probe measures.
const PROBED: [(&str, f64); 2] = [("temperature", 21.5), ("humidity", 0.44)];

/// What `read` says for a reason of the wire.
fn said(why: &'static str) -> &'static str {
    if why == "sentinel" { "none: the device says so" } else { why }
}

impl Line {
    fn start(
        name: &str,
        serve: &[&str],
        bus: impl Fn(&Simulator) -> Result<String>,
    ) -> Result<Option<Self>> {
        let dir = work_dir(name)?;
        let Some(broker) = Mosquitto::start(&dir)? else { return Ok(None) };
        let Some(watch) = broker.watch(&format!("andon/v1/{SITE}/#"))? else { return Ok(None) };
        let mut arguments = serve.to_vec();
        arguments.extend(["--device", "1=eastron/sdm120", "--device", "2=eastron/sdm120"]);
        let profiles = profiles(&dir)?;
        arguments.extend(["--device", "3=test/probe", "--profiles", &profiles]);
        let mut devices = Simulator::start("line", &dir, &arguments)?;
        for unit in [1, 2] {
            for (item, value) in truth(unit) {
                devices.say(&format!("set {unit} {item}={value}"))?;
            }
        }
        for (item, value) in PROBED {
            devices.say(&format!("set 3 {item}={value}"))?;
        }
        let workshop =
            Workshop::new(&dir).mqtt(broker.port).with(&bus(&devices)?).with(PROBE_ON_LINE);
        let config = workshop.meter("line", 1, "200 ms").meter("line", 2, "200 ms").write(&dir)?;
        let mut gateway = andon::run(&dir, &config)?;
        let url = gateway.wait_for_line("board: http://", PATIENCE)?;
        let url = url.split("board: ").nth(1).context("an address")?.trim().to_owned();
        let line = Self { dir, devices, watch, url, config, _gateway: gateway, _broker: broker };
        line.wait_for_item("line-1", "power.active", |item| item["value"].is_number())?;
        line.wait_for_item("line-2", "power.active", |item| item["value"].is_number())?;
        Ok(Some(line))
    }

    /// Waits until an item is on the board as wanted; returns it.
    fn wait_for_item(
        &self,
        machine: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        wait_for(&format!("{machine} {name} on the board"), PATIENCE, || {
            let picture = andon::get(&format!("{}/api/v1/picture", self.url)).unwrap_or_default();
            let machines = picture["machines"].as_array().cloned().unwrap_or_default();
            let found = machines.iter().find(|found| found["id"] == machine);
            let items = found.and_then(|found| found["items"].as_array()).cloned();
            last = items
                .unwrap_or_default()
                .into_iter()
                .find(|item| item["name"] == name)
                .unwrap_or_default();
            wanted(&last)
        })
        .with_context(|| format!("it is {last}; see {}", self.dir.display()))?;
        Ok(last)
    }

    /// Waits until the board says this of every unit of the line.
    fn wait_for_units(&self, state: &str) -> Result<()> {
        let mut units = Value::Null;
        wait_for(&format!("every unit to be {state}"), PATIENCE, || {
            let mut picture =
                andon::get(&format!("{}/api/v1/picture", self.url)).unwrap_or_default();
            units = picture["gateway"]["buses"][0]["units"].take();
            let all = units.as_array().cloned().unwrap_or_default();
            !all.is_empty() && all.iter().all(|unit| unit["state"] == state)
        })
        .with_context(|| format!("they are {units}"))
    }

    /// Everything that was said over MQTT about a machine's items, in order.
    fn observed(&self, machine: &str) -> Result<Vec<Value>> {
        let topic = format!("andon/v1/{SITE}/{machine}/observation ");
        let text = std::fs::read_to_string(&self.watch.log)?;
        let payloads = text.lines().filter_map(|line| line.strip_prefix(&topic));
        Ok(payloads.filter_map(|payload| serde_json::from_str(payload).ok()).collect())
    }

    fn case(&mut self, case: &Case) -> Result<()> {
        let shown = match case.lost {
            Lost::All => "voltage",
            Lost::Only(item) => item,
            Lost::Nothing => "",
        };
        let neighbours = self.observed("line-2")?.len();
        self.devices.say(&format!("fault {} unit=1", case.fault))?;
        if !shown.is_empty() {
            let explained = |item: &Value| {
                item["value"].is_null() && case.why.iter().any(|why| item["why"] == **why)
            };
            self.wait_for_item("line-1", shown, explained)?;
            self.wait_for_reason_over_mqtt(case, shown)?;
            self.expect_reason_in_read("line-1", case.why)?;
        }
        wait_for("the neighbour's samples", PATIENCE, || {
            let good = |seen: &&Value| seen["items"]["power.active"].is_number();
            let seen = self.observed("line-2").unwrap_or_default();
            seen.iter().skip(neighbours).filter(good).count() >= NEIGHBOUR_SAMPLES
        })?;
        if let Lost::Only(lost) = case.lost {
            // A hole that was found is remembered for minutes on purpose.
            let gone = |item: &&str| *item == lost || *item == "power.active";
            let others = METER.iter().map(|(.., item, _)| *item).filter(|item| !gone(item));
            for item in others {
                self.wait_for_item("line-1", item, |item| item["value"].is_number())?;
            }
        }
        self.devices.say("clear")?;
        self.wait_for_item("line-1", "voltage", |item| item["value"].is_number()).map(drop)
    }

    fn wait_for_reason_over_mqtt(&self, case: &Case, item: &str) -> Result<()> {
        wait_for(&format!("the reason of {} over MQTT", case.name), PATIENCE, || {
            let seen = self.observed("line-1").unwrap_or_default();
            let last = seen.last().map(|seen| seen["items"][item]["why"].clone());
            last.is_some_and(|last| case.why.iter().any(|why| last == **why))
        })
    }

    /// The device's own "no value": gone with its reason in all three places, while what stands
    /// in the next register goes on.
    fn sentinel(&mut self) -> Result<()> {
        self.wait_for_item("line-3", "temperature", |item| item["value"].is_number())?;
        self.devices.say("fault sentinel item=temperature unit=3")?;
        self.wait_for_item("line-3", "temperature", |item| {
            item["value"].is_null() && item["why"] == "sentinel"
        })?;
        self.wait_for_item("line-3", "humidity", |item| item["value"].is_number())?;
        wait_for("the sentinel over MQTT", PATIENCE, || {
            let seen = self.observed("line-3").unwrap_or_default();
            seen.last().is_some_and(|seen| {
                seen["items"]["temperature"]["why"] == "sentinel"
                    && seen["items"]["humidity"].is_number()
            })
        })?;
        self.expect_reason_in_read("line-3", &["sentinel"])?;
        self.devices.say("clear")?;
        self.wait_for_item("line-3", "temperature", |item| item["value"].is_number()).map(drop)
    }

    /// A serial line belongs to the running gateway alone; there, `read` has a test of its own.
    fn expect_reason_in_read(&self, source: &str, why: &[&'static str]) -> Result<()> {
        if !self.devices.address.starts_with("127.") {
            return Ok(());
        }
        let told = read(&self.config, source)?;
        ensure!(why.iter().any(|why| told.contains(said(why))), "{why:?}: read said:\n{told}");
        Ok(())
    }

    /// Every number that ever left the gateway is one that the device had.
    fn expect_no_wrong_value(&self, at_least: usize) -> Result<()> {
        let mut checked = 0;
        for unit in [1, 2] {
            let truth = truth(unit);
            for seen in self.observed(&format!("line-{unit}"))? {
                let items = seen["items"].as_object().context("items")?;
                for (item, value) in items {
                    let Some(number) = value.as_f64() else { continue };
                    let wanted = truth[item.as_str()];
                    // Before the first `set` the simulator serves values of its own.
                    let close = (number - wanted).abs() <= wanted.abs() * 1e-6;
                    ensure!(close, "unit {unit} {item}: {number} instead of {wanted}");
                    checked += 1;
                }
            }
        }
        for seen in self.observed("line-3")? {
            for (item, wanted) in PROBED {
                let Some(number) = seen["items"][item].as_f64() else { continue };
                ensure!((number - wanted).abs() < 1e-9, "{item}: {number} instead of {wanted}");
                checked += 1;
            }
        }
        ensure!(checked >= at_least, "only {checked} values were seen");
        eprintln!("{}: {checked} values, none wrong", self.dir.display());
        Ok(())
    }
}

/// Writes the probe's profile; the folder.
fn profiles(dir: &Path) -> Result<String> {
    let folder = dir.join("profiles");
    std::fs::create_dir_all(folder.join("test"))?;
    std::fs::write(folder.join("test/probe.toml"), PROBE)?;
    Ok(folder.to_string_lossy().into_owned())
}

/// What `andon read` says of a source, to whoever listens.
fn read(config: &Path, source: &str) -> Result<String> {
    let output = andon::output(&["read", "--config", &config.to_string_lossy(), source])?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

fn run_cases(line: &mut Line, skip: &[&str]) -> Result<()> {
    for case in CASES.iter().filter(|case| !skip.contains(&case.name)) {
        line.case(case).with_context(|| format!("case {}", case.name))?;
        eprintln!("{}: as it should be", case.name);
    }
    line.sentinel().context("case sentinel")?;
    line.expect_no_wrong_value(500)
}

fn tcp_bus(kind: &str, devices: &Simulator) -> Result<String> {
    let port = devices.port()?;
    Ok(format!("[bus.line]\ntype = \"{kind}\"\nhost = \"127.0.0.1\"\nport = {port}\n"))
}

#[test]
fn no_fault_on_modbus_tcp_makes_a_wrong_value() -> Result<()> {
    let serve = ["--tcp", "127.0.0.1:0"];
    let Some(mut line) = Line::start("faults-tcp", &serve, |d| tcp_bus("modbus-tcp", d))? else {
        return Ok(());
    };
    // A checksum and line noise exist on serial lines only.
    run_cases(&mut line, &["crc", "noise"])
}

#[test]
fn no_fault_on_a_serial_line_makes_a_wrong_value() -> Result<()> {
    let serve = ["--rtu", "--baud", "19200"];
    let bus = |devices: &Simulator| Ok(rtu_bus(devices));
    let Some(mut line) = Line::start("faults-rtu", &serve, bus)? else { return Ok(()) };
    run_cases(&mut line, &[])
}

/// Without a gateway, which would keep the line to itself.
#[test]
fn read_names_every_fault_on_a_serial_line() -> Result<()> {
    let dir = work_dir("read-rtu")?;
    let profiles = profiles(&dir)?;
    let serve = ["--rtu", "--baud", "19200", "--profiles", &profiles];
    let devices = ["--device", "1=eastron/sdm120", "--device", "3=test/probe"];
    let mut devices = Simulator::start("line", &dir, &[&serve[..], &devices[..]].concat())?;
    devices.say("set 1 voltage=231.25")?;
    let workshop = Workshop::new(&dir).with(&rtu_bus(&devices)).with(PROBE_ON_LINE);
    let config = workshop.meter("line", 1, "200 ms").write(&dir)?;
    let told = read(&config, "line-1")?;
    ensure!(told.contains("231.25 V"), "read said:\n{told}");
    let sentinel = ("sentinel item=temperature", 3, &["sentinel"][..]);
    let lost = CASES.iter().filter(|case| !matches!(case.lost, Lost::Nothing));
    for (fault, unit, why) in lost.map(|case| (case.fault, 1, case.why)).chain([sentinel]) {
        devices.say(&format!("fault {fault} unit={unit}"))?;
        // Typed to another process: it may be read once before it is in force.
        let mut told = String::new();
        wait_for(&format!("read to name {fault}"), PATIENCE, || {
            told = read(&config, &format!("line-{unit}")).unwrap_or_default();
            why.iter().any(|why| told.contains(said(why)))
        })
        .with_context(|| format!("read said:\n{told}"))?;
        let all = fault.split(' ').all(|word| !word.starts_with("item=") && word != "hole");
        ensure!(!all || !told.contains("231.25 V"), "{fault}: read said:\n{told}");
        devices.say("clear")?;
    }
    Ok(())
}

fn rtu_bus(devices: &Simulator) -> String {
    let port = &devices.address;
    format!("[bus.line]\ntype = \"modbus-rtu\"\nport = \"{port}\"\nbaud = 19200\n")
}

#[test]
fn a_port_that_vanishes_and_returns_is_survived() -> Result<()> {
    let dir = work_dir("unplug-link")?;
    let link = dir.join("usb-meter");
    let path = link.to_string_lossy().into_owned();
    let serve = ["--rtu", "--baud", "19200", "--link", &path];
    let bus = |_: &Simulator| {
        Ok(format!("[bus.line]\ntype = \"modbus-rtu\"\nport = \"{path}\"\nbaud = 19200\n"))
    };
    let Some(mut line) = Line::start("unplug", &serve, bus)? else { return Ok(()) };
    line.devices.say("unplug")?;
    line.wait_for_item("line-1", "voltage", |item| item["why"] == "disconnected")?;
    ensure!(!Path::new(&path).exists(), "the simulator unplugs its link");
    line.wait_for_units("bus_down")?;
    line.devices.say("replug")?;
    line.wait_for_item("line-1", "voltage", |item| item["value"].is_number())?;
    line.wait_for_units("online")?;
    line.expect_no_wrong_value(10)
}
