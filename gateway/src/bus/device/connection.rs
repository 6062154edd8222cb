//! One connection, whatever it is made of: what comes in as [`Event`]s, what goes out as
//! [`Outgoing`].

use std::path::Path;
use std::sync::Arc;

use andon_adapters::device::{Heard, Outgoing, Response};
use andon_adapters::protocol::Reach;
use andon_engine::value::Unavailable;

use super::broker::{BrokerLink, Brokers};
use super::gpio::GpioLink;
use super::http::HttpLink;
use super::stream::StreamLink;
use super::websocket::WebSocketLink;
use crate::config::plan::{DevicePlan, Place};

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes of a stream.
    Bytes(Vec<u8>),
    /// A text frame.
    Frame(String),
    /// The response to the oldest request.
    Response { status: u16, body: Vec<u8> },
    /// The oldest request failed; the words say how.
    NoResponse { why: Unavailable, words: String },
    /// A message of a topic.
    Message { topic: String, payload: Vec<u8>, retained: bool },
    /// The level of a line.
    Level { line: usize, on: bool },
    /// The connection is gone.
    Closed(String),
}

impl Event {
    /// As a device hears it; `None` for [`Event::Closed`], which is the owner's business.
    pub(super) fn heard(&self) -> Option<Heard<'_>> {
        Some(match self {
            Self::Bytes(bytes) => Heard::Bytes(bytes),
            Self::Frame(text) => Heard::Frame(text),
            Self::Response { status, body } => Heard::Response(Response { status: *status, body }),
            Self::NoResponse { why, .. } => Heard::NoResponse(*why),
            Self::Message { topic, payload, retained } => {
                Heard::Message { topic, payload, retained: *retained }
            }
            Self::Level { line, on } => Heard::Level { line: *line, on: *on },
            Self::Closed(_) => return None,
        })
    }
}

/// An open connection.
pub(super) enum Connection {
    Stream(StreamLink),
    Http(Box<HttpLink>),
    WebSocket(Box<WebSocketLink>),
    Broker(BrokerLink),
    Gpio(GpioLink),
}

impl Connection {
    /// What comes next. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        match self {
            Self::Stream(link) => link.next().await,
            Self::Http(link) => link.next().await,
            Self::WebSocket(link) => link.next().await,
            Self::Broker(link) => link.next().await,
            Self::Gpio(link) => link.next().await,
        }
    }

    /// Sends; what does not go with this kind of connection is refused in words.
    pub(super) async fn send(&mut self, outgoing: Outgoing) -> Result<(), String> {
        match (self, outgoing) {
            (Self::Stream(link), Outgoing::Bytes(bytes)) => link.send(&bytes).await,
            (Self::Http(link), Outgoing::Request(request)) => link.send(request),
            (Self::WebSocket(link), Outgoing::Frame(text)) => link.send(text).await,
            (Self::Broker(link), Outgoing::Subscribe(filter)) => link.subscribe(filter),
            (Self::Broker(link), Outgoing::Publish { topic, payload }) => {
                link.publish(topic, payload)
            }
            (_, outgoing) => Err(format!("{outgoing:?} does not go over this connection")),
        }
    }

    /// The period has come round: lines are read where nothing else would bring them.
    pub(super) fn due(&mut self) {
        if let Self::Gpio(link) = self {
            link.due();
        }
    }
}

/// Opens the connection of one device, as often as it takes.
pub(super) struct Opener {
    plan: DevicePlan,
    pins: Arc<Path>,
    /// The way into a broker that devices share, or that is the device's own.
    broker: Option<BrokerLink>,
    /// Opening a serial port may reset what is behind it: told once.
    warned: bool,
}

impl Opener {
    pub(super) fn new(plan: &DevicePlan, brokers: &Brokers, state_dir: &Path) -> Self {
        let broker = match plan.place {
            Place::Broker(index) => brokers.link(index),
            _ => None,
        };
        let pins = state_dir.join("pins").into();
        Self { plan: plan.clone(), pins, broker, warned: false }
    }

    /// Whether the port of a serial device is still there.
    pub(super) fn port_exists(&self) -> bool {
        matches!(&self.plan.place, Place::Serial { port, .. } if port.exists())
    }

    /// Opens.
    ///
    /// # Errors
    /// In words, when it cannot be.
    pub(super) async fn open(&mut self) -> Result<Connection, String> {
        match (&self.plan.place, self.plan.protocol.reach) {
            (Place::Serial { port, .. }, _) => {
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(
                        source = %self.plan.source, port = %port.display(),
                        "Opening this port may reset the controller behind it."
                    );
                }
                StreamLink::serial(&self.plan.place).await.map(Connection::Stream)
            }
            (Place::Net { .. }, Reach::Http { .. }) => {
                HttpLink::new(&self.plan).map(Box::new).map(Connection::Http)
            }
            (Place::Net { host, port }, Reach::WebSocket { path, .. }) => {
                let link = WebSocketLink::open(host, *port, path, &self.plan).await?;
                Ok(Connection::WebSocket(Box::new(link)))
            }
            (Place::Net { .. }, Reach::OwnBroker { .. }) => {
                let mut link = match self.broker.take() {
                    Some(link) => link,
                    None => BrokerLink::own(&self.plan, &self.pins)?,
                };
                link.up().await?;
                Ok(Connection::Broker(link))
            }
            (Place::Net { host, port }, _) => {
                StreamLink::tcp(host, *port).await.map(Connection::Stream)
            }
            (Place::Broker(_), _) => {
                let link = self.broker.as_mut().ok_or("its broker does not run")?;
                link.up().await?;
                Ok(Connection::Broker(link.again()))
            }
            (Place::Gpio { chip, lines }, _) => {
                GpioLink::open(chip, lines).await.map(Connection::Gpio)
            }
        }
    }
}
