//! Commands, what their output replies or does not, and when they are given again.

use super::*;

#[test]
fn a_controller_that_takes_seconds_to_stop_is_commanded_once() {
    let mut bench = Bench::new();
    bench.plan.attempt_deadline = Duration::from_secs(8);
    bench.trip(100 * SECOND, "hot");
    bench.reply(100_100, Reply::Echoed);
    bench.reply(102_000, Reply::ReadBack(false));
    bench.ticks(102 * SECOND, 106 * SECOND);
    bench.reply(106 * SECOND, Reply::ReadBack(true));
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn what_is_refused_is_tried_again_before_a_long_deadline_and_slower_once_failed() {
    let mut bench = Bench::new();
    bench.plan.attempt_deadline = Duration::from_secs(8);
    bench.trip(100 * SECOND, "hot");
    for at in (100..140).map(|at| at * SECOND) {
        bench.reply(at, Reply::Failed("not connected".into()));
        bench.ticks(at, at + SECOND);
    }
    let times: Vec<u64> = bench.sent.iter().map(|(at, _)| at / SECOND).collect();
    assert_eq!(times, [100, 101, 102, 103, 108, 113, 118, 123, 128, 133, 138]);
}

#[test]
fn lost_replies_are_retried_at_the_deadline_then_failed_then_slower() {
    let mut bench = Bench::tripped();
    bench.ticks(100 * SECOND, 120 * SECOND);
    let at: Vec<u64> = bench.sent.iter().map(|(at, _)| at / SECOND).collect();
    assert_eq!(at, [100, 101, 102, 103, 108, 113, 118]);
    let silent = words("the output does not answer");
    assert_eq!(bench.state(), (TripPhase::Failed, Some(Confirmation::C0), silent));
    // It tripped, fell silent, failed: the same words are not said at every attempt.
    assert_eq!(bench.events, 3);
    bench.reply(118_300, Reply::Echoed);
    bench.reply(118_400, Reply::ReadBack(true));
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
}

#[test]
fn a_bus_that_is_dead_for_hours_is_tried_at_a_bounded_pace() {
    let mut bench = Bench::tripped();
    bench.ticks(100 * SECOND, 100 * SECOND + 4 * 3600 * SECOND);
    let expected = 4 * 3600 / RETRY_FAILED.as_secs() as usize;
    assert!(bench.sent.len().abs_diff(expected) <= 5, "{}", bench.sent.len());
    assert_eq!(bench.events, 3);
}

#[test]
fn a_refusal_at_once_does_not_flood_the_bus() {
    let mut bench = Bench::tripped();
    for step in 0..30 {
        let at = 100_010 + step * 100;
        bench.reply(at, Reply::Failed("the write queue is full".into()));
        bench.ticks(at, at + 100);
    }
    // A command that found no room is sent again, once per deadline.
    let at: Vec<u64> = bench.sent.iter().map(|(at, _)| at / SECOND).collect();
    assert_eq!(at, [100, 101, 102, 103]);
    assert_eq!(bench.state().2, words("the write queue is full"));
    assert_eq!(bench.events, 3, "tripped, refused, failed");
}

#[test]
fn a_late_reply_of_an_older_attempt_changes_nothing() {
    let mut bench = Bench::tripped();
    let old = bench.trip.attempt;
    bench.ticks(100 * SECOND, 101 * SECOND);
    let before = bench.state();
    for reply in [Reply::Echoed, Reply::ReadBack(true), Reply::Failed("late".into())] {
        assert_eq!(bench.reply_to(101_100, old, reply), Outcome::default());
    }
    assert_eq!(bench.state(), before);
}

#[test]
fn a_second_answer_to_the_same_attempt_changes_nothing() {
    let mut bench = Bench::latched();
    assert_eq!(bench.reply(100_300, Reply::ReadBack(false)), Outcome::default());
    assert_eq!(bench.state().0, TripPhase::Latched);
}

#[test]
fn a_wrong_read_back_is_told_and_tried_again() {
    let mut bench = Bench::tripped();
    bench.reply(100_100, Reply::Echoed);
    assert!(bench.reply(100_200, Reply::ReadBack(false)).changed);
    let wrong = words("the output does not read back");
    assert_eq!(bench.state(), (TripPhase::Tripping, Some(Confirmation::C1), wrong));
    bench.ticks(100_200, 101 * SECOND);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn every_phase_but_armed_is_commanded_again_after_a_restart() {
    for phase in [TripPhase::Tripping, TripPhase::Latched, TripPhase::Failed, TripPhase::Armed] {
        let left = TripState {
            output: "cut".into(),
            machine: "laser".into(),
            phase,
            level: Some(Confirmation::C3),
            cause: Some("hot".into()),
            trouble: Some("timeout".into()),
        };
        let mut trip = Trip::armed(TripIndex(0));
        let outcome = trip.resume(&plan(), BootTime::from_millis(5000), &left);
        let commanded = outcome.command.map(|command| command.act);
        if phase == TripPhase::Armed {
            assert_eq!(outcome, Outcome::default());
        } else {
            assert_eq!(commanded, Some(Act::Trip), "{phase:?}");
            let state = trip.state(&plan(), &"laser".into());
            assert_eq!((state.phase, state.level), (TripPhase::Tripping, Some(Confirmation::C0)));
            assert_eq!(state.cause, Some(Arc::from("hot")));
        }
    }
}
