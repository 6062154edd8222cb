//! The last words that each polled item was read from, for whoever asks why a value is what it is.
//!
//! Bounds: [`WORDS_MAX`] words per item, room made once. Noting a reply allocates nothing.

use std::sync::{Arc, Mutex, PoisonError};

use andon_adapters::modbus::{Batch, Block, Words};
use andon_adapters::profile::ProfileItem;
use andon_engine::time::BootTime;

use crate::config::plan::BusPlan;

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

/// The last words of one unit, by item of its profile.
#[derive(Debug)]
struct OfUnit {
    /// Where each item stands; `None` when it is not polled.
    blocks: Vec<Option<Block>>,
    last: Vec<Option<LastWords>>,
}

/// The last words of a bus. Clones are views of the same.
#[derive(Clone, Debug)]
pub(super) struct Memo(Arc<Mutex<Vec<OfUnit>>>);

impl Memo {
    pub(super) fn new(plan: &BusPlan) -> Self {
        let unit = |unit: &crate::config::plan::UnitPlan| {
            let items = &unit.profile.items;
            let mut blocks = vec![None; items.len()];
            for poll in &unit.polls {
                if let Some(block) = blocks.get_mut(poll.profile_item) {
                    *block = items.get(poll.profile_item).map(ProfileItem::block);
                }
            }
            OfUnit { last: vec![None; items.len()], blocks }
        };
        Self(Arc::new(Mutex::new(plan.units.iter().map(unit).collect())))
    }

    /// `words` answered `batch`. Those that do not fill it are an answer to something else.
    pub(super) fn note(&self, unit: usize, batch: &Batch, words: Words<'_>, at: BootTime) {
        if words.len() != usize::from(batch.block.count) {
            return;
        }
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unit) = units.get_mut(unit) else { return };
        for &item in &batch.items {
            let block = unit.blocks.get(item).copied().flatten();
            let Some((block, last)) = block.zip(unit.last.get_mut(item)) else { continue };
            let from = usize::from(block.start.saturating_sub(batch.block.start));
            let held = usize::from(block.count).min(WORDS_MAX);
            let mut kept = [0; WORDS_MAX];
            for (place, kept) in kept.iter_mut().take(held).enumerate() {
                *kept = match words {
                    Words::Registers(words) => words.get(from + place).copied(),
                    Words::Bits(bits) => bits.get(from + place).map(|&bit| u16::from(bit)),
                }
                .unwrap_or_default();
            }
            *last = Some(LastWords { block, words: kept, held, at });
        }
    }

    /// What an item (a position in its profile) of `unit` was last read from.
    pub(super) fn of(&self, unit: usize, item: usize) -> Option<LastWords> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.get(unit)?.last.get(item).copied().flatten()
    }
}
