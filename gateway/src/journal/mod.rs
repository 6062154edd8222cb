//! The journal: what happened, on disk, in two streams of numbered records. It is the only truth
//! that delivery, history and machine-hours start from.
//!
//! It is append-only, crash-safe and bounded. It is not a database: no query, no update, no row
//! per value. Nothing here knows JSON of the wire, topics or stores.
//!
//! # Promises
//!
//! - [`Journal::append`] never blocks and never fails. Records wait in memory, at most 16 384
//!   observations and 65 536 events, beside as many that are just being written; then the oldest of
//!   those that wait go, counted in [`Counters`].
//! - A record is written at once; observations that follow a small write within 20 ms are written
//!   together.
//! - A record that [`Follower::next`] has returned is *written* (it survives a killed process). It
//!   is *synced* (it survives a power loss) after `sync`, an event before anybody sees it.
//! - A (boot, stream, number) is never used for two records, not even by a journal that was made
//!   anew in the same boot: [`boot_in`]. A boot that is opened again goes on
//!   2²⁰ numbers later, so that records torn off the end keep theirs. Numbers may therefore leap;
//!   [`Record::prev`] tells what lies directly before.
//! - Whatever bytes are found, opening succeeds: what cannot be read is quarantined, one block at
//!   a time, and counted. Only footers are read, and of segments without one the newest 64 MiB.
//! - A follower passes over a segment that cannot be read for some seconds, unless it is the one
//!   being written, and never for want of descriptors or memory.
//! - Telemetry stays within `telemetry_bytes`; the oldest segment is recycled and what a
//!   registered consumer had not read is counted. Events are never recycled.
//! - A failed write, sync or creation gives up the segment and is tried again in a new one, after
//!   100 ms, then 200 ms, up to 5 s.
//!
//! # On disk
//!
//! ```text
//! DIR/lock                      locked (flock) by the one gateway that writes; JSON [boot, number]:
//!                               where the numbers of its run began
//! DIR/identity                  a random id of this journal, see [`boot_in`]
//! DIR/telemetry/00000001.seg …  segments of 4 MiB, preallocated, numbered upwards for ever
//! DIR/events/00000001.seg …     segments of 1 MiB
//! DIR/cursors/CONSUMER-STREAM   JSON {"boot", "seq"}: replaced by rename, see [`Cursor`]
//!
//! segment = block* , then zeros (being written) or footer (sealed; the file ends with it)
//! block   = mark[16] frame(header) frame(record)*     at most 60 s, and 64 KiB or four times its
//!                               definitions (but 1 MiB), then a new one
//! frame   = length:varint(1 … 262144) crc:u32le payload[length]
//!           crc32c of the payload; a record's continues the header's, so that no frame passes in
//!           another block
//! header  = version:u8=1 stream:u8(0 telemetry, 1 events) boot[16] number:varint
//!           first_seq:varint base:varint(ns of CLOCK_BOOTTIME)
//!           record n of the block has the sequence number first_seq + n
//!
//! event   = JSON of andon_engine::event::Event
//! observation = shape:varint [definition] time:zigzag value*
//!           a shape is a machine with a list of items; shape = the count of shapes known in this
//!           block means that its definition follows: string(machine) count:varint string(item)*
//!           time: the step (ns) from this shape's observation before, minus the step before
//!           that; both begin at (base, 0)
//! string  = index:varint [length:varint bytes]   bytes when index = the count of strings known
//! value   = varint: even: the zigzag step, times two, of the series' scaled integer
//!                   odd: kind · 2 + 1, with kind 0 f64le · 1 scale:u8 integer:zigzag · 2 false ·
//!                   3 true · 4 length:varint text · 5 the text before · 16 + code: unavailable
//!           scale: exponent of ten, plus 128 for numbers that are 32-bit floats;
//!           number = integer / 10^exponent. A series is a (machine, item) of the block.
//!
//! footer  = payload length:u32le crc32c(payload):u32le mark[8]
//! payload = end:varint count:varint (offset step:varint, 0 or 16 boot[16], first_seq:varint,
//!           records:varint)*      one per block; a boot id when it differs from the one before
//! ```
//!
//! Varints are LEB128. A block decodes alone. The resync mark begins with bytes that no frame
//! length has and that no UTF-8 text contains; after a frame that does not check, reading goes on
//! at the next mark. A footer that does not check is a segment without one: it is walked.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::plan::JournalPlan;

mod block;
pub(crate) mod bytes;
mod cursor;
mod follow;
mod identity;
mod reader;
mod record;
mod refusal;
mod segment;
pub(crate) mod series;
mod shape;
mod shared;
mod stock;
mod stream;
#[cfg(test)]
mod synced_tests;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod writer;

pub use cursor::Cursor;
pub use follow::Follower;
pub use identity::boot_in;
pub use reader::{Reader, Records};
pub use record::{BootId, Counters, NotABootId, Observation, Payload, Position, Record, Stream};

use shared::{Shared, State};
use stream::{Sizes, StreamWriter};
use writer::Writer;

/// Preallocated size of a telemetry segment.
const TELEMETRY_SEGMENT: u64 = 4 * 1024 * 1024;
/// Preallocated size of an events segment; larger than the longest frame and a footer.
const EVENTS_SEGMENT: u64 = 1024 * 1024;
/// The least that telemetry is bounded to: something must remain while the oldest is recycled.
const SEGMENTS_MIN: u64 = 2;

/// Longest note in the lock file that is read.
const NOTE_MAX: usize = 256;

/// The journal of one gateway, being written.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// Held for the journal's life; the kernel releases it with the process.
    _lock: File,
}

impl Journal {
    /// Opens or creates the journal in `dir` and starts its writer thread. Records appended will
    /// belong to `boot`.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or when another gateway is using it. Damage inside
    /// it is no error.
    pub fn open(dir: &Path, plan: &JournalPlan, boot: BootId) -> io::Result<Self> {
        let total = plan.telemetry_bytes.max(SEGMENTS_MIN * TELEMETRY_SEGMENT);
        let sizes = [
            Sizes { segment: TELEMETRY_SEGMENT, total: Some(total) },
            Sizes { segment: EVENTS_SEGMENT, total: None },
        ];
        Self::open_sized(dir, sizes, plan.sync, boot)
    }

    fn open_sized(
        dir: &Path,
        sizes: [Sizes; 2],
        sync_every: Duration,
        boot: BootId,
    ) -> io::Result<Self> {
        let lock = lock(dir)?;
        let mut state = State::default();
        let found = Stream::ALL.map(|stream| stock::take(&dir.join(stream.word())));
        let [telemetry, events] = found;
        let found = [telemetry?, events?];
        for (found, segments) in found.iter().zip(&mut state.segments) {
            segments.clone_from(&found.segments);
            state.counters.quarantined += found.quarantined;
        }
        let shared = Arc::new(Shared::new(dir, state));
        let [telemetry, events] = found;
        let writer = |stream: Stream, found| {
            StreamWriter::new(stream, boot, sizes[stream as usize], Arc::clone(&shared), found)
        };
        let mut streams = [writer(Stream::Telemetry, telemetry), writer(Stream::Events, events)];
        begin_run(&lock, boot, &mut streams);
        let writer = Writer::new(Arc::clone(&shared), streams, sync_every);
        let writer =
            std::thread::Builder::new().name("journal".to_owned()).spawn(|| writer.run())?;
        Ok(Self { shared, writer: Some(writer), _lock: lock })
    }

    /// Hands records to the writer; never blocks beyond a short lock. When too many are waiting
    /// already, the oldest of that stream are dropped and counted.
    pub fn append(&self, payloads: Vec<Payload>) {
        self.append_for(payloads, Vec::new());
    }

    /// Hands records to the writer as [`Journal::append`] does. Those in `waiting` are told once every
    /// event appended so far is synced. They are let go of without a word when that is not going to
    /// be known: an event among those that are written with these was dropped, the journal was
    /// closed, or too many are waiting already.
    pub fn append_for(&self, payloads: Vec<Payload>, waiting: Vec<oneshot::Sender<()>>) {
        let mut inbox = self.shared.inbox();
        let mut wake = !inbox.gathering || !waiting.is_empty();
        for payload in payloads {
            wake |= payload.stream() == Stream::Events;
            inbox.queues[payload.stream() as usize].push_back(payload);
        }
        // Before what is too much is dropped: it may be what they wait for.
        waiting.into_iter().for_each(|waiting| inbox.wait(waiting));
        let dropped = inbox.trim();
        drop(inbox);
        self.shared.count_dropped(dropped);
        if wake {
            self.shared.filled.notify_one();
        }
    }

    /// Reads a stream as it grows, beginning after `after`, or with the oldest record. When the
    /// place is gone, it goes on at the oldest record there is, and that is counted as a gap.
    pub fn follow(&self, stream: Stream, after: Option<Position>) -> Follower {
        Follower::new(stream, &self.shared, after)
    }

    /// The newest record of a stream that can be read; `None` when there is none.
    pub fn newest(&self, stream: Stream) -> Option<Position> {
        let state = self.shared.state();
        let spans = state.segments[stream as usize].iter().rev().flat_map(|it| it.spans.last());
        spans.map(|span| Position { boot: span.boot, seq: span.last }).next()
    }

    /// How many records come after a position, or in all without one. Exact but for blocks that
    /// cannot be read; needs no reading.
    pub fn behind(&self, stream: Stream, after: Option<Position>) -> u64 {
        self.shared.state().behind(stream, after)
    }

    /// The durable position of a consumer. From now on, what is recycled before this consumer has
    /// it is counted.
    ///
    /// # Errors
    /// When the folder of cursors cannot be made.
    pub fn cursor(&self, consumer: &str, stream: Stream) -> io::Result<Cursor> {
        Cursor::register(&self.shared, consumer, stream)
    }

    /// Takes a consumer into account as [`Journal::cursor`] does, that keeps its position itself.
    pub fn note_consumer(&self, consumer: &str, stream: Stream, position: Option<Position>) {
        self.shared.state().cursors.insert((consumer.to_owned(), stream), position);
    }

    /// Every registered consumer with its stream and how many records come after its durable
    /// position, by name.
    pub fn consumers(&self) -> Vec<(String, Stream, u64)> {
        let state = self.shared.state();
        let cursors = state.cursors.iter();
        let mut consumers: Vec<_> =
            cursors.map(|((name, of), at)| (name.clone(), *of, state.behind(*of, *at))).collect();
        consumers.sort_by(|a, b| (&a.0, a.1 as usize).cmp(&(&b.0, b.1 as usize)));
        consumers
    }

    /// Reads the journal as it is now, from another file handle.
    ///
    /// # Errors
    /// When its folders are gone.
    pub fn reader(&self) -> io::Result<Reader> {
        Reader::open(&self.shared.dir)
    }

    /// What was written, dropped and found broken since the journal was opened.
    pub fn counters(&self) -> Counters {
        self.shared.state().counters.clone()
    }

    /// Writes and syncs everything that was appended, as far as the disk lets it, and ends the
    /// writer. The same happens when a journal is dropped.
    pub fn close(self) {}
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.inbox().closing = true;
        self.shared.filled.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("The journal's writer has panicked; what it had not written is lost.");
        }
    }
}

/// Makes this run's numbers begin beyond those of the run before it, even if all that it wrote is
/// gone, and leaves a note for the next one. The note need not be synced: a boot ends with the
/// power. Without one, what is found in the segments has to do.
fn begin_run(lock: &File, boot: BootId, streams: &mut [StreamWriter; 2]) {
    use std::os::unix::fs::FileExt;
    let mut note = [0; NOTE_MAX];
    let length = lock.read_at(&mut note, 0).unwrap_or(0);
    let before: Option<(BootId, u64)> = serde_json::from_slice(&note[..length]).ok();
    let before = before.filter(|(of, _)| *of == boot).map(|(_, began)| began);
    let began = streams.iter_mut().map(|stream| stream.begin_after(before)).max().unwrap_or(1);
    let noted = serde_json::to_vec(&(boot, began)).map_err(io::Error::other).and_then(|note| {
        lock.write_all_at(&note, 0)?;
        lock.set_len(note.len() as u64)
    });
    if let Err(error) = noted {
        tracing::warn!(%error, "Where this run's numbers begin could not be noted.");
    }
}

/// Locks the folder for this process.
fn lock(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let path: PathBuf = dir.join("lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another gateway is running with {}; stop it first", dir.display()),
        )),
        Err(error) => Err(error.into()),
    }
}
