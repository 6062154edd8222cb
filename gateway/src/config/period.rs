//! `period` and `periods` of a `[source.ID]`: how often it is read, and the items that are read more
//! or less often than the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use andon_engine::item::Item;

use super::problem::did_you_mean;
use super::section::Section;

/// Least period of registers.
pub(super) const LEAST: Duration = Duration::from_millis(10);
/// Longest period.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// Most different periods of one source, its own counted: each is a round of its own.
pub(crate) const PERIODS_MAX: usize = 8;
/// Items that a hint names.
const NAMES_SHOWN: usize = 12;

/// How often a source is read: as written, or else the default.
pub(super) fn every(section: &Section<'_>, least: Duration, default: Duration) -> Option<Duration> {
    let period = section.duration("period", least..=LONGEST);
    period.or_else(|| (!section.has("period")).then_some(default))
}

/// `periods` as they are written: items, and patterns that end in `.*`.
pub(super) type Written = Vec<(Arc<str>, Duration)>;

/// Whether a source may have these periods beside its own.
pub(crate) fn are_few(different: &BTreeSet<Duration>) -> bool {
    different.len() < PERIODS_MAX
}

/// The items with a period of their own, by position. In
/// `periods = { "frequency" = "5 s", "power.factor.*" = "10 s" }` an item's own name goes before a
/// pattern, and the longer pattern before the shorter. With `periods` as they are written.
pub(super) fn of_items(
    section: &Section<'_>,
    items: &[Arc<Item>],
) -> (BTreeMap<usize, Duration>, Written) {
    let mut chosen: BTreeMap<usize, (usize, Duration)> = BTreeMap::new();
    let Some(table) = section.table("periods") else { return Default::default() };
    let mut written = Vec::new();
    for (pattern, _) in table.iter() {
        let period = table.duration(pattern, LEAST..=LONGEST);
        let matching = items.iter().enumerate().filter(|(_, item)| covers(pattern, &item.name));
        let matching: Vec<usize> = matching.map(|(at, _)| at).collect();
        if matching.is_empty() {
            let names = || items.iter().map(|item| &*item.name);
            let some = || names().take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
            let hint =
                did_you_mean(pattern, names()).unwrap_or_else(|| format!("it has: {}", some()));
            table.problem(pattern, "the profile has no such item", Some(hint));
        }
        let Some(period) = period else { continue };
        written.push((pattern.into(), period));
        let weight = if pattern.ends_with(".*") { pattern.len() } else { usize::MAX };
        for at in matching {
            let entry = chosen.entry(at).or_insert((weight, period));
            if weight >= entry.0 {
                *entry = (weight, period);
            }
        }
    }
    if !are_few(&written.iter().map(|(_, period)| *period).collect()) {
        let message = format!("more than {PERIODS_MAX} different periods of one source");
        section.problem("periods", message, None);
    }
    let periods = chosen.into_iter().map(|(at, (_, period))| (at, period)).collect();
    (periods, written)
}

/// Whether `pattern` is this item's name, or its beginning up to `.*`.
fn covers(pattern: &str, item: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(stem) => item.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')),
        None => pattern == item,
    }
}
