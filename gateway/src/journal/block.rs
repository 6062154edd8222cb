//! One block: a header and record frames that decode without any other block.
//!
//! [`Encoder`] turns payloads into frames, [`Decoder`] frames into payloads; neither touches a
//! file. Both hold the same state after the same frames, which is dropped with the block. The
//! layout is specified in the documentation of [`super`].

use std::collections::HashMap;
use std::sync::Arc;

use andon_engine::time::BootTime;
use crc32c::{crc32c, crc32c_append};

use super::bytes::{Bytes, VARINT_MAX, put_varint, zigzag};
use super::record::{BootId, Observation, Payload, Stream};
use super::shape::{Catalogue, Shape};

/// Opens a block. Its first bytes are no frame length, and 0xFF occurs in no UTF-8 text.
pub(super) const MARK: [u8; 16] = *b"\xff\xff\xff\xff\xffANDON-BLK\n\xfe";
/// The version of the format that this code writes, and the only one that it reads.
const VERSION: u8 = 1;
/// Longest frame: a record that needs more is refused. Bounds what a reader buffers.
pub(super) const FRAME_MAX: usize = 256 * 1024;
/// Bytes around a payload in its frame, at most: length and checksum.
pub(super) const FRAME_OVERHEAD: usize = VARINT_MAX + 4;
/// Mark and header frame, at most.
pub(super) const HEADER_MAX: usize = 128;
/// Different lists of items in a block; then a new one begins. Bounds what both sides keep.
const SHAPES_MAX: usize = 4096;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) boot: BootId,
    pub(super) stream: Stream,
    /// Its number in the segment, from 0.
    pub(super) number: u64,
    /// The sequence number of its first record; the others follow without gap.
    pub(super) first_seq: u64,
    /// What the first moments are steps from.
    pub(super) base: BootTime,
}

/// Appends a frame around `payload`.
fn put_frame(out: &mut Vec<u8>, seed: u32, payload: &[u8]) {
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(&crc32c_append(seed, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// They may become one with more bytes after them.
    Short,
    /// They never will.
    Broken,
}

/// The frame at the beginning of `bytes`: its payload and its whole length.
fn take_frame(bytes: &[u8], seed: u32) -> Result<(&[u8], usize), NoFrame> {
    let mut rest = Bytes(bytes);
    let Some(length) = rest.length() else {
        return Err(if bytes.len() < VARINT_MAX { NoFrame::Short } else { NoFrame::Broken });
    };
    if length == 0 || length > FRAME_MAX {
        return Err(NoFrame::Broken);
    }
    let sum = rest.array().map(u32::from_le_bytes).ok_or(NoFrame::Short)?;
    let payload = rest.take(length).ok_or(NoFrame::Short)?;
    if crc32c_append(seed, payload) != sum {
        return Err(NoFrame::Broken);
    }
    Ok((payload, bytes.len() - rest.0.len()))
}

/// Writes one block.
#[derive(Debug)]
pub(super) struct Encoder {
    header: Header,
    seed: u32,
    positions: HashMap<Arc<str>, u32>,
    strings: Vec<Arc<str>>,
    catalogue: Catalogue,
    shapes: Vec<Shape>,
    /// Positions of a machine's shapes.
    known: HashMap<Arc<str>, Vec<usize>>,
    payload: Vec<u8>,
    /// Bytes of records that define a shape.
    defining: u64,
}

impl Encoder {
    /// Begins a block by appending its mark and header to `out`.
    pub(super) fn begin(header: Header, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&MARK);
        let mut payload = vec![VERSION, header.stream as u8];
        payload.extend_from_slice(&header.boot.0);
        put_varint(&mut payload, header.number);
        put_varint(&mut payload, header.first_seq);
        put_varint(&mut payload, header.base.0);
        put_frame(out, 0, &payload);
        Self {
            header,
            seed: crc32c(&payload),
            positions: HashMap::new(),
            strings: Vec::new(),
            catalogue: Catalogue::default(),
            shapes: Vec::new(),
            known: HashMap::new(),
            payload,
            defining: 0,
        }
    }

    /// Whether the block has grown all the state that it may.
    pub(super) const fn is_full(&self) -> bool {
        self.shapes.len() >= SHAPES_MAX
    }

    /// Bytes of the records that define what the others only name.
    pub(super) const fn defining(&self) -> u64 {
        self.defining
    }

    /// Since when it is open.
    pub(super) const fn base(&self) -> BootTime {
        self.header.base
    }

    /// Appends the frame of the next observation to `out`.
    pub(super) fn observation(&mut self, observation: &Observation, out: &mut Vec<u8>) {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let shapes = self.shapes.len();
        let position = self.shape_of(observation, &mut payload);
        let shape = &mut self.shapes[position];
        put_varint(&mut payload, zigzag(shape.advance(observation.at.0)));
        for (at, (_, value)) in observation.items.iter().enumerate() {
            self.catalogue.series[shape.series.of(at)].encode(value, &mut payload);
        }
        if self.shapes.len() > shapes {
            self.defining += payload.len() as u64;
        }
        put_frame(out, self.seed, &payload);
        self.payload = payload;
    }

    /// Appends the frame of the next event, already JSON.
    pub(super) fn event(&self, json: &[u8], out: &mut Vec<u8>) {
        put_frame(out, self.seed, json);
    }

    /// Writes which shape follows, with its definition when it is new.
    fn shape_of(&mut self, observation: &Observation, payload: &mut Vec<u8>) -> usize {
        let alike = |shape: &Shape| {
            shape.items.len() == observation.items.len()
                && shape.items.iter().zip(&observation.items).all(|(a, (b, _))| a == b)
        };
        if let Some(known) = self.known.get(&observation.machine)
            && let Some(position) = known.iter().rev().find(|known| alike(&self.shapes[**known]))
        {
            put_varint(payload, *position as u64);
            return *position;
        }
        let position = self.shapes.len();
        self.known.entry(Arc::clone(&observation.machine)).or_default().push(position);
        put_varint(payload, position as u64);
        let machine = self.put_string(&observation.machine, payload);
        put_varint(payload, observation.items.len() as u64);
        let alike = |shape: &Shape| {
            shape.items.len() == observation.items.len()
                && shape.items.iter().zip(&observation.items).all(|(a, (b, _))| Arc::ptr_eq(a, b))
        };
        let items = if self.shapes.last().is_some_and(alike) {
            // The list of the machine before: its strings are known, and where they are.
            let items = self.catalogue.last.positions.to_vec();
            items.iter().for_each(|item| put_varint(payload, u64::from(*item)));
            items
        } else {
            observation.items.iter().map(|(item, _)| self.put_string(item, payload)).collect()
        };
        let strings = &self.strings;
        let name = |position: u32| strings.get(position as usize).map(Arc::clone);
        let shape = self.catalogue.shape((machine, &items), self.header.base, name);
        self.shapes.extend(shape);
        position
    }

    fn put_string(&mut self, string: &Arc<str>, payload: &mut Vec<u8>) -> u32 {
        if let Some(position) = self.positions.get(string) {
            put_varint(payload, u64::from(*position));
            return *position;
        }
        let next = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        self.positions.insert(Arc::clone(string), next);
        self.strings.push(Arc::clone(string));
        put_varint(payload, u64::from(next));
        put_varint(payload, string.len() as u64);
        payload.extend_from_slice(string.as_bytes());
        next
    }
}

/// Reads one block.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) header: Header,
    seed: u32,
    next_seq: u64,
    strings: Vec<Arc<str>>,
    catalogue: Catalogue,
    shapes: Vec<Shape>,
}

impl Decoder {
    /// Reads mark and header at the beginning of `bytes`; returns how many bytes they take.
    pub(super) fn begin(bytes: &[u8]) -> Result<(Self, usize), NoFrame> {
        let Some(frame) = bytes.strip_prefix(&MARK) else {
            let cut = MARK.starts_with(bytes);
            return Err(if cut { NoFrame::Short } else { NoFrame::Broken });
        };
        let (payload, length) = take_frame(frame, 0)?;
        let header = Self::header(&mut Bytes(payload)).ok_or(NoFrame::Broken)?;
        let decoder = Self {
            header,
            seed: crc32c(payload),
            next_seq: header.first_seq,
            strings: Vec::new(),
            catalogue: Catalogue::default(),
            shapes: Vec::new(),
        };
        Ok((decoder, MARK.len() + length))
    }

    fn header(bytes: &mut Bytes<'_>) -> Option<Header> {
        if bytes.byte()? != VERSION {
            return None;
        }
        let stream = bytes.byte()?;
        Some(Header {
            stream: Stream::ALL.into_iter().find(|known| *known as u8 == stream)?,
            boot: BootId(bytes.array()?),
            number: bytes.varint()?,
            first_seq: bytes.varint()?,
            base: BootTime(bytes.varint()?),
        })
    }

    /// The record whose frame is at the beginning of `bytes`: its number, what it holds and how
    /// many bytes it takes.
    pub(super) fn record(&mut self, bytes: &[u8]) -> Result<(u64, Payload, usize), NoFrame> {
        let (payload, length) = take_frame(bytes, self.seed)?;
        let payload = match self.header.stream {
            Stream::Telemetry => self.observation(&mut Bytes(payload)).map(Payload::Observation),
            Stream::Events => serde_json::from_slice(payload).ok().map(Payload::Event),
        }
        .ok_or(NoFrame::Broken)?;
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).ok_or(NoFrame::Broken)?;
        Ok((seq, payload, length))
    }

    /// Goes over a record whose frame checks without reading what it holds: how many bytes it
    /// takes. After this the block's records can only be gone over.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<usize, NoFrame> {
        let (_, length) = take_frame(bytes, self.seed)?;
        self.next_seq = self.next_seq.checked_add(1).ok_or(NoFrame::Broken)?;
        Ok(length)
    }

    fn observation(&mut self, bytes: &mut Bytes<'_>) -> Option<Observation> {
        let position = bytes.length()?;
        if position == self.shapes.len() && position < SHAPES_MAX {
            let shape = self.define(bytes)?;
            self.shapes.push(shape);
        }
        let shape = self.shapes.get_mut(position)?;
        let at = BootTime(shape.follow(bytes.signed()?));
        let mut items = Vec::with_capacity(shape.items.len());
        for (at, item) in shape.items.iter().enumerate() {
            let series = self.catalogue.series.get_mut(shape.series.of(at))?;
            items.push((Arc::clone(item), series.decode(bytes)?));
        }
        bytes.0.is_empty().then(|| Observation { machine: Arc::clone(&shape.machine), at, items })
    }

    fn define(&mut self, bytes: &mut Bytes<'_>) -> Option<Shape> {
        let machine = self.string(bytes)?;
        let count = bytes.length()?;
        // Each item takes a byte here: a count beyond them is a lie, not a reason to allocate.
        if count > bytes.0.len() {
            return None;
        }
        let items = (0..count).map(|_| self.string(bytes)).collect::<Option<Vec<_>>>()?;
        let strings = &self.strings;
        let name = |position: u32| strings.get(position as usize).map(Arc::clone);
        self.catalogue.shape((machine, &items), self.header.base, name)
    }

    /// The position of the string that follows, which may be new.
    fn string(&mut self, bytes: &mut Bytes<'_>) -> Option<u32> {
        let index = bytes.length()?;
        if index == self.strings.len() {
            let length = bytes.length()?;
            self.strings.push(std::str::from_utf8(bytes.take(length)?).ok()?.into());
        }
        u32::try_from(index).ok().filter(|_| index < self.strings.len())
    }
}

/// The most bytes that the payload of this observation's frame can take.
pub(super) fn bound(observation: &Observation) -> usize {
    let names = observation.items.iter().map(|(item, value)| {
        let text = match value {
            Ok(andon_engine::value::Value::Text(text)) => text.len(),
            Ok(_) | Err(_) => 0,
        };
        item.len() + text + 4 * VARINT_MAX
    });
    observation.machine.len() + 6 * VARINT_MAX + names.sum::<usize>()
}
