//! History beside the journal: what the file lacks comes from there, a new file says so, and one that
//! cannot be written is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use andon_engine::event::Event;
use andon_engine::time::BootTime;

use super::*;
use crate::config::plan::JournalPlan;
use crate::history::tail::{self, Stock};
use crate::history::thread::{Open, Worker};
use crate::history::{Health, Inputs, export, start};
use crate::journal::tests::unreadable::{is_starved, starve};
use crate::journal::{Journal, Stream};

const TEN_YEARS_MS: i64 = 3653 * 86_400_000;

/// A journal of two hours and a half, and the gateway's history of it.
fn shop_with_a_past(folder: &Folder) -> (Arc<Journal>, Vec<Record>) {
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let records: Vec<Record> = minutes(1..=150);
    journal.append(vec![Payload::Event(Event::Clock { at: BootTime(0), wall_ms: BEGIN })]);
    journal.append(records.iter().map(|record| record.payload.clone()).collect());
    (Arc::new(journal), records)
}

/// Waits until the journal has taken so many records.
pub(super) fn written(journal: &Journal, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while journal.newest(Stream::Telemetry).is_none_or(|newest| newest.seq < count) {
        assert!(Instant::now() < deadline, "the journal is not written");
        std::thread::yield_now();
    }
}

fn exported_with_the_journal(folder: &Folder) -> (All, export::Exported) {
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
    written(&journal, 150);
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
    let stock = |started| tail::stock(&Inputs { started, ..live(&folder, &journal) });
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

#[test]
fn hours_that_cannot_be_written_are_told_until_some_are() {
    let folder = Folder::new("history-unwritten");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
    let records = minutes(1..=26 * 60 + 30);
    journal.append(records.into_iter().map(|record| record.payload).collect());
    written(&journal, 26 * 60 + 30);
    let (mut worker, mut open) = (Worker::new(live(&folder, &Arc::new(journal))), None);
    let mut until = |cut, is: &dyn Fn(&Health) -> bool| {
        CUT.with(|left| left.set(cut));
        for _ in 0..1000 {
            let wait = worker.turn(&mut open);
            if is(&worker.health()) {
                return (wait, worker.health().clone());
            }
        }
        panic!("cut at {cut:?}: {:?}", worker.health());
    };
    let (wait, failed) = until(Some(0), &|health| health.counters.failures == 1);
    assert_eq!(wait, Duration::from_secs(1));
    assert!(exported(&Archive::in_folder(folder.path())).is_empty());
    let told = failed.failing.as_deref();
    assert_eq!(told, Some("the power was cut"));
    // It can be opened again, and that is no success.
    assert_eq!(until(None, &|_| true).1.failing.as_deref(), told);
    let (wait, _) = until(Some(0), &|health| health.counters.failures == 2);
    assert_eq!(wait, Duration::from_secs(2), "the pause grows");
    until(None, &|health| health.failing.is_none());
    let (wait, _) = until(None, &|_| true);
    assert!(wait <= Duration::from_secs(1));
}

#[test]
fn an_export_says_how_many_blocks_of_the_journal_are_damaged() {
    let folder = Folder::new("history-tail-damaged");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    // Each run begins a block of its own.
    for run in 0..3 {
        let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
        let records = minutes(run * 40 + 1..=run * 40 + 40);
        journal.append(vec![Payload::Event(Event::Clock { at: BootTime(0), wall_ms: BEGIN })]);
        journal.append(records.into_iter().map(|record| record.payload).collect());
        journal.close();
    }
    let (whole, exported) = exported_with_the_journal(&folder);
    assert_eq!((whole["a"].len(), exported.quarantined), (120, 0));
    spoil_a_block(&folder, "telemetry");
    let (all, exported) = exported_with_the_journal(&folder);
    assert!((80..120).contains(&all["a"].len()), "{}", all["a"].len());
    assert_eq!((exported.quarantined, exported.events_quarantined), (1, 0));
}

/// Flips a bit in the first block of a stream's only segment.
fn spoil_a_block(folder: &Folder, stream: &str) {
    let mut segments = std::fs::read_dir(folder.path().join("journal").join(stream)).unwrap();
    let segment = segments.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 6] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

#[test]
fn an_export_says_how_many_blocks_of_the_events_are_damaged_beside_what_has_no_time() {
    let folder = Folder::new("history-tail-anchors");
    let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
    // The clock of the first boot is in the block that will be damaged, that of the second is not.
    for boot in [BootId([1; 16]), BOOT] {
        let journal = Journal::open(&folder.path().join("journal"), &plan, boot).unwrap();
        journal.append(vec![Payload::Event(Event::Clock { at: BootTime(0), wall_ms: BEGIN })]);
        journal.append(minutes(1..=40).into_iter().map(|record| record.payload).collect());
        journal.close();
    }
    let (whole, exported) = exported_with_the_journal(&folder);
    assert_eq!((whole["a"].len(), exported.undated, exported.events_quarantined), (80, 0, 0));
    spoil_a_block(&folder, "events");
    let (all, exported) = exported_with_the_journal(&folder);
    assert_eq!((all["a"].len(), exported.undated), (40, 40));
    assert_eq!((exported.quarantined, exported.events_quarantined), (0, 1));
}

#[test]
fn an_export_says_that_the_newest_segment_cannot_be_read() {
    let folder = Folder::new("history-tail-newest");
    let (journal, records) = shop_with_a_past(&folder);
    written(&journal, 150);
    drop(journal);
    std::fs::create_dir(folder.path().join("journal/telemetry/00000002.seg")).unwrap();
    let (all, exported) = exported_with_the_journal(&folder);
    assert_eq!((all, exported.quarantined), (expected(&records), 1));
}

#[test]
fn an_export_that_lacks_descriptors_has_not_come_to_the_end_of_the_journal() {
    let test = "history::tests::journal::\
                an_export_that_lacks_descriptors_has_not_come_to_the_end_of_the_journal";
    if !is_starved(test) {
        return;
    }
    let folder = Folder::new("history-tail-starved");
    let (journal, _) = shop_with_a_past(&folder);
    written(&journal, 150);
    let reader = journal.reader().unwrap();
    let [newest, all] = [2, usize::MAX].map(|most| reader.newest(Stream::Telemetry, most).unwrap());
    let taken = starve();
    let [newest, all] = [tail::last_of(newest).err(), tail::series_of(all).err()];
    drop(taken);
    let lacking = |error: Option<std::io::Error>| error.unwrap().raw_os_error();
    assert_eq!([newest, all].map(lacking), [Some(libc::EMFILE); 2]);
}

/// A journal that is written and a history of it, ten minutes at a time, by a clock that a test sets.
struct Running {
    journal: Arc<Journal>,
    minute: Arc<AtomicU64>,
    worker: Worker,
    open: Option<Open>,
}

impl Running {
    fn new(folder: &Folder, wall: WallClock) -> Self {
        let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
        let journal = Journal::open(&folder.path().join("journal"), &plan, BOOT).unwrap();
        let (journal, minute) = (Arc::new(journal), Arc::new(AtomicU64::new(0)));
        let clock = Arc::clone(&minute);
        let now = Arc::new(move || BootTime::from_millis(clock.load(Ordering::Relaxed) * 60_000));
        let worker = Worker::new(Inputs { now, wall, ..live(folder, &journal) });
        Self { journal, minute, worker, open: None }
    }

    fn until(&mut self, end: u64) {
        for minute in (self.minute.load(Ordering::Relaxed) + 10..=end).step_by(10) {
            let records = minutes(minute - 9..=minute);
            self.journal.append(records.into_iter().map(|record| record.payload).collect());
            written(&self.journal, minute);
            self.minute.store(minute, Ordering::Relaxed);
            for _ in 0..70 {
                self.worker.turn(&mut self.open);
            }
        }
    }
}

fn kept(folder: &Folder) -> Vec<(i64, Measured)> {
    exported(&Archive::in_folder(folder.path())).remove("a").unwrap_or_default()
}

#[test]
fn what_a_horizon_in_the_future_keeps_out_is_read_from_the_journal_once_it_is_lowered() {
    let folder = Folder::new("history-kept-out");
    let (mut keeper, _) = reopened(folder.path(), &[]);
    keeper.place.horizon_ms = Some(BEGIN + TEN_YEARS_MS);
    let transaction = keeper.database.unchecked_transaction().unwrap();
    keeper.place.write(&transaction).unwrap();
    transaction.commit().unwrap();
    drop(keeper);
    let mut running = Running::new(&folder, wall());
    // For an hour nobody knows whether the date is wrong or the horizon.
    running.until(60);
    assert_eq!(kept(&folder), []);
    running.until(130);
    assert_eq!(kept(&folder), expected(&minutes(1..=120))["a"]);
    let health = running.worker.health().clone();
    assert_eq!((health.counters.failures, health.counters.samples), (0, 3 * 120));
}

#[test]
fn a_clock_that_was_ahead_for_long_takes_nothing_of_what_comes_after_it() {
    let folder = Folder::new("history-ahead");
    // It is set right while an hour that is over waits to be written.
    let wrong = 100 * 60_000..185 * 60_000;
    let date = move |at: BootTime| {
        let at_ms = i64::try_from(at.as_millis()).unwrap();
        BEGIN + at_ms + if wrong.contains(&at_ms) { TEN_YEARS_MS } else { 0 }
    };
    let known = date.clone();
    let mut running = Running::new(&folder, Arc::new(move |_: &BootId, at| Some(known(at))));
    running.until(180);
    assert!(kept(&folder).iter().all(|(at, _)| *at > BEGIN + TEN_YEARS_MS), "it was believed");
    running.until(430);
    let records = minutes(100..=420);
    let mut want: Vec<_> = records
        .iter()
        .map(|record| {
            let Payload::Observation(seen) = &record.payload else { unreachable!() };
            (date(seen.at), seen.items[0].1.clone())
        })
        .collect();
    want.sort_by_key(|(at, _)| *at);
    assert_eq!(kept(&folder), want);
}
