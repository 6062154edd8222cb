//! A row's blob: several series of one stretch of time, each readable alone.
//!
//! ```text
//! row     = length:u32le crc:u32le header[length] part*
//! header  = version:u8=1 kind:u8 begin:zigzag-varint
//!           shared:varint (count:varint length:varint crc:u32le)*
//!           series:varint (index:varint scale:u8 shared:varint count:varint period:varint
//!                          length:varint crc:u32le digest?)*
//! digest  = count:varint known:varint, and when count > 0: last_at:zigzag-varint
//!           least:f64le greatest:f64le last:f64le integral:f64le
//! ```
//!
//! Parts follow in the order of the header: first the shared ones (columns of times), then one per
//! series; where each begins follows from the lengths. `begin` is Unix milliseconds, `period` and
//! `known` milliseconds, `last_at` milliseconds since `begin`, `integral` value times milliseconds.
//! `index` is the series' place in its group. A CRC (crc32c) covers the header and each part, so
//! that one bad bit costs one series of one row.

use super::summary::Sum;
use crate::journal::bytes::{Bytes, put_varint, unzigzag, zigzag};

/// The format's version.
const VERSION: u8 = 1;
/// Bytes before the header.
pub(super) const PREFIX: usize = 8;
/// Longest header that is believed.
pub(super) const HEADER_MAX: usize = 64 * 1024;

/// What rows hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Samples; parts are columns of [`super::column`], with a digest for each series.
    Samples = 0,
    /// Slots of [`super::rollup`].
    Slots = 1,
}

/// A part that series share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) count: usize,
    pub(super) place: Place,
}

/// Where a part lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) length: usize,
    crc: u32,
}

/// One series of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    /// Its place in the group.
    pub(super) index: u8,
    /// How its numbers are scaled.
    pub(super) scale: u8,
    /// Which of the shared parts it uses.
    pub(super) shared: usize,
    /// Slots, where the row has such.
    pub(super) count: usize,
    /// Its period, in milliseconds.
    pub(super) period_ms: i64,
    pub(super) place: Place,
    /// What its samples come to; of slots nothing.
    pub(super) digest: Sum,
}

/// A row's header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) begin_ms: i64,
    pub(super) shared: Vec<Shared>,
    pub(super) entries: Vec<Entry>,
}

/// Builds a row.
#[derive(Debug)]
pub(super) struct Builder {
    kind: Kind,
    begin_ms: i64,
    shared: Vec<(usize, Vec<u8>)>,
    entries: Vec<Entry>,
    bodies: Vec<u8>,
}

impl Builder {
    pub(super) const fn new(kind: Kind, begin_ms: i64) -> Self {
        Self { kind, begin_ms, shared: Vec::new(), entries: Vec::new(), bodies: Vec::new() }
    }

    /// The number of a shared part of `count` numbers; an equal one is there once.
    pub(super) fn share(&mut self, count: usize, part: Vec<u8>) -> usize {
        let known = self.shared.iter().position(|known| known.0 == count && known.1 == part);
        known.unwrap_or_else(|| {
            self.shared.push((count, part));
            self.shared.len() - 1
        })
    }

    /// Adds a series; `entry.place` is filled in here.
    pub(super) fn add(&mut self, entry: Entry, body: &[u8]) {
        let crc = crc32c::crc32c(body);
        let place = Place { offset: 0, length: body.len(), crc };
        self.entries.push(Entry { place, ..entry });
        self.bodies.extend_from_slice(body);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The row.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut header = vec![VERSION, self.kind as u8];
        put_varint(&mut header, zigzag(self.begin_ms));
        put_varint(&mut header, self.shared.len() as u64);
        for (count, part) in &self.shared {
            put_varint(&mut header, *count as u64);
            put_varint(&mut header, part.len() as u64);
            header.extend_from_slice(&crc32c::crc32c(part).to_le_bytes());
        }
        put_varint(&mut header, self.entries.len() as u64);
        for entry in &self.entries {
            put_varint(&mut header, u64::from(entry.index));
            header.push(entry.scale);
            put_varint(&mut header, entry.shared as u64);
            put_varint(&mut header, entry.count as u64);
            put_varint(&mut header, entry.period_ms.unsigned_abs());
            put_varint(&mut header, entry.place.length as u64);
            header.extend_from_slice(&entry.place.crc.to_le_bytes());
            if self.kind == Kind::Samples {
                put_digest(&mut header, &entry.digest, self.begin_ms);
            }
        }
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let mut row = length.to_le_bytes().to_vec();
        row.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        row.extend_from_slice(&header);
        for (_, part) in &self.shared {
            row.extend_from_slice(part);
        }
        row.extend_from_slice(&self.bodies);
        row
    }
}

fn put_digest(header: &mut Vec<u8>, digest: &Sum, begin_ms: i64) {
    put_varint(header, digest.count);
    put_varint(header, digest.known_ms.unsigned_abs());
    if digest.count > 0 {
        put_varint(header, zigzag(digest.last_at - begin_ms));
        for number in [digest.least, digest.greatest, digest.last, digest.integral] {
            header.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// The length and CRC of the header that follows the first bytes of a row.
pub(super) fn prefix(bytes: [u8; PREFIX]) -> Option<(usize, u32)> {
    let [a, b, c, d, rest @ ..] = bytes;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    (length <= HEADER_MAX).then(|| (length, u32::from_le_bytes(rest)))
}

impl Header {
    /// The header, when the bytes are one.
    pub(super) fn read(bytes: &[u8], crc: u32) -> Option<Self> {
        if crc32c::crc32c(bytes) != crc {
            return None;
        }
        let mut offset = PREFIX + bytes.len();
        let mut bytes = Bytes(bytes);
        if bytes.byte()? != VERSION {
            return None;
        }
        let kind = [Kind::Samples, Kind::Slots].get(usize::from(bytes.byte()?)).copied()?;
        let begin_ms = unzigzag(bytes.varint()?);
        let mut header = Self { kind, begin_ms, shared: Vec::new(), entries: Vec::new() };
        for _ in 0..bytes.length()? {
            let count = bytes.length()?;
            let place = place(&mut bytes, &mut offset)?;
            header.shared.push(Shared { count, place });
        }
        for _ in 0..bytes.length()? {
            let index = u8::try_from(bytes.varint()?).ok()?;
            let (scale, shared, count) = (bytes.byte()?, bytes.length()?, bytes.length()?);
            let period_ms = i64::try_from(bytes.varint()?).ok()?;
            let place = place(&mut bytes, &mut offset)?;
            let digest = match kind {
                Kind::Samples => digest(&mut bytes, begin_ms)?,
                Kind::Slots => Sum::default(),
            };
            header.entries.push(Entry { index, scale, shared, count, period_ms, place, digest });
        }
        Some(header)
    }

    /// The entry of a series.
    pub(super) fn entry(&self, index: u8) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.index == index)
    }
}

impl Place {
    /// Whether these are the bytes that were written here.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length && crc32c::crc32c(bytes) == self.crc
    }
}

fn place(bytes: &mut Bytes<'_>, offset: &mut usize) -> Option<Place> {
    let length = bytes.length()?;
    let crc = u32::from_le_bytes(bytes.array()?);
    let place = Place { offset: *offset, length, crc };
    *offset = offset.checked_add(length)?;
    Some(place)
}

fn digest(bytes: &mut Bytes<'_>, begin_ms: i64) -> Option<Sum> {
    let count = bytes.varint()?;
    let known_ms = i64::try_from(bytes.varint()?).ok()?;
    if count == 0 {
        return Some(Sum { known_ms, ..Sum::default() });
    }
    let last_at = begin_ms.checked_add(unzigzag(bytes.varint()?))?;
    let mut number = || bytes.array().map(f64::from_le_bytes);
    let (least, greatest, last, integral) = (number()?, number()?, number()?, number()?);
    Some(Sum { count, known_ms, least, greatest, integral, last, last_at })
}
