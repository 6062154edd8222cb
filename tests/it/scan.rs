//! `andon scan mqtt` at a real broker: what other programs have announced there is proposed, and
//! nothing is published.

use std::process::Command;
use std::time::Duration;

use andon_tests::andon;
use andon_tests::peers::{Mosquitto, need};
use andon_tests::process::work_dir;
use anyhow::{Result, ensure};

/// Announcements in the shape of Tasmota's, zigbee2mqtt's, Shelly's and Home Assistant's own.
const ANNOUNCED: &[(&str, &str)] = &[
    (
        "tasmota/discovery/5CCF7F49A3BC/config",
        r#"{"dn":"Table saw","t":"plug-saw","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],
        "state":["OFF","ON","TOGGLE","HOLD"],"rl":[1,0,0,0,0,0,0,0]}"#,
    ),
    (
        "tasmota/discovery/5CCF7F49A3BC/sensors",
        r#"{"sn":{"ENERGY":{"Power":5,"Total":3.705}},"ver":1}"#,
    ),
    (
        "zigbee2mqtt/bridge/devices",
        r#"[{"friendly_name":"air","definition":{"vendor":"Tuya","model":"TS0601",
        "exposes":[{"property":"co2"},{"property":"temperature"}]}}]"#,
    ),
    ("shellyplus1pm-a8032ab12345/online", "true"),
    (
        "homeassistant/sensor/lab/co2/config",
        r#"{"device_class":"carbon_dioxide","unit_of_measurement":"ppm","state_topic":"lab/co2",
        "value_template":"{{ value_json.co2 }}","device":{"identifiers":["l1"],"name":"Lab"}}"#,
    ),
    ("homeassistant/light/x/config", "not json"),
];

#[test]
fn devices_that_a_broker_knows_of_are_proposed_and_nothing_is_published() -> Result<()> {
    let dir = work_dir("scan-mqtt")?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let Some(publish) = need("mosquitto_pub") else { return Ok(()) };
    let port = broker.port.to_string();
    for (topic, payload) in ANNOUNCED {
        let mut command = Command::new(&publish);
        command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", topic, "-m", payload]);
        ensure!(command.status()?.success(), "{topic} was not published");
    }
    let Some(mut watch) = broker.watch("#")? else { return Ok(()) };
    watch.wait_for_line("homeassistant/light", Duration::from_secs(10))?;
    let before = std::fs::read_to_string(&watch.log)?;

    let address = format!("127.0.0.1:{port}");
    let output = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "2"])?;
    let found = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for fragment in [
        &format!("[bus.home]\ntype = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {port}\n"),
        "[source.table-saw]\nbus = \"home\"\nprotocol = \"tasmota\"\ntopic = \"plug-saw\"\n",
        "protocol = \"zigbee2mqtt\"\ntopic = \"air\"\nkeys = \"temperature,co2\"\n",
        "[source.shellyplus1pm-a8032ab12345]\nbus = \"home\"\nprotocol = \"shelly\"\n",
        "protocol = \"json\"\ntopic = \"lab/co2\"\nmapping = { \"co2\" = \"co2 ppm\" }",
    ] {
        ensure!(found.contains(fragment), "{fragment}\nis not in\n{found}");
    }
    ensure!(std::fs::read_to_string(&watch.log)? == before, "something was published");

    let json = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "1", "--json"])?;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    ensure!(json.as_array().is_some_and(|found| found.len() == 4), "{json}");
    Ok(())
}

#[test]
fn a_broker_that_is_not_there_is_an_error_that_says_so() -> Result<()> {
    let port = andon_tests::process::free_port()?;
    let output = andon::output(&["scan", "mqtt", "--broker", &format!("127.0.0.1:{port}")])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.contains(&port.to_string()), "{said}");
    Ok(())
}
