//! A protective stop: commanded, echoed, read back, proved, latched.
//!
//! Every reply is matched by its attempt, so a late one changes nothing. What is not read back
//! within its deadline is commanded again, and what is refused after [`RETRY_REFUSED`] at the
//! latest; after the configured attempts the stop is failed, which a person must see, and is tried
//! on at [`RETRY_FAILED`], even where the attempt's deadline is later: a device that was away and
//! refused may be back. Proof comes from an independent meter: several samples, all newer than the
//! command, by magnitude: a meter wired the wrong way round reads a large negative power, which is no proof of none. Power that flows again, or still,
//! reopens the stop as failed: a weld is suspected, and the stop is commanded every
//! [`RETRY_FAILED`], whether or not the meter goes on reading. Nothing here releases an output but
//! a person's reset.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Act, Command, Reply};
use crate::event::{Confirmation, TripPhase, TripState};
use crate::plan::{TripIndex, TripPlan};
use crate::time::BootTime;
use crate::value::Measured;

/// Pause between attempts once the stop has failed.
pub const RETRY_FAILED: Duration = Duration::from_secs(5);
/// Pause after an attempt that was refused: whoever has given it up confirms nothing any more, and
/// a device that refuses at once is not flooded.
pub const RETRY_REFUSED: Duration = Duration::from_secs(1);

/// The state of one output of kind `trip`.
#[derive(Clone, Debug)]
pub struct Trip {
    index: TripIndex,
    phase: TripPhase,
    level: Option<Confirmation>,
    cause: Option<Arc<str>>,
    trouble: Option<Arc<str>>,
    /// Counts commands; replies to older ones are ignored.
    attempt: u32,
    /// What the last command was, while it is not confirmed.
    pending: Option<Pending>,
    /// When the stop was first commanded: proof must be newer.
    commanded_at: BootTime,
    /// Samples in a row that prove the effect.
    proving: u8,
    /// When the stop was last commanded because the meter contradicts it; `None` unless it does.
    contradicted: Option<BootTime>,
    /// The first of the samples in a row that prove the effect.
    proving_since: BootTime,
    /// Since when it is confirmed as far as its output can be; `None` unless it is.
    confirmed: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    act: Act,
    deadline: BootTime,
    tries: u8,
}

/// What a step of a trip led to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// A command to send.
    pub command: Option<Command>,
    /// Whether its state is worth an event.
    pub changed: bool,
}

impl Trip {
    /// A trip that is armed.
    pub fn armed(index: TripIndex) -> Self {
        Self {
            index,
            phase: TripPhase::Armed,
            level: None,
            cause: None,
            trouble: None,
            attempt: 0,
            pending: None,
            commanded_at: BootTime::default(),
            proving: 0,
            contradicted: None,
            proving_since: BootTime::default(),
            confirmed: None,
        }
    }

    /// Whether it stands anywhere but armed.
    pub fn is_tripped(&self) -> bool {
        self.phase != TripPhase::Armed
    }

    /// Since when the machine is stopped by all that its output can show: the meter's word where
    /// one is named, the read-back where none is. A stop that held and is commanded once more for
    /// another cause holds until that fails: were it to end and begin, rules that look at states
    /// would turn in circles.
    pub fn confirmed(&self) -> Option<BootTime> {
        self.confirmed
    }

    /// Whether it was commanded and is not confirmed, or the meter contradicts it: then a reset
    /// would release what nobody knows to be open.
    pub fn is_doubtful(&self) -> bool {
        matches!(self.phase, TripPhase::Tripping | TripPhase::Failed)
    }

    /// Cuts, because of the alarm named. A stop that is latched is commanded again: the condition
    /// came back, so the effect is in doubt. One under way goes on as it is; a failed one stays
    /// failed, keeps what is known against it, and is tried once more at once.
    pub fn trip(&mut self, plan: &TripPlan, now: BootTime, cause: &Arc<str>) -> Outcome {
        match self.phase {
            TripPhase::Tripping => return Outcome::default(),
            TripPhase::Failed => {
                let tries = plan.attempts.saturating_add(1);
                let command = Some(self.command(plan, now, Act::Trip, tries));
                return Outcome { command, changed: false };
            }
            TripPhase::Armed | TripPhase::Latched => {}
        }
        self.phase = TripPhase::Tripping;
        (self.level, self.trouble, self.proving) = (None, None, 0);
        self.contradicted = None;
        self.cause = Some(cause.clone());
        self.commanded_at = now;
        Outcome { command: Some(self.command(plan, now, Act::Trip, 1)), changed: true }
    }

    /// Goes on where a previous run left off: the stop is commanded again.
    pub fn resume(&mut self, plan: &TripPlan, now: BootTime, left: &TripState) -> Outcome {
        if left.phase == TripPhase::Armed {
            return Outcome::default();
        }
        let cause = left.cause.clone().unwrap_or_else(|| "an earlier stop".into());
        self.trip(plan, now, &cause)
    }

    /// A person has reset it; releases the output where the configuration says so.
    pub fn reset(&mut self, plan: &TripPlan, now: BootTime) -> Outcome {
        self.phase = TripPhase::Armed;
        (self.level, self.cause, self.trouble, self.pending) = (None, None, None, None);
        (self.proving, self.contradicted, self.confirmed) = (0, None, None);
        let command = plan.permit_on_reset.then(|| self.command(plan, now, Act::Permit, 1));
        Outcome { command, changed: true }
    }

    /// Takes the reply to a command.
    pub fn reply(
        &mut self,
        plan: &TripPlan,
        now: BootTime,
        attempt: u32,
        reply: &Reply,
    ) -> Outcome {
        let Some(pending) = self.pending.filter(|_| attempt == self.attempt) else {
            return Outcome::default();
        };
        match reply {
            Reply::Echoed if pending.act == Act::Trip => {
                Outcome { command: None, changed: self.reach(Confirmation::C1) }
            }
            Reply::Echoed => Outcome::default(),
            Reply::ReadBack(true) => {
                self.pending = None;
                if self.contradicted.is_some() {
                    // The output says open and the meter says power: only the meter can end that.
                    return Outcome::default();
                }
                let changed = self.trouble.take().is_some();
                if pending.act == Act::Permit {
                    return Outcome { command: None, changed };
                }
                let latched = self.phase != TripPhase::Latched;
                self.phase = TripPhase::Latched;
                if plan.proof.is_none() || self.level == Some(Confirmation::C3) {
                    self.confirmed.get_or_insert(now);
                }
                let reached = self.reach(Confirmation::C2);
                Outcome { command: None, changed: changed || latched || reached }
            }
            // It may still come to stand: a controller takes its time.
            Reply::ReadBack(false) => self.failed(plan, now, "the output does not read back"),
            Reply::Failed(words) => {
                let gone_on = pending.tries > plan.attempts;
                let pause = if gone_on { RETRY_FAILED } else { RETRY_REFUSED };
                let deadline = pending.deadline.min(now + pause);
                self.pending = Some(Pending { deadline, ..pending });
                self.failed(plan, now, words)
            }
        }
    }

    /// Notes why an attempt failed. The next one waits for the deadline.
    fn failed(&mut self, plan: &TripPlan, now: BootTime, words: &str) -> Outcome {
        // What the meter says weighs more than what becomes of the attempts to mend it.
        let changed = self.contradicted.is_none() && self.trouble.as_deref() != Some(words);
        if changed {
            self.trouble = Some(words.into());
        }
        let mut outcome = self.tick(plan, now);
        outcome.changed |= changed;
        outcome
    }

    /// Lets time pass: deadlines of attempts, and the next command to a contact that is suspected
    /// of being welded.
    pub fn tick(&mut self, plan: &TripPlan, now: BootTime) -> Outcome {
        match (self.pending, self.contradicted) {
            (Some(pending), _) if now >= pending.deadline => self.again(plan, now, pending),
            (None, Some(last)) if now.since(last) >= RETRY_FAILED => {
                self.contradicted = Some(now);
                let command = Some(self.command(plan, now, Act::Trip, plan.attempts));
                Outcome { command, changed: false }
            }
            _ => Outcome::default(),
        }
    }

    fn again(&mut self, plan: &TripPlan, now: BootTime, pending: Pending) -> Outcome {
        let used_up = pending.tries >= plan.attempts;
        let fails = used_up && pending.act == Act::Trip && self.phase != TripPhase::Failed;
        if fails {
            (self.phase, self.confirmed) = (TripPhase::Failed, None);
        }
        let silent = self.trouble.is_none();
        if silent {
            self.trouble = Some("the output does not answer".into());
        }
        let tries = pending.tries.saturating_add(1);
        let command = self.command(plan, now, pending.act, tries);
        Outcome { command: Some(command), changed: fails || silent }
    }

    /// Takes a sample of the item that proves the effect.
    pub fn sample(
        &mut self,
        plan: &TripPlan,
        now: BootTime,
        at: BootTime,
        sample: &Measured,
    ) -> Outcome {
        let Some(proof) = &plan.proof else { return Outcome::default() };
        // A reading that failed proves nothing, one way or the other.
        let Some(value) = sample.as_ref().ok().and_then(crate::value::Value::as_number) else {
            return Outcome::default();
        };
        if !self.is_tripped() || at <= self.commanded_at || self.level < Some(Confirmation::C1) {
            return Outcome::default();
        }
        if value.abs() < proof.below {
            if self.proving == 0 {
                self.proving_since = at;
            }
            self.proving = self.proving.saturating_add(1);
            if self.proving < proof.samples || self.level == Some(Confirmation::C3) {
                return Outcome::default();
            }
            if self.level < Some(Confirmation::C2) {
                return Outcome::default();
            }
            self.phase = TripPhase::Latched;
            self.confirmed.get_or_insert(self.proving_since);
            (self.trouble, self.contradicted) = (None, None);
            return Outcome { command: None, changed: self.reach(Confirmation::C3) };
        }
        self.proving = 0;
        let proved = self.level == Some(Confirmation::C3);
        let late = now.since(self.commanded_at) > proof.within;
        if self.phase != TripPhase::Latched || !(proved || late) {
            return Outcome::default();
        }
        (self.phase, self.confirmed) = (TripPhase::Failed, None);
        self.level = Some(Confirmation::C2);
        self.contradicted = Some(now);
        self.trouble = Some(format!("weld suspected: the meter still reads {value}").into());
        Outcome { command: Some(self.command(plan, now, Act::Trip, 1)), changed: true }
    }

    fn reach(&mut self, level: Confirmation) -> bool {
        let higher = self.level < Some(level);
        if higher {
            self.level = Some(level);
        }
        higher
    }

    fn command(&mut self, plan: &TripPlan, now: BootTime, act: Act, tries: u8) -> Command {
        let least = if tries > plan.attempts { RETRY_FAILED } else { Duration::ZERO };
        let wait = plan.attempt_deadline.max(least);
        self.attempt = self.attempt.wrapping_add(1);
        self.pending = Some(Pending { act, deadline: now + wait, tries });
        if act == Act::Trip {
            self.reach(Confirmation::C0);
        }
        Command { trip: self.index, attempt: self.attempt, act }
    }

    /// Its state in the words of events.
    pub fn state(&self, plan: &TripPlan, machine: &Arc<str>) -> TripState {
        TripState {
            output: plan.id.clone(),
            machine: machine.clone(),
            phase: self.phase,
            level: self.level,
            cause: self.cause.clone(),
            trouble: self.trouble.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
