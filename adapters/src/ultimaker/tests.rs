//! Bodies are put together in the shape that public clients describe.

use expect_test::expect;

use super::*;
use crate::device::Outgoing;
use crate::protocol::Settings;
use crate::trial::{all_missing, response, said, step, survives, told};

const HEADS: &str = r#""bed":{"temperature":{"current":59.8,"target":60.0},"type":"glass"},
    "heads":[{"extruders":[{"hotend":{"id":"AA 0.4","temperature":{"current":209.6,"target":210}}},
    {"hotend":{"temperature":{"current":24.1,"target":0.0}}}],"fan":100.0}]"#;

fn printer(status: &str) -> String {
    format!(r#"{{{HEADS},"status":"{status}"}}"#)
}

fn job(state: &str) -> String {
    format!(
        r#"{{"time_elapsed":600,"time_total":1500,"name":"UM3_benchy","progress":0.4,
        "state":"{state}","result":"","source":"WEB_API"}}"#
    )
}

fn device() -> Box<dyn Device> {
    let options = vec![("nozzles", "2".to_owned())];
    (PROTOCOL.device)(&Settings { options, ..Settings::default() }).unwrap()
}

/// Answers the two requests of a picture.
fn answer(device: &mut dyn Device, status: &str, state: Option<&str>) -> Outbox {
    match state {
        Some(state) => step(device, 1, response(200, &job(state))),
        None => step(device, 1, response(404, r#"{"message":"Not found"}"#)),
    };
    step(device, 1, response(200, &printer(status)))
}

fn picture(status: &str, state: Option<&str>) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let out = answer(&mut *device, status, state);
    (device, out)
}

#[test]
fn a_job_is_told_whole() {
    let (device, out) = picture("printing", Some("printing"));
    assert!(out.alive && out.trouble.is_none());
    assert_eq!(said(&out).len(), device.items().len());
    expect![[r#"
        controller.state printing
        execution running
        job.elapsed 600
        job.left 900
        job.name UM3_benchy
        progress 0.4
        temperature.bed 59.8
        temperature.nozzle 209.6
        temperature.nozzle-2 24.1
        temperature.target.bed 60
        temperature.target.nozzle 210
        temperature.target.nozzle-2 0
    "#]]
    .assert_eq(&told(&out));
}

/// The table in the file's head, row by row, over the wire.
#[test]
fn words_mean_what_the_table_says() {
    for (status, state, expected, word) in [
        ("error", Some("printing"), "fault", "error"),
        ("booting", None, "(not_yet)", "booting"),
        ("maintenance", None, "ready", "maintenance"),
        ("printing", Some("pre_print"), "preparing", "pre_print"),
        ("printing", Some("printing"), "running", "printing"),
        ("printing", Some("pausing"), "running", "pausing"),
        ("printing", Some("resuming"), "running", "resuming"),
        ("printing", Some("post_print"), "running", "post_print"),
        ("printing", Some("paused"), "paused", "paused"),
        ("printing", Some("wait_cleanup"), "finished", "wait_cleanup"),
        ("idle", Some("wait_cleanup"), "finished", "wait_cleanup"),
        ("idle", None, "ready", "idle"),
        ("idle", Some("none"), "ready", "idle"),
        ("printing", None, "(garbled)", "printing"),
        ("printing", Some("dreaming"), "(garbled)", "dreaming"),
        ("asleep", None, "(garbled)", "asleep"),
    ] {
        let said = said(&picture(status, state).1);
        let told = (&*said["execution"], &*said["controller.state"]);
        assert_eq!(told, (expected, word), "{status} {state:?}");
    }
}

#[test]
fn no_job_is_no_value_and_no_zero() {
    let said = said(&picture("idle", None).1);
    for item in ["job.name", "progress", "job.elapsed", "job.left"] {
        assert_eq!(said[item], "(sentinel)", "{item}");
    }
}

#[test]
fn stops_are_commanded_and_read_back() {
    for (stop, target, not_yet, stands) in [
        (Stop::Cancel, "abort", "printing", "wait_cleanup"),
        (Stop::Pause, "pause", "pausing", "paused"),
    ] {
        let (mut device, _) = picture("printing", Some("printing"));
        let out = step(&mut *device, 2, Heard::Stop(stop));
        let Some(Outgoing::Request(request)) = out.sends.first() else { panic!("{out:?}") };
        assert_eq!((request.method, &*request.path), (Method::Put, "/api/v1/print_job/state"));
        assert_eq!(request.body, Some(format!(r#"{{"target":"{target}"}}"#)));
        let out = step(&mut *device, 2, response(204, ""));
        assert_eq!(out.stop, [StopReply::Accepted]);
        let out = answer(&mut *device, "printing", Some(not_yet));
        assert_eq!(out.stop, []);
        step(&mut *device, 3, Heard::Due);
        let out = answer(&mut *device, "printing", Some(stands));
        assert_eq!(out.stop, [StopReply::ReadBack(true)]);
    }
    let (mut device, _) = picture("printing", Some("printing"));
    step(&mut *device, 2, Heard::Stop(Stop::Cancel));
    let out = step(&mut *device, 2, response(401, ""));
    assert_eq!(out.stop, [StopReply::Failed("401: the key is not accepted".to_owned())]);
}

#[test]
fn refusals_silence_and_rubbish_are_said() {
    let (mut device, _) = picture("idle", None);
    for (status, body, why) in [
        (500, "", Unavailable::Refused),
        (200, "<html>", Unavailable::Garbled),
        (200, "{}", Unavailable::Garbled),
    ] {
        step(&mut *device, 2, Heard::Due);
        step(&mut *device, 2, response(404, ""));
        let out = step(&mut *device, 2, response(status, body));
        assert!(all_missing(&*device, &out, why) && out.trouble.is_some(), "{status} {body}");
    }
    step(&mut *device, 3, Heard::Due);
    let out = step(&mut *device, 8, Heard::NoResponse(Unavailable::Timeout));
    assert!(all_missing(&*device, &out, Unavailable::Timeout) && out.trouble.is_some());
    let out = step(&mut *device, 9, Heard::Closed);
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || picture("printing", Some("printing")).0,
        &[
            r#"{"time_elapsed":600,"time_total":1500,"name":"a","progress":0.4,"state":"printing"}"#,
            r#"{"status":"printing","bed":{"temperature":{"current":10.0,"target":60.0}},
            "heads":[{"extruders":[{"hotend":{"temperature":{"current":10}}}]}]}"#,
            r#"{"message":"Not found"}"#,
        ],
    );
}
