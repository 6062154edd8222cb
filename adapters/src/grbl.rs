//! GRBL 1.1, grblHAL and FluidNC: `?` is answered with a status report, everything else is pushed.
//!
//! The port has one owner. A sender on the same serial line would see its `ok` counting upset by
//! the one `$I` that is asked here; on network boards each connection is a channel of its own.
//! Sent are `?`, that one `$I`, grblHAL's full-status byte to grblHAL alone, and the stops; never a
//! setting, never G-code. `?` goes out at most five times a second, as the interface asks.
//!
//! | device | execution |
//! |---|---|
//! | Idle | ready |
//! | Idle after `[MSG:Pgm End]` | finished, until anything else happens |
//! | Run, Run:1, Jog | running |
//! | Run:2 (grblHAL probing), Home, Starting | preparing |
//! | Hold:n, Door:n, Tool (waits for a person) | paused |
//! | Check (parses, moves nothing) | ready |
//! | Sleep | off |
//! | Alarm with or without a number | fault |
//! | Alarm 10 of grblHAL, 13 of FluidNC, with pin R, or any state with grblHAL's pin E | stopped |
//! | Alarm that only waits for homing: after `'$H'\|'$X' to unlock` without an alarm's number, 11 of grblHAL, 14 of FluidNC | ready |
//! | any other word | unknown |
//!
//! **Idle is said during dwell**, spindle spin-up and whenever a slow sender lets the planner run
//! dry: the firmware calls it idle, and no field of the report tells it from the end of a job. So
//! `ready` here is not the end of a job; the configuration says how long it must last
//! (`exit_for = "60s"`), or takes the power of the spindle into account.
//!
//! **Silence has a meaning.** While homing, and after alarms 1 and 2 until the reset, GRBL answers
//! nothing. The last word is then said on for [`HOMING_SILENCE_MAX`] and [`ALARM_SILENCE_MAX`];
//! any other silence longer than [`PATIENCE`] is a timeout. A homing that was never seen to begin
//! cannot be told from a dead board, and is a timeout too.
//!
//! Stops. Emergency is the soft reset: everything off at once, the position lost when it moved;
//! it stands when the controller has come back and says Alarm or Idle. Cancel is the safety door
//! (slows down, turns spindle and coolant off, keeps the position) and, once that stands, the
//! reset that forgets the job. Pause is feed hold: spindle or laser may stay on.
//!
//! Facts: GRBL 1.1 interface description, grblHAL core, FluidNC sources.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use crate::device::{Device, Heard, Lines, Outbox, Outgoing, Stop, StopReply, clean};
use crate::protocol::{Login, Protocol, Reach, Settings};

pub mod dialect;
mod link;
mod report;
mod said;
mod stops;

use dialect::Flavour;
use link::{Awaits, Link, Pending};
use report::Report;
use said::with_text;

/// The registry's entry.
pub const PROTOCOL: Protocol = Protocol {
    name: "grbl",
    title: "GRBL 1.1, grblHAL, FluidNC",
    source: "GRBL 1.1 interface description; grblHAL core; FluidNC sources",
    evidence: "a fake made from the interface description; reports of the GRBL and grblHAL simulators",
    reach: Reach::Stream { baud: 115_200, port: 23 },
    login: Login::None,
    options: &[
        ("axes", "axes that the machine has, in order; usually \"xyz\""),
        ("flavour", "grbl, grblhal or fluidnc, when it must not be asked for"),
        ("inches", "\"true\" when the controller reports in inches ($13=1)"),
        ("pins", "input letters that are wired, told as input.1 and up, D as door too: \"XYZPD\""),
    ],
    device: make,
};

/// Time between two `?`: the interface asks for no more than five a second.
pub const QUESTION_GAP: Duration = Duration::from_millis(200);
/// How long an answer may take; reports come within 20 ms.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long homing may keep the controller silent.
pub const HOMING_SILENCE_MAX: Duration = Duration::from_secs(120);
/// How long a critical alarm is believed without a word: it ends by a reset, which speaks.
pub const ALARM_SILENCE_MAX: Duration = Duration::from_secs(600);
/// Within which a stop must be seen to stand.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

const FULL_STATUS: u8 = 0x87;
const AXES: &str = "xyzabc";
const MILLIMETRES_PER_INCH: f64 = 25.4;

fn make(settings: &Settings) -> Result<Box<dyn Device>, String> {
    Ok(Box::new(Grbl::new(settings)?))
}

/// A controller of the GRBL family.
struct Grbl {
    items: Vec<Arc<str>>,
    /// The place of an axis in a report, and its item.
    axes: Vec<(usize, Arc<str>)>,
    /// The letter of an input, and its item.
    pins: Vec<(char, Arc<str>)>,
    millimetres_per_unit: f64,
    told_flavour: Option<Flavour>,
    lines: Lines,
    link: Link,
}

impl Grbl {
    fn new(settings: &Settings) -> Result<Self, String> {
        let mut items: Vec<Arc<str>> = [
            "execution",
            "controller.state",
            "controller.mode",
            "message",
            "fault.code",
            "feed",
            "speed.spindle",
            "override.feed",
            "override.spindle",
        ]
        .map(Arc::from)
        .to_vec();
        let mut axes = Vec::new();
        for axis in settings.option("axes").unwrap_or("xyz").chars() {
            let place = AXES.find(axis).ok_or_else(|| format!("\"{axis}\" is not an axis"))?;
            let item: Arc<str> = format!("position.{axis}").into();
            if items.contains(&item) {
                return Err(format!("axis \"{axis}\" is there twice"));
            }
            items.push(item.clone());
            axes.push((place, item));
        }
        let mut pins: Vec<(char, Arc<str>)> = Vec::new();
        for letter in settings.option("pins").unwrap_or_default().chars() {
            if !letter.is_ascii_uppercase() || pins.iter().any(|(known, _)| *known == letter) {
                return Err(format!("\"{letter}\" is not the letter of one more input"));
            }
            pins.push((letter, format!("input.{}", pins.len() + 1).into()));
        }
        if pins.iter().any(|(letter, _)| *letter == 'D') {
            pins.push(('D', "door".into()));
        }
        items.extend(pins.iter().map(|(_, item)| item.clone()));
        let told_flavour = match settings.option("flavour") {
            Some(word) => {
                Some(Flavour::named(word).ok_or_else(|| format!("\"{word}\" is no flavour"))?)
            }
            None => None,
        };
        let inches = settings.option("inches") == Some("true");
        let millimetres_per_unit = if inches { MILLIMETRES_PER_INCH } else { 1.0 };
        let (lines, link) = (Lines::default(), Link::default());
        Ok(Self { items, axes, pins, millimetres_per_unit, told_flavour, lines, link })
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        self.give_up_stop(now, out);
        if self.link.asked.is_some_and(|asked| now.since(asked) >= PATIENCE) {
            self.silent(now, out);
        }
        if self.link.polled.is_none_or(|polled| now.since(polled) >= QUESTION_GAP) {
            out.send(Outgoing::Bytes(b"?".to_vec()));
            self.asked(now);
        }
    }

    fn asked(&mut self, now: BootTime) {
        self.link.polled = Some(now);
        self.link.asked.get_or_insert(now);
    }

    /// No answer for too long, unless this silence is one of those that have a meaning.
    fn silent(&mut self, now: BootTime, out: &mut Outbox) {
        let meant = self.link.last.as_ref().filter(|last| {
            let critical = self.link.alarm.is_some_and(dialect::is_critical);
            let longest = match &*last.word {
                "Home" => HOMING_SILENCE_MAX,
                word if word.starts_with("Alarm") && critical => ALARM_SILENCE_MAX,
                _ => Duration::ZERO,
            };
            now.since(last.at) < longest
        });
        if let Some(last) = meant {
            // It is busy, not lost.
            out.alive = true;
            out.execution(&last.word, last.execution);
            self.say_words(&last.word, out);
            return;
        }
        let (why, words) = match self.link.rubbish.take() {
            Some(rubbish) => (Unavailable::Garbled, format!("no status report, but \"{rubbish}\"")),
            None => (Unavailable::Timeout, "no answer to ?".to_owned()),
        };
        out.unavailable(&self.items, why);
        out.trouble = Some(words);
    }

    fn line(&mut self, now: BootTime, line: &str, out: &mut Outbox) {
        let line = line.trim();
        if let Some(report) = Report::parse(line) {
            self.report(now, &report, out);
        } else if line.starts_with("Grbl") {
            self.banner(now, line, out);
        } else if let Some(number) = line.strip_prefix("ALARM:") {
            self.alarm(now, number, out);
        } else if let Some(number) = line.strip_prefix("error:") {
            let text = number.parse().ok();
            let text = text.and_then(|error| dialect::error_text(self.link.flavour, error));
            self.message(with_text(line, text), out);
        } else if let Some(message) = line.strip_prefix("[MSG:") {
            let message = message.strip_suffix(']').unwrap_or(message);
            self.link.locked |= message.contains("$X") && message.contains("unlock");
            self.link.ended |= message.contains("Pgm End");
            self.message(message.to_owned(), out);
        } else if line.starts_with(['[', '$', '>']) || line == "ok" {
            self.link.flavour = Flavour::proved_by(line).or(self.link.flavour);
            out.alive = true;
        } else if line.starts_with('<') {
            self.link.rubbish = Some(clean(line));
            out.unavailable(&self.items, Unavailable::Garbled);
            out.trouble = Some(format!("\"{}\" is no status report", clean(line)));
        } else {
            self.link.rubbish = Some(clean(line));
        }
    }

    fn message(&mut self, message: String, out: &mut Outbox) {
        out.alive = true;
        // What the controller says during an alarm must not hide which one it is.
        self.link.message = match &self.link.alarm_words {
            Some(alarm) => format!("{alarm}; {message}"),
            None => message,
        };
        out.text("message", &self.link.message);
    }

    /// The controller has started anew: what it had said of itself is void, but for an alarm,
    /// which a reset does not resolve.
    fn banner(&mut self, now: BootTime, line: &str, out: &mut Outbox) {
        let flavour = Flavour::proved_by(line).or(self.link.flavour);
        let (alarm, alarm_words) = (self.link.alarm, self.link.alarm_words.take());
        let message = alarm_words.clone().unwrap_or_default();
        let (asked_build, polled) = (self.link.asked_build, self.link.polled);
        // A reset forgets questions, so what is answered now was asked since.
        let stop = self.link.stop.map(|stop| Pending { stale: false, ..stop });
        self.link = Link {
            flavour,
            alarm,
            alarm_words,
            message,
            asked_build,
            polled,
            stop,
            ..Link::default()
        };
        out.alive = true;
        if let Some(stop) = self.link.stop.as_mut().filter(|stop| stop.awaits == Awaits::Reset) {
            if !std::mem::replace(&mut stop.accepted, true) {
                out.stop.push(StopReply::Accepted);
            }
            out.send(Outgoing::Bytes(b"?".to_vec()));
            self.asked(now);
        }
    }

    /// Said at once: after a critical one there will be no report.
    fn alarm(&mut self, now: BootTime, number: &str, out: &mut Outbox) {
        let Ok(alarm) = number.trim().parse() else {
            self.link.rubbish = Some(clean(number));
            return;
        };
        self.link.alarm = Some(alarm);
        self.link.locked = false;
        let text = dialect::alarm_text(self.link.flavour, alarm);
        let words = with_text(&format!("ALARM:{alarm}"), text);
        self.link.alarm_words = None;
        self.message(words.clone(), out);
        self.link.alarm_words = Some(words);
        self.say_state(now, &Report { word: "Alarm", ..Report::default() }, out);
    }

    fn report(&mut self, now: BootTime, report: &Report<'_>, out: &mut Outbox) {
        out.alive = true;
        self.link.asked = None;
        self.link.rubbish = None;
        self.link.remember(report);
        self.say_state(now, report, out);
        self.say_numbers(report, out);
        for (letter, item) in &self.pins {
            out.flag(item, report.pin(*letter));
        }
        self.proceed_with_stop(now, report, out);
        self.identify(report, out);
    }

    /// Asks once which firmware it is, when it has time; grblHAL also for the number of an alarm
    /// that was there before.
    fn identify(&mut self, report: &Report<'_>, out: &mut Outbox) {
        let link = &mut self.link;
        if !matches!(report.state(), "Idle" | "Alarm") || link.stop.is_some() {
            return;
        }
        if link.flavour.is_none() && !link.asked_build {
            link.asked_build = true;
            out.send(Outgoing::Bytes(b"$I\n".to_vec()));
        }
        let numberless = report.state() == "Alarm" && link.alarm.is_none();
        if numberless && link.flavour == Some(Flavour::GrblHal) && !link.asked_full {
            link.asked_full = true;
            out.send(Outgoing::Bytes(vec![FULL_STATUS]));
        }
    }

    fn disconnected(&mut self, out: &mut Outbox) {
        if self.link.stop.is_some() {
            out.stop_failed("the connection was lost");
        }
        self.lines.clear();
        self.link = Link { flavour: self.told_flavour, ..Link::default() };
    }
}

impl Device for Grbl {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        &[Stop::Emergency, Stop::Cancel, Stop::Pause]
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => self.disconnected(out),
            Heard::Closed => {
                self.disconnected(out);
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

#[cfg(test)]
mod tests;
