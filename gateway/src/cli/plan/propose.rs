//! What to read less often so that a bus can do what it is asked: items that nobody is stopped,
//! alarmed or billed by the minute for, the most bus time first. Pure; it changes nothing.
//!
//! Bounds: each read of each device is moved at most once per step of [`LADDER`], and a source gets
//! no more different periods than its configuration may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Kind;
use andon_engine::plan::{ActivityPlan, ItemIndex};
use andon_engine::rules::Condition;

use crate::bus::load::{load, occupancy, unit_occupancy};
use crate::bus::memory::Remembered;
use crate::config::period;
use crate::config::plan::{BusPlan, Plan, UnitPlan};

mod advice;

/// What a proposal is to leave of a bus for retries and writes: a tenth.
const OCCUPANCY_WANTED: f64 = 0.9;
/// Periods that are proposed, in seconds, and for what; the first that are enough. A counter misses
/// nothing when it is read less often, so counters go a step ahead.
const LADDER: [(u64, bool); 9] = [
    (1, COUNTERS),
    (5, COUNTERS),
    (10, COUNTERS),
    (1, ALL),
    (60, COUNTERS),
    (5, ALL),
    (10, ALL),
    (60, ALL),
    (300, ALL),
];
const COUNTERS: bool = true;
const ALL: bool = false;
/// A move that saves less than this share of the bus is not worth an entry.
const GAIN_LEAST: f64 = 0.001;

/// Items of one source that would be read less often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) source: Arc<str>,
    pub(super) items: Vec<Arc<str>>,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What would be moved, and what that would come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    /// By source, in the order of the plan, and period.
    pub(super) moves: Vec<Move>,
    /// By source: its `periods` then, those that it has included.
    periods: BTreeMap<Arc<str>, BTreeMap<String, Duration>>,
    pub(super) before: f64,
    pub(super) after: f64,
}

/// The machine items that are wanted as often as they are read: what activity is told from, what
/// rules look at, and what proves a stop.
pub(super) fn urgent(plan: &Plan) -> BTreeSet<ItemIndex> {
    let engine = &plan.engine;
    let activity = engine.machines.iter().flat_map(|machine| &machine.activity);
    let rules = engine.rules.iter();
    let conditions = rules.flat_map(|rule| std::iter::once(&rule.when).chain(&rule.clear));
    let proofs = engine.trips.iter().filter_map(|trip| trip.proof.as_ref());
    activity
        .map(ActivityPlan::item)
        .chain(conditions.flat_map(Condition::items))
        .chain(proofs.map(|proof| proof.item))
        .collect()
}

/// The moves after which `bus` fits, or those that help most when none are enough; `None` when
/// nothing can be moved. Where a source may not have all periods of the ladder, the shortest are
/// tried first, and then without them those that are longer.
pub(super) fn propose(
    bus: &BusPlan,
    assumed: &[Remembered],
    urgent: &BTreeSet<ItemIndex>,
) -> Option<Proposal> {
    let before = occupancy(bus, assumed);
    let mut best: Option<Proposal> = None;
    let mut tried = Vec::new();
    for without in 0..LADDER.len() {
        let rungs = bus.units.iter().map(|unit| rungs(unit, without)).collect();
        if rungs == tried {
            break;
        }
        let mut search =
            Search { bus: bus.clone(), assumed, urgent, rungs, moved: BTreeMap::new() };
        search.run(before);
        let found = search.proposal(before);
        tried = search.rungs;
        if found.as_ref().is_some_and(|it| best.as_ref().is_none_or(|best| it.after < best.after)) {
            best = found;
        }
        if best.as_ref().is_some_and(|best| best.after <= OCCUPANCY_WANTED) {
            break;
        }
    }
    best
}

/// Whether a source has so many periods that there is a period of the ladder that it may not have.
pub(super) fn is_short_of_periods(bus: &BusPlan) -> bool {
    let all: BTreeSet<u64> = LADDER.iter().map(|(seconds, _)| *seconds).collect();
    bus.units.iter().any(|unit| rungs(unit, 0).len() < all.len())
}

/// The periods of the ladder that a source may have: those that its `periods` name, and as many of
/// the others as its configuration takes beside those, `without` so many of the shortest where it
/// does not take them all.
fn rungs(unit: &UnitPlan, without: usize) -> BTreeSet<Duration> {
    let written: BTreeSet<Duration> = unit.periods.iter().map(|(_, period)| *period).collect();
    let all: BTreeSet<Duration> =
        LADDER.iter().map(|(seconds, _)| Duration::from_secs(*seconds)).collect();
    let others: Vec<Duration> = all.difference(&written).copied().collect();
    let fit = |some: &[Duration]| period::are_few(&written.iter().chain(some).copied().collect());
    let room = (0..=others.len()).rev().find(|&count| fit(&others[..count])).unwrap_or(0);
    let from = without.min(others.len() - room);
    all.intersection(&written).chain(&others[from..from + room]).copied().collect()
}

/// A bus as it would be after some moves.
struct Search<'a> {
    bus: BusPlan,
    assumed: &'a [Remembered],
    urgent: &'a BTreeSet<ItemIndex>,
    /// By unit: the periods that its items may move to.
    rungs: Vec<BTreeSet<Duration>>,
    /// By unit and poll: from where it was moved, and to where.
    moved: BTreeMap<(usize, usize), (Duration, Duration)>,
}

impl Search<'_> {
    /// Up the ladder, until it fits.
    fn run(&mut self, mut occupancy: f64) {
        for (seconds, counters) in LADDER {
            if occupancy <= OCCUPANCY_WANTED {
                break;
            }
            let step = (Duration::from_secs(seconds), counters);
            // Of each unit the best move: when it is made, only that unit has another.
            let mut best: Vec<Option<(f64, Vec<usize>)>> =
                (0..self.bus.units.len()).map(|unit| self.best_move(unit, step)).collect();
            while occupancy > OCCUPANCY_WANTED {
                let gains = best
                    .iter()
                    .enumerate()
                    .filter_map(|(unit, best)| best.as_ref().map(|(gain, _)| (unit, *gain)));
                let Some((unit, gain)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
                let Some((_, polls)) = best[unit].take() else { break };
                for poll in polls {
                    let from = self.bus.units[unit].polls[poll].period;
                    self.bus.units[unit].polls[poll].period = step.0;
                    self.moved.entry((unit, poll)).or_insert((from, step.0)).1 = step.0;
                }
                occupancy -= gain;
                best[unit] = self.best_move(unit, step);
            }
        }
    }

    /// The items of one read of a unit that are not urgent and would save the most when they (its
    /// counters alone, if so) are read every `to` only, as polls, with the share of the bus that
    /// this saves.
    fn best_move(
        &self,
        unit: usize,
        (to, counters): (Duration, bool),
    ) -> Option<(f64, Vec<usize>)> {
        if !self.rungs[unit].contains(&to) {
            return None;
        }
        let assumed = self.assumed.get(unit);
        let mut alone = self.alone(unit);
        let one: Vec<Remembered> = assumed.cloned().into_iter().collect();
        let now = load(&alone, &one);
        let source = now.sources.first()?;
        let mut reads: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for item in &source.items {
            let polls = &alone.units[0].polls;
            let Some(poll) = polls.iter().position(|poll| poll.profile_item == item.position)
            else {
                continue;
            };
            let kind = alone.units[0].profile.items[item.position].item.kind;
            if counters && kind != Kind::Counter {
                continue;
            }
            let fed = polls[poll].fed.all();
            let period = polls[poll].period;
            let harmonic = period < to && to.as_nanos().is_multiple_of(period.as_nanos().max(1));
            if harmonic && !fed.clone().any(|item| self.urgent.contains(&item)) {
                reads.entry((period, item.read)).or_default().push(poll);
            }
        }
        let mut best: Option<(f64, Vec<usize>)> = None;
        for polls in reads.into_values() {
            let before: Vec<Duration> =
                polls.iter().map(|&poll| alone.units[0].polls[poll].period).collect();
            polls.iter().for_each(|&poll| alone.units[0].polls[poll].period = to);
            let gain = source.occupancy - unit_occupancy(&alone, 0, assumed);
            for (&poll, period) in polls.iter().zip(before) {
                alone.units[0].polls[poll].period = period;
            }
            if gain > best.as_ref().map_or(GAIN_LEAST, |(best, _)| *best) {
                best = Some((gain, polls));
            }
        }
        best
    }

    /// A bus of this unit alone: what it takes does not depend on the others.
    fn alone(&self, unit: usize) -> BusPlan {
        BusPlan {
            id: self.bus.id.clone(),
            link: self.bus.link.clone(),
            units: vec![self.bus.units[unit].clone()],
            turnaround: self.bus.turnaround,
            pause: self.bus.pause,
            dead_share: self.bus.dead_share,
        }
    }

    /// What was moved, by source and period; `None` when nothing was.
    fn proposal(&self, before: f64) -> Option<Proposal> {
        let mut together: BTreeMap<(usize, Duration, Duration), Vec<Arc<str>>> = BTreeMap::new();
        for (&(at, poll), &(from, to)) in &self.moved {
            let unit = &self.bus.units[at];
            let Some(item) = unit.profile.items.get(unit.polls[poll].profile_item) else {
                continue;
            };
            together.entry((at, from, to)).or_default().push(item.item.name.clone());
        }
        let source = |unit: usize| self.bus.units[unit].source.clone();
        let moves: Vec<Move> = together
            .iter()
            .map(|(&(unit, from, to), items)| Move {
                source: source(unit),
                items: items.clone(),
                from,
                to,
            })
            .collect();
        // Whatever of a source goes to one period is said together, wherever it comes from.
        let mut by_unit: BTreeMap<usize, BTreeMap<Duration, Vec<Arc<str>>>> = BTreeMap::new();
        for ((unit, _, to), items) in together {
            by_unit.entry(unit).or_default().entry(to).or_default().extend(items);
        }
        let periods = by_unit
            .into_iter()
            .map(|(unit, moved)| (source(unit), advice::periods(&self.bus.units[unit], &moved)));
        let periods = periods.collect();
        let after = occupancy(&self.bus, self.assumed);
        (!moves.is_empty()).then_some(Proposal { moves, periods, before, after })
    }
}
