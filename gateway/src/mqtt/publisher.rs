//! What goes to the broker next: retained facts, then events, then telemetry.
//!
//! Does no I/O but reading the journal. Keeps the window: at most [`WINDOW`] messages are between
//! the first unacknowledged one and the newest, which also rules out that the client library
//! meets a packet id that is still in use.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::lane::{Covered, Due, Lane};
use super::retained::Retained;
use super::{Health, Inputs, Sent, WallClock, messages};
use crate::journal::{BootId, Position, Stream};
use crate::wire::{self, Status, Stored, Topic, VERSION};

/// Most messages in flight.
pub(super) const WINDOW: usize = 200;

/// A message to publish, QoS 1.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
    pub(super) covers: Option<(Stream, Covered)>,
}

/// A message on its way.
struct Flight {
    /// Its packet id, once the client library has given it one.
    packet: Option<u16>,
    /// Nothing left to do but wait for older ones.
    landed: bool,
    covers: Option<(Stream, Covered)>,
}

/// Decides what is sent.
pub(super) struct Publisher {
    site: Arc<str>,
    boot: BootId,
    wall: WallClock,
    now: super::Now,
    health: Health,
    lanes: [Lane; 2],
    pub(super) retained: Retained,
    flights: VecDeque<Flight>,
    /// How many of them, from the front, have their packet id.
    identified: usize,
    last_progress: Instant,
    sent: Sent,
}

impl Publisher {
    pub(super) fn new(inputs: &Inputs, positions: [Option<Position>; 2], now: Instant) -> Self {
        let lane = |stream: Stream| Lane::new(inputs, stream, positions[stream as usize], now);
        let events = inputs.journal.follow(Stream::Events, None);
        Self {
            site: Arc::clone(&inputs.plan.site.id),
            boot: inputs.boot,
            wall: Arc::clone(&inputs.wall),
            now: Arc::clone(&inputs.now),
            health: Arc::clone(&inputs.health),
            lanes: Stream::ALL.map(lane),
            retained: Retained::new(&inputs.plan, events),
            flights: VecDeque::new(),
            identified: 0,
            last_progress: now,
            sent: Sent::default(),
        }
    }

    pub(super) fn positions(&self) -> [Option<Position>; 2] {
        Stream::ALL.map(|stream| self.lanes[stream as usize].position())
    }

    pub(super) fn behind(&self) -> u64 {
        self.lanes.iter().map(Lane::behind).sum()
    }

    /// What was sent since the start.
    pub(super) fn sent_so_far(&self) -> Sent {
        Sent { in_flight: self.flights.len(), ..self.sent }
    }

    /// The status payload.
    pub(super) fn status(&self, online: bool) -> Vec<u8> {
        let (counters, buses) = (self.health)();
        wire::encode(&Status {
            v: VERSION,
            online,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.boot,
            t: (self.wall)(&self.boot, (self.now)()),
            counters,
            buses,
        })
    }

    /// A connection is made; nothing of the one before is in flight any more.
    pub(super) fn connected(&mut self, now: Instant, session_present: bool) {
        self.flights.clear();
        self.sent.connections += 1;
        self.identified = 0;
        self.last_progress = now;
        for lane in &mut self.lanes {
            lane.connected(now, session_present);
        }
        self.retained.all_due();
    }

    /// The next message, when the window has room and there is something to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<Message> {
        if self.flights.len() >= WINDOW {
            return None;
        }
        self.retained.fold();
        if self.retained.is_any_due() {
            let now_ms = (self.wall)(&self.boot, (self.now)());
            if let Some((topic, payload)) = self.retained.next(&self.wall, now_ms) {
                let payload = payload.unwrap_or_else(|| self.status(true));
                return Some(Message { topic, payload, retain: true, covers: None });
            }
        }
        for stream in [Stream::Events, Stream::Telemetry] {
            let lane = &mut self.lanes[stream as usize];
            let live = lane.next_live(now);
            let again = if live.is_none() { lane.next_again(now) } else { None };
            self.sent.live += u64::from(live.is_some());
            self.sent.again += u64::from(again.is_some());
            if let Some(due) = live.or(again) {
                return Some(self.message(stream, &due));
            }
        }
        None
    }

    fn message(&self, stream: Stream, due: &Due) -> Message {
        let (topic, payload) = messages::message(&self.site, due);
        let (boot, prev, seq) = (due.record.boot, due.record.prev, due.record.seq);
        let covered = Covered { boot, prev, seq, timed: due.t.is_some() };
        Message { topic, payload, retain: false, covers: Some((stream, covered)) }
    }

    /// The client library has taken a message.
    pub(super) fn taken(&mut self, now: Instant, covers: Option<(Stream, Covered)>) {
        if self.flights.is_empty() {
            self.last_progress = now;
        }
        self.flights.push_back(Flight { packet: None, landed: false, covers });
    }

    /// The client library has given the oldest message without one its packet id.
    pub(super) fn sent(&mut self, packet: u16) {
        if let Some(flight) = self.flights.get_mut(self.identified) {
            flight.packet = Some(packet);
            self.identified += 1;
        }
    }

    /// The broker acknowledges a packet.
    pub(super) fn acknowledged(&mut self, now: Instant, packet: u16) {
        self.last_progress = now;
        let open = |flight: &&mut Flight| flight.packet == Some(packet) && !flight.landed;
        if let Some(flight) = self.flights.iter_mut().find(open) {
            flight.landed = true;
            if let Some((stream, covered)) = flight.covers {
                self.lanes[stream as usize].acknowledged(now, covered);
            }
        }
        while self.flights.front().is_some_and(|flight| flight.landed) {
            self.flights.pop_front();
            // What has landed had its packet id.
            self.identified = self.identified.saturating_sub(1);
        }
    }

    /// A message came in; only the recorder's watermark is asked for.
    pub(super) fn received(&mut self, now: Instant, recorder: &str, topic: &str, payload: &[u8]) {
        if Topic::parse(topic) != Some((&*self.site, Topic::Stored(recorder))) {
            return;
        }
        match wire::decode::<Stored>(payload) {
            Ok(stored) => self.lanes.iter_mut().for_each(|lane| lane.stored(now, &stored)),
            Err(error) => {
                tracing::warn!(recorder, %error, "the recorder's watermark is unreadable");
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.tick(now));
    }

    /// Since when messages are in flight and none has been acknowledged.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        (!self.flights.is_empty()).then_some(self.last_progress)
    }
}
