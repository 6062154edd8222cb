//! What is kept: every sample once, wherever the power is cut, late ones too, until it is too old.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::value::Measured;

use super::*;
use crate::clock::Anchors;
use crate::config::plan::{HistoryPlan, JournalPlan};
use crate::history::keeper::{Taken, lock};
use crate::history::{merge, start};
use crate::journal::Journal;

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
    let records = minutes(1..=200);
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

/// What a journal with `records` gives whoever goes on after a position.
pub(super) fn from(records: &[Record], after: Option<crate::journal::Position>) -> &[Record] {
    let read = |record: &Record| {
        after.is_some_and(|after| record.boot == after.boot && record.seq <= after.seq)
    };
    &records[records.iter().rposition(read).map_or(0, |place| place + 1)..]
}

#[test]
fn what_was_read_last_may_be_lost_with_the_power_again_and_again() {
    // Of each boot, some minutes; how many of its last records are lost; and the same thrice.
    for lost in [1, 3, 20, 40] {
        let folder = Folder::new("history-lost-tail");
        let mut journal: Vec<Record> = minutes(1..=150);
        let mut now = 150;
        for boot in 1..=4_u8 {
            let (mut keeper, _) = reopened(folder.path(), &[]);
            let boot = BootId([boot; 16]);
            let of_boot = minutes(now + 10..=now + 49).into_iter().map(|it| Record { boot, ..it });
            journal.extend(of_boot);
            now += 49;
            for record in from(&journal, keeper.position()) {
                assert_eq!(keeper.take(record), Taken::Yes);
                keeper.flush().unwrap();
            }
            let whole = expected(&journal);
            for (item, samples) in exported(&Archive::in_folder(folder.path())) {
                // Those of the hours that are over, some of which are not in the journal any more.
                let over = i64::try_from((now - 1) / 60).unwrap() * 3_600_000 + BEGIN;
                let held: Vec<_> = whole[&item].iter().filter(|it| it.0 <= over).collect();
                let kept: Vec<_> = samples.iter().filter(|it| held.contains(it)).collect();
                assert_eq!(kept, held, "{item} in {boot:?}, {lost} lost");
                assert!(samples.is_sorted_by(|one, next| one.0 < next.0), "{boot:?}, {lost} lost");
            }
            journal.truncate(journal.len() - lost);
        }
    }
}

#[test]
fn late_samples_make_their_day_merge_again() {
    let folder = Folder::new("history-late");
    let mut history = offline(&folder, 60);
    let mut records = minutes(1..=1500);
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

#[test]
fn boots_without_a_clock_wait_and_are_written_at_their_past_time() {
    let folder = Folder::new("history-undated");
    let anchors = Arc::new(Mutex::new(Anchors::default()));
    let clock = Arc::clone(&anchors);
    let wall: WallClock = Arc::new(move |boot, at| clock.lock().unwrap().wall_ms(boot, at));
    let mut history = Offline::open(folder.path(), BOOT, wall, periods(60)).unwrap();
    let records = minutes(1..=200);
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
    for record in rising(1..=10 * 1440) {
        history.take(&record).unwrap();
        if record.seq % 60 == 5 {
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
        let question = question("a", BEGIN, BEGIN + 2 * 86_400_000, steps);
        answer(&history.archive(), &question, None)
    };
    let hours = ask(&history, 2000);
    assert_eq!((hours.len(), hours.iter().flatten().count()), (48, 48), "minutes are gone");
    // Samples are gone, minutes are there; and where the stretch reaches back further, hours.
    let hour = |day: i64, hour: i64| BEGIN + day * 86_400_000 + hour * 3_600_000;
    for (from, to, steps) in [(hour(5, 8), hour(5, 10), 120), (hour(4, 22), hour(5, 2), 4)] {
        let question = question("a", from, to, 500);
        let curve = answer(&history.archive(), &question, None);
        assert_eq!((curve.len(), curve.iter().flatten().count()), (steps, steps));
        assert_eq!(curve[0].unwrap().min, ((from - BEGIN) / 60_000 + 1) as f64);
    }
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
fn the_thread_answers_for_what_the_journal_holds_also_after_a_restart() {
    let folder = Folder::new("history-live");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let journal = Arc::new(journal);
    journal.append(rising(1..=100).map(|record| record.payload).collect());
    let question = question("a", BEGIN, BEGIN + 6_000_000, 100);
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
}
