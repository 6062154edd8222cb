//! Values of a device that reports only what changes: each stands until its device is absent or
//! until it has stood for longer than may be believed.
//!
//! Silence is neither a change nor a low value. A value is said again at every period only while
//! something else confirms that the device is there; that something is the caller's to know.
//! Bound: one value per item.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable};

use crate::device::Outbox;

/// The last values.
#[derive(Debug, Default)]
pub(crate) struct Held {
    values: Vec<(Arc<str>, Measured, BootTime)>,
}

impl Held {
    /// Says a value, just heard, and keeps it.
    pub(crate) fn hear(
        &mut self,
        now: BootTime,
        item: &Arc<str>,
        measured: Measured,
        out: &mut Outbox,
    ) {
        out.said.push((item.clone(), measured.clone()));
        match self.values.iter_mut().find(|(known, ..)| known == item) {
            Some(held) => *held = (item.clone(), measured, now),
            None => self.values.push((item.clone(), measured, now)),
        }
    }

    /// The device is there and was silent: its values still stand, those that are older than
    /// `longest` no more. Returns how many have gone stale by that.
    pub(crate) fn say_again(
        &mut self,
        now: BootTime,
        longest: Duration,
        out: &mut Outbox,
    ) -> usize {
        let mut stale = 0;
        for (item, measured, since) in &mut self.values {
            if now.since(*since) > longest {
                *measured = Err(Unavailable::Stale);
                stale += 1;
            }
            out.said.push((item.clone(), measured.clone()));
        }
        stale
    }

    /// Nothing is known any more.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Value;

    use super::*;

    #[test]
    fn a_value_stands_as_long_as_it_may_and_then_is_stale() {
        let (mut held, item) = (Held::default(), Arc::from("power.active"));
        let (hold, value) = (Duration::from_secs(60), Ok(Value::Number(7.0)));
        held.hear(BootTime(0), &item, value.clone(), &mut Outbox::default());
        for (at, expected, stale) in [(60, value, 0), (61, Err(Unavailable::Stale), 1)] {
            let mut out = Outbox::default();
            let now = BootTime::from_millis(at * 1000);
            assert_eq!(held.say_again(now, hold, &mut out), stale);
            assert_eq!(out.said, [(item.clone(), expected)]);
        }
    }
}
