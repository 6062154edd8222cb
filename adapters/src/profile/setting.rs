//! `[identity]` and `[setting.*]`: how a device is told from others, and which of its settings can
//! be changed. Who changes them, and only when asked twice, is the gateway's business.

use super::check::{TYPES, order};
use super::examples::places;
use super::toml_reader::{At, Reader, Section, nearest};
use super::{Held, Setting, SettingKind};
use crate::modbus::{Encoding, Form, Scale, Table};

/// The keys of a setting; the schema is tested against them.
pub(super) const SETTING_KEYS: &[&str] = &[
    "write",
    "type",
    "order",
    "divide_by",
    "least",
    "greatest",
    "function",
    "after_restart",
    "notes",
];

/// Registers of `[identity]`.
pub(super) fn identity(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Vec<Held> {
    if !top.has("identity") {
        return Vec::new();
    }
    let entries = top.entries(reader, "identity");
    places(reader, entries, "identity").into_iter().map(|place| place.value).collect()
}

/// The settings, each once.
pub(super) fn settings(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Vec<Setting> {
    let Some(all) = top.section(reader, "setting", "setting.") else { return Vec::new() };
    let words: Vec<&str> = SettingKind::ALL.iter().map(|&(word, _)| word).collect();
    all.refuse_others(reader, &words);
    SettingKind::ALL
        .into_iter()
        .filter_map(|(word, kind)| {
            let section = all.section(reader, word, "setting.")?;
            setting(reader, section, kind)
        })
        .collect()
}

fn setting(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    kind: SettingKind,
) -> Option<Setting> {
    section.refuse_others(reader, SETTING_KEYS);
    let place = section.required_text(reader, "write", "\"holding:0x0014\"");
    let word = section.required_text(reader, "type", "u16 or f32");
    let order = order(reader, section);
    let divide = section.number(reader, "divide_by").map_or(1.0, |divide| divide.value);
    let least = section.number(reader, "least");
    let greatest = section.number(reader, "greatest");
    let function = section.integer(reader, "function");
    let after_restart = section.flag(reader, "after_restart").is_some_and(|flag| flag.value);
    let notes = section.text(reader, "notes").map_or("", |notes| notes.value).to_owned();
    let address = match super::place::parse_place(place?.value) {
        Ok((Table::Holding, address)) => address,
        _ => {
            let hint = Some("write \"holding:0x0014\"".to_owned());
            reader.problem(place?.at, "setting.write", "is no holding register", hint);
            return None;
        }
    };
    let form = form(reader, word?)?;
    let function = match (function, form.width()) {
        (None, 1) | (Some(At { value: 6, .. }), 1) => 6,
        (None | Some(At { value: 16, .. }), _) => 16,
        (Some(At { at, .. }), _) => {
            let message = "must be 16, or 6 for one register";
            reader.problem(at, "setting.function", message, None);
            return None;
        }
    };
    let (least, greatest) =
        (least.map_or(1.0, |it| it.value), greatest.map_or(247.0, |it| it.value));
    if least > greatest {
        reader.problem(section.at, "setting.least", "is above greatest", None);
    }
    let Some(scale) = Scale::of(&[1.0], divide) else {
        reader.problem(section.at, "setting.divide_by", "must be above 0", None);
        return None;
    };
    let encoding = Encoding { form, order };
    Some(Setting {
        kind,
        address,
        encoding,
        scale,
        least,
        greatest,
        function,
        after_restart,
        notes,
    })
}

/// A number that is no flag.
fn form(reader: &mut Reader<'_>, word: At<&str>) -> Option<Form> {
    let found = TYPES.iter().find(|(known, form)| *known == word.value && !form.is_flag());
    if found.is_none() {
        let numbers = TYPES.iter().filter(|(_, form)| !form.is_flag());
        let words: Vec<&str> = numbers.map(|&(word, _)| word).collect();
        let hint = nearest(word.value, &words).map(|near| format!("did you mean \"{near}\"?"));
        let message = format!("there is no number \"{}\"", word.value);
        reader.problem(word.at, "setting.type", message, hint);
    }
    found.map(|&(_, form)| form)
}
