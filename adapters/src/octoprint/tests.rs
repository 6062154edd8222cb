//! What is heard here was recorded from OctoPrint 1.11.8 with its virtual printer, driven through a
//! connection, jobs, a pause, a cancel, `M112` and a thermal runaway (`replies.txt`: the situation,
//! the address and the body per line).

use expect_test::expect;

use super::flags::execution;
use super::*;
use crate::device::{Method, Outgoing};
use crate::protocol::Settings;
use crate::trial::{all_missing, response, said, step, survives, told};

const REPLIES: &str = include_str!("replies.txt");

pub(super) fn device() -> Box<dyn Device> {
    (PROTOCOL.device)(&Settings::default()).unwrap()
}

/// A recorded body.
pub(super) fn recorded(situation: &str, address: &str) -> &'static str {
    let start = format!("{situation} {address} ");
    REPLIES.lines().find_map(|line| line.strip_prefix(&start)).expect("a recorded body")
}

/// Answers the two requests of a picture as recorded.
pub(super) fn answer(device: &mut dyn Device, situation: &str) -> Outbox {
    step(device, 1, response(200, recorded(situation, "job")));
    let printer = recorded(situation, "printer");
    let status = if printer.contains("not operational") { 409 } else { 200 };
    step(device, 1, response(status, printer))
}

fn picture(situation: &str) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    let out = step(&mut *device, 0, Heard::Opened);
    assert_eq!(paths(&out), ["/api/job", "/api/printer?exclude=sd"]);
    let out = answer(&mut *device, situation);
    (device, out)
}

/// A device that was told one picture, and that its push is not to be had.
fn without_push(situation: &str) -> Box<dyn Device> {
    let mut device = picture(situation).0;
    assert_eq!(step(&mut *device, 1, Heard::Due).sends.len(), 3);
    answer(&mut *device, situation);
    assert!(step(&mut *device, 1, response(404, "")).said.is_empty());
    device
}

pub(super) fn paths(out: &Outbox) -> Vec<&str> {
    let requests = out.sends.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Request(request) => Some(&*request.path),
        _ => None,
    });
    requests.collect()
}

#[test]
fn a_job_is_told_whole() {
    let (_, out) = picture("printing");
    assert!(out.alive && out.trouble.is_none());
    expect![[r#"
        controller.state Printing
        execution running
        job.elapsed 5
        job.left (sentinel)
        job.name long.gcode
        message (sentinel)
        progress 0.01194061393776087
        temperature.bed 50
        temperature.nozzle 60
        temperature.target.bed 50
        temperature.target.nozzle 60
    "#]]
    .assert_eq(&told(&out));
}

#[test]
fn each_recorded_situation_is_what_the_table_says() {
    for (situation, execution, word) in [
        ("connecting1", "ready", "Operational"),
        ("operational", "ready", "Operational"),
        ("heating", "running", "Printing"),
        ("printing", "running", "Printing"),
        ("pausing1", "running", "Pausing"),
        ("paused", "paused", "Paused"),
        ("cancelling1", "running", "Cancelling"),
        ("cancelled", "ready", "Operational"),
        ("finishing3", "running", "Finishing"),
        ("finished", "finished", "Operational"),
        ("emergency", "stopped", "Offline after error"),
        ("fatal", "fault", "Offline after error"),
        ("offline", "(disconnected)", "Offline"),
    ] {
        let (device, out) = picture(situation);
        let said = said(&out);
        assert_eq!(
            (&*said["execution"], &*said["controller.state"]),
            (execution, word),
            "{situation}"
        );
        assert_eq!(said.len(), device.items().len(), "{situation}");
    }
}

/// The first table in the head of `flags`, row by row; heating apart.
#[test]
fn flags_mean_what_the_table_says() {
    use Execution as E;
    for (flags, complete, expected) in [
        ("error ready printing", false, Some(E::Fault)),
        ("closedOrError", true, Some(E::Fault)),
        ("operational paused", false, Some(E::Paused)),
        ("operational printing", false, Some(E::Running)),
        ("operational printing pausing", false, Some(E::Running)),
        ("resuming", false, Some(E::Running)),
        ("finishing", true, Some(E::Running)),
        ("cancelling", false, Some(E::Running)),
        ("operational ready", true, Some(E::Finished)),
        ("operational ready", false, Some(E::Ready)),
        ("operational", true, Some(E::Ready)),
        ("sdReady", true, None),
        ("", false, None),
    ] {
        let flag = |name: &str| flags.split(' ').any(|flag| flag == name);
        assert_eq!(execution(flag, complete), expected, "{flags}");
    }
}

#[test]
fn no_temperatures_right_after_connecting_are_no_zeros() {
    let said = said(&picture("connecting1").1);
    for item in ["temperature.nozzle", "temperature.bed", "temperature.target.nozzle"] {
        assert_eq!(said[item], "(sentinel)", "{item}");
    }
}

#[test]
fn without_a_printer_the_reason_is_told() {
    let (_, out) = picture("fatal");
    let words = "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!";
    assert_eq!(said(&out)["message"], words);
    assert_eq!(said(&out)["temperature.nozzle"], "(disconnected)");
    assert!(out.trouble.is_some_and(|trouble| trouble.ends_with(words)));
}

#[test]
fn a_picture_is_asked_for_once_at_a_time() {
    let mut device = without_push("printing");
    assert_eq!(step(&mut *device, 1, Heard::Due).sends.len(), 2);
    assert!(step(&mut *device, 1, Heard::Due).sends.is_empty());
    let out = step(&mut *device, 1, response(200, recorded("printing", "job")));
    assert!(out.said.is_empty(), "half a picture");
    assert!(step(&mut *device, 2, Heard::Due).sends.is_empty());
    step(&mut *device, 2, response(200, recorded("printing", "printer")));
    assert_eq!(step(&mut *device, 3, Heard::Due).sends.len(), 2);
}

#[test]
fn halves_of_two_moments_are_no_picture() {
    for (job, printer, status, execution) in
        [("finishing3", "finished", 200, "finished"), ("printing", "emergency", 409, "stopped")]
    {
        let mut device = without_push("printing");
        step(&mut *device, 2, Heard::Due);
        step(&mut *device, 2, response(200, recorded(job, "job")));
        let out = step(&mut *device, 2, response(status, recorded(printer, "printer")));
        assert!(out.said.is_empty(), "{out:?}");
        assert_eq!(paths(&out), ["/api/job", "/api/printer?exclude=sd"]);
        assert_eq!(said(&answer(&mut *device, printer))["execution"], execution);
        // Halves that never agree are told all the same, after a second try.
        step(&mut *device, 3, Heard::Due);
        for asked_again in [true, false] {
            step(&mut *device, 3, response(200, recorded("printing", "job")));
            let out = step(&mut *device, 3, response(200, recorded("finished", "printer")));
            assert_eq!((out.said.is_empty(), out.sends.len() == 2), (asked_again, asked_again));
        }
    }
}

#[test]
fn stops_are_commanded_and_read_back() {
    for (stop, path, body, not_yet, stands) in [
        (
            Stop::Emergency,
            "/api/printer/command",
            r#"{"commands":["M112"]}"#,
            "printing",
            "emergency",
        ),
        (Stop::Cancel, "/api/job", r#"{"command":"cancel"}"#, "cancelling1", "cancelled"),
        (Stop::Pause, "/api/job", r#"{"command":"pause","action":"pause"}"#, "pausing1", "paused"),
    ] {
        let (mut device, _) = picture("printing");
        let out = step(&mut *device, 2, Heard::Stop(stop));
        let Some(Outgoing::Request(request)) = out.sends.first() else { panic!("{out:?}") };
        assert_eq!((request.method, &*request.path), (Method::Post, path));
        assert_eq!(request.body.as_deref(), Some(body));
        let out = step(&mut *device, 2, response(204, ""));
        assert_eq!((out.stop.as_slice(), out.sends.len()), ([StopReply::Accepted].as_slice(), 2));
        assert_eq!(answer(&mut *device, not_yet).stop, []);
        step(&mut *device, 3, Heard::Due);
        assert_eq!(answer(&mut *device, stands).stop, [StopReply::ReadBack(true)]);
        step(&mut *device, 4, Heard::Due);
        assert!(answer(&mut *device, stands).stop.is_empty(), "said once");
    }
}

#[test]
fn a_cancel_of_nothing_fails_and_yet_stands() {
    let (mut device, _) = picture("operational");
    step(&mut *device, 2, Heard::Stop(Stop::Cancel));
    // As OctoPrint answered.
    let words = "Printer is neither printing nor paused, 'cancel' command cannot be performed";
    let out = step(&mut *device, 2, response(409, &format!(r#"{{"error":"{words}"}}"#)));
    assert_eq!(out.stop, [StopReply::Failed(format!("409: {words}"))]);
    assert_eq!(answer(&mut *device, "operational").stop, [StopReply::ReadBack(true)]);
}

#[test]
fn a_lost_printer_does_not_make_a_stop_stand() {
    let (mut device, _) = picture("printing");
    step(&mut *device, 2, Heard::Stop(Stop::Cancel));
    step(&mut *device, 2, response(204, ""));
    assert_eq!(answer(&mut *device, "offline").stop, []);
    step(&mut *device, 3, Heard::Due);
    assert_eq!(answer(&mut *device, "fatal").stop, []);
}

#[test]
fn a_wrong_key_silence_and_rubbish_are_said() {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    let out = step(&mut *device, 0, response(403, recorded("nokey", "printer")));
    assert!(all_missing(&*device, &out, Unavailable::Refused) && !out.alive);
    assert_eq!(out.trouble.as_deref(), Some("403: the key is not accepted"));
    step(&mut *device, 0, response(403, ""));
    step(&mut *device, 1, Heard::Due);
    for why in [Unavailable::Timeout, Unavailable::Disconnected] {
        let out = step(&mut *device, 6, Heard::NoResponse(why));
        assert!(all_missing(&*device, &out, why) && out.trouble.is_some());
    }
    step(&mut *device, 7, Heard::Due);
    for body in ["<html>", "{}"] {
        let out = step(&mut *device, 7, response(200, body));
        assert!(all_missing(&*device, &out, Unavailable::Garbled), "{body}");
    }
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || picture("printing").0,
        &[
            r#"{"state":{"flags":{"operational":true,"ready":true},"text":"Operational"},
            "temperature":{"tool0":{"actual":21.30,"target":0.0},"bed":{"actual":20.0,"target":[]}}}"#,
            r#"{"job":{"file":{"name":"a.gcode"}},"progress":{"completion":100.0,"printTime":10,
            "printTimeLeft":0},"state":"Operational","error":"M112 1"}"#,
            r#"{"error": "Printer is not operational"}"#,
        ],
    );
}
