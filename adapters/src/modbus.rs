//! Modbus as arithmetic: which blocks to read for the items that are wanted, and what the words
//! of a reply mean. Framing, timing, retries and ports belong to the gateway's bus.
//!
//! It must not believe a reply's length: [`decode`] answers [`Unavailable::Garbled`] for words
//! that do not fill the block exactly, and panics for none. Addresses are those of the PDU,
//! 0-based. Limits are from the Modbus Application Protocol Specification V1.1b3, §6.1–6.4.

use std::fmt;
use std::ops::Range;

use andon_engine::value::{Measured, Unavailable};

use crate::profile::{Profile, ProfileItem};

mod decimal;
mod encoding;
mod plan;

pub use encoding::{Encoding, Form, Order, Scale};
pub use plan::{HOLES_MAX, Holes, ReadCost, coalesce, plan_reads};

/// Most registers that one read may ask for (functions 3 and 4).
pub const REGISTERS_MAX: u16 = 125;
/// Most coils or discrete inputs that one read may ask for (functions 1 and 2).
pub const BITS_MAX: u16 = 2000;

/// The address spaces of a device: Modbus's four, and those of the protocols that live on the same
/// lines. There an address is the key of one value, whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Outputs that can be written, one bit each; read with function 1.
    Coil,
    /// Inputs, one bit each; read with function 2.
    Discrete,
    /// Measured values, 16 bits each; read with function 4.
    Input,
    /// Settings and often measured values too, 16 bits each; read with function 3.
    Holding,
    /// Data of a DL/T 645-2007 meter: the upper half of the identifier (DI3 DI2), which is the
    /// class; the lower half is the address.
    Identifier(u16),
    /// Data of a DL/T 645-1997 meter, whose identifiers are two bytes.
    Identifier1997,
    /// A status value of a Huanyang drive, by its number.
    Drive,
}

impl Table {
    /// Every table of Modbus, in the order of their words in a profile.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Input, Self::Holding];

    /// The word in front of an address in a profile: `input:0x000C`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
            Self::Identifier(_) | Self::Identifier1997 => "di",
            Self::Drive => "drive",
        }
    }

    /// What its devices speak.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Coil | Self::Discrete | Self::Input | Self::Holding => Protocol::Modbus,
            Self::Identifier(_) => Protocol::Dlt645,
            Self::Identifier1997 => Protocol::Dlt645Of1997,
            Self::Drive => Protocol::Huanyang,
        }
    }

    /// Whether an address is the key of a value, so that nothing lies between two of them.
    pub const fn is_keyed(self) -> bool {
        !matches!(self.protocol(), Protocol::Modbus)
    }

    /// Whether it holds bits rather than registers.
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The Modbus function that reads it; `None` when it is none of Modbus.
    pub const fn read_function(self) -> Option<u8> {
        match self {
            Self::Coil => Some(1),
            Self::Discrete => Some(2),
            Self::Holding => Some(3),
            Self::Input => Some(4),
            Self::Identifier(_) | Self::Identifier1997 | Self::Drive => None,
        }
    }

    /// An address as profiles write it: `input:0x000C`, `di:00010000`, `drive:1`.
    pub fn place(self, address: u16) -> String {
        match self {
            Self::Identifier(class) => format!("di:{class:04X}{address:04X}"),
            Self::Identifier1997 => format!("di:{address:04X}"),
            Self::Drive => format!("drive:{address}"),
            _ => format!("{}:0x{address:04X}", self.word()),
        }
    }
}

/// What is spoken on a line. Devices of all of them can share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Modbus.
    Modbus,
    /// DL/T 645-2007 ([`crate::dlt645`]).
    Dlt645,
    /// DL/T 645-1997 ([`crate::dlt645`]).
    Dlt645Of1997,
    /// The dialect of Huanyang HY drives ([`crate::huanyang`]).
    Huanyang,
}

impl Protocol {
    /// Whether its devices have addresses of twelve digits.
    pub const fn is_dlt645(self) -> bool {
        matches!(self, Self::Dlt645 | Self::Dlt645Of1997)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Consecutive addresses of one table: what one read request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The table.
    pub table: Table,
    /// Its first address.
    pub start: u16,
    /// How many registers or bits.
    pub count: u16,
}

impl Block {
    /// The address after the last one; 65536 at the end of the table.
    pub const fn end(self) -> u32 {
        self.start as u32 + self.count as u32
    }

    /// Whether all of `other` lies in this block.
    pub fn contains(self, other: Self) -> bool {
        if self.table.is_keyed() {
            return self == other;
        }
        self.table == other.table && self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Display for Block {
    /// `input:0x000C+2`, and `di:00010000` where an address is a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table.place(self.start))?;
        if self.table.is_keyed() { Ok(()) } else { write!(f, "+{}", self.count) }
    }
}

/// A read request and the items that its reply holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What to read.
    pub block: Block,
    /// Positions in [`Profile::items`], by rising address; never empty.
    pub items: Vec<usize>,
}

impl Batch {
    /// The tightest batch around `items`, which are positions in the profile by rising address,
    /// all of one table. `None` when there are none or they span more than a block can.
    fn around(profile: &Profile, items: Vec<usize>) -> Option<Self> {
        let blocks = || items.iter().filter_map(|&item| profile.items.get(item));
        let first = blocks().next()?.block();
        let end = blocks().map(|item| item.block().end()).max()?;
        let count = u16::try_from(end - u32::from(first.start)).ok()?;
        Some(Self { block: Block { count, ..first }, items })
    }

    /// Two smaller batches with the same items, for when the device refused this one (exception 2
    /// or 3): parted at the widest gap between items, because that is where the hole most likely
    /// is, and in the middle when all gaps are equal, so that one bad item of *n* is found in
    /// about log *n* requests. `None` when one item is left: then it is the item that is refused.
    ///
    /// When both halves are answered, the boundary between them is the hole to remember:
    /// [`Holes::insert_between`].
    pub fn split(&self, profile: &Profile) -> Option<(Self, Self)> {
        let middle = self.items.len() / 2;
        let mut end = 0;
        let mut best: Option<(u32, usize, usize)> = None;
        for (position, &item) in self.items.iter().enumerate() {
            let block = profile.items.get(item)?.block();
            if position > 0 {
                let gap = u32::from(block.start).saturating_sub(end);
                let off_middle = position.abs_diff(middle);
                if best.is_none_or(|(widest, off, _)| {
                    gap > widest || (gap == widest && off_middle < off)
                }) {
                    best = Some((gap, off_middle, position));
                }
            }
            end = end.max(block.end());
        }
        let (left, right) = self.items.split_at(best?.2);
        Some((Self::around(profile, left.to_vec())?, Self::around(profile, right.to_vec())?))
    }

    /// Reads of all items of this batch and of `right`, which lies after it in the same table, one
    /// of which goes across what parts them: both as one, or where that is more than the device may
    /// be asked for, as many items from either side as may, with what is left of each by itself.
    /// `None` when not even the two beside it may be read as one.
    pub fn across(&self, right: &Self, profile: &Profile) -> Option<Vec<Self>> {
        let (table, at) = (self.block.table, self.items.len());
        if table.is_keyed() || table != right.block.table {
            return None;
        }
        let items = [&*self.items, &*right.items].concat();
        let part = |range: Range<usize>| Self::around(profile, items.get(range)?.to_vec());
        // As many of one side as of the other: a read that is refused is parted in its middle, so
        // that what parts them is found at once.
        let even = (1..=at.min(right.items.len())).rev().map(|many| at - many..at + many);
        let most = plan::most_words(profile, table);
        let fits = |it: &Range<usize>| part(it.clone()).is_some_and(|it| it.block.count <= most);
        let middle = std::iter::once(0..items.len()).chain(even).find(fits)?;
        let parts = [0..middle.start, middle.clone(), middle.end..items.len()];
        Some(parts.into_iter().filter_map(part).collect())
    }
}

/// What a reply holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words<'a> {
    /// Of functions 3 and 4, in the host's byte order.
    Registers(&'a [u16]),
    /// Of functions 1 and 2, without the padding of the last byte.
    Bits(&'a [bool]),
}

impl Words<'_> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::Registers(registers) => registers.len(),
            Self::Bits(bits) => bits.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The readings in the reply to `batch`: one for each of its items, in its order. Words that are
/// of the wrong kind or number make every reading [`Unavailable::Garbled`]: a reply of the wrong
/// length is the answer to another question, and none of it can be believed.
pub fn decode(profile: &Profile, batch: &Batch, words: Words<'_>) -> Vec<(usize, Measured)> {
    let fits = words.len() == usize::from(batch.block.count)
        && matches!(words, Words::Bits(_)) == batch.block.table.is_bits();
    let reading = |item: &ProfileItem| -> Measured {
        let block = item.block();
        if !fits || !batch.block.contains(block) {
            return Err(Unavailable::Garbled);
        }
        let from = usize::from(block.start - batch.block.start);
        let to = from + usize::from(block.count);
        match words {
            Words::Bits(bits) => {
                let bit = bits.get(from).ok_or(Unavailable::Garbled)?;
                item.decode(&[u16::from(*bit)])
            }
            Words::Registers(registers) => {
                item.decode(registers.get(from..to).ok_or(Unavailable::Garbled)?)
            }
        }
    };
    batch
        .items
        .iter()
        .filter_map(|&at| profile.items.get(at).map(|item| (at, reading(item))))
        .collect()
}

/// The words that a device which measures `value` (in the item's canonical unit) holds at
/// [`ProfileItem::own`]: the inverse of [`decode`] for simulators and tests, written independently
/// of it. One word, 0 or 1, for a coil or discrete input. A value beyond what the registers can
/// hold saturates. NaN is the device's "no value": NaN in floats, the first sentinel in integers,
/// 0 where there is none. `exponent` is what the scale register holds, where the item has one.
pub fn encode(item: &ProfileItem, value: f64, exponent: i16) -> Vec<u16> {
    if value.is_nan()
        && let Some(&sentinel) = item.sentinels.first()
    {
        return item.encoding.words_of(sentinel);
    }
    let scale = match item.scale_register {
        Some(_) => item.scale.times_ten_to(exponent).unwrap_or(item.scale),
        None => item.scale,
    };
    item.encoding.encode(scale, value)
}

#[cfg(test)]
mod tests;
