//! A plug with Tasmota firmware at a broker: what it measures is set from outside.
//!
//! It says `Online` when it comes and has `Offline` as its will; it answers `STATUS` 8 and 11 and
//! speaks only when it is asked. It takes no orders. Left out of its messages: `Time`, for there is no
//! clock here. Facts: Tasmota's documentation, "MQTT" and "Commands".
//!
//! Bound: [`ORDERS_MAX`] messages under way; what finds no room is lost and asked for again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

/// Messages of the plug that may be under way.
const ORDERS_MAX: usize = 16;
/// Between attempts to reach the broker.
const RETRY: Duration = Duration::from_secs(1);
/// Longest message that it reads.
const PACKET_BYTES_MAX: usize = 4096;
/// How well the plug hears its access point, dBm.
const SIGNAL: i32 = -58;

/// What a plug measures while its relay is on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PlugShows {
    pub(crate) volts: f64,
    pub(crate) watts: f64,
    pub(crate) watt_hours: f64,
}

/// A plug at its broker; it is gone when this goes.
#[derive(Debug)]
pub(crate) struct Tasmota {
    shows: Arc<Mutex<PlugShows>>,
    _speaking: JoinSet<()>,
}

impl Tasmota {
    /// Brings a plug with this topic to a broker, as soon as that is there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn start(broker: SocketAddr, topic: &'static str, shows: PlugShows) -> Self {
        let shows = Arc::new(Mutex::new(shows));
        let mut options = MqttOptions::new(topic, broker.ip().to_string(), broker.port());
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let presence = format!("tele/{topic}/LWT");
        options.set_last_will(LastWill::new(presence, "Offline", QoS::AtLeastOnce, true));
        let (client, events) = AsyncClient::new(options, ORDERS_MAX);
        let plug = Plug { topic, client, shows: shows.clone() };
        let mut speaking = JoinSet::new();
        speaking.spawn(plug.speak(events));
        Self { shows, _speaking: speaking }
    }

    /// What it measures from now on.
    pub(crate) fn show(&self, shows: PlugShows) {
        *self.shows.lock().unwrap_or_else(PoisonError::into_inner) = shows;
    }
}

/// The firmware's end of the conversation.
struct Plug {
    topic: &'static str,
    client: AsyncClient,
    shows: Arc<Mutex<PlugShows>>,
}

impl Plug {
    async fn speak(self, mut events: EventLoop) {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.arrive(),
                Ok(Event::Incoming(Packet::Publish(asked))) => {
                    let command = asked.topic.rsplit('/').next().unwrap_or_default();
                    self.answer(command, &asked.payload);
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn arrive(&self) {
        let topic = self.topic;
        // Without room the plug stays deaf until it connects again.
        self.client.try_subscribe(format!("cmnd/{topic}/#"), QoS::AtMostOnce).ok();
        self.say(format!("tele/{topic}/LWT"), true, "Online".to_owned());
    }

    fn answer(&self, command: &str, payload: &[u8]) {
        let shows = *self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, document) = match (command, payload) {
            ("STATUS", b"8") => ("STATUS8", shows.sensors()),
            ("STATUS", b"11") => ("STATUS11", state()),
            _ => return,
        };
        self.say(format!("stat/{}/{what}", self.topic), false, document.to_string());
    }

    fn say(&self, topic: String, kept: bool, payload: String) {
        self.client.try_publish(topic, QoS::AtMostOnce, kept, payload).ok();
    }
}

impl PlugShows {
    fn sensors(&self) -> Json {
        let amperes = if self.volts > 0.0 { self.watts / self.volts } else { 0.0 };
        let rounded = |number: f64, places: f64| (number * places).round() / places;
        json!({ "StatusSNS": { "ENERGY": {
            "Total": rounded(self.watt_hours / 1000.0, 1000.0),
            "Power": self.watts.round(),
            "ApparentPower": self.watts.round(),
            "ReactivePower": 0,
            "Factor": if self.watts > 0.0 { 1.0 } else { 0.0 },
            "Voltage": self.volts.round(),
            "Current": rounded(amperes, 1000.0),
        } } })
    }
}

fn state() -> Json {
    json!({ "StatusSTS": { "POWER": "ON", "Wifi": { "AP": 1, "RSSI": 84, "Signal": SIGNAL } } })
}
