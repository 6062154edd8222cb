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
    let known = wall(&boot.unwrap_or(record.boot), at);
    // What happened in an earlier boot without wall time was over when this one began.
    known.or_else(|| boot.and_then(|_| wall(&record.boot, BootTime(0))))
}

/// Topic and payload of a record.
pub(super) fn message(site: &str, due: &Due) -> (String, Vec<u8>) {
    let record = &due.record;
    let header = Header::new(record.boot, record.seq, record.prev, due.t);
    match &record.payload {
        Payload::Observation(observation) => (
            Topic::Observation(&observation.machine).at(site),
            ObservationMessage::encoded(header, observation),
        ),
        Payload::Event(event) => (
            Topic::Event(event.machine().map_or(GATEWAY, |machine| machine)).at(site),
            wire::encode(&EventMessage { header, event: event.clone() }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use andon_engine::event::Event;

    use super::*;

    #[test]
    fn evidence_of_a_boot_without_wall_time_is_dated_by_the_start_of_the_next() {
        let (old, new) = (BootId([1; 16]), BootId([2; 16]));
        let wall: WallClock = Arc::new(move |boot, at| {
            (*boot == new).then(|| 1000 + i64::try_from(at.as_millis()).unwrap())
        });
        let event = Event::Evidence {
            machine: "laser".into(),
            until: BootTime::from_millis(99_000),
            boot: old.to_string().into(),
        };
        let record = Record { boot: new, seq: 1, prev: 0, payload: Payload::Event(event) };
        assert_eq!(record_wall_ms(&wall, &record), Some(1000));
    }
}
