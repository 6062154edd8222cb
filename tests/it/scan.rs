//! `andon scan mqtt` at a real broker: what other programs have announced there is proposed, and
//! nothing is published.

use std::process::Command;
use std::time::Duration;

use andon_tests::andon;
use andon_tests::peers::{Mosquitto, need, replay};
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
    let output = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "5"])?;
    let found = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for fragment in [
        &format!("[bus.home]\ntype = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {port}\n"),
        "[source.table-saw]\nbus = \"home\"\nprotocol = \"tasmota\"\ntopic = \"plug-saw\"\n",
        "protocol = \"zigbee2mqtt\"\ntopic = \"air\"\nkeys = \"temperature,co2\"\nperiod",
        "[source.shellyplus1pm-a8032ab12345]\nbus = \"home\"\nprotocol = \"shelly\"\n",
        "protocol = \"json\"\ntopic = \"lab/co2\"\nperiod = \"1 min\"\nmapping = { \"co2\" = \"co2 ppm\" }",
    ] {
        ensure!(found.contains(fragment), "{fragment}\nis not in\n{found}");
    }
    ensure!(std::fs::read_to_string(&watch.log)? == before, "something was published");

    let json = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "5", "--json"])?;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    ensure!(json.as_array().is_some_and(|found| found.len() == 4), "{json}");
    Ok(())
}

#[test]
fn a_plug_and_a_relay_that_are_replayed_are_found() -> Result<()> {
    let dir = work_dir("scan-replays")?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let port = broker.port.to_string();
    let arguments = ["--port", &port];
    let Some(_plug) = replay("tasmota", &dir, &[&arguments[..], &["--channels", "2"]].concat())?
    else {
        return Ok(());
    };
    let Some(_relay) = replay("shelly", &dir, &arguments)? else { return Ok(()) };
    let address = format!("127.0.0.1:{port}");
    let output = andon::output(&["scan", "mqtt", "--broker", &address, "--seconds", "5"])?;
    let found = String::from_utf8(output.stdout)?;
    for fragment in [
        "protocol = \"tasmota\"\ntopic = \"plug-saw\"\nchannels = \"2\"\n",
        "protocol = \"shelly\"\ntopic = \"shellyplus1pm-a8032ab12345\"\n",
    ] {
        ensure!(found.contains(fragment), "{fragment}\nis not in\n{found}");
    }
    Ok(())
}

#[test]
fn a_printers_own_broker_wants_its_code_and_its_certificate() -> Result<()> {
    let dir = work_dir("scan-bambu")?;
    for program in ["mosquitto", "mosquitto_passwd", "openssl"] {
        if need(program).is_none() {
            return Ok(());
        }
    }
    let port = andon_tests::process::free_port()?.to_string();
    let folder = dir.to_string_lossy();
    let Some(_printer) = replay("bambu", &dir, &["--port", &port, "--dir", &folder])? else {
        return Ok(());
    };
    let code = dir.join("code");
    std::fs::write(&code, "12345678\n")?;
    let ca = dir.join("ca.pem");
    let address = format!("localhost:{port}");
    let (code, ca) = (code.to_string_lossy(), ca.to_string_lossy());
    let login = ["--user", "bblp", "--password-file", &code, "--ca-file", &ca];
    let scan = ["scan", "mqtt", "--broker", &address, "--seconds", "5"];
    ensure!(andon::output(&[&scan[..], &login[..]].concat())?.status.success());
    std::fs::write(dir.join("code"), "wrong")?;
    ensure!(!andon::output(&[&scan[..], &login[..]].concat())?.status.success());
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
