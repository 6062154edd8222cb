//! The shortest decimal that names a 32-bit float, by arithmetic on doubles that are exact.
//!
//! The library's formatting knows every case and takes hundreds of times as long; meters deliver
//! floats by the thousand. Whatever is not plain here is `None`, and is formatted.

/// Powers of ten up to this are exact doubles.
const EXACT_POWER_MAX: i32 = 22;

/// `digits` / 10^`places`, both exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decimal {
    digits: f64,
    places: i32,
}

impl Decimal {
    /// The decimal of the fewest digits that is nearer to `number` than to any other single; of
    /// several, the nearest to it.
    pub(super) fn shortest(number: f32) -> Option<Self> {
        /// Below this a single has places behind the point, and what follows is exact: 24 bits
        /// times a power of five of 21 bits, and less than 2⁵³.
        const MAX: f32 = 8_388_608.0;
        const PLACES_MAX: i32 = 9;
        const MANTISSA: u32 = 0x007F_FFFF;
        // Zeroes, subnormals and powers of two have other neighbours.
        if !number.is_normal() || number.abs() >= MAX || number.to_bits() & MANTISSA == 0 {
            return None;
        }
        let exact = f64::from(number);
        let half_step = (f64::from(f32::from_bits(number.to_bits() + 1)) - exact).abs() / 2.0;
        let mut scale = 1.0;
        for places in 0..=PLACES_MAX {
            let scaled = exact * scale;
            let digits = scaled.round();
            let (off, most) = ((digits - scaled).abs(), half_step * scale);
            if off < most {
                // Between two decimals that are as good: formatting decides.
                return (off < 0.5).then_some(Self { digits, places });
            }
            // Half way between two singles.
            if off <= most {
                return None;
            }
            scale *= 10.0;
        }
        None
    }

    /// With its point moved right by `power` digits, as the nearest double.
    pub(super) fn moved(self, power: i32) -> Option<f64> {
        let shift = self.places.checked_sub(power)?;
        if shift.abs() > EXACT_POWER_MAX {
            return None;
        }
        // One operation on two exact doubles is rounded once, as reading the decimal is.
        let factor = (0..shift.abs()).fold(1.0, |factor, _| factor * 10.0);
        Some(if shift >= 0 { self.digits / factor } else { self.digits * factor })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the library's formatting and parsing make of it.
    fn formatted(number: f32, power: i32) -> f64 {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap();
        let exponent: i32 = exponent.parse().unwrap();
        format!("{digits}e{}", exponent + power).parse().unwrap()
    }

    fn agrees(number: f32, power: i32) {
        if let Some(moved) = Decimal::shortest(number).and_then(|short| short.moved(power)) {
            let expected = formatted(number, power);
            assert_eq!(moved.to_bits(), expected.to_bits(), "{number:e} by {power}: {moved}");
        }
    }

    #[test]
    fn what_meters_send_needs_no_formatting() {
        for (number, power, expected) in
            [(230.1, 0, 230.1), (342.72, 3, 342_720.0), (-0.886, 0, -0.886), (50.02, 0, 50.02)]
        {
            let moved = Decimal::shortest(number).and_then(|short| short.moved(power));
            assert_eq!(moved, Some(expected));
        }
    }

    proptest! {
        #[test]
        fn it_is_what_formatting_finds(bits: u32, power in -25..25i32) {
            let number = f32::from_bits(bits);
            if number.is_finite() {
                agrees(number, power);
            }
        }

        #[test]
        fn decimals_are_found_again(digits in -99_999_999..99_999_999i32, places in 0..9i32) {
            #[expect(clippy::cast_possible_truncation, reason = "a single is what is meant")]
            let number = (f64::from(digits) / 10f64.powi(places)) as f32;
            for power in [-3, 0, 3] {
                agrees(number, power);
            }
        }

        #[test]
        fn neighbours_of_powers_of_two_are_found_too(exponent in 100..150u32, off in -9..9i32) {
            let bits = (exponent << 23).wrapping_add_signed(off);
            agrees(f32::from_bits(bits), 0);
        }
    }
}
