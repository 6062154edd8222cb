//! The full report is the one of OpenBambuAPI's description of `push_status`, shortened to the
//! fields in use; deltas and refusals have the shape that the same description and Home
//! Assistant's integration give.

use std::time::Duration;

use andon_engine::event::Execution;
use andon_engine::value::Unavailable;

use super::picture::execution;
use super::{PROTOCOL, PUSHALL_EVERY};
use crate::device::{Heard, Outgoing, Stop, StopReply};
use crate::trial::{
    Trial, all_unavailable, flag, measured, number, published, survives_rubbish, text,
};

const REPORT: &str = "device/01S00C123400001/report";
const REQUEST: &str = "device/01S00C123400001/request";
const FULL: &str = r#"{"print":{"bed_target_temper":25.0,"bed_temper":25.0,"chamber_temper":24.0,
    "command":"push_status","fail_reason":"0","gcode_file":"","gcode_state":"IDLE","hms":[],
    "home_flag":0,"mc_percent":0,"mc_remaining_time":0,"nozzle_target_temper":25.0,
    "nozzle_temper":25.0,"print_error":0,"sequence_id":"2021","stg":[],"stg_cur":-1,
    "subtask_name":"","wifi_signal":"-45dBm","msg":0}}"#;
const RUNNING: &str = r#"{"print":{"command":"push_status","msg":1,"gcode_state":"RUNNING",
    "stg_cur":0,"mc_percent":42,"mc_remaining_time":83,"layer_num":12,"total_layer_num":230,
    "subtask_name":"benchy","nozzle_temper":219.5,"nozzle_target_temper":220}}"#;
const DELTA: &str = r#"{"print":{"command":"push_status","msg":1,"bed_temper":59.78125}}"#;
const VERSION: &str = r#"{"info":{"command":"get_version","sequence_id":"1","module":[]}}"#;
const FAILED: &str = r#"{"print":{"command":"push_status","msg":1,"gcode_state":"FAILED",
    "print_error":50348044,"hms":[{"attr":50331904,"code":65543}]}}"#;
const REFUSED: &str = r#"{"print":{"command":"stop","result":"failed",
    "reason":"mqtt message verify failed","err_code":84033543,"sequence_id":"3"}}"#;
const SIGNED: &str = r#"{"print":{"command":"push_status","msg":1,"fun":"41ABCFF9BFF"}}"#;
const SUCCESS: &str = r#"{"print":{"command":"pause","result":"SUCCESS","sequence_id":"3"}}"#;

fn opened() -> Trial {
    let mut trial = Trial::of(&PROTOCOL, "01S00C123400001", &[]);
    trial.hear(Heard::Opened);
    trial
}

#[test]
fn words_of_the_printer_are_executions_by_the_table() {
    use Execution::{Fault, Finished, Paused, Preparing, Ready, Running};
    let rows = [
        ("IDLE", &[-1, 255, 0][..], Some(Ready)),
        ("INIT", &[-1], Some(Preparing)),
        ("PREPARE", &[0], Some(Preparing)),
        ("SLICING", &[0], Some(Preparing)),
        ("RUNNING", &[1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19], Some(Preparing)),
        ("RUNNING", &[22, 24, 25, 29, 31], Some(Preparing)),
        ("RUNNING", &[5, 6, 16, 17, 26, 30, 32, 34], Some(Paused)),
        ("RUNNING", &[-1, 0, 255, 77], Some(Running)),
        ("PAUSE", &[-1, 0, 6, 16, 77], Some(Paused)),
        ("RUNNING", &[20, 21, 23, 27, 28, 33, 35], Some(Fault)),
        ("PAUSE", &[20, 21, 23, 27, 28, 33, 35], Some(Fault)),
        ("FINISH", &[0, 255], Some(Finished)),
        ("FAILED", &[0, 255], Some(Fault)),
        ("OFFLINE", &[0], None),
        ("running", &[0], None),
    ];
    for (state, stages, expected) in rows {
        for &stage in stages {
            assert_eq!(execution(state, Some(stage), false), expected, "{state} {stage}");
        }
    }
    assert_eq!(execution("FAILED", Some(0), true), Some(Ready));
    assert_eq!(execution("RUNNING", None, false), Some(Running));
}

#[test]
fn deltas_are_merged_and_the_whole_picture_is_said_each_time() {
    let mut printer = opened();
    let out = printer.message(REPORT, FULL);
    assert_eq!((text(&out, "execution"), number(&out, "signal")), ("ready".into(), -45.0));
    assert_eq!((text(&out, "message"), number(&out, "fault.code")), (String::new(), 0.0));
    printer.message(REPORT, RUNNING);
    let out = printer.message(REPORT, DELTA);
    assert!(out.alive && out.trouble.is_none());
    assert_eq!(text(&out, "controller.state"), "RUNNING");
    assert_eq!(text(&out, "execution"), "running");
    assert_eq!((number(&out, "temperature.bed"), number(&out, "progress")), (59.78125, 0.42));
    assert_eq!((number(&out, "job.left"), number(&out, "job.layer")), (4980.0, 12.0));
    assert_eq!((number(&out, "job.layers"), text(&out, "job.name")), (230.0, "benchy".into()));
    // The answer to the question of life confirms what was merged.
    assert_eq!(number(&printer.message(REPORT, VERSION), "temperature.nozzle"), 219.5);
}

#[test]
fn everything_is_asked_for_after_connecting_and_at_most_every_five_minutes() {
    let mut printer = Trial::of(&PROTOCOL, "01S00C123400001", &[]);
    let out = printer.hear(Heard::Opened);
    assert_eq!(out.sends[0], Outgoing::Subscribe(REPORT.to_owned()));
    let asked = published(&out, REQUEST);
    assert!(asked[0].contains("get_version") && asked[1].contains("pushall"), "{asked:?}");
    let mut full = 0;
    for _ in 0..599 {
        printer.wait(Duration::from_secs(1));
        let asked = published(&printer.hear(Heard::Due), REQUEST);
        full += asked.iter().filter(|asked| asked.contains("pushall")).count();
        printer.message(REPORT, VERSION);
    }
    assert_eq!((full, PUSHALL_EVERY.as_secs()), (1, 300));
}

#[test]
fn a_printer_that_pushes_by_itself_is_not_asked() {
    let mut printer = opened();
    printer.message(REPORT, FULL);
    assert_eq!(published(&printer.hear(Heard::Due), REQUEST), [""; 0]);
    // Once it is silent it is asked at every period; an answer is no push.
    for _ in 0..3 {
        assert_eq!(published(&printer.hear(Heard::Due), REQUEST).len(), 1);
        printer.message(REPORT, VERSION);
    }
}

#[test]
fn silence_rubbish_and_a_lost_connection_leave_nothing_known() {
    let mut printer = opened();
    printer.message(REPORT, FULL);
    for _ in 0..4 {
        printer.hear(Heard::Due);
    }
    let out = printer.hear(Heard::Due);
    assert!(all_unavailable(&*printer.device, &out, Unavailable::Timeout));
    assert!(out.trouble.as_deref().unwrap().contains("serial number"));
    assert_eq!(measured(&out, "online"), flag(false));

    assert!(published(&out, REQUEST)[0].contains(r#""pushing":{"#), "old firmware is woken");

    let out = printer.message(REPORT, "rubbish");
    assert!(all_unavailable(&*printer.device, &out, Unavailable::Garbled) && !out.alive);

    let out = printer.hear(Heard::Closed);
    assert!(all_unavailable(&*printer.device, &out, Unavailable::Disconnected));
    assert_eq!(out.trouble, None);
    let out = opened().hear(Heard::Closed);
    assert!(out.trouble.unwrap().contains("serial number"));
    // What was merged before is void on the new connection.
    printer.hear(Heard::Opened);
    assert_eq!(measured(&printer.message(REPORT, DELTA), "execution"), None);
}

#[test]
fn retained_reports_and_other_topics_say_nothing() {
    let mut printer = opened();
    assert!(printer.retained(REPORT, FULL).said.is_empty());
    assert!(printer.message("device/other/report", FULL).said.is_empty());
}

#[test]
fn a_cancelled_job_is_no_fault_even_after_its_dialogue_was_closed() {
    let mut printer = opened();
    printer.message(REPORT, RUNNING);
    let out = printer.message(REPORT, FAILED);
    assert_eq!((text(&out, "execution"), number(&out, "fault.code")), ("ready".into(), 0.0));
    assert_eq!(text(&out, "message"), "cancelled by a person, HMS_0300_0100_0001_0007");
    let closed = r#"{"print":{"command":"push_status","print_error":0}}"#;
    assert_eq!(text(&printer.message(REPORT, closed), "execution"), "ready");
    // Another job that fails by itself is a fault again.
    printer.message(REPORT, RUNNING);
    let failed =
        r#"{"print":{"command":"push_status","gcode_state":"FAILED","print_error":83919124}}"#;
    let out = printer.message(REPORT, failed);
    assert_eq!(text(&out, "execution"), "fault");
    assert!(
        text(&out, "message").starts_with("print error 0500_8114"),
        "{}",
        text(&out, "message")
    );
    assert_eq!(number(&out, "fault.code"), 83_919_124.0);
}

#[test]
fn a_pause_is_accepted_and_read_back_by_the_printers_own_state() {
    let mut printer = opened();
    printer.message(REPORT, RUNNING);
    let sent = published(&printer.hear(Heard::Stop(Stop::Pause)), REQUEST);
    assert!(
        sent[0].contains(r#""print":{"#) && sent[0].contains(r#""command":"pause""#),
        "{sent:?}"
    );
    assert_eq!(printer.message(REPORT, SUCCESS).stop, [StopReply::Accepted]);
    let paused = r#"{"print":{"command":"push_status","gcode_state":"PAUSE","stg_cur":16}}"#;
    let out = printer.message(REPORT, paused);
    assert_eq!(
        (out.stop.as_slice(), text(&out, "execution")),
        (&[StopReply::ReadBack(true)][..], "paused".into())
    );
}

#[test]
fn a_cancel_that_the_printer_ignores_is_read_back_as_not_standing() {
    let mut printer = opened();
    printer.message(REPORT, RUNNING);
    assert!(published(&printer.hear(Heard::Stop(Stop::Cancel)), REQUEST)[0].contains("stop"));
    assert_eq!(printer.message(REPORT, DELTA).stop, []);
    printer.wait(Duration::from_secs(20));
    assert_eq!(printer.hear(Heard::Due).stop, [StopReply::ReadBack(false)]);
}

#[test]
fn firmware_that_wants_signatures_says_so_and_is_offered_no_stop() {
    let mut printer = opened();
    printer.message(REPORT, RUNNING);
    assert_eq!(printer.device.stops(), [Stop::Cancel, Stop::Pause]);
    printer.hear(Heard::Stop(Stop::Cancel));
    let out = printer.message(REPORT, REFUSED);
    let StopReply::Failed(words) = &out.stop[0] else { panic!("{:?}", out.stop) };
    assert!(words.contains("0502_4007") && words.contains("developer mode"), "{words}");

    printer.message(REPORT, r#"{"print":{"command":"push_status","fun":"41A9CFF9BFF"}}"#);
    assert_eq!(printer.device.stops().len(), 2);
    printer.message(REPORT, SIGNED);
    assert!(printer.device.stops().is_empty());
    let out = printer.hear(Heard::Stop(Stop::Cancel));
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("signed")));
    assert!(published(&out, REQUEST).is_empty());
}

#[test]
fn stops_that_it_does_not_know_and_lost_connections_fail_with_words() {
    let mut printer = opened();
    let out = printer.hear(Heard::Stop(Stop::Emergency));
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("cancel")));
    printer.hear(Heard::Stop(Stop::Pause));
    let out = printer.hear(Heard::Closed);
    assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("lost")));
}

#[test]
fn a_chamber_sensor_and_a_door_are_there_when_the_options_say_so() {
    let options = [("chamber", "yes"), ("door", "yes")];
    let mut printer = Trial::of(&PROTOCOL, "01S00C123400001", &options);
    printer.hear(Heard::Opened);
    let out = printer.message(REPORT, FULL);
    assert_eq!((number(&out, "temperature.chamber"), measured(&out, "door")), (24.0, flag(false)));
    let open = r#"{"print":{"command":"push_status","home_flag":8388608}}"#;
    assert_eq!(measured(&printer.message(REPORT, open), "door"), flag(true));
}

#[test]
fn a_serial_number_that_cannot_be_one_is_refused() {
    for topic in ["", "a/b", "#"] {
        let settings = crate::protocol::Settings { topic: topic.to_owned(), ..Default::default() };
        assert!((PROTOCOL.device)(&settings).is_err(), "{topic}");
    }
}

#[test]
fn no_conversation_makes_it_fail() {
    const TEXTS: &[&str] =
        &[FULL, RUNNING, DELTA, VERSION, FAILED, REFUSED, SIGNED, SUCCESS, r#"{"print":[]}"#, "[]"];
    survives_rubbish(opened, &[REPORT, REQUEST], TEXTS);
}

/// The numbers of the published examples, and what a person reads in them.
#[test]
fn temperatures_of_newer_printers_come_with_their_target_and_nozzle_by_nozzle() {
    let mut printer =
        Trial::of(&PROTOCOL, "01S00C123400001", &[("nozzles", "2"), ("chamber", "yes")]);
    printer.hear(Heard::Opened);
    let report = r#"{"print":{"command":"push_status","gcode_state":"RUNNING","nozzle_temper":159,
        "device":{"bed":{"info":{"temp":6553700}},"ctc":{"info":{"temp":43}},"extruder":{"info":[
        {"id":0,"temp":14418140},{"id":1,"temp":5767327},{"id":9,"temp":1},{"temp":2}]}}}}"#;
    printer.message(REPORT, report);
    // The change of "the" nozzle is that of the left one, which is at work.
    let delta = r#"{"print":{"command":"push_status","nozzle_temper":160,
        "device":{"extruder":{"info":[{"id":1,"temp":5767328}]}}}}"#;
    let out = printer.message(REPORT, delta);
    for (item, degrees) in [
        ("temperature.nozzle", 220.0),
        ("temperature.target.nozzle", 220.0),
        ("temperature.nozzle-2", 160.0),
        ("temperature.target.nozzle-2", 88.0),
        ("temperature.bed", 100.0),
        ("temperature.target.bed", 100.0),
        ("temperature.chamber", 43.0),
    ] {
        assert_eq!(number(&out, item), degrees, "{item}");
    }
    let spoilt = r#"{"print":{"command":"push_status","device":{"bed":{"info":{"temp":"warm"}},
        "extruder":{"info":[{"id":0,"temp":null}]}}}}"#;
    let out = printer.message(REPORT, spoilt);
    assert_eq!(measured(&out, "temperature.nozzle"), None);
    assert_eq!(measured(&out, "temperature.target.bed"), None);
    assert_eq!(number(&out, "temperature.nozzle-2"), 160.0);
}

#[test]
fn a_second_nozzle_is_told_only_of_a_printer_that_has_one() {
    let printer = Trial::of(&PROTOCOL, "01S00C123400001", &[]);
    assert!(!printer.device.items().iter().any(|item| item.ends_with("nozzle-2")));
    let three = vec![("nozzles", "3".to_owned())];
    let settings = crate::protocol::Settings {
        topic: "01S00C123400001".to_owned(),
        options: three,
        ..Default::default()
    };
    assert!((PROTOCOL.device)(&settings).is_err());
}
