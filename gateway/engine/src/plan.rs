//! What an engine is built from: everything resolved and checked, no name left to look up.
//!
//! The gateway's configuration makes a [`Plan`]; a test may write one by hand. Indices are
//! positions in the vectors of the plan; [`Plan`]s come from checked configuration, so an index
//! out of range is a programming error.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::item::Item;
use crate::rules::Rule;

/// A value is stale after that many periods without a newer one …
pub const STALE_PERIODS: u32 = 3;
/// … but not before this: a single lost reading of a fast item means nothing.
pub const STALE_LEAST: Duration = Duration::from_secs(5);

/// The age from which on a value that is read every `period` is stale: [`STALE_PERIODS`], but never
/// less than [`STALE_LEAST`].
pub fn stale_after(period: Duration) -> Duration {
    period.saturating_mul(STALE_PERIODS).max(STALE_LEAST)
}

/// Position of a machine in [`Plan::machines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineIndex(pub u16);

/// Position of a data item in [`Plan::items`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemIndex(pub u32);

/// Position of a rule in [`Plan::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub u16);

/// Position of a trip output in [`Plan::trips`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TripIndex(pub u16);

/// Everything the engine needs to know about the shop.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The machines, in the order of the configuration.
    pub machines: Vec<MachinePlan>,
    /// All data items of all machines; the items of one machine are contiguous.
    pub items: Vec<ItemPlan>,
    /// The rules, parsed and checked.
    pub rules: Vec<Rule>,
    /// The outputs of kind `trip`.
    pub trips: Vec<TripPlan>,
}

/// A machine and how its activity is inferred.
#[derive(Clone, Debug)]
pub struct MachinePlan {
    /// Its id: `[a-z0-9-]`, unique.
    pub id: Arc<str>,
    /// What its activity is told from, highest authority first; nothing leaves it unknown for
    /// ever.
    pub activity: Vec<ActivityPlan>,
    /// The register whose differences are its energy.
    pub energy: Option<ItemIndex>,
}

/// A data item of a machine. A shop has tens of thousands, and few that differ in more than the
/// machine: what they have in common is there once, and read through the item.
#[derive(Clone, Debug)]
pub struct ItemPlan {
    /// The machine that it belongs to.
    pub machine: MachineIndex,
    measurand: Arc<Measurand>,
}

impl ItemPlan {
    /// An item of a machine.
    pub fn new(machine: MachineIndex, measurand: impl Into<Arc<Measurand>>) -> Self {
        Self { machine, measurand: measurand.into() }
    }
}

impl Deref for ItemPlan {
    type Target = Measurand;

    fn deref(&self) -> &Measurand {
        &self.measurand
    }
}

/// What is measured, whatever machine it is measured at.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurand {
    /// Its canonical name, unit, kind and plausible range.
    pub item: Item,
    /// How often it is read.
    pub period: Duration,
    /// An older value is [`crate::value::Unavailable::Stale`].
    pub stale_after: Duration,
    /// Fastest believable change, in the item's unit per second.
    pub max_rate: Option<f64>,
}

impl Measurand {
    /// An item that is read every `period`, stale as [`stale_after`] says. Any change is believed.
    pub fn every(item: Item, period: Duration) -> Self {
        Self { item, period, stale_after: stale_after(period), max_rate: None }
    }
}

/// How activity is told from a signal. Boundaries are stamped at the first crossing and
/// confirmed after `enter_for` / `exit_for`, so the debounce biases no duration.
#[derive(Clone, Debug)]
pub enum ActivityPlan {
    /// What its controller says: the item `execution`, a word of the table of executions.
    Controller {
        /// The item, a text.
        item: ItemIndex,
        /// How long idle must hold after run before it is believed.
        exit_for: Duration,
    },
    /// Bands of power: off below `idle.enter`, idle up to `run.enter`, run above.
    Power {
        /// The item, in watts.
        item: ItemIndex,
        /// Where off ends and idle begins.
        idle: Band,
        /// Where idle ends and run begins.
        run: Band,
        /// How long a higher band must hold before it is believed.
        enter_for: Duration,
        /// How long a lower band must hold before it is believed.
        exit_for: Duration,
    },
    /// A contact: `run_when` means run, the other way idle.
    Input {
        /// The item, a flag.
        item: ItemIndex,
        /// The state of the contact that means run.
        run_when: bool,
        /// How long run must hold before it is believed.
        enter_for: Duration,
        /// How long idle must hold before it is believed.
        exit_for: Duration,
    },
}

impl ActivityPlan {
    /// The item that it follows.
    pub const fn item(&self) -> ItemIndex {
        match self {
            Self::Controller { item, .. } | Self::Power { item, .. } | Self::Input { item, .. } => {
                *item
            }
        }
    }
}

/// One threshold with hysteresis: entered at or above `enter`, left below `exit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Watts at or above which the band is entered.
    pub enter: f64,
    /// Watts below which it is left; below `enter`.
    pub exit: f64,
}

/// An output of kind `trip`: it cuts one machine.
#[derive(Clone, Debug)]
pub struct TripPlan {
    /// Its id, unique among outputs.
    pub id: Arc<str>,
    /// The machine that it stops.
    pub machine: MachineIndex,
    /// An independent item that proves the effect.
    pub proof: Option<Proof>,
    /// Write again when an attempt is not read back within this time.
    pub attempt_deadline: Duration,
    /// Attempts before the trip is failed (and tried further at a slower pace).
    pub attempts: u8,
    /// Whether a person's reset releases the output: only where that starts nothing.
    pub permit_on_reset: bool,
}

/// What counts as proof that a trip took effect: `samples` readings below `below`, all newer than
/// the command, within `within`; after that the trip is unproved and a weld is suspected.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The item, of a meter that is not the actuator.
    pub item: ItemIndex,
    /// In the item's unit.
    pub below: f64,
    /// How many samples must agree.
    pub samples: u8,
    /// How long the proof may take.
    pub within: Duration,
}
