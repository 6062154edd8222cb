//! A finished UTC day of a group becomes one row of samples and its part of the roll-ups. An hour
//! that has to go before its day is over leaves its part of the roll-ups likewise.
//!
//! One transaction per group and day, in memory one series at a time. Whatever rows there are of
//! the day go in, also those of an earlier merge: late samples only make the day pending again. A
//! day that is too large for one row becomes rows of six hours or of one.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::file::{Stored, Trouble};
use super::keeper::{self, DAY_HOURS, GROUP_SERIES, Keeper, add, step};
use super::postponed::Postponed;
use super::rollup::{self, Level, Slots};
use super::row::{Builder, Kind};
use super::samples::Samples;
use super::summary::{DAY_MS, HOUR_MS, Stretches, Sum, stretch_of};

/// Bytes of rows that may become one.
const ROW_BYTES_MAX: i64 = 1024 * 1024;
/// Into how many rows a day may be cut.
const CUTS: [i64; 3] = [1, 4, 24];
/// A day is finished so long after its end: buses are seconds late, not minutes.
pub(super) const SETTLED_MS: i64 = 10 * 60 * 1000;
/// Minutes of an hour.
const MINUTES: i64 = 60;

/// A day of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) group: i64,
    pub(super) day: i64,
}

/// The oldest day of a group that is finished and not merged, as of now.
pub(super) fn pending(
    database: &Connection,
    now_ms: Option<i64>,
) -> Result<Option<Pending>, Trouble> {
    pending_beside(database, now_ms, &Postponed::default())
}

/// The oldest one of those that are not postponed.
fn pending_beside(
    database: &Connection,
    now_ms: Option<i64>,
    postponed: &Postponed,
) -> Result<Option<Pending>, Trouble> {
    let Some(now_ms) = now_ms else { return Ok(None) };
    let today = stretch_of(now_ms - SETTLED_MS, DAY_MS);
    let sql = "SELECT grp, day FROM pending WHERE day < ?1 ORDER BY day, grp LIMIT ?2";
    let mut statement = database.prepare(sql)?;
    let most = i64::try_from(postponed.count() + 1).unwrap_or(i64::MAX);
    let mut rows = statement.query([today, most])?;
    while let Some(row) = rows.next()? {
        let pending = Pending { group: row.get(0)?, day: row.get(1)? };
        if postponed.allows(pending) {
            return Ok(Some(pending));
        }
    }
    Ok(None)
}

/// A row of samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: i64,
    /// Its first hour.
    pub(super) start: i64,
    /// Its hours.
    pub(super) span: i64,
    bytes: i64,
}

/// Rows of samples of a group that begin in some hours of one day or more, by their begin.
pub(super) fn rows(
    database: &Connection,
    group: i64,
    from: i64,
    to: i64,
) -> Result<Vec<Found>, Trouble> {
    let sql = "SELECT id, start, span, length(body) FROM chunk \
               WHERE grp = ?1 AND start >= ?2 AND start < ?3 ORDER BY start, id";
    let mut statement = database.prepare(sql)?;
    let rows = statement.query_map([group, from, to], |row| {
        Ok(Found { id: row.get(0)?, start: row.get(1)?, span: row.get(2)?, bytes: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Keeper {
    /// The day that is to be merged at this look, if any.
    pub(super) fn due_to_merge(&mut self) -> Result<Option<Pending>, Trouble> {
        if !self.postponed.look() {
            return Ok(None);
        }
        pending_beside(&self.database, self.now_ms(), &self.postponed)
    }

    /// Merges one day of one group; `false` when that failed and is postponed, which is counted.
    ///
    /// # Errors
    /// When the file must be opened again before anything else can be done with it.
    pub(super) fn merge_or_postpone(&mut self, pending: Pending) -> Result<bool, Trouble> {
        self.try_or_postpone(pending, Self::merge)
    }

    /// Does what is to be done about a day of a group, likewise.
    pub(super) fn try_or_postpone(
        &mut self,
        pending: Pending,
        attempt: impl Fn(&mut Self, Pending) -> Result<(), Trouble>,
    ) -> Result<bool, Trouble> {
        let before = self.postponed.count();
        match attempt(self, pending) {
            Ok(()) => self.postponed.merged(pending),
            // What was begun is taken back, or nothing else can begin.
            Err(trouble) if trouble.ruins_the_file() || !self.database.is_autocommit() => {
                return Err(trouble);
            }
            Err(trouble) => {
                self.postponed.failed(pending);
                self.counters.merge_failures += 1;
                if before == 0 {
                    let Pending { group, day } = pending;
                    tracing::warn!(
                        group, day, %trouble,
                        "A day of history could not be merged; it is tried again. Its hours are \
                         there as they are, and others are written and merged meanwhile."
                    );
                }
                self.unmerged = Some(trouble.to_string());
                return Ok(false);
            }
        }
        if self.postponed.count() == 0 && self.unmerged.take().is_some() {
            tracing::info!("All finished days of history are merged again.");
        }
        Ok(true)
    }

    /// Merges one day of one group.
    pub(super) fn merge(&mut self, Pending { group, day }: Pending) -> Result<(), Trouble> {
        let transaction = self.database.unchecked_transaction()?;
        let damaged = merge(&transaction, group, day, self.place.horizon_ms, None)?;
        transaction.execute("DELETE FROM pending WHERE grp = ?1 AND day = ?2", [group, day])?;
        step("before the merge's commit")?;
        transaction.commit()?;
        step("after the merge's commit")?;
        self.counters.damaged += damaged;
        Ok(())
    }

    /// Rolls up one hour of one group.
    pub(super) fn roll_up(&mut self, group: i64, hour: i64) -> Result<(), Trouble> {
        let transaction = self.database.unchecked_transaction()?;
        let damaged = roll_up(&transaction, group, hour, self.place.horizon_ms)?;
        step("before the roll-up's commit")?;
        transaction.commit()?;
        self.counters.damaged += damaged;
        Ok(())
    }
}

/// Makes one row of a day, or rows of so many hours, and its part of the roll-ups, which before the
/// horizon stay as they are. Returns how many rows did not check; what could be read of them is
/// kept all the same.
fn merge(
    transaction: &Transaction<'_>,
    group: i64,
    day: i64,
    horizon_ms: Option<i64>,
    hours: Option<i64>,
) -> Result<u64, Trouble> {
    let begin = day * DAY_HOURS;
    let all = rows(transaction, group, begin, begin + DAY_HOURS)?;
    let bytes: i64 = all.iter().map(|row| row.bytes).sum();
    let fits = |cuts: &&i64| bytes / **cuts <= ROW_BYTES_MAX;
    let fitting = DAY_HOURS / CUTS.iter().find(fits).copied().unwrap_or(DAY_HOURS);
    let span = hours.unwrap_or(fitting);
    let mut bad = Vec::new();
    let mut days: Vec<(u8, Stretches)> = Vec::new();
    for start in (begin..begin + DAY_HOURS).step_by(usize::try_from(span).unwrap_or(1)) {
        let touches = |row: &&Found| row.start < start + span && start < row.start + row.span;
        let mut sources = open_all(transaction, all.iter().filter(touches), &mut bad)?;
        let mut row = Builder::new(Kind::Samples, start * HOUR_MS);
        for index in 0..GROUP_SERIES {
            let (samples, period_ms, before) = gather(&mut sources, index, start, span, &mut bad)?;
            if samples.is_empty() {
                continue;
            }
            add(&mut row, index, &samples, period_ms, start * HOUR_MS);
            fold(&mut days, index, day, &samples, period_ms, before);
        }
        drop(sources);
        if !row.is_empty() {
            // Beside the old rows for now, which may have more for the hours to come.
            keeper::insert(transaction, group, start, span, &row.finish())?;
        }
    }
    step("between the new rows and the old")?;
    set_aside(transaction, &bad)?;
    for row in &all {
        transaction.execute("DELETE FROM chunk WHERE id = ?1", [row.id])?;
    }
    let given_up = horizon_ms.map_or(0, |horizon| (horizon - day * DAY_MS) / HOUR_MS);
    write_levels(transaction, group, day, given_up.clamp(0, DAY_HOURS)..DAY_HOURS, days)?;
    Ok(bad.len() as u64)
}

/// Makes the part of one hour of the roll-ups; the rows of its day stay as they are, but those that
/// are longer than an hour are cut. Returns how many rows did not check.
fn roll_up(
    transaction: &Transaction<'_>,
    group: i64,
    hour: i64,
    horizon_ms: Option<i64>,
) -> Result<u64, Trouble> {
    let day = hour.div_euclid(DAY_HOURS);
    let (begin, end) = (day * DAY_HOURS, (day + 1) * DAY_HOURS);
    if rows(transaction, group, begin, end)?.iter().any(|row| row.span > 1) {
        return merge(transaction, group, day, horizon_ms, Some(1));
    }
    // The first sample after it may stand for its end.
    let until = end.min(hour + 2);
    let all = rows(transaction, group, hour, until)?;
    let (mut bad, mut days) = (Vec::new(), Vec::new());
    let mut sources = open_all(transaction, all.iter(), &mut bad)?;
    for index in 0..GROUP_SERIES {
        let (samples, period_ms, before) =
            gather(&mut sources, index, hour, until - hour, &mut bad)?;
        if !samples.is_empty() {
            fold(&mut days, index, day, &samples, period_ms, before);
        }
    }
    drop(sources);
    // Others stay, and are met again.
    bad.retain(|id| all.iter().any(|row| row.id == *id && row.start == hour));
    set_aside(transaction, &bad)?;
    write_levels(transaction, group, day, hour - begin..hour - begin + 1, days)?;
    Ok(bad.len() as u64)
}

/// Adds samples to the minutes of their series.
fn fold(
    days: &mut Vec<(u8, Stretches)>,
    index: u8,
    day: i64,
    samples: &Samples,
    period_ms: i64,
    before: Option<i64>,
) {
    minutes_of(days, index, day).fold(samples, period_ms, before);
}

/// The minutes of a series, which may be new.
fn minutes_of(days: &mut Vec<(u8, Stretches)>, index: u8, day: i64) -> &mut Stretches {
    let place = days.iter().position(|(of, _)| *of == index).unwrap_or_else(|| {
        let (width_ms, slots) = (Level::Minute.width_ms(), Level::Minute.slots());
        days.push((index, Stretches::new(day * DAY_MS, width_ms, slots)));
        days.len() - 1
    });
    &mut days[place].1
}

/// Keeps rows that did not check aside.
fn set_aside(transaction: &Transaction<'_>, bad: &[i64]) -> Result<(), Trouble> {
    for id in bad {
        let sql = "INSERT INTO damaged (origin, grp, start, body) \
                   SELECT 'chunk', grp, start, body FROM chunk WHERE id = ?1";
        transaction.execute(sql, [id])?;
    }
    Ok(())
}

/// Opens rows; one whose header does not check is noted as bad.
fn open_all<'c, 'r>(
    transaction: &'c Transaction<'_>,
    rows: impl Iterator<Item = &'r Found>,
    bad: &mut Vec<i64>,
) -> Result<Vec<(i64, Stored<'c>)>, Trouble> {
    let mut opened = Vec::new();
    for Found { id, .. } in rows {
        match Stored::open(transaction, "chunk", *id) {
            Ok(row) => opened.push((*id, row)),
            Err(Trouble::Row(_)) if bad.contains(id) => {}
            Err(Trouble::Row(_)) => bad.push(*id),
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(opened)
}

/// The samples of a series in some hours, sorted, its period, and the moment of the sample before
/// them where a row knows it.
fn gather(
    sources: &mut [(i64, Stored<'_>)],
    index: u8,
    start: i64,
    span: i64,
    bad: &mut Vec<i64>,
) -> Result<(Samples, i64, Option<i64>), Trouble> {
    let (mut samples, mut period_ms) = (Samples::default(), 1);
    for (id, row) in sources {
        let Some(entry) = row.header.entry(index).copied() else { continue };
        match row.samples(&entry) {
            Ok(part) => samples.append(&part),
            Err(Trouble::Row(_)) if bad.contains(id) => {}
            Err(Trouble::Row(_)) => bad.push(*id),
            Err(trouble) => return Err(trouble),
        }
        period_ms = entry.period_ms;
    }
    samples.sort();
    let before = cut_out(&mut samples, start * HOUR_MS, span);
    Ok((samples, period_ms, before))
}

/// Leaves the samples of some hours; returns the moment of the last one before them.
fn cut_out(samples: &mut Samples, begin_ms: i64, span: i64) -> Option<i64> {
    let place = |at: i64| samples.times.partition_point(|time| *time <= at);
    let (from, to) = (place(begin_ms), place(begin_ms + span * HOUR_MS));
    let before = from.checked_sub(1).and_then(|it| samples.times.get(it).copied());
    samples.keep(from..to);
    before
}

/// Writes a day's part of all levels: some of its hours anew from their minutes, the others as the
/// row of minutes has them.
fn write_levels(
    transaction: &Transaction<'_>,
    group: i64,
    day: i64,
    anew: Range<i64>,
    mut days: Vec<(u8, Stretches)>,
) -> Result<(), Trouble> {
    if anew != (0..DAY_HOURS) {
        let mut before = Before::open(transaction, Level::Minute, group, day)?;
        for index in 0..GROUP_SERIES {
            let old = before.slots(index)?;
            if old.is_empty() && !days.iter().any(|(of, _)| *of == index) {
                continue;
            }
            let minutes = &mut minutes_of(&mut days, index, day).sums;
            let stays = |minute: i64| !anew.contains(&(minute / MINUTES));
            for (_, minute) in (0..).zip(minutes.iter_mut()).filter(|(place, _)| stays(*place)) {
                *minute = Sum::default();
            }
            for (place, sum) in old.into_iter().filter(|(place, _)| stays(*place)) {
                let last_at = day * DAY_MS + (place + 1) * Level::Minute.width_ms();
                if let Some(minute) = usize::try_from(place).ok().and_then(|it| minutes.get_mut(it))
                {
                    *minute = Sum { last_at, ..sum };
                }
            }
        }
        if before.close() {
            repair(transaction, Level::Minute, group, day, day)?;
        }
    }
    for level in Level::ALL {
        write_level(transaction, level, group, day, &days)?;
    }
    Ok(())
}

/// Puts a day's slots into the row of a level: all of it, or in place of what it says of that day.
fn write_level(
    transaction: &Transaction<'_>,
    level: Level,
    group: i64,
    day: i64,
    minutes: &[(u8, Stretches)],
) -> Result<(), Trouble> {
    let start = level.row_of(day);
    let per_day = level.slots() / usize::try_from(level.days()).unwrap_or(1);
    let first = usize::try_from(day - start).unwrap_or(0) * per_day;
    // Of a row of minutes all is there.
    let mut before = match level {
        Level::Minute => Before::default(),
        Level::Hour | Level::Day => Before::open(transaction, level, group, start)?,
    };
    let mut builder = Builder::new(Kind::Slots, start * DAY_MS);
    for index in 0..GROUP_SERIES {
        let of_day = minutes.iter().find(|(of, _)| *of == index);
        let mut slots: Slots = vec![Sum::default(); level.slots()];
        for (number, slot) in before.slots(index)? {
            if let Some(own) = usize::try_from(number).ok().and_then(|it| slots.get_mut(it)) {
                *own = slot;
            }
        }
        let day = match of_day {
            Some((_, minutes)) if level == Level::Minute => minutes.sums.clone(),
            Some((_, minutes)) => rollup::coarser(minutes, level),
            None => vec![Sum::default(); per_day],
        };
        slots[first..first + per_day].copy_from_slice(&day);
        rollup::write(&mut builder, index, &slots);
    }
    if before.close() {
        repair(transaction, level, group, start, day)?;
    }
    let row = builder.finish();
    let sql = "INSERT OR REPLACE INTO rollup (level, grp, start, body) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![level as i64, group, start, row])?;
    step("between roll-ups")?;
    Ok(())
}

/// What the row of a level said before.
#[derive(Default)]
struct Before<'c> {
    row: Option<Stored<'c>>,
    damaged: bool,
}

impl<'c> Before<'c> {
    fn open(
        database: &'c Connection,
        level: Level,
        group: i64,
        start: i64,
    ) -> Result<Self, Trouble> {
        let mut before = Self::default();
        let sql = "SELECT id FROM rollup WHERE level = ?1 AND grp = ?2 AND start = ?3";
        let mut statement = database.prepare(sql)?;
        let id: Option<i64> =
            statement.query_row([level as i64, group, start], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            before.row = before.whole(Stored::open(database, "rollup", id))?;
        }
        Ok(before)
    }

    /// A series' slots with their numbers.
    fn slots(&mut self, index: u8) -> Result<Vec<(i64, Sum)>, Trouble> {
        let Some(row) = &mut self.row else { return Ok(Vec::new()) };
        let Some(entry) = row.header.entry(index).copied() else { return Ok(Vec::new()) };
        let slots = row.slots(&entry, true).map(Iterator::collect);
        Ok(self.whole(slots)?.unwrap_or_default())
    }

    fn whole<T>(&mut self, read: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(Trouble::Row(_)) => {
                self.damaged = true;
                Ok(None)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Lets go of the row; says whether it was damaged.
    fn close(self) -> bool {
        self.damaged
    }
}

/// Sets a damaged row of a level aside, and has the days in it that are still there as samples
/// merged again; what it knew of others is lost.
fn repair(
    transaction: &Transaction<'_>,
    level: Level,
    group: i64,
    start: i64,
    day: i64,
) -> Result<(), Trouble> {
    tracing::error!(group, start, "A roll-up of history is damaged; it is made again.");
    let sql = "INSERT INTO damaged (origin, grp, start, body) SELECT 'rollup', grp, start, body \
               FROM rollup WHERE level = ?1 AND grp = ?2 AND start = ?3";
    transaction.execute(sql, [level as i64, group, start])?;
    let sql = "INSERT OR IGNORE INTO pending SELECT DISTINCT grp, start / ?1 FROM chunk \
               WHERE grp = ?2 AND start >= ?3 AND start < ?4 AND start / ?1 <> ?5";
    let end = start + level.days();
    transaction.execute(sql, [DAY_HOURS, group, start * DAY_HOURS, end * DAY_HOURS, day])?;
    Ok(())
}
