//! What to read less often so that a bus can do what it is asked: items that nobody is stopped,
//! alarmed or billed by the minute for, the most bus time first. Pure; it changes nothing.
//!
//! Bounds: each read of each device is moved at most once per step of [`LADDER`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Kind;
use andon_engine::plan::{ActivityPlan, ItemIndex};
use andon_engine::rules::Condition;

use crate::bus::load::{load, unit_occupancy};
use crate::bus::memory::Remembered;
use crate::config::plan::{BusPlan, Plan, PollPlan, UnitPlan};

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
/// Names in one line of text.
const NAMES_SHOWN: usize = 8;

/// Items of one source that would be read less often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) source: Arc<str>,
    pub(super) items: Vec<Arc<str>>,
    /// The same as a configuration says it: a pattern stands for all items that it covers.
    pub(super) patterns: Vec<String>,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What would be moved, and what that would come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) moves: Vec<Move>,
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

/// The moves after which `bus` fits, or those that help when none are enough; `None` when nothing
/// can be moved.
pub(super) fn propose(
    bus: &BusPlan,
    assumed: &[Remembered],
    urgent: &BTreeSet<ItemIndex>,
) -> Option<Proposal> {
    let before = load(bus, assumed).occupancy;
    let mut bus = bus.clone();
    let mut moved: BTreeMap<(usize, usize), (Duration, Duration)> = BTreeMap::new();
    let mut occupancy = before;
    for (seconds, counters) in LADDER {
        let to = Duration::from_secs(seconds);
        let best_move = |bus: &BusPlan, unit| best_move(bus, unit, assumed, urgent, (to, counters));
        // Of each unit the best move: when it is made, only that unit has another.
        let mut best: Vec<Option<(f64, Vec<usize>)>> =
            (0..bus.units.len()).map(|unit| best_move(&bus, unit)).collect();
        while occupancy > OCCUPANCY_WANTED {
            let gains = best
                .iter()
                .enumerate()
                .filter_map(|(unit, best)| best.as_ref().map(|(gain, _)| (unit, *gain)));
            let Some((unit, gain)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            let Some((_, polls)) = best[unit].take() else { break };
            for poll in polls {
                let from = bus.units[unit].polls[poll].period;
                bus.units[unit].polls[poll].period = to;
                moved.entry((unit, poll)).or_insert((from, to)).1 = to;
            }
            occupancy -= gain;
            best[unit] = best_move(&bus, unit);
        }
    }
    let after = load(&bus, assumed).occupancy;
    (!moved.is_empty()).then(|| Proposal { moves: moves(&bus, &moved), before, after })
}

/// The items of one read of a unit that are not urgent and would save the most when they (its
/// counters alone, if so) are read every `to` only, as polls, with the share of the bus that this
/// saves.
fn best_move(
    bus: &BusPlan,
    unit: usize,
    assumed: &[Remembered],
    urgent: &BTreeSet<ItemIndex>,
    (to, counters): (Duration, bool),
) -> Option<(f64, Vec<usize>)> {
    let assumed = assumed.get(unit);
    // A bus of this unit alone: the others do not change.
    let mut alone = BusPlan { units: vec![bus.units[unit].clone()], ..bus.clone() };
    let one: Vec<Remembered> = assumed.cloned().into_iter().collect();
    let now = load(&alone, &one);
    let source = now.sources.first()?;
    let mut reads: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for item in &source.items {
        let polls = &alone.units[0].polls;
        let Some(poll) = polls.iter().position(|poll| poll.profile_item == item.position) else {
            continue;
        };
        let kind = alone.units[0].profile.items[item.position].item.kind;
        if counters && kind != Kind::Counter {
            continue;
        }
        let fed = polls[poll].fed.all();
        let period = polls[poll].period;
        let harmonic = period < to && to.as_nanos().is_multiple_of(period.as_nanos().max(1));
        if harmonic && !fed.clone().any(|item| urgent.contains(&item)) {
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

/// By source and period.
fn moves(bus: &BusPlan, moved: &BTreeMap<(usize, usize), (Duration, Duration)>) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for (&(unit, poll), &(from, to)) in moved {
        let unit = &bus.units[unit];
        let Some(item) = unit.profile.items.get(unit.polls[poll].profile_item) else { continue };
        let name = item.item.name.clone();
        let known =
            moves.iter_mut().find(|it| it.source == unit.source && (it.from, it.to) == (from, to));
        match known {
            Some(known) => known.items.push(name),
            None => moves.push(Move {
                source: unit.source.clone(),
                items: vec![name],
                patterns: Vec::new(),
                from,
                to,
            }),
        }
    }
    // Whatever of a source goes to one period is said together, wherever it comes from.
    let mut together: BTreeMap<(Arc<str>, Duration), Vec<Arc<str>>> = BTreeMap::new();
    for moved in &moves {
        let key = (moved.source.clone(), moved.to);
        together.entry(key).or_default().extend(moved.items.iter().cloned());
    }
    for moved in &mut moves {
        let all = &together[&(moved.source.clone(), moved.to)];
        if let Some(unit) = bus.units.iter().find(|unit| unit.source == moved.source) {
            moved.patterns = patterns(unit, moved, all);
        }
    }
    moves
}

/// The shortest words for the moved items: `energy.*` where all that it covers has the same period
/// then, and where no key of the configuration says more of any (that key would go before it); an
/// item's own name where not. `all` are the items of this source that go to this period.
fn patterns(unit: &UnitPlan, moved: &Move, all: &[Arc<str>]) -> Vec<String> {
    let polled = || {
        let name = |poll: &PollPlan| Some(&*unit.profile.items.get(poll.profile_item)?.item.name);
        unit.polls.iter().filter_map(move |poll| Some((name(poll)?, poll.period)))
    };
    let covers =
        |stem: &str, name: &str| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
    let mut patterns: Vec<String> = Vec::new();
    for name in &moved.items {
        let is_said =
            |pattern: &String| pattern.strip_suffix(".*").is_some_and(|stem| covers(stem, name));
        if patterns.iter().any(is_said) {
            continue;
        }
        let stems = name.match_indices('.').map(|(at, _)| &name[..at]);
        let serves = |stem: &&str| {
            let moved_with = all.iter().filter(|item| covers(stem, item)).count();
            let goes_before = |key: &Arc<str>| covers(stem, key) && key.len() > stem.len() + 2;
            moved_with > 1
                && !unit.period_keys.iter().any(goes_before)
                && polled().all(|(item, to)| !covers(stem, item) || to == moved.to)
        };
        let stem = stems.into_iter().find(serves);
        patterns.push(stem.map_or_else(|| name.to_string(), |stem| format!("{stem}.*")));
    }
    patterns
}

impl Proposal {
    /// As a person would say it, and what to write into the configuration. Sources of which the
    /// same is said are named together.
    pub(super) fn say(&self) -> String {
        let mut by_source: BTreeMap<&str, Vec<&Move>> = BTreeMap::new();
        for moved in &self.moves {
            by_source.entry(&moved.source).or_default().push(moved);
        }
        let mut alike: Vec<(Vec<&str>, Vec<&Move>)> = Vec::new();
        for (source, moves) in by_source {
            let same = |known: &[&Move]| {
                let pairs = known.iter().zip(&moves);
                known.len() == moves.len() && pairs.into_iter().all(|(a, b)| a.says_as(b))
            };
            match alike.iter_mut().find(|(_, known)| same(known)) {
                Some((sources, _)) => sources.push(source),
                None => alike.push((vec![source], moves)),
            }
        }
        let mut text = String::new();
        for (sources, moves) in &alike {
            for moved in moves {
                let _ = writeln!(text, "  move {}: {moved}", sources.join(", "));
            }
        }
        let (before, after) = (self.before * 100.0, self.after * 100.0);
        let _ = writeln!(text, "  that makes {before:.0} % → {after:.0} %");
        for (sources, moves) in &alike {
            let sections: Vec<String> =
                sources.iter().map(|source| format!("[source.{source}]")).collect();
            let entry =
                |name: &String, to: Duration| format!("\"{name}\" = \"{} s\"", to.as_secs());
            let entries =
                moves.iter().flat_map(|it| it.patterns.iter().map(|name| entry(name, it.to)));
            // No key twice: a table that has one is none.
            let entries: BTreeSet<String> = entries.collect();
            let entries = entries.into_iter().collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "  in {}: periods = {{ {entries} }}", sections.join(", "));
        }
        text
    }
}

impl Move {
    /// Whether the same is said of another source.
    fn says_as(&self, other: &Self) -> bool {
        (&self.items, &self.patterns, self.from, self.to)
            == (&other.items, &other.patterns, other.from, other.to)
    }
}

impl fmt::Display for Move {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.items.iter().take(NAMES_SHOWN).map(|name| &**name).collect();
        text.write_str(&shown.join(", "))?;
        if self.items.len() > NAMES_SHOWN {
            write!(text, " and {} more", self.items.len() - NAMES_SHOWN)?;
        }
        let (from, to) = (self.from.as_secs_f64(), self.to.as_secs_f64());
        write!(text, " from {from} s to {to} s")
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use toml::{Table, Value};

    use super::super::tests::{answering_after, crowded};
    use super::*;
    use crate::config;

    /// Meters of which all is read every second, but for what `periods` says of each.
    fn configured(periods: &Table) -> Plan {
        let mut text = "[site]\nid = \"lab\"\ntime_zone = \"Asia/Shanghai\"\n\
                        [bus.panel]\ntype = \"modbus-rtu\"\n\
                        port = \"/dev/serial/by-id/usb-A\"\nbaud = 9600\n"
            .to_owned();
        for unit in 1..=4 {
            let _ = writeln!(
                text,
                "[source.meter-{unit}]\nbus = \"panel\"\nunit_id = {unit}\n\
                 profile = \"eastron/sdm630\"\nperiods = {}\n\
                 [machine.m-{unit}]\nkind = \"other\"\nsource = \"meter-{unit}\"\nactivity = []",
                Value::Table(periods.clone())
            );
        }
        let name = format!("andon-propose-{}-{}.toml", std::process::id(), periods.len());
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let loaded = config::load_with(&path, std::iter::empty());
        fs::remove_file(&path).unwrap();
        loaded.unwrap().plan
    }

    #[test]
    fn a_proposal_that_is_merged_into_the_configuration_does_what_it_says() {
        for known in [
            &[("energy.import.*", "5 s")][..],
            &[("energy.import.*", "1 s"), ("energy.*", "5 s")],
            &[("energy.import", "1 s"), ("energy.export.l1", "5 s"), ("current.*", "10 s")],
        ] {
            let known = known.iter().map(|(key, period)| ((*key).to_owned(), (*period).into()));
            let periods: Table = known.collect();
            let plan = configured(&periods);
            let proposal =
                propose(&plan.buses[0], &answering_after(20, 4), &urgent(&plan)).unwrap();
            let said = proposal.say();
            for source in proposal.moves.iter().map(|moved| &moved.source) {
                let section = format!("[source.{source}]");
                let line = said.lines().find(|line| line.contains(&section)).unwrap();
                let entries: Table = line.split_once(": ").unwrap().1.parse().expect(&said);
                let mut merged = periods.clone();
                merged.extend(entries["periods"].as_table().unwrap().clone());
                let merged = configured(&merged);
                let unit = merged.buses[0].units.iter().find(|unit| unit.source == *source);
                is_as_proposed(unit.unwrap(), &proposal, &said);
            }
        }
    }

    fn is_as_proposed(unit: &UnitPlan, proposal: &Proposal, said: &str) {
        for moved in proposal.moves.iter().filter(|moved| moved.source == unit.source) {
            for name in &moved.items {
                let item = unit.profile.position(name);
                let poll = unit.polls.iter().find(|poll| Some(poll.profile_item) == item);
                assert_eq!(poll.unwrap().period, moved.to, "{name} of {said}");
            }
        }
    }

    #[test]
    fn a_pattern_is_proposed_where_all_that_it_covers_has_the_same_period() {
        let mut unit = crowded(1).units.remove(0);
        let (minute, profile) = (Duration::from_secs(60), unit.profile.clone());
        let name = |poll: &PollPlan| profile.items[poll.profile_item].item.name.clone();
        let mut items = Vec::new();
        for poll in &mut unit.polls {
            if name(poll).starts_with("energy.") {
                poll.period = minute;
                items.push(name(poll));
            }
        }
        let from = Duration::from_secs(1);
        let source = unit.source.clone();
        let mut moved = Move { source, items, patterns: Vec::new(), from, to: minute };
        assert!(moved.items.len() > 3);
        assert_eq!(patterns(&unit, &moved, &moved.items), ["energy.*"]);
        // One of them stays as it is: the pattern would move it too.
        moved.items.retain(|item| **item != *"energy.import");
        let poll = unit.polls.iter_mut().find(|poll| *name(poll) == *"energy.import");
        poll.unwrap().period = from;
        let said = patterns(&unit, &moved, &moved.items);
        assert!(said.contains(&"energy.import.*".to_owned()), "{said:?}");
        assert!(!said.iter().any(|it| it == "energy.*" || it == "energy.import"), "{said:?}");
    }
}
