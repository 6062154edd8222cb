//! A proposal as a person would say it, and as configuration has it: whole tables of `periods`, what
//! they hold already included, so that each can be written where there is one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::{Move, Proposal};
use crate::config::plan::{PollPlan, UnitPlan};

/// Names in one line of text.
const NAMES_SHOWN: usize = 8;

/// The `periods` of a unit that has moved items, by where they are `moved` to: its own, and what
/// has to be said of those.
pub(super) fn periods(
    unit: &UnitPlan,
    moved: &BTreeMap<Duration, Vec<Arc<str>>>,
) -> BTreeMap<String, Duration> {
    let written = unit.periods.iter().map(|(key, period)| (key.to_string(), *period));
    let mut periods: BTreeMap<String, Duration> = written.collect();
    for (&to, items) in moved {
        periods.extend(patterns(unit, items, to).into_iter().map(|pattern| (pattern, to)));
    }
    periods
}

/// The shortest words for `items`, all that go to the period `to`: `energy.*` where all that it
/// covers has that period then, and where no key of the configuration says more of any (that key
/// would go before it); an item's own name where not.
fn patterns(unit: &UnitPlan, items: &[Arc<str>], to: Duration) -> BTreeSet<String> {
    let polled = || {
        let name = |poll: &PollPlan| Some(&*unit.profile.items.get(poll.profile_item)?.item.name);
        unit.polls.iter().filter_map(move |poll| Some((name(poll)?, poll.period)))
    };
    let covers =
        |stem: &str, name: &str| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
    let mut patterns: BTreeSet<String> = BTreeSet::new();
    for name in items {
        let is_said =
            |pattern: &String| pattern.strip_suffix(".*").is_some_and(|stem| covers(stem, name));
        if patterns.iter().any(is_said) {
            continue;
        }
        let stems = name.match_indices('.').map(|(at, _)| &name[..at]);
        let serves = |stem: &&str| {
            let moved_with = items.iter().filter(|item| covers(stem, item)).count();
            let goes_before =
                |key: &(Arc<str>, _)| covers(stem, &key.0) && key.0.len() > stem.len() + 2;
            moved_with > 1
                && !unit.periods.iter().any(goes_before)
                && polled().all(|(item, period)| !covers(stem, item) || period == to)
        };
        let stem = stems.into_iter().find(serves);
        patterns.insert(stem.map_or_else(|| name.to_string(), |stem| format!("{stem}.*")));
    }
    patterns
}

/// What is said of one source: what moves, and its `periods` then.
type Said<'a> = (Vec<&'a Move>, &'a BTreeMap<String, Duration>);

impl Proposal {
    /// As a person would say it, and what to write into the configuration. Sources of which the
    /// same is said are named together.
    pub(in crate::cli::plan) fn say(&self) -> String {
        let mut by_source: BTreeMap<&str, Said<'_>> = BTreeMap::new();
        for moved in &self.moves {
            let Some(periods) = self.periods.get(&moved.source) else { continue };
            by_source.entry(&moved.source).or_insert((Vec::new(), periods)).0.push(moved);
        }
        let mut alike: Vec<(Vec<&str>, Said<'_>)> = Vec::new();
        for (source, said) in by_source {
            let same = |(moves, periods): &Said<'_>| {
                let pairs = moves.iter().zip(&said.0);
                *periods == said.1
                    && moves.len() == said.0.len()
                    && pairs.into_iter().all(|(a, b)| a.says_as(b))
            };
            match alike.iter_mut().find(|(_, known)| same(known)) {
                Some((sources, _)) => sources.push(source),
                None => alike.push((vec![source], said)),
            }
        }
        let mut text = String::new();
        for (sources, (moves, _)) in &alike {
            for moved in moves {
                let _ = writeln!(text, "  move {}: {moved}", sources.join(", "));
            }
        }
        let (before, after) = (self.before * 100.0, self.after * 100.0);
        let _ = writeln!(text, "  that makes {before:.0} % → {after:.0} %");
        for (sources, (_, periods)) in &alike {
            let sections: Vec<String> =
                sources.iter().map(|source| format!("[source.{source}]")).collect();
            let entries: Vec<String> = periods
                .iter()
                .map(|(name, period)| format!("\"{name}\" = \"{} s\"", period.as_secs_f64()))
                .collect();
            let entries = entries.join(", ");
            let _ = writeln!(text, "  in {}: periods = {{ {entries} }}", sections.join(", "));
        }
        text
    }
}

impl Move {
    /// Whether the same is said of another source.
    fn says_as(&self, other: &Self) -> bool {
        (&self.items, self.from, self.to) == (&other.items, other.from, other.to)
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

    use andon_adapters::profile::Library;
    use proptest::prelude::*;
    use toml::{Table, Value};

    use super::*;
    use crate::bus::load::occupancy;
    use crate::cli::plan::tests::{answering_after, crowded};
    use crate::cli::plan::{PlanArgs, print};
    use crate::config;
    use crate::config::plan::Plan;

    const ANSWER: u64 = 20;

    /// Meters of which all is read every `period`, but for what the `periods` of each say.
    fn configured(period: &str, periods: &[Table]) -> Result<Plan, String> {
        let mut text = "[site]\nid = \"lab\"\ntime_zone = \"Asia/Shanghai\"\n\
                        [bus.panel]\ntype = \"modbus-rtu\"\n\
                        port = \"/dev/serial/by-id/usb-A\"\nbaud = 9600\n"
            .to_owned();
        for (unit, periods) in (1..).zip(periods) {
            let _ = writeln!(
                text,
                "[source.meter-{unit}]\nbus = \"panel\"\nunit_id = {unit}\n\
                 profile = \"eastron/sdm630\"\nperiod = \"{period}\"\nperiods = {}\n\
                 [machine.m-{unit}]\nkind = \"other\"\nsource = \"meter-{unit}\"\nactivity = []",
                Value::Table(periods.clone())
            );
        }
        let thread = std::thread::current().id();
        let name = format!("andon-advice-{}-{thread:?}.toml", std::process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let loaded = config::load_with(&path, std::iter::empty());
        fs::remove_file(&path).unwrap();
        loaded.map(|loaded| loaded.plan).map_err(|problems| format!("{problems:?}"))
    }

    fn table(entries: &[(&str, &str)]) -> Table {
        entries.iter().map(|(key, period)| ((*key).to_owned(), (*period).into())).collect()
    }

    /// What `andon plan` prints.
    fn said(plan: &Plan) -> String {
        let answer = Some(Duration::from_millis(ANSWER));
        print(plan, &PlanArgs { config: "".into(), answer, items: false, json: false }).0
    }

    /// Share of the bus's time.
    fn taken(plan: &Plan) -> f64 {
        let bus = &plan.buses[0];
        occupancy(bus, &answering_after(ANSWER, bus.units.len()))
    }

    /// The plan after what it `said` was written into the configuration.
    fn carried_out(period: &str, periods: &[Table], said: &str) -> Result<Plan, String> {
        let mut periods = periods.to_vec();
        for (unit, periods) in (1..).zip(&mut periods) {
            let section = format!("[source.meter-{unit}]");
            let advice = said.lines().filter(|line| line.starts_with("  in "));
            let Some(line) = advice.into_iter().find(|line| line.contains(&section)) else {
                continue;
            };
            let entries: Table = line.split_once(": ").unwrap().1.parse().expect(said);
            *periods = entries["periods"].as_table().unwrap().clone();
        }
        configured(period, &periods)
    }

    /// Written into the configuration, what is said of these meters makes one without a problem
    /// that takes as much of the bus as it says; it fits, or it is said that it does not. Returns
    /// what the bus is asked before and after.
    fn is_sound(period: &str, periods: &[Table]) -> (f64, f64) {
        let plan = configured(period, periods).unwrap();
        let said = said(&plan);
        let after = carried_out(period, periods, &said).expect(&said);
        let (before, after) = (taken(&plan), taken(&after));
        if before > 1.0 {
            let words = ["does not mend it", "nothing that can wait", "name fewer"];
            let does_not = words.iter().any(|words| said.contains(words));
            assert_eq!(does_not, after > 1.0, "{after}: {said}");
            let makes = format!("{:.0} % → {:.0} %", before * 100.0, after * 100.0);
            assert!(said.contains(&makes) || after >= before, "{makes}: {said}");
        }
        (before, after)
    }

    #[test]
    fn advice_that_is_written_into_the_configuration_does_what_it_says() {
        for known in [
            table(&[("energy.import.*", "5 s")]),
            table(&[("energy.import.*", "1 s"), ("energy.*", "5 s")]),
            table(&[("energy.import", "1 s"), ("energy.export.l1", "5 s"), ("current.*", "10 s")]),
        ] {
            let (before, after) = is_sound("1 s", &vec![known; 6]);
            assert!(before > 1.0 && after <= 0.9, "{before} {after}");
        }
    }

    #[test]
    fn a_source_with_many_periods_is_given_no_more_than_it_may_have_and_the_bus_fits() {
        // Its own and six are seven of eight, and only minutes would do.
        let written = [
            ("voltage.*", "2 s"),
            ("current.*", "3 s"),
            ("power.active.*", "4 s"),
            ("power.apparent.*", "6 s"),
            ("power.reactive.*", "7 s"),
            ("power.factor.*", "8 s"),
        ];
        let (before, after) = is_sound("100 ms", &[table(&written), table(&written)]);
        assert!(before > 1.0 && after <= 0.9, "{before} {after}");
        // Eight of eight.
        let full = written.iter().copied().chain([("frequency", "9 s")]);
        let full = table(&full.collect::<Vec<_>>());
        let (before, after) = is_sound("100 ms", &[full.clone(), full.clone()]);
        assert!(before > 1.0 && after > 1.0, "{before} {after}");
        let plan = configured("100 ms", &[full.clone(), full]).unwrap();
        let said = said(&plan);
        assert!(said.contains("no more than 8 different periods"), "{said}");
        assert!(!said.contains("nothing that can wait"), "{said}");
    }

    /// Keys of `periods` for this meter: its items, and patterns that cover some of them.
    fn keys() -> Vec<String> {
        let profile = Library::load(None).0.get("eastron/sdm630").unwrap();
        let mut keys = BTreeSet::new();
        for item in &profile.items {
            let name = &*item.item.name;
            keys.insert(name.to_owned());
            keys.extend(name.match_indices('.').map(|(at, _)| format!("{}.*", &name[..at])));
        }
        keys.into_iter().collect()
    }

    /// At most the periods that a source may have beside its own, few of them of the ladder.
    fn periods_of_a_source() -> impl Strategy<Value = Table> {
        let all = ["200 ms", "500 ms", "1 s", "2 s", "3 s", "4 s", "6 s", "7 s", "10 s", "90 s"];
        let some = prop::sample::subsequence(all.to_vec(), 1..=7);
        let key = (prop::sample::select(keys()), any::<prop::sample::Index>());
        (some, prop::collection::vec(key, 0..14)).prop_map(|(periods, keys)| {
            let entry =
                |(key, at): (String, prop::sample::Index)| (key, (*at.get(&periods)).into());
            keys.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 8, failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn whatever_is_advised_is_a_configuration_that_loads_and_its_load_is_as_it_is_said(
            period in prop::sample::select(vec!["100 ms", "500 ms", "1 s"]),
            periods in prop::collection::vec(periods_of_a_source(), 2..4),
        ) {
            is_sound(period, &periods);
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
        assert!(items.len() > 3);
        assert_eq!(patterns(&unit, &items, minute), ["energy.*".to_owned()].into());
        // One of them stays as it is: the pattern would move it too.
        items.retain(|item| **item != *"energy.import");
        let poll = unit.polls.iter_mut().find(|poll| *name(poll) == *"energy.import");
        poll.unwrap().period = Duration::from_secs(1);
        let said = patterns(&unit, &items, minute);
        assert!(said.contains("energy.import.*"), "{said:?}");
        assert!(!said.contains("energy.*") && !said.contains("energy.import"), "{said:?}");
    }
}
