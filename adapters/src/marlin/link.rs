//! What is known of a printer with Marlin since it was connected or booted, and what follows from
//! it: what to ask next, and what it is doing.

use std::collections::VecDeque;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;

use super::{BUSY_LASTS, REPORT_LATE, STILL_MAX};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Capabilities,
    AutoTemperature,
    AutoCard,
    Temperature,
    Card,
    CardFile,
    CancelCard,
}

impl Command {
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Capabilities => "M115\n",
            Self::AutoTemperature => "M155 S2\n",
            Self::AutoCard => "M27 S2\n",
            Self::Temperature => "M105\n",
            Self::Card => "M27\n",
            Self::CardFile => "M27 C\n",
            Self::CancelCard => "M524\n",
        }
    }
}

/// What only this connection and this boot of the board know.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) opened: Option<BootTime>,
    pub(super) heard: Option<BootTime>,
    pub(super) awaiting: VecDeque<(Command, BootTime)>,
    pub(super) wanted: VecDeque<Command>,
    /// The next `ok` only ends a line that was not understood.
    pub(super) resend: bool,
    pub(super) capabilities: Option<Capabilities>,
    pub(super) asked_reports: bool,
    pub(super) temperature_at: Option<BootTime>,
    pub(super) card_at: Option<BootTime>,
    pub(super) card: Option<Card>,
    /// M27 leads to nothing here.
    pub(super) no_card: bool,
    pub(super) job: Option<String>,
    pub(super) asked_job: bool,
    pub(super) hot: bool,
    pub(super) busy: Option<(Busy, BootTime)>,
    pub(super) paused: bool,
    pub(super) done: bool,
    pub(super) halt: Option<Halt>,
    pub(super) half_error: Option<String>,
    pub(super) rubbish: Option<String>,
    pub(super) message: String,
    pub(super) stop: Option<Pending>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) emergency_parser: bool,
    pub(super) auto_temperature: bool,
    pub(super) auto_card: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Card {
    Not,
    /// Bytes read, of how many, and since when no more.
    Printing(u64, u64, BootTime),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Processing,
    Heating,
    Paused,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Halt {
    pub(super) execution: Execution,
    pub(super) silent: bool,
    pub(super) at: BootTime,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) emergency: bool,
    pub(super) since: BootTime,
    /// The card was still printing after the command was taken.
    pub(super) goes_on: bool,
}

impl Link {
    /// What to ask, in order: what the firmware can first, then whatever it does not tell by itself.
    pub(super) fn questions(&mut self, now: BootTime) -> VecDeque<Command> {
        let Some(capabilities) = self.capabilities else { return [Command::Capabilities].into() };
        let late = |at: Option<BootTime>| at.is_none_or(|at| now.since(at) >= REPORT_LATE);
        let mut questions = VecDeque::new();
        if !std::mem::replace(&mut self.asked_reports, true) {
            let temperature = capabilities.auto_temperature.then_some(Command::AutoTemperature);
            let card = capabilities.auto_card.then_some(Command::AutoCard);
            questions.extend(temperature.into_iter().chain(card));
        }
        if !capabilities.auto_temperature || late(self.temperature_at) {
            questions.push_back(Command::Temperature);
        }
        if !capabilities.auto_card || late(self.card_at) {
            questions.push_back(Command::Card);
        }
        if matches!(self.card, Some(Card::Printing(..))) && self.job.is_none() && !self.asked_job {
            questions.push_back(Command::CardFile);
        }
        questions
    }

    pub(super) fn busy(&self, now: BootTime) -> Option<Busy> {
        self.busy.filter(|(_, at)| now.since(*at) < BUSY_LASTS).map(|(busy, _)| busy)
    }

    /// The table of the module's head, with the words that led there.
    pub(super) fn state(&self, now: BootTime) -> (&'static str, Option<Execution>) {
        let busy = self.busy(now);
        let busy_since = |moment| self.busy.is_some_and(|(_, at)| at > moment);
        if let Some(halt) = self.halt {
            return (if halt.silent { "halted" } else { "Error" }, Some(halt.execution));
        }
        if busy == Some(Busy::Paused) {
            return ("busy: paused", Some(Execution::Paused));
        }
        if self.paused {
            return ("//action:paused", Some(Execution::Paused));
        }
        match self.card {
            Some(Card::Printing(_, _, since)) => {
                let execution = match busy {
                    Some(_) if busy_since(since) => Execution::Preparing,
                    None if now.since(since) >= STILL_MAX => Execution::Paused,
                    _ => Execution::Running,
                };
                ("SD printing", Some(execution))
            }
            Some(Card::Not) if self.done => ("Done printing file", Some(Execution::Finished)),
            card => {
                let word = match card {
                    Some(_) if busy.is_none() => "Not SD printing",
                    None if busy.is_none() => "ok",
                    _ => "busy: processing",
                };
                // Without a card's word only cold heaters prove that nothing is printed.
                let cold = self.no_card && self.temperature_at.is_some() && !self.hot;
                let rests = (card.is_some() || cold).then_some(Execution::Ready);
                (word, if busy.is_some() { Some(Execution::Preparing) } else { rests })
            }
        }
    }
}
