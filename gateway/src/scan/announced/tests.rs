//! Announcements have the shape of the examples in Tasmota's discovery protocol, zigbee2mqtt's
//! guide, Shelly's API documentation and Home Assistant's "MQTT discovery".

use expect_test::expect;

use super::super::proposal::fragments;
use super::{Announced, DEVICES_MAX};

const TASMOTA: &str = r#"{"ip":"192.168.15.10","dn":"Living Room","fn":["Ceiling Lamp","Floor Lamp"],
    "hn":"tasmota_49A3BC-0956","mac":"5CCF7F49A3BC","md":"Sonoff Dual","ofln":"Offline",
    "onln":"Online","state":["OFF","ON","TOGGLE","HOLD"],"sw":"9.4.0","t":"tasmota_49A3BC",
    "ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"rl":[1,1,0,0,0,0,0,0]}"#;
const TASMOTA_SENSORS: &str =
    r#"{"sn":{"Time":"2021-04-02T12:00:00","ENERGY":{"Power":[1,2],"Total":[0.1,0.2]}},"ver":1}"#;
const ZIGBEE: &str = r#"[{"friendly_name":"Coordinator","type":"Coordinator","definition":null},
    {"friendly_name":"workshop/saw","type":"Router","definition":{"model":"TS011F_plug_1",
    "vendor":"TuYa","exposes":[{"type":"switch","features":[{"name":"state","property":"state"}]},
    {"name":"power","property":"power"},{"property":"voltage","unit":"mV"},{"name":"energy","property":"energy"},
    {"name":"linkquality","property":"linkquality"}]}},
    {"friendly_name":"remote","definition":{"model":"E1743","vendor":"IKEA","exposes":
    [{"name":"action","property":"action"}]}}]"#;
const SHELLY_GEN1: &str = r#"{"id":"shellyem3-ABC","model":"SHEM-3","mac":"AABBCC","ip":"10.0.0.7",
    "new_fw":false}"#;
const SHELLY: &str = r#"{"src":"shellypro3em-34","dst":"x/events","method":"NotifyStatus",
    "params":{"ts":1.5,"em:0":{"id":0,"a_act_power":4}}}"#;

fn home_assistant(class: &str, unit: &str, topic: &str, template: &str) -> String {
    format!(
        r#"{{"name":"{class}","uniq_id":"x_{class}","dev_cla":"{class}","unit_of_meas":"{unit}",
        "~":"lab/air","stat_t":"{topic}","val_tpl":"{template}","avty_t":"~/status",
        "dev":{{"ids":["air-1"],"name":"Air sensor"}}}}"#
    )
}

/// A broker that knows of one device of each kind, and of some that are no devices for us.
fn broker() -> Announced {
    let mut announced = Announced::default();
    let mut hear = |topic: &str, payload: &str| announced.hear(topic, payload.as_bytes());
    hear("tasmota/discovery/5CCF7F49A3BC/config", TASMOTA);
    hear("tasmota/discovery/5CCF7F49A3BC/sensors", TASMOTA_SENSORS);
    hear("tele/tasmota_49A3BC/LWT", "Online");
    hear("tele/plug-saw/LWT", "Online");
    hear("zigbee2mqtt/bridge/devices", ZIGBEE);
    hear("shellies/announce", SHELLY_GEN1);
    hear("shellies/shellyem3-ABC/online", "true");
    hear("shellies/shelly1pm-DEF/online", "true");
    hear("shellyplus1pm-a8032/online", "true");
    hear("meter-panel/events/rpc", SHELLY);
    hear("other/online", "true");
    let ha = |object: &str| format!("homeassistant/sensor/air/{object}/config");
    hear(&ha("co2"), &home_assistant("carbon_dioxide", "ppm", "~/state", "{{ value_json.co2 }}"));
    hear(&ha("t"), &home_assistant("temperature", "°C", "~/t", "{{ value }}"));
    hear(&ha("f"), &home_assistant("temperature", "°F", "~/f", "{{ value }}"));
    hear(&ha("p"), &home_assistant("pressure", "hPa", "~/state", "{{ value_json.p / 10 }}"));
    // The same plug, announced to Home Assistant by its bridge: the bridge's own word is better.
    let plug = r#"{"device_class":"power","unit_of_measurement":"W","name":"saw power",
        "state_topic":"zigbee2mqtt/workshop/saw","value_template":"{{ value_json.power }}",
        "device":{"identifiers":["zigbee2mqtt_0x1"],"name":"saw"}}"#;
    hear("homeassistant/sensor/0x1/power/config", plug);
    announced
}

#[test]
fn everything_that_was_announced_becomes_a_source_once() {
    expect![[r##"
        # left out: pressure, temperature
        [source.air-sensor]
        bus = "home"
        protocol = "json"
        topic = "lab/air"
        availability = "lab/air/status"
        period = "1 min"
        mapping = { "co2" = "state:co2 ppm", "temperature" = "t:. °C" }

        [source.living-room]
        bus = "home"
        protocol = "tasmota"
        topic = "tasmota_49A3BC"
        channels = "2"
        phases = "2"
        period = "2 s"

        [source.meter-panel]
        bus = "home"
        protocol = "shelly"
        topic = "meter-panel"
        channels = "0"
        meter = "em"
        period = "2 s"

        # its discovery is off (SetOption19 0): channels and phases are guesses
        [source.plug-saw]
        bus = "home"
        protocol = "tasmota"
        topic = "plug-saw"
        period = "2 s"

        # it only said that it is there: channels and meter are guesses
        [source.shelly1pm-def]
        bus = "home"
        protocol = "shelly-gen1"
        topic = "shelly1pm-DEF"
        period = "5 s"

        # SHEM-3
        [source.shellyem3-abc]
        bus = "home"
        protocol = "shelly-gen1"
        topic = "shellyem3-ABC"
        meter = "em1"
        meters = "3"
        period = "5 s"

        # it only said that it is there: channels and meter are guesses
        [source.shellyplus1pm-a8032]
        bus = "home"
        protocol = "shelly"
        topic = "shellyplus1pm-a8032"
        period = "2 s"

        # TuYa TS011F_plug_1
        [source.workshop-saw]
        bus = "home"
        protocol = "zigbee2mqtt"
        topic = "workshop/saw"
        keys = "state,power,energy"
        period = "30 s"
    "##]]
    .assert_eq(&fragments(broker().proposals(), "home"));
}

#[test]
fn what_is_proposed_can_be_made_a_device() {
    let mut announced = Announced::default();
    announced.hear("tasmota/discovery/5C/config", TASMOTA.as_bytes());
    announced.hear("tasmota/discovery/5C/sensors", TASMOTA_SENSORS.as_bytes());
    announced.hear("zigbee2mqtt/bridge/devices", ZIGBEE.as_bytes());
    announced.hear("shellies/announce", SHELLY_GEN1.as_bytes());
    announced.hear("x/events/rpc", SHELLY.as_bytes());
    let config = home_assistant("carbon_dioxide", "ppm", "~/state", "{{ value_json.co2 }}");
    announced.hear("homeassistant/sensor/a/b/config", config.as_bytes());
    let proposals = announced.proposals();
    assert_eq!(proposals.len(), 5);
    for proposal in proposals {
        let protocol = andon_adapters::protocol::named(proposal.protocol).unwrap();
        let settings = andon_adapters::protocol::Settings {
            topic: proposal.topic.clone().unwrap(),
            mapping: proposal.mapping.clone(),
            options: proposal.options.clone(),
        };
        for (option, _) in &proposal.options {
            assert!(protocol.options.iter().any(|(known, _)| known == option), "{option}");
        }
        assert!((protocol.device)(&settings).is_ok(), "{proposal:?}");
    }
}

#[test]
fn a_device_with_components_in_one_message_is_taken_too() {
    let config = r#"{"dev":{"ids":"m1","name":"Meter"},"stat_t":"m1/state","cmps":{
        "a":{"p":"sensor","device_class":"power","unit_of_measurement":"kW",
        "value_template":"{{ value_json.p|float(0) }}"},
        "b":{"p":"button"}}}"#;
    let mut announced = Announced::default();
    announced.hear("homeassistant/device/m1/config", config.as_bytes());
    let proposal = announced.proposals().remove(0);
    assert_eq!(proposal.mapping, [("power.active".to_owned(), "p kW".to_owned())]);
    assert_eq!(proposal.topic.as_deref(), Some("m1/state"));
}

#[test]
fn floods_and_rubbish_are_bounded_and_counted() {
    let mut announced = Announced::default();
    for number in 0..DEVICES_MAX + 7 {
        announced.hear(&format!("tele/plug-{number}/LWT"), b"Online");
    }
    assert_eq!((announced.proposals().len(), announced.left_out), (DEVICES_MAX, 7));
}

proptest::proptest! {
    #[test]
    fn no_announcement_makes_it_fail(
        topic in proptest::sample::select(vec![
            "tasmota/discovery/a/config", "tasmota/discovery/a/sensors", "shellies/announce",
            "zigbee2mqtt/bridge/devices", "x/events/rpc", "homeassistant/a/config",
        ]),
        text in proptest::sample::select(vec![TASMOTA, TASMOTA_SENSORS, ZIGBEE, SHELLY_GEN1, SHELLY]),
        at: usize,
        byte: u8,
    ) {
        let mut payload = text.as_bytes().to_vec();
        let at = at % payload.len();
        payload[at] = byte;
        let mut announced = Announced::default();
        announced.hear(topic, &payload);
        let all = fragments(announced.proposals(), "home");
        proptest::prop_assert!(all.parse::<toml::Table>().is_ok(), "{}", all);
    }
}
