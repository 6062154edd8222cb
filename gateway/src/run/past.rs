//! What the past says at the start: alarms and trips as they were left, the clock's anchors, and
//! how far the evidence of the previous run reaches.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::engine::{LeftRegister, Restored};
use andon_engine::event::{AlarmState, Event, Register, TripPhase, TripState};
use andon_engine::time::BootTime;

use crate::clock::Anchors;
use crate::config::plan::Plan;
use crate::hours;
use crate::http::{self, Picture};
use crate::journal::{BootId, Follower, Journal, Payload, Position, Record, Stream};
use crate::standing::Standings;

/// Telemetry records read back for the last hour's curves, at most: an hour of 100 machines at
/// 1 Hz is 360,000; a site with more sees its curves begin later after a restart.
const RESTORE_RECORDS_MAX: u64 = 400_000;

/// The trouble of a stop whose output is gone from the configuration.
const VOID: &str = "void: the output is no longer configured";

/// A fold over the events stream, oldest first.
#[derive(Debug, Default)]
pub(super) struct Past {
    alarms: BTreeMap<Arc<str>, (BootId, AlarmState)>,
    trips: BTreeMap<Arc<str>, TripState>,
    registers: BTreeMap<Arc<str>, (BootId, Register)>,
    evidence: Vec<Event>,
    standings: Standings,
}

impl Past {
    /// Reads the past of a journal.
    ///
    /// # Errors
    /// When the journal's folders cannot be listed, or not all of it can be had just now: a latch
    /// might be in the rest.
    pub(super) fn of(journal: &Journal) -> io::Result<Self> {
        let reader = journal.reader()?;
        let mut past = Self { evidence: hours::last_evidence(&reader)?, ..Self::default() };
        reader.records(Stream::Events)?.each(|record| past.note(&record))?;
        Ok(past)
    }

    /// The clock's anchors of every boot in the stream.
    pub(super) const fn anchors(&self) -> &Anchors {
        self.standings.anchors()
    }

    fn note(&mut self, record: &Record) {
        let Payload::Event(event) = &record.payload else { return };
        self.standings.note(record.boot, event);
        match event {
            Event::Alarm { state, .. } => {
                self.alarms.insert(state.alarm.clone(), (record.boot, state.clone()));
            }
            Event::Trip { state, .. } => {
                self.trips.insert(state.output.clone(), state.clone());
            }
            Event::Energy { machine, register } => {
                self.registers.insert(machine.clone(), (record.boot, *register));
            }
            _ => {}
        }
    }

    /// The first records of this run: that it started, what the run before it can be believed,
    /// and which stops are void.
    pub(super) fn opening(&self, plan: &Plan, started: BootTime) -> Vec<Payload> {
        let version = env!("CARGO_PKG_VERSION").into();
        let opening = Event::Started { at: started, version };
        let void = self.void(plan).filter(|state| state.trouble.as_deref() != Some(VOID));
        let void = void.map(|state| {
            let state = TripState { trouble: Some(VOID.into()), ..state.clone() };
            Event::Trip { at: started, state }
        });
        let evidence = self.evidence.iter().cloned();
        std::iter::once(opening).chain(evidence).chain(void).map(Payload::Event).collect()
    }

    /// Stops that stand and that nobody can carry out: their output is configured no more. They
    /// stand again when it is configured again, for nobody has reset them.
    fn void(&self, plan: &Plan) -> impl Iterator<Item = &TripState> {
        let configured = |id: &Arc<str>| plan.engine.trips.iter().any(|trip| trip.id == *id);
        let left = self.trips.values().filter(|state| state.phase != TripPhase::Armed);
        left.filter(move |state| !configured(&state.output))
    }

    /// Says which stops are void: a machine that was stopped may run.
    pub(super) fn tell_void(&self, plan: &Plan) {
        for state in self.void(plan) {
            tracing::error!(
                output = %state.output,
                machine = %state.machine,
                cause = state.cause.as_deref().unwrap_or("not known"),
                "This stop is latched and its output is no longer configured: nothing holds the \
                 machine. Configure the output again, or see to the machine yourself."
            );
        }
    }

    /// What the engine starts from.
    pub(super) fn restored(
        &self,
        boot: BootId,
        started: BootTime,
        wall_ms: Option<i64>,
    ) -> Restored {
        let register = |(machine, (of, register)): (&Arc<str>, &(BootId, Register))| {
            let away = if *of == boot {
                Some(started.since(register.at))
            } else {
                let then = self.anchors().wall_ms(of, register.at);
                let away = wall_ms.zip(then).map(|(now, then)| now.saturating_sub(then));
                away.and_then(|away| u64::try_from(away).ok()).map(Duration::from_millis)
            };
            let Register { wh, epoch, .. } = *register;
            LeftRegister { machine: machine.clone(), wh, epoch, now: started, away }
        };
        Restored {
            alarms: self.alarms.values().map(|(_, state)| state.clone()).collect(),
            trips: self.trips.values().cloned().collect(),
            registers: self.registers.iter().map(register).collect(),
        }
    }

    /// The board's picture, with the alarms and states that were left.
    pub(super) fn picture(
        &self,
        plan: &Plan,
        boot: BootId,
        started: BootTime,
        wall_ms: Option<i64>,
    ) -> Picture {
        let rules: Vec<Arc<str>> = plan.engine.rules.iter().map(|rule| rule.id.clone()).collect();
        let mut picture = Picture::new(plan, &rules, http::build(), started);
        for (of_boot, state) in self.alarms.values() {
            picture.restore_alarm(state.clone(), *of_boot == boot);
        }
        let mut standings = self.standings.clone();
        // The clock as it is believed at the start, until it has an anchor.
        let clock = wall_ms.map(|wall_ms| Event::Clock { at: started, wall_ms });
        let opening = self.opening(plan, started).into_iter().filter_map(|payload| match payload {
            Payload::Event(event) => Some(event),
            Payload::Observation(_) => None,
        });
        for event in clock.into_iter().chain(opening) {
            standings.note(boot, &event);
        }
        picture.restore_states(boot, standings);
        picture
    }

    /// A follower of the telemetry, placed about where the last hour begins.
    pub(super) fn telemetry_of_the_last_hour(&self, journal: &Journal) -> Follower {
        let newest = journal.newest(Stream::Telemetry);
        let place = newest.map(|Position { boot, seq }| Position {
            boot,
            seq: seq.saturating_sub(RESTORE_RECORDS_MAX),
        });
        journal.follow(Stream::Telemetry, place)
    }
}
