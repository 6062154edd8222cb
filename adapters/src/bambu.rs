//! Bambu Lab printers over their own broker: TLS, user `bblp`, the LAN access code as password,
//! `device/SERIAL/report` and `device/SERIAL/request`.
//!
//! The printer pushes by itself, some models only what changed; the fields in use are merged here
//! and the whole picture is said at every report. A full report (`pushall`) is asked for after
//! connecting and at most every [`PUSHALL_EVERY`], since it costs small models dearly; between,
//! `get_version` is the question of life. Old firmware that has fallen silent is told to push again.
//!
//! | `gcode_state` | `stg_cur` | execution |
//! |---|---|---|
//! | `IDLE` | any | ready |
//! | `INIT`, `PREPARE`, `SLICING` | any | preparing |
//! | `RUNNING` | 1–4, 7–15, 18, 19, 22, 24, 25, 29, 31 (levelling, heating, homing, filament …) | preparing |
//! | `RUNNING` | 5, 6, 16, 17, 26, 30, 32, 34 (paused for a person) | paused |
//! | `RUNNING` | any other | running |
//! | `PAUSE` | any other | paused |
//! | `RUNNING`, `PAUSE` | 20, 21, 23, 27, 28, 33, 35 (heater, skipped step, fan, cutter, clog) | fault |
//! | `FINISH` | any | finished |
//! | `FAILED` | any | fault; ready when a person cancelled the job |
//! | any other | any | unknown |
//!
//! "Cancelled by a person" is `print_error` [`CANCELLED`]; it is kept until the state is another,
//! because the printer clears the number when somebody closes its dialogue.
//!
//! Firmware with authorisation answers reads, but refuses `print.*` unless it is signed: bit
//! [`SIGNATURE_REQUIRED`] of `fun`, a number or hexadecimal text, says so, and then no stop is
//! offered.
//!
//! Bound: the fields in use, [`HMS_MAX`] health messages, nothing else is kept. Facts: the
//! community's protocol description (OpenBambuAPI) and Home Assistant's integration
//! (ha-bambulab). What the H2 series says otherwise (`picture`) is from there and was not seen on a
//! printer.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value;

use crate::device::{Device, Heard, Outbox, Outgoing, Stop, clean};
use crate::document;
use crate::presence::{self, Presence};
use crate::printer::nozzle;
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

mod picture;

use picture::{Picture, code, hexadecimal};

/// Least time between two requests for everything.
pub const PUSHALL_EVERY: Duration = Duration::from_secs(300);
/// Health messages that are passed on.
pub const HMS_MAX: usize = 4;
/// `print_error` after a person cancelled the job; not a fault.
pub const CANCELLED: u32 = 50_348_044;
/// Bit of `fun`: commands must be signed.
pub const SIGNATURE_REQUIRED: u64 = 0x2000_0000;
/// `err_code` of a command whose signature was missing or wrong.
const VERIFY_FAILED: u32 = 84_033_543;
/// Bit of `home_flag`: the door is open.
const DOOR_OPEN: u64 = 0x0080_0000;

const ITEMS: &[&str] = &[
    "online",
    "execution",
    "controller.state",
    "message",
    "fault.code",
    "temperature.nozzle",
    "temperature.target.nozzle",
    "temperature.bed",
    "temperature.target.bed",
    "progress",
    "job.name",
    "job.left",
    "job.layer",
    "job.layers",
    "signal",
];

const NO_SIGNATURE: &str = "the printer takes only signed commands: turn on its developer mode \
                            (LAN only), or stop it by a relay in its supply";

/// Bambu Lab in LAN mode.
pub const PROTOCOL: Protocol = Protocol {
    name: "bambu",
    title: "Bambu Lab printer in its LAN",
    source: "OpenBambuAPI mqtt.md; ha-bambulab",
    evidence: "against a replay through mosquitto with TLS; not yet against a printer",
    reach: Reach::OwnBroker { port: 8883 },
    login: Login::Mqtt("bblp"),
    options: &[
        (
            "chamber",
            "yes: the printer has a chamber sensor (X1, X1E); others send a made-up number",
        ),
        ("door", "yes: the printer has a door switch (X1, X1E, P2S, H2)"),
        (
            "nozzles",
            "2: the printer has a left nozzle beside the right one (H2D); \"1\" unless said",
        ),
    ],
    device: |settings| Bambu::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// A printer.
#[derive(Debug)]
struct Bambu {
    report: String,
    request: String,
    items: Vec<Arc<str>>,
    nozzles: u8,
    chamber: bool,
    door: bool,
    picture: Picture,
    presence: Presence,
    pushall_at: Option<BootTime>,
    pushed_since_due: bool,
    /// Anything, on this connection.
    heard: bool,
    sequence: u32,
    stopping: Stopping,
}

impl Bambu {
    fn new(settings: &Settings) -> Result<Self, String> {
        let serial = settings.topic.trim();
        if serial.is_empty() || serial.contains(['/', '+', '#']) {
            return Err("topic is the printer's serial number, as its screen shows it".to_owned());
        }
        let chamber = yes(settings, "chamber")?;
        let door = yes(settings, "door")?;
        let nozzles = match settings.option("nozzles") {
            None | Some("1") => 1,
            Some("2") => picture::NOZZLES_MAX,
            Some(other) => return Err(format!("nozzles are 1 or 2, not \"{other}\"")),
        };
        let mut items: Vec<Arc<str>> = ITEMS.iter().map(|&item| item.into()).collect();
        for place in (1..nozzles).map(nozzle) {
            items.push(format!("temperature.{place}").into());
            items.push(format!("temperature.target.{place}").into());
        }
        items.extend(chamber.then(|| "temperature.chamber".into()));
        items.extend(door.then(|| "door".into()));
        Ok(Self {
            report: format!("device/{serial}/report"),
            request: format!("device/{serial}/request"),
            items,
            nozzles,
            chamber,
            door,
            picture: Picture::default(),
            presence: Presence::default(),
            pushall_at: None,
            pushed_since_due: false,
            heard: false,
            sequence: 0,
            stopping: Stopping::default(),
        })
    }

    /// Publishes `{"TYPE":{"sequence_id":"N","command":"COMMAND"}}`.
    fn command(&mut self, kind: &str, command: &str, out: &mut Outbox) {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let payload = format!(
            r#"{{"{kind}":{{"sequence_id":"{sequence}","command":"{command}","param":""}}}}"#
        );
        out.send(Outgoing::Publish { topic: self.request.clone(), payload: payload.into_bytes() });
    }

    /// The question of life, and everything when its time has come.
    fn ask(&mut self, now: BootTime, out: &mut Outbox) {
        self.presence.ask(&self.items, out, || {
            "the printer's broker is reached but the printer says nothing: is the serial number \
             right?"
                .to_owned()
        });
        if self.presence.is_silent() {
            self.command("pushing", "start", out);
        }
        if self.pushall_at.is_none_or(|at| now.since(at) >= PUSHALL_EVERY) {
            self.pushall_at = Some(now);
            self.command("pushing", "pushall", out);
        } else {
            self.command("info", "get_version", out);
        }
    }

    fn message(&mut self, payload: &[u8], out: &mut Outbox) {
        let Some(document) = document::parse(payload).filter(Value::is_object) else {
            out.trouble = Some("the printer sent a report that is no JSON".to_owned());
            out.unavailable(&self.items, Unavailable::Garbled);
            return;
        };
        let print = &document["print"];
        match print["command"].as_str() {
            Some("push_status") => {
                self.picture.merge(print);
                self.pushed_since_due = true;
            }
            Some(command @ ("stop" | "pause")) => self.answered(command, print, out),
            _ => {}
        }
        self.presence.heard(out);
        self.heard = true;
        self.say(out);
        let state = self.picture.state.as_deref();
        let stands = match self.stopping.pending() {
            Some(Stop::Pause) => state.map(|state| state == "PAUSE"),
            Some(_) => state.map(|state| matches!(state, "IDLE" | "FINISH" | "FAILED")),
            None => None,
        };
        if let Some(stands) = stands {
            self.stopping.seen(stands, out);
        }
    }

    /// The printer's answer to a command of ours, or of somebody else with the same words.
    fn answered(&mut self, command: &str, answer: &Value, out: &mut Outbox) {
        let ours = match self.stopping.pending() {
            Some(Stop::Pause) => command == "pause",
            Some(_) => command == "stop",
            None => false,
        };
        if !ours {
            return;
        }
        let code = code(&answer["err_code"]).unwrap_or(0);
        let result = answer["result"].as_str().unwrap_or_default();
        if code == VERIFY_FAILED {
            self.stopping.fail(&format!("{}: {NO_SIGNATURE}", hexadecimal(code)), out);
        } else if code != 0 || result.to_ascii_lowercase().starts_with("fail") {
            let reason = clean(answer["reason"].as_str().unwrap_or("no reason given"));
            self.stopping.fail(&format!("{}: {reason}", hexadecimal(code)), out);
        } else if result.eq_ignore_ascii_case("success") {
            self.stopping.accept(out);
        }
    }

    fn say(&self, out: &mut Outbox) {
        let picture = &self.picture;
        out.flag("online", true);
        if let Some(state) = &picture.state {
            out.execution(state, picture.execution());
        }
        picture.message().inspect(|message| out.text("message", message));
        out.number_if(
            "fault.code",
            picture.print_error.map(|code| match code {
                CANCELLED => 0.0,
                code => f64::from(code),
            }),
        );
        picture.say_temperatures(self.nozzles, self.chamber, out);
        out.number_if("progress", picture.percent.map(|percent| percent / 100.0));
        out.number_if("job.left", picture.minutes_left.map(|minutes| minutes * 60.0));
        out.number_if("job.layer", picture.layer);
        out.number_if("job.layers", picture.layers);
        out.number_if("signal", picture.wifi_dbm);
        if let Some(job) = &picture.job {
            out.text("job.name", job);
        }
        if let Some(open) = picture.door_open.filter(|_| self.door) {
            out.flag("door", open);
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        if self.picture.signature_required {
            self.stopping.fail(NO_SIGNATURE, out);
            return;
        }
        match stop {
            Stop::Cancel => self.command("print", "stop", out),
            Stop::Pause => self.command("print", "pause", out),
            Stop::Emergency | Stop::Off => {
                self.stopping.fail("the printer knows only cancel and pause", out);
            }
        }
    }
}

impl Device for Bambu {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        if self.picture.signature_required { &[] } else { &[Stop::Cancel, Stop::Pause] }
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.picture = Picture::default();
                self.presence = Presence::default();
                (self.pushed_since_due, self.heard) = (false, false);
                out.send(Outgoing::Subscribe(self.report.clone()));
                self.command("info", "get_version", out);
                // A new connection starts from nothing; how often it may is the owner's business.
                self.pushall_at = Some(now);
                self.command("pushing", "pushall", out);
            }
            Heard::Due => {
                let pushing = std::mem::take(&mut self.pushed_since_due);
                let full_due = self.pushall_at.is_none_or(|at| now.since(at) >= PUSHALL_EVERY);
                if !pushing || full_due || self.stopping.pending().is_some() {
                    self.ask(now, out);
                }
            }
            Heard::Message { topic, payload, retained: false } if topic == self.report => {
                self.message(payload, out);
            }
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Closed => {
                self.picture = Picture::default();
                presence::closed(&self.items, out);
                if !std::mem::take(&mut self.heard) {
                    out.trouble = Some(
                        "the printer closed the connection before it said anything: is the \
                         serial number right?"
                            .to_owned(),
                    );
                }
                self.stopping.fail("the connection was lost before the stop was read back", out);
            }
            _ => {}
        }
        self.stopping.tick(now, out);
    }
}

/// Whether an option is `yes`; absent is no.
fn yes(settings: &Settings, option: &str) -> Result<bool, String> {
    match settings.option(option) {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(other) => Err(format!("{option} is \"{other}\"; write \"yes\" or \"no\"")),
    }
}

#[cfg(test)]
mod tests;
