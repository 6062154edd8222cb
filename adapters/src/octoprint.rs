//! Printers behind OctoPrint: its REST interface, asked at every period.
//!
//! Two requests make one picture: `/api/job`, which is always answered, then `/api/printer`, which
//! is refused with 409 while OctoPrint has no printer; only then is anything said. `/api/connection`
//! is not asked: after an error it says no more than `Closed`, where `/api/job` has the reason.
//! OctoPrint's push interface is not used: its WebSocket wants a session that only a REST login gives,
//! and a device here has one connection.
//!
//! States are read from the flags, in this order, because the text may be anything:
//!
//! | flags of `/api/printer` | execution |
//! |---|---|
//! | `error` or `closedOrError` | fault |
//! | `paused` | paused |
//! | `printing`, `pausing`, `resuming`, `finishing` or `cancelling` | running |
//! | `ready`, and the job's `completion` is 100 | finished |
//! | `ready`, or `operational` alone (a file goes to the card) | ready |
//! | none of them | unknown |
//!
//! | 409 of `/api/printer`, and in `/api/job` | execution |
//! |---|---|
//! | an `error` that names M112 | stopped |
//! | another `error` | fault |
//! | no `error` (`Offline`, `Connecting`, …) | unknown (disconnected): the printer may well print from its card |
//!
//! While it pauses or cancels, OctoPrint has the `printing` flag set and the head still moves: that
//! is running, and a stop does not stand yet. Heating is part of `printing`. Right after connecting
//! `temperature` is `{}`, which is no value. `M112` makes OctoPrint send it and close its port, so
//! reading it back proves what OctoPrint did and not what the printer did.
//!
//! The two answers may be of two moments: when their states differ, both are asked for once more, or a
//! job that has just ended would be shown as ready instead of finished for a period.
//!
//! What is kept: the last answer of `/api/job`, until that of `/api/printer`.
//!
//! Facts: OctoPrint's documentation of its REST API; replies of OctoPrint 1.11.8 in the tests.

use std::sync::Arc;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use crate::device::{Device, Heard, Outbox, Request, Response, Stop, StopReply, clean};
use crate::http::{
    Asked, document, refusal, say_number, say_text, silence, succeeded, unavailable_but,
};
use crate::printer::{self, Parts};
use crate::protocol::{Login, Protocol, Reach};
use crate::stopping::Stopping;

#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "octoprint",
    title: "OctoPrint",
    source: "OctoPrint documentation: REST API (job, printer operations)",
    evidence: "tried against OctoPrint 1.11.8 with its virtual printer",
    reach: Reach::Http { port: 5000 },
    login: Login::Header("X-Api-Key"),
    options: printer::OPTIONS,
    device: |settings| Ok(Box::new(OctoPrint::new(Parts::configured(settings)?))),
};

const ITEMS: &[&str] = &[
    "execution",
    "controller.state",
    "message",
    "job.name",
    "progress",
    "job.elapsed",
    "job.left",
];

const STOPS: &[Stop] = &[Stop::Emergency, Stop::Cancel, Stop::Pause];

/// `completion` of a job that is through, in percent.
const COMPLETE: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Job,
    Printer,
    Stop,
}

/// A printer behind OctoPrint.
struct OctoPrint {
    items: Vec<Arc<str>>,
    parts: Parts,
    asked: Asked<Question>,
    job: Option<Json>,
    /// The picture under way is the second try.
    again: bool,
    stopping: Stopping,
}

impl OctoPrint {
    fn new(parts: Parts) -> Self {
        Self {
            items: parts.items(ITEMS),
            parts,
            asked: Asked::default(),
            job: None,
            again: false,
            stopping: Stopping::default(),
        }
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.job = None;
        self.again = false;
        self.stopping.clear();
    }

    fn trouble(&self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    /// Asks for a picture, unless one is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if self.asked.is_empty() {
            self.job = None;
            self.asked.ask(Question::Job, Request::get("/api/job"), out);
            self.asked.ask(Question::Printer, Request::get("/api/printer?exclude=sd"), out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        let (path, command) = match stop {
            Stop::Emergency => ("/api/printer/command", r#"{"commands":["M112"]}"#),
            Stop::Cancel => ("/api/job", r#"{"command":"cancel"}"#),
            Stop::Pause => ("/api/job", r#"{"command":"pause","action":"pause"}"#),
            Stop::Off => {
                let words = "OctoPrint does not switch the supply".to_owned();
                return out.stop.push(StopReply::Failed(words));
            }
        };
        if self.asked.ask(Question::Stop, Request::post(path, command), out) {
            self.stopping.begin_without_deadline(stop);
        } else {
            out.stop.push(StopReply::Failed("too many requests wait for an answer".to_owned()));
        }
    }

    fn response(&mut self, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.asked.answered() else { return };
        let status = response.status;
        let document = document(response.body);
        match (question, document) {
            (Question::Stop, document) => {
                let reply = if succeeded(status) {
                    StopReply::Accepted
                } else {
                    StopReply::Failed(complaint(document.as_ref(), status))
                };
                self.stopping.answered(reply, out);
                self.ask(out);
            }
            (Question::Printer, _) if status == 409 => self.without_printer(out),
            (_, _) if !succeeded(status) => {
                let (why, words) = refusal(status);
                self.trouble(why, words, out);
            }
            (Question::Job, Some(job)) if job.get("state").is_some() => self.job = Some(job),
            (Question::Printer, Some(printer)) if printer.get("state").is_some() => {
                self.printer(&printer, out);
            }
            _ => {
                let words = "the answer is not OctoPrint's; is the address right?";
                self.trouble(Unavailable::Garbled, words, out);
            }
        }
    }

    /// Asks once more for a picture whose halves are of two moments. Returns whether it did.
    fn asks_again(&mut self, torn: bool, out: &mut Outbox) -> bool {
        self.again = torn && !self.again;
        if self.again {
            self.ask(out);
        }
        self.again
    }

    /// The picture is whole: OctoPrint has a printer.
    fn printer(&mut self, printer: &Json, out: &mut Outbox) {
        let Some(job) = self.job.take() else { return };
        if self.asks_again(job["state"] != printer["state"]["text"], out) {
            return;
        }
        out.alive = true;
        let completion = job.pointer("/progress/completion").and_then(Json::as_f64);
        let complete = completion.is_some_and(|percent| percent >= COMPLETE);
        let flag = |name: &str| printer["state"]["flags"][name] == Json::Bool(true);
        let execution = execution(flag, complete);
        out.execution(printer["state"]["text"].as_str().unwrap_or(""), execution);
        say_text(out, "message", printer.pointer("/state/error"));
        say_text(out, "job.name", job.pointer("/job/file/name"));
        say_number(out, "progress", job.pointer("/progress/completion"), 0.01);
        say_number(out, "job.elapsed", job.pointer("/progress/printTime"), 1.0);
        say_number(out, "job.left", job.pointer("/progress/printTimeLeft"), 1.0);
        self.temperatures(&printer["temperature"], out);
        printer::read_back(&mut self.stopping, execution, out);
    }

    fn temperatures(&self, temperatures: &Json, out: &mut Outbox) {
        let mut say = |theirs: &str, ours: &str, with_target: bool| {
            let heater = &temperatures[theirs];
            say_number(out, &printer::actual(ours), heater.get("actual"), 1.0);
            if with_target {
                say_number(out, &printer::target(ours), heater.get("target"), 1.0);
            }
        };
        for index in 0..self.parts.nozzles {
            say(&format!("tool{index}"), &printer::nozzle(index), true);
        }
        if self.parts.bed {
            say("bed", "bed", true);
        }
        if self.parts.chamber {
            say("chamber", "chamber", false);
        }
    }

    /// OctoPrint answers, but has no printer; `/api/job` knows why.
    fn without_printer(&mut self, out: &mut Outbox) {
        let Some(job) = self.job.take() else { return };
        let state = job["state"].as_str().unwrap_or("");
        let error = job["error"].as_str().filter(|error| !error.is_empty());
        if self.asks_again(error.is_none() && !state.starts_with("Offline"), out) {
            return;
        }
        out.alive = true;
        let reason = clean(error.unwrap_or(state));
        out.trouble = Some(format!("OctoPrint is not connected to the printer: {reason}"));
        let why = Unavailable::Disconnected;
        let execution = error.map(|error| match error.contains("M112") {
            true => Execution::Stopped,
            false => Execution::Fault,
        });
        if let Some(error) = error {
            unavailable_but(&["execution", "controller.state", "message"], &self.items, why, out);
            out.text("message", error);
            out.execution(state, execution);
        } else {
            unavailable_but(&["controller.state"], &self.items, why, out);
            out.text("controller.state", state);
        }
        printer::read_back(&mut self.stopping, execution, out);
    }

    fn no_response(&mut self, why: Unavailable, out: &mut Outbox) {
        if self.asked.answered() == Some(Question::Stop) {
            self.stopping.answered(StopReply::Failed(silence(why).to_owned()), out);
        }
        self.job = None;
        self.trouble(why, silence(why), out);
    }
}

impl Device for OctoPrint {
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
                self.forget();
                let why = Unavailable::Disconnected;
                self.trouble(why, silence(why), out);
            }
            Heard::Stop(stop) => self.stop(stop, out),
            Heard::Bytes(_) | Heard::Frame(_) | Heard::Message { .. } | Heard::Level { .. } => {}
        }
    }
}

/// The first table of this file.
fn execution(flag: impl Fn(&str) -> bool, complete: bool) -> Option<Execution> {
    let any = |names: &[&str]| names.iter().any(|name| flag(name));
    if any(&["error", "closedOrError"]) {
        Some(Execution::Fault)
    } else if flag("paused") {
        Some(Execution::Paused)
    } else if any(&["printing", "pausing", "resuming", "finishing", "cancelling"]) {
        Some(Execution::Running)
    } else if flag("ready") && complete {
        Some(Execution::Finished)
    } else if any(&["ready", "operational"]) {
        Some(Execution::Ready)
    } else {
        None
    }
}

/// OctoPrint's own words for a refusal, or else the status.
fn complaint(document: Option<&Json>, status: u16) -> String {
    let words = document.and_then(|document| document.get("error")).and_then(Json::as_str);
    words.map_or_else(|| refusal(status).1, |words| format!("{status}: {}", clean(words)))
}
