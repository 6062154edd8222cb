//! What the boards were told last, and in which frame: so that one that comes back is told only
//! what it missed.
//!
//! Frames themselves are not kept. They carry ages as of their moment, and one that is repeated
//! later would make an old value young; what was missed is rendered anew. Bounded by the plan: one
//! number per machine.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use andon_engine::plan::MachineIndex;

/// More frames than this, and a whole picture is the smaller answer.
pub(super) const MISSED_MAX: usize = 64;

/// The `id` of a frame. It means nothing to whoever receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// By chance, so that an id of another run is never taken for one of this.
    run: u64,
    nth: u64,
}

impl FrameId {
    /// An id as it was sent; none when this is not one.
    pub fn parse(written: &str) -> Option<Self> {
        let (run, nth) = written.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let run = u64::from_str_radix(run, 16).ok().filter(|_| digits(run))?;
        let nth = nth.parse().ok().filter(|_| digits(nth))?;
        Some(Self { run, nth })
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.nth)
    }
}

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Machine(MachineIndex),
    Alarms,
    Gateway,
}

/// The last frame about each subject.
#[derive(Debug)]
pub(super) struct Told {
    last: FrameId,
    frames: Vec<(Subject, u64)>,
}

impl Told {
    /// Nothing told yet, of so many machines.
    pub(super) fn new(machines: usize) -> Self {
        let machines = (0..).map(MachineIndex).take(machines).map(Subject::Machine);
        let subjects = [Subject::Gateway, Subject::Alarms].into_iter().chain(machines);
        Self {
            last: FrameId { run: RandomState::new().hash_one(()), nth: 0 },
            frames: subjects.map(|subject| (subject, 0)).collect(),
        }
    }

    /// The last frame.
    pub(super) const fn last(&self) -> FrameId {
        self.last
    }

    /// Counts a frame, whether or not anybody receives it.
    pub(super) fn count(&mut self, subject: Subject) -> FrameId {
        self.last.nth += 1;
        let position = match subject {
            Subject::Gateway => 0,
            Subject::Alarms => 1,
            Subject::Machine(index) => 2 + usize::from(index.0),
        };
        if let Some((_, nth)) = self.frames.get_mut(position) {
            *nth = self.last.nth;
        }
        self.last
    }

    /// The subjects told of after `id`, each with its frame, in the order in which they were told:
    /// so whoever loses the line again in between misses nothing. None when nobody can say.
    pub(super) fn missed_since(&self, id: FrameId) -> Option<Vec<(Subject, FrameId)>> {
        if id.run != self.last.run || id.nth > self.last.nth {
            return None;
        }
        let later = self.frames.iter().filter(|(_, nth)| *nth > id.nth);
        let mut missed: Vec<_> =
            later.map(|&(subject, nth)| (subject, FrameId { nth, ..id })).collect();
        missed.sort_by_key(|(_, frame)| frame.nth);
        (missed.len() <= MISSED_MAX).then_some(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(told: &Told, id: FrameId) -> Option<Vec<Subject>> {
        let missed = told.missed_since(id)?;
        Some(missed.into_iter().map(|(subject, _)| subject).collect())
    }

    #[test]
    fn what_was_told_twice_is_missed_once_and_in_its_order() {
        let mut told = Told::new(2);
        let machine = |n| Subject::Machine(MachineIndex(n));
        let before = told.last();
        told.count(machine(1));
        let first = told.count(machine(0));
        told.count(Subject::Alarms);
        told.count(machine(1));
        let all = vec![machine(0), Subject::Alarms, machine(1)];
        assert_eq!(subjects(&told, before), Some(all));
        assert_eq!(subjects(&told, first), Some(vec![Subject::Alarms, machine(1)]));
        assert_eq!(subjects(&told, told.last()), Some(vec![]));
        // Lost again after the first of them: the others are still owed.
        let (_, again) = told.missed_since(before).unwrap()[0];
        assert_eq!(subjects(&told, again), Some(vec![Subject::Alarms, machine(1)]));
    }

    #[test]
    fn another_run_the_future_and_too_much_ask_for_a_picture() {
        let mut told = Told::new(MISSED_MAX + 1);
        let before = told.last();
        assert_eq!(told.missed_since(Told::new(1).last()), None);
        assert_eq!(told.missed_since(FrameId { nth: 1, ..before }), None);
        for n in 0..u16::try_from(MISSED_MAX).unwrap() {
            told.count(Subject::Machine(MachineIndex(n)));
        }
        assert_eq!(told.missed_since(before).map(|missed| missed.len()), Some(MISSED_MAX));
        told.count(Subject::Gateway);
        assert_eq!(told.missed_since(before), None);
    }

    #[test]
    fn only_what_was_sent_is_an_id() {
        let id = FrameId { run: 0xab, nth: 7 };
        assert_eq!(FrameId::parse(&id.to_string()), Some(id));
        for rubbish in ["", "7", "-", "ab-", "-7", "ab--7", "+b-7", "ab-+7", "xy-7", "ab-7-7"] {
            assert_eq!(FrameId::parse(rubbish), None, "{rubbish}");
        }
    }
}
