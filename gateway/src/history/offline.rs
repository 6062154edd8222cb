//! History without a thread, a journal and a clock: records in, a file out. For measuring, for
//! tests, and for whoever has records from elsewhere.

use std::path::Path;
use std::sync::Arc;

use super::file::{Stored, Trouble};
use super::keeper::{Counters, GROUP_SERIES, Keeper, Taken};
use super::present::Present;
use super::query::Unreadable;
use super::{Archive, NAME, Periods, merge};
use crate::config::plan::HistoryPlan;
use crate::journal::{BootId, Position, Record};
use crate::mqtt::WallClock;

/// A history file being written.
pub struct Offline {
    archive: Archive,
    keeper: Keeper,
}

impl Offline {
    /// Opens or creates the file in a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(
        dir: &Path,
        boot: BootId,
        wall: WallClock,
        periods: Periods,
    ) -> Result<Self, Unreadable> {
        let archive = Archive { path: dir.join(NAME), buffer: Arc::default() };
        let buffer = Arc::clone(&archive.buffer);
        let keeper = Keeper::open(&archive.path, boot, wall, periods, buffer)?;
        Ok(Self { archive, keeper })
    }

    /// Where the journal is to be read from: after this record, or from the oldest one.
    pub fn position(&self) -> Option<Position> {
        self.keeper.position()
    }

    /// Takes a record; says whether it has a wall time, without which it was not taken.
    ///
    /// # Errors
    /// When memory was used up and the file cannot be written.
    pub fn take(&mut self, record: &Record) -> Result<bool, Unreadable> {
        if self.keeper.take(record) == Taken::Waits {
            return Ok(false);
        }
        if self.keeper.is_full() {
            self.keeper.flush()?;
        }
        Ok(true)
    }

    /// Writes the hours that are over.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), Unreadable> {
        self.keeper.flush()?;
        Ok(())
    }

    /// Merges the days that are finished; says how many days of groups they were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn merge(&mut self) -> Result<u64, Unreadable> {
        let mut merged = 0;
        while let Some(pending) = merge::pending(&self.keeper.database, self.keeper.now_ms())? {
            self.keeper.merge(pending)?;
            merged += 1;
        }
        Ok(merged)
    }

    /// Gives up what is too old, as of the newest sample, or too much.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn retain(&mut self, limits: &HistoryPlan) -> Result<(), Unreadable> {
        self.keeper.present = Present { wall_ms: self.keeper.newest_ms, stands: true };
        while self.keeper.retain(limits)? {}
        Ok(())
    }

    /// Whom to ask, also for what is still in memory.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// What was written and what was not.
    pub fn counters(&self) -> Counters {
        self.keeper.counters
    }

    /// Bytes that the parts of each series take in rows of samples, by machine and item; those of
    /// headers and times under two empty names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes_by_series(&self) -> Result<Vec<(String, String, usize)>, Unreadable> {
        Ok(bytes_by_series(&self.keeper)?)
    }
}

fn bytes_by_series(keeper: &Keeper) -> Result<Vec<(String, String, usize)>, Trouble> {
    let mut names = keeper.database.prepare("SELECT machine, item FROM series ORDER BY id")?;
    let names = names.query_map([], |row| Ok((row.get(0)?, row.get(1)?, 0)))?;
    let mut sizes = names.collect::<Result<Vec<(String, String, usize)>, _>>()?;
    let mut beside = 0;
    let mut rows = keeper.database.prepare("SELECT id, grp, length(body) FROM chunk")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for row in rows {
        let (id, group, length): (i64, u32, u32) = row?;
        let (group, length) = (group as usize, length as usize);
        let stored = Stored::open(&keeper.database, "chunk", id)?;
        beside += length;
        for entry in &stored.header.entries {
            let series = group * usize::from(GROUP_SERIES) + usize::from(entry.index);
            sizes[series].2 += entry.place.length;
            beside -= entry.place.length;
        }
    }
    sizes.push((String::new(), String::new(), beside));
    Ok(sizes)
}
