//! Records of the journal as messages: topic, payload and wall time.

use andon_engine::time::BootTime;

use super::WallClock;
use super::lane::Due;
use crate::journal::{BootId, Payload, Record};
use crate::wire::{self, EventMessage, GATEWAY, Header, ObservationMessage, Topic};

/// The wall time of a record in Unix milliseconds: that of its sample or happening.
pub fn record_wall_ms(wall: &WallClock, record: &Record) -> Option<i64> {
    let (boot, at): (Option<BootId>, BootTime) = match &record.payload {
        Payload::Observation(observation) => (None, observation.at),
        Payload::Event(event) => wire::moment(event),
    };
    // What happened in a boot without wall time is dated by the record that tells of it.
    wall(&boot.unwrap_or(record.boot), at).or_else(|| boot.and_then(|_| wall(&record.boot, at)))
}

/// Topic and payload of a record.
pub(super) fn message(site: &str, due: &Due) -> (String, Vec<u8>) {
    let record = &due.record;
    let header = Header::new(record.boot, record.seq, record.prev, due.t);
    match &record.payload {
        Payload::Observation(observation) => (
            Topic::Observation(&observation.machine).at(site),
            wire::encode(&ObservationMessage::of(header, observation)),
        ),
        Payload::Event(event) => (
            Topic::Event(event.machine().map_or(GATEWAY, |machine| machine)).at(site),
            wire::encode(&EventMessage { header, event: event.clone() }),
        ),
    }
}
