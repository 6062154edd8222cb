//! What is due together: the items of one unit with one period, and what their values mean for the
//! machines' items. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::plan::{ItemIndex, MachineIndex, Plan};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use super::Delivery;
use crate::config::plan::{BusPlan, Fed, PollPlan, UnitPlan};

/// The items of one unit with one period.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Position in the bus plan's `units`.
    pub(super) unit: usize,
    pub(super) period: Duration,
    /// Positions among the unit's polls.
    polls: Box<[u32]>,
}

impl Group {
    /// The groups of a bus, in the order of its units, the shortest period of each first.
    pub(super) fn all(plan: &BusPlan) -> Vec<Self> {
        plan.units.iter().enumerate().flat_map(|(unit, plan)| Self::of_unit(unit, plan)).collect()
    }

    fn of_unit(unit: usize, plan: &UnitPlan) -> Vec<Self> {
        let mut periods: Vec<Duration> = plan.polls.iter().map(|poll| poll.period).collect();
        periods.sort_unstable();
        periods.dedup();
        let group = |period| {
            let own = (0..).zip(&plan.polls).filter(|(_, poll)| poll.period == period);
            Self { unit, period, polls: own.map(|(at, _)| at).collect() }
        };
        periods.into_iter().map(group).collect()
    }

    /// Its polls in the plan of its bus.
    pub(super) fn polls<'a>(&self, plan: &'a BusPlan) -> impl Iterator<Item = &'a PollPlan> {
        let polls = plan.units.get(self.unit).map_or(&[][..], |unit| &unit.polls);
        self.polls.iter().filter_map(|&at| polls.get(at as usize))
    }

    fn poll<'a>(&self, plan: &'a BusPlan, place: usize) -> Option<&'a PollPlan> {
        plan.units.get(self.unit)?.polls.get(*self.polls.get(place)? as usize)
    }

    /// What its poll at `place` has brought goes to the machines' items that it feeds.
    pub(super) fn feed(
        &self,
        plan: &BusPlan,
        place: usize,
        measured: &Measured,
        round: &mut Round,
    ) {
        let Some(poll) = self.poll(plan, place) else { return };
        let measured = scaled(measured, poll.ratio);
        if let Fed::One(item) = poll.fed {
            round.readings.push((item, measured));
            return;
        }
        let loops = poll.fed.loops().iter();
        round.readings.extend(loops.map(|(item, span)| (*item, span.quantity(&measured))));
        let direct = poll.fed.direct().iter();
        round.readings.extend(direct.map(|&item| (item, measured.clone())));
    }
}

fn scaled(measured: &Measured, ratio: f64) -> Measured {
    match measured {
        Ok(Value::Number(number)) => {
            let number = number * ratio;
            if number.is_finite() {
                Ok(Value::Number(number))
            } else {
                Err(Unavailable::OutOfRange)
            }
        }
        other => other.clone(),
    }
}

/// What one reading of a group has brought so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    readings: Vec<(ItemIndex, Measured)>,
    /// When the first answer came. Later answers of the round are stamped with it too: a sample
    /// may seem older than it is, never newer than a command that it is to prove.
    pub(super) taken: Option<BootTime>,
}

impl Round {
    /// One delivery per machine.
    pub(super) fn deliveries(self, at: BootTime, machines: &Machines) -> Vec<Delivery> {
        deliveries(at, self.readings, machines)
    }
}

/// Readings sampled at `at`, one delivery per machine.
pub(super) fn deliveries(
    at: BootTime,
    mut readings: Vec<(ItemIndex, Measured)>,
    machines: &Machines,
) -> Vec<Delivery> {
    let key = |&(item, _): &(ItemIndex, Measured)| (machines.of(item), item);
    // Most often they are: items are planned in the order of their machines.
    if !readings.is_sorted_by_key(key) {
        readings.sort_by_key(key);
    }
    let mut deliveries = Vec::with_capacity(1);
    while let Some(&(last, _)) = readings.last() {
        let machine = machines.of(last);
        let begin = readings.partition_point(|&(item, _)| machines.of(item) < machine);
        let rest =
            if begin == 0 { std::mem::take(&mut readings) } else { readings.split_off(begin) };
        deliveries.push(Delivery { at, readings: rest });
    }
    deliveries.reverse();
    deliveries
}

/// Which machine an item belongs to, and which machines a stop looks at.
#[derive(Clone, Debug)]
pub(super) struct Machines {
    plan: Arc<Plan>,
    urgent: Arc<BTreeSet<MachineIndex>>,
}

impl Machines {
    pub(super) fn of_plan(plan: &Arc<Plan>) -> Self {
        let machine = |item: &ItemIndex| Some(plan.items.get(item.0 as usize)?.machine);
        let rules = plan.rules.iter().filter(|rule| rule.trip.is_some());
        let conditions = rules.flat_map(|rule| std::iter::once(&rule.when).chain(&rule.clear));
        let mut urgent = BTreeSet::new();
        for condition in conditions {
            urgent.extend(condition.items().filter_map(|item| machine(&item)));
            urgent.extend(condition.machines());
        }
        let proofs = plan.trips.iter().filter_map(|trip| trip.proof.as_ref());
        urgent.extend(proofs.filter_map(|proof| machine(&proof.item)));
        Self { plan: Arc::clone(plan), urgent: Arc::new(urgent) }
    }

    fn of(&self, item: ItemIndex) -> Option<MachineIndex> {
        self.plan.items.get(usize::try_from(item.0).ok()?).map(|item| item.machine)
    }

    /// Whether a stop may follow from this delivery, or be proved by it: it waits for nothing.
    pub(super) fn is_urgent(&self, delivery: &Delivery) -> bool {
        let machine = delivery.readings.first().and_then(|(item, _)| self.of(*item));
        machine.is_some_and(|machine| self.urgent.contains(&machine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::Folder;

    /// The machines of the sample configuration that a stop looks at, with another condition for
    /// its one stop.
    fn urgent(condition: &str) -> Vec<String> {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/andon.toml");
        let sample = std::fs::read_to_string(sample).unwrap();
        // What ends the sample's alarm would not end every other.
        let when = "when = \"power.active > 2.5 kW\"";
        let clear = "clear = \"power.active < 2.2 kW\"";
        assert!(sample.contains(when) && sample.contains(clear));
        let changed = sample.replace(when, condition).replace(clear, "");
        let folder = Folder::new("bus-urgent");
        let path = folder.path().join("andon.toml");
        std::fs::create_dir_all(folder.path()).unwrap();
        std::fs::write(&path, changed).unwrap();
        let plan = crate::config::load_with(&path, std::iter::empty()).unwrap().plan.engine;
        let machines = Machines::of_plan(&plan);
        let mut urgent = Vec::new();
        for (item, known) in (0..).map(ItemIndex).zip(&plan.items) {
            let readings = vec![(item, Err(Unavailable::NotYet))];
            if machines.is_urgent(&Delivery { at: BootTime(1), readings }) {
                urgent.push(plan.machines[usize::from(known.machine.0)].id.to_string());
            }
        }
        urgent.dedup();
        urgent
    }

    #[test]
    fn what_a_stop_may_follow_from_or_be_proved_by_is_urgent_and_nothing_else() {
        assert_eq!(urgent("when = \"power.active > 2 kW\""), ["laser"]);
        let others = "when = \"power.active > 2 kW or kiln.temperature > 900 °C\"";
        assert_eq!(urgent(others), ["laser", "kiln"]);
        // Its own power proves the stop, whatever asks for it.
        assert_eq!(urgent("when = \"kiln.temperature > 900 °C\""), ["laser", "kiln"]);
        let ends = "when = \"power.active > 2 kW\"\n\
                    clear = \"power.active < 1 kW and kiln.temperature < 100 °C\"";
        assert_eq!(urgent(ends), ["laser", "kiln"]);
        let states = "when = \"power.active > 2 kW and saw.activity == run\"";
        assert_eq!(urgent(states), ["saw", "laser"]);
    }
}
