//! Whether the condition that ends an alarm can hold while the one that raises it does.
//!
//! Decided, not guessed: comparisons change their answer at their limits only, so it is enough to
//! try the limits, what lies between them and what lies beyond, in all combinations. Where there
//! are more than [`COMBINATIONS_MAX`], or where `clear` looks at anything that `when` does not
//! compare (a button, a door, a state), nothing is claimed.

use std::collections::BTreeMap;

use crate::event::Execution;
use crate::plan::{ItemIndex, MachineIndex, Plan};

use super::condition::{Condition, Operation, Relation};

/// Most combinations tried: bounds the time that a configuration takes to check.
const COMBINATIONS_MAX: usize = 4096;

/// Something that conditions look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Item(ItemIndex),
    Machine(MachineIndex),
}

/// What it can be.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Number(f64),
    Flag(bool),
    State(Execution),
}

/// Whether there is a moment at which both hold, by what `when` compares itself.
pub(super) fn contradicts(when: &Condition, clear: &Condition, plan: &Plan) -> bool {
    let compared: Vec<ItemIndex> = limits(when).map(|(item, ..)| item).collect();
    let comparable = leaves(clear).all(|leaf| match leaf {
        Operation::Compare(item, ..) => compared.contains(&item),
        _ => false,
    });
    comparable && can_both_hold(when, clear, plan) == Some(true)
}

/// What to write instead.
pub(super) fn other_side(when: &Condition, clear: &Condition, plan: &Plan) -> String {
    let advice = "write a condition that cannot hold before \"when\" has ended";
    let (Some((item, relation, limit)), Some((_, _, end))) = (single(when), single(clear)) else {
        return advice.to_owned();
    };
    let (sign, end) = match relation {
        Relation::Greater | Relation::GreaterOrEqual => ("<", end.min(limit)),
        Relation::Less | Relation::LessOrEqual => (">", end.max(limit)),
        Relation::Equal | Relation::NotEqual => return advice.to_owned(),
    };
    let item = &plan.items[item.0 as usize].item;
    format!("{advice}: \"{} {sign} {end} {}", item.name, item.unit.shown()).trim_end().to_owned()
        + "\""
}

fn leaves(condition: &Condition) -> impl Iterator<Item = Operation> + '_ {
    let operator = |op: &Operation| matches!(op, Operation::Not | Operation::And | Operation::Or);
    condition.operations().iter().copied().filter(move |operation| !operator(operation))
}

fn limits(condition: &Condition) -> impl Iterator<Item = (ItemIndex, Relation, f64)> + '_ {
    leaves(condition).filter_map(|leaf| match leaf {
        Operation::Compare(item, relation, limit) => Some((item, relation, limit)),
        _ => None,
    })
}

/// The comparison that a condition is, when it is nothing but one.
fn single(condition: &Condition) -> Option<(ItemIndex, Relation, f64)> {
    (condition.operations().len() == 1).then(|| limits(condition).next()).flatten()
}

/// Tries all combinations; `None` when there are too many.
fn can_both_hold(one: &Condition, other: &Condition, plan: &Plan) -> Option<bool> {
    let guesses: Vec<(Subject, Vec<Guess>)> = guesses(one, other, plan).into_iter().collect();
    let counts = guesses.iter().map(|(_, all)| all.len());
    let combinations = counts.fold(1, usize::saturating_mul);
    if combinations > COMBINATIONS_MAX {
        return None;
    }
    Some((0..combinations).any(|mut number| {
        let mut now = BTreeMap::new();
        for (subject, all) in &guesses {
            now.insert(*subject, all[number % all.len()]);
            number /= all.len();
        }
        let holds = |condition: &Condition| condition.evaluate_by(|leaf| look(leaf, &now));
        holds(one) == Some(true) && holds(other) == Some(true)
    }))
}

/// Everything that both look at, with what is worth trying.
fn guesses(one: &Condition, other: &Condition, plan: &Plan) -> BTreeMap<Subject, Vec<Guess>> {
    let mut guesses = BTreeMap::new();
    let mut compared: BTreeMap<ItemIndex, Vec<f64>> = BTreeMap::new();
    for leaf in leaves(one).chain(leaves(other)) {
        match leaf {
            Operation::Compare(item, _, limit) => compared.entry(item).or_default().push(limit),
            Operation::Flag(item) => {
                let flags = [false, true].map(Guess::Flag).to_vec();
                guesses.insert(Subject::Item(item), flags);
            }
            Operation::Execution(machine, _) | Operation::Activity(machine, _) => {
                let states = Execution::ALL.map(Guess::State).to_vec();
                guesses.insert(Subject::Machine(machine), states);
            }
            Operation::Not | Operation::And | Operation::Or => {}
        }
    }
    for (item, mut limits) in compared {
        let believed = &plan.items[item.0 as usize].item;
        limits.extend([believed.least, believed.greatest]);
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        // Halves first: infinities have no middle.
        let between = limits.windows(2).map(|pair| pair[0] / 2.0 + pair[1] / 2.0);
        let numbers = limits.iter().copied().chain(between).filter(|number| number.is_finite());
        guesses.insert(Subject::Item(item), numbers.map(Guess::Number).collect());
    }
    guesses
}

fn look(leaf: Operation, now: &BTreeMap<Subject, Guess>) -> Option<bool> {
    match leaf {
        Operation::Compare(item, relation, limit) => match now.get(&Subject::Item(item))? {
            Guess::Number(number) => Some(relation.holds(*number, limit)),
            Guess::Flag(_) | Guess::State(_) => None,
        },
        Operation::Flag(item) => match now.get(&Subject::Item(item))? {
            Guess::Flag(flag) => Some(*flag),
            Guess::Number(_) | Guess::State(_) => None,
        },
        Operation::Execution(machine, word) => state(machine, now).map(|now| now == word),
        Operation::Activity(machine, word) => state(machine, now).map(|now| now.activity() == word),
        Operation::Not | Operation::And | Operation::Or => None,
    }
}

fn state(machine: MachineIndex, now: &BTreeMap<Subject, Guess>) -> Option<Execution> {
    match now.get(&Subject::Machine(machine))? {
        Guess::State(state) => Some(*state),
        Guess::Number(_) | Guess::Flag(_) => None,
    }
}
