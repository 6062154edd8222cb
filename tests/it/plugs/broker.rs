//! The broker that devices share: lost and back, and shared by many; and what a scan of it proposes,
//! taken over as a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use andon_tests::andon;
use andon_tests::peers::{Mosquitto, replay};
use andon_tests::plugs::{Board, PATIENCE, Publisher};
use andon_tests::process::{wait_for, work_dir};
use andon_tests::workshop::SITE;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{at_home, broker, device, has_mosquitto};

const PLUG: &str = "protocol = \"tasmota\"\ntopic = \"plug-saw\"";

#[test]
fn values_return_with_a_lost_broker_and_the_other_broker_goes_on() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let (dir, far) = (work_dir("broker-lost")?, work_dir("broker-other")?);
    let Some(mut home) = Mosquitto::start(&dir)? else { return Ok(()) };
    let Some(other) = Mosquitto::start(&far)? else { return Ok(()) };
    let (port, other_port) = (home.port.to_string(), other.port.to_string());
    let Some(_plug) = replay("tasmota", &dir, &["--port", &port])? else { return Ok(()) };
    let Some(_far) = replay("tasmota", &far, &["--port", &other_port])? else { return Ok(()) };
    at_home(&dir, home.port)
        .with(&broker("other", other.port))
        .with(&device("home", "near", PLUG))
        .with(&device("other", "far", PLUG))
        .write(&dir)?;
    let board = Board::start(&dir)?;
    for machine in ["near", "far"] {
        board.wait_for_value(machine, "power.active", 5.0)?;
    }
    for _ in 0..2 {
        home.kill();
        board.wait_for_unknown("near", "power.active", "disconnected")?;
        let why = board.wait_for_device("near", "down", "")?;
        ensure!(!why.is_empty(), "it is down without a word");
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let power = board.item("far", "power.active")?;
            ensure!(power["value"] == 5.0, "the other broker's plug: {power}");
            ensure!(power["age_ms"].as_u64().is_some_and(|age| age < 3000), "{power}");
        }
        home.restart()?;
        board.wait_for_value("near", "power.active", 5.0)?;
        board.wait_for_device("near", "answering", "")?;
    }
    Ok(())
}

/// Devices of a large workshop, all at one broker.
const MANY: usize = 120;

#[test]
fn many_devices_share_a_broker_and_come_back_together() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let dir = work_dir("broker-many")?;
    let Some(mut home) = Mosquitto::start(&dir)? else { return Ok(()) };
    let mut workshop = at_home(&dir, home.port);
    for n in 0..MANY {
        let rest = format!(
            "protocol = \"json\"\ntopic = \"room/{n}\"\nmapping = {{ \"co2\" = \"co2 ppm\", \
             \"temperature\" = \"air:t °C\" }}\nretained = \"use\""
        );
        workshop = workshop.with(&device("home", &format!("room-{n}"), &rest));
    }
    workshop.write(&dir)?;
    let board = Board::start(&dir)?;
    let last = format!("room-{}", MANY - 1);
    for _ in 0..2 {
        board.wait_for_device(&last, "silent", "")?;
        for n in [0, MANY / 2, MANY - 1] {
            Publisher(home.port).keep(&format!("room/{n}"), r#"{"co2":415}"#)?;
            let room = format!("room-{n}");
            board.wait_for_value(&room, "co2", 415.0)?;
        }
        home.kill();
        board.wait_for_unknown(&last, "co2", "disconnected")?;
        home.restart()?;
    }
    let log = std::fs::read_to_string(&board.process.log)?;
    ensure!(!log.contains("takes nothing"), "the connection is too narrow:\n{log}");
    Ok(())
}

/// So many values at once, so often.
const AT_ONCE: usize = 12;
const BREATHS: usize = 20;

#[test]
fn values_said_in_one_breath_have_a_time_each() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let dir = work_dir("breath")?;
    let Some(home) = Mosquitto::start(&dir)? else { return Ok(()) };
    let Some(watch) = home.watch(&format!("andon/v1/{SITE}/scale/observation"))? else {
        return Ok(());
    };
    let scale = "protocol = \"json\"\ntopic = \"scale\"\nmapping = { \"power.active\" = \"w W\" }";
    at_home(&dir, home.port).mqtt(home.port).with(&device("home", "scale", scale)).write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_device("scale", "silent", "")?;
    for breath in 0..BREATHS {
        let values = (1..=AT_ONCE).map(|nth| format!("{{\"w\":{}}}\n", breath * AT_ONCE + nth));
        let mut said = Publisher(home.port).lines("scale", &values.collect::<String>())?;
        ensure!(said.wait()?.success(), "the broker refuses them");
    }
    let mut times = BTreeMap::new();
    wait_for("every value with its time", PATIENCE, || {
        times = times_of_values(&watch.log).unwrap_or_default();
        times.len() == BREATHS * AT_ONCE
    })
    .with_context(|| format!("{} values came", times.len()))?;
    let distinct: BTreeSet<i64> = times.values().copied().collect();
    ensure!(distinct.len() == times.len(), "a store would keep {} of {times:?}", distinct.len());
    Ok(())
}

/// The times of whole values in what a subscriber has printed.
fn times_of_values(log: &Path) -> Result<BTreeMap<usize, i64>> {
    let mut times = BTreeMap::new();
    for line in std::fs::read_to_string(log)?.lines() {
        let Some((_, payload)) = line.split_once(' ') else { continue };
        let told: Value = serde_json::from_str(payload)?;
        if let (Some(watts), Some(t)) = (told["items"]["power.active"].as_f64(), told["t"].as_i64())
        {
            times.insert(watts as usize, t);
        }
    }
    Ok(times)
}

#[test]
fn what_a_scan_of_a_broker_proposes_runs_and_shows_values() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let dir = work_dir("scan-round")?;
    let Some(home) = Mosquitto::start(&dir)? else { return Ok(()) };
    let port = home.port.to_string();
    let mut peers = Vec::new();
    for name in ["tasmota", "shelly", "shelly_gen1"] {
        let Some(peer) = replay(name, &dir, &["--port", &port])? else { return Ok(()) };
        peers.push(peer);
    }
    let publisher = Publisher(home.port);
    publisher.keep(
        "homeassistant/sensor/lab/co2/config",
        r#"{"device_class":"carbon_dioxide","unit_of_measurement":"ppm","state_topic":"lab/co2",
        "value_template":"{{ value_json.co2 }}","device":{"identifiers":["l1"],"name":"Lab"}}"#,
    )?;
    publisher.keep(
        "zigbee2mqtt/bridge/devices",
        r#"[{"friendly_name":"air","definition":{"vendor":"Tuya","model":"TS0601",
        "exposes":[{"property":"temperature"}]}}]"#,
    )?;
    let address = format!("127.0.0.1:{port}");
    let output = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "2"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = String::from_utf8(output.stdout)?;
    let sources: Vec<String> = found
        .lines()
        .filter_map(|line| line.strip_prefix("[source.")?.strip_suffix(']').map(str::to_owned))
        .collect();
    ensure!(sources.len() == 5, "{found}");
    for id in &sources {
        write!(found, "\n[machine.{id}]\nkind = \"other\"\nsource = \"{id}\"\n")?;
    }
    andon_tests::workshop::Workshop::new(&dir).with(&found).write(&dir)?;
    let board = Board::start(&dir)?;
    for id in &sources {
        let (item, expected) = match id.as_str() {
            id if id.starts_with("plug") => ("power.active", 5.0),
            id if id.starts_with("shellyplus") => ("power.active", 73.2),
            id if id.starts_with("shelly1") => ("power.active", 36.5),
            "lab" => ("co2", 415.0),
            _ => ("temperature", 21.5),
        };
        wait_for(&format!("{id} to have its value"), PATIENCE, || {
            // Whatever speaks by itself does so again until it is subscribed to.
            publisher.say("lab/co2", r#"{"co2":415}"#).ok();
            publisher.say("zigbee2mqtt/air", r#"{"temperature":21.5}"#).ok();
            board.item(id, item).is_ok_and(|found| found["value"].as_f64() == Some(expected))
        })?;
    }
    Ok(())
}
