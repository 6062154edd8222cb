//! The samples of one series, side by side: when, what it was, why it was not.
//!
//! Nothing here knows a file or a scale. A number is any finite double; NaN and infinities are no
//! values and become [`Unavailable::Sentinel`], as everywhere in andon.

use std::sync::Arc;

use andon_engine::value::{Measured, Unavailable, Value};

/// What a sample is: `NUMBER`, `FLAG` or `TEXT`, or this much above the code of a reason.
pub(super) type Mark = u8;

/// A number.
pub(super) const NUMBER: Mark = 0;
/// On or off, as 1 or 0.
pub(super) const FLAG: Mark = 1;
/// A text, by its place among those of its series.
pub(super) const TEXT: Mark = 2;
/// Plus the code of the reason.
pub(super) const UNAVAILABLE: Mark = 16;

/// Samples of one series, in order of their time once [`Samples::sort`] was called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    /// Unix milliseconds.
    pub(super) times: Vec<i64>,
    pub(super) marks: Vec<Mark>,
    /// The number; 1 or 0; the place of a text; 0 where there is none.
    pub(super) numbers: Vec<f64>,
    pub(super) texts: Vec<Arc<str>>,
}

impl Samples {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Appends a sample.
    pub(super) fn push(&mut self, at_ms: i64, measured: &Measured) {
        let (mark, number) = match measured {
            Ok(Value::Number(number)) if number.is_finite() => (NUMBER, *number),
            Ok(Value::Number(_)) => (UNAVAILABLE + Unavailable::Sentinel.code(), 0.0),
            Ok(Value::Flag(flag)) => (FLAG, f64::from(u8::from(*flag))),
            Ok(Value::Text(text)) => (TEXT, f64::from(self.text(text))),
            Err(reason) => (UNAVAILABLE + reason.code(), 0.0),
        };
        self.times.push(at_ms);
        self.marks.push(mark);
        self.numbers.push(number);
    }

    /// The place of a text, which may be new. Texts of a series are few: states and file names.
    fn text(&mut self, text: &Arc<str>) -> u32 {
        let known = self.texts.iter().rposition(|known| known == text);
        let place = known.unwrap_or_else(|| {
            self.texts.push(Arc::clone(text));
            self.texts.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// The sample at a place; `None` when it stands for nothing known.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
    pub(super) fn get(&self, place: usize) -> Option<(i64, Measured)> {
        let (at, mark) = (*self.times.get(place)?, *self.marks.get(place)?);
        let number = *self.numbers.get(place)?;
        let measured = match mark {
            NUMBER => Ok(Value::Number(number)),
            FLAG => Ok(Value::Flag(number != 0.0)),
            TEXT => Ok(Value::Text(self.texts.get(number as usize)?.clone())),
            reason => Err(Unavailable::from_code(reason.checked_sub(UNAVAILABLE)?)?),
        };
        Some((at, measured))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, Measured)> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// The number at a place, a flag's being 1 or 0; `None` where there is none.
    pub(super) fn number(&self, place: usize) -> Option<f64> {
        matches!(self.marks[place], NUMBER | FLAG).then(|| self.numbers[place])
    }

    /// Appends all of another's.
    pub(super) fn append(&mut self, other: &Self) {
        let places: Vec<f64> = other.texts.iter().map(|text| f64::from(self.text(text))).collect();
        self.times.extend_from_slice(&other.times);
        self.marks.extend_from_slice(&other.marks);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        self.numbers.extend(other.marks.iter().zip(&other.numbers).map(|(mark, number)| {
            if *mark == TEXT {
                places.get(*number as usize).copied().unwrap_or(0.0)
            } else {
                *number
            }
        }));
    }

    /// Puts them in the order of their time; those of one moment stay as they came.
    pub(super) fn sort(&mut self) {
        if self.times.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|place| self.times[*place]);
        self.times = order.iter().map(|place| self.times[*place]).collect();
        self.marks = order.iter().map(|place| self.marks[*place]).collect();
        self.numbers = order.iter().map(|place| self.numbers[*place]).collect();
    }

    /// Forgets all but those at some places.
    pub(super) fn keep(&mut self, places: std::ops::Range<usize>) {
        if places == (0..self.len()) {
            return;
        }
        self.times = self.times[places.clone()].to_vec();
        self.marks = self.marks[places.clone()].to_vec();
        self.numbers = self.numbers[places].to_vec();
    }
}
