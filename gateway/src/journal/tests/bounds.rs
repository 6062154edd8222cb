//! What is bounded and what that costs: the disk's share, the queue, a record's length; and a disk
//! that refuses costs nothing that was bounded.

use std::fs;
use std::fs::File;
use std::io;
use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::Value;

use super::*;
use crate::journal::shared::{Inbox, Shared, State, TELEMETRY_QUEUE_MAX};
use crate::journal::{Follower, StreamWriter, segment, stock};

#[test]
fn telemetry_stays_within_its_bound_and_what_nobody_read_is_counted() {
    let folder = Folder::new("recycle");
    let total = 4 * SMALL;
    let journal = open(&folder, BOOT, SMALL, Some(total));
    let mut reader = journal.cursor("recorder", Stream::Telemetry).unwrap();
    let mut slow = journal.follow(Stream::Telemetry, None);
    journal.append((0..100).map(|at| observation(at, 1.5)).collect());
    let first = follow_all(&journal, Stream::Telemetry, 100);
    reader.save(first[49].position()).unwrap();
    let behind = ("recorder".to_owned(), Stream::Telemetry, 50);
    assert_eq!(journal.consumers(), [behind]);
    assert_eq!(slow.next(10), first[..10]);
    let mut appended = 100;
    until(|| {
        journal.append((0..200).map(|at| observation(appended + at, at as f64 / 7.0)).collect());
        appended += 200;
        let written = journal.counters().written;
        until(|| journal.counters().written == appended || journal.counters().written > written);
        journal.counters().recycled_unread > 0
    });
    until(|| journal.counters().written == appended);
    let counters = journal.counters();
    let left = journal.follow(Stream::Telemetry, None).next(usize::MAX);
    let kept = left.len() as u64;
    assert_eq!(left[0].prev, 0);
    assert_eq!(counters.recycled_unread, appended - kept - 50);
    let held: u64 = fs::read_dir(folder.path().join("telemetry"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(held <= total + SMALL, "{held} bytes");
    // A follower whose place is gone goes on at the oldest and says so.
    let gone = journal.follow(Stream::Telemetry, Some(first[49].position())).next(1);
    assert_eq!((gone[0].seq, gone[0].prev), (left[0].seq, first[49].seq));
    assert_eq!(journal.counters().gaps, 1);
    let after = slow.next(usize::MAX);
    assert_eq!(after.last(), left.last());
    assert!(chained(&after));
}

#[test]
fn appending_goes_on_while_the_disk_refuses_and_nothing_bounded_is_lost() {
    let folder = Folder::new("refuse");
    let journal = open(&folder, BOOT, SMALL, None);
    journal.append((0..10).map(|at| observation(at, 1.5)).collect());
    follow_all(&journal, Stream::Telemetry, 10);
    // A file where the folder should be: no new segment can be made, the open one goes on.
    let (telemetry, aside) = (folder.path().join("telemetry"), folder.path().join("aside"));
    fs::rename(&telemetry, &aside).unwrap();
    fs::write(&telemetry, "in the way").unwrap();
    let mut appended = 10;
    until(|| {
        journal.append((0..100).map(|at| observation(appended + at, at as f64 / 7.0)).collect());
        appended += 100;
        journal.counters().failing.is_some()
    });
    assert!(journal.counters().failures > 0);
    journal.append(vec![event(1)]);
    assert_eq!(follow_all(&journal, Stream::Events, 1).len(), 1);
    fs::remove_file(&telemetry).unwrap();
    fs::rename(&aside, &telemetry).unwrap();
    // The event is written too; on a slow machine some observations found no room meanwhile.
    until(|| {
        let counters = journal.counters();
        counters.failing.is_none() && counters.written + counters.dropped > appended
    });
    let counters = journal.counters();
    let expected = usize::try_from(appended - counters.dropped).unwrap();
    assert_eq!(follow_all(&journal, Stream::Telemetry, expected).len(), expected);
    assert_eq!(journal.behind(Stream::Telemetry, None), expected as u64);
}

#[test]
fn a_write_that_fails_is_repeated_in_a_new_segment_under_new_numbers() {
    let folder = Folder::new("full");
    fs::create_dir_all(folder.path().join("telemetry")).unwrap();
    let shared = Arc::new(Shared::new(folder.path(), State::default()));
    let sizes = Sizes { segment: SMALL, total: None };
    let found = stock::take(&folder.path().join("telemetry")).unwrap();
    let mut writer = StreamWriter::new(Stream::Telemetry, BOOT, sizes, Arc::clone(&shared), found);
    let mut queue: std::collections::VecDeque<_> = [observation(1, 1.0)].into();
    writer.write(&mut queue, BootTime(0)).unwrap();
    writer.replace_file(File::options().write(true).open("/dev/full").unwrap());
    queue.extend([observation(2, 2.0), observation(3, 3.0)]);
    let error = writer.write(&mut queue, BootTime(0)).unwrap_err();
    let cut = segment::path(&folder.path().join("telemetry"), 1);
    assert_eq!(fs::metadata(cut).unwrap().len(), shared.state().segments[0][0].end);
    assert_eq!((error.kind(), queue.len()), (io::ErrorKind::StorageFull, 2));
    writer.write(&mut queue, BootTime(0)).unwrap();
    let records = Follower::new(Stream::Telemetry, &shared, None).next(10);
    let numbers: Vec<_> = records.iter().map(|record| (record.prev, record.seq)).collect();
    assert_eq!(numbers, [(0, 1), (1, 4), (4, 5)]);
}

#[test]
fn the_queue_is_bounded_and_drops_the_oldest() {
    let mut inbox = Inbox::default();
    let extra = 7;
    let bound = TELEMETRY_QUEUE_MAX as u64;
    inbox.queues[0].extend((0..bound + extra).map(|at| observation(at, 1.0)));
    inbox.queues[1].push_back(event(1));
    assert_eq!(inbox.trim(), [extra, 0]);
    assert_eq!(inbox.queues[0].front(), Some(&observation(extra, 1.0)));
    assert_eq!(inbox.queues[1].len(), 1);
}

#[test]
fn a_record_too_long_for_a_frame_is_refused_and_its_neighbours_are_kept() {
    let folder = Folder::new("long");
    let journal = open(&folder, BOOT, 8 * BIG, None);
    let text: Arc<str> = "x".repeat(300 * 1024).into();
    let long = Payload::Observation(Observation {
        machine: "laser".into(),
        at: BootTime(1),
        items: vec![("state".into(), Ok(Value::Text(text)))],
    });
    journal.append(vec![observation(1, 1.0), long, observation(2, 2.0)]);
    let records = follow_all(&journal, Stream::Telemetry, 2);
    assert_eq!(payloads(&records), [observation(1, 1.0), observation(2, 2.0)]);
    assert_eq!((journal.counters().dropped, records[1].seq), (1, 2));
}

#[test]
fn a_large_shop_does_not_name_all_its_items_again_with_every_observation() {
    const MACHINES: u64 = 400;
    let items: Vec<Arc<str>> = (0..30).map(|item| format!("temperature.{item}").into()).collect();
    let machine = |machine: u64, round: u64| {
        let number = |at: usize| 20.0 + f64::from(u32::try_from(at).unwrap()) / 10.0;
        let values = items.iter().enumerate();
        let items =
            values.map(|(at, item)| (item.clone(), Ok(Value::Number(number(at))))).collect();
        let machine = format!("machine-{machine}").into();
        Payload::Observation(Observation {
            machine,
            at: BootTime::from_millis(round * 1000),
            items,
        })
    };
    let bytes = |rounds: u64| {
        let folder = Folder::new("large");
        let journal = open(&folder, BOOT, 4 * 1024 * 1024, None);
        let each = (1..=rounds).flat_map(|round| (0..MACHINES).map(move |it| (it, round)));
        let written: Vec<_> = each.map(|(it, round)| machine(it, round)).collect();
        journal.append(written.clone());
        while journal.counters().written < MACHINES * rounds {
            std::thread::yield_now();
        }
        let bytes = journal.counters().bytes;
        journal.close();
        assert_eq!(payloads(&all(&folder, Stream::Telemetry)), written);
        bytes
    };
    let (once, often) = (bytes(1), bytes(8));
    assert!(once > 64 * 1024, "one round is more than an ordinary block: {once}");
    assert!(often < 5 * once, "{once} bytes for a round, {often} for eight");
}
