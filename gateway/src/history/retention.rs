//! What is given up when history grows too old or too large: samples first, a day at a time, of the
//! day that is not over an hour at a time; where no samples are left, minutes, then hours. A row
//! for each day stays, and so does the newest hour of samples that is over.
//!
//! Age counts from the wall time of the running boot once it has stood for a while ([`present`]),
//! never from a sample: samples of a time when a clock was wrong are kept at its dates and make
//! nothing else old. Samples go in one transaction with the horizon before which nothing is taken
//! any more, and which no merge reaches behind: what is only a roll-up now must not be replaced by
//! late samples. A horizon that turns out to be in the future, where it keeps out whatever comes, is
//! lowered, and the journal read again for what it has kept out.
//!
//! [`present`]: super::present

use std::ops::Range;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::buffer::Buffer;
use super::file::Trouble;
use super::keeper::{DAY_HOURS, Keeper, lock, step};
use super::merge::{Pending, SETTLED_MS};
use super::place::Place;
use super::rollup::Level;
use super::summary::{DAY_MS, HOUR_MS, stretch_of};
use crate::config::plan::HistoryPlan;

/// Pages given back to the file system in one transaction: 4 MB. Fewer are used again.
const VACUUM_PAGES: i64 = 1024;
/// Damaged rows kept for a person to look at.
const DAMAGED_MAX: i64 = 64;

/// The oldest day that has minutes.
const MINUTES: &str = "SELECT min(start) FROM rollup WHERE level = 0";

/// The day of an hour.
const fn day_of(hour: i64) -> i64 {
    hour.div_euclid(DAY_HOURS)
}

/// Bytes in use.
fn used(database: &Connection) -> Result<u64, Trouble> {
    let value = |pragma| database.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (pages, free) = (value("page_count")?, value("freelist_count")?);
    let size = value("page_size")?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

impl Keeper {
    /// Gives up at most one day or hour of one kind; says whether there may be more to give up.
    pub(super) fn retain(&mut self, limits: &HistoryPlan) -> Result<bool, Trouble> {
        // What is still being read again may be of the time that would be given up.
        if self.again.is_on() || self.lower_horizon()? || self.present.wall_ms.is_none() {
            return Ok(false);
        }
        let Some(now_ms) = self.now_ms() else { return Ok(false) };
        let days = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX) / DAY_MS;
        let believed = self.present.believed_ms().map(|ms| ms.div_euclid(DAY_MS));
        let is_old = |day: i64, age| believed.is_some_and(|today| day < today - days(age));
        let samples = self.oldest("SELECT min(start) FROM chunk")?.map(day_of);
        if let Some(day) = samples.filter(|day| is_old(*day, limits.keep)) {
            return self.give_up_day(day);
        }
        let minutes = self.oldest(MINUTES)?;
        if let Some(day) = minutes.filter(|day| is_old(*day, limits.keep_minutes)) {
            self.give_up_slots(Level::Minute, day)?;
            return Ok(true);
        }
        if used(&self.database)? <= limits.bytes {
            return Ok(false);
        }
        self.give_up_oldest(now_ms)
    }

    /// Gives up the oldest that may go: samples, and only where none are left, roll-ups.
    fn give_up_oldest(&mut self, now_ms: i64) -> Result<bool, Trouble> {
        // The newest hour that is over stays, whatever it takes.
        let stays = stretch_of(now_ms - SETTLED_MS, HOUR_MS) - 1;
        match self.oldest("SELECT min(start) FROM chunk")? {
            Some(hour) if (day_of(hour) + 1) * DAY_HOURS <= stays => {
                return self.give_up_day(day_of(hour));
            }
            Some(hour) if hour < stays => return self.give_up_hour(hour),
            Some(_) | None => {}
        }
        // Those of days to come, by a clock that was wrong once.
        let tomorrow = (stretch_of(now_ms, DAY_MS) + 1) * DAY_HOURS;
        let sql = format!("SELECT min(start) FROM chunk WHERE start >= {tomorrow}");
        if let Some(hour) = self.oldest(&sql)? {
            return self.give_up_day(day_of(hour));
        }
        // Roll-ups of days whose samples are all gone: those of others may have to be made again.
        let is_over = |start: &i64, level: Level| (start + level.days()) * DAY_HOURS <= stays;
        if let Some(day) = self.oldest(MINUTES)?.filter(|day| is_over(day, Level::Minute)) {
            self.give_up_slots(Level::Minute, day)?;
            return Ok(true);
        }
        let hours = self.oldest("SELECT min(start) FROM rollup WHERE level = 1")?;
        if let Some(day) = hours.filter(|start| is_over(start, Level::Hour)) {
            self.give_up_slots(Level::Hour, day)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn oldest(&self, sql: &str) -> Result<Option<i64>, Trouble> {
        Ok(self.database.query_row(sql, [], |row| row.get(0))?)
    }

    /// The moment of the newest sample, unless that lies in the future.
    pub(super) fn now_ms(&self) -> Option<i64> {
        self.newest_ms.map(|newest| newest.min(self.present.wall_ms.unwrap_or(i64::MAX)))
    }

    /// A horizon that lies in the future would keep out all samples until then. It is lowered to
    /// the oldest of those that are there, and where none are, to the begin of the hour in which it
    /// kept out the first; says whether it was. Then the journal is to be read again.
    fn lower_horizon(&mut self) -> Result<bool, Trouble> {
        let Some(now_ms) = self.present.believed_ms() else { return Ok(false) };
        if self.place.horizon_ms.is_none_or(|horizon| horizon <= now_ms) {
            return Ok(false);
        }
        let hour = stretch_of(now_ms, HOUR_MS);
        let sql = "SELECT min(start) FROM chunk WHERE start <= ?1";
        let oldest: Option<i64> = self.database.query_row(sql, [hour], |row| row.get(0))?;
        let kept_out = self.kept_out_ms.map_or(hour, |at_ms| stretch_of(at_ms, HOUR_MS).min(hour));
        let horizon_ms = Some(oldest.unwrap_or(kept_out) * HOUR_MS);
        let place = Place { horizon_ms, ..self.place.clone() };
        let transaction = self.database.unchecked_transaction()?;
        place.write(&transaction)?;
        transaction.commit()?;
        tracing::warn!("History refused samples until a date in the future; it takes them again.");
        self.place = place;
        self.is_over = true;
        Ok(true)
    }

    /// Gives up a day's samples, unless its roll-up has still to be tried; says whether it did.
    fn give_up_day(&mut self, day: i64) -> Result<bool, Trouble> {
        let hours = day * DAY_HOURS..(day + 1) * DAY_HOURS;
        if self.is_past(hours.end) && !self.is_written_before(hours.end)? {
            return Ok(false);
        }
        let sql = "SELECT grp FROM pending WHERE day = ?1";
        let Some(lost) = self.roll_up_first(sql, day, day, Self::merge)? else { return Ok(false) };
        self.give_up(&hours, lost)?;
        Ok(true)
    }

    /// Gives up the oldest hour of a day that is not over, likewise.
    fn give_up_hour(&mut self, hour: i64) -> Result<bool, Trouble> {
        if !self.is_written_before(hour + 1)? {
            return Ok(false);
        }
        let sql = "SELECT DISTINCT grp FROM chunk WHERE start = ?1";
        let roll_up = |keeper: &mut Self, pending: Pending| keeper.roll_up(pending.group, hour);
        let lost = self.roll_up_first(sql, hour, day_of(hour), roll_up)?;
        let Some(lost) = lost else { return Ok(false) };
        self.give_up(&(hour..hour + 1), lost)?;
        Ok(true)
    }

    /// Whether the time before an hour is over.
    fn is_past(&self, hour: i64) -> bool {
        self.now_ms().max(self.present.believed_ms()) >= Some(hour * HOUR_MS)
    }

    /// Whether nothing of the time before an hour waits in memory any more; what does is written.
    fn is_written_before(&mut self, hour: i64) -> Result<bool, Trouble> {
        let waits = |buffer: &Buffer| buffer.hours.keys().next().is_some_and(|it| *it < hour);
        if waits(&lock(&self.buffer)) {
            self.write(true)?;
        }
        Ok(!waits(&lock(&self.buffer)))
    }

    /// Makes the roll-ups of what is to go, of the groups that a query names; `None` when one has
    /// still to be tried, otherwise how many cannot be had.
    fn roll_up_first(
        &mut self,
        groups: &str,
        of: i64,
        day: i64,
        roll_up: impl Fn(&mut Self, Pending) -> Result<(), Trouble>,
    ) -> Result<Option<u64>, Trouble> {
        let mut statement = self.database.prepare(groups)?;
        let groups = statement.query_map([of], |row| row.get(0))?;
        let groups: Vec<i64> = groups.collect::<Result<_, _>>()?;
        drop(statement);
        let mut lost = 0;
        for group in groups {
            let pending = Pending { group, day };
            if self.postponed.is_hopeless(pending) {
                lost += 1;
            } else if !self.postponed.allows(pending) || !self.try_or_postpone(pending, &roll_up)? {
                return Ok(None);
            }
        }
        Ok(Some(lost))
    }

    /// Deletes the rows that begin in some hours, `lost` of which never got a roll-up.
    fn give_up(&mut self, hours: &Range<i64>, lost: u64) -> Result<(), Trouble> {
        let mut place = self.place.clone();
        if self.is_past(hours.end) {
            place.horizon_ms = place.horizon_ms.max(Some(hours.end * HOUR_MS));
        }
        let transaction = self.database.unchecked_transaction()?;
        let sql = "DELETE FROM chunk WHERE start >= ?1 AND start < ?2";
        transaction.execute(sql, [hours.start, hours.end])?;
        let sql = "DELETE FROM pending WHERE day * 24 >= ?1 AND (day + 1) * 24 <= ?2";
        transaction.execute(sql, [hours.start, hours.end])?;
        let many = "DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?1";
        transaction.execute(many, [DAMAGED_MAX])?;
        place.write(&transaction)?;
        step("before giving up")?;
        transaction.commit()?;
        self.place = place;
        self.counters.damaged += lost;
        // What is left of the day is tried for itself.
        self.postponed.given_up(day_of(hours.start));
        if self.postponed.count() == 0 {
            self.unmerged = None;
        }
        if lost > 0 {
            tracing::error!(
                day = day_of(hours.start),
                groups = lost,
                "Samples of history had to go before they could be merged: long curves lack them."
            );
        }
        self.shrink()
    }

    fn give_up_slots(&mut self, level: Level, start: i64) -> Result<(), Trouble> {
        let mut place = self.place.clone();
        let gone = match level {
            Level::Minute => &mut place.minutes_ms,
            Level::Hour | Level::Day => &mut place.hours_ms,
        };
        *gone = (*gone).max(Some((start + level.days()) * DAY_MS));
        let transaction = self.database.unchecked_transaction()?;
        let sql = "DELETE FROM rollup WHERE level = ?1 AND start = ?2";
        transaction.execute(sql, params![level as i64, start])?;
        place.write(&transaction)?;
        transaction.commit()?;
        self.place = place;
        self.shrink()
    }

    /// Gives free pages back to the file system.
    pub(super) fn shrink(&self) -> Result<(), Trouble> {
        let sql = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        loop {
            // A page is freed with each row of the answer, which is empty otherwise.
            let mut statement = self.database.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            drop(rows);
            let free: i64 =
                self.database.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if free < VACUUM_PAGES {
                return Ok(());
            }
        }
    }
}
