//! A Haas control as its replies to Q codes tell of it, beside those of other clients.

use proptest::prelude::*;

use super::*;
use crate::device::StopReply;
use crate::trial::{Trial, closing_makes_all_unavailable, offered, same_in_any_portions, sounds};

fn trial() -> Trial {
    Trial::opened(make(&Settings::default()).unwrap())
}

fn greeted() -> Trial {
    let mut trial = trial();
    trial.lines(&[">SERIAL NUMBER, 1234567"]);
    trial
}

#[test]
fn every_row_of_the_table() {
    let rows = [
        (">PROGRAM, O01234, IDLE, PARTS, 4380", "ready"),
        ("PROGRAM, MDI, FEED HOLD, PARTS, 380", "paused"),
        (">PROGRAM, O01234, ALARM ON, PARTS, 4380", "fault"),
        (">STATUS, BUSY", "running"),
        (">STATUS BUSY", "running"),
        (">STATUS, WARMING", "(garbled)"),
        (">PROGRAM, O01234, OFF, PARTS, 4380", "(garbled)"),
    ];
    for (line, execution) in rows {
        let mut trial = greeted();
        trial.lines(&[line]);
        assert_eq!(trial.text("execution"), execution, "{line}");
    }
}

#[test]
fn a_round_asks_one_thing_after_the_other() {
    let mut trial = trial();
    assert_eq!(trial.take_sent(), "?Q100\r\n");
    let answers = [
        ("\u{2}SERIAL NUMBER, 1234567\u{17}", "?Q500\r\n"),
        (">\u{2}PROGRAM, O01234, IDLE, PARTS, 380\u{17}", "?Q104\r\n"),
        (">\u{2}MODE, (MDI)\u{17}", "?Q600 3027\r\n"),
        (">\u{2}MACRO, 3027, 6000.000000\u{17}", "?Q402\r\n"),
        (">\u{2}M30 #1, 381\u{17}", "?Q201\r\n"),
        (">\u{2}USING TOOL, 5\u{17}", "?Q300\r\n"),
        (">\u{2}P.O. TIME, 06282:17:13\u{17}", "?Q301\r\n"),
        (">\u{2}C.S. TIME, 00098:18:29\u{17}", ""),
    ];
    for (answer, next) in answers {
        assert!(trial.lines(&[answer]).alive, "{answer}");
        assert_eq!(trial.take_sent(), next, "after {answer}");
    }
    assert_eq!(
        (trial.text("job.name"), trial.text("controller.mode")),
        ("O01234".into(), "(MDI)".into())
    );
    assert_eq!((trial.number("speed.spindle"), trial.number("parts")), (6000.0, 381.0));
    assert_eq!((trial.number("tool"), trial.number("hours.on")), (5.0, 22_616_233.0));
    assert_eq!(trial.number("hours.run"), 353_909.0);
    trial.due_after(1000);
    for (answer, _) in &answers[1..4] {
        trial.lines(&[answer]);
    }
    assert_eq!(trial.take_sent(), "?Q500\r\n?Q104\r\n?Q600 3027\r\n?Q402\r\n");
}

#[test]
fn the_first_question_is_asked_again() {
    let mut trial = trial();
    trial.take_sent();
    trial.due_after(1000);
    assert_eq!(trial.take_sent(), "?Q100\r\n");
    trial.lines(&[">SERIAL NUMBER, 1234567", ">SERIAL NUMBER, 1234567"]);
    assert_eq!(trial.take_sent(), "?Q500\r\n");
}

#[test]
fn answers_to_others_are_taken_for_what_they_say_and_lines_of_programs_passed_over() {
    let mut trial = greeted();
    trial.take_sent();
    trial.lines(&[
        ">MODE, (JOG)",
        ">SOFTWARE VERSION, 100.16.000.1031",
        "X POS 12.5",
        ">MACRO, 5041, 1.5",
    ]);
    assert_eq!(
        (trial.text("controller.mode"), trial.text("speed.spindle")),
        ("(JOG)".into(), "-".into())
    );
    assert_eq!(trial.take_sent(), "");
    // A macro without its number could be anybody's while nobody here asked for one.
    trial.lines(&[">MACRO, 77.0"]);
    assert_eq!(trial.text("speed.spindle"), "-");
    trial.lines(&[">STATUS, BUSY", ">MODE, MEM", ">MACRO, 8000.0"]);
    assert_eq!(
        (trial.text("execution"), trial.number("speed.spindle")),
        ("running".into(), 8000.0)
    );
}

#[test]
fn old_controls_are_asked_without_a_question_mark() {
    let options = vec![("question_mark", "false".to_owned())];
    let mut trial = Trial::opened(make(&Settings { options, ..Settings::default() }).unwrap());
    // What it echoes is no rubbish.
    trial.lines(&["Q100", ">SERIAL NUMBER, 1234567"]);
    assert_eq!(trial.take_sent(), "Q100\r\nQ500\r\n");
}

#[test]
fn while_busy_the_program_is_not_told() {
    let mut trial = greeted();
    trial.lines(&[">PROGRAM, A, B, O5, IDLE, PARTS, 1"]);
    assert_eq!(trial.text("job.name"), "A, B, O5");
    let out = trial.lines(&[">STATUS, BUSY"]);
    assert!(!out.said.iter().any(|(item, _)| &**item == "job.name"));
}

#[test]
fn flow_control_and_brackets_around_and_within_an_answer_are_no_part_of_it() {
    for line in [
        "\u{11}>\u{2}PROGRAM, O5, IDLE, PARTS, 4380\u{17}\u{13}",
        "\u{2}\u{13}PROGRAM, O\u{11}5, ID\u{13}\u{11}LE, PARTS, 43\u{13}80\u{11}",
        "\0\0\u{2}PROGRAM, O5, IDLE, PARTS, 4380\u{17}\0",
    ] {
        let mut trial = greeted();
        trial.lines(&[line]);
        let told = (trial.text("execution"), trial.text("job.name"));
        assert_eq!(told, ("ready".into(), "O5".into()), "{line:?}");
        assert!(trial.take_sent().ends_with("?Q104\r\n"), "{line:?}");
    }
}

#[test]
fn a_digit_that_was_damaged_on_its_way_makes_no_other_number() {
    let mut trial = greeted();
    trial.lines(&[">PROGRAM, O5, IDLE, PARTS, 1", ">MODE, MEM", ">MACRO, 3027, 1.0"]);
    trial.lines(&["\u{2}M30 #1, 4\u{0}80\u{17}"]);
    assert_eq!(trial.text("parts"), "-");
    trial.due_after(3000);
    assert_eq!(trial.text("parts"), "(garbled)");
}

#[test]
fn numbers_that_are_none_are_garbled() {
    let mut trial = greeted();
    trial.lines(&[
        ">M30 #1, many",
        ">P.O. TIME, 1:60:00",
        ">C.S. TIME, 12",
        ">USING TOOL, -1",
        ">MACRO, 3027, nan",
    ]);
    for item in ["parts", "hours.on", "hours.run", "tool", "speed.spindle"] {
        assert_eq!(trial.text(item), "(garbled)", "{item}");
    }
}

#[test]
fn no_answer_is_a_timeout_and_rubbish_is_garbled() {
    let mut trial = greeted();
    trial.due_after(1000);
    trial.due_after(2000);
    assert_eq!(trial.text("parts"), "(timeout)");
    assert_eq!(trial.trouble.as_deref(), Some("the control does not answer ?Q"));
    trial.lines(&["HTTP/1.1 400 Bad Request"]);
    trial.due_after(3000);
    assert_eq!(trial.text("execution"), "(garbled)");
    trial.lines(&[">SERIAL NUMBER, 1234567", ">PROGRAM, MDI, IDLE, PARTS, 1"]);
    assert_eq!(trial.text("execution"), "ready");
    // One query that this control does not know costs its own item and not the others.
    trial.due_after(3000);
    assert_eq!(
        (trial.text("controller.mode"), trial.text("execution")),
        ("(timeout)".into(), "ready".into())
    );
    assert!(trial.take_sent().ends_with("?Q600 3027\r\n"));
}

#[test]
fn nothing_can_be_stopped_and_items_are_on_the_list() {
    let mut trial = greeted();
    assert!(trial.device.stops().is_empty());
    trial.take_sent();
    trial.hear(Heard::Stop(Stop::Emergency));
    assert!(matches!(trial.stop[..], [StopReply::Failed(_)]) && trial.take_sent().is_empty());
    assert_eq!(offered(&*trial.device).len(), 9);
    closing_makes_all_unavailable(&mut trial);
}

const DIALECT: &[&str] = &[
    ">SERIAL NUMBER, 1234567",
    ">PROGRAM, O01234, IDLE, PARTS, 4380",
    "PROGRAM, MDI, FEED HOLD, PARTS, 1",
    ">STATUS, BUSY",
    ">STATUS BUSY",
    ">MODE, (MDI)",
    ">MACRO, 3027, 6000.0",
    ">MACRO, 7.5",
    ">M30 #1, 381",
    ">USING TOOL, 5",
    ">P.O. TIME, 06282:17:13",
    ">C.S. TIME, 00098:18:29",
    "X POS 12.5",
    ">",
    ">PROGRAM, PARTS, 1",
];

proptest! {
    #[test]
    fn any_sounds_in_any_portions_say_the_same(sounds in sounds(DIALECT)) {
        same_in_any_portions(|| make(&Settings::default()).unwrap(), &sounds);
    }

    #[test]
    fn nothing_is_ever_sent_but_queries(sounds in sounds(DIALECT)) {
        let mut trial = trial();
        trial.hear_all(&sounds);
        prop_assert!(trial.take_sent().lines().all(|line| line.starts_with("?Q")));
    }
}
