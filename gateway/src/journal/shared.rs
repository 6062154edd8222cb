//! What the journal's writer, followers and consumers know in common, behind short locks.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::record::{Counters, Payload, Position, Stream};
use super::segment::Summary;

/// Observations that may wait for the disk: half a minute of a busy shop. Then the oldest go. The
/// writer takes what waits, so while a write is stuck there are at most twice as many in memory.
pub(super) const TELEMETRY_QUEUE_MAX: usize = 16_384;
/// Events that may wait for the disk, and likewise: days of a shop. Then the oldest go, and it is an
/// error.
pub(super) const EVENTS_QUEUE_MAX: usize = 65_536;
/// How many may wait for events to be synced; one more is told at once that nobody knows.
pub(super) const WAITING_MAX: usize = 256;

/// Records on their way to the writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) queues: [VecDeque<Payload>; 2],
    pub(super) closing: bool,
    /// How often the writer has taken what was queued.
    pub(super) turn: u64,
    /// Who waits for the events to be synced that were queued so far, and in which turn they came.
    pub(super) waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// The writer will look by itself soon; only an event is worth waking it for.
    pub(super) gathering: bool,
}

impl Inbox {
    /// Adds one who waits for the events queued so far; those who no longer do make room.
    pub(super) fn wait(&mut self, waiting: oneshot::Sender<()>) {
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((self.turn, waiting));
        }
    }

    /// Tells those who came before `turn` that what they waited for is done.
    pub(super) fn tell(&mut self, turn: u64) {
        for (_, waiting) in self.waiting.extract_if(.., |(came, _)| *came < turn) {
            // It may have gone away.
            waiting.send(()).ok();
        }
    }

    /// Lets go of those who came before `turn`: not all that they waited for is written.
    pub(super) fn fail(&mut self, turn: u64) {
        self.waiting.retain(|(came, _)| *came >= turn);
    }

    /// Drops the oldest beyond the bounds and returns how many of each stream. Whoever waits for
    /// events that are not all there any more is let go of.
    pub(super) fn trim(&mut self) -> [u64; 2] {
        let mut dropped = [0; 2];
        let bounds = [TELEMETRY_QUEUE_MAX, EVENTS_QUEUE_MAX];
        for ((queue, bound), dropped) in self.queues.iter_mut().zip(bounds).zip(&mut dropped) {
            let excess = queue.len().saturating_sub(bound);
            queue.drain(..excess);
            *dropped = excess as u64;
        }
        if dropped[Stream::Events as usize] > 0 {
            self.waiting.clear();
        }
        dropped
    }
}

/// What is on disk, who has read how far, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Of each stream, oldest first; the last one grows.
    pub(super) segments: [VecDeque<Summary>; 2],
    /// How far each registered consumer is.
    pub(super) cursors: HashMap<(String, Stream), Option<Position>>,
    pub(super) counters: Counters,
}

impl State {
    /// How many records of `segment` some registered consumer has not got.
    pub(super) fn unread(&self, stream: Stream, segment: &Summary) -> u64 {
        let cursors = self.cursors.iter().filter(|((_, of), _)| *of == stream);
        cursors
            .map(|(_, position)| self.unread_after(stream, *position, segment))
            .max()
            .unwrap_or(0)
    }

    /// How many records come after a position; all of them when it is not known.
    pub(super) fn behind(&self, stream: Stream, after: Option<Position>) -> u64 {
        let place = self.place(stream, after);
        let segments = self.segments[stream as usize].iter();
        segments.map(|segment| unread_after(after, place, segment)).sum()
    }

    fn unread_after(&self, stream: Stream, after: Option<Position>, segment: &Summary) -> u64 {
        unread_after(after, self.place(stream, after), segment)
    }

    /// The number of the segment that holds a position.
    fn place(&self, stream: Stream, after: Option<Position>) -> Option<u32> {
        let after = after?;
        let mut newest = self.segments[stream as usize].iter().rev();
        newest.find(|segment| segment.reaches_back_to(after)).map(|segment| segment.number)
    }
}

/// The records of `segment` that come after `after`, which lies in the segment `place`.
fn unread_after(after: Option<Position>, place: Option<u32>, segment: &Summary) -> u64 {
    let (Some(after), Some(place)) = (after, place) else { return segment.records };
    match segment.number.cmp(&place) {
        Ordering::Less => 0,
        Ordering::Greater => segment.records,
        Ordering::Equal => {
            let spans = segment.spans.iter().skip_while(|span| span.boot != after.boot);
            let unread = spans.map(|span| match span.boot == after.boot {
                true => span.last.saturating_sub(after.seq.max(span.first - 1)),
                false => span.last - span.first + 1,
            });
            unread.sum::<u64>().min(segment.records)
        }
    }
}

/// Shared by everything that belongs to one open journal.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    inbox: Mutex<Inbox>,
    pub(super) filled: Condvar,
    state: Mutex<State>,
    /// Counts what was published of each stream.
    pub(super) published: [watch::Sender<u64>; 2],
}

impl Shared {
    pub(super) fn new(dir: &Path, state: State) -> Self {
        Self {
            dir: dir.to_owned(),
            inbox: Mutex::default(),
            filled: Condvar::new(),
            state: Mutex::new(state),
            published: [watch::Sender::new(0), watch::Sender::new(0)],
        }
    }

    // A panic of another thread leaves counters and queues whole: each change is one step.
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_dropped(&self, [telemetry, events]: [u64; 2]) {
        if telemetry + events > 0 {
            let mut state = self.state();
            state.counters.dropped += telemetry;
            state.counters.events_dropped += events;
        }
    }

    pub(super) fn publish(&self, stream: Stream) {
        self.published[stream as usize].send_modify(|count| *count = count.wrapping_add(1));
    }
}
