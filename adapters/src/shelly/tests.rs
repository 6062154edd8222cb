//! `SWITCH` is a recorded answer of a plug (published in a bug tracker's description of its nested
//! fields), `NOTIFY` a recorded notification of a Plug S Gen3, `OFF_TWO` of a two-channel device;
//! the meters' fields are those of Shelly's documentation; the first generation's `/status` has
//! the fields that its documentation names.

use std::time::Duration;

use andon_engine::value::Unavailable;

use super::{gen1, http, rpc};
use crate::device::{Heard, Method, Outbox, Outgoing, Response, Stop, StopReply};
use crate::protocol::Settings;
use crate::trial::{Trial, all_unavailable, flag, measured, number, published, survives_rubbish};

const SWITCH: &str = r#"{"switch:0":{"id":0,"source":"init","output":true,"apower":193.5,
    "voltage":242.7,"freq":50.0,"current":0.883,"aenergy":{"total":52648.590,
    "by_minute":[3403.476,3190.759,3190.759],"minute_ts":1773617820},
    "ret_aenergy":{"total":0.000},"temperature":{"tC":38.7,"tF":101.6}},
    "wifi":{"sta_ip":"192.168.0.9","status":"got ip","rssi":-53}}"#;
const ANSWER: &str = r#"{"id":1,"src":"shellyplugsg3-28372f2c745c","dst":"plug/andon","result":
    {"switch:0":{"id":0,"output":true,"apower":100,"voltage":230,"current":0.5,
    "aenergy":{"total":300.0},"ret_aenergy":{"total":100.0}}}}"#;
const NOTIFY: &str = r#"{"src":"shellyplugsg3-28372f2c745c","dst":"plug/events",
    "method":"NotifyStatus","params":{"ts":1773420285,"switch:0":{"apower":73.2,"voltage":235.0,
    "current":0.372,"aenergy":{"total":2067.124}}}}"#;
const OFF_TWO: &str = r#"{"switch:0":{"id":0,"output":false,"apower":0,"voltage":237.1,"freq":50,
    "current":0,"pf":0,"aenergy":{"total":10}},"switch:1":{"id":1,"output":true,"apower":83.9,
    "voltage":237.2,"current":1.143,"pf":0.61,"aenergy":{"total":20}}}"#;
const THREE: &str = r#"{"em:0":{"a_act_power":100.5,"b_act_power":-20,"c_act_power":30,
    "a_voltage":230,"b_voltage":231,"c_voltage":null,"a_pf":0.9,"a_freq":50.0,
    "total_act_power":110.5,"total_aprt_power":140},
    "emdata:0":{"a_total_act_energy":10,"total_act":4000.5,"total_act_ret":12.25}}"#;
const GEN1: &str = r#"{"relays":[{"ison":true,"overpower":false}],
    "meters":[{"power":36.5,"is_valid":true,"total":6000}],"temperature":41.5,
    "wifi_sta":{"connected":true,"rssi":-60}}"#;
const GEN1_EM: &str = r#"{"emeters":[{"power":10,"pf":0.5,"current":1,"voltage":230,
    "is_valid":true,"total":100.5,"total_returned":2},{"power":20,"is_valid":true,"total":1},
    {"power":0,"is_valid":false,"total":0}]}"#;

fn rpc_with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::of(&rpc::PROTOCOL, "plug", options);
    trial.hear(Heard::Opened);
    trial
}

fn http_with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::of(&http::PROTOCOL, "", options);
    trial.hear(Heard::Opened);
    trial
}

fn gen1_with(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = Trial::of(&gen1::PROTOCOL, "shellyplug-s-1", options);
    trial.hear(Heard::Opened);
    trial
}

/// A status answer with this id.
fn answer(id: u32, output: bool) -> String {
    format!(r#"{{"id":{id},"result":{{"switch:0":{{"output":{output},"apower":1}}}}}}"#)
}

fn paths(out: &Outbox) -> Vec<(Method, String)> {
    let request = |outgoing: &Outgoing| match outgoing {
        Outgoing::Request(request) => Some((request.method, request.path.clone())),
        _ => None,
    };
    out.sends.iter().filter_map(request).collect()
}

#[test]
fn a_relay_over_http_is_asked_at_every_period_and_says_all_it_measures() {
    let mut plug = Trial::of(&http::PROTOCOL, "", &[]);
    let get = [(Method::Get, "/rpc/Shelly.GetStatus".to_owned())];
    assert_eq!(paths(&plug.hear(Heard::Opened)), get);
    // It has not answered yet: no second question.
    assert_eq!(paths(&plug.hear(Heard::Due)), []);
    let out = plug.response(SWITCH);
    assert_eq!((number(&out, "power.active"), number(&out, "voltage")), (193.5, 242.7));
    assert_eq!((number(&out, "energy.import"), number(&out, "signal")), (52648.59, -53.0));
    assert_eq!((number(&out, "temperature.board"), measured(&out, "relay.1")), (38.7, flag(true)));
    assert_eq!(paths(&plug.hear(Heard::Due)), get);
}

#[test]
fn energy_of_both_directions_is_not_taken_for_import() {
    let mut plug = rpc_with(&[]);
    let out = plug.message("plug/andon/rpc", ANSWER);
    assert_eq!(number(&out, "energy.import"), 200.0);
    // A list of changes has only one of the two registers.
    let out = plug.message("plug/events/rpc", NOTIFY);
    assert_eq!((number(&out, "power.active"), measured(&out, "energy.import")), (73.2, None));
}

#[test]
fn a_steady_load_that_sends_nothing_stays_known_by_being_asked() {
    let mut plug = rpc_with(&[]);
    for _ in 0..20 {
        let out = plug.hear(Heard::Due);
        let asked = published(&out, "plug/rpc");
        assert!(
            asked[0].contains(r#""method":"Shelly.GetStatus""#) && asked[0].contains("plug/andon")
        );
        assert!(plug.message("plug/andon/rpc", ANSWER).alive && out.said.is_empty());
    }
}

#[test]
fn silence_and_the_last_will_are_unknown_and_not_low() {
    let mut plug = rpc_with(&[]);
    plug.message("plug/andon/rpc", ANSWER);
    let out = (0..4).map(|_| plug.hear(Heard::Due)).last().unwrap();
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Timeout));
    assert_eq!(measured(&out, "online"), flag(false));
    assert!(out.trouble.unwrap().contains("plug/rpc"));
    let out = plug.retained("plug/online", "false");
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Disconnected));
    for (topic, payload) in
        [("plug/online", "true"), ("plug/status/switch:0", "{}"), ("plug/andon/rpc", ANSWER)]
    {
        let out = plug.retained(topic, payload);
        assert!(out.said.is_empty() && !out.alive, "{topic}");
    }
}

#[test]
fn several_channels_are_told_apart_and_added_up() {
    let mut strip = http_with(&[("channels", "2")]);
    let out = strip.response(OFF_TWO);
    assert_eq!((measured(&out, "relay.1"), measured(&out, "relay.2")), (flag(false), flag(true)));
    assert_eq!((number(&out, "power.active.l2"), number(&out, "power.active")), (83.9, 83.9));
    assert_eq!((number(&out, "energy.import"), number(&out, "energy.import.l2")), (30.0, 20.0));
    assert_eq!((number(&out, "voltage.l2"), number(&out, "frequency")), (237.2, 50.0));
}

#[test]
fn a_three_phase_meter_says_its_phases_and_its_own_totals() {
    let mut meter = http_with(&[("channels", "0"), ("meter", "em")]);
    let out = meter.response(THREE);
    assert_eq!((number(&out, "power.active"), number(&out, "power.active.l2")), (110.5, -20.0));
    assert_eq!((number(&out, "energy.import"), number(&out, "energy.export")), (4000.5, 12.25));
    assert_eq!((number(&out, "energy.import.l1"), number(&out, "power.apparent")), (10.0, 140.0));
    assert_eq!(measured(&out, "voltage.l3"), Some(Err(Unavailable::Sentinel)));
    assert!(meter.device.stops().is_empty() && out.trouble.is_none());
}

#[test]
fn meters_without_relay_and_clamps_have_their_own_registers() {
    let pm1 = r#"{"pm1:0":{"voltage":221.8,"current":0.1,"apower":7.5,"freq":50.1,
        "aenergy":{"total":176.0},"ret_aenergy":{"total":6.0}}}"#;
    let out = http_with(&[("channels", "0"), ("meter", "pm1")]).response(pm1);
    assert_eq!((number(&out, "energy.import"), number(&out, "energy.export")), (170.0, 6.0));
    let em1 = r#"{"em1:0":{"current":7.21,"voltage":121.4,"act_power":848.2,"pf":0.97},
        "em1:1":{"act_power":-0.2},"em1data:0":{"total_act_energy":5,"total_act_ret_energy":1},
        "em1data:1":{"total_act_energy":7,"total_act_ret_energy":2}}"#;
    let options = [("channels", "0"), ("meter", "em1"), ("meters", "2")];
    let out = http_with(&options).response(em1);
    assert_eq!((number(&out, "power.active"), number(&out, "power.factor.l1")), (848.0, 0.97));
    assert_eq!((number(&out, "energy.import"), number(&out, "energy.export")), (12.0, 3.0));
}

#[test]
fn a_configuration_that_the_device_does_not_bear_out_is_told() {
    let out = http_with(&[("channels", "2")]).response(SWITCH);
    assert!(out.trouble.as_deref().unwrap().contains("no switch:1 but switch:0"));
    assert_eq!(measured(&out, "power.active"), None);
    let wrong = r#"{"switch:0":{"output":false,"errors":["overpower"]}}"#;
    assert_eq!(http_with(&[]).response(wrong).trouble.unwrap(), "switch:0 says overpower");
}

#[test]
fn refusals_and_rubbish_over_http_leave_nothing_known() {
    let refuse = |status, body: &'static [u8]| {
        let mut plug = http_with(&[]);
        let out = plug.hear(Heard::Response(Response { status, body, is_part: false }));
        (plug, out)
    };
    for (status, body, why, words) in [
        (401, &b""[..], Unavailable::Refused, "user admin"),
        (404, b"Not Found", Unavailable::Refused, "shelly-gen1-http"),
        (500, b"", Unavailable::Refused, "500"),
        (200, b"<html>", Unavailable::Garbled, "JSON"),
    ] {
        let (plug, out) = refuse(status, body);
        assert!(all_unavailable(&*plug.device, &out, why) && !out.alive, "{status}");
        assert!(out.trouble.unwrap().contains(words), "{status}");
    }
    let mut plug = http_with(&[]);
    let out = plug.hear(Heard::NoResponse(Unavailable::Timeout));
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Timeout));
    assert_eq!(measured(&out, "online"), flag(false));
}

#[test]
fn a_refusal_over_mqtt_leaves_nothing_known() {
    let mut plug = rpc_with(&[]);
    let refused = r#"{"id":1,"error":{"code":401,"message":"Unauthorized"}}"#;
    let out = plug.message("plug/andon/rpc", refused);
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Refused));
    assert_eq!(out.trouble.unwrap(), "401: Unauthorized");
}

#[test]
fn a_stop_over_mqtt_is_read_back_by_a_status_that_was_asked_after_it() {
    let mut plug = rpc_with(&[]);
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert!(
        published(&out, "plug/rpc")[0]
            .contains(r#""method":"Switch.Set","params":{"id":0,"on":false}"#)
    );
    // The answer to what was asked before the command (id 1) proves nothing.
    assert_eq!(plug.message("plug/andon/rpc", &answer(1, false)).stop, []);
    let out = plug.message("plug/andon/rpc", r#"{"id":2,"result":{"was_on":true}}"#);
    assert_eq!(
        (out.stop.as_slice(), published(&out, "plug/rpc").len()),
        (&[StopReply::Accepted][..], 1)
    );
    // Nor does a late one, now that it is accepted.
    assert_eq!(plug.message("plug/andon/rpc", &answer(1, false)).stop, []);
    let out = plug.message("plug/andon/rpc", &answer(3, false));
    assert_eq!(out.stop, [StopReply::ReadBack(true)]);
}

#[test]
fn a_stop_that_is_refused_or_does_not_stand_says_so() {
    let mut plug = rpc_with(&[]);
    plug.hear(Heard::Stop(Stop::Off));
    let refused = r#"{"id":2,"error":{"code":-105,"message":"Argument 'id' is not found"}}"#;
    let out = plug.message("plug/andon/rpc", refused);
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("-105")));
    plug.hear(Heard::Stop(Stop::Off));
    plug.message("plug/andon/rpc", r#"{"id":3,"result":{"was_on":true}}"#);
    assert_eq!(plug.message("plug/andon/rpc", &answer(4, true)).stop, []);
    plug.wait(Duration::from_secs(20));
    assert_eq!(plug.hear(Heard::Due).stop, [StopReply::ReadBack(false)]);
    let out = plug.hear(Heard::Stop(Stop::Pause));
    assert!(matches!(&out.stop[..], [StopReply::Failed(_)]));
}

#[test]
fn a_stop_over_http_switches_every_relay_and_asks_again() {
    let mut strip = http_with(&[("channels", "2")]);
    strip.response(OFF_TWO);
    let out = strip.hear(Heard::Stop(Stop::Off));
    let post = (Method::Post, "/rpc/Switch.Set".to_owned());
    assert_eq!(paths(&out), [post.clone(), post]);
    assert_eq!(strip.response(r#"{"was_on":false}"#).stop, []);
    let out = strip.response(r#"{"was_on":true}"#);
    assert_eq!((out.stop.as_slice(), paths(&out).len()), (&[StopReply::Accepted][..], 1));
    assert_eq!(strip.response(OFF_TWO).stop, []);
    strip.hear(Heard::Due);
    let off = OFF_TWO.replace(r#""output":true"#, r#""output":false"#);
    assert_eq!(strip.response(&off).stop, [StopReply::ReadBack(true)]);
}

#[test]
fn the_first_generation_counts_watt_minutes_and_its_clamps_watt_hours() {
    let mut plug = Trial::of(&http::PROTOCOL_GEN1, "", &[]);
    assert_eq!(paths(&plug.hear(Heard::Opened)), [(Method::Get, "/status".to_owned())]);
    let out = plug.response(GEN1);
    assert_eq!((number(&out, "power.active"), number(&out, "energy.import")), (36.5, 100.0));
    assert_eq!((number(&out, "temperature.board"), number(&out, "signal")), (41.5, -60.0));
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert_eq!(paths(&out), [(Method::Get, "/relay/0?turn=off".to_owned())]);

    let options = [("channels", "0"), ("meter", "em1"), ("meters", "3")];
    let mut meter = Trial::of(&http::PROTOCOL_GEN1, "", &options);
    meter.hear(Heard::Opened);
    let out = meter.response(GEN1_EM);
    assert_eq!((number(&out, "energy.import.l1"), number(&out, "energy.export.l1")), (100.5, 2.0));
    // An invalid phase is not zero, and leaves no sum.
    assert_eq!(measured(&out, "power.active.l3"), Some(Err(Unavailable::Sentinel)));
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Sentinel)));
}

#[test]
fn the_first_generation_over_mqtt_is_asked_for_everything_at_every_period() {
    let mut plug = gen1_with(&[]);
    assert_eq!(published(&plug.hear(Heard::Due), "shellies/shellyplug-s-1/command"), ["update"]);
    let topic = |what: &str| format!("shellies/shellyplug-s-1/{what}");
    assert_eq!(number(&plug.message(&topic("relay/0/power"), "36.50"), "power.active"), 36.5);
    assert_eq!(number(&plug.message(&topic("relay/0/energy"), "6000"), "energy.import"), 100.0);
    assert_eq!(measured(&plug.message(&topic("relay/0"), "on"), "relay.1"), flag(true));
    let out = plug.message(&topic("relay/0/power"), "lots");
    assert_eq!(measured(&out, "power.active"), Some(Err(Unavailable::Garbled)));
    let out = plug.hear(Heard::Stop(Stop::Off));
    assert_eq!(published(&out, &topic("relay/0/command")), ["off"]);
    let out = plug.message(&topic("relay/0"), "off");
    assert_eq!(
        (out.stop.as_slice(), published(&out, &topic("command")).len()),
        (&[StopReply::Accepted][..], 1)
    );
    assert_eq!(plug.message(&topic("relay/0"), "off").stop, [StopReply::ReadBack(true)]);
    let out = plug.message(&topic("online"), "false");
    assert!(all_unavailable(&*plug.device, &out, Unavailable::Disconnected));
}

#[test]
fn powers_of_clamps_over_mqtt_add_up_when_all_have_spoken_since_the_question() {
    let mut meter = gen1_with(&[("channels", "0"), ("meter", "em1"), ("meters", "2")]);
    let topic = |n: u8| format!("shellies/shellyplug-s-1/emeter/{n}/power");
    assert_eq!(measured(&meter.message(&topic(0), "10.5"), "power.active"), None);
    assert_eq!(number(&meter.message(&topic(1), "20"), "power.active"), 30.5);
    meter.hear(Heard::Due);
    assert_eq!(measured(&meter.message(&topic(0), "11"), "power.active"), None);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (topic, option, text) in [
        ("", "channels", "1"),
        ("a/#", "channels", "1"),
        ("a", "channels", "40"),
        ("a", "meter", "gas"),
        ("a", "meters", "0"),
    ] {
        let settings = Settings {
            topic: topic.to_owned(),
            options: vec![(option, text.to_owned())],
            ..Settings::default()
        };
        for protocol in [&rpc::PROTOCOL, &gen1::PROTOCOL] {
            assert!((protocol.device)(&settings).is_err(), "{topic} {option} {text}");
        }
    }
}

#[test]
fn no_conversation_makes_it_fail() {
    const TEXTS: &[&str] = &[
        SWITCH,
        ANSWER,
        NOTIFY,
        OFF_TWO,
        THREE,
        GEN1,
        GEN1_EM,
        "on",
        "off",
        "12.5",
        "false",
        r#"{"id":2,"result":{"was_on":true}}"#,
        r#"{"id":1,"error":{"code":401}}"#,
    ];
    const RPC: &[&str] =
        &["plug/andon/rpc", "plug/events/rpc", "plug/online", "plug/status/switch:0"];
    const GEN1_TOPICS: &[&str] = &[
        "shellies/shellyplug-s-1/relay/0",
        "shellies/shellyplug-s-1/relay/0/power",
        "shellies/shellyplug-s-1/emeter/2/total",
        "shellies/shellyplug-s-1/emeter/300/power",
        "shellies/shellyplug-s-1/online",
    ];
    let em = [("channels", "0"), ("meter", "em")];
    survives_rubbish(|| rpc_with(&[]), RPC, TEXTS);
    survives_rubbish(|| rpc_with(&em), RPC, TEXTS);
    survives_rubbish(|| http_with(&[("channels", "3")]), RPC, TEXTS);
    survives_rubbish(|| gen1_with(&[("channels", "2")]), GEN1_TOPICS, TEXTS);
    survives_rubbish(|| gen1_with(&em), GEN1_TOPICS, TEXTS);
}
