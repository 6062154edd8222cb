//! What other bands would have made of the past: the engine's own [`Tracker`] over the samples that
//! the journal still holds, once with the bands as they are and once with others.
//!
//! Placed in wall time exactly as machine-hours are (`crate::hours`): a run of the gateway lies
//! where its boot's anchors put it, and of two runs that claim the same time the later is believed.
//! What nobody sampled is unknown under any bands; so is what the journal has recycled.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::activity::Tracker;
use andon_engine::event::{Activity, Event};
use andon_engine::plan::ActivityPlan;
use andon_engine::time::BootTime;
use andon_engine::value::Measured;
use serde::Serialize;

use crate::clock::Anchors;
use crate::hours::{Wall, Window, unclaimed};
use crate::journal::{BootId, Payload, Record};

/// One machine's signal with two opinions of it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The machine's id.
    pub machine: Arc<str>,
    /// The item that its activity is told from.
    pub item: Arc<str>,
    /// When it is stale.
    pub stale_after: Duration,
    /// The bands as they are, and others.
    pub plans: [ActivityPlan; 2],
}

/// Folds a journal: all events first, then all telemetry.
#[derive(Debug)]
pub struct Replay {
    question: Question,
    anchors: Anchors,
    runs: Vec<Run>,
    /// Samples of the item that were taken.
    pub samples: u64,
}

/// One run of the gateway.
#[derive(Debug)]
struct Run {
    boot: BootId,
    start: BootTime,
    stopped: Option<BootTime>,
    inferences: [Inference; 2],
    evidence: Option<BootTime>,
}

/// What one set of bands makes of a run.
#[derive(Clone, Debug)]
struct Inference {
    tracker: Tracker,
    /// Boundaries, ascending.
    changes: Vec<(BootTime, Activity)>,
}

impl Inference {
    fn note(&mut self, changes: impl IntoIterator<Item = andon_engine::activity::Change>) {
        for change in changes {
            // A boundary may be stamped before one told earlier: the later word counts.
            let overruled = self.changes.partition_point(|(at, _)| *at < change.at);
            self.changes.truncate(overruled);
            self.changes.push((change.at, change.activity));
        }
    }

    fn at(&self, moment: BootTime) -> Activity {
        let next = self.changes.partition_point(|(at, _)| *at <= moment);
        next.checked_sub(1).map_or(Activity::Unknown, |last| self.changes[last].1)
    }
}

/// Milliseconds per activity; they sum to the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Working.
    pub run_ms: u64,
    /// Powered and not working.
    pub idle_ms: u64,
    /// Without power.
    pub off_ms: u64,
    /// Not known to do any of it.
    pub unknown_ms: u64,
}

impl Sums {
    /// Unknown is what remains of the window.
    fn add(&mut self, activity: Activity, length: u64) {
        match activity {
            Activity::Run => self.run_ms += length,
            Activity::Idle => self.idle_ms += length,
            Activity::Off => self.off_ms += length,
            Activity::Fault | Activity::Unknown => {}
        }
    }

    fn fill(&mut self, length: u64) {
        let known = self.run_ms + self.idle_ms + self.off_ms;
        self.unknown_ms = length.saturating_sub(known);
    }
}

/// A stretch of wall time of which the two opinions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Where it lies.
    #[serde(flatten)]
    pub span: Window,
    /// What it is now.
    pub before: Activity,
    /// What it would be.
    pub after: Activity,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// With the bands as they are.
    pub before: Sums,
    /// With others.
    pub after: Sums,
    /// What differs, by time.
    pub changed: Vec<Changed>,
}

impl Replay {
    /// Nothing read yet.
    pub fn new(question: Question) -> Self {
        Self { question, anchors: Anchors::default(), runs: Vec::new(), samples: 0 }
    }

    /// Takes a record of the events stream, oldest first.
    pub fn note_event(&mut self, record: &Record) {
        let Payload::Event(event) = &record.payload else { return };
        self.anchors.note(record.boot, event);
        match event {
            Event::Started { at, .. } => self.begin(record.boot, *at),
            Event::Stopped { at } => {
                if let Some(run) = self.runs.last_mut().filter(|run| run.boot == record.boot) {
                    run.stopped = Some(*at).filter(|at| *at > run.start);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, boot: BootId, start: BootTime) {
        let inferences = self.question.plans.clone().map(|plan| Inference {
            tracker: Tracker::new(plan, self.question.stale_after),
            changes: Vec::new(),
        });
        self.runs.push(Run { boot, start, stopped: None, inferences, evidence: None });
    }

    /// Takes a record of the telemetry stream, oldest first, after all events.
    pub fn note_telemetry(&mut self, record: &Record) {
        let Payload::Observation(seen) = &record.payload else { return };
        if seen.machine != self.question.machine {
            return;
        }
        let run = self.runs.iter_mut().rev();
        let Some(run) = run.into_iter().find(|run| run.boot == record.boot && run.start <= seen.at)
        else {
            return;
        };
        if seen.items.iter().any(|(_, value)| value.is_ok()) {
            run.evidence = run.evidence.max(Some(seen.at));
        }
        let item = seen.items.iter().find(|(name, _)| *name == self.question.item);
        let Some((_, sample)) = item else { return };
        self.samples += 1;
        run.take(seen.at, sample);
    }

    /// What both opinions say of the window.
    pub fn within(&self, window: Window) -> Answer {
        let mut answer =
            Answer { before: Sums::default(), after: Sums::default(), changed: Vec::new() };
        // Newest first: what a later run claims is taken from the earlier ones.
        let mut claimed: Vec<Window> = Vec::new();
        for index in (0..self.runs.len()).rev() {
            let run = &self.runs[index];
            let Some(wall) = Wall::of(&self.anchors, run.boot) else { continue };
            let mut extent: Option<Window> = None;
            for (from, to, [before, after]) in run.pieces(self.end(index)) {
                for span in wall.spans(from, to) {
                    let whole = extent.unwrap_or(span);
                    extent = Some(Window {
                        from_ms: whole.from_ms.min(span.from_ms),
                        to_ms: whole.to_ms.max(span.to_ms),
                    });
                    for span in unclaimed(span.overlap(window), &claimed) {
                        answer.before.add(before, span.length());
                        answer.after.add(after, span.length());
                        if before != after && span.length() > 0 {
                            answer.changed.push(Changed { span, before, after });
                        }
                    }
                }
            }
            claimed.extend(extent);
        }
        answer.before.fill(window.length());
        answer.after.fill(window.length());
        answer.changed.sort_by_key(|changed| changed.span.from_ms);
        answer
    }

    /// Where a run ends: at its stop, or at its last evidence, and never after the next start.
    fn end(&self, index: usize) -> BootTime {
        let run = &self.runs[index];
        let end = run.stopped.or(run.evidence).unwrap_or(run.start);
        match self.runs.get(index + 1).filter(|next| next.boot == run.boot) {
            Some(next) => end.min(next.start.max(run.start)),
            None => end,
        }
    }
}

impl Run {
    fn take(&mut self, at: BootTime, sample: &Measured) {
        for inference in &mut self.inferences {
            let changes = inference.tracker.take(at, sample);
            inference.note(changes.into_iter().flatten());
        }
    }

    /// The run in pieces of one pair of opinions each, up to `end`.
    fn pieces(&self, end: BootTime) -> Vec<(BootTime, BootTime, [Activity; 2])> {
        let inferences = self.inferences.clone().map(|mut inference| {
            let silence = inference.tracker.age(end);
            inference.note(silence);
            inference
        });
        let all = inferences.iter().flat_map(|one| one.changes.iter().map(|(at, _)| *at));
        let mut edges: Vec<BootTime> = all.filter(|at| *at < end).chain([end]).collect();
        edges.sort_unstable();
        edges.dedup();
        let piece = |edge: &[BootTime]| {
            (edge[0], edge[1], [inferences[0].at(edge[0]), inferences[1].at(edge[0])])
        };
        edges.windows(2).map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use andon_engine::event::Execution;
    use andon_engine::plan::{Band, ItemIndex};
    use andon_engine::value::{Unavailable, Value};
    use proptest::prelude::*;

    use crate::hours::Hours;
    use crate::journal::Observation;

    const BOOT: BootId = BootId([7; 16]);
    const NOON: i64 = 1_790_000_000_000;

    const fn s(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    fn plan(run_above: f64) -> ActivityPlan {
        ActivityPlan::Power {
            item: ItemIndex(0),
            idle: Band { enter: 15.0, exit: 12.0 },
            run: Band { enter: run_above, exit: run_above * 0.9 },
            enter_for: Duration::from_secs(2),
            exit_for: Duration::from_secs(4),
        }
    }

    fn record(payload: Payload) -> Record {
        Record { boot: BOOT, seq: 1, prev: 0, payload }
    }

    fn sample(at: BootTime, watts: Measured) -> Record {
        let items = vec![("power.active".into(), watts)];
        record(Payload::Observation(Observation { machine: "saw".into(), at, items }))
    }

    fn opening() -> [Record; 2] {
        let started = Event::Started { at: s(0), version: "1".into() };
        let clock = Event::Clock { at: s(0), wall_ms: NOON };
        [record(Payload::Event(started)), record(Payload::Event(clock))]
    }

    fn replay(watts: &[Measured], plans: [ActivityPlan; 2]) -> Replay {
        let mut replay = Replay::new(Question {
            machine: "saw".into(),
            item: "power.active".into(),
            stale_after: Duration::from_secs(5),
            plans,
        });
        opening().iter().for_each(|record| replay.note_event(record));
        for (at, watts) in (0..).zip(watts) {
            replay.note_telemetry(&sample(s(at), watts.clone()));
        }
        replay
    }

    fn window(seconds: i64) -> Window {
        Window { from_ms: NOON, to_ms: NOON + seconds * 1000 }
    }

    #[test]
    fn a_lower_threshold_turns_idle_into_run_and_says_where() {
        let watts: Vec<Measured> = (0..100)
            .map(|n| Ok(Value::Number(if (20..60).contains(&n) { 150.0 } else { 40.0 })))
            .collect();
        let answer = replay(&watts, [plan(200.0), plan(100.0)]).within(window(120));
        let sums = |run_ms, idle_ms| Sums { run_ms, idle_ms, off_ms: 0, unknown_ms: 21_000 };
        assert_eq!((answer.before, answer.after), (sums(0, 99_000), sums(40_000, 59_000)));
        let span = Window { from_ms: NOON + 20_000, to_ms: NOON + 60_000 };
        let changed = Changed { span, before: Activity::Idle, after: Activity::Run };
        assert_eq!(answer.changed, [changed]);
        // The window cuts what it cuts.
        let cut = replay(&watts, [plan(200.0), plan(100.0)]).within(window(30));
        assert_eq!((cut.after.run_ms, cut.after.unknown_ms), (10_000, 0));
    }

    #[test]
    fn what_nobody_sampled_is_unknown_under_any_bands() {
        let watts: Vec<Measured> = (0..60)
            .map(|n| match n {
                20..40 => Err(Unavailable::Timeout),
                _ => Ok(Value::Number(150.0)),
            })
            .collect();
        let answer = replay(&watts, [plan(200.0), plan(100.0)]).within(window(60));
        assert_eq!((answer.before.unknown_ms, answer.after.unknown_ms), (22_000, 22_000));
        let unknown =
            |changed: &Changed| [changed.before, changed.after].contains(&Activity::Unknown);
        assert!(!answer.changed.iter().any(unknown), "{:?}", answer.changed);
        assert_eq!(answer.changed.len(), 2);
    }

    #[test]
    fn another_machine_and_another_boot_are_passed_over() {
        let mut replay = replay(&[], [plan(200.0), plan(100.0)]);
        let mut foreign = sample(s(1), Ok(Value::Number(900.0)));
        foreign.boot = BootId([8; 16]);
        replay.note_telemetry(&foreign);
        let items = vec![("power.active".into(), Ok(Value::Number(900.0)))];
        let other = Observation { machine: "lathe".into(), at: s(2), items };
        replay.note_telemetry(&record(Payload::Observation(other)));
        assert_eq!(replay.samples, 0);
        assert_eq!(replay.within(window(60)).before.unknown_ms, 60_000);
    }

    proptest! {
        /// The columns sum to the window; the same bands change nothing; and what is inferred again
        /// is what was counted while it happened.
        #[test]
        fn the_same_bands_give_the_hours_that_were_counted(
            watts in prop::collection::vec(
                prop_oneof![
                    8 => (0.0..400.0f64).prop_map(|watts| Ok(Value::Number(watts))),
                    2 => Just(Err(Unavailable::Timeout)),
                ],
                1..200,
            ),
            run_above in 50.0..300.0f64,
        ) {
            let end = u64::try_from(watts.len()).unwrap();
            let window = window(i64::try_from(end).unwrap());
            let stopped = record(Payload::Event(Event::Stopped { at: s(end) }));
            let mut replay = replay(&watts, [plan(run_above), plan(run_above)]);
            replay.note_event(&stopped);
            let Answer { before, after, changed } = replay.within(window);
            prop_assert_eq!(before, after);
            prop_assert!(changed.is_empty());
            let mut hours = Hours::default();
            opening().iter().for_each(|record| hours.note(record));
            let mut tracker = Tracker::new(plan(run_above), Duration::from_secs(5));
            for (at, watts) in (0..).zip(&watts) {
                // As the engine does: what is silent grows old between its samples too.
                let mut changes: Vec<_> = tracker.take(s(at), watts).into_iter().flatten().collect();
                let ticks = (1..10).map(|tenth| s(at) + Duration::from_millis(100 * tenth));
                changes.extend(ticks.filter_map(|now| tracker.age(now)));
                for change in changes {
                    hours.note(&record(Payload::Event(Event::Activity {
                        machine: "saw".into(),
                        at: change.at,
                        activity: change.activity,
                        execution: Execution::Ready,
                        why: change.why,
                        raw_run_ms: 0,
                    })));
                }
            }
            hours.note(&stopped);
            let counted = hours.within(window);
            let counted = counted.first().map(|hours| Sums {
                run_ms: hours.run_ms,
                idle_ms: hours.idle_ms,
                off_ms: hours.off_ms,
                unknown_ms: hours.unknown_ms,
            });
            let silent = Sums { unknown_ms: window.length(), ..Sums::default() };
            prop_assert_eq!(before, counted.unwrap_or(silent));
        }
    }
}
