//! What `andon plan` says of a bus that is asked for too much, or for nearly that: in words, with what to
//! do next. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::propose::{Proposal, is_short_of_periods};
use super::{Judged, percent};
use crate::bus::load::{BusLoad, ItemLoad};
use crate::config::period::PERIODS_MAX;
use crate::config::plan::Link;

/// Items of a source and a period that are named where all of them are meant.
const NAMES_SHOWN: usize = 8;

/// What does not fit, and what would; nothing where everything fits.
pub(super) fn say(judged: &Judged<'_>) -> String {
    let Judged { bus, load, proposal, .. } = judged;
    let factor = load.occupancy;
    let mut text = String::new();
    if factor > 1.0 {
        let needed = percent(factor);
        let _ = writeln!(text, "bus {}: does not fit: {needed} % of its time are needed", bus.id);
        let fits = proposal.as_ref().is_some_and(|it| it.after <= 1.0);
        if !fits {
            let is_short = is_short_of_periods(bus);
            text.push_str(&beyond_help(&bus.link, factor, proposal.as_ref(), is_short));
        }
        text.push_str(&proposal.as_ref().map(Proposal::say).unwrap_or_default());
    } else if !load.guaranteed {
        let _ = writeln!(
            text,
            "bus {}: fits, but when everything falls due together a value may come late",
            bus.id
        );
        text.push_str(&soften(load));
    }
    text
}

/// Reading a few things less often is not enough: what would be. A bus may have sources that are
/// short of periods, so that some things cannot be read less often that could wait.
fn beyond_help(link: &Link, factor: f64, proposal: Option<&Proposal>, is_short: bool) -> String {
    let left = proposal.map_or(factor, |it| it.after);
    let mut text = match proposal {
        Some(_) => format!(
            "  reading less often what can wait does not mend it: {} % would be left\n",
            percent(left)
        ),
        None if is_short => String::new(),
        None => "  there is nothing that can wait\n".to_owned(),
    };
    if is_short {
        let _ = writeln!(
            text,
            "  a source has no more than {PERIODS_MAX} different periods, and some here name so many that \
             what can wait finds no longer one: name fewer"
        );
    }
    let baud = match link {
        Link::Tcp { baud: None, .. } => "",
        Link::Tcp { baud: Some(_), .. } | Link::Rtu { .. } | Link::RtuOverTcp { .. } => {
            "raise the baud rate, "
        }
    };
    let longer = (factor * 10.0).ceil() / 10.0;
    let _ = writeln!(
        text,
        "  hint: move sources to a bus of their own, {baud}or make all periods {longer:.1} times longer"
    );
    text
}

/// The items that may miss their period, by source, and what to do about them.
fn soften(load: &BusLoad) -> String {
    let mut text = String::new();
    for source in &load.sources {
        let mut late: BTreeMap<Duration, Vec<&ItemLoad>> = BTreeMap::new();
        for item in source.items.iter().filter(|item| item.worst_age > item.period * 2) {
            late.entry(item.period).or_default().push(item);
        }
        for (period, items) in late {
            let age = items.iter().map(|item| item.worst_age).max().unwrap_or_default();
            let names: Vec<&str> = items.iter().map(|item| &*item.item).collect();
            let of = source.items.iter().filter(|item| item.period == period).count();
            let names = match names.len() {
                all if all == of && all > NAMES_SHOWN => format!("all {all} items of that period"),
                _ => names.join(", "),
            };
            let (period, age) = (period.as_secs_f64(), age.as_secs_f64());
            let _ = writeln!(
                text,
                "    {}, up to {age:.1} s at a period of {period} s: {names}",
                source.source
            );
        }
    }
    if text.is_empty() {
        return "  hint: give longer periods to what can wait (andon plan --items)\n".to_owned();
    }
    format!(
        "  hint: these may then be that old; give them longer periods, or whatever else can wait \
         (andon plan --items)\n{text}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use andon_engine::plan::ItemIndex;

    use super::super::tests::{answering_after, crowded};
    use super::super::{Turnaround, propose::propose};
    use super::*;
    use crate::bus::load::load;
    use crate::config::plan::BusPlan;

    fn said(bus: &BusPlan, urgent: &BTreeSet<ItemIndex>) -> String {
        let assumed = answering_after(10, bus.units.len());
        let load = load(bus, &assumed);
        let over = load.occupancy > 1.0;
        let proposal = over.then(|| propose(bus, &assumed, urgent)).flatten();
        let turnarounds = vec![Turnaround::Assumed; bus.units.len()];
        say(&Judged { bus, load, turnarounds, learned: 0, proposal })
    }

    #[test]
    fn what_no_longer_periods_can_mend_is_said_before_them_and_baud_only_of_a_line() {
        // Ten times a second, and rules look at everything but energy.
        let mut bus = crowded(2);
        let mut urgent = BTreeSet::new();
        for poll in bus.units.iter_mut().flat_map(|unit| &mut unit.polls) {
            poll.period = Duration::from_millis(100);
            let profile = crowded(1).units.remove(0).profile;
            if !profile.items[poll.profile_item].item.name.starts_with("energy") {
                urgent.extend(poll.fed.all());
            }
        }
        let words = said(&bus, &urgent);
        let mend = words.find("does not mend it").unwrap();
        assert!(mend < words.find("move meter-1").unwrap(), "{words}");
        assert!(words.contains("raise the baud rate"), "{words}");
        bus.link = Link::Tcp { address: "gateway:502".to_owned(), baud: None };
        let words = beyond_help(&bus.link, 40.0, None, false);
        assert!(words.contains("bus of their own") && !words.contains("baud"), "{words}");
    }

    #[test]
    fn what_is_a_little_too_much_is_told_as_too_much_and_mended_by_what_is_said() {
        let link = Link::Tcp { address: "gateway:502".to_owned(), baud: None };
        for (factor, longer) in [(1.03, "1.1"), (1.24, "1.3"), (40.0, "40.0")] {
            let words = beyond_help(&link, factor, None, false);
            assert!(words.contains(&format!("periods {longer} times")), "{factor}: {words}");
        }
        assert_eq!([0.996, 1.0, 1.003, 1.24].map(percent), [100, 100, 101, 124]);
        // One read of a bus that has hardly too little time for it.
        let mut bus = crowded(1);
        bus.units[0].polls.truncate(1);
        let period = bus.units[0].polls[0].period;
        let needed = load(&bus, &answering_after(10, 1)).occupancy;
        bus.units[0].polls[0].period = period.mul_f64(needed / 1.003);
        let urgent = bus.units[0].polls[0].fed.all().collect();
        let words = said(&bus, &urgent);
        assert!(words.contains("does not fit: 101 % of"), "{words}");
    }

    #[test]
    fn what_fits_but_may_come_late_names_all_such_items_by_source_and_what_to_do() {
        // A read of the slow round takes longer than the fast items' period.
        let mut bus = crowded(2);
        let profile = bus.units[0].profile.clone();
        let fast = ["power.active", "power.active.l1"].map(|name| profile.position(name));
        for poll in bus.units.iter_mut().flat_map(|unit| &mut unit.polls) {
            let fast = fast.contains(&Some(poll.profile_item));
            poll.period = Duration::from_millis(if fast { 200 } else { 60_000 });
        }
        let words = said(&bus, &BTreeSet::new());
        assert!(words.contains("fits, but"), "{words}");
        for source in ["meter-1", "meter-2"] {
            let line = words.lines().find(|line| line.contains(source)).expect(&words);
            assert!(line.contains("at a period of 0.2 s"), "{words}");
            assert!(line.contains("power.active, ") || line.contains(", power.active"), "{words}");
            assert!(line.contains("power.active.l1"), "{words}");
        }
    }
}
