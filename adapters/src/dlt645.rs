//! DL/T 645, the serial protocol of Chinese electricity meters, in its editions of 1997 and 2007:
//! frames and what they mean. It shares RS-485 lines with Modbus.
//!
//! A frame is `68 A0…A5 68 C L DATA CS 16`, after up to four `FE` that wake the meter: the address
//! is twelve decimal digits, lowest pair first; every byte of DATA goes out 33h higher; CS is the
//! sum of all bytes from the first 68h. A read names a data identifier, lowest byte first, and the
//! answer repeats it before the value (DL/T 645-2007 §5–7; DL/T 645-1997 §5).
//!
//! It must not believe a length or an echo: [`cut`] finds whole frames in whatever came, [`value`]
//! holds one against the question. Nothing here waits, and nothing here writes to a meter: only
//! the functions that read are built. Bound: [`FRAME_MAX`] bytes of a frame.

use std::fmt;
use std::str::FromStr;

use crate::modbus::{Block, Table};

/// Most bytes of a frame without its preamble: twelve, and 255 of data.
pub const FRAME_MAX: usize = 12 + 255;
/// Sent before a frame to wake the receiver; a meter may do the same.
pub const PREAMBLE: [u8; 4] = [0xFE; 4];
/// What a meter may need before it answers (DL/T 645-2007 §6.2: 20 to 500 ms).
pub const ANSWER_DELAY_MAX: std::time::Duration = std::time::Duration::from_millis(500);

const START: u8 = 0x68;
const END: u8 = 0x16;
const OFFSET: u8 = 0x33;
/// Control code: bits 0 to 4 are the function.
const FUNCTION: u8 = 0x1F;
const FROM_METER: u8 = 0x80;
const REFUSED: u8 = 0x40;
const MORE: u8 = 0x20;
const READ: u8 = 0x11;
const READ_OF_1997: u8 = 0x01;
const READ_ADDRESS: u8 = 0x13;

/// The address of a meter: the twelve digits on its label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 6]);

impl Address {
    /// Whatever meter hears it answers: for a line with one meter only.
    pub const ANY: Self = Self([0xAA; 6]);

    /// From the order of the wire.
    fn from_wire(mut bytes: [u8; 6]) -> Self {
        bytes.reverse();
        Self(bytes)
    }

    fn to_wire(self) -> [u8; 6] {
        let mut bytes = self.0;
        bytes.reverse();
        bytes
    }

    /// Whether it consists of decimal digits, as an address of one meter must.
    pub fn is_decimal(self) -> bool {
        self.0.iter().all(|pair| pair >> 4 <= 9 && pair & 0xF <= 9)
    }

    /// Whether a meter with this address may answer to a question for `asked`.
    fn answers_to(self, asked: Self) -> bool {
        asked.0.iter().zip(self.0).all(|(&asked, own)| asked == 0xAA || asked == own)
    }
}

impl fmt::Display for Address {
    /// The twelve digits of the label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|pair| write!(f, "{pair:02X}"))
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was written is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a meter's address is the twelve digits on its label")]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    /// Twelve digits; nothing is filled in, because a label shows all of them.
    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let digits = text.as_bytes();
        if digits.len() != 12 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(NoAddress);
        }
        let mut pairs = [0; 6];
        for (pair, digits) in pairs.iter_mut().zip(digits.chunks_exact(2)) {
            *pair = (digits[0] - b'0') << 4 | (digits[1] - b'0');
        }
        Ok(Self(pairs))
    }
}

/// A data identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// Of the edition of 1997, two bytes.
    Of1997(u16),
    /// Of the edition of 2007, DI3 to DI0.
    Of2007(u32),
}

impl Identifier {
    /// The identifier that a block of a profile means; `None` for blocks of other protocols.
    pub fn of(block: Block) -> Option<Self> {
        match block.table {
            Table::Identifier(class) => {
                Some(Self::Of2007(u32::from(class) << 16 | u32::from(block.start)))
            }
            Table::Identifier1997 => Some(Self::Of1997(block.start)),
            _ => None,
        }
    }

    const fn function(self) -> u8 {
        match self {
            Self::Of1997(_) => READ_OF_1997,
            Self::Of2007(_) => READ,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Of1997(identifier) => identifier.to_le_bytes().to_vec(),
            Self::Of2007(identifier) => identifier.to_le_bytes().to_vec(),
        }
    }

    /// Bytes of a request, preamble counted.
    pub fn request_bytes(self) -> u32 {
        4 + 12 + self.bytes().len() as u32
    }

    /// Most bytes of an answer with a value of so many words, preamble counted.
    pub fn reply_bytes(self, words: u16) -> u32 {
        self.request_bytes() + 2 * u32::from(words)
    }
}

/// Asks for a value.
pub fn read_request(address: Address, identifier: Identifier) -> Vec<u8> {
    frame(address, identifier.function(), &identifier.bytes())
}

/// Asks whoever hears it for its address (edition of 2007).
pub fn address_request() -> Vec<u8> {
    frame(Address::ANY, READ_ADDRESS, &[])
}

/// A frame with its preamble. Data beyond 255 bytes does not exist in this protocol.
fn frame(address: Address, control: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = PREAMBLE.to_vec();
    frame.extend(wrap(address, control, data));
    frame
}

/// The bytes of a frame without preamble; for simulators, which answer with it.
pub fn wrap(address: Address, control: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![START];
    bytes.extend(address.to_wire());
    bytes.extend([START, control, u8::try_from(data.len()).unwrap_or(u8::MAX)]);
    bytes.extend(data.iter().take(255).map(|byte| byte.wrapping_add(OFFSET)));
    bytes.push(checksum(&bytes));
    bytes.push(END);
    bytes
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

/// A frame as it came, its checksum found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose.
    pub address: Address,
    /// Control code.
    pub control: u8,
    /// Without the offset.
    pub data: Vec<u8>,
}

/// The first whole and sound frame in `bytes` and how many of them it and what came before it
/// take; `None` when there is none yet. Preamble, noise and frames that are not sound are skipped.
pub fn cut(bytes: &[u8]) -> Option<(Frame, usize)> {
    (0..bytes.len()).find_map(|from| {
        let &[START, a0, a1, a2, a3, a4, a5, START, control, length, ..] = &bytes[from..] else {
            return None;
        };
        let end = from + 10 + usize::from(length);
        let (&sum, &last) = (bytes.get(end)?, bytes.get(end + 1)?);
        if last != END || sum != checksum(&bytes[from..end]) {
            return None;
        }
        let data = bytes[from + 10..end].iter().map(|byte| byte.wrapping_sub(OFFSET)).collect();
        let address = Address::from_wire([a0, a1, a2, a3, a4, a5]);
        Some((Frame { address, control, data }, end + 2))
    })
}

/// Why a frame is not the value asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// The meter refuses, with this error byte: bit 1 is "no such data".
    #[error("the meter refuses (error {0:02X}h)")]
    Refused(u8),
    /// It is the answer to another question, of another meter, or not whole.
    #[error("not an answer to this")]
    Other,
}

/// The value in the answer of `address` to a read of `identifier`: its bytes, lowest first.
///
/// # Errors
/// [`NoValue::Refused`] with the meter's error byte; [`NoValue::Other`] when address, control
/// code or identifier are not those of the question, or when the meter says that more frames
/// follow, because then this is only a part.
pub fn value(frame: &Frame, address: Address, identifier: Identifier) -> Result<&[u8], NoValue> {
    let function = frame.control & FUNCTION;
    let answers = frame.control & FROM_METER != 0
        && function == identifier.function()
        && frame.address.answers_to(address);
    if !answers {
        return Err(NoValue::Other);
    }
    if frame.control & REFUSED != 0 {
        return Err(NoValue::Refused(frame.data.first().copied().unwrap_or_default()));
    }
    if frame.control & MORE != 0 {
        return Err(NoValue::Other);
    }
    frame.data.strip_prefix(identifier.bytes().as_slice()).ok_or(NoValue::Other)
}

/// The address in the answer to [`address_request`]; `None` when it is not one.
pub fn told_address(frame: &Frame) -> Option<Address> {
    let bytes = <[u8; 6]>::try_from(frame.data.as_slice()).ok()?;
    let address = Address::from_wire(bytes);
    (frame.control == FROM_METER | READ_ADDRESS && address.is_decimal()).then_some(address)
}

/// The bytes of a value as words, highest first, as profiles describe them. The first byte of the
/// words of an odd number of bytes is zero.
pub fn words(value: &[u8]) -> Vec<u16> {
    let odd = (value.len() % 2 == 1).then_some(0);
    let bytes: Vec<u8> = odd.into_iter().chain(value.iter().rev().copied()).collect();
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests;
