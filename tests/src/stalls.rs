//! How long the computer stood still while a test ran: what a bound in wall time has to allow for.
//!
//! A thread sleeps a little at a time and notes by how much it overslept. A virtual machine that is
//! not run, or a processor that nobody gets, keeps it asleep like the programs of the test. It knows
//! nothing of one program that is slow by itself: on a quiet machine such a bound is as sharp as the
//! bare number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the thread sleeps at a time; shorter stalls than this fail no test.
const NAP: Duration = Duration::from_millis(10);

/// Watches from its start until it is dropped.
#[derive(Debug)]
pub struct StallWatch(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    awake: Instant,
    longest: Duration,
}

impl Seen {
    /// The longest stall, one that is just going on included.
    fn longest(&self) -> Duration {
        self.longest.max(self.awake.elapsed().saturating_sub(NAP))
    }
}

impl StallWatch {
    /// Begins to watch.
    pub fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen { awake: Instant::now(), longest: Duration::ZERO }));
        let watched = Arc::downgrade(&seen);
        std::thread::spawn(move || {
            while let Some(seen) = watched.upgrade() {
                let mut now = lock(&seen);
                now.longest = now.longest();
                now.awake = Instant::now();
                drop(now);
                drop(seen);
                std::thread::sleep(NAP);
            }
        });
        Self(seen)
    }

    /// The longest that the computer has stood still since the start.
    pub fn longest(&self) -> Duration {
        lock(&self.0).longest()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_seen_while_it_lasts_and_remembered_afterwards() {
        const STALL: Duration = Duration::from_millis(300);
        let watch = StallWatch::start();
        // The thread cannot go on, as if it were not run.
        let held = lock(&watch.0);
        std::thread::sleep(STALL);
        assert!(held.longest() >= STALL - 2 * NAP, "{held:?}");
        drop(held);
        std::thread::sleep(2 * NAP);
        assert!(watch.longest() >= STALL - 2 * NAP, "{watch:?}");
    }
}
