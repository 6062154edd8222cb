//! Whatever happens in whatever order: a latch leaves only by a reset, an alarm that nobody has
//! seen stays on the list, unknown never ends anything.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::item::Item;
use crate::plan::{ItemPlan, MachineIndex, MachinePlan, Measurand, Plan, TripIndex};
use crate::rules::{RuleSource, parse};

fn rule(on_unknown: OnUnknown, trips: bool) -> Rule {
    let plan = Plan {
        machines: vec![MachinePlan { id: "laser".into(), activity: Vec::new(), energy: None }],
        items: vec![ItemPlan::new(
            MachineIndex(0),
            Measurand::every(Item::named("input.1").unwrap(), Duration::from_secs(1)),
        )],
        ..Plan::default()
    };
    let source = RuleSource {
        id: "test".into(),
        machine: "laser".into(),
        when: "input.1".into(),
        hold_for: Some("2 s".into()),
        unknown_for: Some("3 s".into()),
        ..RuleSource::default()
    };
    let trip = trips.then_some(TripIndex(0));
    Rule { on_unknown, trip, ..parse(&source, &plan).unwrap() }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Evaluate(Option<bool>, Option<bool>),
    Acknowledge,
    Reset,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let truth = || prop::sample::select(vec![Some(true), Some(false), None]);
    prop_oneof![
        8 => (truth(), truth()).prop_map(|(when, clear)| Act::Evaluate(when, clear)),
        1 => Just(Act::Acknowledge),
        1 => Just(Act::Reset),
        1 => Just(Act::Restart),
    ]
}

fn way() -> impl Strategy<Value = (OnUnknown, bool)> {
    prop::sample::select(vec![
        (OnUnknown::Alarm, false),
        (OnUnknown::Hold, false),
        (OnUnknown::Alarm, true),
        (OnUnknown::Hold, true),
        (OnUnknown::Trip, true),
    ])
}

proptest! {
    #[test]
    fn no_sequence_loses_a_latch_or_an_unseen_alarm(
        (on_unknown, trips) in way(),
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let rule = rule(on_unknown, trips);
        let machine: Arc<str> = "laser".into();
        let mut alarm = Alarm::default();
        for (second, act) in acts.into_iter().enumerate() {
            let now = BootTime::from_millis(1000 * second as u64 + 1);
            let before = alarm.state(&rule, &machine, now);
            let (was_raised, was_latched) = (alarm.is_raised(), alarm.is_latched());
            let mut reset = false;
            match act {
                Act::Evaluate(when, clear) => {
                    // `clear` never holds while `when` does.
                    let clear = if when == Some(true) { Some(false) } else { clear };
                    let outcome = alarm.step(&rule, now, Evaluated { when, clear });
                    let after = alarm.state(&rule, &machine, now);
                    if let Outcome::Raised { trips: cuts } = outcome {
                        prop_assert!(!after.acked && after.active != Some(false));
                        prop_assert!(!cuts || after.latched, "what cuts stays until a person resets");
                        prop_assert!(!cuts || trips);
                    }
                    if when.is_none() && was_raised {
                        prop_assert!(alarm.is_raised(), "unknown ends nothing");
                        prop_assert!(before.active == Some(false) || after.active != Some(false));
                    }
                    if was_raised && !before.acked {
                        prop_assert!(alarm.is_raised() && !after.acked, "nobody has seen it");
                    }
                }
                Act::Acknowledge => drop(alarm.acknowledge()),
                Act::Reset => {
                    reset = alarm.reset().is_ok();
                    prop_assert!(!reset || (was_latched && before.active == Some(false)));
                }
                Act::Restart => alarm = Alarm::restored(&before),
            }
            prop_assert!(!was_latched || reset || alarm.is_latched(), "{act:?} lost a latch");
        }
    }
}
