//! For tests only: what every device owes its owner, held against each step. What a device hears
//! in a test comes through `trial`, which ends here.

use std::sync::Arc;

use andon_engine::item::{Item, Kind};
use andon_engine::value::Value;

use crate::device::{Device, Outbox, Outgoing, REQUESTS_MAX, TEXT_BYTES_MAX};

/// Most that a device may send in one step.
const SENDS_MAX: usize = 64;

/// What must hold after every step, whatever was heard: it says only its own items, each as what
/// the list says it is, no number that is not finite and no text that is too long, and never
/// sends without bound.
pub(crate) fn check(device: &dyn Device, out: &Outbox) {
    assert!(out.sends.len() <= SENDS_MAX, "{} sends in a step", out.sends.len());
    let requests = out.sends.iter().filter(|send| matches!(send, Outgoing::Request(_)));
    assert!(requests.count() <= REQUESTS_MAX);
    for (name, measured) in &out.said {
        assert!(device.items().contains(name), "{name} is said but not an item of the device");
        let kind = Item::named(name).unwrap().kind;
        match (measured, kind) {
            (Err(_), _) | (Ok(Value::Flag(_)), Kind::Flag) => {}
            (Ok(Value::Number(number)), Kind::Gauge | Kind::Counter) => {
                assert!(number.is_finite(), "{name}");
            }
            (Ok(Value::Text(text)), Kind::Text) => assert!(text.len() <= TEXT_BYTES_MAX),
            (Ok(value), kind) => panic!("{name} is a {kind:?} and said as {value:?}"),
        }
    }
}

/// Every item is of the closed list and named once.
pub(crate) fn check_items(items: &[Arc<str>]) {
    for (at, item) in items.iter().enumerate() {
        assert!(Item::named(item).is_ok(), "{item}");
        assert!(!items[..at].contains(item), "{item} twice");
    }
}
