//! What a unit is asked when some of its groups are due: the cheapest reads for all of them
//! together, so that slow items ride along with fast ones wherever that costs less than asking for
//! them again. Pure.
//!
//! Groups of harmonic periods fall due at the same instants, so whatever can be shared is shared
//! there, and no item is read more often than it is wanted. Bounds: [`PLANS_MAX`] plans are kept;
//! a plan is made anew when a hole is learned, and when the device's measured turnaround has
//! changed by enough to matter, at most every [`RETIME_LEAST`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::{Batch, Holes, plan_reads};
use andon_adapters::profile::Profile;
use andon_engine::time::BootTime;

use super::group::Group;
use super::timing::LineTiming;
use crate::config::plan::BusPlan;

/// Plans that are kept. Groups of harmonic periods need one for each period.
const PLANS_MAX: usize = 32;
/// Reads are planned for a new turnaround when it is off by this part of the old one …
const RETIME_PART: u32 = 4;
/// … and by this much, …
const RETIME_BY: Duration = Duration::from_millis(1);
/// … and no sooner than this after the last time.
const RETIME_LEAST: Duration = Duration::from_secs(10);
/// The place of an item that is not polled.
const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);

/// The reads of one unit.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    profile: Arc<Profile>,
    timing: LineTiming,
    /// Positions of its groups among those of the bus.
    groups: Range<usize>,
    /// By item of the profile: its group and its place among the group's polls, or [`NOWHERE`].
    of_item: Box<[(u32, u32)]>,
    /// The turnaround that the plans are for, and since when.
    turnaround: Duration,
    timed: Option<BootTime>,
    /// By set of groups that are due together, one bit each.
    plans: Vec<(u64, Arc<[Arc<Batch>]>)>,
}

impl Reads {
    /// Of the unit at a position of the plan; `all` are the groups of the bus, and its turnaround
    /// may be known from before.
    pub(super) fn new(
        plan: &BusPlan,
        unit: usize,
        all: &[Group],
        turnaround: Option<Duration>,
    ) -> Self {
        let profile = &plan.units[unit].profile;
        let from = all.partition_point(|group| group.unit < unit);
        let groups = from..all.partition_point(|group| group.unit <= unit);
        let mut of_item = vec![NOWHERE; profile.items.len()];
        for (at, group) in (0..).zip(all).skip(from).take(groups.len()) {
            for (place, poll) in (0..).zip(group.polls(plan)) {
                if let Some(entry) = of_item.get_mut(poll.profile_item) {
                    *entry = (at, place);
                }
            }
        }
        Self {
            profile: profile.clone(),
            timing: LineTiming::of_bus(plan),
            groups,
            of_item: of_item.into(),
            turnaround: turnaround.unwrap_or_default(),
            timed: None,
            plans: Vec::new(),
        }
    }

    /// Its groups' positions among those of the bus.
    pub(super) fn groups(&self) -> Range<usize> {
        self.groups.clone()
    }

    /// An item's group and its place among the group's polls.
    pub(super) fn place_of(&self, item: usize) -> Option<(usize, usize)> {
        let &(group, place) = self.of_item.get(item).filter(|place| **place != NOWHERE)?;
        Some((group as usize, place as usize))
    }

    /// Whether `batch` holds an item of this group.
    pub(super) fn serves(&self, batch: &Batch, group: usize) -> bool {
        batch.items.iter().any(|&item| self.place_of(item).is_some_and(|(of, _)| of == group))
    }

    /// The cheapest reads for the groups of `due`.
    pub(super) fn of(&mut self, due: &[usize], holes: &Holes) -> Arc<[Arc<Batch>]> {
        let bit = |group: &usize| {
            let position = u32::try_from(group - self.groups.start).unwrap_or(u32::MAX);
            1u64.checked_shl(position).unwrap_or(0)
        };
        let key = due.iter().fold(0, |key, group| key | bit(group));
        // More groups than bits are never mistaken for each other: they are planned each time.
        let distinct = self.groups.len() <= 64;
        if let Some((_, plan)) = self.plans.iter().find(|(known, _)| distinct && *known == key) {
            return plan.clone();
        }
        // In the order of the profile, whatever the order of the groups.
        let wanted = |&item: &usize| self.place_of(item).is_some_and(|(of, _)| due.contains(&of));
        let items: Vec<usize> = (0..self.of_item.len()).filter(wanted).collect();
        let cost = self.timing.read_cost(self.turnaround);
        let plan = plan_reads(&self.profile, &items, holes, cost);
        let plan: Arc<[Arc<Batch>]> = plan.into_iter().map(Arc::new).collect();
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        if distinct {
            self.plans.push((key, plan.clone()));
        }
        plan
    }

    /// Plans are made anew: a hole was learned or forgotten.
    pub(super) fn replan(&mut self) {
        self.plans.clear();
    }

    /// The device's turnaround as measured; plans are made anew when it matters.
    pub(super) fn retime(&mut self, usual: Option<Duration>, now: BootTime) {
        let Some(usual) = usual else { return };
        let off = usual.abs_diff(self.turnaround);
        let early = self.timed.is_some_and(|timed| now.since(timed) < RETIME_LEAST);
        if early || off <= RETIME_BY.max(self.turnaround / RETIME_PART) {
            return;
        }
        self.timed = Some(now);
        self.turnaround = usual;
        self.plans.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::tests::bench::{SECOND, bus, profile};

    /// Registers 0 and 1 every second, 12 every 10 s, 100 every 10 s.
    fn reads() -> Reads {
        let profile = profile(&[0, 1, 12, 100]);
        let (mut plan, _) = bus(false, 1, &profile);
        plan.units[0].polls[2].period = 10 * SECOND;
        plan.units[0].polls[3].period = 10 * SECOND;
        let groups = Group::all(&plan);
        Reads::new(&plan, 0, &groups, None)
    }

    fn blocks(plan: &[Arc<Batch>]) -> Vec<String> {
        plan.iter().map(|batch| batch.block.to_string()).collect()
    }

    #[test]
    fn a_slow_item_rides_along_when_its_registers_cost_less_than_another_request() {
        let mut reads = reads();
        let holes = Holes::default();
        assert_eq!(blocks(&reads.of(&[0], &holes)), ["holding:0x0000+2"]);
        assert_eq!(blocks(&reads.of(&[1], &holes)), ["holding:0x000C+1", "holding:0x0064+1"]);
        // A gap of ten registers: 22.9 ms at 9600 baud, as a request of 22.9 ms; with a device
        // that takes 20 ms the request is 39 ms.
        reads.retime(Some(Duration::from_millis(20)), BootTime::from_millis(0));
        assert_eq!(blocks(&reads.of(&[0, 1], &holes)), ["holding:0x0000+13", "holding:0x0064+1"]);
        // Nothing is read more often for it.
        assert_eq!(blocks(&reads.of(&[0], &holes)), ["holding:0x0000+2"]);
    }

    #[test]
    fn reads_are_planned_anew_for_a_turnaround_that_matters_and_not_for_noise() {
        let mut reads = reads();
        let (holes, ms) = (Holes::default(), Duration::from_millis);
        let at = BootTime::from_millis;
        let asked = |reads: &mut Reads| reads.of(&[0, 1], &holes).len();
        reads.retime(Some(ms(100)), at(0));
        assert_eq!(asked(&mut reads), 2);
        let before = reads.of(&[0, 1], &holes);
        reads.retime(Some(ms(120)), at(20_000));
        assert!(Arc::ptr_eq(&before, &reads.of(&[0, 1], &holes)), "a fifth is noise");
        reads.retime(Some(ms(300)), at(9_000));
        assert!(Arc::ptr_eq(&before, &reads.of(&[0, 1], &holes)), "too soon");
        reads.retime(Some(ms(300)), at(20_000));
        assert_eq!(asked(&mut reads), 1, "at 300 ms even 88 registers cost less");
    }
}
