//! Sessions at brokers: one that devices share, each with its topics, or one of a device's own.
//!
//! A session ([`Session`]) is a task that awaits its client's event loop and what its devices want
//! to send, and gives each message to those whose filters match. Queues are bounded: a device that
//! does not take its messages loses the newest, and its values go stale, which is the truth.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::BODY_BYTES_MAX;
use andon_adapters::protocol::Login;
use rumqttc::{AsyncClient, EventLoop, Incoming, MqttOptions, QoS, TlsConfiguration, Transport};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::connection::Event;
use super::pin;
use crate::config::plan::{BrokerPlan, DevicePlan, Place};
use crate::mqtt::{LinkOptions, client_options};

/// Messages that may wait for one device.
const MESSAGES_MAX: usize = 256;
/// Subscriptions and messages that may wait for the broker.
const ORDERS_MAX: usize = 256;
/// How often a silent connection is tried; printers drop clients that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// First pause after a session was lost or refused.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Greatest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Devices at one broker.
const DEVICES_MAX: usize = 1024;

/// The brokers that devices share, in the order of the plan.
pub struct Brokers(Vec<mpsc::Sender<Word>>);

impl Brokers {
    /// Starts a session at each.
    pub(super) fn start(plans: &[BrokerPlan], site: &str, runtime: &Handle) -> Self {
        let start = |plan: &BrokerPlan| {
            let (words, heard) = mpsc::channel(ORDERS_MAX);
            let options = client_options(&LinkOptions {
                host: plan.host.clone(),
                port: plan.port,
                client_id: format!("andon-{site}-{}", plan.id),
                login: plan.login.clone(),
                ca_file: plan.ca_file.clone(),
            });
            match options {
                Ok(mut options) => {
                    // Nothing that a device says is worth keeping for later.
                    options.set_clean_session(true);
                    options.set_max_packet_size(BODY_BYTES_MAX, BODY_BYTES_MAX);
                    runtime.spawn(Session::new(options).run(heard));
                }
                Err(error) => {
                    tracing::error!(bus = %plan.id, error = format!("{error:#}"), "A broker cannot be asked.");
                }
            }
            words
        };
        Self(plans.iter().map(start).collect())
    }

    /// A way into the broker at this position of the plan.
    pub(super) fn link(&self, index: usize) -> Option<BrokerLink> {
        self.0.get(index).map(|words| BrokerLink::join(words.clone()))
    }
}

/// What devices say to a session.
enum Word {
    /// A device is there, and this is where its messages go.
    Join(mpsc::Sender<Told>),
    Subscribe {
        filter: String,
        to: mpsc::Sender<Told>,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
    },
}

/// What a session says to its devices.
#[derive(Clone, Debug)]
enum Told {
    Up,
    Down(String),
    Message { topic: Arc<str>, payload: Arc<[u8]>, retained: bool },
}

/// One device's way into a session.
pub(super) struct BrokerLink {
    words: mpsc::Sender<Word>,
    mine: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl BrokerLink {
    fn join(words: mpsc::Sender<Word>) -> Self {
        let (mine, told) = mpsc::channel(MESSAGES_MAX);
        Self { words, mine, told }
    }

    /// A session at the broker that the device itself is, over TLS with its certificate pinned.
    pub(super) fn own(plan: &DevicePlan, pins: &Path) -> Result<Self, String> {
        let Place::Net { host, port } = &plan.place else {
            return Err("this device is not at a host".to_owned());
        };
        let client_id = format!("andon-{}", plan.source);
        let mut options = MqttOptions::new(client_id, host, *port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_max_packet_size(BODY_BYTES_MAX, BODY_BYTES_MAX);
        if let (Login::Mqtt(usual), Some(password)) =
            (plan.protocol.login, &plan.credentials.password)
        {
            let user = plan.credentials.user.as_deref().unwrap_or(usual);
            options.set_credentials(user, &password.0);
        }
        let tls = pin::pinned(&plan.source, pins)?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls))));
        let (words, heard) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(Session::new(options).run(heard));
        Ok(Self::join(words))
    }

    /// Waits until the session stands.
    pub(super) async fn up(&mut self) -> Result<(), String> {
        let gone = || "the session has ended".to_owned();
        self.words.send(Word::Join(self.mine.clone())).await.map_err(|_| gone())?;
        loop {
            match self.told.recv().await.ok_or_else(gone)? {
                Told::Up => return Ok(()),
                Told::Down(why) => return Err(why),
                // Of subscriptions from before.
                Told::Message { .. } => {}
            }
        }
    }

    /// Another link into the same session, for the connection that is handed out.
    pub(super) fn again(&mut self) -> Self {
        std::mem::replace(self, Self::join(self.words.clone()))
    }

    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.told.recv().await {
                Some(Told::Message { topic, payload, retained }) => {
                    let (topic, payload) = (topic.to_string(), payload.to_vec());
                    return Event::Message { topic, payload, retained };
                }
                Some(Told::Down(why)) => return Event::Closed(why),
                Some(Told::Up) => {}
                None => return Event::Closed("the session has ended".to_owned()),
            }
        }
    }

    pub(super) fn subscribe(&self, filter: String) -> Result<(), String> {
        self.word(Word::Subscribe { filter, to: self.mine.clone() })
    }

    pub(super) fn publish(&self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        self.word(Word::Publish { topic, payload })
    }

    fn word(&self, word: Word) -> Result<(), String> {
        self.words.try_send(word).map_err(|_| "the broker takes no more messages".to_owned())
    }
}

/// The task behind the links.
struct Session {
    options: MqttOptions,
    devices: Vec<mpsc::Sender<Told>>,
    filters: HashMap<String, Vec<mpsc::Sender<Told>>>,
    /// The session stands, or why it does not.
    state: Result<(), String>,
}

impl Session {
    fn new(options: MqttOptions) -> Self {
        let state = Err("connecting".to_owned());
        Self { options, devices: Vec::new(), filters: HashMap::new(), state }
    }

    /// Runs until every device is gone.
    async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        let mut pause = PAUSE_MIN;
        loop {
            let (client, events) = AsyncClient::new(self.options.clone(), ORDERS_MAX);
            let Some(why) = self.connected(&client, events, &mut words).await else { return };
            if self.state.is_ok() {
                pause = PAUSE_MIN;
            }
            self.down(&why);
            let until = tokio::time::Instant::now() + pause;
            pause = (pause * 2).min(PAUSE_MAX);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    word = words.recv() => match word {
                        Some(word) => self.word(None, word),
                        None => return,
                    },
                }
            }
        }
    }

    /// One connection; returns why it ended, or nothing when nobody wants it any more.
    async fn connected(
        &mut self,
        client: &AsyncClient,
        mut events: EventLoop,
        words: &mut mpsc::Receiver<Word>,
    ) -> Option<String> {
        // Polled in a task of its own: cancelled in the middle, the event loop may lose a packet.
        let (forward, mut incoming) = mpsc::channel(MESSAGES_MAX);
        let polling = tokio::spawn(async move {
            loop {
                let event = match events.poll().await {
                    Ok(rumqttc::Event::Incoming(packet)) => Ok(packet),
                    Ok(rumqttc::Event::Outgoing(_)) => continue,
                    Err(error) => Err(words_of(&error)),
                };
                let ends = event.is_err();
                if forward.send(event).await.is_err() || ends {
                    return;
                }
            }
        });
        let ended = loop {
            tokio::select! {
                event = incoming.recv() => match event {
                    Some(Ok(Incoming::ConnAck(_))) => self.up(),
                    Some(Ok(Incoming::Publish(publish))) => {
                        self.route(&publish.topic, &publish.payload, publish.retain);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(why)) => break Some(why),
                    None => break Some("the connection has ended".to_owned()),
                },
                word = words.recv() => match word {
                    Some(word) => self.word(Some(client), word),
                    None => break None,
                },
            }
        };
        polling.abort();
        ended
    }

    fn up(&mut self) {
        self.state = Ok(());
        // Whoever joins hears of it, and subscribes.
        self.filters.clear();
        self.devices.retain(|device| device.try_send(Told::Up).is_ok());
    }

    fn down(&mut self, why: &str) {
        self.state = Err(why.to_owned());
        self.filters.clear();
        for device in self.devices.drain(..) {
            // A device that does not listen hears it from the end of its queue.
            device.try_send(Told::Down(why.to_owned())).ok();
        }
    }

    fn word(&mut self, client: Option<&AsyncClient>, word: Word) {
        match (word, client) {
            (Word::Join(device), _) => self.join(device),
            (Word::Subscribe { filter, to }, Some(client)) => {
                // A full queue is a broker that takes nothing: its connection ends soon.
                client.try_subscribe(&filter, QoS::AtMostOnce).ok();
                self.filters.entry(filter).or_default().push(to);
            }
            (Word::Publish { topic, payload }, Some(client)) => {
                client.try_publish(topic, QoS::AtLeastOnce, false, payload).ok();
            }
            // Said into a connection that has just ended: the device hears that it is down.
            (Word::Subscribe { .. } | Word::Publish { .. }, None) => {}
        }
    }

    fn join(&mut self, device: mpsc::Sender<Told>) {
        self.devices.retain(|device| !device.is_closed());
        self.filters.retain(|_, devices| {
            devices.retain(|device| !device.is_closed());
            !devices.is_empty()
        });
        match &self.state {
            Ok(()) => {
                device.try_send(Told::Up).ok();
            }
            Err(why) if why != "connecting" => {
                device.try_send(Told::Down(why.clone())).ok();
                return;
            }
            Err(_) => {}
        }
        if self.devices.len() < DEVICES_MAX {
            self.devices.push(device);
        }
    }

    fn route(&self, topic: &str, payload: &[u8], retained: bool) {
        let (name, body): (Arc<str>, Arc<[u8]>) = (topic.into(), payload.into());
        for (filter, devices) in &self.filters {
            if !rumqttc::matches(topic, filter) {
                continue;
            }
            for device in devices {
                let message =
                    Told::Message { topic: name.clone(), payload: body.clone(), retained };
                device.try_send(message).ok();
            }
        }
    }
}

/// What a person can do something with.
fn words_of(error: &rumqttc::ConnectionError) -> String {
    use rumqttc::ConnectReturnCode;
    match error {
        rumqttc::ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "it does not accept this user and password".to_owned(),
        error => {
            let mut words = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                words = error.to_string();
                cause = error.source();
            }
            words
        }
    }
}
