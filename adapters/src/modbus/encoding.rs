//! How a number lies in registers: its form, the order of its bytes and its scale.
//!
//! Decoding assembles the number from the value of each word; encoding permutes bytes. The two
//! share no code on purpose: each is the other's test.

use andon_engine::value::{Measured, Unavailable, Value};

use super::decimal::Decimal;

/// The form of a number or flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A coil or discrete input.
    Flag,
    /// One bit of a register, 0 = least significant.
    Bit(u8),
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, four registers.
    U64,
    /// Two's complement, four registers.
    I64,
    /// IEEE 754 single, two registers.
    F32,
    /// IEEE 754 double, four registers.
    F64,
    /// Two decimal digits per byte, as DL/T 645 meters have them; the words of an odd number of
    /// bytes begin with an empty one.
    Bcd {
        /// How many bytes; at most 8.
        bytes: u8,
        /// Whether the uppermost bit is a minus sign.
        signed: bool,
    },
}

impl Form {
    /// How many registers it takes; one for a coil or discrete input.
    pub const fn width(self) -> u16 {
        match self {
            Self::Flag | Self::Bit(_) | Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::Bcd { bytes, .. } => bytes.div_ceil(2) as u16,
        }
    }

    /// Whether it is on or off rather than a number.
    pub const fn is_flag(self) -> bool {
        matches!(self, Self::Flag | Self::Bit(_))
    }
}

/// The order of bytes in a number of several registers, named by where the bytes A (most
/// significant) to D of a 32-bit number arrive; 64-bit numbers likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Big-endian: most devices.
    #[default]
    Abcd,
    /// Low word first.
    Cdab,
    /// Bytes swapped in each word.
    Badc,
    /// Little-endian.
    Dcba,
}

impl Order {
    /// Its name in a profile.
    pub fn word(self) -> &'static str {
        let named = Self::ALL.into_iter().find(|(_, order)| *order == self);
        named.map_or("", |(word, _)| word)
    }

    /// Every order with its name in a profile.
    pub const ALL: [(&'static str, Self); 4] =
        [("ABCD", Self::Abcd), ("CDAB", Self::Cdab), ("BADC", Self::Badc), ("DCBA", Self::Dcba)];

    const fn low_word_first(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    const fn bytes_swapped(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }
}

/// Form and order together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// What kind of number.
    pub form: Form,
    /// Where its bytes are.
    pub order: Order,
}

impl Encoding {
    /// The bits of the number, most significant first, in the low end of the result. `None` when
    /// there are not exactly [`Form::width`] words.
    pub(crate) fn raw(self, words: &[u16]) -> Option<u64> {
        if words.len() != usize::from(self.form.width()) {
            return None;
        }
        let append = |raw: u64, &word: &u16| {
            let word = if self.order.bytes_swapped() { word.swap_bytes() } else { word };
            raw << 16 | u64::from(word)
        };
        Some(if self.order.low_word_first() {
            words.iter().rev().fold(0, append)
        } else {
            words.iter().fold(0, append)
        })
    }

    /// The value of `raw` in the canonical unit.
    #[expect(clippy::cast_possible_truncation, reason = "raw holds no more bits than the form")]
    #[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
    #[expect(clippy::cast_possible_wrap, reason = "two's complement")]
    pub(crate) fn value(self, raw: u64, scale: Scale) -> Measured {
        let number = match self.form {
            Form::Flag => return Ok(Value::Flag(raw != 0)),
            Form::Bit(bit) => return Ok(Value::Flag(raw >> bit & 1 == 1)),
            Form::U16 | Form::U32 | Form::U64 => scale.of_integer(raw as f64),
            Form::I16 => scale.of_integer(f64::from(raw as u16 as i16)),
            Form::I32 => scale.of_integer(f64::from(raw as u32 as i32)),
            Form::I64 => scale.of_integer(raw as i64 as f64),
            Form::F32 => scale.of_single(f32::from_bits(raw as u32)),
            Form::F64 => scale.of_double(f64::from_bits(raw)),
            Form::Bcd { bytes, signed } => scale.of_integer(decimal(raw, bytes, signed)?),
        };
        if number.is_finite() { Ok(Value::Number(number)) } else { Err(Unavailable::Sentinel) }
    }

    /// The words of a value in the canonical unit; saturates.
    #[expect(clippy::cast_possible_truncation, reason = "saturating float-to-integer casts")]
    #[expect(clippy::cast_sign_loss, reason = "saturating float-to-integer casts")]
    pub(crate) fn encode(self, scale: Scale, value: f64) -> Vec<u16> {
        let integer = || scale.undo(value).round();
        let big_endian: Vec<u8> = match self.form {
            Form::Flag => vec![0, u8::from(value != 0.0 && !value.is_nan())],
            Form::Bit(bit) => {
                let on = value != 0.0 && !value.is_nan();
                (u16::from(on) << bit).to_be_bytes().to_vec()
            }
            Form::U16 => (integer() as u16).to_be_bytes().to_vec(),
            Form::I16 => (integer() as i16).to_be_bytes().to_vec(),
            Form::U32 => (integer() as u32).to_be_bytes().to_vec(),
            Form::I32 => (integer() as i32).to_be_bytes().to_vec(),
            Form::U64 => (integer() as u64).to_be_bytes().to_vec(),
            Form::I64 => (integer() as i64).to_be_bytes().to_vec(),
            Form::F32 => scale.undo_single(value).to_be_bytes().to_vec(),
            Form::F64 => scale.undo(value).to_be_bytes().to_vec(),
            Form::Bcd { bytes, signed } => {
                return self.words_of(digits(integer(), bytes, signed));
            }
        };
        self.permuted(&big_endian)
    }

    /// The words of a bit pattern, as for a sentinel.
    pub(crate) fn words_of(self, raw: u64) -> Vec<u16> {
        let bytes = raw.to_be_bytes();
        self.permuted(&bytes[8 - 2 * usize::from(self.form.width())..])
    }

    fn permuted(self, big_endian: &[u8]) -> Vec<u16> {
        let last = big_endian.len() - 1;
        let from = |wire: usize| match self.order {
            Order::Abcd => wire,
            Order::Cdab => (last - wire) ^ 1,
            Order::Badc => wire ^ 1,
            Order::Dcba => last - wire,
        };
        (0..big_endian.len())
            .step_by(2)
            .map(|at| u16::from_be_bytes([big_endian[from(at)], big_endian[from(at + 1)]]))
            .collect()
    }
}

/// The number in `bytes` bytes of decimal digits. All bits set is "no value"; any other digit
/// above nine is no number.
fn decimal(raw: u64, bytes: u8, signed: bool) -> Result<f64, Unavailable> {
    let bits = 8 * u32::from(bytes.min(8));
    let all = u64::MAX >> (64 - bits);
    if raw == all {
        return Err(Unavailable::Sentinel);
    }
    let sign = if signed { 1 << (bits - 1) } else { 0 };
    let digits = raw & !sign;
    if digits > all {
        return Err(Unavailable::Garbled);
    }
    let mut number = 0.0;
    for at in (0..bits).step_by(4).rev() {
        let digit = (digits >> at & 0xF) as u8;
        if digit > 9 {
            return Err(Unavailable::Garbled);
        }
        number = number * 10.0 + f64::from(digit);
    }
    Ok(if raw & sign == 0 { number } else { -number })
}

/// The inverse of [`decimal`], by way of text. Saturates; NaN is "no value".
fn digits(number: f64, bytes: u8, signed: bool) -> u64 {
    let count = 2 * usize::from(bytes.min(8));
    let all = u64::MAX >> (64 - 4 * count);
    if number.is_nan() {
        return all;
    }
    // A sign takes the uppermost bit, so that the first digit is at most 7.
    let (first, sign) = if signed { ("7", 1 << (4 * count - 1)) } else { ("9", 0) };
    let most = format!("{first}{}", "9".repeat(count - 1));
    let text = format!("{:0count$.0}", number.abs());
    let text = if text.len() > count || text > most { most } else { text };
    let digits = u64::from_str_radix(&text, 16).unwrap_or(all);
    match number < 0.0 {
        true if signed => digits | sign,
        true => 0,
        false => digits,
    }
}

/// The factor from a device's number to the canonical unit, kept as a fraction: 0.1 is no binary
/// number, so a raw 305 times 0.1 is 30.500000000000004 while 305 divided by 10 is 30.5, which is
/// what the device's display says and what a ledger must say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    multiply: f64,
    divide: f64,
    /// The exponent, where the fraction is a power of ten that a double holds exactly.
    power: Option<i32>,
}

/// Powers of ten beyond this are no longer exact doubles.
const EXACT_POWER_MAX: i32 = 22;

impl Scale {
    /// The factor 1.
    pub const ONE: Self = Self { multiply: 1.0, divide: 1.0, power: Some(0) };

    /// The product of `factors` divided by `divisor`. Each factor below one that is the reciprocal
    /// of a whole number (0.1, 0.001) becomes a divisor. `None` when anything is zero, negative
    /// where it divides, or not finite.
    pub fn of(factors: &[f64], divisor: f64) -> Option<Self> {
        let (mut multiply, mut divide) = (1.0, divisor);
        for &factor in factors {
            let reciprocal = (1.0 / factor).round();
            if factor.abs() < 1.0 && (factor * reciprocal - 1.0).abs() < 1e-12 {
                divide *= reciprocal;
            } else {
                multiply *= factor;
            }
        }
        if multiply % divide == 0.0 {
            (multiply, divide) = (multiply / divide, 1.0);
        } else if divide % multiply == 0.0 {
            (multiply, divide) = (1.0, divide / multiply);
        }
        let usable = |x: f64| x.is_finite() && x != 0.0;
        let power = (-EXACT_POWER_MAX..=EXACT_POWER_MAX).find(|&power| {
            let ten = 10f64.powi(power.abs());
            if power < 0 {
                multiply == 1.0 && divide == ten
            } else {
                multiply == ten && divide == 1.0
            }
        });
        (usable(multiply) && usable(divide) && divisor > 0.0).then_some(Self {
            multiply,
            divide,
            power,
        })
    }

    /// This scale with its point moved by the exponent of a scale register. `None` for exponents
    /// that no device means.
    pub(crate) fn times_ten_to(self, exponent: i16) -> Option<Self> {
        /// SunSpec's scale factors are -10 to 10.
        const EXPONENT_MAX: u16 = 10;
        if exponent.unsigned_abs() > EXPONENT_MAX {
            return None;
        }
        let ten = 10f64.powi(i32::from(exponent).abs());
        if exponent < 0 {
            Self::of(&[self.multiply], self.divide * ten)
        } else {
            Self::of(&[self.multiply * ten], self.divide)
        }
    }

    /// The factor, rounded.
    pub fn factor(self) -> f64 {
        self.multiply / self.divide
    }

    fn of_integer(self, number: f64) -> f64 {
        number * self.multiply / self.divide
    }

    /// A single has about seven decimal digits. Widening 230.1 to a double shows digits that the
    /// device never sent, 230.10000610351562, and they would stay in every message, row and bill.
    /// The shortest decimal that names the same single is what the device meant, and multiplying
    /// it by a power of ten is moving its point: 342.72 kWh are 342720 Wh, not
    /// 342720.00000000006.
    fn of_single(self, number: f32) -> f64 {
        /// Whole numbers below this are the same in both widths.
        const WHOLE_MAX: f32 = 16_777_216.0;
        if number.fract() == 0.0 && number.abs() < WHOLE_MAX {
            return self.of_integer(f64::from(number));
        }
        if !number.is_finite() {
            return f64::NAN;
        }
        let moved = |power| match Decimal::shortest(number).and_then(|short| short.moved(power)) {
            Some(moved) => moved,
            None => moved_point(&format!("{number:e}"), power).unwrap_or(f64::NAN),
        };
        match self.power {
            Some(power) => moved(power),
            None => self.of_integer(moved(0)),
        }
    }

    fn of_double(self, number: f64) -> f64 {
        if !number.is_finite() {
            return f64::NAN;
        }
        match self.power {
            Some(0) => number,
            Some(power) => moved_point(&format!("{number:e}"), power).unwrap_or(f64::NAN),
            None => self.of_integer(number),
        }
    }

    fn undo(self, value: f64) -> f64 {
        match self.power {
            Some(0) => value,
            Some(power) if value.is_finite() => {
                moved_point(&format!("{value:e}"), -power).unwrap_or(f64::NAN)
            }
            _ => value * self.divide / self.multiply,
        }
    }

    fn undo_single(self, value: f64) -> f32 {
        match self.power {
            // Straight from the decimal: rounding first to a double and then to a single can end
            // one bit off.
            Some(power) if value.is_finite() => {
                moved_point(&format!("{value:e}"), -power).unwrap_or(f32::NAN)
            }
            #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
            _ => self.undo(value) as f32,
        }
    }
}

/// `number`, in the form `3.4272e2`, with its point moved right by `power` digits.
fn moved_point<T: std::str::FromStr>(number: &str, power: i32) -> Option<T> {
    let (digits, exponent) = number.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    format!("{digits}e{}", exponent + power).parse().ok()
}
