//! Ready-made kinds of machines: names, first bands, hazards, key items, and whether the supply may
//! be cut. Data in `kinds.toml`, built into the binary; nothing here decides anything, and no figure
//! replaces what `andon learn` measures.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use andon_engine::plan::Band;
use andon_engine::unit::{Unit, parse_as, parse_duration};
use serde::{Deserialize, Serialize};

use crate::config::keys::MACHINE_KINDS;
use crate::config::plan::Name;

/// How far below its threshold a band is left: what a configuration without `*_below` means.
pub const HYSTERESIS: f64 = 0.1;

/// What machines of a kind have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    /// `laser`: what a configuration writes.
    pub id: &'static str,
    /// For people.
    pub name: Name,
    /// Where to begin.
    pub activity: Bands,
    /// What to look at first, canonical item names.
    pub key_items: Vec<String>,
    /// What hurts people, one short sentence each.
    pub hazards: Vec<Name>,
    /// Whether the supply may be cut.
    pub supply_cut: SupplyCut,
}

/// Bands of a power with their debounce, in watts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bands {
    /// At or above which idle is entered.
    pub idle_above: f64,
    /// At or above which run is entered.
    pub run_above: f64,
    /// How long a higher band must hold.
    pub enter_for: Duration,
    /// How long a lower band must hold.
    pub exit_for: Duration,
}

impl Bands {
    /// The idle band with its hysteresis.
    pub fn idle(&self) -> Band {
        Band { enter: self.idle_above, exit: self.idle_above * (1.0 - HYSTERESIS) }
    }

    /// The run band with its hysteresis; leaving it leads to idle, not past it.
    pub fn run(&self) -> Band {
        let exit = (self.run_above * (1.0 - HYSTERESIS)).max(self.idle_above);
        Band { enter: self.run_above, exit }
    }
}

/// Whether a contactor may open at any moment, and what follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupplyCut {
    /// Without damage to the machine and without a new hazard.
    pub harmless: bool,
    /// What follows, in English.
    pub en: String,
    /// And in Chinese.
    pub zh: String,
}

/// A kind as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Name,
    activity: WrittenBands,
    key_items: Vec<String>,
    hazards: Vec<Name>,
    supply_cut: SupplyCut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBands {
    idle_above: String,
    run_above: String,
    enter_for: String,
    exit_for: String,
}

impl WrittenBands {
    fn read(&self) -> Option<Bands> {
        let watts = |text: &str| parse_as(text, Unit::Watt).ok();
        Some(Bands {
            idle_above: watts(&self.idle_above)?,
            run_above: watts(&self.run_above)?,
            enter_for: parse_duration(&self.enter_for).ok()?,
            exit_for: parse_duration(&self.exit_for).ok()?,
        })
    }
}

/// Every kind but `other`, in the order of [`MACHINE_KINDS`].
pub fn all() -> &'static [Kind] {
    static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
        let written: HashMap<String, Written> =
            toml::from_str(include_str!("kinds.toml")).expect("invariant: a test reads the file");
        let kind = |id: &&'static str| {
            let written = written.get(*id)?;
            Some(Kind {
                id,
                name: written.name.clone(),
                activity: written.activity.read()?,
                key_items: written.key_items.clone(),
                hazards: written.hazards.clone(),
                supply_cut: written.supply_cut.clone(),
            })
        };
        MACHINE_KINDS.iter().filter_map(kind).collect()
    });
    &KINDS
}

/// The kind with this id; none for `other`.
pub fn of(id: &str) -> Option<&'static Kind> {
    all().iter().find(|kind| kind.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use andon_engine::item::Item;

    #[test]
    fn every_kind_but_other_is_described_whole() {
        let written: HashMap<String, Written> = toml::from_str(include_str!("kinds.toml")).unwrap();
        assert_eq!(written.len(), all().len(), "the file names a kind that no configuration can");
        let described: Vec<&str> = all().iter().map(|kind| kind.id).chain(["other"]).collect();
        assert_eq!(described, MACHINE_KINDS);
        for kind in all() {
            let bands = kind.activity;
            let ascends = 0.0 < bands.idle().exit
                && bands.idle().exit < bands.idle_above
                && bands.idle_above <= bands.run().exit
                && bands.run().exit < bands.run_above;
            assert!(ascends, "{}: {bands:?}", kind.id);
            assert!(!kind.hazards.is_empty() && !kind.key_items.is_empty(), "{}", kind.id);
            for item in &kind.key_items {
                assert!(Item::named(item).is_ok(), "{}: {item}", kind.id);
            }
            let cut = Name { en: kind.supply_cut.en.clone(), zh: kind.supply_cut.zh.clone() };
            for name in kind.hazards.iter().chain([&kind.name, &cut]) {
                let chinese = name.zh.chars().any(|letter| ('一'..='鿿').contains(&letter));
                assert!(chinese && name.en.is_ascii() | name.en.contains('°'), "{name:?}");
            }
        }
    }

    #[test]
    fn a_kind_that_nobody_knows_has_no_defaults() {
        assert!(of("other").is_none() && of("toaster").is_none());
        assert!(!of("fdm-printer").unwrap().supply_cut.harmless);
    }
}
