//! A relay that echoes another command than it was given, or echoes and does not switch: the stop is
//! not taken for confirmed, the words of trouble are on the board and over MQTT, and no coil is told
//! as switched that is not.

use std::time::Duration;

use andon_tests::peers::Mosquitto;
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::SITE;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::trips::{COOL, HOT, Line};

/// Three attempts and the pause after them, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay that lies: the fault, what a person reads, and how far the stop is confirmed at most.
struct Lie {
    fault: &'static str,
    words: &'static str,
    level: &'static str,
}

const WRONG_ECHO: Lie =
    Lie { fault: "echo", words: "the device's answer was not one to this command", level: "C0" };

const STUCK: Lie = Lie { fault: "stuck-coil", words: "the output does not read back", level: "C1" };

/// The trip events that went over MQTT, in order.
fn trips(watch: &Process) -> Vec<Value> {
    let topic = format!("andon/v1/{SITE}/laser/event ");
    let text = std::fs::read_to_string(&watch.log).unwrap_or_default();
    let events = text.lines().filter_map(|line| line.strip_prefix(&topic));
    let events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    events.filter(|event| event["event"] == "trip").map(|event| event["state"].clone()).collect()
}

fn lying_relay(
    lie: &Lie,
    name: &str,
    serve: &[&str],
    bus: impl Fn(&Simulator) -> Result<String>,
) -> Result<()> {
    let dir = work_dir(name)?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let Some(watch) = broker.watch(&format!("andon/v1/{SITE}/#"))? else { return Ok(()) };
    let mqtt = format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n", broker.port);
    let mut line = Line::start(&dir, serve, |devices| Ok(bus(devices)? + &mqtt))?;
    line.wait_for_phase("armed")?;
    line.devices.say(&format!("fault {} unit=10", lie.fault))?;
    line.devices.say(&format!("set 11 temperature={HOT}"))?;
    // An attempt that got no answer in time says so, and the next one says what is wrong.
    let mut failed = Value::Null;
    let said = wait_for("the failed stop", PATIENCE, || {
        failed = line.stop().unwrap_or_default();
        failed["phase"] == "failed"
            && failed["level"] == lie.level
            && failed["trouble"] == lie.words
    });
    said.with_context(|| format!("the board says {failed}"))?;
    wait_for("the trouble over MQTT", PATIENCE, || {
        trips(&watch)
            .last()
            .is_some_and(|trip| trip["phase"] == "failed" && trip["trouble"] == lie.words)
    })?;
    for trip in trips(&watch).iter().filter(|trip| trip["phase"] != "armed") {
        let level = trip["level"].as_str().unwrap_or_default();
        ensure!(level <= lie.level && trip["phase"] != "latched", "confirmed by nobody: {trip}");
    }
    // Once the relay is honest the stop, which is commanded on and on, is confirmed.
    line.devices.say("clear")?;
    let latched = line.wait_for_phase("latched")?;
    ensure!(latched["level"] == "C2" && latched["trouble"].is_null(), "{latched}");
    line.devices.say(&format!("set 11 temperature={COOL}"))?;
    line.reset()?;
    line.wait_for_phase("armed").map(drop)
}

fn tcp(devices: &Simulator) -> Result<String> {
    let port = devices.port()?;
    Ok(format!("[bus.line]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n"))
}

fn rtu(devices: &Simulator) -> Result<String> {
    let port = &devices.address;
    Ok(format!("[bus.line]\ntype = \"modbus-rtu\"\nport = \"{port}\"\nbaud = 19200\n"))
}

#[test]
fn a_wrong_echo_over_tcp_confirms_no_stop() -> Result<()> {
    lying_relay(&WRONG_ECHO, "echo-tcp", &["--tcp", "127.0.0.1:0"], tcp)
}

#[test]
fn a_wrong_echo_on_a_serial_line_confirms_no_stop() -> Result<()> {
    lying_relay(&WRONG_ECHO, "echo-rtu", &["--rtu", "--baud", "19200"], rtu)
}

#[test]
fn a_coil_that_echoes_and_does_not_switch_confirms_no_stop() -> Result<()> {
    lying_relay(&STUCK, "stuck-tcp", &["--tcp", "127.0.0.1:0"], tcp)?;
    lying_relay(&STUCK, "stuck-rtu", &["--rtu", "--baud", "19200"], rtu)
}
