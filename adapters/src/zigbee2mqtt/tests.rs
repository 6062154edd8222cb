//! States have the shape of the examples in zigbee2mqtt's guide (the temperature sensor's is one
//! of them, verbatim); both forms of availability are the guide's.

use std::time::Duration;

use andon_engine::value::Unavailable;

use super::{HOLD, PROTOCOL};
use crate::device::{Heard, Stop, StopReply};
use crate::protocol::Settings;
use crate::trial::{Trial, all_unavailable, flag, measured, number, published, survives_rubbish};

const PLUG: &str = r#"{"state":"ON","power":1234.5,"voltage":231,"current":5.35,"energy":12.34,
    "linkquality":102}"#;
const SENSOR: &str = r#"{"temperature": 27.34,"humidity": 44.72}"#;
const TOPIC: &str = "zigbee2mqtt/workshop/saw";
const GET: &str = "zigbee2mqtt/workshop/saw/get";
const AVAILABILITY: &str = "zigbee2mqtt/workshop/saw/availability";

fn with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::of(&PROTOCOL, "workshop/saw", options);
    trial.hear(Heard::Opened);
    trial
}

#[test]
fn a_plugs_state_is_said_in_our_units() {
    let out = with(&[]).message(TOPIC, PLUG);
    assert_eq!((number(&out, "power.active"), number(&out, "energy.total")), (1234.5, 12_340.0));
    assert_eq!((measured(&out, "relay.1"), number(&out, "signal")), (flag(true), 40.0));
    let mut sensor = with(&[("keys", "temperature,humidity,contact")]);
    let out = sensor.message(TOPIC, SENSOR);
    assert_eq!((number(&out, "temperature"), number(&out, "humidity")), (27.34, 0.4472));
    let out = sensor.message(TOPIC, r#"{"contact":false}"#);
    assert_eq!(measured(&out, "door"), flag(true));
}

#[test]
fn devices_on_mains_are_asked_and_devices_that_sleep_are_not() {
    let asked = published(&with(&[]).hear(Heard::Due), GET);
    assert_eq!(asked, [r#"{"state":"","power":""}"#]);
    let mut sensor = with(&[("keys", "temperature")]);
    assert!(sensor.hear(Heard::Due).sends.is_empty());
}

#[test]
fn a_silent_plug_stays_known_while_the_bridge_says_online_and_not_for_ever() {
    let mut plug = with(&[]);
    plug.retained(AVAILABILITY, r#"{"state":"online"}"#);
    plug.message(TOPIC, PLUG);
    for _ in 0..14 {
        plug.wait(Duration::from_secs(60));
        assert_eq!(number(&plug.hear(Heard::Due), "power.active"), 1234.5);
    }
    plug.wait(HOLD);
    let out = plug.hear(Heard::Due);
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Stale)));
    assert!(out.trouble.unwrap().contains("15 min"));
}

#[test]
fn a_plug_that_answered_and_falls_silent_is_unknown_before_the_bridge_notices() {
    let mut plug = with(&[]);
    plug.retained(AVAILABILITY, "online");
    for _ in 0..6 {
        plug.message(TOPIC, PLUG);
        plug.hear(Heard::Due);
    }
    let out = (0..3).map(|_| plug.hear(Heard::Due)).last().unwrap();
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Timeout));
    assert_eq!(number(&plug.message(TOPIC, PLUG), "power.active"), 1234.5);
}

#[test]
fn a_silent_plug_whose_presence_nobody_confirms_is_unknown() {
    let mut plug = with(&[]);
    plug.message(TOPIC, PLUG);
    for _ in 0..3 {
        assert!(plug.hear(Heard::Due).said.is_empty());
    }
    let out = plug.hear(Heard::Due);
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Timeout) && out.trouble.is_some());
}

#[test]
fn what_the_broker_kept_is_no_value_even_when_the_bridge_says_online() {
    let mut plug = with(&[]);
    plug.retained(AVAILABILITY, "online");
    assert!(plug.retained(TOPIC, PLUG).said.is_empty());
    assert!(plug.hear(Heard::Due).said.is_empty());
}

#[test]
fn a_device_or_bridge_that_is_offline_leaves_nothing_known() {
    for (topic, payload) in [
        (AVAILABILITY, "offline"),
        (AVAILABILITY, r#"{"state":"offline"}"#),
        ("zigbee2mqtt/bridge/state", r#"{"state":"offline"}"#),
    ] {
        let mut plug = with(&[]);
        plug.message(AVAILABILITY, "online");
        plug.message(TOPIC, PLUG);
        let out = plug.message(topic, payload);
        assert!(all_unavailable(&*plug.device, &out, Unavailable::Disconnected), "{payload}");
        let words = out.trouble.unwrap();
        assert!(words.contains("offline"));
        let later = plug.hear(Heard::Due);
        assert!(all_unavailable(&*plug.device, &later, Unavailable::Disconnected), "{payload}");
        assert_eq!(later.trouble, Some(words), "the reason is still there later");
        plug.message(topic, &payload.replace("offline", "online"));
        let out = plug.hear(Heard::Due);
        assert!(out.said.is_empty() && out.trouble.is_none(), "{payload}: nothing is known yet");
    }
}

#[test]
fn rubbish_leaves_nothing_known() {
    let mut plug = with(&[]);
    plug.message(AVAILABILITY, "online");
    plug.message(TOPIC, PLUG);
    let out = plug.message(TOPIC, "{");
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Garbled));
    assert!(plug.hear(Heard::Due).said.is_empty());
    let out = plug.message(TOPIC, r#"{"state":"MAYBE","power":null}"#);
    assert_eq!(measured(&out, "relay.1"), Some(Err(Unavailable::Garbled)));
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Sentinel)));
}

#[test]
fn a_stop_is_accepted_and_read_back_by_asking_the_device() {
    let mut plug = with(&[]);
    plug.message(TOPIC, PLUG);
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert_eq!(published(&out, "zigbee2mqtt/workshop/saw/set"), [r#"{"state":"OFF"}"#]);
    assert_eq!(plug.message(TOPIC, PLUG).stop, []);
    let off = r#"{"state":"OFF","power":0}"#;
    let out = plug.message(TOPIC, off);
    assert_eq!((out.stop.as_slice(), published(&out, GET).len()), (&[StopReply::Accepted][..], 1));
    assert_eq!(plug.message(TOPIC, off).stop, [StopReply::ReadBack(true)]);
}

#[test]
fn a_stop_that_nobody_answers_fails_and_one_undone_does_not_stand() {
    let mut strip = with(&[("channels", "2")]);
    let out = strip.hear(Heard::Stop(Stop::Off));
    let sent = published(&out, "zigbee2mqtt/workshop/saw/set");
    assert_eq!(sent, [r#"{"state_l1":"OFF","state_l2":"OFF"}"#]);
    strip.wait(Duration::from_secs(20));
    let out = strip.hear(Heard::Due);
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("answered")));
    strip.hear(Heard::Stop(Stop::Off));
    strip.message(TOPIC, r#"{"state_l1":"OFF","state_l2":"OFF"}"#);
    strip.message(TOPIC, r#"{"state_l1":"OFF","state_l2":"ON"}"#);
    strip.wait(Duration::from_secs(20));
    assert_eq!(strip.hear(Heard::Due).stop, [StopReply::ReadBack(false)]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (topic, option, text) in
        [("", "keys", "power"), ("a", "keys", "watts"), ("a", "channels", "0"), ("a", "base", "#")]
    {
        let settings = Settings {
            topic: topic.to_owned(),
            options: vec![(option, text.to_owned())],
            ..Settings::default()
        };
        assert!((PROTOCOL.device)(&settings).is_err(), "{topic} {option} {text}");
    }
}

#[test]
fn no_conversation_makes_it_fail() {
    const TOPICS: &[&str] = &[TOPIC, AVAILABILITY, "zigbee2mqtt/bridge/state"];
    const TEXTS: &[&str] =
        &[PLUG, SENSOR, "online", "offline", r#"{"state":"online"}"#, r#"{"state_l1":"OFF"}"#];
    const ALL: &str = "state,power,contact,occupancy,smoke,temperature";
    survives_rubbish(|| with(&[]), TOPICS, TEXTS);
    survives_rubbish(|| with(&[("channels", "3"), ("keys", ALL)]), TOPICS, TEXTS);
}
