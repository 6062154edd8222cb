//! A Marlin board as its lines tell of it: reports, halts, cards, stops.

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

/// What OctoPrint's virtual printer answers to M115.
const CAPABLE: &[&str] = &[
    "FIRMWARE_NAME:Virtual Marlin 1.0 PROTOCOL_VERSION:1.0",
    "Cap:AUTOREPORT_TEMP:1",
    "Cap:AUTOREPORT_SD_STATUS:1",
    "Cap:AUTOREPORT_POS:0",
    "Cap:EMERGENCY_PARSER:1",
    "ok",
];
const COLD: &str = "T:21.30/ 0.00 B:21.30/ 0.00 @:64";
const HOT: &str = "T:210.02 /210.00 B:60.01 /60.00 @:64 B@:30";

#[test]
fn every_row_of_the_table() {
    let rows: &[(&[&str], &str)] = &[
        (&["SD printing byte 80/138", "SD printing byte 90/138"], "running"),
        (&["SD printing byte 80/138"], "running"),
        (&["Not SD printing"], "ready"),
        (&[COLD, "Not SD printing"], "ready"),
        (&[HOT, "Not SD printing"], "ready"),
        (&["Not SD printing", "echo:busy: processing"], "preparing"),
        (&["Not SD printing", "echo:busy: paused for user"], "paused"),
        (&["Not SD printing", "echo:busy: paused for input"], "paused"),
        (&["SD printing byte 80/138", "//action:paused"], "paused"),
        (&["SD printing byte 80/138", "// action:pause", "//action:resumed"], "running"),
        (&["SD printing byte 80/138", "Done printing file", "Not SD printing"], "finished"),
        (&["Done printing file", HOT, "Not SD printing"], "ready"),
        (&["Error:Thermal Runaway, system stopped! Heater_ID: bed"], "fault"),
        (&["Error:Heating failed, system stopped! Heater_ID: 0"], "fault"),
        (&["Error:MINTEMP triggered, system stopped! Heater_ID: 0"], "fault"),
        (&["Error:0", "Error: : Extruder switched off. MAXTEMP triggered !"], "fault"),
        (&["Error:Printer stopped due to errors. Fix the error and use M999 to restart."], "fault"),
        (&["Error:Thermal Runaway", "Error:Printer halted. kill() called!"], "fault"),
        (&["Error:Printer halted. kill() called!"], "stopped"),
        (&["!! Printer halted. kill() called!"], "stopped"),
        (&["echo:EMERGENCY SHUTDOWN DETECTED. KILLED."], "stopped"),
        (&["Error:KILL caused by KILL button/pin"], "stopped"),
        (&["Error:Printer halted. kill() called!", "start", "Not SD printing"], "ready"),
    ];
    for (lines, execution) in rows {
        let mut trial = trial(&[]);
        trial.lines(lines);
        assert_eq!(trial.text("execution"), *execution, "{lines:?}");
    }
}

#[test]
fn a_print_that_reads_nothing_is_preparing_while_busy_and_held_when_not() {
    let mut trial = trial(&[]);
    trial.lines(&["SD printing byte 80/138"]);
    trial.due_after(1000);
    trial.lines(&["echo:busy: processing", "SD printing byte 80/138"]);
    assert_eq!(trial.text("execution"), "preparing");
    trial.due_after(1000);
    trial.lines(&["SD printing byte 99/138"]);
    assert_eq!(trial.text("execution"), "running");
    trial.due_after(1000);
    trial.lines(&["T:25.00 E:0 W:?"]);
    assert_eq!(trial.text("execution"), "preparing");
    for _ in 0..30 {
        trial.due_after(4000);
        trial.lines(&["SD printing byte 99/138"]);
    }
    assert_eq!(trial.text("execution"), "paused");
}

#[test]
fn capabilities_are_asked_for_after_the_banner_and_reports_only_when_offered() {
    let mut able = trial(&[]);
    able.lines(&["start", "Marlin: Virtual Marlin!", "SD card ok"]);
    assert_eq!(able.take_sent(), "M115\n");
    able.lines(CAPABLE);
    assert_eq!(able.take_sent(), "M155 S2\n");
    able.lines(&["ok"]);
    assert_eq!(able.take_sent(), "M27 S2\n");
    able.lines(&["Not SD printing", "ok", COLD]);
    able.take_sent();
    able.lines(&["ok"]);
    able.take_sent();
    // As long as it reports, it is left alone; when it does not, it is asked.
    for _ in 0..10 {
        able.due_after(2000);
        able.lines(&[COLD, "Not SD printing"]);
    }
    assert_eq!(able.take_sent(), "");
    able.due_after(7000);
    assert_eq!(able.take_sent(), "M105\n");

    let mut plain = trial(&[]);
    plain.lines(&["start"]);
    plain.lines(&["ok"]);
    assert_eq!(plain.take_sent(), "M115\nM105\n");
    plain.lines(&["ok T:21.30/ 0.00"]);
    assert_eq!(plain.take_sent(), "M27\n");
    plain.lines(&["Not SD printing", "ok"]);
    plain.due_after(2000);
    assert_eq!(plain.take_sent(), "M105\n");
}

#[test]
fn a_board_that_boots_is_left_alone_and_one_that_does_not_is_asked() {
    let mut trial = trial(&[]);
    trial.due_after(0);
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "");
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "M115\n");
}

#[test]
fn one_question_at_a_time_and_a_lost_ok_does_not_block_for_ever() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    for _ in 0..4 {
        trial.due_after(1000);
    }
    assert_eq!(trial.take_sent(), "M115\n");
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "M115\n");
    // It says that it waits, so it has lost the question.
    trial.due_after(1000);
    trial.lines(&["wait"]);
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "M115\n");
    // Busy is no loss.
    for _ in 0..20 {
        trial.lines(&["echo:busy: processing"]);
        trial.due_after(2000);
    }
    assert_eq!(trial.take_sent(), "");
}

#[test]
fn a_resend_is_not_taken_for_an_answer() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.take_sent();
    trial.lines(&["Error:checksum mismatch, Last Line: 7", "Resend: 8", "ok"]);
    assert_eq!(trial.text("execution"), "(refused)");
    assert!(trial.trouble.as_deref().unwrap().contains("Last Line: 7"));
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "M115\n");
    // An `ok` that nobody waits for changes nothing.
    trial.lines(CAPABLE);
    trial.take_sent();
    trial.lines(&["ok", "ok", "ok", "ok", "ok"]);
    assert_eq!(trial.take_sent(), "M27 S2\nM105\nM27\n");
}

#[test]
fn temperatures_of_all_nozzles_and_a_broken_sensor() {
    let mut trial = trial(&[("nozzles", "2"), ("chamber", "true")]);
    trial.lines(&[
        "ok T:21.30/ 0.00 T0:180.00/ 200.00 T1:-14.00/ 0.00 B:60.5 /60.0 C:35.1 /0.0 @:64",
    ]);
    assert_eq!(trial.number("temperature.nozzle"), 180.0);
    assert_eq!(trial.number("temperature.target.nozzle"), 200.0);
    assert_eq!(trial.text("temperature.nozzle-2"), "(sentinel)");
    assert_eq!(
        (trial.number("temperature.bed"), trial.number("temperature.chamber")),
        (60.5, 35.1)
    );
    trial.lines(&["T:nan /0.00 B:99x /60"]);
    assert_eq!(trial.text("temperature.nozzle"), "(garbled)");
    assert_eq!(trial.text("temperature.bed"), "(garbled)");
}

#[test]
fn progress_and_name_belong_to_the_print() {
    let mut trial = trial(&[]);
    trial.lines(&[
        "File opened: benchy.gcode  Size: 138",
        "File selected",
        "SD printing byte 69/138",
    ]);
    assert_eq!((trial.number("progress"), trial.text("job.name")), (0.5, "benchy.gcode".into()));
    trial.lines(&["Done printing file", "Not SD printing"]);
    assert_eq!(trial.text("progress"), "(sentinel)");
    assert_eq!(trial.text("job.name"), "(sentinel)");
    trial.lines(&["SD printing byte 0/0"]);
    assert_eq!(trial.text("progress"), "(sentinel)");
}

#[test]
fn the_name_is_asked_for_once_and_no_name_is_no_trouble() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.lines(&["ok", "ok T:21.0 /0.0", "SD printing byte 1/100", "ok"]);
    trial.take_sent();
    trial.due_after(2000);
    trial.lines(&["ok T:21.0 /0.0", "SD printing byte 2/100", "ok"]);
    assert_eq!(trial.take_sent(), "M105\nM27\nM27 C\n");
    trial.lines(&["Current file: BENCHY~1.GCO benchy.gcode", "ok", "SD printing byte 3/100"]);
    assert_eq!(trial.text("job.name"), "BENCHY~1.GCO benchy.gcode");
}

#[test]
fn words_of_a_fault_are_kept_verbatim_and_held_through_the_silence() {
    let mut trial = trial(&[]);
    trial.lines(&["SD printing byte 69/138"]);
    trial.lines(&["Error:0", "Error: : Extruder switched off. MAXTEMP triggered !"]);
    assert_eq!(trial.text("message"), "0 : Extruder switched off. MAXTEMP triggered !");
    trial.lines(&["Error:Printer halted. kill() called!"]);
    assert_eq!(trial.text("message"), "0 : Extruder switched off. MAXTEMP triggered !");
    trial.take_sent();
    for _ in 0..59 {
        let out = trial.due_after(10_000);
        assert_eq!((trial.text("execution"), out.alive), ("fault".into(), true));
    }
    assert_eq!(trial.take_sent(), "");
    // Asked once more, it does not answer.
    trial.due_after(20_000);
    trial.due_after(1000);
    assert_eq!(trial.text("execution"), "(timeout)");
    // Temperatures alone do not end a fault; a print that goes on does.
    trial.lines(&["ok T:21.0 /0.0", "Not SD printing"]);
    assert_eq!(trial.text("execution"), "fault");
    trial.lines(&["SD printing byte 70/138", "SD printing byte 71/138"]);
    assert_eq!(trial.text("execution"), "running");
}

#[test]
fn silence_is_a_timeout_and_rubbish_is_garbled() {
    let mut trial = trial(&[]);
    trial.due_after(2000);
    trial.due_after(7000);
    assert_eq!(trial.text("execution"), "-");
    trial.due_after(1000);
    assert_eq!(trial.text("temperature.nozzle"), "(timeout)");
    trial.hear(Heard::Bytes(b"\xf8\x80\x00~~~\r\n"));
    let out = trial.due_after(1000);
    assert!(!out.alive);
    assert_eq!(trial.text("execution"), "(garbled)");
    trial.lines(&[COLD, "Not SD printing"]);
    assert_eq!(trial.text("execution"), "ready");
}

#[test]
fn a_period_longer_than_the_patience_is_no_silence() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.lines(&["ok", "ok T:21.0 /0.0", "Not SD printing", "ok"]);
    for _ in 0..5 {
        let out = trial.due_after(30_000);
        assert_eq!((out.trouble, trial.text("execution")), (None, "ready".into()));
        trial.lines(&["ok T:21.0 /0.0", "Not SD printing", "ok"]);
    }
    trial.due_after(30_000);
    trial.due_after(30_000);
    assert_eq!(trial.text("execution"), "(timeout)");
}

#[test]
fn without_a_card_a_cold_printer_rests_and_a_hot_one_is_unknown() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.lines(&["ok", "ok T:21.0 /0.0", "echo:Unknown command: \"M27\"", "ok"]);
    trial.due_after(2000);
    trial.lines(&["ok T:21.0 /0.0"]);
    assert_eq!(trial.text("execution"), "ready");
    trial.lines(&["T:90.0 /200.0"]);
    assert_eq!(trial.text("execution"), "(garbled)");
    trial.lines(&["T:90.0 /200.0 E:0 W:?"]);
    assert_eq!(trial.text("execution"), "preparing");
}

#[test]
fn an_emergency_goes_out_at_once_and_stands_when_the_firmware_has_halted() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.lines(CAPABLE);
    trial.take_sent();
    let out = trial.hear(Heard::Stop(Stop::Emergency));
    assert_eq!((trial.take_sent(), out.trouble), ("M112\n".into(), None));
    trial.lines(&["Error:Printer halted. kill() called!"]);
    assert_eq!(trial.stop, [StopReply::ReadBack(true)]);

    let mut old = Trial::opened(make(&Settings::default()).unwrap());
    let out = old.hear(Heard::Stop(Stop::Emergency));
    assert!(out.trouble.unwrap().contains("EMERGENCY_PARSER"));
    old.due_after(10_000);
    assert!(matches!(old.stop[..], [StopReply::Failed(_)]));
}

#[test]
fn a_cancel_is_read_back_from_the_card() {
    let mut trial = trial(&[]);
    trial.lines(&["start"]);
    trial.lines(&["ok", "ok T:21.0 /0.0", "SD printing byte 1/100", "ok"]);
    trial.take_sent();
    trial.hear(Heard::Stop(Stop::Cancel));
    assert_eq!(trial.take_sent(), "M524\n");
    trial.lines(&["ok"]);
    assert_eq!(trial.take_sent(), "M27\n");
    trial.lines(&["Not SD printing", "ok"]);
    assert_eq!(trial.stop, [StopReply::Accepted, StopReply::ReadBack(true)]);
    // There is nothing more to cancel, and a streamed print would not be.
    trial.hear(Heard::Stop(Stop::Cancel));
    assert_eq!(trial.take_sent(), "");
    assert!(matches!(trial.stop.last(), Some(StopReply::Failed(_))));

    trial.lines(&["SD printing byte 1/100"]);
    trial.hear(Heard::Stop(Stop::Cancel));
    trial.lines(&["ok", "SD printing byte 2/100", "ok"]);
    trial.due_after(10_000);
    assert_eq!(trial.stop.last(), Some(&StopReply::ReadBack(false)));
}

#[test]
fn options_are_checked_and_items_are_on_the_list() {
    let device = make(&settings(&[("nozzles", "8"), ("chamber", "true")])).unwrap();
    assert_eq!(offered(&*device).len(), 5 + 20);
    for wrong in ["0", "9", "two", ""] {
        assert!(make(&settings(&[("nozzles", wrong)])).is_err());
    }
    closing_makes_all_unavailable(&mut trial(&[]));
}

const DIALECT: &[&str] = &[
    "start",
    "ok",
    "wait",
    COLD,
    HOT,
    "ok T:21.30/ 0.00 T0:1/ 2 T1:-14.00/ 0.00",
    "Not SD printing",
    "SD printing byte 80/138",
    "SD printing byte 90/138",
    "SD printing byte 9/0",
    "Done printing file",
    "echo:busy: processing",
    "echo:busy: paused for user",
    "//action:paused",
    "//action:resumed",
    "//action:notification hello",
    "Cap:AUTOREPORT_TEMP:1",
    "Cap:AUTOREPORT_SD_STATUS:1",
    "Error:0",
    "Error: : Extruder switched off. MAXTEMP triggered !",
    "Error:Printer halted. kill() called!",
    "Error:checksum mismatch, Last Line: 7",
    "Resend: 8",
    "Current file: a.gco",
    "T:25.00 E:0 W:?",
    "File opened: benchy.gcode  Size: 138",
    "echo:Unknown command: \"M27\"",
    "FIRMWARE_NAME:x",
];

proptest! {
    #[test]
    fn any_sounds_in_any_portions_say_the_same(sounds in sounds(DIALECT)) {
        let make = || make(&settings(&[("nozzles", "2"), ("chamber", "true")])).unwrap();
        same_in_any_portions(make, &sounds);
    }

    #[test]
    fn nothing_is_ever_sent_but_questions_and_stops(sounds in sounds(DIALECT)) {
        let mut trial = trial(&[]);
        trial.hear_all(&sounds);
        let known = ["M115", "M155 S2", "M27 S2", "M27", "M27 C", "M105", "M112", "M524"];
        prop_assert!(trial.take_sent().lines().all(|line| known.contains(&line)));
    }
}
