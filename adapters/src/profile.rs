//! Device profiles: what a device measures, where it keeps it and who says so, as checked data.
//!
//! A [`Profile`] exists only if its file is without fault and its examples decode to what they
//! promise ([`check`]). It must not know how a device is reached: ports, unit ids and periods are
//! configuration.

use std::fmt;
use std::sync::Arc;

use andon_engine::item::Item;
use andon_engine::value::{Measured, Unavailable};

use crate::modbus::{Block, Encoding, Scale, Table};

mod check;
mod examples;
mod library;
mod schema;
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
    /// What it measures, in the file's order.
    pub items: Vec<ProfileItem>,
    /// Registers and what they mean; checked already.
    pub examples: Vec<Example>,
}

impl Profile {
    /// The position in [`Profile::items`] of the item with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|item| &*item.item.name == name)
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
    /// Bit patterns with which the device says that there is no value.
    pub sentinels: Vec<u64>,
    /// Whether a trip output may write it; coils only.
    pub writable: bool,
}

impl ProfileItem {
    /// The addresses that it takes.
    pub const fn block(&self) -> Block {
        Block { table: self.table, start: self.address, count: self.encoding.form.width() }
    }

    /// What `words`, exactly those of [`ProfileItem::block`], mean.
    ///
    /// # Errors
    /// [`Unavailable::Sentinel`] for the device's own "no value", NaN and infinities included;
    /// [`Unavailable::Garbled`] for another number of words.
    pub fn decode(&self, words: &[u16]) -> Measured {
        let raw = self.encoding.raw(words).ok_or(Unavailable::Garbled)?;
        if self.sentinels.contains(&raw) {
            return Err(Unavailable::Sentinel);
        }
        self.encoding.value(raw, self.scale)
    }
}

/// Registers from a cited source or an independent encoder, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Where they begin, and the words (0 or 1 in bit tables).
    pub registers: Vec<(Table, u16, Vec<u16>)>,
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
        write!(f, "{}:{}: ", self.file, self.line)?;
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
