//! Machine tools behind an MTConnect agent: probe, current, then sample upon sample over HTTP.
//!
//! `probe` gives the model, from which the data items of interest are chosen, the first of each kind
//! in the one path that is told (`choice`); `current` gives the whole picture and where the agent's
//! buffer stands; from then on `sample` tells what has come since, and every answer confirms the
//! merged picture, which is said. The agent is asked to go on telling by itself ([`GOES_ON`]); one that
//! does not, or falls silent, is asked every period instead (`stream`). An agent that was restarted
//! (another `instanceId`) is probed anew. When the buffer has gone over us (`OUT_OF_RANGE`), or has run
//! away from us by more than [`ROUNDS_MAX`] samples, `current` is taken and the gap recorded in words.
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
use self::picture::{Picture, State};
use self::stream::Stream;
use crate::device::{Device, Heard, Outbox, Request, Response};
use crate::http::{Asked, encoded, refusal, silence};
use crate::protocol::{Login, Protocol, Reach, Settings};

mod choice;
mod document;
mod picture;
mod stream;
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
        ("path", "name or id of the path or component, when the device has several executions"),
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

/// Most observations per sample.
const COUNT: usize = 1000;

/// Asks for an answer that goes on: at most five parts a second, and at least one, which says that
/// nothing has changed.
const GOES_ON: &str = "&interval=200&heartbeat=1000";

/// Samples per period; an agent that observes faster is skipped through.
const ROUNDS_MAX: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Probe,
    Current,
    Sample,
    /// A sample that goes on.
    Follow,
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
    path: Option<String>,
    /// Observations that are asked for at once: no more than the agent's buffer holds.
    count: usize,
    asked: Asked<Question>,
    phase: Phase,
    instance: String,
    picture: Picture,
    rounds: u8,
    stream: Stream,
    /// The first sequence number that was not seen.
    gap: Option<u64>,
    /// What the machine does, as it was said last.
    said: Option<State>,
    /// Nothing was said in this period yet.
    owed: bool,
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
            path: settings.option("path").map(str::to_owned),
            count: COUNT,
            asked: Asked::default(),
            phase: Phase::Unknown,
            instance: String::new(),
            picture: Picture::default(),
            rounds: 0,
            stream: Stream::default(),
            gap: None,
            said: None,
            owed: true,
        })
    }

    fn trouble(&self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    /// Asks for what comes next, unless something is on its way.
    fn ask(&mut self, now: BootTime, out: &mut Outbox) {
        if !self.asked.is_empty() {
            return;
        }
        let device =
            self.device.as_deref().map_or_else(String::new, |name| format!("/{}", encoded(name)));
        let (question, path) = match self.phase {
            Phase::Unknown => (Question::Probe, format!("{device}/probe")),
            Phase::Modelled => (Question::Current, format!("{device}/current")),
            Phase::Following(next) => {
                let path = format!("{device}/sample?from={next}&count={}", self.count);
                if self.stream.may_begin(now) {
                    self.stream.begin(now);
                    (Question::Follow, path + GOES_ON)
                } else {
                    (Question::Sample, path)
                }
            }
        };
        self.asked.ask(question, Request::get(path), out);
    }

    /// The question that a response answers. Parts that come after we have asked for something else
    /// answer nothing.
    fn answered(&mut self, now: BootTime, response: Response<'_>) -> Option<Question> {
        match (response.is_part, self.stream.is_open()) {
            (true, true) => {
                self.stream.part(now);
                Some(Question::Follow)
            }
            (true, false) => None,
            (false, _) => {
                self.stream.close();
                self.asked.answered()
            }
        }
    }

    /// An agent that was asked to go on does not.
    fn refused(&mut self, now: BootTime, question: Question) {
        self.close_stream();
        if question == Question::Follow {
            self.stream.refuse(now);
        }
    }

    /// Whatever the agent goes on to tell, something else is to be asked.
    fn close_stream(&mut self) {
        if self.stream.is_open() {
            self.stream.close();
            self.asked.clear();
        }
    }

    fn response(&mut self, now: BootTime, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.answered(now, response) else { return };
        let Some(document) = document::read(response.body) else {
            let (why, words) = match response.status {
                200 => (Unavailable::Garbled, "the answer is not an MTConnect document".to_owned()),
                status => refusal(status),
            };
            if let (Question::Sample | Question::Follow, Phase::Following(next)) =
                (question, self.phase)
            {
                // A sample that cannot be read would be asked for for ever.
                self.refused(now, question);
                self.gap = self.gap.or(Some(next));
                self.phase = Phase::Modelled;
            }
            return self.trouble(why, words, out);
        };
        if document.kind == Kind::Error {
            return self.mistaken(now, question, &document, out);
        }
        match (question, document.kind) {
            (Question::Probe, Kind::Devices) => self.modelled(now, &document, out),
            (Question::Current | Question::Sample | Question::Follow, Kind::Streams) => {
                if !response.is_part {
                    self.refused(now, question);
                }
                self.streamed(now, question, document, out);
            }
            _ => self.trouble(Unavailable::Garbled, "the agent answers another question", out),
        }
    }

    fn mistaken(
        &mut self,
        now: BootTime,
        question: Question,
        document: &Document,
        out: &mut Outbox,
    ) {
        let (code, words) = document.error.clone().unwrap_or_default();
        self.close_stream();
        match (&*code, self.phase) {
            ("OUT_OF_RANGE", Phase::Following(next)) => self.skip(now, next, out),
            ("NO_DEVICE", _) => {
                self.phase = Phase::Unknown;
                let device = self.device.as_deref().unwrap_or("");
                let words = format!("the agent has no device \"{device}\"");
                self.trouble(Unavailable::Refused, words, out);
            }
            (_, Phase::Following(_)) if question == Question::Follow => {
                self.stream.refuse(now);
                self.ask(now, out);
            }
            _ => {
                self.phase = Phase::Unknown;
                self.trouble(Unavailable::Refused, format!("{code}: {words}"), out);
            }
        }
    }

    /// The agent has been lost sight of from `next` on: its current picture, and a gap.
    fn skip(&mut self, now: BootTime, next: u64, out: &mut Outbox) {
        self.close_stream();
        self.gap = self.gap.or(Some(next));
        self.phase = Phase::Modelled;
        self.ask(now, out);
    }

    fn modelled(&mut self, now: BootTime, document: &Document, out: &mut Outbox) {
        let chosen = choice::of(document, self.device.as_deref(), self.path.as_deref());
        let items = match chosen {
            Ok(items) => items,
            Err(words) => return self.trouble(Unavailable::Refused, words, out),
        };
        self.instance.clone_from(&document.header.instance);
        self.count = document.header.buffer.map_or(COUNT, |buffer| buffer.clamp(1, COUNT));
        self.picture.choose(&document.components, &items);
        self.phase = Phase::Modelled;
        self.ask(now, out);
    }

    fn streamed(
        &mut self,
        now: BootTime,
        question: Question,
        document: Document,
        out: &mut Outbox,
    ) {
        if document.header.instance != self.instance {
            self.close_stream();
            self.phase = Phase::Unknown;
            self.gap = None;
            let words = "the agent was restarted; it is probed anew";
            self.trouble(Unavailable::NotYet, words, out);
            return self.ask(now, out);
        }
        let Some(next) = document.header.next else {
            return self.trouble(Unavailable::Garbled, "the header has no nextSequence", out);
        };
        if let (Question::Sample | Question::Follow, Phase::Following(from)) =
            (question, self.phase)
            && document.header.first.is_some_and(|first| first > from)
        {
            // An agent that gives what it still has, and no error.
            return self.skip(now, from, out);
        }
        if question == Question::Current {
            self.picture.clear();
        }
        for observation in document.observations {
            self.picture.observe(observation);
        }
        self.phase = Phase::Following(next);
        let behind = document.header.last.is_some_and(|last| last >= next);
        if question != Question::Current && behind {
            self.rounds += 1;
            if self.rounds >= ROUNDS_MAX {
                return self.skip(now, next, out);
            }
            return self.ask(now, out);
        }
        out.alive = true;
        // An agent that tells by itself does so more often than anybody wants to keep: what the machine
        // does is said at once, the rest once a period.
        let state = self.picture.state();
        let news = question != Question::Follow || self.said.as_ref() != Some(&state);
        if std::mem::take(&mut self.owed) || news {
            self.said = Some(state);
            self.picture.say(&self.items, &self.axes, out);
        }
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

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.close_stream();
                self.asked.clear();
                self.rounds = 0;
                self.ask(now, out);
            }
            Heard::Due => {
                self.rounds = 0;
                self.owed = true;
                if self.stream.is_silent(now) {
                    self.stream.end(now);
                    self.asked.clear();
                }
                self.ask(now, out);
            }
            Heard::Response(Response { body: [], is_part: true, .. }) => {
                if self.stream.is_open() {
                    self.stream.end(now);
                    self.asked.clear();
                    self.ask(now, out);
                }
            }
            Heard::Response(response) => self.response(now, response, out),
            Heard::NoResponse(why) => {
                self.stream.close();
                let question = self.asked.answered();
                if question == Some(Question::Follow) && why != Unavailable::Disconnected {
                    // It does not go on in a way that could be heard: it is asked.
                    self.stream.refuse(now);
                    return self.ask(now, out);
                }
                self.trouble(why, silence(why), out);
            }
            Heard::Closed => {
                self.close_stream();
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
