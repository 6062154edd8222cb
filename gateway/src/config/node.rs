//! The merged configuration as a tree in which every value knows where it was written.

use std::collections::HashMap;

use super::problem::Place;

/// A value and where it was written.
#[derive(Debug)]
pub(super) struct Node {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) content: Content,
}

/// A value as written.
#[derive(Debug)]
pub(super) enum Content {
    /// Text of a file.
    Text(String),
    /// Text of an environment variable: what it means is up to the key.
    Environment(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction; may be infinite or NaN, which TOML can write.
    Number(f64),
    /// true or false.
    Flag(bool),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the files.
    Table(Table),
}

/// The entries of a table in order, and each one's position.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<(String, Node)>,
    positions: HashMap<String, usize>,
}

impl Table {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.positions.get(key).map(|&position| &self.entries[position].1)
    }

    /// The entries in the order of the files.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node))
    }
}

impl Content {
    /// A table of these entries.
    pub(super) fn table(entries: Vec<(String, Node)>) -> Self {
        let positions =
            entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        Self::Table(Table { entries, positions })
    }

    /// What it is, in the words of a message.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Environment(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}
