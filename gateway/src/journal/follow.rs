//! Reading a journal: as it grows ([`Follower`]) and as it is ([`Reader`]).
//!
//! Both go through the page cache, one segment open at a time, memory bounded by one frame. A
//! number that was already delivered is never delivered again, and what cannot be read is passed
//! over and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::record::{BootId, Position, Record, Stream};
use super::segment::{self, Summary};
use super::shared::Shared;
use super::walk::{Found, Walker};

/// Turns what stands in segments into records: numbers ascend, `prev` is what came before.
#[derive(Debug, Default)]
struct Chain {
    last: Option<Position>,
    /// Still on the way to `last`, through records that were delivered before; over as soon as its
    /// segment is left or cannot be had, because later ones begin behind it.
    seeking: bool,
    met: bool,
}

impl Chain {
    fn after(position: Option<Position>, seeking: bool) -> Self {
        Self { last: position, seeking, met: false }
    }

    /// The record, unless it has been delivered before.
    fn record(&mut self, found: Found) -> Option<Record> {
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
    /// The disk refused to be read; wait for something to change.
    stalled: bool,
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
            stalled: false,
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

    /// The next records, at most `max`; empty when caught up.
    pub fn next(&mut self, max: usize) -> Vec<Record> {
        let mut records = Vec::new();
        // To look costs a lock and a try at reading; many ask far more often than there is more.
        if self.caught_up && matches!(self.published.has_changed(), Ok(false)) {
            return records;
        }
        self.published.mark_unchanged();
        (self.stalled, self.caught_up) = (false, false);
        while records.len() < max {
            if self.walker.is_none() && !self.open() {
                self.caught_up = true;
                break;
            }
            let Some(walker) = &mut self.walker else { break };
            match walker.next() {
                Ok(Some(found)) => records.extend(self.chain.record(found)),
                Ok(None) => {
                    if !self.go_on() {
                        self.caught_up = true;
                        break;
                    }
                }
                Err(error) => {
                    self.stalled = true;
                    let mut state = self.shared.state();
                    state.counters.failures += 1;
                    state.counters.failing =
                        Some(format!("{} could not be read: {error}", self.stream.word()));
                    break;
                }
            }
        }
        records
    }

    /// Opens the segment that is next; `false` when there is none.
    fn open(&mut self) -> bool {
        let mut counted = self.number == 0;
        loop {
            let mut state = self.shared.state();
            let segments = &state.segments[self.stream as usize];
            let next = segments.iter().find(|segment| segment.number >= self.number);
            let Some(&Summary { number, end, .. }) = next else { return false };
            if number != self.number {
                // The one that was there when it became the next has been recycled since.
                state.counters.gaps += u64::from(!counted);
                counted = true;
                (self.number, self.offset) = (number, 0);
                self.chain.seeking = false;
            }
            drop(state);
            match File::open(segment::path(&self.folder(), number)) {
                Ok(file) => {
                    self.walker = Some(Walker::new(Arc::new(file), self.offset, end));
                    return true;
                }
                // Recycled between the look and the opening, or taken away by somebody.
                Err(error) => {
                    tracing::warn!(segment = number, %error, "A journal segment is gone.");
                    self.shared.state().counters.gaps += u64::from(!counted);
                    counted = true;
                    self.number = number + 1;
                    self.chain.seeking = false;
                }
            }
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
        state.counters.quarantined += walker.quarantined + u64::from(walker.torn());
        drop(state);
        (self.walker, self.number, self.offset) = (None, next, 0);
        self.chain.seeking = false;
        true
    }

    /// Waits until there is more to read. Safe to cancel.
    pub async fn ready(&mut self) {
        loop {
            // Marks what is published as seen before looking, so that nothing is missed.
            self.published.borrow_and_update();
            self.caught_up = false;
            if !self.stalled && self.has_more() {
                return;
            }
            self.stalled = false;
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
fn place(segments: &VecDeque<Summary>, after: Position) -> Option<(u32, bool)> {
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

/// Reads the journal in a folder without changing it, also while a gateway writes it.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// A reader of the journal in `dir`.
    ///
    /// # Errors
    /// When there is no journal.
    pub fn open(dir: &Path) -> io::Result<Self> {
        for stream in Stream::ALL {
            std::fs::read_dir(dir.join(stream.word()))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The records of a stream, oldest first, up to what is there now.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn records(&self, stream: Stream) -> io::Result<Records> {
        self.newest(stream, usize::MAX)
    }

    /// The records of the newest `segments` segments of a stream, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest(&self, stream: Stream, segments: usize) -> io::Result<Records> {
        let folder = self.dir.join(stream.word());
        let mut numbers = VecDeque::from(segment::list(&folder)?);
        numbers.drain(..numbers.len().saturating_sub(segments));
        Ok(Records { folder, numbers, walker: None, chain: Chain::default(), quarantined: 0 })
    }

    /// The records of a stream after a position, oldest first; all of them where nothing is known of
    /// its boot any more, and without one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn after(&self, stream: Stream, after: Option<Position>) -> io::Result<Records> {
        let mut records = self.records(stream)?;
        let found = after.and_then(|after| place(&self.summaries(&records), after));
        if let Some((first, _)) = found {
            records.numbers.retain(|number| *number >= first);
            records.chain = Chain::after(after, true);
        }
        Ok(records)
    }

    /// Whether a stream has records of a boot.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn holds(&self, stream: Stream, boot: BootId) -> io::Result<bool> {
        let summaries = self.summaries(&self.records(stream)?);
        Ok(summaries.iter().any(|segment| segment.spans.iter().any(|span| span.boot == boot)))
    }

    /// What is in the segments that are to be read; footers are read, and what has none is walked.
    fn summaries(&self, records: &Records) -> VecDeque<Summary> {
        let summary = |number: &u32| {
            let file = Arc::new(File::open(segment::path(&records.folder, *number)).ok()?);
            Some(segment::inspect(&file, *number).ok()?.summary)
        };
        records.numbers.iter().filter_map(summary).collect()
    }
}

/// Records of a journal at rest.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    numbers: VecDeque<u32>,
    walker: Option<Walker>,
    chain: Chain,
    quarantined: u64,
}

impl Records {
    /// Blocks met so far that could not be read to their end, and segments that could not be
    /// read. The tail that a gateway is just writing is not one of them.
    pub const fn quarantined(&self) -> u64 {
        match &self.walker {
            Some(walker) => self.quarantined + walker.quarantined,
            None => self.quarantined,
        }
    }

    fn walk(&mut self) -> io::Result<Option<Found>> {
        loop {
            if let Some(walker) = &mut self.walker {
                if let Some(found) = walker.next()? {
                    return Ok(Some(found));
                }
                self.quarantined += walker.quarantined;
                self.walker = None;
                // A position that its segment does not have any more is not looked for in the next.
                self.chain.seeking = false;
            }
            let Some(number) = self.numbers.pop_front() else { return Ok(None) };
            let file = match File::open(segment::path(&self.folder, number)) {
                // Recycled since the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.chain.seeking = false;
                    continue;
                }
                opened => Arc::new(opened?),
            };
            let end = match segment::footer(&file) {
                Some((end, _)) => end,
                None => file.metadata()?.len(),
            };
            self.walker = Some(Walker::new(file, 0, end));
        }
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            match self.walk() {
                Ok(Some(found)) => {
                    if let Some(record) = self.chain.record(found) {
                        return Some(record);
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    tracing::error!(%error, "A journal segment cannot be read.");
                    self.quarantined = self.quarantined() + 1;
                    self.walker = None;
                    self.chain.seeking = false;
                }
            }
        }
    }
}
