//! The place in the journal up to which a file has it all, and what of the journal lies beyond.

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};

use super::file::Trouble;
use super::summary::{HOUR_MS, stretch_of};
use crate::journal::{Position, Record};

/// Where the journal is to be read from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Begin after this record; with the oldest one without it.
    pub(super) after: Option<Position>,
    /// What lies up to here is in the file, but for the hours below.
    pub(super) through: Option<Position>,
    /// Hours of which nothing before `through` is in the file.
    pub(super) kept: Vec<i64>,
    /// Samples of the time before this are not taken any more: their day's raw rows are gone.
    #[serde(default)]
    pub(super) horizon_ms: Option<i64>,
}

impl Place {
    /// The place of a file; that of an empty one when it has none.
    pub(super) fn read(database: &Connection) -> Result<Self, Trouble> {
        let sql = "SELECT place FROM place WHERE id = 0";
        let place: Option<String> = database.query_row(sql, [], |row| row.get(0)).optional()?;
        let place = place.map(|place| serde_json::from_str(&place));
        place.transpose().map_err(|_| Trouble::Place).map(Option::unwrap_or_default)
    }

    /// Writes it.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> Result<(), Trouble> {
        let place = serde_json::to_string(self).map_err(std::io::Error::other)?;
        transaction.execute("INSERT OR REPLACE INTO place (id, place) VALUES (0, ?1)", [place])?;
        Ok(())
    }

    /// Whether a moment is too old to be taken.
    pub(super) fn is_past(&self, at_ms: i64) -> bool {
        self.horizon_ms.is_some_and(|horizon| at_ms <= horizon)
    }
}

/// Whether what is being read from the journal was read before a place was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again(bool);

impl Again {
    /// At the begin of a place. The journal may have recycled what was read before; then it does
    /// not hold the boot of `through`, and nothing is passed over.
    pub(super) const fn new(place: &Place) -> Self {
        Self(place.through.is_some())
    }

    /// Takes note of whether the journal still holds the boot of `through`.
    pub(super) fn meet(&mut self, held: bool) {
        self.0 &= held;
    }

    /// Whether reading is still among what was read before.
    pub(super) const fn is_on(self) -> bool {
        self.0
    }

    /// Whether the file has a record's samples, which are of this moment.
    pub(super) fn has(&mut self, place: &Place, record: &Record, at_ms: i64) -> bool {
        let through = place.through;
        self.0 &= through.is_some_and(|it| it.boot != record.boot || record.seq <= it.seq);
        self.0 && !place.kept.contains(&stretch_of(at_ms, HOUR_MS))
    }

    /// Goes past a record.
    pub(super) fn pass(&mut self, place: &Place, record: &Record) {
        self.0 &= place.through != Some(record.position());
    }
}
