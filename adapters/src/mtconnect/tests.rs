//! Documents are put together in the shape that the MTConnect schemas give them.

use expect_test::expect;

use super::*;
use crate::device::Outgoing;
use crate::trial::{all_missing, part, response, said, step, survives, told};

mod paths;
mod streams;

const PROBE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:2.0">
<Header creationTime="2026-01-01T00:00:00Z" sender="shop" instanceId="77" version="2.0.0.1"/>
<Devices>
<Agent id="agent_1" name="Agent" uuid="a-1"><DataItems>
<DataItem category="EVENT" id="agent_avail" type="AVAILABILITY"/></DataItems></Agent>
<Device id="d" name="VMC" uuid="v-1"><Description manufacturer="x"/><DataItems>
<DataItem category="EVENT" id="avail" type="AVAILABILITY"/></DataItems>
<Components>
<Axes id="ax" name="base"><Components>
<Rotary id="c" name="C"><DataItems>
<DataItem category="SAMPLE" id="Scmd" subType="COMMANDED" type="ROTARY_VELOCITY" units="REVOLUTION/MINUTE"/>
<DataItem category="SAMPLE" id="Sact" subType="ACTUAL" type="ROTARY_VELOCITY" units="REVOLUTION/MINUTE"/>
</DataItems></Rotary>
<Linear id="x" name="X"><DataItems>
<DataItem category="SAMPLE" id="Xcom" subType="COMMANDED" type="POSITION" units="MILLIMETER"/>
<DataItem category="SAMPLE" id="Xact" subType="ACTUAL" type="POSITION" units="MILLIMETER"/>
<DataItem category="CONDITION" id="Xtravel" type="POSITION"/></DataItems></Linear>
<Linear id="z" name="Z"><DataItems>
<DataItem category="SAMPLE" id="Zact" subType="ACTUAL" type="POSITION" units="MILLIMETER"/></DataItems></Linear>
</Components></Axes>
<Controller id="cn" name="controller"><DataItems>
<DataItem category="EVENT" id="estop" type="EMERGENCY_STOP"/>
<DataItem category="EVENT" id="msg" type="MESSAGE"/>
<DataItem category="CONDITION" id="system" type="SYSTEM"/></DataItems><Components>
<Path id="p" name="path"><DataItems>
<DataItem category="SAMPLE" id="Frt" type="PATH_FEEDRATE" units="MILLIMETER/SECOND"/>
<DataItem category="SAMPLE" id="Fovr" type="PATH_FEEDRATE" units="PERCENT"/>
<DataItem category="EVENT" id="exec" type="EXECUTION"/>
<DataItem category="EVENT" id="mode" type="CONTROLLER_MODE"/>
<DataItem category="EVENT" id="prog" type="PROGRAM"/>
<DataItem category="EVENT" id="count" type="PART_COUNT"/>
<DataItem category="EVENT" id="tool" type="TOOL_NUMBER"/></DataItems></Path>
</Components></Controller></Components></Device></Devices></MTConnectDevices>"#;

/// A stream of `id=value` events and `id!Level:code=words` conditions.
fn stream(instance: u32, last: u64, next: u64, observations: &str) -> String {
    let mut body = format!(
        r#"<MTConnectStreams><Header instanceId="{instance}" bufferSize="131072" firstSequence="1"
        lastSequence="{last}" nextSequence="{next}"/><Streams><DeviceStream name="VMC" uuid="v-1">
        <ComponentStream component="Any" componentId="any"><Events>"#
    );
    for observation in observations.split(' ').filter(|text| !text.is_empty()) {
        let (item, text) = observation.split_once('=').unwrap();
        let element = match item.split_once('!') {
            None => format!(r#"<Event dataItemId="{item}" sequence="1">{text}</Event>"#),
            Some((item, level)) => {
                let (level, code) = level.split_once(':').unwrap();
                let code = format!(r#"nativeCode="{code}""#).replace(r#"nativeCode="""#, "");
                format!(r#"<{level} dataItemId="{item}" {code} type="SYSTEM">{text}</{level}>"#)
            }
        };
        body.push_str(&element);
    }
    body + "</Events></ComponentStream></DeviceStream></Streams></MTConnectStreams>"
}

fn error(code: &str) -> String {
    format!(
        r#"<MTConnectError><Header instanceId="77"/><Errors><Error errorCode="{code}">words</Error>
        </Errors></MTConnectError>"#
    )
}

const WHOLE: &str = "agent_avail=AVAILABLE avail=AVAILABLE estop=ARMED exec=ACTIVE \
    mode=AUTOMATIC prog=O1234 Frt=20.5 Fovr=80 Sact=6000 Scmd=6100 Xact=1.5 Xcom=9 Zact=-3.25 \
    count=12 tool=4 msg=hello system!Normal:= Xtravel!Normal:=";

fn made(options: &[(&'static str, &str)]) -> Result<Box<dyn Device>, String> {
    let options = options.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    (PROTOCOL.device)(&Settings { options, ..Settings::default() })
}

fn device() -> Box<dyn Device> {
    made(&[]).unwrap()
}

fn paths(out: &Outbox) -> Vec<&str> {
    let paths = out.sends.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Request(request) => Some(&*request.path),
        _ => None,
    });
    paths.collect()
}

/// A device that has taken `current` up to sequence number 99.
fn current(observations: &str) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    assert_eq!(paths(&step(&mut *device, 0, Heard::Opened)), ["/probe"]);
    let out = step(&mut *device, 0, response(200, PROBE));
    assert_eq!(paths(&out), ["/current"]);
    let out = step(&mut *device, 0, response(200, &stream(77, 99, 100, observations)));
    (device, out)
}

/// The same of an agent that does not tell by itself.
fn following(observations: &str) -> (Box<dyn Device>, Outbox) {
    let (mut device, out) = current(observations);
    step(&mut *device, 1, Heard::Due);
    step(&mut *device, 1, response(200, &stream(77, 99, 100, "")));
    (device, out)
}

/// The next sample.
fn sample(device: &mut dyn Device, next: u64, observations: &str) -> Outbox {
    step(device, 2, Heard::Due);
    step(device, 2, response(200, &stream(77, next - 1, next, observations)))
}

#[test]
fn a_machine_is_told_whole() {
    let (device, out) = following(WHOLE);
    assert!(out.alive && out.trouble.is_none());
    assert_eq!(said(&out).len(), device.items().len());
    expect![[r#"
        controller.mode AUTOMATIC
        controller.state ACTIVE
        execution running
        feed 1230
        job.name O1234
        message hello
        override.feed 0.8
        parts 12
        position.x 1.5
        position.y (sentinel)
        position.z -3.25
        speed.spindle 6000
        tool 4
    "#]]
    .assert_eq(&told(&out));
}

/// The table in the file's head, row by row, over the wire.
#[test]
fn words_mean_what_the_table_says() {
    for (changes, expected) in [
        ("avail=UNAVAILABLE", "(sentinel)"),
        ("exec=UNAVAILABLE", "(sentinel)"),
        ("estop=TRIGGERED", "stopped"),
        ("estop=TRIGGERED exec=UNAVAILABLE", "stopped"),
        ("estop=TRIGGERED avail=UNAVAILABLE", "(sentinel)"),
        ("exec=ACTIVE", "running"),
        ("exec=ACTIVE system!Fault:1=Coolant", "running"),
        ("exec=READY system!Fault:1=Servo", "fault"),
        ("exec=STOPPED system!Fault:1=Servo", "fault"),
        ("exec=FEED_HOLD Xtravel!Fault:500=Limit", "fault"),
        ("exec=READY system!Warning:1=Oil", "ready"),
        ("exec=READY", "ready"),
        ("exec=STOPPED", "ready"),
        ("exec=INTERRUPTED", "paused"),
        ("exec=FEED_HOLD", "paused"),
        ("exec=OPTIONAL_STOP", "paused"),
        ("exec=PROGRAM_STOPPED", "paused"),
        ("exec=PROGRAM_OPTIONAL_STOP", "paused"),
        ("exec=WAIT", "paused"),
        ("exec=PROGRAM_COMPLETED", "finished"),
        ("exec=DREAMING", "(garbled)"),
    ] {
        let (mut device, _) = following(WHOLE);
        let said = said(&sample(&mut *device, 102, changes));
        assert_eq!(said["execution"], expected, "{changes}");
    }
}

#[test]
fn samples_go_on_where_the_last_one_ended_and_tell_the_merged_picture() {
    let (mut device, _) = following(WHOLE);
    assert_eq!(paths(&step(&mut *device, 2, Heard::Due)), ["/sample?from=100&count=1000"]);
    let body = stream(77, 104, 105, "Xact=2.5 count=13");
    let out = step(&mut *device, 2, response(200, &body));
    let told = said(&out);
    assert_eq!((&*told["position.x"], &*told["parts"], &*told["feed"]), ("2.5", "13", "1230"));
    assert_eq!(paths(&step(&mut *device, 4, Heard::Due)), ["/sample?from=105&count=1000"]);
    let out = step(&mut *device, 4, response(200, &stream(77, 104, 105, "")));
    assert_eq!(said(&out)["execution"], "running", "nothing new, and confirmed");
}

#[test]
fn a_full_sample_is_followed_by_the_next_at_once() {
    let (mut device, _) = following(WHOLE);
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 2, response(200, &stream(77, 1500, 1100, "exec=READY")));
    assert_eq!(paths(&out), ["/sample?from=1100&count=1000"]);
    assert!(out.said.is_empty(), "not yet the present");
    let out = step(&mut *device, 2, response(200, &stream(77, 1500, 1501, "exec=ACTIVE")));
    assert_eq!(said(&out)["execution"], "running");
}

#[test]
fn an_agent_that_runs_away_is_skipped_through_and_the_gap_told() {
    let (mut device, _) = following(WHOLE);
    let mut out = step(&mut *device, 2, Heard::Due);
    let mut next = 100;
    while paths(&out)[0] != "/current" {
        next += 1000;
        assert!(next < 100_000, "without end");
        out = step(&mut *device, 2, response(200, &stream(77, 999_999, next, "")));
    }
    let out = step(&mut *device, 2, response(200, &stream(77, 999_999, 1_000_000, WHOLE)));
    let words = format!("a gap: observations {next} to 999999 were not seen");
    assert_eq!(out.trouble, Some(words));
}

#[test]
fn a_buffer_that_went_over_us_is_a_gap_in_words() {
    let (mut device, _) = following(WHOLE);
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 2, response(404, &error("OUT_OF_RANGE")));
    assert_eq!(paths(&out), ["/current"]);
    let body = stream(77, 499, 500, "avail=AVAILABLE exec=READY");
    let out = step(&mut *device, 2, response(200, &body));
    assert_eq!(out.trouble.as_deref(), Some("a gap: observations 100 to 499 were not seen"));
    let said = said(&out);
    assert_eq!((&*said["execution"], &*said["job.name"]), ("ready", "(sentinel)"));
    assert!(sample(&mut *device, 501, "").trouble.is_none(), "told once");
}

#[test]
fn a_restarted_agent_is_probed_anew_and_nothing_old_is_told() {
    let (mut device, _) = following(WHOLE);
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 2, response(200, &stream(78, 5, 6, "exec=READY")));
    assert!(all_missing(&*device, &out, Unavailable::NotYet));
    assert_eq!(paths(&out), ["/probe"]);
    let probe = PROBE.replace(r#"instanceId="77""#, r#"instanceId="78""#);
    let out = step(&mut *device, 2, response(200, &probe));
    assert_eq!(paths(&out), ["/current"]);
    let body = stream(78, 5, 6, "avail=UNAVAILABLE exec=UNAVAILABLE");
    let out = step(&mut *device, 2, response(200, &body));
    assert!(all_missing(&*device, &out, Unavailable::Sentinel));
    let words = "the agent answers, but the machine is not connected to it";
    assert_eq!(out.trouble.as_deref(), Some(words));
}

#[test]
fn conditions_come_and_go_one_by_one() {
    let (mut device, _) = following("avail=AVAILABLE exec=READY");
    for (changes, execution, message) in [
        ("system!Warning:7=Oil", "ready", "Oil"),
        ("system!Fault:1=Servo system!Fault:2=Drive", "fault", "Servo"),
        ("system!Normal:1=", "fault", "Drive"),
        ("system!Normal:2=", "ready", "Oil"),
        ("system!Normal:=", "ready", "(sentinel)"),
        ("system!Fault:9=", "fault", "9"),
        ("system!Unavailable:=", "ready", "(sentinel)"),
    ] {
        let said = said(&sample(&mut *device, 102, changes));
        assert_eq!((&*said["execution"], &*said["message"]), (execution, message), "{changes}");
    }
}

#[test]
fn no_number_of_warnings_hides_a_fault() {
    let (mut device, _) = following("avail=AVAILABLE exec=READY");
    let warnings: String = (0..1000).map(|code| format!("system!Warning:{code}=Oil ")).collect();
    sample(&mut *device, 1102, &warnings);
    let said = said(&sample(&mut *device, 1103, "system!Fault:1000=Servo"));
    assert_eq!((&*said["execution"], &*said["message"]), ("fault", "Servo"));
}

#[test]
fn one_device_of_an_agent_is_chosen() {
    let two = PROBE.replace("</Devices>", r#"<Device id="e" name="Lathe" uuid="l-1"/></Devices>"#);
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let out = step(&mut *device, 0, response(200, &two));
    assert!(all_missing(&*device, &out, Unavailable::Refused));
    let words = "the agent has several devices; name one: VMC, Lathe";
    assert_eq!(out.trouble.as_deref(), Some(words));

    let mut device = made(&[("device", "VMC"), ("axes", "z")]).unwrap();
    assert_eq!(paths(&step(&mut *device, 0, Heard::Opened)), ["/VMC/probe"]);
    let out = step(&mut *device, 0, response(200, &two));
    assert_eq!(paths(&out), ["/VMC/current"]);
    assert!(device.items().iter().all(|item| &**item != "position.x"));

    let mut device = made(&[("device", "Mill 3")]).unwrap();
    assert_eq!(paths(&step(&mut *device, 0, Heard::Opened)), ["/Mill%203/probe"]);
    let out = step(&mut *device, 0, response(404, &error("NO_DEVICE")));
    assert_eq!(out.trouble.as_deref(), Some("the agent has no device \"Mill 3\""));
    assert!(made(&[("axes", "xq")]).is_err() && made(&[("axes", "xx")]).is_err());
}

#[test]
fn no_more_is_asked_for_than_the_agents_buffer_holds() {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let probe = PROBE.replace(r#"instanceId="77""#, r#"instanceId="77" bufferSize="64""#);
    step(&mut *device, 0, response(200, &probe));
    step(&mut *device, 0, response(200, &stream(77, 99, 100, WHOLE)));
    let asked = format!("/sample?from=100&count=64{GOES_ON}");
    assert_eq!(paths(&step(&mut *device, 2, Heard::Due)), [asked]);
}

#[test]
fn an_agent_that_gives_what_it_still_has_leaves_a_gap_as_well() {
    let (mut device, _) = following(WHOLE);
    step(&mut *device, 2, Heard::Due);
    let late =
        stream(77, 499, 500, "Xact=7").replace("firstSequence=\"1\"", "firstSequence=\"300\"");
    let out = step(&mut *device, 2, response(200, &late));
    assert!(out.said.is_empty());
    assert_eq!(paths(&out), ["/current"]);
    let out = step(&mut *device, 2, response(200, &stream(77, 499, 500, "exec=READY")));
    assert_eq!(out.trouble.as_deref(), Some("a gap: observations 100 to 499 were not seen"));
    assert_eq!(said(&out)["execution"], "ready");
}

#[test]
fn silence_refusals_and_rubbish_are_said() {
    let (mut device, _) = following(WHOLE);
    for (status, body, why) in [
        (200, "{}", Unavailable::Garbled),
        (200, PROBE, Unavailable::Garbled),
        (200, &WHOLE[..20], Unavailable::Garbled),
        (401, "", Unavailable::Refused),
        (500, "oops", Unavailable::Refused),
    ] {
        step(&mut *device, 2, Heard::Due);
        let out = step(&mut *device, 2, response(status, body));
        assert!(all_missing(&*device, &out, why) && !out.alive, "{status} {body}");
        assert!(out.trouble.is_some(), "{status} {body}");
    }
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 8, Heard::NoResponse(Unavailable::Timeout));
    assert!(all_missing(&*device, &out, Unavailable::Timeout));
    let out = step(&mut *device, 8, Heard::Closed);
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
    assert_eq!(paths(&step(&mut *device, 9, Heard::Opened)), ["/current"]);
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || following(WHOLE).0,
        &[
            PROBE,
            r#"<MTConnectStreams><Header instanceId="77" lastSequence="10" nextSequence="11"/>
            <S><Event dataItemId="exec">ACTIVE</Event><Fault dataItemId="system" nativeCode="@"/>
            <Sample dataItemId="Frt">10.0</Sample></S></MTConnectStreams>"#,
            r#"<MTConnectStreams><Header instanceId="7@" lastSequence="100" nextSequence="@"/>
            </MTConnectStreams>"#,
            r#"<MTConnectError><Header instanceId="77"/><Error errorCode="OUT_OF_RANGE">1</Error>
            </MTConnectError>"#,
        ],
    );
}
