//! From checked sections to the plan: indices for names, one poll for every register that
//! several machines share, one list of coils that may be written.
//!
//! Nothing is reported here: whatever could be wrong has been.

use std::collections::BTreeMap;
use std::time::Duration;

use andon_engine::item::Item;
use andon_engine::plan::{
    ActivityPlan, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Plan, Proof, TripIndex, TripPlan,
};
use andon_engine::unit::Unit;

use super::bus::{Bus, Source};
use super::machine::{Machine, Signal};
use super::output::Output;
use super::plan::{BusPlan, MachineFace, OutputPlan, PollPlan, UnitPlan};

/// A value is stale after so many periods …
const STALE_PERIODS: u32 = 3;
/// … but not sooner than this.
const STALE_LEAST: Duration = Duration::from_secs(5);

/// The plan but for its rules.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) buses: Vec<BusPlan>,
    pub(super) faces: Vec<MachineFace>,
    pub(super) outputs: Vec<OutputPlan>,
    pub(super) engine: Plan,
}

/// Builds it.
pub(super) fn shop(
    buses: &[Bus],
    sources: &[Source],
    machines: &[Machine],
    outputs: &[Output],
) -> Shop {
    let mut engine = Plan::default();
    let mut faces = Vec::with_capacity(machines.len());
    // By source, the machine items that each of its profile items feeds.
    let mut feeds: Vec<BTreeMap<usize, Vec<ItemIndex>>> = vec![BTreeMap::new(); sources.len()];
    let mut bases = Vec::with_capacity(machines.len());
    for (at, machine) in machines.iter().enumerate() {
        let base = index32(engine.items.len());
        bases.push(base);
        let item_index = |position: usize| ItemIndex(base + index32(position));
        for (position, item) in machine.items.iter().enumerate() {
            // A source that could not be had has been reported: this plan will not run.
            let source = sources.get(item.source);
            let period = source.map_or(STALE_LEAST, |source| source.period);
            engine.items.push(ItemPlan {
                machine: MachineIndex(index16(at)),
                item: item.item.clone(),
                period,
                stale_after: (period * STALE_PERIODS).max(STALE_LEAST),
                max_rate: item.max_rate,
            });
            if let Some(feeds) = feeds.get_mut(item.source) {
                feeds.entry(item.profile_item).or_default().push(item_index(position));
            }
        }
        let energy = ["energy.import", "energy.total"]
            .into_iter()
            .find_map(|name| machine.position(name))
            .map(item_index);
        let activity = activity(machine, item_index);
        engine.machines.push(MachinePlan { id: machine.id.clone(), activity, energy });
        faces.push(MachineFace {
            name: machine.name.clone(),
            kind: machine.kind.clone(),
            key_items: machine.key_items.iter().map(|&position| item_index(position)).collect(),
        });
    }
    engine.trips = outputs.iter().map(|output| trip(output, bases[output.machine])).collect();
    let (buses, places) = units(buses, sources, feeds, outputs);
    let outputs = outputs
        .iter()
        .enumerate()
        .map(|(at, output)| OutputPlan {
            trip: TripIndex(index16(at)),
            bus: sources[output.source].bus,
            unit: places[output.source],
            coil: output.coil,
            tripped: output.tripped,
        })
        .collect();
    Shop { buses, faces, outputs, engine }
}

fn activity(machine: &Machine, item_index: impl Fn(usize) -> ItemIndex) -> Option<ActivityPlan> {
    let activity = machine.activity.as_ref()?;
    let (item, enter_for, exit_for) =
        (item_index(activity.item), activity.enter_for, activity.exit_for);
    Some(match activity.signal {
        Signal::Power { idle, run } => ActivityPlan::Power { item, idle, run, enter_for, exit_for },
        Signal::Input { run_when } => ActivityPlan::Input { item, run_when, enter_for, exit_for },
    })
}

fn trip(output: &Output, base: u32) -> TripPlan {
    TripPlan {
        id: output.id.clone(),
        machine: MachineIndex(index16(output.machine)),
        proof: output.proof.as_ref().map(|proof| Proof {
            item: ItemIndex(base + index32(proof.item)),
            below: proof.below,
            samples: proof.samples,
            within: proof.within,
        }),
        attempt_deadline: output.attempt_deadline,
        attempts: output.attempts,
        permit_on_reset: output.permit_on_reset,
    }
}

/// The buses with their units, and the place of every source among its bus's units.
fn units(
    buses: &[Bus],
    sources: &[Source],
    feeds: Vec<BTreeMap<usize, Vec<ItemIndex>>>,
    outputs: &[Output],
) -> (Vec<BusPlan>, Vec<usize>) {
    let mut plans: Vec<BusPlan> = buses
        .iter()
        .map(|bus| BusPlan {
            id: bus.id.clone(),
            link: bus.link.clone(),
            units: Vec::new(),
            turnaround: bus.turnaround,
        })
        .collect();
    let mut writable: Vec<Vec<u16>> = vec![Vec::new(); sources.len()];
    for output in outputs {
        writable[output.source].push(output.coil);
    }
    let mut places = Vec::with_capacity(sources.len());
    for ((source, feeds), mut writable_coils) in sources.iter().zip(feeds).zip(writable) {
        let poll = |(profile_item, feeds)| PollPlan {
            profile_item,
            feeds,
            period: source.period,
            ratio: ratio(source, &source.profile.items[profile_item].item),
        };
        writable_coils.sort_unstable();
        let Some(BusPlan { units, .. }) = plans.get_mut(source.bus) else {
            places.push(0);
            continue;
        };
        places.push(units.len());
        units.push(UnitPlan {
            source: source.id.clone(),
            unit_id: source.unit_id,
            profile: source.profile.clone(),
            polls: feeds.into_iter().map(poll).collect(),
            writable_coils,
        });
    }
    (plans, places)
}

/// What a reading behind current and voltage transformers is multiplied by.
fn ratio(source: &Source, item: &Item) -> f64 {
    match item.unit {
        Unit::Ampere => source.ct_ratio,
        Unit::Volt => source.vt_ratio,
        Unit::Watt | Unit::VoltAmpere | Unit::Var | Unit::WattHour => {
            source.ct_ratio * source.vt_ratio
        }
        _ => 1.0,
    }
}

/// Machines and outputs are bounded far below this.
fn index16(position: usize) -> u16 {
    u16::try_from(position).expect("invariant: MACHINES_MAX and OUTPUTS_MAX fit into 16 bits")
}

/// 10 000 machines of at most 512 items.
fn index32(position: usize) -> u32 {
    u32::try_from(position).expect("invariant: MACHINES_MAX · ITEMS_MAX fits into 32 bits")
}
