//! Days whose merge failed, and when each is tried again: neither the hours that are to be written
//! nor other days wait for them. Pure: time is counted in looks, each about a second.
//!
//! A day that fails is left alone for a minute, then for twice as long each time, up to an hour. When
//! one after another fails (a full disk), the pause before any is tried doubles too, up to a minute.

use std::collections::HashMap;

use super::keeper::{GROUP_SERIES, SERIES_MAX};
use super::merge::Pending;

/// Looks before a day is tried again: doubled from the first up to the longest.
const PAUSES: [u64; 2] = [60, 3600];
/// Looks before any day is tried, after failures in a row, at most.
const HOLD_MAX: u64 = 60;
/// Tries after which a day is not waited for when its samples are to be given up: an hour or so.
const TRIES_MAX: u32 = 6;
/// Days that are remembered: one of every group. No other is tried beyond.
const DAYS_MAX: usize = SERIES_MAX / GROUP_SERIES as usize;

#[derive(Debug)]
struct Waiting {
    tries: u32,
    again: u64,
}

/// The days that could not be merged.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    days: HashMap<Pending, Waiting>,
    looks: u64,
    /// Failures since the last day that could be merged, and until when nothing is tried.
    failures: u32,
    hold: u64,
}

impl Postponed {
    /// Takes note of a look; says whether anything may be tried.
    pub(super) fn look(&mut self) -> bool {
        self.looks += 1;
        self.hold <= self.looks
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.days.len()
    }

    /// Whether a day may be tried now.
    pub(super) fn allows(&self, day: Pending) -> bool {
        match self.days.get(&day) {
            Some(waiting) => waiting.again <= self.looks,
            None => self.days.len() < DAYS_MAX,
        }
    }

    /// Whether a day was tried so often that its samples may go without its roll-up, or never will
    /// be because so many others fail.
    pub(super) fn is_hopeless(&self, day: Pending) -> bool {
        let full = self.days.len() >= DAYS_MAX;
        self.days.get(&day).map_or(full, |waiting| waiting.tries >= TRIES_MAX)
    }

    /// A day could not be merged.
    pub(super) fn failed(&mut self, day: Pending) {
        self.hold = self.looks + (1 << self.failures.min(16)).min(HOLD_MAX);
        self.failures += 1;
        let waiting = self.days.entry(day).or_insert(Waiting { tries: 0, again: 0 });
        let pause = PAUSES[0] << waiting.tries.min(16);
        waiting.tries += 1;
        waiting.again = self.looks + pause.min(PAUSES[1]);
    }

    /// A day was merged.
    pub(super) fn merged(&mut self, day: Pending) {
        self.days.remove(&day);
        (self.failures, self.hold) = (0, 0);
    }

    /// The samples of a day were given up.
    pub(super) fn given_up(&mut self, day: i64) {
        self.days.retain(|pending, _| pending.day != day);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Pending = Pending { group: 3, day: 20_000 };

    #[test]
    fn a_day_that_always_fails_is_tried_less_and_less_but_every_hour() {
        let mut postponed = Postponed::default();
        let mut tried = Vec::new();
        for look in 1..=20_000_u64 {
            if postponed.look() && postponed.allows(DAY) {
                postponed.failed(DAY);
                tried.push(look);
            }
        }
        let pauses: Vec<u64> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        assert!(postponed.is_hopeless(DAY));
        postponed.merged(DAY);
        assert_eq!((postponed.count(), postponed.allows(DAY)), (0, true));
    }

    #[test]
    fn a_disk_that_refuses_every_day_is_asked_once_a_minute_and_not_for_ever_new_ones() {
        let mut postponed = Postponed::default();
        let mut tried = Vec::new();
        let days = (0..).map(|day| Pending { group: 0, day });
        let looks = 10 * 60;
        for day in days.take(looks) {
            if postponed.look() && postponed.allows(day) {
                postponed.failed(day);
                tried.push(postponed.looks);
            }
        }
        assert!((10..20).contains(&tried.len()), "{tried:?}");
        for day in (0..).map(|day| Pending { group: 1, day }).take(2 * DAYS_MAX) {
            if postponed.allows(day) {
                postponed.failed(day);
            }
        }
        assert_eq!(postponed.count(), DAYS_MAX);
    }
}
