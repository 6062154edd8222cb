//! `SENSOR` is a recorded message of a plug as LocalBytes' page on power monitoring quotes it;
//! `STATE` and `STATUS10` have the shape of a console log of a running device (public gist); the
//! three-phase message has arrays where Tasmota's documentation says it has.

use std::time::Duration;

use andon_engine::value::Unavailable;

use super::PROTOCOL;
use crate::device::{Heard, Outgoing, Stop, StopReply};
use crate::protocol::Settings;
use crate::trial::{Trial, all_unavailable, flag, measured, number, published, survives_rubbish};

const SENSOR: &str = r#"{"Time":"2022-01-11T21:57:38","ENERGY":{
    "TotalStartTime":"2020-10-21T22:15:00","Total":3.705,"Yesterday":0.028,"Today":0.026,
    "Period":1,"Power":5,"ApparentPower":5,"ReactivePower":0,"Factor":1.00,"Voltage":233,
    "Current":0.021}}"#;
const STATUS8: &str = r#"{"StatusSNS":{"Time":"2022-01-11T21:57:40","ENERGY":{"Total":3.706,
    "Power":1200,"ApparentPower":1250,"ReactivePower":350,"Factor":0.96,"Voltage":231,
    "Current":5.41}}}"#;
const STATUS11: &str = r#"{"StatusSTS":{"Time":"2021-06-13T06:59:52","Uptime":"0T00:00:11",
    "UptimeSec":11,"Heap":28,"MqttCount":1,"POWER":"ON","Wifi":{"AP":1,"RSSI":30,"Signal":-85}}}"#;
const STATUS11_OFF: &str = r#"{"StatusSTS":{"POWER":"OFF","Wifi":{"Signal":-85}}}"#;
const THREE: &str = r#"{"StatusSNS":{"ENERGY":{"Total":[1.5,2.5,3.0],"Power":[100,200,300],
    "Factor":[0.9,0.8,0.7],"Voltage":[230,231,232],"Current":[0.5,1.0,1.5],"Frequency":50}}}"#;
const RESULT_OFF: &str = r#"{"POWER":"OFF"}"#;

fn opened() -> Trial {
    with(&[])
}

fn with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::of(&PROTOCOL, "plug-saw", options);
    trial.hear(Heard::Opened);
    trial
}

#[test]
fn a_plug_is_asked_at_every_period_and_its_answers_are_said() {
    let mut plug = opened();
    let out = plug.hear(Heard::Due);
    assert_eq!(published(&out, "cmnd/plug-saw/STATUS"), ["8", "11"]);
    let out = plug.message("stat/plug-saw/STATUS8", STATUS8);
    assert!(out.alive);
    assert_eq!((number(&out, "power.active"), number(&out, "power.factor")), (1200.0, 0.96));
    assert_eq!((number(&out, "energy.total"), number(&out, "current")), (3706.0, 5.41));
    let out = plug.message("stat/plug-saw/STATUS11", STATUS11);
    assert_eq!((measured(&out, "relay.1"), measured(&out, "online")), (flag(true), flag(true)));
    assert_eq!(number(&out, "signal"), -85.0);
}

#[test]
fn a_channel_that_is_left_out_is_not_zero() {
    let mut meter = with(&[("phases", "3")]);
    for few in ["[]", "[100,200]"] {
        let payload = format!(r#"{{"StatusSNS":{{"ENERGY":{{"Power":{few}}}}}}}"#);
        let out = meter.message("stat/plug-saw/STATUS8", &payload);
        assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Garbled)), "{few}");
    }
}

#[test]
fn what_the_plug_reports_by_itself_is_said_and_what_the_broker_kept_is_not() {
    let mut plug = opened();
    let out = plug.message("tele/plug-saw/SENSOR", SENSOR);
    assert_eq!((number(&out, "power.active"), number(&out, "voltage")), (5.0, 233.0));
    let out = plug.retained("tele/plug-saw/SENSOR", SENSOR);
    assert!(out.said.is_empty() && !out.alive);
    let out = plug.retained("tele/plug-saw/LWT", "Online");
    assert!(out.said.is_empty() && !out.alive);
}

#[test]
fn a_plug_is_offline_by_its_will_and_back_by_its_answer() {
    let mut plug = opened();
    for out in [
        plug.retained("tele/plug-saw/LWT", "Offline"),
        plug.message("tele/plug-saw/LWT", "Offline"),
    ] {
        assert!(all_unavailable(&*plug.device, &out, Unavailable::Disconnected));
        assert!(out.trouble.unwrap().contains("offline"));
    }
    for _ in 0..9 {
        let out = plug.hear(Heard::Due);
        assert!(all_unavailable(&*plug.device, &out, Unavailable::Disconnected));
        assert!(out.trouble.unwrap().contains("offline"), "the reason is still there later");
    }
    let out = plug.message("stat/plug-saw/STATUS11", STATUS11);
    assert_eq!((measured(&out, "online"), out.trouble), (flag(true), None));
}

#[test]
fn silence_is_unknown_and_not_low() {
    let mut plug = opened();
    plug.message("stat/plug-saw/STATUS8", STATUS8);
    for _ in 0..3 {
        assert!(plug.hear(Heard::Due).said.is_empty());
    }
    let out = plug.hear(Heard::Due);
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Timeout));
    assert!(out.trouble.unwrap().contains("cmnd/plug-saw/STATUS"));
}

#[test]
fn rubbish_leaves_nothing_known() {
    let mut plug = opened();
    let out = plug.message("stat/plug-saw/STATUS8", "{\"StatusSNS\":");
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Garbled) && out.trouble.is_some());
    let out = plug.message("tele/plug-saw/SENSOR", r#"{"ENERGY":{"Power":"much","Voltage":null}}"#);
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Garbled)));
    assert_eq!(measured(&out, "voltage"), Some(Err(Unavailable::Sentinel)));
}

#[test]
fn no_volts_from_a_plug_that_answers_are_no_measurement() {
    let mut plug = opened();
    let off = r#"{"StatusSNS":{"ENERGY":{"Power":0,"Voltage":0,"Current":0.000}}}"#;
    let out = plug.message("stat/plug-saw/STATUS8", off);
    assert_eq!(measured(&out, "voltage"), Some(Err(Unavailable::Sentinel)));
    assert_eq!(number(&out, "power.active"), 0.0);
}

#[test]
fn phases_are_told_apart_and_added_up() {
    let mut plug = with(&[("phases", "3"), ("channels", "0")]);
    assert!(plug.device.stops().is_empty());
    let out = plug.message("stat/plug-saw/STATUS8", THREE);
    assert_eq!((number(&out, "power.active"), number(&out, "power.active.l2")), (600.0, 200.0));
    assert_eq!((number(&out, "energy.total"), number(&out, "voltage.l3")), (7000.0, 232.0));
    assert_eq!((number(&out, "current"), number(&out, "frequency")), (3.0, 50.0));
    // One phase expected, three there: nobody's first phase is taken for the whole.
    let out = opened().message("stat/plug-saw/STATUS8", THREE);
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Garbled)));
    assert!(out.trouble.unwrap().contains("set phases"));
}

#[test]
fn a_stop_is_sent_accepted_and_read_back_by_asking_again() {
    let mut plug = opened();
    plug.message("stat/plug-saw/STATUS11", STATUS11);
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert_eq!(published(&out, "cmnd/plug-saw/POWER"), ["OFF"]);
    let out = plug.message("stat/plug-saw/RESULT", RESULT_OFF);
    assert_eq!(out.stop, [StopReply::Accepted]);
    assert_eq!(published(&out, "cmnd/plug-saw/STATUS"), ["11"]);
    let out = plug.message("stat/plug-saw/STATUS11", STATUS11_OFF);
    assert_eq!(
        (out.stop.as_slice(), measured(&out, "relay.1")),
        (&[StopReply::ReadBack(true)][..], flag(false))
    );
}

#[test]
fn a_relay_that_stays_on_is_read_back_as_not_standing() {
    let mut plug = opened();
    plug.hear(Heard::Stop(Stop::Off));
    plug.message("stat/plug-saw/RESULT", RESULT_OFF);
    assert_eq!(plug.message("stat/plug-saw/STATUS11", STATUS11).stop, []);
    plug.wait(Duration::from_secs(20));
    assert_eq!(plug.hear(Heard::Due).stop, [StopReply::ReadBack(false)]);
}

#[test]
fn a_stop_of_several_relays_stands_when_all_are_off() {
    let mut plug = with(&[("channels", "2")]);
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert_eq!(published(&out, "cmnd/plug-saw/POWER0"), ["OFF"]);
    plug.message("stat/plug-saw/RESULT", r#"{"POWER1":"OFF"}"#);
    let half = r#"{"StatusSTS":{"POWER1":"OFF","POWER2":"ON"}}"#;
    assert_eq!(plug.message("stat/plug-saw/STATUS11", half).stop, []);
    let both = r#"{"StatusSTS":{"POWER1":"OFF","POWER2":"OFF"}}"#;
    assert_eq!(plug.message("stat/plug-saw/STATUS11", both).stop, [StopReply::ReadBack(true)]);
}

#[test]
fn stops_without_a_relay_or_of_another_kind_fail_with_words() {
    let out = with(&[("channels", "0")]).hear(Heard::Stop(Stop::Off));
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("relay")));
    let out = opened().hear(Heard::Stop(Stop::Emergency));
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("switched off")));
}

#[test]
fn other_topics_words_and_prefixes_are_options() {
    let options = [("full_topic", "home/%topic%/%prefix%"), ("on", "AN"), ("off", "AUS")];
    let mut plug = Trial::of(&PROTOCOL, "plug-saw", &options);
    let out = plug.hear(Heard::Opened);
    assert_eq!(out.sends[0], Outgoing::Subscribe("home/plug-saw/tele/+".to_owned()));
    let out = plug.message("home/plug-saw/stat/STATUS11", r#"{"StatusSTS":{"POWER":"AN"}}"#);
    assert_eq!(measured(&out, "relay.1"), flag(true));
    let out = plug.message("home/plug-saw/stat/STATUS11", r#"{"StatusSTS":{"POWER":"ON"}}"#);
    assert_eq!(measured(&out, "relay.1"), Some(Err(Unavailable::Garbled)));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let settings = |topic: &str, option, text: &str| Settings {
        topic: topic.to_owned(),
        options: vec![(option, text.to_owned())],
        ..Settings::default()
    };
    for (settings, hint) in [
        (settings("", "channels", "1"), "topic"),
        (settings("a/#", "channels", "1"), "topic"),
        (settings("a", "channels", "33"), "channels"),
        (settings("a", "phases", "-1"), "phases"),
        (settings("a", "full_topic", "x/%topic%/"), "%prefix%"),
    ] {
        let words = (PROTOCOL.device)(&settings).err().unwrap();
        assert!(words.contains(hint), "{words}");
    }
}

#[test]
fn no_conversation_makes_it_fail() {
    const TOPICS: &[&str] = &[
        "tele/plug-saw/SENSOR",
        "tele/plug-saw/STATE",
        "tele/plug-saw/LWT",
        "stat/plug-saw/STATUS8",
        "stat/plug-saw/STATUS11",
        "stat/plug-saw/RESULT",
    ];
    const TEXTS: &[&str] =
        &[SENSOR, STATUS8, STATUS11, STATUS11_OFF, THREE, RESULT_OFF, "Online", "Offline"];
    survives_rubbish(opened, TOPICS, TEXTS);
    survives_rubbish(|| with(&[("phases", "3"), ("channels", "2")]), TOPICS, TEXTS);
}
