//! What a bus tells about itself: a snapshot, brought up to date once per round by its owner and
//! read by whoever likes. Counters only grow, from the start of the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::Block;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use serde::Serialize;

use super::group::Group;
use super::question::Fault;
use super::unit::UnitState;
use crate::config::plan::{BusPlan, Station, UnitPlan};

/// A bus at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Why the bus is down; `None` when it is up.
    pub down: Option<String>,
    /// Share of the last minute in which the bus was in use, 0–1.
    pub occupancy: f64,
    /// Requests per second of the last minute, retries among them.
    pub request_rate: f64,
    /// Rounds that were due and skipped, because the bus was busy; the sum of its units'.
    pub skipped: u64,
    /// Share of the rounds due in the last minute that were skipped, 0–1; `None` in the first.
    pub skipped_share: Option<f64>,
    /// Whether so much of that is, or was lately, for lack of time that somebody should look: see
    /// [`super::skips`].
    pub skipping: bool,
    /// Bytes that nobody had asked for: noise, or late answers.
    pub stray_bytes: u64,
    /// The units, in the order of the plan.
    pub units: Vec<UnitStatus>,
}

impl Status {
    /// Before the owner has done anything.
    pub(super) fn before(plan: &BusPlan) -> Self {
        let groups = Group::all(plan);
        let unit = |(at, unit): (usize, &UnitPlan)| {
            let from = groups.partition_point(|group| group.unit < at);
            let to = groups.partition_point(|group| group.unit <= at);
            UnitStatus::before(plan, unit, groups.get(from..to).unwrap_or_default())
        };
        let units = plan.units.iter().enumerate().map(unit).collect();
        Self { down: Some("opening".to_owned()), units, ..Self::default() }
    }

    /// The greatest [`UnitStatus::worst_age`] among the units that answer; `None` while none has
    /// delivered anything. What it leaves out is counted: [`Status::silent`], [`Status::unread`].
    pub fn worst_age(&self, now: BootTime) -> Option<Duration> {
        let answering = self.units.iter().filter(|unit| !unit.is_silent());
        answering.filter_map(|unit| unit.worst_age(now)).max()
    }

    /// The latest of the units that answer, by [`UnitStatus::latest`]; with its unit's position.
    pub fn latest(&self, now: BootTime) -> Option<(usize, Latest)> {
        let answering = self.units.iter().enumerate().filter(|(_, unit)| !unit.is_silent());
        let latest = answering.filter_map(|(at, unit)| Some((at, unit.latest(now)?)));
        latest.max_by(|(_, a), (_, b)| a.periods().total_cmp(&b.periods()))
    }

    /// Polled units that do not answer: all of them while the bus is down.
    pub fn silent(&self) -> usize {
        self.polled().filter(|unit| self.down.is_some() || unit.is_silent()).count()
    }

    /// The units that are polled; the others are only written to.
    pub fn polled(&self) -> impl Iterator<Item = &UnitStatus> {
        self.units.iter().filter(|unit| !unit.groups.is_empty())
    }

    /// Items that were never read, or that their device refuses.
    pub fn unread(&self) -> usize {
        self.units.iter().map(UnitStatus::unread).sum()
    }

    /// Requests that went out, retries among them.
    pub fn requests(&self) -> u64 {
        self.units.iter().map(|unit| unit.counters.requests()).sum()
    }

    /// Requests that repeated one which had failed.
    pub fn retries(&self) -> u64 {
        self.units.iter().map(|unit| unit.counters.retries).sum()
    }
}

/// A unit at one moment.
#[derive(Clone, Debug)]
pub struct UnitStatus {
    /// The source's id.
    pub source: Arc<str>,
    /// How it is called on its line.
    pub station: Station,
    /// Whether it is being polled.
    pub state: UnitState,
    /// When it last answered, exceptions counted.
    pub last_answer: Option<BootTime>,
    /// How long it is waited for, beyond wire time.
    pub allowance: Duration,
    /// What it usually needs before it answers, beyond wire time, as measured; `None` before it has
    /// answered, or been remembered.
    pub turnaround: Option<Duration>,
    /// Addresses and boundaries that it is known not to read, at most
    /// [`andon_adapters::modbus::HOLES_MAX`].
    pub holes: usize,
    /// Items (positions in the profile) that it refuses alone. Shared with the bus, which changes
    /// its own copy; bounded by the profile.
    pub refused: Arc<BTreeMap<usize, Refusal>>,
    /// Rounds of its groups that were due and skipped, because the bus was busy.
    pub skipped: u64,
    /// Its groups, one for each period, the shortest first.
    pub groups: Vec<GroupStatus>,
    /// What became of the requests.
    pub counters: Counters,
}

/// An item that a device refuses although it was asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub block: Block,
    /// The exception's code.
    pub exception: u8,
    /// When it was asked for last.
    pub at: BootTime,
    /// When it is asked for again; until then its rounds repeat this refusal without bus time.
    pub until: BootTime,
    /// Whether it is known as a hole, which outlives a restart.
    pub remembered: bool,
}

/// The items of a unit with one period, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// How often they are to be read.
    pub period: Duration,
    /// How many they are.
    pub items: usize,
    /// The first of them: its position in the profile.
    pub first: usize,
    /// How many of them the device refuses.
    pub refused: usize,
    /// Rounds that were due and skipped.
    pub skipped: u64,
    /// When its values were last sampled; `None` when they never were. A round that failed brings
    /// none.
    pub sampled: Option<BootTime>,
    /// The greatest age that its values had in the last minute when their successors came; `None`
    /// when none came.
    pub age: Option<Duration>,
}

impl GroupStatus {
    fn before(plan: &BusPlan, group: &Group) -> Self {
        Self {
            period: group.period,
            items: group.polls(plan).count(),
            first: group.polls(plan).next().map_or(0, |poll| poll.profile_item),
            refused: 0,
            skipped: 0,
            sampled: None,
            age: None,
        }
    }

    /// The greatest age of one of its values in the last minute, at `now`; `None` before the first.
    fn worst_age(&self, now: BootTime) -> Option<Duration> {
        Some(now.since(self.sampled?).max(self.age.unwrap_or_default()))
    }
}

/// Items of one unit and one period that are old, measured by that period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// How often they are to be read.
    pub period: Duration,
    /// The greatest age of one of them in the last minute.
    pub age: Duration,
    /// The first of them: its position in the profile.
    pub item: usize,
}

impl Latest {
    /// The age in periods: 1 as a rule. One that was read early in its period and late in the next
    /// may come to 2; above, it was missed.
    pub fn periods(&self) -> f64 {
        self.age.as_secs_f64() / self.period.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl UnitStatus {
    fn before(plan: &BusPlan, unit: &UnitPlan, groups: &[Group]) -> Self {
        Self {
            source: unit.source.clone(),
            station: unit.station,
            state: UnitState::Online,
            last_answer: None,
            allowance: plan.turnaround_of(unit),
            turnaround: None,
            holes: 0,
            refused: Arc::default(),
            skipped: 0,
            groups: groups.iter().map(|group| GroupStatus::before(plan, group)).collect(),
            counters: Counters::default(),
        }
    }

    /// The greatest age of one of its values in the last minute, at `now`: of those that have a
    /// successor, and of those that still wait for one. `None` while it has none; those that never
    /// came are [`UnitStatus::unread`].
    pub fn worst_age(&self, now: BootTime) -> Option<Duration> {
        self.groups.iter().filter_map(|group| group.worst_age(now)).max()
    }

    /// The greatest age of one of its values that are read every `period`, as
    /// [`UnitStatus::worst_age`] has it of all.
    pub fn worst_age_of(&self, period: Duration, now: BootTime) -> Option<Duration> {
        self.groups.iter().find(|group| group.period == period)?.worst_age(now)
    }

    /// The group whose greatest age is the most of its own periods; `None` while it has no value.
    pub fn latest(&self, now: BootTime) -> Option<Latest> {
        let latest = self.groups.iter().filter_map(|group| {
            Some(Latest { period: group.period, age: group.worst_age(now)?, item: group.first })
        });
        latest.max_by(|a, b| a.periods().total_cmp(&b.periods()))
    }

    /// Items of it that were never read, or that it refuses.
    pub fn unread(&self) -> usize {
        let of = |group: &GroupStatus| group.sampled.map_or(group.items, |_| group.refused);
        self.groups.iter().map(of).sum()
    }

    /// Whether it has not answered for so long that it is only asked now and then.
    pub const fn is_silent(&self) -> bool {
        matches!(self.state, UnitState::Quarantined { .. })
    }
}

/// How a unit stands, for a person: what is believed of it where anything is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has asked it yet.
    NotAsked,
    /// Its bus is down, so nobody knows.
    BusDown,
    /// It answered last time.
    Online,
    /// It missed its last deadlines.
    Suspect,
    /// It is asked rarely, so that it costs the others nothing.
    Quarantined,
    /// It answers so slowly that it is read rarely.
    Slow,
}

impl Standing {
    /// The word on the wire, as serde writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::BusDown => "bus_down",
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Quarantined => "quarantined",
            Self::Slow => "slow",
        }
    }
}

impl UnitStatus {
    /// How it stands on a bus that is `down` or not, and why it is not online.
    pub fn standing(&self, down: bool) -> (Standing, Option<Unavailable>) {
        let failure = self.counters.last_failure;
        let asked = self.counters.requests() > 0;
        match self.state {
            _ if down => (Standing::BusDown, Some(Unavailable::Disconnected)),
            _ if !asked => (Standing::NotAsked, Some(Unavailable::NotYet)),
            UnitState::Online => (Standing::Online, None),
            UnitState::Suspect { .. } => (Standing::Suspect, failure),
            UnitState::Quarantined { .. } => (Standing::Quarantined, failure),
            UnitState::Slow { .. } => (Standing::Slow, None),
        }
    }
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Answered.
    pub answers: u64,
    /// Not answered in time.
    pub timeouts: u64,
    /// Answered with something else.
    pub garbled: u64,
    /// Answered with an exception that stands.
    pub exceptions: u64,
    /// Refused as a whole and asked again in parts, as where a read spans registers that the device
    /// does not have: how holes are found, and no fault of anybody's.
    pub parted: u64,
    /// The port went away meanwhile.
    pub disconnects: u64,
    /// Answered after the deadline; those answers were thrown away.
    pub late: u64,
    /// Asked again because the time before had failed; counted among the others too.
    pub retries: u64,
    /// What became of the last request that failed.
    pub last_failure: Option<Unavailable>,
}

impl Counters {
    pub(super) fn count(&mut self, fault: Option<Fault>) {
        let (counter, failure) = match fault {
            None => (&mut self.answers, None),
            Some(Fault::Timeout) => (&mut self.timeouts, Some(Unavailable::Timeout)),
            Some(Fault::Garbled) => (&mut self.garbled, Some(Unavailable::Garbled)),
            // A gateway says so of a device that does not answer.
            Some(Fault::Exception(0x0A | 0x0B)) => {
                (&mut self.exceptions, Some(Unavailable::Timeout))
            }
            Some(Fault::Exception(_)) => (&mut self.exceptions, Some(Unavailable::Refused)),
            Some(Fault::Disconnected) => (&mut self.disconnects, Some(Unavailable::Disconnected)),
        };
        *counter += 1;
        self.last_failure = failure.or(self.last_failure);
    }

    /// The last request was refused, and is asked again in parts.
    pub(super) const fn part(&mut self) {
        self.exceptions = self.exceptions.saturating_sub(1);
        self.parted += 1;
    }

    /// Requests that went out, or would have if there had been a line.
    pub const fn requests(&self) -> u64 {
        self.answers + self.parted + self.errors()
    }

    /// Requests that failed.
    pub const fn errors(&self) -> u64 {
        self.timeouts + self.garbled + self.exceptions + self.disconnects
    }
}

/// The greatest age of the last minute, by ten seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Ages {
    slots: [Option<Duration>; 6],
    slot: u64,
}

impl Ages {
    /// A value was `age` old when its successor came.
    pub(super) fn add(&mut self, now: BootTime, age: Duration) {
        self.advance(now);
        if let Some(slot) = self.slots.get_mut(usize::try_from(self.slot % 6).unwrap_or(0)) {
            *slot = (*slot).max(Some(age));
        }
    }

    /// The greatest of the last minute.
    pub(super) fn greatest(&mut self, now: BootTime) -> Option<Duration> {
        self.advance(now);
        self.slots.into_iter().max().flatten()
    }

    fn advance(&mut self, now: BootTime) {
        let slot = now.0 / 10_000_000_000;
        for passed in (self.slot + 1..=slot).take(self.slots.len()) {
            if let Some(slot) = self.slots.get_mut(usize::try_from(passed % 6).unwrap_or(0)) {
                *slot = None;
            }
        }
        self.slot = self.slot.max(slot);
    }
}

/// Requests of the last minute and the time that they took, by the second.
#[derive(Clone, Debug)]
pub(super) struct Occupancy {
    busy: [(Duration, u32); 60],
    /// All of them.
    total: (Duration, u32),
    second: u64,
    /// A young bus is not measured by a whole minute.
    begun: BootTime,
}

impl Occupancy {
    pub(super) const fn new(now: BootTime) -> Self {
        let second = now.0 / 1_000_000_000;
        Self { busy: [(Duration::ZERO, 0); 60], total: (Duration::ZERO, 0), second, begun: now }
    }

    /// The bus was in use for `busy` until `now`, by one request. Counted for the second of `now`.
    pub(super) fn add(&mut self, now: BootTime, busy: Duration) {
        self.advance(now);
        if let Some(slot) = self.busy.get_mut(usize::try_from(self.second % 60).unwrap_or(0)) {
            *slot = (slot.0 + busy, slot.1 + 1);
            self.total = (self.total.0 + busy, self.total.1 + 1);
        }
    }

    /// The share of the last minute, 0–1.
    pub(super) fn share(&mut self, now: BootTime) -> f64 {
        self.advance(now);
        (self.total.0.as_secs_f64() / self.seen(now).as_secs_f64()).min(1.0)
    }

    /// Requests per second of the last minute.
    pub(super) fn rate(&mut self, now: BootTime) -> f64 {
        self.advance(now);
        f64::from(self.total.1) / self.seen(now).as_secs_f64()
    }

    /// Whole seconds, and as much of this one as has passed.
    fn seen(&self, now: BootTime) -> Duration {
        let window = Duration::from_secs(59) + Duration::from_nanos(now.0 % 1_000_000_000);
        now.since(self.begun).min(window).max(Duration::from_secs(1))
    }

    fn advance(&mut self, now: BootTime) {
        let second = now.0 / 1_000_000_000;
        let passed = second.saturating_sub(self.second);
        for step in 1..=passed.min(60) {
            let slot = (self.second + step) % 60;
            if let Some(slot) = self.busy.get_mut(usize::try_from(slot).unwrap_or(0)) {
                let (busy, requests) = std::mem::take(slot);
                self.total = (self.total.0 - busy, self.total.1 - requests);
            }
        }
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::tests::bench::profile;

    #[test]
    fn a_unit_is_online_only_once_it_has_answered_and_while_its_bus_is_up() {
        let (plan, _) = crate::bus::tests::bench::bus(false, 1, &profile(&[100]));
        let mut unit = Status::before(&plan).units.remove(0);
        assert_eq!(unit.standing(false), (Standing::NotAsked, Some(Unavailable::NotYet)));
        let down = (Standing::BusDown, Some(Unavailable::Disconnected));
        assert_eq!(unit.standing(true), down);
        unit.counters.count(None);
        assert_eq!(unit.standing(false), (Standing::Online, None));
        assert_eq!(unit.standing(true), down);
        unit.state = UnitState::Suspect { misses: 1 };
        unit.counters.count(Some(Fault::Timeout));
        assert_eq!(unit.standing(false), (Standing::Suspect, Some(Unavailable::Timeout)));
        unit.state = UnitState::Slow { until: BootTime::from_millis(9000) };
        assert_eq!(unit.standing(false), (Standing::Slow, None));
        assert_eq!(unit.standing(true), down);
    }

    #[test]
    fn a_dead_unit_hides_no_age_and_is_counted() {
        let (mut plan, _) = crate::bus::tests::bench::bus(false, 3, &profile(&[100, 101, 102]));
        plan.units[0].polls[2].period = Duration::from_secs(60);
        let (at, seconds) = (|s: u64| BootTime::from_millis(s * 1000), Duration::from_secs);
        let mut status = Status { down: None, ..Status::before(&plan) };
        assert_eq!((status.worst_age(at(9)), status.silent(), status.unread()), (None, 0, 9));
        // The first answers, slow item and all, the second refuses one item, the third is dead.
        status.units[0].groups[0].sampled = Some(at(97));
        status.units[0].groups[1].sampled = Some(at(60));
        status.units[1].groups[0].sampled = Some(at(99));
        status.units[1].groups[0].refused = 1;
        status.units[2].state = UnitState::Quarantined { until: at(130) };
        assert_eq!(status.worst_age(at(100)), Some(seconds(40)));
        assert_eq!((status.silent(), status.unread()), (1, 4));
        let of = |period| status.units[0].worst_age_of(seconds(period), at(100));
        assert_eq!([of(1), of(60), of(7)], [Some(seconds(3)), Some(seconds(40)), None]);
        // 3 s are more of a second than 40 s of a minute.
        let (unit, latest) = status.latest(at(100)).unwrap();
        assert_eq!((unit, latest.item, latest.age), (0, 0, seconds(3)));
        assert!((latest.periods() - 3.0).abs() < 1e-9);
        // Dead since it was read, it is no value that waits for its successor.
        status.units[2].groups[0].sampled = Some(at(1));
        assert_eq!(status.worst_age(at(100)), Some(seconds(40)));
        assert_eq!(status.units[2].worst_age(at(100)), Some(seconds(99)));
        status.down = Some("gone".to_owned());
        assert_eq!(status.silent(), 3);
        assert_eq!(status.worst_age(at(200)), Some(seconds(140)));
    }

    #[test]
    fn ages_are_of_the_last_minute() {
        let (at, seconds) = (|s: u64| BootTime::from_millis(s * 1000), Duration::from_secs);
        let mut ages = Ages::default();
        assert_eq!(ages.greatest(at(1)), None);
        ages.add(at(5), seconds(9));
        ages.add(at(30), seconds(2));
        assert_eq!(ages.greatest(at(59)), Some(seconds(9)));
        assert_eq!(ages.greatest(at(61)), Some(seconds(2)));
        assert_eq!(ages.greatest(at(1000)), None);
    }

    #[test]
    fn occupancy_is_of_the_last_minute() {
        let mut occupancy = Occupancy::new(BootTime::from_millis(0));
        for second in 1..=120 {
            occupancy.add(BootTime::from_millis(second * 1000), Duration::from_millis(300));
        }
        assert!((occupancy.share(BootTime::from_millis(120_000)) - 0.3).abs() < 0.01);
        assert!((occupancy.rate(BootTime::from_millis(120_000)) - 1.0).abs() < 0.02);
        assert!(occupancy.rate(BootTime::from_millis(150_000)) < 0.55);
        assert!(occupancy.share(BootTime::from_millis(150_000)) < 0.16);
        assert!(occupancy.share(BootTime::from_millis(500_000)) < 0.001);
    }
}
