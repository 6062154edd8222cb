//! One stream of the journal on its way to the broker: what is sent, what is confirmed, what is
//! sent again.
//!
//! The journal is the only truth; a lane remembers positions and ranges, never records. It reads
//! at two places. *Live* begins at the newest record, so that what happens now is seen now
//! however much is behind. The *pass* goes from the cursor to where live began, sends what is not
//! confirmed, and starts again when the session was lost, when a hole stays below what has been
//! confirmed since, when nothing at all is confirmed for long, and when a boot gets its wall time.
//!
//! The cursor moves through confirmed ranges only. At most [`PASS_WINDOW`] records of a pass are
//! unconfirmed at any time: brokers bound what they keep for an absent recorder (mosquitto: 1000
//! messages) and silently drop the rest, so a dead recorder costs a trickle and not a flood.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Inputs, Pace, WallClock};
use crate::journal::{BootId, Follower, Journal, Position, Record, Stream};
use crate::wire::{BOOTS_MAX, Ranges, Stored};

/// Most unconfirmed records of a pass.
pub(super) const PASS_WINDOW: usize = 500;
/// Records read from the journal at once.
const READ_MAX: usize = 64;
/// Most records passed over in one go because they are confirmed: the task has others to serve.
const SCAN_MAX: usize = 4096;

/// A record that is to be published.
pub(super) struct Due {
    pub(super) record: Record,
    /// Its wall time in Unix milliseconds; `None`: not known yet.
    pub(super) t: Option<i64>,
}

/// What a message accounts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) boot: BootId,
    pub(super) prev: u64,
    pub(super) seq: u64,
    /// Whether it carried its wall time: without, nothing is ever confirmed by it.
    pub(super) timed: bool,
}

/// A reading place in the stream.
struct Place {
    follower: Follower,
    buffer: VecDeque<Record>,
    last: Option<Position>,
}

impl Place {
    fn after(journal: &Journal, stream: Stream, position: Option<Position>) -> Self {
        let follower = journal.follow(stream, position);
        Self { follower, buffer: VecDeque::new(), last: position }
    }

    fn peek(&mut self) -> Option<&Record> {
        if self.buffer.is_empty() {
            self.buffer = self.follower.next(READ_MAX).into();
        }
        self.buffer.front()
    }
}

/// The records of a boot ended at `last`; those of `next` begin after `prev`.
struct Boundary {
    boot: BootId,
    last: u64,
    next: BootId,
    prev: u64,
}

/// Records of boots that never had a wall time: there may be hundreds of thousands of a boot, so it is
/// said when the first is met and when they are over.
#[derive(Debug, Default)]
struct Undated(Option<(BootId, u64)>);

impl Undated {
    /// Counts a record. The boot that was counted before, if it is another's; and whether it is the
    /// first of its boot.
    fn count(&mut self, boot: BootId) -> (Option<(BootId, u64)>, bool) {
        match &mut self.0 {
            Some((of, records)) if *of == boot => {
                *records += 1;
                (None, false)
            }
            _ => {
                let before = self.end();
                self.0 = Some((boot, 1));
                (before, true)
            }
        }
    }

    /// What was counted, once.
    fn end(&mut self) -> Option<(BootId, u64)> {
        let (boot, records) = self.0.as_mut()?;
        Some((*boot, std::mem::take(records))).filter(|(_, records)| *records > 0)
    }
}

/// One stream on its way.
pub(super) struct Lane {
    stream: Stream,
    journal: Arc<Journal>,
    boot: BootId,
    wall: WallClock,
    pace: Pace,
    by_recorder: bool,
    position: Option<Position>,
    live: Place,
    pass: Option<Place>,
    /// Where the pass ends: from there on, live has sent or will send.
    pass_end: Option<Position>,
    outstanding: VecDeque<Covered>,
    confirmed: BTreeMap<BootId, Ranges>,
    acknowledged: BTreeMap<BootId, Ranges>,
    read: BTreeMap<BootId, u64>,
    boundaries: VecDeque<Boundary>,
    /// Since when the cursor has not moved although something was sent.
    stuck_since: Instant,
    /// Something above the cursor was confirmed since then: the recorder is alive.
    grown: bool,
    /// A live record of this boot went out without wall time.
    unsynced: Option<Record>,
    undated: Undated,
}

impl Lane {
    pub(super) fn new(
        inputs: &Inputs,
        stream: Stream,
        position: Option<Position>,
        now: Instant,
    ) -> Self {
        let live = Place::after(&inputs.journal, stream, position);
        Self {
            stream,
            journal: Arc::clone(&inputs.journal),
            boot: inputs.boot,
            wall: Arc::clone(&inputs.wall),
            pace: inputs.pace,
            by_recorder: inputs.mqtt.recorder.is_some(),
            position,
            live,
            pass: None,
            pass_end: None,
            outstanding: VecDeque::new(),
            confirmed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            read: BTreeMap::new(),
            boundaries: VecDeque::new(),
            stuck_since: now,
            grown: false,
            unsynced: None,
            undated: Undated::default(),
        }
    }

    /// The confirmed position: everything up to it is delivered.
    pub(super) const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Records that are not confirmed yet, sent or not, with or without a connection.
    pub(super) fn behind(&self) -> u64 {
        self.journal.behind(self.stream, self.position)
    }

    /// A connection is made: live goes on at the newest record, a pass sees to the rest.
    pub(super) fn connected(&mut self, now: Instant, session_present: bool) {
        if !session_present {
            self.acknowledged.clear();
        }
        let newest = self.journal.newest(self.stream);
        self.live = Place::after(&self.journal, self.stream, newest);
        self.start_pass(now);
    }

    fn start_pass(&mut self, now: Instant) {
        self.pass_end = self.live.last;
        self.pass = self.pass_end.map(|_| Place::after(&self.journal, self.stream, self.position));
        self.outstanding.clear();
        self.unsynced = None;
        (self.stuck_since, self.grown) = (now, false);
    }

    fn wall_ms(&self, record: &Record) -> Option<i64> {
        super::messages::record_wall_ms(&self.wall, record)
    }

    /// Takes note that a record was read after `last`.
    fn note(&mut self, last: Option<Position>, record: &Record) {
        let (boot, prev) = (record.boot, record.prev);
        if self.position.is_none() {
            self.position = Some(Position { boot, seq: prev });
        }
        if let Some(last) = last.filter(|last| last.boot != boot) {
            self.boundaries.retain(|boundary| boundary.boot != last.boot);
            self.boundaries.push_back(Boundary {
                boot: last.boot,
                last: last.seq,
                next: boot,
                prev,
            });
            let excess = self.boundaries.len().saturating_sub(BOOTS_MAX);
            self.boundaries.drain(..excess);
        }
        let read = self.read.entry(boot).or_default();
        *read = (*read).max(record.seq);
    }

    /// The next record of what happens now.
    pub(super) fn next_live(&mut self, now: Instant) -> Option<Due> {
        for _ in 0..SCAN_MAX {
            self.live.peek()?;
            let record = self.live.buffer.pop_front()?;
            let last = self.live.last.replace(record.position());
            self.note(last, &record);
            let t = self.wall_ms(&record);
            if t.is_none() && record.boot != self.boot {
                self.give_up_dating(now, &record);
                continue;
            }
            if t.is_none() && self.unsynced.is_none() {
                self.unsynced = Some(record.clone());
            }
            return Some(Due { record, t });
        }
        None
    }

    /// The next record that is to be sent again, or for the first time after an outage.
    pub(super) fn next_again(&mut self, now: Instant) -> Option<Due> {
        for _ in 0..SCAN_MAX {
            if self.outstanding.len() >= PASS_WINDOW {
                return None;
            }
            let end = self.pass_end;
            let pass = self.pass.as_mut()?;
            let reached = pass.peek().map(|record| {
                end.is_some_and(|end| end.boot == record.boot && record.seq > end.seq)
            });
            // What is refused is tried again, and given up in the end: more lies behind it.
            if reached.unwrap_or_else(|| !pass.follower.is_refused()) {
                self.pass = None;
                tell_undated(self.undated.end());
                return None;
            }
            let record = pass.buffer.front()?.clone();
            let t = self.wall_ms(&record);
            if t.is_none() && record.boot == self.boot {
                // Everything behind it in this boot is undated as well: wait for the anchor.
                self.unsynced.get_or_insert(record);
                self.pass = None;
                return None;
            }
            let pass = self.pass.as_mut()?;
            pass.buffer.pop_front();
            let last = pass.last.replace(record.position());
            self.note(last, &record);
            if t.is_none() {
                self.give_up_dating(now, &record);
                continue;
            }
            let covers = |ranges: &BTreeMap<BootId, Ranges>| {
                ranges.get(&record.boot).is_some_and(|known| known.covers(record.prev, record.seq))
            };
            if covers(&self.confirmed) || covers(&self.acknowledged) {
                continue;
            }
            let Record { boot, seq, prev, .. } = record;
            self.outstanding.push_back(Covered { boot, prev, seq, timed: true });
            return Some(Due { record, t });
        }
        None
    }

    /// A boot that ended without ever having had a wall time will never get one: no store can
    /// take its records, and the cursor does not wait for them.
    fn give_up_dating(&mut self, now: Instant, record: &Record) {
        let (before, is_first) = self.undated.count(record.boot);
        tell_undated(before);
        if is_first {
            tracing::warn!(
                boot = %record.boot,
                "This computer was started once and never had a wall clock before it stopped: what was \
                 recorded then has no time, so no store can take it, and it is passed over."
            );
        }
        self.confirmed.entry(record.boot).or_default().insert(record.prev, record.seq);
        self.advance(now);
    }

    /// The broker holds a message.
    pub(super) fn acknowledged(&mut self, now: Instant, covered: Covered) {
        if !covered.timed {
            return;
        }
        let Covered { boot, prev, seq, .. } = covered;
        self.acknowledged.entry(boot).or_default().insert(prev, seq);
        if !self.by_recorder {
            self.confirmed.entry(boot).or_default().insert(prev, seq);
            self.advance(now);
        }
    }

    /// The recorder says what its store has committed.
    pub(super) fn stored(&mut self, now: Instant, stored: &Stored) {
        for boot in &stored.boots {
            let known = self.confirmed.entry(boot.boot).or_default();
            let before = known.clone();
            known.merge(boot.of(self.stream));
            self.grown |= *known != before;
        }
        self.advance(now);
    }

    /// Moves the cursor as far as it is confirmed.
    fn advance(&mut self, now: Instant) {
        let from = self.position;
        while let Some(Position { boot, seq }) = self.position {
            // Never beyond what was read: a watermark may be older than this journal.
            let read = self.read.get(&boot).copied().unwrap_or(0);
            let end = self.confirmed.get(&boot).and_then(|known| known.end_of(seq + 1));
            let end = end.map_or(0, |end| end.min(read));
            if end > seq {
                self.position = Some(Position { boot, seq: end });
            } else if let Some(boundary) =
                self.boundaries.iter().find(|found| found.boot == boot && found.last <= seq)
            {
                self.position = Some(Position { boot: boundary.next, seq: boundary.prev });
                self.confirmed.remove(&boot);
                self.acknowledged.remove(&boot);
                self.read.remove(&boot);
                self.boundaries.retain(|found| found.boot != boot);
            } else {
                break;
            }
        }
        if self.position != from {
            (self.stuck_since, self.grown) = (now, false);
        }
        let (confirmed, acknowledged) = (&self.confirmed, &self.acknowledged);
        let by_recorder = self.by_recorder;
        self.outstanding.retain(|covered| {
            let known = if by_recorder { confirmed } else { acknowledged };
            !known.get(&covered.boot).is_some_and(|known| known.covers(covered.prev, covered.seq))
        });
        // Boots of long ago that a watermark still names.
        if self.confirmed.len() > 2 * BOOTS_MAX {
            let keep: Vec<BootId> = self.read.keys().copied().collect();
            self.confirmed.retain(|boot, _| keep.contains(boot));
        }
    }

    /// Looks at the time: starts a pass when one is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.unsynced.as_ref().is_some_and(|record| self.wall_ms(record).is_some()) {
            self.start_pass(now);
            return;
        }
        let all_confirmed = self.live.last.is_none() || self.position == self.live.last;
        if all_confirmed && self.pass.is_none() {
            (self.stuck_since, self.grown) = (now, false);
            return;
        }
        // A pass that begins anew would begin to try a segment anew that it is about to give up.
        let refused = self.pass.as_ref().is_some_and(|pass| pass.follower.is_refused());
        let patience = if self.grown && !refused { self.pace.hole } else { self.pace.resend };
        if now.duration_since(self.stuck_since) >= patience {
            self.acknowledged.clear();
            self.start_pass(now);
        }
    }
}

fn tell_undated(counted: Option<(BootId, u64)>) {
    if let Some((boot, records)) = counted {
        tracing::info!(%boot, records, "Records without a time were passed over.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_time_are_told_once_a_boot_with_their_count_at_the_end() {
        let (one, other) = (BootId([1; 16]), BootId([2; 16]));
        let mut undated = Undated::default();
        assert_eq!(undated.count(one), (None, true));
        for _ in 0..99_999 {
            assert_eq!(undated.count(one), (None, false));
        }
        assert_eq!(undated.count(other), (Some((one, 100_000)), true));
        assert_eq!(undated.end(), Some((other, 1)));
        assert_eq!(undated.end(), None);
        // The next pass may meet more of the same boot: that is no news.
        assert_eq!(undated.count(other), (None, false));
        assert_eq!(undated.end(), Some((other, 1)));
    }
}
