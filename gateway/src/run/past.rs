//! What the past says at the start: alarms and trips as they were left, the clock's anchors, and
//! how far the evidence of the previous run reaches.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use andon_engine::engine::Restored;
use andon_engine::event::{AlarmState, Event, TripState};
use andon_engine::time::BootTime;

use crate::clock::Anchors;
use crate::config::plan::Plan;
use crate::hours;
use crate::http::{self, Picture};
use crate::journal::{BootId, Follower, Journal, Payload, Position, Record, Stream};

/// Telemetry records read back for the last hour's curves, at most: an hour of 100 machines at
/// 1 Hz is 360,000; a site with more sees its curves begin later after a restart.
const RESTORE_RECORDS_MAX: u64 = 400_000;

/// A fold over the events stream, oldest first.
#[derive(Debug, Default)]
pub(super) struct Past {
    alarms: BTreeMap<Arc<str>, (BootId, AlarmState)>,
    trips: BTreeMap<Arc<str>, TripState>,
    evidence: Vec<Event>,
    /// The clock's anchors of every boot in the stream.
    pub(super) anchors: Anchors,
}

impl Past {
    /// Reads the past of a journal.
    ///
    /// # Errors
    /// When the journal's folders cannot be listed.
    pub(super) fn of(journal: &Journal) -> io::Result<Self> {
        let reader = journal.reader()?;
        let mut past = Self { evidence: hours::last_evidence(&reader)?, ..Self::default() };
        reader.records(Stream::Events)?.for_each(|record| past.note(&record));
        Ok(past)
    }

    fn note(&mut self, record: &Record) {
        let Payload::Event(event) = &record.payload else { return };
        self.anchors.note(record.boot, event);
        match event {
            Event::Alarm { state, .. } => {
                self.alarms.insert(state.alarm.clone(), (record.boot, state.clone()));
            }
            Event::Trip { state, .. } => {
                self.trips.insert(state.output.clone(), state.clone());
            }
            _ => {}
        }
    }

    /// The first records of this run: that it started, and what the run before it can be believed.
    pub(super) fn opening(&self, started: BootTime) -> Vec<Payload> {
        let version = env!("CARGO_PKG_VERSION").into();
        let opening = Event::Started { at: started, version };
        std::iter::once(opening).chain(self.evidence.iter().cloned()).map(Payload::Event).collect()
    }

    /// What the engine starts from.
    pub(super) fn restored(&self) -> Restored {
        Restored {
            alarms: self.alarms.values().map(|(_, state)| state.clone()).collect(),
            trips: self.trips.values().cloned().collect(),
        }
    }

    /// The board's picture, with the alarms that were left.
    pub(super) fn picture(&self, plan: &Plan, boot: BootId, started: BootTime) -> Picture {
        let rules: Vec<Arc<str>> = plan.engine.rules.iter().map(|rule| rule.id.clone()).collect();
        let mut picture = Picture::new(plan, &rules, http::build(), started);
        for (of_boot, state) in self.alarms.values() {
            picture.restore_alarm(state.clone(), *of_boot == boot);
        }
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
