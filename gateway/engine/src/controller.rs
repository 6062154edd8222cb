//! What a machine's own controller says it does, as a signal: words of the table of executions,
//! believed at once, but for the end of a run.
//!
//! A controller that is between two lines of a job says "idle": a dwell, a spindle that spins up, a
//! slow sender. So leaving run for idle is believed once it has held for `exit_for`, and is then
//! stamped at its first crossing; a job that goes on within that time was never interrupted.
//! Faults, stops and off are believed at once.

use std::time::Duration;

use crate::event::{Activity, Execution};
use crate::plan::ItemIndex;
use crate::time::BootTime;
use crate::value::{Measured, Unavailable, Value};

/// A believed change of what a controller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) execution: Execution,
    pub(crate) at: BootTime,
    pub(crate) why: Option<Unavailable>,
    /// Time in which it said run, from the beginning up to `at`.
    pub(crate) raw_run: Duration,
}

/// Follows the item `execution` of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    pub(crate) item: ItemIndex,
    exit_for: Duration,
    stale_after: Duration,
    believed: Execution,
    said: Execution,
    /// When it left run for idle, and the raw run time up to then.
    away: Option<(BootTime, Duration)>,
    last_good: Option<BootTime>,
    trouble: Unavailable,
    raw_run: Duration,
}

impl Controller {
    pub(crate) const fn new(item: ItemIndex, exit_for: Duration, stale_after: Duration) -> Self {
        Self {
            item,
            exit_for,
            stale_after,
            believed: Execution::Unknown,
            said: Execution::Unknown,
            away: None,
            last_good: None,
            trouble: Unavailable::NotYet,
            raw_run: Duration::ZERO,
        }
    }

    pub(crate) const fn believed(&self) -> Execution {
        self.believed
    }

    pub(crate) const fn trouble(&self) -> Unavailable {
        self.trouble
    }

    pub(crate) const fn raw_run(&self) -> Duration {
        self.raw_run
    }

    /// Takes what it says at `at`. Two changes at most: the end of a run that was not believed
    /// yet, or the silence before, and what is said now.
    pub(crate) fn take(&mut self, at: BootTime, sample: &Measured) -> [Option<Word>; 2] {
        let word = match sample {
            Ok(Value::Text(word)) => Execution::of_word(word),
            Ok(_) => None,
            Err(why) => {
                let explained = self.doubt(at, *why);
                return [self.age(at), explained];
            }
        };
        let gap = self.age(at);
        let Some(said) = word.filter(|word| *word != Execution::Unknown) else {
            return [gap, self.doubt(at, Unavailable::Garbled)];
        };
        if let Some(last) = self.last_good.filter(|_| gap.is_none())
            && self.said.activity() == Activity::Run
        {
            self.raw_run += at.since(last);
        }
        self.said = said;
        self.last_good = Some(at);
        self.trouble = Unavailable::Stale;
        let [ended, news] = self.believe_what_is_said(at);
        [gap.or(ended), news]
    }

    /// Notes why it is not known. The first reason of a controller that never spoke is worth a
    /// word: "not yet" is no answer for ever.
    fn doubt(&mut self, at: BootTime, why: Unavailable) -> Option<Word> {
        let before = std::mem::replace(&mut self.trouble, why);
        let first =
            self.last_good.is_none() && before == Unavailable::NotYet && why != Unavailable::NotYet;
        first.then(|| self.believe(Execution::Unknown, (at, self.raw_run)))
    }

    fn believe_what_is_said(&mut self, at: BootTime) -> [Option<Word>; 2] {
        let said = self.said;
        if said == self.believed {
            self.away = None;
            return [None, None];
        }
        let pauses = self.believed.activity() == Activity::Run && said.activity() == Activity::Idle;
        if pauses {
            let left = *self.away.get_or_insert((at, self.raw_run));
            if at.since(left.0) < self.exit_for {
                return [None, None];
            }
            self.away = None;
            return [None, Some(self.believe(said, left))];
        }
        // Run, a fault or off ends a pause that was not believed yet; only run undoes it.
        let ended = self.away.take().filter(|_| said.activity() != Activity::Run);
        let ended = ended.map(|left| self.believe(Execution::Ready, left));
        [ended, Some(self.believe(said, (at, self.raw_run)))]
    }

    /// Lets time pass: silent for too long means unknown since the last good word.
    pub(crate) fn age(&mut self, now: BootTime) -> Option<Word> {
        let last = self.last_good?;
        if self.believed == Execution::Unknown || now.since(last) <= self.stale_after {
            return None;
        }
        self.away = None;
        Some(self.believe(Execution::Unknown, (last, self.raw_run)))
    }

    fn believe(&mut self, execution: Execution, (at, raw_run): (BootTime, Duration)) -> Word {
        self.believed = execution;
        let why = (execution == Execution::Unknown).then_some(self.trouble);
        Word { execution, at, why, raw_run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(exit_for_s: u64) -> Controller {
        let exit_for = Duration::from_secs(exit_for_s);
        Controller::new(ItemIndex(0), exit_for, Duration::from_secs(5))
    }

    /// One word a second from second 1 on; `-` is a reading that failed.
    fn play(controller: &mut Controller, words: &str) -> Vec<(String, u64)> {
        let mut told = Vec::new();
        for (second, word) in (1..).zip(words.split(' ')) {
            let sample = match word {
                "-" => Err(Unavailable::Timeout),
                word => Ok(Value::Text(word.into())),
            };
            let changes = controller.take(BootTime::from_millis(second * 1000), &sample);
            told.extend(
                changes
                    .into_iter()
                    .flatten()
                    .map(|c| (c.execution.word().to_owned(), c.at.as_millis() / 1000)),
            );
        }
        told
    }

    fn expect(told: &[(String, u64)], wanted: &[(&str, u64)]) {
        let told: Vec<(&str, u64)> = told.iter().map(|(word, at)| (&**word, *at)).collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_dwell_shorter_than_the_debounce_is_part_of_the_run() {
        let told = play(&mut controller(3), "running ready ready running ready ready ready ready");
        expect(&told, &[("running", 1), ("ready", 5)]);
    }

    #[test]
    fn a_fault_after_an_unbelieved_pause_tells_both() {
        let told = play(&mut controller(9), "running ready ready fault");
        expect(&told, &[("running", 1), ("ready", 2), ("fault", 4)]);
    }

    #[test]
    fn silence_is_unknown_since_the_last_word_and_a_strange_word_is_no_word() {
        let told = play(&mut controller(0), "running - - - - - - - running");
        expect(&told, &[("running", 1), ("unknown", 1), ("running", 9)]);
        let told = play(&mut controller(0), "running dancing x x x x x");
        expect(&told, &[("running", 1), ("unknown", 1)]);
    }

    #[test]
    fn a_controller_that_never_spoke_says_why_once() {
        let told = play(&mut controller(0), "- - - - - - - running");
        expect(&told, &[("unknown", 1), ("running", 8)]);
        let mut silent = controller(0);
        let told = silent.take(BootTime::from_millis(1000), &Err(Unavailable::NotYet));
        assert_eq!(told, [None, None], "that is known already");
        let told = silent.take(BootTime::from_millis(2000), &Err(Unavailable::Disconnected));
        assert_eq!(told[1].unwrap().why, Some(Unavailable::Disconnected));
    }

    #[test]
    fn a_stop_is_believed_at_once_and_run_time_is_what_was_said() {
        let mut followed = controller(30);
        let told = play(&mut followed, "ready preparing running running stopped stopped");
        expect(&told, &[("ready", 1), ("preparing", 2), ("running", 3), ("stopped", 5)]);
        assert_eq!(followed.raw_run(), Duration::from_secs(3));
    }
}
