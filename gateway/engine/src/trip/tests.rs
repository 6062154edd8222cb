//! The whole matrix of what an output, its bus and its meter may answer, or not.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::{ItemIndex, MachineIndex, Proof};
use crate::value::{Unavailable, Value};

const SECOND: u64 = 1000;

fn plan() -> TripPlan {
    TripPlan {
        id: "cut".into(),
        machine: MachineIndex(0),
        proof: Some(Proof {
            item: ItemIndex(0),
            below: 20.0,
            samples: 3,
            within: Duration::from_secs(10),
        }),
        attempt_deadline: Duration::from_secs(1),
        attempts: 3,
        permit_on_reset: true,
    }
}

/// A trip with a clock in milliseconds, and everything that it sent.
struct Bench {
    plan: TripPlan,
    trip: Trip,
    sent: Vec<(u64, Act)>,
    events: usize,
}

impl Bench {
    fn new() -> Self {
        let trip = Trip::armed(TripIndex(0));
        Self { plan: plan(), trip, sent: Vec::new(), events: 0 }
    }

    /// A bench whose stop was commanded at second 100.
    fn tripped() -> Self {
        let mut bench = Self::new();
        bench.trip(100 * SECOND, "hot");
        bench
    }

    /// One that was read back, too.
    fn latched() -> Self {
        let mut bench = Self::tripped();
        bench.reply(100_100, Reply::Echoed);
        bench.reply(100_200, Reply::ReadBack(true));
        bench
    }

    fn note(&mut self, at: u64, outcome: Outcome) -> Outcome {
        self.sent.extend(outcome.command.map(|command| (at, command.act)));
        self.events += usize::from(outcome.changed);
        outcome
    }

    fn trip(&mut self, at: u64, cause: &str) -> Outcome {
        let outcome = self.trip.trip(&self.plan, BootTime::from_millis(at), &cause.into());
        self.note(at, outcome)
    }

    fn reset(&mut self, at: u64) -> Outcome {
        let outcome = self.trip.reset(&self.plan, BootTime::from_millis(at));
        self.note(at, outcome)
    }

    fn reply(&mut self, at: u64, reply: Reply) -> Outcome {
        self.reply_to(at, self.trip.attempt, reply)
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn reply_to(&mut self, at: u64, attempt: u32, reply: Reply) -> Outcome {
        let now = BootTime::from_millis(at);
        let outcome = self.trip.reply(&self.plan, now, attempt, &reply);
        self.note(at, outcome)
    }

    fn meter(&mut self, at: u64, watts: f64) -> Outcome {
        self.sample(at, Ok(Value::Number(watts)))
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn sample(&mut self, at: u64, sample: Measured) -> Outcome {
        let now = BootTime::from_millis(at);
        let outcome = self.trip.sample(&self.plan, now, now, &sample);
        self.note(at, outcome)
    }

    /// Ticks every 100 ms from `from`, exclusive, to `to`, inclusive.
    fn ticks(&mut self, from: u64, to: u64) {
        for at in (from..to).step_by(100) {
            let at = at + 100;
            let outcome = self.trip.tick(&self.plan, BootTime::from_millis(at));
            self.note(at, outcome);
        }
    }

    fn state(&self) -> (TripPhase, Option<Confirmation>, Option<String>) {
        let state = self.trip.state(&self.plan, &"laser".into());
        (state.phase, state.level, state.trouble.map(|words| words.to_string()))
    }
}

fn words(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn carried_out_and_proved_step_by_step() {
    let mut bench = Bench::tripped();
    assert_eq!(bench.state(), (TripPhase::Tripping, Some(Confirmation::C0), None));
    assert!(bench.reply(100_100, Reply::Echoed).changed);
    assert_eq!(bench.state(), (TripPhase::Tripping, Some(Confirmation::C1), None));
    assert!(bench.reply(100_200, Reply::ReadBack(true)).changed);
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    for at in [101, 102] {
        assert!(!bench.meter(at * SECOND, 0.0).changed);
    }
    assert!(bench.meter(103 * SECOND, 0.0).changed);
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C3), None));
    bench.ticks(103 * SECOND, 200 * SECOND);
    assert_eq!(bench.sent, [(100 * SECOND, Act::Trip)]);
}

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
fn one_high_sample_starts_the_proof_over() {
    let mut bench = Bench::latched();
    for (at, watts) in [(101, 0.0), (102, 0.0), (103, 500.0), (104, 0.0), (105, 0.0)] {
        bench.meter(at * SECOND, watts);
    }
    assert_eq!(bench.state().1, Some(Confirmation::C2));
    bench.meter(106 * SECOND, 0.0);
    assert_eq!(bench.state().1, Some(Confirmation::C3));
}

#[test]
fn no_proof_from_samples_before_the_command_or_its_echo() {
    let mut bench = Bench::tripped();
    for _ in 0..5 {
        bench.meter(100 * SECOND, 0.0);
    }
    bench.meter(100_050, 0.0);
    bench.reply(100_100, Reply::Echoed);
    bench.reply(100_200, Reply::ReadBack(true));
    bench.meter(101 * SECOND, 0.0);
    bench.meter(102 * SECOND, 0.0);
    assert_eq!(bench.state().1, Some(Confirmation::C2));
}

#[test]
fn a_silent_meter_leaves_it_unverified_and_untroubled() {
    let mut bench = Bench::latched();
    for at in 101..200 {
        bench.sample(at * SECOND, Err(Unavailable::Timeout));
    }
    bench.ticks(101 * SECOND, 200 * SECOND);
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_meter_wired_the_wrong_way_round_proves_nothing() {
    let mut bench = Bench::latched();
    for at in 101..=110 {
        bench.meter(at * SECOND, -850.0);
    }
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    bench.meter(111 * SECOND, -850.0);
    let weld = words("weld suspected: the meter still reads -850");
    assert_eq!(bench.state(), (TripPhase::Failed, Some(Confirmation::C2), weld));
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
fn a_weld_is_told_once_and_commanded_on_even_when_the_meter_falls_silent() {
    let mut bench = Bench::latched();
    for at in 101..=110 {
        bench.meter(at * SECOND, 850.0);
    }
    assert_eq!(bench.events, 3, "a contactor and a meter take their time");
    bench.meter(111 * SECOND, 850.0);
    assert_eq!(bench.state().0, TripPhase::Failed);
    let events = bench.events;
    for at in 111..170 {
        bench.reply(at * SECOND + 50, Reply::Echoed);
        bench.reply(at * SECOND + 90, Reply::ReadBack(true));
        bench.ticks(at * SECOND, at * SECOND + SECOND);
        if at < 140 {
            bench.meter((at + 1) * SECOND, 850.0 + at as f64);
        }
    }
    assert_eq!(bench.events, events, "the events stream is kept for ever");
    let retries = bench.sent.len() - 2;
    assert!((10..=12).contains(&retries), "{:?}", bench.sent);
    assert_eq!(bench.state().2, words("weld suspected: the meter still reads 850"));
    for at in 171..=173 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C3), None));
}

#[test]
fn a_refused_attempt_does_not_hide_the_weld() {
    let mut bench = Bench::latched();
    bench.meter(111 * SECOND, 850.0);
    bench.reply(111_100, Reply::Failed("timeout".into()));
    assert_eq!(bench.state().2, words("weld suspected: the meter still reads 850"));
}

#[test]
fn power_that_comes_back_after_the_proof_reopens_it_at_once() {
    let mut bench = Bench::latched();
    for at in 101..=103 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.state().1, Some(Confirmation::C3));
    bench.meter(104 * SECOND, 85.0);
    assert_eq!((bench.state().0, bench.state().1), (TripPhase::Failed, Some(Confirmation::C2)));
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn a_permit_is_retried_and_said_and_leaves_it_armed() {
    let mut bench = Bench::latched();
    assert!(bench.reset(110 * SECOND).changed);
    assert_eq!(bench.state(), (TripPhase::Armed, None, None));
    bench.ticks(110 * SECOND, 111 * SECOND);
    let silent = words("the output does not answer");
    assert_eq!(bench.state(), (TripPhase::Armed, None, silent));
    bench.ticks(111 * SECOND, 140 * SECOND);
    assert!(bench.sent[1..].iter().all(|(_, act)| *act == Act::Permit));
    assert!((7..=10).contains(&bench.sent.len()), "{:?}", bench.sent);
    bench.reply(140_100, Reply::Echoed);
    assert!(bench.reply(140_200, Reply::ReadBack(true)).changed);
    assert_eq!(bench.state(), (TripPhase::Armed, None, None));
    let sent = bench.sent.len();
    bench.ticks(140_200, 200_000);
    assert_eq!(bench.sent.len(), sent);
}

#[test]
fn without_permission_a_reset_commands_nothing() {
    let mut bench = Bench::latched();
    bench.plan.permit_on_reset = false;
    bench.reset(110 * SECOND);
    bench.ticks(110 * SECOND, 150 * SECOND);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_trip_during_a_permit_wins_over_it() {
    let mut bench = Bench::latched();
    bench.reset(110 * SECOND);
    let permit = bench.trip.attempt;
    bench.trip(110_050, "hot");
    assert_eq!(bench.reply_to(110_100, permit, Reply::ReadBack(true)), Outcome::default());
    assert_eq!(bench.state().0, TripPhase::Tripping);
    assert_eq!(bench.sent.last(), Some(&(110_050, Act::Trip)));
    // And a reset while the stop is still being tried ends the trying.
    bench.ticks(110_050, 112_000);
    bench.plan.permit_on_reset = false;
    bench.reset(112_050);
    let sent = bench.sent.len();
    bench.ticks(112_050, 130_050);
    assert_eq!(bench.sent.len(), sent);
}

#[test]
fn a_second_cause_commands_a_latched_stop_again_but_not_one_under_way() {
    let mut bench = Bench::tripped();
    assert_eq!(bench.trip(100_050, "smoke"), Outcome::default());
    bench.reply(100_100, Reply::Echoed);
    bench.reply(100_200, Reply::ReadBack(true));
    assert!(bench.trip(101 * SECOND, "smoke").changed);
    assert_eq!(bench.sent.len(), 2);
    assert_eq!(bench.state(), (TripPhase::Tripping, Some(Confirmation::C0), None));
}

#[test]
fn a_stop_is_confirmed_by_its_meter_or_without_one_by_its_read_back() {
    let mut bench = Bench::latched();
    assert_eq!(bench.trip.confirmed(), None, "the meter has not spoken");
    for at in 101..=103 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.trip.confirmed(), Some(BootTime::from_millis(101 * SECOND)));
    let mut bench = Bench::new();
    bench.plan.proof = None;
    bench.trip(100 * SECOND, "hot");
    bench.reply(100_100, Reply::Echoed);
    assert_eq!(bench.trip.confirmed(), None);
    bench.reply(100_200, Reply::ReadBack(true));
    assert_eq!(bench.trip.confirmed(), Some(BootTime::from_millis(100_200)));
    // Another cause commands it again: it holds until that fails.
    bench.trip(110 * SECOND, "smoke");
    assert!(bench.trip.confirmed().is_some());
    bench.ticks(110 * SECOND, 120 * SECOND);
    assert_eq!((bench.state().0, bench.trip.confirmed()), (TripPhase::Failed, None));
}

#[test]
fn a_second_cause_does_not_talk_a_weld_away() {
    let mut bench = Bench::latched();
    bench.meter(111 * SECOND, 850.0);
    let before = bench.state();
    assert!(bench.trip(112 * SECOND, "smoke").command.is_some());
    bench.reply(112_100, Reply::Echoed);
    bench.reply(112_200, Reply::ReadBack(true));
    assert_eq!(bench.state(), before);
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

#[derive(Clone, Debug)]
enum Happening {
    Tick,
    Trip,
    Reset,
    Reply(bool, Reply),
    Meter(f64),
    MeterLost,
}

fn happening() -> impl Strategy<Value = (u64, Happening)> {
    let reply = prop_oneof![
        Just(Reply::Echoed),
        any::<bool>().prop_map(Reply::ReadBack),
        Just(Reply::Failed("timeout".into())),
    ];
    let happening = prop_oneof![
        6 => Just(Happening::Tick),
        1 => Just(Happening::Trip),
        1 => Just(Happening::Reset),
        4 => (prop::bool::weighted(0.8), reply).prop_map(|(new, r)| Happening::Reply(new, r)),
        4 => prop_oneof![Just(0.0), Just(900.0), Just(-900.0)].prop_map(Happening::Meter),
        1 => Just(Happening::MeterLost),
    ];
    (1_u64..3000, happening)
}

proptest! {
    #[test]
    fn whatever_happens_a_stop_holds_and_is_never_forgotten(
        happenings in prop::collection::vec(happening(), 1..200)
    ) {
        let mut bench = Bench::new();
        let mut at = 1000;
        let mut down_since = None;
        for (later, happening) in happenings {
            at += later;
            let before = bench.state().0;
            let by_person = matches!(happening, Happening::Reset);
            let by_read_back = matches!(happening, Happening::Reply(true, Reply::ReadBack(true)));
            let by_meter = matches!(happening, Happening::Meter(_));
            match happening {
                Happening::Tick => bench.ticks(at - 100, at),
                Happening::Trip => { bench.trip(at, "hot"); }
                Happening::Reset => { bench.reset(at); }
                Happening::Reply(new, reply) => {
                    let attempt = bench.trip.attempt.wrapping_sub(u32::from(!new));
                    bench.reply_to(at, attempt, reply);
                }
                Happening::Meter(watts) => { bench.meter(at, watts); }
                Happening::MeterLost => { bench.sample(at, Err(Unavailable::Timeout)); }
            }
            let (after, level, trouble) = bench.state();
            prop_assert!(before == TripPhase::Armed || after != TripPhase::Armed || by_person);
            if after == TripPhase::Latched && before != TripPhase::Latched {
                prop_assert!(by_read_back || by_meter);
            }
            prop_assert_eq!(after == TripPhase::Armed, level.is_none());
            prop_assert!(after != TripPhase::Failed || trouble.is_some());
            prop_assert!(after != TripPhase::Latched || level >= Some(Confirmation::C2));
            // Stopped is said only of a stop that its meter has confirmed and that has not failed.
            prop_assert!(bench.trip.confirmed().is_none() || bench.trip.is_tripped());
            prop_assert!(bench.trip.confirmed().is_none() || after != TripPhase::Failed);
            let proved = after == TripPhase::Latched && level == Some(Confirmation::C3);
            prop_assert!(!proved || bench.trip.confirmed().is_some());
            // Until it is read back, something is always under way: the trying never ends.
            if matches!(after, TripPhase::Tripping | TripPhase::Failed) {
                let due = bench.trip.pending.is_some() || bench.trip.contradicted.is_some();
                prop_assert!(due);
                down_since.get_or_insert(at);
            } else {
                down_since = None;
            }
        }
        // And it ends in a command within the slow pace, however things stand.
        if down_since.is_some() {
            let sent = bench.sent.len();
            let pace = u64::try_from(RETRY_FAILED.as_millis()).unwrap();
            bench.ticks(at, at + pace + 100);
            prop_assert!(bench.sent.len() > sent);
        }
    }
}
