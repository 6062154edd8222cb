//! From the text of a profile to a [`Profile`], or to everything that is wrong with it.
//!
//! Nothing is defaulted that could be wrong in silence: who says so, the type of a register and
//! an example for every item are required.

use std::sync::Arc;

use andon_engine::item::{Item, Kind, UnknownItem};
use andon_engine::unit::Unit;

use super::examples::{Refused, examples, uncovered};
use super::place::{fits_protocol, parse_place, scale_register};
use super::setting;
use super::toml_reader::{At, Reader, Section, nearest};
use super::{Evidence, ITEMS_MAX, PROFILE_BYTES_MAX, Problem, Profile, ProfileItem};
use crate::modbus::{Encoding, Form, Order, REGISTERS_MAX, Scale, Table};

/// The keys of a file and an item; the schema is tested against them.
pub(super) const FILE_KEYS: &[&str] = &[
    "title",
    "source",
    "evidence",
    "verified",
    "notes",
    "max_registers",
    "identity",
    "setting",
    "item",
    "example",
];
pub(super) const ITEM_KEYS: &[&str] = &[
    "name",
    "read",
    "type",
    "order",
    "bit",
    "unit",
    "scale",
    "divide_by",
    "scale_register",
    "sentinel",
    "writable",
];

/// The words for [`Form`]s; `bool` in a register also needs `bit`.
pub(super) const TYPES: &[(&str, Form)] = &[
    ("bool", Form::Flag),
    ("u16", Form::U16),
    ("i16", Form::I16),
    ("u32", Form::U32),
    ("i32", Form::I32),
    ("u64", Form::U64),
    ("i64", Form::I64),
    ("f32", Form::F32),
    ("f64", Form::F64),
    ("bcd2", Form::Bcd { bytes: 2, signed: false }),
    ("bcd3", Form::Bcd { bytes: 3, signed: false }),
    ("bcd4", Form::Bcd { bytes: 4, signed: false }),
    ("sbcd2", Form::Bcd { bytes: 2, signed: true }),
    ("sbcd3", Form::Bcd { bytes: 3, signed: true }),
    ("sbcd4", Form::Bcd { bytes: 4, signed: true }),
];

/// Parses and checks the text of a profile and decodes its examples.
///
/// # Errors
/// Every problem of the file at once, by line.
pub fn check(text: &str, id: &str) -> Result<Profile, Vec<Problem>> {
    check_file(text, id, &format!("{id}.toml"))
}

/// [`check`] with the file's name for messages.
pub(super) fn check_file(text: &str, id: &str, file: &str) -> Result<Profile, Vec<Problem>> {
    let mut reader = Reader::new(file, text);
    if text.len() > PROFILE_BYTES_MAX {
        let message = format!("longer than {PROFILE_BYTES_MAX} bytes");
        reader.problem(0, "", message, None);
        return Err(reader.into_problems());
    }
    let Some(document) = reader.document() else { return Err(reader.into_problems()) };
    let top = Section::new(document.get_ref(), 0, "");
    let profile = profile(&mut reader, top, id);
    if reader.is_clean() { Ok(profile) } else { Err(reader.into_problems()) }
}

/// The profile as far as it can be read; to be believed only when the reader is clean.
fn profile(reader: &mut Reader<'_>, top: Section<'_, '_>, id: &str) -> Profile {
    top.refuse_others(reader, FILE_KEYS);
    let text = |found: Option<At<&str>>| found.map_or("", |text| text.value).to_owned();
    let title = text(top.required_text(reader, "title", "maker and model"));
    let source = top.required_text(reader, "source", "the manual or page that the map is from");
    let source = text(source);
    let notes = text(top.text(reader, "notes"));
    let evidence = evidence(reader, top);
    let max_registers = max_registers(reader, top);
    let mut profile = Profile {
        id: Arc::from(id),
        title,
        source,
        evidence,
        notes,
        max_registers,
        items: Vec::new(),
        identity: setting::identity(reader, top),
        settings: setting::settings(reader, top),
        examples: Vec::new(),
    };
    let (items, refused) = items(reader, top, &mut profile);
    examples(reader, top, &mut profile, &refused);
    uncovered(reader, &profile, items);
    profile
}

fn evidence(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Evidence {
    const WORDS: &[&str] = &["datasheet", "trial", "verified"];
    let hint = format!("one of {}", WORDS.join(", "));
    let word = top.required_text(reader, "evidence", &hint);
    let by = top.text(reader, "verified");
    match (word, by) {
        (Some(At { value: "verified", .. }), Some(by)) => {
            return Evidence::Verified { by: by.value.to_owned() };
        }
        (Some(At { value: "verified", at }), None) => {
            let hint = Some("verified = \"who, when, on which device\"".to_owned());
            reader.problem(at, "verified", "missing, though the evidence is \"verified\"", hint);
        }
        (_, Some(by)) => {
            let hint = Some("set evidence = \"verified\" or remove it".to_owned());
            reader.problem(by.at, "verified", "the evidence is not \"verified\"", hint);
        }
        (Some(At { value: "trial", .. }), None) => return Evidence::Trial,
        (Some(At { value: "datasheet", .. }) | None, None) => {}
        (Some(At { value, at }), None) => {
            let hint =
                nearest(value, WORDS).map_or(hint, |near| format!("did you mean \"{near}\"?"));
            reader.problem(at, "evidence", format!("\"{value}\" is no evidence"), Some(hint));
        }
    }
    Evidence::Datasheet
}

fn max_registers(reader: &mut Reader<'_>, top: Section<'_, '_>) -> u16 {
    let Some(At { at, value }) = top.integer(reader, "max_registers") else {
        return REGISTERS_MAX;
    };
    match u16::try_from(value) {
        Ok(max @ 1..=REGISTERS_MAX) => max,
        _ => {
            let message = format!("must be 1 to {REGISTERS_MAX}, the most that Modbus allows");
            reader.problem(at, "max_registers", message, None);
            REGISTERS_MAX
        }
    }
}

/// Reads the items into the profile; returns where each stands, and what was refused of them.
fn items(
    reader: &mut Reader<'_>,
    top: Section<'_, '_>,
    profile: &mut Profile,
) -> (Vec<usize>, Refused) {
    let sections = top.sections(reader, "item", "item.");
    if sections.is_empty() {
        reader.problem(0, "item", "there is none", Some("add an [[item]]".to_owned()));
    }
    if let Some(excess) = sections.get(ITEMS_MAX) {
        reader.problem(excess.at, "item", format!("more than {ITEMS_MAX} items"), None);
    }
    let (mut places, mut refused) = (Vec::new(), Refused::default());
    for section in sections.into_iter().take(ITEMS_MAX) {
        let before = reader.count();
        let Some(item) = item(reader, section) else {
            let written = section.as_written("name").unwrap_or_default();
            let meant = Item::named(written).err().and_then(|unknown| unknown.nearest);
            refused.names.extend([written.to_owned()].into_iter().chain(meant));
            continue;
        };
        if item.block().count > profile.max_registers {
            let message = format!(
                "takes {} registers, more than max_registers = {}",
                item.block().count,
                profile.max_registers
            );
            reader.problem(section.at, "item.type", message, None);
        }
        if !profile.items.is_empty() && profile.protocol() != item.table.protocol() {
            let message = "a device speaks one protocol: all items in Modbus tables, or none";
            reader.problem(section.at, "item.read", message, None);
        }
        if profile.position(&item.item.name).is_some() {
            let message = format!("\"{}\" is there twice", item.item.name);
            reader.problem(section.at, "item.name", message, None);
        }
        if let Some(other) = profile.items.iter().find(|other| overlap(other, &item)) {
            let message =
                format!("{} overlaps {} of \"{}\"", item.own(), other.own(), other.item.name);
            reader.problem(section.at, "item.read", message, None);
        }
        if reader.count() > before {
            refused.items.push(profile.items.len());
        }
        profile.items.push(item);
        places.push(section.at);
    }
    (places, refused)
}

/// Whether two items share addresses in a way that one device cannot mean: different bits of one
/// register may.
fn overlap(a: &ProfileItem, b: &ProfileItem) -> bool {
    let (x, y) = (a.own(), b.own());
    if x.table.is_keyed() {
        return (x.table, x.start) == (y.table, y.start);
    }
    let shared = x.table == y.table && u32::from(x.start) < y.end() && u32::from(y.start) < x.end();
    let bits = matches!((a.encoding.form, b.encoding.form), (Form::Bit(p), Form::Bit(q)) if p != q);
    shared && !bits
}

fn item(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Option<ProfileItem> {
    section.refuse_others(reader, ITEM_KEYS);
    let item = item_name(reader, section);
    let place = section.required_text(reader, "read", "\"input:0x000C\"").and_then(|read| {
        let place = parse_place(read.value);
        if let Err((message, hint)) = &place {
            reader.problem(read.at, "item.read", message, Some(hint.clone()));
        }
        Some((place.ok()?, read.at))
    });
    let form = form(reader, section, place.map(|((table, _), _)| table));
    let order = order(reader, section);
    let sentinels = form.map(|form| sentinels(reader, section, form)).unwrap_or_default();
    let scale = item.as_ref().map(|item| scale(reader, section, item, form));
    let writable = section.flag(reader, "writable");
    let (item, ((table, address), at), form) = (item?, place?, form?);
    if let Some(At { at, value: true }) = writable
        && table != Table::Coil
    {
        reader.problem(at, "item.writable", "only a coil can be written", None);
    }
    if form.is_flag() != (item.kind == Kind::Flag) {
        let (is, cannot) = match item.kind {
            Kind::Flag => ("on or off", "a number"),
            Kind::Gauge | Kind::Counter => ("a number", "on or off"),
            Kind::Text => ("text", "in registers"),
        };
        let message = format!("\"{}\" is {is}; it cannot be {cannot}", item.name);
        reader.problem(section.at, "item.type", message, None);
    }
    if u32::from(address) + u32::from(form.width()) > 0x1_0000 {
        reader.problem(at, "item.read", "goes beyond the last address, 0xFFFF", None);
    }
    fits_protocol(reader, section, table, form);
    let scale_register = scale_register(reader, section, table, form);
    Some(ProfileItem {
        item,
        table,
        address,
        encoding: Encoding { form, order },
        scale: scale.unwrap_or(Scale::ONE),
        scale_register,
        sentinels,
        writable: writable.is_some_and(|writable| writable.value),
    })
}

fn item_name(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Option<Item> {
    let name = section.required_text(reader, "name", "an item of the closed list")?;
    Item::named(name.value)
        .map_err(|UnknownItem { name: word, nearest }| {
            let message = format!("\"{word}\" is not an item that andon knows");
            let hint = nearest.map(|near| format!("did you mean \"{near}\"?"));
            reader.problem(name.at, "item.name", message, hint);
        })
        .ok()
}

fn form(reader: &mut Reader<'_>, section: Section<'_, '_>, table: Option<Table>) -> Option<Form> {
    let words: Vec<&str> = TYPES.iter().map(|&(word, _)| word).collect();
    let bits = table.is_some_and(Table::is_bits);
    let word = if bits {
        section.text(reader, "type").unwrap_or(At { at: section.at, value: "bool" })
    } else {
        section.required_text(reader, "type", &format!("one of {}", words.join(", ")))?
    };
    let bit = section.integer(reader, "bit");
    let Some(&(_, form)) = TYPES.iter().find(|(known, _)| *known == word.value) else {
        let hint = nearest(word.value, &words).map_or_else(
            || format!("one of {}", words.join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        let message = format!("there is no type \"{}\"", word.value);
        reader.problem(word.at, "item.type", message, Some(hint));
        return None;
    };
    match (form, bits, bit) {
        (Form::Flag, true, None) => Some(Form::Flag),
        (Form::Flag, false, Some(At { value: bit @ 0..=15, .. })) => {
            Some(Form::Bit(u8::try_from(bit).unwrap_or(15)))
        }
        (Form::Flag, false, Some(At { at, .. })) => {
            let hint = Some("0 is the least significant".to_owned());
            reader.problem(at, "item.bit", "must be 0 to 15", hint);
            None
        }
        (Form::Flag, false, None) => {
            let hint = Some("bit = 0 is the least significant".to_owned());
            reader.problem(word.at, "item.bit", "missing: which bit of the register?", hint);
            None
        }
        (_, true, None) => {
            let message = format!("a bit cannot be \"{}\"", word.value);
            reader.problem(word.at, "item.type", message, Some("\"bool\"".to_owned()));
            None
        }
        (_, _, Some(At { at, .. })) => {
            reader.problem(at, "item.bit", "only for \"bool\" in a register", None);
            None
        }
        (form, false, None) => Some(form),
    }
}

pub(super) fn order(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Order {
    let Some(At { at, value }) = section.text(reader, "order") else { return Order::Abcd };
    let found = Order::ALL.into_iter().find(|(name, _)| *name == value);
    found.map_or_else(
        || {
            let hint = Some("one of ABCD, CDAB, BADC, DCBA".to_owned());
            reader.problem(at, "item.order", format!("there is no order \"{value}\""), hint);
            Order::Abcd
        },
        |(_, order)| order,
    )
}

/// The bit patterns of the sentinels; a negative one is meant as two's complement.
fn sentinels(reader: &mut Reader<'_>, section: Section<'_, '_>, form: Form) -> Vec<u64> {
    let bits = 16 * u32::from(form.width());
    let mut patterns = Vec::new();
    for At { at, value } in section.integers(reader, "sentinel") {
        let (least, greatest) = (-(1i128 << (bits - 1)), (1i128 << bits) - 1);
        if form.is_flag() {
            reader.problem(at, "item.sentinel", "a flag has none", None);
        } else if (least..=greatest).contains(&value) {
            #[expect(clippy::cast_possible_truncation, reason = "masked to at most 64 bits")]
            #[expect(clippy::cast_sign_loss, reason = "two's complement is meant")]
            patterns.push((value & greatest) as u64);
        } else {
            reader.problem(at, "item.sentinel", format!("does not fit in {bits} bits"), None);
        }
    }
    patterns
}

fn scale(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    item: &Item,
    form: Option<Form>,
) -> Scale {
    let unit = section.text(reader, "unit");
    let multiply = section.number(reader, "scale");
    let divide = section.number(reader, "divide_by");
    if form.is_some_and(Form::is_flag) {
        for At { at, .. } in [multiply, divide].into_iter().flatten() {
            reader.problem(at, "item.scale", "a flag has none", None);
        }
        return Scale::ONE;
    }
    let mut unit_factor = 1.0;
    if let Some(At { at, value }) = unit {
        match Unit::of_spelling(value) {
            Some((unit, factor)) if unit == item.unit => unit_factor = factor,
            found => {
                let message = match found {
                    Some(_) => format!("\"{value}\" is not a unit of \"{}\"", item.name),
                    None => format!("\"{value}\" is not a unit that andon knows"),
                };
                let hint = item.unit.meant_by(value).map_or_else(
                    || match item.unit {
                        Unit::Ratio => format!("\"{}\" is a share of one", item.name),
                        unit => format!("\"{}\" is in {unit}", item.name),
                    },
                    |meant| format!("did you mean \"{meant}\"?"),
                );
                reader.problem(at, "item.unit", message, Some(hint));
            }
        }
    }
    let factors = [unit_factor, multiply.map_or(1.0, |scale| scale.value)];
    Scale::of(&factors, divide.map_or(1.0, |divide| divide.value)).unwrap_or_else(|| {
        let hint = Some("scale may be negative, divide_by must be above 0".to_owned());
        let at = divide.or(multiply).map_or(section.at, |at| at.at);
        reader.problem(at, "item.scale", "cannot be zero or infinite", hint);
        Scale::ONE
    })
}
