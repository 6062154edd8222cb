//! A machine with a controller and a meter, whose words come moments apart: what the engine tells.

#![expect(clippy::unwrap_used, reason = "a broken plan is a failed test")]

use std::time::Duration;

use andon_engine::engine::Restored;
use andon_engine::event::{Event, Execution};
use andon_engine::item::Item;
use andon_engine::plan::{
    ActivityPlan, Band, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand, Plan,
};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use andon_engine::{Engine, Input, Output};
use proptest::prelude::*;

const WORD: ItemIndex = ItemIndex(0);
const WATTS: ItemIndex = ItemIndex(1);
/// Seconds that a level must hold, and that a signal may be silent.
const DEBOUNCE: u64 = 3;
const SILENCE: u64 = 5;

fn shop() -> Plan {
    let item = |name: &str| {
        ItemPlan::new(
            MachineIndex(0),
            Measurand {
                stale_after: Duration::from_secs(SILENCE),
                ..Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1))
            },
        )
    };
    let debounce = Duration::from_secs(DEBOUNCE);
    let power = ActivityPlan::Power {
        item: WATTS,
        idle: Band { enter: 5.0, exit: 4.0 },
        run: Band { enter: 60.0, exit: 50.0 },
        enter_for: debounce,
        exit_for: debounce,
    };
    let controller = ActivityPlan::Controller { item: WORD, exit_for: Duration::ZERO };
    let activity = vec![controller, power];
    let machine = MachinePlan { id: "mill".into(), activity, energy: None };
    let items = vec![item("execution"), item("power.active")];
    Plan { machines: vec![machine], items, rules: Vec::new(), trips: Vec::new() }
}

/// What is told when every second brings both signals: state, why it is unknown, and since when.
/// Of two boundaries at one moment the later word counts.
fn told(
    seconds: u64,
    runs: impl Fn(u64) -> bool,
    powered: impl Fn(u64) -> bool,
) -> Vec<(Execution, Option<Unavailable>, u64)> {
    let mut engine = Engine::new(shop(), Restored::default());
    let mut told: Vec<(Execution, Option<Unavailable>, u64)> = Vec::new();
    for second in 1..=seconds {
        let at = BootTime::from_millis(second * 1000);
        let word = if runs(second) { "running" } else { "ready" };
        let watts = if powered(second) { 120.0 } else { 0.0 };
        let readings =
            vec![(WORD, Ok(Value::Text(word.into()))), (WATTS, Ok(Value::Number(watts)))];
        let mut out = Vec::new();
        engine.step(at, Input::Readings { at, readings }, &mut out);
        engine.step(at, Input::Tick, &mut out);
        for output in out {
            if let Output::Event(Event::Activity { at, execution, why, .. }) = output {
                let since = at.as_millis() / 1000;
                told.retain(|(.., earlier)| *earlier < since);
                told.push((execution, why, since));
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// However the two are ahead of each other at the start and at the end.
    #[test]
    fn signals_that_change_moments_apart_leave_nothing_unknown(
        ahead in 0..SILENCE, behind in 0..SILENCE + DEBOUNCE, length in 20_u64..60,
    ) {
        let (start, end) = (20, 20 + length);
        let told = told(
            end + 30,
            |second| (start..end).contains(&second),
            |second| (start + ahead..end - behind).contains(&second),
        );
        // Power that is not believed to be gone when the controller stops leaves the end to it.
        let over = if behind <= DEBOUNCE { end } else { end - behind };
        let wanted = [
            (Execution::Off, None, 1),
            (Execution::Running, None, start),
            (Execution::Off, None, over),
        ];
        prop_assert_eq!(told, wanted);
    }
}

#[test]
fn a_controller_that_runs_on_without_power_is_in_conflict_since_the_power_went() {
    let told = told(60, |_| true, |second| second < 20);
    let conflict = (Execution::Unknown, Some(Unavailable::Conflict), 20);
    assert_eq!(told, [(Execution::Running, None, 1), conflict]);
}
