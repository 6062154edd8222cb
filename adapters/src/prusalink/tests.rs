//! Bodies are put together from the examples of the OpenAPI description.

use expect_test::expect;

use super::*;
use crate::device::Outgoing;
use crate::protocol::Settings;
use crate::trial::{all_missing, response, said, step, survives, told};

const JOB: &str = r#"{"id":420,"state":"PRINTING","progress":42.0,"time_remaining":520,
    "time_printing":526,"file":{"name":"SPICE~1.gco","path":"/local","m_timestamp":1648042843,
    "display_name":"Spice_Harvester_0.3mm_PLA_MK3S_12m.gcode"}}"#;

fn status(state: &str) -> String {
    let job = r#""job":{"id":420,"progress":42.0,"time_remaining":520,"time_printing":526},"#;
    let job = if matches!(state, "PRINTING" | "PAUSED") { job } else { "" };
    format!(
        r#"{{{job}"printer":{{"state":"{state}","temp_nozzle":214.9,"target_nozzle":215.0,
        "temp_bed":59.5,"target_bed":60.0,"axis_z":0.2,"flow":95,"speed":100,"fan_hotend":3099,
        "fan_print":5964,"status_printer":{{"ok":true,"message":"OK"}}}},
        "storage":{{"name":"LOCAL","path":"/local","read_only":false}}}}"#
    )
}

fn device() -> Box<dyn Device> {
    (PROTOCOL.device)(&Settings::default()).unwrap()
}

/// Answers the two requests of a picture.
fn answer(device: &mut dyn Device, state: &str) -> Outbox {
    let (code, job) = if state == "PRINTING" { (200, JOB) } else { (204, "") };
    step(device, 1, response(code, job));
    step(device, 1, response(200, &status(state)))
}

fn picture(state: &str) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let out = answer(&mut *device, state);
    (device, out)
}

fn requests(out: &Outbox) -> Vec<(Method, &str)> {
    let requests = out.sends.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Request(request) => Some((request.method, &*request.path)),
        _ => None,
    });
    requests.collect()
}

#[test]
fn a_job_is_told_whole() {
    let (device, out) = picture("PRINTING");
    assert!(out.alive && out.trouble.is_none());
    assert_eq!(said(&out).len(), device.items().len());
    expect![[r#"
        controller.state PRINTING
        execution running
        job.elapsed 526
        job.left 520
        job.name Spice_Harvester_0.3mm_PLA_MK3S_12m.gcode
        message (sentinel)
        override.feed 1
        position.z 0.2
        progress 0.42
        temperature.bed 59.5
        temperature.nozzle 214.9
        temperature.target.bed 60
        temperature.target.nozzle 215
    "#]]
    .assert_eq(&told(&out));
}

/// The table in the file's head, row by row, over the wire.
#[test]
fn words_mean_what_the_table_says() {
    for (state, expected) in [
        ("IDLE", "ready"),
        ("READY", "ready"),
        ("BUSY", "preparing"),
        ("PRINTING", "running"),
        ("PAUSED", "paused"),
        ("ATTENTION", "paused"),
        ("FINISHED", "finished"),
        ("STOPPED", "ready"),
        ("ERROR", "fault"),
        ("printing", "(garbled)"),
        ("", "(garbled)"),
    ] {
        let said = said(&picture(state).1);
        assert_eq!((&*said["execution"], &*said["controller.state"]), (expected, state), "{state}");
    }
}

#[test]
fn no_job_is_no_value_and_no_zero() {
    let said = said(&picture("IDLE").1);
    for item in ["job.name", "progress", "job.elapsed", "job.left"] {
        assert_eq!(said[item], "(sentinel)", "{item}");
    }
}

#[test]
fn a_status_may_be_nothing_but_a_state() {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    step(&mut *device, 0, response(204, ""));
    let out = step(&mut *device, 0, response(200, r#"{"printer":{"state":"IDLE"}}"#));
    let said = said(&out);
    assert_eq!((&*said["execution"], &*said["temperature.nozzle"]), ("ready", "(sentinel)"));
}

#[test]
fn a_job_is_stopped_by_its_number_and_read_back() {
    for (stop, request, stands) in [
        (Stop::Cancel, (Method::Delete, "/api/v1/job/420"), "STOPPED"),
        (Stop::Pause, (Method::Put, "/api/v1/job/420/pause"), "PAUSED"),
    ] {
        let (mut device, _) = picture("PRINTING");
        let out = step(&mut *device, 2, Heard::Stop(stop));
        assert_eq!(requests(&out), [request]);
        let out = step(&mut *device, 2, response(204, ""));
        assert_eq!(out.stop, [StopReply::Accepted]);
        assert_eq!(answer(&mut *device, "PRINTING").stop, []);
        step(&mut *device, 3, Heard::Due);
        assert_eq!(answer(&mut *device, stands).stop, [StopReply::ReadBack(true)]);
    }
}

#[test]
fn a_stop_without_a_known_job_asks_first() {
    let mut device = device();
    let out = step(&mut *device, 0, Heard::Stop(Stop::Cancel));
    assert_eq!(requests(&out).last(), Some(&(Method::Get, "/api/v1/status")));
    let out = answer(&mut *device, "PRINTING");
    assert_eq!(requests(&out), [(Method::Delete, "/api/v1/job/420")]);

    let (mut device, _) = picture("IDLE");
    step(&mut *device, 2, Heard::Stop(Stop::Pause));
    let nothing = StopReply::Failed("there is no job to stop".to_owned());
    assert_eq!(answer(&mut *device, "IDLE").stop, [nothing, StopReply::ReadBack(true)]);
    step(&mut *device, 2, Heard::Stop(Stop::Pause));
    let out = step(&mut *device, 8, Heard::NoResponse(Unavailable::Timeout));
    assert!(matches!(&*out.stop, [StopReply::Failed(_)]), "{:?}", out.stop);
}

#[test]
fn a_wrong_key_silence_and_rubbish_are_said() {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let out = step(&mut *device, 0, response(401, "Unauthorized"));
    assert!(all_missing(&*device, &out, Unavailable::Refused) && !out.alive);
    assert_eq!(out.trouble.as_deref(), Some("401: the key is not accepted"));
    let out = step(&mut *device, 6, Heard::NoResponse(Unavailable::Timeout));
    assert!(all_missing(&*device, &out, Unavailable::Timeout) && out.trouble.is_some());
    step(&mut *device, 7, Heard::Due);
    for body in ["<html>", r#"{"printer":{}}"#] {
        step(&mut *device, 7, Heard::Due);
        step(&mut *device, 7, response(204, ""));
        let out = step(&mut *device, 7, response(200, body));
        assert!(all_missing(&*device, &out, Unavailable::Garbled), "{body}");
    }
    let out = step(&mut *device, 8, Heard::Closed);
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || picture("PRINTING").0,
        &[
            JOB,
            r#"{"job":{"id":10,"progress":10.0},"printer":{"state":"PRINTING","temp_nozzle":210}}"#,
            r#"{"printer":{"state":"IDLE","temp_nozzle":null,"status_printer":{"ok":true}}}"#,
            "",
        ],
    );
}
