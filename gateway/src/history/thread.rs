//! The thread that history lives on: reads, writes, merges, and tries again what failed.
//!
//! It looks once a second, so what happens to it is at most that late; nobody waits for it. When
//! the disk refuses, it stops reading the journal once memory is used up and tries again with a
//! growing pause; what it misses meanwhile, the journal keeps, as long as it can.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{self, Trouble};
use super::keeper::{Counters, Keeper, Taken};
use super::present::{Present, Watch};
use super::tail::{self, Stock};
use super::{Archive, Inputs, NAME};
use crate::journal::{Follower, Record, Stream};

/// How often it looks when there is nothing to do.
const LOOK: Duration = Duration::from_secs(1);
/// Records read at once.
const RECORDS: usize = 512;
/// Pauses after failures: doubled up to the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Looks between two writes of hours that are over: samples that come late, one by one, do not
/// become a row each.
const LOOKS_PER_FLUSH: u32 = 60;
/// Above the default of 0: whatever else wants to run goes first.
const NICE: i32 = 10;
/// The name under which the journal knows this consumer.
const CONSUMER: &str = "history";

/// The running thread.
#[derive(Debug)]
pub struct Handle {
    archive: Archive,
    health: Arc<Mutex<Health>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How history is. Part of the shape of a snapshot ([`crate::diagnostics::History`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What was written and what not, since the start.
    #[serde(flatten)]
    pub counters: Counters,
    /// What failed last: a file that could not be opened, until it is; hours that could not be
    /// written, until some are.
    pub failing: Option<String>,
    /// Days of groups whose merge failed and is tried again; their hours are there as they are.
    #[serde(default)]
    pub unmerged: u64,
    /// Why the last of them failed.
    pub unmerged_why: Option<String>,
    /// Bytes of the file and its log, within the last minute; unknown before it was opened.
    pub bytes: Option<u64>,
    /// Begin of the oldest hour with samples in the file, Unix milliseconds; unknown without any.
    pub oldest_ms: Option<i64>,
}

/// Says how history is.
pub type Telling = Arc<dyn Fn() -> Health + Send + Sync>;

impl Handle {
    /// Whom to ask.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// Says how it is.
    pub fn telling(&self) -> Telling {
        let health = Arc::clone(&self.health);
        Arc::new(move || health.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Ends the thread. What is not in the file yet is read again at the next start.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("History's thread has panicked; the journal still has its samples.");
        }
    }
}

pub(super) fn start(inputs: Inputs) -> std::io::Result<Handle> {
    let worker = Worker::new(inputs);
    let (archive, health) = (worker.archive.clone(), Arc::clone(&worker.health));
    let stop = Arc::clone(&worker.stop);
    let thread = std::thread::Builder::new().name("history".to_owned()).spawn(|| worker.run())?;
    Ok(Handle { archive, health, stop, thread })
}

/// What the thread does, a turn at a time.
pub(super) struct Worker {
    inputs: Inputs,
    archive: Archive,
    health: Arc<Mutex<Health>>,
    stop: Arc<AtomicBool>,
    pause: Duration,
    clock: Watch,
    /// Hours could not be written, and none has been since: a full disk still lets itself be opened.
    unwritten: bool,
}

/// An open file and the way to it.
pub(super) struct Open {
    keeper: Keeper,
    follower: Follower,
    read: VecDeque<Record>,
    looks: u32,
    /// Something was written in the last turn.
    wrote: bool,
}

/// Why a turn failed.
enum Failure {
    /// The file could not be opened or read, or is gone: opening it is the remedy.
    Opening(Trouble),
    /// The file could not be written.
    Writing(Trouble),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Opening(trouble)
    }
}

impl Worker {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self {
            archive: Archive { path: inputs.dir.join(NAME), buffer: Arc::default() },
            inputs,
            health: Arc::default(),
            stop: Arc::default(),
            pause: PAUSES[0],
            clock: Watch::default(),
            unwritten: false,
        }
    }

    fn run(mut self) {
        // Of this thread alone, on Linux. A system that refuses leaves it as important as others.
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "history runs at normal priority");
        }
        let mut open = None;
        while !self.stop.load(Ordering::Relaxed) {
            let wait = self.turn(&mut open);
            if !wait.is_zero() {
                std::thread::park_timeout(wait);
            }
        }
    }

    /// Opens the file or does some work on it; says how long to wait then.
    pub(super) fn turn(&mut self, open: &mut Option<Open>) -> Duration {
        let present = self.present();
        let worked = match open.take() {
            None => self.open().map(|new| (new, true)).map_err(Failure::from),
            Some(mut open) => {
                open.keeper.present = present;
                self.look(&mut open).map(|busy| (open, busy))
            }
        };
        match worked {
            Ok((mut kept, busy)) => {
                self.succeeded(&mut kept);
                *open = Some(kept).filter(|kept| !kept.keeper.is_over);
                if busy { Duration::ZERO } else { LOOK }
            }
            Err(failure) => self.failed(&failure),
        }
    }

    fn present(&mut self) -> Present {
        let Inputs { boot, wall, now, .. } = &self.inputs;
        let now = now();
        self.clock.step(now, wall(boot, now))
    }

    fn open(&self) -> Result<Open, Trouble> {
        let Inputs { boot, wall, periods, journal, .. } = &self.inputs;
        let buffer = Arc::clone(&self.archive.buffer);
        let mut keeper =
            Keeper::open(&self.archive.path, *boot, wall.clone(), periods.clone(), buffer)?;
        keeper.counters = self.health().counters;
        if keeper.begun {
            self.tell_begun();
        }
        self.measure(&keeper)?;
        journal.note_consumer(CONSUMER, Stream::Telemetry, keeper.position());
        let follower = journal.follow(Stream::Telemetry, keeper.position());
        // What was over before the start is written once the journal has been read; after a failure
        // it is not hurried.
        let looks = if keeper.counters.failures == 0 { LOOKS_PER_FLUSH - 1 } else { 0 };
        Ok(Open { keeper, follower, read: VecDeque::new(), looks, wrote: false })
    }

    /// Does some work; says whether there is more.
    fn look(&self, open: &mut Open) -> Result<bool, Failure> {
        let Open { keeper, follower, read, looks, wrote } = open;
        if read.is_empty() {
            read.extend(follower.next(RECORDS));
        }
        let caught_up = read.is_empty();
        let mut waits = false;
        while let Some(record) = read.front() {
            if keeper.take(record) == Taken::Waits {
                waits = true;
                break;
            }
            read.pop_front();
            if keeper.is_full() && self.flush(keeper)? {
                (*looks, *wrote) = (0, true);
                self.give_up(keeper)?;
                if keeper.is_over {
                    return Ok(true);
                }
            }
        }
        if !caught_up && !waits {
            return Ok(true);
        }
        // SQLite would go on writing to a file that nobody can find any more.
        file::still_there(&self.archive.path)?;
        *looks += 1;
        if *looks >= LOOKS_PER_FLUSH {
            *looks = 0;
            *wrote |= self.flush(keeper)?;
        }
        if let Some(pending) = keeper.due_to_merge()?
            && keeper.merge_or_postpone(pending).map_err(Failure::Writing)?
        {
            *wrote = true;
            return Ok(true);
        }
        if *looks == 0 {
            *wrote |= self.give_up(keeper)?;
            self.measure(keeper)?;
        }
        Ok(false)
    }

    /// What was found to be too much is given up at once, a day or an hour at a time; says whether
    /// anything was.
    fn give_up(&self, keeper: &mut Keeper) -> Result<bool, Failure> {
        let mut gave = false;
        while keeper.retain(&self.inputs.limits).map_err(Failure::Writing)? {
            gave = true;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(gave)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how large the file is and how far it reaches back.
    fn measure(&self, keeper: &Keeper) -> Result<(), Trouble> {
        let oldest_ms = super::export::extent(&keeper.database)?.map(|(oldest, _)| oldest);
        let bytes = Some(file::bytes(&self.archive.path));
        let mut health = self.health();
        (health.bytes, health.oldest_ms) = (bytes, oldest_ms);
        Ok(())
    }

    /// Says that there was no file, and how much of the past the journal gives back.
    fn tell_begun(&self) {
        match tail::stock(&self.inputs) {
            Stock::Nothing => tracing::info!("There is no history yet; its file begins now."),
            Stock::Since(oldest_ms) => {
                let from = oldest_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                tracing::warn!(
                    from = from.map(tracing::field::display),
                    "There was no history file, so a new one begins. It is filled with what the \
                     journal still holds; curves and exports reach back no further."
                );
            }
        }
    }

    fn flush(&self, keeper: &mut Keeper) -> Result<bool, Failure> {
        let flushed = keeper.flush().map_err(Failure::Writing)?;
        if flushed {
            let position = keeper.position();
            self.inputs.journal.note_consumer(CONSUMER, Stream::Telemetry, position);
        }
        Ok(flushed)
    }

    fn succeeded(&mut self, open: &mut Open) {
        self.unwritten &= !std::mem::take(&mut open.wrote);
        let mut health = self.health();
        let damaged = open.keeper.counters.damaged - health.counters.damaged;
        health.counters = open.keeper.counters;
        health.unmerged = open.keeper.postponed.count() as u64;
        health.unmerged_why.clone_from(&open.keeper.unmerged);
        let failed = !self.unwritten && health.failing.take().is_some();
        drop(health);
        if damaged > 0 {
            tracing::error!(rows = damaged, "Rows of history were damaged; they are set aside.");
        }
        if !self.unwritten {
            self.pause = PAUSES[0];
        }
        if failed {
            tracing::info!("History is written again.");
        }
    }

    /// Everything in memory is forgotten and read again from the journal: what a failed
    /// transaction left behind cannot be in doubt then.
    fn failed(&mut self, failure: &Failure) -> Duration {
        let (Failure::Opening(trouble) | Failure::Writing(trouble)) = failure;
        let mut health = self.health();
        health.counters.failures += 1;
        let known = health.failing.replace(trouble.to_string()).is_some();
        drop(health);
        self.unwritten |= matches!(failure, Failure::Writing(_));
        if trouble.ruins_the_file() {
            // Of the file that takes its place nothing is known yet.
            self.unwritten = false;
            if let Err(error) = file::set_aside(&self.archive.path, trouble) {
                tracing::error!(%error, "The damaged history file could not be set aside.");
            }
        } else if !known {
            tracing::error!(
                %trouble,
                "History cannot be written; it is tried again. The journal keeps the samples \
                 meanwhile, as long as it has room."
            );
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSES[1]);
        pause
    }
}
