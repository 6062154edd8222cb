//! The last words that each polled item was read from, for whoever asks why a value is what it is.
//!
//! Bounds: [`WORDS_MAX`] words per item, room made once. Noting a reply allocates nothing.

use std::sync::{Arc, Mutex, PoisonError};

use andon_adapters::modbus::{Batch, Block, Words};
use andon_adapters::profile::{Profile, ProfileItem};
use andon_engine::time::BootTime;

use crate::config::plan::{BusPlan, UnitPlan};

/// Words of an item that are kept; the rest of a longer one is not.
pub const WORDS_MAX: usize = 8;

/// What an item was last read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Where it stands in the device.
    pub block: Block,
    /// The first words of the block as they came; 0 or 1 each in a table of bits.
    words: [u16; WORDS_MAX],
    held: usize,
    /// When the answer came.
    pub at: BootTime,
}

impl LastWords {
    /// Its words, at most [`WORDS_MAX`].
    pub fn words(&self) -> &[u16] {
        &self.words[..self.held]
    }
}

/// The last words of one unit.
#[derive(Debug)]
struct OfUnit {
    profile: Arc<Profile>,
    /// By item of the profile.
    items: Box<[OfItem]>,
    /// The words of all items, one after the other.
    words: Box<[u16]>,
}

/// Where an item's words are. A shop has tens of thousands.
#[derive(Clone, Copy, Debug)]
struct OfItem {
    /// When they came; [`NEVER`] before.
    at: BootTime,
    /// Where they begin among those of the unit.
    from: u32,
    /// How many are kept; none of an item that is not polled.
    held: u32,
}

/// Nothing is read at this moment.
const NEVER: BootTime = BootTime(u64::MAX);

impl OfUnit {
    fn new(unit: &UnitPlan) -> Self {
        let items = &unit.profile.items;
        let mut own = vec![OfItem { at: NEVER, from: 0, held: 0 }; items.len()];
        let mut words = 0;
        for poll in &unit.polls {
            let item = items.get(poll.profile_item).zip(own.get_mut(poll.profile_item));
            let Some((item, own)) = item else { continue };
            let held = usize::from(item.block().count).min(WORDS_MAX);
            (own.from, own.held) = (words, u32::try_from(held).unwrap_or(0));
            words += own.held;
        }
        let words = vec![0; words as usize].into();
        Self { profile: Arc::clone(&unit.profile), items: own.into(), words }
    }

    fn note(&mut self, item: usize, batch: Block, words: Words<'_>, at: BootTime) {
        let block = self.profile.items.get(item).map(ProfileItem::block);
        let Some((block, own)) = block.zip(self.items.get_mut(item)) else { return };
        let from = usize::from(block.start.saturating_sub(batch.start));
        let kept = self.words.iter_mut().skip(own.from as usize).take(own.held as usize);
        for (place, kept) in kept.enumerate() {
            *kept = match words {
                Words::Registers(words) => words.get(from + place).copied(),
                Words::Bits(bits) => bits.get(from + place).map(|&bit| u16::from(bit)),
            }
            .unwrap_or_default();
        }
        own.at = at;
    }

    fn of(&self, item: usize) -> Option<LastWords> {
        let own = self.items.get(item).filter(|own| own.at != NEVER && own.held > 0)?;
        let held = own.held as usize;
        let kept = self.words.get(own.from as usize..)?.get(..held)?;
        let mut words = [0; WORDS_MAX];
        words.get_mut(..held)?.copy_from_slice(kept);
        Some(LastWords { block: self.profile.items.get(item)?.block(), words, held, at: own.at })
    }
}

/// The last words of a bus. Clones are views of the same.
#[derive(Clone, Debug)]
pub(super) struct Memo(Arc<Mutex<Vec<OfUnit>>>);

impl Memo {
    pub(super) fn new(plan: &BusPlan) -> Self {
        Self(Arc::new(Mutex::new(plan.units.iter().map(OfUnit::new).collect())))
    }

    /// `words` answered `batch`. Those that do not fill it are an answer to something else.
    pub(super) fn note(&self, unit: usize, batch: &Batch, words: Words<'_>, at: BootTime) {
        if words.len() != usize::from(batch.block.count) {
            return;
        }
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unit) = units.get_mut(unit) else { return };
        batch.items.iter().for_each(|&item| unit.note(item, batch.block, words, at));
    }

    /// What an item (a position in its profile) of `unit` was last read from.
    pub(super) fn of(&self, unit: usize, item: usize) -> Option<LastWords> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.get(unit)?.of(item)
    }
}
