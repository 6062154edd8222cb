//! Conditions as they run: a flat list of operations on a stack of three-valued results.

use crate::event::{Activity, Execution};
use crate::plan::{ItemIndex, MachineIndex, Plan};
use crate::value::Measured;

use super::DEPTH_MAX;

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The last value of each item.
    pub values: &'a [Measured],
    /// What each machine does.
    pub states: &'a [(Execution, Activity)],
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Relation {
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => (left - right).abs() < f64::EPSILON,
            Self::NotEqual => (left - right).abs() >= f64::EPSILON,
            Self::GreaterOrEqual => left >= right,
            Self::Greater => left > right,
        }
    }
}

/// One operation; operands come before their operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Compare(ItemIndex, Relation, f64),
    Flag(ItemIndex),
    Execution(MachineIndex, Execution),
    Activity(MachineIndex, Activity),
    Not,
    And,
    Or,
}

/// A checked condition. Evaluating it takes time proportional to its length, at most
/// [`super::NODES_MAX`] operations, and allocates nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    operations: Box<[Operation]>,
}

/// Values waiting for an operator: nesting is at most [`DEPTH_MAX`], and each level holds at most
/// one left operand of `or` and one of `and`.
const STACK: usize = 2 * DEPTH_MAX + 3;

impl Condition {
    /// The operations must be a well-formed postfix expression; the parser makes no others.
    pub(super) fn new(operations: Vec<Operation>) -> Self {
        Self { operations: operations.into() }
    }

    /// True, false, or unknown when that depends on something unknown (Kleene's logic).
    pub fn evaluate(&self, view: View<'_>) -> Option<bool> {
        self.evaluate_by(|leaf| look(leaf, view))
    }

    /// The same, whatever the leaves may be.
    pub(super) fn evaluate_by(&self, look: impl Fn(Operation) -> Option<bool>) -> Option<bool> {
        let mut stack = [None; STACK];
        let mut top = 0;
        for operation in &self.operations {
            match *operation {
                Operation::Not => stack[top - 1] = stack[top - 1].map(|value: bool| !value),
                Operation::And => {
                    top -= 1;
                    stack[top - 1] = and(stack[top - 1], stack[top]);
                }
                Operation::Or => {
                    top -= 1;
                    stack[top - 1] = or(stack[top - 1], stack[top]);
                }
                leaf => {
                    stack[top] = look(leaf);
                    top += 1;
                }
            }
        }
        stack[0]
    }

    /// Its operations, in their order.
    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many operations it is.
    #[expect(clippy::len_without_is_empty, reason = "a condition is never empty")]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The items that it looks at.
    pub fn items(&self) -> impl Iterator<Item = ItemIndex> {
        self.operations.iter().filter_map(|operation| match *operation {
            Operation::Compare(item, ..) | Operation::Flag(item) => Some(item),
            _ => None,
        })
    }

    /// The machines whose state it looks at.
    pub fn machines(&self) -> impl Iterator<Item = MachineIndex> {
        self.operations.iter().filter_map(|operation| match *operation {
            Operation::Execution(machine, _) | Operation::Activity(machine, _) => Some(machine),
            _ => None,
        })
    }

    /// What it sees now, for a person: `temperature.coolant 63.2 °C, execution running`.
    pub fn describe(&self, plan: &Plan, home: MachineIndex, view: View<'_>) -> String {
        let mut seen: Vec<String> = Vec::new();
        let prefix = |machine: MachineIndex| match machine == home {
            true => String::new(),
            false => format!("{}.", plan.machines[usize::from(machine.0)].id),
        };
        for operation in &self.operations {
            let words = match *operation {
                Operation::Compare(index, ..) | Operation::Flag(index) => {
                    let item = &plan.items[index.0 as usize];
                    let name = format!("{}{}", prefix(item.machine), item.item.name);
                    match &view.values[index.0 as usize] {
                        Ok(value) => {
                            let unit = item.item.unit.shown();
                            format!("{name} {value} {unit}").trim_end().to_owned()
                        }
                        Err(why) => format!("{name} unknown ({why})"),
                    }
                }
                Operation::Execution(machine, _) => {
                    let execution = view.states[usize::from(machine.0)].0;
                    format!("{}execution {}", prefix(machine), execution.word())
                }
                Operation::Activity(machine, _) => {
                    let activity = view.states[usize::from(machine.0)].1;
                    format!("{}activity {}", prefix(machine), activity.word())
                }
                Operation::Not | Operation::And | Operation::Or => continue,
            };
            let words = words.trim_end().to_owned();
            if !seen.contains(&words) {
                seen.push(words);
            }
        }
        seen.join(", ")
    }
}

fn look(leaf: Operation, view: View<'_>) -> Option<bool> {
    match leaf {
        Operation::Compare(item, relation, limit) => {
            let value = view.values[item.0 as usize].as_ref().ok()?;
            Some(relation.holds(value.as_number()?, limit))
        }
        Operation::Flag(item) => view.values[item.0 as usize].as_ref().ok()?.as_flag(),
        Operation::Execution(machine, word) => {
            let now = view.states[usize::from(machine.0)].0;
            known(now == word, now == Execution::Unknown, word == Execution::Unknown)
        }
        Operation::Activity(machine, word) => {
            let now = view.states[usize::from(machine.0)].1;
            known(now == word, now == Activity::Unknown, word == Activity::Unknown)
        }
        Operation::Not | Operation::And | Operation::Or => None,
    }
}

/// Whether a state is a word: unknown while the state is, unless it is asked for by that word.
fn known(equal: bool, state_unknown: bool, asked_for_unknown: bool) -> Option<bool> {
    (asked_for_unknown || !state_unknown).then_some(equal)
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}
