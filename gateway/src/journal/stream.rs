//! Writes one stream: blocks into segments, full segments sealed, the oldest recycled.
//!
//! After any failure the segment at hand is given up and the next attempt begins a new one: what
//! the kernel did with a failed write or sync cannot be known. Sequence numbers that were part of
//! a failed attempt are not used again. Nothing here waits or retries; [`super::writer`] does.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;

use super::block::{self, Encoder, FRAME_MAX, FRAME_OVERHEAD, HEADER_MAX, Header};
use super::record::{BootId, Payload, Stream};
use super::segment::{self, BLOCKS_MAX, FOOTER_MAX, NUMBER_MAX, Summary};
use super::shared::Shared;
use super::stock::{Last, Stock};
use super::walk::BlockEntry;

/// A block is closed when it has grown to this: what one bad bit can cost.
const BLOCK_BYTES: u64 = 64 * 1024;
/// In a large shop a block would be full before every machine was named in it once, and each would
/// name them all again: it may grow to so many times its definitions …
const BLOCK_DEFINITIONS: u64 = 4;
/// … and no further: the most that one bad bit can cost.
const BLOCK_BYTES_MAX: u64 = 1024 * 1024;
/// A block is closed when it is this old: a quiet shop loses no more than this to a bad bit.
const BLOCK_AGE: Duration = Duration::from_secs(60);
/// Most bytes handed to one write.
const WRITE_MAX: usize = 64 * 1024;
/// How far a reopened boot jumps ahead: more than a segment can hold, so that numbers whose
/// records were torn off the end, with or without a trace, are never used again.
const REOPEN_JUMP: u64 = 1 << 20;

/// The sizes of a stream's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Of one segment.
    pub(super) segment: u64,
    /// Of all of them; the oldest are recycled beyond. `None`: never.
    pub(super) total: Option<u64>,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    number: u32,
    file: Arc<File>,
    end: u64,
    blocks: Vec<BlockEntry>,
    encoder: Option<Encoder>,
}

/// Writes one stream.
#[derive(Debug)]
pub(super) struct StreamWriter {
    stream: Stream,
    boot: BootId,
    folder: PathBuf,
    sizes: Sizes,
    shared: Arc<Shared>,
    active: Option<Active>,
    next_seq: u64,
    next_number: u32,
    dirty: bool,
    /// Records that were too long to be written, not asked about yet.
    refused: u64,
    /// The last segment that was given up.
    given_up: Option<u32>,
    /// The last segment that was sealed.
    sealed: Option<u32>,
}

impl StreamWriter {
    /// A writer that goes on where the folder, as found, ends.
    pub(super) fn new(
        stream: Stream,
        boot: BootId,
        sizes: Sizes,
        shared: Arc<Shared>,
        stock: Stock,
    ) -> Self {
        let folder = shared.dir.join(stream.word());
        let spans = stock.segments.iter().flat_map(|segment| &segment.spans);
        let used = spans.filter(|span| span.boot == boot).map(|span| span.last).max();
        let next_number = stock.segments.back().map_or(1, |segment| segment.number + 1);
        // Whatever is there and will not be written further is left alone.
        let sealed = stock.segments.back().map(|segment| segment.number);
        let sealed = if stock.last.is_some() { None } else { sealed };
        let active = stock.last.and_then(|Last { number, file, end, blocks }| {
            // A file cut short was torn at a frame's edge: preallocated space is part of it.
            let length = file.metadata().ok()?.len();
            if length < sizes.segment && segment::preallocate(&file, length, sizes.segment).is_err()
            {
                return None;
            }
            Some(Active { number, file, end, blocks, encoder: None })
        });
        Self {
            stream,
            boot,
            folder,
            sizes,
            shared,
            active,
            next_seq: used.map_or(1, |used| used + REOPEN_JUMP),
            next_number,
            dirty: false,
            refused: 0,
            given_up: None,
            sealed,
        }
    }

    /// Begins no earlier than a jump beyond where the run `before` began; returns where it begins.
    pub(super) fn begin_after(&mut self, before: Option<u64>) -> u64 {
        let floor = before.map_or(0, |before| before.saturating_add(REOPEN_JUMP));
        self.next_seq = self.next_seq.max(floor);
        self.next_seq
    }

    /// Writes from the front of `queue` until it is empty, removing what is written.
    pub(super) fn write(&mut self, queue: &mut VecDeque<Payload>, now: BootTime) -> io::Result<()> {
        while !queue.is_empty() {
            if let Err(error) = self.write_some(queue, now) {
                self.give_up();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes everything written so far survive a power loss.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        let Some(active) = &self.active else { return Ok(()) };
        rustix::fs::fdatasync(&*active.file).map_err(|error| {
            self.give_up();
            error.into()
        })
    }

    /// Whether a record was too long to be written since this was asked last.
    pub(super) const fn take_refused(&mut self) -> bool {
        std::mem::replace(&mut self.refused, 0) > 0
    }

    /// Whether something waits for [`StreamWriter::sync`].
    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Leaves the segment at hand; the next write begins another. What was preallocated is given
    /// back, as far as the disk lets us: a disk that refuses for days must not fill up with this.
    fn give_up(&mut self) {
        self.active = None;
        self.dirty = false;
        let mut state = self.shared.state();
        let segments = &mut state.segments[self.stream as usize];
        // A segment that could not even be made left nothing: then this one is an earlier one,
        // already cut, or sealed and longer by its footer, which must stay.
        let Some(last) = segments.back().filter(|last| self.given_up != Some(last.number)) else {
            return;
        };
        let (number, end) = (last.number, last.end);
        if number + 1 != self.next_number || self.sealed == Some(number) {
            return;
        }
        self.given_up = Some(number);
        let path = segment::path(&self.folder, number);
        let freed = if end == 0 {
            segments.pop_back();
            fs::remove_file(&path)
        } else {
            File::options().write(true).open(&path).and_then(|file| file.set_len(end))
        };
        drop(state);
        if let Err(error) = freed {
            tracing::warn!(segment = number, %error, "A segment that failed could not be cut.");
        }
    }

    /// Writes one buffer full.
    fn write_some(&mut self, queue: &mut VecDeque<Payload>, now: BootTime) -> io::Result<()> {
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin_segment()?,
        };
        let mut buffer = Vec::new();
        let (first_seq, mut taken, mut refused) = (self.next_seq, 0, 0);
        let mut full = false;
        while let Some(payload) = queue.get(taken) {
            if buffer.len() >= WRITE_MAX {
                break;
            }
            let Some((json, size)) = measure(payload) else {
                // The numbers of one write are contiguous, so a refusal ends it.
                refused = 1;
                break;
            };
            let at = active.end + buffer.len() as u64;
            let needed = (size + FRAME_OVERHEAD + HEADER_MAX + FOOTER_MAX) as u64;
            full = at + needed > self.sizes.segment || active.blocks.len() >= BLOCKS_MAX;
            if full {
                break;
            }
            let encoder = self.block(&mut active, at, now, &mut buffer);
            match payload {
                Payload::Observation(observation) => encoder.observation(observation, &mut buffer),
                Payload::Event(_) => encoder.event(&json, &mut buffer),
            }
            if let Some(block) = active.blocks.last_mut() {
                block.records += 1;
            }
            self.next_seq += 1;
            taken += 1;
        }
        if taken > 0 {
            active.file.write_all_at(&buffer, active.end)?;
            active.end += buffer.len() as u64;
            self.dirty = true;
            if self.stream == Stream::Events {
                rustix::fs::fdatasync(&*active.file)?;
                self.dirty = false;
            }
            queue.drain(..taken);
            self.publish(&active, first_seq, taken as u64, buffer.len() as u64);
        }
        if refused > 0 {
            queue.pop_front();
            self.refused += refused;
            let mut dropped = [0; 2];
            dropped[self.stream as usize] = refused;
            self.shared.count_dropped(dropped);
        }
        if full {
            self.seal(&active);
            self.recycle();
        } else {
            self.active = Some(active);
        }
        Ok(())
    }

    /// The open block of the segment, or a new one beginning at `at`.
    fn block<'a>(
        &self,
        active: &'a mut Active,
        at: u64,
        now: BootTime,
        buffer: &mut Vec<u8>,
    ) -> &'a mut Encoder {
        let begun = active.blocks.last().map_or(0, |block| block.offset);
        let open = active.encoder.take().filter(|encoder| {
            let room = (encoder.defining() * BLOCK_DEFINITIONS).clamp(BLOCK_BYTES, BLOCK_BYTES_MAX);
            !encoder.is_full() && at - begun < room && now.since(encoder.base()) < BLOCK_AGE
        });
        let encoder = open.unwrap_or_else(|| {
            let header = Header {
                boot: self.boot,
                stream: self.stream,
                number: active.blocks.len() as u64,
                first_seq: self.next_seq,
                base: now,
            };
            active.blocks.push(BlockEntry {
                offset: at,
                boot: self.boot,
                first_seq: self.next_seq,
                records: 0,
            });
            Encoder::begin(header, buffer)
        });
        active.encoder.insert(encoder)
    }

    fn begin_segment(&mut self) -> io::Result<Active> {
        if self.next_number > NUMBER_MAX {
            return Err(io::Error::other("the journal has used up its segment numbers"));
        }
        // Taken even when it fails: whatever bears this number is not ours.
        let number = self.next_number;
        let file = match segment::create(&self.folder, number, self.sizes.segment) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.next_number += 1;
                return Err(error);
            }
            created => created?,
        };
        self.next_number += 1;
        let mut state = self.shared.state();
        state.segments[self.stream as usize].push_back(Summary::empty(number));
        Ok(Active { number, file: Arc::new(file), end: 0, blocks: Vec::new(), encoder: None })
    }

    fn publish(&self, active: &Active, first_seq: u64, records: u64, bytes: u64) {
        let mut state = self.shared.state();
        state.counters.written += records;
        state.counters.bytes += bytes;
        let segments = &mut state.segments[self.stream as usize];
        if let Some(summary) = segments.back_mut().filter(|last| last.number == active.number) {
            summary.end = active.end;
            summary.add(self.boot, first_seq, records);
        }
        // Under the lock: who sees that there is more finds it published.
        self.shared.publish(self.stream);
        drop(state);
    }

    /// Ends a full segment. A footer only saves time: should it fail, the segment is still good.
    fn seal(&mut self, active: &Active) {
        self.dirty = false;
        self.sealed = Some(active.number);
        if let Err(error) = segment::seal(&active.file, active.end, &active.blocks) {
            tracing::warn!(segment = active.number, %error, "A segment could not be sealed.");
            self.shared.state().counters.failures += 1;
        }
    }

    /// Removes the oldest segments while they, with one more, exceed the total.
    fn recycle(&self) {
        let Some(total) = self.sizes.total else { return };
        loop {
            let mut state = self.shared.state();
            let segments = &state.segments[self.stream as usize];
            let held: u64 = segments.iter().map(|segment| segment.end).sum();
            if held + self.sizes.segment <= total || segments.len() < 2 {
                return;
            }
            let Some(oldest) = segments.front().cloned() else { return };
            let unread = state.unread(self.stream, &oldest);
            state.counters.recycled_unread += unread;
            state.segments[self.stream as usize].pop_front();
            drop(state);
            if let Err(error) = fs::remove_file(segment::path(&self.folder, oldest.number)) {
                tracing::warn!(segment = oldest.number, %error, "A segment could not be removed.");
            }
        }
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        if let Some(active) = &mut self.active {
            active.file = Arc::new(file);
        }
    }
}

/// The JSON of an event, and how large a record's frame can become; `None` when too large.
fn measure(payload: &Payload) -> Option<(Vec<u8>, usize)> {
    let (json, size) = match payload {
        Payload::Observation(observation) => (Vec::new(), block::bound(observation)),
        Payload::Event(event) => {
            let json = serde_json::to_vec(event).ok()?;
            let size = json.len();
            (json, size)
        }
    };
    (size <= FRAME_MAX).then_some((json, size))
}
