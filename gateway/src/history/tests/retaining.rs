//! What is given up: by age only what a clock that stands says is old, by size the oldest first.

use std::time::Duration;

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
