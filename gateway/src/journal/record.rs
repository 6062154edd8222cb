//! What the journal keeps: the vocabulary shared by its writer, its readers and the wire.
//!
//! Nothing here touches a disk. The bytes of these types on disk are the business of
//! [`super::block`]; their JSON on the wire that of `crate::wire`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::value::Measured;
use serde::{Deserialize, Serialize};

/// The identity of one boot of the computer, as `/proc/sys/kernel/random/boot_id` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct BootId(pub [u8; 16]);

/// The text is not a boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct NotABootId;

impl BootId {
    /// Hands its text on; every message begins with it, so it is made without formatting.
    fn with_text<T>(&self, then: impl FnOnce(&str) -> T) -> T {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
        let nibbles = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        for (place, nibble) in places.zip(nibbles) {
            text[place] = DIGITS[usize::from(nibble)];
        }
        then(std::str::from_utf8(&text).expect("invariant: digits and hyphens"))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl Serialize for BootId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl FromStr for BootId {
    type Err = NotABootId;

    fn from_str(text: &str) -> Result<Self, NotABootId> {
        let mut id = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut id {
            let mut nibble = || {
                let digit = char::from(digits.next()?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            let (high, low) = nibble().zip(nibble()).ok_or(NotABootId)?;
            *byte = high << 4 | low;
        }
        // Comparing with what we would write refuses odd groupings and trailing digits at once.
        let id = Self(id);
        if id.to_string().eq_ignore_ascii_case(text) { Ok(id) } else { Err(NotABootId) }
    }
}

impl TryFrom<String> for BootId {
    type Error = NotABootId;

    fn try_from(text: String) -> Result<Self, NotABootId> {
        text.parse()
    }
}

/// The two streams of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Observations: bounded, recycled oldest first.
    Telemetry = 0,
    /// Events: synced at once, never recycled.
    Events = 1,
}

impl Stream {
    /// Both streams.
    pub const ALL: [Self; 2] = [Self::Telemetry, Self::Events];

    /// Its folder, and its word in file names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Events => "events",
        }
    }
}

/// What was measured at one machine at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The machine's id.
    pub machine: Arc<str>,
    /// When, in the boot of the record.
    pub at: BootTime,
    /// Canonical item names with their values, or why there is none.
    pub items: Vec<(Arc<str>, Measured)>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// For the telemetry stream.
    Observation(Observation),
    /// For the events stream.
    Event(Event),
}

impl Payload {
    /// The stream that it belongs to.
    pub const fn stream(&self) -> Stream {
        match self {
            Self::Observation(_) => Stream::Telemetry,
            Self::Event(_) => Stream::Events,
        }
    }
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The boot in which it was written.
    pub boot: BootId,
    /// Its number in that boot and stream, from 1; never used twice.
    pub seq: u64,
    /// The number of the readable record before it in that boot and stream, 0 when there is
    /// none: this record accounts for everything in `(prev, seq]`.
    pub prev: u64,
    /// What it holds.
    pub payload: Payload,
}

impl Record {
    /// Where it stands.
    pub const fn position(&self) -> Position {
        Position { boot: self.boot, seq: self.seq }
    }
}

/// A place in a stream: that of the record with this boot and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The boot.
    pub boot: BootId,
    /// The sequence number.
    pub seq: u64,
}

/// What happened to records since the journal was opened. Part of the shape of a snapshot
/// ([`crate::diagnostics::Journal`]): released fields keep their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records written.
    pub written: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Telemetry records that never reached the disk: the queue was full.
    pub dropped: u64,
    /// Events that never reached the disk: the queue was full. A person must know.
    pub events_dropped: u64,
    /// Telemetry records recycled before every registered consumer had them.
    pub recycled_unread: u64,
    /// Blocks that could not be read to their end, and whole segments that could not be read.
    pub quarantined: u64,
    /// Times that a follower's place was gone and it went on at the oldest record.
    pub gaps: u64,
    /// Failed writes, syncs, reads and creations of segments.
    pub failures: u64,
    /// What failed last, while nothing has succeeded since.
    pub failing: Option<String>,
}
