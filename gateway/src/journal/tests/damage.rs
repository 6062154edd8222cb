//! Files that are cut, flipped or torn: what is kept, what is counted, and no number used twice.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::{env, fs};

use super::*;
use crate::journal::segment;

/// The only segment of telemetry.
fn only_segment(folder: &Folder) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder.path().join("telemetry")).unwrap().collect();
    assert_eq!(files.len(), 1);
    files.remove(0).unwrap().path()
}

/// A journal of `count` records in each stream, written one batch at a time.
fn small_journal(folder: &Folder, count: u64) -> Vec<Record> {
    let journal = open(folder, BOOT, SMALL, None);
    for at in 0..count {
        journal.append(vec![observation(at * 1000, 230.1), event(at)]);
    }
    follow_all(&journal, Stream::Events, usize::try_from(count).unwrap());
    follow_all(&journal, Stream::Telemetry, usize::try_from(count).unwrap())
}

#[test]
fn a_segment_cut_anywhere_opens_and_keeps_all_before_the_cut() {
    let folder = Folder::new("cut");
    let records = small_journal(&folder, 12);
    let file = only_segment(&folder);
    let whole = fs::read(&file).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut kept_before = 0;
    for cut in 0..=written {
        for zeros in [0, whole.len() - cut] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            fs::remove_dir_all(folder.path().join("telemetry")).unwrap();
            fs::create_dir_all(folder.path().join("telemetry")).unwrap();
            fs::write(&file, &bytes).unwrap();
            let journal = open(&folder, BOOT, SMALL, None);
            journal.append(vec![observation(1, 1.5)]);
            let mut follower = journal.follow(Stream::Telemetry, None);
            let mut seen: Vec<Record> = Vec::new();
            until(|| {
                seen.extend(follower.next(100));
                seen.last().is_some_and(|last| last.payload == observation(1, 1.5))
            });
            let kept = seen.len() - 1;
            assert_eq!(seen[..kept], records[..kept], "cut at {cut}");
            assert!(kept >= kept_before, "cut at {cut}: a longer file holds fewer records");
            assert!(seen[kept].seq > records[11].seq, "number used twice");
            let newest = journal.newest(Stream::Telemetry);
            assert_eq!(journal.behind(Stream::Telemetry, newest), 0);
            kept_before = kept;
        }
    }
    assert_eq!(kept_before, 12);
}

#[test]
fn any_flipped_bit_costs_one_block_at_most_and_is_counted() {
    let folder = Folder::new("flip");
    // Each run begins a block of its own.
    let blocks = 4;
    for run in 0..blocks {
        let journal = open(&folder, BOOT, SMALL, None);
        journal.append((0..3).map(|at| observation(run * 100 + at, 50.02)).collect());
    }
    let records = all(&folder, Stream::Telemetry);
    assert_eq!(records.len(), 12);
    let file = only_segment(&folder);
    let whole = fs::read(&file).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for place in 0..written {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&file, &bytes).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let seen: Vec<_> = reader.records(Stream::Telemetry).unwrap().collect();
        let lost: Vec<_> = records
            .iter()
            .map(|record| record.seq)
            .filter(|seq| seen.iter().all(|record| record.seq != *seq))
            .collect();
        assert!(!lost.is_empty() && lost.len() <= 3, "flip at {place} lost {lost:?}");
        assert!(lost.iter().all(|seq| seq >> 20 == lost[0] >> 20), "flip at {place}: {lost:?}");
        let journal = open(&folder, BootId([2; 16]), SMALL, None);
        assert_eq!(journal.counters().quarantined, 1, "flip at {place}");
        drop(journal);
    }
}

#[test]
fn numbers_are_never_used_twice_however_the_end_is_torn() {
    let rounds = env::var("ANDON_JOURNAL_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    let folder = Folder::new("reuse");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut used = HashSet::new();
    for round in 0..rounds {
        let journal = open(&folder, BOOT, BIG, None);
        let count = 1 + random(30);
        let mut follower = journal.follow(Stream::Telemetry, None);
        while !follower.next(1000).is_empty() {}
        journal.append((0..count).map(|at| observation(at, 1.5)).collect());
        let mut seen = 0;
        until(|| {
            for record in follower.next(1000) {
                assert!(used.insert(record.seq), "round {round}: {} used twice", record.seq);
                seen += 1;
            }
            seen == count
        });
        drop(journal);
        let folder = folder.path().join("telemetry");
        let newest = segment::list(&folder).unwrap().pop().unwrap();
        let path = segment::path(&folder, newest);
        let written = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let torn = random(200).min(written as u64);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(written as u64 - torn).unwrap();
        if random(2) == 0 {
            file.set_len(BIG).unwrap();
        }
    }
}

#[test]
fn full_segments_are_sealed_and_a_bad_footer_only_costs_time() {
    let folder = Folder::new("footer");
    let journal = open(&folder, BOOT, SMALL, None);
    for at in 0..4000 {
        journal.append(vec![observation(
            at * 1000,
            230.1 + f64::from(u32::try_from(at % 90).unwrap()),
        )]);
    }
    let records = follow_all(&journal, Stream::Telemetry, 4000);
    drop(journal);
    let telemetry = folder.path().join("telemetry");
    let numbers = segment::list(&telemetry).unwrap();
    assert!(numbers.len() > 3, "{numbers:?}");
    for number in &numbers[..numbers.len() - 1] {
        let path = segment::path(&telemetry, *number);
        let mut bytes = fs::read(&path).unwrap();
        assert!(segment::footer(&File::open(&path).unwrap()).is_some());
        let place = bytes.len() - 20;
        bytes[place] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    let journal = open(&folder, BOOT, SMALL, None);
    assert_eq!(journal.follow(Stream::Telemetry, None).next(usize::MAX), records);
    let middle = journal.follow(Stream::Telemetry, Some(records[1999].position())).next(5);
    assert_eq!(middle, records[2000..2005]);
}
