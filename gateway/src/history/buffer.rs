//! What was read from the journal and is not in the file yet, by hour and series, packed.
//!
//! A sample takes some two or three bytes: the step of its time's step, and the journal's encoding
//! of its value. Bounds: [`BYTES_MAX`] in all, counted as allocated, or [`SHARE_BYTES`] for each
//! series where they are so many that this is more; whoever fills it must empty it.
//!
//! An hour that is written before it is over costs a row of each group every time, however little is
//! in it: 83 bytes for a series' single sample, 1.15 for each of 170 with noise in them (`history_cost
//! many`). So each series has room for so many, and when memory is used up the fullest hours go and a
//! new one stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::value::Measured;

use super::samples::Samples;
use super::summary::{HOUR_MS, stretch_of};
use crate::journal::Position;
use crate::journal::bytes::{Bytes, put_varint, zigzag};
use crate::journal::series::Series as Coder;

/// Bytes that samples may take before they are written early: an hour of some 400 series at 1 Hz.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same for each series of an hour, where that is more: room for some hundred samples, and
/// 24 MB for as many series as history keeps.
const SHARE_BYTES: usize = 384;
/// What a series of an hour takes beside its samples: itself, its place among the others, and what
/// the heap adds to each.
const SERIES_BYTES: usize = size_of::<Packed>() + 64;
/// Bytes by which the room for samples grows at least; beyond that by a quarter, so that little of
/// it is empty.
const ROOM_BYTES: usize = 32;
/// What most samples take at most; one that takes more makes its own room.
const SAMPLE_BYTES: usize = 8;
/// An hour is over for us when a sample is this far outside it: those of one moment come in any
/// order, and buses are some seconds late.
const STRAGGLERS_MS: i64 = 60_000;

/// The samples of one series in one hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    pub(super) period_ms: i64,
    /// Of each sample the step of its time's step, then its value.
    samples: Vec<u8>,
    coder: Coder,
    last_ms: i64,
    step_ms: i64,
    begin_ms: i64,
}

impl Packed {
    fn push(&mut self, at_ms: i64, measured: &Measured) -> usize {
        let before = self.samples.capacity();
        if self.samples.is_empty() {
            (self.begin_ms, self.last_ms) = (at_ms, at_ms);
        }
        if before - self.samples.len() < SAMPLE_BYTES {
            self.samples.reserve_exact(ROOM_BYTES.max(before / 4));
        }
        let step_ms = at_ms - self.last_ms;
        put_varint(&mut self.samples, zigzag(step_ms - self.step_ms));
        self.coder.encode(measured, &mut self.samples);
        (self.last_ms, self.step_ms) = (at_ms, step_ms);
        self.samples.capacity() - before
    }

    /// The moment of the first sample that came.
    pub(super) const fn begin_ms(&self) -> i64 {
        self.begin_ms
    }

    /// The samples, in the order in which they came.
    pub(super) fn unpack(&self) -> Samples {
        let mut packed = Bytes(&self.samples);
        let mut coder = Coder::default();
        let (mut at, mut step) = (self.begin_ms, 0);
        let mut samples = Samples::default();
        while let Some(change) = packed.signed() {
            step += change;
            at += step;
            let Some(measured) = coder.decode(&mut packed) else { break };
            samples.push(at, &measured);
        }
        samples
    }
}

/// One hour.
#[derive(Debug, Default)]
pub(super) struct Hour {
    /// By the series' number. Each on its own: a map that grows at its end is half empty.
    pub(super) series: BTreeMap<i64, Box<Packed>>,
    /// The place in the journal before the first record that is in here, and its rank among all.
    before: (u64, Option<Position>),
    over: bool,
    bytes: usize,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// By the hour's number.
    pub(super) hours: BTreeMap<i64, Hour>,
    /// Series that are not in the file yet: number, machine, item.
    pub(super) fresh: Vec<(i64, Arc<str>, Arc<str>)>,
    /// Those of all hours.
    bytes: usize,
    /// Series of the hour that has most.
    series: usize,
}

impl Buffer {
    /// Takes a sample of the record that comes after `before`.
    pub(super) fn push(
        &mut self,
        (series, period_ms): (i64, i64),
        at_ms: i64,
        measured: &Measured,
        before: (u64, Option<Position>),
    ) {
        let hour = stretch_of(at_ms, HOUR_MS);
        let own = self.hours.entry(hour).or_insert_with(|| Hour { before, ..Hour::default() });
        let mut bytes = 0;
        let packed = own.series.entry(series).or_insert_with(|| {
            bytes += SERIES_BYTES;
            Box::new(Packed { period_ms, ..Packed::default() })
        });
        bytes += packed.push(at_ms, measured);
        own.bytes += bytes;
        self.bytes += bytes;
        self.series = self.series.max(own.series.len());
    }

    /// Marks the hours that a sample of this moment shows to be over.
    pub(super) fn pass(&mut self, at_ms: i64) {
        for (number, hour) in &mut self.hours {
            let begin = number * HOUR_MS;
            let near = begin - STRAGGLERS_MS..begin + HOUR_MS + STRAGGLERS_MS;
            hour.over |= !near.contains(&at_ms);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max()
    }

    fn bytes_max(&self) -> usize {
        BYTES_MAX.max(self.series * SHARE_BYTES)
    }

    /// The hours to be written now: those that are over, and when memory is used up the fullest of
    /// the others until half of it is free. One that has just begun stays, for it is mostly rows.
    pub(super) fn due(&self, full: bool) -> Vec<i64> {
        let mut left = self.bytes;
        let mut hours: Vec<_> = self.hours.iter().collect();
        hours.sort_unstable_by_key(|(_, hour)| (!hour.over, std::cmp::Reverse(hour.bytes)));
        let is_due = |(_, hour): &(&i64, &Hour)| {
            let is_due = hour.over || full && left > self.bytes_max() / 2;
            left -= if is_due { hour.bytes } else { 0 };
            is_due
        };
        hours.into_iter().filter(is_due).map(|(number, _)| *number).collect()
    }

    /// The hours that stay when those of `due` are written, and the place before the first record
    /// in them; `None` when nothing stays.
    pub(super) fn rest(&self, due: &[i64]) -> Option<(Option<Position>, Vec<i64>)> {
        let rest = || self.hours.iter().filter(|(number, _)| !due.contains(number));
        let (_, before) = rest().map(|(_, hour)| hour.before).min_by_key(|(rank, _)| *rank)?;
        Some((before, rest().map(|(number, _)| *number).collect()))
    }

    /// Forgets hours.
    pub(super) fn forget(&mut self, hours: &[i64]) {
        self.hours.retain(|number, _| !hours.contains(number));
        self.bytes = self.hours.values().map(|hour| hour.bytes).sum();
        self.series = self.hours.values().map(|hour| hour.series.len()).max().unwrap_or(0);
    }

    /// What waits of a series, of all hours that touch a stretch and of the one after it.
    pub(super) fn packed(&self, series: i64, from_ms: i64, to_ms: i64) -> Vec<Packed> {
        let hours = stretch_of(from_ms, HOUR_MS)..=stretch_of(to_ms, HOUR_MS) + 1;
        let packed = self.hours.range(hours).filter_map(|(_, hour)| hour.series.get(&series));
        packed.map(|packed| Packed::clone(packed)).collect()
    }

    /// The number of a series that is not in the file yet.
    pub(super) fn fresh(&self, machine: &str, item: &str) -> Option<i64> {
        let mut fresh = self.fresh.iter();
        fresh.find(|(_, of, name)| **of == *machine && **name == *item).map(|(id, ..)| *id)
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Value;

    use super::*;

    #[test]
    fn what_is_written_early_is_many_samples_of_each_series_however_many_there_are() {
        const SERIES: usize = 22_000;
        let (mut buffer, mut written) = (Buffer::default(), 0);
        let is_full = |buffer: &mut Buffer, series: usize, second: i64| {
            let value = f64::from(i32::try_from(second % 97).unwrap()) / 10.0;
            let (series, at_ms) = (i64::try_from(series).unwrap(), HOUR_MS + second * 1000);
            buffer.push((series, 5000), at_ms, &Ok(Value::Number(value)), (0, None));
            buffer.is_full()
        };
        // What comes every five seconds, until it has been written twice.
        for second in (5..).step_by(5) {
            for series in 1..=SERIES {
                if is_full(&mut buffer, series, second) {
                    assert!(buffer.bytes < SERIES * SHARE_BYTES + 1000, "{}", buffer.bytes);
                    let due = buffer.due(true);
                    assert_eq!(due, [1]);
                    let packed = buffer.hours[&1].series.values().step_by(100);
                    let fewest = packed.map(|packed| packed.unpack().len()).min().unwrap();
                    assert!(fewest >= 80, "{fewest} samples of a series at once");
                    buffer.forget(&due);
                    written += 1;
                }
            }
            if written == 2 {
                break;
            }
        }
    }

    #[test]
    fn an_hour_that_has_just_begun_is_not_written_with_the_one_before_it() {
        let mut buffer = Buffer::default();
        let number = &Ok(Value::Number(230.1));
        let mut push = |series: i64, at_ms: i64| {
            buffer.push((series, 1000), at_ms, number, (0, None));
            buffer.is_full()
        };
        // 8000 series for less than four minutes fill it; the next hour begins just before.
        let mut at_ms = HOUR_MS - 60_000;
        while !(1..=8000).map(|series| push(series, at_ms)).last().unwrap_or(true) {
            at_ms += 1000;
        }
        assert!(at_ms > HOUR_MS, "{at_ms}");
        assert_eq!(buffer.hours.len(), 2);
        let fullest = buffer.hours.iter().max_by_key(|(_, hour)| hour.bytes).unwrap().0;
        assert_eq!(buffer.due(true), [*fullest]);
        assert_eq!(buffer.due(false), [] as [i64; 0]);
    }
}
