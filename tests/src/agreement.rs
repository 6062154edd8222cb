//! Whether a board agreed with the machine it shows, second by second.
//!
//! Two series are compared: what the machine itself said, sampled often, and what the board said.
//! The board is right when every fact it shows was the machine's own within the time that a reading
//! may take to get there; a number may lie between two of the machine's own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// How far two numbers may be apart and still be the same one.
const SAME: f64 = 1e-6;

/// What was said at one moment. A fact without a value is null.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was asked for.
    pub from: Duration,
    /// When the answer was there.
    pub until: Duration,
    /// By name.
    pub facts: BTreeMap<&'static str, Value>,
}

/// Every fact of the board that was not the machine's own in the time from `lag` before the board
/// was asked until the first sample after it answered; in words.
///
/// The machine is sampled `every` so often, and the samples of one `lag` before the board was asked
/// always count. Without a stall they lie within it; in a machine that stalls and cannot be sampled,
/// they are older, and what the gateway has of it is no younger.
pub fn mismatches(
    machine: &[Sample],
    board: &[Sample],
    lag: Duration,
    every: Duration,
) -> Vec<String> {
    let always = usize::try_from(lag.as_millis() / every.as_millis().max(1)).unwrap_or(0);
    let mut wrong = Vec::new();
    for shown in board {
        let earliest = shown.from.saturating_sub(lag);
        let before = machine.partition_point(|sample| sample.until <= shown.from);
        let end = machine.partition_point(|sample| sample.from <= shown.until);
        let known: Vec<&Sample> = machine
            .iter()
            .enumerate()
            .take((end + 1).min(machine.len()))
            .filter(|(nth, sample)| sample.until >= earliest || nth + always >= before)
            .map(|(_, sample)| sample)
            .collect();
        for (name, value) in &shown.facts {
            let allowed: Vec<&Value> =
                known.iter().map(|sample| sample.facts.get(name).unwrap_or(&Value::Null)).collect();
            if !allows(&allowed, value) {
                wrong.push(format!("{:.1?}: {name} is {value}, not of {allowed:?}", shown.until));
            }
        }
    }
    wrong
}

fn allows(allowed: &[&Value], shown: &Value) -> bool {
    let Some(number) = shown.as_f64() else { return allowed.contains(&shown) };
    let numbers = || allowed.iter().filter_map(|value| value.as_f64());
    let least = numbers().fold(f64::INFINITY, f64::min);
    let most = numbers().fold(f64::NEG_INFINITY, f64::max);
    (least - SAME..=most + SAME).contains(&number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LAG: Duration = Duration::from_secs(2);
    const EVERY: Duration = Duration::from_secs(1);

    fn series(states: &[(u64, &str, Value)]) -> Vec<Sample> {
        let sample = |(second, state, heat): &(u64, &str, Value)| {
            let at = Duration::from_secs(*second);
            let facts = BTreeMap::from([("state", json!(state)), ("heat", heat.clone())]);
            Sample { from: at, until: at, facts }
        };
        states.iter().map(sample).collect()
    }

    fn machine() -> Vec<Sample> {
        let change = |second| match second {
            0..10 => (second, "ready", json!(20)),
            10 => (second, "running", json!(20)),
            _ => (second, "running", json!(60)),
        };
        series(&(0..20).map(change).collect::<Vec<_>>())
    }

    fn wrong(second: u64, state: &str, heat: Value) -> usize {
        mismatches(&machine(), &series(&[(second, state, heat)]), LAG, EVERY).len()
    }

    #[test]
    fn the_machines_own_word_is_right_and_a_little_late_too() {
        assert_eq!(wrong(5, "ready", json!(20.0)), 0);
        assert_eq!(wrong(11, "ready", json!(40.5)), 0);
        assert_eq!(wrong(9, "running", json!(20)), 0, "the next sample counts");
        assert_eq!(wrong(15, "running", json!(60)), 0);
    }

    #[test]
    fn what_the_machine_did_not_say_is_counted() {
        assert_eq!(wrong(12, "ready", json!(60)), 1, "too late");
        assert_eq!(wrong(5, "running", json!(60)), 2, "too early");
        assert_eq!(wrong(5, "paused", json!(20)), 1);
        assert_eq!(wrong(5, "ready", json!(20.1)), 1);
        assert_eq!(wrong(5, "ready", Value::Null), 1, "no value where there is one");
        let nothing = mismatches(&[], &series(&[(0, "ready", json!(20))]), LAG, EVERY);
        assert_eq!(nothing.len(), 2, "nothing is right by default");
    }

    #[test]
    fn a_value_where_the_machine_has_none_is_counted() {
        let silent = series(&[(0, "unknown", Value::Null), (1, "unknown", Value::Null)]);
        let wrong = |heat| mismatches(&silent, &series(&[(1, "unknown", heat)]), LAG, EVERY).len();
        assert_eq!(wrong(json!(0)), 1);
        assert_eq!(wrong(Value::Null), 0);
    }

    #[test]
    fn what_was_said_before_a_stall_of_the_machine_may_still_be_shown() {
        // Between the third second and the tenth it answers nobody.
        let said = |second| (second, if second < 3 { "ready" } else { "running" }, json!(20));
        let stalled = series(&[0, 1, 2, 10, 11, 12, 13].map(said));
        let wrong = |second| {
            mismatches(&stalled, &series(&[(second, "ready", json!(20))]), LAG, EVERY).len()
        };
        assert_eq!(wrong(9), 0);
        assert_eq!(wrong(10), 0);
        assert_eq!(wrong(12), 1, "it speaks again, and has been heard by now");
    }
}
