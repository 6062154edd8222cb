//! Devices that are more than a register map, each with the connection that its protocol wants.
//!
//! The owner of a device ([`owner`]) opens the connection, brings the sans-IO
//! [`andon_adapters::device::Device`] what was heard, sends what it wants sent, and delivers what
//! it says. The connections ([`connection`]): a stream of bytes ([`stream`]), HTTP ([`http`]), a
//! WebSocket ([`websocket`]), a broker ([`broker`], with certificates pinned by [`pin`]), GPIO lines
//! ([`gpio`]). None of them knows what a word means, and the owner does not either.
//!
//! Bounds: bodies, frames and messages of [`BODY_BYTES_MAX`]; [`REQUESTS_MAX`] requests and
//! [`STOPS_MAX`] stops may wait; a send that takes longer than [`ANSWER_WITHIN`] ends the connection.
//!
//! [`BODY_BYTES_MAX`]: andon_adapters::device::BODY_BYTES_MAX
//! [`REQUESTS_MAX`]: andon_adapters::device::REQUESTS_MAX
//! [`ANSWER_WITHIN`]: andon_adapters::device::ANSWER_WITHIN

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use andon_adapters::device::Stop;
use andon_engine::engine::Reply;
use andon_engine::plan::Plan;
use andon_engine::time::BootTime;
use tokio::sync::{mpsc, watch};

use super::group::Machines;
use super::{Runtime, Sink};
use crate::config::plan::{BrokerPlan, DevicePlan, Place};

mod broker;
mod connection;
mod gpio;
mod http;
mod owner;
mod pin;
mod probe;
mod stream;
mod websocket;

#[cfg(test)]
mod tests;

pub use broker::Brokers;
pub use probe::{Probed, probe_device};

/// Stops that may wait: a stop is one command per attempt, and more than this waiting means that
/// the device is dead.
pub const STOPS_MAX: usize = 16;

/// How the commands of one device find it, and what it tells about itself. Its owner ends when
/// every handle is dropped.
#[derive(Clone)]
pub struct DeviceHandle {
    allowed: Arc<[Stop]>,
    stops: mpsc::Sender<Order>,
    status: Arc<Mutex<DeviceStatus>>,
    running: watch::Receiver<()>,
}

/// A stop on its way, with the way back for what becomes of it.
struct Order {
    stop: Stop,
    reply: Box<dyn FnMut(Reply) + Send>,
}

/// A device at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceStatus {
    /// The source's id.
    pub source: Arc<str>,
    /// Its protocol's name.
    pub protocol: &'static str,
    /// Why there is no connection; `None` when there is one.
    pub down: Option<String>,
    /// What is wrong although there is a connection, in the words of its protocol.
    pub trouble: Option<String>,
    /// Whether it answers: `None` before it was first asked.
    pub answers: Option<bool>,
    /// When it last answered sensibly.
    pub last_answer: Option<BootTime>,
    /// Connections that were lost.
    pub losses: u64,
}

impl DeviceStatus {
    fn before(plan: &DevicePlan) -> Self {
        Self {
            source: plan.source.clone(),
            protocol: plan.protocol.name,
            down: Some("opening".to_owned()),
            trouble: None,
            answers: None,
            last_answer: None,
            losses: 0,
        }
    }
}

impl DeviceHandle {
    /// Resolves when the owner has ended: nothing more goes out.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent; an error says that the owner's end is gone.
        while running.changed().await.is_ok() {}
    }

    /// Queues a stop and returns at once. It goes out before anything that has not begun.
    /// `reply` gets [`Reply::Echoed`] and [`Reply::ReadBack`], or [`Reply::Failed`] in the place of
    /// either; it must not block. A stop that is not on the allow-list, or finds the queue full,
    /// fails now.
    pub fn stop(&self, stop: Stop, mut reply: Box<dyn FnMut(Reply) + Send>) {
        if !self.allowed.contains(&stop) {
            reply(Reply::Failed("this stop is not on the allow-list".into()));
            return;
        }
        if let Err(refused) = self.stops.try_send(Order { stop, reply }) {
            let (words, mut order) = match refused {
                mpsc::error::TrySendError::Full(order) => ("too many stops are waiting", order),
                mpsc::error::TrySendError::Closed(order) => ("the device has ended", order),
            };
            (order.reply)(Reply::Failed(words.into()));
        }
    }

    /// The last snapshot.
    pub fn status(&self) -> DeviceStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts the owner of a device: on a thread of its own when it sits on a serial port or offers a
/// stop that an output names, else on `shared`. Whether anything is connected does not matter.
///
/// # Errors
/// When the system has no thread or descriptor left.
pub fn start_device(
    plan: &DevicePlan,
    brokers: &Brokers,
    engine: &Plan,
    state_dir: &Path,
    sink: Sink,
    shared: &Runtime,
) -> io::Result<DeviceHandle> {
    let (stops, orders) = mpsc::channel(STOPS_MAX);
    let status = Arc::new(Mutex::new(DeviceStatus::before(plan)));
    let (alive, running) = watch::channel(());
    let handle =
        DeviceHandle { allowed: plan.stops.clone().into(), stops, status: status.clone(), running };
    let opener = connection::Opener::new(plan, brokers, state_dir);
    let (plan, machines) = (plan.clone(), Machines::of_plan(engine));
    let own_thread = !plan.stops.is_empty() || matches!(plan.place, Place::Serial { .. });
    let name = format!("device {}", plan.source);
    // The owner is built where it runs: it takes the runtime's time.
    let owner = async move {
        let _alive = alive;
        match owner::Owner::new(plan, machines, sink, orders, status, opener) {
            Ok(owner) => owner.run().await,
            Err(why) => tracing::error!(why, "a device cannot be made; its settings were checked"),
        }
    };
    if own_thread {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(name).spawn(move || runtime.block_on(owner))?;
    } else {
        shared.0.spawn(owner);
    }
    Ok(handle)
}

/// The connections to the brokers that devices share, on `shared`. Dropped, they end.
pub fn start_brokers(plans: &[BrokerPlan], site: &str, shared: &Runtime) -> Brokers {
    Brokers::start(plans, site, &shared.0)
}

/// A device that has not answered for this long does not answer.
fn patience(period: Duration) -> Duration {
    /// As values go stale: 3 periods …
    const PERIODS: u32 = 3;
    /// … but not sooner than this.
    const LEAST: Duration = Duration::from_secs(5);
    (period * PERIODS).max(LEAST)
}
