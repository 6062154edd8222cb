//! Marlin and what speaks like it, on the printer's serial port: one line per command, one `ok`
//! per accepted line, everything else pushed.
//!
//! The port has one owner. Where OctoPrint or a slicer streams the job, that host is to be asked,
//! not this port; here jobs come from the printer's card or screen. Opening the port resets most
//! boards, which ends a running print: the gateway must open it once and keep it. Sent are M115,
//! M155, M27 and M105, without line numbers, one at a time; never motion, heat or settings. Where
//! the firmware offers to report by itself it is asked to, because a question waits behind a
//! heating command and a report does not.
//!
//! | device | execution |
//! |---|---|
//! | `SD printing byte a/b`, a rising | running |
//! | the same, a not rising, while `busy: processing` or waiting for heat (`W:`) | preparing |
//! | the same, a not rising for [`STILL_MAX`], nothing busy | paused |
//! | `busy: paused for user`, `paused for input`; `//action:paused` until resumed | paused |
//! | `Not SD printing` | ready |
//! | `Not SD printing`, but `busy: processing` or waiting for heat | preparing |
//! | no word from the card, and a heater's target above 0 | unknown |
//! | `Done printing file`, until the next job or heating | finished |
//! | thermal runaway, heating failed, MAXTEMP, MINTEMP, stopped due to errors | fault |
//! | M112, kill() and other halts without such a reason | stopped |
//!
//! **M27 is blind** to prints that another host or a screen streams: it says `Not SD printing`
//! then. A heater that is on is no proof of one, because somebody may have forgotten it, and what
//! is forgotten is not to be billed as run. So the printer is ready here unless it is busy; where
//! prints come that way, the machine's power is to be watched instead. A printer without a card,
//! or that leaves M27 unanswered, is ready while its heaters are off and unknown while one is on.
//!
//! **After a halt the firmware is silent** until it is reset. The halt is said on for
//! [`HALT_SILENCE_MAX`]; any other silence longer than [`SILENCE_MAX`] is a timeout. A halt ends
//! with `start`, a new connection, or a card's print that goes on; answers alone do not end it.
//!
//! A negative temperature is a broken sensor, not a cold one.
//!
//! Stops. Emergency is M112: heaters and motors off, needs a reset; it stands when the firmware
//! says that it has halted. Without EMERGENCY_PARSER it waits its turn behind running commands,
//! and that is said. Cancel is M524 for a print from the card, read back by `Not SD printing`.
//!
//! Facts: Marlin's G-code documentation and `language.h`; OctoPrint's reading of the dialects.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};

use crate::device::{Device, Heard, Lines, Outbox, Outgoing, Stop, StopReply, clean};
use crate::printer;
use crate::protocol::{Login, Protocol, Reach, Settings};

mod lines;
mod link;
mod words;

use link::{Card, Command, Link, Pending};

/// The registry's entry.
pub const PROTOCOL: Protocol = Protocol {
    name: "marlin",
    title: "Marlin on a serial port",
    source: "Marlin G-code documentation and language.h",
    evidence: "tried against OctoPrint's virtual printer",
    reach: Reach::Stream { baud: 115_200, port: 23 },
    login: Login::None,
    options: &[
        ("bed", "\"false\" when there is no heated bed"),
        ("chamber", "\"true\" when there is a heated chamber"),
        ("nozzles", "how many nozzles; usually \"1\""),
    ],
    device: make,
};

/// How long a board may take to boot before it is spoken to unasked.
pub const BOOT: Duration = Duration::from_secs(2);
/// How long an `ok` may take while nothing says that the printer is busy; then it is lost.
pub const OK_WITHIN: Duration = Duration::from_secs(5);
/// A `wait` this long after a command means that the printer no longer has it.
pub const WAIT_AFTER: Duration = Duration::from_secs(1);
/// How long the printer may say nothing at all.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a halt is believed without a word: it ends by a reset, which speaks.
pub const HALT_SILENCE_MAX: Duration = Duration::from_secs(600);
/// How long `busy` lasts after it was said; the firmware repeats it every 2 s.
pub const BUSY_LASTS: Duration = Duration::from_secs(5);
/// How long a print from the card may read nothing from it without being held.
pub const STILL_MAX: Duration = Duration::from_secs(120);
/// Reports asked for every 2 s are late after this.
pub const REPORT_LATE: Duration = Duration::from_secs(6);
/// Within which a stop must be seen to stand.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Commands that may have no `ok` yet: a question, and stops beside it.
pub const AWAITING_MAX: usize = 4;
const NOZZLES_MAX: u8 = 8;

fn make(settings: &Settings) -> Result<Box<dyn Device>, String> {
    Ok(Box::new(Marlin::new(settings)?))
}

/// A printer with Marlin.
struct Marlin {
    items: Vec<Arc<str>>,
    nozzles: u8,
    bed: bool,
    chamber: bool,
    lines: Lines,
    link: Link,
}

impl Marlin {
    fn new(settings: &Settings) -> Result<Self, String> {
        let nozzles = settings.option("nozzles").unwrap_or("1");
        let nozzles = nozzles.parse().ok().filter(|n| (1..=NOZZLES_MAX).contains(n));
        let nozzles = nozzles.ok_or_else(|| format!("nozzles are 1 to {NOZZLES_MAX}"))?;
        let bed = settings.option("bed") != Some("false");
        let chamber = settings.option("chamber") == Some("true");
        let mut items: Vec<Arc<str>> =
            ["execution", "controller.state", "message", "progress", "job.name"]
                .map(Arc::from)
                .to_vec();
        let places = (0..nozzles).map(printer::nozzle);
        let places =
            places.chain(bed.then(|| "bed".into())).chain(chamber.then(|| "chamber".into()));
        for place in places {
            items.push(format!("temperature.{place}").into());
            items.push(format!("temperature.target.{place}").into());
        }
        let (lines, link) = (Lines::default(), Link::default());
        Ok(Self { items, nozzles, bed, chamber, lines, link })
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        self.give_up_stop(now, out);
        if let Some(halt) = self.link.halt
            && halt.silent
            && now.since(halt.at) < HALT_SILENCE_MAX
        {
            // It is halted, not lost.
            out.alive = true;
            self.say_words(now, out);
            return;
        }
        let opened = *self.link.opened.get_or_insert(now);
        let heard = self.link.heard.unwrap_or(opened);
        // Only who was asked can fail to answer: periods may be longer than this.
        if now.since(heard) >= SILENCE_MAX && !self.link.awaiting.is_empty() {
            self.silent(out);
        }
        let working = self.link.busy(now).is_some();
        let late = |at: BootTime| now.since(at) >= OK_WITHIN && !working;
        if self.link.awaiting.front().is_some_and(|(_, at)| late(*at)) {
            self.link.awaiting.clear();
        }
        // A board that is booting loses what it is told; it says `start` when it listens.
        if self.link.heard.is_none() && now.since(opened) < BOOT {
            return;
        }
        if self.link.awaiting.is_empty() {
            self.link.wanted = self.link.questions(now);
            self.send_next(now, out);
        }
    }

    fn silent(&mut self, out: &mut Outbox) {
        let (why, words) = match self.link.rubbish.take() {
            Some(line) => (Unavailable::Garbled, format!("no Marlin, but \"{line}\"")),
            None => (Unavailable::Timeout, "the printer says nothing".to_owned()),
        };
        self.link.card = None;
        out.unavailable(&self.items, why);
        out.trouble = Some(words);
    }

    fn send(&mut self, now: BootTime, command: Command, out: &mut Outbox) {
        out.send(Outgoing::Bytes(command.line().into()));
        if self.link.awaiting.len() < AWAITING_MAX {
            self.link.awaiting.push_back((command, now));
        }
    }

    fn send_next(&mut self, now: BootTime, out: &mut Outbox) {
        if self.link.awaiting.is_empty()
            && let Some(command) = self.link.wanted.pop_front()
        {
            self.send(now, command, out);
        }
    }

    fn line(&mut self, now: BootTime, line: &str, out: &mut Outbox) {
        let line = line.trim();
        if line.trim_matches(|c: char| !c.is_ascii_alphanumeric()) == "start" {
            return self.started(now, out);
        }
        if !self.understood(now, line, out) {
            // Lines that nobody here knows are as common as those that somebody does; but they
            // are no sign of life unless they are words.
            if !line.is_ascii() || !line.contains(':') {
                self.link.rubbish = Some(clean(line));
                return;
            }
        }
        self.link.heard = Some(now);
        out.alive = true;
        if line == "ok" || line.starts_with("ok ") {
            self.acknowledged(now, out);
        }
        // It waits for commands, so it has none of ours: the `ok` was lost.
        let lost = |at: BootTime| now.since(at) >= WAIT_AFTER;
        if line == "wait" && self.link.awaiting.front().is_some_and(|(_, at)| lost(*at)) {
            self.link.awaiting.clear();
        }
    }

    /// The board has booted: nothing that it said before still holds.
    fn started(&mut self, now: BootTime, out: &mut Outbox) {
        // A board that starts anew has dropped its heaters and motors.
        if self.link.stop.take_if(|stop| stop.emergency).is_some() {
            out.stop.push(StopReply::ReadBack(true));
        }
        let (opened, stop) = (self.link.opened, self.link.stop);
        self.link = Link { opened, stop, heard: Some(now), ..Link::default() };
        out.alive = true;
        self.send(now, Command::Capabilities, out);
    }

    fn acknowledged(&mut self, now: BootTime, out: &mut Outbox) {
        self.link.busy = None;
        let Some((command, sent)) = self.link.awaiting.pop_front() else { return };
        if !std::mem::take(&mut self.link.resend) {
            match command {
                Command::Capabilities => {
                    self.link.capabilities.get_or_insert_default();
                    self.link.wanted = self.link.questions(now);
                }
                Command::Card if self.link.card_at.is_none_or(|at| at < sent) => {
                    (self.link.no_card, self.link.card) = (true, None);
                }
                Command::CancelCard => {
                    out.stop.push(StopReply::Accepted);
                    self.link.wanted.push_front(Command::Card);
                }
                Command::CardFile => self.link.asked_job = true,
                _ => {}
            }
        }
        self.send_next(now, out);
    }

    fn say_words(&self, now: BootTime, out: &mut Outbox) {
        let (word, execution) = self.link.state(now);
        out.execution(word, execution);
        out.text("message", &self.link.message);
    }

    fn say_state(&self, now: BootTime, out: &mut Outbox) {
        self.say_words(now, out);
        let progress = match self.link.card {
            Some(Card::Printing(at, of, _)) if of > 0 => Ok(Value::Number(ratio(at, of))),
            _ => Err(Unavailable::Sentinel),
        };
        out.say("progress", progress);
        let job = self.link.job.as_deref().filter(|job| !job.is_empty());
        out.say("job.name", job.map(|job| Value::Text(job.into())).ok_or(Unavailable::Sentinel));
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        let emergency = match stop {
            Stop::Emergency => true,
            Stop::Cancel if matches!(self.link.card, Some(Card::Not)) => {
                let words = "nothing is printed from the card, and M524 ends nothing else";
                out.stop_failed(words);
                return;
            }
            Stop::Cancel => false,
            Stop::Pause | Stop::Off => {
                out.stop_failed("not offered by this protocol");
                return;
            }
        };
        self.link.stop = Some(Pending { emergency, since: now, goes_on: false });
        if !emergency {
            return self.send(now, Command::CancelCard, out);
        }
        // No `ok` is waited for: a firmware that halts has none.
        out.send(Outgoing::Bytes(b"M112\n".to_vec()));
        if !self.link.capabilities.is_some_and(|capabilities| capabilities.emergency_parser) {
            out.trouble = Some("M112 waits behind running commands: no EMERGENCY_PARSER".into());
        }
    }

    fn give_up_stop(&mut self, now: BootTime, out: &mut Outbox) {
        if let Some(stop) = self.link.stop.take_if(|stop| now.since(stop.since) >= STOP_WITHIN) {
            out.stop.push(match stop.goes_on {
                true => StopReply::ReadBack(false),
                false => StopReply::Failed("the printer has not confirmed it".into()),
            });
        }
    }

    fn disconnected(&mut self, now: BootTime, out: &mut Outbox) {
        if self.link.stop.is_some() {
            out.stop_failed("the connection was lost");
        }
        self.lines.clear();
        self.link = Link { opened: Some(now), ..Link::default() };
    }
}

impl Device for Marlin {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        &[Stop::Emergency, Stop::Cancel]
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => self.disconnected(now, out),
            Heard::Closed => {
                self.disconnected(now, out);
                out.unavailable(&self.items, Unavailable::Disconnected);
            }
            Heard::Due => self.due(now, out),
            Heard::Stop(stop) => self.stop(now, stop, out),
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

/// A part of a whole.
#[expect(clippy::cast_precision_loss, reason = "files of petabytes may lose their last bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64).min(1.0)
}

#[cfg(test)]
mod tests;
