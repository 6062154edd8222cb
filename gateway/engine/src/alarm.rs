//! One alarm per rule: condition, acknowledgement and latch as orthogonal states (ISA-18.2, OPC UA
//! Part 9).
//!
//! Unknown never clears an alarm. A rule that trips latches: its alarm stays until a person resets
//! it, and is not reset while its condition holds or is unknown.

use std::sync::Arc;

use crate::event::AlarmState;
use crate::rules::{OnUnknown, Rule};
use crate::time::BootTime;

/// What an evaluation led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing changed.
    Same,
    /// The alarm was raised, or raised again.
    Raised,
    /// Its condition ended or became unknown; or it left the list.
    Changed,
}

/// The alarm of one rule.
#[derive(Clone, Debug, Default)]
pub struct Alarm {
    /// `None` in the normal state.
    raised: Option<Raised>,
    /// Since when the condition holds without being raised yet.
    pending: Option<BootTime>,
    /// Since when its inputs are unknown.
    unknown: Option<BootTime>,
}

#[derive(Clone, Debug)]
struct Raised {
    at: BootTime,
    active: Option<bool>,
    acked: bool,
    latched: bool,
    cause: Arc<str>,
}

/// The condition of a rule as it was just evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Evaluated {
    /// `when`.
    pub when: Option<bool>,
    /// `clear`; the contrary of `when` for a rule without one.
    pub clear: Option<bool>,
}

impl Alarm {
    /// An alarm as it was left; one that is over stays over.
    pub fn restored(state: &AlarmState) -> Self {
        let over = state.active == Some(false) && state.acked && !state.latched;
        let raised = Raised {
            at: state.raised,
            // What has become of the condition since is not known before it is seen.
            active: if state.active == Some(false) { Some(false) } else { None },
            acked: state.acked,
            latched: state.latched,
            cause: state.cause.clone(),
        };
        Self { raised: (!over).then_some(raised), pending: None, unknown: None }
    }

    /// Takes the evaluation of its rule at `now`.
    pub fn step(&mut self, rule: &Rule, now: BootTime, evaluated: Evaluated) -> Outcome {
        match evaluated.when {
            Some(true) => {
                self.unknown = None;
                let since = *self.pending.get_or_insert(now);
                let holds = now.since(since) >= rule.hold_for;
                let active = self.raised.as_ref().is_some_and(|raised| raised.active == Some(true));
                if holds && !active {
                    return self.raise(now, Some(true), rule.trip.is_some());
                }
                Outcome::Same
            }
            Some(false) => {
                (self.pending, self.unknown) = (None, None);
                if evaluated.clear == Some(true) { self.end() } else { Outcome::Same }
            }
            None => self.step_unknown(rule, now),
        }
    }

    fn step_unknown(&mut self, rule: &Rule, now: BootTime) -> Outcome {
        let since = *self.unknown.get_or_insert(now);
        if now.since(since) < rule.unknown_for {
            return Outcome::Same;
        }
        match (&mut self.raised, rule.on_unknown) {
            (Some(raised), _) if raised.active == Some(true) => {
                raised.active = None;
                Outcome::Changed
            }
            (Some(raised), OnUnknown::Alarm | OnUnknown::Trip) if raised.active == Some(false) => {
                self.raise(now, None, rule.on_unknown == OnUnknown::Trip)
            }
            (None, OnUnknown::Alarm | OnUnknown::Trip) => {
                self.raise(now, None, rule.on_unknown == OnUnknown::Trip)
            }
            _ => Outcome::Same,
        }
    }

    fn raise(&mut self, now: BootTime, active: Option<bool>, latches: bool) -> Outcome {
        let latched = latches || self.raised.as_ref().is_some_and(|raised| raised.latched);
        let cause = Arc::from("");
        self.raised = Some(Raised { at: now, active, acked: false, latched, cause });
        Outcome::Raised
    }

    fn end(&mut self) -> Outcome {
        match &mut self.raised {
            Some(raised) if raised.active != Some(false) => {
                raised.active = Some(false);
                self.leave_when_over();
                Outcome::Changed
            }
            _ => Outcome::Same,
        }
    }

    /// Notes what the rule saw when the alarm was raised.
    pub fn set_cause(&mut self, cause: &str) {
        if let Some(raised) = &mut self.raised {
            raised.cause = cause.into();
        }
    }

    /// A person has seen it. Returns whether that changed anything.
    pub fn acknowledge(&mut self) -> bool {
        let Some(raised) = &mut self.raised else { return false };
        let changed = !raised.acked;
        raised.acked = true;
        self.leave_when_over();
        changed
    }

    /// A person resets its latch. `Err` says why not.
    ///
    /// # Errors
    /// While it is not latched, or its condition holds or is unknown.
    pub fn reset(&mut self) -> Result<(), &'static str> {
        let Some(raised) = self.raised.as_mut().filter(|raised| raised.latched) else {
            return Err("it is not latched");
        };
        match raised.active {
            Some(true) => return Err("its condition still holds"),
            None => return Err("its condition is unknown"),
            Some(false) => {}
        }
        (raised.latched, raised.acked) = (false, true);
        self.leave_when_over();
        Ok(())
    }

    /// Whether it is latched.
    pub fn is_latched(&self) -> bool {
        self.raised.as_ref().is_some_and(|raised| raised.latched)
    }

    /// Whether there is anything to look at.
    pub fn is_raised(&self) -> bool {
        self.raised.is_some()
    }

    fn leave_when_over(&mut self) {
        let over =
            |raised: &Raised| raised.active == Some(false) && raised.acked && !raised.latched;
        if self.raised.as_ref().is_some_and(over) {
            self.raised = None;
        }
    }

    /// Its state in the words of events. `now` stands in when it is over.
    pub fn state(&self, rule: &Rule, machine: &Arc<str>, now: BootTime) -> AlarmState {
        let over = Raised {
            at: now,
            active: Some(false),
            acked: true,
            latched: false,
            cause: Arc::from(""),
        };
        let raised = self.raised.as_ref().unwrap_or(&over);
        AlarmState {
            alarm: rule.id.clone(),
            machine: machine.clone(),
            severity: rule.severity,
            active: raised.active,
            acked: raised.acked,
            latched: raised.latched,
            raised: raised.at,
            cause: raised.cause.clone(),
        }
    }
}
