//! History as a whole: records in, answers out, with the power cut at every step of every
//! transaction, against a journal in memory and against one on disk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use proptest::prelude::*;

use super::export::Selection;
use super::file::Trouble;
use super::keeper::{Keeper, Taken, lock};
use super::offline::Offline;
use super::query::{Question, Step};
use super::samples::Samples;
use super::tail::Stock;
use super::*;
use crate::clock::Anchors;
use crate::config::plan::JournalPlan;
use crate::journal::tests::Folder;
use crate::journal::{Observation, Payload, Record, Stream};

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

fn offline(folder: &Folder, seconds: u64) -> Offline {
    Offline::open(folder.path(), BOOT, wall(), periods(seconds)).unwrap()
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

/// Feeds everything, flushing and merging as the thread does; reopens after each cut.
fn run(dir: &Path, records: &[Record], mut cut: Option<u32>) {
    loop {
        let (mut keeper, next) = reopened(dir, records);
        CUT.with(|left| left.set(cut.take()));
        let fed = (|| -> Result<(), Trouble> {
            for (place, record) in records.iter().enumerate().skip(next) {
                assert_eq!(keeper.take(record), Taken::Yes);
                if place % 50 == 49 || place + 1 == records.len() {
                    keeper.flush()?;
                    while let Some(pending) = merge::pending(&keeper.database, keeper.newest_ms)? {
                        keeper.merge(pending)?;
                    }
                }
            }
            Ok(())
        })();
        if fed.is_ok() {
            return;
        }
    }
}

#[test]
fn every_sample_is_there_once_wherever_the_power_is_cut() {
    // Two days of a sample every ten minutes; some come late or from a clock that was ahead.
    let records: Vec<Record> = (1..=300_u64)
        .map(|n| {
            let late = if n % 40 == 0 { 9 * HOUR_S } else { 0 };
            record(n, (n * 600 - late.min(n * 600)) * 1000 + 7, mixture(n))
        })
        .collect();
    let whole = {
        let folder = Folder::new("history-whole");
        run(folder.path(), &records, None);
        exported(&Archive::in_folder(folder.path()))
    };
    assert!(whole.values().all(|samples| samples.len() > 280), "all but the last hours");
    let all = expected(&records);
    for (item, samples) in &whole {
        let until = samples.last().unwrap().0;
        let kept: Vec<_> = all[item].iter().filter(|(at, _)| *at <= until).cloned().collect();
        assert_eq!(samples, &kept);
    }
    let mut cuts = 0;
    for cut in 0.. {
        let folder = Folder::new("history-cut");
        run(folder.path(), &records, Some(cut));
        assert_eq!(exported(&Archive::in_folder(folder.path())), whole, "cut at step {cut}");
        if CUT.with(Cell::take).is_some() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn what_is_in_memory_and_what_is_in_the_file_are_never_counted_twice() {
    let folder = Folder::new("history-edge");
    let records: Vec<Record> = (1..=200).map(|n| record(n, n * 60_000, mixture(n))).collect();
    let (mut keeper, _) = reopened(folder.path(), &records);
    for record in &records {
        keeper.take(record);
        keeper.flush().unwrap();
    }
    // 200 minutes: three hours are written, twenty minutes wait; read again from there.
    assert_eq!(lock(&keeper.buffer).hours.len(), 1);
    drop(keeper);
    let (mut keeper, next) = reopened(folder.path(), &records);
    assert!(next <= 180, "{next}");
    for record in &records[next..] {
        keeper.take(record);
    }
    let waiting: usize = lock(&keeper.buffer)
        .packed(1, BEGIN, BEGIN + 86_400_000)
        .iter()
        .map(|it| it.unpack().len())
        .sum();
    assert_eq!(waiting, 20);
}

#[test]
fn late_samples_make_their_day_merge_again() {
    let folder = Folder::new("history-late");
    let mut history = offline(&folder, 60);
    let mut records: Vec<Record> =
        (1..=1500_u64).map(|n| record(n, n * 60_000, mixture(n))).collect();
    let feed = |history: &mut Offline, records: &[Record]| {
        for record in records {
            history.take(record).unwrap();
        }
        history.flush().unwrap();
        history.merge().unwrap()
    };
    assert_eq!(feed(&mut history, &records), 1);
    // Yesterday noon and a half, and again today.
    records.push(record(2001, 12 * HOUR_S * 1000 + 30_000, mixture(1)));
    records.push(record(2002, 1501 * 60_000, mixture(2)));
    assert_eq!(feed(&mut history, &records[1500..]), 1);
    let all = expected(&records);
    for (item, samples) in exported(&history.archive()) {
        let until = BEGIN + 24 * 3_600_000;
        let day = |samples: &[(i64, Measured)]| {
            samples.iter().filter(|(at, _)| *at <= until).cloned().collect::<Vec<_>>()
        };
        assert_eq!(day(&samples), day(&all[&item]));
    }
}

/// What [`Archive::steps`] must say, from all samples, by overlap of every sample with every step.
fn oracle(
    samples: &[(i64, Measured)],
    period: i64,
    begin: i64,
    step: i64,
    count: i64,
) -> Vec<Option<Step>> {
    let mut spans = Vec::new();
    for (place, (at, measured)) in samples.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| samples[place].0);
        let near = before.is_some_and(|before| at - before <= (3 * period).max(5000));
        let from = if near { before.unwrap() } else { at - period };
        let midnight = (at - 1).div_euclid(86_400_000) * 86_400_000;
        let value = match measured {
            Ok(Value::Number(number)) => *number,
            Ok(Value::Flag(flag)) => f64::from(u8::from(*flag)),
            _ => continue,
        };
        spans.push((from.max(midnight), *at, value));
    }
    (0..count)
        .map(|place| {
            let (from, to) = (begin + place * step, begin + (place + 1) * step);
            let inside: Vec<(i64, f64)> = spans
                .iter()
                .map(|(a, b, value)| ((to.min(*b) - from.max(*a)).max(0), *value))
                .filter(|(known, _)| *known > 0)
                .collect();
            let known: i64 = inside.iter().map(|(known, _)| known).sum();
            let (_, last) = inside.last()?;
            let integral: f64 = inside.iter().map(|(known, value)| *known as f64 * value).sum();
            Some(Step {
                min: inside.iter().map(|it| it.1).fold(f64::INFINITY, f64::min),
                max: inside.iter().map(|it| it.1).fold(f64::NEG_INFINITY, f64::max),
                mean: integral / known as f64,
                last: *last,
                coverage: known as f64 / step as f64,
            })
        })
        .collect()
}

fn compare(got: &[Option<Step>], want: &[Option<Step>], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        let (Some(got), Some(want)) = (got, want) else {
            assert_eq!(got, want, "{what}, step {place}");
            continue;
        };
        assert_eq!(
            (got.min, got.max, got.last),
            (want.min, want.max, want.last),
            "{what}, {place}"
        );
        assert!((got.mean - want.mean).abs() <= tolerance, "{what}, {place}: {got:?} {want:?}");
        assert!((got.coverage - want.coverage).abs() < 6e-5, "{what}, {place}: {got:?} {want:?}");
    }
}

#[test]
fn answers_are_what_all_samples_say_at_every_level() {
    const PERIOD_S: u64 = 60;
    let folder = Folder::new("history-oracle");
    let mut history = offline(&folder, PERIOD_S);
    // Eight days with a gap of seven hours across midnight, short gaps and unknown values.
    let records: Vec<Record> = (1..=8 * DAY_S / PERIOD_S)
        .filter(|n| {
            let minute_of_run = n * PERIOD_S / 60;
            !(2 * 1440 + 1300..3 * 1440 + 300).contains(&minute_of_run) && n % 97 != 0
        })
        .map(|n| record(n, n * PERIOD_S * 1000, mixture(n)))
        .collect();
    for record in &records {
        history.take(record).unwrap();
        if record.seq % 500 == 0 {
            history.flush().unwrap();
            // The last days stay in hours and in memory.
            if record.seq < 6 * 1440 {
                history.merge().unwrap();
            }
        }
    }
    let all = expected(&records);
    let end = BEGIN + i64::try_from(8 * DAY_S * 1000).unwrap();
    let day = 86_400_000;
    let cases = [
        ("samples", BEGIN + 3 * day - 3_600_000, BEGIN + 3 * day + 7 * 3_600_000, 960, 30_000),
        ("samples of today", end - 3_600_000, end, 120, 30_000),
        ("minutes", BEGIN + 2 * day, BEGIN + 4 * day, 576, 300_000),
        ("minutes up to now", end - 2 * day, end, 960, 180_000),
        ("hours", BEGIN, BEGIN + 6 * day, 72, 7_200_000),
        ("days", BEGIN, BEGIN + 6 * day, 6, day),
    ];
    for (what, from_ms, to_ms, steps, step_ms) in cases {
        for item in ["a", "b"] {
            let series = vec![("laser".to_owned(), item.to_owned())];
            let question = Question { from_ms, to_ms, steps, series };
            let got = history.archive().steps(&question, None).unwrap().remove(0).unwrap();
            let count = i64::try_from(steps).unwrap();
            let want = oracle(&all[item], 60_000, from_ms, step_ms, count);
            // Tenths and flags; a mean of roll-ups is good to a thousandth of them.
            let tolerance = if item == "a" { 1e-4 } else { 1e-3 };
            compare(&got, &want, tolerance, &format!("{what} of {item}"));
        }
    }
    let unknown = vec![("laser".to_owned(), "nothing".to_owned())];
    let question = Question { from_ms: BEGIN, to_ms: end, steps: 10, series: unknown };
    assert_eq!(history.archive().steps(&question, None).unwrap(), [None]);
}

#[test]
fn hours_of_days_that_are_not_merged_are_answered_from_their_digests() {
    let folder = Folder::new("history-digests");
    let mut history = offline(&folder, 60);
    let records: Vec<Record> =
        (1..=20 * 60).map(|n| record(n, n * 60_000, vec![("a", number(n as f64))])).collect();
    for record in &records {
        history.take(record).unwrap();
        history.flush().unwrap();
    }
    let series = vec![("laser".to_owned(), "a".to_owned())];
    let (from_ms, to_ms) = (BEGIN, BEGIN + 24 * 3_600_000);
    let question = Question { from_ms, to_ms, steps: 24, series };
    let now = BEGIN + 20 * 3_600_000;
    let got = history.archive().steps(&question, Some(now)).unwrap().remove(0).unwrap();
    let want = oracle(&expected(&records)["a"], 60_000, from_ms, 3_600_000, 24);
    compare(&got, &want, 1e-9, "hours of today");
    assert!(got[..20].iter().flatten().all(|step| step.coverage == 1.0));
}

#[test]
fn boots_without_a_clock_wait_and_are_written_at_their_past_time() {
    let folder = Folder::new("history-undated");
    let anchors = Arc::new(Mutex::new(Anchors::default()));
    let clock = Arc::clone(&anchors);
    let wall: WallClock = Arc::new(move |boot, at| clock.lock().unwrap().wall_ms(boot, at));
    let mut history = Offline::open(folder.path(), BOOT, wall, periods(60)).unwrap();
    let records: Vec<Record> = (1..=200).map(|n| record(n, n * 60_000, mixture(n))).collect();
    assert!(!history.take(&records[0]).unwrap(), "it waits");
    let other = Record { boot: BootId([9; 16]), ..records[0].clone() };
    assert!(history.take(&other).unwrap(), "a boot that is over never gets a clock");
    assert_eq!(history.counters().undated, 1);
    let event = Event::Clock { at: BootTime::from_millis(12_000_000), wall_ms: BEGIN + 12_000_000 };
    anchors.lock().unwrap().note(BOOT, &event);
    for record in &records {
        assert!(history.take(record).unwrap());
    }
    history.flush().unwrap();
    let kept = exported(&history.archive());
    assert_eq!(kept["a"][..180], expected(&records)["a"][..180]);
}

#[test]
fn too_old_goes_first_from_samples_then_from_minutes_and_the_file_shrinks() {
    let folder = Folder::new("history-retention");
    let mut history = offline(&folder, 60);
    for n in 1..=10 * 1440_u64 {
        history.take(&record(n, n * 60_000, vec![("a", number(n as f64))])).unwrap();
        if n % 60 == 5 {
            history.flush().unwrap();
        }
    }
    history.merge().unwrap();
    let day = Duration::from_secs(DAY_S);
    let limits = |keep: u32, minutes: u32| HistoryPlan {
        keep: day * keep,
        keep_minutes: day * minutes,
        bytes: 1 << 30,
    };
    history.retain(&limits(3, 5)).unwrap();
    let first = exported(&history.archive())["a"][0].0;
    assert!(first > BEGIN + 6 * 86_400_000, "{first}");
    let ask = |history: &Offline, steps: usize| {
        let series = vec![("laser".to_owned(), "a".to_owned())];
        let (from_ms, to_ms) = (BEGIN, BEGIN + 2 * 86_400_000);
        let question = Question { from_ms, to_ms, steps, series };
        history.archive().steps(&question, None).unwrap().remove(0).unwrap()
    };
    assert!(ask(&history, 2000).iter().all(Option::is_none), "minutes are gone");
    assert_eq!(ask(&history, 2).iter().flatten().count(), 2, "days stay");
    // A late sample must not take the place of what the roll-up knows of that day.
    history.take(&record(100_000, 3_600_000, vec![("a", number(-5.0))])).unwrap();
    assert_eq!(history.counters().passed_over, 1);
    let least = ask(&history, 2)[0].unwrap().min;
    assert_eq!(least, 1.0);
    // By size: down to what days need.
    let pages = || -> i64 {
        let database = rusqlite::Connection::open(folder.path().join(NAME)).unwrap();
        database.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    let before = pages();
    history.retain(&HistoryPlan { bytes: 1, ..limits(3, 5) }).unwrap();
    assert!(pages() < before, "{} of {before} pages", pages());
    assert_eq!(ask(&history, 2).iter().flatten().count(), 2, "days stay");
}

#[test]
fn a_damaged_row_costs_itself_and_is_counted() {
    let folder = Folder::new("history-row");
    let mut history = offline(&folder, 60);
    for n in 1..=1470_u64 {
        history.take(&record(n, n * 60_000, vec![("a", number(n as f64))])).unwrap();
        history.flush().unwrap();
    }
    let database = rusqlite::Connection::open(folder.path().join(NAME)).unwrap();
    // The header of one hour, the values of another.
    let sql = "UPDATE chunk SET body = cast(substr(body, 1, ?1 - 1) || x'00ff' || substr(body, ?1 + 2) \
               AS BLOB) WHERE start % 24 = ?2";
    database.execute(sql, [12, 5]).unwrap();
    let length: i64 = database
        .query_row("SELECT length(body) FROM chunk WHERE start % 24 = 9", [], |row| row.get(0))
        .unwrap();
    database.execute(sql, [length - 4, 9]).unwrap();
    drop(database);
    assert_eq!(exported(&history.archive())["a"].len(), 1440 - 120);
    history.merge().unwrap();
    assert_eq!(history.counters().damaged, 2);
    assert_eq!(exported(&history.archive())["a"].len(), 1440 - 120);
}

#[test]
fn a_damaged_roll_up_is_made_again_from_samples() {
    let folder = Folder::new("history-rollup");
    let mut history = offline(&folder, 60);
    let mut feed = |minutes: std::ops::RangeInclusive<u64>| {
        for n in minutes {
            history.take(&record(n, n * 60_000, vec![("a", number(n as f64))])).unwrap();
            history.flush().unwrap();
        }
        history.merge().unwrap();
        let series = vec![("laser".to_owned(), "a".to_owned())];
        let (from_ms, to_ms) = (BEGIN, BEGIN + 3 * 86_400_000);
        let question = Question { from_ms, to_ms, steps: 72, series };
        history.archive().steps(&question, None).unwrap().remove(0).unwrap()
    };
    assert!(feed(1..=2 * 1440 + 30)[..48].iter().all(Option::is_some));
    let database = rusqlite::Connection::open(folder.path().join(NAME)).unwrap();
    database.execute("UPDATE rollup SET body = zeroblob(999) WHERE level = 1", []).unwrap();
    drop(database);
    let steps = feed(2 * 1440 + 31..=3 * 1440 + 30);
    assert_eq!(steps.iter().flatten().count(), 72);
    assert_eq!(steps[47].unwrap().max, 2880.0);
}

#[test]
fn a_full_disk_costs_nothing_but_time() {
    let folder = Folder::new("history-full");
    // Hours that need pages of their own: what fits into those that are there is no trouble.
    let records: Vec<Record> = (1..=24_000).map(|n| record(n, n * 1000, mixture(n))).collect();
    let (mut keeper, _) = reopened(folder.path(), &records);
    let room = |keeper: &Keeper, pages: i64| {
        let check = |_: &rusqlite::Row<'_>| Ok(());
        keeper.database.pragma_update_and_check(None, "max_page_count", pages, check).unwrap();
    };
    room(&keeper, 1);
    for record in &records {
        keeper.take(record);
    }
    let full = keeper.flush().unwrap_err();
    assert!(!full.ruins_the_file(), "{full}");
    room(&keeper, 1_000_000);
    assert!(keeper.flush().unwrap());
    let kept = exported(&Archive::in_folder(folder.path()));
    assert_eq!(kept["a"][..], expected(&records)["a"][..21_600]);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
    let folder = Folder::new("history-file");
    let path = folder.path().join(NAME);
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let mut history = offline(&folder, 60);
    for n in 1..=120_u64 {
        history.take(&record(n, n * 60_000, mixture(n))).unwrap();
    }
    history.flush().unwrap();
    assert_eq!(exported(&history.archive())["a"].len(), 60);
    let aside = folder.path().join(format!("{NAME}.damaged-1"));
    assert_eq!(std::fs::read(aside).unwrap(), vec![b'x'; 8192]);
}

#[test]
fn a_file_that_has_lost_its_place_is_set_aside_instead_of_tried_for_ever() {
    let folder = Folder::new("history-place");
    let path = folder.path().join(NAME);
    let records: Vec<Record> = (1..=120).map(|n| record(n, n * 60_000, mixture(n))).collect();
    let (mut keeper, _) = reopened(folder.path(), &records);
    for record in &records {
        keeper.take(record);
    }
    assert!(keeper.flush().unwrap());
    keeper.database.execute("UPDATE place SET place = 'lost'", []).unwrap();
    drop(keeper);
    let opened = Keeper::open(&path, BOOT, wall(), periods(60), Arc::default());
    let trouble = opened.err().unwrap();
    assert!(trouble.ruins_the_file(), "{trouble}");
    super::file::set_aside(&path, &trouble).unwrap();
    assert_eq!(reopened(folder.path(), &records).1, 0);
    assert!(folder.path().join(format!("{NAME}.damaged-1")).exists());
}

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
    }
}

#[test]
fn the_thread_answers_for_what_the_journal_holds_also_after_a_restart() {
    let folder = Folder::new("history-live");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let journal = Arc::new(journal);
    let records = (1..=100_u64).map(|n| record(n, n * 60_000, vec![("a", number(n as f64))]));
    journal.append(records.map(|record| record.payload).collect());
    let series = vec![("laser".to_owned(), "a".to_owned())];
    let (from_ms, to_ms) = (BEGIN, BEGIN + 6_000_000);
    let question = Question { from_ms, to_ms, steps: 100, series };
    for run in 0..2 {
        let history = start(live(&folder, &journal)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let steps = history.archive().steps(&question, None).unwrap().remove(0);
            let known = steps.iter().flatten().flatten().count();
            if known == 100 {
                let last = steps.unwrap()[99].unwrap();
                assert_eq!((last.mean, last.coverage), (100.0, 1.0));
                break;
            }
            assert!(Instant::now() < deadline, "run {run}: {known} of 100");
            std::thread::yield_now();
        }
        history.stop();
    }
    assert!(journal.holds(Stream::Telemetry, BOOT));
}

/// A journal of two hours and a half, and the gateway's history of it.
fn shop_with_a_past(folder: &Folder) -> (Arc<Journal>, Vec<Record>) {
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let records: Vec<Record> = (1..=150).map(|n| record(n, n * 60_000, mixture(n))).collect();
    journal.append(vec![Payload::Event(Event::Clock { at: BootTime(0), wall_ms: BEGIN })]);
    journal.append(records.iter().map(|record| record.payload.clone()).collect());
    (Arc::new(journal), records)
}

fn exported_with_the_journal(folder: &Folder) -> (All, super::export::Exported) {
    let mut all = All::new();
    let (from_ms, to_ms, machine, item) = (0, i64::MAX / 4, None, None);
    let selection = Selection { from_ms, to_ms, machine, item };
    let journal = folder.path().join("journal");
    let archive = Archive::in_folder(folder.path());
    let exported = archive.export_with(Some(&journal), &selection, &mut |sample| {
        let samples = all.entry(sample.item.to_owned()).or_default();
        samples.push((sample.at_ms, sample.measured));
        Ok(())
    });
    (all, exported.unwrap())
}

#[test]
fn an_export_has_the_running_hour_from_the_journal_and_no_sample_twice() {
    let folder = Folder::new("history-tail");
    let (journal, records) = shop_with_a_past(&folder);
    let wait = Instant::now() + Duration::from_secs(20);
    while journal.newest(Stream::Telemetry).is_none_or(|newest| newest.seq < 150) {
        assert!(Instant::now() < wait, "the journal is not written");
        std::thread::yield_now();
    }
    let whole = expected(&records);
    // Before there is a file, with one hour in it, with two, and at any moment of the writing.
    assert_eq!(exported_with_the_journal(&folder).0, whole);
    let read = journal.reader().unwrap().records(Stream::Telemetry).unwrap().collect::<Vec<_>>();
    let mut history = offline(&folder, 60);
    let mut of_journal = Vec::new();
    for record in &read {
        history.take(record).unwrap();
        history.flush().unwrap();
        if record.seq % 10 == 5 {
            let (all, exported) = exported_with_the_journal(&folder);
            assert_eq!(all, whole, "after {}", record.seq);
            of_journal.push(exported.of_journal.unwrap());
        }
    }
    assert!(of_journal.is_sorted_by(|one, next| one >= next), "{of_journal:?}");
    assert_eq!(of_journal.last(), Some(&(3 * 30)));
}

#[test]
fn a_new_file_says_from_when_the_journal_fills_it() {
    let folder = Folder::new("history-begun");
    let (journal, records) = shop_with_a_past(&folder);
    let stock = |started| super::tail::stock(&Inputs { started, ..live(&folder, &journal) });
    assert_eq!(stock(BootTime(0)), Stock::Nothing, "all of it is of this run");
    let deadline = Instant::now() + Duration::from_secs(20);
    while stock(BootTime::from_millis(9_000_000)) == Stock::Nothing {
        assert!(Instant::now() < deadline, "the journal is not written");
        std::thread::yield_now();
    }
    let oldest = BEGIN + 60_000;
    assert_eq!(stock(BootTime::from_millis(9_000_000)), Stock::Since(Some(oldest)));
    let begun = |records: &[Record]| reopened(folder.path(), records).0.begun;
    assert!(begun(&records) && !begun(&records), "a file is new once");
}

#[test]
fn an_export_says_how_many_records_have_no_time() {
    let folder = Folder::new("history-tail-undated");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    journal.append((1..=7).map(|n| record(n, n * 1000, mixture(n)).payload).collect());
    journal.close();
    let (all, exported) = exported_with_the_journal(&folder);
    assert!(all.is_empty());
    assert_eq!((exported.samples, exported.undated), (0, 7));
}

#[test]
fn a_history_that_cannot_be_written_is_told_until_it_can() {
    let folder = Folder::new("history-failing");
    let (journal, _) = shop_with_a_past(&folder);
    let path = folder.path().join(NAME);
    std::fs::create_dir(&path).unwrap();
    let history = start(live(&folder, &journal)).unwrap();
    let telling = history.telling();
    let until = |what: &str, is: &dyn Fn(&Health) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is(&telling()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", telling());
            std::thread::yield_now();
        }
    };
    until("failing", &|health| health.failing.is_some() && health.counters.failures > 0);
    assert_eq!(telling().bytes, None);
    std::fs::remove_dir(&path).unwrap();
    until("written again", &|health| health.failing.is_none() && health.bytes.is_some());
    // One that is deleted under the gateway is missed, and made anew.
    let failures = telling().counters.failures;
    std::fs::remove_file(&path).unwrap();
    until("missed", &|health| health.counters.failures > failures);
    until("made anew", &|health| health.failing.is_none());
    assert!(path.is_file());
    history.stop();
}

fn measured() -> impl Strategy<Value = Measured> {
    prop_oneof![
        4 => (-100_000_i32..100_000).prop_map(|tenths| number(f64::from(tenths) / 10.0)),
        2 => any::<f32>().prop_map(|single| number(f64::from(single))),
        1 => any::<f64>().prop_map(number),
        2 => any::<bool>().prop_map(|flag| Ok(Value::Flag(flag))),
        2 => "[a-z]{0,3}".prop_map(|text| Ok(Value::Text(text.into()))),
        2 => (1_u8..=11).prop_map(|code| Err(Unavailable::from_code(code).unwrap())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn columns_give_back_every_bit(
        numbers in prop::collection::vec((0_i64..5000, measured()), 1..300),
    ) {
        let mut samples = Samples::default();
        let mut at = BEGIN;
        for (step, measured) in &numbers {
            at += step;
            samples.push(at, measured);
        }
        let times = column::write_times(&samples.times, BEGIN);
        let (scale, values) = column::write_values(&samples);
        let times = column::read_times(&times, samples.len(), BEGIN).unwrap();
        let back = column::read_values(&values, scale, times).unwrap();
        prop_assert_eq!(back.len(), numbers.len());
        for ((_, back), (_, measured)) in back.iter().zip(&numbers) {
            match (back, measured) {
                (Ok(Value::Number(back)), Ok(Value::Number(number))) => {
                    prop_assert_eq!(back.to_bits(), number.to_bits());
                }
                // What is no number is no value.
                (Err(Unavailable::Sentinel), Ok(Value::Number(number))) => {
                    prop_assert!(!number.is_finite());
                }
                (back, measured) => prop_assert_eq!(&back, measured),
            }
        }
    }

    #[test]
    fn slots_come_back_but_for_a_thousandth_of_a_step_of_the_mean(
        values in prop::collection::vec((-9999_i32..9999, 0_i32..500, 1_i64..60_000, any::<bool>()), 1..200),
    ) {
        let slots: Vec<summary::Sum> = values.iter().map(|(least, more, known_ms, gap)| {
            let (least, greatest) = (f64::from(*least) / 10.0, f64::from(least + more) / 10.0);
            let mean = least + (greatest - least) / 3.0;
            if *gap { return summary::Sum::default() }
            summary::Sum {
                count: 3, known_ms: *known_ms, least, greatest, last: least,
                integral: mean * *known_ms as f64, last_at: 0,
            }
        }).collect();
        let mut row = row::Builder::new(row::Kind::Slots, 0);
        rollup::write(&mut row, 3, &slots);
        let bytes = row.finish();
        let (length, crc) = row::prefix(bytes[..8].try_into().unwrap()).unwrap();
        let header = row::Header::read(&bytes[8..8 + length], crc).unwrap();
        let Some(entry) = header.entry(3) else {
            prop_assert!(slots.iter().all(summary::Sum::is_empty));
            return Ok(());
        };
        let part = |place: row::Place| &bytes[place.offset..place.offset + place.length];
        let shared = header.shared[entry.shared];
        let numbers = rollup::read_numbers(part(shared.place), shared.count).unwrap();
        let back = rollup::read(part(entry.place), entry.scale, shared.count, true).unwrap();
        let back: Vec<summary::Sum> = back.into_slots().collect();
        let known: Vec<_> = (0..).zip(&slots).filter(|(_, sum)| !sum.is_empty()).collect();
        prop_assert_eq!(known.len(), back.len());
        for (((slot, sum), number), back) in known.iter().zip(numbers).zip(back) {
            prop_assert_eq!(*slot, number);
            prop_assert_eq!((back.least, back.greatest, back.last), (sum.least, sum.greatest, sum.last));
            prop_assert_eq!((back.count, back.known_ms), (sum.count, sum.known_ms));
            prop_assert!((back.mean() - sum.mean()).abs() <= 0.1 / 1000.0);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes: Vec<u8>, scale: u8, count in 0_usize..50) {
        let _ = row::Header::read(&bytes, crc32c::crc32c(&bytes));
        let _ = column::read_values(&bytes, scale, vec![0; count]);
        let _ = column::read_times(&bytes, count, i64::MAX);
        let _ = rollup::read(&bytes, scale, count, true).map(|it| it.into_slots().last());
    }
}
