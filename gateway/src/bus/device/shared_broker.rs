//! A broker that several devices share: one connection, on a thread of its own, whose messages go
//! to every device that has subscribed to their topic.
//!
//! When the connection is lost, so is every device's; each opens again and subscribes anew. A
//! device that does not take its messages loses its own connection and no one else's.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use andon_adapters::device::{BODY_BYTES_MAX, Outgoing, clean};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::CONNECT_WITHIN;
use super::mqtt::{bound, connect, matches, message, words};
use super::wire::{Ends, News, Opener, Order, Wire};
use crate::bus::pause::{PAUSE_MAX_NET, Pauses};
use crate::config::plan::BrokerPlan;
use crate::mqtt::{LinkOptions, client_options};

/// Orders of all devices that may wait.
const ORDERS_MAX: usize = 256;
/// Longest packet that is taken from the broker, most of it to be thrown away: one device's message
/// that is too long must not cost the others their connection. Beyond this, memory weighs more.
const PACKET_BYTES_MAX: usize = 16 * BODY_BYTES_MAX;
/// Filters that one device may have.
const FILTERS_MAX: usize = 64;

/// A device at the broker.
struct Member {
    id: u64,
    filters: Vec<String>,
    news: mpsc::Sender<News>,
    ended: oneshot::Sender<String>,
}

/// What the devices tell the connection.
enum Word {
    Join(Member),
    Send(u64, Outgoing),
    Leave(u64),
}

/// What the broker is told.
enum Wish {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, Vec<u8>),
}

/// A shared broker's connection. It ends when nobody holds it any more.
#[derive(Clone, Debug)]
pub(in crate::bus) struct SharedBroker {
    words: mpsc::Sender<Word>,
    /// Why it is down; `None` when it is up.
    down: watch::Receiver<Option<String>>,
}

impl SharedBroker {
    /// Starts the connection; `suffix` ends the client's name.
    ///
    /// # Errors
    /// When the system has no thread left, or the file of trusted roots cannot be read.
    pub(super) fn start(plan: &BrokerPlan, state_dir: &Path, suffix: &str) -> io::Result<Self> {
        let mut options = client_options(&LinkOptions {
            host: plan.host.clone(),
            port: plan.port,
            client_id: format!("{}{suffix}", client_id(&plan.id, state_dir)),
            login: plan.login.clone(),
            ca_file: plan.ca_file.clone(),
        })
        .map_err(|error| io::Error::other(format!("{error:#}")))?;
        bound(&mut options);
        options.set_max_packet_size(PACKET_BYTES_MAX, BODY_BYTES_MAX);
        let (words, heard) = mpsc::channel(ORDERS_MAX);
        let (say_down, down) = watch::channel(Some("opening".to_owned()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let id = plan.id.clone();
        std::thread::Builder::new()
            .name(format!("broker {id}"))
            .spawn(move || runtime.block_on(run(&id, &options, heard, &say_down)))?;
        Ok(Self { words, down })
    }

    /// The opener of a device's part of the connection.
    pub(super) fn opener(&self) -> Opener {
        let broker = self.clone();
        Box::new(move || {
            let broker = broker.clone();
            Box::pin(async move { broker.join().await })
        })
    }

    async fn join(mut self) -> io::Result<Wire> {
        // A broker that is just being reached is worth waiting for.
        let waiting = async { self.down.wait_for(Option::is_none).await.is_ok() };
        if timeout(CONNECT_WITHIN, waiting).await != Ok(true) {
            let why = self.down.borrow().clone();
            return Err(io::Error::other(why.unwrap_or_else(|| "the broker is gone".to_owned())));
        }
        Ok(Wire::start(|ends| self.carry(ends)))
    }

    async fn carry(self, Ends { mut orders, news }: Ends) -> String {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (ended, mut end) = oneshot::channel();
        let member = Member { id, filters: Vec::new(), news, ended };
        let _leaving = Leaving(id, self.words.clone());
        if self.words.send(Word::Join(member)).await.is_err() {
            return "the broker's connection has ended".to_owned();
        }
        loop {
            tokio::select! {
                why = &mut end => return why.unwrap_or_else(|_| "the broker is lost".to_owned()),
                order = orders.recv() => match order {
                    Some(Order::Send(outgoing)) => {
                        if self.words.send(Word::Send(id, outgoing)).await.is_err() {
                            return "the broker's connection has ended".to_owned();
                        }
                    }
                    Some(_) => {}
                    None => return String::new(),
                },
            }
        }
    }
}

/// Leaves when dropped. Where the queue is full, the next message finds out.
struct Leaving(u64, mpsc::Sender<Word>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.1.try_send(Word::Leave(self.0)).ok();
    }
}

/// Stable across restarts, and different for two gateways at one broker: of this computer's name
/// and the folder of state.
fn client_id(bus: &str, state_dir: &Path) -> String {
    let computer = rustix::system::uname();
    let known = crc32c::crc32c(computer.nodename().to_bytes());
    let known = crc32c::crc32c_append(known, state_dir.as_os_str().as_encoded_bytes());
    format!("andon-{known:08x}-{bus}")
}

async fn run(
    id: &Arc<str>,
    options: &MqttOptions,
    mut heard: mpsc::Receiver<Word>,
    down: &watch::Sender<Option<String>>,
) {
    let mut pauses = Pauses::new(id, PAUSE_MAX_NET);
    let mut told = false;
    loop {
        let connecting = connect(options.clone());
        tokio::pin!(connecting);
        let connected = loop {
            tokio::select! {
                connected = &mut connecting => break connected,
                word = heard.recv() => if !refuse(word) { return },
            }
        };
        let why = match connected {
            Ok((client, events)) => {
                if std::mem::take(&mut told) {
                    tracing::info!(bus = %id, "the broker is back");
                }
                pauses.reset();
                down.send_replace(None);
                let connection = Connection { client, members: Mutex::default() };
                let why = tokio::select! {
                    why = connection.hear(events) => why,
                    why = connection.obey(&mut heard) => why,
                };
                let Some(why) = why else { return };
                down.send_replace(Some(why.clone()));
                for member in connection.members().drain(..) {
                    // Whoever has left does not want to know.
                    member.ended.send(why.clone()).ok();
                }
                why
            }
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(bus = %id, error = why, "the broker is lost; trying again");
        }
        down.send_replace(Some(why));
        let pausing = sleep(pauses.next());
        tokio::pin!(pausing);
        loop {
            tokio::select! {
                () = &mut pausing => break,
                word = heard.recv() => if !refuse(word) { return },
            }
        }
    }
}

/// What is said while the broker is away is void; `false` when nobody is left to say anything.
fn refuse(word: Option<Word>) -> bool {
    if let Some(Word::Join(member)) = word {
        member.ended.send("the broker is away".to_owned()).ok();
        return true;
    }
    word.is_some()
}

/// One connection. Its two futures do not wait for each other.
struct Connection {
    client: AsyncClient,
    members: Mutex<Vec<Member>>,
}

impl Connection {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands messages on until the connection is lost.
    async fn hear(&self, mut events: EventLoop) -> Option<String> {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => self.route(&publish),
                Ok(_) => {}
                Err(error) => return Some(words(&error)),
            }
        }
    }

    fn route(&self, publish: &Publish) {
        let mut members = self.members();
        let meant = |member: &Member| {
            let mut filters = member.filters.iter();
            filters.any(|filter| matches(&publish.topic, filter))
        };
        let news = || match publish.payload.len() {
            0..=BODY_BYTES_MAX => message(publish.clone()),
            bytes => News::Trouble(format!(
                "a message of {bytes} bytes at {} was thrown away; at most {BODY_BYTES_MAX} are read",
                clean(&publish.topic)
            )),
        };
        let slow = |member: &mut Member| meant(member) && member.news.try_send(news()).is_err();
        for member in members.extract_if(.., slow) {
            member.ended.send("more messages came than are taken".to_owned()).ok();
        }
    }

    /// Does what the devices say, until nobody is left (`None`) or the connection has ended. Waits
    /// where the client is full: a hundred devices subscribe in the same moment, and one that is
    /// stuck is found out by its keep-alive.
    async fn obey(&self, heard: &mut mpsc::Receiver<Word>) -> Option<String> {
        while let Some(word) = heard.recv().await {
            for wish in self.take(word) {
                let sent = match wish {
                    Wish::Subscribe(filter) => {
                        self.client.subscribe(filter, QoS::AtLeastOnce).await
                    }
                    Wish::Unsubscribe(filter) => self.client.unsubscribe(filter).await,
                    Wish::Publish(topic, payload) => {
                        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await
                    }
                };
                if sent.is_err() {
                    return Some("the broker takes nothing".to_owned());
                }
            }
        }
        None
    }

    /// Notes what a device says; returns what the broker is to be told of it.
    fn take(&self, word: Word) -> Vec<Wish> {
        let mut members = self.members();
        match word {
            Word::Join(member) => members.push(member),
            Word::Send(id, Outgoing::Subscribe(filter)) => {
                let member = members.iter_mut().find(|member| member.id == id);
                let room = |member: &&mut Member| {
                    member.filters.len() < FILTERS_MAX && !member.filters.contains(&filter)
                };
                if let Some(member) = member.filter(room) {
                    member.filters.push(filter.clone());
                    return vec![Wish::Subscribe(filter)];
                }
            }
            Word::Send(id, Outgoing::Publish { topic, payload }) => {
                if members.iter().any(|member| member.id == id) {
                    return vec![Wish::Publish(topic, payload)];
                }
            }
            Word::Send(..) => {}
            Word::Leave(id) => {
                let left: Vec<Member> = members.extract_if(.., |member| member.id == id).collect();
                let unused =
                    |filter: &String| !members.iter().any(|member| member.filters.contains(filter));
                let filters = left.into_iter().flat_map(|member| member.filters);
                return filters.filter(unused).map(Wish::Unsubscribe).collect();
            }
        }
        Vec::new()
    }
}
