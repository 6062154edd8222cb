//! Connections to the broker, one after another.
//!
//! During a connection two futures share the publisher: one awaits nothing but the client's
//! event loop, the other nothing but the clock and the wish to stop. Neither waits for the other,
//! for a channel or for a disk, so the event loop is always polled.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration,
    Transport,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::lost::{Lost, TakenOver};
use super::publisher::{Publisher, WINDOW};
use super::{Backoff, Inputs, LinkState, MqttStatus};
use crate::config::plan::Secret;
use crate::journal::{Cursor, Position};
use crate::wire::{self, PAYLOAD_MAX, Topic};

/// How often a silent connection is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often the journal and the timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often it is told how much waits, between connections.
const TELL: Duration = Duration::from_secs(1);
/// How often cursors are saved.
const SAVE: Duration = Duration::from_secs(5);
/// How often the status is sent, beside on every connection.
const STATUS: Duration = Duration::from_secs(30);
/// How long the broker may take to hear the good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// A connection that lasted as long makes the pauses short again.
const LASTED: Duration = Duration::from_secs(30);
/// Topic and framing beside the payload.
const FRAMING: usize = 1024;

/// How a broker is reached, by gateway, recorder and `tap` alike.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Unique at the broker; sessions belong to it.
    pub client_id: String,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// A PEM file of trusted roots; present means TLS.
    pub ca_file: Option<PathBuf>,
}

/// Options for a client with a persistent session.
///
/// # Errors
/// When the file of trusted roots cannot be read.
pub fn client_options(link: &LinkOptions) -> anyhow::Result<MqttOptions> {
    let mut options = MqttOptions::new(&link.client_id, &link.host, link.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(link.client_id.is_empty())
        .set_max_packet_size(PAYLOAD_MAX + FRAMING, PAYLOAD_MAX + FRAMING)
        // More than the window, so that no packet id comes round while it is in use.
        .set_inflight(u16::try_from(WINDOW * 2).unwrap_or(u16::MAX));
    if let Some((user, password)) = &link.login {
        options.set_credentials(user, &password.0);
    }
    if let Some(path) = &link.ca_file {
        let ca = std::fs::read(path)
            .with_context(|| format!("the trusted roots in {} cannot be read", path.display()))?;
        // The library builds its configuration with the process's provider; an error means that
        // there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = TlsConfiguration::Simple { ca, alpn: None, client_auth: None };
        options.set_transport(Transport::Tls(tls));
    }
    Ok(options)
}

type Shared = Mutex<Publisher>;

fn lock(publisher: &Shared) -> MutexGuard<'_, Publisher> {
    publisher.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects, publishes and connects again until told to stop.
pub(super) async fn run(
    inputs: Inputs,
    mut options: MqttOptions,
    cursors: [Cursor; 2],
    status: watch::Sender<MqttStatus>,
    mut stop: watch::Receiver<bool>,
) {
    let positions = [cursors[0].position(), cursors[1].position()];
    let publisher = Publisher::new(&inputs, positions, Instant::now());
    let will = publisher.status(false);
    let topic = Topic::Status.at(&inputs.plan.site.id);
    options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true));
    let publisher = Mutex::new(publisher);
    let mut keeper = Keeper { cursors: Some(cursors), saved: Instant::now() };
    let mut backoff = Backoff::default();
    let mut taken_over = TakenOver::default();
    while !*stop.borrow() {
        let mut connection =
            Connection { inputs: &inputs, publisher: &publisher, status: &status, since: None };
        let ended = connection.run(&options, &mut stop, &mut keeper).await;
        let lasted = connection.since.map(|since| since.elapsed());
        if lasted.is_some_and(|lasted| lasted >= LASTED) {
            backoff.reset();
        }
        let Err(why) = ended else { break };
        let why = if taken_over.ended(lasted, &why) {
            format!("another client uses the id \"{}\"", inputs.mqtt.client_id)
        } else {
            why.words
        };
        say_down(&status, &why, &inputs);
        let pause = tokio::time::sleep(backoff.pause());
        tokio::select! {
            () = pause => {}
            () = keep_telling(&publisher, &status) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        keeper.save_if_due(&publisher).await;
    }
    keeper.save(&publisher).await;
}

/// Says how much waits, for as long as it is awaited: most of all while there is no connection.
async fn keep_telling(publisher: &Shared, status: &watch::Sender<MqttStatus>) {
    let mut tick = interval(TELL);
    loop {
        tick.tick().await;
        tell_behind(publisher, status);
    }
}

fn tell_behind(publisher: &Shared, status: &watch::Sender<MqttStatus>) {
    let (behind, mut sent) = {
        let publisher = lock(publisher);
        (publisher.behind(), publisher.sent_so_far())
    };
    status.send_if_modified(|status| {
        // Nothing is on its way where there is no connection.
        if status.state != LinkState::Up {
            sent.in_flight = 0;
        }
        let before = (status.behind, status.sent);
        (status.behind, status.sent) = (behind, sent);
        before != (behind, sent)
    });
}

fn say_down(status: &watch::Sender<MqttStatus>, why: &str, inputs: &Inputs) {
    status.send_modify(|status| {
        if status.why.as_deref() != Some(why) {
            let broker = format!("{}:{}", inputs.mqtt.host, inputs.mqtt.port);
            tracing::warn!(broker, why, "the broker is not reached");
        }
        status.state = LinkState::Down;
        status.sent.in_flight = 0;
        status.why = Some(why.to_owned());
    });
}

/// The durable cursors and when they were saved.
struct Keeper {
    cursors: Option<[Cursor; 2]>,
    saved: Instant,
}

impl Keeper {
    async fn save_if_due(&mut self, publisher: &Shared) {
        if self.saved.elapsed() >= SAVE {
            self.save(publisher).await;
        }
    }

    /// Saves on a thread that may wait for the disk.
    async fn save(&mut self, publisher: &Shared) {
        self.saved = Instant::now();
        let positions = lock(publisher).positions();
        let Some(mut cursors) = self.cursors.take() else { return };
        let saving = tokio::task::spawn_blocking(move || {
            save_all(&mut cursors, positions);
            cursors
        });
        self.cursors = saving.await.ok();
    }
}

fn save_all(cursors: &mut [Cursor; 2], positions: [Option<Position>; 2]) {
    for (cursor, position) in cursors.iter_mut().zip(positions) {
        let Some(position) = position else { continue };
        if let Err(error) = cursor.save(position) {
            tracing::error!(%error, "the place in the journal could not be saved");
        }
    }
}

/// One connection.
struct Connection<'a> {
    inputs: &'a Inputs,
    publisher: &'a Shared,
    status: &'a watch::Sender<MqttStatus>,
    since: Option<Instant>,
}

impl Connection<'_> {
    /// Runs until the connection is lost (an error) or the task is to stop.
    async fn run(
        &mut self,
        options: &MqttOptions,
        stop: &mut watch::Receiver<bool>,
        keeper: &mut Keeper,
    ) -> Result<(), Lost> {
        let (client, mut events) = AsyncClient::new(options.clone(), WINDOW + 8);
        let (connected, was_connected) = watch::channel(None);
        let drive = self.drive(&client, &mut events, &connected);
        let feed = self.feed(&client, &was_connected, stop, keeper);
        let ended = tokio::select! {
            lost = drive => Err(lost),
            ended = feed => ended,
        };
        self.since = *was_connected.borrow();
        if ended.is_ok() && self.since.is_some() {
            self.say_good_bye(&client, &mut events).await;
        }
        ended
    }

    /// Awaits the event loop and nothing else.
    async fn drive(
        &self,
        client: &AsyncClient,
        events: &mut EventLoop,
        connected: &watch::Sender<Option<Instant>>,
    ) -> Lost {
        loop {
            let event = match events.poll().await {
                Ok(event) => event,
                Err(error) => return error.into(),
            };
            let now = Instant::now();
            let mut publisher = lock(self.publisher);
            match event {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    connected.send_replace(Some(now));
                    publisher.connected(now, ack.session_present);
                    self.welcome(client, ack.session_present);
                }
                Event::Incoming(Packet::PubAck(ack)) => publisher.acknowledged(now, ack.pkid),
                Event::Outgoing(Outgoing::Publish(packet)) => publisher.sent(packet),
                Event::Incoming(Packet::Publish(message)) => {
                    if let Some(recorder) = &self.inputs.mqtt.recorder {
                        publisher.received(now, recorder, &message.topic, &message.payload);
                    }
                }
                _ => continue,
            }
            pump(&mut publisher, client, now);
        }
    }

    fn welcome(&self, client: &AsyncClient, session_present: bool) {
        self.status.send_modify(|status| {
            status.state = LinkState::Up;
            status.why = None;
        });
        let broker = format!("{}:{}", self.inputs.mqtt.host, self.inputs.mqtt.port);
        tracing::info!(broker, session_present, "the broker is reached");
        if let Some(recorder) = &self.inputs.mqtt.recorder {
            let topic = Topic::Stored(recorder).at(&self.inputs.plan.site.id);
            // The channel is new and empty: this cannot fail but by a topic that is none.
            if client.try_subscribe(topic, QoS::AtLeastOnce).is_err() {
                tracing::error!(recorder, "the recorder's name cannot be part of a topic");
            }
        }
    }

    /// Awaits the clock and the wish to stop; looks after timers and new records.
    async fn feed(
        &self,
        client: &AsyncClient,
        connected: &watch::Receiver<Option<Instant>>,
        stop: &mut watch::Receiver<bool>,
        keeper: &mut Keeper,
    ) -> Result<(), Lost> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status_at = Instant::now() + STATUS;
        let progress = self.inputs.pace.progress;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            let now = Instant::now();
            {
                let mut publisher = lock(self.publisher);
                if connected.borrow().is_some() {
                    publisher.tick(now);
                    if now >= status_at {
                        status_at = now + STATUS;
                        publisher.retained.status_due();
                    }
                    pump(&mut publisher, client, now);
                    let waiting = publisher.waiting_since();
                    if waiting.is_some_and(|since| now.duration_since(since) > progress) {
                        return Err(Lost::because("the broker acknowledges nothing"));
                    }
                }
            }
            tell_behind(self.publisher, self.status);
            keeper.save_if_due(self.publisher).await;
        }
    }

    /// Leaves in an orderly way: then the broker does not publish the last will.
    async fn say_good_bye(&self, client: &AsyncClient, events: &mut EventLoop) {
        let payload = lock(self.publisher).status(false);
        let topic = Topic::Status.at(&self.inputs.plan.site.id);
        let _ = client.try_publish(topic, QoS::AtLeastOnce, true, payload);
        let _ = client.try_disconnect();
        let leave = async {
            loop {
                match events.poll().await {
                    Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        let _ = timeout(GOOD_BYE, leave).await;
    }
}

/// Hands the client library as much as the window allows.
fn pump(publisher: &mut Publisher, client: &AsyncClient, now: Instant) {
    while let Some(message) = publisher.next(now) {
        let (topic, covers) = (message.topic, message.covers);
        if !topic.split('/').all(wire::is_name) {
            tracing::error!(topic, "a name cannot be part of a topic; the message is not sent");
            continue;
        }
        match client.try_publish(topic, QoS::AtLeastOnce, message.retain, message.payload) {
            Ok(()) => publisher.taken(now, covers),
            // The window is smaller than the channel, so this does not happen; if it did, the
            // record would be sent again with the next pass.
            Err(error) => {
                tracing::warn!(%error, "the client takes no message");
                return;
            }
        }
    }
}
