//! The closed list of data items: the names that every machine's values go by, with the unit,
//! kind and plausible range that follow from the name. A profile or configuration that uses any
//! other name is refused with the nearest one.
//!
//! A name is a base from [`BASES`], optionally followed by one suffix: a phase (`.l1`, `.l2`,
//! `.l3`, `.n`), a place (`.bed`, `.nozzle`, …) or a channel number (`.1` … `.32`).

use std::fmt;
use std::sync::Arc;

use crate::unit::Unit;

/// How an item behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A quantity that goes up and down.
    Gauge,
    /// A register that only grows, but for resets.
    Counter,
    /// On or off.
    Flag,
    /// Words.
    Text,
}

/// What may follow a base name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suffix {
    /// Nothing.
    None,
    /// Nothing, or a phase.
    Phase,
    /// Nothing, a place or a channel.
    Place,
    /// A channel, always.
    Channel,
}

/// A base name with what follows from it: unit, kind, least and greatest plausible value.
struct Base(&'static str, Suffix, Unit, Kind, f64, f64);

/// Greatest channel number of a relay, input or sensor module.
pub const CHANNELS_MAX: u8 = 32;

const PHASES: &[&str] = &["l1", "l2", "l3", "n"];
const PLACES: &[&str] = &[
    "ambient", "bed", "chamber", "coolant", "exhaust", "motor", "nozzle", "spindle", "tube",
    "water",
];

/// Ranges are what the quantity can be in a workshop on a low-voltage supply, generously; a
/// value outside is a broken reading, not a broken machine.
const BASES: &[Base] = &[
    Base("power.active", Suffix::Phase, Unit::Watt, Kind::Gauge, -1e6, 1e6),
    Base("power.apparent", Suffix::Phase, Unit::VoltAmpere, Kind::Gauge, -1e6, 1e6),
    Base("power.reactive", Suffix::Phase, Unit::Var, Kind::Gauge, -1e6, 1e6),
    Base("power.factor", Suffix::Phase, Unit::Ratio, Kind::Gauge, -1.0, 1.0),
    Base("energy.import", Suffix::Phase, Unit::WattHour, Kind::Counter, 0.0, 1e12),
    Base("energy.export", Suffix::Phase, Unit::WattHour, Kind::Counter, 0.0, 1e12),
    Base("energy.total", Suffix::Phase, Unit::WattHour, Kind::Counter, 0.0, 1e12),
    Base("voltage", Suffix::Phase, Unit::Volt, Kind::Gauge, 0.0, 1200.0),
    Base("current", Suffix::Phase, Unit::Ampere, Kind::Gauge, -10_000.0, 10_000.0),
    Base("frequency", Suffix::None, Unit::Hertz, Kind::Gauge, 0.0, 1000.0),
    Base("temperature", Suffix::Place, Unit::Celsius, Kind::Gauge, -60.0, 1600.0),
    Base("humidity", Suffix::Place, Unit::Ratio, Kind::Gauge, 0.0, 1.0),
    Base("speed.spindle", Suffix::None, Unit::Rpm, Kind::Gauge, -100_000.0, 100_000.0),
    Base("feed", Suffix::None, Unit::MillimetrePerMinute, Kind::Gauge, -1e6, 1e6),
    Base("progress", Suffix::None, Unit::Ratio, Kind::Gauge, 0.0, 1.0),
    Base("input", Suffix::Channel, Unit::None, Kind::Flag, 0.0, 1.0),
    Base("relay", Suffix::Channel, Unit::None, Kind::Flag, 0.0, 1.0),
];

/// An item of the closed list.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The whole name: `power.active.l1`.
    pub name: Arc<str>,
    /// Its canonical unit.
    pub unit: Unit,
    /// How it behaves.
    pub kind: Kind,
    /// Least plausible value, in the unit.
    pub least: f64,
    /// Greatest plausible value, in the unit.
    pub greatest: f64,
}

/// A name that is not on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownItem {
    /// What was written.
    pub name: String,
    /// The nearest name on the list, when one is near.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an item that andon knows", self.name)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean \"{nearest}\"?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnknownItem {}

impl Item {
    /// Looks a name up in the closed list.
    ///
    /// # Errors
    /// [`UnknownItem`] with the nearest name when it is not there.
    pub fn named(name: &str) -> Result<Self, UnknownItem> {
        let found = BASES.iter().find(|Base(base, suffix, ..)| {
            name.strip_prefix(base).is_some_and(|rest| suffix.admits(rest))
        });
        match found {
            Some(&Base(_, _, unit, kind, least, greatest)) => {
                Ok(Self { name: name.into(), unit, kind, least, greatest })
            }
            None => Err(UnknownItem { name: name.to_owned(), nearest: nearest(name) }),
        }
    }
}

impl Suffix {
    /// Whether `rest`, what follows the base name, is empty or one of this kind's suffixes.
    fn admits(self, rest: &str) -> bool {
        let Some(suffix) = rest.strip_prefix('.') else {
            return rest.is_empty() && self != Self::Channel;
        };
        let channel = || {
            suffix.parse().is_ok_and(|n: u8| (1..=CHANNELS_MAX).contains(&n))
                && !suffix.starts_with(['0', '+'])
        };
        match self {
            Self::None => false,
            Self::Phase => PHASES.contains(&suffix),
            Self::Place => PLACES.contains(&suffix) || channel(),
            Self::Channel => channel(),
        }
    }
}

/// Every name without channels, and channel 1 of those that have them: for hints and docs.
pub fn names() -> impl Iterator<Item = String> {
    BASES.iter().flat_map(|Base(base, suffix, ..)| {
        let (alone, suffixes): (bool, &[&str]) = match suffix {
            Suffix::None => (true, &[]),
            Suffix::Phase => (true, PHASES),
            Suffix::Place => (true, PLACES),
            Suffix::Channel => (false, &["1"]),
        };
        let alone = alone.then(|| (*base).to_owned());
        alone.into_iter().chain(suffixes.iter().map(move |suffix| format!("{base}.{suffix}")))
    })
}

fn nearest(name: &str) -> Option<String> {
    /// Below this likeness a hint would mislead.
    const LIKENESS: f64 = 0.8;
    names()
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_list_have_their_unit() {
        assert_eq!(Item::named("power.active.l1").unwrap().unit, Unit::Watt);
        assert_eq!(Item::named("temperature.tube").unwrap().unit, Unit::Celsius);
        assert_eq!(Item::named("input.8").unwrap().kind, Kind::Flag);
        for name in names() {
            assert!(Item::named(&name).is_ok(), "{name}");
        }
    }

    #[test]
    fn other_names_get_the_nearest() {
        let unknown = Item::named("power.activ").unwrap_err();
        assert_eq!(unknown.nearest.as_deref(), Some("power.active"));
        for name in
            ["input", "input.0", "input.33", "input.01", "voltage.l4", "frequency.l1", "", "x"]
        {
            assert!(Item::named(name).is_err(), "{name}");
        }
    }
}
