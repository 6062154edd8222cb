//! Roll-ups: what each minute, hour or day of a series came to, as columns.
//!
//! ```text
//! shared = pco(i64)              numbers of the slots that know anything, ascending from 0
//! part   = (length:varint pco)*  known milliseconds · samples · least · greatest · mean · last
//! ```
//!
//! With a scale (see [`super::column`]) least is integer steps; greatest and last are steps beyond
//! least; the mean is in thousandths of a step, beyond least too, and the one thing in history that
//! is rounded. Without one the four are doubles. A slot that is not there is a gap: nothing was known.

use super::column::{self, DOUBLES, SAMPLES_MAX};
use super::row::{Builder, Entry, Place};
use super::summary::{DAY_MS, HOUR_MS, Stretches, Sum};
use crate::journal::bytes::{Bytes, put_varint};
use crate::journal::series::Scale;

/// The mean is kept in this many parts of a step.
const MEAN_PARTS: f64 = 1000.0;
/// Steps beyond this are not exact in a thousandth: 2^53 / 1000.
const STEPS_MAX: i64 = 9_007_199_254_740;

/// How long a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// One row a day.
    Minute = 0,
    /// One row in 64 days.
    Hour = 1,
    /// One row in 1024 days.
    Day = 2,
}

impl Level {
    /// All of them, finest first.
    pub(super) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// What its slots are called.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Minute => "minutes",
            Self::Hour => "hours",
            Self::Day => "days",
        }
    }

    /// Milliseconds of a slot.
    pub(super) const fn width_ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    /// Days of a row. Fewer, longer rows are read faster; a row is written anew each day.
    pub(super) const fn days(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 64,
            Self::Day => 1024,
        }
    }

    /// Slots of a row.
    pub(super) fn slots(self) -> usize {
        usize::try_from(self.days() * DAY_MS / self.width_ms()).unwrap_or(0)
    }

    /// The first day of the row that a day is in.
    pub(super) const fn row_of(self, day: i64) -> i64 {
        day.div_euclid(self.days()) * self.days()
    }
}

/// What the slots of one row hold, by their number.
pub(super) type Slots = Vec<Sum>;

/// Adds a series' slots to a row; nothing when nothing is known.
pub(super) fn write(row: &mut Builder, index: u8, slots: &[Sum]) {
    let known: Vec<(i64, &Sum)> = (0..).zip(slots).filter(|(_, sum)| !sum.is_empty()).collect();
    if known.is_empty() {
        return;
    }
    let numbers: Vec<i64> = known.iter().map(|(slot, _)| *slot).collect();
    let shared = row.share(known.len(), column::integers(&numbers));
    let of =
        |pick: fn(&Sum) -> f64| known.iter().map(move |(_, sum)| pick(sum)).collect::<Vec<_>>();
    let whole = |pick: fn(&Sum) -> i64| known.iter().map(|(_, sum)| pick(sum)).collect::<Vec<_>>();
    let mut body = Vec::new();
    put(&mut body, &column::integers(&whole(|sum| sum.known_ms)));
    put(&mut body, &column::integers(&whole(|sum| i64::try_from(sum.count).unwrap_or(i64::MAX))));
    let [least, greatest, last] = [of(|sum| sum.least), of(|sum| sum.greatest), of(|sum| sum.last)];
    let mean = of(Sum::mean);
    let scale = column::scale_of(&least.iter().chain(&greatest).chain(&last).copied());
    let steps = scale.and_then(|scale| steps(scale, [&least, &greatest, &mean, &last]));
    if let Some(columns) = &steps {
        columns.iter().for_each(|numbers| put(&mut body, &column::integers(numbers)));
    } else {
        for numbers in [&least, &greatest, &mean, &last] {
            put(&mut body, &column::doubles(numbers));
        }
    }
    let scale = scale.filter(|_| steps.is_some()).map_or(DOUBLES, Scale::byte);
    let count = known.len();
    let (period_ms, place, digest) = (0, Place::default(), Sum::default());
    row.add(Entry { index, scale, shared, count, period_ms, place, digest }, &body);
}

/// Least, greatest, mean and last as integers; `None` when one does not fit.
#[expect(clippy::cast_possible_truncation, reason = "bounded by STEPS_MAX just before")]
#[expect(clippy::cast_precision_loss, reason = "bounded by STEPS_MAX just before")]
fn steps(scale: Scale, columns: [&[f64]; 4]) -> Option<[Vec<i64>; 4]> {
    let [least, greatest, mean, last] = columns;
    let exact = |number: &f64| scale.steps(*number).filter(|steps| steps.abs() < STEPS_MAX);
    let least: Vec<i64> = least.iter().map(exact).collect::<Option<_>>()?;
    let beyond = |numbers: &[f64]| -> Option<Vec<i64>> {
        numbers.iter().zip(&least).map(|(number, least)| Some(exact(number)? - least)).collect()
    };
    let (greatest, last) = (beyond(greatest)?, beyond(last)?);
    let part = |(mean, least): (&f64, &i64)| {
        ((mean * scale.factor() - *least as f64) * MEAN_PARTS).round() as i64
    };
    let mean = mean.iter().zip(&least).map(part).collect();
    Some([least, greatest, mean, last])
}

fn put(body: &mut Vec<u8>, column: &[u8]) {
    put_varint(body, column.len() as u64);
    body.extend_from_slice(column);
}

/// The numbers of the slots of a shared part.
pub(super) fn read_numbers(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    column::read_integers(bytes, count)
}

/// What a row says of a series, side by side.
pub(super) struct Columns {
    known: Vec<i64>,
    /// Empty when nobody asked.
    samples: Vec<i64>,
    least: Vec<f64>,
    greatest: Vec<f64>,
    mean: Vec<f64>,
    last: Vec<f64>,
}

impl Columns {
    /// One slot after the other.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Sum> {
        (0..self.known.len()).map(move |place| {
            let known_ms = self.known[place];
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of at most a day")]
            let integral = self.mean[place] * known_ms as f64;
            let (least, greatest) = (self.least[place], self.greatest[place]);
            let count =
                self.samples.get(place).map_or(0, |count| u64::try_from(*count).unwrap_or(0));
            let last = self.last[place];
            Sum { count, known_ms, least, greatest, integral, last, last_at: 0 }
        })
    }
}

/// The inverse of [`write`], for slots of these numbers. Counts are read only when asked for.
pub(super) fn read(bytes: &[u8], scale: u8, count: usize, counts: bool) -> Option<Columns> {
    let mut bytes = Bytes(bytes);
    let mut part = || {
        let length = bytes.length()?;
        bytes.take(length)
    };
    let count = (count <= SAMPLES_MAX).then_some(count)?;
    let known = column::read_integers(part()?, count)?;
    let samples = part()?;
    let samples = if counts { column::read_integers(samples, count)? } else { Vec::new() };
    let [least, greatest, mean, last] = if scale == DOUBLES {
        let mut column = || column::read_doubles(part()?, count);
        [column()?, column()?, column()?, column()?]
    } else {
        let mut column = || column::read_integers(part()?, count);
        numbers(Scale::from_byte(scale)?, [column()?, column()?, column()?, column()?])
    };
    Some(Columns { known, samples, least, greatest, mean, last })
}

#[expect(clippy::cast_precision_loss, reason = "written within STEPS_MAX; else wrong, no panic")]
fn numbers(scale: Scale, columns: [Vec<i64>; 4]) -> [Vec<f64>; 4] {
    let [least, greatest, mean, last] = columns;
    let beyond = |steps: Vec<i64>| -> Vec<f64> {
        let steps = steps.iter().zip(&least).map(|(steps, least)| steps.wrapping_add(*least));
        steps.map(|steps| scale.number(steps)).collect()
    };
    let (greatest, last) = (beyond(greatest), beyond(last));
    let part =
        |(mean, least): (&i64, &i64)| (*mean as f64 / MEAN_PARTS + *least as f64) / scale.factor();
    let mean = mean.iter().zip(&least).map(part).collect();
    [least.into_iter().map(|steps| scale.number(steps)).collect(), greatest, mean, last]
}

/// The slots of a level within one day, from its minutes: hours and days begin with minutes, so
/// nothing is rounded on the way.
pub(super) fn coarser(minutes: &Stretches, level: Level) -> Slots {
    let per_slot = usize::try_from(level.width_ms() / Level::Minute.width_ms()).unwrap_or(1);
    let sum = |minutes: &[Sum]| {
        minutes.iter().fold(Sum::default(), |mut sum, minute| {
            sum.add(minute);
            sum
        })
    };
    minutes.sums.chunks(per_slot).map(sum).collect()
}
