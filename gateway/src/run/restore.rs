//! What the past says at the start: alarms and trips as they were left, the clock's anchors, and
//! how far the evidence of the previous run reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::engine::Restored;
use andon_engine::event::{AlarmState, Event, TripState};

use crate::clock::Anchors;
use crate::journal::{Payload, Record};

/// A fold over the events stream, oldest first.
#[derive(Debug, Default)]
pub struct Past {
    alarms: BTreeMap<Arc<str>, AlarmState>,
    trips: BTreeMap<Arc<str>, TripState>,
    /// The clock's anchors of every boot in the stream.
    pub anchors: Anchors,
}

impl Past {
    /// Takes one more record in.
    pub fn note(&mut self, record: &Record) {
        let Payload::Event(event) = &record.payload else { return };
        self.anchors.note(record.boot, event);
        match event {
            Event::Alarm { state, .. } => {
                self.alarms.insert(state.alarm.clone(), state.clone());
            }
            Event::Trip { state, .. } => {
                self.trips.insert(state.output.clone(), state.clone());
            }
            _ => {}
        }
    }

    /// What the engine starts from.
    pub fn restored(&self) -> Restored {
        Restored {
            alarms: self.alarms.values().cloned().collect(),
            trips: self.trips.values().cloned().collect(),
        }
    }
}
