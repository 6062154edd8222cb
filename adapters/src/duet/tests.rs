//! Models are cut from what the sources of RepRapFirmware say that it sends.

use expect_test::expect;

use super::*;
use crate::device::Outgoing;
use crate::trial::{all_missing, response, said, step, survives, told};

const CONNECTED: &str = r#"{"err":0,"sessionTimeout":8000,"boardType":"duetwifi102","apiLevel":1,
    "sessionKey":2654435769}"#;
const HEAT: &str = r#"{"key":"heat","flags":"d99vn","result":{"bedHeaters":[0,-1,-1,-1],
    "chamberHeaters":[-1,-1],"coldExtrudeTemperature":160.0,"heaters":[]}}"#;
const TOOLS: &str = r#"{"key":"tools","flags":"d99vn","result":[{"active":[210.0],"heaters":[1],
    "name":"","number":0,"state":"active"}]}"#;
const JOB: &str = r#"{"key":"job","flags":"d99vn","result":{"file":{"filament":[4300.5],
    "fileName":"0:/gcodes/benchy.gcode","height":48.0,"numLayers":240,"size":4000},
    "lastFileName":"0:/gcodes/benchy.gcode"}}"#;
const STATE: &str = r#"{"key":"state","flags":"d99vn","result":{"displayMessage":"Layer 3",
    "messageBox":null,"status":"processing"}}"#;

fn live(status: &str, heater: &str, sequence: u32) -> String {
    let job = match status {
        "processing" => {
            r#"{"duration":60,"filePosition":1000,"layer":3,
            "timesLeft":{"filament":170,"file":180,"slicer":null}}"#
        }
        _ => r#"{"duration":null,"filePosition":0,"layer":null,"timesLeft":{"file":null}}"#,
    };
    format!(
        r#"{{"key":"","flags":"d99fn","result":{{"heat":{{"heaters":[
        {{"active":60.0,"current":59.8,"standby":0,"state":"active"}},
        {{"active":210.0,"current":209.6,"standby":150.0,"state":"{heater}"}}]}},"job":{job},
        "seqs":{{"heat":4,"job":{sequence},"state":9,"tools":2}},
        "state":{{"currentTool":0,"status":"{status}","upTime":100}}}}}}"#
    )
}

fn device() -> Box<dyn Device> {
    (PROTOCOL.device)(&Settings::default()).unwrap()
}

fn paths(out: &Outbox) -> Vec<&str> {
    let paths = out.sends.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Request(request) => Some(&*request.path),
        _ => None,
    });
    paths.collect()
}

/// A device with a session and all parts of the model, in this status.
fn picture(status: &str, heater: &str) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    step(&mut *device, 0, Heard::Opened);
    step(&mut *device, 0, response(200, CONNECTED));
    let mut out = step(&mut *device, 0, response(200, &live(status, heater, 1)));
    assert_eq!(paths(&out).len(), DETAILS.len());
    for part in [HEAT, JOB, STATE, TOOLS] {
        assert!(out.said.is_empty(), "not whole yet");
        out = step(&mut *device, 0, response(200, part));
    }
    (device, out)
}

/// The next period's picture, with nothing changed but the live fields.
fn next(device: &mut dyn Device, status: &str) -> Outbox {
    step(device, 2, Heard::Due);
    step(device, 2, response(200, &live(status, "active", 1)))
}

#[test]
fn a_session_is_opened_and_its_key_shown() {
    let options = vec![("password", "a b&c".to_owned())];
    let settings = Settings { options, ..Settings::default() };
    let mut device = (PROTOCOL.device)(&settings).unwrap();
    let out = step(&mut *device, 0, Heard::Opened);
    assert_eq!(paths(&out), ["/rr_connect?password=a%20b%26c&sessionKey=yes"]);
    let out = step(&mut *device, 0, response(200, CONNECTED));
    let Some(Outgoing::Request(request)) = out.sends.first() else { panic!("{out:?}") };
    assert_eq!(request.path, "/rr_model?flags=d99fn");
    assert_eq!(request.headers, [("X-Session-Key", "2654435769".to_owned())]);
}

#[test]
fn a_job_is_told_whole() {
    let (device, out) = picture("processing", "active");
    assert!(out.alive && out.trouble.is_none());
    assert_eq!(said(&out).len(), device.items().len());
    expect![[r#"
        controller.state processing
        execution running
        job.elapsed 60
        job.layer 3
        job.layers 240
        job.left 170
        job.name benchy.gcode
        message Layer 3
        progress 0.25
        temperature.bed 59.8
        temperature.nozzle 209.6
        temperature.target.bed 60
        temperature.target.nozzle 210
    "#]]
    .assert_eq(&told(&out));
}

/// The table in the file's head, row by row, over the wire.
#[test]
fn words_mean_what_the_table_says() {
    for (status, heater, expected) in [
        ("idle", "active", "ready"),
        ("busy", "active", "preparing"),
        ("changingTool", "active", "preparing"),
        ("processing", "active", "running"),
        ("pausing", "active", "running"),
        ("resuming", "active", "running"),
        ("cancelling", "active", "running"),
        ("paused", "standby", "paused"),
        ("simulating", "off", "ready"),
        ("halted", "fault", "stopped"),
        ("off", "fault", "off"),
        ("starting", "off", "(not_yet)"),
        ("updating", "off", "(not_yet)"),
        ("processing", "fault", "fault"),
        ("idle", "fault", "fault"),
        ("I", "active", "(garbled)"),
    ] {
        let said = said(&picture(status, heater).1);
        let told = (&*said["execution"], &*said["controller.state"]);
        assert_eq!(told, (expected, status), "{status} {heater}");
    }
}

#[test]
fn a_target_depends_on_the_heaters_state() {
    for (heater, expected) in [
        ("active", "210"),
        ("standby", "150"),
        ("off", "0"),
        ("tuning", "210"),
        ("fault", "(sentinel)"),
        ("offline", "(sentinel)"),
    ] {
        let said = said(&picture("idle", heater).1);
        assert_eq!(said["temperature.target.nozzle"], expected, "{heater}");
    }
}

#[test]
fn parts_are_asked_for_only_when_they_change() {
    let (mut device, _) = picture("processing", "active");
    let out = next(&mut *device, "processing");
    assert!(out.sends.is_empty() && said(&out)["job.name"] == "benchy.gcode");
    step(&mut *device, 4, Heard::Due);
    let out = step(&mut *device, 4, response(200, &live("idle", "active", 2)));
    assert_eq!(paths(&out), ["/rr_model?key=job&flags=d99vn"]);
    let job = r#"{"key":"job","result":{"file":{"fileName":null,"numLayers":0,"size":0}}}"#;
    let said = said(&step(&mut *device, 4, response(200, job)));
    for item in ["job.name", "job.layers", "progress", "job.elapsed", "job.left"] {
        assert_eq!(said[item], "(sentinel)", "{item}");
    }
}

#[test]
fn a_part_that_was_not_given_is_asked_for_again() {
    let (mut device, _) = picture("processing", "active");
    step(&mut *device, 2, Heard::Due);
    step(&mut *device, 2, response(200, &live("processing", "active", 2)));
    step(&mut *device, 2, response(503, ""));
    step(&mut *device, 4, Heard::Due);
    let out = step(&mut *device, 4, response(200, &live("processing", "active", 2)));
    assert_eq!(paths(&out), ["/rr_model?key=job&flags=d99vn"]);
}

#[test]
fn a_forgotten_session_is_renewed_at_once_but_not_in_circles() {
    let (mut device, _) = picture("processing", "active");
    step(&mut *device, 20, Heard::Due);
    let out = step(&mut *device, 20, response(401, "Not authorized"));
    assert!(paths(&out)[0].starts_with("/rr_connect") && out.said.is_empty());
    let out = step(&mut *device, 20, response(200, CONNECTED));
    assert_eq!(paths(&out), ["/rr_model?flags=d99fn"]);
    let out = step(&mut *device, 20, response(401, "Not authorized"));
    assert!(out.sends.is_empty(), "waits for the next period");
    assert!(all_missing(&*device, &out, Unavailable::Refused));
    assert!(paths(&step(&mut *device, 22, Heard::Due))[0].starts_with("/rr_connect"));
}

#[test]
fn a_wrong_password_and_a_full_board_are_said() {
    for (body, words) in [
        (r#"{"err":1}"#, "the password is not accepted"),
        (r#"{"err":2}"#, "the board has no session free; close other clients"),
    ] {
        let mut device = device();
        step(&mut *device, 0, Heard::Opened);
        let out = step(&mut *device, 0, response(200, body));
        assert!(all_missing(&*device, &out, Unavailable::Refused));
        assert_eq!(out.trouble.as_deref(), Some(words));
        assert!(paths(&step(&mut *device, 2, Heard::Due))[0].starts_with("/rr_connect"));
    }
}

#[test]
fn a_shortage_of_buffers_passes_and_a_long_one_is_silence() {
    let (mut device, _) = picture("processing", "active");
    for attempt in 1..=BUSY_MAX {
        step(&mut *device, 2, Heard::Due);
        let out = step(&mut *device, 2, response(503, ""));
        assert_eq!(all_missing(&*device, &out, Unavailable::Timeout), attempt == BUSY_MAX);
        assert_eq!(out.trouble.as_deref(), Some("503: the board is out of buffers"));
    }
    assert_eq!(said(&next(&mut *device, "processing"))["execution"], "running");
}

#[test]
fn an_emergency_stop_is_read_back_by_halted() {
    let (mut device, _) = picture("processing", "active");
    let out = step(&mut *device, 2, Heard::Stop(Stop::Emergency));
    assert_eq!(paths(&out), ["/rr_gcode?gcode=M112"]);
    let out = step(&mut *device, 2, response(200, r#"{"buff":251}"#));
    assert_eq!(out.stop, [StopReply::Accepted]);
    let out = step(&mut *device, 2, response(200, &live("processing", "active", 1)));
    assert_eq!(out.stop, []);
    assert_eq!(next(&mut *device, "halted").stop, [StopReply::ReadBack(true)]);
}

#[test]
fn a_cancel_pauses_first() {
    let (mut device, _) = picture("processing", "active");
    let out = step(&mut *device, 2, Heard::Stop(Stop::Cancel));
    assert_eq!(paths(&out), ["/rr_gcode?gcode=M25"]);
    step(&mut *device, 2, response(200, r#"{"buff":251}"#));
    let out = step(&mut *device, 2, response(200, &live("pausing", "active", 1)));
    assert!(out.sends.is_empty(), "not paused yet");
    let out = next(&mut *device, "paused");
    assert_eq!(paths(&out), ["/rr_gcode?gcode=M0"]);
    let out = step(&mut *device, 3, response(200, r#"{"buff":251}"#));
    assert_eq!(out.stop, [StopReply::Accepted]);
    let out = step(&mut *device, 3, response(200, &live("idle", "active", 1)));
    assert_eq!(out.stop, [StopReply::ReadBack(true)]);
}

#[test]
fn a_cancel_of_a_job_that_ended_by_itself_leaves_the_next_one_alone() {
    let (mut device, _) = picture("processing", "active");
    step(&mut *device, 2, Heard::Stop(Stop::Cancel));
    step(&mut *device, 2, response(200, r#"{"buff":251}"#));
    let out = step(&mut *device, 2, response(200, &live("idle", "active", 1)));
    assert_eq!(out.stop, [StopReply::ReadBack(true)]);
    assert!(next(&mut *device, "paused").sends.is_empty(), "a person has paused the next job");
}

#[test]
fn a_stop_that_cannot_be_carried_out_fails_in_words() {
    let mut device = device();
    let out = step(&mut *device, 0, Heard::Stop(Stop::Emergency));
    assert!(matches!(&*out.stop, [StopReply::Failed(_)]) && out.sends.is_empty());
    let (mut device, _) = picture("processing", "active");
    step(&mut *device, 2, Heard::Stop(Stop::Pause));
    let out = step(&mut *device, 2, response(200, r#"{"err":1}"#));
    assert!(matches!(&*out.stop, [StopReply::Failed(_)]), "{:?}", out.stop);
    step(&mut *device, 2, response(200, &live("processing", "active", 1)));
    step(&mut *device, 3, Heard::Stop(Stop::Pause));
    let out = step(&mut *device, 8, Heard::NoResponse(Unavailable::Timeout));
    assert!(matches!(&*out.stop, [StopReply::Failed(_)]), "{:?}", out.stop);
    assert!(all_missing(&*device, &out, Unavailable::Timeout));
}

#[test]
fn rubbish_is_said() {
    for body in ["<html>", r#"{"result":null}"#] {
        let (mut device, _) = picture("idle", "off");
        step(&mut *device, 2, Heard::Due);
        let out = step(&mut *device, 2, response(200, body));
        assert!(all_missing(&*device, &out, Unavailable::Garbled), "{body}");
    }
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || picture("processing", "active").0,
        &[
            CONNECTED,
            HEAT,
            TOOLS,
            JOB,
            STATE,
            r#"{"result":{"heat":{"heaters":[{"active":60.0,"current":20.1,"state":"active"}]},
            "job":{"duration":10,"filePosition":100},"seqs":{"heat":4,"job":1,"state":9,"tools":2},
            "state":{"status":"paused"}}}"#,
            r#"{"result":{"job":{"duration":null},"seqs":{"heat":@,"job":[]},
            "state":{"status":"halted"}}}"#,
            r#"{"buff":251}"#,
            r#"{"err":1}"#,
        ],
    );
}
