//! History as a whole: records in, answers out. Here are a machine's records and what must come of
//! them, and the power that a test cuts; the tests are beside, by subject.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use super::export::Selection;
use super::file::Trouble;
use super::keeper::Keeper;
use super::offline::Offline;
use super::query::{Question, Step};
use super::{Archive, BootId, Inputs, NAME, Periods, WallClock};
use crate::config::plan::HistoryPlan;
use crate::journal::tests::Folder;
use crate::journal::{Journal, Observation, Payload, Record};

mod answers;
mod damage;
mod journal;
mod keeping;
mod merging;
mod retaining;
mod rows;

const BOOT: BootId = BootId([7; 16]);

/// 2026-03-01T00:00:00Z, the begin of a UTC day.
const BEGIN: i64 = 1_772_323_200_000;

const HOUR_S: u64 = 3600;

const DAY_S: u64 = 86_400;

thread_local! {
    /// Steps until the power is cut.
    static CUT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What [`keeper::step`] is in tests.
pub(super) fn step(_: &'static str) -> Result<(), Trouble> {
    CUT.with(|cut| match cut.get() {
        Some(0) => {
            cut.set(None);
            Err(io::Error::other("the power was cut").into())
        }
        left => {
            cut.set(left.map(|left| left - 1));
            Ok(())
        }
    })
}

fn wall() -> WallClock {
    Arc::new(|_: &BootId, at: BootTime| Some(BEGIN + i64::try_from(at.as_millis()).unwrap()))
}

fn periods(seconds: u64) -> Periods {
    let mut periods = Periods::default();
    let items = ["a", "b", "c"].into_iter();
    periods.note(&"laser".into(), items.map(|item| (item.into(), Duration::from_secs(seconds))));
    periods
}

fn record(seq: u64, ms: u64, items: Vec<(&str, Measured)>) -> Record {
    let items = items.into_iter().map(|(item, measured)| (item.into(), measured)).collect();
    let seen = Observation { machine: "laser".into(), at: BootTime::from_millis(ms), items };
    Record { boot: BOOT, seq, prev: seq - 1, payload: Payload::Observation(seen) }
}

fn number(value: f64) -> Measured {
    Ok(Value::Number(value))
}

/// A deterministic mixture of what series hold.
fn mixture(n: u64) -> Vec<(&'static str, Measured)> {
    let value = (n.wrapping_mul(2_654_435_761) % 1000) as f64;
    let a = if n % 17 == 3 { Err(Unavailable::Timeout) } else { number(value / 10.0) };
    let b = Ok(Value::Flag(n % 5 < 2));
    let text = |n: u64| Ok(Value::Text(format!("job {}", n % 3).into()));
    let c = if n % 29 < 2 { Err(Unavailable::Stale) } else { text(n / 40) };
    vec![("a", a), ("b", b), ("c", c)]
}

/// A record of [`mixture`] a minute.
fn minutes(minutes: RangeInclusive<u64>) -> Vec<Record> {
    minutes.map(|n| record(n, n * 60_000, mixture(n))).collect()
}

/// A record a minute of a value that is the minute's number.
fn rising(minutes: RangeInclusive<u64>) -> impl Iterator<Item = Record> {
    minutes.map(|n| record(n, n * 60_000, vec![("a", number(n as f64))]))
}

fn offline(folder: &Folder, seconds: u64) -> Offline {
    Offline::open(folder.path(), BOOT, wall(), periods(seconds)).unwrap()
}

/// What is asked about one item of the machine.
fn question(item: &str, from_ms: i64, to_ms: i64, steps: usize) -> Question {
    Question { from_ms, to_ms, steps, series: vec![("laser".to_owned(), item.to_owned())] }
}

/// The answer to a question about one item, as of `now_ms`.
fn answer(archive: &Archive, question: &Question, now_ms: Option<i64>) -> Vec<Option<Step>> {
    archive.steps(question, now_ms).unwrap().remove(0).unwrap()
}

type All = BTreeMap<String, Vec<(i64, Measured)>>;

fn exported(archive: &Archive) -> All {
    let mut all = All::new();
    let (from_ms, to_ms, machine, item) = (i64::MIN / 4, i64::MAX / 4, None, None);
    let selection = Selection { from_ms, to_ms, machine, item };
    let _ = archive.export(&selection, &mut |sample| {
        let samples = all.entry(sample.item.to_owned()).or_default();
        samples.push((sample.at_ms, sample.measured));
        Ok(())
    });
    all
}

fn expected(records: &[Record]) -> All {
    let mut all = All::new();
    for record in records {
        let Payload::Observation(seen) = &record.payload else { continue };
        let at_ms = BEGIN + i64::try_from(seen.at.as_millis()).unwrap();
        for (item, measured) in &seen.items {
            all.entry(item.to_string()).or_default().push((at_ms, measured.clone()));
        }
    }
    for samples in all.values_mut() {
        samples.sort_by_key(|(at, _)| *at);
    }
    all
}

/// A keeper that begins where the file says, in a journal that has all of `records`.
fn reopened(dir: &Path, records: &[Record]) -> (Keeper, usize) {
    let buffer = Arc::default();
    let keeper = Keeper::open(&dir.join(NAME), BOOT, wall(), periods(60), buffer).unwrap();
    let after = keeper.position().map_or(0, |position| position.seq);
    let next = records.iter().position(|record| record.seq > after).unwrap_or(records.len());
    (keeper, next)
}

/// What the thread is given: a history of all of `journal`, at the beginning of its boot.
fn live(folder: &Folder, journal: &Arc<Journal>) -> Inputs {
    Inputs {
        dir: folder.path().to_owned(),
        limits: HistoryPlan {
            keep: Duration::from_secs(DAY_S * 99),
            keep_minutes: Duration::from_secs(DAY_S * 99),
            bytes: 1 << 30,
        },
        periods: periods(60),
        boot: BOOT,
        started: BootTime(0),
        journal: Arc::clone(journal),
        wall: wall(),
        now: Arc::new(|| BootTime::from_millis(DAY_S * 99_000)),
    }
}
