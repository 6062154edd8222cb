//! From a signal to what a machine does: bands with hysteresis, a debounce that biases no
//! duration, and unknown from the last good sample on.
//!
//! Two switches follow the signal, "on" and "run". Each is believed once it has held for
//! `enter_for` or `exit_for`, and is then stamped at its first crossing; what the machine does
//! follows from the two. So a stop that passes through idle on its way to off, or a start that
//! passes through idle on its way to run, counts every part as what it was. Beside the debounced
//! state the time in the raw run band is kept, because pulses shorter than the debounce are
//! absorbed by it.
//!
//! A power far below zero is no consumption: a current transformer is the wrong way round, or the
//! signs are. Guessing by magnitude would bill a machine that feeds back; taking it as off would
//! show a running machine as safe to touch. Such a sample counts as none, [`Unavailable::Conflict`].

use std::time::Duration;

use crate::event::Activity;
use crate::plan::{ActivityPlan, Band, ItemIndex};
use crate::time::BootTime;
use crate::value::{Measured, Unavailable, Value};

/// A believed change: what, since when, and why when it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the machine does.
    pub activity: Activity,
    /// Since when; may lie before the moment of belief.
    pub at: BootTime,
    /// Why it is unknown.
    pub why: Option<Unavailable>,
    /// Time in the raw run band from the beginning up to `at`.
    pub raw_run: Duration,
}

/// Follows one machine's signal.
#[derive(Clone, Debug)]
pub struct Tracker {
    plan: ActivityPlan,
    stale_after: Duration,
    believed: Activity,
    on: Switch,
    run: Switch,
    last_good: Option<BootTime>,
    trouble: Unavailable,
    /// Time in the raw run band, ever.
    raw_run: Duration,
}

/// One side of a threshold: what the samples say, and what is believed of it.
#[derive(Clone, Copy, Debug, Default)]
struct Switch {
    raw: bool,
    believed: bool,
    /// When the samples left what is believed, and the raw run time up to then.
    away: Option<(BootTime, Duration)>,
}

impl Switch {
    /// Takes the side of a sample. Returns the boundary once the other side is believed.
    fn take(
        &mut self,
        raw: bool,
        at: BootTime,
        raw_run: Duration,
        patience: Duration,
    ) -> Option<(BootTime, Duration)> {
        self.raw = raw;
        if raw == self.believed {
            self.away = None;
            return None;
        }
        let boundary = *self.away.get_or_insert((at, raw_run));
        if at.since(boundary.0) < patience {
            return None;
        }
        self.believed = raw;
        self.away.take()
    }

    /// Believes a side at once, as at the first sample after unknown.
    fn set(&mut self, raw: bool) {
        *self = Self { raw, believed: raw, away: None };
    }
}

impl Tracker {
    /// A tracker that knows nothing yet. `stale_after` is the signal's.
    pub fn new(plan: ActivityPlan, stale_after: Duration) -> Self {
        Self {
            plan,
            stale_after,
            believed: Activity::Unknown,
            on: Switch::default(),
            run: Switch::default(),
            last_good: None,
            trouble: Unavailable::NotYet,
            raw_run: Duration::ZERO,
        }
    }

    /// The item that it follows.
    pub fn item(&self) -> ItemIndex {
        self.plan.item()
    }

    /// Time in the raw run band from the beginning up to the last good sample. It only grows.
    pub fn raw_run(&self) -> Duration {
        self.raw_run
    }

    /// Takes a sample of the signal. The changes, in order: the silence before it, when that was
    /// longer than the signal may be old and nobody looked meanwhile, and what the sample says;
    /// or both boundaries of a start or stop by way of idle.
    pub fn take(&mut self, at: BootTime, sample: &Measured) -> [Option<Change>; 2] {
        let value = match sample {
            Ok(value) => value,
            Err(why) => {
                self.trouble = *why;
                return [self.age(at), None];
            }
        };
        // Before the sample's sides: hysteresis does not reach over a gap.
        let gap = self.age(at);
        match (self.sides(value), gap) {
            (Ok((on, run)), Some(_)) => [gap, Some(self.begin(at, on, run))],
            (Ok((on, run)), None) => self.take_good(at, on, run),
            (Err(why), _) => {
                let news = why == Unavailable::Conflict && self.trouble == Unavailable::NotYet;
                self.trouble = why;
                let never = || self.believe(Activity::Unknown, (at, Duration::ZERO));
                [gap, news.then(never)]
            }
        }
    }

    fn take_good(&mut self, at: BootTime, on: bool, run: bool) -> [Option<Change>; 2] {
        if self.believed == Activity::Unknown {
            return [Some(self.begin(at, on, run)), None];
        }
        if let (true, Some(last)) = (self.run.raw, self.last_good) {
            self.raw_run += at.since(last);
        }
        self.last_good = Some(at);
        self.trouble = Unavailable::Stale;
        let on_edge = self.on.take(on, at, self.raw_run, self.patience(on));
        let run_edge = self.run.take(run, at, self.raw_run, self.patience(run));
        match (on_edge, run_edge) {
            // By way of idle: powered before it ran, or still powered when it no longer ran.
            (Some(on), Some(run)) if on.0 != run.0 => {
                let (idle, end) = if on.0 < run.0 { (on, run) } else { (run, on) };
                [Some(self.believe(Activity::Idle, idle)), Some(self.believe(self.state(), end))]
            }
            (Some(edge), _) | (None, Some(edge)) => {
                let state = self.state();
                [(state != self.believed).then(|| self.believe(state, edge)), None]
            }
            (None, None) => [None, None],
        }
    }

    /// The first good sample after unknown is believed at once: there is nothing to hold on to.
    fn begin(&mut self, at: BootTime, on: bool, run: bool) -> Change {
        self.on.set(on);
        self.run.set(run);
        self.last_good = Some(at);
        self.trouble = Unavailable::Stale;
        self.believe(self.state(), (at, self.raw_run))
    }

    /// Lets time pass: a signal silent for too long means unknown since its last good sample.
    pub fn age(&mut self, now: BootTime) -> Option<Change> {
        let last = self.last_good?;
        if self.believed == Activity::Unknown || now.since(last) <= self.stale_after {
            return None;
        }
        Some(self.believe(Activity::Unknown, (last, self.raw_run)))
    }

    fn state(&self) -> Activity {
        match (self.run.believed, self.on.believed) {
            (true, _) => Activity::Run,
            (false, true) => Activity::Idle,
            (false, false) => Activity::Off,
        }
    }

    fn believe(&mut self, activity: Activity, (at, raw_run): (BootTime, Duration)) -> Change {
        self.believed = activity;
        let why = (activity == Activity::Unknown).then_some(self.trouble);
        Change { activity, at, why, raw_run }
    }

    /// The sides of a sample, on and run, sticky by hysteresis to those of the sample before.
    fn sides(&self, value: &Value) -> Result<(bool, bool), Unavailable> {
        let known = self.believed != Activity::Unknown;
        let side = |watts: f64, band: &Band, switch: &Switch| {
            watts >= band.enter || (known && switch.raw && watts >= band.exit)
        };
        match (&self.plan, value) {
            (ActivityPlan::Power { idle, .. }, Value::Number(watts)) if *watts <= -idle.enter => {
                Err(Unavailable::Conflict)
            }
            (ActivityPlan::Power { idle, run, .. }, Value::Number(watts)) => {
                let runs = side(*watts, run, &self.run);
                Ok((runs || side(*watts, idle, &self.on), runs))
            }
            (ActivityPlan::Input { run_when, .. }, Value::Flag(flag)) => {
                Ok((true, flag == run_when))
            }
            // The configuration's check makes this impossible; unknown is the honest answer.
            _ => Err(Unavailable::Garbled),
        }
    }

    /// How long a side must hold before it is believed.
    fn patience(&self, entering: bool) -> Duration {
        match &self.plan {
            ActivityPlan::Power { enter_for, exit_for, .. }
            | ActivityPlan::Input { enter_for, exit_for, .. } => {
                if entering {
                    *enter_for
                } else {
                    *exit_for
                }
            }
            // Not a level: `controller` follows it.
            ActivityPlan::Controller { exit_for, .. } => *exit_for,
        }
    }
}

#[cfg(test)]
mod tests;
