//! The keeper: reads the journal, keeps hours in memory, writes those that are over.
//!
//! Each sample is written exactly once. A transaction holds rows and the place from which the
//! journal is to be read again: before the first record of which something is still in memory
//! (`after`), together with how far it was read of each boot (`through`, `boots`) and which hours
//! were kept back (`kept`). Whoever reads again passes over what was read and is of no kept hour.
//! That works because a record's wall time never changes and its number is never used twice, also
//! where the end of the journal is lost with the power. Nothing else is remembered; a gateway that
//! stops writes nothing.
//!
//! A record of this boot that has no wall time yet is waited for, and everything behind it; one of
//! an earlier boot without an anchor never gets one and is counted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::buffer::{Buffer, Hour};
use super::column;
use super::file::{self, Trouble};
use super::place::{Again, Place, Read};
use super::postponed::Postponed;
use super::present::Present;
use super::row::{Builder, Entry, Kind, Place as PartPlace};
use super::summary::{DAY_MS, HOUR_MS, digest};
use crate::journal::{BootId, Payload, Position, Record};
use crate::mqtt::{WallClock, record_wall_ms};

/// Series in a group: few enough that a row is read quickly, enough that pages are filled.
pub(super) const GROUP_SERIES: u8 = 16;
/// Series that are kept; beyond them samples are counted as passed over.
pub const SERIES_MAX: usize = 65_536;
/// Hours of a day.
pub(super) const DAY_HOURS: i64 = 24;

/// The group of a series, and its place there.
pub(super) fn group_of(series: i64) -> (i64, u8) {
    let (series, of) = (series - 1, i64::from(GROUP_SERIES));
    (series.div_euclid(of), u8::try_from(series.rem_euclid(of)).unwrap_or(0))
}

/// What was written and what was passed over, since the start. Part of the shape of a snapshot
/// ([`crate::diagnostics::History`]): released fields keep their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Samples written.
    pub samples: u64,
    /// Records of boots that never had a wall time.
    pub undated: u64,
    /// Samples older than what is kept, or of too many series.
    pub passed_over: u64,
    /// Rows that did not check, and days of a group that were too old before they could be merged.
    pub damaged: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Attempts to merge a day that failed; unknown to snapshots of older gateways.
    #[serde(default)]
    pub merge_failures: u64,
}

/// By item: the number and the period of a series.
type OfMachine = HashMap<Arc<str>, (i64, i64)>;

/// The names of series, and their numbers.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    numbers: HashMap<Arc<str>, OfMachine>,
    count: usize,
}

impl Catalogue {
    pub(super) fn read(database: &Connection, periods: &Periods) -> Result<Self, Trouble> {
        let mut catalogue = Self::default();
        let mut statement = database.prepare("SELECT id, machine, item FROM series ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, machine, item): (i64, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let period = periods.of(&machine, &item);
            catalogue.numbers.entry(machine.into()).or_default().insert(item.into(), (id, period));
            catalogue.count = catalogue.count.max(usize::try_from(id).unwrap_or(0));
        }
        Ok(catalogue)
    }

    /// The number and the period of a series; `None` when there are too many.
    fn number(
        &mut self,
        machine: &Arc<str>,
        item: &Arc<str>,
        periods: &Periods,
        buffer: &mut Buffer,
    ) -> Option<(i64, i64)> {
        if let Some(known) = self.numbers.get(machine).and_then(|items| items.get(item)) {
            return Some(*known);
        }
        if self.count >= SERIES_MAX {
            return None;
        }
        self.count += 1;
        let new = (i64::try_from(self.count).ok()?, periods.of(machine, item));
        buffer.fresh.push((new.0, machine.clone(), item.clone()));
        self.numbers.entry(machine.clone()).or_default().insert(item.clone(), new);
        Some(new)
    }
}

/// The names and periods, in milliseconds, of a machine's items; machines of a kind share a list.
type PeriodsOfMachine = Arc<Vec<(Arc<str>, i64)>>;

/// The periods of items by machine.
#[derive(Clone, Debug, Default)]
pub struct Periods(HashMap<Arc<str>, PeriodsOfMachine>);

impl Periods {
    /// Of an item that is not configured any more: the shortest that a slow source may have.
    const UNKNOWN_MS: i64 = 1000;

    /// Notes the periods of a machine.
    pub fn note(
        &mut self,
        machine: &Arc<str>,
        periods: impl Iterator<Item = (Arc<str>, std::time::Duration)>,
    ) {
        let millis = |period: std::time::Duration| {
            i64::try_from(period.as_millis()).unwrap_or(i64::MAX).clamp(1, DAY_MS)
        };
        let items: Vec<_> = periods.map(|(item, period)| (item, millis(period))).collect();
        self.0.insert(Arc::clone(machine), Arc::new(items));
    }

    /// Those of a plan.
    pub fn of_plan(plan: &crate::config::plan::Plan) -> Self {
        let mut periods = Self::default();
        let mut before: Option<PeriodsOfMachine> = None;
        for items in plan.engine.items.chunk_by(|one, next| one.machine == next.machine) {
            let Some(machine) = items.first() else { continue };
            let machine = &plan.engine.machines[usize::from(machine.machine.0)].id;
            periods.note(machine, items.iter().map(|it| (it.item.name.clone(), it.period)));
            let Some(own) = periods.0.get_mut(machine) else { continue };
            match &before {
                Some(before) if before == own => *own = Arc::clone(before),
                _ => before = Some(Arc::clone(own)),
            }
        }
        periods
    }

    fn of(&self, machine: &str, item: &str) -> i64 {
        let mut items = self.0.get(machine).into_iter().flat_map(|items| items.iter());
        let known = items.find(|(name, _)| **name == *item);
        known.map_or(Self::UNKNOWN_MS, |(_, period)| *period)
    }
}

/// Reads, keeps and writes; no thread of its own and no clock.
pub(super) struct Keeper {
    pub(super) database: Connection,
    pub(super) buffer: Arc<Mutex<Buffer>>,
    pub(super) place: Place,
    pub(super) catalogue: Catalogue,
    periods: Periods,
    wall: WallClock,
    boot: BootId,
    /// The record that was passed last, and its rank among those passed.
    passed: (u64, Option<Position>),
    read: Read,
    pub(super) again: Again,
    /// Whether the file was made when it was opened.
    pub(super) begun: bool,
    pub(super) counters: Counters,
    /// The moment of the newest sample.
    pub(super) newest_ms: Option<i64>,
    /// As of the last look.
    pub(super) present: Present,
    pub(super) postponed: Postponed,
    /// Why a day could not be merged last, while there is one.
    pub(super) unmerged: Option<String>,
    /// The first sample that the horizon has kept out since one was taken.
    pub(super) kept_out_ms: Option<i64>,
    /// The file is to be opened again: what the horizon has kept out is still in the journal.
    pub(super) is_over: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// Its wall time is not known yet.
    Waits,
}

/// The buffer, whatever a thread that panicked was doing: each change of it is one step.
pub(super) fn lock(buffer: &Mutex<Buffer>) -> MutexGuard<'_, Buffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Opens the file at `path`.
    pub(super) fn open(
        path: &Path,
        boot: BootId,
        wall: WallClock,
        periods: Periods,
        buffer: Arc<Mutex<Buffer>>,
    ) -> Result<Self, Trouble> {
        let (database, begun) = file::open(path)?;
        let place = Place::read(&database)?;
        let catalogue = Catalogue::read(&database, &periods)?;
        let newest: Option<i64> =
            database.query_row("SELECT max(start + span) FROM chunk", [], |row| row.get(0))?;
        *lock(&buffer) = Buffer::default();
        Ok(Self {
            database,
            buffer,
            passed: (0, place.after),
            read: Read::before(&place),
            again: Again::new(&place),
            begun,
            place,
            catalogue,
            periods,
            wall,
            boot,
            counters: Counters::default(),
            newest_ms: newest.map(|hours| hours * HOUR_MS),
            present: Present::default(),
            postponed: Postponed::default(),
            unmerged: None,
            kept_out_ms: None,
            is_over: false,
        })
    }

    /// Takes a record, in the order of the journal.
    pub(super) fn take(&mut self, record: &Record) -> Taken {
        let Payload::Observation(seen) = &record.payload else {
            self.pass(record);
            return Taken::Yes;
        };
        let Some(at_ms) = record_wall_ms(&self.wall, record) else {
            if record.boot == self.boot {
                return Taken::Waits;
            }
            self.counters.undated += 1;
            self.pass(record);
            return Taken::Yes;
        };
        let (old, has) = (self.place.is_past(at_ms), self.place.has(record, at_ms));
        if has || old {
            self.kept_out_ms = self.kept_out_ms.or((!has).then_some(at_ms));
            self.counters.passed_over += if old { seen.items.len() as u64 } else { 0 };
            self.pass(record);
            return Taken::Yes;
        }
        let mut buffer = lock(&self.buffer);
        for (item, measured) in &seen.items {
            match self.catalogue.number(&seen.machine, item, &self.periods, &mut buffer) {
                Some(series) => buffer.push(series, at_ms, measured, self.passed),
                None => self.counters.passed_over += 1,
            }
        }
        buffer.pass(at_ms);
        drop(buffer);
        self.newest_ms = self.newest_ms.max(Some(at_ms));
        self.kept_out_ms = None;
        self.pass(record);
        Taken::Yes
    }

    fn pass(&mut self, record: &Record) {
        self.again.pass(&self.place, record);
        self.read.pass(record.position());
        self.passed = (self.passed.0 + 1, Some(record.position()));
    }

    /// How far the journal is in the file: what it may recycle as far as we are concerned.
    pub(super) fn position(&self) -> Option<Position> {
        self.place.after
    }

    /// Whether memory is used up: nothing may be taken before [`Keeper::flush`] has succeeded.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.buffer).is_full()
    }

    /// Writes the hours that are over, or all when memory is used up; in one transaction.
    pub(super) fn flush(&mut self) -> Result<bool, Trouble> {
        let full = self.is_full();
        self.write(full)
    }

    /// Writes the hours that are over, or all of them.
    pub(super) fn write(&mut self, all: bool) -> Result<bool, Trouble> {
        let buffer = lock(&self.buffer);
        let due = buffer.due(all);
        // What was kept out may have to be read again, so it is not counted as read without need.
        if due.is_empty() || self.again.is_on() || self.kept_out_ms.is_some() && !all {
            return Ok(false);
        }
        let (after, kept) = buffer.rest(&due).unwrap_or((self.passed.1, Vec::new()));
        let (through, boots) = self.read.split();
        let place = Place { after, through, boots, kept, ..self.place };
        let fresh = buffer.fresh.clone();
        drop(buffer);
        let transaction = self.database.unchecked_transaction()?;
        for (id, machine, item) in &fresh {
            let row = params![id, &**machine, &**item];
            transaction
                .execute("INSERT INTO series (id, machine, item) VALUES (?1, ?2, ?3)", row)?;
        }
        let mut samples = 0;
        for hour in &due {
            // Only this thread changes the buffer: a lock for each group keeps nobody waiting.
            let groups = lock(&self.buffer).hours.get(hour).map(groups).unwrap_or_default();
            for (group, series) in groups {
                let buffer = lock(&self.buffer);
                let Some(own) = buffer.hours.get(hour) else { continue };
                let (row, count) = pack(*hour, own, &series);
                drop(buffer);
                samples += count;
                insert(&transaction, group, *hour, 1, &row)?;
                let day = hour.div_euclid(DAY_HOURS);
                transaction
                    .execute("INSERT OR IGNORE INTO pending VALUES (?1, ?2)", [group, day])?;
            }
        }
        place.write(&transaction)?;
        step("before the commit")?;
        // Whoever asks sees the hours either in the file or in memory.
        let mut buffer = lock(&self.buffer);
        transaction.commit()?;
        buffer.forget(&due);
        buffer.fresh.clear();
        drop(buffer);
        step("after the commit")?;
        self.counters.samples += samples;
        self.place = place;
        Ok(true)
    }
}

/// The series of an hour by their groups.
fn groups(hour: &Hour) -> BTreeMap<i64, Vec<i64>> {
    let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for series in hour.series.keys() {
        groups.entry(group_of(*series).0).or_default().push(*series);
    }
    groups
}

/// The row of some series of an hour, and how many samples it holds.
fn pack(number: i64, hour: &Hour, series: &[i64]) -> (Vec<u8>, u64) {
    let begin_ms = number * HOUR_MS;
    let mut row = Builder::new(Kind::Samples, begin_ms);
    let mut count = 0;
    for series in series {
        let Some(packed) = hour.series.get(series) else { continue };
        let mut samples = packed.unpack();
        samples.sort();
        count += samples.len() as u64;
        add(&mut row, group_of(*series).1, &samples, packed.period_ms, begin_ms);
    }
    (row.finish(), count)
}

/// Adds sorted samples of a series to a row.
pub(super) fn add(
    row: &mut Builder,
    index: u8,
    samples: &super::samples::Samples,
    period_ms: i64,
    begin_ms: i64,
) {
    let shared = row.share(samples.len(), column::write_times(&samples.times, begin_ms));
    let (scale, body) = column::write_values(samples);
    let (place, count) = (PartPlace::default(), 0);
    let digest = digest(samples, period_ms);
    row.add(Entry { index, scale, shared, count, period_ms, place, digest }, &body);
}

/// Inserts a row of samples that begins with an hour and spans some.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    group: i64,
    hour: i64,
    span: i64,
    row: &[u8],
) -> Result<(), Trouble> {
    let columns = params![group, hour, span, row];
    let sql = "INSERT INTO chunk (grp, start, span, body) VALUES (?1, ?2, ?3, ?4)";
    transaction.prepare(sql)?.execute(columns)?;
    step("between rows")?;
    Ok(())
}

/// Where a test may cut the power.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "a test's may fail")]
pub(super) const fn step(_: &'static str) -> Result<(), Trouble> {
    Ok(())
}

#[cfg(test)]
pub(super) use super::tests::step;
