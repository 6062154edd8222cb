//! The present, as far as the past may be given up by it. Pure: every clock comes in.
//!
//! A clock may be wrong for a while, in either direction, also where the kernel or the
//! configuration says to believe it. Samples of such a while stand at its dates; but by age nothing
//! goes until the wall time of the running boot has stood for [`STANDS`] without a leap. A gateway
//! without a wall time gives up nothing. Until a leap is as old as that, the earlier one of
//! the two times is the present, so that nothing is thought to be over that may not be.

use std::time::Duration;

use andon_engine::time::BootTime;

/// How long the wall clock must have gone on like any clock before it is believed to give up by: a
/// person who sees a wrong date on the board has as long to set it right.
const STANDS: Duration = Duration::from_secs(3600);
/// Less is no leap, but drift that is being made up for.
const TOLERANCE_MS: u64 = 60_000;

/// What time it is, and what is to be thought of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Unix milliseconds, when this boot has a wall time.
    pub(super) wall_ms: Option<i64>,
    /// It has stood long enough.
    pub(super) stands: bool,
}

impl Present {
    /// The wall time that the past may be given up by.
    pub(super) fn believed_ms(self) -> Option<i64> {
        self.wall_ms.filter(|_| self.stands)
    }
}

/// Watches the wall clock of this boot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// Since when it has stood, the wall time of the boot's begin by it, and the earliest that it
    /// may be.
    stood: Option<(BootTime, i64, i64)>,
}

impl Watch {
    /// Takes a look at both clocks, best about once a second.
    pub(super) fn step(&mut self, now: BootTime, wall_ms: Option<i64>) -> Present {
        let up_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let Some(begin_ms) = wall_ms.map(|wall_ms| wall_ms.saturating_sub(up_ms)) else {
            // So it is until the anchor of a leap is written: what has stood is not forgotten for that.
            return Present::default();
        };
        let (since, earliest) = match self.stood {
            Some((since, before, earliest)) if before.abs_diff(begin_ms) <= TOLERANCE_MS => {
                (since, earliest)
            }
            Some((_, _, earliest)) => (now, earliest),
            None => (now, begin_ms),
        };
        let stands = now.since(since) >= STANDS;
        let earliest = if stands { begin_ms } else { earliest.min(begin_ms) };
        self.stood = Some((since, begin_ms, earliest));
        Present { wall_ms: Some(earliest.saturating_add(up_ms)), stands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_790_000_000_000;

    #[test]
    fn a_clock_is_believed_once_it_has_stood_for_an_hour_and_after_a_leap_only_then_again() {
        let mut watch = Watch::default();
        let mut at = |second: u64, ahead_ms: Option<i64>| {
            let wall = ahead_ms.map(|ahead| NOON + i64::try_from(second).unwrap() * 1000 + ahead);
            watch.step(BootTime::from_millis(second * 1000), wall).believed_ms().is_some()
        };
        // A boot that has been up for long has no wall time that has stood for long.
        assert!((50_000..60_000).all(|second| !at(second, None)));
        let believed: Vec<u64> = (60_000..90_000)
            .filter(|second| {
                let years = if (70_000..70_005).contains(second) { 10 } else { 0 };
                let drift = i64::try_from(*second).unwrap() / 20;
                // Each anchor is waited for.
                let known = ![65_000, 70_000, 70_005].contains(second);
                at(*second, known.then_some(years * 31_557_600_000 + drift))
            })
            .collect();
        let want: Vec<u64> = (63_600..65_000).chain(65_001..70_000).chain(73_606..90_000).collect();
        assert_eq!(believed, want);
        assert!(!at(90_000, Some(-86_400_000)), "backwards is a leap too");
        assert!(!at(90_001, None));
    }

    #[test]
    fn the_present_is_the_earlier_time_while_a_leap_is_young() {
        let mut watch = Watch::default();
        let mut ahead = |second: u64, ahead_ms: Option<i64>| {
            let wall = NOON + i64::try_from(second).unwrap() * 1000;
            let told = ahead_ms.map(|ahead_ms| wall + ahead_ms);
            let seen = watch.step(BootTime::from_millis(second * 1000), told);
            seen.wall_ms.map(|wall_ms| wall_ms - wall)
        };
        let year = Some(31_557_600_000);
        assert_eq!(ahead(1, Some(0)), Some(0));
        assert_eq!(ahead(2, None), None, "the anchor of the leap is not written yet");
        assert!((3..3603).all(|second| ahead(second, year) == Some(0)));
        assert_eq!(ahead(3603, year), year, "it stands");
        assert_eq!(ahead(3604, Some(5)), Some(5), "back is believed at once");
    }
}
