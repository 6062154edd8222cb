//! Segments that are there and cannot be read: passed over and counted once when they are broken,
//! waited for when it is the system that lacks something or when they are still being written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use andon_engine::time::BootTime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::journal::{Follower, segment};

/// Tries enough for any bound.
const MANY: usize = 100;

/// A journal with several segments of telemetry, its records, and the path of one amid them.
fn with_segments(folder: &Folder) -> (Journal, Vec<Record>, PathBuf) {
    let journal = open(folder, BOOT, SMALL, None);
    for at in 0..6000_u64 {
        journal.append(vec![observation(at * 1000, at as f64 / 7.0)]);
    }
    let records = follow_all(&journal, Stream::Telemetry, 6000);
    let telemetry = folder.path().join("telemetry");
    let numbers = segment::list(&telemetry).unwrap();
    assert!(numbers.len() > 4, "{numbers:?}");
    (journal, records, segment::path(&telemetry, numbers[2]))
}

/// Follows for so many tries, a minute apart.
fn follow_for(follower: &mut Follower, tries: usize) -> Vec<Record> {
    let minutes = (0..tries as u64).map(|minute| BootTime::from_millis(minute * 60_000));
    minutes.flat_map(|now| follower.next_by(usize::MAX, move || now)).collect()
}

#[test]
fn a_segment_that_cannot_be_read_is_passed_over_and_counted_once_whoever_follows() {
    let folder = Folder::new("unreadable");
    let (journal, records, path) = with_segments(&folder);
    let lost: Vec<Record> = {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let before = follow_for(&mut journal.follow(Stream::Telemetry, None), 1);
        fs::rename(&aside, &path).unwrap();
        let before: HashSet<u64> = before.iter().map(|record| record.seq).collect();
        records.iter().filter(|record| !before.contains(&record.seq)).cloned().collect()
    };
    assert!(!lost.is_empty() && lost.len() < records.len() / 2, "{} lost", lost.len());
    let before = journal.counters();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let readable: Vec<_> = records.iter().filter(|it| !lost.contains(it)).cloned().collect();
    let mut first = journal.follow(Stream::Telemetry, None);
    let once = follow_for(&mut first, 1);
    assert_eq!(once.last().unwrap().seq + 1, lost[0].seq);
    assert!(first.is_refused() && journal.counters().failing.is_some());
    // It is not tried again before its pause is over.
    let tried = journal.counters().failures;
    assert_eq!(follow_for(&mut first, 1), []);
    assert_eq!(journal.counters().failures, tried);
    let rest = follow_for(&mut first, MANY);
    let followed = [once, rest].concat();
    assert!(payloads(&followed) == payloads(&readable) && chained(&followed));
    assert!(!first.is_refused());
    // Nobody after it waits for what is known to be broken.
    for after in [None, Some(records[10].position()), Some(lost[10].position())] {
        let mut follower = journal.follow(Stream::Telemetry, after);
        let from = after.map_or(0, |after| after.seq);
        let rest: Vec<_> = readable.iter().filter(|it| it.seq > from).cloned().collect();
        let read = follow_for(&mut follower, 1);
        assert!(payloads(&read) == payloads(&rest), "after {from}: {}", read.len());
    }
    let counters = journal.counters();
    assert_eq!((counters.quarantined - before.quarantined, counters.gaps), (1, before.gaps));
    assert!(counters.failures < MANY as u64 && counters.failing.is_none(), "{counters:?}");
}

#[test]
fn a_segment_that_is_being_written_is_waited_for() {
    let folder = Folder::new("unreadable-active");
    let journal = open(&folder, BOOT, SMALL, None);
    journal.append(vec![event(1)]);
    follow_all(&journal, Stream::Events, 1);
    let path = segment::path(&folder.path().join("events"), 1);
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    let mut follower = journal.follow(Stream::Events, None);
    assert_eq!(follow_for(&mut follower, MANY), []);
    assert!(follower.is_refused());
    journal.append(vec![event(2)]);
    until(|| journal.counters().written == 2);
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    let later = follower.next_by(10, || BootTime::from_millis(MANY as u64 * 60_000));
    assert_eq!(payloads(&later), [event(1), event(2)]);
    let counters = journal.counters();
    assert_eq!((counters.quarantined, counters.gaps, counters.failing), (0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_refused_wakes_for_the_next_try_and_not_for_what_is_appended() {
    let folder = Folder::new("unreadable-ready");
    let journal = open(&folder, BOOT, SMALL, None);
    journal.append(vec![event(1)]);
    follow_all(&journal, Stream::Events, 1);
    let path = segment::path(&folder.path().join("events"), 1);
    fs::rename(&path, path.with_extension("aside")).unwrap();
    fs::create_dir(&path).unwrap();
    let mut follower = journal.follow(Stream::Events, None);
    assert_eq!(follower.next(10), []);
    journal.append(vec![event(2)]);
    until(|| journal.counters().written == 2);
    let asked = tokio::time::Instant::now();
    follower.ready().await;
    let waited = asked.elapsed();
    assert!(waited > Duration::ZERO && waited < Duration::from_secs(1), "{waited:?}");
}

/// Runs a test again in a process of its own, which it may starve; says whether it is that one.
pub(crate) fn is_starved(test: &str) -> bool {
    const STARVED: &str = "ANDON_TEST_STARVED";
    if env::var_os(STARVED).is_some() {
        return true;
    }
    let own = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(STARVED, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&own.stdout);
    assert!(own.status.success() && told.contains("1 passed"), "{told}");
    false
}

/// Takes all descriptors that there are for this process.
pub(crate) fn starve() -> Vec<File> {
    let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() > 10);
    taken
}

#[test]
fn no_record_is_passed_over_for_want_of_descriptors() {
    let test = "journal::tests::unreadable::no_record_is_passed_over_for_want_of_descriptors";
    if !is_starved(test) {
        return;
    }
    let folder = Folder::new("starved");
    let (journal, records, _) = with_segments(&folder);
    journal.append((0..10).map(event).collect());
    let events = follow_all(&journal, Stream::Events, 10);
    let mut followers = Stream::ALL.map(|stream| journal.follow(stream, None));
    let reader = Reader::open(folder.path()).unwrap();
    let [telemetry, past] = Stream::ALL.map(|stream| reader.records(stream).unwrap());

    let taken = starve();
    for follower in &mut followers {
        assert_eq!(follow_for(follower, MANY), []);
        assert!(follower.is_refused());
    }
    let mut read = 0;
    let lacking = past.each(|_| read += 1).unwrap_err();
    assert_eq!((lacking.raw_os_error(), read), (Some(libc::EMFILE), 0));

    drop(taken);
    let later = || BootTime::from_millis(MANY as u64 * 60_000);
    let [observed, happened] = followers.map(|mut it| it.next_by(usize::MAX, later));
    assert!(observed == records && happened == events);
    let mut read = Vec::new();
    telemetry.each(|record| read.push(record)).unwrap();
    assert_eq!(read, records);
    let counters = journal.counters();
    assert_eq!((counters.quarantined, counters.gaps, counters.failing), (0, 0, None));
}
