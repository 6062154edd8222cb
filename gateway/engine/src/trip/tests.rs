//! The whole matrix of what an output, its bus and its meter may answer, or not.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::{ItemIndex, MachineIndex, Proof};
use crate::value::{Unavailable, Value};

mod attempts;
mod proof;

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
