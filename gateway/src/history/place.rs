//! The place in the journal up to which a file has it all, and what of the journal lies beyond.

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};

use super::file::Trouble;
use super::rollup::Level;
use super::summary::{HOUR_MS, stretch_of};
use crate::journal::{Position, Record};

/// Boots of which it is remembered how far they were read: more than a journal of a week has,
/// unless the computer starts again every few minutes.
const BOOTS_MAX: usize = 256;

/// Where the journal is to be read from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Begin after this record; with the oldest one without it.
    pub(super) after: Option<Position>,
    /// The record that was read last.
    pub(super) through: Option<Position>,
    /// The newest record that was read of each boot before that one, in the order of their reading.
    #[serde(default)]
    pub(super) boots: Vec<Position>,
    /// Hours of which nothing that was read is in the file.
    pub(super) kept: Vec<i64>,
    /// Samples of the time before this are not taken any more: the rows of then are gone.
    #[serde(default)]
    pub(super) horizon_ms: Option<i64>,
    /// Roll-ups of minutes of before this are gone.
    #[serde(default)]
    pub(super) minutes_ms: Option<i64>,
    /// Those of hours.
    #[serde(default)]
    pub(super) hours_ms: Option<i64>,
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

    /// Before when the roll-ups of a level are gone; samples, without one.
    pub(super) const fn gone_ms(&self, level: Option<Level>) -> Option<i64> {
        match level {
            None => self.horizon_ms,
            Some(Level::Minute) => self.minutes_ms,
            Some(Level::Hour) => self.hours_ms,
            Some(Level::Day) => None,
        }
    }

    /// Whether a moment is too old to be taken.
    pub(super) fn is_past(&self, at_ms: i64) -> bool {
        self.horizon_ms.is_some_and(|horizon| at_ms <= horizon)
    }

    /// Whether a record was read before this place was written.
    ///
    /// Each boot is asked for by itself: what was read last may be lost, for the journal is synced
    /// only now and then, and the boot that comes next was not read because of that.
    pub(super) fn knows(&self, record: &Record) -> bool {
        let mut read = self.through.iter().chain(&self.boots);
        read.any(|it| it.boot == record.boot && record.seq <= it.seq)
    }

    /// Whether the file has a record's samples, which are of this moment.
    pub(super) fn has(&self, record: &Record, at_ms: i64) -> bool {
        self.knows(record) && !self.kept.contains(&stretch_of(at_ms, HOUR_MS))
    }
}

/// How far the journal was read: the newest record of each boot, the one read last at the end.
#[derive(Clone, Debug)]
pub(super) struct Read(Vec<Position>);

impl Read {
    /// What had been read when a place was written.
    pub(super) fn before(place: &Place) -> Self {
        Self(place.boots.iter().chain(&place.through).copied().collect())
    }

    /// Takes note of a record.
    pub(super) fn pass(&mut self, position: Position) {
        if let Some(last) = self.0.last_mut().filter(|last| last.boot == position.boot) {
            last.seq = last.seq.max(position.seq);
            return;
        }
        let known = self.0.iter().position(|known| known.boot == position.boot);
        let seq = known.map_or(0, |known| self.0.remove(known).seq);
        if self.0.len() == BOOTS_MAX {
            self.0.remove(0);
        }
        self.0.push(Position { seq: seq.max(position.seq), ..position });
    }

    /// The record read last, and those of the boots before it.
    pub(super) fn split(&self) -> (Option<Position>, Vec<Position>) {
        let (last, before) = self.0.split_last().unzip();
        (last.copied(), before.map_or_else(Vec::new, <[Position]>::to_vec))
    }
}

/// Whether what is being read from the journal was read before a place was written. It ends with
/// the record that was read last, and where that is lost, with the first one that was not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again(bool);

impl Again {
    /// At the begin of a place.
    pub(super) fn new(place: &Place) -> Self {
        Self(place.through.is_some() && place.through != place.after)
    }

    /// Whether reading is still among what was read before.
    pub(super) const fn is_on(self) -> bool {
        self.0
    }

    /// Goes past a record.
    pub(super) fn pass(&mut self, place: &Place, record: &Record) {
        self.0 &= place.knows(record) && place.through != Some(record.position());
    }
}
