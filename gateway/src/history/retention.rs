//! What is given up when history grows too old or too large: raw rows first, whole days at a time,
//! then minutes, then hours; a row for each day stays.
//!
//! Age counts from the wall time of the running boot once it has stood for a while ([`present`]),
//! never from a sample: samples of a time when a clock was wrong are kept at its dates and make
//! nothing else old. A day is given up in one transaction with the horizon before which nothing is
//! taken any more: a late sample must not replace the roll-up of a day that is only a roll-up now.
//! The horizon is never in the future, where it would keep out whatever comes.
//!
//! [`present`]: super::present

use std::time::Duration;

use rusqlite::{Connection, params};

use super::file::Trouble;
use super::keeper::{DAY_HOURS, Keeper, step};
use super::merge::Pending;
use super::place::Place;
use super::rollup::Level;
use super::summary::{DAY_MS, HOUR_MS, stretch_of};
use crate::config::plan::HistoryPlan;

/// Pages given back to the file system in one transaction: 4 MB. Fewer are used again.
const VACUUM_PAGES: i64 = 1024;
/// Damaged rows kept for a person to look at.
const DAMAGED_MAX: i64 = 64;

/// Bytes in use.
fn used(database: &Connection) -> Result<u64, Trouble> {
    let value = |pragma| database.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (pages, free) = (value("page_count")?, value("freelist_count")?);
    let size = value("page_size")?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

impl Keeper {
    /// Gives up at most one day of one kind; says whether there may be more to give up.
    pub(super) fn retain(&mut self, limits: &HistoryPlan) -> Result<bool, Trouble> {
        let Some(now_ms) = self.now_ms() else { return Ok(false) };
        self.lower_horizon()?;
        let full = used(&self.database)? > limits.bytes;
        let days = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX) / DAY_MS;
        let today = now_ms.div_euclid(DAY_MS);
        let believed = self.present.believed_ms().map(|ms| ms.div_euclid(DAY_MS));
        let is_old = |day: i64, age| believed.is_some_and(|today| day < today - days(age));
        let raw = "SELECT min(start) / 24 FROM chunk";
        let oldest: Option<i64> = self.database.query_row(raw, [], |row| row.get(0))?;
        if let Some(day) = oldest.filter(|day| (full && *day < today) || is_old(*day, limits.keep))
        {
            return self.give_up_samples(day);
        }
        let minutes = "SELECT min(start) FROM rollup WHERE level = 0";
        let oldest: Option<i64> = self.database.query_row(minutes, [], |row| row.get(0))?;
        if let Some(day) = oldest.filter(|day| full || is_old(*day, limits.keep_minutes)) {
            self.give_up_slots(Level::Minute, day)?;
            return Ok(true);
        }
        let hours = "SELECT min(start) FROM rollup WHERE level = 1";
        let oldest: Option<i64> = self.database.query_row(hours, [], |row| row.get(0))?;
        if let Some(day) = oldest.filter(|day| full && day + Level::Hour.days() < today) {
            self.give_up_slots(Level::Hour, day)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The moment of the newest sample, unless that lies in the future.
    pub(super) fn now_ms(&self) -> Option<i64> {
        self.newest_ms.map(|newest| newest.min(self.present.wall_ms.unwrap_or(i64::MAX)))
    }

    /// A horizon that lies in the future would keep out all samples until then. It is lowered to
    /// the oldest of those that are there, and where none are, to the begin of this hour.
    fn lower_horizon(&mut self) -> Result<(), Trouble> {
        let Some(now_ms) = self.present.believed_ms() else { return Ok(()) };
        if self.place.horizon_ms.is_none_or(|horizon| horizon <= now_ms) {
            return Ok(());
        }
        let hour = stretch_of(now_ms, HOUR_MS);
        let sql = "SELECT min(start) FROM chunk WHERE start <= ?1";
        let oldest: Option<i64> = self.database.query_row(sql, [hour], |row| row.get(0))?;
        let horizon_ms = Some(oldest.unwrap_or(hour) * HOUR_MS);
        let place = Place { horizon_ms, ..self.place.clone() };
        let transaction = self.database.unchecked_transaction()?;
        place.write(&transaction)?;
        transaction.commit()?;
        tracing::warn!("History refused samples until a date in the future; it takes them again.");
        self.place = place;
        Ok(())
    }

    /// Gives up a day's samples, unless its roll-up has still to be tried; says whether it did.
    fn give_up_samples(&mut self, day: i64) -> Result<bool, Trouble> {
        let mut lost = 0;
        // Its roll-up comes first.
        for group in self.groups_to_merge(day)? {
            let pending = Pending { group, day };
            if self.postponed.is_hopeless(pending) {
                lost += 1;
            } else if !self.postponed.allows(pending) || !self.merge_or_postpone(pending)? {
                return Ok(false);
            }
        }
        let mut place = self.place.clone();
        place.horizon_ms = place.horizon_ms.max(Some((day + 1) * DAY_MS));
        let transaction = self.database.unchecked_transaction()?;
        let hours = [day * DAY_HOURS, (day + 1) * DAY_HOURS];
        transaction.execute("DELETE FROM chunk WHERE start >= ?1 AND start < ?2", hours)?;
        transaction.execute("DELETE FROM pending WHERE day = ?1", [day])?;
        let many = "DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?1";
        transaction.execute(many, [DAMAGED_MAX])?;
        place.write(&transaction)?;
        step("before giving up")?;
        transaction.commit()?;
        self.place = place;
        self.counters.damaged += lost;
        self.postponed.given_up(day);
        if self.postponed.count() == 0 {
            self.unmerged = None;
        }
        if lost > 0 {
            tracing::error!(
                day,
                groups = lost,
                "A day of history had to go before it could be merged: long curves lack it."
            );
        }
        self.shrink()?;
        Ok(true)
    }

    /// The groups that have rows of a day which are not merged.
    fn groups_to_merge(&self, day: i64) -> Result<Vec<i64>, Trouble> {
        let mut statement = self.database.prepare("SELECT grp FROM pending WHERE day = ?1")?;
        let groups = statement.query_map([day], |row| row.get(0))?;
        Ok(groups.collect::<Result<_, _>>()?)
    }

    fn give_up_slots(&self, level: Level, start: i64) -> Result<(), Trouble> {
        let sql = "DELETE FROM rollup WHERE level = ?1 AND start = ?2";
        self.database.execute(sql, params![level as i64, start])?;
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
