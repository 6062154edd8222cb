//! `[output.ID]`: what may be cut, by which relay, and how it is proved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::Stop;
use andon_adapters::modbus::Table;
use andon_engine::item::Kind;

use super::keys;
use super::machine::{Machine, MachineItem, resolve};
use super::named::Named;
use super::plan::{ATTEMPT_DEADLINE_MAX, stop_deadline};
use super::section::{Section, say};
use super::source::{Source, Speaks};

/// Most outputs.
pub(super) const OUTPUTS_MAX: usize = 1000;
/// When an attempt of a relay is taken to have failed, unless configured. A controller's stop has
/// [`stop_deadline`]: to command it again while it is being confirmed would confirm nothing.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(1);
/// Attempts before a trip is failed, unless configured.
const ATTEMPTS: u8 = 3;
/// Readings that must agree, unless configured.
const SAMPLES: u8 = 3;

/// An output of kind `trip`.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) id: Arc<str>,
    /// Position of the machine.
    pub(super) machine: usize,
    /// Position of the source that is commanded.
    pub(super) source: usize,
    pub(super) act: Act,
    pub(super) permit_on_reset: bool,
    pub(super) proof: Option<Proof>,
    pub(super) attempt_deadline: Duration,
    pub(super) attempts: u8,
}

/// How an output cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// By a relay: its coil, and the state of it that cuts.
    Coil { coil: u16, tripped: bool },
    /// By what the machine's controller offers.
    Stop(Stop),
}

/// What proves a trip.
#[derive(Debug)]
pub(super) struct Proof {
    /// Position in the machine's items.
    pub(super) item: usize,
    pub(super) below: f64,
    pub(super) samples: u8,
    pub(super) within: Duration,
}

/// Every `[output.ID]`.
pub(super) fn outputs<'a>(
    root: &Section<'a>,
    sources: &Named<'a, Source>,
    machines: &Named<'a, Machine>,
) -> Named<'a, Output> {
    let mut seen: HashMap<(usize, u16), &str> = HashMap::new();
    let mut stops: HashMap<(usize, Stop), &str> = HashMap::new();
    Named::read(root, "output", OUTPUTS_MAX, |id, section| {
        section.only(keys::OUTPUT);
        section.need("kind", "\"trip\"", section.one_of("kind", &["trip"]));
        let machine = machines.named_by(section, "machine");
        let machine = section.need("machine", "\"laser\"", machine);
        let target = if section.has("stop") {
            let stop = stop(section, sources);
            if let Some(other) = stop.and_then(|stop| stops.insert(stop, id)) {
                let hint = "one stop is one output; a rule's trip may be shared".to_owned();
                section.problem("stop", format!("output \"{other}\" has it already"), Some(hint));
            }
            stop.map(|(source, stop)| (source, Act::Stop(stop)))
        } else {
            None
        };
        let relay = if section.has("stop") {
            None
        } else {
            section.need("relay", "\"SOURCE.relay.1\"", relay(section, sources))
        };
        if let Some(relay) = relay {
            if let Some(other) = seen.get(&relay) {
                let hint = "one relay is one output; a rule's trip may be shared".to_owned();
                section.problem("relay", format!("output \"{other}\" has it already"), Some(hint));
            } else {
                seen.insert(relay, id);
            }
        }
        let tripped = section.one_of("trip_when", &["off", "on"]).unwrap_or(0) == 1;
        let after_reset = section.one_of("after_reset", &["leave", "permit"]).unwrap_or(0);
        let deadline =
            section.duration("attempt_deadline", Duration::from_millis(50)..=ATTEMPT_DEADLINE_MAX);
        let attempts = section.integer("attempts", 1..=20);
        let proof = machine.and_then(|machine| {
            let actuator = relay.map(|(source, _)| source).or(target.map(|(source, _)| source));
            proof(section, &machines.list[machine], sources, actuator)
        });
        let coil = relay.map(|(source, coil)| (source, Act::Coil { coil, tripped }));
        let (source, act) = target.or(coil)?;
        let usual = match act {
            Act::Coil { .. } => ATTEMPT_DEADLINE,
            Act::Stop(_) => stop_deadline(sources.list[source].period),
        };
        Some(Output {
            id: id.into(),
            machine: machine?,
            source,
            act,
            permit_on_reset: after_reset == 1,
            proof,
            attempt_deadline: deadline.unwrap_or(usual),
            attempts: attempts.and_then(|n| u8::try_from(n).ok()).unwrap_or(ATTEMPTS),
        })
    })
}

/// The source and coil of a relay that the profile allows to be written.
fn relay(section: &Section<'_>, sources: &Named<'_, Source>) -> Option<(usize, u16)> {
    let written = section.text("relay")?;
    let (source, position) = resolve(section, "relay", written, sources)?;
    let Speaks::Registers(registers) = &sources.list[source].speaks else {
        let hint = "write stop = \"SOURCE.emergency\", or name a relay board".to_owned();
        section.problem("relay", format!("{written} is no relay of a board"), Some(hint));
        return None;
    };
    let profile = &registers.profile;
    let item = &profile.items[position];
    if item.table == Table::Coil && item.writable {
        return Some((source, item.address));
    }
    let writable: Vec<&str> = profile
        .items
        .iter()
        .filter(|item| item.table == Table::Coil && item.writable)
        .map(|item| &*item.item.name)
        .collect();
    let hint = if writable.is_empty() {
        format!("profile {} has no relay that may be written", profile.id)
    } else {
        format!("profile {} lets write: {}", profile.id, writable.join(", "))
    };
    section.problem("relay", format!("{written} may not be written"), Some(hint));
    None
}

/// `stop = "voron.emergency"`: the source and the stop that it offers.
fn stop(section: &Section<'_>, sources: &Named<'_, Source>) -> Option<(usize, Stop)> {
    for key in ["relay", "trip_when", "after_reset"].into_iter().filter(|key| section.has(key)) {
        let hint = "a controller's stop is undone at the controller".to_owned();
        section.problem(key, "does not go with stop", Some(hint));
    }
    let written = section.text("stop")?;
    let (id, word) = written.split_once('.').unwrap_or((written, ""));
    let source = sources.resolve(section, "stop", id)?;
    let offered: &[Stop] = match &sources.list[source].speaks {
        Speaks::Protocol(spoken) => &spoken.stops,
        Speaks::Registers(_) => &[],
    };
    let found = offered.iter().find(|stop| stop.word() == word);
    if found.is_none() {
        let hint = if offered.is_empty() {
            format!("{} offers no stop", sources.list[source].describe())
        } else {
            let words: Vec<String> =
                offered.iter().map(|stop| format!("{id}.{}", stop.word())).collect();
            format!("it offers: {}", words.join(", "))
        };
        section.problem("stop", format!("\"{written}\" is no stop of that source"), Some(hint));
    }
    Some((source, *found?))
}

/// `proof = { item = "power.active", below = "20 W", within = "10 s", samples = 3 }`
fn proof(
    section: &Section<'_>,
    machine: &Machine,
    sources: &Named<'_, Source>,
    actuator: Option<usize>,
) -> Option<Proof> {
    section.get("proof")?;
    let proof = section.table("proof")?;
    proof.only(keys::PROOF);
    let samples = proof.integer("samples", 1..=20).and_then(|n| u8::try_from(n).ok());
    let samples = samples.unwrap_or(SAMPLES);
    let range = Duration::from_millis(100)..=Duration::from_secs(600);
    let within = proof.need("within", "\"10 s\"", proof.duration("within", range));
    let position = proof.need("item", "\"power.active\"", machine.named_by(&proof, "item"));
    let below = position.and_then(|position| {
        let MachineItem { item, source, .. } = &machine.items[position];
        if Some(*source) == actuator && sources.list.get(*source).is_some() {
            let hint = "a relay board cannot bear witness on itself: name another meter's item";
            let message = format!("source \"{}\" is the output's own", sources.list[*source].id);
            proof.problem("item", message, Some(hint.to_owned()));
        }
        if item.kind != Kind::Gauge {
            let hint = "a current or a power that falls when the output cuts".to_owned();
            proof.problem("item", "is not a quantity that goes up and down", Some(hint));
            return None;
        }
        let example = format!("\"20 {}\"", item.unit.written());
        proof.need("below", &example, proof.quantity("below", item.unit))
    });
    let (position, within, below) = (position?, within?, below?);
    let MachineItem { source, profile_item, .. } = &machine.items[position];
    let meter = sources.list.get(*source)?;
    let least = meter.period_of(*profile_item) * u32::from(samples);
    if within < least {
        let message = format!(
            "{samples} samples of source \"{}\" take {}, longer than {}",
            meter.id,
            say(least),
            say(within)
        );
        proof.problem("within", message, Some(format!("write at least \"{}\"", say(least * 2))));
        return None;
    }
    Some(Proof { item: position, below, samples, within })
}
