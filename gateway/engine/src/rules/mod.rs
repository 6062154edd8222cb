//! Rules: a small, typed, total language with units and three-valued logic.
//!
//! ```text
//! temperature.coolant > 60 °C and (execution == running or saw.power.active >= 1.5 kW)
//! not input.1
//! activity != run
//! ```
//!
//! A name is an item of the rule's machine, or of another one with that machine's id in front;
//! `execution` and `activity` are compared with their words. A rule is parsed and checked once,
//! when the configuration is loaded; what runs is a flat list of operations that cannot loop,
//! allocate or fail. Text, nesting and size are bounded, before anything is parsed.

mod check;
mod condition;
mod overlap;
mod parse;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use check::parse;
pub use condition::{Condition, View};

use crate::event::Severity;
use crate::plan::{MachineIndex, TripIndex};

/// Longest text of one condition, in bytes.
pub const TEXT_MAX: usize = 4096;
/// Most operations in one condition.
pub const NODES_MAX: usize = 256;
/// Deepest nesting of parentheses and `not`.
pub const DEPTH_MAX: usize = 32;
/// How long the inputs of a rule may be unknown before `on_unknown` acts, when not configured.
pub const UNKNOWN_FOR_DEFAULT: Duration = Duration::from_secs(5);

/// A rule as somebody wrote it.
#[derive(Clone, Debug, Default)]
pub struct RuleSource {
    /// Its id, which becomes the alarm's.
    pub id: String,
    /// The machine's id.
    pub machine: String,
    /// The condition.
    pub when: String,
    /// How long it must hold.
    pub hold_for: Option<String>,
    /// The condition that ends it; `not when` without one.
    pub clear: Option<String>,
    /// `alarm`, `hold` or `trip`.
    pub on_unknown: Option<String>,
    /// How long unknown is waited out.
    pub unknown_for: Option<String>,
    /// `low`, `medium` or `high`.
    pub severity: Option<String>,
    /// The id of an output of kind `trip`.
    pub trip: Option<String>,
}

/// A fault in a rule: which key, where in its text, what is wrong, what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// The key as it is written in configuration: `when`, `for`, `clear`, …
    pub key: &'static str,
    /// Bytes of that key's text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// What a rule does about inputs that are unknown for `unknown_for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Raise the alarm, with unknown as its condition.
    Alarm,
    /// Keep what was known.
    Hold,
    /// Raise the alarm and trip.
    Trip,
}

/// A rule that is ready to run.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its id, which is the alarm's.
    pub id: Arc<str>,
    /// The machine that it is about.
    pub machine: MachineIndex,
    /// How urgent.
    pub severity: Severity,
    /// Raises the alarm.
    pub when: Condition,
    /// For how long it must hold first.
    pub hold_for: Duration,
    /// Ends it; `not when` without one.
    pub clear: Option<Condition>,
    /// What unknown means.
    pub on_unknown: OnUnknown,
    /// How long unknown is waited out.
    pub unknown_for: Duration,
    /// The output that it trips.
    pub trip: Option<TripIndex>,
}
