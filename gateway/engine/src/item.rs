//! The closed list of data items: the names that every machine's values go by, with the unit,
//! kind and plausible range that follow from the name. A profile or configuration that uses any
//! other name is refused with the nearest one.
//!
//! A name is a base from [`BASES`], optionally followed by one suffix: a phase (`.l1`, `.l2`,
//! `.l3`, `.n`), a place (`.bed`, `.nozzle`, …, numbered from the second on: `.nozzle-2`), an axis
//! (`.x`) or a channel number (`.1` … `.32`).

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
    /// An axis, always.
    Axis,
}

/// A base name with what follows from it: unit, kind, least and greatest plausible value.
struct Base(&'static str, Suffix, Unit, Kind, f64, f64);

/// Greatest channel number of a relay, input or sensor module.
pub const CHANNELS_MAX: u8 = 32;

const PHASES: &[&str] = &["l1", "l2", "l3", "n"];
const PLACES: &[&str] = &[
    "air", "ambient", "bed", "board", "chamber", "coolant", "drive", "exhaust", "filter", "host",
    "motor", "nozzle", "spindle", "tube", "water",
];
const AXES: &[&str] = &["x", "y", "z", "a", "b", "c"];
/// Greatest number of a place: an eighth nozzle.
const PLACE_NUMBER_MAX: u8 = 8;

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
    Base("voltage.dc", Suffix::None, Unit::Volt, Kind::Gauge, -1500.0, 1500.0),
    Base("voltage.line", Suffix::Phase, Unit::Volt, Kind::Gauge, 0.0, 1200.0),
    Base("frequency.output", Suffix::None, Unit::Hertz, Kind::Gauge, -1000.0, 1000.0),
    Base("temperature", Suffix::Place, Unit::Celsius, Kind::Gauge, -60.0, 1600.0),
    Base("temperature.target", Suffix::Place, Unit::Celsius, Kind::Gauge, 0.0, 1600.0),
    Base("humidity", Suffix::Place, Unit::Ratio, Kind::Gauge, 0.0, 1.0),
    Base("speed.spindle", Suffix::None, Unit::Rpm, Kind::Gauge, -100_000.0, 100_000.0),
    Base("feed", Suffix::None, Unit::MillimetrePerMinute, Kind::Gauge, -1e6, 1e6),
    Base("co2", Suffix::Place, Unit::PartsPerMillion, Kind::Gauge, 0.0, 100_000.0),
    Base("co", Suffix::Place, Unit::PartsPerMillion, Kind::Gauge, 0.0, 10_000.0),
    Base("voc", Suffix::Place, Unit::PartsPerMillion, Kind::Gauge, 0.0, 10_000.0),
    Base("pm1", Suffix::Place, Unit::MicrogramPerCubicMetre, Kind::Gauge, 0.0, 1e5),
    Base("pm25", Suffix::Place, Unit::MicrogramPerCubicMetre, Kind::Gauge, 0.0, 1e5),
    Base("pm10", Suffix::Place, Unit::MicrogramPerCubicMetre, Kind::Gauge, 0.0, 1e5),
    Base("pressure", Suffix::Place, Unit::Pascal, Kind::Gauge, -1e5, 1e8),
    Base("noise", Suffix::Place, Unit::Decibel, Kind::Gauge, 0.0, 200.0),
    Base("illuminance", Suffix::Place, Unit::Lux, Kind::Gauge, 0.0, 200_000.0),
    Base("loop", Suffix::Channel, Unit::Ampere, Kind::Gauge, 0.0, 0.025),
    Base("analog", Suffix::Channel, Unit::Volt, Kind::Gauge, -12.0, 12.0),
    Base("load", Suffix::None, Unit::Ratio, Kind::Gauge, -3.0, 3.0),
    Base("position", Suffix::Axis, Unit::Millimetre, Kind::Gauge, -1e5, 1e5),
    Base("progress", Suffix::None, Unit::Ratio, Kind::Gauge, 0.0, 1.0),
    Base("override.feed", Suffix::None, Unit::Ratio, Kind::Gauge, 0.0, 10.0),
    Base("override.spindle", Suffix::None, Unit::Ratio, Kind::Gauge, 0.0, 10.0),
    // What a controller says of its job and of itself; its words are kept verbatim.
    Base("execution", Suffix::None, Unit::None, Kind::Text, 0.0, 0.0),
    Base("controller.state", Suffix::None, Unit::None, Kind::Text, 0.0, 0.0),
    Base("controller.mode", Suffix::None, Unit::None, Kind::Text, 0.0, 0.0),
    Base("message", Suffix::None, Unit::None, Kind::Text, 0.0, 0.0),
    Base("job.name", Suffix::None, Unit::None, Kind::Text, 0.0, 0.0),
    Base("job.elapsed", Suffix::None, Unit::Second, Kind::Gauge, 0.0, 1e8),
    Base("job.left", Suffix::None, Unit::Second, Kind::Gauge, 0.0, 1e8),
    Base("job.layer", Suffix::None, Unit::None, Kind::Gauge, 0.0, 1e6),
    Base("job.layers", Suffix::None, Unit::None, Kind::Gauge, 0.0, 1e6),
    Base("filament.used", Suffix::None, Unit::Millimetre, Kind::Gauge, 0.0, 1e9),
    Base("filament.used.mass", Suffix::None, Unit::Gram, Kind::Gauge, 0.0, 1e6),
    Base("fault.code", Suffix::None, Unit::None, Kind::Gauge, 0.0, 4_294_967_295.0),
    Base("parts", Suffix::None, Unit::None, Kind::Counter, 0.0, 1e12),
    Base("hours.run", Suffix::None, Unit::Second, Kind::Counter, 0.0, 1e12),
    Base("hours.on", Suffix::None, Unit::Second, Kind::Counter, 0.0, 1e12),
    Base("tool", Suffix::None, Unit::None, Kind::Gauge, 0.0, 1e6),
    Base("signal", Suffix::None, Unit::None, Kind::Gauge, -200.0, 100.0),
    Base("door", Suffix::None, Unit::None, Kind::Flag, 0.0, 1.0),
    Base("online", Suffix::None, Unit::None, Kind::Flag, 0.0, 1.0),
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
            return rest.is_empty() && !matches!(self, Self::Channel | Self::Axis);
        };
        let channel = || {
            suffix.parse().is_ok_and(|n: u8| (1..=CHANNELS_MAX).contains(&n))
                && !suffix.starts_with(['0', '+'])
        };
        match self {
            Self::None => false,
            Self::Phase => PHASES.contains(&suffix),
            Self::Place => PLACES.contains(&suffix) || numbered_place(suffix) || channel(),
            Self::Channel => channel(),
            Self::Axis => AXES.contains(&suffix),
        }
    }
}

/// `nozzle-2` … `nozzle-8`; the first has no number.
fn numbered_place(suffix: &str) -> bool {
    suffix.rsplit_once('-').is_some_and(|(place, number)| {
        PLACES.contains(&place)
            && number.len() == 1
            && number.parse().is_ok_and(|n: u8| (2..=PLACE_NUMBER_MAX).contains(&n))
    })
}

/// Every name without channels, and channel 1 of those that have them: for hints and docs.
pub fn names() -> impl Iterator<Item = String> {
    BASES.iter().flat_map(|Base(base, suffix, ..)| {
        let (alone, suffixes): (bool, &[&str]) = match suffix {
            Suffix::None => (true, &[]),
            Suffix::Phase => (true, PHASES),
            Suffix::Place => (true, PLACES),
            Suffix::Channel => (false, &["1"]),
            Suffix::Axis => (false, AXES),
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
        // Of those that are equally like it the first on the list: what is usual stands there.
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
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
        assert_eq!(Item::named("temperature.target.nozzle-2").unwrap().unit, Unit::Celsius);
        assert_eq!(Item::named("position.z").unwrap().unit, Unit::Millimetre);
        for name in names() {
            assert!(Item::named(&name).is_ok(), "{name}");
        }
    }

    #[test]
    fn other_names_get_the_nearest() {
        let unknown = Item::named("power.activ").unwrap_err();
        assert_eq!(unknown.nearest.as_deref(), Some("power.active"));
        let short = Item::named("power").unwrap_err();
        assert_eq!(short.nearest.as_deref(), Some("power.active"), "not power.factor");
        for name in [
            "input",
            "input.0",
            "input.33",
            "input.01",
            "voltage.l4",
            "frequency.l1",
            "",
            "x",
            "temperature.nozzle-1",
            "temperature.nozzle-9",
            "position",
            "position.q",
        ] {
            assert!(Item::named(name).is_err(), "{name}");
        }
    }
}
