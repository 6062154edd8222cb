//! Machine tools behind an MTConnect agent: probe, current, then sample upon sample over HTTP.
//!
//! `probe` gives the model, from which the data items of interest are chosen, the first of each kind;
//! `current` gives the whole picture and where the agent's buffer stands; from then on every period
//! asks with `sample` for what has come since, and says the merged picture, which the answer has just
//! confirmed. An agent that was restarted (another `instanceId`) is probed anew. When the buffer has
//! gone over us (`OUT_OF_RANGE`), or has run away from us by more than [`ROUNDS_MAX`] samples, `current`
//! is taken and the gap recorded in words.
//!
//! In this order:
//!
//! | the agent says | execution |
//! |---|---|
//! | Availability `UNAVAILABLE` | unknown (no value) |
//! | EmergencyStop `TRIGGERED` | stopped |
//! | Execution `UNAVAILABLE` | unknown (no value) |
//! | Execution `ACTIVE` | running, also with a Fault beside it, which is in `message` |
//! | a Condition is `Fault` | fault |
//! | `READY`, `STOPPED` | ready |
//! | `INTERRUPTED`, `FEED_HOLD`, `OPTIONAL_STOP`, `PROGRAM_STOPPED`, `PROGRAM_OPTIONAL_STOP`, `WAIT` | paused |
//! | `PROGRAM_COMPLETED` | finished |
//! | anything else | unknown |
//!
//! An agent that answers is not a machine that answers: with its adapter gone every value is
//! `UNAVAILABLE`, and that is no value here. `PATH_FEEDRATE` in percent is the override of old models;
//! only the model's units tell it from the feed.
//!
//! What is kept: the ids of the chosen items, their last texts, a bounded number of conditions.
//!
//! Facts: MTConnect standard parts 1 to 3 and the README of the reference agent (cppagent).

use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use self::document::{Document, Kind};
use self::picture::Picture;
use crate::device::{Device, Heard, Outbox, Request, Response};
use crate::http::{Asked, encoded, refusal, silence};
use crate::protocol::{Login, Protocol, Reach, Settings};

mod document;
mod picture;
#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "mtconnect",
    title: "MTConnect agent",
    source: "MTConnect standard, parts 1 to 3; README of cppagent",
    evidence: "only against a fake written from the public description",
    reach: Reach::Http { port: 5000 },
    login: Login::None,
    options: &[
        ("device", "name or uuid of the device, when the agent has several"),
        ("axes", "the linear axes that are told; \"xyz\" unless said"),
    ],
    device: |settings| Ok(Box::new(Agent::new(settings)?)),
};

const ITEMS: &[&str] = &[
    "execution",
    "controller.state",
    "controller.mode",
    "message",
    "job.name",
    "feed",
    "override.feed",
    "speed.spindle",
    "parts",
    "tool",
];

/// Observations per sample.
const COUNT: usize = 1000;

/// Samples per period; an agent that observes faster is skipped through.
const ROUNDS_MAX: u8 = 8;

/// Most devices that are named in words about them.
const NAMES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Probe,
    Current,
    Sample,
}

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unknown,
    /// The model is known; `current` is not.
    Modelled,
    /// The picture is whole as of the sequence number before this one.
    Following(u64),
}

/// A device of an agent.
struct Agent {
    items: Vec<Arc<str>>,
    axes: Vec<char>,
    device: Option<String>,
    asked: Asked<Question>,
    phase: Phase,
    instance: String,
    picture: Picture,
    rounds: u8,
    /// The first sequence number that was not seen.
    gap: Option<u64>,
}

impl Agent {
    fn new(settings: &Settings) -> Result<Self, String> {
        let axes: Vec<char> = settings.option("axes").unwrap_or("xyz").chars().collect();
        let known =
            |(place, axis): (usize, &char)| "xyz".contains(*axis) && !axes[..place].contains(axis);
        if !axes.iter().enumerate().all(known) {
            return Err("axes must be of x, y and z, each once".to_owned());
        }
        let mut items: Vec<Arc<str>> = ITEMS.iter().map(|item| (*item).into()).collect();
        items.extend(axes.iter().map(|axis| Arc::from(format!("position.{axis}"))));
        Ok(Self {
            items,
            axes,
            device: settings.option("device").map(str::to_owned),
            asked: Asked::default(),
            phase: Phase::Unknown,
            instance: String::new(),
            picture: Picture::default(),
            rounds: 0,
            gap: None,
        })
    }

    fn trouble(&self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    /// Asks for what comes next, unless something is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if !self.asked.is_empty() {
            return;
        }
        let device =
            self.device.as_deref().map_or_else(String::new, |name| format!("/{}", encoded(name)));
        let (question, path) = match self.phase {
            Phase::Unknown => (Question::Probe, format!("{device}/probe")),
            Phase::Modelled => (Question::Current, format!("{device}/current")),
            Phase::Following(next) => {
                (Question::Sample, format!("{device}/sample?from={next}&count={COUNT}"))
            }
        };
        self.asked.ask(question, Request::get(path), out);
    }

    fn response(&mut self, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.asked.answered() else { return };
        let Some(document) = document::read(response.body) else {
            let (why, words) = match response.status {
                200 => (Unavailable::Garbled, "the answer is not an MTConnect document".to_owned()),
                status => refusal(status),
            };
            if let (Question::Sample, Phase::Following(next)) = (question, self.phase) {
                // A sample that cannot be read would be asked for for ever.
                self.gap = self.gap.or(Some(next));
                self.phase = Phase::Modelled;
            }
            return self.trouble(why, words, out);
        };
        if document.kind == Kind::Error {
            return self.mistaken(&document, out);
        }
        match (question, document.kind) {
            (Question::Probe, Kind::Devices) => self.modelled(&document, out),
            (Question::Current | Question::Sample, Kind::Streams) => {
                self.streamed(question, document, out);
            }
            _ => self.trouble(Unavailable::Garbled, "the agent answers another question", out),
        }
    }

    fn mistaken(&mut self, document: &Document, out: &mut Outbox) {
        let (code, words) = document.error.clone().unwrap_or_default();
        match (&*code, self.phase) {
            ("OUT_OF_RANGE", Phase::Following(next)) => self.skip(next, out),
            ("NO_DEVICE", _) => {
                self.phase = Phase::Unknown;
                let device = self.device.as_deref().unwrap_or("");
                let words = format!("the agent has no device \"{device}\"");
                self.trouble(Unavailable::Refused, words, out);
            }
            _ => {
                self.phase = Phase::Unknown;
                self.trouble(Unavailable::Refused, format!("{code}: {words}"), out);
            }
        }
    }

    /// The agent has been lost sight of from `next` on: its current picture, and a gap.
    fn skip(&mut self, next: u64, out: &mut Outbox) {
        self.gap = self.gap.or(Some(next));
        self.phase = Phase::Modelled;
        self.ask(out);
    }

    fn modelled(&mut self, document: &Document, out: &mut Outbox) {
        let wanted = self.device.as_deref();
        let chosen = |device: &document::Device| {
            wanted.is_none_or(|wanted| device.name == wanted || device.uuid == wanted)
        };
        let devices = &document.devices;
        let mut found = devices.iter().enumerate().filter(|(_, device)| chosen(device));
        let Some((place, _)) = found.next() else {
            let words = format!("the agent has no device \"{}\"", wanted.unwrap_or(""));
            return self.trouble(Unavailable::Refused, words, out);
        };
        if found.next().is_some() {
            let names: Vec<_> =
                devices.iter().take(NAMES_MAX).map(|device| &*device.name).collect();
            let words = format!("the agent has several devices; name one: {}", names.join(", "));
            return self.trouble(Unavailable::Refused, words, out);
        }
        self.instance.clone_from(&document.header.instance);
        self.picture.choose(document.items.iter().filter(|item| item.device == place));
        self.phase = Phase::Modelled;
        self.ask(out);
    }

    fn streamed(&mut self, question: Question, document: Document, out: &mut Outbox) {
        if document.header.instance != self.instance {
            self.phase = Phase::Unknown;
            self.gap = None;
            let words = "the agent was restarted; it is probed anew";
            self.trouble(Unavailable::NotYet, words, out);
            return self.ask(out);
        }
        let Some(next) = document.header.next else {
            return self.trouble(Unavailable::Garbled, "the header has no nextSequence", out);
        };
        if question == Question::Current {
            self.picture.clear();
        }
        for observation in document.observations {
            self.picture.observe(observation);
        }
        self.phase = Phase::Following(next);
        let behind = document.header.last.is_some_and(|last| last >= next);
        if question == Question::Sample && behind {
            self.rounds += 1;
            if self.rounds >= ROUNDS_MAX {
                return self.skip(next, out);
            }
            return self.ask(out);
        }
        out.alive = true;
        self.picture.say(&self.items, &self.axes, out);
        if let Some(gap) = self.gap.take().filter(|gap| *gap < next) {
            let words = format!("a gap: observations {gap} to {} were not seen", next - 1);
            out.trouble = Some(words);
        }
    }
}

impl Device for Agent {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn step(&mut self, _: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.asked.clear();
                self.rounds = 0;
                self.ask(out);
            }
            Heard::Due => {
                self.rounds = 0;
                self.ask(out);
            }
            Heard::Response(response) => self.response(response, out),
            Heard::NoResponse(why) => {
                self.asked.answered();
                self.trouble(why, silence(why), out);
            }
            Heard::Closed => {
                self.asked.clear();
                let why = Unavailable::Disconnected;
                self.trouble(why, silence(why), out);
            }
            Heard::Bytes(_)
            | Heard::Frame(_)
            | Heard::Listening(_)
            | Heard::Message { .. }
            | Heard::Level { .. }
            | Heard::Stop(_) => {}
        }
    }
}
