//! The one entry point: [`Engine::step`].

use std::sync::Arc;

use crate::event::Event;
use crate::plan::{ItemIndex, MachineIndex, Plan, RuleIndex, TripIndex};
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
    /// Nothing but the time: due every [`crate::engine::TICK`].
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
}

/// The whole engine: one shop's state.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
}
