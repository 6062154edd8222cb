//! What a rule costs: nanoseconds per evaluation of a condition, and per reading that goes through
//! the whole engine with and without a rule that looks at it.
//!
//! `cargo run --release -p andon-engine --example rule_cost`

#![expect(clippy::print_stdout, reason = "the table is the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot begin has nothing to say")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use andon_engine::engine::Restored;
use andon_engine::event::{Activity, Execution};
use andon_engine::item::Item;
use andon_engine::plan::{ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand, Plan};
use andon_engine::rules::{self, Rule, RuleSource, View};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Value};
use andon_engine::{Engine, Input};

/// What a rule may cost.
const WANTED_NS: f64 = 100.0;

/// Evaluations per measurement; the best of [`ROUNDS`] counts, the others met something else.
const EVALUATIONS: u32 = 1_000_000;
const ROUNDS: u32 = 9;

/// From one comparison to what a careful person writes.
const CONDITIONS: &[&str] = &[
    "temperature.coolant > 60 °C",
    "temperature.coolant > 60 °C and execution == running",
    "temperature.coolant > 60 °C and (execution == running or power.active >= 1.5 kW)",
    "not input.1 and (temperature.coolant > 60 °C or temperature.coolant < 5 °C) and \
     (execution == running or power.active >= 1.5 kW) and activity != off",
];

fn plan() -> Plan {
    let item = |name| {
        ItemPlan::new(
            MachineIndex(0),
            Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1)),
        )
    };
    Plan {
        machines: vec![MachinePlan { id: "laser".into(), activity: Vec::new(), energy: None }],
        items: ["temperature.coolant", "power.active", "input.1"].map(item).to_vec(),
        ..Plan::default()
    }
}

fn rule(when: &str, plan: &Plan) -> Rule {
    let source = RuleSource {
        id: "rule".into(),
        machine: "laser".into(),
        when: when.into(),
        hold_for: Some("1 s".into()),
        ..RuleSource::default()
    };
    rules::parse(&source, plan).unwrap()
}

/// Nanoseconds per call, the best round.
fn cost(mut call: impl FnMut(u32)) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..EVALUATIONS).for_each(&mut call);
        began.elapsed().as_secs_f64() * 1e9 / f64::from(EVALUATIONS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// A condition alone, over values that change.
fn condition(when: &str) -> f64 {
    let rule = rule(when, &plan());
    let states = [(Execution::Running, Activity::Run)];
    let mut values: Vec<Measured> =
        vec![Ok(Value::Number(50.0)), Ok(Value::Number(900.0)), Ok(Value::Flag(false))];
    cost(|turn| {
        values[0] = Ok(Value::Number(f64::from(turn % 64)));
        black_box(rule.when.evaluate(View { values: black_box(&values), states: &states }));
    })
}

/// A reading through the whole engine.
fn reading(when: Option<&str>) -> f64 {
    let mut plan = plan();
    plan.rules = when.iter().map(|when| rule(when, &plan)).collect();
    let mut engine = Engine::new(plan, Restored::default());
    let (mut out, mut now) = (Vec::new(), 0);
    cost(|turn| {
        now += 1_000_000;
        let at = BootTime(now);
        let readings = vec![(ItemIndex(0), Ok(Value::Number(f64::from(turn % 50))))];
        engine.step(at, Input::Readings { at, readings }, &mut out);
        black_box(&out);
        out.clear();
    })
}

fn main() {
    println!("{:<62} {:>9}   wanted     reached", "rule", "measured");
    let row = |what: &str, nanos: f64| {
        let reached = if nanos <= WANTED_NS { "yes" } else { "NO" };
        println!("{what:<62} {nanos:>6.1} ns   ≤ {WANTED_NS:.0} ns   {reached}");
    };
    for when in CONDITIONS {
        let operations = rule(when, &plan()).when.len();
        row(&format!("evaluation, {operations} operations"), condition(when));
    }
    let (without, with) = (reading(None), reading(Some(CONDITIONS[2])));
    row("a reading's rule in the engine (with − without it)", with - without);
    println!("{:<62} {without:>6.1} ns   reported", "a reading through the engine without rules");
}
