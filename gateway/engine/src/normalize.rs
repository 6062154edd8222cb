//! From readings to values that may be believed: range, rate, counters, order in time, age.
//!
//! Nothing downstream sees a reading that did not pass here. What does not pass becomes its
//! reason; it never becomes a number.

use std::time::Duration;

use crate::item::{Item, Kind};
use crate::plan::ItemPlan;
use crate::time::BootTime;
use crate::value::{Measured, Unavailable, Value};

/// Fastest growth of an energy register that is believed without a second look, in Wh per
/// second: a megawatt.
const COUNTER_RATE_MAX: f64 = 1e6 / 3600.0;

/// Registers are read in steps: growth below this many Wh is always believed.
const COUNTER_STEP: f64 = 1000.0;

/// Registers go back by rounding of single-precision floats: a share that is no reset.
const COUNTER_ROUNDING: f64 = 1e-6;

/// Whether an energy register, in Wh, may have counted from one reading to the other in this time.
pub fn may_have_counted(from: f64, to: f64, elapsed: Duration) -> bool {
    to >= from - from.abs() * COUNTER_ROUNDING
        && to - from <= COUNTER_STEP + COUNTER_RATE_MAX * elapsed.as_secs_f64()
}

/// What one reading is worth by itself, before anything is known of those around it: the value,
/// or why the item cannot have it.
///
/// # Errors
/// [`Unavailable::Sentinel`] of what is no number, [`Unavailable::OutOfRange`] of what the quantity
/// cannot be, [`Unavailable::Garbled`] of a value of another kind than the item's.
pub fn plausible(item: &Item, value: Value) -> Measured {
    match (item.kind, &value) {
        (Kind::Flag, Value::Flag(_)) | (Kind::Text, Value::Text(_)) => Ok(value),
        (Kind::Gauge | Kind::Counter, Value::Number(number)) => {
            if !number.is_finite() {
                Err(Unavailable::Sentinel)
            } else if *number < item.least || *number > item.greatest {
                Err(Unavailable::OutOfRange)
            } else {
                Ok(value)
            }
        }
        // The codec and the list of items disagree: nothing that a value could mean.
        _ => Err(Unavailable::Garbled),
    }
}

/// Where the run before this one left a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    number: f64,
    /// The moment, in this run, at which `away` had passed.
    at: BootTime,
    /// Since that reading; `None`: for nobody knows how long.
    away: Option<Duration>,
}

/// What is known of one item beside its value. A shop has tens of thousands: what only counters
/// need stands apart.
#[derive(Clone, Debug)]
pub struct ItemState {
    /// The moment of the last reading, good or bad; [`NEVER`] before the first.
    last_at: BootTime,
    /// The moment of the last good value; [`NEVER`] before the first.
    good_at: BootTime,
    /// That value, where the item is a number.
    good: f64,
    counter: Option<Box<Counter>>,
}

/// No reading is of this moment.
const NEVER: BootTime = BootTime(u64::MAX);

impl Default for ItemState {
    fn default() -> Self {
        Self { last_at: NEVER, good_at: NEVER, good: 0.0, counter: None }
    }
}

/// What is known of a counter beside its last good reading.
#[derive(Clone, Debug, Default)]
struct Counter {
    /// A reading that went back or leapt and waits for a second one.
    pending: Option<f64>,
    /// Counts its resets.
    epoch: u32,
    /// What it is compared with until it has a good reading of this run.
    left: Option<Left>,
}

impl ItemState {
    /// A counter that goes on where the run before left it: at `number`, in `epoch`, read so long
    /// before `now`. A register that cannot have counted from there begins a new epoch.
    pub fn resume(&mut self, number: f64, epoch: u32, now: BootTime, away: Option<Duration>) {
        let left = Some(Left { number, at: now, away });
        self.counter = Some(Box::new(Counter { pending: None, epoch, left }));
    }

    /// How often a counter was reset.
    pub fn epoch(&self) -> u32 {
        self.counter.as_ref().map_or(0, |counter| counter.epoch)
    }

    /// Takes a reading sampled at `at`. Returns the observation, or `None` for a reading that is
    /// not newer than the last.
    pub fn take(&mut self, plan: &ItemPlan, at: BootTime, reading: Measured) -> Option<Measured> {
        if self.last_at != NEVER && at <= self.last_at {
            return None;
        }
        self.last_at = at;
        let observed = reading.and_then(|value| self.believe(plan, at, value));
        if observed.is_ok() {
            self.good_at = at;
        }
        Some(observed)
    }

    /// Makes its last observation stale when that is old. Returns whether it just became so.
    pub fn age(&self, plan: &ItemPlan, now: BootTime, value: &mut Measured) -> bool {
        let good = self.fresh_until(plan);
        let old = good.is_some_and(|until| now > until);
        if old && value.is_ok() {
            *value = Err(Unavailable::Stale);
            return true;
        }
        false
    }

    /// The moment after which its value is stale, unless a good one comes before; none when it has
    /// never had one.
    pub fn fresh_until(&self, plan: &ItemPlan) -> Option<BootTime> {
        (self.good_at != NEVER).then(|| self.good_at + plan.stale_after)
    }

    fn believe(&mut self, plan: &ItemPlan, at: BootTime, value: Value) -> Measured {
        let value = plausible(&plan.item, value)?;
        if let Value::Number(number) = value {
            self.believe_number(plan, at, number)?;
            self.good = number;
        }
        Ok(value)
    }

    fn believe_number(
        &mut self,
        plan: &ItemPlan,
        at: BootTime,
        number: f64,
    ) -> Result<(), Unavailable> {
        let left = self.counter.as_ref().and_then(|counter| counter.left);
        let (last, elapsed) = match left {
            _ if self.good_at != NEVER => (self.good, at.since(self.good_at)),
            Some(Left { number, at: since, away }) => {
                let elapsed = away.map(|away| away.saturating_add(at.since(since)));
                (number, elapsed.unwrap_or(Duration::MAX))
            }
            None => return Ok(()),
        };
        if plan.item.kind == Kind::Counter {
            return self.believe_counter(last, number, elapsed);
        }
        let too_fast = |rate: f64| (number - last).abs() > rate * elapsed.as_secs_f64();
        if plan.max_rate.is_some_and(too_fast) { Err(Unavailable::TooFast) } else { Ok(()) }
    }

    /// A counter that goes back or leaps is believed at the second reading that agrees, and then
    /// counts in a new epoch.
    fn believe_counter(
        &mut self,
        last: f64,
        number: f64,
        elapsed: Duration,
    ) -> Result<(), Unavailable> {
        let credible = |from, elapsed| may_have_counted(from, number, elapsed);
        if credible(last, elapsed) {
            if let Some(counter) = &mut self.counter {
                counter.pending = None;
            }
            return Ok(());
        }
        let counter = self.counter.get_or_insert_default();
        match counter.pending.take() {
            Some(pending) if credible(pending, Duration::ZERO) => {
                counter.epoch = counter.epoch.saturating_add(1);
                Ok(())
            }
            _ => {
                counter.pending = Some(number);
                Err(Unavailable::Unconfirmed)
            }
        }
    }
}

#[cfg(test)]
mod tests;
