//! Prusa printers through PrusaLink: its interface of version 1, asked at every period.
//!
//! Two requests make one picture: `/api/v1/job`, for the name of the file (204 when there is no job),
//! then `/api/v1/status`, with all else; only then is anything said. Of a status only `printer.state`
//! is certain to be there; what is left out is no value.
//!
//! | `printer.state` | execution |
//! |---|---|
//! | `IDLE`, `READY` (a person has said that the bed is clear) | ready |
//! | `BUSY` (homing, heating, loading filament) | preparing |
//! | `PRINTING` | running |
//! | `PAUSED`, `ATTENTION` (a person is needed) | paused |
//! | `FINISHED` | finished |
//! | `STOPPED` (a person has ended the job) | ready |
//! | `ERROR` | fault |
//! | anything else | unknown |
//!
//! `STOPPED` is the end of a job, not an emergency stop; PrusaLink has none. A job is stopped by its
//! number, so a stop without a known job asks for the status first.
//!
//! What is kept: the number of the job, and the name of its file until the status comes.
//!
//! Facts: the OpenAPI description of PrusaLink (version 1.0.0-draft).

use std::sync::Arc;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use crate::device::{Device, Heard, Method, Outbox, Request, Response, Stop, StopReply};
use crate::http::{Asked, TOO_MANY, document, refusal, say_number, say_text, silence, succeeded};
use crate::printer::{self, Parts};
use crate::protocol::{Login, Protocol, Reach};
use crate::stopping::Stopping;

#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "prusalink",
    title: "PrusaLink",
    source: "OpenAPI description of PrusaLink, version 1.0.0-draft",
    evidence: "only against a fake written from the public description",
    reach: Reach::Http { port: 80 },
    login: Login::DigestOrHeader("maker", "X-Api-Key"),
    options: &[],
    device: |_| Ok(Box::new(PrusaLink::new())),
};

const ITEMS: &[&str] = &[
    "execution",
    "controller.state",
    "message",
    "job.name",
    "progress",
    "job.elapsed",
    "job.left",
    "override.feed",
    "position.z",
];

/// One nozzle and a heated bed are all that a status tells of.
const PARTS: Parts = Parts { nozzles: 1, bed: true, chamber: false };

const STOPS: &[Stop] = &[Stop::Cancel, Stop::Pause];

/// Items that are a field of the status as it is, times a factor.
const NUMBERS: &[(&str, &str, f64)] = &[
    ("progress", "/job/progress", 0.01),
    ("job.elapsed", "/job/time_printing", 1.0),
    ("job.left", "/job/time_remaining", 1.0),
    ("override.feed", "/printer/speed", 0.01),
    ("position.z", "/printer/axis_z", 1.0),
    ("temperature.nozzle", "/printer/temp_nozzle", 1.0),
    ("temperature.target.nozzle", "/printer/target_nozzle", 1.0),
    ("temperature.bed", "/printer/temp_bed", 1.0),
    ("temperature.target.bed", "/printer/target_bed", 1.0),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Job,
    Status,
    Stop,
}

/// A printer behind PrusaLink.
struct PrusaLink {
    items: Vec<Arc<str>>,
    asked: Asked<Question>,
    /// The file's name, or null, once `/api/v1/job` has answered.
    file: Option<Json>,
    job: Option<u64>,
    stopping: Stopping,
    /// A stop that waits for the number of the job.
    unnumbered: Option<Stop>,
}

impl PrusaLink {
    fn new() -> Self {
        Self {
            items: PARTS.items(ITEMS),
            asked: Asked::default(),
            file: None,
            job: None,
            stopping: Stopping::default(),
            unnumbered: None,
        }
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.file = None;
        self.job = None;
        self.stopping.clear();
        self.unnumbered = None;
    }

    /// Nothing is known any more, and a stop that waited for knowledge has failed.
    fn trouble(&mut self, why: Unavailable, words: &str, out: &mut Outbox) {
        self.file = None;
        self.job = None;
        out.unavailable(&self.items, why);
        out.trouble = Some(words.to_owned());
        if self.unnumbered.take().is_some() {
            self.stopping.refused(words, out);
        }
    }

    /// Asks for a picture, unless one is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if self.asked.is_empty() {
            self.file = None;
            self.asked.ask(Question::Job, Request::get("/api/v1/job"), out);
            self.asked.ask(Question::Status, Request::get("/api/v1/status"), out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        if !STOPS.contains(&stop) {
            return out.stop_failed("PrusaLink can only cancel and pause");
        }
        self.stopping.begin_without_deadline(stop);
        match self.job {
            Some(job) => self.command(stop, job, out),
            None => {
                self.unnumbered = Some(stop);
                self.ask(out);
            }
        }
    }

    fn command(&mut self, stop: Stop, job: u64, out: &mut Outbox) {
        let (method, path) = match stop {
            Stop::Pause => (Method::Put, format!("/api/v1/job/{job}/pause")),
            _ => (Method::Delete, format!("/api/v1/job/{job}")),
        };
        let request = Request { method, path, body: None, headers: Vec::new() };
        if !self.asked.ask(Question::Stop, request, out) {
            self.stopping.refused(TOO_MANY, out);
        }
    }

    fn response(&mut self, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.asked.answered() else { return };
        let status = response.status;
        match (question, document(response.body)) {
            (Question::Stop, _) => {
                let reply = match status {
                    _ if succeeded(status) => StopReply::Accepted,
                    404 => StopReply::Failed("404: the job is not on any more".to_owned()),
                    409 => StopReply::Failed("409: the job cannot be stopped now".to_owned()),
                    _ => StopReply::Failed(refusal(status).1),
                };
                self.stopping.answered(reply, out);
                self.ask(out);
            }
            (_, _) if !succeeded(status) => {
                let (why, words) = refusal(status);
                self.trouble(why, &words, out);
            }
            (Question::Job, _) if status == 204 => self.file = Some(Json::Null),
            (Question::Job, Some(job)) if job.is_object() => self.file = Some(file(&job)),
            (Question::Status, Some(status)) if status.pointer("/printer/state").is_some() => {
                self.status(&status, out);
            }
            _ => {
                let words = "the answer is not PrusaLink's; is the address right?";
                self.trouble(Unavailable::Garbled, words, out);
            }
        }
    }

    fn status(&mut self, status: &Json, out: &mut Outbox) {
        let Some(file) = self.file.take() else { return };
        out.alive = true;
        self.job = status.pointer("/job/id").and_then(Json::as_u64);
        let state = status.pointer("/printer/state").and_then(Json::as_str).unwrap_or("");
        let execution = execution(state);
        out.execution(state, execution);
        say_text(out, "job.name", Some(&file));
        let health = status.pointer("/printer/status_printer");
        let ill = health.filter(|health| health["ok"] == Json::Bool(false));
        say_text(out, "message", ill.and_then(|health| health.get("message")));
        for (item, field, scale) in NUMBERS {
            say_number(out, item, status.pointer(field), *scale);
        }
        if let Some(stop) = self.unnumbered.take() {
            match self.job {
                Some(job) => self.command(stop, job, out),
                None => {
                    self.stopping.refused("there is no job to stop", out);
                }
            }
        }
        printer::read_back(&mut self.stopping, execution, out);
    }

    fn no_response(&mut self, why: Unavailable, out: &mut Outbox) {
        if self.asked.answered() == Some(Question::Stop) {
            self.stopping.refused(silence(why), out);
        }
        self.trouble(why, silence(why), out);
    }
}

impl Device for PrusaLink {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        STOPS
    }

    fn step(&mut self, _: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.forget();
                self.ask(out);
            }
            Heard::Due => self.ask(out),
            Heard::Response(response) => self.response(response, out),
            Heard::NoResponse(why) => self.no_response(why, out),
            Heard::Closed => {
                let why = Unavailable::Disconnected;
                self.trouble(why, silence(why), out);
                self.forget();
            }
            Heard::Stop(stop) => self.stop(stop, out),
            Heard::Bytes(_)
            | Heard::Frame(_)
            | Heard::Listening(_)
            | Heard::Message { .. }
            | Heard::Level { .. } => {}
        }
    }
}

/// The long name of the job's file, or else the short one; null for a print from the serial line.
fn file(job: &Json) -> Json {
    let long = job.pointer("/file/display_name").filter(|name| name.is_string());
    long.or_else(|| job.pointer("/file/name")).cloned().unwrap_or(Json::Null)
}

/// The table of this file.
fn execution(state: &str) -> Option<Execution> {
    match state {
        "IDLE" | "READY" | "STOPPED" => Some(Execution::Ready),
        "BUSY" => Some(Execution::Preparing),
        "PRINTING" => Some(Execution::Running),
        "PAUSED" | "ATTENTION" => Some(Execution::Paused),
        "FINISHED" => Some(Execution::Finished),
        "ERROR" => Some(Execution::Fault),
        _ => None,
    }
}
