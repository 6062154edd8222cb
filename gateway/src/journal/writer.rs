//! The writer thread: takes what has been appended, writes it, syncs it when that is due.
//!
//! It is the only one that writes to the journal's folders. When the disk refuses, what was not
//! written returns to the (bounded) inbox, and the next attempt comes after a growing pause.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use andon_engine::time::BootTime;

use super::record::Stream;
use super::shared::Shared;
use super::stream::StreamWriter;
use crate::clock;

/// Observations are gathered for so long after a small write: each write costs the same however
/// little is in it, and wakes whoever follows. The first after a quiet time is written at once.
const GATHER: Duration = Duration::from_millis(20);
/// A write of so many records was no small one.
const GATHERED: usize = 256;
/// Pause after the first failure.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The writer of both streams.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) streams: [StreamWriter; 2],
    pub(super) sync_every: Duration,
    /// Grows with every failure in a row; zero when the last attempt succeeded.
    pub(super) pause: Duration,
    /// Until when observations may wait for more of them.
    pub(super) gather_until: BootTime,
}

impl Writer {
    /// A writer that has failed at nothing yet.
    pub(super) const fn new(
        shared: Arc<Shared>,
        streams: [StreamWriter; 2],
        sync_every: Duration,
    ) -> Self {
        let (pause, gather_until) = (Duration::ZERO, BootTime(0));
        Self { shared, streams, sync_every, pause, gather_until }
    }

    /// Writes until the journal is closed.
    pub(super) fn run(mut self) {
        let mut sync_due: Option<BootTime> = None;
        loop {
            let wait = match sync_due {
                _ if !self.pause.is_zero() => Some(self.pause),
                Some(due) => Some(due.since(clock::boot_now())),
                None => None,
            };
            let closing = self.wait(wait);
            let now = clock::boot_now();
            let mut done = self.write(now);
            if self.streams[Stream::Telemetry as usize].is_dirty() {
                let due = *sync_due.get_or_insert(now + self.sync_every);
                if closing || due <= now {
                    done &= self.sync();
                    sync_due = None;
                }
            } else {
                sync_due = None;
            }
            self.pause = match done {
                true => Duration::ZERO,
                false => (self.pause * 2).clamp(RETRY_FIRST, RETRY_MAX),
            };
            if closing {
                return;
            }
        }
    }

    /// Waits for work, for `timeout` at most, and returns whether the journal is being closed.
    /// While the disk refuses, more work is no reason to try again before the pause is over.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut inbox = self.shared.inbox();
        let until = timeout.map(|timeout| clock::boot_now() + timeout);
        loop {
            let [telemetry, events] = [Stream::Telemetry, Stream::Events]
                .map(|stream| !inbox.queues[stream as usize].is_empty() && self.pause.is_zero());
            let gather = self.gather_until.since(clock::boot_now());
            let awaited = !inbox.waiting.is_empty() && self.pause.is_zero();
            if inbox.closing || events || awaited || (telemetry && gather.is_zero()) {
                inbox.gathering = false;
                return inbox.closing;
            }
            let left = until.map(|until| until.since(clock::boot_now()));
            if left.is_some_and(|left| left.is_zero()) {
                inbox.gathering = false;
                return false;
            }
            // Nobody needs to wake this thread for one more observation meanwhile.
            inbox.gathering = !gather.is_zero();
            let gather = Some(gather).filter(|gather| !gather.is_zero());
            let Some(left) = left.into_iter().chain(gather).min() else {
                let filled = self.shared.filled.wait(inbox);
                inbox = filled.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let filled = self.shared.filled.wait_timeout(inbox, left);
            inbox = filled.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes all that waits, events first; returns whether all of it succeeded.
    pub(super) fn write(&mut self, now: BootTime) -> bool {
        let mut inbox = self.shared.inbox();
        let mut queues = std::mem::take(&mut inbox.queues);
        inbox.turn += 1;
        let turn = inbox.turn;
        drop(inbox);
        if (1..GATHERED).contains(&queues[Stream::Telemetry as usize].len()) {
            self.gather_until = now + GATHER;
        }
        let (mut done, mut wrote) = (true, false);
        for stream in [Stream::Events, Stream::Telemetry] {
            let queue = &mut queues[stream as usize];
            if queue.is_empty() {
                continue;
            }
            match self.streams[stream as usize].write(queue, now) {
                Ok(()) => wrote = true,
                Err(error) => {
                    done = false;
                    self.report(stream, "written", &error);
                }
            }
        }
        if done && wrote {
            // Not before both streams are well: an event that cannot be written is no small thing.
            self.shared.state().counters.failing = None;
        }
        let refused = self.streams[Stream::Events as usize].take_refused();
        let mut inbox = self.shared.inbox();
        if refused {
            inbox.fail(turn);
        } else if queues[Stream::Events as usize].is_empty() {
            inbox.tell(turn);
        }
        for (unwritten, queue) in queues.into_iter().zip(&mut inbox.queues) {
            if !unwritten.is_empty() {
                let newer = std::mem::replace(queue, unwritten);
                queue.extend(newer);
            }
        }
        let dropped = inbox.trim();
        drop(inbox);
        self.shared.count_dropped(dropped);
        done
    }

    fn sync(&mut self) -> bool {
        let synced = self.streams[Stream::Telemetry as usize].sync();
        if let Err(error) = &synced {
            self.report(Stream::Telemetry, "synced", error);
        }
        synced.is_ok()
    }

    /// Counts a failure, and says so once per series of failures.
    fn report(&self, stream: Stream, what: &str, error: &std::io::Error) {
        let mut state = self.shared.state();
        state.counters.failures += 1;
        let first = state.counters.failing.is_none();
        state.counters.failing = Some(format!("{} could not be {what}: {error}", stream.word()));
        drop(state);
        if first {
            let stream = stream.word();
            tracing::error!(stream, %error, "The journal could not be {what}; it is kept in memory and tried again.");
        }
    }
}
