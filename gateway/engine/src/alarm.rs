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
    /// The alarm was raised, or raised again; `trips` says whether its output is to cut.
    Raised {
        /// Whether the rule's output is to cut.
        trips: bool,
    },
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
    /// The condition as it was evaluated last; unknown before that.
    condition: Option<bool>,
}

#[derive(Clone, Debug)]
struct Raised {
    at: BootTime,
    active: Option<bool>,
    acked: bool,
    latched: bool,
    /// Whether the condition was ever seen to hold; otherwise unknown alone raised it.
    seen: bool,
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
            seen: state.latched || state.active == Some(true),
            cause: state.cause.clone(),
        };
        Self { raised: (!over).then_some(raised), ..Self::default() }
    }

    /// Takes the evaluation of its rule at `now`.
    pub fn step(&mut self, rule: &Rule, now: BootTime, evaluated: Evaluated) -> Outcome {
        self.condition = evaluated.when;
        match evaluated.when {
            Some(true) => self.step_true(rule, now),
            Some(false) => {
                (self.pending, self.unknown) = (None, None);
                let unsure = self.raised.as_mut().filter(|raised| raised.active.is_none());
                match unsure {
                    // Known again, and not past the limit that ends it: it goes on.
                    Some(raised) if raised.seen && evaluated.clear != Some(true) => {
                        raised.active = Some(true);
                        Outcome::Changed
                    }
                    Some(_) => self.end(),
                    None if evaluated.clear == Some(true) => self.end(),
                    None => Outcome::Same,
                }
            }
            None => self.step_unknown(rule, now),
        }
    }

    fn step_true(&mut self, rule: &Rule, now: BootTime) -> Outcome {
        if let (Some(pending), Some(unknown)) = (&mut self.pending, self.unknown.take()) {
            // Time in which nobody knew does not count towards `for`.
            *pending = *pending + now.since(unknown);
        }
        self.unknown = None;
        let since = *self.pending.get_or_insert(now);
        if now.since(since) < rule.hold_for {
            return Outcome::Same;
        }
        match &mut self.raised {
            Some(raised) if raised.active == Some(true) => Outcome::Same,
            Some(raised) if raised.active.is_none() && raised.seen => {
                // It is the alarm that was there before nobody knew; nobody is told twice.
                raised.active = Some(true);
                Outcome::Changed
            }
            _ => self.raise(now, Some(true), rule.trip.is_some()),
        }
    }

    fn step_unknown(&mut self, rule: &Rule, now: BootTime) -> Outcome {
        let since = *self.unknown.get_or_insert(now);
        if now.since(since) < rule.unknown_for {
            return Outcome::Same;
        }
        let trips = rule.on_unknown == OnUnknown::Trip;
        match (&mut self.raised, rule.on_unknown) {
            (Some(raised), _) if raised.active == Some(true) => {
                raised.active = None;
                Outcome::Changed
            }
            (Some(raised), OnUnknown::Alarm | OnUnknown::Trip) if raised.active == Some(false) => {
                self.raise(now, None, trips)
            }
            (None, OnUnknown::Alarm | OnUnknown::Trip) => self.raise(now, None, trips),
            _ => Outcome::Same,
        }
    }

    fn raise(&mut self, now: BootTime, active: Option<bool>, trips: bool) -> Outcome {
        let latched = trips || self.is_latched();
        let (seen, cause) = (active == Some(true), Arc::from(""));
        self.raised = Some(Raised { at: now, active, acked: false, latched, seen, cause });
        Outcome::Raised { trips }
    }

    /// Latches it for a stop that stands although the alarm that caused it is gone, so that a
    /// person can reset it.
    pub fn latch(&mut self, now: BootTime, cause: &str) {
        let cause = Arc::from(cause);
        let raised = self.raised.get_or_insert(Raised {
            at: now,
            active: None,
            acked: false,
            latched: true,
            seen: true,
            cause,
        });
        raised.latched = true;
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
        // The condition itself, not only what became of the alarm: after a restart, while inputs
        // are unknown or while `for` is running, nobody can say that it is over.
        match (raised.active, self.condition) {
            (Some(true), _) | (_, Some(true)) => return Err("its condition still holds"),
            (None, _) | (_, None) => return Err("its condition is unknown"),
            (Some(false), Some(false)) => {}
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
            seen: false,
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

#[cfg(test)]
mod tests;
