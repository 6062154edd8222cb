//! Where the figures of a snapshot come from: copies of what each part says of itself. It holds no
//! queue open and no lock for longer than a copy takes.

use std::sync::{Arc, Weak};

use andon_engine::time::BootTime;
use tokio::sync::{mpsc, watch};

use super::{
    Boards, Bus, Clock, Consumer, Device, Diagnostics, Engine, Latest, Mqtt, Progress, Queue,
    Requests, Store, Unit, VERSION, millis, process,
};
use crate::bus::Delivery;
use crate::bus::device::DeviceStatus;
use crate::bus::status::{self, Counters, Status, UnitStatus};
use crate::bus::unit::UnitState;
use crate::clock;
use crate::config::plan::{BusPlan, Plan, Station};
use crate::history;
use crate::http::Moment;
use crate::journal::{BootId, Journal};
use crate::mqtt::{self, MqttStatus};
use crate::recorder::StoreStatus;
use crate::run::Lines;
use crate::run::engine_thread::Urgent;

/// What the snapshot is made of.
pub struct Parts {
    /// What runs.
    pub plan: Arc<Plan>,
    /// This boot.
    pub boot: BootId,
    /// When the process started.
    pub started: BootTime,
    /// The buses and devices.
    pub lines: Lines,
    /// The engine's counters.
    pub progress: Arc<Progress>,
    /// The engine's queues; weak, because the engine ends when nobody can feed it any more.
    pub telemetry: mpsc::WeakSender<Delivery>,
    /// What must not wait.
    pub urgent: mpsc::WeakSender<Urgent>,
    /// The journal; weak, because its last holder writes and syncs it.
    pub journal: Weak<Journal>,
    /// Says how history is.
    pub history: Option<history::Telling>,
    /// The broker's link.
    pub mqtt: Option<watch::Receiver<MqttStatus>>,
    /// The recorder in this process.
    pub store: Option<watch::Receiver<StoreStatus>>,
}

/// Makes snapshots.
pub struct Collector {
    pub(super) parts: Parts,
}

impl Collector {
    /// A collector of these parts.
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The gateway at this moment. `boards` is what the board's task says, if it could be asked.
    pub fn diagnostics(&self, now: Moment, boards: Option<Boards>) -> Diagnostics {
        let Parts { plan, lines, .. } = &self.parts;
        let buses = plan.buses.iter().zip(lines.buses.iter());
        let (anchored, synchronised) = (now.wall_ms.is_some(), clock::synchronised());
        let uptime = now.boot.since(self.parts.started);
        Diagnostics {
            v: VERSION,
            process: process::of_this(uptime, clock::process_cpu(), self.parts.boot.to_string()),
            clock: Clock {
                anchored,
                now_ms: now.wall_ms,
                kernel_synchronised: synchronised,
                trusted: plan.trust_wall,
                standing: clock::Standing::of(anchored, synchronised, plan.trust_wall),
            },
            buses: buses.map(|(plan, handle)| bus(plan, &handle.status(), now.boot)).collect(),
            devices: lines.devices.iter().map(|it| device(it.status(), now.boot)).collect(),
            engine: self.engine(now.boot),
            journal: self.parts.journal.upgrade().map(|it| journal(&it)),
            history: self.parts.history.as_ref().map(|telling| telling()),
            mqtt: self.parts.mqtt.as_ref().map(|status| broker(&status.borrow())),
            store: self.parts.store.as_ref().map(|status| store(&status.borrow())),
            boards,
        }
    }

    fn engine(&self, now: BootTime) -> Engine {
        Engine {
            telemetry_queue: queue(&self.parts.telemetry),
            urgent_queue: queue(&self.parts.urgent),
            ..self.parts.progress.engine(now)
        }
    }
}

/// How full a queue is; unknown once nobody can feed it any more.
fn queue<T>(weak: &mpsc::WeakSender<T>) -> Option<Queue> {
    let sender = weak.upgrade()?;
    let room = sender.max_capacity();
    Some(Queue { filled: room - sender.capacity(), room })
}

fn bus(plan: &BusPlan, status: &Status, now: BootTime) -> Bus {
    let up = status.down.is_none();
    Bus {
        id: plan.id.clone(),
        up,
        why: status.down.clone(),
        occupancy: status.occupancy,
        requests_per_second: Some(status.request_rate),
        worst_age_ms: status.worst_age(now).map(millis),
        latest: status.latest(now).and_then(|(unit, latest)| named(plan, unit, latest)),
        units_silent: status.silent(),
        units_polled: status.polled().count(),
        items_unread: status.unread(),
        skipped_rounds: status.skipped,
        skipped_share: status.skipped_share,
        skipping: status.skipping,
        stray_bytes: status.stray_bytes,
        units: status.units.iter().map(|it| unit(it, !up, now)).collect(),
    }
}

fn named(plan: &BusPlan, unit: usize, latest: status::Latest) -> Option<Latest> {
    let unit = plan.units.get(unit)?;
    Some(Latest {
        source: unit.source.clone(),
        item: unit.profile.items.get(latest.item)?.item.name.clone(),
        period_ms: millis(latest.period),
        age_ms: millis(latest.age),
        periods: latest.periods(),
    })
}

pub(super) fn unit(status: &UnitStatus, bus_down: bool, now: BootTime) -> Unit {
    let (standing, why) = status.standing(bus_down);
    Unit {
        source: status.source.clone(),
        unit_id: match status.station {
            Station::Unit(unit) => unit.to_string(),
            Station::Meter(address) => address.to_string(),
        },
        standing: standing.word().into(),
        why: why.map(|why| why.word().into()),
        requests: requests(&status.counters),
        allowance_ms: status.allowance.as_secs_f64() * 1000.0,
        turnaround_ms: status.turnaround.map(|it| it.as_secs_f64() * 1000.0),
        worst_age_ms: status.worst_age(now).map(millis),
        worst_age_periods: status.latest(now).map(|latest| latest.periods()),
        items_unread: status.unread(),
        skipped_rounds: status.skipped,
        holes: status.holes,
        last_answer_age_ms: status.last_answer.map(|at| millis(now.since(at))),
        asked_again_ms: match status.state {
            UnitState::Quarantined { until } | UnitState::Slow { until } if !bus_down => {
                Some(millis(until.since(now)))
            }
            _ => None,
        },
    }
}

const fn requests(counters: &Counters) -> Requests {
    Requests {
        answered: counters.answers,
        timeout: counters.timeouts,
        garbled: counters.garbled,
        refused: counters.exceptions,
        parted: counters.parted,
        disconnected: counters.disconnects,
        late: counters.late,
        retries: counters.retries,
    }
}

pub(super) fn device(status: DeviceStatus, now: BootTime) -> Device {
    Device {
        why: status.why().map(str::to_owned),
        protocol: status.protocol.into(),
        state: status.state.word().into(),
        errors: status.errors,
        last_answer_age_ms: status.last_answer.map(|at| millis(now.since(at))),
        source: status.source,
    }
}

fn journal(journal: &Journal) -> super::Journal {
    let consumers = journal.consumers().into_iter();
    let consumers = consumers.map(|(consumer, stream, behind)| Consumer {
        consumer,
        stream: stream.word().into(),
        behind,
    });
    super::Journal { counters: journal.counters(), consumers: consumers.collect() }
}

fn broker(status: &MqttStatus) -> Mqtt {
    Mqtt {
        up: status.state == mqtt::LinkState::Up,
        why: status.why.clone(),
        confirmed_by: status.confirmed_by.map(Into::into),
        connections: status.sent.connections,
        in_flight: status.sent.in_flight,
        published_live: status.sent.live,
        published_again: status.sent.again,
        unconfirmed: status.behind,
    }
}

fn store(status: &StoreStatus) -> Store {
    Store {
        up: status.up,
        why: status.why.clone(),
        committed: status.committed,
        dead_letters: status.dead_letters,
        dead_letters_lost: status.dead_letters_lost,
        behind: status.behind,
    }
}
