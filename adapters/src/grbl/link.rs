//! What is known of a controller of the GRBL family since it was connected or reset, and what
//! follows from it: what its reports leave out, and what it is doing.

use andon_engine::event::Execution;
use andon_engine::time::BootTime;

use super::AXES;
use super::dialect::Flavour;
use super::report::{Report, numbers};

/// What only this connection knows.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) flavour: Option<Flavour>,
    pub(super) asked_build: bool,
    pub(super) asked_full: bool,
    /// The last `?`, and the oldest that has no answer.
    pub(super) polled: Option<BootTime>,
    pub(super) asked: Option<BootTime>,
    /// What came instead of an answer.
    pub(super) rubbish: Option<String>,
    pub(super) offset: Vec<Option<f64>>,
    pub(super) overrides: Option<[Option<f64>; 2]>,
    pub(super) counterclockwise: bool,
    pub(super) alarm: Option<u32>,
    /// The alarm's number with its meaning.
    pub(super) alarm_words: Option<String>,
    /// The controller has said that it waits for homing or unlocking.
    pub(super) locked: bool,
    /// The program has said its end.
    pub(super) ended: bool,
    pub(super) message: String,
    pub(super) last: Option<Last>,
    pub(super) stop: Option<Pending>,
}

/// The last word on the state, for the silences that are no silence.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) word: String,
    pub(super) execution: Option<Execution>,
    pub(super) at: BootTime,
}

/// A stop that is not yet seen to stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) awaits: Awaits,
    pub(super) since: BootTime,
    /// The next report may be older than the stop.
    pub(super) stale: bool,
    /// A report has come since.
    pub(super) answered: bool,
    /// It was seen to be taken.
    pub(super) accepted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    Reset,
    Door,
    Hold,
}

impl Link {
    /// Takes over what later reports will leave out, and forgets what this state ends.
    pub(super) fn remember(&mut self, report: &Report<'_>) {
        if report.firmware == Some("grblHAL") {
            self.flavour = Some(Flavour::GrblHal);
        }
        if report.state() == "Alarm" {
            self.alarm = report.substate().filter(|&alarm| alarm != 0).or(self.alarm);
        } else {
            (self.alarm, self.alarm_words) = (None, None);
            (self.locked, self.asked_full) = (false, false);
        }
        self.ended &= report.state() == "Idle";
        // What was said of the last job does not belong to the next.
        let begins = self.last.as_ref().is_none_or(|last| last.word != report.word);
        if begins && matches!(report.state(), "Run" | "Home" | "Jog") {
            self.message.clear();
        }
        if let Some(offset) = report.offset {
            // Six axes at most; a longer list is noise.
            self.offset = numbers(offset).take(AXES.len()).collect();
        }
        if let Some(overrides) = report.overrides {
            let mut percents = numbers(overrides);
            let feed = percents.next().flatten();
            self.overrides = Some([feed, percents.nth(1).flatten()].map(|p| p.map(|p| p / 100.0)));
            let accessories = report.accessories.unwrap_or_default();
            self.counterclockwise = accessories.contains('C');
        }
    }

    pub(super) fn waits_for_homing(&self) -> bool {
        match self.alarm {
            Some(alarm) => self.flavour.is_some_and(|flavour| flavour.is_unhomed(alarm)),
            None => self.locked,
        }
    }

    /// The table of the module's head.
    pub(super) fn execution(&self, report: &Report<'_>) -> Option<Execution> {
        let emergency = |alarm| self.flavour.is_some_and(|flavour| flavour.is_emergency(alarm));
        if self.flavour == Some(Flavour::GrblHal) && report.pin('E') {
            return Some(Execution::Stopped);
        }
        Some(match report.state() {
            "Idle" if self.ended => Execution::Finished,
            "Idle" | "Check" => Execution::Ready,
            "Run" if report.substate() == Some(2) => Execution::Preparing,
            "Run" | "Jog" => Execution::Running,
            "Home" | "Starting" => Execution::Preparing,
            "Hold" | "Door" | "Tool" => Execution::Paused,
            "Sleep" => Execution::Off,
            "Alarm" if report.pin('R') || self.alarm.is_some_and(emergency) => Execution::Stopped,
            "Alarm" if self.waits_for_homing() => Execution::Ready,
            "Alarm" => Execution::Fault,
            _ => return None,
        })
    }
}
