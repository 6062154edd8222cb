//! From a rule as written to a rule that runs: every fault of it at once.

use std::time::Duration;

use crate::event::Severity;
use crate::plan::{MachineIndex, Plan, TripIndex};
use crate::unit::parse_duration;

use super::condition::Condition;
use super::overlap;
use super::parse::{condition, nearest};
use super::{OnUnknown, Rule, RuleProblem, RuleSource, UNKNOWN_FOR_DEFAULT};

/// Longest `for` and `unknown_for`: a rule that waits longer watches nothing.
const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Parses and checks a rule against the machines, items and trips of `plan` (its rules are not
/// looked at).
///
/// # Errors
/// Every fault, with the key and the place in its text.
pub fn parse(source: &RuleSource, plan: &Plan) -> Result<Rule, Vec<RuleProblem>> {
    let mut faults = Vec::new();
    // Without its machine a condition says nothing; the other keys do.
    let machine = machine(&source.machine, plan, &mut faults);
    let mut conditioned = |key, text: &str| {
        machine.and_then(|machine| note(condition(key, text, machine, plan), &mut faults))
    };
    let when = conditioned("when", &source.when);
    let clear = source.clear.as_deref();
    let clear = clear.map(|text| conditioned("clear", text).map(|(clear, _)| clear));
    let hold_for = wait("for", source.hold_for.as_deref(), Duration::ZERO, &mut faults);
    let unknown_for =
        wait("unknown_for", source.unknown_for.as_deref(), UNKNOWN_FOR_DEFAULT, &mut faults);
    let severity = severity(source.severity.as_deref(), &mut faults);
    let trip = source.trip.as_deref().and_then(|id| trip(id, machine, plan, &mut faults));
    if let (Some((when, _)), Some(Some(clear)), Some(text)) = (&when, &clear, &source.clear)
        && overlap::contradicts(when, clear, plan)
    {
        let message = "this can hold while \"when\" still does: the alarm would never rest";
        let hint = overlap::other_side(when, clear, plan);
        faults.push(fault("clear", text, message.to_owned(), Some(hint)));
    }
    let on_unknown = on_unknown(source, &mut faults);
    if let Some((_, true)) = when
        && clear.is_none()
        && hold_for == Duration::ZERO
    {
        faults.push(RuleProblem {
            key: "when",
            span: 0..source.when.len(),
            message: "a measured quantity flickers around its limit".to_owned(),
            hint: Some("give the rule a \"clear\" condition or a \"for\"".to_owned()),
        });
    }
    match (machine, when, clear) {
        (Some(machine), Some((when, _)), clear) if faults.is_empty() => Ok(Rule {
            id: source.id.as_str().into(),
            machine,
            severity,
            when,
            hold_for,
            clear: clear.flatten(),
            on_unknown,
            unknown_for,
            trip,
        }),
        _ => Err(faults),
    }
}

fn note(
    parsed: Result<(Condition, bool), RuleProblem>,
    faults: &mut Vec<RuleProblem>,
) -> Option<(Condition, bool)> {
    parsed.map_err(|fault| faults.push(fault)).ok()
}

/// A fault about the whole text of a key.
fn fault(key: &'static str, text: &str, message: String, hint: Option<String>) -> RuleProblem {
    RuleProblem { key, span: 0..text.len(), message, hint }
}

fn machine(id: &str, plan: &Plan, faults: &mut Vec<RuleProblem>) -> Option<MachineIndex> {
    let found = plan.machines.iter().position(|machine| &*machine.id == id);
    if found.is_none() {
        let ids = plan.machines.iter().map(|machine| machine.id.to_string());
        let hint = nearest(id, ids).map(|id| format!("did you mean \"{id}\"?"));
        faults.push(fault("machine", id, format!("there is no machine \"{id}\""), hint));
    }
    found.and_then(|index| u16::try_from(index).ok()).map(MachineIndex)
}

fn trip(
    id: &str,
    machine: Option<MachineIndex>,
    plan: &Plan,
    faults: &mut Vec<RuleProblem>,
) -> Option<TripIndex> {
    let Some(index) = plan.trips.iter().position(|trip| &*trip.id == id) else {
        let ids = plan.trips.iter().map(|trip| trip.id.to_string());
        let hint = nearest(id, ids).map(|id| format!("did you mean \"{id}\"?"));
        faults.push(fault("trip", id, format!("there is no output \"{id}\" of kind trip"), hint));
        return None;
    };
    if machine.is_some_and(|machine| plan.trips[index].machine != machine) {
        let other = &plan.machines[usize::from(plan.trips[index].machine.0)].id;
        let message = format!("\"{id}\" stops {other}, which this rule is not about");
        faults.push(fault("trip", id, message, None));
    }
    u16::try_from(index).ok().map(TripIndex)
}

fn wait(
    key: &'static str,
    text: Option<&str>,
    default: Duration,
    faults: &mut Vec<RuleProblem>,
) -> Duration {
    let Some(text) = text else { return default };
    match parse_duration(text) {
        Ok(wait) if wait <= WAIT_MAX => wait,
        Ok(_) => {
            faults.push(fault(key, text, "longer than a week".to_owned(), None));
            default
        }
        Err(error) => {
            let hint = Some("a duration such as \"2 s\" or \"5 min\"".to_owned());
            faults.push(fault(key, text, error.to_string(), hint));
            default
        }
    }
}

fn severity(text: Option<&str>, faults: &mut Vec<RuleProblem>) -> Severity {
    match text {
        None | Some("medium") => Severity::Medium,
        Some("low") => Severity::Low,
        Some("high") => Severity::High,
        Some(other) => {
            let hint = Some("low, medium or high".to_owned());
            let message = format!("\"{other}\" is no severity");
            faults.push(fault("severity", other, message, hint));
            Severity::Medium
        }
    }
}

fn on_unknown(source: &RuleSource, faults: &mut Vec<RuleProblem>) -> OnUnknown {
    let hint = || Some("alarm, hold or trip".to_owned());
    match source.on_unknown.as_deref() {
        Some("alarm") => OnUnknown::Alarm,
        Some("hold") => OnUnknown::Hold,
        Some("trip") if source.trip.is_some() => OnUnknown::Trip,
        Some(text @ "trip") => {
            let message = "the rule has no output to trip".to_owned();
            faults.push(fault("on_unknown", text, message, Some("add \"trip\"".to_owned())));
            OnUnknown::Alarm
        }
        Some(other) => {
            let message = format!("\"{other}\" is no way to deal with unknown");
            faults.push(fault("on_unknown", other, message, hint()));
            OnUnknown::Alarm
        }
        None => {
            if source.trip.is_some() {
                let message = "a rule that trips must say what unknown means".to_owned();
                faults.push(fault("on_unknown", "", message, hint()));
            }
            OnUnknown::Alarm
        }
    }
}
