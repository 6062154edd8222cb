//! How often an item was reported with a value and without one, since the start. What was merged on
//! the way to the picture counts once. Bounded: one number per reason.

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable};

use crate::diagnostics::{Heard, LastFailure, millis};

/// The reports of one item.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    values: u64,
    /// At most one entry per reason.
    failures: Vec<(Unavailable, u64)>,
    last_failure: Option<(BootTime, Unavailable)>,
}

impl Reports {
    pub(super) fn count(&mut self, at: BootTime, measured: &Measured) {
        let Err(why) = measured else {
            self.values += 1;
            return;
        };
        self.last_failure = Some((at, *why));
        match self.failures.iter_mut().find(|(known, _)| known == why) {
            Some((_, count)) => *count += 1,
            None => self.failures.push((*why, 1)),
        }
    }

    /// The counts as of `now`; the value is somebody else's.
    pub(super) fn heard(&self, now: BootTime) -> Heard {
        let failures = self.failures.iter().map(|(why, count)| (why.word().into(), *count));
        let age = |at: BootTime| millis(now.since(at));
        Heard {
            values: self.values,
            failures: failures.collect(),
            last_failure: self.last_failure.map(|(at, why)| LastFailure { why, age_ms: age(at) }),
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
