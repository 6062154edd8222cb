//! The wire: andon's MQTT topics and JSON payloads, and the only place that knows them.
//!
//! Payloads carry `v`; a field may be added, never renamed or given another meaning. Reading is
//! strict about types and tolerant of fields that are newer than the reader. Released examples
//! are frozen in `tests/wire`. Nothing here opens a socket or reads a clock.
//!
//! Topics, below `andon/v1/<site>/`:
//! `<machine>/birth` (retained) · `<machine>/observation` · `<machine>/state` (retained) ·
//! `<machine>/alarm/<id>` (retained) · `<machine>/event` · `_gateway/event` (of no machine) ·
//! `_gateway/status` (retained, last will) · `_gateway/stored/<recorder>` (retained).

mod facts;
mod messages;
mod ranges;

pub use facts::{Alarm, Birth, BirthItem, BusHealth, State, Status, UnitHealth};
pub use messages::{ClockState, EventMessage, Header, Items, ObservationMessage, header, moment};
pub use ranges::{BOOTS_MAX, RANGES_MAX, Ranges, Stored, StoredBoot};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of every payload.
pub const VERSION: u8 = 1;
/// Longest payload that is read or written, in bytes: a machine with every item of the closed
/// list and long texts stays far below.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Most items in one observation or birth.
pub const ITEMS_MAX: usize = 1024;
/// Longest id (site, machine, alarm, recorder) and item name, in bytes.
pub const NAME_MAX: usize = 128;
/// The level in the machine's place for what concerns the gateway itself.
pub const GATEWAY: &str = "_gateway";

/// Why a payload is not read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Larger than [`PAYLOAD_MAX`] or with more parts than the bounds allow.
    #[error("{0} is more than andon's payloads have")]
    TooLarge(&'static str),
    /// A version that this reader does not know.
    #[error("version {0} of the payload is not known")]
    Version(u64),
    /// Not JSON, or a field of the wrong type.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// Well-formed, but a number contradicts another: `seq` not above `prev`, say.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A topic of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic<'a> {
    /// What a machine has (retained).
    Birth(&'a str),
    /// Measured values of a machine.
    Observation(&'a str),
    /// What a machine is doing (retained).
    State(&'a str),
    /// One alarm of a machine (retained): machine, alarm.
    Alarm(&'a str, &'a str),
    /// What happened at a machine, or `_gateway`.
    Event(&'a str),
    /// Whether the gateway is there (retained; last will).
    Status,
    /// What a recorder's store has committed (retained).
    Stored(&'a str),
}

impl<'a> Topic<'a> {
    /// The whole topic at a site.
    pub fn at(self, site: &str) -> String {
        match self {
            Self::Birth(machine) => format!("andon/v1/{site}/{machine}/birth"),
            Self::Observation(machine) => format!("andon/v1/{site}/{machine}/observation"),
            Self::State(machine) => format!("andon/v1/{site}/{machine}/state"),
            Self::Alarm(machine, id) => format!("andon/v1/{site}/{machine}/alarm/{id}"),
            Self::Event(machine) => format!("andon/v1/{site}/{machine}/event"),
            Self::Status => format!("andon/v1/{site}/{GATEWAY}/status"),
            Self::Stored(recorder) => format!("andon/v1/{site}/{GATEWAY}/stored/{recorder}"),
        }
    }

    /// The site and the topic of a full name; `None` for every name that is not andon's.
    pub fn parse(name: &'a str) -> Option<(&'a str, Self)> {
        let mut levels = name.strip_prefix("andon/v1/")?.split('/');
        let (site, subject, verb) = (levels.next()?, levels.next()?, levels.next()?);
        let rest = levels.next();
        if levels.next().is_some() || ![site, subject, verb].iter().all(|level| is_name(level)) {
            return None;
        }
        let topic = match (subject, verb, rest) {
            (GATEWAY, "status", None) => Self::Status,
            (GATEWAY, "stored", Some(recorder)) if is_name(recorder) => Self::Stored(recorder),
            (_, "event", None) => Self::Event(subject),
            (GATEWAY, ..) => return None,
            (_, "birth", None) => Self::Birth(subject),
            (_, "observation", None) => Self::Observation(subject),
            (_, "state", None) => Self::State(subject),
            (_, "alarm", Some(id)) if is_name(id) => Self::Alarm(subject, id),
            _ => return None,
        };
        Some((site, topic))
    }
}

/// Whether a text may be one level of a topic: not empty, bounded, no wildcard, no control.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && !text.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control())
}

/// The JSON of a payload.
///
/// Every payload type can be written: its keys are strings and its numbers finite, so a failure
/// would be a programming error; an empty payload is then sent rather than nothing crash.
pub fn encode<T: Serialize>(payload: &T) -> Vec<u8> {
    serde_json::to_vec(payload).unwrap_or_default()
}

/// Reads a payload.
///
/// # Errors
/// [`WireError`] when it is too large, of another version, no JSON or of wrong types.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u64,
    }
    if payload.len() > PAYLOAD_MAX {
        return Err(WireError::TooLarge("the payload"));
    }
    let Versioned { v } = serde_json::from_slice(payload)?;
    if v != u64::from(VERSION) {
        return Err(WireError::Version(v));
    }
    Ok(serde_json::from_slice(payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_read_back_as_written() {
        for topic in [
            Topic::Birth("laser"),
            Topic::Observation("laser"),
            Topic::State("laser"),
            Topic::Alarm("laser", "laser-hot"),
            Topic::Event("laser"),
            Topic::Event(GATEWAY),
            Topic::Status,
            Topic::Stored("main"),
        ] {
            let name = topic.at("chaihuo");
            assert_eq!(Topic::parse(&name), Some(("chaihuo", topic)), "{name}");
        }
    }

    #[test]
    fn foreign_topics_are_none() {
        for name in [
            "",
            "andon/v1",
            "andon/v1/s/m",
            "andon/v2/s/m/state",
            "andon/v1//m/state",
            "andon/v1/s/m/state/more",
            "andon/v1/s/m/alarm",
            "andon/v1/s/m/alarm/a/b",
            "andon/v1/s/_gateway/stored",
            "andon/v1/s/_gateway/observation",
            "andon/v1/s/+/state",
            "zigbee2mqtt/s/m/state",
        ] {
            assert_eq!(Topic::parse(name), None, "{name}");
        }
    }
}
