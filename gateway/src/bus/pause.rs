//! Pauses between attempts to open something: doubling, capped, half chance. Pure.

use std::time::Duration;

/// First pause after a failed attempt.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Greatest pause between attempts on a network.
pub(super) const PAUSE_MAX_NET: Duration = Duration::from_secs(10);
/// Greatest pause between looks for a serial port's path: looking is cheap.
pub(super) const PAUSE_MAX_LOCAL: Duration = Duration::from_secs(2);

/// The pauses of one bus or device.
#[derive(Clone, Debug)]
pub(super) struct Pauses {
    longest: Duration,
    pause: Duration,
    jitter: u64,
}

impl Pauses {
    /// Pauses of the bus or device `id` up to `longest`; two ids do not keep in step.
    pub(super) fn new(id: &str, longest: Duration) -> Self {
        let jitter = id.bytes().fold(0x9E37_79B9_7F4A_7C15, |seed: u64, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self { longest, pause: Duration::ZERO, jitter: jitter | 1 }
    }

    /// The next attempt may follow at once again.
    pub(super) const fn reset(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// The pause before the next attempt: between half and all of the doubled one.
    pub(super) fn next(&mut self) -> Duration {
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, self.longest);
        // xorshift: half of the pause is certain, half is chance.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let half = self.pause / 2;
        half + half.mul_f64(f64::from((self.jitter >> 48) as u16) / f64::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::new("line", PAUSE_MAX_LOCAL);
        for expected in [250, 500, 1000, 2000, 2000] {
            let pause = pauses.next().as_millis();
            assert!((expected / 2..=expected).contains(&pause), "{pause} of {expected}");
        }
        pauses.reset();
        assert!(pauses.next() <= PAUSE_MIN);
        assert_ne!(Pauses::new("a", PAUSE_MAX_NET).next(), Pauses::new("b", PAUSE_MAX_NET).next());
    }
}
