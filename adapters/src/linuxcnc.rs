//! LinuxCNC through its remote shell, `linuxcncrsh`: lines over TCP, every answer in the order of
//! the questions and with the question's own word in front.
//!
//! Reads need no permission. `get spindle` and `get spindle_override` are never asked: the shell of
//! LinuxCNC 2.9 crashes on the second, which ends LinuxCNC with the machine running, and may on the
//! first. `get error` takes a message away from the operator's own screen, so it is asked only
//! where the option says that there is none. Passwords go in clear and the shell listens on all
//! addresses: the network between must be trusted.
//!
//! | device, first that holds | execution |
//! |---|---|
//! | ESTOP ON | stopped |
//! | JOINT_FAULT with a FAULT | fault |
//! | MACHINE OFF | off |
//! | PROGRAM_STATUS PAUSED | paused |
//! | PROGRAM_STATUS RUNNING (a program, or a command by hand) | running |
//! | PROGRAM_STATUS IDLE | ready |
//! | any other word | unknown |
//!
//! Jogging and homing are IDLE. An error message is no fault: refused commands come that way too.
//! Positions are in the machine's units, whatever units the program has set.
//!
//! Stops. All take the right to control for a moment and give it up again; another remote shell that
//! had it must ask for it anew. Emergency is `set estop on`,
//! read back by `get estop`; Cancel is `set abort`, Pause is `set pause`, both read back by
//! `get program_status`.
//!
//! Facts: linuxcncrsh(1), and what LinuxCNC 2.9 answered.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

use crate::device::{Device, Heard, Lines, Outbox, Outgoing, Stop, StopReply, clean};
use crate::protocol::{Login, Protocol, Reach, Settings};

mod stops;

/// The registry's entry.
pub const PROTOCOL: Protocol = Protocol {
    name: "linuxcnc",
    title: "LinuxCNC through linuxcncrsh",
    source: "linuxcncrsh(1)",
    evidence: "tried against LinuxCNC 2.9 with simulated motors",
    reach: Reach::Tcp { port: 5007 },
    login: Login::InBand(&[
        ("connect_password", "connect_password_file"),
        ("password", "password_file"),
    ]),
    options: &[
        ("axes", "axes that the machine has; usually \"xyz\""),
        (
            "connect_password",
            "in connect_password_file: what the shell was started with; usually \"EMC\"",
        ),
        ("errors", "\"true\" to take error messages, when no other screen needs them"),
        ("password", "in password_file: what allows control, for stops; usually \"EMCTOO\""),
    ],
    device: make,
};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Within which a stop must be seen to stand.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The reads of one round. The answer to the last completes it.
const READS: [&str; 9] = [
    "estop",
    "machine",
    "mode",
    "program_status",
    "program",
    "feed_override",
    "abs_act_pos",
    "tool",
    LAST_READ,
];
const LAST_READ: &str = "joint_fault";
const AXES: &str = "xyzabc";

fn make(settings: &Settings) -> Result<Box<dyn Device>, String> {
    Ok(Box::new(LinuxCnc::new(settings)?))
}

/// A LinuxCNC.
struct LinuxCnc {
    items: Vec<Arc<str>>,
    axes: Vec<(usize, Arc<str>)>,
    connect_password: String,
    password: String,
    errors: bool,
    lines: Lines,
    link: Link,
}

/// What only this connection knows.
#[derive(Debug, Default)]
struct Link {
    greeted: bool,
    refused: bool,
    asked: Option<BootTime>,
    millimetres_per_unit: Option<Measured>,
    round: Round,
    rubbish: Option<String>,
    stop: Option<Pending>,
}

/// Answers of the round under way.
#[derive(Debug, Default)]
struct Round {
    estop: Option<String>,
    machine: Option<String>,
    status: Option<String>,
    faulty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    stop: Stop,
    since: BootTime,
    /// The command was taken: what is answered from now on counts.
    accepted: bool,
}

impl LinuxCnc {
    fn new(settings: &Settings) -> Result<Self, String> {
        let word = |option, usual: &str| {
            let word = settings.option(option).unwrap_or(usual).to_owned();
            // It becomes part of a line: a space or line's end would make it another command.
            let fits = !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic());
            fits.then_some(word).ok_or_else(|| format!("{option} must be one word"))
        };
        let connect_password = word("connect_password", "EMC")?;
        let password = word("password", "EMCTOO")?;
        let errors = settings.option("errors") == Some("true");
        let names = ["execution", "controller.state", "controller.mode", "job.name"];
        let mut items: Vec<Arc<str>> = names.map(Arc::from).to_vec();
        items.extend(["override.feed", "tool"].map(Arc::from));
        if errors {
            items.push("message".into());
        }
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
        let (lines, link) = (Lines::default(), Link::default());
        Ok(Self { items, axes, connect_password, password, errors, lines, link })
    }

    fn greet(&mut self, now: BootTime, out: &mut Outbox) {
        let hello = format!("hello {} andon 1\r\n", self.connect_password);
        let rest = "set echo off\r\nset verbose on\r\nget user_linear_units\r\n";
        out.send(Outgoing::Bytes((hello + rest).into_bytes()));
        self.link.asked = Some(now);
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        if let Some(stop) = self.link.stop.take_if(|stop| now.since(stop.since) >= STOP_WITHIN) {
            out.stop.push(match stop.accepted {
                true => StopReply::ReadBack(false),
                false => StopReply::Failed("LinuxCNC has not confirmed it".into()),
            });
        }
        let waited = self.link.asked.map(|asked| now.since(asked));
        if waited.is_some_and(|waited| waited < PATIENCE) {
            return;
        }
        if waited.is_some() || !self.link.greeted {
            self.unanswered(out);
        }
        if !self.link.greeted {
            return self.greet(now, out);
        }
        self.link.round = Round::default();
        let error = self.errors.then_some("error");
        let reads = error.into_iter().chain(READS).map(|read| format!("get {read}\r\n"));
        out.send(Outgoing::Bytes(reads.collect::<String>().into_bytes()));
        self.link.asked = Some(now);
    }

    fn unanswered(&mut self, out: &mut Outbox) {
        let (why, words) = match (self.link.rubbish.take(), self.link.refused) {
            (_, true) => (Unavailable::Refused, "the connect password is not accepted".to_owned()),
            (Some(line), _) => (Unavailable::Garbled, format!("no answer, but \"{line}\"")),
            (None, _) => (Unavailable::Timeout, "the remote shell does not answer".to_owned()),
        };
        out.unavailable(&self.items, why);
        out.trouble = Some(words);
    }

    fn line(&mut self, line: &str, out: &mut Outbox) {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "HELLO" => {
                (self.link.greeted, self.link.refused) = (rest.starts_with("ACK"), rest == "NAK");
                if self.link.refused {
                    self.unanswered(out);
                }
            }
            "USER_LINEAR_UNITS" => {
                self.link.millimetres_per_unit = Some(match rest {
                    "MM" => Ok(Value::Number(1.0)),
                    "CM" => Ok(Value::Number(10.0)),
                    "INCH" => Ok(Value::Number(25.4)),
                    _ => Err(Unavailable::Sentinel),
                });
                self.link.asked = None;
            }
            "ESTOP" => self.link.round.estop = Some(clean(rest)),
            "MACHINE" => self.link.round.machine = Some(clean(rest)),
            "PROGRAM_STATUS" => self.link.round.status = Some(clean(rest)),
            "MODE" => out.text("controller.mode", rest),
            "PROGRAM" => match rest.rsplit('/').next().filter(|_| rest != "NONE") {
                Some(file) => out.text("job.name", file),
                None => out.say("job.name", Err(Unavailable::Sentinel)),
            },
            "FEED_OVERRIDE" => out.number("override.feed", number(rest) / 100.0),
            "TOOL" => out.number("tool", number(rest)),
            "ABS_ACT_POS" => self.say_positions(rest, out),
            "ERROR" if self.errors => out.text("message", if rest == "OK" { "" } else { rest }),
            "JOINT_FAULT" => {
                self.link.round.faulty = rest.split(' ').any(|word| word == "FAULT");
                self.say_round(out);
            }
            "SET" => self.set_answered(rest, out),
            "GET" => self.refuse(rest, out),
            // What it echoes until it is told not to.
            "set" | "get" | "hello" | "ERROR" => return,
            _ => {
                self.link.rubbish = Some(clean(line));
                return;
            }
        }
        out.alive = true;
        self.read_back(word, rest, out);
    }

    fn say_positions(&self, rest: &str, out: &mut Outbox) {
        let positions: Vec<&str> = rest.split(' ').take(AXES.len()).collect();
        let unit = self.link.millimetres_per_unit.clone().unwrap_or(Err(Unavailable::NotYet));
        for (place, item) in &self.axes {
            let linear = unit.as_ref().map(|unit| unit.as_number().unwrap_or(f64::NAN));
            let scale = if *place < 3 { linear.map_err(|why| *why) } else { Ok(1.0) };
            match (positions.get(*place), scale) {
                (Some(position), Ok(scale)) => out.number(item, number(position) * scale),
                (None, _) => out.say(item, Err(Unavailable::Sentinel)),
                (_, Err(why)) => out.say(item, Err(why)),
            }
        }
    }

    /// The table of the module's head.
    fn say_round(&mut self, out: &mut Outbox) {
        self.link.asked = None;
        self.link.rubbish = None;
        let Round { estop, machine, status, faulty } = std::mem::take(&mut self.link.round);
        let (Some(estop), Some(machine), Some(status)) = (estop, machine, status) else {
            for item in ["execution", "controller.state"] {
                out.say(item, Err(Unavailable::Garbled));
            }
            return;
        };
        let (word, execution) = match (&*estop, &*machine, &*status) {
            ("ON", ..) => ("ESTOP ON", Some(Execution::Stopped)),
            ("OFF", "ON" | "OFF", _) if faulty => ("JOINT_FAULT", Some(Execution::Fault)),
            ("OFF", "OFF", _) => ("MACHINE OFF", Some(Execution::Off)),
            ("OFF", "ON", "PAUSED") => ("PAUSED", Some(Execution::Paused)),
            ("OFF", "ON", "RUNNING") => ("RUNNING", Some(Execution::Running)),
            ("OFF", "ON", "IDLE") => ("IDLE", Some(Execution::Ready)),
            (_, _, other) => (other, None),
        };
        out.execution(word, execution);
    }

    /// `BOGUS NAK`: this version cannot say it.
    fn refuse(&mut self, rest: &str, out: &mut Outbox) {
        let read = rest.strip_suffix(" NAK").unwrap_or(rest).to_ascii_lowercase();
        let item = match &*read {
            "mode" => "controller.mode",
            "program" => "job.name",
            "feed_override" => "override.feed",
            "tool" => "tool",
            "abs_act_pos" => return out.unavailable(&self.items_of_axes(), Unavailable::Refused),
            LAST_READ => return self.say_round(out),
            "user_linear_units" => {
                self.link.asked = None;
                self.link.millimetres_per_unit = Some(Err(Unavailable::Refused));
                return;
            }
            _ => return,
        };
        out.say(item, Err(Unavailable::Refused));
    }

    fn items_of_axes(&self) -> Vec<Arc<str>> {
        self.axes.iter().map(|(_, item)| item.clone()).collect()
    }

    fn disconnected(&mut self, out: &mut Outbox) {
        if self.link.stop.is_some() {
            out.stop_failed("the connection was lost");
        }
        self.lines.clear();
        self.link = Link::default();
    }
}

impl Device for LinuxCnc {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        &[Stop::Emergency, Stop::Cancel, Stop::Pause]
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.disconnected(out);
                self.greet(now, out);
            }
            Heard::Closed => {
                self.disconnected(out);
                out.unavailable(&self.items, Unavailable::Disconnected);
            }
            Heard::Due => self.due(now, out),
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Bytes(bytes) => {
                let mut lines = std::mem::take(&mut self.lines);
                lines.take(bytes, |line| self.line(line, out));
                self.lines = lines;
            }
            Heard::Frame(_) | Heard::Listening(_) | Heard::Response(_) | Heard::NoResponse(_) => {}
            Heard::Message { .. } | Heard::Level { .. } => {}
        }
    }
}

/// A number, or NaN, which is said as garbled.
fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests;
