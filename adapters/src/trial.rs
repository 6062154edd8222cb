//! For tests only: a device with its clock, what it is told, and what came of it. Every step is held to
//! the contract. What a bad day brings it is [`rubbish`].

use std::collections::BTreeMap;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use crate::contract;
use crate::device::{Device, Heard, Outbox, Outgoing, Response, StopReply};
use crate::protocol::{Protocol, Settings};

mod rubbish;

pub(crate) use rubbish::{Sound, same_in_any_portions, sounds, survives, survives_rubbish};

/// A device with its clock and all that it has said so far.
pub(crate) struct Trial {
    pub(crate) device: Box<dyn Device>,
    pub(crate) now: BootTime,
    pub(crate) said: BTreeMap<String, Measured>,
    /// Bytes that were sent; what was sent in another way stands between them in words.
    pub(crate) sent: Vec<u8>,
    pub(crate) stop: Vec<StopReply>,
    pub(crate) trouble: Option<String>,
}

impl Trial {
    /// A device that has heard nothing yet.
    pub(crate) fn over(device: Box<dyn Device>) -> Self {
        let (said, now) = (BTreeMap::new(), BootTime::from_millis(1_000_000));
        let (sent, stop) = (Vec::new(), Vec::new());
        Self { device, now, said, sent, stop, trouble: None }
    }

    /// A device that has just been connected.
    pub(crate) fn opened(device: Box<dyn Device>) -> Self {
        let mut trial = Self::over(device);
        trial.hear(Heard::Opened);
        trial
    }

    /// A device of this protocol with this topic and these options.
    pub(crate) fn of(protocol: &Protocol, topic: &str, options: &[(&'static str, &str)]) -> Self {
        let options = options.iter().map(|&(key, text)| (key, text.to_owned())).collect();
        Self::with(protocol, &Settings { topic: topic.to_owned(), options, ..Settings::default() })
    }

    /// A device of this protocol with these settings.
    pub(crate) fn with(protocol: &Protocol, settings: &Settings) -> Self {
        Self::over((protocol.device)(settings).unwrap())
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// One step; what only this step said is returned.
    pub(crate) fn hear(&mut self, heard: Heard<'_>) -> Outbox {
        let mut out = Outbox::default();
        self.device.step(self.now, heard, &mut out);
        contract::check(&*self.device, &out);
        for (item, measured) in &out.said {
            self.said.insert(item.to_string(), measured.clone());
        }
        for sent in &out.sends {
            match sent {
                Outgoing::Bytes(bytes) => self.sent.extend(bytes),
                other => self.sent.extend(format!("<{other:?}>").bytes()),
            }
        }
        self.stop.extend(out.stop.iter().cloned());
        self.trouble = out.trouble.clone().or(self.trouble.take());
        out
    }

    pub(crate) fn lines(&mut self, lines: &[&str]) -> Outbox {
        self.hear(Heard::Bytes(
            lines.iter().flat_map(|l| [l, "\r\n"]).collect::<String>().as_bytes(),
        ))
    }

    /// A message that is not retained.
    pub(crate) fn message(&mut self, topic: &str, payload: &str) -> Outbox {
        self.hear(Heard::Message { topic, payload: payload.as_bytes(), retained: false })
    }

    /// A message that the broker kept.
    pub(crate) fn retained(&mut self, topic: &str, payload: &str) -> Outbox {
        self.hear(Heard::Message { topic, payload: payload.as_bytes(), retained: true })
    }

    /// A response of status 200.
    pub(crate) fn response(&mut self, body: &str) -> Outbox {
        self.hear(response(200, body))
    }

    pub(crate) fn due_after(&mut self, millis: u64) -> Outbox {
        self.wait(Duration::from_millis(millis));
        self.hear(Heard::Due)
    }

    /// The text that was last said of an item.
    pub(crate) fn text(&self, item: &str) -> String {
        self.said.get(item).map_or_else(|| "-".to_owned(), worded)
    }

    pub(crate) fn number(&self, item: &str) -> f64 {
        self.said[item].clone().unwrap().as_number().unwrap()
    }

    /// What was sent since the last call, as text.
    pub(crate) fn take_sent(&mut self) -> String {
        std::mem::take(&mut self.sent).iter().map(|&b| char::from(b)).collect()
    }
}

fn worded(measured: &Measured) -> String {
    match measured {
        Ok(value) => value.to_string(),
        Err(why) => format!("({why})"),
    }
}

/// What was said, worded: the last of each item.
pub(crate) fn said(out: &Outbox) -> BTreeMap<String, String> {
    out.said.iter().map(|(item, measured)| (item.to_string(), worded(measured))).collect()
}

/// One line per item that was said, in the order of their names.
pub(crate) fn told(out: &Outbox) -> String {
    said(out).iter().map(|(item, words)| format!("{item} {words}\n")).collect()
}

/// What an outbox says of an item, last word.
pub(crate) fn measured(out: &Outbox, item: &str) -> Option<Measured> {
    out.said.iter().rev().find(|(name, _)| &**name == item).map(|(_, measured)| measured.clone())
}

/// The number that is said of an item.
pub(crate) fn number(out: &Outbox, item: &str) -> f64 {
    match measured(out, item) {
        Some(Ok(Value::Number(number))) => number,
        other => panic!("{item} is {other:?}"),
    }
}

/// The text that is said of an item.
pub(crate) fn text(out: &Outbox, item: &str) -> String {
    match measured(out, item) {
        Some(Ok(Value::Text(text))) => text.to_string(),
        other => panic!("{item} is {other:?}"),
    }
}

/// A flag.
#[expect(clippy::unnecessary_wraps, reason = "what is said is a result")]
pub(crate) fn flag(flag: bool) -> Option<Measured> {
    Some(Ok(Value::Flag(flag)))
}

/// The payloads that are published to a topic.
pub(crate) fn published(out: &Outbox, to: &str) -> Vec<String> {
    let payload = |outgoing: &Outgoing| match outgoing {
        Outgoing::Publish { topic, payload } if topic == to => {
            Some(String::from_utf8(payload.clone()).unwrap())
        }
        _ => None,
    };
    out.sends.iter().filter_map(payload).collect()
}

/// Steps a device and hands back what follows.
pub(crate) fn step(device: &mut dyn Device, seconds: u64, heard: Heard<'_>) -> Outbox {
    step_at(device, seconds * 1000, heard)
}

/// The same at milliseconds.
pub(crate) fn step_at(device: &mut dyn Device, millis: u64, heard: Heard<'_>) -> Outbox {
    let mut out = Outbox::default();
    device.step(BootTime::from_millis(millis), heard, &mut out);
    contract::check(device, &out);
    out
}

/// A response with a body.
pub(crate) fn response(status: u16, body: &str) -> Heard<'_> {
    Heard::Response(Response { status, body: body.as_bytes(), is_part: false })
}

/// A part of an answer that goes on.
pub(crate) fn part(body: &str) -> Heard<'_> {
    Heard::Response(Response { status: 200, body: body.as_bytes(), is_part: true })
}

/// Whether every item was said to be missing for this reason.
pub(crate) fn all_missing(device: &dyn Device, out: &Outbox, why: Unavailable) -> bool {
    device.items().iter().all(|item| measured(out, item) == Some(Err(why)))
}

/// The same of all but `online`.
pub(crate) fn all_unavailable(device: &dyn Device, out: &Outbox, why: Unavailable) -> bool {
    let mut others = device.items().iter().filter(|item| &***item != "online");
    others.all(|item| measured(out, item) == Some(Err(why)))
}

/// Names of a device's items, which must all be on the closed list and be there once.
pub(crate) fn offered(device: &dyn Device) -> Vec<String> {
    contract::check_items(device.items());
    device.items().iter().map(ToString::to_string).collect()
}

/// A closed connection makes every item unavailable.
pub(crate) fn closing_makes_all_unavailable(trial: &mut Trial) {
    trial.hear(Heard::Closed);
    for item in offered(&*trial.device) {
        assert_eq!(trial.said[&item], Err(Unavailable::Disconnected), "{item}");
    }
}
