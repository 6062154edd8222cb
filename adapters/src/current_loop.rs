//! A 4–20 mA loop as a quantity. Outside what a transmitter sends while it works there is no
//! value: a broken wire, a short circuit or a failed sensor must not look like an empty tank
//! (NAMUR NE 43: 3.8 to 20.5 mA is a measurement, below 3.6 and above 21 mA a failure).

use andon_engine::value::{Measured, Unavailable, Value};

/// Least current that is a measurement, in A.
pub const LEAST: f64 = 0.0038;
/// Greatest current that is a measurement, in A.
pub const GREATEST: f64 = 0.0205;

/// What the ends of a loop mean, in the canonical unit of the quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// At 4 mA.
    pub at_4ma: f64,
    /// At 20 mA; may be less than at 4 mA.
    pub at_20ma: f64,
}

impl Span {
    /// The quantity that a current stands for.
    ///
    /// # Errors
    /// [`Unavailable::OutOfRange`] outside 3.8 to 20.5 mA; the current's own reason when it has
    /// no value.
    pub fn quantity(self, current: &Measured) -> Measured {
        let Value::Number(amperes) = current.clone()? else { return Err(Unavailable::Garbled) };
        if !(LEAST..=GREATEST).contains(&amperes) {
            return Err(Unavailable::OutOfRange);
        }
        let share = (amperes * 1000.0 - 4.0) / 16.0;
        let quantity = self.at_4ma + share * (self.at_20ma - self.at_4ma);
        if quantity.is_finite() {
            Ok(Value::Number(quantity))
        } else {
            Err(Unavailable::OutOfRange)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAR: Span = Span { at_4ma: 0.0, at_20ma: 10e5 };

    fn at(milliamperes: f64) -> Measured {
        BAR.quantity(&Ok(Value::Number(milliamperes / 1000.0)))
    }

    #[test]
    fn the_ends_and_the_middle_are_what_the_transmitter_says() {
        assert_eq!(at(4.0), Ok(Value::Number(0.0)));
        assert_eq!(at(20.0), Ok(Value::Number(10e5)));
        assert_eq!(at(12.0), Ok(Value::Number(5e5)));
        let falling = Span { at_4ma: 100.0, at_20ma: 0.0 };
        assert_eq!(falling.quantity(&Ok(Value::Number(0.008))), Ok(Value::Number(75.0)));
    }

    #[test]
    fn a_broken_loop_is_no_value() {
        for broken in [0.0, 3.5, 3.79, 20.51, 22.0, -4.0] {
            assert_eq!(at(broken), Err(Unavailable::OutOfRange), "{broken}");
        }
        assert!(at(3.8).is_ok() && at(20.5).is_ok());
        assert_eq!(BAR.quantity(&Err(Unavailable::Timeout)), Err(Unavailable::Timeout));
    }
}
