//! Whether a unit is worth bus time: online → suspect → quarantined, with half-open probes.
//!
//! The bound: what a unit's failures cost is a debt that is paid off at a share of elapsed time,
//! and a unit in quarantine is probed only when its debt is paid down to [`MISSES_ALLOWED`] − 1
//! failures. A unit that does not answer at all pays at the bus's share (of [`DEAD_SHARE`], unless
//! configured), one that answers now and then at [`DEAD_SHARE_MAX`], because its answers are worth
//! something. So over any time *t* a dead unit wastes at most its share of *t*, and a slow or
//! flapping one 5 % of *t*, plus [`MISSES_ALLOWED`] failures. Pure: time comes in.

use std::time::Duration;

use andon_engine::time::BootTime;

/// Failures in a row before a unit is quarantined.
pub const MISSES_ALLOWED: u32 = 3;
/// What a dead unit may cost of the bus's time, unless configured.
pub const DEAD_SHARE: f64 = 0.02;
/// Most that may be configured.
pub const DEAD_SHARE_MAX: f64 = 0.05;
/// Least: below, a device that comes back is found after many minutes.
pub const DEAD_SHARE_MIN: f64 = 0.001;
/// Least pause before the first probe.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Probes are never farther apart than this, unless the share demands it: who switches a machine on
/// sees it within half a minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is believed of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It answered last time, or was never asked.
    Online,
    /// It missed this many requests in a row.
    Suspect {
        /// Fewer than [`MISSES_ALLOWED`].
        misses: u32,
    },
    /// It is left alone until a probe is due.
    Quarantined {
        /// When it may be asked once.
        until: BootTime,
    },
}

/// A unit's state with what its failures have cost.
#[derive(Clone, Debug)]
pub struct UnitHealth {
    state: UnitState,
    /// What its failures may cost while it is dead.
    share: f64,
    /// It has missed [`MISSES_ALLOWED`] requests in a row, or a probe, and answered none since.
    dead: bool,
    /// What its failures have cost since its last answer.
    silence: Duration,
    debt: Duration,
    debt_at: BootTime,
    pause: Duration,
}

impl UnitHealth {
    /// A unit that nothing is held against, whose failures may cost `share` of the time.
    pub const fn new(now: BootTime, share: f64) -> Self {
        Self {
            state: UnitState::Online,
            share: share.clamp(DEAD_SHARE_MIN, DEAD_SHARE_MAX),
            dead: false,
            silence: Duration::ZERO,
            debt: Duration::ZERO,
            debt_at: now,
            pause: Duration::ZERO,
        }
    }

    /// What is believed of it.
    pub const fn state(&self) -> UnitState {
        self.state
    }

    /// Whether it may be asked now.
    pub fn may_ask(&self, now: BootTime) -> bool {
        match self.state {
            UnitState::Online | UnitState::Suspect { .. } => true,
            UnitState::Quarantined { until } => now >= until,
        }
    }

    /// It answered, be it with an exception. Returns whether it had been in quarantine. The debt
    /// stays: a unit that answers every third time is bounded too.
    pub fn answered(&mut self) -> bool {
        let back = matches!(self.state, UnitState::Quarantined { .. });
        self.dead = false;
        self.silence = Duration::ZERO;
        self.state = UnitState::Online;
        if !back {
            self.pause = Duration::ZERO;
        }
        back
    }

    /// It did not answer, and that cost `cost` of bus time. Returns whether it is quarantined by
    /// this.
    pub fn missed(&mut self, now: BootTime, cost: Duration) -> bool {
        self.debt = self.debt_on(now).saturating_add(cost);
        self.debt_at = now;
        let misses = match self.state {
            UnitState::Online => 1,
            UnitState::Suspect { misses } => misses + 1,
            UnitState::Quarantined { .. } => MISSES_ALLOWED,
        };
        self.silence = self.silence.saturating_add(cost);
        if misses >= MISSES_ALLOWED && !self.dead {
            // What it paid off as one that answers now and then is owed again.
            self.dead = true;
            self.debt = self.debt.max(self.silence);
        }
        let before = self.state;
        let affordable = cost * (MISSES_ALLOWED - 1);
        if misses < MISSES_ALLOWED && self.debt <= affordable {
            self.state = UnitState::Suspect { misses };
            return false;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let repay = self.debt.saturating_sub(affordable).div_f64(self.rate());
        self.state = UnitState::Quarantined { until: now + self.pause.max(repay) };
        !matches!(before, UnitState::Quarantined { .. })
    }

    /// The share of time at which its debt is paid off.
    const fn rate(&self) -> f64 {
        if self.dead { self.share } else { DEAD_SHARE_MAX }
    }

    fn debt_on(&self, now: BootTime) -> Duration {
        self.debt.saturating_sub(now.since(self.debt_at).mul_f64(self.rate()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COST: Duration = Duration::from_millis(200);

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    #[test]
    fn three_misses_quarantine_and_an_answer_frees() {
        let mut unit = UnitHealth::new(at(0), DEAD_SHARE);
        assert!(!unit.missed(at(0), COST));
        assert_eq!(unit.state(), UnitState::Suspect { misses: 1 });
        assert!(!unit.missed(at(1000), COST));
        assert!(unit.missed(at(2000), COST));
        assert!(!unit.may_ask(at(2400)));
        assert!(unit.may_ask(at(60_000)));
        assert!(unit.answered());
        assert_eq!(unit.state(), UnitState::Online);
    }

    #[test]
    fn probes_grow_apart_up_to_half_a_minute() {
        let mut unit = UnitHealth::new(at(0), DEAD_SHARE);
        let cheap = Duration::from_millis(1);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            unit.missed(now, cheap);
            if let UnitState::Quarantined { until } = unit.state() {
                pauses.push(until.since(now).as_millis());
                now = until;
            }
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
    }

    proptest! {
        #[test]
        fn a_bad_unit_wastes_at_most_its_share(
            share in DEAD_SHARE_MIN..=DEAD_SHARE_MAX,
            cost in 1u64..1000,
            period in 50u64..5000,
            answers in prop::collection::vec(any::<bool>(), 1..8),
            dead in any::<bool>(),
        ) {
            let cost = Duration::from_millis(cost);
            let mut unit = UnitHealth::new(at(0), share);
            let mut wasted = Duration::ZERO;
            let mut now = 0;
            for turn in 0..4000usize {
                if unit.may_ask(at(now)) {
                    if !dead && answers[turn % answers.len()] {
                        unit.answered();
                    } else {
                        wasted += cost;
                        unit.missed(at(now), cost);
                        now += u64::try_from(cost.as_millis()).unwrap();
                    }
                }
                now += period;
                let share = if dead { share } else { DEAD_SHARE_MAX };
                let bound = Duration::from_millis(now).mul_f64(share) + cost * MISSES_ALLOWED;
                prop_assert!(wasted <= bound, "{wasted:?} of {now} ms");
            }
        }
    }
}
