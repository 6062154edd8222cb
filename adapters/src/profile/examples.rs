//! Examples: registers from a manual, a device or an independent encoder, and what they must
//! read. They are what makes a wrong table, word order or scale impossible to overlook.
//!
//! It must not use [`crate::modbus::encode`]: an example that andon wrote itself proves nothing.

use std::collections::HashSet;

use andon_engine::item::Item;
use andon_engine::value::{Measured, Unavailable, Value};
use toml::de::DeValue;

use super::place::parse_place;
use super::remedy::remedy;
use super::toml_reader::{At, Reader, Section, integer, nearest, number};
use super::{Example, Held, Profile, ProfileItem};
use crate::modbus::{Block, Table};

/// The keys of an example; the schema is tested against them.
pub(super) const EXAMPLE_KEYS: &[&str] = &["registers", "expect"];

/// How far an example may be from what it expects: manuals print singles, which have seven
/// digits, often cut rather than rounded.
const TOLERANCE: f64 = 1e-6;

/// What was refused before the examples are read: whatever they say of it follows from that, and
/// is not said again.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Names of items that are not in the profile, as written and as they may have been meant.
    pub(super) names: Vec<String>,
    /// Positions of items that are in it, but not as they were meant.
    pub(super) items: Vec<usize>,
}

/// The registers of an example.
pub(super) type Registers<'a> = &'a [Held];

/// Reads the examples into the profile and decodes each.
pub(super) fn examples(
    reader: &mut Reader<'_>,
    top: Section<'_, '_>,
    profile: &mut Profile,
    refused: &Refused,
) {
    let sections = top.sections(reader, "example", "example.");
    if sections.is_empty() {
        let hint = "registers from the manual or a device and what they mean".to_owned();
        reader.problem(0, "example", "there is none", Some(hint));
    }
    for section in sections {
        section.refuse_others(reader, EXAMPLE_KEYS);
        let before = reader.count();
        let registers = example_registers(reader, section, profile);
        let whole = reader.count() == before;
        let expect = example_expect(reader, section, profile, refused);
        for (at, position, expected) in &expect {
            let item = &profile.items[*position];
            match decode_in(item, &registers) {
                _ if refused.items.contains(position) => {}
                Some(found) => compare(reader, *at, item, &registers, expected, &found),
                None if whole => not_held(reader, *at, item, &registers),
                None => {}
            }
        }
        let expect = expect.into_iter().map(|(_, item, expected)| (item, expected)).collect();
        profile.examples.push(Example { registers, expect });
    }
}

/// Refuses items, each with the place where it stands, that no example covers; where there is no
/// example at all, that has been said.
pub(super) fn uncovered(reader: &mut Reader<'_>, profile: &Profile, places: Vec<usize>) {
    if profile.examples.is_empty() {
        return;
    }
    let expected = profile.examples.iter().flat_map(|example| &example.expect);
    let covered: HashSet<usize> = expected.map(|(item, _)| *item).collect();
    for (position, at) in places.into_iter().enumerate() {
        if !covered.contains(&position) {
            let message = format!("no example covers \"{}\"", profile.items[position].item.name);
            let hint = "add its registers and value to an [[example]]".to_owned();
            reader.problem(at, "item.name", message, Some(hint));
        }
    }
}

/// Whether a reading is what was expected, as far as a manual prints it.
pub(super) fn alike(expected: &Measured, found: &Measured) -> bool {
    match (expected, found) {
        (Ok(Value::Number(expected)), Ok(Value::Number(found))) => {
            (expected - found).abs() <= TOLERANCE * expected.abs().max(found.abs())
        }
        _ => expected == found,
    }
}

fn compare(
    reader: &mut Reader<'_>,
    at: usize,
    it: &ProfileItem,
    registers: Registers<'_>,
    expected: &Measured,
    found: &Measured,
) {
    let item = &it.item;
    if !alike(expected, found) {
        let (read, not) = (show(item, found), show(item, expected));
        let message = format!("\"{}\" reads {read}, not {not}", item.name);
        let hint = remedy(it, registers, expected, found).unwrap_or_else(|| {
            "table, address, type, order, unit or scale of the item is wrong".to_owned()
        });
        reader.problem(at, "example.expect", message, Some(hint));
    } else if let Ok(Value::Number(number)) = found
        && !(item.least..=item.greatest).contains(number)
    {
        let message = format!(
            "\"{}\" reads {}, which it cannot be ({} to {})",
            item.name,
            show(item, found),
            item.least,
            item.greatest
        );
        reader.problem(at, "example.expect", message, None);
    }
}

/// A value with its unit; a share of one is written without.
fn show(item: &Item, measured: &Measured) -> String {
    match measured {
        Ok(value) => format!("{value} {}", item.unit.shown()).trim().to_owned(),
        Err(why) => format!("\"{why}\""),
    }
}

/// An address is shown in both bases, for it may have been written in the wrong one.
fn not_held(reader: &mut Reader<'_>, at: usize, item: &ProfileItem, registers: Registers<'_>) {
    let (block, own) = (item.block(), item.own());
    let mut message = format!("the registers do not hold {block}");
    let mut hint = None;
    if Table::ALL.contains(&own.table) {
        message += &format!(", which is {} in decimal", own.start);
        let meant = u16::from_str_radix(&own.start.to_string(), 16);
        let held = |start: u16| {
            let meant = Block { start, ..own };
            registers.iter().any(|held| block_of(held).is_some_and(|it| it.contains(meant)))
        };
        if let Some(meant) = meant.ok().filter(|&meant| held(meant)) {
            hint = Some(format!("did you mean \"{}\"?", own.table.place(meant)));
        }
    }
    reader.problem(at, "example.expect", message, hint);
}

fn block_of((table, start, words): &Held) -> Option<Block> {
    Some(Block { table: *table, start: *start, count: u16::try_from(words.len()).ok()? })
}

/// What one item reads in an example's registers; `None` when they do not hold it.
pub(super) fn decode_in(item: &ProfileItem, registers: Registers<'_>) -> Option<Measured> {
    let block = item.block();
    registers.iter().find_map(|held| {
        let whole = block_of(held).filter(|whole| whole.contains(block))?;
        let from = usize::from(block.start - whole.start);
        Some(item.decode(held.2.get(from..from + usize::from(block.count))?))
    })
}

fn example_registers(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    profile: &Profile,
) -> Vec<Held> {
    let mut registers = Vec::new();
    let entries = section.entries(reader, "registers");
    for At { at, value: (table, start, words) } in places(reader, entries, "example.registers") {
        let cut = profile.items.iter().find(|item| {
            let (block, end) = (item.own(), usize::from(start) + words.len());
            let within = |at: u32| (u32::from(start)..).contains(&at) && (at as usize) < end;
            !table.is_keyed()
                && block.table == table
                && within(u32::from(block.start)) != within(block.end() - 1)
        });
        if let Some(item) = cut {
            let message = format!("cuts {} of \"{}\" in two", item.own(), item.item.name);
            reader.problem(at, "example.registers", message, None);
        }
        registers.push((table, start, words));
    }
    registers
}

/// Places and the words that lie there, with where each stands.
pub(super) fn places(
    reader: &mut Reader<'_>,
    entries: Vec<(At<&str>, &DeValue<'_>)>,
    key: &str,
) -> Vec<At<Held>> {
    let mut places = Vec::new();
    for (place, value) in entries {
        let (table, start) = match parse_place(place.value) {
            Ok(found) => found,
            Err((message, hint)) => {
                reader.problem(place.at, key, message, Some(hint));
                continue;
            }
        };
        let most = if table.is_bits() { 1 } else { i128::from(u16::MAX) };
        let word = |value: &DeValue<'_>| {
            let flag = value.as_bool().filter(|_| table.is_bits()).map(i128::from);
            let word = flag.or_else(|| integer(value)).filter(|word| (0..=most).contains(word));
            word.and_then(|word| u16::try_from(word).ok())
        };
        let words: Option<Vec<u16>> = value.as_array().and_then(|array| {
            array.iter().map(|element| word(element.get_ref())).collect::<Option<Vec<_>>>()
        });
        let Some(words) = words.filter(|words| !words.is_empty()) else {
            reader.problem(place.at, key, format!("must be a list of numbers 0 to {most}"), None);
            continue;
        };
        if usize::from(start) + words.len() > 0x1_0000 {
            reader.problem(place.at, key, "goes beyond the last address, 0xFFFF", None);
            continue;
        }
        places.push(At { at: place.at, value: (table, start, words) });
    }
    places
}

fn example_expect(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    profile: &Profile,
    refused: &Refused,
) -> Vec<(usize, usize, Measured)> {
    let mut expect = Vec::new();
    for (name, value) in section.entries(reader, "expect") {
        let Some(item) = profile.position(name.value) else {
            if refused.names.iter().any(|refused| refused == name.value) {
                continue;
            }
            let names: Vec<&str> = profile.items.iter().map(|item| &*item.item.name).collect();
            let hint = nearest(name.value, &names).map(|near| format!("did you mean \"{near}\"?"));
            let message = format!("\"{}\" is not an item of this profile", name.value);
            reader.problem(name.at, "example.expect", message, hint);
            continue;
        };
        let word = |word| Unavailable::ALL.into_iter().find(|reason| reason.word() == word);
        let expected = match (value.as_bool(), value.as_str()) {
            (Some(flag), _) => Some(Ok(Value::Flag(flag))),
            (_, Some(text)) => word(text).map(Err),
            _ => number(value).map(|number| Ok(Value::Number(number))),
        };
        match expected {
            Some(expected) => expect.push((name.at, item, expected)),
            None => {
                let message = "must be a number, true, false or \"sentinel\"";
                reader.problem(name.at, "example.expect", message, None);
            }
        }
    }
    expect
}
