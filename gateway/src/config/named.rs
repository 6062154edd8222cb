//! Sections of which there may be many, `[bus.ID]`, and references to them by id.
//!
//! An entry that is there but wrong has been reported where it stands: whoever refers to it gets
//! nothing, and no second report.

use std::collections::HashMap;

use super::problem::did_you_mean;
use super::section::{ID_HINT, Section, is_id};

/// The entries of a section, each with its position.
#[derive(Debug)]
pub(super) struct Named<'a, T> {
    what: &'static str,
    /// The entries without fault, in the order of the files.
    pub(super) list: Vec<T>,
    positions: HashMap<&'a str, Option<usize>>,
}

impl<'a, T> Named<'a, T> {
    /// Reads every entry of `root.what`, at most `most`, with `read`.
    pub(super) fn read(
        root: &Section<'a>,
        what: &'static str,
        most: usize,
        mut read: impl FnMut(&'a str, &Section<'a>) -> Option<T>,
    ) -> Self {
        let mut named = Self { what, list: Vec::new(), positions: HashMap::new() };
        let Some(section) = root.table(what) else { return named };
        for (count, (id, _)) in section.iter().enumerate() {
            if count == most {
                section.problem(id, format!("more than {most} {what}s"), None);
                break;
            }
            if !is_id(id) {
                section.problem(id, format!("\"{id}\" cannot be an id"), Some(ID_HINT.to_owned()));
            }
            let entry = section.table(id).and_then(|entry| read(id, &entry));
            let position = entry.map(|entry| {
                named.list.push(entry);
                named.list.len() - 1
            });
            named.positions.insert(id, position);
        }
        named
    }

    /// The position of `id`, to which `section.key` refers; a problem when there is none.
    pub(super) fn resolve(&self, section: &Section<'_>, key: &str, id: &str) -> Option<usize> {
        match self.positions.get(id) {
            Some(position) => *position,
            None => {
                let message = format!("there is no {} \"{id}\"", self.what);
                section.problem(key, message, self.hint(id));
                None
            }
        }
    }

    /// The ids of the entries that are there but wrong.
    pub(super) fn broken(&self) -> impl Iterator<Item = &'a str> {
        self.positions.iter().filter(|(_, position)| position.is_none()).map(|(id, _)| *id)
    }

    /// The id most like `id`, or how to make one.
    fn hint(&self, id: &str) -> Option<String> {
        let ids = self.positions.keys().copied();
        did_you_mean(id, ids)
            .or_else(|| is_id(id).then(|| format!("add a section [{}.{id}]", self.what)))
    }

    /// The entry that a key of `section` names.
    pub(super) fn named_by(&self, section: &Section<'_>, key: &str) -> Option<usize> {
        section.text(key).and_then(|id| self.resolve(section, key, id))
    }
}
