//! A relay that echoes another command than it was given: the stop is not taken for confirmed, the
//! words of trouble are on the board and over MQTT, and no coil is told as switched that is not.

use std::time::Duration;

use andon_tests::peers::Mosquitto;
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::SITE;
use anyhow::{Result, ensure};
use serde_json::Value;

use super::trips::{COOL, HOT, Line};

/// Three attempts and the pause after them, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a person reads.
const WORDS: &str = "the device's answer was not one to this command";

/// The trip events that went over MQTT, in order.
fn trips(watch: &Process) -> Vec<Value> {
    let topic = format!("andon/v1/{SITE}/laser/event ");
    let text = std::fs::read_to_string(&watch.log).unwrap_or_default();
    let events = text.lines().filter_map(|line| line.strip_prefix(&topic));
    let events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    events.filter(|event| event["event"] == "trip").map(|event| event["state"].clone()).collect()
}

fn wrong_echo(
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
    line.devices.say("fault echo unit=10")?;
    line.devices.say(&format!("set 11 temperature={HOT}"))?;
    let failed = line.wait_for_phase("failed")?;
    ensure!(failed["level"] == "C0" && failed["trouble"] == WORDS, "the board says {failed}");
    wait_for("the trouble over MQTT", PATIENCE, || {
        trips(&watch)
            .last()
            .is_some_and(|trip| trip["phase"] == "failed" && trip["trouble"] == WORDS)
    })?;
    for trip in trips(&watch).iter().filter(|trip| trip["phase"] != "armed") {
        ensure!(trip["level"] == "C0" && trip["phase"] != "latched", "confirmed by nobody: {trip}");
    }
    // Once the relay is honest the stop, which is commanded on and on, is confirmed.
    line.devices.say("clear")?;
    let latched = line.wait_for_phase("latched")?;
    ensure!(latched["level"] == "C2" && latched["trouble"].is_null(), "{latched}");
    line.devices.say(&format!("set 11 temperature={COOL}"))?;
    line.reset()?;
    line.wait_for_phase("armed").map(drop)
}

#[test]
fn a_wrong_echo_over_tcp_confirms_no_stop() -> Result<()> {
    wrong_echo("echo-tcp", &["--tcp", "127.0.0.1:0"], |devices| {
        let port = devices.port()?;
        Ok(format!("[bus.line]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n"))
    })
}

#[test]
fn a_wrong_echo_on_a_serial_line_confirms_no_stop() -> Result<()> {
    wrong_echo("echo-rtu", &["--rtu", "--baud", "19200"], |devices| {
        let port = &devices.address;
        Ok(format!("[bus.line]\ntype = \"modbus-rtu\"\nport = \"{port}\"\nbaud = 19200\n"))
    })
}
