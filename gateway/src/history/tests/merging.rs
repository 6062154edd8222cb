//! A day that cannot be merged: it is told and tried again, and neither hours nor other days wait.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::journal::written;
use super::*;
use crate::config::plan::JournalPlan;
use crate::history::merge;
use crate::history::present::Present;
use crate::history::thread::Worker;
use crate::journal::Stream;

/// A minute of looks, and some for what else a turn may be about.
const MINUTE: usize = 70;

/// A row of the first day that no merge can read: what should be bytes is none.
fn spoil(database: &Connection) -> Vec<u8> {
    let body = "SELECT body FROM chunk WHERE start = ?1";
    let start = BEGIN / 3_600_000 + 5;
    let body = database.query_row(body, [start], |row| row.get(0)).unwrap();
    database.execute("UPDATE chunk SET body = 17 WHERE start = ?1", [start]).unwrap();
    body
}

fn mend(database: &Connection, body: &[u8]) {
    database.execute("UPDATE chunk SET body = ?1 WHERE body = 17", params![body]).unwrap();
}

/// The days that are not merged, beginning with the first.
fn pending(database: &Connection) -> Vec<i64> {
    let mut days = database.prepare("SELECT day FROM pending ORDER BY day").unwrap();
    let days = days.query_map([], |row| row.get(0)).unwrap();
    days.map(|day: Result<i64, _>| day.unwrap() - BEGIN / 86_400_000).collect()
}

/// How many hours of one item are in the file.
fn hours(database: &Connection) -> i64 {
    database.query_row("SELECT sum(span) FROM chunk", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_day_that_cannot_be_merged_keeps_no_hour_and_no_other_day_waiting() {
    let folder = Folder::new("history-unmerged");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let journal = Arc::new(journal);
    let append = |records: Vec<Record>| {
        let last = records.last().unwrap().seq;
        journal.append(records.into_iter().map(|record| record.payload).collect());
        written(&journal, last);
    };
    // Two days and an hour and a half.
    append(minutes(1..=49 * 60 + 30));
    let mut history = offline(&folder, 60);
    for record in journal.reader().unwrap().records(Stream::Telemetry).unwrap() {
        history.take(&record).unwrap();
    }
    history.flush().unwrap();
    drop(history);
    let database = Connection::open(folder.path().join(NAME)).unwrap();
    assert_eq!((hours(&database), pending(&database)), (49, vec![0, 1, 2]));
    let body = spoil(&database);

    let (mut worker, mut open) = (Worker::new(live(&folder, &journal)), None);
    let mut turns = |count: usize| {
        for _ in 0..count {
            worker.turn(&mut open);
        }
        worker.health().clone()
    };
    for hour in 50..=55 {
        append(minutes((hour - 1) * 60 + 31..=hour * 60 + 30));
        let health = turns(MINUTE);
        assert_eq!(hours(&database), i64::try_from(hour).unwrap(), "{health:?}");
        assert_eq!(pending(&database), [0, 2]);
        assert_eq!((health.failing, health.counters.failures), (None, 0));
        assert_eq!(health.unmerged, 1);
        assert!(health.unmerged_why.unwrap().contains("cannot open value"));
    }
    // Seven minutes: after one, two and four.
    let failures = turns(0).counters.merge_failures;
    assert!((2..=5).contains(&failures), "{failures}");
    mend(&database, &body);
    let health = turns(10 * MINUTE);
    assert_eq!(pending(&database), [2]);
    assert_eq!((health.unmerged, health.unmerged_why), (0, None));
    assert_eq!(exported(&Archive::in_folder(folder.path()))["a"].len(), 55 * 60);
}

/// A keeper with so many minutes in its file, of which a row cannot be read.
fn spoilt(folder: &Folder, count: u64) -> Keeper {
    let records = minutes(1..=count);
    let (mut keeper, _) = reopened(folder.path(), &records);
    for record in &records {
        keeper.take(record);
    }
    assert!(keeper.flush().unwrap());
    spoil(&keeper.database);
    keeper
}

#[test]
fn a_day_that_is_too_old_goes_though_it_cannot_be_merged_but_not_at_once() {
    let folder = Folder::new("history-unmerged-old");
    let mut keeper = spoilt(&folder, 49 * 60 + 30);
    let day = Duration::from_secs(DAY_S);
    let limits = HistoryPlan { keep: day, keep_minutes: 9 * day, bytes: 1 << 30 };
    keeper.present = Present { wall_ms: keeper.newest_ms, stands: true };
    assert!(!keeper.retain(&limits).unwrap(), "it may still be merged");
    assert_eq!((hours(&keeper.database), pending(&keeper.database)), (49, vec![0, 1, 2]));
    for _ in 0..2 * 3600 {
        if let Some(pending) = keeper.due_to_merge().unwrap() {
            keeper.merge_or_postpone(pending).unwrap();
        }
    }
    assert_eq!(pending(&keeper.database), [0, 2]);
    while keeper.retain(&limits).unwrap() {}
    assert_eq!((hours(&keeper.database), pending(&keeper.database)), (25, vec![2]));
    assert_eq!((keeper.counters.damaged, keeper.unmerged.as_deref()), (1, None));
    assert_eq!(merge::pending(&keeper.database, keeper.newest_ms).unwrap(), None);
}

#[test]
fn an_hour_that_has_to_go_without_its_roll_up_takes_no_other_hour_with_it() {
    let folder = Folder::new("history-hopeless-hour");
    let mut keeper = spoilt(&folder, 12 * 60 + 30);
    let day = Duration::from_secs(DAY_S);
    let little = HistoryPlan { keep: 9 * day, keep_minutes: 9 * day, bytes: 1 };
    keeper.present = Present { wall_ms: keeper.newest_ms, stands: true };
    for _ in 0..2 * 3600 {
        keeper.due_to_merge().unwrap();
        while keeper.retain(&little).unwrap() {}
    }
    assert_eq!(hours(&keeper.database), 1);
    // The one before it has to be rolled up with its first sample.
    assert_eq!((keeper.counters.damaged, keeper.unmerged.as_deref()), (2, None));
    let archive = Archive { path: folder.path().join(NAME), buffer: Arc::clone(&keeper.buffer) };
    let hours = question("b", BEGIN, BEGIN + 11 * 3_600_000, 11);
    let hours = answer(&archive, &hours, None);
    let gone: Vec<usize> = (0..11).filter(|hour| hours[*hour].is_none()).collect();
    assert_eq!(gone, [4, 5]);
}
