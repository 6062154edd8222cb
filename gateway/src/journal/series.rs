//! One series within one block: each value as a step from the one before it.
//!
//! Meters deliver decimals: 230.1 is 2301 tenths, and the next value is a few tenths away. A
//! number is therefore kept as the integer step at the series' decimal scale whenever that gives
//! back the very same bits, also for values that passed through a 32-bit float on their way
//! here; otherwise as its eight bytes. Nothing is ever rounded.
//!
//! On disk a value is a varint: even = a step (zigzag, shifted left once); odd = one of the
//! `KIND`s below, shifted left once, plus its own bytes. These numbers are frozen.

use std::sync::Arc;

use andon_engine::value::{Measured, Unavailable, Value};

use super::bytes::{Bytes, put_varint, zigzag};

const KIND_RAW: u64 = 0;
const KIND_RESCALE: u64 = 1;
const KIND_FALSE: u64 = 2;
const KIND_TRUE: u64 = 3;
const KIND_TEXT: u64 = 4;
const KIND_SAME_TEXT: u64 = 5;
/// Plus the code of the reason.
const KIND_UNAVAILABLE: u64 = 16;

const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Integers up to here are exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Marks, in the byte of a scale, values that are 32-bit floats.
const SINGLE: u8 = 0x80;

/// How integers stand for the numbers of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scale {
    exponent: u8,
    single: bool,
}

impl Scale {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|single| {
            (0..POWERS.len())
                .map(move |exponent| Self { exponent: u8::try_from(exponent).unwrap_or(0), single })
        })
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let exponent = byte & !SINGLE;
        (usize::from(exponent) < POWERS.len())
            .then_some(Self { exponent, single: byte & SINGLE != 0 })
    }

    pub(crate) const fn byte(self) -> u8 {
        self.exponent | if self.single { SINGLE } else { 0 }
    }

    /// Steps of one.
    pub(crate) const fn factor(self) -> f64 {
        POWERS[self.exponent as usize]
    }

    #[expect(clippy::cast_precision_loss, reason = "checked by comparing bits when written")]
    #[expect(clippy::cast_possible_truncation, reason = "a 32-bit float is what is meant")]
    pub(crate) fn number(self, steps: i64) -> f64 {
        let number = steps as f64 / POWERS[usize::from(self.exponent)];
        if self.single { f64::from(number as f32) } else { number }
    }

    /// The integer that stands for exactly this number, if there is one.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by EXACT_MAX just before")]
    pub(crate) fn steps(self, number: f64) -> Option<i64> {
        let scaled = (number * POWERS[usize::from(self.exponent)]).round();
        if scaled.abs() >= EXACT_MAX {
            return None;
        }
        let steps = scaled as i64;
        (self.number(steps).to_bits() == number.to_bits()).then_some(steps)
    }
}

/// What writer and reader both know of a series after the same values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    scale: Scale,
    steps: i64,
    /// Few series have texts, and a block has tens of thousands of series.
    text: Option<Box<Arc<str>>>,
}

impl Series {
    /// Appends a value.
    pub(crate) fn encode(&mut self, value: &Measured, out: &mut Vec<u8>) {
        match value {
            Ok(Value::Number(number)) => self.encode_number(*number, out),
            Ok(Value::Flag(flag)) => put_kind(out, if *flag { KIND_TRUE } else { KIND_FALSE }),
            Ok(Value::Text(text)) if self.text.as_deref() == Some(text) => {
                put_kind(out, KIND_SAME_TEXT);
            }
            Ok(Value::Text(text)) => {
                put_kind(out, KIND_TEXT);
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
                self.text = Some(Box::new(Arc::clone(text)));
            }
            Err(reason) => put_kind(out, KIND_UNAVAILABLE + u64::from(reason.code())),
        }
    }

    fn encode_number(&mut self, number: f64, out: &mut Vec<u8>) {
        if let Some(steps) = self.scale.steps(number) {
            put_varint(out, zigzag(steps - self.steps) << 1);
            self.steps = steps;
        } else if let Some((scale, steps)) =
            Scale::all().find_map(|scale| Some((scale, scale.steps(number)?)))
        {
            put_kind(out, KIND_RESCALE);
            out.push(scale.byte());
            put_varint(out, zigzag(steps));
            (self.scale, self.steps) = (scale, steps);
        } else if number.is_finite() {
            put_kind(out, KIND_RAW);
            out.extend_from_slice(&number.to_le_bytes());
        } else {
            // A Value::Number is finite by contract; should one not be, it is no value.
            put_kind(out, KIND_UNAVAILABLE + u64::from(Unavailable::Sentinel.code()));
        }
    }

    /// The next value; `None` when the bytes are not one.
    pub(crate) fn decode(&mut self, bytes: &mut Bytes<'_>) -> Option<Measured> {
        let code = bytes.varint()?;
        if code & 1 == 0 {
            self.steps = self.steps.wrapping_add(super::bytes::unzigzag(code >> 1));
            return Some(Ok(Value::Number(self.scale.number(self.steps))));
        }
        Some(Ok(match code >> 1 {
            KIND_RAW => {
                let number = f64::from_le_bytes(bytes.array()?);
                number.is_finite().then_some(Value::Number(number))?
            }
            KIND_RESCALE => {
                self.scale = Scale::from_byte(bytes.byte()?)?;
                self.steps = bytes.signed()?;
                Value::Number(self.scale.number(self.steps))
            }
            KIND_FALSE => Value::Flag(false),
            KIND_TRUE => Value::Flag(true),
            KIND_TEXT => {
                let length = bytes.length()?;
                let text: Arc<str> = std::str::from_utf8(bytes.take(length)?).ok()?.into();
                self.text = Some(Box::new(Arc::clone(&text)));
                Value::Text(text)
            }
            KIND_SAME_TEXT => Value::Text(Arc::clone(self.text.as_deref()?)),
            kind => {
                let code = u8::try_from(kind.checked_sub(KIND_UNAVAILABLE)?).ok()?;
                return Unavailable::from_code(code).map(Err);
            }
        }))
    }
}

fn put_kind(out: &mut Vec<u8>, kind: u64) {
    put_varint(out, kind << 1 | 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(values: &[Measured]) -> Vec<usize> {
        let (mut writer, mut reader) = (Series::default(), Series::default());
        values
            .iter()
            .map(|value| {
                let mut out = Vec::new();
                writer.encode(value, &mut out);
                assert_eq!(reader.decode(&mut Bytes(&out)).as_ref(), Some(value));
                out.len()
            })
            .collect()
    }

    fn number(value: f64) -> Measured {
        Ok(Value::Number(value))
    }

    #[test]
    fn steady_and_slowly_changing_decimals_take_a_byte() {
        assert_eq!(encoded(&[230.1, 230.1, 230.4, 229.9].map(number)), [4, 1, 1, 1]);
        let singles = [50.02f32, 50.01, 50.01, 49.98].map(|value| number(f64::from(value)));
        assert_eq!(encoded(&singles), [4, 1, 1, 1]);
    }

    #[test]
    fn what_is_no_number_takes_a_byte_and_awkward_numbers_nine() {
        let text = || Ok(Value::Text("jöb".into()));
        let values = [Ok(Value::Flag(true)), Err(Unavailable::Timeout), text(), text()];
        assert_eq!(encoded(&values), [1, 1, 6, 1]);
        assert_eq!(encoded(&[std::f64::consts::PI, -0.0, 1e300].map(number)), [9, 9, 9]);
    }

    proptest! {
        #[test]
        fn numbers_come_back_bit_by_bit(numbers: Vec<f64>, floats: Vec<f32>, cents: Vec<i32>) {
            let mut values = numbers;
            values.extend(floats.into_iter().map(f64::from));
            values.extend(cents.into_iter().map(|cents| f64::from(cents) / 100.0));
            let (mut writer, mut reader) = (Series::default(), Series::default());
            for value in values.into_iter().filter(|value| value.is_finite()) {
                let mut out = Vec::new();
                writer.encode(&number(value), &mut out);
                let back = reader.decode(&mut Bytes(&out)).unwrap().unwrap();
                prop_assert_eq!(back.as_number().unwrap().to_bits(), value.to_bits());
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_and_never_panic(bytes: Vec<u8>) {
            let mut series = Series::default();
            let mut bytes = Bytes(&bytes);
            while series.decode(&mut bytes).is_some() {}
        }
    }
}
