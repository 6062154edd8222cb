//! What can go wrong with a device or its line: as it is typed, and as it changes a reply.
//!
//! Pure: chance comes in as a number, and time is the conversation's. Several faults of a unit act
//! together, in the order in which they were given.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use andon_adapters::modbus::Table;

use super::device::{ILLEGAL_ADDRESS, WRITE_COIL, WRITE_COILS};
use super::frame::Request;

/// Longest lateness that can be asked for, in milliseconds.
const LATE_MS_MAX: u64 = 60_000;
/// Most noise before a reply, in bytes.
const NOISE_MAX: usize = 256;

/// A fault of one unit, or of all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// No reply at all; requests have no effect either.
    Silence,
    /// The reply comes this much later, once.
    Late(Duration),
    /// Writes echo another coil and the opposite value, and switch nothing.
    Echo,
    /// Writes are echoed rightly and switch nothing.
    StuckCoil,
    /// Replies carry the unit id one higher.
    Unit,
    /// Replies carry another function.
    Function,
    /// One register (eight bits) less than asked for, with a byte count to match.
    Short,
    /// A byte count of two more than there are.
    ByteCount,
    /// A wrong checksum; without effect on Modbus TCP, which has none.
    Crc,
    /// Only the first half of the reply's bytes.
    Cut,
    /// Every read that touches these addresses is refused with exception 2.
    Hole {
        /// Where.
        table: Table,
        /// The first address.
        start: u16,
        /// How many.
        count: u16,
    },
    /// Everything is answered with this exception and has no effect.
    Exception(u8),
    /// So many random bytes before each reply.
    Noise(usize),
    /// An item is NaN, all bits set where it is no float.
    Nan(String),
    /// An item, or every one, holds the device's own "no value".
    Sentinel(Option<String>),
    /// So many of a hundred requests are lost.
    Drop(u8),
}

/// What was typed is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; a fault is one of: silence, late ms=N, echo, stuck-coil, unit, function, short, \
     bytecount, crc, cut, hole start=N count=N [table=input], exception code=N, noise bytes=N, \
     nan item=NAME, sentinel [item=NAME], drop percent=N"
)]
pub struct NoFault(String);

/// The `key=value` words behind a kind.
struct Pairs<'a> {
    kind: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Pairs<'a> {
    fn parse(text: &'a str) -> Result<Self, NoFault> {
        let mut words = text.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let pair = |word: &'a str| {
            word.split_once('=').ok_or_else(|| NoFault(format!("\"{word}\" is no key=value")))
        };
        Ok(Self { kind, pairs: words.map(pair).collect::<Result<_, _>>()? })
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let position = self.pairs.iter().position(|(name, _)| *name == key)?;
        Some(self.pairs.remove(position).1)
    }

    fn need(&mut self, key: &str) -> Result<&'a str, NoFault> {
        self.take(key).ok_or_else(|| NoFault(format!("{} needs {key}=…", self.kind)))
    }

    fn number<T>(&mut self, key: &str, least: T, most: T) -> Result<T, NoFault>
    where
        T: TryFrom<u64> + PartialOrd + Copy + fmt::Display,
    {
        let text = self.need(key)?;
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| NoFault(format!("{key}={text} is no number from {least} to {most}")))
    }
}

impl FromStr for Fault {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        match Self::parse(text)? {
            (fault, None) => Ok(fault),
            (_, Some(_)) => Err(NoFault("a unit does not belong here".to_owned())),
        }
    }
}

impl Fault {
    /// Parses `KIND key=value …`, with `unit=N` among the keys for one unit only.
    ///
    /// # Errors
    /// When there is no such fault, or it lacks a key, or has one too many.
    pub fn parse(text: &str) -> Result<(Self, Option<u8>), NoFault> {
        let mut pairs = Pairs::parse(text)?;
        let unit = match pairs.pairs.iter().any(|(key, _)| *key == "unit") {
            true => Some(pairs.number("unit", 0, u8::MAX)?),
            false => None,
        };
        let fault = Self::of(&mut pairs)?;
        match pairs.pairs.first() {
            Some((key, _)) => Err(NoFault(format!("{} has no {key}", pairs.kind))),
            None => Ok((fault, unit)),
        }
    }

    fn of(pairs: &mut Pairs<'_>) -> Result<Self, NoFault> {
        Ok(match pairs.kind {
            "silence" => Self::Silence,
            "late" => Self::Late(Duration::from_millis(pairs.number("ms", 0, LATE_MS_MAX)?)),
            "echo" => Self::Echo,
            "stuck-coil" => Self::StuckCoil,
            "unit" => Self::Unit,
            "function" => Self::Function,
            "short" => Self::Short,
            "bytecount" => Self::ByteCount,
            "crc" => Self::Crc,
            "cut" => Self::Cut,
            "hole" => {
                let name = pairs.take("table").unwrap_or("input");
                let table = Table::ALL.into_iter().find(|table| table.word() == name);
                let table = table.ok_or_else(|| NoFault(format!("\"{name}\" is no table")))?;
                let start = pairs.number("start", 0, u16::MAX)?;
                Self::Hole { table, start, count: pairs.number("count", 1, u16::MAX)? }
            }
            "exception" => Self::Exception(pairs.number("code", 1, u8::MAX)?),
            "noise" => Self::Noise(pairs.number("bytes", 1, NOISE_MAX)?),
            "nan" => Self::Nan(pairs.need("item")?.to_owned()),
            "sentinel" => Self::Sentinel(pairs.take("item").map(str::to_owned)),
            "drop" => Self::Drop(pairs.number("percent", 0, 100)?),
            other => return Err(NoFault(format!("\"{other}\" is no fault"))),
        })
    }

    /// The item that it is about.
    pub(super) fn item(&self) -> Option<&str> {
        match self {
            Self::Nan(item) | Self::Sentinel(Some(item)) => Some(item),
            _ => None,
        }
    }

    /// Whether the request is lost before it has any effect. `chance` is a number below 100.
    pub(super) fn loses(&self, chance: u8) -> bool {
        match self {
            Self::Silence => true,
            Self::Drop(percent) => chance < *percent,
            _ => false,
        }
    }

    /// The exception with which the request is refused before it has any effect.
    pub(super) fn refuses(&self, request: &Request) -> Option<u8> {
        match self {
            Self::Exception(code) => Some(*code),
            Self::Hole { table, start, count } => {
                let (first, asked) = request.numbers()?;
                let ends = |start: u16, count: u16| u32::from(start) + u32::from(count);
                let touches = request.pdu.first().copied() == table.read_function()
                    && u32::from(first) < ends(*start, *count)
                    && u32::from(*start) < ends(first, asked);
                touches.then_some(ILLEGAL_ADDRESS)
            }
            _ => None,
        }
    }

    /// Whether coils stay as they are whatever is written.
    pub(super) const fn holds_coils(&self) -> bool {
        matches!(self, Self::Echo | Self::StuckCoil)
    }

    /// Changes unit and PDU of an honest reply.
    pub(super) fn twist(&self, unit: &mut u8, reply: &mut Vec<u8>) {
        let Some(&function) = reply.first() else { return };
        let read = (1..=4).contains(&function);
        match self {
            Self::Unit => *unit = unit.checked_add(1).unwrap_or(1),
            Self::Function => reply[0] = if function == 3 { 4 } else { 3 },
            Self::Echo if matches!(function, WRITE_COIL | WRITE_COILS) && reply.len() == 5 => {
                reply[2] = reply[2].wrapping_add(1);
                if function == WRITE_COIL {
                    reply[3] = !reply[3];
                }
            }
            Self::Short if read && reply.len() > 2 => {
                let less = if function >= 3 { 2 } else { 1 };
                reply.truncate((reply.len() - less).max(2));
                reply[1] = reply[1].saturating_sub(less as u8);
            }
            Self::ByteCount if read && reply.len() > 1 => reply[1] = reply[1].wrapping_add(2),
            _ => {}
        }
    }

    /// Changes the bytes of a reply on the wire. `noise` gives random bytes.
    pub(super) fn garble(&self, serial: bool, bytes: &mut Vec<u8>, noise: impl FnMut() -> u8) {
        match self {
            Self::Crc if serial => {
                if let Some(last) = bytes.last_mut() {
                    *last = !*last;
                }
            }
            Self::Cut => bytes.truncate(bytes.len() / 2),
            Self::Noise(count) => {
                bytes.splice(..0, std::iter::repeat_with(noise).take(*count));
            }
            _ => {}
        }
    }
}

impl fmt::Display for Fault {
    /// As it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("silence"),
            Self::Late(by) => write!(f, "late ms={}", by.as_millis()),
            Self::Echo => f.write_str("echo"),
            Self::StuckCoil => f.write_str("stuck-coil"),
            Self::Unit => f.write_str("unit"),
            Self::Function => f.write_str("function"),
            Self::Short => f.write_str("short"),
            Self::ByteCount => f.write_str("bytecount"),
            Self::Crc => f.write_str("crc"),
            Self::Cut => f.write_str("cut"),
            Self::Hole { table, start, count } => {
                write!(f, "hole table={table} start={start} count={count}")
            }
            Self::Exception(code) => write!(f, "exception code={code}"),
            Self::Noise(bytes) => write!(f, "noise bytes={bytes}"),
            Self::Nan(item) => write!(f, "nan item={item}"),
            Self::Sentinel(None) => f.write_str("sentinel"),
            Self::Sentinel(Some(item)) => write!(f, "sentinel item={item}"),
            Self::Drop(percent) => write!(f, "drop percent={percent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_as_it_is_typed() {
        for text in [
            "silence",
            "late ms=300",
            "echo",
            "stuck-coil",
            "unit",
            "function",
            "short",
            "bytecount",
            "crc",
            "cut",
            "hole table=holding start=17 count=2",
            "exception code=11",
            "noise bytes=5",
            "nan item=power.active",
            "sentinel",
            "sentinel item=humidity",
            "drop percent=40",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
            let of_three = Fault::parse(&format!("{text} unit=3")).unwrap();
            assert_eq!((of_three.0.to_string().as_str(), of_three.1), (text, Some(3)));
        }
        let hole = Fault::Hole { table: Table::Input, start: 12, count: 2 };
        assert_eq!("hole start=0x0C count=2".parse(), Ok(hole));
    }

    #[test]
    fn what_is_no_fault_is_told_with_what_is_one() {
        for (text, why) in [
            ("", "\"\" is no fault"),
            ("late", "late needs ms=…"),
            ("late ms=x", "ms=x is no number from 0 to 60000"),
            ("late ms=60001", "ms=60001 is no number from 0 to 60000"),
            ("late 300", "\"300\" is no key=value"),
            ("echo ms=3", "echo has no ms"),
            ("noise bytes=257", "bytes=257 is no number from 1 to 256"),
            ("drop percent=101", "percent=101 is no number from 0 to 100"),
            ("hole start=1 count=1 table=coils", "\"coils\" is no table"),
            ("silence unit=256", "unit=256 is no number from 0 to 255"),
        ] {
            let told = Fault::parse(text).unwrap_err().to_string();
            assert!(told.starts_with(why) && told.contains("stuck-coil"), "{text}: {told}");
        }
    }
}
