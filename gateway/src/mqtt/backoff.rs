//! Pauses between attempts: doubling, capped, and jittered, so that a hall full of gateways does
//! not return to a restarted broker in the same instant.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// First pause.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// The pauses between attempts that fail.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: RandomState,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, random: RandomState::new() }
    }

    /// The pause before the next attempt: between half and all of the doubled one.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let share = self.random.hash_one(self.failures) % 1024;
        let half = doubled / 2;
        half + half.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 1024.0)
    }

    /// An attempt succeeded: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.random = RandomState::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!((expected / 2.0..=expected).contains(&pause), "{pause} of {expected}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
        let others = (0..20).map(|_| Backoff::default().pause());
        let distinct: std::collections::BTreeSet<_> = others.collect();
        assert!(distinct.len() > 10, "gateways do not return together");
    }
}
