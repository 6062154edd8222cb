//! From a signal to what a machine does: bands with hysteresis, a debounce that biases no
//! duration, and unknown from the last good sample on.
//!
//! A change is believed once it has held for `enter_for` or `exit_for`, and is then stamped at its
//! first crossing. Beside the debounced state the time in the raw run band is kept, because
//! pulses shorter than the debounce are absorbed by it.

use std::time::Duration;

use crate::event::Activity;
use crate::plan::{ActivityPlan, ItemIndex};
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
}

/// Follows one machine's signal.
#[derive(Clone, Debug)]
pub struct Tracker {
    plan: ActivityPlan,
    stale_after: Duration,
    believed: Activity,
    /// The band of the last good sample, without debounce.
    raw: Option<Activity>,
    /// When the raw band left the believed one.
    away_since: Option<BootTime>,
    last_good: Option<BootTime>,
    trouble: Unavailable,
    raw_run: Duration,
}

impl Tracker {
    /// A tracker that knows nothing yet. `stale_after` is the signal's.
    pub fn new(plan: ActivityPlan, stale_after: Duration) -> Self {
        Self {
            plan,
            stale_after,
            believed: Activity::Unknown,
            raw: None,
            away_since: None,
            last_good: None,
            trouble: Unavailable::NotYet,
            raw_run: Duration::ZERO,
        }
    }

    /// The item that it follows.
    pub fn item(&self) -> ItemIndex {
        self.plan.item()
    }

    /// Time in the raw run band since the last call.
    pub fn take_raw_run(&mut self) -> Duration {
        std::mem::take(&mut self.raw_run)
    }

    /// Takes a sample of the signal. The changes, in order: the silence before it, when that was
    /// longer than the signal may be old and nobody looked meanwhile, and what the sample says.
    pub fn take(&mut self, at: BootTime, sample: &Measured) -> [Option<Change>; 2] {
        match sample {
            Ok(value) => {
                let gap = self.age(at);
                [gap, self.take_good(at, self.band(value))]
            }
            Err(why) => {
                self.trouble = *why;
                [self.age(at), None]
            }
        }
    }

    fn take_good(&mut self, at: BootTime, band: Activity) -> Option<Change> {
        if let (Some(Activity::Run), Some(last)) = (self.raw, self.last_good)
            && at.since(last) <= self.stale_after
        {
            self.raw_run += at.since(last);
        }
        self.raw = Some(band);
        self.last_good = Some(at);
        self.trouble = Unavailable::Stale;
        if self.believed == Activity::Unknown {
            self.away_since = None;
            return Some(self.believe(band, at));
        }
        if band == self.believed {
            self.away_since = None;
            return None;
        }
        let since = *self.away_since.get_or_insert(at);
        if at.since(since) >= self.patience(band) {
            self.away_since = None;
            return Some(self.believe(band, since));
        }
        None
    }

    /// Lets time pass: a signal silent for too long means unknown since its last good sample.
    pub fn age(&mut self, now: BootTime) -> Option<Change> {
        let last = self.last_good?;
        if self.believed == Activity::Unknown || now.since(last) <= self.stale_after {
            return None;
        }
        (self.raw, self.away_since) = (None, None);
        Some(self.believe(Activity::Unknown, last))
    }

    fn believe(&mut self, activity: Activity, at: BootTime) -> Change {
        self.believed = activity;
        let why = (activity == Activity::Unknown).then_some(self.trouble);
        Change { activity, at, why }
    }

    /// The band of a sample, sticky by hysteresis to the band of the one before.
    fn band(&self, value: &Value) -> Activity {
        match (&self.plan, value) {
            (ActivityPlan::Power { idle, run, .. }, Value::Number(watts)) => {
                let was_run = self.raw == Some(Activity::Run);
                let was_on = was_run || self.raw == Some(Activity::Idle);
                if *watts >= run.enter || (was_run && *watts >= run.exit) {
                    Activity::Run
                } else if *watts >= idle.enter || (was_on && *watts >= idle.exit) {
                    Activity::Idle
                } else {
                    Activity::Off
                }
            }
            (ActivityPlan::Input { run_when, .. }, Value::Flag(flag)) => {
                if flag == run_when {
                    Activity::Run
                } else {
                    Activity::Idle
                }
            }
            // The configuration's check makes this impossible; unknown is the honest answer.
            _ => Activity::Unknown,
        }
    }

    /// How long a band must hold before it is believed.
    fn patience(&self, band: Activity) -> Duration {
        let (ActivityPlan::Power { enter_for, exit_for, .. }
        | ActivityPlan::Input { enter_for, exit_for, .. }) = &self.plan;
        if rank(band) > rank(self.believed) { *enter_for } else { *exit_for }
    }
}

fn rank(activity: Activity) -> u8 {
    match activity {
        Activity::Run => 2,
        Activity::Idle => 1,
        Activity::Off | Activity::Fault | Activity::Unknown => 0,
    }
}
