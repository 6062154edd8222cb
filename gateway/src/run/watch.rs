//! Once a second: is a new clock anchor due, and how are the parts that are no machines?

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Duration;

use andon_engine::event::Event;
use tokio::sync::{mpsc, watch};

use super::SharedAnchors;
use super::distinct::MOVED_MAX;
use super::engine_thread::Urgent;
use crate::bus::BusHandle;
use crate::bus::device::{DeviceHandle, DeviceState, DeviceStatus};
use crate::clock::{self, Anchors, ClockWatch};
use crate::config::plan::Plan;
use crate::diagnostics::Progress;
use crate::history;
use crate::http::status::{self, JournalState, JournalStatus, LinkState, LinkStatus};
use crate::journal::{BootId, Follower, Journal, Payload};
use crate::mqtt::{self, MqttStatus};
use crate::recorder::StoreStatus;
use crate::wire::{BusHealth, UnitHealth};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// Events read in one go.
const RECORDS: usize = 256;

/// The running buses and devices, in the order of the plan.
#[derive(Clone)]
pub struct Lines {
    /// The buses.
    pub buses: Arc<[BusHandle]>,
    /// The devices with a protocol of their own.
    pub devices: Arc<[DeviceHandle]>,
}

/// The clock of this boot, as far as it is anchored.
pub(super) struct Clock {
    boot: BootId,
    watch: ClockWatch,
    trust_wall: bool,
    /// It was said that this boot has no wall clock.
    missed: bool,
    /// The watch before the anchor that is on its way, and how many events the journal had dropped.
    before: Option<(ClockWatch, u64)>,
}

impl Clock {
    /// That of a boot, of which the journal has these anchors.
    pub(super) fn new(boot: BootId, anchors: &Anchors, trust_wall: bool) -> Self {
        let watch = ClockWatch::new(anchors.of(&boot).last().copied());
        Self { boot, watch, trust_wall, missed: false, before: None }
    }

    /// The anchor that is due; none while one is on its way.
    fn step(&mut self, anchors: &SharedAnchors) -> Option<Event> {
        let synchronised = clock::synchronised();
        let mut anchors = anchors.write().unwrap_or_else(PoisonError::into_inner);
        if anchors.is_expecting() {
            return None;
        }
        // Read while nobody can ask for a time: whatever is measured later will find it expected.
        let (now, wall) = (clock::boot_now(), clock::wall_now_ms());
        // A record may already be of a moment that is yet to come.
        let ahead = i64::try_from(MOVED_MAX.as_millis()).unwrap_or(0);
        let (at, wall) = (now + MOVED_MAX, wall.saturating_add(ahead));
        let anchor = self.watch.step(at, wall, synchronised, self.trust_wall)?;
        anchors.expect(Some((self.boot, at)));
        Some(anchor)
    }
}

/// What the watch looks at, and whom it tells.
pub(super) struct Watch {
    pub(super) clock: Clock,
    pub(super) anchors: SharedAnchors,
    pub(super) urgent: mpsc::Sender<Urgent>,
    /// The events stream: an anchor counts once it is on disk, so that no record is ever sent
    /// with a wall time that a restart would not find again. Until then what is measured after
    /// its moment has no time.
    pub(super) written: Follower,
    pub(super) status: watch::Sender<status::Status>,
    pub(super) journal: Arc<Journal>,
    pub(super) lines: Lines,
    pub(super) progress: Arc<Progress>,
    pub(super) mqtt: Option<watch::Receiver<MqttStatus>>,
    pub(super) store: Option<watch::Receiver<StoreStatus>>,
}

impl Watch {
    /// Looks until the gateway stops.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.written.ready() => {
                    self.note_written_anchors();
                    continue;
                }
                _ = stopped.changed() => return,
            }
            self.look_at_the_clock();
            self.look_at_the_parts();
            self.progress.sample(clock::boot_now());
        }
    }

    fn look_at_the_clock(&mut self) {
        self.give_up_lost_anchor();
        let before = self.clock.watch.clone();
        let anchor = self.clock.step(&self.anchors);
        let Some(anchor) = anchor else { return self.tell_missing_clock() };
        if std::mem::take(&mut self.clock.missed) {
            tracing::info!(
                "The clock is known now: hours are counted, with those since the start."
            );
        }
        if self.urgent.try_send(Urgent::Event(anchor)).is_err() {
            tracing::warn!("The engine's urgent queue is full; the clock's anchor is tried again.");
            self.anchors_mut().expect(None);
            self.clock.watch = before;
        } else {
            self.clock.before = Some((before, self.journal.counters().events_dropped));
        }
    }

    /// An anchor that the journal has dropped is not awaited: the clock is looked at anew.
    fn give_up_lost_anchor(&mut self) {
        let Some((before, dropped)) = self.clock.before.take() else { return };
        if !self.anchors_mut().is_expecting() {
            return;
        }
        if self.journal.counters().events_dropped > dropped {
            self.anchors_mut().expect(None);
            self.clock.watch = before;
        } else {
            self.clock.before = Some((before, dropped));
        }
    }

    fn anchors_mut(&self) -> RwLockWriteGuard<'_, Anchors> {
        self.anchors.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that nothing can be counted, and what cures it.
    fn tell_missing_clock(&mut self) {
        if !self.clock.watch.is_anchored() && !std::mem::replace(&mut self.clock.missed, true) {
            tracing::warn!(
                "This computer's clock is not synchronised: no hours are counted and nothing is \
                 recorded in a store until it is. Give it NTP (see \"timedatectl\"), or, where there \
                 is none and its clock is right, set trust_wall = true in [clock]."
            );
        }
    }

    fn note_written_anchors(&mut self) {
        for record in self.written.next(RECORDS) {
            if let Payload::Event(event) = &record.payload {
                self.anchors_mut().note(record.boot, event);
            }
        }
    }

    fn look_at_the_parts(&self) {
        let counters = self.journal.counters();
        let journal = JournalStatus {
            state: if counters.failing.is_some() {
                JournalState::Failing
            } else {
                JournalState::Ok
            },
            dropped: counters.dropped + counters.events_dropped + counters.recycled_unread,
            quarantined: counters.quarantined,
        };
        let mqtt = self.mqtt.as_ref().map(|status| status.borrow().clone());
        let store = self.store.as_ref().map(|status| status.borrow().clone());
        let devices: Vec<status::Device> =
            self.lines.devices.iter().map(|device| device_status(device.status())).collect();
        let buses: Vec<status::Bus> = self
            .lines
            .buses
            .iter()
            .zip(self.status.borrow().buses.iter())
            .map(|(bus, before)| bus_status(bus, before))
            .collect();
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.synchronised = clock::synchronised();
            status.journal = journal;
            status.buses = buses;
            status.devices = devices;
            if let Some(mqtt) = mqtt {
                status.mqtt.link = link(mqtt.state == mqtt::LinkState::Up, mqtt.why, mqtt.behind);
            }
            if let Some(store) = store {
                status.store = link(store.up, store.why, store.behind);
            }
            *status != before
        });
    }
}

fn link(up: bool, why: Option<String>, behind: u64) -> LinkStatus {
    let state = if up { LinkState::Up } else { LinkState::Down };
    LinkStatus { state, why: why.map(Into::into), behind }
}

fn bus_status(bus: &BusHandle, before: &status::Bus) -> status::Bus {
    let now = bus.status();
    let down = now.down.is_some();
    let units = now.units.iter().map(|unit| {
        let (state, why) = unit.standing(down);
        status::Unit {
            source: unit.source.clone(),
            unit_id: unit.station,
            state,
            why: why.map(|why| why.word().into()),
            errors: unit.counters.errors(),
        }
    });
    status::Bus {
        id: before.id.clone(),
        state: if now.down.is_some() { LinkState::Down } else { LinkState::Up },
        why: now.down.map(Into::into),
        // Two digits: a figure that moves all the time would keep every board busy.
        occupancy: Some((now.occupancy * 100.0).round() / 100.0),
        units: units.collect(),
    }
}

fn device_status(now: DeviceStatus) -> status::Device {
    let why = now.why().map(Into::into);
    status::Device {
        source: now.source,
        protocol: now.protocol,
        state: match now.state {
            DeviceState::Down => status::DeviceState::Down,
            DeviceState::Silent => status::DeviceState::Silent,
            DeviceState::Answering => status::DeviceState::Answering,
        },
        why,
        errors: now.errors,
    }
}

/// A device as a bus of its own with one unit: whoever reads the status knows both.
fn device_health(now: DeviceStatus) -> BusHealth {
    let state = match now.state {
        DeviceState::Answering => "online",
        DeviceState::Silent => "suspect",
        DeviceState::Down => "bus_down",
    };
    let why = now.why().map(str::to_owned);
    let unit = UnitHealth { source: now.source.clone(), state: state.to_owned(), why: why.clone() };
    let up = now.state != DeviceState::Down;
    BusHealth {
        id: now.source,
        state: if up { "up" } else { "down" }.to_owned(),
        why: why.filter(|_| !up),
        units: vec![unit],
    }
}

/// Counters, buses and devices for the status that goes over MQTT.
pub(super) fn health(
    plan: Arc<Plan>,
    journal: Arc<Journal>,
    history: history::Telling,
    lines: Lines,
) -> mqtt::Health {
    Arc::new(move || {
        let (counters, past) = (journal.counters(), history().counters);
        let counters = BTreeMap::from([
            ("journal_written".to_owned(), counters.written),
            ("journal_dropped".to_owned(), counters.dropped),
            ("journal_events_dropped".to_owned(), counters.events_dropped),
            ("journal_recycled_unread".to_owned(), counters.recycled_unread),
            ("journal_quarantined".to_owned(), counters.quarantined),
            ("journal_failures".to_owned(), counters.failures),
            ("history_samples".to_owned(), past.samples),
            ("history_undated".to_owned(), past.undated),
            ("history_passed_over".to_owned(), past.passed_over),
            ("history_damaged".to_owned(), past.damaged),
            ("history_failures".to_owned(), past.failures),
            ("history_merge_failures".to_owned(), past.merge_failures),
        ]);
        let buses = plan.buses.iter().zip(lines.buses.iter()).map(|(plan, bus)| {
            let now = bus.status();
            let down = now.down.is_some();
            let units = now.units.iter().map(|unit| {
                let (state, why) = unit.standing(down);
                UnitHealth {
                    source: unit.source.clone(),
                    state: state.word().to_owned(),
                    why: why.map(|why| why.word().to_owned()),
                }
            });
            BusHealth {
                id: plan.id.clone(),
                state: if now.down.is_some() { "down" } else { "up" }.to_owned(),
                why: now.down,
                units: units.collect(),
            }
        });
        let devices = lines.devices.iter().map(|device| device_health(device.status()));
        (counters, buses.chain(devices).collect())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;

    /// The wall clock of the computer is right: this test asks for no more than that it goes on.
    #[test]
    fn what_is_measured_after_an_anchor_has_no_time_before_the_anchor_is_written() {
        let boot = BootId([7; 16]);
        let anchors = SharedAnchors::new(RwLock::new(Anchors::default()));
        let settled = |at| anchors.read().unwrap().settled_ms(&boot, at);
        // An anchor that is far off, as after a step of the wall clock.
        let old = Event::Clock { at: clock::boot_now(), wall_ms: 1_000_000_000_000 };
        anchors.write().unwrap().note(boot, &old);
        let before = clock::boot_now();
        let mut own = Clock::new(boot, &anchors.read().unwrap().clone(), true);
        let anchor = own.step(&anchors).unwrap();
        let told = settled(before);
        assert!(told.is_some(), "decided by the old anchor");
        let told_ahead = clock::boot_now() + MOVED_MAX / 2;
        assert!(settled(told_ahead).is_some(), "it may have been sent by the old one already");
        let measured = clock::boot_now() + MOVED_MAX;
        assert_eq!(settled(measured), None, "the new anchor is not on the disk yet");
        assert_eq!(own.step(&anchors), None, "one at a time");
        anchors.write().unwrap().note(boot, &anchor);
        assert_eq!(settled(before), told);
        assert!(settled(measured).unwrap() > 1_700_000_000_000, "by the new anchor, and for ever");
    }
}
