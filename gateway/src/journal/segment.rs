//! Segment files: their names, their creation, and the footer that saves reading them again.
//!
//! A footer is a hint: when it does not check, the segment is walked instead.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::crc32c;

use super::block::HEADER_MAX;
use super::bytes::{Bytes, put_varint};
use super::record::{BootId, Position};
use super::walk::{BlockEntry, Walker};

/// Ends a sealed segment.
const FOOTER_MARK: [u8; 8] = *b"\xffANDONFT";
/// Length and checksum of the footer's payload, and the mark.
const TRAILER: usize = 16;
/// Most blocks of a segment; then it is sealed. Bounds the footer and the space kept for it.
pub(super) const BLOCKS_MAX: usize = 1024;
/// Most bytes of a footer: each entry is two offsets, two numbers and at worst a boot id.
pub(super) const FOOTER_MAX: usize = BLOCKS_MAX * (4 * 10 + 16) + 64;
/// Blanks that are written at once.
const BLANK: usize = 16 * 1024;
/// Greatest segment number that its file name can hold.
pub(super) const NUMBER_MAX: u32 = 99_999_999;

/// Numbers of one boot in a segment, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) boot: BootId,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What is kept in memory of a segment.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) number: u32,
    /// Where its records end.
    pub(super) end: u64,
    pub(super) records: u64,
    pub(super) spans: Vec<Span>,
    /// A follower has given it up and counted it; others need not try for as long.
    pub(super) unreadable: bool,
}

impl Summary {
    pub(super) const fn empty(number: u32) -> Self {
        Self { number, end: 0, records: 0, spans: Vec::new(), unreadable: false }
    }

    fn of(number: u32, end: u64, blocks: &[BlockEntry]) -> Self {
        let mut summary = Self { end, ..Self::empty(number) };
        for block in blocks {
            summary.add(block.boot, block.first_seq, block.records);
        }
        summary
    }

    /// Takes note of `records` records of `boot`, the first being `first`.
    pub(super) fn add(&mut self, boot: BootId, first: u64, records: u64) {
        self.records += records;
        if records == 0 {
            return;
        }
        let last = first.saturating_add(records - 1);
        match self.spans.last_mut() {
            // Numbers that leap begin a span of their own, so that spans count records.
            Some(span) if span.boot == boot && span.last.checked_add(1) == Some(first) => {
                span.last = last;
            }
            Some(_) | None => self.spans.push(Span { boot, first, last }),
        }
    }

    /// Whether this segment holds the record at `position`, or would if that number existed.
    pub(super) fn reaches_back_to(&self, position: Position) -> bool {
        self.spans.iter().any(|span| span.boot == position.boot && span.first <= position.seq)
    }
}

/// The path of a segment in the folder of its stream.
pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.seg"))
}

/// The numbers of the segments in a folder, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = stem.filter(|stem| stem.len() == 8).and_then(|stem| stem.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a new segment of `bytes` preallocated bytes, its name durable.
pub(super) fn create(folder: &Path, number: u32, bytes: u64) -> io::Result<File> {
    let path = path(folder, number);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    let made = preallocate(&file, 0, bytes).and_then(|()| File::open(folder)?.sync_all());
    if let Err(error) = made {
        // An empty segment is of no use; should removing it fail, it is read as an empty one.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// Makes the file `to` bytes long, blank from `from` on and durable. The blanks are written: where
/// they were only reserved, the file system would have to note with every later sync that another
/// block of them is in use, which wears a card more than the records do.
pub(super) fn preallocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, to) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let blank = [0; BLANK];
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(BLANK).min(BLANK);
        file.write_all_at(&blank[..length], at)?;
        at += length as u64;
    }
    Ok(rustix::fs::fdatasync(file)?)
}

/// Writes the footer at `end` and cuts the file behind it.
pub(super) fn seal(file: &File, end: u64, blocks: &[BlockEntry]) -> io::Result<()> {
    let mut payload = Vec::new();
    put_varint(&mut payload, end);
    put_varint(&mut payload, blocks.len() as u64);
    let (mut offset, mut boot) = (0, None);
    for block in blocks {
        put_varint(&mut payload, block.offset - offset);
        // A boot id is written when it changes: the count of its bytes, then they.
        if boot == Some(block.boot) {
            payload.push(0);
        } else {
            payload.push(16);
            payload.extend_from_slice(&block.boot.0);
        }
        put_varint(&mut payload, block.first_seq);
        put_varint(&mut payload, block.records);
        (offset, boot) = (block.offset, Some(block.boot));
    }
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let sum = crc32c(&payload);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&sum.to_le_bytes());
    payload.extend_from_slice(&FOOTER_MARK);
    file.set_len(end + payload.len() as u64)?;
    file.write_all_at(&payload, end)?;
    rustix::fs::fdatasync(file)?;
    Ok(())
}

/// The footer's `(end, blocks)`, when the file has a good one.
pub(super) fn footer(file: &File) -> Option<(u64, Vec<BlockEntry>)> {
    let length = file.metadata().ok()?.len();
    let trailer_at = length.checked_sub(TRAILER as u64)?;
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, trailer_at).ok()?;
    let mut rest = Bytes(&trailer);
    let size = u32::from_le_bytes(rest.array()?);
    let sum = u32::from_le_bytes(rest.array()?);
    let payload_at = trailer_at.checked_sub(u64::from(size))?;
    if rest.0 != FOOTER_MARK || size as usize > FOOTER_MAX {
        return None;
    }
    let mut payload = vec![0; size as usize];
    file.read_exact_at(&mut payload, payload_at).ok()?;
    if crc32c(&payload) != sum {
        return None;
    }
    let (end, blocks) = entries(&mut Bytes(&payload))?;
    (end == payload_at).then_some((end, blocks))
}

fn entries(bytes: &mut Bytes<'_>) -> Option<(u64, Vec<BlockEntry>)> {
    let end = bytes.varint()?;
    let count = bytes.length()?;
    let mut blocks: Vec<BlockEntry> = Vec::new();
    for _ in 0..count {
        let before = blocks.last();
        let offset = before.map_or(0, |block| block.offset).checked_add(bytes.varint()?)?;
        let boot = match bytes.byte()? {
            0 => before?.boot,
            _ => BootId(bytes.array()?),
        };
        let (first_seq, records) = (bytes.varint()?, bytes.varint()?);
        blocks.push(BlockEntry { offset, boot, first_seq, records });
    }
    Some((end, blocks))
}

/// A segment as found when the journal is opened.
pub(super) struct Opened {
    pub(super) summary: Summary,
    pub(super) blocks: Vec<BlockEntry>,
    pub(super) sealed: bool,
    /// There is something after the last good frame.
    pub(super) torn: bool,
    pub(super) quarantined: u64,
}

impl Opened {
    /// Of a segment with a good footer.
    fn sealed(file: &File, number: u32) -> Option<Self> {
        let (end, blocks) = footer(file)?;
        let summary = Summary::of(number, end, &blocks);
        Some(Self { summary, blocks, sealed: true, torn: false, quarantined: 0 })
    }
}

/// Reads the footer of a segment, or its first header alone when it has none: then it is taken to
/// hold one record and to reach to the end of its file.
pub(super) fn glance(file: &Arc<File>, number: u32) -> io::Result<Opened> {
    if let Some(opened) = Opened::sealed(file, number) {
        return Ok(opened);
    }
    let end = file.metadata()?.len();
    let mut summary = Summary { end, ..Summary::empty(number) };
    let mut first = Walker::new(Arc::clone(file), 0, end.min(HEADER_MAX as u64));
    first.pass()?;
    if let Some(block) = first.blocks.first() {
        summary.add(block.boot, block.first_seq, 1);
    }
    Ok(Opened { summary, blocks: Vec::new(), sealed: false, torn: false, quarantined: 0 })
}

/// Reads the footer of a segment, or walks it when it has none.
pub(super) fn inspect(file: &Arc<File>, number: u32) -> io::Result<Opened> {
    if let Some(opened) = Opened::sealed(file, number) {
        return Ok(opened);
    }
    let mut walker = Walker::new(Arc::clone(file), 0, file.metadata()?.len());
    while walker.pass()? {}
    let (end, torn) = (walker.written_end(), walker.torn());
    let blocks = std::mem::take(&mut walker.blocks);
    let summary = Summary::of(number, end, &blocks);
    let quarantined = walker.quarantined + u64::from(torn);
    Ok(Opened { summary, blocks, sealed: false, torn, quarantined })
}
