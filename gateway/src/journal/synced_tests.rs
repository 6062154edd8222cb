//! That it is said when events are on the disk, and never before: what answers of people wait for.

use std::fs;

use tokio::sync::oneshot::error::TryRecvError;

use super::shared::WAITING_MAX;
use super::tests::{BOOT, Folder, SMALL, event, follow_all, open, until};
use super::{Reader, Stream};

#[test]
fn events_are_synced_when_it_is_said() {
    let folder = Folder::new("synced");
    let journal = open(&folder, BOOT, SMALL, None);
    journal.events_synced().blocking_recv().unwrap();
    for count in 1..=20 {
        journal.append(vec![event(count)]);
        journal.events_synced().blocking_recv().unwrap();
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
    let mut synced = journal.events_synced();
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
    let synced = journal.events_synced();
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
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| journal.events_synced()).collect();
    journal.events_synced().blocking_recv().unwrap_err();
    waiting.clear();
    let mut again = journal.events_synced();
    assert_eq!(again.try_recv(), Err(TryRecvError::Empty));
}
