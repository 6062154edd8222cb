//! That it is said when events are on the disk, and never before: what answers of people wait for.

use std::fs;

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::shared::{EVENTS_QUEUE_MAX, WAITING_MAX};
use super::tests::{BOOT, Folder, SMALL, event, follow_all, open, until};
use super::{Journal, Payload, Reader, Stream};

/// Resolves once these events and all before them are synced.
fn append(journal: &Journal, events: Vec<Payload>) -> oneshot::Receiver<()> {
    let (tell, synced) = oneshot::channel();
    journal.append_for(events, vec![tell]);
    synced
}

fn events_synced(journal: &Journal) -> oneshot::Receiver<()> {
    append(journal, Vec::new())
}

#[test]
fn events_are_synced_when_it_is_said() {
    let folder = Folder::new("synced");
    let journal = open(&folder, BOOT, SMALL, None);
    events_synced(&journal).blocking_recv().unwrap();
    for count in 1..=20 {
        journal.append(vec![event(count)]);
        events_synced(&journal).blocking_recv().unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.records(Stream::Events).unwrap().count() as u64, count);
    }
}

#[test]
fn nothing_is_said_while_the_disk_refuses_and_never_by_a_journal_that_was_closed() {
    let folder = Folder::new("unsynced");
    let events = folder.path().join("events");
    let journal = open(&folder, BOOT, SMALL, None);
    // A file where the folder should be: no segment can be made.
    fs::remove_dir_all(&events).unwrap();
    fs::write(&events, "in the way").unwrap();
    journal.append(vec![event(1)]);
    let mut synced = events_synced(&journal);
    until(|| journal.counters().failures > 1);
    assert_eq!(synced.try_recv(), Err(TryRecvError::Empty));
    fs::remove_file(&events).unwrap();
    fs::create_dir(&events).unwrap();
    synced.blocking_recv().unwrap();
    assert_eq!(follow_all(&journal, Stream::Events, 1).len(), 1);

    fs::remove_dir_all(&events).unwrap();
    fs::write(&events, "in the way").unwrap();
    let before = journal.counters().failures;
    let many: Vec<_> = (0..5000).map(event).collect();
    journal.append(many);
    until(|| journal.counters().failures > before);
    let synced = events_synced(&journal);
    journal.close();
    synced.blocking_recv().unwrap_err();
}

#[test]
fn those_who_wait_are_bounded_and_those_who_gave_up_make_room() {
    let folder = Folder::new("waiting");
    let events = folder.path().join("events");
    let journal = open(&folder, BOOT, SMALL, None);
    fs::remove_dir_all(&events).unwrap();
    fs::write(&events, "in the way").unwrap();
    journal.append(vec![event(1)]);
    until(|| journal.counters().failures > 3);
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| events_synced(&journal)).collect();
    events_synced(&journal).blocking_recv().unwrap_err();
    waiting.clear();
    let mut again = events_synced(&journal);
    assert_eq!(again.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn an_event_too_long_to_be_written_is_not_said_to_be() {
    let folder = Folder::new("synced-long");
    let journal = open(&folder, BOOT, SMALL, None);
    let version = "x".repeat(300 * 1024).into();
    let long = Payload::Event(Event::Started { at: BootTime(1), version });
    for count in 1..=20 {
        append(&journal, vec![long.clone()]).blocking_recv().unwrap_err();
        append(&journal, vec![event(count)]).blocking_recv().unwrap();
        assert_eq!(journal.counters().events_dropped, count);
    }
    assert_eq!(follow_all(&journal, Stream::Events, 20).len(), 20);
}

#[test]
fn an_event_that_found_no_room_is_not_said_to_be_written() {
    let folder = Folder::new("synced-room");
    let events = folder.path().join("events");
    let journal = open(&folder, BOOT, SMALL, None);
    fs::remove_dir_all(&events).unwrap();
    fs::write(&events, "in the way").unwrap();
    let first = append(&journal, vec![event(1)]);
    until(|| journal.counters().failures > 1);
    journal.append((0..EVENTS_QUEUE_MAX as u64).map(event).collect());
    first.blocking_recv().unwrap_err();
    fs::remove_file(&events).unwrap();
    fs::create_dir(&events).unwrap();
    events_synced(&journal).blocking_recv().unwrap();
}
