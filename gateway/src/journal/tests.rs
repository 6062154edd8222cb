//! The journal's promises, each under the worst that can be done to its files. Here are a folder of
//! a test's own, small journals and their records; the tests are beside, by subject.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use andon_engine::event::{Event, Register};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};

use super::{BootId, Journal, Observation, Payload, Reader, Record, Sizes, Stream};

mod bounds;
mod damage;
mod reading;
pub(crate) mod unreadable;

pub(super) const BOOT: BootId = BootId([1; 16]);

const BIG: u64 = 256 * 1024;

/// Small enough for several segments in a test; a footer's reserve is most of it.
pub(crate) const SMALL: u64 = 64 * 1024;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("andon-journal-{name}-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn open(folder: &Folder, boot: BootId, segment: u64, total: Option<u64>) -> Journal {
    let sizes = [Sizes { segment, total }, Sizes { segment: BIG, total: None }];
    Journal::open_sized(folder.path(), sizes, Duration::from_secs(5), boot).unwrap()
}

pub(super) fn observation(at_ms: u64, value: f64) -> Payload {
    let items = vec![
        ("power.active".into(), Ok(Value::Number(value))),
        ("relay.1".into(), Ok(Value::Flag(at_ms.is_multiple_of(3)))),
        ("temperature".into(), Err(Unavailable::Timeout)),
    ];
    let at = BootTime::from_millis(at_ms);
    Payload::Observation(Observation { machine: "laser".into(), at, items })
}

pub(super) fn event(at_ms: u64) -> Payload {
    let register = Register { at: BootTime::from_millis(at_ms), wh: 12.5, epoch: 1 };
    Payload::Event(Event::Energy { machine: "kiln".into(), register })
}

fn all(folder: &Folder, stream: Stream) -> Vec<Record> {
    Reader::open(folder.path()).unwrap().records(stream).unwrap().collect()
}

fn payloads(records: &[Record]) -> Vec<Payload> {
    records.iter().map(|record| record.payload.clone()).collect()
}

/// Polls for something that another thread will do.
pub(super) fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "nothing happened for 20 s");
        std::thread::yield_now();
    }
}

pub(super) fn follow_all(journal: &Journal, stream: Stream, count: usize) -> Vec<Record> {
    let mut follower = journal.follow(stream, None);
    let mut records = Vec::new();
    until(|| {
        records.extend(follower.next(100));
        records.len() >= count
    });
    records
}

/// Numbers ascend within a boot, and each record accounts for all since the one before.
fn chained(records: &[Record]) -> bool {
    records.windows(2).all(|pair| {
        let same = pair[0].boot == pair[1].boot;
        pair[1].prev == if same { pair[0].seq } else { 0 } && pair[1].seq > pair[1].prev
    })
}
