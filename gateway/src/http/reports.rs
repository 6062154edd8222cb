//! How often an item was reported with a value and without one, since the start. What was merged on
//! the way to the picture counts once. Bounded: one number per reason.

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable};

use crate::diagnostics::{Heard, LastFailure, millis};

/// The reports of one item. A shop has tens of thousands: what only those need that have failed
/// stands apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    values: u64,
    failures: Option<Box<Failures>>,
}

/// The reports without a value.
#[derive(Clone, Debug)]
struct Failures {
    /// By reason, in the order of [`Unavailable::ALL`].
    counts: [u32; Unavailable::ALL.len()],
    last: (BootTime, Unavailable),
}

impl Reports {
    pub(super) fn count(&mut self, at: BootTime, measured: &Measured) {
        let Err(why) = measured else {
            self.values += 1;
            return;
        };
        let nothing = || Box::new(Failures { counts: Default::default(), last: (at, *why) });
        let failures = self.failures.get_or_insert_with(nothing);
        failures.last = (at, *why);
        if let Some(count) = failures.counts.get_mut(usize::from(why.code()) - 1) {
            *count = count.saturating_add(1);
        }
    }

    /// The counts as of `now`; the value is somebody else's.
    pub(super) fn heard(&self, now: BootTime) -> Heard {
        let failures = self.failures.iter().flat_map(|failures| {
            let counts = Unavailable::ALL.into_iter().zip(failures.counts);
            counts.filter(|(_, count)| *count > 0)
        });
        let age = |at: BootTime| millis(now.since(at));
        let last = self.failures.as_ref().map(|failures| failures.last);
        Heard {
            values: self.values,
            failures: failures.map(|(why, count)| (why.word().into(), count.into())).collect(),
            last_failure: last.map(|(at, why)| LastFailure { why, age_ms: age(at) }),
            ..Heard::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::value::Value;

    use super::*;

    #[test]
    fn reports_are_counted_by_reason_and_the_last_failure_grows_old() {
        let at = |s: u64| BootTime::from_millis(s * 1000);
        let mut reports = Reports::default();
        assert_eq!(reports.heard(at(1)), Heard::default());
        reports.count(at(1), &Ok(Value::Number(5.0)));
        reports.count(at(2), &Err(Unavailable::Timeout));
        reports.count(at(3), &Err(Unavailable::Garbled));
        reports.count(at(4), &Err(Unavailable::Timeout));
        reports.count(at(5), &Ok(Value::Number(6.0)));
        let heard = reports.heard(at(9));
        assert_eq!(heard.values, 2);
        assert_eq!((heard.failures["timeout"], heard.failures["garbled"]), (2, 1));
        assert_eq!(
            heard.last_failure,
            Some(LastFailure { why: Unavailable::Timeout, age_ms: 5000 })
        );
    }
}
