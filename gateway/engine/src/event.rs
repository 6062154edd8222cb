//! Events: what happened, for the `events` stream of the journal and for the wire.
//!
//! Events are written as JSON and never change their meaning once released: add fields, never
//! rename. Moments are [`BootTime`] of the boot in which the event was written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::BootTime;
use crate::value::Unavailable;

/// What a machine is doing, coarsely: the word that hours are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// No power.
    Off,
    /// Powered, not working.
    Idle,
    /// Working.
    Run,
    /// In fault or stopped.
    Fault,
    /// Not known: never billed, never healthy.
    Unknown,
}

/// What a machine is executing: the word that the board shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// No power, or controller off by evidence.
    Off,
    /// Powered, nothing to do.
    Ready,
    /// A job is on but not yet cutting or printing: heating, homing, tool change.
    Preparing,
    /// A job is being executed.
    Running,
    /// A job is held.
    Paused,
    /// The job is complete and the machine not cleared.
    Finished,
    /// Alarm or error of the machine.
    Fault,
    /// Emergency stop, protective stop, lock-out.
    Stopped,
    /// Stale, unreachable or contradictory.
    Unknown,
}

impl Activity {
    /// Every activity.
    pub const ALL: [Self; 5] = [Self::Off, Self::Idle, Self::Run, Self::Fault, Self::Unknown];

    /// The word on the wire, as serde writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Idle => "idle",
            Self::Run => "run",
            Self::Fault => "fault",
            Self::Unknown => "unknown",
        }
    }
}

impl Execution {
    /// Every execution state.
    pub const ALL: [Self; 9] = [
        Self::Off,
        Self::Ready,
        Self::Preparing,
        Self::Running,
        Self::Paused,
        Self::Finished,
        Self::Fault,
        Self::Stopped,
        Self::Unknown,
    ];

    /// The execution with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|execution| execution.word() == word)
    }

    /// The activity that this execution counts as.
    pub const fn activity(self) -> Activity {
        match self {
            Self::Off => Activity::Off,
            Self::Ready | Self::Paused | Self::Finished => Activity::Idle,
            Self::Preparing | Self::Running => Activity::Run,
            Self::Fault | Self::Stopped => Activity::Fault,
            Self::Unknown => Activity::Unknown,
        }
    }

    /// The word on the wire, as serde writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Ready => "ready",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Fault => "fault",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// How far a trip has been confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Confirmation {
    /// The command was sent.
    C0,
    /// The device echoed it.
    C1,
    /// The output was read back.
    C2,
    /// An independent meter or contact proved the effect.
    C3,
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// When there is time.
    Low,
    /// Soon.
    Medium,
    /// Now.
    High,
}

/// The orthogonal states of an alarm (OPC UA Part 9): condition, acknowledgement, latch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmState {
    /// The rule's id, which is the alarm's.
    pub alarm: Arc<str>,
    /// The machine's id.
    pub machine: Arc<str>,
    /// How urgent.
    pub severity: Severity,
    /// Whether the condition holds; `None` when that is unknown.
    pub active: Option<bool>,
    /// Whether a person has acknowledged it since it was last raised.
    pub acked: bool,
    /// Whether it stays until a person resets it.
    pub latched: bool,
    /// When the alarm was raised; stays through restarts as that boot's moment.
    pub raised: BootTime,
    /// What was compared when it was raised, for a person: `temperature 63.2 °C`.
    pub cause: Arc<str>,
}

/// Where a protective stop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TripPhase {
    /// Ready to cut.
    Armed,
    /// Being carried out; not yet read back.
    Tripping,
    /// Carried out as far as the confirmation says; stays until a person resets it.
    Latched,
    /// Attempts are used up, or the proof contradicts: a person must act. Still latched, and
    /// still being tried.
    Failed,
}

/// The state of a protective stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TripState {
    /// The output's id.
    pub output: Arc<str>,
    /// The machine's id.
    pub machine: Arc<str>,
    /// Where it stands.
    pub phase: TripPhase,
    /// How far it is confirmed.
    pub level: Option<Confirmation>,
    /// The alarm that tripped it.
    pub cause: Option<Arc<str>>,
    /// What went wrong, in words, when it is failed.
    pub trouble: Option<Arc<str>>,
}

/// A reading of a machine's energy register.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// When it was read.
    pub at: BootTime,
    /// Watt-hours.
    pub wh: f64,
    /// Counts up whenever the register was reset or exchanged; differences across epochs mean
    /// nothing.
    pub epoch: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The gateway started; everything was unknown until then.
    Started {
        /// When.
        #[serde(default)]
        at: BootTime,
        /// andon's version.
        version: Arc<str>,
    },
    /// The gateway stopped in an orderly way.
    Stopped {
        /// When.
        #[serde(default)]
        at: BootTime,
    },
    /// A wall clock for this boot: boot time `at` was `wall_ms` (Unix milliseconds).
    Clock {
        /// The moment of the anchor.
        at: BootTime,
        /// Unix time in milliseconds at that moment.
        wall_ms: i64,
    },
    /// A machine's activity and execution changed at `at`, which may lie before the moment of
    /// writing: boundaries are stamped at the first crossing.
    Activity {
        /// The machine's id.
        machine: Arc<str>,
        /// The boundary.
        at: BootTime,
        /// What it is doing since.
        activity: Activity,
        /// The same in the board's words.
        execution: Execution,
        /// Why, when it is unknown.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        why: Option<Unavailable>,
        /// Time in the undebounced run band since the last such event, in milliseconds.
        #[serde(default)]
        raw_run_ms: u64,
    },
    /// What a machine did until the gateway's previous run ended: evidence reaches to `until`.
    Evidence {
        /// The machine's id.
        machine: Arc<str>,
        /// The last moment with evidence, in the boot named.
        until: BootTime,
        /// The boot id of that run; `of_boot` in JSON, where `boot` is the writer's.
        #[serde(rename = "of_boot")]
        boot: Arc<str>,
    },
    /// A reading of a machine's energy register; written at the edges of activity and on a grid.
    Energy {
        /// The machine's id.
        machine: Arc<str>,
        /// The reading.
        register: Register,
    },
    /// An alarm changed.
    Alarm {
        /// When.
        at: BootTime,
        /// Its state after the change.
        state: AlarmState,
        /// Who changed it, when a person did.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<Arc<str>>,
        /// Why, in that person's words.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<Arc<str>>,
    },
    /// A protective stop changed.
    Trip {
        /// When.
        at: BootTime,
        /// Its state after the change.
        state: TripState,
    },
}

impl Event {
    /// The machine concerned, when there is one.
    pub fn machine(&self) -> Option<&Arc<str>> {
        match self {
            Self::Started { .. } | Self::Stopped { .. } | Self::Clock { .. } => None,
            Self::Activity { machine, .. }
            | Self::Evidence { machine, .. }
            | Self::Energy { machine, .. } => Some(machine),
            Self::Alarm { state, .. } => Some(&state.machine),
            Self::Trip { state, .. } => Some(&state.machine),
        }
    }
}
