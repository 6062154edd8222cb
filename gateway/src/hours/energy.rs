//! Energy of a window: differences of a register's readings inside it, over restarts too.
//!
//! What must never happen here: interpolation, or a difference that no machine can have used.

use std::time::Duration;

use andon_engine::normalize::may_have_counted;

use super::{Energy, Reading, Track, Wall, Window};

/// Readings of a register inside the window, and what lies between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metered {
    /// Watt-hours; `None` while no two readings can be compared.
    wh: Option<f64>,
    first: Reading,
    last: Reading,
}

impl Metered {
    /// Of one run.
    pub(super) fn of(track: &Track, wall: &Wall, window: Window) -> Option<Self> {
        let inside = track.registers.iter().filter_map(|register| {
            let at_ms = wall.wall_ms(register.at);
            let inside = (window.from_ms..=window.to_ms).contains(&at_ms);
            inside.then_some(Reading { at_ms, wh: register.wh, epoch: register.epoch })
        });
        let single = |reading| Self { wh: None, first: reading, last: reading };
        let joined = |earlier: Self, later: Self| {
            // The engine has judged the steps between readings of its own run.
            let same = earlier.last.epoch == later.first.epoch;
            earlier.joined(later, same.then(|| (later.first.wh - earlier.last.wh).max(0.0)))
        };
        inside.map(single).reduce(joined)
    }

    /// This run and the one after it: a register that can have counted from here to there while
    /// nobody looked did so.
    pub(super) fn then(self, later: Self) -> Self {
        let (from, to) = (self.last, later.first);
        let elapsed_ms = u64::try_from(to.at_ms.saturating_sub(from.at_ms)).unwrap_or(0);
        let counted = from.epoch == to.epoch
            && may_have_counted(from.wh, to.wh, Duration::from_millis(elapsed_ms));
        self.joined(later, counted.then(|| (to.wh - from.wh).max(0.0)))
    }

    fn joined(self, later: Self, between: Option<f64>) -> Self {
        let parts = [self.wh, between, later.wh];
        let known = parts.iter().any(Option::is_some);
        let wh = known.then(|| parts.into_iter().flatten().sum());
        Self { wh, first: self.first, last: later.last }
    }

    pub(super) fn energy(&self) -> Option<Energy> {
        self.wh.map(|wh| Energy { wh, first: self.first, last: self.last })
    }
}
