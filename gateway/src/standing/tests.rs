//! Since when a machine is in its state, over restarts, reboots and clocks that are set.

use andon_engine::event::Activity;
use proptest::prelude::*;

use super::*;

fn s(seconds: u64) -> BootTime {
    BootTime::from_millis(seconds * 1000)
}

fn boot(number: u8) -> BootId {
    BootId([number; 16])
}

fn does(at: u64, execution: Execution) -> Event {
    let activity = Activity::Run;
    Event::Activity {
        machine: "mill".into(),
        at: s(at),
        activity,
        execution,
        why: None,
        raw_run_ms: 0,
    }
}

fn started(at: u64) -> Event {
    Event::Started { at: s(at), version: "1".into() }
}

fn stopped(at: u64) -> Event {
    Event::Stopped { at: s(at) }
}

fn clock(at: u64, wall_s: i64) -> Event {
    Event::Clock { at: s(at), wall_ms: wall_s * 1000 }
}

fn evidence(of: u8, until: u64) -> Event {
    let boot = boot(of).to_string().into();
    Event::Evidence { machine: "mill".into(), until: s(until), boot }
}

/// What the mill has been doing at `now`: what, for how many seconds, and the boot and second
/// since when.
fn told(events: &[(u8, Event)], now: u64) -> (Execution, u64, (u8, u64)) {
    let mut standings = Standings::default();
    for (of, event) in events {
        standings.note(boot(*of), event);
    }
    let (of, at) = standings.since("mill").unwrap();
    let lasted = standings.lasted("mill", s(now)).unwrap().as_secs();
    let execution = standings.machines["mill"].now.execution;
    (execution, lasted, (of.0[0], at.as_millis() / 1000))
}

#[test]
fn a_state_goes_on_over_several_restarts() {
    use Execution as E;
    let mut events = vec![
        (1, started(5)),
        (1, does(10, E::Ready)),
        (1, does(100, E::Running)),
        (1, stopped(1300)),
        (1, started(1310)),
    ];
    assert_eq!(told(&events, 1312), (E::Unknown, 2, (1, 1310)));
    // Nothing at first, then the same. A killed run leaves its evidence.
    events.extend([(1, does(1311, E::Unknown)), (1, does(1315, E::Running))]);
    assert_eq!(told(&events, 1320), (E::Running, 1220, (1, 100)));
    events.extend([(1, started(1404)), (1, evidence(1, 1400)), (1, does(1405, E::Running))]);
    assert_eq!(told(&events, 1410), (E::Running, 1310, (1, 100)));
    // It does something else, and goes on with that.
    events.extend([(1, does(1420, E::Ready)), (1, stopped(1500)), (1, started(1501))]);
    events.push((1, does(1502, E::Ready)));
    assert_eq!(told(&events, 1510), (E::Ready, 90, (1, 1420)));
}

#[test]
fn a_stop_goes_on_over_several_restarts_whatever_is_said_until_it_is_confirmed_anew() {
    use Execution as E;
    let mut events = vec![(1, started(5)), (1, does(10, E::Ready)), (1, does(50, E::Stopped))];
    for restart in [1000, 2000, 3000] {
        events.extend([(1, stopped(restart)), (1, started(restart + 2))]);
        events.push((1, does(restart + 3, E::Unknown)));
        events.push((1, does(restart + 4, E::Ready)));
        assert_eq!(told(&events, restart + 5), (E::Ready, 1, (1, restart + 4)));
        events.push((1, does(restart + 6, E::Stopped)));
        let expected = (E::Stopped, restart - 43, (1, 50));
        assert_eq!(told(&events, restart + 7), expected);
    }
    // One that ended before the gateway came to confirm it is not there any more, and a new
    // one is new.
    events.extend([(1, does(4000, E::Ready)), (1, does(4010, E::Stopped))]);
    assert_eq!(told(&events, 4011), (E::Stopped, 1, (1, 4010)));
}

#[test]
fn restarts_before_anything_is_heard_forget_nothing() {
    use Execution as E;
    let mut events = vec![(1, started(5)), (1, does(100, E::Running)), (1, stopped(200))];
    for restart in [210, 230, 250] {
        events.extend([(1, started(restart)), (1, does(restart, E::Unknown))]);
        events.push((1, stopped(restart + 10)));
    }
    // Nobody has known anything of it since the first of them.
    events.push((1, started(270)));
    assert_eq!(told(&events, 271), (E::Unknown, 61, (1, 210)));
    events.push((1, does(272, E::Running)));
    assert_eq!(told(&events, 280), (E::Running, 180, (1, 100)));
}

#[test]
fn a_long_look_away_begins_anew() {
    use Execution as E;
    for (away, expected) in [(120, (220, 100)), (121, (10, 321))] {
        let again = 200 + away;
        let events = [
            (1, started(5)),
            (1, does(100, E::Running)),
            (1, stopped(200)),
            (1, started(again - 1)),
            (1, does(again, E::Running)),
            (1, stopped(again + 5)),
            (1, started(again + 6)),
            (1, does(again + 7, E::Running)),
        ];
        let (_, lasted, since) = told(&events, again + 10);
        assert_eq!(
            (lasted, since),
            (expected.0 + if away == 120 { 10 } else { 0 }, (1, expected.1))
        );
    }
}

#[test]
fn a_run_that_left_no_evidence_is_not_believed_to_its_end() {
    use Execution as E;
    let events = [
        (1, started(5)),
        (1, does(100, E::Running)),
        (1, started(200)),
        (1, does(201, E::Running)),
        (1, stopped(210)),
        (1, started(211)),
        (1, does(212, E::Running)),
    ];
    assert_eq!(told(&events, 220), (E::Running, 19, (1, 201)));
}

#[test]
fn over_a_reboot_it_needs_both_clocks() {
    use Execution as E;
    let mut events = vec![
        (1, clock(50, 1000)),
        (1, started(51)),
        (1, does(100, E::Running)),
        (1, stopped(650)),
        (2, started(3)),
        (2, does(5, E::Running)),
    ];
    // It stopped 600 s after the anchor, at 1600, and this boot began 27 s later.
    assert_eq!(told(&events, 8), (E::Running, 3, (2, 5)));
    let went_back = [events.as_slice(), &[(2, clock(9, 900))]].concat();
    assert_eq!(told(&went_back, 10), (E::Running, 5, (2, 5)));
    // The clock is known only after the machine was seen again.
    events.push((2, clock(9, 1636)));
    assert_eq!(told(&events, 10), (E::Running, 587, (1, 100)));
    // A clock that is set makes nothing longer.
    events.push((2, clock(20, 5000)));
    assert_eq!(told(&events, 30), (E::Running, 607, (1, 100)));
    events.extend([(2, stopped(65)), (3, clock(1, 5050)), (3, started(2))]);
    events.push((3, does(4, E::Running)));
    assert_eq!(told(&events, 5), (E::Running, 651, (1, 100)));
}

#[test]
fn a_state_that_has_ended_before_the_clock_was_known_does_not_come_back() {
    use Execution as E;
    let events = [
        (1, clock(50, 1000)),
        (1, does(100, E::Running)),
        (1, stopped(650)),
        (2, started(3)),
        (2, does(5, E::Running)),
        (2, does(7, E::Ready)),
        (2, does(9, E::Running)),
        (2, clock(10, 1640)),
    ];
    assert_eq!(told(&events, 10), (E::Running, 1, (2, 9)));
}

fn anything() -> impl Strategy<Value = (u8, Event)> {
    use Execution as E;
    let states = prop::sample::select(vec![E::Unknown, E::Stopped, E::Running, E::Ready]);
    let event = (0..5, 0..400u64, states).prop_map(|(kind, at, execution)| match kind {
        0 => started(at),
        1 => stopped(at),
        2 => clock(at, 1000),
        3 => evidence(1, at),
        _ => does(at, execution),
    });
    (1..3u8, event)
}

proptest! {
    /// The bound on what is kept is asserted where it is kept.
    #[test]
    fn whatever_the_stream_says_a_machine_is_in_what_was_said_last_or_unknown(
        events in prop::collection::vec(anything(), 0..60),
    ) {
        let mut standings = Standings::default();
        let mut last = None;
        for (of, event) in &events {
            standings.note(boot(*of), event);
            match event {
                Event::Activity { execution, .. } => last = Some(*execution),
                Event::Started { .. } => last = last.map(|_| Execution::Unknown),
                _ => {}
            }
            prop_assert_eq!(standings.machines.get("mill").map(|it| it.now.execution), last);
        }
    }
}
