//! Device profiles against programs that nobody here wrote: what pymodbus and the dlt645 package
//! serve is what `andon read` shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use andon_tests::andon as binary;
use andon_tests::peers::{NullModem, skip};
use andon_tests::process::{Process, free_port, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// How long a peer may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);
/// Singles have seven digits.
const TOLERANCE: f64 = 1e-6;
const LABEL: &str = "181219024435";

/// Starts a peer of these tests; `None` where its packages are not installed.
fn peer(name: &str, dir: &Path, arguments: &[&str]) -> Result<Option<Process>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = tests.join(".venv/bin/python");
    if !python.is_file() {
        skip("pymodbus and dlt645 are not installed (tests/install)");
        return Ok(None);
    }
    let mut command = Command::new(python);
    command.arg(tests.join(format!("peers/{name}.py"))).args(arguments);
    let mut process = Process::start(name, dir, &mut command)?;
    process.wait_for_line("ready", START)?;
    Ok(Some(process))
}

fn wait_for_port(port: u16) -> Result<()> {
    wait_for("the peer", START, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
}

fn write_config(dir: &Path, pieces: &str) -> Result<PathBuf> {
    let file = dir.join("andon.toml");
    std::fs::write(&file, format!("[site]\nid = \"test\"\ntime_zone = \"UTC\"\n{pieces}"))?;
    Ok(file)
}

/// What `andon read --json` shows, by source and item.
fn read(config: &Path) -> Result<BTreeMap<(String, String), Value>> {
    let path = config.to_str().context("a path")?;
    let output = binary::output(&["read", "--config", path, "--json"])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{told}");
    let mut values = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let reading: Value = serde_json::from_str(line)?;
        let text = |key: &str| reading[key].as_str().unwrap_or_default().to_owned();
        values.insert((text("source"), text("item")), reading["value"].clone());
    }
    Ok(values)
}

fn alike(expected: &Value, found: &Value) -> bool {
    match (expected.as_f64(), found.as_f64()) {
        (Some(expected), Some(found)) => {
            (expected - found).abs() <= TOLERANCE * expected.abs().max(found.abs())
        }
        _ => expected == found,
    }
}

#[test]
fn every_modbus_profile_reads_what_an_independent_encoder_serves() -> Result<()> {
    let dir = work_dir("profiles")?;
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/profiles");
    let (port, plan) = (free_port()?, dir.join("plan.json"));
    let arguments = [
        "--tcp",
        &port.to_string(),
        "--profiles",
        profiles.to_str().context("a path")?,
        "--plan",
        plan.to_str().context("a path")?,
    ];
    let Some(_server) = peer("profile_server", &dir, &arguments)? else { return Ok(()) };
    wait_for_port(port)?;
    let served: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&plan)?)?;
    let mut config =
        format!("[bus.all]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n");
    for device in &served {
        let unit = &device["unit"];
        write!(
            config,
            "[source.u{unit}]\nbus = \"all\"\nunit_id = {unit}\nprofile = {}\n\
             [machine.m{unit}]\nkind = \"other\"\nsource = \"u{unit}\"\n",
            device["profile"]
        )?;
    }
    let readings = read(&write_config(&dir, &config)?)?;
    let mut wrong = Vec::new();
    let mut compared = 0;
    for device in &served {
        let source = format!("u{}", device["unit"]);
        for (item, expected) in device["items"].as_object().context("items")? {
            let found = readings.get(&(source.clone(), item.clone())).unwrap_or(&Value::Null);
            compared += 1;
            if !alike(expected, found) {
                wrong.push(format!("{}: {item} is {found}, not {expected}", device["profile"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(served.len() >= 40 && compared > 500, "{} profiles, {compared} items", served.len());
    Ok(())
}

/// The values of `peers/dlt645_server.py`, in canonical units.
const METER: &[(&str, f64)] = &[
    ("power.active", 1503.0),
    ("power.active.l1", 1498.2),
    ("power.active.l2", 95.5),
    ("power.active.l3", 100.3),
    ("voltage.l1", 230.1),
    ("voltage.l2", 231.4),
    ("voltage.l3", 229.8),
    ("current.l1", 6.52),
    ("current.l2", 0.415),
    ("current.l3", 0.436),
    ("power.factor", 0.886),
    ("energy.import", 1_234_560.0),
    ("energy.export", 1500.0),
];

fn assert_meter(config: &Path) -> Result<()> {
    let readings = read(config)?;
    for (item, expected) in METER {
        let found = &readings[&("meter".to_owned(), (*item).to_owned())];
        assert!(alike(&Value::from(*expected), found), "{item} is {found}, not {expected}");
    }
    Ok(())
}

const SOURCE: &str = "[source.meter]\nbus = \"line\"\naddress = \"181219024435\"\n\
                      profile = \"dlt645/three-phase\"\n\
                      [machine.m]\nkind = \"other\"\nsource = \"meter\"\n";

#[test]
fn a_dlt645_meter_is_read_over_tcp() -> Result<()> {
    let dir = work_dir("dlt645-tcp")?;
    let port = free_port()?;
    let arguments = ["--tcp", &port.to_string(), "--label", LABEL];
    let Some(_server) = peer("dlt645_server", &dir, &arguments)? else { return Ok(()) };
    wait_for_port(port)?;
    let bus = format!(
        "[bus.line]\ntype = \"modbus-rtu-over-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         baud = 2400\n{SOURCE}"
    );
    assert_meter(&write_config(&dir, &bus)?)
}

#[test]
fn a_dlt645_meter_is_read_on_a_serial_line() -> Result<()> {
    let dir = work_dir("dlt645-rtu")?;
    let Some(line) = NullModem::start(&dir)? else { return Ok(()) };
    let far = line.far.to_str().context("a path")?.to_owned();
    let arguments = ["--rtu", &far, "--baud", "2400", "--label", LABEL];
    let Some(_server) = peer("dlt645_server", &dir, &arguments)? else { return Ok(()) };
    let bus =
        format!("[bus.line]\ntype = \"dlt645\"\nport = \"{}\"\n{SOURCE}", line.near.display());
    assert_meter(&write_config(&dir, &bus)?)
}

#[test]
fn what_a_scan_proposes_can_be_run() -> Result<()> {
    let dir = work_dir("scan")?;
    let link = dir.join("line");
    let devices = [
        "--device",
        "3=eastron/sdm630",
        "--device",
        "5=janitza/umg-96rm",
        "--device",
        "181219024435=dlt645/three-phase",
    ];
    let path = link.to_str().context("a path")?;
    let mut arguments = vec!["--rtu", "--baud", "115200", "--link", path];
    arguments.extend(devices);
    let simulator = Simulator::start("line", &dir, &arguments)?;
    let state = dir.join("scan.json");
    let output = binary::output(&[
        "scan",
        "serial",
        path,
        "--baud",
        "9600",
        "--parity",
        "N",
        "--units",
        "1-6",
        "--wait",
        "50",
        "--state",
        state.to_str().context("a path")?,
    ])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{told}");
    assert!(!told.contains('\r'), "no bar that moves but on a terminal: {told}");
    assert!(!state.exists(), "a scan that has ended leaves nothing behind");
    let asked = simulator.witnessed()?.into_iter().filter(|line| line["kind"] == "request");
    for line in asked {
        let reads = match (line["function"].as_u64(), line["control"].as_u64()) {
            (Some(function), _) => (1..=4).contains(&function),
            (_, Some(control)) => [0x01, 0x11, 0x13].contains(&control),
            _ => false,
        };
        assert!(reads, "{line}");
    }
    let proposed = String::from_utf8(output.stdout)?;
    // Models that share a register map are proposed side by side: somebody has looked at the labels.
    let mut config = proposed.clone();
    for label in ["eastron/sdm630", "janitza/umg-96rm", "dlt645/three-phase"] {
        let line = format!("profile = \"{label}\"");
        assert!(config.contains(&line), "{proposed}");
        config = config.replace(&format!("# {line}"), &line);
    }
    for source in ["unit-3", "unit-5", "meter-181219024435"] {
        assert!(proposed.contains(&format!("[source.{source}]")), "{proposed}");
        write!(config, "[machine.{source}]\nkind = \"other\"\nsource = \"{source}\"\n")?;
    }
    let readings = read(&write_config(&dir, &config)?)?;
    for source in ["unit-3", "unit-5", "meter-181219024435"] {
        let value = &readings[&(source.to_owned(), "power.active".to_owned())];
        assert!(value.as_f64().is_some_and(|watts| watts > 300.0), "{source}: {value}");
    }
    Ok(())
}
