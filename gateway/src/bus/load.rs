//! What a bus is asked to do, and whether it can: the poller's own reads, counted instead of sent.
//! Pure arithmetic; what a device takes before it answers is an argument.
//!
//! Two statements follow. A bus whose reads take more than all of its time cannot do what it is
//! asked, whatever the order. A bus that passes the test of [`super::scheduler`] does it always:
//! then a value's age is at most its period and its round's response time. That is what the round's
//! own reads take, the longest read that may just have begun (blocking), and the reads of others
//! with earlier deadlines that may come between (interference).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::{Batch, Block, Holes};
use andon_adapters::profile::ProfileItem;

use super::group::Group;
use super::memory::Remembered;
use super::reads::Reads;
use super::timing::LineTiming;
use crate::config::plan::BusPlan;

/// Instants at which rounds fall due that are looked at: two hours of rounds every second. What
/// several periods share is known long before.
const INSTANTS_MAX: usize = 7200;
/// Steps of a response time; it grows by a whole read in each, so more would be an overload.
const STEPS_MAX: usize = 1000;

/// What one bus is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct BusLoad {
    /// Share of its time that is taken: above 1 it cannot be done.
    pub occupancy: f64,
    /// Whether every period is met whatever happens to fall together, all devices answering as
    /// assumed.
    pub guaranteed: bool,
    /// Reads per second.
    pub reads_per_second: f64,
    /// Greatest age that a value reaches before its successor arrives, all devices answering. A
    /// bound, but an estimate where [`BusLoad::fits`] is not true.
    pub worst_age: Duration,
    /// The sources, in the order of the plan.
    pub sources: Vec<SourceLoad>,
}

impl BusLoad {
    /// Whether it can be done: then the ages are bounds. Else all that is known is that everything
    /// comes later in proportion, and how late one value becomes is estimated.
    pub fn fits(&self) -> bool {
        self.occupancy <= 1.0
    }
}

/// A source's part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLoad {
    /// Its id.
    pub source: Arc<str>,
    /// Share of the bus's time that it takes.
    pub occupancy: f64,
    /// What it is assumed to need before it answers.
    pub turnaround: Duration,
    /// Its items, by address.
    pub items: Vec<ItemLoad>,
}

/// How an item is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemLoad {
    /// Its name.
    pub item: Arc<str>,
    /// Its position in the profile.
    pub position: usize,
    /// How often it is read.
    pub period: Duration,
    /// Greatest age before its successor arrives; as [`BusLoad::worst_age`], an estimate on a bus
    /// that does not fit.
    pub worst_age: Duration,
    /// The read that it sits in when its round alone is due …
    pub read: Block,
    /// … and when all of the device's are, where that is another.
    pub shared: Option<Block>,
}

/// A group with what its rounds take.
struct Task {
    period: Duration,
    /// Its round alone.
    alone: Duration,
    /// Its round with what rides along.
    round: Duration,
    /// Its longest read.
    longest: Duration,
}

/// What `bus` is asked to do when its devices answer as they are `assumed` to, by unit; one that is
/// missing there is assumed to answer at once.
pub fn load(bus: &BusPlan, assumed: &[Remembered]) -> BusLoad {
    let mut tasks = Vec::new();
    let mut units = Vec::with_capacity(bus.units.len());
    let (groups, timing) = (Group::all(bus), LineTiming::of_bus(bus));
    let mut reads_per_second = 0.0;
    for at in 0..bus.units.len() {
        let unit = Unit::new(bus, &groups, at, timing, assumed.get(at));
        let (occupancy, reads, found) = unit.load();
        reads_per_second += reads;
        tasks.extend(found);
        units.push((unit, occupancy));
    }
    let occupancy = units.iter().map(|(_, occupancy)| occupancy).sum();
    let guaranteed = is_guaranteed(&tasks);
    let ages: Vec<Duration> =
        (0..tasks.len()).map(|at| worst_age(&tasks, at, occupancy, guaranteed)).collect();
    let sources = units.into_iter().map(|(mut unit, occupancy)| unit.source(occupancy, &ages));
    BusLoad {
        occupancy,
        guaranteed,
        reads_per_second,
        worst_age: ages.iter().copied().max().unwrap_or_default(),
        sources: sources.collect(),
    }
}

/// [`BusLoad::occupancy`] alone, for who wants to know no more.
pub fn occupancy(bus: &BusPlan, assumed: &[Remembered]) -> f64 {
    let (groups, timing) = (Group::all(bus), LineTiming::of_bus(bus));
    let units = 0..bus.units.len();
    units.map(|at| Unit::new(bus, &groups, at, timing, assumed.get(at)).load().0).sum()
}

/// Share of the bus's time that the unit at `at` takes.
pub fn unit_occupancy(bus: &BusPlan, at: usize, assumed: Option<&Remembered>) -> f64 {
    let groups = Group::all(bus);
    Unit::new(bus, &groups, at, LineTiming::of_bus(bus), assumed).load().0
}

struct Unit<'a> {
    bus: &'a BusPlan,
    at: usize,
    groups: &'a [Group],
    reads: Reads,
    timing: LineTiming,
    turnaround: Duration,
    holes: Holes,
}

impl<'a> Unit<'a> {
    fn new(
        bus: &'a BusPlan,
        groups: &'a [Group],
        at: usize,
        timing: LineTiming,
        assumed: Option<&Remembered>,
    ) -> Self {
        let assumed = assumed.cloned().unwrap_or_default();
        let reads = Reads::new(bus, at, groups, assumed.turnaround);
        let turnaround = assumed.turnaround.unwrap_or_default();
        Self { bus, at, groups, reads, timing, turnaround, holes: assumed.holes }
    }

    fn time(&self, batch: &Batch) -> Duration {
        self.timing.read_time(batch.block, self.turnaround)
    }

    /// Its share of the bus's time, its reads per second, and its groups.
    fn load(&self) -> (f64, f64, Vec<Task>) {
        let mut reads = self.reads.clone();
        let ours: Vec<usize> = reads.groups().collect();
        let total = |batches: &[Arc<Batch>]| batches.iter().map(|it| self.time(it)).sum();
        let all = reads.of(&ours, &self.holes);
        let mut tasks = Vec::with_capacity(ours.len());
        for &group in &ours {
            let alone = reads.of(&[group], &self.holes);
            let shared: Duration =
                all.iter().filter(|it| reads.serves(it, group)).map(|it| self.time(it)).sum();
            let longest = alone.iter().chain(all.iter()).map(|it| self.time(it)).max();
            let alone: Duration = total(&alone);
            tasks.push(Task {
                period: self.groups[group].period,
                alone,
                round: alone.max(shared),
                longest: longest.unwrap_or_default(),
            });
        }
        let (mut busy, mut asked) = (Duration::ZERO, 0usize);
        let (instants, span) = instants(&tasks.iter().map(|it| it.period).collect::<Vec<_>>());
        for (due, times) in instants {
            let due: Vec<usize> = due.iter().filter_map(|&at| ours.get(at).copied()).collect();
            let plan = reads.of(&due, &self.holes);
            busy += total(&plan).saturating_mul(times);
            asked += plan.len() * times as usize;
        }
        let span = span.as_secs_f64().max(f64::MIN_POSITIVE);
        (busy.as_secs_f64() / span, asked as f64 / span, tasks)
    }

    fn source(&mut self, occupancy: f64, ages: &[Duration]) -> SourceLoad {
        let ours: Vec<usize> = self.reads.groups().collect();
        let all = self.reads.of(&ours, &self.holes);
        let profile = self.bus.units[self.at].profile.clone();
        let mut items = Vec::new();
        for group in ours {
            for batch in self.reads.of(&[group], &self.holes).iter() {
                for &position in &batch.items {
                    let Some(item) = profile.items.get(position) else { continue };
                    let shared = all.iter().find(|it| it.items.contains(&position));
                    items.push(ItemLoad {
                        item: item.item.name.clone(),
                        position,
                        period: self.groups[group].period,
                        worst_age: ages.get(group).copied().unwrap_or_default(),
                        read: batch.block,
                        shared: shared.map(|it| it.block).filter(|block| *block != batch.block),
                    });
                }
            }
        }
        items.sort_by_key(|item| profile.items.get(item.position).map(ProfileItem::block));
        let source = self.bus.units[self.at].source.clone();
        SourceLoad { source, occupancy, turnaround: self.turnaround, items }
    }
}

/// The sets of periods (by position) that fall due together, with how often each does in the time
/// that is returned beside: until all do again, or [`INSTANTS_MAX`] instants.
fn instants(periods: &[Duration]) -> (Vec<(Vec<usize>, u32)>, Duration) {
    assert!(periods.len() <= 64, "invariant: a source has far fewer periods than a word has bits");
    let nanos = |period: &Duration| {
        u64::try_from(period.max(&Duration::from_millis(1)).as_nanos()).unwrap_or(u64::MAX)
    };
    let periods: Vec<u64> = periods.iter().map(nanos).collect();
    let mut next = vec![0u64; periods.len()];
    // A bit for each period: thousands of instants are a few sets.
    let mut sets: BTreeMap<u64, u32> = BTreeMap::new();
    let mut span = 0;
    for turn in 0.. {
        let Some(now) = next.iter().min().copied() else { break };
        span = now;
        let again = turn > 0 && next.iter().all(|at| *at == now);
        if again || turn >= INSTANTS_MAX {
            break;
        }
        let mut due = 0;
        for (at, (next, period)) in next.iter_mut().zip(&periods).enumerate() {
            if *next == now {
                due |= 1u64 << at;
                *next = next.saturating_add(*period);
            }
        }
        *sets.entry(due).or_default() += 1;
    }
    let positions = |set: u64| (0..periods.len()).filter(|at| set & (1 << at) != 0).collect();
    let sets = sets.into_iter().map(|(set, times)| (positions(set), times)).collect();
    (sets, Duration::from_nanos(span))
}

/// For each group: what the groups of no longer period take, and the longest read of any other as
/// a share of its period, are together no more than everything.
fn is_guaranteed(tasks: &[Task]) -> bool {
    let share = |time: Duration, period: Duration| {
        time.as_secs_f64() / period.as_secs_f64().max(f64::MIN_POSITIVE)
    };
    tasks.iter().all(|task| {
        let no_longer = tasks.iter().filter(|other| other.period <= task.period);
        let taken: f64 = no_longer.map(|other| share(other.round, other.period)).sum();
        let slower = tasks.iter().filter(|other| other.period > task.period);
        let blocking = slower.map(|other| other.longest).max().unwrap_or_default();
        taken + share(blocking, task.period) <= 1.0
    })
}

/// The greatest age of a value of the group at `at`.
fn worst_age(tasks: &[Task], at: usize, occupancy: f64, guaranteed: bool) -> Duration {
    let period = tasks[at].period;
    if occupancy > 1.0 {
        // An estimate: all periods grow longer by what is asked too much, and one round of every
        // other may come first.
        let rounds: Duration = tasks.iter().map(|task| task.alone).sum();
        return period.mul_f64(occupancy) + rounds;
    }
    let response = response_time(tasks, at);
    period + if guaranteed { response.min(period) } else { response }
}

/// How long after it fell due a round of the group at `at` is over, at most: the least fixed point
/// of its own reads, the longest read in its way, and the rounds with earlier deadlines.
fn response_time(tasks: &[Task], at: usize) -> Duration {
    let own = &tasks[at];
    let others = || tasks.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, it)| it);
    let slower = others().filter(|other| other.period > own.period);
    let blocking = slower.map(|other| other.longest).max().unwrap_or_default();
    let mut response = own.round + blocking;
    for _ in 0..STEPS_MAX {
        let between =
            others().map(|other| other.alone.saturating_mul(rounds(own, other, response)));
        let next = own.round + blocking + between.sum();
        if next <= response {
            break;
        }
        response = next;
    }
    response
}

/// Rounds of `other` that may come before a round of `own` that is over after `response`: the one
/// that is outstanding when it falls due, and those that fall due later with an earlier deadline.
fn rounds(own: &Task, other: &Task, response: Duration) -> u32 {
    let Some(before) = own.period.checked_sub(other.period) else { return 1 };
    let (window, period) = (response.min(before).as_nanos(), other.period.as_nanos().max(1));
    let harmonic = own.period.as_nanos().is_multiple_of(period);
    let more = if harmonic { window / period } else { window.div_ceil(period) };
    u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)
}
