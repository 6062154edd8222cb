//! Messages are the recorded ones of other protocols' tests (a Tasmota plug's `SENSOR`) and bare
//! values as a first-generation Shelly sends them.

use std::time::Duration;

use andon_engine::value::Unavailable;

use super::PROTOCOL;
use crate::device::{Heard, Outgoing, Stop, StopReply};
use crate::protocol::Settings;
use crate::trial::{
    Trial, all_unavailable, flag, measured, number, published, survives_rubbish, text,
};

const SENSOR: &str = r#"{"Time":"2022-01-11T21:57:38","ENERGY":{"Total":3.705,"Power":5,
    "Factor":1.00,"Voltage":233,"Current":0.021}}"#;
const MAPPING: &[(&str, &str)] = &[
    ("power.active", "SENSOR:ENERGY.Power W"),
    ("energy.total", "SENSOR:ENERGY.Total kWh"),
    ("relay.1", "STATE:POWER"),
    ("temperature", "temperature:. °C"),
    ("execution", "STATE:state idle=ready run=running"),
];

fn settings(mapping: &[(&str, &str)], options: &[(&'static str, &str)]) -> Settings {
    let owned = |&(item, place): &(&str, &str)| (item.to_owned(), place.to_owned());
    Settings {
        topic: "lab/meter".to_owned(),
        mapping: mapping.iter().map(owned).collect(),
        options: options.iter().map(|&(key, text)| (key, text.to_owned())).collect(),
    }
}

fn with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::with(&PROTOCOL, &settings(MAPPING, options));
    trial.hear(Heard::Opened);
    trial
}

const HOLDING: &[(&str, &str)] = &[("availability", "lab/meter/LWT"), ("hold", "10 min")];

#[test]
fn mapped_values_are_said_from_their_topics() {
    let mut meter = Trial::with(&PROTOCOL, &settings(MAPPING, &[]));
    let topics = meter.hear(Heard::Opened).sends;
    let subscribe = |topic: &str| Outgoing::Subscribe(format!("lab/meter/{topic}"));
    assert_eq!(topics, ["SENSOR", "STATE", "temperature"].map(subscribe));
    let out = meter.message("lab/meter/SENSOR", SENSOR);
    assert_eq!((number(&out, "power.active"), number(&out, "energy.total")), (5.0, 3705.0));
    assert!(out.alive && out.trouble.is_none() && measured(&out, "online") == flag(true));
    let out = meter.message("lab/meter/STATE", r#"{"POWER":"OFF","state":"run"}"#);
    assert_eq!(
        (measured(&out, "relay.1"), text(&out, "execution")),
        (flag(false), "running".into())
    );
    assert_eq!(number(&meter.message("lab/meter/temperature", "41.5"), "temperature"), 41.5);
}

#[test]
fn words_nobody_mapped_and_rubbish_are_unknown() {
    let mut meter = with(&[]);
    let out = meter.message("lab/meter/STATE", r#"{"state":"warp"}"#);
    assert_eq!(measured(&out, "execution"), Some(Err(Unavailable::Garbled)));
    let out = meter.message("lab/meter/SENSOR", "{\"ENERGY\":");
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Garbled)));
    assert_eq!(measured(&out, "temperature"), None);
    assert!(out.trouble.unwrap().contains("lab/meter/SENSOR"));
    let out = meter.message("lab/meter/SENSOR", r#"{"other":1}"#);
    assert!(out.trouble.unwrap().contains("there is no ENERGY.") && !out.alive);
}

#[test]
fn what_the_broker_kept_is_no_value_unless_that_was_asked_for() {
    let out = with(&[]).retained("lab/meter/SENSOR", SENSOR);
    assert!(out.said.is_empty() && !out.alive);
    let out = with(&[("retained", "use")]).retained("lab/meter/SENSOR", SENSOR);
    assert_eq!(number(&out, "power.active"), 5.0);
}

#[test]
fn a_silent_meter_is_known_while_its_presence_is_confirmed_and_within_its_hold() {
    let mut meter = with(HOLDING);
    meter.retained("lab/meter/LWT", "online");
    meter.message("lab/meter/SENSOR", SENSOR);
    for _ in 0..9 {
        meter.wait(Duration::from_secs(60));
        assert_eq!(number(&meter.hear(Heard::Due), "power.active"), 5.0);
    }
    meter.wait(Duration::from_secs(120));
    let out = meter.hear(Heard::Due);
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Stale)));
    assert!(out.trouble.unwrap().contains("hold"));
}

#[test]
fn a_silent_meter_without_presence_is_unknown() {
    let mut meter = with(&[]);
    meter.message("lab/meter/SENSOR", SENSOR);
    let out = (0..4).map(|_| meter.hear(Heard::Due)).last().unwrap();
    assert!(all_unavailable(&*meter.device, &out, Unavailable::Timeout) && out.trouble.is_some());
    let mut meter = with(HOLDING);
    meter.message("lab/meter/LWT", "online");
    meter.message("lab/meter/SENSOR", SENSOR);
    let out = meter.message("lab/meter/LWT", "offline");
    assert!(all_unavailable(&*meter.device, &out, Unavailable::Disconnected));
    let later = meter.hear(Heard::Due);
    assert!(all_unavailable(&*meter.device, &later, Unavailable::Disconnected));
    assert_eq!(later.trouble, out.trouble, "the reason is still there later");
    meter.message("lab/meter/LWT", "online");
    let out = meter.hear(Heard::Due);
    assert!(out.said.is_empty() && out.trouble.is_none(), "nothing is known yet");
}

#[test]
fn a_meter_that_must_be_asked_is_asked_at_every_period() {
    let options = [("ask", "cmnd/meter/STATUS"), ("ask_payload", "10")];
    assert_eq!(published(&with(&options).hear(Heard::Due), "cmnd/meter/STATUS"), ["10"]);
}

#[test]
fn it_has_no_stop() {
    let mut meter = with(&[]);
    assert!(meter.device.stops().is_empty());
    assert!(matches!(meter.hear(Heard::Stop(Stop::Off)).stop[..], [StopReply::Failed(_)]));
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_hint() {
    let many: Vec<(&str, &str)> = vec![("power.active", "x W"); super::MAPPING_MAX + 1];
    for (mapping, options, hint) in [
        (&[][..], &[][..], "like { \"power.active\""),
        (&many[..], &[], "name 1 to"),
        (&[("power.active", "x A")], &[], "mapping: power.active: \"A\" is no unit"),
        (&[("co2", "co2 ppm")], &[("hold", "5 min")], "hold needs availability"),
        (&[("co2", "co2 ppm")], &[("hold", "5"), ("availability", "a")], "15 min"),
        (&[("co2", "co2 ppm")], &[("retained", "maybe")], "use"),
        (&[("co2", "co2 ppm")], &[("ask", "a/#")], "without + and #"),
        (&[("co2", "co2 ppm"), ("co2", "b ppm")], &[], "twice"),
        (&[("online", "x")], &[], "online"),
    ] {
        let words = (PROTOCOL.device)(&settings(mapping, options)).err().unwrap();
        assert!(words.contains(hint), "{words}");
    }
}

#[test]
fn no_conversation_makes_it_fail() {
    const TOPICS: &[&str] =
        &["lab/meter/SENSOR", "lab/meter/STATE", "lab/meter/temperature", "lab/meter/LWT"];
    const TEXTS: &[&str] =
        &[SENSOR, r#"{"POWER":"ON","state":"run"}"#, "41.5", "online", "offline", "[1]", "null"];
    survives_rubbish(|| with(&[]), TOPICS, TEXTS);
    survives_rubbish(|| with(HOLDING), TOPICS, TEXTS);
}
