//! What is heard here was recorded from OctoPrint 1.11.8 with its virtual printer by Python's
//! `websocket-client`, driven through a connection, jobs, a pause, a cancel and `M112` (`pushes.txt`:
//! the situation, milliseconds, and the login's body or the frame; lists of permissions left out).

use super::tests::{answer, device, paths, recorded as asked};
use super::*;
use crate::device::{BODY_BYTES_MAX, Outgoing};
use crate::trial::{response, said, step, step_at, survives, told};

const PUSHES: &str = include_str!("pushes.txt");

/// Milliseconds and frame of a recorded situation.
fn recorded(situation: &str) -> (u64, &'static str) {
    let mut found = PUSHES.lines().filter_map(|line| line.strip_prefix(situation));
    let line = found.find_map(|rest| rest.strip_prefix(' ')).expect("a recorded frame");
    let (at, frame) = line.split_once(' ').unwrap();
    (at.parse().unwrap(), frame)
}

/// Hears a recorded frame at its own time.
fn push(device: &mut dyn Device, situation: &str) -> Outbox {
    let (millis, frame) = recorded(situation);
    step_at(device, millis, Heard::Frame(frame))
}

/// A device that was told one picture by requests, and asks for a session then.
fn logging_in() -> Box<dyn Device> {
    let mut device = device();
    step_at(&mut *device, 0, Heard::Opened);
    answer(&mut *device, "offline");
    let out = step_at(&mut *device, 1000, Heard::Due);
    assert_eq!(paths(&out), ["/api/job", "/api/printer?exclude=sd", "/api/login"]);
    answer(&mut *device, "offline");
    device
}

/// A device that listens.
fn live() -> Box<dyn Device> {
    let mut device = logging_in();
    let out = step_at(&mut *device, 0, response(200, recorded("login").1));
    assert_eq!(out.sends, [Outgoing::Listen("/sockjs/websocket")]);
    let out = step_at(&mut *device, 0, Heard::Listening(Ok(())));
    let session = "_api:b4cea65e04c9defc1f0302f258634ef74b048dc516dda05979cefbecaf8ba44e";
    let [Outgoing::Frame(less), Outgoing::Frame(auth)] = &*out.sends else { panic!("{out:?}") };
    let (less, auth): (Json, Json) =
        (serde_json::from_str(less).unwrap(), serde_json::from_str(auth).unwrap());
    assert_eq!(auth["auth"], session);
    assert_eq!(less["subscribe"]["state"]["logs"], false);
    assert_eq!(less["subscribe"]["plugins"], false);
    assert!(push(&mut *device, "connected").said.is_empty());
    let out = push(&mut *device, "offline");
    assert_eq!(said(&out)["controller.state"], "Offline");
    device
}

#[test]
fn what_is_pushed_is_the_picture_that_requests_give() {
    let mut device = live();
    push(&mut *device, "operational");
    step_at(&mut *device, 12_060, Heard::Due);
    for _ in 0..2 {
        step(&mut *device, 12, Heard::NoResponse(Unavailable::Timeout));
    }
    let out = push(&mut *device, "heating1");
    assert!(out.alive && out.trouble.is_none());
    expect_test::expect![[r#"
        controller.state Printing
        execution preparing
        job.elapsed 0
        job.left (sentinel)
        job.name short.gcode
        message (sentinel)
        progress 0.026706231454005934
        temperature.bed 21.3
        temperature.nozzle 21.31
        temperature.target.bed 30
        temperature.target.nozzle 45
    "#]]
    .assert_eq(&told(&out));
    assert_eq!(said(&out).len(), device.items().len());
}

#[test]
fn each_pushed_situation_is_what_the_table_says_and_told_at_once() {
    let mut device = live();
    for (situation, execution, word) in [
        ("detecting", "(disconnected)", "Detecting serial connection"),
        ("operational", "ready", "Operational"),
        ("heating1", "preparing", "Printing"),
        ("heated", "", "it is warm, and the file still stands"),
        ("printing1", "running", "Printing"),
        ("pausing", "", "that it pauses is told with the next period"),
        ("paused", "paused", "Paused"),
        ("resumed", "running", "Printing"),
        ("finished", "finished", "Operational"),
        ("cancelling", "running", "Cancelling"),
        ("cancelled", "ready", "Operational"),
        ("emergency", "stopped", "Offline after error"),
    ] {
        let out = push(&mut *device, situation);
        if execution.is_empty() {
            assert!(out.said.is_empty(), "{word}: {out:?}");
            continue;
        }
        let said = said(&out);
        let found = (&*said["execution"], &*said["controller.state"]);
        assert_eq!(found, (execution, word), "{situation}");
    }
}

#[test]
fn what_changes_nothing_is_told_once_a_period_and_what_is_pushed_is_not_asked_for() {
    let mut device = live();
    assert!(!push(&mut *device, "operational").said.is_empty());
    assert!(push(&mut *device, "idle").said.is_empty(), "told already");
    assert!(step_at(&mut *device, 6000, Heard::Due).sends.is_empty(), "all was pushed");
    let out = step_at(&mut *device, 6081, Heard::Frame(recorded("idle").1));
    assert_eq!(said(&out)["execution"], "ready");
    assert!(!said(&out).contains_key("temperature.bed"), "none was pushed: none is confirmed");
    assert_eq!(paths(&step_at(&mut *device, 7000, Heard::Due)).len(), 2, "so they are asked for");
    answer(&mut *device, "operational");
    assert_eq!(paths(&step_at(&mut *device, 8000, Heard::Due)).len(), 2, "silence asks every time");
}

#[test]
fn an_answer_that_a_push_has_overtaken_tells_temperatures_only() {
    let mut device = live();
    push(&mut *device, "heated");
    step_at(&mut *device, 16_000, Heard::Due);
    step_at(&mut *device, 16_010, Heard::Due);
    step_at(&mut *device, 16_020, response(200, asked("operational", "job")));
    push(&mut *device, "printing1");
    let out = step_at(&mut *device, 16_063, response(200, asked("operational", "printer")));
    let said = said(&out);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said.keys().all(|item| item.starts_with("temperature.")));
    // Nor does one that failed hide what was pushed.
    step_at(&mut *device, 17_000, Heard::Due);
    push(&mut *device, "printing2");
    let out = step_at(&mut *device, 22_000, Heard::NoResponse(Unavailable::Timeout));
    assert!(out.said.is_empty() && out.trouble.is_some(), "{out:?}");
}

#[test]
fn a_stop_is_read_back_from_a_push_that_came_after_it() {
    let mut device = live();
    push(&mut *device, "heated");
    step_at(&mut *device, 16_000, Heard::Stop(Stop::Pause));
    let out = step_at(&mut *device, 16_010, response(204, ""));
    assert_eq!((out.stop.as_slice(), out.sends.len()), ([StopReply::Accepted].as_slice(), 2));
    // It may have been on its way before the command was.
    assert!(push(&mut *device, "paused").stop.is_empty());
    answer(&mut *device, "pausing1");
    assert_eq!(push(&mut *device, "paused").stop, [StopReply::ReadBack(true)]);
}

#[test]
fn without_a_push_the_reason_is_said_and_requests_tell_all() {
    let refused = "the device refuses the WebSocket: 403 Forbidden";
    let mut device = logging_in();
    step_at(&mut *device, 0, response(200, recorded("login").1));
    step_at(&mut *device, 10, Heard::Listening(Err(refused)));
    for second in [2, 4, 58] {
        let out = step(&mut *device, second, Heard::Due);
        assert_eq!(paths(&out).len(), 2, "asked, and not tried again yet");
        let out = answer(&mut *device, "printing");
        assert_eq!(said(&out).len(), device.items().len());
        assert!(out.trouble.is_some_and(|words| words.ends_with(refused)));
    }
    assert_eq!(
        paths(&step(&mut *device, 61, Heard::Due)),
        ["/api/job", "/api/printer?exclude=sd", "/api/login"]
    );
}

#[test]
fn each_step_of_the_way_may_fail() {
    let fails = |after: fn(&mut dyn Device), words: &str, again: u64| {
        let mut device = logging_in();
        after(&mut *device);
        let begun = step(&mut *device, 20, Heard::Due);
        assert_eq!(paths(&begun).len(), 2, "{words}");
        let out = answer(&mut *device, "printing");
        let trouble = out.trouble.unwrap_or_default();
        assert!(trouble.contains(words), "{trouble}");
        step(&mut *device, again - 1, Heard::Due);
        answer(&mut *device, "printing");
        assert_eq!(step(&mut *device, again, Heard::Due).sends.len(), 3, "{words}");
    };
    let shown = |device: &mut dyn Device| {
        step(device, 0, response(200, recorded("login").1));
        step(device, 0, Heard::Listening(Ok(())));
    };
    fails(|device| drop(step(device, 0, response(403, "{}"))), "403", 600);
    fails(|device| drop(step(device, 5, Heard::NoResponse(Unavailable::Timeout))), "answer", 65);
    fails(|device| drop(step(device, 0, response(200, "{}"))), "no session", 60);
    let colon = |device: &mut dyn Device| {
        step(device, 0, response(200, r#"{"name":"a:b","session":"c"}"#));
    };
    fails(colon, "no session", 60);
    // Recorded: OctoPrint's answer to a session that it does not know.
    fails(
        |device| {
            step(device, 0, response(200, recorded("login").1));
            step(device, 0, Heard::Listening(Ok(())));
            step(device, 1, Heard::Frame(r#"{"reauthRequired": {"reason": "stale"}}"#));
        },
        "stale",
        61,
    );
    // A key without the permission to read the state is told nothing at all.
    let mut device = logging_in();
    shown(&mut *device);
    step(&mut *device, 5, Heard::Due);
    assert!(answer(&mut *device, "printing").trouble.is_some_and(|t| t.contains("nothing")));
}

#[test]
fn a_push_that_ends_is_begun_again_but_not_without_pause() {
    let mut device = live();
    push(&mut *device, "operational");
    step_at(&mut *device, 20_000, Heard::Listening(Err("the WebSocket is gone")));
    assert_eq!(
        paths(&step_at(&mut *device, 22_000, Heard::Due)),
        [] as [&str; 0],
        "all was pushed"
    );
    assert_eq!(paths(&step_at(&mut *device, 24_000, Heard::Due)).len(), 2);
    assert!(answer(&mut *device, "printing").trouble.is_some_and(|t| t.contains("is gone")));
    assert!(step_at(&mut *device, 25_000, Heard::Frame(recorded("idle").1)).said.is_empty());
    assert_eq!(
        paths(&step_at(&mut *device, 61_000, Heard::Due)).len(),
        3,
        "a minute after the last"
    );
}

#[test]
fn frames_that_tell_nothing_and_junk_change_nothing() {
    let mut device = live();
    push(&mut *device, "operational");
    let long = format!(r#"{{"current": "{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    let deep = "[".repeat(BODY_BYTES_MAX / 2);
    for (frame, trouble) in [
        (recorded("event").1, false),
        (recorded("timelapse").1, false),
        (recorded("connected").1, false),
        (r#"{"plugin": {"plugin": "x", "data": {"state": "Printing"}}}"#, false),
        ("{}", false),
        ("[1]", true),
        ("o", true),
        (r#"{"current": {"state": "Printing"}}"#, true),
        (&long, true),
        (&deep, true),
    ] {
        let out = step_at(&mut *device, 6000, Heard::Frame(frame));
        let shown = &frame[..frame.len().min(60)];
        assert!(out.said.is_empty() && out.sends.is_empty(), "{shown}");
        assert_eq!(out.trouble.is_some(), trouble, "{shown}");
    }
    // Cut anywhere, a frame is no frame.
    let whole = recorded("paused").1;
    for length in (1..whole.len()).step_by(7) {
        let out = step_at(&mut *device, 6000, Heard::Frame(&whole[..length]));
        assert!(out.said.is_empty() && out.trouble.is_some(), "{length}");
    }
    assert_eq!(said(&push(&mut *device, "paused"))["execution"], "paused");
}

#[test]
fn whatever_is_pushed_it_keeps_its_contract() {
    survives(
        live,
        &[
            r#"{"current": {"state": {"text": "Printing", "flags": {"operational": true, "printing": true},
        "error": ""}, "job": {"file": {"name": "a.gcode", "origin": "local"}}, "progress":
        {"completion": 10.0, "filepos": 18, "printTime": 0, "printTimeLeft": null}, "temps":
        [{"time": 1, "tool0": {"actual": 21.3, "target": 210.0}, "bed": {"actual": null}}]}}"#,
            r#"{"history": {"state": {"text": "Offline after error", "flags": {"closedOrError": true},
        "error": "M112 1"}}}"#,
            r#"{"reauthRequired": {"reason": "stale"}}"#,
            r#"{"name": "_api", "session": "10"}"#,
        ],
    );
}
