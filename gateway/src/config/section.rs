//! Reads one table of the configuration: typed, with everything that is wrong reported and
//! nothing guessed. A reader that gets no value back knows that the reason is in the report.

use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

use andon_engine::unit::{Unit, parse_as, parse_duration};

use super::node::{Content, Node, Table};
use super::plan::Name;
use super::problem::{Excerpt, Place, Problem, Report, did_you_mean};

/// Longest id.
pub(super) const ID_BYTES_MAX: usize = 32;

/// A table of the configuration.
pub(super) struct Section<'a> {
    table: &'a Table,
    /// Where it begins.
    pub(super) place: &'a Place,
    /// Its path, `machine.laser`; empty at the root.
    path: String,
    /// Where what is wrong goes.
    pub(super) report: &'a Report,
}

impl<'a> Section<'a> {
    /// The table in `node`; a problem when it is none.
    pub(super) fn open(node: &'a Node, path: String, report: &'a Report) -> Option<Self> {
        if let Content::Table(table) = &node.content {
            return Some(Self { table, place: &node.place, path, report });
        }
        report.add(Problem {
            file: node.place.file.clone(),
            line: node.place.line,
            key: path,
            message: format!("must be a table, not {}", node.content.word()),
            hint: None,
            excerpt: None,
        });
        None
    }

    /// The table under `key`; an empty one when it is not there, nothing when it is no table.
    pub(super) fn table(&self, key: &str) -> Option<Self> {
        static EMPTY: LazyLock<Table> = LazyLock::new(Table::default);
        let path = self.path_of(key);
        match self.get(key) {
            Some(node) => Self::open(node, path, self.report),
            None => Some(Self { table: &EMPTY, place: self.place, path, report: self.report }),
        }
    }

    /// The path of a key of this table; a key that is not bare is quoted as TOML wants it.
    pub(super) fn path_of(&self, key: &str) -> String {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let quoted = key.is_empty() || !key.bytes().all(bare);
        let key = if quoted { format!("\"{key}\"") } else { key.to_owned() };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Reports every key that is not one of `known`.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, node) in self.table.iter().filter(|(key, _)| !known.contains(key)) {
            let hint = did_you_mean(key, known.iter().copied())
                .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            self.problem_at(&node.place, key, "unknown key", Some(hint));
        }
    }

    /// The entries in the order of the files.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.table.iter()
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key)
    }

    /// Where a key was written; where the table begins when it was not.
    pub(super) fn place_of(&self, key: &str) -> &'a Place {
        self.table.get(key).map_or(self.place, |node| &node.place)
    }

    /// Reports a problem of a key, where the key is, or else where the table begins.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>, hint: Option<String>) {
        self.problem_at(self.place_of(key), key, message, hint);
    }

    /// Reports a problem of a key at a place of the caller's choice.
    pub(super) fn problem_at(
        &self,
        place: &Place,
        key: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.report.add(self.describe(place, key, message.into(), hint, None));
    }

    /// Reports a problem with the part of the key's text that is at fault.
    pub(super) fn problem_in_text(
        &self,
        key: &str,
        message: String,
        hint: Option<String>,
        excerpt: Excerpt,
    ) {
        self.report.add(self.describe(self.place_of(key), key, message, hint, Some(excerpt)));
    }

    /// Notes something that works but that a person should know.
    pub(super) fn warn(&self, key: &str, message: impl Into<String>, hint: Option<String>) {
        self.report.warn(self.describe(self.place_of(key), key, message.into(), hint, None));
    }

    fn describe(
        &self,
        place: &Place,
        key: &str,
        message: String,
        hint: Option<String>,
        excerpt: Option<Excerpt>,
    ) -> Problem {
        let key = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        Problem { file: place.file.clone(), line: place.line, key, message, hint, excerpt }
    }

    /// Reports that a key is missing, unless it is there (and then, at most, wrong).
    pub(super) fn need<T>(&self, key: &str, example: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.problem(key, "missing", Some(format!("write {key} = {example}")));
        }
        value
    }

    fn wrong_type(&self, key: &str, node: &Node, wanted: &str) {
        let message = format!("must be {wanted}, not {}", node.content.word());
        self.problem_at(&node.place, key, message, None);
    }

    /// A text that is not blank.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let node = self.get(key)?;
        match &node.content {
            Content::Text(text) | Content::Environment(text) if text.trim().is_empty() => {
                self.problem_at(&node.place, key, "is empty", None);
                None
            }
            Content::Text(text) | Content::Environment(text) => Some(text),
            _ => {
                self.wrong_type(key, node, "text");
                None
            }
        }
    }

    /// A text that may be empty.
    pub(super) fn text_or_empty(&self, key: &str) -> Option<&'a str> {
        match &self.get(key)?.content {
            Content::Text(text) | Content::Environment(text) if text.is_empty() => Some(text),
            _ => self.text(key),
        }
    }

    /// true or false.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        match &node.content {
            Content::Flag(flag) => Some(*flag),
            Content::Environment(text) if text == "true" => Some(true),
            Content::Environment(text) if text == "false" => Some(false),
            _ => {
                self.wrong_type(key, node, "true or false");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.get(key)?;
        let integer = match &node.content {
            Content::Integer(integer) => Some(*integer),
            Content::Environment(text) => text.trim().parse().ok(),
            _ => None,
        };
        match integer {
            Some(integer) if range.contains(&integer) => Some(integer),
            Some(integer) => {
                let message = format!("{integer} is outside {} to {}", range.start(), range.end());
                self.problem_at(&node.place, key, message, None);
                None
            }
            None => {
                self.wrong_type(key, node, "a whole number");
                None
            }
        }
    }

    /// A finite number above 0 and at most `most`.
    pub(super) fn ratio(&self, key: &str, most: f64) -> Option<f64> {
        let node = self.get(key)?;
        let number = match &node.content {
            Content::Integer(integer) => i32::try_from(*integer).ok().map(f64::from),
            Content::Number(number) => Some(*number),
            Content::Environment(text) => text.trim().parse().ok(),
            _ => {
                self.wrong_type(key, node, "a number");
                return None;
            }
        };
        let number = number.filter(|number| *number > 0.0 && *number <= most);
        if number.is_none() {
            let message = format!("must be above 0 and at most {most}");
            self.problem_at(&node.place, key, message, None);
        }
        number
    }

    /// A quantity with its unit, in the canonical unit.
    pub(super) fn quantity(&self, key: &str, unit: Unit) -> Option<f64> {
        let node = self.get(key)?;
        let text = match &node.content {
            Content::Integer(_) | Content::Number(_) if unit != Unit::None => {
                let hint = format!("write it in quotes with its unit, \"20 {}\"", unit.written());
                self.problem_at(&node.place, key, "has no unit", Some(hint));
                return None;
            }
            _ => self.text(key)?,
        };
        parse_as(text, unit)
            .map_err(|error| {
                let hint = format!("write a number and its unit, \"20 {}\"", unit.written());
                self.problem_at(&node.place, key, error.to_string(), Some(hint));
            })
            .ok()
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let node = self.get(key)?;
        let hint = || Some("write a number and its unit, \"1 s\" or \"250 ms\"".to_owned());
        if matches!(node.content, Content::Integer(_) | Content::Number(_)) {
            self.problem_at(&node.place, key, "has no unit", hint());
            return None;
        }
        match parse_duration(self.text(key)?) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(duration) => {
                let [is, least, most] = [duration, *range.start(), *range.end()].map(say);
                let message = format!("{is} is outside {least} to {most}");
                self.problem_at(&node.place, key, message, None);
                None
            }
            Err(error) => {
                self.problem_at(&node.place, key, error.to_string(), hint());
                None
            }
        }
    }

    /// A number of bytes, `256 MB`, within `range`.
    pub(super) fn bytes(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(key)?;
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let factor: Option<u64> = match text[end..].trim() {
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size =
            text[..end].parse().ok().zip(factor).and_then(|(n, by): (u64, _)| n.checked_mul(by));
        let inside = size.filter(|size| range.contains(size));
        if inside.is_none() {
            let (least, most) = (range.start() / 1_000_000, range.end() / 1_000_000);
            let message = format!("\"{text}\" is not a size from {least} MB to {most} MB");
            self.problem(
                key,
                message,
                Some("write a whole number and MB or GB, \"256 MB\"".into()),
            );
        }
        inside
    }

    /// One of a closed list of words; its position.
    pub(super) fn one_of(&self, key: &str, words: &[&str]) -> Option<usize> {
        let text = self.text(key)?;
        let found = words.iter().position(|word| *word == text);
        if found.is_none() {
            let hint = did_you_mean(text, words.iter().copied())
                .unwrap_or_else(|| format!("one of: {}", words.join(", ")));
            self.problem(key, format!("\"{text}\" is not one of the choices"), Some(hint));
        }
        found
    }

    /// A name: text, or a table with `en` and `zh`; a language that is missing gets the other's.
    pub(super) fn name(&self, key: &str) -> Option<Name> {
        let node = self.get(key)?;
        if !matches!(node.content, Content::Table(_)) {
            let text = self.text(key)?;
            return Some(Name { en: text.to_owned(), zh: text.to_owned() });
        }
        let section = self.table(key)?;
        section.only(super::keys::NAME);
        let (en, zh) = (section.text("en"), section.text("zh"));
        if !section.has("en") && !section.has("zh") {
            let hint = "write { en = \"…\", zh = \"…\" }".to_owned();
            section.problem("", "has no text in any language", Some(hint));
        }
        let en = en.or(zh)?;
        Some(Name { en: en.to_owned(), zh: zh.unwrap_or(en).to_owned() })
    }
}

/// Whether `id` may be one: it becomes a level of a topic, a tag of a series, a part of a URL.
pub(super) fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A duration as a person would write it.
pub(crate) fn say(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 1..1000 => format!("{millis} ms"),
        millis if millis % 3_600_000 == 0 && millis > 0 => format!("{} h", millis / 3_600_000),
        millis if millis % 60_000 == 0 && millis > 0 => format!("{} min", millis / 60_000),
        _ => format!("{} s", duration.as_secs_f64()),
    }
}

/// What to say of an id that is none.
pub(super) const ID_HINT: &str = "1 to 32 of: a-z 0-9 -";
