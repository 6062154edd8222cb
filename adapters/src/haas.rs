//! Haas controls: Q queries of machine data collection, one line asked and one answered, over TCP
//! (next-generation controls, the port is Setting 143) or RS-232. Older controls usually stand at 7
//! data bits, even or no parity, one stop bit and XON/XOFF, as their own settings page shows: write
//! `data_bits = 7`, `parity` and `flow = "xonxoff"` into the source.
//!
//! Only `?Q` is ever sent; the E commands beside it write the control's variables. An answer goes
//! to every connection, so answers to other people's questions come here too: each is taken for
//! what its own words say it is, and what no question here has is passed over, as are lines that
//! programs print. The first `?Q100` after connecting may go unanswered and is asked again.
//!
//! | device, of Q500 | execution |
//! |---|---|
//! | `PROGRAM, …, IDLE, PARTS, n` | ready |
//! | `PROGRAM, …, FEED HOLD, PARTS, n` | paused |
//! | `PROGRAM, …, ALARM ON, PARTS, n` (an emergency stop cannot be told from it) | fault |
//! | `STATUS, BUSY` or `STATUS BUSY` | running |
//! | any other word | unknown |
//!
//! While busy the control does not say which program it runs, so the name goes stale. Parts are the
//! first M30 counter (Q402). Times of power-on and motion only grow, and cross-check the hours.
//!
//! Facts: Haas machine data collection pages; answers as public clients expect them.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use crate::device::{Device, Heard, Lines, Outbox, Outgoing, Stop, clean};
use crate::protocol::{Login, Protocol, Reach, Settings};

/// The registry's entry.
pub const PROTOCOL: Protocol = Protocol {
    name: "haas",
    title: "Haas machine data collection",
    source: "Haas, Next Generation Control: Machine Data Collection",
    evidence: "a fake made from the manual, over TCP and on a terminal with XON/XOFF",
    reach: Reach::Stream { baud: 19_200, port: 5051 },
    login: Login::None,
    options: &[("question_mark", "\"false\" for old controls that want Q100 and not ?Q100")],
    device: make,
};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The spindle's actual speed among the control's variables.
const SPINDLE_VARIABLE: &str = "3027";
const ITEMS: [&str; 9] = [
    "execution",
    "controller.state",
    "controller.mode",
    "job.name",
    "parts",
    "tool",
    "speed.spindle",
    "hours.on",
    "hours.run",
];

fn make(settings: &Settings) -> Result<Box<dyn Device>, String> {
    let bare = settings.option("question_mark") == Some("false");
    let (lines, link) = (Lines::default(), Link::default());
    Ok(Box::new(Haas { items: ITEMS.map(Arc::from).to_vec(), bare, lines, link }))
}

/// What is asked, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Query {
    Serial,
    Program,
    Mode,
    Spindle,
    Parts,
    Tool,
    PowerOn,
    Motion,
}

impl Query {
    const fn line(self) -> &'static str {
        match self {
            Self::Serial => "?Q100\r\n",
            Self::Program => "?Q500\r\n",
            Self::Mode => "?Q104\r\n",
            Self::Spindle => "?Q600 3027\r\n",
            Self::Parts => "?Q402\r\n",
            Self::Tool => "?Q201\r\n",
            Self::PowerOn => "?Q300\r\n",
            Self::Motion => "?Q301\r\n",
        }
    }

    /// What comes next in a round.
    const fn next(self) -> Option<Self> {
        match self {
            Self::Serial => Some(Self::Program),
            Self::Program => Some(Self::Mode),
            Self::Mode => Some(Self::Spindle),
            Self::Spindle => Some(Self::Parts),
            Self::Parts => Some(Self::Tool),
            Self::Tool => Some(Self::PowerOn),
            Self::PowerOn => Some(Self::Motion),
            Self::Motion => None,
        }
    }

    /// The items that its answer tells.
    const fn items(self) -> &'static [&'static str] {
        match self {
            Self::Serial => &[],
            Self::Program => &["execution", "controller.state", "job.name"],
            Self::Mode => &["controller.mode"],
            Self::Spindle => &["speed.spindle"],
            Self::Parts => &["parts"],
            Self::Tool => &["tool"],
            Self::PowerOn => &["hours.on"],
            Self::Motion => &["hours.run"],
        }
    }
}

/// A Haas control.
struct Haas {
    items: Vec<Arc<str>>,
    /// Queries go without their question mark.
    bare: bool,
    lines: Lines,
    link: Link,
}

/// What only this connection knows.
#[derive(Debug, Default)]
struct Link {
    greeted: bool,
    /// The question under way.
    asked: Option<(Query, BootTime)>,
    /// What came instead of an answer.
    rubbish: Option<String>,
}

impl Haas {
    fn ask(&mut self, now: BootTime, query: Query, out: &mut Outbox) {
        self.send(query, out);
        self.link.asked = Some((query, now));
    }

    fn send(&self, query: Query, out: &mut Outbox) {
        let line = query.line();
        let line = if self.bare { line.trim_start_matches('?') } else { line };
        out.send(Outgoing::Bytes(line.into()));
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        match self.link.asked {
            Some((_, at)) if now.since(at) < PATIENCE => {
                // Not even greeted: the first question may have been lost.
                if !self.link.greeted {
                    self.send(Query::Serial, out);
                }
                return;
            }
            // What it does not know it may leave unanswered; the rest of the round is for the rest.
            Some((query, _)) if query != Query::Serial && query != Query::Program => {
                self.unanswered(query.items(), out);
                return self.proceed(now, query, out);
            }
            Some(_) => {
                self.unanswered(&ITEMS, out);
                self.link.greeted = false;
            }
            None => {}
        }
        if !self.link.greeted {
            return self.ask(now, Query::Serial, out);
        }
        self.ask(now, Query::Program, out);
    }

    fn unanswered(&mut self, items: &[&str], out: &mut Outbox) {
        let (why, words) = match self.link.rubbish.take() {
            Some(line) => (Unavailable::Garbled, format!("no answer, but \"{line}\"")),
            None => (Unavailable::Timeout, "the control does not answer ?Q".to_owned()),
        };
        for item in items {
            out.say(item, Err(why));
        }
        out.trouble = Some(words);
    }

    /// The question is done with: the next one, or the end of the round.
    fn proceed(&mut self, now: BootTime, query: Query, out: &mut Outbox) {
        self.link.asked = None;
        if let Some(next) = query.next() {
            self.ask(now, next, out);
        }
    }

    fn line(&mut self, now: BootTime, line: &str, out: &mut Outbox) {
        // Answers stand between STX and ETB, behind the prompt of the one before; XON and XOFF may
        // come anywhere.
        let answer = line.split('\u{17}').next().unwrap_or_default().trim_start_matches('\0');
        if answer.contains('\0') {
            // A character that came with a wrong parity: what is left of a number is another one.
            self.link.rubbish = Some("a line that was damaged on its way".to_owned());
            return;
        }
        let line = clean(answer);
        let line = line.trim_start_matches(['>', ' ']).trim();
        if line.is_empty() || line.starts_with("?Q") || line.starts_with('Q') {
            return;
        }
        let Some(answered) = self.understand(line, out) else {
            self.link.rubbish = Some(line.to_owned());
            return;
        };
        out.alive = true;
        self.link.greeted = true;
        self.link.rubbish = None;
        if self.link.asked.is_some_and(|(query, _)| query == answered) {
            self.proceed(now, answered, out);
        }
    }

    /// Says what a line tells; which question it answers, or `None` when it is no answer.
    fn understand(&self, line: &str, out: &mut Outbox) -> Option<Query> {
        let parts: Vec<&str> = line.split(',').map(str::trim).collect();
        match *parts.as_slice() {
            ["SERIAL NUMBER", _] => Some(Query::Serial),
            ["PROGRAM", .., state, "PARTS", _] if parts.len() >= 5 => {
                // A name may hold commas; what stands around it may not.
                let name = parts.get(1..parts.len() - 3)?.join(", ");
                out.text("job.name", &name);
                let execution = match state {
                    "IDLE" => Some(Execution::Ready),
                    "FEED HOLD" => Some(Execution::Paused),
                    "ALARM ON" => Some(Execution::Fault),
                    _ => None,
                };
                out.execution(state, execution);
                Some(Query::Program)
            }
            ["STATUS", state] => Some(Self::status(state, out)),
            [status] if status.starts_with("STATUS ") => {
                Some(Self::status(status.trim_start_matches("STATUS "), out))
            }
            ["MODE", mode] => {
                out.text("controller.mode", mode);
                Some(Query::Mode)
            }
            ["MACRO", variable, value] if variable == SPINDLE_VARIABLE => {
                Some(Self::spindle(value, out))
            }
            // Without its number it is the answer to whoever asked last: to us, if we wait for one.
            ["MACRO", value] if matches!(self.link.asked, Some((Query::Spindle, _))) => {
                Some(Self::spindle(value, out))
            }
            ["M30 #1", count] => {
                out.say("parts", whole(count));
                Some(Query::Parts)
            }
            ["USING TOOL", tool] => {
                out.say("tool", whole(tool));
                Some(Query::Tool)
            }
            ["P.O. TIME", time] => {
                out.say("hours.on", seconds(time));
                Some(Query::PowerOn)
            }
            ["C.S. TIME", time] => {
                out.say("hours.run", seconds(time));
                Some(Query::Motion)
            }
            _ => None,
        }
    }

    fn status(state: &str, out: &mut Outbox) -> Query {
        out.execution(state, (state == "BUSY").then_some(Execution::Running));
        Query::Program
    }

    fn spindle(value: &str, out: &mut Outbox) -> Query {
        out.number("speed.spindle", value.parse().unwrap_or(f64::NAN));
        Query::Spindle
    }
}

impl Device for Haas {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.lines.clear();
                self.link = Link::default();
                self.ask(now, Query::Serial, out);
            }
            Heard::Closed => {
                self.lines.clear();
                self.link = Link::default();
                out.unavailable(&self.items, Unavailable::Disconnected);
            }
            Heard::Due => self.due(now, out),
            Heard::Stop(Stop::Emergency | Stop::Cancel | Stop::Pause | Stop::Off) => {
                out.stop_failed("data collection cannot stop a Haas");
            }
            Heard::Bytes(bytes) => {
                let mut lines = std::mem::take(&mut self.lines);
                lines.take(bytes, |line| self.line(now, line, out));
                self.lines = lines;
            }
            Heard::Frame(_) | Heard::Listening(_) | Heard::Response(_) | Heard::NoResponse(_) => {}
            Heard::Message { .. } | Heard::Level { .. } => {}
        }
    }
}

/// A whole number.
fn whole(text: &str) -> Measured {
    let number: u32 = text.parse().map_err(|_| Unavailable::Garbled)?;
    Ok(Value::Number(f64::from(number)))
}

/// Seconds of `06282:17:13`, hours, minutes and seconds.
fn seconds(text: &str) -> Measured {
    let fields: Option<Vec<u32>> = text.split(':').map(|field| field.parse().ok()).collect();
    match fields.as_deref() {
        Some(&[hours, minutes @ 0..60, seconds @ 0..60]) => {
            Ok(Value::Number(f64::from(hours) * 3600.0 + f64::from(minutes * 60 + seconds)))
        }
        _ => Err(Unavailable::Garbled),
    }
}

#[cfg(test)]
mod tests;
