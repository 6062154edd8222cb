//! Agents that tell by themselves, and those that do not.

use super::*;

/// A device whose agent tells by itself: it has had two parts, and stands before sequence number 102.
fn told_by_itself() -> Box<dyn Device> {
    let (mut device, _) = current(WHOLE);
    let asked = format!("/sample?from=100&count=1000{GOES_ON}");
    assert_eq!(paths(&step(&mut *device, 1, Heard::Due)), [asked]);
    step(&mut *device, 1, part(&stream(77, 100, 101, "")));
    step(&mut *device, 1, part(&stream(77, 101, 102, "")));
    device
}

fn polled(out: &Outbox) -> Option<bool> {
    let [path] = *paths(out) else { return None };
    path.starts_with("/sample").then(|| !path.ends_with(GOES_ON))
}

#[test]
fn an_agent_that_goes_on_is_not_asked_again_and_every_part_confirms_the_picture() {
    let mut device = told_by_itself();
    for (seconds, observations, execution) in
        [(2, "exec=READY", "ready"), (3, "", "ready"), (4, "exec=ACTIVE", "running")]
    {
        assert!(step(&mut *device, seconds, Heard::Due).sends.is_empty());
        let next = 102 + seconds;
        let out = step(&mut *device, seconds, part(&stream(77, next - 1, next, observations)));
        assert!(out.alive && out.sends.is_empty());
        let said = said(&out);
        assert_eq!((&*said["execution"], &*said["job.name"]), (execution, "O1234"));
    }
}

#[test]
fn one_that_answers_once_is_asked_every_period_and_tried_again_later() {
    let (mut device, _) = following(WHOLE);
    assert_eq!(polled(&step(&mut *device, 2, Heard::Due)), Some(true));
    let out = step(&mut *device, 2, response(200, &stream(77, 100, 101, "exec=READY")));
    assert_eq!(said(&out)["execution"], "ready");
    assert_eq!(polled(&step(&mut *device, 601, Heard::Due)), Some(true));
    step(&mut *device, 601, response(200, &stream(77, 100, 101, "")));
    assert_eq!(polled(&step(&mut *device, 602, Heard::Due)), Some(false));
}

#[test]
fn one_that_does_not_know_the_question_is_asked_every_period() {
    let (mut device, _) = current(WHOLE);
    step(&mut *device, 1, Heard::Due);
    let out = step(&mut *device, 1, response(400, &error("INVALID_REQUEST")));
    assert!(out.said.is_empty(), "nothing is lost");
    assert_eq!(polled(&out), Some(true));
    let out = step(&mut *device, 1, response(200, &stream(77, 100, 101, "")));
    assert_eq!(said(&out)["execution"], "running");
    // What is wrong with every question is said.
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 2, response(400, &error("INVALID_REQUEST")));
    assert!(all_missing(&*device, &out, Unavailable::Refused));
}

#[test]
fn one_that_falls_silent_is_asked() {
    let mut device = told_by_itself();
    assert!(step(&mut *device, 3, Heard::Due).sends.is_empty());
    assert_eq!(polled(&step(&mut *device, 4, Heard::Due)), Some(true));
    let out = step(&mut *device, 4, response(200, &stream(77, 102, 103, "exec=READY")));
    assert_eq!(said(&out)["execution"], "ready");
    assert_eq!(polled(&step(&mut *device, 5, Heard::Due)), Some(false), "it did go on");

    // Nothing came, or nothing in which parts could be told apart.
    for why in [Unavailable::Timeout, Unavailable::Garbled] {
        let (mut device, _) = current(WHOLE);
        step(&mut *device, 1, Heard::Due);
        assert!(step(&mut *device, 4, Heard::Due).sends.is_empty(), "it may still come");
        let out = step(&mut *device, 6, Heard::NoResponse(why));
        assert!(out.said.is_empty(), "nothing is lost");
        assert_eq!(polled(&out), Some(true));
        step(&mut *device, 6, response(200, &stream(77, 100, 101, "")));
        assert_eq!(polled(&step(&mut *device, 7, Heard::Due)), Some(true), "it never did");
    }
}

#[test]
fn what_is_told_more_often_than_wanted_is_said_once_a_period_but_for_what_the_machine_does() {
    let mut device = told_by_itself();
    step(&mut *device, 2, Heard::Due);
    let mut next = 102;
    let mut say = |device: &mut dyn Device, observations: &str| {
        next += 1;
        let out = step(device, 2, part(&stream(77, next - 1, next, observations)));
        assert!(out.alive);
        said(&out)
    };
    assert_eq!(say(&mut *device, "")["execution"], "running");
    assert!(say(&mut *device, "").is_empty());
    assert_eq!(say(&mut *device, "exec=READY")["execution"], "ready", "at once");
    assert!(say(&mut *device, "").is_empty());
}

#[test]
fn an_answer_that_ends_leaves_no_hole() {
    let mut device = told_by_itself();
    let out = step(&mut *device, 2, part(""));
    assert!(out.said.is_empty());
    assert_eq!(paths(&out), ["/sample?from=102&count=1000"]);
    let out = step(&mut *device, 2, Heard::NoResponse(Unavailable::Disconnected));
    assert!(all_missing(&*device, &out, Unavailable::Disconnected), "now it is gone");
    assert_eq!(polled(&step(&mut *device, 3, Heard::Due)), Some(false));
    let out = step(&mut *device, 3, Heard::NoResponse(Unavailable::Disconnected));
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
    assert_eq!(polled(&step(&mut *device, 4, Heard::Due)), Some(false), "it may come back");
    step(&mut *device, 4, part(&stream(77, 102, 103, "")));
    let out = step(&mut *device, 4, part(""));
    assert_eq!(polled(&out), Some(true), "one part is an answer that does not go on");
    step(&mut *device, 4, response(200, &stream(77, 102, 103, "")));
    assert_eq!(polled(&step(&mut *device, 5, Heard::Due)), Some(true));
}

#[test]
fn parts_of_the_past_are_not_told_as_the_present() {
    let mut device = told_by_itself();
    step(&mut *device, 2, Heard::Due);
    let out = step(&mut *device, 2, part(&stream(77, 1500, 1100, "exec=READY")));
    assert!(out.said.is_empty() && out.sends.is_empty(), "more is coming");
    let out = step(&mut *device, 2, part(&stream(77, 1500, 1501, "exec=ACTIVE")));
    assert_eq!(said(&out)["execution"], "running");
}

#[test]
fn one_that_runs_away_is_skipped_through_and_what_it_still_says_is_not_its_picture() {
    let mut device = told_by_itself();
    let mut next = 102;
    loop {
        next += 1000;
        assert!(next < 100_000, "without end");
        let out = step(&mut *device, 2, part(&stream(77, 999_999, next, "")));
        if !out.sends.is_empty() {
            assert_eq!(paths(&out), ["/current"]);
            break;
        }
    }
    let out = step(&mut *device, 2, part(&stream(77, 999_999, 1_000_000, "exec=READY")));
    assert!(out.said.is_empty() && out.sends.is_empty());
    let out = step(&mut *device, 2, response(200, &stream(77, 999_999, 1_000_000, WHOLE)));
    assert_eq!((&*said(&out)["execution"], said(&out).len()), ("running", device.items().len()));
    assert_eq!(polled(&step(&mut *device, 3, Heard::Due)), Some(false));
}

#[test]
fn restarts_and_gaps_are_seen_in_parts_and_in_what_comes_instead_of_them() {
    let mut device = told_by_itself();
    let out = step(&mut *device, 2, part(&stream(78, 5, 6, "exec=READY")));
    assert!(all_missing(&*device, &out, Unavailable::NotYet));
    assert_eq!(paths(&out), ["/probe"]);
    let out = step(&mut *device, 2, part(&stream(78, 5, 6, "exec=READY")));
    assert!(out.said.is_empty() && out.sends.is_empty(), "of the old connection");
    assert!(step(&mut *device, 2, part("")).sends.is_empty(), "and so is its end");

    let (mut device, _) = current(WHOLE);
    step(&mut *device, 1, Heard::Due);
    let out = step(&mut *device, 1, response(404, &error("OUT_OF_RANGE")));
    assert_eq!(paths(&out), ["/current"]);
    let out = step(&mut *device, 1, response(200, &stream(77, 499, 500, "exec=READY")));
    assert_eq!(out.trouble.as_deref(), Some("a gap: observations 100 to 499 were not seen"));
    assert_eq!(polled(&step(&mut *device, 2, Heard::Due)), Some(false));

    let mut device = told_by_itself();
    let out = step(&mut *device, 2, part("<html/>"));
    assert!(all_missing(&*device, &out, Unavailable::Garbled));
    assert_eq!(paths(&step(&mut *device, 3, Heard::Due)), ["/current"]);
}
