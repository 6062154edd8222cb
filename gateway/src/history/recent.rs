//! The last hour in memory: per item a ring of 30 s buckets with least, greatest and mean value
//! and the share of time that was known. Fed by observations, live and from the journal; a sample
//! stands for the time before it by the rule of [`super::summary`], midnight apart, and unknown time
//! is a gap, never a zero.
//!
//! Bounds: [`SERIES_MAX`] series of [`RING`] buckets (32 bytes each, made on the first value).

use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Kind;
use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Value};
use serde::Serialize;

use super::summary::{DAY_MS, reach_ms, stands_back_ms};
use crate::config::plan::Plan;

/// Width of a bucket.
pub const BUCKET: Duration = Duration::from_secs(30);
/// Buckets kept: an hour, the running one, and one that is cut by the span's edge.
const RING: usize = 122;
/// Longest span of a query.
pub const SPAN_MAX: Duration = Duration::from_secs(3600);
/// Series kept, those of the tiles first: 4 MB in the worst case.
pub const SERIES_MAX: usize = 1024;

const BUCKET_NS: u64 = 30_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    least: f64,
    greatest: f64,
    /// Value times microseconds.
    weighted: f64,
    /// Which 30 s of the boot, plus one; 0 is empty.
    number: u32,
    /// Of [`SPAN_MAX`] at most, which fits.
    known_us: u32,
}

/// Which way a sample came: in each they come in the order of their time.
#[derive(Clone, Copy, Debug)]
enum Way {
    Live,
    Journal,
}

#[derive(Debug)]
struct Series {
    machine: Arc<str>,
    name: Arc<str>,
    unit: &'static str,
    period_ms: i64,
    /// The newest sample of each way, known or not.
    before: [Option<BootTime>; 2],
    ring: Box<[Bucket]>,
}

/// The last hour of every kept series.
#[derive(Debug)]
pub struct Recent {
    /// Where the series of each of the plan's items is, plus one; 0: it is not kept.
    places: Vec<u16>,
    series: Vec<Series>,
}

const _: () = assert!(SERIES_MAX < u16::MAX as usize, "a place fits");

/// The one question that can be asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// The machine's id.
    pub machine: String,
    /// The item's name.
    pub item: String,
    /// How far back from now; at most [`SPAN_MAX`].
    pub span: Duration,
    /// Into how many steps the span is cut; fewer where a step would be shorter than [`BUCKET`].
    pub buckets: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    v: u8,
    span_ms: u64,
    step_ms: u64,
    unit: &'static str,
    buckets: Vec<Option<Step>>,
}

/// One step of an answer with at least one known value in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Step {
    min: f64,
    max: f64,
    mean: f64,
    coverage: f64,
}

impl Recent {
    /// Empty.
    pub fn new(plan: &Plan) -> Self {
        let mut places = vec![0; plan.engine.items.len()];
        let mut series = Vec::new();
        let keys = plan.machines.iter().flat_map(|machine| &machine.key_items);
        let keys = keys.map(|index| index.0 as usize);
        for position in keys.chain(0..plan.engine.items.len()) {
            let item = &plan.engine.items[position];
            if series.len() == SERIES_MAX {
                break;
            }
            if item.item.kind == Kind::Text || places[position] != 0 {
                continue;
            }
            series.push(Series {
                machine: plan.engine.machines[usize::from(item.machine.0)].id.clone(),
                name: item.item.name.clone(),
                unit: item.item.unit.symbol(),
                period_ms: millis(item.period).clamp(1, DAY_MS),
                before: [None; 2],
                ring: Box::default(),
            });
            places[position] = u16::try_from(series.len()).unwrap_or(0);
        }
        Self { places, series }
    }

    /// Takes a sample as it is measured. One that is older than the ring is passed over.
    pub fn fold(&mut self, item: ItemIndex, at: BootTime, measured: &Measured) {
        if let Some(series) = self.place(item).and_then(|place| self.series.get_mut(place)) {
            series.fold(Way::Live, at, measured);
        }
    }

    /// Takes a sample by its names, as the journal has it, before or after those that are measured
    /// meanwhile; names that are gone are passed over.
    pub fn fold_named(&mut self, machine: &str, item: &str, at: BootTime, measured: &Measured) {
        let mut series = self.series.iter_mut();
        let series = series.find(|series| &*series.machine == machine && &*series.name == item);
        if let Some(series) = series {
            series.fold(Way::Journal, at, measured);
        }
    }

    fn place(&self, item: ItemIndex) -> Option<usize> {
        usize::from(*self.places.get(item.0 as usize)?).checked_sub(1)
    }

    /// Answers a query as of `now`; none when the series is not kept. The steps' edges are those
    /// of the buckets in them, so they may lie up to 30 s beside the exact moment.
    pub fn query(&self, query: &Query, now: BootTime) -> Option<Answer> {
        let series = self
            .series
            .iter()
            .find(|series| *series.machine == *query.machine && *series.name == *query.item)?;
        let span = query.span.clamp(BUCKET, SPAN_MAX);
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let most = usize::try_from(span_ns / BUCKET_NS).unwrap_or(1);
        let count = query.buckets.clamp(1, most);
        let step_ns = span_ns / count as u64;
        let mut steps = vec![(Bucket::default(), 0_u64); count];
        let running = now.0 / BUCKET_NS;
        for number in running.saturating_sub(RING as u64 - 1)..=running {
            let end = ((number + 1) * BUCKET_NS).min(now.0);
            let back = (now.0 - end) / step_ns.max(1);
            let Some(place) = usize::try_from(back).ok().filter(|back| *back < count) else {
                continue;
            };
            let (sum, elapsed) = &mut steps[count - 1 - place];
            *elapsed += end - number * BUCKET_NS;
            if let Some(bucket) = series.bucket(number) {
                sum.add(bucket);
            }
        }
        Some(Answer {
            v: 1,
            span_ms: span_ns / 1_000_000,
            step_ms: step_ns / 1_000_000,
            unit: series.unit,
            buckets: steps.iter().map(|(sum, elapsed)| sum.step(*elapsed)).collect(),
        })
    }
}

/// Whole milliseconds, signed for arithmetic.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn number_of(measured: &Measured) -> Option<f64> {
    match measured {
        Ok(Value::Number(number)) => Some(*number),
        Ok(Value::Flag(flag)) => Some(f64::from(u8::from(*flag))),
        Ok(Value::Text(_)) | Err(_) => None,
    }
}

impl Series {
    fn bucket(&self, number: u64) -> Option<&Bucket> {
        let bucket = self.ring.get(usize::try_from(number % RING as u64).ok()?)?;
        (u64::from(bucket.number) == number + 1).then_some(bucket)
    }

    fn fold(&mut self, way: Way, at: BootTime, measured: &Measured) {
        let newest = &mut self.before[way as usize];
        // Whole milliseconds of both moments, as history has them, so that nothing adds up.
        let ms = |at: BootTime| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let since_ms = newest.map(|before| ms(at) - ms(before));
        *newest = (*newest).max(Some(at));
        let stands_ms = stands_back_ms(since_ms, (self.period_ms, reach_ms(self.period_ms)));
        if let Some(value) = number_of(measured) {
            let stands = Duration::from_millis(u64::try_from(stands_ms).unwrap_or(0));
            self.add(at, stands.min(SPAN_MAX), value);
        }
    }

    /// Adds a value that is known for so long before a moment.
    fn add(&mut self, at: BootTime, stands: Duration, value: f64) {
        if self.ring.is_empty() {
            self.ring = vec![Bucket::default(); RING].into();
        }
        let end = at.0;
        let start = (at - stands).0;
        for number in start / BUCKET_NS..=end.saturating_sub(1) / BUCKET_NS {
            let from = start.max(number * BUCKET_NS);
            let known_ns = end.min((number + 1) * BUCKET_NS).saturating_sub(from);
            let known_us = u32::try_from(known_ns / 1000).unwrap_or(u32::MAX);
            let slot = usize::try_from(number % RING as u64).unwrap_or(0);
            let bucket = &mut self.ring[slot];
            let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
            if bucket.number > number {
                continue;
            }
            if bucket.number < number {
                *bucket = Bucket { number, ..Bucket::default() };
            }
            let weighted = value * f64::from(known_us);
            let sample = Bucket { number, least: value, greatest: value, weighted, known_us };
            bucket.add(&sample);
        }
    }
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        if other.known_us == 0 {
            return;
        }
        let first = self.known_us == 0;
        self.least = if first { other.least } else { self.least.min(other.least) };
        self.greatest = if first { other.greatest } else { self.greatest.max(other.greatest) };
        self.weighted += other.weighted;
        self.known_us = self.known_us.saturating_add(other.known_us);
    }

    fn step(&self, elapsed_ns: u64) -> Option<Step> {
        if self.known_us == 0 {
            return None;
        }
        let share = f64::from(self.known_us) * 1e3 / elapsed_ns.max(1) as f64;
        let round = |value: f64| (value * 1e4).round() / 1e4;
        Some(Step {
            min: self.least,
            max: self.greatest,
            mean: round(self.weighted / f64::from(self.known_us)),
            coverage: round(share.min(1.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::shop;
    use andon_engine::value::Unavailable;

    fn ask(recent: &Recent, now_s: u64) -> Vec<Option<Step>> {
        let (machine, item) = ("laser".to_owned(), "temperature".to_owned());
        let query = Query { machine, item, span: Duration::from_secs(120), buckets: 2 };
        recent.query(&query, BootTime::from_millis(now_s * 1000)).unwrap().buckets
    }

    #[test]
    fn unknown_time_is_a_gap_and_the_order_of_samples_does_not_matter() {
        let samples: Vec<_> = (1..=90_u64)
            .map(|second| {
                let known = second <= 30 || second > 60;
                let value = f64::from(u32::try_from(second).unwrap());
                let measured =
                    if known { Ok(Value::Number(value)) } else { Err(Unavailable::Stale) };
                (BootTime::from_millis(second * 1000), measured)
            })
            .collect();
        let (mut forward, mut backward) = (Recent::new(&shop()), Recent::new(&shop()));
        for (at, measured) in &samples {
            forward.fold(ItemIndex(1), *at, measured);
        }
        for (at, measured) in samples.iter().rev() {
            backward.fold_named("laser", "temperature", *at, measured);
        }
        let first = Step { min: 1.0, max: 30.0, mean: 15.5, coverage: 0.5 };
        let second = Step { min: 61.0, max: 90.0, mean: 75.5, coverage: 0.5 };
        assert_eq!(ask(&forward, 120), [Some(first), Some(second)]);
        assert_eq!(ask(&backward, 120), [Some(first), Some(second)]);
        assert_eq!(ask(&forward, 7200), [None, None]);
    }

    /// The laser's temperature, which has a period of a second, at these milliseconds.
    fn at_moments(millis: impl Iterator<Item = u64>) -> Recent {
        let mut recent = Recent::new(&shop());
        for at in millis {
            recent.fold(ItemIndex(1), BootTime::from_millis(at), &Ok(Value::Number(1.0)));
        }
        recent
    }

    fn coverages(recent: &Recent) -> Vec<Option<f64>> {
        ask(recent, 120).into_iter().map(|step| step.map(|step| step.coverage)).collect()
    }

    #[test]
    fn a_sample_stands_back_to_the_one_before_it_and_no_further() {
        // Ten a second for six seconds, then silence: six seconds are known, not sixty.
        let bursts = at_moments((1..=60).map(|n| n * 100));
        assert_eq!(coverages(&bursts), [Some(0.1), None]);
        // Four seconds apart, which is not stale yet: all of it is known.
        let slow = at_moments((1..=30).map(|n| n * 4000));
        assert_eq!(coverages(&slow), [Some(0.95), Some(1.0)], "of the first one second is known");
        // A value that is not known ends what the next one stands for.
        let mut torn = at_moments([30_000].into_iter());
        torn.fold(ItemIndex(1), BootTime::from_millis(33_000), &Err(Unavailable::Timeout));
        torn.fold(ItemIndex(1), BootTime::from_millis(34_500), &Ok(Value::Number(1.0)));
        assert_eq!(coverages(&torn), [Some(0.0417), None]);
    }

    #[test]
    fn the_mean_of_irregular_samples_is_over_the_time_for_which_each_stood() {
        // 10 for four seconds, 20 for one, again and again.
        let mut recent = Recent::new(&shop());
        for second in 1..=60_u64 {
            let value = match second % 5 {
                4 => 10.0,
                0 => 20.0,
                _ => continue,
            };
            let at = BootTime::from_millis(second * 1000);
            recent.fold(ItemIndex(1), at, &Ok(Value::Number(value)));
        }
        let step = ask(&recent, 120)[0].unwrap();
        assert_eq!((step.mean, step.coverage), (12.1053, 0.95));
    }
}
