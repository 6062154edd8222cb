//! Whether a unit is worth bus time: online → suspect → quarantined, with half-open probes.
//!
//! The bound: what a unit's failures cost is a debt that is paid off at a share of elapsed time,
//! and a unit in quarantine is probed only when its debt is paid down to [`MISSES_ALLOWED`] − 1
//! failures. A unit that does not answer at all pays at the bus's share (of [`DEAD_SHARE`], unless
//! configured), one that answers now and then at [`DEAD_SHARE_MAX`], because its answers are worth
//! something. So over any time *t* a dead unit wastes at most its share of *t*, and a flapping one
//! 5 % of *t*, plus [`MISSES_ALLOWED`] failures. A failure costs the wait, and the drain or the new
//! connection after it, and the waits of others while it holds their gateway. The answers of a unit
//! that is slower than the line is configured for take 5 % of *t* likewise: it is slow then, which is
//! not silent. Pure: time comes in.

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
/// One probe of so many waits longer, so that a device which is only slow is found. The others do
/// not, so that one which is switched on is found soon.
const PATIENT_EVERY: u32 = 16;
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
    /// It answers, so slowly that it is left alone in between.
    Slow {
        /// When it may be asked again.
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
    /// What its last failure has cost.
    failure: Duration,
    /// Probes that it missed since its last answer.
    probes: u32,
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
            failure: Duration::ZERO,
            probes: 0,
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
            UnitState::Quarantined { until } | UnitState::Slow { until } => now >= until,
        }
    }

    /// Whether it may be asked now, and will answer as far as anybody knows.
    pub fn answers(&self, now: BootTime) -> bool {
        matches!(self.state, UnitState::Online | UnitState::Slow { .. }) && self.may_ask(now)
    }

    /// Whether it is left alone until a probe, or its next turn, is due.
    pub const fn is_left_alone(&self) -> bool {
        matches!(self.state, UnitState::Quarantined { .. } | UnitState::Slow { .. })
    }

    /// Whether the probe that is due should wait for a slow device.
    pub const fn is_patient(&self) -> bool {
        self.is_left_alone() && self.probes % PATIENT_EVERY == PATIENT_EVERY - 1
    }

    /// It answered, be it with an exception. Returns whether it had been in quarantine. The debt
    /// stays: a unit that answers every third time is bounded too.
    pub fn answered(&mut self) -> bool {
        let back = matches!(self.state, UnitState::Quarantined { .. });
        self.lives();
        self.state = UnitState::Online;
        if !back {
            self.pause = Duration::ZERO;
        }
        back
    }

    /// It answered so slowly that its answers, too, are held against it: that cost `cost` of bus
    /// time. It is asked as often as one that answers now and then may fail. Returns whether it had
    /// been in quarantine.
    pub fn answered_slowly(&mut self, now: BootTime, cost: Duration) -> bool {
        let back = matches!(self.state, UnitState::Quarantined { .. });
        self.lives();
        self.owe(now, cost);
        self.failure = cost;
        let repay = self.repay();
        self.state = match repay.is_zero() {
            true => UnitState::Online,
            false => UnitState::Slow { until: now + repay },
        };
        back
    }

    fn lives(&mut self) {
        self.dead = false;
        self.silence = Duration::ZERO;
        self.probes = 0;
    }

    /// It did not answer, and that cost `cost` of bus time. Returns whether it is quarantined by
    /// this.
    pub fn missed(&mut self, now: BootTime, cost: Duration) -> bool {
        self.owe(now, cost);
        // A patient probe is dearer, which is no reason to allow for more.
        if !self.is_patient() {
            self.failure = cost;
        }
        let misses = match self.state {
            UnitState::Online => 1,
            UnitState::Suspect { misses } => misses + 1,
            UnitState::Quarantined { .. } | UnitState::Slow { .. } => {
                self.probes = self.probes.wrapping_add(1);
                MISSES_ALLOWED
            }
        };
        if misses >= MISSES_ALLOWED && !self.dead {
            // What it paid off as one that answers now and then is owed again.
            self.dead = true;
            self.debt = self.debt.max(self.silence);
        }
        let before = self.state;
        let repay = self.repay();
        if misses < MISSES_ALLOWED && repay.is_zero() {
            self.state = UnitState::Suspect { misses };
            return false;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.state = UnitState::Quarantined { until: now + self.pause.max(repay) };
        !matches!(before, UnitState::Quarantined { .. })
    }

    /// Its last failure has cost `cost` more than was known then.
    pub fn charge(&mut self, now: BootTime, cost: Duration) {
        self.owe(now, cost);
        self.failure = self.failure.saturating_add(cost);
        let repaid = now + self.repay();
        if let UnitState::Quarantined { until } | UnitState::Slow { until } = &mut self.state {
            *until = repaid.max(*until);
        }
    }

    fn owe(&mut self, now: BootTime, cost: Duration) {
        self.debt = self.debt_on(now).saturating_add(cost);
        self.debt_at = now;
        self.silence = self.silence.saturating_add(cost);
    }

    /// How long it takes until its debt is what may be owed.
    fn repay(&self) -> Duration {
        let affordable = self.failure * (MISSES_ALLOWED - 1);
        self.debt.saturating_sub(affordable).div_f64(self.rate())
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

    #[test]
    fn what_a_failure_costs_later_is_within_the_share_too() {
        let mut unit = UnitHealth::new(at(0), DEAD_SHARE);
        let (mut now, mut failures) = (0, 0);
        while now < 3_600_000 {
            if unit.may_ask(at(now)) {
                unit.missed(at(now), COST);
                unit.charge(at(now + 800), COST * 4);
                now += 1000;
                failures += 1;
            }
            now += 100;
        }
        let allowed = Duration::from_secs(3600).mul_f64(DEAD_SHARE);
        assert!(COST * 5 * failures <= allowed + COST * 5 * MISSES_ALLOWED, "{failures}");
        assert!(failures >= 60, "{failures}");
    }

    #[test]
    fn one_probe_of_sixteen_is_patient() {
        let mut unit = UnitHealth::new(at(0), DEAD_SHARE);
        let mut patient = Vec::new();
        for turn in 0..50 {
            patient.extend(unit.is_patient().then_some(turn));
            unit.missed(at(turn * 100_000), COST);
        }
        assert_eq!(patient, [18, 34]);
        unit.answered();
        assert!(!unit.is_patient());
    }

    #[test]
    fn slow_answers_take_five_percent_and_are_no_silence() {
        let cost = Duration::from_millis(1200);
        let mut unit = UnitHealth::new(at(0), DEAD_SHARE);
        let (mut now, mut answers) = (0, 0);
        while now < 3_600_000 {
            assert_eq!(unit.answers(at(now)), unit.may_ask(at(now)));
            if unit.may_ask(at(now)) {
                assert!(!unit.answered_slowly(at(now), cost), "it was never dead");
                answers += 1;
            }
            now += 100;
        }
        assert!(matches!(unit.state(), UnitState::Slow { .. }), "{:?}", unit.state());
        let taken = cost * answers;
        let allowed = Duration::from_secs(3600).mul_f64(DEAD_SHARE_MAX);
        assert!(taken <= allowed + cost * MISSES_ALLOWED && taken >= allowed, "{taken:?}");
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
