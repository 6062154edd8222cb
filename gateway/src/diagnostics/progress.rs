//! What the engine's thread does, counted: a few relaxed additions per turn on its side, and a window
//! of the last seconds on the side of whoever asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use andon_engine::time::BootTime;

use super::Engine;

/// Rates are of so many seconds, one sample each.
const WINDOW: usize = 10;

/// Counters of the engine's thread.
#[derive(Debug, Default)]
pub struct Progress {
    readings: AtomicU64,
    turns: AtomicU64,
    busy_ns: AtomicU64,
    longest_ns: AtomicU64,
    window: Mutex<VecDeque<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: BootTime,
    readings: u64,
    turns: u64,
    busy_ns: u64,
}

impl Progress {
    /// The engine has been given `readings`.
    pub fn count(&self, readings: usize) {
        self.readings.fetch_add(readings as u64, Relaxed);
    }

    /// A turn of the engine's thread took so long.
    pub fn turned(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.turns.fetch_add(1, Relaxed);
        self.busy_ns.fetch_add(took, Relaxed);
        self.longest_ns.fetch_max(took, Relaxed);
    }

    /// To be called once a second: from its samples come the rates.
    pub fn sample(&self, now: BootTime) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.len() > WINDOW {
            window.pop_front();
        }
        window.push_back(self.at(now));
    }

    fn at(&self, at: BootTime) -> Sample {
        Sample {
            at,
            readings: self.readings.load(Relaxed),
            turns: self.turns.load(Relaxed),
            busy_ns: self.busy_ns.load(Relaxed),
        }
    }

    /// The counters and rates as of `now`; the queues are somebody else's.
    pub(super) fn engine(&self, now: BootTime) -> Engine {
        let newest = self.at(now);
        let mut engine = Engine {
            readings: newest.readings,
            turns: newest.turns,
            busy_ms: millis(newest.busy_ns),
            turn_longest_ms: millis(self.longest_ns.load(Relaxed)),
            ..Engine::default()
        };
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = window.front() else { return engine };
        let seconds = now.since(oldest.at).as_secs_f64();
        // Over less than a second chance would be told as a rate.
        if seconds >= 1.0 {
            let readings = newest.readings.saturating_sub(oldest.readings);
            engine.readings_per_second = Some(readings as f64 / seconds);
        }
        let turns = newest.turns.saturating_sub(oldest.turns);
        let busy_ns = newest.busy_ns.saturating_sub(oldest.busy_ns);
        engine.turn_mean_ms = (turns > 0).then(|| millis(busy_ns) / turns as f64);
        engine
    }
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    #[test]
    fn rates_are_of_the_last_ten_seconds_and_unknown_before_there_are_any() {
        let progress = Progress::default();
        progress.count(3);
        let first = progress.engine(s(0));
        assert_eq!(
            (first.readings, first.readings_per_second, first.turn_mean_ms),
            (3, None, None)
        );
        for second in 0..=60 {
            progress.sample(s(second));
            let count = if second < 30 { 100 } else { 5 };
            progress.count(count);
            progress.turned(Duration::from_micros(if second == 7 { 9000 } else { 400 }));
        }
        let last = progress.engine(s(61));
        // 11 samples back lies the second 50.
        assert_eq!(last.readings_per_second, Some(5.0));
        assert!((last.turn_mean_ms.unwrap() - 0.4).abs() < 1e-9);
        assert!((last.turn_longest_ms - 9.0).abs() < 1e-9);
        assert_eq!((last.turns, last.readings), (61, 3 + 30 * 100 + 31 * 5));
    }
}
