//! Klipper printers through Moonraker: JSON-RPC over a WebSocket.
//!
//! After connecting, `server.info` is asked until Klipper's host process is there and settled; then
//! the list of the printer's objects, a subscription to those of interest, and at every period a
//! query of the same objects, whose answer is the whole picture. Pushed changes are merged into that
//! picture and said at once, but only those: nothing else has just been confirmed. A restart of
//! Klipper voids the subscription, so everything begins anew then.
//!
//! | `webhooks.state` | `print_stats.state` | execution |
//! |---|---|---|
//! | `startup` | any | unknown (not yet) |
//! | `error` | any | fault |
//! | `shutdown` after an emergency stop (M112 or Moonraker) | any | stopped |
//! | `shutdown` otherwise | any | fault |
//! | `ready` | `standby` | ready |
//! | `ready` | `printing`, no filament used yet | preparing |
//! | `ready` | `printing` | running |
//! | `ready` | `paused` | paused |
//! | `ready` | `complete` | finished |
//! | `ready` | `cancelled` | ready |
//! | `ready` | `error` | fault |
//!
//! `webhooks` comes first because after a shutdown `print_stats` goes on saying `printing` for ever.
//! `complete` and `error` stay until the next job or `SDCARD_RESET_FILE`; that is what *finished*
//! and *fault* mean: nobody has cleared it yet. `job.elapsed` is the time since the job's start with
//! all its pauses. Klipper has no estimate of what is left.
//!
//! What is kept: the wanted fields of the wanted objects, texts cut; one question and one stop.
//!
//! Facts: Moonraker's documentation (JSON-RPC over WebSocket, printer administration) and Klipper's
//! (status reference, API server); replies of Moonraker 0.11.0 in the tests.

use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::{Value as Json, json};

use self::picture::{Picture, tells_execution};
use crate::device::{
    ANSWER_WITHIN, BODY_BYTES_MAX, Device, Heard, Outbox, Outgoing, Stop, StopReply, clean,
};
use crate::http::{silence, unavailable_but};
use crate::printer::{self, Parts};
use crate::protocol::{Login, Protocol, Reach};
use crate::stopping::Stopping;

mod picture;
#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "moonraker",
    title: "Klipper through Moonraker",
    source: "Moonraker documentation: JSON-RPC API; Klipper documentation: status reference",
    evidence: "tried against Moonraker 0.11.0 with a fake Klipper behind it",
    reach: Reach::WebSocket { port: 7125, path: "/websocket" },
    login: Login::Header("X-Api-Key"),
    options: printer::OPTIONS,
    device: |settings| Ok(Box::new(Moonraker::new(Parts::configured(settings)?))),
};

const ITEMS: &[&str] = &[
    "execution",
    "controller.state",
    "message",
    "job.name",
    "progress",
    "job.elapsed",
    "job.layer",
    "job.layers",
    "filament.used",
    "override.feed",
];

const STOPS: &[Stop] = &[Stop::Emergency, Stop::Cancel, Stop::Pause];

/// What was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Server,
    Objects,
    Subscription,
    Picture,
}

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Waiting for Klipper's host process.
    Starting,
    /// Subscribed; the picture is whole.
    Live,
}

/// A printer run by Klipper.
struct Moonraker {
    items: Vec<Arc<str>>,
    picture: Picture,
    phase: Phase,
    last_id: u64,
    asked: Option<(u64, Question, BootTime)>,
    stop_asked: Option<u64>,
    stopping: Stopping,
}

impl Moonraker {
    fn new(parts: Parts) -> Self {
        Self {
            items: parts.items(ITEMS),
            picture: Picture::new(parts),
            phase: Phase::Closed,
            last_id: 0,
            asked: None,
            stop_asked: None,
            stopping: Stopping::default(),
        }
    }

    fn forget(&mut self, phase: Phase) {
        self.phase = phase;
        self.asked = None;
        self.stop_asked = None;
        self.stopping.clear();
        self.picture.clear();
    }

    fn trouble(&self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    fn call(&mut self, method: &str, parameters: Json, out: &mut Outbox) -> u64 {
        self.last_id += 1;
        let mut call = json!({"jsonrpc": "2.0", "method": method, "id": self.last_id});
        if !parameters.is_null() {
            call["params"] = parameters;
        }
        out.send(Outgoing::Frame(call.to_string()));
        self.last_id
    }

    fn ask(&mut self, question: Question, now: BootTime, out: &mut Outbox) {
        let (method, parameters) = match question {
            Question::Server => ("server.info", Json::Null),
            Question::Objects => ("printer.objects.list", Json::Null),
            Question::Subscription => ("printer.objects.subscribe", self.picture.parameters()),
            Question::Picture => ("printer.objects.query", self.picture.parameters()),
        };
        let id = self.call(method, parameters, out);
        self.asked = Some((id, question, now));
    }

    /// The question of life; a question without answer for too long is the connection's death.
    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        if let Some((_, _, since)) = self.asked {
            if now.since(since) >= ANSWER_WITHIN {
                self.forget(Phase::Closed);
                self.trouble(Unavailable::Timeout, "Moonraker does not answer", out);
                out.send(Outgoing::Reopen);
            }
            return;
        }
        match self.phase {
            Phase::Closed => self.trouble(Unavailable::Disconnected, "not connected", out),
            Phase::Starting => self.ask(Question::Server, now, out),
            Phase::Live => self.ask(Question::Picture, now, out),
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        let method = match stop {
            _ if self.phase == Phase::Closed => Err("Moonraker is not connected"),
            Stop::Emergency => Ok("printer.emergency_stop"),
            Stop::Cancel => Ok("printer.print.cancel"),
            Stop::Pause => Ok("printer.print.pause"),
            Stop::Off => Err("Moonraker does not switch the supply"),
        };
        match method {
            Ok(method) => {
                self.stopping.begin_without_deadline(stop);
                self.stop_asked = Some(self.call(method, Json::Null, out));
            }
            Err(words) => out.stop_failed(words),
        }
    }

    fn frame(&mut self, frame: &str, now: BootTime, out: &mut Outbox) {
        let message = (frame.len() <= BODY_BYTES_MAX).then(|| serde_json::from_str(frame).ok());
        let Some(Json::Object(message)) = message.flatten() else {
            return self.trouble(Unavailable::Garbled, "Moonraker sends what is not JSON", out);
        };
        if let Some(method) = message.get("method").and_then(Json::as_str) {
            self.notified(method, message.get("params"), now, out);
            return;
        }
        let Some(id) = message.get("id").and_then(Json::as_u64) else { return };
        let result =
            message.get("result").ok_or_else(|| message.get("error").unwrap_or(&Json::Null));
        if self.stop_asked == Some(id) {
            self.stop_asked = None;
            let reply = match result {
                Ok(_) => StopReply::Accepted,
                Err(error) => StopReply::Failed(words(error)),
            };
            self.stopping.answered(reply, out);
            if self.phase == Phase::Live {
                self.ask(Question::Picture, now, out);
            }
        } else if let Some((_, question, _)) = self.asked.filter(|(asked, ..)| *asked == id) {
            self.asked = None;
            match result {
                Ok(result) => self.answered(question, result, now, out),
                Err(error) => self.refused(error, out),
            }
        }
    }

    fn notified(
        &mut self,
        method: &str,
        parameters: Option<&Json>,
        now: BootTime,
        out: &mut Outbox,
    ) {
        match method {
            "notify_status_update" if self.phase == Phase::Live => {
                let changes = parameters.and_then(|all| all.get(0)).and_then(Json::as_object);
                if let Some(changes) = changes {
                    out.alive = true;
                    self.picture.merge(changes);
                    self.picture.say(Some(changes), out);
                    if tells_execution(changes) {
                        printer::read_back(&mut self.stopping, self.picture.execution(), out);
                    }
                }
            }
            "notify_klippy_ready" if self.phase != Phase::Closed => {
                self.phase = Phase::Starting;
                self.ask(Question::Objects, now, out);
            }
            "notify_klippy_shutdown" if self.phase == Phase::Live => {
                self.ask(Question::Picture, now, out);
            }
            "notify_klippy_disconnected" if self.phase != Phase::Closed => self.host_gone(out),
            _ => {}
        }
    }

    fn host_gone(&mut self, out: &mut Outbox) {
        self.phase = Phase::Starting;
        self.asked = None;
        self.picture.clear();
        let words = "Moonraker answers, but Klipper is not connected to it";
        self.trouble(Unavailable::Disconnected, words, out);
    }

    fn refused(&mut self, error: &Json, out: &mut Outbox) {
        self.phase = Phase::Starting;
        let code = error.get("code").and_then(Json::as_i64);
        match (code, &*words(error)) {
            (Some(503), _) => self.host_gone(out),
            // What is said to a client that has shown no key, though the connection stands.
            (Some(401 | 403), _) | (_, "Unauthorized") => {
                self.trouble(Unavailable::Refused, "401: the key is not accepted", out);
            }
            (_, words) => self.trouble(Unavailable::Refused, words, out),
        }
    }

    fn answered(&mut self, question: Question, result: &Json, now: BootTime, out: &mut Outbox) {
        out.alive = true;
        let understood = match question {
            Question::Server => self.server(result, now, out),
            Question::Objects => self.objects(result, now, out),
            Question::Subscription | Question::Picture => self.whole(result, out),
        };
        if understood.is_none() {
            out.alive = false;
            self.phase = Phase::Starting;
            self.trouble(Unavailable::Garbled, "Moonraker's answer is not as described", out);
        }
    }

    fn server(&mut self, result: &Json, now: BootTime, out: &mut Outbox) -> Option<()> {
        match result.get("klippy_state")?.as_str()? {
            "ready" | "shutdown" | "error" => self.ask(Question::Objects, now, out),
            "startup" => {
                unavailable_but(&["controller.state"], &self.items, Unavailable::NotYet, out);
                out.text("controller.state", "startup");
                out.trouble = Some("Klipper is starting".to_owned());
            }
            _ => self.host_gone(out),
        }
        Some(())
    }

    fn objects(&mut self, result: &Json, now: BootTime, out: &mut Outbox) -> Option<()> {
        let objects = result.get("objects")?.as_array()?;
        self.picture.choose(objects);
        self.ask(Question::Subscription, now, out);
        Some(())
    }

    fn whole(&mut self, result: &Json, out: &mut Outbox) -> Option<()> {
        let status = result.get("status")?.as_object()?;
        self.phase = Phase::Live;
        self.picture.clear();
        self.picture.merge(status);
        self.picture.say(None, out);
        printer::read_back(&mut self.stopping, self.picture.execution(), out);
        Some(())
    }
}

impl Device for Moonraker {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        STOPS
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.forget(Phase::Starting);
                self.ask(Question::Server, now, out);
            }
            Heard::Due => self.due(now, out),
            Heard::Frame(frame) if self.phase != Phase::Closed => self.frame(frame, now, out),
            Heard::NoResponse(why) => self.trouble(why, silence(why), out),
            Heard::Closed => {
                self.forget(Phase::Closed);
                self.trouble(Unavailable::Disconnected, "the connection was closed", out);
            }
            Heard::Stop(stop) => self.stop(stop, out),
            Heard::Frame(_)
            | Heard::Listening(_)
            | Heard::Bytes(_)
            | Heard::Response(_)
            | Heard::Message { .. }
            | Heard::Level { .. } => {}
        }
    }
}

/// The words of a JSON-RPC error.
fn words(error: &Json) -> String {
    let message = error.get("message").and_then(Json::as_str);
    clean(message.unwrap_or("Moonraker refuses"))
}
