//! `[machine.ID]`: which values a machine has, and where they come from. What they say of its activity
//! is read in `activity`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::current_loop::Span;
use andon_engine::item::{Item, Kind};
use andon_engine::plan::Band;
use andon_engine::unit::{Unit, parse_as};

use super::keys;
use super::named::Named;
use super::node::Content;
use super::plan::Name;
use super::problem::did_you_mean;
use super::section::Section;
use super::source::{NOWHERE, Source};
use crate::kinds;

mod activity;

/// Most machines.
pub(super) const MACHINES_MAX: usize = 10_000;
/// Most items on a machine's tile.
pub(super) const KEY_ITEMS_MAX: usize = 6;
/// Items on a tile, unless configured.
const KEY_ITEMS: usize = 3;
/// What the name of a temperature's target begins with, before the place.
const TARGET: &str = "temperature.target";

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: Arc<str>,
    pub(super) name: Name,
    pub(super) kind: String,
    pub(super) items: Vec<MachineItem>,
    /// Positions in `items`.
    pub(super) key_items: Vec<usize>,
    /// Highest authority first.
    pub(super) activity: Vec<Activity>,
    /// Items that it was to have and that are none, as reported.
    pub(super) lost: Vec<String>,
}

/// A value of a machine.
#[derive(Debug)]
pub(super) struct MachineItem {
    pub(super) item: Arc<Item>,
    /// Position of its source; [`NOWHERE`] when that could not be had.
    pub(super) source: usize,
    /// Position among that source's items.
    pub(super) profile_item: usize,
    /// What the ends of the 4–20 mA loop mean that it is told by, where it is.
    pub(super) span: Option<Box<Span>>,
    /// Fastest believable change, per second.
    pub(super) max_rate: Option<f64>,
}

/// Where a machine's activity is told from.
#[derive(Debug)]
pub(super) struct Activity {
    /// Position in the machine's items.
    pub(super) item: usize,
    pub(super) signal: Signal,
    pub(super) enter_for: Duration,
    pub(super) exit_for: Duration,
}

/// What the signal of an activity is.
#[derive(Debug)]
pub(super) enum Signal {
    /// What the machine's controller says.
    Controller,
    /// A power.
    Power { idle: Band, run: Band },
    /// A contact and its state that means run.
    Input { run_when: bool },
}

impl Machine {
    /// The position of an item.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|item| &*item.item.name == name)
    }

    /// Whether it has an item that its activity could be told from.
    pub(super) fn could_tell(&self) -> bool {
        self.items.iter().any(|it| {
            it.item.kind == Kind::Flag
                || (it.item.unit == Unit::Watt && it.item.kind == Kind::Gauge)
        })
    }

    /// The position of the item that a key names; a problem when the machine has none such.
    pub(super) fn named_by(&self, section: &Section<'_>, key: &str) -> Option<usize> {
        let name = section.text(key)?;
        let position = self.position(name);
        if position.is_none() {
            self.lacks(section, key, name);
        }
        position
    }

    fn lacks(&self, section: &Section<'_>, key: &str, name: &str) {
        if self.lost.iter().any(|lost| lost == name) {
            return;
        }
        let names = || self.items.iter().map(|item| &*item.item.name);
        let hint = did_you_mean(name, names()).unwrap_or_else(|| {
            format!("it has: {}", names().take(8).collect::<Vec<_>>().join(", "))
        });
        let message = format!("machine \"{}\" has no item \"{name}\"", self.id);
        section.problem(key, message, Some(hint));
    }
}

/// Every `[machine.ID]`.
pub(super) fn machines<'a>(root: &Section<'a>, sources: &Named<'a, Source>) -> Named<'a, Machine> {
    Named::read(root, "machine", MACHINES_MAX, |id, section| {
        section.only(keys::MACHINE);
        let name = section.name("name");
        let kind = section.need("kind", "\"laser\"", section.one_of("kind", keys::MACHINE_KINDS));
        let (items, lost) = items(section, sources)?;
        let name = name.unwrap_or_else(|| Name { en: id.to_owned(), zh: id.to_owned() });
        let kind = keys::MACHINE_KINDS[kind.unwrap_or(keys::MACHINE_KINDS.len() - 1)].to_owned();
        let (key_items, activity) = (Vec::new(), Vec::new());
        let mut machine = Machine { id: id.into(), name, kind, items, key_items, activity, lost };
        max_rates(section, &mut machine);
        machine.key_items = self::key_items(section, &machine);
        machine.activity = activity::of(section, &machine);
        Some(machine)
    })
}

/// A machine's items, and the names that are none; nothing when nobody knows what it should have.
fn items(
    section: &Section<'_>,
    sources: &Named<'_, Source>,
) -> Option<(Vec<MachineItem>, Vec<String>)> {
    let mut items: Vec<MachineItem> = Vec::new();
    let mut seen: HashMap<Arc<str>, usize> = HashMap::new();
    let (mut known, mut lost) = (true, Vec::new());
    if !section.has("source") && !section.has("items") {
        let hint = "write source = \"…\" for all values of a source, or items = { … }".to_owned();
        section.problem("", "has neither source nor items", Some(hint));
        known = false;
    }
    if section.has("source") {
        match sources.named_by(section, "source") {
            Some(source) => {
                let from = &sources.list[source].items;
                items.reserve_exact(from.len());
                for (at, item) in from.iter().enumerate() {
                    seen.insert(item.name.clone(), source);
                    let item = Arc::clone(item);
                    items.push(MachineItem {
                        item,
                        source,
                        profile_item: at,
                        span: None,
                        max_rate: None,
                    });
                }
            }
            None => known = false,
        }
    }
    let table = section.table("items")?;
    for (name, _) in table.iter() {
        let Some(item) = item(&table, name, sources) else {
            lost.push(name.to_owned());
            continue;
        };
        if let Some(&source) = seen.get(&item.item.name) {
            let message = format!("source \"{}\" gives this item already", sources.list[source].id);
            let hint = "remove it, or name every item and not the source".to_owned();
            table.problem(name, message, Some(hint));
        }
        items.push(item);
    }
    known.then_some((items, lost))
}

/// One entry of `items`: `"power.active" = "panel-3.power.active.l1"`.
fn item(table: &Section<'_>, name: &str, sources: &Named<'_, Source>) -> Option<MachineItem> {
    if let Some(Content::Table(inner)) = table.get(name).map(|node| &node.content) {
        if keys::LOOP.iter().any(|key| inner.get(key).is_some()) {
            return of_loop(&table.table(name)?, table, name, sources);
        }
        let hint = "put the item's name into quotes: \"power.active\" = \"…\"".to_owned();
        table.problem(name, "must be text, not a table", Some(hint));
        return None;
    }
    let item = Item::named(name).map_err(|unknown| {
        let hint = unknown.nearest.map(|nearest| format!("did you mean \"{nearest}\"?"));
        table.problem(name, "is not an item that andon knows", hint);
    });
    let origin = table.text(name).and_then(|origin| {
        let (source, source_item) = resolve(table, name, origin, sources)?;
        Some((source, source_item, origin))
    });
    let item = Arc::new(item.ok()?);
    // What is said of the item elsewhere is checked, although nothing will ever measure it.
    let nowhere =
        |item| MachineItem { item, source: NOWHERE, profile_item: 0, span: None, max_rate: None };
    let Some((source, profile_item, origin)) = origin else { return Some(nowhere(item)) };
    let from = &sources.list[source].items[profile_item];
    if from.unit != item.unit || from.kind != item.kind {
        let say = |item: &Item| match (item.kind, item.unit) {
            (Kind::Flag, _) => "on or off".to_owned(),
            (Kind::Text, _) => "words".to_owned(),
            (Kind::Counter, unit) => format!("a counter of {unit}"),
            (Kind::Gauge, Unit::Ratio | Unit::None) => "a plain number".to_owned(),
            (Kind::Gauge, unit) => format!("in {unit}"),
        };
        let message = format!("is {}, but {origin} is {}", say(&item), say(from));
        table.problem(name, message, None);
        return Some(nowhere(item));
    }
    Some(MachineItem { item, source, profile_item, span: None, max_rate: None })
}

/// `"pressure" = { from = "air.loop.1", at_4ma = "0 bar", at_20ma = "10 bar" }`
fn of_loop(
    section: &Section<'_>,
    table: &Section<'_>,
    name: &str,
    sources: &Named<'_, Source>,
) -> Option<MachineItem> {
    section.only(keys::LOOP);
    let item = Item::named(name).map_err(|unknown| {
        let hint = unknown.nearest.map(|nearest| format!("did you mean \"{nearest}\"?"));
        table.problem(name, "is not an item that andon knows", hint);
    });
    let from = section.need("from", "\"air.loop.1\"", section.text("from"));
    let from = from.and_then(|from| resolve(section, "from", from, sources));
    let item = item.ok()?;
    if item.kind != Kind::Gauge {
        table.problem(name, "a loop stands for a quantity that goes up and down", None);
        return None;
    }
    let example = |number: u8| format!("\"{number} {}\"", item.unit.written());
    let ends = [("at_4ma", 0), ("at_20ma", 100)]
        .map(|(key, number)| section.need(key, &example(number), section.quantity(key, item.unit)));
    let (source, profile_item) = from?;
    let current = &sources.list[source].items[profile_item];
    if !current.name.starts_with("loop.") {
        let message = format!("{} is no current of a loop", current.name);
        section.problem("from", message, Some("a source's loop.1, loop.2, …".to_owned()));
        return None;
    }
    let [Some(at_4ma), Some(at_20ma)] = ends else { return None };
    if at_4ma.to_bits() == at_20ma.to_bits() {
        section.problem("at_20ma", "is the same as at 4 mA", None);
        return None;
    }
    let span = Some(Box::new(Span { at_4ma, at_20ma }));
    Some(MachineItem { item: Arc::new(item), source, profile_item, span, max_rate: None })
}

/// `panel-3.power.active.l1`: the source and the position in its profile.
pub(super) fn resolve(
    section: &Section<'_>,
    key: &str,
    written: &str,
    sources: &Named<'_, Source>,
) -> Option<(usize, usize)> {
    let Some((source, name)) = written.split_once('.') else {
        let hint = "write SOURCE.ITEM, \"panel-3.power.active\"".to_owned();
        section.problem(key, format!("\"{written}\" names no item of a source"), Some(hint));
        return None;
    };
    let source = sources.resolve(section, key, source)?;
    let found = &sources.list[source];
    let position = found.position(name);
    if position.is_none() {
        let names = || found.items.iter().map(|item| &*item.name);
        let hint = did_you_mean(name, names()).unwrap_or_else(|| {
            format!("{} has: {}", found.describe(), names().collect::<Vec<_>>().join(", "))
        });
        let message = format!("source \"{}\" has no item \"{name}\"", found.id);
        section.problem(key, message, Some(hint));
    }
    Some((source, position?))
}

/// `max_rate = { "temperature" = "2 °C/s" }`
fn max_rates(section: &Section<'_>, machine: &mut Machine) {
    let Some(rates) = section.table("max_rate") else { return };
    for (name, _) in rates.iter() {
        let Some(position) = machine.position(name) else {
            machine.lacks(&rates, name, name);
            continue;
        };
        let Some(text) = rates.text(name) else { continue };
        let unit = machine.items[position].item.unit;
        let rate = text.trim().strip_suffix("/s").and_then(|text| parse_as(text, unit).ok());
        match rate.filter(|rate| *rate > 0.0) {
            Some(rate) => machine.items[position].max_rate = Some(rate),
            None => {
                let hint =
                    format!("write a number above 0 and its unit, \"20 {}/s\"", unit.written());
                rates.problem(name, format!("\"{text}\" is not a rate"), Some(hint));
            }
        }
    }
}

/// The items on the tile: as written, or else those of the machine's kind, then temperatures that
/// have a target, progress, power, then what else goes up and down; never words, and a target only
/// with its temperature.
fn key_items(section: &Section<'_>, machine: &Machine) -> Vec<usize> {
    let Some(node) = section.get("key_items") else {
        let of_kind: &[String] = kinds::of(&machine.kind).map_or(&[], |kind| &kind.key_items);
        let mut all: Vec<usize> = (0..machine.items.len()).collect();
        all.retain(|&at| {
            let item = &machine.items[at].item;
            item.kind != Kind::Text && !item.name.starts_with(TARGET)
        });
        all.sort_by_key(|&at| {
            let item = &machine.items[at].item;
            let rank = of_kind.iter().position(|name| **name == *item.name);
            let place = item.name.strip_prefix("temperature");
            let aims = place.is_some_and(|p| machine.position(&format!("{TARGET}{p}")).is_some());
            (
                rank.unwrap_or(of_kind.len()),
                !aims,
                &*item.name != "progress",
                item.unit != Unit::Watt,
                item.unit != Unit::Celsius,
                item.kind != Kind::Gauge,
            )
        });
        all.truncate(KEY_ITEMS);
        all.shrink_to_fit();
        return all;
    };
    let Content::List(list) = &node.content else {
        let hint = "write key_items = [\"power.active\"]".to_owned();
        let message = format!("must be a list, not {}", node.content.word());
        section.problem("key_items", message, Some(hint));
        return Vec::new();
    };
    if list.len() > KEY_ITEMS_MAX {
        section.problem("key_items", format!("more than {KEY_ITEMS_MAX} items"), None);
    }
    let mut positions = Vec::new();
    for node in list.iter().take(KEY_ITEMS_MAX) {
        let Content::Text(name) = &node.content else {
            let message = format!("must be names of items, not {}", node.content.word());
            section.problem_at(&node.place, "key_items", message, None);
            continue;
        };
        match machine.position(name) {
            Some(position) => positions.push(position),
            None => machine.lacks(section, "key_items", name),
        }
    }
    positions
}
