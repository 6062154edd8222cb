//! The picture of one machine that an agent's observations add up to: the data items chosen from its
//! model, their last texts, and the conditions that are not normal. Says it in andon's words. Knows
//! nothing of requests, sequence numbers or restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use andon_engine::event::Execution;
use andon_engine::value::{Unavailable, Value};

use super::document::{Component, DataItem, Observation};
use crate::device::Outbox;
use crate::http::unavailable_but;

/// Most conditions that are not normal.
const CONDITIONS_MAX: usize = 256;

/// What a data item is to andon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Availability,
    Execution,
    EmergencyStop,
    Mode,
    Program,
    Message,
    Feed,
    FeedOverride,
    Spindle,
    Parts,
    Tool,
    Position(char),
}

/// How bad a condition is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Fault,
    Warning,
}

/// Availability, execution and emergency stop, and the conditions that are not normal.
pub(super) type State = ([Option<String>; 3], Vec<(Level, String)>);

/// What is known of a machine.
#[derive(Debug, Default)]
pub(super) struct Picture {
    roles: BTreeMap<String, Role>,
    conditions_of: BTreeSet<String>,
    texts: BTreeMap<Role, String>,
    /// Level and words of what is not normal, by data item and native code.
    conditions: BTreeMap<(String, String), (Level, String)>,
}

impl Picture {
    /// Chooses the first data item of each role among those of one path.
    pub(super) fn choose(&mut self, components: &[Component], items: &[&DataItem]) {
        *self = Self::default();
        let mut taken = Vec::new();
        for &item in items {
            if item.category == "CONDITION" {
                self.conditions_of.insert(item.id.clone());
            } else if let Some(role) = role(components, item).filter(|role| !taken.contains(role)) {
                taken.push(role);
                self.roles.insert(item.id.clone(), role);
            }
        }
    }

    /// Forgets every observation; the choice stays.
    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.conditions.clear();
    }

    /// Takes an observation of a chosen item or of a condition.
    pub(super) fn observe(&mut self, observation: Observation) {
        let Observation { item, element, code, text } = observation;
        if let Some(role) = self.roles.get(&item) {
            self.texts.insert(*role, text);
            return;
        }
        if !self.conditions_of.contains(&item) {
            return;
        }
        let level = match &*element {
            "Fault" => Level::Fault,
            "Warning" => Level::Warning,
            // Normal without a code ends all of the item's; so does Unavailable.
            _ if code.is_empty() || element == "Unavailable" => {
                return self.conditions.retain(|(of, _), _| *of != item);
            }
            _ => {
                self.conditions.remove(&(item, code));
                return;
            }
        };
        let words = if text.is_empty() { code.clone() } else { text };
        if level == Level::Fault && self.conditions.len() >= CONDITIONS_MAX {
            self.drop_a_warning();
        }
        if self.conditions.len() < CONDITIONS_MAX {
            self.conditions.insert((item, code), (level, words));
        }
    }

    /// No number of warnings may hide a fault.
    fn drop_a_warning(&mut self) {
        let mut all = self.conditions.iter();
        let warning = all.find(|(_, (level, _))| *level == Level::Warning);
        if let Some(key) = warning.map(|(key, _)| key.clone()) {
            self.conditions.remove(&key);
        }
    }

    /// The text of a role, when there is a value.
    fn text(&self, role: Role) -> Option<&str> {
        let text = self.texts.get(&role).map(|text| text.trim());
        text.filter(|text| !text.is_empty() && *text != "UNAVAILABLE")
    }

    /// What the machine does, in the agent's words, as far as it is said at once when it changes.
    pub(super) fn state(&self) -> State {
        let roles = [Role::Availability, Role::Execution, Role::EmergencyStop];
        let texts = roles.map(|role| self.texts.get(&role).cloned());
        let conditions = self.conditions.values();
        (texts, conditions.map(|(level, words)| (*level, words.clone())).collect())
    }

    /// Says all of it, as items of a device with these axes.
    pub(super) fn say(&self, items: &[Arc<str>], axes: &[char], out: &mut Outbox) {
        let available = self.texts.get(&Role::Availability).is_none_or(|text| text == "AVAILABLE");
        if !available {
            unavailable_but(&[], items, Unavailable::Sentinel, out);
            out.trouble =
                Some("the agent answers, but the machine is not connected to it".to_owned());
            return;
        }
        match self.text(Role::Execution) {
            Some(word) => out.execution(word, self.execution(word)),
            None => {
                out.say("controller.state", Err(Unavailable::Sentinel));
                let stopped = self.text(Role::EmergencyStop) == Some("TRIGGERED");
                let execution = stopped.then(|| Execution::Stopped.word().into());
                let value = execution.map(Value::Text);
                out.say("execution", value.ok_or(Unavailable::Sentinel));
            }
        }
        self.say_words("controller.mode", self.text(Role::Mode), out);
        self.say_words("job.name", self.text(Role::Program), out);
        let worst = self.conditions.values().min_by_key(|(level, _)| *level);
        let message = worst.map(|(_, words)| &**words).or_else(|| self.text(Role::Message));
        self.say_words("message", message, out);
        // The standard's unit is mm/s.
        self.say_number("feed", Role::Feed, 60.0, out);
        self.say_number("override.feed", Role::FeedOverride, 0.01, out);
        self.say_number("speed.spindle", Role::Spindle, 1.0, out);
        self.say_number("parts", Role::Parts, 1.0, out);
        self.say_number("tool", Role::Tool, 1.0, out);
        for axis in axes {
            self.say_number(&format!("position.{axis}"), Role::Position(*axis), 1.0, out);
        }
    }

    fn say_words(&self, item: &str, words: Option<&str>, out: &mut Outbox) {
        match words {
            Some(words) => out.text(item, words),
            None => out.say(item, Err(Unavailable::Sentinel)),
        }
    }

    fn say_number(&self, item: &str, role: Role, scale: f64, out: &mut Outbox) {
        match self.text(role).map(str::parse::<f64>) {
            None => out.say(item, Err(Unavailable::Sentinel)),
            Some(Ok(number)) => out.number(item, number * scale),
            Some(Err(_)) => out.say(item, Err(Unavailable::Garbled)),
        }
    }

    fn execution(&self, word: &str) -> Option<Execution> {
        let stopped = self.text(Role::EmergencyStop) == Some("TRIGGERED");
        let fault = self.conditions.values().any(|(level, _)| *level == Level::Fault);
        execution(word, stopped, fault)
    }
}

/// What a data item of a model is to andon, if anything.
fn role(components: &[Component], item: &DataItem) -> Option<Role> {
    let percent = item.units == "PERCENT" || item.subtype == "OVERRIDE";
    let actual = matches!(&*item.subtype, "" | "ACTUAL") && !percent;
    match &*item.kind {
        "AVAILABILITY" => Some(Role::Availability),
        "EXECUTION" => Some(Role::Execution),
        "EMERGENCY_STOP" => Some(Role::EmergencyStop),
        "CONTROLLER_MODE" => Some(Role::Mode),
        "PROGRAM" => Some(Role::Program),
        "MESSAGE" => Some(Role::Message),
        "PATH_FEEDRATE" if percent => Some(Role::FeedOverride),
        "PATH_FEEDRATE" if actual => Some(Role::Feed),
        "PATH_FEEDRATE_OVERRIDE" if item.subtype != "RAPID" => Some(Role::FeedOverride),
        "ROTARY_VELOCITY" | "SPINDLE_SPEED" if actual => Some(Role::Spindle),
        "PART_COUNT" if matches!(&*item.subtype, "" | "ALL") => Some(Role::Parts),
        "TOOL_NUMBER" => Some(Role::Tool),
        "POSITION" if actual => {
            let component = components.get(item.component).filter(|of| of.kind == "Linear")?;
            let axis = component.name.chars().next()?.to_ascii_lowercase();
            "xyz".contains(axis).then_some(Role::Position(axis))
        }
        _ => None,
    }
}

/// The table of the protocol, but for what is unavailable.
fn execution(word: &str, stopped: bool, fault: bool) -> Option<Execution> {
    match word {
        _ if stopped => Some(Execution::Stopped),
        "ACTIVE" => Some(Execution::Running),
        _ if fault => Some(Execution::Fault),
        "READY" | "STOPPED" => Some(Execution::Ready),
        "INTERRUPTED"
        | "FEED_HOLD"
        | "OPTIONAL_STOP"
        | "PROGRAM_STOPPED"
        | "PROGRAM_OPTIONAL_STOP"
        | "WAIT" => Some(Execution::Paused),
        "PROGRAM_COMPLETED" => Some(Execution::Finished),
        _ => None,
    }
}
