//! Reading a journal as it grows; as it is, [`super::reader`] has it.
//!
//! Both go through the page cache, one segment open at a time, memory bounded by one frame. A
//! number that was already delivered is never delivered again, and what cannot be read is passed
//! over and counted: blocks at once, a segment when [`Refusal`] gives it up, and never for want of
//! a descriptor or memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use andon_engine::time::BootTime;
use tokio::sync::watch;

use super::record::{Position, Record, Stream};
use super::refusal::{Refusal, is_passing};
use super::segment::{self, Summary};
use super::shared::Shared;
use super::walk::{Found, Walker};
use crate::clock;

/// Turns what stands in segments into records: numbers ascend, `prev` is what came before.
#[derive(Debug, Default)]
pub(super) struct Chain {
    last: Option<Position>,
    /// Still on the way to `last`, through records that were delivered before; over as soon as its
    /// segment is left or cannot be had, because later ones begin behind it.
    pub(super) seeking: bool,
    met: bool,
}

impl Chain {
    pub(super) fn after(position: Option<Position>, seeking: bool) -> Self {
        Self { last: position, seeking, met: false }
    }

    /// The record, unless it has been delivered before.
    pub(super) fn record(&mut self, found: Found) -> Option<Record> {
        let same = self.last.filter(|last| last.boot == found.boot);
        self.met |= same.is_some();
        if self.seeking && !self.met {
            return None;
        }
        if same.is_some_and(|last| found.seq <= last.seq) {
            return None;
        }
        self.seeking = false;
        let prev = same.map_or(0, |last| last.seq);
        let record = Record { boot: found.boot, seq: found.seq, prev, payload: found.payload };
        self.last = Some(record.position());
        Some(record)
    }
}

/// Reads one stream as it grows.
#[derive(Debug)]
pub struct Follower {
    stream: Stream,
    shared: Arc<Shared>,
    published: watch::Receiver<u64>,
    chain: Chain,
    /// The segment being read, or to be read next.
    number: u32,
    walker: Option<Walker>,
    /// Where to begin in that segment.
    offset: u64,
    /// The segment could not be read: nothing is, before it is tried again.
    refusal: Option<Refusal>,
    /// There was no more when it looked last; what is published since then is not seen.
    caught_up: bool,
}

impl Follower {
    pub(super) fn new(stream: Stream, shared: &Arc<Shared>, after: Option<Position>) -> Self {
        let mut state = shared.state();
        let segments = &state.segments[stream as usize];
        let place = after.and_then(|after| place(segments, after));
        let oldest = segments.front().map_or(0, |segment| segment.number);
        let lost = after.is_some() && !matches!(place, Some((_, true)));
        state.counters.gaps += u64::from(lost);
        drop(state);
        let mut follower = Self {
            stream,
            shared: Arc::clone(shared),
            published: shared.published[stream as usize].subscribe(),
            chain: Chain::after(after, place.is_some()),
            number: place.map_or(oldest, |(number, _)| number),
            walker: None,
            offset: 0,
            refusal: None,
            caught_up: false,
        };
        if let Some(after) = after.filter(|_| place.is_some()) {
            follower.skip_blocks(after);
        }
        follower
    }

    /// In a sealed segment, begins with the block that holds the position.
    fn skip_blocks(&mut self, after: Position) {
        let Ok(file) = File::open(segment::path(&self.folder(), self.number)) else { return };
        let Some((_, blocks)) = segment::footer(&file) else { return };
        let holds = |block: &super::walk::BlockEntry| {
            block.boot == after.boot && block.first_seq <= after.seq
        };
        if let Some(index) = blocks.iter().rposition(holds) {
            self.offset = blocks[index].offset;
        }
    }

    fn folder(&self) -> PathBuf {
        self.shared.dir.join(self.stream.word())
    }

    /// The next records, at most `max`; empty when caught up, or while [`Follower::is_refused`].
    pub fn next(&mut self, max: usize) -> Vec<Record> {
        self.next_by(max, clock::boot_now)
    }

    /// As [`Follower::next`], by a clock that is only asked when something cannot be read.
    pub(crate) fn next_by(&mut self, max: usize, now: impl Fn() -> BootTime) -> Vec<Record> {
        let mut records = Vec::new();
        if self.refusal.as_ref().is_some_and(|refusal| now() < refusal.again) {
            return records;
        }
        // To look costs a lock and a try at reading; many ask far more often than there is more.
        if self.caught_up && matches!(self.published.has_changed(), Ok(false)) {
            return records;
        }
        self.published.mark_unchanged();
        self.caught_up = false;
        while records.len() < max {
            match self.walk() {
                Ok(Some(found)) => records.extend(self.chain.record(found)),
                Ok(None) => {
                    self.caught_up = true;
                    break;
                }
                Err(error) => {
                    if !self.refused(&error, now()) {
                        break;
                    }
                }
            }
        }
        records
    }

    /// Whether the disk has refused to be read and is tried again: there may be more.
    pub const fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// The next record as it stands in its segment; `None` when caught up.
    fn walk(&mut self) -> io::Result<Option<Found>> {
        loop {
            // What could not be read is opened again: the disk may have come back as another.
            let opened = self.walker.is_some() && self.refusal.is_none();
            if !opened && !self.open()? {
                return Ok(None);
            }
            let Some(walker) = &mut self.walker else { return Ok(None) };
            let found = walker.next()?;
            self.accepted();
            if found.is_some() || !self.go_on() {
                return Ok(found);
            }
        }
    }

    /// Opens the segment that is next, or the one at hand again; `false` when there is none.
    fn open(&mut self) -> io::Result<bool> {
        let mut counted = self.number == 0;
        loop {
            let mut state = self.shared.state();
            let segments = &state.segments[self.stream as usize];
            let next = segments.iter().find(|segment| segment.number >= self.number);
            let Some(&Summary { number, end, .. }) = next else { return Ok(false) };
            // The one that was there when it became the next has been recycled since.
            let recycled = number != self.number;
            state.counters.gaps += u64::from(recycled && !counted);
            drop(state);
            if recycled {
                counted = true;
                self.leave_for(number);
            }
            match (File::open(segment::path(&self.folder(), number)), &mut self.walker) {
                (Ok(file), Some(walker)) => walker.open_again(Arc::new(file)),
                (Ok(file), walker) => {
                    *walker = Some(Walker::new(Arc::new(file), self.offset, end));
                }
                // Recycled between the look and the opening, or taken away by somebody.
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(segment = number, %error, "A journal segment is gone.");
                    self.shared.state().counters.gaps += u64::from(!counted);
                    counted = true;
                    self.leave_for(number + 1);
                    continue;
                }
                (Err(error), _) => return Err(error),
            }
            return Ok(true);
        }
    }

    /// At the end of what was known of a segment: learns more of it, or leaves it for the next.
    fn go_on(&mut self) -> bool {
        let Some(walker) = &mut self.walker else { return false };
        let mut state = self.shared.state();
        let segments = &state.segments[self.stream as usize];
        let here = segments.iter().find(|segment| segment.number == self.number);
        // A segment that never held a record and is gone had failed before it was used.
        let recycled = here.is_none() && walker.records() > 0;
        let end = here.map_or(0, |here| here.end);
        if walker.is_behind(end) {
            walker.extend(end);
            return true;
        }
        let Some(next) = segments.iter().find(|segment| segment.number > self.number) else {
            return false;
        };
        let next = next.number;
        state.counters.gaps += u64::from(recycled);
        state.counters.quarantined += u64::from(walker.torn());
        drop(state);
        self.leave_for(next);
        true
    }

    /// Goes to the begin of another segment, and counts what could not be read of the one at hand.
    fn leave_for(&mut self, next: u32) {
        self.accepted();
        let quarantined = self.walker.take().map_or(0, |walker| walker.quarantined);
        self.shared.state().counters.quarantined += quarantined;
        (self.number, self.offset) = (next, 0);
        self.chain.seeking = false;
    }

    /// The segment at hand could not be read. Says whether reading goes on at the next one: not for
    /// what passes, not before it was tried often enough, and not while it is the one being written.
    fn refused(&mut self, error: &io::Error, now: BootTime) -> bool {
        let before = self.refusal.take();
        let first = before.is_none();
        let mut refusal = Refusal::after(before, error, now);
        let (stream, number) = (self.stream.word(), self.number);
        refusal.told = format!("segment {number} of {stream} could not be read: {error}");
        let mut state = self.shared.state();
        state.counters.failures += 1;
        let segments = &mut state.segments[self.stream as usize];
        let next = segments.iter().find(|segment| segment.number > number).map(|it| it.number);
        let here = segments.iter_mut().find(|segment| segment.number == number);
        let known = here.as_ref().is_some_and(|here| here.unreadable);
        let given_up = !is_passing(error) && (refusal.is_final() || known);
        if let Some(next) = next.filter(|_| given_up) {
            here.into_iter().for_each(|here| here.unreadable = true);
            state.counters.quarantined += u64::from(!known);
            drop(state);
            self.refusal = Some(refusal);
            self.leave_for(next);
            if !known {
                tracing::error!(
                    stream,
                    segment = number,
                    %error,
                    "A journal segment cannot be read and is passed over: what it holds is missing \
                     wherever it had not been read before."
                );
            }
            return true;
        }
        let told = state.counters.failing.replace(refusal.told.clone()).is_some();
        drop(state);
        self.refusal = Some(refusal);
        if first && !told {
            let what = "A journal segment could not be read; it is tried again.";
            tracing::warn!(stream, segment = number, %error, "{what}");
        }
        false
    }

    /// The segment at hand can be read, or is left.
    fn accepted(&mut self) {
        let Some(refusal) = self.refusal.take() else { return };
        let mut state = self.shared.state();
        // Whatever else fails has yet to succeed.
        let failing = &mut state.counters.failing;
        failing.take_if(|failing| *failing == refusal.told);
    }

    /// Waits until there is more to read. Safe to cancel.
    pub async fn ready(&mut self) {
        if let Some(refusal) = &self.refusal {
            // Whatever is published meanwhile cannot be read either.
            tokio::time::sleep(refusal.again.since(clock::boot_now())).await;
            return;
        }
        loop {
            // Marks what is published as seen before looking, so that nothing is missed.
            self.published.borrow_and_update();
            self.caught_up = false;
            if self.has_more() {
                return;
            }
            if self.published.changed().await.is_err() {
                // The journal is closed and this follower has read it all: never again.
                std::future::pending::<()>().await;
            }
        }
    }

    fn has_more(&self) -> bool {
        let state = self.shared.state();
        let mut rest = state.segments[self.stream as usize]
            .iter()
            .filter(|segment| segment.number >= self.number && segment.end > 0);
        rest.any(|segment| match &self.walker {
            Some(walker) if segment.number == self.number => walker.is_behind(segment.end),
            Some(_) | None => true,
        })
    }
}

/// The segment to begin with in order to go on after `after`, and whether nothing is missing in
/// between; `None` when the journal knows nothing of that boot.
pub(super) fn place(segments: &VecDeque<Summary>, after: Position) -> Option<(u32, bool)> {
    let newest = segments.iter().rev().find(|segment| segment.reaches_back_to(after));
    if let Some(segment) = newest {
        return Some((segment.number, true));
    }
    let of_boot = |segment: &&Summary| segment.spans.iter().any(|span| span.boot == after.boot);
    segments.iter().find(of_boot).map(|segment| {
        let next = segment.spans.iter().find(|span| span.boot == after.boot);
        let whole = next.is_some_and(|span| span.first == after.seq + 1);
        (segment.number, whole)
    })
}
