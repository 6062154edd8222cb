//! What is given up: by age only what a clock that stands says is old, by size the oldest first.

use std::time::Duration;

use super::answers::{compare, oracle};
use super::keeping::from;
use super::*;
use crate::history::merge;
use crate::history::present::Present;

const DAY_MS: i64 = 86_400_000;
/// Ten years in minutes.
const TEN_YEARS: u64 = 3653 * 1440;

fn limits(keep_days: u64, bytes: u64) -> HistoryPlan {
    let keep = Duration::from_secs(keep_days * DAY_S);
    HistoryPlan { keep, keep_minutes: keep, bytes }
}

/// Takes records as the thread does at a present that is theirs, with a flush every hour.
fn live_through(
    keeper: &mut Keeper,
    records: impl Iterator<Item = Record>,
    limits: &HistoryPlan,
    stands: bool,
) {
    for record in records {
        let Payload::Observation(seen) = &record.payload else { continue };
        let wall_ms = Some(BEGIN + i64::try_from(seen.at.as_millis()).unwrap());
        keeper.present = Present { wall_ms, stands };
        keeper.take(&record);
        if record.seq % 60 == 5 {
            look(keeper, limits);
        }
    }
}

/// Flushes, merges and gives up.
fn look(keeper: &mut Keeper, limits: &HistoryPlan) {
    keeper.flush().unwrap();
    while let Some(pending) = merge::pending(&keeper.database, keeper.now_ms()).unwrap() {
        keeper.merge(pending).unwrap();
    }
    while keeper.retain(limits).unwrap() {}
}

#[test]
fn a_clock_that_leaps_into_the_future_and_back_takes_nothing_away() {
    let folder = Folder::new("history-leap");
    let keep = limits(30, 1 << 30);
    let (mut keeper, _) = reopened(folder.path(), &[]);
    live_through(&mut keeper, rising(1..=2 * 1440 + 600), &keep, true);
    // Five minutes in ten years, with every look at what is to be done.
    let far = (1..=5).map(|n| {
        let seq = 2 * 1440 + 600 + n;
        record(seq, (seq + TEN_YEARS) * 60_000, vec![("a", number(-1.0))])
    });
    for record in far {
        live_through(&mut keeper, [record].into_iter(), &keep, false);
        look(&mut keeper, &keep);
    }
    live_through(&mut keeper, rising(2 * 1440 + 606..=3 * 1440), &keep, false);
    drop(keeper);
    // After a restart, and on the days after.
    let records: Vec<Record> = rising(1..=5 * 1440 + 30).collect();
    let (mut keeper, _) = reopened(folder.path(), &[]);
    let again =
        from(&records, keeper.position()).iter().filter(|it| !(3481..3486).contains(&it.seq));
    live_through(&mut keeper, again.cloned(), &keep, true);
    assert_eq!((keeper.place.horizon_ms, keeper.counters.passed_over), (None, 0));
    let archive = Archive { path: folder.path().join(NAME), buffer: Arc::clone(&keeper.buffer) };
    let kept = exported(&archive).remove("a").unwrap();
    let at = |place: usize| (kept[place].0 - BEGIN) / 60_000;
    assert_eq!(kept.len(), 5 * 1440 - 5 + 5, "from {} to {}", at(0), at(kept.len() - 1));
    let days = question("a", BEGIN, BEGIN + 5 * DAY_MS, 5);
    let days = answer(&archive, &days, None);
    assert!(days.iter().flatten().all(|day| day.coverage > 0.99), "{days:?}");
    // What was given up by its age is given up still.
    let short = limits(2, 1 << 30);
    while keeper.retain(&short).unwrap() {}
    let first = exported(&archive)["a"][0].0;
    assert_eq!(first, BEGIN + 3 * DAY_MS + 60_000);
}

#[test]
fn a_horizon_in_the_future_is_lowered_and_samples_are_taken_again() {
    let folder = Folder::new("history-horizon");
    let keep = limits(30, 1 << 30);
    let (mut keeper, _) = reopened(folder.path(), &[]);
    live_through(&mut keeper, rising(1..=1440 + 600), &keep, true);
    keeper.place.horizon_ms = Some(BEGIN + 9 * 366 * DAY_MS);
    let transaction = keeper.database.unchecked_transaction().unwrap();
    keeper.place.write(&transaction).unwrap();
    transaction.commit().unwrap();
    drop(keeper);
    let (mut keeper, _) = reopened(folder.path(), &[]);
    live_through(&mut keeper, rising(1440 + 601..=1440 + 660), &keep, false);
    assert_eq!(keeper.counters.passed_over, 60, "no clock says that it is in the future");
    live_through(&mut keeper, rising(1440 + 661..=2 * 1440), &keep, true);
    assert!(keeper.counters.passed_over < 70, "{}", keeper.counters.passed_over);
    assert!(keeper.place.horizon_ms < Some(BEGIN + 2 * DAY_MS));
}

#[test]
fn a_gateway_without_a_wall_time_gives_nothing_up() {
    let folder = Folder::new("history-no-wall");
    let (mut keeper, _) = reopened(folder.path(), &[]);
    live_through(&mut keeper, rising(1..=300), &limits(99, 1 << 30), true);
    // The anchor that ends a leap into the future is not written yet.
    let far = record(301, (301 + TEN_YEARS) * 60_000, vec![("a", number(-1.0))]);
    live_through(&mut keeper, [far].into_iter(), &limits(99, 1 << 30), false);
    let before = exported(&Archive::in_folder(folder.path()));
    keeper.present = Present::default();
    assert!(!keeper.retain(&limits(99, 1)).unwrap());
    assert_eq!(exported(&Archive::in_folder(folder.path())), before);
    assert_eq!(keeper.place.horizon_ms, None);
    // It is too much all the same, once it is known what day it is.
    keeper.present = Present { wall_ms: Some(BEGIN + 301 * 60_000), stands: false };
    assert!(keeper.retain(&limits(99, 1)).unwrap());
}

/// A record every ten seconds of a value that no column makes small.
fn dense(hours: u64) -> Vec<Record> {
    let mixed = |n: u64| (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = |n: u64| (mixed(mixed(mixed(n))) >> 14) as f64;
    let record = |n: u64| record(n, n * 10_000, vec![("a", number(value(n) / 1e9))]);
    (1..=hours * 360).map(record).collect()
}

/// A keeper of records every ten seconds, and who asks it.
fn of_dense(folder: &Folder) -> (Keeper, Archive) {
    let path = folder.path().join(NAME);
    let keeper = Keeper::open(&path, BOOT, wall(), periods(10), Arc::default()).unwrap();
    let archive = Archive { path, buffer: Arc::clone(&keeper.buffer) };
    (keeper, archive)
}

fn pages(keeper: &Keeper) -> i64 {
    keeper.database.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
}

/// Whether the first `hours` are answered as if all samples were there.
fn whole(archive: &Archive, records: &[Record], hours: i64, widths_ms: &[i64]) {
    let all = expected(records).remove("a").unwrap();
    for width_ms in widths_ms {
        let count = hours * 3_600_000 / width_ms;
        let steps = usize::try_from(count).unwrap();
        let question = question("a", BEGIN, BEGIN + hours * 3_600_000, steps);
        let got = answer(archive, &question, None);
        let want = oracle(&all, 10_000, BEGIN, *width_ms, count);
        compare(&got, &want, 1e-3, &format!("{hours} hours in steps of {width_ms} ms"));
    }
}

#[test]
fn what_is_too_much_in_one_day_goes_by_the_hour_and_its_roll_up_stays_whole() {
    let folder = Folder::new("history-much");
    let records = dense(48);
    let (mut keeper, mut archive) = of_dense(&folder);
    let six_hours = 6 * 360;
    live_through(&mut keeper, records[..six_hours].iter().cloned(), &limits(99, 1 << 30), true);
    // Six hours, and something for the roll-ups of what goes.
    let size = pages(&keeper) * 4096 + 30_000;
    let little = limits(99, size.unsigned_abs());
    let (mut most, mut next) = (0, six_hours);
    let mut until = |keeper: &mut Keeper, hours: usize, minutes: usize| {
        let (begin, end) = (next, hours * 360 + minutes * 6);
        for some in records[begin..end].chunks(60) {
            live_through(keeper, some.iter().cloned(), &little, true);
            most = most.max(pages(keeper) * 4096);
        }
        next = end;
    };
    until(&mut keeper, 18, 30);
    let kept = exported(&archive)["a"].clone();
    let first = (kept[0].0 - BEGIN) / 3_600_000;
    assert!(first > 2, "{first} hours went at {} of {size}", pages(&keeper) * 4096);
    assert_eq!(kept.len() % 360, 0, "by the hour");
    whole(&archive, &records, 18, &[60_000, 3_600_000]);
    // A clock that was ahead has had the day merged before it is over.
    keeper.merge(merge::Pending { group: 0, day: BEGIN / DAY_MS }).unwrap();
    whole(&archive, &records, 18, &[60_000, 3_600_000]);
    // Again from the journal, and over midnight, while the last hour is in memory.
    drop(keeper);
    (keeper, archive) = of_dense(&folder);
    let again = from(&records, keeper.position());
    let again = again.iter().take_while(|record| record.seq <= 18 * 360 + 30 * 6);
    live_through(&mut keeper, again.cloned(), &little, true);
    for (hours, minutes) in [(23, 59), (24, 1), (24, 9), (24, 30)] {
        until(&mut keeper, hours, minutes);
        whole(&archive, &records, 23, &[60_000, 3_600_000]);
    }
    until(&mut keeper, 25, 0);
    whole(&archive, &records, 24, &[60_000, 3_600_000, DAY_MS]);
    until(&mut keeper, 48, 0);
    whole(&archive, &records, 47, &[3_600_000]);
    assert_eq!(keeper.counters.passed_over, 0);
    assert!(keeper.place.horizon_ms < Some(BEGIN + 47 * 3_600_000), "the newest hour stays");
    assert!(most < size + 32_768, "{most} of {size}");
}

#[test]
fn roll_ups_go_only_when_no_samples_are_left_and_the_oldest_first() {
    let folder = Folder::new("history-order");
    let records = dense(75);
    let (mut keeper, archive) = of_dense(&folder);
    live_through(&mut keeper, records.iter().cloned(), &limits(99, 1 << 30), true);
    let count = |keeper: &Keeper, sql: &str| -> i64 {
        keeper.database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let hours = "SELECT coalesce(sum(span), 0) FROM chunk";
    let minutes = "SELECT count(*) FROM rollup WHERE level = 0";
    let first = "SELECT min(start) FROM rollup WHERE level = 0";
    let before = (count(&keeper, hours), count(&keeper, minutes));
    assert_eq!(before, (74, 3));
    let mut seen = vec![before];
    while keeper.retain(&limits(99, 1)).unwrap() {
        seen.push((count(&keeper, hours), count(&keeper, minutes)));
    }
    // Three days, an hour of today, and only then the minutes of days that are over.
    assert_eq!(seen, [(74, 3), (50, 3), (26, 3), (2, 3), (1, 4), (1, 3), (1, 2), (1, 1)]);
    assert_eq!(count(&keeper, first), BEGIN / DAY_MS + 3);
    whole(&archive, &records, 72, &[3_600_000, DAY_MS]);
}

#[test]
fn samples_of_a_far_future_go_last_and_keep_nothing_out() {
    let folder = Folder::new("history-future");
    let large = limits(99, 1 << 30);
    let (mut keeper, _) = reopened(folder.path(), &[]);
    live_through(&mut keeper, rising(1..=300), &large, true);
    let far = record(301, (301 + TEN_YEARS) * 60_000, vec![("a", number(-1.0))]);
    live_through(&mut keeper, [far].into_iter(), &large, false);
    live_through(&mut keeper, rising(302..=425), &large, false);
    let times = || -> Vec<i64> {
        let kept = exported(&Archive::in_folder(folder.path())).remove("a").unwrap_or_default();
        kept.iter().map(|it| (it.0 - BEGIN) / 60_000).collect()
    };
    let mut seen = Vec::new();
    while keeper.retain(&limits(99, 1)).unwrap() {
        seen.push((times()[0], times().last().copied()));
    }
    let far = Some(i64::try_from(301 + TEN_YEARS).unwrap());
    // The seventh hour is over since five minutes, so the sixth is the newest that has settled.
    let hours = [(61, far), (121, far), (181, far), (241, far), (302, far), (302, Some(420))];
    assert_eq!(seen, hours);
    assert_eq!(keeper.place.horizon_ms, Some(BEGIN + 5 * 3_600_000));
    live_through(&mut keeper, rising(426..=500), &large, false);
    assert_eq!(keeper.counters.passed_over, 0);
}
