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
//! (ha-bambulab). Not read: packed temperatures and second nozzles of the H2 series.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value;

use crate::device::{Device, Heard, Outbox, Outgoing, Stop, clean};
use crate::document;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

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
    ],
    device: |settings| Bambu::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// What the printer said last, as far as it is passed on.
#[derive(Debug, Default)]
struct Picture {
    state: Option<String>,
    cancelled: bool,
    stage: Option<i64>,
    print_error: Option<u32>,
    hms: Option<Vec<String>>,
    nozzle: Option<f64>,
    nozzle_target: Option<f64>,
    bed: Option<f64>,
    bed_target: Option<f64>,
    chamber: Option<f64>,
    percent: Option<f64>,
    minutes_left: Option<f64>,
    layer: Option<f64>,
    layers: Option<f64>,
    job: Option<String>,
    wifi_dbm: Option<f64>,
    door_open: Option<bool>,
    signature_required: bool,
}

/// A printer.
#[derive(Debug)]
struct Bambu {
    report: String,
    request: String,
    items: Vec<Arc<str>>,
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
        let mut items: Vec<Arc<str>> = ITEMS.iter().map(|&item| item.into()).collect();
        items.extend(chamber.then(|| "temperature.chamber".into()));
        items.extend(door.then(|| "door".into()));
        Ok(Self {
            report: format!("device/{serial}/report"),
            request: format!("device/{serial}/request"),
            items,
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
        out.number_if("temperature.nozzle", picture.nozzle);
        out.number_if("temperature.target.nozzle", picture.nozzle_target);
        out.number_if("temperature.bed", picture.bed);
        out.number_if("temperature.target.bed", picture.bed_target);
        out.number_if("progress", picture.percent.map(|percent| percent / 100.0));
        out.number_if("job.left", picture.minutes_left.map(|minutes| minutes * 60.0));
        out.number_if("job.layer", picture.layer);
        out.number_if("job.layers", picture.layers);
        out.number_if("signal", picture.wifi_dbm);
        if let Some(job) = &picture.job {
            out.text("job.name", job);
        }
        if self.chamber {
            out.number_if("temperature.chamber", picture.chamber);
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

impl Picture {
    /// Takes over what a report, full or not, says.
    fn merge(&mut self, print: &Value) {
        let take = |field: &mut Option<f64>, name: &str| {
            if let Some(value) = print.get(name) {
                *field = document::number(value);
            }
        };
        take(&mut self.nozzle, "nozzle_temper");
        take(&mut self.nozzle_target, "nozzle_target_temper");
        take(&mut self.bed, "bed_temper");
        take(&mut self.bed_target, "bed_target_temper");
        take(&mut self.chamber, "chamber_temper");
        take(&mut self.percent, "mc_percent");
        take(&mut self.minutes_left, "mc_remaining_time");
        take(&mut self.layer, "layer_num");
        take(&mut self.layers, "total_layer_num");
        if let Some(stage) = print.get("stg_cur") {
            self.stage = stage.as_i64();
        }
        if let Some(error) = print.get("print_error") {
            self.print_error = code(error);
        }
        if let Some(hms) = print.get("hms").and_then(Value::as_array) {
            self.hms = Some(hms.iter().take(HMS_MAX).filter_map(health).collect());
        }
        let word = |name: &str| print.get(name).and_then(Value::as_str);
        if let Some(job) = word("subtask_name").filter(|job| !job.is_empty()).or(word("gcode_file"))
        {
            self.job = Some(clean(job));
        }
        if let Some(signal) = word("wifi_signal") {
            self.wifi_dbm = signal.trim_end_matches("dBm").trim().parse().ok();
        }
        if let Some(flags) = print.get("home_flag").and_then(Value::as_u64) {
            self.door_open = Some(flags & DOOR_OPEN != 0);
        }
        if let Some(fun) = print.get("fun") {
            let bits = fun.as_u64().or_else(|| u64::from_str_radix(fun.as_str()?, 16).ok());
            self.signature_required = bits.is_some_and(|bits| bits & SIGNATURE_REQUIRED != 0);
        }
        if let Some(state) = word("gcode_state") {
            self.state = Some(clean(state));
        }
        let failed = self.state.as_deref() == Some("FAILED");
        self.cancelled = failed && (self.cancelled || self.print_error == Some(CANCELLED));
    }

    fn execution(&self) -> Option<Execution> {
        execution(self.state.as_deref()?, self.stage, self.cancelled)
    }

    /// The error and the health messages, verbatim codes; empty when the printer says there are
    /// none, `None` when it has said nothing about them.
    fn message(&self) -> Option<String> {
        if self.print_error.is_none() && self.hms.is_none() {
            return None;
        }
        let error = match self.print_error {
            None | Some(0) => None,
            Some(CANCELLED) => Some("cancelled by a person".to_owned()),
            Some(code) => Some(format!("print error {}", hexadecimal(code))),
        };
        let hms = self.hms.iter().flatten().cloned();
        Some(error.into_iter().chain(hms).collect::<Vec<_>>().join(", "))
    }
}

/// The table at the head of this file.
fn execution(state: &str, stage: Option<i64>, cancelled: bool) -> Option<Execution> {
    match (state, stage.unwrap_or(-1)) {
        ("IDLE", _) => Some(Execution::Ready),
        ("INIT" | "PREPARE" | "SLICING", _) => Some(Execution::Preparing),
        ("RUNNING" | "PAUSE", 20 | 21 | 23 | 27 | 28 | 33 | 35) => Some(Execution::Fault),
        ("RUNNING", 5 | 6 | 16 | 17 | 26 | 30 | 32 | 34) | ("PAUSE", _) => Some(Execution::Paused),
        ("RUNNING", 1..=4 | 7..=15 | 18 | 19 | 22 | 24 | 25 | 29 | 31) => {
            Some(Execution::Preparing)
        }
        ("RUNNING", _) => Some(Execution::Running),
        ("FINISH", _) => Some(Execution::Finished),
        ("FAILED", _) if cancelled => Some(Execution::Ready),
        ("FAILED", _) => Some(Execution::Fault),
        _ => None,
    }
}

/// A health message by its code, as the printer and the vendor's pages write it.
fn health(message: &Value) -> Option<String> {
    let (attribute, code) = (code(&message["attr"])?, code(&message["code"])?);
    Some(format!("HMS_{}_{}", hexadecimal(attribute), hexadecimal(code)))
}

/// `0300_400C`.
fn hexadecimal(code: u32) -> String {
    format!("{:04X}_{:04X}", code >> 16, code & 0xFFFF)
}

/// A 32-bit code, which some firmware sends as a negative or as a text.
fn code(value: &Value) -> Option<u32> {
    let wide = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    u32::try_from(wide).ok().or_else(|| i32::try_from(wide).ok().map(i32::cast_unsigned))
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
