//! `[rule.ID]`: hands each rule's words to the engine's language and brings what is wrong back
//! to the file and line of the key, with a caret under the part at fault.

use andon_engine::plan::Plan;
use andon_engine::rules::{Rule, RuleProblem, RuleSource, parse};

use super::keys;
use super::machine::Machine;
use super::named::Named;
use super::output::Output;
use super::plan::RuleFace;
use super::problem::Excerpt;
use super::section::Section;

/// Most rules.
pub(super) const RULES_MAX: usize = 10_000;

/// Every `[rule.ID]`, for people and for the engine, in the same order.
pub(super) fn rules<'a>(
    root: &Section<'a>,
    machines: &Named<'a, Machine>,
    outputs: &Named<'a, Output>,
    engine: &Plan,
) -> (Vec<RuleFace>, Vec<Rule>) {
    let rules = Named::read(root, "rule", RULES_MAX, |id, section| {
        section.only(keys::RULE);
        let message = section.need("message", "\"what to do\"", section.name("message"));
        let machine = machines.named_by(section, "machine");
        let machine = section.need("machine", "\"laser\"", machine);
        let trip = section.text("trip");
        let trip_fails = trip.is_some_and(|id| outputs.resolve(section, "trip", id).is_none());
        let when = section.need("when", "\"temperature > 60 °C\"", section.text("when"));
        let word = |key| section.text(key).map(str::to_owned);
        let home = machine.map(|machine| &machines.list[machine]);
        let source = RuleSource {
            id: id.to_owned(),
            machine: home.map(|machine| machine.id.to_string()).unwrap_or_default(),
            when: when.unwrap_or_default().to_owned(),
            hold_for: word("for"),
            clear: word("clear"),
            on_unknown: word("on_unknown"),
            unknown_for: word("unknown_for"),
            severity: word("severity"),
            trip: trip.map(str::to_owned),
        };
        match parse(&source, engine) {
            Ok(rule) => Some((RuleFace { message: message? }, rule)),
            Err(problems) => {
                for problem in problems {
                    // What is there but wrong is reported where it stands.
                    let reported = match problem.key {
                        "trip" => trip_fails,
                        "machine" => machine.is_none(),
                        "when" => when.is_none(),
                        _ => false,
                    };
                    if !reported {
                        report(section, problem, machines, home);
                    }
                }
                None
            }
        }
    });
    rules.list.into_iter().unzip()
}

/// Brings a problem of the engine's to the line of its key.
fn report(
    section: &Section<'_>,
    problem: RuleProblem,
    machines: &Named<'_, Machine>,
    home: Option<&Machine>,
) {
    let RuleProblem { key, span, message, hint } = problem;
    let text = section.get(key).and(section.text(key)).unwrap_or_default();
    let at_fault = text.get(span.clone()).unwrap_or_default();
    // A machine that is there but wrong is reported where it stands.
    if machines.broken().any(|id| at_fault.split('.').next() == Some(id)) {
        return;
    }
    let (machine, item) = match at_fault.split_once('.') {
        Some((id, item)) if machines.list.iter().any(|machine| &*machine.id == id) => {
            (machines.list.iter().find(|machine| &*machine.id == id), item)
        }
        _ => (home, at_fault),
    };
    if machine.is_some_and(|machine| machine.lost.iter().any(|lost| lost == item)) {
        return;
    }
    if matches!(key, "when" | "clear") && !text.is_empty() {
        section.problem_in_text(key, message, hint, Excerpt::of(text, &span));
    } else {
        section.problem(key, message, hint);
    }
}
