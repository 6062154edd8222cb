//! A segment that cannot be read: whether that is its own fault, when it is tried again, and when it
//! is given up. Time comes in, but for [`patiently`], which waits where nobody else would.
//!
//! What the system lacks for a moment (a descriptor, memory) says nothing about a segment, so it is
//! tried again for as long as that lasts. Whatever else is wrong is tried some times, over seconds,
//! in which a disk that was plugged out comes back; then what lies behind it matters more.

use std::io;
use std::time::Duration;

use andon_engine::time::BootTime;
use rustix::io::Errno;

/// Pauses between tries: doubled from the first up to the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Tries of a segment whose own fault it is: eleven seconds with their pauses.
const TRIES_MAX: u32 = 8;
/// Tries where somebody waits for the answer: a second and a half with their pauses.
const PATIENT_TRIES: u32 = 5;

/// Whether it is the system that lacks something, and not the file that cannot be read.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let lacking =
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}

/// A segment that could not be read, and when it is tried again.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Failures in a row that were the segment's own.
    tries: u32,
    pause: Duration,
    /// Before this moment it is left alone.
    pub(super) again: BootTime,
    /// What is told while it lasts.
    pub(super) told: String,
}

impl Refusal {
    /// After the first failure, or one more than `before`.
    pub(super) fn after(before: Option<Self>, error: &io::Error, now: BootTime) -> Self {
        let (tries, pause) = before.map_or((0, PAUSES[0]), |it| (it.tries, it.pause));
        Self {
            tries: tries + u32::from(!is_passing(error)),
            pause: (pause * 2).min(PAUSES[1]),
            again: now + pause,
            told: String::new(),
        }
    }

    /// Whether it was tried often enough to go on without it.
    pub(super) const fn is_final(&self) -> bool {
        self.tries >= TRIES_MAX
    }
}

/// Does what may fail for want of something that another gives back in a moment; waits for that
/// between tries, and returns the last failure when it takes too long.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = PAUSES[0];
    for _ in 1..PATIENT_TRIES {
        match attempt() {
            Err(error) if is_passing(&error) => std::thread::sleep(pause),
            done => return done,
        }
        pause *= 2;
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tries it takes to give up, and how long those last.
    fn tried(error: Errno) -> Option<(u32, Duration)> {
        let (mut refusal, mut now) = (None, BootTime(0));
        for tries in 1..=1000 {
            let next = Refusal::after(refusal, &error.into(), now);
            assert!(next.again.since(now) >= PAUSES[0] && next.again.since(now) <= PAUSES[1]);
            if next.is_final() {
                return Some((tries, now.since(BootTime(0))));
            }
            now = next.again;
            refusal = Some(next);
        }
        None
    }

    #[test]
    fn what_the_system_lacks_gives_up_no_segment_and_what_is_broken_does_after_some_seconds() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN] {
            assert_eq!(tried(error), None, "{error}");
        }
        for error in [Errno::IO, Errno::ACCESS, Errno::ISDIR, Errno::NOTDIR, Errno::STALE] {
            let (tries, lasted) = tried(error).unwrap();
            assert_eq!(tries, TRIES_MAX, "{error}");
            assert!((5..20).contains(&lasted.as_secs()), "{error}: {lasted:?}");
        }
    }

    #[test]
    fn a_moment_without_descriptors_is_waited_for_and_a_broken_file_is_not() {
        let tried = |results: &[Result<u32, Errno>]| {
            let mut results = results.iter();
            let tried = patiently(|| results.next().unwrap().map_err(io::Error::from));
            (tried.ok(), results.len())
        };
        assert_eq!(tried(&[Err(Errno::MFILE), Err(Errno::INTR), Ok(7), Ok(8)]), (Some(7), 1));
        assert_eq!(tried(&[Err(Errno::IO), Ok(7)]), (None, 1));
        assert_eq!(tried(&[Err(Errno::NOMEM); 5]), (None, 0));
    }
}
