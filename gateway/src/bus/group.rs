//! What is read together: the items of one unit with one period, as batches, and what their words
//! mean for the machines' items. Pure.

use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::{Batch, Holes, Words, coalesce, decode};
use andon_adapters::profile::Profile;
use andon_engine::plan::{ItemIndex, MachineIndex, Plan};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use super::Delivery;
use crate::config::plan::{BusPlan, PollPlan, UnitPlan};

/// The items of one unit with one period.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Position in the bus plan's `units`.
    pub(super) unit: usize,
    pub(super) period: Duration,
    profile: Arc<Profile>,
    polls: Vec<PollPlan>,
    batches: Vec<Batch>,
}

impl Group {
    /// The groups of a bus, in the order of its units.
    pub(super) fn all(plan: &BusPlan) -> Vec<Self> {
        plan.units.iter().enumerate().flat_map(|(unit, plan)| Self::of_unit(unit, plan)).collect()
    }

    fn of_unit(unit: usize, plan: &UnitPlan) -> Vec<Self> {
        let mut periods: Vec<Duration> = plan.polls.iter().map(|poll| poll.period).collect();
        periods.sort_unstable();
        periods.dedup();
        let group = |period| {
            let polls = plan.polls.iter().filter(|poll| poll.period == period).cloned().collect();
            let profile = plan.profile.clone();
            let mut group = Self { unit, period, profile, polls, batches: Vec::new() };
            group.replan(&Holes::default());
            group
        };
        periods.into_iter().map(group).collect()
    }

    /// Makes the batches anew, around `holes`.
    pub(super) fn replan(&mut self, holes: &Holes) {
        let items: Vec<usize> = self.polls.iter().map(|poll| poll.profile_item).collect();
        self.batches = coalesce(&self.profile, &items, holes);
    }

    pub(super) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the words of `batch` mean.
    pub(super) fn decode(&self, batch: &Batch, words: Words<'_>, round: &mut Round) {
        for (item, measured) in decode(&self.profile, batch, words) {
            self.feed(item, &measured, round);
        }
    }

    /// Every item of `batch` is unavailable.
    pub(super) fn fail(&self, batch: &Batch, why: Unavailable, round: &mut Round) {
        for &item in &batch.items {
            self.feed(item, &Err(why), round);
        }
    }

    /// Every item is unavailable.
    pub(super) fn fail_all(&self, why: Unavailable, round: &mut Round) {
        for batch in &self.batches {
            self.fail(batch, why, round);
        }
    }

    fn feed(&self, item: usize, measured: &Measured, round: &mut Round) {
        for poll in self.polls.iter().filter(|poll| poll.profile_item == item) {
            let measured = scaled(measured, poll.ratio);
            let quantities =
                poll.loops.iter().map(|(item, span)| (*item, span.quantity(&measured)));
            round.readings.extend(quantities);
            round.readings.extend(poll.feeds.iter().map(|&feed| (feed, measured.clone())));
        }
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

/// Which machine an item belongs to.
#[derive(Clone, Debug)]
pub(super) struct Machines(Arc<Plan>);

impl Machines {
    pub(super) fn of_plan(plan: &Arc<Plan>) -> Self {
        Self(Arc::clone(plan))
    }

    fn of(&self, item: ItemIndex) -> Option<MachineIndex> {
        self.0.items.get(usize::try_from(item.0).ok()?).map(|item| item.machine)
    }
}
