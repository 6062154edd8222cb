//! From checked sections to the plan: indices for names, one poll for every register that
//! several machines share, one list of coils that may be written.
//!
//! Nothing is reported here: whatever could be wrong has been.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Item;
use andon_engine::plan::{
    ActivityPlan, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand, Plan, Proof,
    STALE_LEAST, TripIndex, TripPlan,
};
use andon_engine::unit::Unit;

use super::bus::{Bus, LineTimes, Way};
use super::machine::{Machine, MachineItem, Signal};
use super::output::{Act, Output};
use super::plan::{
    BrokerPlan, BusPlan, DevicePlan, Fed, MachineFace, OutputPlan, OutputTarget, Place, PollPlan,
    UnitPlan,
};
use super::source::{Registers, Source, Speaks, Spoken, SpokenPlace};

/// The plan but for its rules.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) buses: Vec<Arc<BusPlan>>,
    pub(super) brokers: Vec<BrokerPlan>,
    pub(super) devices: Vec<DevicePlan>,
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
    let mut feeds: Vec<Feeds> =
        sources.iter().map(|source| vec![None; source.items.len()]).collect();
    let mut bases = Vec::with_capacity(machines.len());
    let mut measurands = Measurands::default();
    for (at, machine) in machines.iter().enumerate() {
        let base = index32(engine.items.len());
        bases.push(base);
        let item_index = |position: usize| ItemIndex(base + index32(position));
        for (position, item) in machine.items.iter().enumerate() {
            // A source that could not be had has been reported: this plan will not run.
            let source = sources.get(item.source);
            let period = source.map_or(STALE_LEAST, |source| source.period_of(item.profile_item));
            let measurand = measurands.of(item, period);
            engine.items.push(ItemPlan::new(MachineIndex(index16(at)), measurand));
            let fed = feeds.get_mut(item.source).and_then(|it| it.get_mut(item.profile_item));
            let Some(fed) = fed else { continue };
            fed.get_or_insert_default().add(item_index(position), item.span.as_deref().copied());
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
    engine.items.shrink_to_fit();
    engine.trips = outputs.iter().map(|output| trip(output, bases[output.machine])).collect();
    let wiring = Wiring::new(buses, sources, feeds, outputs);
    let outputs = outputs
        .iter()
        .enumerate()
        .map(|(at, output)| OutputPlan {
            trip: TripIndex(index16(at)),
            target: wiring.target(output),
        })
        .collect();
    let Wiring { buses, brokers, devices, .. } = wiring;
    let buses = buses.into_iter().map(Arc::new).collect();
    Shop { buses, brokers, devices, faces, outputs, engine }
}

/// By item of a source, the machine items that it feeds.
type Feeds = Vec<Option<Fed>>;

/// The items that feed any, by their positions.
fn fed(feeds: Feeds) -> impl Iterator<Item = (usize, Fed)> {
    feeds.into_iter().enumerate().filter_map(|(position, fed)| Some((position, fed?)))
}

/// What is measured, each once: by name, period and fastest change.
#[derive(Default)]
struct Measurands(HashMap<(Arc<str>, Duration, Option<u64>), Arc<Measurand>>);

impl Measurands {
    fn of(&mut self, item: &MachineItem, period: Duration) -> Arc<Measurand> {
        let key = (item.item.name.clone(), period, item.max_rate.map(f64::to_bits));
        let new = || {
            Arc::new(Measurand {
                max_rate: item.max_rate,
                ..Measurand::every(Item::clone(&item.item), period)
            })
        };
        Arc::clone(self.0.entry(key).or_insert_with(new))
    }
}

fn activity(machine: &Machine, item_index: impl Fn(usize) -> ItemIndex) -> Vec<ActivityPlan> {
    let plan = |activity: &super::machine::Activity| {
        let (item, enter_for, exit_for) =
            (item_index(activity.item), activity.enter_for, activity.exit_for);
        match activity.signal {
            Signal::Controller => ActivityPlan::Controller { item, exit_for },
            Signal::Power { idle, run } => {
                ActivityPlan::Power { item, idle, run, enter_for, exit_for }
            }
            Signal::Input { run_when } => {
                ActivityPlan::Input { item, run_when, enter_for, exit_for }
            }
        }
    };
    machine.activity.iter().map(plan).collect()
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

/// The buses, brokers and devices, and where each source and bus has its place among them.
struct Wiring {
    buses: Vec<BusPlan>,
    brokers: Vec<BrokerPlan>,
    devices: Vec<DevicePlan>,
    /// By configured bus: its position among the lines or among the brokers.
    of_bus: Vec<usize>,
    /// By source: its bus and unit, or its device.
    of_source: Vec<SourcePlace>,
}

/// Where a source has its place.
#[derive(Clone, Copy, Debug)]
enum SourcePlace {
    Unit { bus: usize, unit: usize },
    Device(usize),
}

impl Wiring {
    fn new(configured: &[Bus], sources: &[Source], feeds: Vec<Feeds>, outputs: &[Output]) -> Self {
        let (buses, brokers, devices) = (Vec::new(), Vec::new(), Vec::new());
        let mut wiring =
            Self { buses, brokers, devices, of_bus: Vec::new(), of_source: Vec::new() };
        for bus in configured {
            wiring.add_bus(bus);
        }
        for (position, (source, feeds)) in sources.iter().zip(feeds).enumerate() {
            let acts = outputs.iter().filter(|output| output.source == position);
            let acts: Vec<Act> = acts.map(|output| output.act).collect();
            match &source.speaks {
                Speaks::Registers(registers) => wiring.add_unit(source, registers, feeds, &acts),
                Speaks::Protocol(spoken) => wiring.add_device(source, spoken, feeds, &acts),
            }
        }
        wiring
    }

    fn add_bus(&mut self, bus: &Bus) {
        match &bus.way {
            Way::Line { link, times } => {
                self.of_bus.push(self.buses.len());
                let LineTimes { turnaround, pause, dead_share } = *times;
                self.buses.push(BusPlan {
                    id: bus.id.clone(),
                    link: link.clone(),
                    units: Vec::new(),
                    turnaround,
                    pause,
                    dead_share,
                });
            }
            Way::Broker(broker) => {
                self.of_bus.push(self.brokers.len());
                self.brokers.push(broker.clone());
            }
        }
    }

    fn add_unit(&mut self, source: &Source, registers: &Registers, feeds: Feeds, acts: &[Act]) {
        let poll = |(profile_item, fed): (usize, Fed)| PollPlan {
            profile_item,
            fed,
            period: source.period_of(profile_item),
            ratio: ratio(registers, &source.items[profile_item]),
        };
        let coil = |act: &Act| match act {
            Act::Coil { coil, .. } => Some(*coil),
            Act::Stop(_) => None,
        };
        let mut writable_coils: Vec<u16> = acts.iter().filter_map(coil).collect();
        writable_coils.sort_unstable();
        let Some(&bus) = self.of_bus.get(registers.bus) else {
            return self.of_source.push(SourcePlace::Unit { bus: 0, unit: 0 });
        };
        let units = &mut self.buses[bus].units;
        self.of_source.push(SourcePlace::Unit { bus, unit: units.len() });
        units.push(UnitPlan {
            source: source.id.clone(),
            station: registers.station,
            profile: registers.profile.clone(),
            polls: fed(feeds).map(poll).collect(),
            periods: registers.periods.clone(),
            writable_coils,
        });
    }

    fn add_device(&mut self, source: &Source, spoken: &Spoken, feeds: Feeds, acts: &[Act]) {
        let place = match &spoken.place {
            SpokenPlace::Own(place) => place.clone(),
            SpokenPlace::Bus(bus) => {
                Place::Broker(self.of_bus.get(*bus).copied().unwrap_or_default())
            }
        };
        let stop = |act: &Act| match act {
            Act::Stop(stop) => Some(*stop),
            Act::Coil { .. } => None,
        };
        let named = |(position, fed): (usize, Fed)| {
            (source.items[position].name.clone(), fed.direct().to_vec())
        };
        self.of_source.push(SourcePlace::Device(self.devices.len()));
        self.devices.push(DevicePlan {
            source: source.id.clone(),
            protocol: spoken.protocol,
            settings: spoken.settings.clone(),
            place,
            credentials: spoken.credentials.clone(),
            period: source.period,
            feeds: fed(feeds).map(named).collect(),
            stops: acts.iter().filter_map(stop).collect(),
        });
    }

    fn target(&self, output: &Output) -> OutputTarget {
        match (self.of_source[output.source], output.act) {
            (SourcePlace::Unit { bus, unit }, Act::Coil { coil, tripped }) => {
                OutputTarget::Coil { bus, unit, coil, tripped }
            }
            (SourcePlace::Device(device), Act::Stop(stop)) => OutputTarget::Stop { device, stop },
            _ => unreachable!("invariant: a relay is a board's, a stop is a device's"),
        }
    }
}

/// What a reading behind current and voltage transformers is multiplied by.
fn ratio(source: &Registers, item: &Item) -> f64 {
    match item.unit {
        // A loop's current is a message, not a measured current.
        Unit::Ampere if !item.name.starts_with("loop.") => source.ct_ratio,
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
