//! Walks over the records of one segment, whatever its bytes are.
//!
//! A frame that does not check ends its block: the walk goes on at the next resync mark and
//! counts the block as quarantined. Bytes that follow the last good frame without any mark after
//! them are a torn tail when one of them is not zero, and unused preallocated space otherwise.
//! Memory is bounded by one frame; nothing here writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::block::{Decoder, FRAME_MAX, FRAME_OVERHEAD, HEADER_MAX, MARK, NoFrame};
use super::record::{BootId, Payload};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// Buffer that every frame and header fits in.
const BUFFER_MAX: usize = FRAME_MAX + FRAME_OVERHEAD + HEADER_MAX + CHUNK;

/// Where a block begins, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockEntry {
    pub(super) offset: u64,
    pub(super) boot: BootId,
    pub(super) first_seq: u64,
    pub(super) records: u64,
}

/// A record as it stands in a segment.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) boot: BootId,
    pub(super) seq: u64,
    pub(super) payload: Payload,
}

/// A walk over one segment.
#[derive(Debug)]
pub(super) struct Walker {
    file: Arc<File>,
    /// Where reading stops for now.
    end: u64,
    /// The place in the file of `buffer[at]`.
    offset: u64,
    buffer: Vec<u8>,
    at: usize,
    block: Option<Decoder>,
    /// Between a broken frame and the next mark.
    skipping: bool,
    /// Behind the last byte skipped since then that is not zero.
    debris_end: u64,
    /// Where the last good frame ended.
    good_end: u64,
    /// The blocks met so far.
    pub(super) blocks: Vec<BlockEntry>,
    /// Blocks that could not be read to their end, not counting a torn tail.
    pub(super) quarantined: u64,
}

impl Walker {
    /// A walk over `file` from the block at `offset` up to `end`.
    pub(super) const fn new(file: Arc<File>, offset: u64, end: u64) -> Self {
        Self {
            file,
            end,
            offset,
            buffer: Vec::new(),
            at: 0,
            block: None,
            skipping: false,
            debris_end: 0,
            good_end: offset,
            blocks: Vec::new(),
            quarantined: 0,
        }
    }

    /// The segment has grown to `end`.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Goes on in the same segment through another handle.
    pub(super) fn open_again(&mut self, file: Arc<File>) {
        self.file = file;
    }

    /// Whether there are bytes that have not been looked at.
    pub(super) const fn is_behind(&self, end: u64) -> bool {
        self.offset < end
    }

    /// Whether something that is not blank was skipped and no mark came after it.
    pub(super) const fn torn(&self) -> bool {
        self.skipping && self.debris_end > self.good_end
    }

    /// Where the last good frame ended, and after it a torn tail, if any.
    pub(super) fn written_end(&self) -> u64 {
        if self.torn() { self.debris_end } else { self.good_end }
    }

    /// Records in the blocks met so far.
    pub(super) fn records(&self) -> u64 {
        self.blocks.iter().map(|block| block.records).sum()
    }

    /// The next record; `None` at the end of what there is.
    ///
    /// # Errors
    /// When the file cannot be read; the walk may be tried again.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        self.step(|block, bytes| {
            let (seq, payload, length) = block.record(bytes)?;
            Ok((Found { boot: block.header.boot, seq, payload }, length))
        })
    }

    /// Goes over the next record without reading what it holds, several times as fast; `false` at
    /// the end of what there is. A walk is of one kind or of the other.
    ///
    /// # Errors
    /// When the file cannot be read; the walk may be tried again.
    pub(super) fn pass(&mut self) -> io::Result<bool> {
        Ok(self.step(|block, bytes| Ok(((), block.pass(bytes)?)))?.is_some())
    }

    fn step<T>(
        &mut self,
        take: impl Fn(&mut Decoder, &[u8]) -> Result<(T, usize), NoFrame>,
    ) -> io::Result<Option<T>> {
        loop {
            if self.skipping && !self.find_mark()? {
                return Ok(None);
            }
            let available = &self.buffer[self.at..];
            let attempt = if available.is_empty() {
                Err(NoFrame::Short)
            } else if available[0] == MARK[0] {
                Decoder::begin(available).map(|(decoder, length)| {
                    self.blocks.push(BlockEntry {
                        offset: self.offset,
                        boot: decoder.header.boot,
                        first_seq: decoder.header.first_seq,
                        records: 0,
                    });
                    self.block = Some(decoder);
                    (None, length)
                })
            } else if let Some(block) = &mut self.block {
                take(block, available).map(|(found, length)| (Some(found), length))
            } else {
                Err(NoFrame::Broken)
            };
            match attempt {
                Ok((found, length)) => {
                    self.consume(length);
                    self.good_end = self.offset;
                    if found.is_some() {
                        if let Some(block) = self.blocks.last_mut() {
                            block.records += 1;
                        }
                        return Ok(found);
                    }
                }
                Err(NoFrame::Short) if self.fill()? => {}
                Err(NoFrame::Short) if self.at == self.buffer.len() => return Ok(None),
                Err(NoFrame::Short | NoFrame::Broken) => self.begin_skipping(),
            }
        }
    }

    fn begin_skipping(&mut self) {
        self.block = None;
        self.skipping = true;
        // Not the mark of the very block whose header is broken.
        if self.buffer[self.at..].first() == Some(&MARK[0]) {
            self.skip(1);
        }
    }

    /// Goes to the next mark; `false` when there is none up to the end.
    fn find_mark(&mut self) -> io::Result<bool> {
        loop {
            let available = &self.buffer[self.at..];
            if let Some(distance) = mark_in(available) {
                self.skip(distance);
                self.skipping = false;
                // Blank space before a block is a hole that was never written: lost all the same.
                self.quarantined += 1;
                return Ok(true);
            }
            // The beginning of a mark may be the last that has been read so far.
            self.skip(available.len().saturating_sub(MARK.len() - 1));
            if !self.fill()? {
                self.skip(self.buffer.len() - self.at);
                return Ok(false);
            }
        }
    }

    fn skip(&mut self, length: usize) {
        let skipped = &self.buffer[self.at..self.at + length];
        if let Some(last) = skipped.iter().rposition(|byte| *byte != 0) {
            self.debris_end = self.offset + last as u64 + 1;
        }
        self.consume(length);
    }

    const fn consume(&mut self, length: usize) {
        self.at += length;
        self.offset += length as u64;
    }

    /// Reads more; `false` when there is no more up to the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let held = self.buffer.len();
        let from = self.offset + held as u64;
        let room = CHUNK.min(BUFFER_MAX.saturating_sub(held));
        let wanted = room.min(usize::try_from(self.end.saturating_sub(from)).unwrap_or(room));
        if wanted == 0 {
            return Ok(false);
        }
        self.buffer.resize(held + wanted, 0);
        let read = self.file.read_at(&mut self.buffer[held..], from);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}

/// Where the first mark begins. Most of what is searched is blank, and no byte of it begins one.
fn mark_in(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(step) = bytes[from..].iter().position(|byte| *byte == MARK[0]) {
        from += step;
        if bytes[from..].starts_with(&MARK) {
            return Some(from);
        }
        from += 1;
    }
    None
}
