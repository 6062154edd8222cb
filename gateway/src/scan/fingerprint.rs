//! Which profile a device's answers fit: a few of the registers that each profile claims are read,
//! and what they hold is weighed. Pure: it asks for nothing itself.
//!
//! A value that such devices measure every day speaks for a profile, zero and "no value" hardly,
//! a value that cannot be speaks against it, and a refusal too. Registers that hold the same in
//! every such device (`[identity]`) decide. Where several fit, a second phase with a voltage speaks for
//! those that know one. It can only rank: two makers with one map are one to it.

use std::collections::BTreeMap;

use andon_adapters::modbus::{Block, Table};
use andon_adapters::profile::{Profile, ProfileItem};
use andon_engine::item::Kind;
use andon_engine::unit::Unit;
use andon_engine::value::{Unavailable, Value};
use serde::{Deserialize, Serialize};

use crate::bus::Fault;

/// Items of a profile that are looked at: enough to tell maps apart, spread over the map.
const LOOKED_AT: usize = 6;
/// A profile is given up when this many of its items are not there.
const MISSING_MAX: usize = 2;
/// Below this a device is unknown.
const LIKELY: f64 = 0.45;
/// Candidates this near to the best are told beside it.
const NEAR: f64 = 0.05;
/// What a value of every day speaks for a profile.
const USUAL: f64 = 1.0;
/// What tells a meter of three phases from one of one, whose registers often stand in its map.
const SECOND_PHASE: &str = "voltage.l2";
/// Most candidates that are told.
const CANDIDATES_MAX: usize = 4;

/// A profile that a device's answers fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The profile's id.
    pub profile: String,
    /// How well, 0 to 1.
    pub score: f64,
    /// It knows a second phase, and there is one with a voltage of every day.
    #[serde(default)]
    pub more_phases: bool,
}

/// What a device has answered so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence(BTreeMap<Block, Result<Vec<u16>, Fault>>);

impl Evidence {
    pub(super) fn add(&mut self, block: Block, answer: Result<Vec<u16>, Fault>) {
        self.0.insert(block, answer);
    }

    /// How many questions were answered with something that is no answer.
    pub(super) fn garbled(&self) -> usize {
        self.0.values().filter(|answer| **answer == Err(Fault::Garbled)).count()
    }
}

/// What is to be read next to judge this profile; `None` when it can be judged.
pub(super) fn wanted(profile: &Profile, evidence: &Evidence) -> Option<Block> {
    if !identity_may_hold(profile, evidence) {
        return None;
    }
    let identity = profile.identity.iter().map(|(table, start, words)| Block {
        table: *table,
        start: *start,
        count: u16::try_from(words.len()).unwrap_or(u16::MAX),
    });
    let items = looked_at(profile).map(ProfileItem::block);
    let phase = second_phase(profile).map(ProfileItem::block);
    let mut missing = 0;
    for block in identity.chain(items).chain(phase) {
        match evidence.0.get(&block) {
            None => return Some(block),
            Some(Ok(_)) => {}
            Some(Err(_)) => missing += 1,
        }
        if missing >= MISSING_MAX {
            return None;
        }
    }
    None
}

/// The best candidates for what was answered, best first; none when the device is unknown.
pub(super) fn candidates<'a>(
    profiles: impl Iterator<Item = &'a Profile>,
    evidence: &Evidence,
) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = profiles
        .map(|profile| Candidate {
            profile: profile.id.to_string(),
            score: (score(profile, evidence) * 100.0).round() / 100.0,
            more_phases: has_second_phase(profile, evidence),
        })
        .filter(|candidate| candidate.score >= LIKELY)
        .collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.profile.cmp(&b.profile)));
    let best = all.first().map_or(0.0, |candidate| candidate.score);
    all.retain(|candidate| candidate.score >= best - NEAR);
    // A meter of one phase has no voltage on a second; a map that knows less fits it as well.
    all.sort_by_key(|candidate| !candidate.more_phases);
    all.truncate(CANDIDATES_MAX);
    all
}

/// The voltage of the second phase, where a profile has one.
fn second_phase(profile: &Profile) -> Option<&ProfileItem> {
    profile.items.iter().find(|item| &*item.item.name == SECOND_PHASE)
}

fn has_second_phase(profile: &Profile, evidence: &Evidence) -> bool {
    second_phase(profile).is_some_and(|item| points(item, evidence.0.get(&item.block())) >= USUAL)
}

/// Items spread over the profile, the first and the last among them.
fn looked_at(profile: &Profile) -> impl Iterator<Item = &ProfileItem> {
    let last = profile.items.len().saturating_sub(1);
    let count = profile.items.len().min(LOOKED_AT);
    (0..count).filter_map(move |at| profile.items.get(at * last / count.saturating_sub(1).max(1)))
}

/// Whether no answer contradicts the profile's identity.
fn identity_may_hold(profile: &Profile, evidence: &Evidence) -> bool {
    profile.identity.iter().all(|(table, start, words)| {
        let count = u16::try_from(words.len()).unwrap_or(u16::MAX);
        let answer = evidence.0.get(&Block { table: *table, start: *start, count });
        answer.is_none_or(|answer| answer.as_ref() == Ok(words))
    })
}

fn score(profile: &Profile, evidence: &Evidence) -> f64 {
    if !identity_may_hold(profile, evidence) {
        return 0.0;
    }
    let (mut sum, mut telling, mut weights) = (0.0, 0.0, 0.0);
    for item in looked_at(profile) {
        let weight = weight(item);
        let points = points(item, evidence.0.get(&item.block()));
        weights += weight;
        sum += weight * points;
        if points >= USUAL {
            telling += weight;
        }
    }
    let share = (sum / weights).clamp(0.0, 1.0);
    if profile.identity.is_empty() {
        // One value that fits is chance, six are not.
        let flags = profile.items.iter().all(|item| item.encoding.form.is_flag());
        if flags { share } else { share * telling / (telling + 0.5) }
    } else {
        0.5 + share / 2.0
    }
}

/// How much a fitting value says: a random register is a plausible number more often than two.
fn weight(item: &ProfileItem) -> f64 {
    if item.encoding.form.width() > 1 || item.scale_register.is_some() { 1.0 } else { 0.6 }
}

/// What an answer says of an item: 1 for a value of every day, negative against.
fn points(item: &ProfileItem, answer: Option<&Result<Vec<u16>, Fault>>) -> f64 {
    let Some(Ok(words)) = answer else { return -0.5 };
    match item.decode(words) {
        Ok(Value::Flag(_)) => 0.6,
        Ok(Value::Number(number)) if !(item.item.least..=item.item.greatest).contains(&number) => {
            -1.0
        }
        Ok(Value::Number(0.0)) => 0.3,
        Ok(Value::Number(number)) if is_usual(item, number) => USUAL,
        Ok(Value::Number(_)) => -0.2,
        Err(Unavailable::Sentinel) => 0.2,
        Ok(Value::Text(_)) | Err(_) => -1.0,
    }
}

/// Whether such a device measures this on an ordinary day, on a low-voltage supply.
fn is_usual(item: &ProfileItem, number: f64) -> bool {
    let name = &*item.item.name;
    let size = number.abs();
    let within = |least: f64, greatest: f64| (least..=greatest).contains(&size);
    match item.item.unit {
        _ if item.item.kind == Kind::Counter => within(1.0, 1e10),
        Unit::Volt if name.starts_with("voltage.line") => within(150.0, 500.0),
        Unit::Volt if name == "voltage.dc" => within(5.0, 900.0),
        Unit::Volt if name.starts_with("voltage") => within(80.0, 280.0),
        Unit::Hertz if name == "frequency" => within(45.0, 65.0),
        Unit::Watt | Unit::VoltAmpere | Unit::Var => within(0.5, 100_000.0),
        Unit::Ampere if name.starts_with("loop.") => within(0.003_8, 0.020_5),
        Unit::Ampere => within(0.005, 1000.0),
        Unit::Celsius => (-30.0..=150.0).contains(&number),
        Unit::Ratio => within(0.02, 1.0),
        Unit::PartsPerMillion => within(0.05, 5000.0),
        Unit::MicrogramPerCubicMetre => within(1.0, 1000.0),
        Unit::Rpm => within(30.0, 60_000.0),
        _ => true,
    }
}

/// What answers whatever it is: an exception is an answer too. Not one table is in all devices.
pub(super) const PRESENCE: [Block; 2] = [
    Block { table: Table::Input, start: 0, count: 1 },
    Block { table: Table::Holding, start: 0, count: 1 },
];

/// Asked too when a scan is to be thorough: boards that know nothing but coils, and drives that
/// speak a dialect.
pub(super) const PRESENCE_THOROUGH: [Block; 2] = [
    Block { table: Table::Coil, start: 0, count: 1 },
    Block { table: Table::Drive, start: 1, count: 1 },
];

#[cfg(test)]
mod tests {
    use andon_adapters::profile::Library;

    use super::*;

    /// Asks a device that answers as the first example of `of` says, until nothing is wanted.
    fn asked(library: &Library, of: &Profile) -> Evidence {
        let mut evidence = Evidence::default();
        for profile in library.ids().filter_map(|id| library.get(id)) {
            if profile.protocol() != of.protocol() {
                continue;
            }
            while let Some(block) = wanted(&profile, &evidence) {
                let held = of.examples[0].registers.iter().chain(&of.identity);
                let words = held.clone().find_map(|(table, start, words)| {
                    let from = usize::from(block.start.checked_sub(*start)?);
                    let words = words.get(from..from + usize::from(block.count))?;
                    (*table == block.table).then(|| words.to_vec())
                });
                evidence.add(block, words.ok_or(Fault::Exception(2)));
            }
        }
        evidence
    }

    #[test]
    fn a_device_is_known_by_what_its_profile_claims() {
        let library = Library::load(None).0;
        let all: Vec<_> = library.ids().filter_map(|id| library.get(id)).collect();
        let known = |id: &str| {
            let profile = library.get(id).unwrap();
            let evidence = asked(&library, &profile);
            let same = all.iter().filter(|other| other.protocol() == profile.protocol());
            let found = candidates(same.map(|profile| &**profile), &evidence);
            found.into_iter().map(|candidate| candidate.profile).collect::<Vec<_>>()
        };
        for id in [
            "abb/b23",
            "acrel/adw300",
            "carlo-gavazzi/em24",
            "chint/ddsu666",
            "chint/dtsu666",
            "dlt645/single-phase",
            "dlt645/three-phase",
            "eastron/sdm120",
            "eastron/sdm630",
            "eastron/sdm72d-m",
            "janitza/umg-96rm",
            "peacefair/pzem-004t-v3",
            "schneider/iem3155",
            "sunspec/model-103",
            "sunspec/model-213",
            "waveshare/relay-16ch",
        ] {
            let found = known(id);
            assert!(found.contains(&id.to_owned()), "{id}: {found:?}");
        }
        // Nothing tells these apart, and the scan must not pretend to.
        assert!(known("schneider/iem3155").contains(&"schneider/iem3255".to_owned()));
    }

    #[test]
    fn a_device_that_refuses_everything_is_unknown() {
        let library = Library::load(None).0;
        let mut evidence = Evidence::default();
        for profile in library.ids().filter_map(|id| library.get(id)) {
            while let Some(block) = wanted(&profile, &evidence) {
                evidence.add(block, Err(Fault::Exception(2)));
            }
        }
        let all: Vec<_> = library.ids().filter_map(|id| library.get(id)).collect();
        assert_eq!(candidates(all.iter().map(|profile| &**profile), &evidence), []);
    }

    #[test]
    fn another_identity_ends_the_matter() {
        let library = Library::load(None).0;
        let inverter = library.get("sunspec/model-103").unwrap();
        let mut evidence = Evidence::default();
        let head = wanted(&inverter, &evidence).unwrap();
        assert_eq!((head.start, head.count), (40_000, 2));
        evidence.add(head, Ok(vec![0x5375, 0x6E53]));
        let model = wanted(&inverter, &evidence).unwrap();
        evidence.add(model, Ok(vec![102]));
        assert_eq!(wanted(&inverter, &evidence), None);
        assert!(score(&inverter, &evidence) < LIKELY);
    }

    #[test]
    fn reads_of_a_profile_are_few() {
        let library = Library::load(None).0;
        for profile in library.ids().filter_map(|id| library.get(id)) {
            let looked: Vec<_> = looked_at(&profile).collect();
            assert!(looked.len() <= LOOKED_AT);
            assert_eq!(looked.last().copied(), profile.items.last(), "{}", profile.id);
        }
    }
}
