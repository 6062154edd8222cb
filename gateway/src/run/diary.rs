//! The log's words for alarms and protective stops: what a person who reads it later must find.
//!
//! The engine's thread hands its events over and never waits: writing a line may block for as long
//! as whoever reads it likes. What finds no room is counted and said. Nothing here decides anything,
//! and nothing passes through the journal, so a full disk silences no failed stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::Output;
use andon_engine::event::{AlarmState, Confirmation, Event, TripPhase, TripState};
use tokio::sync::mpsc;

/// Events between the engine and the log: some hundred alarms and stops at one moment.
const EVENTS_MAX: usize = 1024;

/// The engine thread's end.
#[derive(Debug)]
pub struct Pen {
    events: mpsc::Sender<Note>,
    lost: u64,
}

#[derive(Debug)]
struct Note {
    event: Event,
    /// Events lost before this one.
    lost: u64,
}

/// What has been said last of each alarm and stop; bounded by the plan.
#[derive(Debug, Default)]
struct Diary {
    alarms: BTreeMap<Arc<str>, AlarmState>,
    stops: BTreeMap<Arc<str>, TripState>,
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// An alarm was raised, or raised again.
    Raised,
    /// Nobody can tell any more whether its condition holds.
    Unknown,
    /// Its condition is over.
    Cleared,
    /// A person has seen it, or reset it.
    Handled,
    /// A stop was commanded.
    Commanded,
    /// It is confirmed, or confirmed further.
    Confirmed,
    /// It has failed.
    Failed,
    /// A person has reset it.
    Reset,
}

/// The two ends: the engine's, and the task that writes until the other one is gone.
pub(super) fn open() -> (Pen, impl Future<Output = ()>) {
    let (events, mut notes) = mpsc::channel::<Note>(EVENTS_MAX);
    let write = async move {
        let mut diary = Diary::default();
        while let Some(Note { event, lost }) = notes.recv().await {
            if lost > 0 {
                tracing::error!(
                    lost,
                    "The log is too slow: events of alarms and stops are not in it."
                );
            }
            diary.write(&event);
        }
    };
    (Pen { events, lost: 0 }, write)
}

impl Pen {
    /// Notes what of a step is worth a line. Never waits.
    pub fn note(&mut self, outputs: &[Output]) {
        for output in outputs {
            let Output::Event(event @ (Event::Alarm { .. } | Event::Trip { .. })) = output else {
                continue;
            };
            let note = Note { event: event.clone(), lost: self.lost };
            self.lost = if self.events.try_send(note).is_ok() { 0 } else { self.lost + 1 };
        }
    }
}

impl Diary {
    fn write(&mut self, event: &Event) {
        match event {
            Event::Alarm { state, by, reason, .. } => {
                let line = self.line_of_alarm(state, by.is_some());
                write_alarm(line, state, by.as_deref(), reason.as_deref());
            }
            Event::Trip { state, .. } => write_stop(self.line_of_stop(state), state),
            _ => {}
        }
    }

    fn line_of_alarm(&mut self, state: &AlarmState, by_a_person: bool) -> Option<Line> {
        let before = self.alarms.insert(state.alarm.clone(), state.clone());
        if by_a_person {
            return Some(Line::Handled);
        }
        let raised = before.as_ref().is_none_or(|before| before.raised != state.raised);
        let was = before.and_then(|before| before.active);
        match state.active {
            Some(false) => (raised || was != Some(false)).then_some(Line::Cleared),
            _ if raised || was == Some(false) => Some(Line::Raised),
            None => was.map(|_| Line::Unknown),
            Some(true) => None,
        }
    }

    fn line_of_stop(&mut self, state: &TripState) -> Option<Line> {
        let before = self.stops.insert(state.output.clone(), state.clone());
        let was = before.as_ref().map(|before| before.phase);
        let level = before.and_then(|before| before.level);
        match state.phase {
            TripPhase::Armed => was.filter(|was| *was != TripPhase::Armed).map(|_| Line::Reset),
            TripPhase::Tripping => (was != Some(TripPhase::Tripping)).then_some(Line::Commanded),
            TripPhase::Latched => {
                let news = was != Some(TripPhase::Latched) || level < state.level;
                news.then_some(Line::Confirmed)
            }
            TripPhase::Failed => (was != Some(TripPhase::Failed)).then_some(Line::Failed),
        }
    }
}

fn write_alarm(line: Option<Line>, state: &AlarmState, by: Option<&str>, reason: Option<&str>) {
    let AlarmState { alarm, machine, severity, cause, .. } = state;
    match line {
        Some(Line::Raised) => {
            let unknown = state.active.is_none();
            tracing::warn!(%alarm, %machine, ?severity, unknown, %cause, "An alarm was raised.");
        }
        Some(Line::Unknown) => {
            tracing::warn!(%alarm, %machine, "Whether this alarm still holds is not known.");
        }
        Some(Line::Cleared) => {
            tracing::info!(%alarm, %machine, "The condition of an alarm is over.");
        }
        Some(Line::Handled) => {
            let by = by.unwrap_or_default();
            if let Some(reason) = reason {
                tracing::info!(%alarm, %machine, by, reason, "An alarm was reset.");
            } else {
                tracing::info!(%alarm, %machine, by, "An alarm was acknowledged.");
            }
        }
        _ => {}
    }
}

fn write_stop(line: Option<Line>, state: &TripState) {
    let TripState { output, machine, .. } = state;
    let level = state.level.map_or("none", level_word);
    let cause = state.cause.as_deref().unwrap_or("not known");
    match line {
        Some(Line::Commanded) => {
            tracing::warn!(%machine, %output, cause, "A protective stop was commanded.");
        }
        Some(Line::Confirmed) => {
            tracing::info!(%machine, %output, level, "A protective stop is confirmed.");
        }
        Some(Line::Failed) => {
            let why = state.trouble.as_deref().unwrap_or("not known");
            tracing::error!(
                %machine, %output, level, why,
                "A protective stop failed: stop the machine by hand. It is tried on."
            );
        }
        Some(Line::Reset) => tracing::info!(%machine, %output, "A protective stop was reset."),
        _ => {}
    }
}

const fn level_word(level: Confirmation) -> &'static str {
    match level {
        Confirmation::C0 => "C0, commanded",
        Confirmation::C1 => "C1, echoed",
        Confirmation::C2 => "C2, read back",
        Confirmation::C3 => "C3, proved",
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::event::Severity;
    use andon_engine::time::BootTime;

    use super::*;

    fn alarm(raised: u64, active: Option<bool>) -> AlarmState {
        AlarmState {
            alarm: "hot".into(),
            machine: "laser".into(),
            severity: Severity::High,
            active,
            acked: false,
            latched: true,
            raised: BootTime(raised),
            cause: "63 °C".into(),
        }
    }

    fn stop(phase: TripPhase, level: Option<Confirmation>) -> TripState {
        TripState {
            output: "cut".into(),
            machine: "laser".into(),
            phase,
            level,
            cause: None,
            trouble: None,
        }
    }

    #[test]
    fn an_alarm_has_one_line_for_each_thing_that_happens_to_it() {
        let mut diary = Diary::default();
        let mut says = |raised, active| diary.line_of_alarm(&alarm(raised, active), false);
        assert_eq!(says(1, Some(true)), Some(Line::Raised));
        assert_eq!(says(1, Some(true)), None);
        assert_eq!(says(1, None), Some(Line::Unknown));
        assert_eq!(says(1, Some(true)), None);
        assert_eq!(says(1, Some(false)), Some(Line::Cleared));
        assert_eq!(says(1, Some(false)), None);
        assert_eq!(says(2, None), Some(Line::Raised));
        assert_eq!(diary.line_of_alarm(&alarm(2, None), true), Some(Line::Handled));
    }

    #[test]
    fn a_stop_that_fails_is_told_once_and_that_it_is_confirmed_each_time_further() {
        use TripPhase::{Armed, Failed, Latched, Tripping};
        let mut diary = Diary::default();
        let mut says = |phase, level| diary.line_of_stop(&stop(phase, level));
        assert_eq!(says(Armed, None), None, "that it is armed at the start is no news");
        assert_eq!(says(Tripping, Some(Confirmation::C0)), Some(Line::Commanded));
        assert_eq!(says(Tripping, Some(Confirmation::C1)), None);
        assert_eq!(says(Failed, Some(Confirmation::C1)), Some(Line::Failed));
        assert_eq!(says(Failed, Some(Confirmation::C1)), None);
        assert_eq!(says(Latched, Some(Confirmation::C2)), Some(Line::Confirmed));
        assert_eq!(says(Latched, Some(Confirmation::C3)), Some(Line::Confirmed));
        assert_eq!(says(Armed, None), Some(Line::Reset));
    }

    #[tokio::test]
    async fn a_log_that_nobody_writes_never_holds_the_engine_up_and_what_is_lost_is_counted() {
        let (mut pen, write) = open();
        let event =
            Event::Alarm { at: BootTime(1), state: alarm(1, Some(true)), by: None, reason: None };
        let outputs = vec![Output::Event(event); EVENTS_MAX + 3];
        pen.note(&outputs);
        assert_eq!(pen.lost, 3);
        drop(pen);
        write.await;
    }
}
