//! The canonical units, and quantities as people write them in configuration and rules:
//! `15 W`, `2.5 kW`, `60 °C`, `250 ms`. Conversion to the canonical unit happens here only.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The canonical units. Everything inside andon is in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// Active power.
    #[serde(rename = "W")]
    Watt,
    /// Apparent power.
    #[serde(rename = "VA")]
    VoltAmpere,
    /// Reactive power.
    #[serde(rename = "var")]
    Var,
    /// Energy.
    #[serde(rename = "Wh")]
    WattHour,
    /// Voltage.
    #[serde(rename = "V")]
    Volt,
    /// Current.
    #[serde(rename = "A")]
    Ampere,
    /// Frequency.
    #[serde(rename = "Hz")]
    Hertz,
    /// Temperature.
    #[serde(rename = "°C")]
    Celsius,
    /// Time.
    #[serde(rename = "s")]
    Second,
    /// Feed.
    #[serde(rename = "mm/min")]
    MillimetrePerMinute,
    /// Speed of rotation.
    #[serde(rename = "rpm")]
    Rpm,
    /// Mass.
    #[serde(rename = "g")]
    Gram,
    /// Length: a position, filament.
    #[serde(rename = "mm")]
    Millimetre,
    /// Pressure.
    #[serde(rename = "Pa")]
    Pascal,
    /// Concentration of a gas, by volume.
    #[serde(rename = "ppm")]
    PartsPerMillion,
    /// Concentration of dust, by mass.
    #[serde(rename = "µg/m³")]
    MicrogramPerCubicMetre,
    /// Sound pressure level.
    #[serde(rename = "dB")]
    Decibel,
    /// Illuminance.
    #[serde(rename = "lx")]
    Lux,
    /// A share of one: progress, power factor, relative humidity.
    #[serde(rename = "1")]
    Ratio,
    /// No unit: a flag, a word, a count.
    #[serde(rename = "")]
    None,
}

/// The spellings accepted in configuration: symbol, unit, factor to the canonical unit.
const SPELLINGS: &[(&str, Unit, f64)] = &[
    ("W", Unit::Watt, 1.0),
    ("mW", Unit::Watt, 1e-3),
    ("kW", Unit::Watt, 1e3),
    ("MW", Unit::Watt, 1e6),
    ("VA", Unit::VoltAmpere, 1.0),
    ("kVA", Unit::VoltAmpere, 1e3),
    ("var", Unit::Var, 1.0),
    ("kvar", Unit::Var, 1e3),
    ("Wh", Unit::WattHour, 1.0),
    ("kWh", Unit::WattHour, 1e3),
    ("MWh", Unit::WattHour, 1e6),
    ("V", Unit::Volt, 1.0),
    ("mV", Unit::Volt, 1e-3),
    ("kV", Unit::Volt, 1e3),
    ("A", Unit::Ampere, 1.0),
    ("mA", Unit::Ampere, 1e-3),
    ("Hz", Unit::Hertz, 1.0),
    ("kHz", Unit::Hertz, 1e3),
    ("°C", Unit::Celsius, 1.0),
    ("degC", Unit::Celsius, 1.0),
    ("℃", Unit::Celsius, 1.0),
    ("ms", Unit::Second, 1e-3),
    ("s", Unit::Second, 1.0),
    ("min", Unit::Second, 60.0),
    ("h", Unit::Second, 3600.0),
    ("d", Unit::Second, 86_400.0),
    ("mm/min", Unit::MillimetrePerMinute, 1.0),
    ("mm/s", Unit::MillimetrePerMinute, 60.0),
    ("rpm", Unit::Rpm, 1.0),
    ("g", Unit::Gram, 1.0),
    ("kg", Unit::Gram, 1e3),
    ("mm", Unit::Millimetre, 1.0),
    ("m", Unit::Millimetre, 1e3),
    ("Pa", Unit::Pascal, 1.0),
    ("kPa", Unit::Pascal, 1e3),
    ("mbar", Unit::Pascal, 100.0),
    ("bar", Unit::Pascal, 1e5),
    ("ppm", Unit::PartsPerMillion, 1.0),
    ("ppb", Unit::PartsPerMillion, 1e-3),
    ("µg/m³", Unit::MicrogramPerCubicMetre, 1.0),
    ("ug/m3", Unit::MicrogramPerCubicMetre, 1.0),
    ("mg/m³", Unit::MicrogramPerCubicMetre, 1e3),
    ("dB", Unit::Decibel, 1.0),
    ("lx", Unit::Lux, 1.0),
    ("%", Unit::Ratio, 1e-2),
    ("", Unit::None, 1.0),
];

impl Unit {
    /// The symbol shown to people and written to the wire.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Watt => "W",
            Self::VoltAmpere => "VA",
            Self::Var => "var",
            Self::WattHour => "Wh",
            Self::Volt => "V",
            Self::Ampere => "A",
            Self::Hertz => "Hz",
            Self::Celsius => "°C",
            Self::Second => "s",
            Self::MillimetrePerMinute => "mm/min",
            Self::Rpm => "rpm",
            Self::Gram => "g",
            Self::Millimetre => "mm",
            Self::Pascal => "Pa",
            Self::PartsPerMillion => "ppm",
            Self::MicrogramPerCubicMetre => "µg/m³",
            Self::Decibel => "dB",
            Self::Lux => "lx",
            Self::Ratio => "1",
            Self::None => "",
        }
    }

    /// The canonical unit that a spelling stands for and the factor to it: `kW` is (`Watt`, 1000).
    pub fn of_spelling(symbol: &str) -> Option<(Self, f64)> {
        SPELLINGS
            .iter()
            .find(|(spelling, ..)| *spelling == symbol)
            .map(|&(_, unit, factor)| (unit, factor))
    }
}

impl Unit {
    /// As people write it beside a number: a share of one in percent.
    pub const fn written(self) -> &'static str {
        match self {
            Self::Ratio => "%",
            unit => unit.symbol(),
        }
    }

    /// As people read it beside a canonical number: a share of one has no unit.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Ratio => "",
            unit => unit.symbol(),
        }
    }

    /// The one spelling of this unit that `written` differs from in capitals only: `kWh` for `kwh`.
    /// None where there are several, as for `mw`.
    pub fn meant_by(self, written: &str) -> Option<&'static str> {
        let mut alike = SPELLINGS.iter().filter(|(spelling, unit, _)| {
            *unit == self && spelling.to_lowercase() == written.to_lowercase()
        });
        let (meant, ..) = alike.next()?;
        alike.next().is_none().then_some(*meant)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// What is wrong with a quantity that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// It does not begin with a finite decimal number.
    #[error("\"{0}\" is not a number with a unit")]
    NotANumber(String),
    /// The unit is none of the spellings.
    #[error("\"{0}\" is not a unit that andon knows")]
    UnknownUnit(String),
    /// It has no unit where one belongs.
    #[error("\"{0}\" has no unit; {1} belongs here")]
    NoUnit(String, &'static str),
    /// The unit is one of another quantity.
    #[error("\"{found}\" is not a unit of {expected}", expected = match expected { Unit::None => "a plain number", unit => unit.written() })]
    WrongUnit {
        /// The unit that belongs here.
        expected: Unit,
        /// What was written.
        found: String,
    },
}

/// Parses a number with a unit, `2.5 kW`, into its canonical unit.
///
/// # Errors
/// When it is no finite number or the unit is not known.
pub fn parse_quantity(text: &str) -> Result<(f64, Unit), QuantityError> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|&(at, c)| {
            let exponent = matches!(c, 'e' | 'E')
                && text[at + 1..].starts_with(|next: char| next.is_ascii_digit() || next == '-');
            !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+') || exponent)
        })
        .map_or(text.len(), |(at, _)| at);
    let number: f64 =
        text[..end].parse().map_err(|_| QuantityError::NotANumber(text.to_owned()))?;
    let symbol = text[end..].trim();
    let (unit, factor) =
        Unit::of_spelling(symbol).ok_or_else(|| QuantityError::UnknownUnit(symbol.to_owned()))?;
    let canonical = number * factor;
    if canonical.is_finite() {
        Ok((canonical, unit))
    } else {
        Err(QuantityError::NotANumber(text.to_owned()))
    }
}

/// Parses a quantity that must be of `expected`: `parse_as("2.5 kW", Unit::Watt)` is 2500.
///
/// # Errors
/// As [`parse_quantity`], and when the unit is another quantity's.
pub fn parse_as(text: &str, expected: Unit) -> Result<f64, QuantityError> {
    let (number, unit) = parse_quantity(text)?;
    let plain_ratio = expected == Unit::Ratio && unit == Unit::None;
    if unit == expected || plain_ratio {
        Ok(number)
    } else if unit == Unit::None {
        Err(QuantityError::NoUnit(text.trim().to_owned(), expected.symbol()))
    } else {
        let found = text.trim_start_matches(|c: char| c.is_ascii_digit() || "+-. ".contains(c));
        Err(QuantityError::WrongUnit { expected, found: found.to_owned() })
    }
}

/// Parses a duration, `250 ms` or `2 min`; it must not be negative.
///
/// # Errors
/// As [`parse_as`] with seconds.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let seconds = parse_as(text, Unit::Second)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| QuantityError::NotANumber(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_convert_to_the_canonical_unit() {
        assert_eq!(parse_as("2.5 kW", Unit::Watt), Ok(2500.0));
        assert_eq!(parse_as("60 °C", Unit::Celsius), Ok(60.0));
        assert_eq!(parse_as("-5℃", Unit::Celsius), Ok(-5.0));
        assert_eq!(parse_as("1e3 W", Unit::Watt), Ok(1000.0));
        assert_eq!(parse_as("0.5", Unit::Ratio), Ok(0.5));
        assert_eq!(parse_as("50 %", Unit::Ratio), Ok(0.5));
        assert_eq!(parse_duration("250 ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn wrong_and_unknown_units_say_so() {
        let wrong = parse_as("60 W", Unit::Celsius).unwrap_err();
        assert_eq!(wrong.to_string(), "\"W\" is not a unit of °C");
        assert_eq!(
            parse_quantity("5 wat").unwrap_err().to_string(),
            "\"wat\" is not a unit that andon knows"
        );
        let bare = parse_duration("2").unwrap_err();
        assert_eq!(bare.to_string(), "\"2\" has no unit; s belongs here");
        for rubbish in ["", "W", "NaN W", "inf W", "1e999 W", "--3 W", "."] {
            assert!(
                matches!(parse_quantity(rubbish), Err(QuantityError::NotANumber(_))),
                "{rubbish}"
            );
        }
        assert!(parse_duration("-1 s").is_err());
    }
}
