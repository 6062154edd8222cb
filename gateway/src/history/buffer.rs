//! What was read from the journal and is not in the file yet, by hour and series, packed.
//!
//! A sample takes some two or three bytes: the step of its time's step, and the journal's encoding
//! of its value. Bounds: [`BYTES_MAX`] in all, counted as allocated; whoever fills it must empty it.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::value::Measured;

use super::samples::Samples;
use super::summary::{HOUR_MS, stretch_of};
use crate::journal::Position;
use crate::journal::bytes::{Bytes, put_varint, zigzag};
use crate::journal::series::Series as Coder;

/// Bytes that samples may take before they are written early: an hour of some 300 series at 1 Hz.
pub(super) const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a series of an hour takes beside its samples.
const SERIES_BYTES: usize = 256;
/// An hour is over for us when a sample is this far outside it: those of one moment come in any
/// order, and buses are some seconds late.
const STRAGGLERS_MS: i64 = 60_000;

/// The samples of one series in one hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    pub(super) period_ms: i64,
    times: Vec<u8>,
    values: Vec<u8>,
    coder: Coder,
    last_ms: i64,
    step_ms: i64,
    begin_ms: i64,
}

impl Packed {
    fn push(&mut self, at_ms: i64, measured: &Measured) -> usize {
        let before = self.times.capacity() + self.values.capacity();
        if self.times.is_empty() {
            (self.begin_ms, self.last_ms) = (at_ms, at_ms);
        }
        let step_ms = at_ms - self.last_ms;
        put_varint(&mut self.times, zigzag(step_ms - self.step_ms));
        self.coder.encode(measured, &mut self.values);
        (self.last_ms, self.step_ms) = (at_ms, step_ms);
        self.times.capacity() + self.values.capacity() - before
    }

    /// The moment of the first sample that came.
    pub(super) const fn begin_ms(&self) -> i64 {
        self.begin_ms
    }

    /// The samples, in the order in which they came.
    pub(super) fn unpack(&self) -> Samples {
        let (mut times, mut values) = (Bytes(&self.times), Bytes(&self.values));
        let mut coder = Coder::default();
        let (mut at, mut step) = (self.begin_ms, 0);
        let mut samples = Samples::default();
        while let Some(change) = times.signed() {
            step += change;
            at += step;
            let Some(measured) = coder.decode(&mut values) else { break };
            samples.push(at, &measured);
        }
        samples
    }
}

/// One hour.
#[derive(Debug, Default)]
pub(super) struct Hour {
    /// By the series' number.
    pub(super) series: BTreeMap<i64, Packed>,
    /// The place in the journal before the first record that is in here, and its rank among all.
    before: (u64, Option<Position>),
    over: bool,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// By the hour's number.
    pub(super) hours: BTreeMap<i64, Hour>,
    /// Series that are not in the file yet: number, machine, item.
    pub(super) fresh: Vec<(i64, Arc<str>, Arc<str>)>,
    bytes: usize,
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
        let packed = own.series.entry(series).or_insert_with(|| {
            self.bytes += SERIES_BYTES;
            Packed { period_ms, ..Packed::default() }
        });
        self.bytes += packed.push(at_ms, measured);
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
        self.bytes >= BYTES_MAX
    }

    /// The hours to be written now: those that are over, or all of them.
    pub(super) fn due(&self, all: bool) -> Vec<i64> {
        let due = self.hours.iter().filter(|(_, hour)| all || hour.over);
        due.map(|(number, _)| *number).collect()
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
        let series = self.hours.values().flat_map(|hour| hour.series.values());
        self.bytes = series
            .map(|packed| SERIES_BYTES + packed.times.capacity() + packed.values.capacity())
            .sum();
    }

    /// What waits of a series, of all hours that touch a stretch and of the one after it.
    pub(super) fn packed(&self, series: i64, from_ms: i64, to_ms: i64) -> Vec<Packed> {
        let hours = stretch_of(from_ms, HOUR_MS)..=stretch_of(to_ms, HOUR_MS) + 1;
        let packed = self.hours.range(hours).filter_map(|(_, hour)| hour.series.get(&series));
        packed.cloned().collect()
    }

    /// The number of a series that is not in the file yet.
    pub(super) fn fresh(&self, machine: &str, item: &str) -> Option<i64> {
        let mut fresh = self.fresh.iter();
        fresh.find(|(_, of, name)| **of == *machine && **name == *item).map(|(id, ..)| *id)
    }
}
