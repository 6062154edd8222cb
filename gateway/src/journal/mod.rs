//! The journal: two streams of records on disk. First form of the interface; kept in memory.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::config::plan::JournalPlan;

mod cursor;
mod record;

pub use cursor::Cursor;
pub use record::{BootId, Counters, Observation, Payload, Position, Record, Stream};

/// The journal of one gateway.
pub struct Journal {
    boot: BootId,
    dir: std::path::PathBuf,
    kept: Arc<Mutex<[VecDeque<Record>; 2]>>,
    changed: watch::Sender<u64>,
}

impl Journal {
    /// Opens or creates the journal in `dir` and starts its writer.
    ///
    /// # Errors
    /// When the folder cannot be used, or another gateway uses it.
    pub fn open(dir: &Path, _plan: &JournalPlan, boot: BootId) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { boot, dir: dir.to_owned(), kept: Arc::default(), changed: watch::Sender::new(0) })
    }

    /// Hands records to the writer; never blocks.
    pub fn append(&self, payloads: Vec<Payload>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for payload in payloads {
            let stream = &mut kept[payload.stream() as usize];
            let prev = stream.back().map_or(0, |record| record.seq);
            stream.push_back(Record { boot: self.boot, seq: prev + 1, prev, payload });
        }
        drop(kept);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Reads a stream as it grows, beginning after `after`, or with the oldest record.
    pub fn follow(&self, stream: Stream, after: Option<Position>) -> Follower {
        Follower {
            stream,
            next: after.map_or(1, |position| position.seq + 1),
            kept: Arc::clone(&self.kept),
            changed: self.changed.subscribe(),
        }
    }

    /// The durable position of a consumer, known to this journal from now on.
    ///
    /// # Errors
    /// When the folder of cursors cannot be made.
    pub fn cursor(&self, consumer: &str, stream: Stream) -> io::Result<Cursor> {
        Cursor::load(&self.dir, consumer, stream)
    }

    /// What was written, dropped and found broken.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Writes and syncs everything, then ends the writer.
    pub fn close(self) {}
}

/// Reads one stream as it grows.
pub struct Follower {
    stream: Stream,
    next: u64,
    kept: Arc<Mutex<[VecDeque<Record>; 2]>>,
    changed: watch::Receiver<u64>,
}

impl Follower {
    /// The next records, at most `max`; empty when caught up.
    pub fn next(&mut self, max: usize) -> Vec<Record> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let records: Vec<_> = kept[self.stream as usize]
            .iter()
            .filter(|record| record.seq >= self.next)
            .take(max)
            .cloned()
            .collect();
        self.next = records.last().map_or(self.next, |record| record.seq + 1);
        records
    }

    /// Waits until there is more to read.
    pub async fn ready(&mut self) {
        while self.behind() == 0 {
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many records have not been read yet.
    pub fn behind(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept[self.stream as usize].iter().filter(|record| record.seq >= self.next).count() as u64
    }
}
