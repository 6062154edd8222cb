//! What samples come to over a stretch of time: least, greatest, mean, last, and for how much of
//! the time anything was known. Arithmetic only.
//!
//! A sample stands for the time before it: back to the sample before it when that lies no further
//! back than a value may be old ([`stale_after`]), and for one period otherwise. A stretch
//! begins after its first millisecond and ends with its last, so that samples on the grid of their
//! period fill it exactly. Nothing stands for time before the UTC day that it lies in.

use std::time::Duration;

use andon_engine::plan::stale_after;

use super::samples::Samples;

/// Milliseconds of a UTC day; there are no others.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Milliseconds of an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;

/// The stretch of `width` that a moment lies in: its end belongs to it, its begin does not.
pub(super) const fn stretch_of(at_ms: i64, width_ms: i64) -> i64 {
    (at_ms - 1).div_euclid(width_ms)
}

/// How far back before a sample's moment it can stand.
pub(super) fn reach_ms(period_ms: i64) -> i64 {
    let period = Duration::from_millis(u64::try_from(period_ms).unwrap_or_default());
    i64::try_from(stale_after(period).as_millis()).unwrap_or(i64::MAX)
}

/// For how many milliseconds before it a sample stands that comes so long after the one before it,
/// known or not; `None` when nobody knows of one. Of what is read every `period_ms` and stale
/// after `reach`, the [`reach_ms`] of that.
pub(super) fn stands_back_ms(since_ms: Option<i64>, (period_ms, reach): (i64, i64)) -> i64 {
    since_ms.filter(|since| (0..=reach).contains(since)).unwrap_or(period_ms)
}

/// The same within the sample's UTC day.
fn stands_ms(before: Option<i64>, at_ms: i64, period: (i64, i64)) -> i64 {
    let begin = stretch_of(at_ms, DAY_MS) * DAY_MS;
    stands_back_ms(before.map(|before| at_ms - before), period).min(at_ms - begin)
}

/// What some samples come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// Samples with a number, that lie in the stretch.
    pub(super) count: u64,
    /// Milliseconds that are known.
    pub(super) known_ms: i64,
    pub(super) least: f64,
    pub(super) greatest: f64,
    /// Value times milliseconds.
    pub(super) integral: f64,
    pub(super) last: f64,
    /// The moment of the last sample, or the end of its part in this stretch.
    pub(super) last_at: i64,
}

impl Sum {
    /// Nothing is known here.
    pub(super) const fn is_empty(&self) -> bool {
        self.known_ms == 0
    }

    /// Adds another.
    pub(super) fn add(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.known_ms += other.known_ms;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        self.integral += other.integral;
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
    }

    /// The mean over the known time.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a thousand years fit")]
    pub(super) fn mean(&self) -> f64 {
        // Rounding must not carry a mean of equal values beyond them.
        (self.integral / self.known_ms as f64).clamp(self.least, self.greatest)
    }
}

/// Equal stretches side by side.
#[derive(Clone, Debug)]
pub(super) struct Stretches {
    begin_ms: i64,
    width_ms: i64,
    pub(super) sums: Vec<Sum>,
}

impl Stretches {
    pub(super) fn new(begin_ms: i64, width_ms: i64, count: usize) -> Self {
        Self { begin_ms, width_ms: width_ms.max(1), sums: vec![Sum::default(); count] }
    }

    /// Adds what samples in the order of their time come to, `before` being the moment of the
    /// sample before them; returns that of the last one.
    pub(super) fn fold(
        &mut self,
        samples: &Samples,
        period_ms: i64,
        mut before: Option<i64>,
    ) -> Option<i64> {
        let period = (period_ms, reach_ms(period_ms));
        for (place, at) in samples.times.iter().enumerate() {
            if let Some(value) = samples.number(place) {
                self.fold_one(*at, stands_ms(before, *at, period), value);
            }
            before = Some(*at);
        }
        before
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a day")]
    fn fold_one(&mut self, at: i64, stands_ms: i64, value: f64) {
        let end_of_all = self.begin_ms + self.width_ms * self.sums.len() as i64;
        let mut from = (at - stands_ms).max(self.begin_ms);
        let to = at.min(end_of_all);
        while from < to {
            let place = (from - self.begin_ms) / self.width_ms;
            let end = self.begin_ms + (place + 1) * self.width_ms;
            let until = end.min(to);
            let known_ms = until - from;
            let Some(sum) = usize::try_from(place).ok().and_then(|it| self.sums.get_mut(it)) else {
                return;
            };
            sum.add(&Sum {
                count: u64::from(at <= end),
                known_ms,
                least: value,
                greatest: value,
                integral: value * known_ms as f64,
                last: value,
                last_at: until,
            });
            from = until;
        }
    }

    /// Adds a sum to the stretch that a moment lies in.
    pub(super) fn add(&mut self, at_ms: i64, sum: &Sum) {
        let place = stretch_of(at_ms - self.begin_ms, self.width_ms);
        if let Some(own) = usize::try_from(place).ok().and_then(|it| self.sums.get_mut(it)) {
            own.add(sum);
        }
    }
}

/// What samples come to in all.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a day")]
pub(super) fn digest(samples: &Samples, period_ms: i64) -> Sum {
    let period = (period_ms, reach_ms(period_ms));
    let mut sum = Sum::default();
    let mut before = None;
    for (place, at) in samples.times.iter().enumerate() {
        if let Some(value) = samples.number(place) {
            let known_ms = stands_ms(before, *at, period);
            let integral = value * known_ms as f64;
            let (least, greatest, last, last_at) = (value, value, value, *at);
            sum.add(&Sum { count: 1, known_ms, least, greatest, integral, last, last_at });
        }
        before = Some(*at);
    }
    sum
}
