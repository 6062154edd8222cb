//! Owners of devices against real peers on the loopback, and a device that exists in tests only.

use std::sync::atomic::{AtomicBool, Ordering};

use andon_adapters::device::{Heard, Lines, Outbox, Outgoing, Request, StopReply};
use andon_adapters::protocol::{Login, Protocol, Settings};
use andon_engine::event::Execution;
use andon_engine::item::Item;
use andon_engine::plan::{ItemIndex, ItemPlan, MachineIndex, Measurand};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use tokio::time::{Instant, timeout};

use super::*;
use crate::bus::Delivery;
use crate::config::plan::Credentials;

mod brokers;
mod serial;
mod streams;
mod web;

const SOON: Duration = Duration::from_secs(10);

/// Asks in the way of its reach, and understands lines, frames, bodies and payloads alike:
/// `T 20`, `STATE running`, `accepted`, `stands`, `again`, `listen`.
struct Talker {
    items: Vec<Arc<str>>,
    reach: Reach,
    lines: Lines,
    prefix: String,
}

impl Talker {
    fn ask(&self, words: &str, out: &mut Outbox) {
        out.send(match self.reach {
            Reach::Http { .. } => Outgoing::Request(Request::get(format!("/{words}"))),
            Reach::WebSocket { .. } => Outgoing::Frame(words.to_owned()),
            Reach::OwnBroker { .. } | Reach::SharedBroker => Outgoing::Publish {
                topic: format!("{}/ask", self.prefix),
                payload: words.as_bytes().to_vec(),
            },
            Reach::Tcp { .. } | Reach::Stream { .. } | Reach::Gpio => {
                Outgoing::Bytes(format!("{words}\n").into_bytes())
            }
        });
    }

    fn understand(line: &str, out: &mut Outbox) {
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("T", number) => {
                out.alive = true;
                out.number(
                    "temperature.1",
                    number.trim_end_matches("SLOW").trim().parse().unwrap_or(f64::NAN),
                );
            }
            ("STATE", word) => {
                let known = Execution::ALL.into_iter().find(|known| known.word() == word);
                out.execution(word, known);
            }
            ("accepted", _) => out.stop.push(StopReply::Accepted),
            ("stands", _) => out.stop.push(StopReply::ReadBack(true)),
            ("again", _) => out.send(Outgoing::Reopen),
            ("listen", _) => out.send(Outgoing::Listen("/push")),
            (words, _) => out.trouble = Some(format!("not understood: {words:.40}")),
        }
    }
}

impl Device for Talker {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        &[Stop::Emergency, Stop::Pause]
    }

    fn step(&mut self, _: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.lines.clear();
                if matches!(self.reach, Reach::OwnBroker { .. } | Reach::SharedBroker) {
                    out.send(Outgoing::Subscribe(format!("{}/say", self.prefix)));
                }
            }
            Heard::Due => self.ask("?", out),
            Heard::Bytes(bytes) => self.lines.take(bytes, |line| Self::understand(line, out)),
            Heard::Frame(text) => Self::understand(text, out),
            Heard::Response(response) if response.status == 200 => {
                Self::understand(&String::from_utf8_lossy(response.body), out);
            }
            Heard::Response(response) => out.trouble = Some(format!("status {}", response.status)),
            Heard::Message { payload, retained, .. } => {
                let words = String::from_utf8_lossy(payload).into_owned();
                out.flag("door", retained);
                Self::understand(&words, out);
            }
            Heard::NoResponse(why) => out.unavailable(&self.items, why),
            Heard::Level { line, on } => out.flag(if line == 0 { "door" } else { "?" }, on),
            Heard::Listening(Ok(())) => out.send(Outgoing::Frame("hello".to_owned())),
            Heard::Listening(Err(why)) => out.trouble = Some(format!("deaf: {why}")),
            Heard::Stop(stop) => self.ask(stop.word(), out),
            Heard::Closed => {}
        }
    }
}

fn talker(settings: &Settings, reach: Reach) -> Result<Box<dyn Device>, String> {
    let items = ["temperature.1", "execution"].map(Arc::from).to_vec();
    let (lines, prefix) = (Lines::default(), settings.topic.clone());
    Ok(Box::new(Talker { items, reach, lines, prefix }))
}

/// A protocol of [`Talker`] with this reach and login, kept for the life of the test process.
macro_rules! protocol {
    ($reach:expr, $login:expr) => {{
        static PROTOCOL: Protocol = Protocol {
            name: "talker",
            title: "A device of tests",
            source: "none",
            evidence: "none",
            reach: $reach,
            login: $login,
            options: &[],
            device: |settings| talker(settings, $reach),
        };
        &PROTOCOL
    }};
}
use protocol;

fn plan(protocol: &'static Protocol, place: Place) -> DevicePlan {
    let feeds = ["temperature.1", "execution", "door"];
    let feed = |(at, item): (u32, &str)| (Arc::from(item), vec![ItemIndex(at)]);
    DevicePlan {
        source: "talker".into(),
        protocol,
        settings: Settings { topic: "hall/1".to_owned(), ..Settings::default() },
        place,
        credentials: Credentials::default(),
        period: Duration::from_millis(200),
        feeds: (0..).zip(feeds).map(feed).collect(),
        stops: vec![Stop::Emergency],
    }
}

fn net(port: u16) -> Place {
    Place::Net { host: "127.0.0.1".to_owned(), port }
}

/// Two machines: the first has the temperature, the second all else.
fn engine() -> Arc<Plan> {
    let item = |(machine, name): (u16, &str)| {
        ItemPlan::new(
            MachineIndex(machine),
            Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1)),
        )
    };
    let items = [(0, "temperature.1"), (1, "execution"), (1, "door")];
    Arc::new(Plan { items: items.into_iter().map(item).collect(), ..Plan::default() })
}

/// A running device with what it delivers.
struct Bench {
    handle: DeviceHandle,
    deliveries: mpsc::Receiver<Delivery>,
    replies: mpsc::UnboundedReceiver<Reply>,
    reply: mpsc::UnboundedSender<Reply>,
}

impl Bench {
    fn start(plan: &DevicePlan, brokers: &[BrokerPlan], state_dir: &Path) -> Self {
        let (sink, deliveries) = mpsc::channel(1000);
        let shared = Runtime::start().unwrap();
        let handle = start_device(plan, brokers, &engine(), state_dir, sink, &shared).unwrap();
        let (reply, replies) = mpsc::unbounded_channel();
        Self { handle, deliveries, replies, reply }
    }

    /// Waits until `item` is delivered as `expected`.
    async fn until(&mut self, item: u32, expected: &Measured) {
        let deadline = Instant::now() + SOON;
        let mut last = None;
        loop {
            let Ok(Some(delivery)) =
                tokio::time::timeout_at(deadline, self.deliveries.recv()).await
            else {
                let status = self.handle.status();
                panic!("{expected:?} is not delivered; last was {last:?}; {status:?}");
            };
            for (found, measured) in delivery.readings {
                if found == ItemIndex(item) && measured == *expected {
                    return;
                }
                last = Some((found, measured));
            }
        }
    }

    fn stop(&self, stop: Stop) {
        let reply = self.reply.clone();
        self.handle.stop(stop, Box::new(move |answer| reply.send(answer).unwrap()));
    }

    async fn reply(&mut self) -> Reply {
        timeout(SOON + STOP_WITHIN, self.replies.recv()).await.unwrap().unwrap()
    }

    /// Waits until the status is as `wanted`.
    async fn status(&self, wanted: impl Fn(&DeviceStatus) -> bool) -> DeviceStatus {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.handle.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "still {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn number(number: f64) -> Measured {
    Ok(Value::Number(number))
}

fn failed_with(reply: &Reply, words: &str) -> bool {
    matches!(reply, Reply::Failed(said) if said.contains(words))
}

/// A folder for this test alone.
fn folder(name: &str) -> std::path::PathBuf {
    crate::recorder::fake::folder(name)
}
