//! Device profiles: what a device measures, where it keeps it and who says so, as checked data.
//!
//! A [`Profile`] exists only if its file is without fault and its examples decode to what they
//! promise ([`check`]). It must not know how a device is reached: ports, unit ids and periods are
//! configuration.

use std::fmt;
use std::sync::Arc;

use andon_engine::item::Item;
use andon_engine::value::{Measured, Unavailable};

use crate::modbus::{Block, Encoding, Form, Protocol, Scale, Table};

mod check;
mod examples;
mod library;
mod place;
mod remedy;
mod schema;
mod setting;
mod toml_reader;

pub use check::check;
pub use library::Library;
pub use schema::json_schema;

/// Most items of one profile.
pub const ITEMS_MAX: usize = 512;
/// Most bytes of one profile file.
pub const PROFILE_BYTES_MAX: usize = 256 * 1024;

/// How far a profile can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Written from the maker's documents or another cited source.
    Datasheet,
    /// Somebody has read a device with it and found no contradiction.
    Trial,
    /// Compared with the device's display or another meter.
    Verified {
        /// Who, when, on which device.
        by: String,
    },
}

impl Evidence {
    /// The word in a profile.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Datasheet => "datasheet",
            Self::Trial => "trial",
            Self::Verified { .. } => "verified",
        }
    }
}

/// Where words begin, and the words (0 or 1 in bit tables).
pub type Held = (Table, u16, Vec<u16>);

/// A device, as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its file without folder and ending: `eastron/sdm120`.
    pub id: Arc<str>,
    /// Maker and model, for people.
    pub title: String,
    /// Where the map comes from.
    pub source: String,
    /// How far it can be trusted.
    pub evidence: Evidence,
    /// What an installer must know; empty when there is nothing.
    pub notes: String,
    /// Most registers that the device answers in one read.
    pub max_registers: u16,
    /// What it measures, in the file's order; all of one protocol.
    pub items: Vec<ProfileItem>,
    /// Registers that hold the same in every device of this kind: how one is told from others.
    pub identity: Vec<Held>,
    /// What of its settings can be changed from here.
    pub settings: Vec<Setting>,
    /// Registers and what they mean; checked already.
    pub examples: Vec<Example>,
}

/// What a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingKind {
    /// The unit id that it answers to.
    Address,
    /// The ratio of its current transformers, as primary to secondary.
    CtRatio,
}

impl SettingKind {
    /// Every kind with its word in a profile.
    pub const ALL: [(&'static str, Self); 2] =
        [("address", Self::Address), ("ct_ratio", Self::CtRatio)];

    /// The word in a profile.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::CtRatio => "ct_ratio",
        }
    }
}

/// A setting of a device and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What for.
    pub kind: SettingKind,
    /// Its first holding register, 0-based.
    pub address: u16,
    /// How it lies there.
    pub encoding: Encoding,
    /// From the device's number to the setting.
    pub scale: Scale,
    /// Least and greatest value that it takes.
    pub least: f64,
    /// See `least`.
    pub greatest: f64,
    /// 6 writes one register, 16 several.
    pub function: u8,
    /// Whether it applies only after the device was without power.
    pub after_restart: bool,
    /// What else must be done: a password, a mode; empty when there is nothing.
    pub notes: String,
}

impl Setting {
    /// Where it is written and read back.
    pub const fn block(&self) -> Block {
        Block { table: Table::Holding, start: self.address, count: self.encoding.form.width() }
    }

    /// The registers of a value; `None` when it is not between least and greatest.
    pub fn encode(&self, value: f64) -> Option<Vec<u16>> {
        (self.least..=self.greatest)
            .contains(&value)
            .then(|| self.encoding.encode(self.scale, value))
    }

    /// The value in registers; `None` when they hold no number.
    pub fn decode(&self, words: &[u16]) -> Option<f64> {
        self.encoding.value(self.encoding.raw(words)?, self.scale).ok()?.as_number()
    }
}

impl Profile {
    /// The position in [`Profile::items`] of the item with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|item| &*item.item.name == name)
    }

    /// What the device speaks.
    pub fn protocol(&self) -> Protocol {
        self.items.first().map_or(Protocol::Modbus, |item| item.table.protocol())
    }

    /// How a setting is changed, when that is known.
    pub fn setting(&self, kind: SettingKind) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.kind == kind)
    }

    /// Whether a trip output may be wired to this coil.
    pub fn is_writable(&self, coil: u16) -> bool {
        self.items
            .iter()
            .any(|item| item.writable && item.table == Table::Coil && item.address == coil)
    }
}

/// One item of a device and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileItem {
    /// Name, canonical unit, kind and plausible range.
    pub item: Item,
    /// Where it lies.
    pub table: Table,
    /// Its first address, 0-based.
    pub address: u16,
    /// How it lies there.
    pub encoding: Encoding,
    /// From the device's number to the canonical unit.
    pub scale: Scale,
    /// Where the device keeps the power of ten that the number is to be multiplied by (SunSpec's
    /// scale factors); in the same table.
    pub scale_register: Option<u16>,
    /// Bit patterns with which the device says that there is no value.
    pub sentinels: Vec<u64>,
    /// Whether a trip output may write it; coils only.
    pub writable: bool,
}

impl ProfileItem {
    /// The form of its number in the words of a profile: `f32`, `bool, bit 3`.
    pub fn type_word(&self) -> String {
        if let Form::Bit(bit) = self.encoding.form {
            return format!("bool, bit {bit}");
        }
        let word = check::TYPES.iter().find(|(_, form)| *form == self.encoding.form);
        // Longer decimals are made by no profile.
        word.map_or_else(|| format!("{:?}", self.encoding.form), |(word, _)| (*word).to_owned())
    }

    /// The addresses of the number itself.
    pub const fn own(&self) -> Block {
        Block { table: self.table, start: self.address, count: self.encoding.form.width() }
    }

    /// The addresses that must be read at once to know its value: its own, and those up to its
    /// scale register, because a device may change both between two reads.
    pub fn block(&self) -> Block {
        let own = self.own();
        let Some(scale) = self.scale_register else { return own };
        let start = own.start.min(scale);
        let end = own.end().max(u32::from(scale) + 1);
        Block { start, count: u16::try_from(end - u32::from(start)).unwrap_or(u16::MAX), ..own }
    }

    /// What `words`, exactly those of [`ProfileItem::block`], mean.
    ///
    /// # Errors
    /// [`Unavailable::Sentinel`] for the device's own "no value", NaN and infinities included;
    /// [`Unavailable::Garbled`] for another number of words, or words that are no number;
    /// [`Unavailable::OutOfRange`] when the scale register holds no exponent.
    pub fn decode(&self, words: &[u16]) -> Measured {
        let (block, own) = (self.block(), self.own());
        if words.len() != usize::from(block.count) {
            return Err(Unavailable::Garbled);
        }
        let from = usize::from(own.start - block.start);
        let number = words.get(from..from + usize::from(own.count));
        let raw = number.and_then(|own| self.encoding.raw(own)).ok_or(Unavailable::Garbled)?;
        if self.sentinels.contains(&raw) {
            return Err(Unavailable::Sentinel);
        }
        self.encoding.value(raw, self.scale_in(words, block.start)?)
    }

    /// The scale that applies to a reading of the block at `start`.
    fn scale_in(&self, words: &[u16], start: u16) -> Result<Scale, Unavailable> {
        /// SunSpec: the point is not implemented.
        const NOT_IMPLEMENTED: i16 = i16::MIN;
        let Some(register) = self.scale_register else { return Ok(self.scale) };
        let word = words.get(usize::from(register - start)).ok_or(Unavailable::Garbled)?;
        match word.cast_signed() {
            NOT_IMPLEMENTED => Err(Unavailable::Sentinel),
            exponent => self.scale.times_ten_to(exponent).ok_or(Unavailable::OutOfRange),
        }
    }
}

/// Registers from a cited source or an independent encoder, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Where they begin, and the words (0 or 1 in bit tables).
    pub registers: Vec<Held>,
    /// Positions in [`Profile::items`] and what each must read, in canonical units.
    pub expect: Vec<(usize, Measured)>,
}

/// A fault in a profile file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file: a path, or `<id>.toml` of an embedded or unnamed profile.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// The key in question, `item.name`; empty when it is the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `eastron/x.toml:7: item.name: … (hint: …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
