//! A GRBL, grblHAL or FluidNC as its lines tell of it: words, flavours, meant silences, stops.

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

fn flavoured(flavour: &str) -> Trial {
    trial(&[("flavour", flavour)])
}

/// Lines that the GRBL and grblHAL simulators printed.
const GRBL_IDLE: &str = "<Idle|MPos:0.000,0.000,0.000|FS:0,0|Pn:PXYZRHS|WCO:0.000,0.000,0.000>";
const GRBL_HOLD: &str = "<Hold:1|MPos:1.224,0.000,0.000|FS:0,0|Pn:PXYZRHS>";
const HAL_FULL: &str = "<Idle|MPos:0.000,0.000,0.000|Bf:100,1023|FS:0,0|WCO:0.000,0.000,0.000|\
    WCS:G54|Ov:100,100,100|A:|Sc:|MPG:0|H:0|T:0|P:0|TLR:0|FW:grblHAL>";

#[test]
fn every_row_of_the_table() {
    let rows: &[(&str, &[&str], &str)] = &[
        ("grbl", &["<Idle|MPos:0,0,0>"], "ready"),
        ("grbl", &["[MSG:Pgm End]", "<Idle|MPos:0,0,0>"], "finished"),
        ("grbl", &["[MSG:Pgm End]", "<Jog|MPos:0,0,0>", "<Idle|MPos:0,0,0>"], "ready"),
        ("grbl", &["<Run|MPos:0,0,0>"], "running"),
        ("grblhal", &["<Run:1|MPos:0,0,0>"], "running"),
        ("grbl", &["<Jog|MPos:0,0,0>"], "running"),
        ("grblhal", &["<Run:2|MPos:0,0,0>"], "preparing"),
        ("grbl", &["<Home|MPos:0,0,0>"], "preparing"),
        ("fluidnc", &["<Starting|MPos:0,0,0>"], "preparing"),
        ("grbl", &["<Hold:0|MPos:0,0,0>"], "paused"),
        ("grbl", &["<Hold:1|MPos:0,0,0>"], "paused"),
        ("grbl", &["<Door:0|MPos:0,0,0>"], "paused"),
        ("grblhal", &["<Door:4|MPos:0,0,0>"], "paused"),
        ("grblhal", &["<Tool|MPos:0,0,0>"], "paused"),
        ("grbl", &["<Check|MPos:0,0,0>"], "ready"),
        ("grbl", &["<Sleep|MPos:0,0,0>"], "off"),
        ("grbl", &["<Alarm|MPos:0,0,0>"], "fault"),
        ("grbl", &["ALARM:1"], "fault"),
        ("grbl", &["ALARM:10", "<Alarm|MPos:0,0,0>"], "fault"),
        ("grblhal", &["<Alarm:10|MPos:0,0,0>"], "stopped"),
        ("fluidnc", &["ALARM:13"], "stopped"),
        ("fluidnc", &["ALARM:10"], "fault"),
        ("grblhal", &["<Alarm:13|MPos:0,0,0>"], "fault"),
        ("grbl", &["<Alarm|MPos:0,0,0|Pn:R>"], "stopped"),
        ("grblhal", &["<Idle|MPos:0,0,0|Pn:E>"], "stopped"),
        ("grbl", &["[MSG:'$H'|'$X' to unlock]", "<Alarm|MPos:0,0,0>"], "ready"),
        ("grbl", &["ALARM:2", "[MSG:'$H'|'$X' to unlock]", "<Alarm|MPos:0,0,0>"], "fault"),
        ("grblhal", &["ALARM:11", "<Alarm|MPos:0,0,0>"], "ready"),
        ("fluidnc", &["ALARM:14", "<Alarm|MPos:0,0,0>"], "ready"),
        ("grbl", &["ALARM:14", "<Alarm|MPos:0,0,0>"], "fault"),
        ("grbl", &["<Idlm|MPos:0,0,0>"], "(garbled)"),
        ("grbl", &["<|MPos:0,0,0>"], "(garbled)"),
    ];
    for (flavour, lines, execution) in rows {
        let mut trial = flavoured(flavour);
        trial.lines(lines);
        assert_eq!(trial.text("execution"), *execution, "{flavour} {lines:?}");
    }
}

#[test]
fn reports_of_the_simulators_are_understood() {
    let mut trial = trial(&[("pins", "PD")]);
    trial.lines(&[GRBL_IDLE]);
    assert_eq!((trial.text("execution"), trial.text("input.1")), ("ready".into(), "on".into()));
    assert_eq!((trial.text("door"), trial.text("input.2")), ("off".into(), "off".into()));
    trial.lines(&[GRBL_HOLD]);
    assert_eq!(trial.number("position.x"), 1.224);
    assert_eq!(trial.text("controller.state"), "Hold:1");
    trial.lines(&[HAL_FULL]);
    assert_eq!((trial.number("override.feed"), trial.number("speed.spindle")), (1.0, 0.0));
    assert_eq!(trial.text("controller.mode"), "(sentinel)");
    // FW: gave the flavour away, so alarm 10 is the emergency stop.
    trial.lines(&["ALARM:10"]);
    assert_eq!(trial.text("execution"), "stopped");
    assert_eq!(trial.text("message"), "ALARM:10 emergency stop");
}

#[test]
fn unknown_and_empty_fields_are_passed_over_and_a_bad_number_spoils_only_itself() {
    let mut trial = trial(&[]);
    trial.lines(&["<Run|Zz:1,2|SD:12.5,/a.nc|MPos:1.5,nan,-3.25|A:|Ln:99|:|FS:,12000|Bf:15,128>"]);
    assert_eq!((trial.number("position.x"), trial.number("position.z")), (1.5, -3.25));
    assert_eq!(
        (trial.text("position.y"), trial.text("feed")),
        ("(garbled)".into(), "(garbled)".into())
    );
    assert_eq!(trial.number("speed.spindle"), 12000.0);
    trial.lines(&["<Run|MPos:1.5,2>"]);
    assert_eq!(trial.text("position.z"), "(sentinel)");
}

#[test]
fn a_work_position_waits_for_the_offset_and_then_uses_it() {
    let mut trial = trial(&[]);
    trial.lines(&["<Idle|WPos:1.000,2.000,3.000|FS:0,0>"]);
    assert_eq!(trial.text("position.x"), "(not_yet)");
    trial.lines(&["<Idle|WPos:1.000,2.000,3.000|FS:0,0|WCO:10.000,20.000,-30.000>"]);
    trial.lines(&["<Idle|WPos:1.000,2.000,3.000|FS:0,0>"]);
    assert_eq!((trial.number("position.x"), trial.number("position.z")), (11.0, -27.0));
    trial.lines(&["", "Grbl 1.1h ['$' for help]", "<Idle|WPos:1.000,2.000,3.000|FS:0,0>"]);
    assert_eq!(trial.text("position.x"), "(not_yet)");
}

#[test]
fn overrides_and_direction_hold_until_the_next_report_that_has_them() {
    let mut trial = trial(&[]);
    trial.lines(&["<Run|MPos:0,0,0|FS:500,8000|Ov:150,100,80|A:CF>"]);
    let out = trial.lines(&["<Run|MPos:0,0,0|FS:500,8000>"]);
    assert!(out.said.iter().any(|(item, _)| &**item == "override.feed"));
    assert_eq!((trial.number("override.feed"), trial.number("override.spindle")), (1.5, 0.8));
    assert_eq!((trial.number("feed"), trial.number("speed.spindle")), (500.0, -8000.0));
    // Overrides without accessories: nothing turns counterclockwise any more.
    trial.lines(&["<Run|MPos:0,0,0|FS:500,8000|Ov:100,100,100>"]);
    assert_eq!(trial.number("speed.spindle"), 8000.0);
}

#[test]
fn inches_become_millimetres_but_degrees_stay() {
    let mut trial = trial(&[("inches", "true"), ("axes", "xa")]);
    trial.lines(&["<Run|MPos:1.0000,0,0,90.000|F:10>"]);
    assert_eq!((trial.number("position.x"), trial.number("position.a")), (25.4, 90.0));
    assert_eq!(trial.number("feed"), 254.0);
}

#[test]
fn idle_in_a_dwell_is_told_as_the_firmware_tells_it() {
    // What G4 P2 between two moves looks like: the hold-off against it is the configuration's.
    let mut trial = trial(&[]);
    let words = ["Run", "Idle", "Idle", "Run"].map(|word| {
        trial.lines(&[&format!("<{word}|MPos:1,1,1|FS:0,0>")]);
        trial.text("execution")
    });
    assert_eq!(words, ["running", "ready", "ready", "running"]);
}

#[test]
fn silence_during_homing_is_homing_for_two_minutes() {
    let mut trial = trial(&[]);
    trial.due_after(0);
    trial.lines(&["<Home|MPos:0,0,0>"]);
    for second in 1..=118 {
        let out = trial.due_after(1000);
        assert_eq!(out.trouble, None);
        assert!(out.alive || second < 3, "it is no loss");
        assert_eq!(trial.text("execution"), "preparing");
    }
    let out = trial.due_after(2000);
    assert_eq!(trial.text("execution"), "(timeout)");
    assert_eq!(out.trouble.unwrap(), "no answer to ?");
}

#[test]
fn silence_after_a_limit_switch_is_the_fault_and_a_reset_ends_it() {
    let mut trial = trial(&[]);
    trial.due_after(0);
    trial.lines(&["<Run|MPos:0,0,0>", "ALARM:1", "[MSG:Reset to continue]"]);
    let words = "ALARM:1 hard limit: a limit switch was hit, the position is lost";
    assert_eq!(trial.text("message"), format!("{words}; Reset to continue"));
    trial.due_after(1000);
    for second in 1..=500 {
        let out = trial.due_after(1000);
        assert_eq!(trial.text("execution"), "fault");
        assert!(out.alive || second < 3, "it is no loss");
        assert_eq!(trial.number("fault.code"), 1.0);
    }
    trial.lines(&["Grbl 1.1h ['$' for help]", "[MSG:'$H'|'$X' to unlock]", "<Alarm|MPos:0,0,0>"]);
    assert_eq!(trial.text("execution"), "fault");
    trial.lines(&["[MSG:Caution: Unlocked]", "<Idle|MPos:0,0,0>"]);
    assert_eq!((trial.text("execution"), trial.number("fault.code")), ("ready".into(), 0.0));
    // Other alarms answer, so silence after them is silence.
    trial.lines(&["ALARM:3"]);
    trial.due_after(1000);
    trial.due_after(3000);
    assert_eq!(trial.text("execution"), "(timeout)");
}

#[test]
fn an_alarm_without_end_is_not_believed_for_ever() {
    let mut trial = trial(&[]);
    trial.lines(&["ALARM:1"]);
    trial.due_after(1000);
    trial.due_after(590_000);
    assert_eq!(trial.text("execution"), "fault");
    trial.due_after(20_000);
    assert_eq!(trial.text("execution"), "(timeout)");
}

#[test]
fn an_alarm_from_before_has_no_number_and_grblhal_is_asked_for_it() {
    let mut trial = flavoured("grblhal");
    trial.lines(&["<Alarm|MPos:0,0,0>", "<Alarm|MPos:0,0,0>"]);
    assert_eq!(trial.text("fault.code"), "(not_yet)");
    assert_eq!(trial.take_sent(), "\u{87}");
    trial.lines(&["<Alarm:12|MPos:0,0,0|FW:grblHAL>"]);
    assert_eq!(trial.number("fault.code"), 12.0);
    assert_eq!(trial.text("message"), "ALARM:12 a limit switch is engaged");
    for flavour in ["grbl", "fluidnc"] {
        let mut trial = flavoured(flavour);
        trial.lines(&["<Alarm|MPos:0,0,0>"]);
        assert_eq!(trial.take_sent(), "", "{flavour}: 0x87 is something else there");
    }
}

#[test]
fn no_answer_is_a_timeout_and_rubbish_is_garbled() {
    let mut trial = trial(&[]);
    trial.due_after(1000);
    trial.due_after(1000);
    assert_eq!(trial.text("execution"), "-");
    trial.due_after(1000);
    assert_eq!(trial.text("execution"), "(timeout)");
    trial.lines(&["\u{1}~~~ wrong speed"]);
    let out = trial.due_after(1000);
    assert_eq!(trial.text("position.x"), "(garbled)");
    assert_eq!(out.trouble.unwrap(), "no status report, but \"~~~ wrong speed\"");
    trial.lines(&["<Idle|MPos:0,0,0>"]);
    assert_eq!(trial.text("execution"), "ready");
    let out = trial.lines(&["<Idle|MPos:0.0"]);
    assert!(!out.alive);
    assert_eq!(trial.text("execution"), "(garbled)");
}

#[test]
fn questions_go_out_at_most_five_times_a_second() {
    let mut trial = trial(&[("flavour", "grbl")]);
    for _ in 0..100 {
        trial.due_after(10);
    }
    assert_eq!(trial.take_sent(), "?????");
}

#[test]
fn the_firmware_is_asked_for_once_and_given_away_by_its_lines() {
    let cases = [
        (&["Grbl 3.7 [FluidNC v3.7.8 (wifi) '$' for help]"][..], "ALARM:13", "hard stop"),
        (&["[VER:3.7 FluidNC v3.7.8:]"][..], "ALARM:12", "homing: ambiguous switch"),
        (&["GrblHAL 1.1f ['$' or '$HELP' for help]"][..], "ALARM:17", "motor fault"),
        (&["[VER:1.1f.20230606:]", "[FIRMWARE:grblHAL]"][..], "ALARM:14", "spindle"),
        (&["Grbl 1.1h ['$' for help]"][..], "ALARM:9", "homing: no switch found"),
    ];
    for (lines, alarm, text) in cases {
        let mut trial = trial(&[]);
        trial.lines(lines);
        trial.lines(&[alarm]);
        assert_eq!(trial.text("message"), format!("{alarm} {text}"));
    }
    let mut trial = trial(&[]);
    trial.lines(&["ALARM:13", "<Idle|MPos:0,0,0>", "<Idle|MPos:0,0,0>", "ok"]);
    assert_eq!(trial.take_sent(), "$I\n");
    trial.lines(&["ALARM:13"]);
    assert_eq!(trial.text("message"), "ALARM:13");
    trial.lines(&["<Idle|MPos:0,0,0>", "error:9"]);
    assert_eq!(trial.text("message"), "error:9 locked by an alarm or a jog");
}

#[test]
fn an_emergency_resets_and_is_read_back() {
    let mut trial = flavoured("grbl");
    trial.due_after(0);
    trial.take_sent();
    trial.hear(Heard::Stop(Stop::Emergency));
    assert_eq!(trial.take_sent(), "\u{18}");
    trial.lines(&["<Run|MPos:5,0,0>", "ALARM:3"]);
    assert_eq!(trial.stop, []);
    trial.lines(&["Grbl 1.1h ['$' for help]", "[MSG:'$H'|'$X' to unlock]"]);
    assert_eq!(trial.take_sent(), "?");
    trial.lines(&["<Alarm|MPos:5,0,0>"]);
    assert_eq!(trial.stop, [StopReply::Accepted, StopReply::ReadBack(true)]);
    assert_eq!(trial.text("execution"), "fault");
}

#[test]
fn a_reset_without_a_banner_is_asked_after_before_it_counts_as_failed() {
    for (answer, reply) in [
        (Some("<Idle|MPos:0,0,0>"), StopReply::ReadBack(true)),
        (Some("<Run|MPos:0,0,0>"), StopReply::ReadBack(false)),
        (None, StopReply::Failed("no status report after the stop".into())),
    ] {
        let mut trial = flavoured("fluidnc");
        trial.hear(Heard::Stop(Stop::Emergency));
        trial.due_after(30_000);
        assert_eq!((trial.take_sent().as_str(), trial.stop.len()), ("\u{18}?", 0));
        trial.lines(answer.as_slice());
        trial.due_after(30_000);
        assert_eq!(trial.stop, [reply]);
    }
}

#[test]
fn a_cancel_slows_down_first_and_then_forgets_the_job() {
    let mut trial = flavoured("grbl");
    trial.due_after(1000);
    trial.lines(&["<Run|MPos:5,0,0>"]);
    trial.take_sent();
    trial.hear(Heard::Stop(Stop::Cancel));
    assert_eq!(trial.take_sent(), "\u{84}?");
    trial.lines(&["<Door:2|MPos:5,0,0>"]);
    assert_eq!(trial.take_sent(), "");
    trial.lines(&["<Door:0|MPos:5.1,0,0>"]);
    assert_eq!(trial.take_sent(), "\u{18}");
    trial.lines(&["Grbl 1.1h ['$' for help]", "<Idle|MPos:5.1,0,0>"]);
    assert_eq!(trial.stop, [StopReply::Accepted, StopReply::ReadBack(true)]);
}

#[test]
fn a_cancel_in_an_alarm_resets_nothing() {
    let mut trial = flavoured("grbl");
    trial.lines(&["ALARM:3"]);
    trial.hear(Heard::Stop(Stop::Cancel));
    trial.lines(&["<Alarm|MPos:5,0,0>"]);
    assert_eq!(
        (trial.take_sent().as_str(), trial.stop.as_slice()),
        ("\u{84}?", [StopReply::ReadBack(true)].as_slice())
    );
}

#[test]
fn a_pause_that_does_not_hold_says_so_and_an_older_report_does_not_count() {
    let mut trial = flavoured("grbl");
    trial.due_after(1000);
    trial.hear(Heard::Stop(Stop::Pause));
    assert_eq!(trial.take_sent(), "?!?");
    trial.lines(&["<Idle|MPos:5,0,0>"]);
    assert_eq!(trial.stop, []);
    trial.lines(&["<Run|MPos:5,0,0>"]);
    trial.due_after(5000);
    assert_eq!(trial.stop, [StopReply::ReadBack(false)]);
    trial.hear(Heard::Stop(Stop::Pause));
    trial.due_after(5000);
    assert!(matches!(trial.stop.last(), Some(StopReply::Failed(_))));
    trial.lines(&["<Run|MPos:5,0,0>"]);
    trial.hear(Heard::Stop(Stop::Pause));
    trial.lines(&["<Hold:1|MPos:5,0,0>"]);
    assert!(!trial.stop.contains(&StopReply::ReadBack(true)));
    trial.lines(&["<Hold:0|MPos:5,0,0>"]);
    assert_eq!(trial.stop.last(), Some(&StopReply::ReadBack(true)));
}

#[test]
fn options_are_checked_and_items_are_on_the_list() {
    let device = make(&settings(&[("axes", "xyzabc"), ("pins", "XYZPDHRS")])).unwrap();
    assert_eq!(offered(&*device).len(), 9 + 6 + 8 + 1);
    for wrong in
        [("axes", "xyx"), ("axes", "w"), ("pins", "XX"), ("pins", "x"), ("flavour", "tinyg")]
    {
        assert!(make(&settings(&[wrong])).is_err(), "{wrong:?}");
    }
    closing_makes_all_unavailable(&mut trial(&[("pins", "D")]));
}

const DIALECT: &[&str] = &[
    GRBL_IDLE,
    GRBL_HOLD,
    HAL_FULL,
    "<Run|WPos:1.000,2.000,3.000|FS:500,8000|Ov:150,100,80|A:C>",
    "<Run|MPos:1.000,2.000,3.000|F:500|WCO:1,2,3>",
    "<Alarm|MPos:1.000,2.000,3.000|Pn:R>",
    "<Home|MPos:1.000,2.000,3.000>",
    "<Door:1|MPos:1.000,2.000,3.000>",
    "<Idle|MPos:1.000,2.000,3.000>",
    "Grbl 1.1h ['$' for help]",
    "[MSG:'$H'|'$X' to unlock]",
    "[MSG:Pgm End]",
    "[VER:3.7 FluidNC v3.7.8:]",
    "ALARM:1",
    "ALARM:99999999999",
    "error:9",
    "ok",
];

proptest! {
    #[test]
    fn any_sounds_in_any_portions_say_the_same(sounds in sounds(DIALECT)) {
        let make = || make(&settings(&[("axes", "xyzabc"), ("pins", "PDR")])).unwrap();
        same_in_any_portions(make, &sounds);
    }

    #[test]
    fn nothing_is_ever_sent_but_questions_and_stops(sounds in sounds(DIALECT)) {
        let mut trial = trial(&[("flavour", "grbl")]);
        trial.hear_all(&sounds);
        let harmless = |c: char| matches!(c, '?' | '!' | '\u{18}' | '\u{84}');
        let sent = trial.take_sent().replace('\u{87}', if sounds_like_grblhal(&sounds) { "" } else { "\u{87}" });
        prop_assert!(sent.chars().all(harmless), "{sent:?}");
    }
}

fn sounds_like_grblhal(sounds: &[crate::trial::Sound]) -> bool {
    let heard = sounds.iter().filter_map(|sound| match sound {
        crate::trial::Sound::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    heard.collect::<String>().contains("FW:grblHAL")
}
