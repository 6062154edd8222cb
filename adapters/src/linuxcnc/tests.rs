//! LinuxCNC as its remote shell tells of it; the replies are those of a real one.

use proptest::prelude::*;

use super::*;
use crate::trial::{Trial, closing_makes_all_unavailable, offered, same_in_any_portions, sounds};

fn settings(options: &[(&'static str, &str)]) -> Settings {
    let options = options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Settings { options, ..Settings::default() }
}

fn trial(options: &[(&'static str, &str)]) -> Trial {
    Trial::opened(make(&settings(options)).unwrap())
}

/// What LinuxCNC 2.9 (Debian's 2.9.0~pre1) answered, byte for byte, its two kinds of line ends
/// included: first to the greeting, then to one round in each situation.
const GREETING: &[u8] =
    b"HELLO ACK EMCNETSVR 1.1\r\nset echo off\r\nSET VERBOSE ACK\n\rUSER_LINEAR_UNITS MM\r\n";
const AFTER_START: &[u8] = b"ESTOP ON\r\nMACHINE OFF\r\nMODE MANUAL\r\nPROGRAM_STATUS IDLE\r\nPROGRAM NONE\r\nFEED_OVERRIDE 100\r\nABS_ACT_POS 0.000000 0.000000 0.000000 0.000000 0.000000 0.000000\r\nTOOL 0\r\nJOINT_FAULT OK OK OK OK OK OK\r\n";
const RUNNING: &[u8] = b"ESTOP OFF\r\nMACHINE ON\r\nMODE AUTO\r\nPROGRAM_STATUS RUNNING\r\nPROGRAM /tmp/lines/prog.ngc\r\nFEED_OVERRIDE 100\r\nABS_ACT_POS 9.350000 0.000000 0.000000 0.000000 0.000000 0.000000\r\nTOOL 0\r\nJOINT_FAULT OK OK OK OK OK OK\r\n";

fn greeted(options: &[(&'static str, &str)]) -> Trial {
    let mut trial = trial(options);
    trial.hear(Heard::Bytes(GREETING));
    trial.due_after(1000);
    trial.take_sent();
    trial
}

fn round(estop: &str, machine: &str, status: &str, joints: &str) -> String {
    format!(
        "ESTOP {estop}\r\nMACHINE {machine}\r\nPROGRAM_STATUS {status}\r\nJOINT_FAULT {joints}\r\n"
    )
}

#[test]
fn every_row_of_the_table() {
    let rows = [
        ("ON", "OFF", "IDLE", "OK OK OK", "stopped"),
        ("ON", "OFF", "RUNNING", "OK FAULT OK", "stopped"),
        ("OFF", "OFF", "IDLE", "OK FAULT OK", "fault"),
        ("OFF", "OFF", "IDLE", "OK OK OK", "off"),
        ("OFF", "ON", "PAUSED", "OK OK OK", "paused"),
        ("OFF", "ON", "RUNNING", "OK OK OK", "running"),
        ("OFF", "ON", "IDLE", "OK OK OK", "ready"),
        ("OFF", "ON", "WAITING", "OK OK OK", "(garbled)"),
        ("OFF", "PERHAPS", "IDLE", "OK OK OK", "(garbled)"),
        ("", "ON", "IDLE", "OK OK OK", "(garbled)"),
    ];
    for (estop, machine, status, joints, execution) in rows {
        let mut trial = greeted(&[]);
        trial.hear(Heard::Bytes(round(estop, machine, status, joints).as_bytes()));
        assert_eq!(trial.text("execution"), execution, "{estop} {machine} {status} {joints}");
    }
}

#[test]
fn recorded_answers_are_understood() {
    let mut trial = trial(&[]);
    assert_eq!(
        trial.take_sent(),
        "hello EMC andon 1\r\nset echo off\r\nset verbose on\r\nget user_linear_units\r\n"
    );
    trial.hear(Heard::Bytes(GREETING));
    trial.due_after(1000);
    trial.hear(Heard::Bytes(AFTER_START));
    assert_eq!(
        (trial.text("execution"), trial.text("controller.state")),
        ("stopped".into(), "ESTOP ON".into())
    );
    assert_eq!((trial.text("job.name"), trial.number("override.feed")), ("(sentinel)".into(), 1.0));
    trial.due_after(1000);
    trial.hear(Heard::Bytes(RUNNING));
    assert_eq!(
        (trial.text("execution"), trial.text("controller.mode")),
        ("running".into(), "AUTO".into())
    );
    assert_eq!((trial.number("position.x"), trial.text("job.name")), (9.35, "prog.ngc".into()));
}

#[test]
fn nothing_that_crashes_the_shell_or_robs_the_operator_is_asked() {
    let mut trial = trial(&[]);
    trial.hear(Heard::Bytes(GREETING));
    trial.due_after(1000);
    let sent = trial.take_sent();
    assert!(sent.contains("get estop\r\n") && sent.ends_with("get joint_fault\r\n"));
    assert!(!sent.contains("spindle") && !sent.contains("get error"), "{sent}");
    let mut asked = greeted(&[("errors", "true")]);
    asked.lines(&["ERROR G38.2 move finished without making contact."]);
    assert_eq!(asked.text("message"), "G38.2 move finished without making contact.");
    asked.lines(&["ERROR OK"]);
    assert_eq!(asked.text("message"), "");
}

#[test]
fn positions_are_millimetres_once_the_units_are_known() {
    let mut trial = trial(&[("axes", "xza")]);
    trial.lines(&["HELLO ACK EMCNETSVR 1.1", "ABS_ACT_POS 1.5 0 2 90 0 0"]);
    assert_eq!((trial.text("position.x"), trial.number("position.a")), ("(not_yet)".into(), 90.0));
    trial.lines(&["USER_LINEAR_UNITS INCH", "ABS_ACT_POS 1.0 0 2"]);
    assert_eq!((trial.number("position.x"), trial.number("position.z")), (25.4, 50.8));
    assert_eq!(trial.text("position.a"), "(sentinel)");
    trial.lines(&["USER_LINEAR_UNITS CUSTOM", "ABS_ACT_POS 1.5 0 2 x"]);
    assert_eq!(
        (trial.text("position.x"), trial.text("position.a")),
        ("(sentinel)".into(), "(garbled)".into())
    );
}

#[test]
fn a_read_that_is_refused_costs_only_its_item() {
    let mut trial = greeted(&[]);
    trial.lines(&[
        "ESTOP OFF",
        "MACHINE ON",
        "PROGRAM_STATUS IDLE",
        "GET TOOL NAK",
        "",
        "GET JOINT_FAULT NAK",
        "",
    ]);
    assert_eq!((trial.text("tool"), trial.text("execution")), ("(refused)".into(), "ready".into()));
    trial.due_after(1000);
    trial.lines(&["ESTOP OFF", "GET MACHINE NAK", "PROGRAM_STATUS IDLE", "JOINT_FAULT OK"]);
    assert_eq!(trial.text("execution"), "(garbled)");
}

#[test]
fn a_wrong_password_is_said() {
    let mut trial = trial(&[("connect_password", "wrong")]);
    let out = trial.lines(&["HELLO NAK"]);
    assert_eq!(trial.text("execution"), "(refused)");
    assert_eq!(out.trouble.unwrap(), "the connect password is not accepted");
    trial.take_sent();
    trial.due_after(3000);
    assert!(trial.take_sent().starts_with("hello wrong "));
}

#[test]
fn no_answer_is_a_timeout_and_rubbish_is_garbled() {
    let mut trial = greeted(&[]);
    trial.due_after(1000);
    assert_eq!((trial.take_sent(), trial.text("execution")), (String::new(), "-".into()));
    trial.due_after(2000);
    assert_eq!(trial.text("position.x"), "(timeout)");
    trial.lines(&["220 ready for mail"]);
    let out = trial.due_after(3000);
    assert_eq!(out.trouble.unwrap(), "no answer, but \"220 ready for mail\"");
    assert_eq!(trial.text("position.x"), "(garbled)");
    trial.hear(Heard::Bytes(RUNNING));
    assert_eq!(trial.text("execution"), "running");
}

#[test]
fn an_emergency_is_read_back_by_answers_younger_than_itself() {
    let mut trial = greeted(&[("password", "let-me")]);
    trial.hear(Heard::Stop(Stop::Emergency));
    assert_eq!(
        trial.take_sent(),
        "set enable let-me\r\nset estop on\r\nset enable off\r\nget estop\r\n"
    );
    // The round that was under way.
    trial.lines(&["ESTOP ON"]);
    assert_eq!(trial.stop, []);
    // LinuxCNC 2.9 acknowledges before it is so: its first answer is still the old one.
    trial.hear(Heard::Bytes(b"SET ENABLE ACK\n\rSET ESTOP ACK\n\rSET ENABLE ACK\n\rESTOP OFF\r\n"));
    assert_eq!(trial.stop, [StopReply::Accepted]);
    trial.due_after(1000);
    trial.hear(Heard::Bytes(AFTER_START));
    assert_eq!(trial.stop, [StopReply::Accepted, StopReply::ReadBack(true)]);
}

#[test]
fn a_stop_that_is_refused_or_has_no_effect_says_so() {
    let mut trial = greeted(&[]);
    trial.hear(Heard::Stop(Stop::Cancel));
    trial.hear(Heard::Bytes(
        b"SET ENABLE NAK\n\rSET ABORT NAK\n\rSET ENABLE NAK\n\rPROGRAM_STATUS RUNNING\r\n",
    ));
    assert_eq!(trial.stop, [StopReply::Failed("the control password is not accepted".into())]);
    trial.hear(Heard::Stop(Stop::Pause));
    trial.hear(Heard::Bytes(b"SET ENABLE ACK\n\rSET PAUSE ACK\n\rPROGRAM_STATUS RUNNING\r\n"));
    trial.due_after(5000);
    assert_eq!(trial.stop[1..], [StopReply::Accepted, StopReply::ReadBack(false)]);
    trial.hear(Heard::Stop(Stop::Cancel));
    trial.hear(Heard::Bytes(b"SET ENABLE ACK\n\rSET ABORT ACK\n\rPROGRAM_STATUS IDLE\r\n"));
    assert_eq!(trial.stop.last(), Some(&StopReply::ReadBack(true)));
    trial.hear(Heard::Stop(Stop::Emergency));
    trial.hear(Heard::Closed);
    assert!(matches!(trial.stop.last(), Some(StopReply::Failed(_))));
}

#[test]
fn options_are_checked_and_items_are_on_the_list() {
    let device = make(&settings(&[("axes", "xyzabc"), ("errors", "true")])).unwrap();
    assert_eq!(offered(&*device).len(), 7 + 6);
    for wrong in ["", "two words", "a\r\nset machine off"] {
        assert!(make(&settings(&[("password", wrong)])).is_err());
        assert!(make(&settings(&[("connect_password", wrong)])).is_err());
    }
    assert!(make(&settings(&[("axes", "xx")])).is_err());
    closing_makes_all_unavailable(&mut greeted(&[]));
}

const DIALECT: &[&str] = &[
    "HELLO ACK EMCNETSVR 1.1",
    "HELLO NAK",
    "set echo off",
    "SET VERBOSE ACK",
    "USER_LINEAR_UNITS MM",
    "ESTOP ON",
    "ESTOP OFF",
    "MACHINE ON",
    "MACHINE OFF",
    "MODE AUTO",
    "PROGRAM_STATUS RUNNING",
    "PROGRAM_STATUS IDLE",
    "PROGRAM /tmp/lines/prog.ngc",
    "PROGRAM NONE",
    "FEED_OVERRIDE 100",
    "TOOL 0",
    "ABS_ACT_POS 9.350000 0.000000 0.000000 0.000000 0.000000 0.000000",
    "JOINT_FAULT OK OK OK OK",
    "JOINT_FAULT OK FAULT",
    "ERROR OK",
    "GET BOGUS NAK",
    "GET ABS_ACT_POS NAK",
    "SET ESTOP ACK",
    "SET ENABLE NAK",
    "SET ABORT ACK",
];

proptest! {
    #[test]
    fn any_sounds_in_any_portions_say_the_same(sounds in sounds(DIALECT)) {
        let make = || make(&settings(&[("axes", "xyzabc"), ("errors", "true")])).unwrap();
        same_in_any_portions(make, &sounds);
    }

    #[test]
    fn nothing_is_ever_sent_but_reads_and_stops(sounds in sounds(DIALECT)) {
        let mut trial = trial(&[]);
        trial.hear_all(&sounds);
        let sets = ["set echo off", "set verbose on", "set enable EMCTOO", "set enable off",
            "set estop on", "set abort", "set pause", "hello EMC andon 1"];
        let sent = trial.take_sent();
        prop_assert!(sent.lines().all(|line| line.starts_with("get ") || sets.contains(&line)));
    }
}
