//! Every sample of a stretch of time, as a stream: hour by hour, series by series, in the order of
//! their time within each. In memory is one series of one row.

use rusqlite::Connection;

use andon_engine::value::Measured;

use super::Archive;
use super::file::{self, Stored, Trouble};
use super::keeper::{DAY_HOURS, group_of};
use super::merge::rows;
use super::query::{Unreadable, whole};
use super::samples::Samples;
use super::summary::{DAY_MS, HOUR_MS, stretch_of};

/// What is exported.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Begin, Unix milliseconds, included.
    pub from_ms: i64,
    /// End, Unix milliseconds, excluded.
    pub to_ms: i64,
    /// One machine, or all.
    pub machine: Option<String>,
    /// One item, or all.
    pub item: Option<String>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The machine's id.
    pub machine: &'a str,
    /// The item's name.
    pub item: &'a str,
    /// What it was.
    pub measured: Measured,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no history file.
    #[error("there is no history here")]
    None,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What is exported cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Samples.
    pub samples: u64,
    /// Rows that did not check, in whole or in part.
    pub damaged: u64,
    /// The end of the newest hour in the file, Unix milliseconds.
    pub until_ms: Option<i64>,
}

impl Archive {
    /// Hands over every sample of the file that was selected.
    ///
    /// # Errors
    /// [`ExportError`]; what was handed over before stands.
    pub fn export(
        &self,
        selection: &Selection,
        write: &mut dyn FnMut(Sample<'_>) -> std::io::Result<()>,
    ) -> Result<Exported, ExportError> {
        let database = file::open_to_read(&self.path).map_err(Unreadable::from)?;
        let database = database.ok_or(ExportError::None)?;
        let series = series(&database, selection).map_err(Unreadable::from)?;
        let span = extent(&database).map_err(Unreadable::from)?;
        let mut exported = Exported { until_ms: span.map(|(_, to)| to), ..Exported::default() };
        let Some((oldest, newest)) = span else { return Ok(exported) };
        let first = stretch_of(selection.from_ms.max(oldest), DAY_MS);
        for day in first..=stretch_of(selection.to_ms.min(newest), DAY_MS) {
            export_day(&database, day, &series, selection, &mut exported, write)?;
        }
        Ok(exported)
    }
}

/// A series that was selected.
struct Selected {
    number: i64,
    machine: String,
    item: String,
}

fn series(database: &Connection, selection: &Selection) -> Result<Vec<Selected>, Trouble> {
    let sql = "SELECT id, machine, item FROM series WHERE (?1 IS NULL OR machine = ?1) \
               AND (?2 IS NULL OR item = ?2) ORDER BY id";
    let mut statement = database.prepare(sql)?;
    let series = statement.query_map([&selection.machine, &selection.item], |row| {
        Ok(Selected { number: row.get(0)?, machine: row.get(1)?, item: row.get(2)? })
    })?;
    Ok(series.collect::<Result<_, _>>()?)
}

/// From when to when there are samples.
fn extent(database: &Connection) -> Result<Option<(i64, i64)>, Trouble> {
    let sql = "SELECT min(start), max(start + span) FROM chunk";
    let (from, to): (Option<i64>, Option<i64>) =
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(from.zip(to).map(|(from, to)| (from * HOUR_MS, to * HOUR_MS)))
}

/// One day is one look: rows of a day are replaced in one transaction.
fn export_day(
    database: &Connection,
    day: i64,
    series: &[Selected],
    selection: &Selection,
    exported: &mut Exported,
    write: &mut dyn FnMut(Sample<'_>) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let look = database.unchecked_transaction().map_err(Trouble::from).map_err(Unreadable::from)?;
    for selected in series {
        let samples = samples_of(&look, day, selected.number, selection, &mut exported.damaged);
        let samples = samples.map_err(Unreadable::from)?;
        for (at_ms, measured) in samples.iter() {
            if (selection.from_ms..selection.to_ms).contains(&at_ms) {
                let (machine, item) = (&*selected.machine, &*selected.item);
                write(Sample { at_ms, machine, item, measured })?;
                exported.samples += 1;
            }
        }
    }
    Ok(())
}

fn samples_of(
    database: &Connection,
    day: i64,
    series: i64,
    selection: &Selection,
    damaged: &mut u64,
) -> Result<Samples, Trouble> {
    let (group, index) = group_of(series);
    let mut samples = Samples::default();
    for found in rows(database, group, day * DAY_HOURS, (day + 1) * DAY_HOURS)? {
        let (begin, end) = (found.start * HOUR_MS, (found.start + found.span) * HOUR_MS);
        if begin >= selection.to_ms || end < selection.from_ms {
            continue;
        }
        let Some(mut row) = whole(Stored::open(database, "chunk", found.id))? else {
            *damaged += 1;
            continue;
        };
        let Some(entry) = row.header.entry(index).copied() else { continue };
        match whole(row.samples(&entry))? {
            Some(part) => samples.append(&part),
            None => *damaged += 1,
        }
    }
    samples.sort();
    Ok(samples)
}
