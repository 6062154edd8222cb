//! Duet boards with RepRapFirmware 3, standalone: sessions and the object model over HTTP.
//!
//! `rr_connect` opens a session, which the board forgets after eight seconds without a request; a 401
//! later means just that, and a new one is opened at once. Every period asks for the fields that
//! change often (`flags=d99fn`). Those come with a sequence number for each part of the model; a part
//! whose number has changed is asked for as a whole (`d99vn`) before anything is said.
//!
//! | `state.status` | execution |
//! |---|---|
//! | `idle` | ready |
//! | `busy` (moving or homing without a job), `changingTool` | preparing |
//! | `processing`, `pausing`, `resuming`, `cancelling` | running |
//! | `paused` | paused |
//! | `simulating` (nothing moves or heats) | ready |
//! | `halted` (after M112) | stopped |
//! | `off` (no supply for the motors) | off |
//! | `starting`, `updating` | unknown (not yet) |
//! | any but `halted` and `off`, and a heater's `state` is `fault` | fault |
//! | anything else | unknown |
//!
//! A heater that is off keeps its last target in the model; off, its target is 0. When the board is
//! out of buffers it answers 501 or 503: the picture is left out, and after [`BUSY_MAX`] in a row it
//! counts as silence. A job can only be cancelled while paused, so a cancel pauses first, and lapses when that takes
//! longer than [`PAUSED_WITHIN`] or the job ends by itself. The firmware
//! does not tell a job that is done from one that never was: both are `idle`.
//!
//! What is kept: the session, the sequence numbers, which heater is which, the job's file, the last
//! live answer while parts are being asked for.
//!
//! Facts: RepRapFirmware's sources (HttpResponder, RepRap, Heater, PrintMonitor) and the Duet3D
//! documentation of its HTTP requests; that M0 cancels a paused job is from memory of both.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use self::details::{DETAILS, Details};
use crate::device::{Device, Heard, Outbox, Request, Response, Stop, StopReply};
use crate::http::{Asked, TOO_MANY, document, encoded, refusal, silence, succeeded};
use crate::printer::{self, Parts};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

mod details;
mod picture;
#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "duet",
    title: "Duet with RepRapFirmware 3",
    source: "RepRapFirmware sources: HttpResponder.cpp, RepRap.cpp, Heater.cpp, PrintMonitor.cpp",
    evidence: "only against a fake written from the public description",
    reach: Reach::Http { port: 80 },
    login: Login::InBand(&[("password", "password_file")]),
    options: &[
        ("password", "in password_file: as set with M551; \"reprap\" unless said"),
        printer::OPTIONS[0],
        printer::OPTIONS[1],
        printer::OPTIONS[2],
    ],
    device: |settings| Ok(Box::new(Duet::new(Parts::configured(settings)?, settings))),
};

const ITEMS: &[&str] = &[
    "execution",
    "controller.state",
    "message",
    "job.name",
    "progress",
    "job.elapsed",
    "job.left",
    "job.layer",
    "job.layers",
];

const STOPS: &[Stop] = &[Stop::Emergency, Stop::Cancel, Stop::Pause];

/// The password of a board on which none was set.
const PASSWORD: &str = "reprap";

/// "Too busy" that many times in a row is silence; a shortage of buffers passes within a second.
const BUSY_MAX: u8 = 3;

/// How long a cancel waits for the job to be paused: the board ends the moves that it has planned
/// and runs its macro. Whoever pauses later than that means something else.
const PAUSED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Session,
    Live,
    Detail(usize),
    Stop,
}

/// A session at the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    /// Older firmware tells its clients apart by their address and gives no key.
    Open(Option<u64>),
}

/// A board.
struct Duet {
    items: Vec<Arc<str>>,
    parts: Parts,
    password: String,
    asked: Asked<Question>,
    session: Session,
    /// A session was opened since the last period; another one waits for the next.
    renewed: bool,
    busy: u8,
    live: Option<Json>,
    details: Details,
    stopping: Stopping,
    /// Until when the job is to be cancelled as soon as it is paused.
    cancel_when_paused: Option<BootTime>,
}

impl Duet {
    fn new(parts: Parts, settings: &Settings) -> Self {
        Self {
            items: parts.items(ITEMS),
            parts,
            password: encoded(settings.option("password").unwrap_or(PASSWORD)),
            asked: Asked::default(),
            session: Session::None,
            renewed: false,
            busy: 0,
            live: None,
            details: Details::default(),
            stopping: Stopping::default(),
            cancel_when_paused: None,
        }
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.session = Session::None;
        self.renewed = false;
        self.busy = 0;
        self.live = None;
        self.details = Details::default();
        self.stopping.clear();
        self.cancel_when_paused = None;
    }

    fn trouble(&mut self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        self.live = None;
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    fn get(&mut self, question: Question, path: String, out: &mut Outbox) -> bool {
        let mut request = Request::get(path);
        if let Session::Open(Some(key)) = self.session {
            request.headers.push(("X-Session-Key", key.to_string()));
        }
        self.asked.ask(question, request, out)
    }

    /// Asks for a session or a picture, unless something is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if !self.asked.is_empty() {
            return;
        }
        if self.session != Session::None {
            self.live = None;
            self.get(Question::Live, "/rr_model?flags=d99fn".to_owned(), out);
        } else if !self.renewed {
            self.renewed = true;
            let path = format!("/rr_connect?password={}&sessionKey=yes", self.password);
            self.get(Question::Session, path, out);
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, status: Option<&str>, out: &mut Outbox) {
        let code = match stop {
            Stop::Emergency => "M112",
            Stop::Cancel if status == Some("paused") => "M0",
            Stop::Cancel | Stop::Pause => "M25",
            Stop::Off => {
                return out.stop_failed("a Duet does not switch its supply");
            }
        };
        if self.session == Session::None {
            return out.stop_failed("there is no session with the board");
        }
        let pauses_first = stop == Stop::Cancel && code != "M0";
        self.cancel_when_paused = pauses_first.then(|| now + PAUSED_WITHIN);
        self.stopping.begin_without_deadline(stop);
        if !self.get(Question::Stop, format!("/rr_gcode?gcode={code}"), out) {
            self.stopping.refused(TOO_MANY, out);
        }
    }

    fn response(&mut self, now: BootTime, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.asked.answered() else { return };
        let status = response.status;
        if question == Question::Stop {
            let refused = document(response.body).is_some_and(|reply| reply.get("err").is_some());
            let reply = match status {
                _ if !succeeded(status) => StopReply::Failed(refusal(status).1),
                _ if refused => StopReply::Failed("the board does not take the command".to_owned()),
                _ => StopReply::Accepted,
            };
            self.stopping.answered(reply, out);
        }
        if let Question::Detail(part) = question
            && !succeeded(status)
        {
            self.details.sequences[part] = None;
        }
        match (question, document(response.body)) {
            (_, _) if status == 401 => self.expired(out),
            (_, _) if matches!(status, 501 | 503) => self.too_busy(status, out),
            (Question::Stop, _) => self.ask(out),
            (_, _) if !succeeded(status) => {
                let (why, words) = refusal(status);
                self.trouble(why, words, out);
            }
            (Question::Session, Some(reply)) => self.connected(&reply, out),
            (Question::Live, Some(model)) if model.pointer("/result/state/status").is_some() => {
                self.live(now, model, out);
            }
            (Question::Detail(part), Some(model)) if model.get("result").is_some() => {
                self.details.take(DETAILS[part], &model["result"]);
                self.say_when_whole(now, out);
            }
            _ => {
                let words = "the answer is not a Duet's; is the address right?";
                self.trouble(Unavailable::Garbled, words, out);
            }
        }
    }

    fn connected(&mut self, reply: &Json, out: &mut Outbox) {
        match reply.get("err").and_then(Json::as_i64) {
            Some(0) => {
                self.session = Session::Open(reply.get("sessionKey").and_then(Json::as_u64));
                self.details = Details::default();
                self.ask(out);
            }
            Some(1) => self.trouble(Unavailable::Refused, "the password is not accepted", out),
            Some(2) => {
                let words = "the board has no session free; close other clients";
                self.trouble(Unavailable::Refused, words, out);
            }
            _ => self.trouble(Unavailable::Garbled, "the answer is not a Duet's", out),
        }
    }

    /// The board has forgotten the session: a new one, once per period.
    fn expired(&mut self, out: &mut Outbox) {
        self.session = Session::None;
        if self.renewed {
            let words = "401: the board forgets its session again and again";
            self.trouble(Unavailable::Refused, words, out);
        }
        self.live = None;
        self.ask(out);
    }

    fn too_busy(&mut self, status: u16, out: &mut Outbox) {
        self.live = None;
        self.busy = self.busy.saturating_add(1);
        let words = format!("{status}: the board is out of buffers");
        if self.busy >= BUSY_MAX {
            self.trouble(Unavailable::Timeout, words, out);
        } else {
            out.trouble = Some(words);
        }
    }

    /// The fields that change often have come; parts that have changed are asked for.
    fn live(&mut self, now: BootTime, model: Json, out: &mut Outbox) {
        for (part, name) in DETAILS.iter().enumerate() {
            let sequence = model["result"]["seqs"][name].as_i64();
            let stale = self.details.sequences[part] != sequence || sequence.is_none();
            if stale {
                self.details.sequences[part] = sequence;
                let path = format!("/rr_model?key={name}&flags=d99vn");
                self.get(Question::Detail(part), path, out);
            }
        }
        self.live = Some(model);
        self.say_when_whole(now, out);
    }

    fn say_when_whole(&mut self, now: BootTime, out: &mut Outbox) {
        if !self.asked.is_empty() {
            return;
        }
        let Some(model) = self.live.take() else { return };
        self.busy = 0;
        self.renewed = false;
        out.alive = true;
        self.say(now, &model["result"], out);
    }

    fn no_response(&mut self, why: Unavailable, out: &mut Outbox) {
        if self.asked.answered() == Some(Question::Stop) {
            self.stopping.refused(silence(why), out);
        }
        self.details = Details::default();
        self.trouble(why, silence(why), out);
    }
}

impl Device for Duet {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        STOPS
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.forget();
                self.ask(out);
            }
            Heard::Due => {
                if self.asked.is_empty() {
                    self.renewed = false;
                }
                self.ask(out);
            }
            Heard::Response(response) => self.response(now, response, out),
            Heard::NoResponse(why) => self.no_response(why, out),
            Heard::Closed => {
                self.forget();
                let why = Unavailable::Disconnected;
                self.trouble(why, silence(why), out);
            }
            Heard::Stop(stop) => self.stop(now, stop, None, out),
            Heard::Bytes(_)
            | Heard::Frame(_)
            | Heard::Listening(_)
            | Heard::Message { .. }
            | Heard::Level { .. } => {}
        }
    }
}
