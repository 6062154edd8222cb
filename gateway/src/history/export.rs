//! Every sample of a stretch of time, as a stream: day by day, series by series, in the order of
//! their time within each; then what only the journal has yet, in the journal's order. In memory is
//! one series of one day.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use andon_engine::value::Measured;

use super::Archive;
use super::file::{self, Stored, Trouble};
use super::keeper::{DAY_HOURS, group_of, lock};
use super::merge::rows;
use super::place::Place;
use super::query::{Unreadable, whole};
use super::samples::Samples;
use super::summary::{DAY_MS, HOUR_MS, stretch_of};
use super::tail;

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
    /// The journal cannot be read.
    #[error("the journal cannot be read: {0}")]
    Journal(std::io::Error),
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
    /// Those of the samples that came from the journal; none when there was no journal to read.
    pub of_journal: Option<u64>,
    /// Records of the journal that have no wall time, so that nobody knows whether they were
    /// selected: their clock is not synchronised yet, or never was.
    pub undated: u64,
    /// Blocks of the journal's telemetry that could not be read to their end, and segments that
    /// could not be read, counted from the segment in which history goes on.
    pub quarantined: u64,
    /// The same of all its events: an anchor of the clock may have been in them, without which
    /// records are undated, or dated by the anchor before.
    pub events_quarantined: u64,
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
        self.export_with(None, selection, write)
    }

    /// Hands over every sample that was selected: those of the file, then those that only the
    /// journal in a folder has yet. A folder without a journal is none.
    ///
    /// # Errors
    /// [`ExportError`]; what was handed over before stands.
    pub fn export_with(
        &self,
        journal: Option<&Path>,
        selection: &Selection,
        write: &mut dyn FnMut(Sample<'_>) -> std::io::Result<()>,
    ) -> Result<Exported, ExportError> {
        let database = file::open_to_read(&self.path).map_err(Unreadable::from)?;
        let reader = journal.map(tail::open).transpose().map_err(ExportError::Journal)?.flatten();
        let (mut exported, mut place) = (Exported::default(), Place::default());
        if let Some(database) = &database {
            let look = database.unchecked_transaction();
            let look = look.map_err(Trouble::from).map_err(Unreadable::from)?;
            export_file(&look, selection, &mut exported, write)?;
            if reader.is_some() {
                place = Place::read(&look).map_err(Unreadable::from)?;
            }
        } else if reader.is_none() {
            return Err(ExportError::None);
        }
        if let Some(reader) = &reader {
            tail::export(reader, &place, selection, &mut exported, write)?;
        }
        Ok(exported)
    }

    /// The machines and items that there are samples of, in the file and in memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn series(&self) -> Result<BTreeSet<(String, String)>, Unreadable> {
        let all = Selection { from_ms: 0, to_ms: 0, machine: None, item: None };
        let buffer = lock(&self.buffer);
        let fresh = buffer.fresh.iter().map(|(_, machine, item)| (&**machine, &**item));
        let mut names: BTreeSet<_> =
            fresh.map(|(machine, item)| (machine.to_owned(), item.to_owned())).collect();
        drop(buffer);
        if let Some(database) = file::open_to_read(&self.path)? {
            let selected = series(&database, &all)?.into_iter();
            names.extend(selected.map(|Selected { machine, item, .. }| (machine, item)));
        }
        Ok(names)
    }
}

/// One look at the file from the first day to the last: what is written meanwhile, some megabytes a
/// day, stays in the file's log until it has ended.
fn export_file(
    look: &Connection,
    selection: &Selection,
    exported: &mut Exported,
    write: &mut dyn FnMut(Sample<'_>) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let series = series(look, selection).map_err(Unreadable::from)?;
    let span = extent(look).map_err(Unreadable::from)?;
    exported.until_ms = span.map(|(_, to)| to);
    let Some((oldest, newest)) = span else { return Ok(()) };
    let first = stretch_of(selection.from_ms.max(oldest), DAY_MS);
    for day in first..=stretch_of(selection.to_ms.min(newest), DAY_MS) {
        export_day(look, day, &series, selection, exported, write)?;
    }
    Ok(())
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
pub(super) fn extent(database: &Connection) -> Result<Option<(i64, i64)>, Trouble> {
    let sql = "SELECT min(start), max(start + span) FROM chunk";
    let (from, to): (Option<i64>, Option<i64>) =
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(from.zip(to).map(|(from, to)| (from * HOUR_MS, to * HOUR_MS)))
}

fn export_day(
    look: &Connection,
    day: i64,
    series: &[Selected],
    selection: &Selection,
    exported: &mut Exported,
    write: &mut dyn FnMut(Sample<'_>) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    for selected in series {
        let samples = samples_of(look, day, selected.number, selection, &mut exported.damaged);
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
