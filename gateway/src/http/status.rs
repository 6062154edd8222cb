//! What the other parts tell the board about themselves. Each part changes its own field through
//! `tokio::sync::watch::Sender::send_modify`; nothing here is known until its part has spoken.

use std::sync::Arc;

use serde::Serialize;

use crate::bus::status::Standing;
use crate::config::plan::{Plan, Station};

/// The state of every part that is not a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Whether the kernel's clock is disciplined, as far as anybody has looked.
    pub synchronised: bool,
    /// Whether the configuration says that the clock is to be believed without.
    pub trust_wall: bool,
    /// The broker.
    pub mqtt: MqttStatus,
    /// The store behind the recorder in this process.
    pub store: LinkStatus,
    /// The journal.
    pub journal: JournalStatus,
    /// The buses, in the order of the configuration.
    pub buses: Vec<Bus>,
    /// The devices that are more than a register map, in the order of the configuration.
    pub devices: Vec<Device>,
}

/// A connection to something outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Works.
    Up,
    /// Does not, or nobody knows yet.
    Down,
    /// Not configured.
    Off,
}

/// A connection and how much waits for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkStatus {
    /// Whether it works.
    pub state: LinkState,
    /// Why not: `connection refused`.
    pub why: Option<Arc<str>>,
    /// Records that it has not confirmed.
    pub behind: u64,
}

/// Who confirms that a published record is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// A recorder, once its store has committed.
    Recorder,
    /// The broker, which may hold it in memory only.
    Puback,
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MqttStatus {
    /// The connection.
    #[serde(flatten)]
    pub link: LinkStatus,
    /// Who confirms; none without a broker.
    pub confirmed_by: Option<ConfirmedBy>,
}

/// Whether the journal writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalState {
    /// It does.
    Ok,
    /// It does not, or has not said so yet.
    Failing,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalStatus {
    /// Whether it writes.
    pub state: JournalState,
    /// Records lost because the writer could not keep up.
    pub dropped: u64,
    /// Blocks found broken and set aside.
    pub quarantined: u64,
}

/// One bus.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bus {
    /// Its id.
    pub id: Arc<str>,
    /// Whether its port or connection is open.
    pub state: LinkState,
    /// Why not.
    pub why: Option<Arc<str>>,
    /// Share of the time that it is busy, 0–1; none before it was measured.
    pub occupancy: Option<f64>,
    /// Its devices, in the order of the configuration.
    pub units: Vec<Unit>,
}

/// One device on a bus.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// The source's id.
    pub source: Arc<str>,
    /// Modbus unit id, or the twelve digits of a DL/T 645 meter as text.
    pub unit_id: Station,
    /// How it stands.
    pub state: Standing,
    /// Why not online.
    pub why: Option<Arc<str>>,
    /// Failed requests since the start.
    pub errors: u64,
}

/// How a device with a connection of its own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// There is no connection, or nobody knows yet.
    Down,
    /// Connected, but it does not answer.
    Silent,
    /// It answers.
    Answering,
}

/// A device with a connection or topic of its own. The time of its last answer is left out: a
/// figure that moves all the time would keep every board busy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// The source's id.
    pub source: Arc<str>,
    /// What it speaks.
    pub protocol: &'static str,
    /// How it is.
    pub state: DeviceState,
    /// What is wrong; may be there although it answers.
    pub why: Option<Arc<str>>,
    /// Failures since the start.
    pub errors: u64,
}

impl Status {
    /// Nothing heard from anybody yet: what is configured is down, the rest off.
    pub fn new(plan: &Plan) -> Self {
        let not_yet: Arc<str> = "not_yet".into();
        let link = |configured: bool| LinkStatus {
            state: if configured { LinkState::Down } else { LinkState::Off },
            why: configured.then(|| not_yet.clone()),
            behind: 0,
        };
        let unit = |unit: &crate::config::plan::UnitPlan| Unit {
            source: unit.source.clone(),
            unit_id: unit.station,
            state: Standing::NotAsked,
            why: Some(not_yet.clone()),
            errors: 0,
        };
        let bus = |bus: &crate::config::plan::BusPlan| Bus {
            id: bus.id.clone(),
            state: LinkState::Down,
            why: Some(not_yet.clone()),
            occupancy: None,
            units: bus.units.iter().map(unit).collect(),
        };
        let device = |device: &crate::config::plan::DevicePlan| Device {
            source: device.source.clone(),
            protocol: device.protocol.name,
            state: DeviceState::Down,
            why: Some(not_yet.clone()),
            errors: 0,
        };
        let confirmed_by = plan.mqtt.as_ref().map(|mqtt| match mqtt.recorder {
            Some(_) => ConfirmedBy::Recorder,
            None => ConfirmedBy::Puback,
        });
        Self {
            synchronised: false,
            trust_wall: plan.trust_wall,
            mqtt: MqttStatus { link: link(plan.mqtt.is_some()), confirmed_by },
            store: link(plan.store.is_some()),
            journal: JournalStatus { state: JournalState::Failing, dropped: 0, quarantined: 0 },
            buses: plan.buses.iter().map(|plan| bus(plan)).collect(),
            devices: plan.devices.iter().map(device).collect(),
        }
    }
}
