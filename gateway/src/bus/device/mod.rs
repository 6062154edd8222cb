//! Devices that are more than a Modbus register map: one owner per device. It alone opens, brings
//! what was heard to the [`Device`](andon_adapters::device::Device), sends what that wants sent
//! and opens again; readings leave through a [`Sink`], stops come in through a [`DeviceHandle`].
//!
//! Reading order: `wire` (a connection as two queues), `stream`, `serial`, `http`, `login`,
//! `websocket`, `own_broker`, `pin`, `shared_broker`, `mqtt`, `gpio` (the kinds of it), `link`
//! (opening and opening again), `cause` (why nothing comes), `owner` (the loop), `stops` (how far a stop has come), `probe` (one
//! look). Nothing here knows what a device says.
//!
//! Bounds: stops that wait ([`STOPS_MAX`]), orders and news of a connection (`wire`), bodies,
//! frames and messages ([`BODY_BYTES_MAX`](andon_adapters::device::BODY_BYTES_MAX)), the time a
//! stop may take ([`STOP_WITHIN`]).

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use andon_adapters::device::{Device, Stop};
use andon_adapters::protocol::Reach;
use andon_engine::engine::Reply;
use andon_engine::plan::Plan;
use tokio::sync::{mpsc, watch};

use super::{Runtime, Sink, group};
use crate::config::plan::{BrokerPlan, DevicePlan, Place};

mod cause;
mod gpio;
mod http;
mod link;
mod login;
mod mqtt;
mod own_broker;
mod owner;
mod parts;
mod pin;
mod probe;
mod serial;
mod shared_broker;
mod status;
mod stops;
mod stream;
mod websocket;
mod wire;

#[cfg(test)]
mod tests;

pub use probe::{ProbedDevice, probe_device};
pub(super) use shared_broker::SharedBroker;
pub use status::{DeviceState, DeviceStatus};
pub use stops::STOP_WITHIN;
use stops::stop_within;

/// Stops that may wait. A stop is one command per attempt; more than this waiting means that the
/// device is dead, and the next is better refused than late.
pub const STOPS_MAX: usize = 16;

/// A host that has not accepted a connection within this time is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A stop on its way to the device.
struct StopOrder {
    stop: Stop,
    reply: Box<dyn FnMut(Reply) + Send>,
}

/// A running device. Its owner ends when the handle is dropped, after the stops that wait.
#[derive(Clone)]
pub struct DeviceHandle {
    plan: Arc<DevicePlan>,
    stops: mpsc::Sender<StopOrder>,
    status: Arc<Mutex<DeviceStatus>>,
    /// Closed when the owner has ended.
    running: watch::Receiver<()>,
}

impl DeviceHandle {
    /// Resolves when the owner has ended: nothing more goes out.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent; an error says that the owner's end is gone.
        while running.changed().await.is_ok() {}
    }

    /// Queues a stop and returns at once. `reply` is called with [`Reply::Echoed`] and
    /// [`Reply::ReadBack`], in the end with `ReadBack(true)` once it stands, or with
    /// [`Reply::Failed`] in the place of either; on the device's own thread: it must not block.
    /// What is not on the allow-list, or finds the queue full, is answered [`Reply::Failed`] now.
    pub fn stop(&self, stop: Stop, mut reply: Box<dyn FnMut(Reply) + Send>) {
        if !self.plan.stops.contains(&stop) {
            reply(Reply::Failed("this stop is not on the allow-list".into()));
            return;
        }
        if let Err(refused) = self.stops.try_send(StopOrder { stop, reply }) {
            let (words, mut order) = match refused {
                mpsc::error::TrySendError::Full(order) => ("too many stops are waiting", order),
                mpsc::error::TrySendError::Closed(order) => ("the device's owner has ended", order),
            };
            (order.reply)(Reply::Failed(words.into()));
        }
    }

    /// The last snapshot.
    pub fn status(&self) -> DeviceStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts the owner of a device: on a thread of its own when outputs stop it, or when it is at a
/// port of this computer, else on `shared`. Whether it is there does not matter.
///
/// # Errors
/// When the system has no thread or descriptor left, or the plan contradicts itself.
pub fn start_device(
    plan: &DevicePlan,
    brokers: &[BrokerPlan],
    engine: &Arc<Plan>,
    state_dir: &Path,
    sink: Sink,
    shared: &Runtime,
) -> io::Result<DeviceHandle> {
    let device = (plan.protocol.device)(&plan.settings).map_err(io::Error::other)?;
    let opener = opener(plan, brokers, state_dir, shared)?;
    let (handle, running) = prepare(plan, device, engine, sink, opener);
    let local = matches!(plan.place, Place::Serial { .. } | Place::Gpio { .. });
    if plan.stops.is_empty() && !local {
        shared.thread.spawn(running);
        return Ok(handle);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name(format!("device {}", plan.source))
        .spawn(move || runtime.block_on(running))?;
    Ok(handle)
}

fn prepare(
    plan: &DevicePlan,
    device: Box<dyn Device>,
    engine: &Arc<Plan>,
    sink: Sink,
    opener: wire::Opener,
) -> (DeviceHandle, impl Future<Output = ()> + Send + use<>) {
    let plan = Arc::new(plan.clone());
    let (stops, waiting) = mpsc::channel(STOPS_MAX);
    let status = Arc::new(Mutex::new(DeviceStatus::before(&plan)));
    let machines = group::Machines::of_plan(engine);
    let (alive, running) = watch::channel(());
    let inputs = owner::Inputs {
        plan: plan.clone(),
        device,
        machines,
        sink,
        stops: waiting,
        status: status.clone(),
        opener,
    };
    // The owner is built where it runs: it takes the runtime's time.
    let owner = async move {
        let _alive = alive;
        owner::Owner::new(inputs).run().await;
    };
    (DeviceHandle { plan, stops, status, running }, owner)
}

impl Runtime {
    /// The connection to a broker that devices share; started by the first of them.
    fn broker(&self, plan: &BrokerPlan, state_dir: &Path) -> io::Result<SharedBroker> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = brokers.get(&plan.id) {
            return Ok(known.clone());
        }
        let broker = SharedBroker::start(plan, state_dir, &self.suffix)?;
        brokers.insert(plan.id.clone(), broker.clone());
        Ok(broker)
    }
}

/// How the device of this plan is opened.
fn opener(
    plan: &DevicePlan,
    brokers: &[BrokerPlan],
    state_dir: &Path,
    shared: &Runtime,
) -> io::Result<wire::Opener> {
    match (&plan.place, plan.protocol.reach) {
        (Place::Net { host, port }, Reach::Tcp { .. } | Reach::Stream { .. }) => {
            Ok(stream::tcp(host, *port))
        }
        (Place::Net { host, port }, Reach::Http { .. }) => {
            Ok(http::opener(host, *port, plan.protocol.login, &plan.credentials))
        }
        (Place::Net { host, port }, Reach::WebSocket { path, .. }) => {
            Ok(websocket::opener(host, *port, path, plan.protocol.login, &plan.credentials))
        }
        (Place::Serial { port, line }, Reach::Stream { .. }) => {
            Ok(serial::opener(&plan.source, port, *line))
        }
        (Place::Net { host, port }, Reach::OwnBroker { .. }) => {
            Ok(own_broker::opener(plan, host, *port, state_dir, &shared.suffix))
        }
        (Place::Broker(at), Reach::SharedBroker) => {
            let broker = brokers.get(*at).ok_or(io::ErrorKind::NotFound)?;
            Ok(shared.broker(broker, state_dir)?.opener())
        }
        (Place::Gpio { chip, lines }, Reach::Gpio) => Ok(gpio::opener(chip, lines)),
        (place, reach) => {
            let words = format!("{}: {place:?} is no place for {reach:?}", plan.source);
            Err(io::Error::other(words))
        }
    }
}
