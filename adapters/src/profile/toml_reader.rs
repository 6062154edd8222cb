//! Reading TOML so that every problem of a file is found in one pass, each with its line: a
//! wrong value is noted and reading goes on with what is left.
//!
//! It knows nothing of profiles. At most [`PROBLEMS_MAX`] problems are kept: whoever has more is
//! not reading a list any longer.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// Most problems that are reported of one file.
pub(super) const PROBLEMS_MAX: usize = 100;

/// Below this likeness a hint would mislead.
const LIKENESS: f64 = 0.75;

/// A file being read and what is wrong with it so far.
pub(super) struct Reader<'i> {
    file: &'i str,
    text: &'i str,
    problems: Vec<Problem>,
}

impl<'i> Reader<'i> {
    pub(super) fn new(file: &'i str, text: &'i str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// Notes a problem at a byte of the text.
    pub(super) fn problem(
        &mut self,
        at: usize,
        key: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.problems.len() < PROBLEMS_MAX {
            let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            let (file, key, message) = (self.file.to_owned(), key.to_owned(), message.into());
            self.problems.push(Problem { file, line, key, message, hint });
        }
    }

    /// How many problems there are so far.
    pub(super) const fn count(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems in the order of their lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }

    /// The document, when its syntax is sound. After a syntax error nothing else is reported,
    /// because whatever follows might only follow from it.
    pub(super) fn document(&mut self) -> Option<Spanned<DeTable<'i>>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().map_or(0, |span: Range<usize>| span.start);
            self.problem(at, "", error.message(), None);
        }
        errors.is_empty().then_some(document)
    }
}

/// A table and what it is called in messages.
#[derive(Clone, Copy)]
pub(super) struct Section<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where it begins.
    pub(super) at: usize,
    /// In front of its keys in messages: `item.`; empty at the top.
    prefix: &'static str,
}

/// A value and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct At<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) const fn new(table: &'a DeTable<'i>, at: usize, prefix: &'static str) -> Self {
        Self { table, at, prefix }
    }

    /// The key as messages name it.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Notes every key that is not in `known`, with the nearest that is.
    pub(super) fn refuse_others(&self, reader: &mut Reader<'_>, known: &[&str]) {
        for key in self.table.keys() {
            let word: &str = key.get_ref();
            if !known.contains(&word) {
                let hint = nearest(word, known)
                    .map(|near| format!("did you mean \"{near}\"?"))
                    .or_else(|| Some(format!("known here: {}", known.join(", "))));
                reader.problem(key.span().start, &self.path(word), "unknown key", hint);
            }
        }
    }

    fn value(&self, key: &str) -> Option<At<&'a DeValue<'i>>> {
        let value = self.table.get(key)?;
        Some(At { at: value.span().start, value: value.get_ref() })
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, key: &str, at: usize, expected: &str) {
        reader.problem(at, &self.path(key), format!("must be {expected}"), None);
    }

    /// Text that is not blank.
    pub(super) fn text(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<&'a str>> {
        let At { at, value } = self.value(key)?;
        let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
        if text.is_none() {
            self.wrong_type(reader, key, at, "text that is not empty");
        }
        text.map(|value| At { at, value })
    }

    /// The text of a key, where it is any, without a word about what is wrong with it.
    pub(super) fn as_written(&self, key: &str) -> Option<&'a str> {
        self.value(key)?.value.as_str().map(str::trim)
    }

    /// As [`Section::text`]; its absence is a problem.
    pub(super) fn required_text(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        hint: &str,
    ) -> Option<At<&'a str>> {
        if self.value(key).is_none() {
            reader.problem(self.at, &self.path(key), "missing", Some(hint.to_owned()));
        }
        self.text(reader, key)
    }

    /// A whole number.
    pub(super) fn integer(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<i128>> {
        let At { at, value } = self.value(key)?;
        let integer = integer(value);
        if integer.is_none() {
            self.wrong_type(reader, key, at, "a whole number");
        }
        integer.map(|value| At { at, value })
    }

    /// A finite number.
    pub(super) fn number(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<f64>> {
        let At { at, value } = self.value(key)?;
        let number = number(value);
        if number.is_none() {
            self.wrong_type(reader, key, at, "a finite number");
        }
        number.map(|value| At { at, value })
    }

    /// True or false.
    pub(super) fn flag(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<bool>> {
        let At { at, value } = self.value(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong_type(reader, key, at, "true or false");
        }
        flag.map(|value| At { at, value })
    }

    /// One whole number or several.
    pub(super) fn integers(&self, reader: &mut Reader<'_>, key: &str) -> Vec<At<i128>> {
        let Some(At { at, value }) = self.value(key) else { return Vec::new() };
        if let Some(value) = integer(value) {
            return vec![At { at, value }];
        }
        let elements = value.as_array().map(|array| array.iter());
        let integers: Option<Vec<_>> = elements.and_then(|mut elements| {
            elements.try_fold(Vec::new(), |mut integers, element| {
                let at = element.span().start;
                integers.push(At { at, value: integer(element.get_ref())? });
                Some(integers)
            })
        });
        if integers.is_none() {
            self.wrong_type(reader, key, at, "a whole number or a list of whole numbers");
        }
        integers.unwrap_or_default()
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        prefix: &'static str,
    ) -> Vec<Section<'a, 'i>> {
        let Some(At { at, value }) = self.value(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.wrong_type(reader, key, at, &format!("a list of tables, [[{key}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section { table, at: element.span().start, prefix }),
                None => self.wrong_type(reader, key, element.span().start, "a table"),
            }
        }
        sections
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The table `[key]`.
    pub(super) fn section(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        prefix: &'static str,
    ) -> Option<Section<'a, 'i>> {
        let At { at, value } = self.value(key)?;
        let table = value.as_table();
        if table.is_none() {
            self.wrong_type(reader, key, at, &format!("a table, [{}]", self.path(key)));
        }
        table.map(|table| Section { table, at, prefix })
    }

    /// The keys and values of a table, each with the place of its key.
    pub(super) fn entries(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
    ) -> Vec<(At<&'a str>, &'a DeValue<'i>)> {
        let Some(At { at, value }) = self.value(key) else {
            reader.problem(self.at, &self.path(key), "missing", None);
            return Vec::new();
        };
        let Some(table) = value.as_table() else {
            self.wrong_type(reader, key, at, "a table, { … }");
            return Vec::new();
        };
        let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'i>>)| {
            let word: &'a std::borrow::Cow<'i, str> = key.get_ref();
            (At { at: key.span().start, value: word.as_ref() }, value.get_ref())
        };
        table.iter().map(entry).collect()
    }
}

/// A whole number, whatever its base.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A finite number, with or without a point.
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "what a person writes has few digits")]
    let whole = || integer(value).map(|integer| integer as f64);
    let float = value.as_float().and_then(|float| float.as_str().parse().ok());
    float.or_else(whole).filter(|number: &f64| number.is_finite())
}

/// The most alike of `known`, when one is alike at all.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|&candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
