//! Devices that say only what changes: a steady load is silent and still known, as long as somebody
//! says that the device is there; and values that are mapped by hand.

use std::time::{Duration, Instant};

use andon_tests::peers::Mosquitto;
use andon_tests::plugs::{Board, Publisher};
use andon_tests::process::work_dir;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{at_home, device, has_mosquitto};

/// Many periods, and more than the questions after which silence counts as absence.
const STEADY: Duration = Duration::from_secs(6);

/// A machine behind topics that are mapped by hand.
const MAPPED: &str = "protocol = \"json\"\ntopic = \"shop/mill\"\nhold = \"10 min\"\n\
     availability = \"shop/mill/there\"\nonline = \"yes\"\noffline = \"no\"\n\
     mapping = { \"power.active\" = \"SENSOR:ENERGY.Power[1] kW\", \
     \"energy.total\" = \"SENSOR:ENERGY.Total kWh\", \"relay.1\" = \"STATE:POWER ON/OFF\", \
     \"temperature\" = 'raw:\"em:0\".t * 0.1 °C', \"humidity\" = \"air/rh:. %\", \
     \"execution\" = \"state idle=ready cutting=running\", \"job.name\" = \"job.file\" }";
const ZIGBEE: &str = "protocol = \"zigbee2mqtt\"\ntopic = \"kiln plug\"";
/// Without anybody who says that it is there.
const UNWATCHED: &str = "protocol = \"json\"\ntopic = \"shop/fan\"\n\
     mapping = { \"power.active\" = \"w W\" }";

fn start(name: &str) -> Result<Option<(Mosquitto, Board)>> {
    if !has_mosquitto() {
        return Ok(None);
    }
    let dir = work_dir(name)?;
    let Some(home) = Mosquitto::start(&dir)? else { return Ok(None) };
    at_home(&dir, home.port)
        .with(&device("home", "mill", MAPPED))
        .with(&device("home", "kiln", ZIGBEE))
        .with(&device("home", "fan", UNWATCHED))
        .write(&dir)?;
    let board = Board::start(&dir)?;
    // They are subscribed to when they have been asked in vain.
    for id in ["mill", "kiln", "fan"] {
        board.wait_for_device(id, "silent", "")?;
    }
    Ok(Some((home, board)))
}

#[test]
fn a_steady_load_stays_known_until_its_device_is_said_to_be_away() -> Result<()> {
    let Some((home, board)) = start("steady")? else { return Ok(()) };
    let publisher = Publisher(home.port);
    publisher.keep("shop/mill/there", "yes")?;
    publisher.keep("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#)?;
    publisher.keep("zigbee2mqtt/kiln plug/availability", r#"{"state":"online"}"#)?;
    publisher.say("shop/mill/SENSOR", r#"{"ENERGY":{"Power":[0.2,1.25],"Total":3.705}}"#)?;
    publisher.say(
        "zigbee2mqtt/kiln plug",
        r#"{"state":"ON","power":2250.5,"voltage":231,"energy":12.5,"linkquality":255}"#,
    )?;
    publisher.say("shop/fan", r#"{"w":40}"#)?;
    let steady = [("mill", "power.active", 1250.0), ("kiln", "power.active", 2250.5)];
    for (machine, item, watts) in steady {
        board.wait_for_value(machine, item, watts)?;
    }
    let until = Instant::now() + STEADY;
    while Instant::now() < until {
        for (machine, item, watts) in steady {
            let found = board.item(machine, item)?;
            ensure!(found["value"] == watts, "{machine}: {found}");
            let (age, limit) = (found["age_ms"].as_u64(), found["stale_after_ms"].as_u64());
            ensure!(age < limit, "shown as stale: {found}");
        }
    }
    // Nobody has vouched for this one.
    board.wait_for_unknown("fan", "power.active", "timeout")?;
    board.wait_for_device("fan", "silent", "nothing is heard at shop/fan")?;

    publisher.keep("shop/mill/there", "no")?;
    publisher.keep("zigbee2mqtt/kiln plug/availability", r#"{"state":"offline"}"#)?;
    for (machine, item, _) in steady {
        board.wait_for_unknown(machine, item, "disconnected")?;
        board.wait_for_value(machine, "online", false)?;
    }
    board.wait_for_device("mill", "silent", "shop/mill/there says no")?;
    board.wait_for_device("kiln", "silent", "zigbee2mqtt says that the device is offline")?;
    // That it is there again says nothing about its load.
    publisher.keep("shop/mill/there", "yes")?;
    publisher.keep("zigbee2mqtt/kiln plug/availability", r#"{"state":"online"}"#)?;
    std::thread::sleep(Duration::from_secs(2));
    for (machine, item, watts) in steady {
        let found = board.item(machine, item)?;
        ensure!(found["value"] == Value::Null, "not heard since it was away: {found}");
        match machine {
            "mill" => publisher.say("shop/mill/SENSOR", r#"{"ENERGY":{"Power":[0,1.25]}}"#)?,
            _ => publisher.say("zigbee2mqtt/kiln plug", r#"{"power":2250.5}"#)?,
        }
        board.wait_for_value(machine, item, watts)?;
    }
    Ok(())
}

#[test]
fn what_is_mapped_by_hand_is_shown_in_its_units_and_words() -> Result<()> {
    let Some((home, board)) = start("mapped")? else { return Ok(()) };
    let publisher = Publisher(home.port);
    publisher.keep("shop/mill/there", "yes")?;
    let unknown = || (Value::Null, "garbled");
    for (topic, payload, item, expected) in [
        (
            "/SENSOR",
            r#"{"ENERGY":{"Power":[9,"1.5"],"Total":3.705}}"#,
            "power.active",
            1500.0.into(),
        ),
        ("/SENSOR", r#"{"ENERGY":{"Power":[9,2.5],"Total":3.705}}"#, "energy.total", 3705.0.into()),
        ("/STATE", r#"{"POWER":"ON"}"#, "relay.1", true.into()),
        ("/STATE", r#"{"POWER":"OFF"}"#, "relay.1", false.into()),
        ("/raw", r#"{"em:0":{"t":215}}"#, "temperature", 21.5.into()),
        ("/air/rh", "45.5", "humidity", 0.455.into()),
        ("", r#"{"state":"cutting"}"#, "execution", "running".into()),
        ("", r#"{"state":"idle"}"#, "execution", "ready".into()),
        ("", r#"{"job":{"file":"齿轮.nc"}}"#, "job.name", json!("齿轮.nc")),
    ] {
        publisher.say(&format!("shop/mill{topic}"), payload)?;
        board.wait_for_value("mill", item, expected)?;
    }
    // What has no meaning has no value, and takes nothing else with it.
    for (topic, payload, item) in [
        ("/STATE", r#"{"POWER":"MAYBE"}"#, "relay.1"),
        ("/SENSOR", r#"{"ENERGY":{"Power":[0,"much"]}}"#, "power.active"),
        ("/air/rh", "{", "humidity"),
    ] {
        publisher.say(&format!("shop/mill{topic}"), payload)?;
        let (_, why) = unknown();
        board.wait_for_unknown("mill", item, why)?;
    }
    board.wait_for_value("mill", "temperature", 21.5)?;
    board.wait_for_value("mill", "energy.total", 3705.0)
}
