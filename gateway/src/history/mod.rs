//! History: every sample of years in one SQLite file, packed, with roll-ups, for curves and for
//! export. It may lose nothing that the journal still holds, write nothing twice, and delay nobody:
//! it has a thread of its own, of low priority, and reads what it is fed by from the journal.
//!
//! # How it flows
//!
//! [`keeper`] follows the journal's telemetry into [`buffer`]; an hour that is over becomes one row
//! per group of 16 series; [`merge`] makes one row of a finished UTC day and its part of the
//! [`rollup`]s of minutes, hours and days, or is [`postponed`]; [`retention`] gives up what is too
//! old, as of the [`present`], or too much. [`query`] answers from rows, roll-ups and the buffer;
//! [`export`] streams samples, [`tail`] with those that the file does not have yet. [`recent`] is
//! the last hour in memory that the tiles' curves are drawn from.
//!
//! # Format
//!
//! `STATE/history.db`, SQLite 3, `user_version` 1. Tables:
//!
//! ```text
//! place    (place)                    JSON: where the journal is to be read from, see [`place`]
//! series   (id, machine, item)        numbers from 1; group = (id - 1) / 16
//! chunk    (grp, start, span, body)   samples; start and span in hours since 1970, span 1, 6 or 24
//! rollup   (level, grp, start, body)  level 0 minutes, 1 hours, 2 days; start in days since 1970;
//!                                     a row holds 1, 64 or 1024 days
//! pending  (grp, day)                 days with rows that are not merged
//! damaged  (origin, grp, start, body) rows that did not check
//! ```
//!
//! A body is a [`row`]; its parts are those of [`column`] and [`rollup`]. There may be several
//! chunks of one hour: what did not fit into memory, or came late. A stretch of time begins after
//! its first millisecond and ends with its last: 12:00:00.000 is the last moment of its hour.
//!
//! # Bounds
//!
//! Memory: the buffer's 4 MB, or 384 bytes a series where that is more (25 MB for the 65 536 that are
//! kept), and one series of one day, or one row, whichever is at work. Disk:
//! `[history] size`, and what never goes by size: two hours of samples, a day of minutes.
//! Questions: two at a time, 128 series, 2000 steps; a level is chosen so that at most 34 hours are
//! read as samples, but for days that are not merged yet.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use andon_engine::time::BootTime;

use crate::clock;
use crate::config::plan::{HistoryPlan, Plan};
use crate::journal::{BootId, Journal};
use crate::mqtt::{Now, WallClock};

mod buffer;
mod column;
pub mod export;
mod file;
mod keeper;
mod merge;
pub mod offline;
mod place;
mod postponed;
mod present;
pub mod query;
pub mod recent;
mod retention;
mod rollup;
mod row;
mod samples;
mod summary;
pub mod tail;
#[cfg(test)]
mod tests;
mod thread;

pub use file::NAME;
pub use keeper::{Counters, Periods, SERIES_MAX};
pub use recent::Recent;
pub use thread::{Handle, Health, Telling};

use buffer::Buffer;

/// What history is given.
#[derive(Clone)]
pub struct Inputs {
    /// The folder of the file.
    pub dir: PathBuf,
    /// How much it may be.
    pub limits: HistoryPlan,
    /// The periods of items.
    pub periods: Periods,
    /// This boot.
    pub boot: BootId,
    /// When this process started in it.
    pub started: BootTime,
    /// Where samples come from.
    pub journal: Arc<Journal>,
    /// Wall time of moments.
    pub wall: WallClock,
    /// The moment.
    pub now: Now,
}

impl Inputs {
    /// Those of a plan.
    pub fn of_plan(
        plan: &Plan,
        (boot, started): (BootId, BootTime),
        journal: &Arc<Journal>,
        wall: &WallClock,
    ) -> Self {
        Self {
            dir: plan.state_dir.clone(),
            limits: plan.history,
            periods: Periods::of_plan(plan),
            boot,
            started,
            journal: journal.clone(),
            wall: wall.clone(),
            now: Arc::new(clock::boot_now),
        }
    }
}

/// Asks history; cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    path: PathBuf,
    buffer: Arc<Mutex<Buffer>>,
}

impl Archive {
    /// The archive in a folder, without what a running gateway has in memory.
    pub fn in_folder(dir: &Path) -> Self {
        Self { path: dir.join(NAME), buffer: Arc::default() }
    }
}

/// Starts history's thread.
///
/// # Errors
/// When the system has no thread left. A file that cannot be opened is tried again.
pub fn start(inputs: Inputs) -> std::io::Result<Handle> {
    thread::start(inputs)
}
