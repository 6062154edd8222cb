//! Damaged rows, roll-ups and files, and a full disk: each costs itself and is counted.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::*;
use crate::history::file::set_aside;

#[test]
fn a_damaged_row_costs_itself_and_is_counted() {
    let folder = Folder::new("history-row");
    let mut history = offline(&folder, 60);
    for record in rising(1..=1470) {
        history.take(&record).unwrap();
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
    let mut feed = |minutes: RangeInclusive<u64>| {
        for record in rising(minutes) {
            history.take(&record).unwrap();
            history.flush().unwrap();
        }
        history.merge().unwrap();
        answer(&history.archive(), &question("a", BEGIN, BEGIN + 3 * 86_400_000, 72), None)
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
    for record in minutes(1..=120) {
        history.take(&record).unwrap();
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
    let records = minutes(1..=120);
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
    set_aside(&path, &trouble).unwrap();
    assert_eq!(reopened(folder.path(), &records).1, 0);
    assert!(folder.path().join(format!("{NAME}.damaged-1")).exists());
}
