//! The recorder behind a broker: `andon record`.
//!
//! A persistent session and acknowledgement by hand: a message is acknowledged, and confirmed to
//! its gateway in the retained watermark, when the store has committed it. Messages that wait for
//! the store are bounded by [`QUEUE_MAX`]; what comes beyond is left to the broker and fetched by
//! reconnecting once there is room, and sent again by the gateway in any case.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::ledger::Ledger;
use super::{Store, StoreStatus, Writer, line};
use crate::config::plan::StorePlan;
use crate::journal::Stream;
use crate::mqtt::{Backoff, LinkOptions, Lost, TakenOver, client_options};
use crate::wire::{self, EventMessage, Header, ObservationMessage, Topic};

/// Most bytes of messages that wait for the store.
pub const QUEUE_MAX: usize = 32 * 1024 * 1024;
/// Most messages in one batch.
const BATCH_MAX: usize = 5000;
/// A batch is written when nothing has come for this long: brokers stop sending at their limit
/// of unacknowledged messages (mosquitto: 20), and waiting longer would only slow them down.
const QUIET: Duration = Duration::from_millis(20);
/// A batch is written when its first message has waited for this long.
const AGE: Duration = Duration::from_millis(500);
/// How often the watermarks are saved.
const SAVE: Duration = Duration::from_secs(5);
/// Requests on their way to the client library.
const CHANNEL: usize = 1024;
/// Most of a refused message that is kept in the dead-letter file, in characters.
const LETTER_MAX: usize = 4096;

/// What the recorder is given.
#[derive(Clone, Debug)]
pub struct BrokerInputs {
    /// The broker.
    pub link: LinkOptions,
    /// Topic filters: `andon/v1/<site>/+/observation` and `…/event`.
    pub filters: Vec<String>,
    /// This recorder's name, in the watermarks' topic.
    pub name: String,
    /// The store.
    pub store: StorePlan,
    /// Where the watermarks and the dead letters are kept.
    pub state: PathBuf,
}

/// The filters of sites; `+` is every site.
pub fn filters(sites: &[String]) -> Vec<String> {
    let of_site =
        |site: &String| ["observation", "event"].map(|verb| format!("andon/v1/{site}/+/{verb}"));
    sites.iter().flat_map(of_site).collect()
}

/// A message and the connection that it came by.
struct Received {
    connection: u64,
    publish: Publish,
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Received>,
    bytes: usize,
    /// Messages were left to the broker.
    left: bool,
    /// The current connection: number and client.
    connection: Option<(u64, AsyncClient)>,
}

struct Desk {
    inbox: Mutex<Inbox>,
    came: Notify,
}

impl Desk {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records until told to stop. `status` is told how the store is.
///
/// # Errors
/// When the store's URL is none or the trusted roots cannot be read.
pub async fn run(
    inputs: BrokerInputs,
    status: impl FnOnce(watch::Receiver<StoreStatus>),
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut options = client_options(&inputs.link)?;
    options.set_manual_acks(true);
    let letters = inputs.state.join(format!("{}-dead-letters.lp", inputs.name));
    let writer = Writer::new(Store::new(&inputs.store)?, letters);
    status(writer.status());
    let ledger = Ledger::load(Some(inputs.state.join(format!("{}.json", inputs.name))));
    let desk = Desk { inbox: Mutex::default(), came: Notify::new() };
    let mut clerk =
        Clerk { name: inputs.name.clone(), desk: &desk, writer, ledger, saved: Instant::now() };
    tokio::select! {
        () = receive(&inputs, &options, &desk) => {}
        () = clerk.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    clerk.ledger.save()?;
    Ok(())
}

/// Connects again and again, and awaits nothing but the event loop and the pauses between.
async fn receive(inputs: &BrokerInputs, options: &MqttOptions, desk: &Desk) {
    let mut backoff = Backoff::default();
    let mut taken_over = TakenOver::default();
    for number in 1.. {
        let (client, mut events) = AsyncClient::new(options.clone(), CHANNEL);
        let mut since = None;
        let lost = converse(inputs, number, &client, &mut events, desk, &mut since).await;
        desk.inbox().connection = None;
        drop(events);
        let broker = &inputs.link.host;
        if taken_over.ended(since.map(|since| since.elapsed()), &lost) {
            tracing::warn!(
                broker,
                id = inputs.link.client_id,
                "another client uses this id: is there a second recorder named \"{}\"? \
                 Give each a --name of its own.",
                inputs.name
            );
        } else {
            // Two of one name would otherwise throw each other out every second.
            if since.is_some() {
                backoff.reset();
            }
            tracing::warn!(broker, why = lost.words, "the connection to the broker ended");
        }
        sleep(backoff.pause()).await;
    }
}

async fn converse(
    inputs: &BrokerInputs,
    number: u64,
    client: &AsyncClient,
    events: &mut EventLoop,
    desk: &Desk,
    since: &mut Option<Instant>,
) -> Lost {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                *since = Some(Instant::now());
                tracing::info!(broker = inputs.link.host, "the broker is reached");
                let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
                // The channel is new and empty, so only a bad filter can fail.
                if client.try_subscribe_many(inputs.filters.iter().map(filter)).is_err() {
                    tracing::error!(filters = ?inputs.filters, "the broker knows no such filter");
                }
                let mut inbox = desk.inbox();
                inbox.connection = Some((number, client.clone()));
                inbox.left = false;
                drop(inbox);
                desk.came.notify_one();
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let mut inbox = desk.inbox();
                if inbox.bytes + publish.payload.len() > QUEUE_MAX {
                    inbox.left = true;
                    continue;
                }
                inbox.bytes += publish.payload.len();
                inbox.queue.push_back(Received { connection: number, publish });
                drop(inbox);
                desk.came.notify_one();
            }
            Ok(_) => {
                let inbox = desk.inbox();
                if inbox.left && inbox.queue.is_empty() {
                    let why = "messages were left to the broker while the store was away";
                    return Lost::because(why);
                }
            }
            Err(error) => return error.into(),
        }
    }
}

/// What a message becomes.
struct Entry {
    line: Option<String>,
    confirm: Option<(String, Stream, Header)>,
}

/// Writes what has come, then acknowledges and confirms it.
struct Clerk<'a> {
    name: String,
    desk: &'a Desk,
    writer: Writer,
    ledger: Ledger,
    saved: Instant,
}

impl Clerk<'_> {
    async fn run(&mut self) {
        let mut known = 0;
        loop {
            let batch = self.batch().await;
            let mut lines = Vec::with_capacity(batch.len());
            let mut confirmed = Vec::with_capacity(batch.len());
            for received in &batch {
                let entry = self.entry(&received.publish);
                lines.extend(entry.line);
                confirmed.extend(entry.confirm);
            }
            self.writer.commit(&lines).await;
            for (site, stream, header) in &confirmed {
                self.ledger.commit(site, *stream, header);
            }
            let connection = self.desk.inbox().connection.clone();
            if let Some((number, client)) = connection {
                if std::mem::replace(&mut known, number) != number {
                    self.ledger.all_due();
                }
                self.answer(number, &client, &batch).await;
            }
            if self.saved.elapsed() >= SAVE {
                self.saved = Instant::now();
                if let Err(error) = self.ledger.save() {
                    tracing::warn!(%error, "the watermarks could not be saved");
                }
            }
        }
    }

    /// Waits for messages and takes a batch; an empty one when only the connection is new.
    async fn batch(&self) -> Vec<Received> {
        let mut first = None;
        loop {
            let waiting = self.desk.inbox().queue.len();
            let now = Instant::now();
            if waiting == 0 {
                self.desk.came.notified().await;
                if self.desk.inbox().queue.is_empty() {
                    return Vec::new();
                }
                continue;
            }
            let deadline = *first.get_or_insert(now) + AGE;
            let quiet = timeout_at(deadline.min(now + QUIET), self.desk.came.notified()).await;
            if quiet.is_err() || waiting >= BATCH_MAX {
                break;
            }
        }
        let mut inbox = self.desk.inbox();
        let count = inbox.queue.len().min(BATCH_MAX);
        let batch: Vec<Received> = inbox.queue.drain(..count).collect();
        inbox.bytes = inbox.queue.iter().map(|received| received.publish.payload.len()).sum();
        self.writer.set_behind(inbox.queue.len() as u64);
        batch
    }

    /// The line of a message and what is confirmed by storing it. A message without wall time is
    /// not confirmed: its gateway will send it again with one.
    fn entry(&mut self, publish: &Publish) -> Entry {
        let nothing = Entry { line: None, confirm: None };
        let Some((site, topic)) = Topic::parse(&publish.topic) else { return nothing };
        let (stream, read) = match topic {
            Topic::Observation(machine) => (Stream::Telemetry, observation(site, machine, publish)),
            Topic::Event(_) => (Stream::Events, event(site, publish)),
            _ => return nothing,
        };
        match read {
            Ok((header, line)) => {
                let confirm = header.t.map(|_| (site.to_owned(), stream, header));
                Entry { line, confirm }
            }
            Err(error) => {
                let text = String::from_utf8_lossy(&publish.payload);
                let text: String =
                    text.chars().filter(|c| !c.is_control()).take(LETTER_MAX).collect();
                self.writer.refuse(&format!("{}: {error}", publish.topic), &text);
                // What will never be understood is confirmed all the same: it is kept in the
                // dead-letter file, and sending it again would not mend it.
                let header = wire::header(&publish.payload).ok();
                Entry {
                    line: None,
                    confirm: header.map(|header| (site.to_owned(), stream, header)),
                }
            }
        }
    }

    /// Acknowledges the batch and publishes the watermarks. Waits for the client library only,
    /// whose event loop is polled meanwhile, and which goes away with its connection.
    async fn answer(&mut self, connection: u64, client: &AsyncClient, batch: &[Received]) {
        for received in batch.iter().filter(|received| received.connection == connection) {
            if client.ack(&received.publish).await.is_err() {
                return;
            }
        }
        while let Some((site, stored)) = self.ledger.next_due() {
            let topic = Topic::Stored(&self.name).at(&site);
            let payload = wire::encode(&stored);
            if client.publish(topic, QoS::AtLeastOnce, true, payload).await.is_err() {
                return;
            }
        }
    }
}

type Read = Result<(Header, Option<String>), wire::WireError>;

fn observation(site: &str, machine: &str, publish: &Publish) -> Read {
    let message = ObservationMessage::decode(&publish.payload)?;
    let items = message.items.0.iter().map(|(item, value)| (&**item, value));
    let mut out = String::new();
    let t = message.header.t;
    let there = t.is_some_and(|t| line::observation(&mut out, site, machine, t, items));
    Ok((message.header, there.then_some(out)))
}

fn event(site: &str, publish: &Publish) -> Read {
    let message = EventMessage::decode(&publish.payload)?;
    let mut out = String::new();
    let t = message.header.t;
    let there = t.is_some_and(|t| line::event(&mut out, site, t, &message.event));
    Ok((message.header, there.then_some(out)))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeStore, folder};
    use super::*;

    const OBSERVATION: &str = include_str!("../../../tests/wire/observation.json");
    const TOPIC: &str = "andon/v1/shop/laser/observation";

    #[tokio::test]
    async fn every_message_is_stored_or_kept_and_only_dated_ones_are_confirmed() {
        let fake = FakeStore::start(Vec::new()).await;
        let letters = folder("clerk").join("letters.lp");
        let desk = Desk { inbox: Mutex::default(), came: Notify::new() };
        let mut clerk = Clerk {
            name: "main".to_owned(),
            desk: &desk,
            writer: Writer::new(Store::new(&fake.plan()).unwrap(), letters.clone()),
            ledger: Ledger::load(None),
            saved: Instant::now(),
        };
        let mut entry = |topic: &str, payload: &str| {
            let entry = clerk.entry(&Publish::new(topic, QoS::AtLeastOnce, payload));
            (entry.line.is_some(), entry.confirm.map(|(_, stream, header)| (stream, header.seq)))
        };
        assert_eq!(entry(TOPIC, OBSERVATION), (true, Some((Stream::Telemetry, 812))));
        let unsynced = include_str!("../../../tests/wire/observation-unsynced.json");
        assert_eq!(entry(TOPIC, unsynced), (false, None), "it comes again with its time");
        let evidence = include_str!("../../../tests/wire/event-evidence.json");
        let told = entry("andon/v1/shop/laser/event", evidence);
        assert_eq!(told, (false, Some((Stream::Events, 2))), "nothing to store, still delivered");
        let broken = OBSERVATION.replace("1500.25", "[1]");
        assert_eq!(entry(TOPIC, &broken), (false, Some((Stream::Telemetry, 812))));
        assert_eq!(entry(TOPIC, "\u{0}not json"), (false, None));
        assert_eq!(entry("other/topic", OBSERVATION), (false, None));
        let kept = std::fs::read_to_string(letters).unwrap();
        assert_eq!(kept.lines().filter(|line| line.starts_with("# ")).count(), 2, "{kept}");
    }

    #[test]
    fn sites_become_filters() {
        assert_eq!(
            filters(&["shop".to_owned()]),
            ["andon/v1/shop/+/observation", "andon/v1/shop/+/event"]
        );
    }
}
