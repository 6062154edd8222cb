//! Once a second: is a new clock anchor due, and how are the parts that are no machines?

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::SharedAnchors;
use super::engine_thread::Urgent;
use crate::bus::BusHandle;
use crate::bus::device::{DeviceHandle, DeviceState, DeviceStatus};
use crate::clock::{self, ClockWatch};
use crate::config::plan::Plan;
use crate::diagnostics::Progress;
use crate::history;
use crate::http::status::{self, JournalState, JournalStatus, LinkState, LinkStatus};
use crate::journal::{Follower, Journal, Payload};
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

/// What the watch looks at, and whom it tells.
pub(super) struct Watch {
    pub(super) clock: ClockWatch,
    pub(super) trust_wall: bool,
    /// It was said that this boot has no wall clock.
    pub(super) clock_missed: bool,
    pub(super) anchors: SharedAnchors,
    pub(super) urgent: mpsc::Sender<Urgent>,
    /// The events stream: an anchor counts once it is on disk, so that no record is ever sent
    /// with a wall time that a restart would not find again.
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
        let (now, wall) = (clock::boot_now(), clock::wall_now_ms());
        let before = self.clock.clone();
        let due = self.clock.step(now, wall, clock::synchronised(), self.trust_wall);
        let Some(anchor) = due else { return self.tell_missing_clock() };
        if std::mem::take(&mut self.clock_missed) {
            tracing::info!(
                "The clock is known now: hours are counted, with those since the start."
            );
        }
        if self.urgent.try_send(Urgent::Event(anchor)).is_err() {
            tracing::warn!("The engine's urgent queue is full; the clock's anchor is tried again.");
            self.clock = before;
        }
    }

    /// Says once that nothing can be counted, and what cures it.
    fn tell_missing_clock(&mut self) {
        if !self.clock.is_anchored() && !std::mem::replace(&mut self.clock_missed, true) {
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
                let mut anchors = self.anchors.write().unwrap_or_else(PoisonError::into_inner);
                anchors.note(record.boot, event);
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
