//! The checked configuration: every reference resolved, every quantity in its canonical unit.
//! Only a [`Plan`] runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::Stop;
use andon_adapters::dlt645::{ANSWER_DELAY_MAX, Address};
use andon_adapters::profile::Profile;
use andon_adapters::protocol::{Protocol, Settings};
use andon_engine::plan::{ItemIndex, TripIndex};
use serde::Serialize;

pub use super::fed::{Fed, FedMany};

/// A name in the languages that it was given in.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Name {
    /// English; the id when none was given.
    pub en: String,
    /// Simplified Chinese; the English name when none was given.
    pub zh: String,
}

/// Everything that `andon run` needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workshop.
    pub site: SitePlan,
    /// Whether the system's wall clock is believed without NTP.
    pub trust_wall: bool,
    /// Where journal, cursors and the operator's token live.
    pub state_dir: PathBuf,
    /// The journal's bounds.
    pub journal: JournalPlan,
    /// How much history is kept.
    pub history: HistoryPlan,
    /// The broker, when there is one.
    pub mqtt: Option<MqttPlan>,
    /// The store that the recorder in this process writes to, when there is one.
    pub store: Option<StorePlan>,
    /// The board and the API.
    pub http: HttpPlan,
    /// The buses, each with its sources; shared with their owners.
    pub buses: Vec<Arc<BusPlan>>,
    /// The brokers that devices share: buses of type `mqtt`.
    pub brokers: Vec<BrokerPlan>,
    /// The devices that are more than a register map, each with a connection or topic of its own.
    pub devices: Vec<DevicePlan>,
    /// What people see of each machine; same order as `engine.machines`.
    pub machines: Vec<MachineFace>,
    /// What people see of each rule; same order as `engine.rules`.
    pub rules: Vec<RuleFace>,
    /// Where each trip output is wired; same order as `engine.trips`.
    pub outputs: Vec<OutputPlan>,
    /// The engine's part.
    pub engine: Arc<andon_engine::plan::Plan>,
}

/// The workshop.
#[derive(Clone, Debug)]
pub struct SitePlan {
    /// `[a-z0-9-]`; the third level of every topic.
    pub id: Arc<str>,
    /// For people.
    pub name: Name,
    /// IANA name, `Asia/Shanghai`.
    pub time_zone: String,
}

/// The journal's bounds.
#[derive(Clone, Debug)]
pub struct JournalPlan {
    /// Bytes that the telemetry stream may hold before its oldest segment is recycled.
    pub telemetry_bytes: u64,
    /// How often written records are synced; events are synced at once.
    pub sync: Duration,
}

/// How much history is kept.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPlan {
    /// Age of samples.
    pub keep: Duration,
    /// Age of the roll-up of minutes, not less; those of hours and days go by size alone.
    pub keep_minutes: Duration,
    /// Bytes of the file; beyond them the oldest goes, but for what [`crate::history`] says.
    pub bytes: u64,
}

/// The MQTT broker.
#[derive(Clone, Debug)]
pub struct MqttPlan {
    /// Host name or address.
    pub host: String,
    /// 1883, or 8883 with TLS.
    pub port: u16,
    /// Stable across restarts, unique at the broker.
    pub client_id: String,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// A PEM file of trusted roots; present means TLS.
    pub ca_file: Option<PathBuf>,
    /// The recorder whose watermark confirms delivery; without one, PUBACK does, and says so.
    pub recorder: Option<String>,
}

/// A broker that devices share.
#[derive(Clone, Debug)]
pub struct BrokerPlan {
    /// The bus's id.
    pub id: Arc<str>,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// A PEM file of trusted roots; present means TLS.
    pub ca_file: Option<PathBuf>,
}

/// A time-series store that speaks the InfluxDB v2 write API.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// `http://127.0.0.1:8428`.
    pub url: String,
    /// Organisation; may be empty for stores that have none.
    pub org: String,
    /// Bucket.
    pub bucket: String,
    /// API token; may be empty for stores that want none.
    pub token: Secret,
}

/// A secret: never printed, never serialised.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// The board and the API.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Loopback unless configured.
    pub listen: SocketAddr,
}

/// What people see of a machine.
#[derive(Clone, Debug)]
pub struct MachineFace {
    /// For people.
    pub name: Name,
    /// `laser`, `kiln`, …: picks the icon.
    pub kind: String,
    /// The items shown on its tile, most important first.
    pub key_items: Vec<ItemIndex>,
}

/// What people see of a rule.
#[derive(Clone, Debug)]
pub struct RuleFace {
    /// What happened and what to do.
    pub message: Name,
}

/// Where a trip output is wired.
#[derive(Clone, Debug)]
pub struct OutputPlan {
    /// The engine's index of it.
    pub trip: TripIndex,
    /// What is commanded.
    pub target: OutputTarget,
}

/// How long a device that is asked every `period` may take to confirm a stop: three questions, and
/// what the controller needs for itself. No longer than an attempt may last at most.
pub(crate) fn stop_deadline(period: Duration) -> Duration {
    const OF_ITS_OWN: Duration = Duration::from_secs(2);
    (period.saturating_mul(3) + OF_ITS_OWN).min(ATTEMPT_DEADLINE_MAX)
}

/// Longest that an attempt of an output may last.
pub(crate) const ATTEMPT_DEADLINE_MAX: Duration = Duration::from_secs(60);

/// What a trip output commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputTarget {
    /// A relay of a Modbus device.
    Coil {
        /// Position in [`Plan::buses`].
        bus: usize,
        /// Position in that bus's `units`.
        unit: usize,
        /// Coil address, 0-based.
        coil: u16,
        /// The coil's state that means cut; `false` for energise-to-run wiring.
        tripped: bool,
    },
    /// A stop that the machine's own controller offers.
    Stop {
        /// Position in [`Plan::devices`].
        device: usize,
        /// Which.
        stop: Stop,
    },
}

/// One serial line or TCP gateway.
#[derive(Clone, Debug)]
pub struct BusPlan {
    /// Its id.
    pub id: Arc<str>,
    /// How it is reached.
    pub link: Link,
    /// The devices on it.
    pub units: Vec<UnitPlan>,
    /// Floor of every deadline: what a device may take to begin its answer.
    pub turnaround: Duration,
    /// Least time between the end of an answer and the next request; the silence between frames
    /// is kept in any case.
    pub pause: Duration,
    /// Share of the line's time that one device which does not answer may cost.
    pub dead_share: f64,
}

impl BusPlan {
    /// How long a unit may take to begin its answer: the bus's floor, and what DL/T 645 allows
    /// its meters.
    pub fn turnaround_of(&self, unit: &UnitPlan) -> Duration {
        match unit.station {
            Station::Unit(_) => self.turnaround,
            Station::Meter(_) => self.turnaround.max(ANSWER_DELAY_MAX),
        }
    }

    /// Whether a trip output hangs on this bus (then the bus has a thread to itself).
    pub fn carries_trips(&self) -> bool {
        self.units.iter().any(|unit| !unit.writable_coils.is_empty())
    }
}

/// How a bus is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Modbus TCP.
    Tcp {
        /// `host:port`.
        address: String,
        /// The baud rate of the line behind it, for planning and deadlines; `None` where nobody
        /// said that there is one.
        baud: Option<u32>,
    },
    /// RTU frames on a TCP stream (ser2net, transparent gateways).
    RtuOverTcp {
        /// `host:port`.
        address: String,
        /// The baud rate of the line behind it, for deadlines.
        baud: u32,
    },
    /// Modbus RTU on a serial port.
    Rtu {
        /// A stable name, `/dev/serial/by-id/…`.
        port: PathBuf,
        /// Bits per second.
        baud: u32,
        /// Parity.
        parity: Parity,
        /// 1 or 2.
        stop_bits: u8,
    },
}

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// N.
    None,
    /// E.
    Even,
    /// O.
    Odd,
}

/// How a device is called on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Station {
    /// By a Modbus unit id.
    Unit(u8),
    /// By the twelve digits of a DL/T 645 meter.
    Meter(Address),
}

impl std::fmt::Display for Station {
    /// `unit 3` or `meter 123456789012`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Meter(address) => write!(f, "meter {address}"),
        }
    }
}

/// One device (source) on a bus.
#[derive(Clone, Debug)]
pub struct UnitPlan {
    /// The source's id.
    pub source: Arc<str>,
    /// How it is called on its line.
    pub station: Station,
    /// What it understands.
    pub profile: Arc<Profile>,
    /// What is polled.
    pub polls: Vec<PollPlan>,
    /// Its `periods` as they are written: items, and patterns that end in `.*`.
    pub periods: Vec<(Arc<str>, Duration)>,
    /// The write allow-list: coils that a trip output names. Anything else is refused.
    pub writable_coils: Vec<u16>,
}

/// One item of a device that is polled.
#[derive(Clone, Debug)]
pub struct PollPlan {
    /// Position in the profile's `items`.
    pub profile_item: usize,
    /// The machine items that it feeds.
    pub fed: Fed,
    /// How often.
    pub period: Duration,
    /// Factor from current/voltage transformer ratios; 1 without.
    pub ratio: f64,
}

/// A device that is more than a register map.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// The source's id.
    pub source: Arc<str>,
    /// What it speaks.
    pub protocol: &'static Protocol,
    /// What its protocol is told; it has made a device of this already, so it will again.
    pub settings: Settings,
    /// Where it is.
    pub place: Place,
    /// What it wants to see.
    pub credentials: Credentials,
    /// How often it is asked.
    pub period: Duration,
    /// Its items that are wanted, and the machine items that each feeds.
    pub feeds: Vec<(Arc<str>, Vec<ItemIndex>)>,
    /// The allow-list: stops that an output names. Any other is refused.
    pub stops: Vec<Stop>,
}

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a host: HTTP, WebSocket, a stream over TCP, or a broker of its own over TLS.
    Net {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// On a serial port that andon alone opens.
    Serial {
        /// A stable name.
        port: PathBuf,
        /// How characters travel on it.
        line: SerialLine,
    },
    /// Behind a broker that devices share; position in [`Plan::brokers`].
    Broker(usize),
    /// Lines of a GPIO chip of this computer.
    Gpio {
        /// `/dev/gpiochip0`.
        chip: PathBuf,
        /// In the order of the device's items.
        lines: Vec<GpioLine>,
    },
}

/// How characters travel on a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits per second.
    pub baud: u32,
    /// Parity.
    pub parity: Parity,
    /// 7 or 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
    /// Either side holds the other up with XOFF and lets it go on with XON.
    pub xonxoff: bool,
}

/// An input line of a GPIO chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpioLine {
    /// Offset on the chip.
    pub offset: u32,
    /// A low level means on.
    pub active_low: bool,
    /// What holds the line when nothing drives it.
    pub bias: Bias,
}

/// What holds a GPIO line when nothing drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Whatever is set already.
    AsIs,
    /// Pulled to the supply.
    PullUp,
    /// Pulled to ground.
    PullDown,
}

/// What a device wants to see before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A user name.
    pub user: Option<String>,
    /// Its password, or an access code.
    pub password: Option<Secret>,
    /// A key.
    pub key: Option<Secret>,
}
