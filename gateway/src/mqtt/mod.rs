//! To the broker: what the journal holds and what is retained, at least once, in the face of
//! brokers that forget, drop, stall or are away.
//!
//! One task, never in anybody's way: it reads the journal and is written to by nobody. The
//! client library's event loop lives for one connection; whatever it had queued is forgotten
//! with it and comes from the journal again ([`lane`]), because a client that keeps its own queue
//! across connections clears it when the session is gone, and may wait for ever for a packet id.
//! PUBACK paces; delivery is what the recorder's watermark says, or PUBACK where there is none.

mod backoff;
mod births;
#[cfg(test)]
pub(crate) mod broker_fixture;
mod lane;
mod link;
mod lost;
mod messages;
mod publisher;
mod retained;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use link::{LinkOptions, client_options};
pub(crate) use lost::{Lost, TakenOver};
pub use messages::record_wall_ms;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::plan::{MqttPlan, Plan, UnitPlan};
use crate::journal::{BootId, Journal, Stream};
use crate::wire::BusHealth;

/// Wall time in Unix milliseconds of a boot's moment, when the boot has an anchor: the shared
/// [`crate::clock::Anchors`], as a function.
pub type WallClock = Arc<dyn Fn(&BootId, BootTime) -> Option<i64> + Send + Sync>;
/// The moment: [`crate::clock::boot_now`], or a test's.
pub type Now = Arc<dyn Fn() -> BootTime + Send + Sync>;
/// Counters and buses for the status payload.
pub type Health = Arc<dyn Fn() -> (BTreeMap<String, u64>, Vec<BusHealth>) + Send + Sync>;

/// How long delivery is waited for before records are sent again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When nothing at all is confirmed.
    pub resend: Duration,
    /// When something newer is confirmed.
    pub hole: Duration,
    /// How long messages may be in flight and none be acknowledged, before the client is rebuilt.
    pub progress: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            resend: Duration::from_secs(300),
            hole: Duration::from_secs(10),
            progress: NO_PROGRESS,
        }
    }
}

/// What the task is given.
#[derive(Clone)]
pub struct Inputs {
    /// The broker.
    pub mqtt: MqttPlan,
    /// Site, machines, items.
    pub plan: Arc<Plan>,
    /// This boot.
    pub boot: BootId,
    /// The source of everything that is sent.
    pub journal: Arc<Journal>,
    /// Wall time of moments.
    pub wall: WallClock,
    /// The moment.
    pub now: Now,
    /// For the status.
    pub health: Health,
    /// When to send again.
    pub pace: Pace,
}

/// Whether the broker is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected.
    #[default]
    Down,
    /// Connected.
    Up,
    /// The configuration names no broker.
    Off,
}

impl LinkState {
    /// `down`, `up`, `off`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Off => "off",
        }
    }
}

/// How delivery stands, for the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MqttStatus {
    /// Whether the broker is reached.
    pub state: LinkState,
    /// Why it is not.
    pub why: Option<String>,
    /// Records that are not confirmed yet.
    pub behind: u64,
    /// `recorder` or `puback`.
    pub confirmed_by: Option<&'static str>,
    /// What was sent, since the start.
    pub sent: Sent,
}

/// What was sent to the broker since the start, and what it has not acknowledged yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Messages between the first unacknowledged one and the newest.
    pub in_flight: usize,
    /// Records published as they happened.
    pub live: u64,
    /// Records published from what the journal holds behind: again, or late.
    pub again: u64,
}

/// The running task.
#[derive(Debug)]
pub struct MqttHandle {
    status: watch::Receiver<MqttStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl MqttHandle {
    /// How delivery stands now.
    pub fn status(&self) -> MqttStatus {
        self.status.borrow().clone()
    }

    /// How delivery stands from now on.
    pub fn watch(&self) -> watch::Receiver<MqttStatus> {
        self.status.clone()
    }

    /// Says good-bye to the broker, saves the cursors and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// See [`Pace::progress`]: brokers acknowledge within milliseconds, busy ones within seconds.
const NO_PROGRESS: Duration = Duration::from_secs(30);

/// The name of this consumer's cursors.
const CONSUMER: &str = "mqtt";

/// Starts the task.
///
/// # Errors
/// When the cursors cannot be opened or the file of trusted roots cannot be read.
pub fn start(inputs: Inputs) -> anyhow::Result<MqttHandle> {
    let [telemetry, events] = Stream::ALL.map(|stream| inputs.journal.cursor(CONSUMER, stream));
    let cursors = [telemetry?, events?];
    let options = client_options(&LinkOptions {
        host: inputs.mqtt.host.clone(),
        port: inputs.mqtt.port,
        client_id: inputs.mqtt.client_id.clone(),
        login: inputs.mqtt.login.clone(),
        ca_file: inputs.mqtt.ca_file.clone(),
    })?;
    let confirmed_by = if inputs.mqtt.recorder.is_some() { "recorder" } else { "puback" };
    let first = MqttStatus { confirmed_by: Some(confirmed_by), ..MqttStatus::default() };
    let (status, watched) = watch::channel(first);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(link::run(inputs, options, cursors, status, stopped));
    Ok(MqttHandle { status: watched, stop, task })
}

/// The profile of a device.
fn profile_id(unit: &UnitPlan) -> Arc<str> {
    Arc::clone(&unit.profile.id)
}
