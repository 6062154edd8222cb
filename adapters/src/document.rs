//! JSON documents as devices send them: read leniently, bounded, without a guess. A number may
//! come as a number or as a text that is one; anything else is no number.

use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use crate::device::BODY_BYTES_MAX;

/// Reads a document; `None` when it is no JSON or larger than [`BODY_BYTES_MAX`].
pub(crate) fn parse(payload: &[u8]) -> Option<Value> {
    (payload.len() <= BODY_BYTES_MAX).then(|| serde_json::from_slice(payload).ok()).flatten()
}

/// The finite number that a value is, or is the text of.
pub(crate) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// The number of a field times `factor`, into the item's unit: `null` is the device's own "no
/// value", anything else that is no number is garbled.
pub(crate) fn measured(value: &Value, factor: f64) -> Measured {
    if value.is_null() {
        return Err(Unavailable::Sentinel);
    }
    let number = number(value).map(|number| number * factor);
    number.filter(|n| n.is_finite()).map(Said::Number).ok_or(Unavailable::Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_numbers_or_their_text_and_nothing_else() {
        let document =
            parse(br#"{"a":1.5,"b":" 2 ","c":null,"d":[1],"e":"NaN","f":true}"#).unwrap();
        assert_eq!(measured(&document["a"], 2.0), Ok(Said::Number(3.0)));
        assert_eq!(measured(&document["b"], 1.0), Ok(Said::Number(2.0)));
        assert_eq!(measured(&document["c"], 1.0), Err(Unavailable::Sentinel));
        for garbled in ["d", "e", "f"] {
            assert_eq!(measured(&document[garbled], 1.0), Err(Unavailable::Garbled), "{garbled}");
        }
        assert_eq!(measured(&document["a"], f64::MAX * 2.0), Err(Unavailable::Garbled));
    }

    #[test]
    fn what_is_too_long_or_nested_too_deep_is_no_document() {
        assert!(parse(&vec![b' '; BODY_BYTES_MAX + 1]).is_none());
        assert!(parse("[".repeat(100_000).as_bytes()).is_none());
    }
}
