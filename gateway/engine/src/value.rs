//! What a machine says, and why it says nothing: absence is a value with a reason.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A value in the canonical unit of its item. A [`Value::Number`] is always finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A contact, a coil, a bit.
    Flag(bool),
    /// A measured quantity; never NaN, never infinite.
    Number(f64),
    /// A word or sentence of the machine's own, verbatim.
    Text(Arc<str>),
}

impl Value {
    /// The number, if this is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Flag(_) | Self::Text(_) => None,
        }
    }

    /// The flag, if this is one.
    pub fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            Self::Number(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{}", if *flag { "on" } else { "off" }),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Why there is no value. The words go over the wire and the codes into stores that know only
/// numbers; both are frozen: add, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// Nothing has been heard since the start.
    NotYet = 1,
    /// The device did not answer within its deadline.
    Timeout = 2,
    /// The port or connection is gone.
    Disconnected = 3,
    /// The device answered that it will not (a Modbus exception).
    Refused = 4,
    /// The answer was not one: wrong unit, function, length, echo or checksum.
    Garbled = 5,
    /// The device said "no value" in its own way (a sentinel, NaN).
    Sentinel = 6,
    /// Outside what the quantity can be.
    OutOfRange = 7,
    /// Changed faster than the quantity can.
    TooFast = 8,
    /// Older than its source promises.
    Stale = 9,
    /// Two sources contradict each other.
    Conflict = 10,
    /// A counter went back or leapt; waiting for a second reading before believing it.
    Unconfirmed = 11,
}

impl Unavailable {
    /// Every reason, in the order of its code.
    pub const ALL: [Self; 11] = [
        Self::NotYet,
        Self::Timeout,
        Self::Disconnected,
        Self::Refused,
        Self::Garbled,
        Self::Sentinel,
        Self::OutOfRange,
        Self::TooFast,
        Self::Stale,
        Self::Conflict,
        Self::Unconfirmed,
    ];

    /// The code for stores that know only numbers; 1 and up, frozen.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The word on the wire, as serde writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Garbled => "garbled",
            Self::Sentinel => "sentinel",
            Self::OutOfRange => "out_of_range",
            Self::TooFast => "too_fast",
            Self::Stale => "stale",
            Self::Conflict => "conflict",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A value or the reason for its absence: what every reading and observation carries.
pub type Measured = Result<Value, Unavailable>;
