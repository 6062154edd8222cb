//! What goes into a step and what comes out of it, and what a previous run has left.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{AlarmState, Event, TripState};
use crate::plan::{ItemIndex, MachineIndex, RuleIndex, TripIndex};
use crate::time::BootTime;
use crate::value::Measured;

/// What the engine is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Readings of one machine, sampled at one moment.
    Readings {
        /// The sample's moment; not later than the step's `now`.
        at: BootTime,
        /// The items of one machine.
        readings: Vec<(ItemIndex, Measured)>,
    },
    /// Nothing but the time: due every [`TICK`](super::TICK).
    Tick,
    /// What became of a command to an output.
    Reply {
        /// The output.
        trip: TripIndex,
        /// Which attempt the reply belongs to.
        attempt: u32,
        /// What came back.
        reply: Reply,
    },
    /// A person acknowledges an alarm.
    Acknowledge {
        /// The alarm.
        rule: RuleIndex,
        /// Who.
        by: Arc<str>,
    },
    /// A person resets an alarm and the trips it latched.
    Reset {
        /// The alarm.
        rule: RuleIndex,
        /// Who.
        by: Arc<str>,
        /// Why; never empty.
        reason: Arc<str>,
    },
}

/// What became of a command to an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The device echoed the write.
    Echoed,
    /// The output was read back: whether it stands at the commanded (tripped or permitted) state.
    ReadBack(bool),
    /// The command failed; the words say how.
    Failed(Arc<str>),
}

/// A command to an output. It leaves before its journal record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The output.
    pub trip: TripIndex,
    /// Counts the commands of this output; replies carry it back.
    pub attempt: u32,
    /// What to do.
    pub act: Act,
}

/// What a command does. Each is one write, checked echo, and one read-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Cut.
    Trip,
    /// Permit again, after a person's reset, where the configuration says that this starts nothing.
    Permit,
}

/// What follows from a step, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A command to an output.
    Command(Command),
    /// Normalised values of one machine at one moment: for the telemetry stream.
    Observation {
        /// The machine.
        machine: MachineIndex,
        /// The sample's moment.
        at: BootTime,
        /// The items; a value that became unavailable is there with its reason.
        items: Vec<(ItemIndex, Measured)>,
    },
    /// Something happened: for the events stream.
    Event(Event),
    /// A person's word was not carried out.
    Refused(Refusal),
}

/// Why a person's word was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The alarm.
    pub alarm: Arc<str>,
    /// In words: `its condition still holds`.
    pub why: &'static str,
}

/// What was left by the previous run: the last state of each alarm and trip in the events stream.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Alarms by the id of their rule; those of rules that are no more are dropped.
    pub alarms: Vec<AlarmState>,
    /// Trips by the id of their output.
    pub trips: Vec<TripState>,
    /// Energy registers.
    pub registers: Vec<LeftRegister>,
}

/// The last reading of a machine's energy register that a previous run noted.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftRegister {
    /// The machine's id.
    pub machine: Arc<str>,
    /// Watt-hours.
    pub wh: f64,
    /// Its epoch.
    pub epoch: u32,
    /// The start of this run.
    pub now: BootTime,
    /// How long before that it was read; `None` when nobody knows.
    pub away: Option<Duration>,
}
