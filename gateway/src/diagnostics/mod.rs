//! What the gateway knows of itself, for a person and for a monitoring system: one snapshot, made
//! when somebody asks.
//!
//! Reading order: here the shape of the snapshot, [`collect`] (where its figures come from),
//! [`metrics`] and [`exposition`] (the same for Prometheus), [`explain`] (one item, from the register
//! to the rule). Nothing here decides anything or waits for anybody: figures are copied from behind
//! short locks. What is not known is absent, never zero. Bounded by the configuration: one entry
//! per bus, source and consumer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock;
pub use crate::history::Health as History;
use crate::journal::Counters;

mod collect;
mod explain;
mod exposition;
mod metrics;
mod process;
mod progress;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use collect::{Collector, Parts};
pub use explain::{
    Explanation, Heard, LastFailure, Origin, Raw, Refused, Register, Unknown, Watchers,
};
pub(crate) use exposition::CONTENT_TYPE;
pub use exposition::{Exposition, Kind};
pub use metrics::exposition;
pub use progress::Progress;

/// Version of this shape. Released fields keep their meaning: add, never rename.
pub const VERSION: u8 = 1;

/// The whole gateway at one moment. Counters only grow, from the start of the process; durations
/// and ages are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// [`VERSION`].
    pub v: u8,
    /// The process.
    pub process: Process,
    /// Whether the time is known.
    pub clock: Clock,
    /// The buses, in the order of the configuration.
    pub buses: Vec<Bus>,
    /// The devices with a protocol of their own, in the order of the configuration.
    pub devices: Vec<Device>,
    /// The engine's thread.
    pub engine: Engine,
    /// The journal; unknown while the gateway stops.
    pub journal: Option<Journal>,
    /// The history file; unknown to snapshots of older gateways.
    pub history: Option<History>,
    /// The broker, when one is configured.
    pub mqtt: Option<Mqtt>,
    /// The store behind the recorder in this process, when one is configured.
    pub store: Option<Store>,
    /// Who is looking; unknown while the board's task is too busy to be asked.
    pub boards: Option<Boards>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// andon's version.
    pub version: String,
    /// The boot that its records belong to.
    pub boot: String,
    /// Since its start.
    pub uptime_ms: u64,
    /// Processor time used.
    pub cpu_ms: u64,
    /// Memory in use now, in bytes.
    pub resident_bytes: Option<u64>,
    /// The most that it ever was.
    pub resident_peak_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Whether the time is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Whether records of this boot have a wall time.
    pub anchored: bool,
    /// Unix milliseconds, when they have.
    pub now_ms: Option<i64>,
    /// Whether the kernel believes its clock to be disciplined (NTP).
    pub kernel_synchronised: bool,
    /// Whether the configuration says that the clock is to be believed without.
    pub trusted: bool,
    /// What follows from these: `synced`, `trusted`, `anchored` or `unsynced`.
    pub standing: clock::Standing,
}

/// One bus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bus {
    /// Its id.
    pub id: Arc<str>,
    /// Whether its port or connection is open.
    pub up: bool,
    /// Why not.
    pub why: Option<String>,
    /// Share of the last minute in which it was in use, 0–1.
    pub occupancy: f64,
    /// Requests per second of the last minute; unknown to snapshots of older gateways.
    #[serde(default)]
    pub requests_per_second: Option<f64>,
    /// The greatest age of a value in the last minute, of the units that answer; unknown while none
    /// has delivered anything.
    pub worst_age_ms: Option<u64>,
    /// The value that was oldest by its own period, of the units that answer.
    #[serde(default)]
    pub latest: Option<Latest>,
    /// Polled units that do not answer; all of them while the bus is down.
    #[serde(default)]
    pub units_silent: usize,
    /// Units that are polled at all; the others are only written to.
    #[serde(default)]
    pub units_polled: usize,
    /// Items that were never read, or that their device refuses.
    #[serde(default)]
    pub items_unread: usize,
    /// Rounds that were due and skipped because it was busy.
    pub skipped_rounds: u64,
    /// Share of the rounds due in the last minute that were skipped, 0–1; unknown in the first.
    #[serde(default)]
    pub skipped_share: Option<f64>,
    /// Whether that is so much that somebody should look: from 5 %, until it is below 3 % again.
    #[serde(default)]
    pub skipping: bool,
    /// Bytes that nobody had asked for.
    pub stray_bytes: u64,
    /// Its units, in the order of the configuration.
    pub units: Vec<Unit>,
}

/// A value that is old, measured by its own period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    /// The source's id.
    pub source: Arc<str>,
    /// The item; the first, where several are read together.
    pub item: Arc<str>,
    /// How often it is to be read.
    pub period_ms: u64,
    /// Its greatest age in the last minute.
    pub age_ms: u64,
    /// That age in periods: 1 as a rule, above 2 a value was missed.
    pub periods: f64,
}

/// One unit on a bus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// The source's id.
    pub source: Arc<str>,
    /// Modbus unit id, or the twelve digits of a DL/T 645 meter.
    pub unit_id: String,
    /// `not_asked`, `bus_down`, `online`, `suspect`, `quarantined` or `slow`.
    pub standing: Arc<str>,
    /// Why it is not online.
    pub why: Option<Arc<str>>,
    /// What became of the requests.
    pub requests: Requests,
    /// How long it is waited for beyond wire time.
    pub allowance_ms: f64,
    /// What it usually needs before it answers, as measured; unknown before it has answered, or
    /// been remembered.
    pub turnaround_ms: Option<f64>,
    /// The greatest age of one of its values in the last minute; unknown while it has none.
    pub worst_age_ms: Option<u64>,
    /// The greatest age of a value in its own periods: 1 as a rule, above 2 one was missed.
    #[serde(default)]
    pub worst_age_periods: Option<f64>,
    /// Items of it that were never read, or that it refuses.
    #[serde(default)]
    pub items_unread: usize,
    /// Due rounds of it that were skipped because the bus was busy.
    pub skipped_rounds: u64,
    /// Addresses and boundaries that it is known not to read.
    pub holes: usize,
    /// Since its last answer, exceptions counted; unknown before the first.
    pub last_answer_age_ms: Option<u64>,
    /// Until it is asked again, of one in quarantine; with the next round that is due then.
    #[serde(default)]
    pub asked_again_ms: Option<u64>,
}

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Answered.
    pub answered: u64,
    /// Not answered in time.
    pub timeout: u64,
    /// Answered with something else.
    pub garbled: u64,
    /// Answered with an exception that stands.
    pub refused: u64,
    /// Refused as a whole and asked again in parts: how holes are found, and no failure.
    #[serde(default)]
    pub parted: u64,
    /// The port went away meanwhile.
    pub disconnected: u64,
    /// Answered after the deadline; those answers were thrown away.
    pub late: u64,
    /// Asked again because the time before had failed; counted among the others too.
    pub retries: u64,
}

impl Requests {
    /// Requests that failed.
    pub const fn failed(&self) -> u64 {
        self.timeout + self.garbled + self.refused + self.disconnected
    }

    /// Requests whose outcome is known.
    pub const fn ended(&self) -> u64 {
        self.answered + self.parted + self.failed()
    }
}

/// One device with a protocol of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The source's id.
    pub source: Arc<str>,
    /// What it speaks.
    pub protocol: Arc<str>,
    /// `down`, `silent` or `answering`.
    pub state: Arc<str>,
    /// What is wrong; may be there although it answers.
    pub why: Option<String>,
    /// Requests that failed, connections that were lost and things that were thrown away.
    pub errors: u64,
    /// Since it last said something sensible; unknown before the first time.
    pub last_answer_age_ms: Option<u64>,
}

/// The engine's thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Readings taken, those without a value among them.
    pub readings: u64,
    /// Turns: from waking to having handed everything on.
    pub turns: u64,
    /// Time spent in turns.
    pub busy_ms: f64,
    /// The longest turn.
    pub turn_longest_ms: f64,
    /// Readings per second, those without a value among them, over the last 10 s; unknown at the start.
    pub readings_per_second: Option<f64>,
    /// Mean turn over the last 10 s; unknown at the start.
    pub turn_mean_ms: Option<f64>,
    /// What waits: readings of one machine at one moment; unknown when no source is configured.
    pub telemetry_queue: Option<Queue>,
    /// What waits and must not: replies of outputs, people's orders.
    pub urgent_queue: Option<Queue>,
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// What is in it.
    pub filled: usize,
    /// What fits.
    pub room: usize,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// What happened to its records.
    #[serde(flatten)]
    pub counters: Counters,
    /// How far its consumers are, as they have last saved it.
    pub consumers: Vec<Consumer>,
}

/// A consumer of one stream of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name.
    pub consumer: String,
    /// `telemetry` or `events`.
    pub stream: Arc<str>,
    /// Records after its durable position.
    pub behind: u64,
}

/// The broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mqtt {
    /// Whether it is reached.
    pub up: bool,
    /// Why not.
    pub why: Option<String>,
    /// Who confirms delivery: `recorder` or `puback`.
    pub confirmed_by: Option<Arc<str>>,
    /// Connections that it accepted.
    pub connections: u64,
    /// Messages that it has not acknowledged yet.
    pub in_flight: usize,
    /// Records published as they happened.
    pub published_live: u64,
    /// Records published from what lies behind: again, or late.
    pub published_again: u64,
    /// Records that are not confirmed yet.
    pub unconfirmed: u64,
}

/// The store behind the recorder in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Whether the last write was taken.
    pub up: bool,
    /// Why it was not.
    pub why: Option<String>,
    /// Lines that it has committed.
    pub committed: u64,
    /// Lines that it refused for good; they are in the dead-letter file.
    pub dead_letters: u64,
    /// Of these, the ones that the disk did not take either.
    pub dead_letters_lost: u64,
    /// Records that wait.
    pub behind: u64,
}

/// Who is looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boards {
    /// Boards connected now.
    pub connected: usize,
    /// Boards disconnected because they read too slowly.
    pub dropped: u64,
    /// Batches that reached the picture merged, because it was behind the engine.
    pub missed: u64,
}

/// Whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
