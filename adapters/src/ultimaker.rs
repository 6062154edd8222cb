//! UltiMaker printers (3, S3, S5 and their kin): the printer's own interface of version 1, asked at
//! every period.
//!
//! Two requests make one picture: `/api/v1/print_job` (404 when there is no job), then
//! `/api/v1/printer`; only then is anything said. Reading needs no credentials. Stops do: an id and a
//! key that the printer gives to an application which a person has allowed at its display; they go
//! into the configuration as user and password.
//!
//! | `printer.status` | `print_job.state` | execution |
//! |---|---|---|
//! | `error` | any | fault |
//! | `booting` | any | unknown (not yet) |
//! | `maintenance` (a person has it move or heat: no job is on) | any | ready |
//! | `idle`, `printing` | `pre_print` | preparing |
//! | `idle`, `printing` | `printing`, `pausing`, `resuming`, `post_print` | running |
//! | `idle`, `printing` | `paused` | paused |
//! | `idle`, `printing` | `wait_cleanup` | finished |
//! | `idle` | none, or `none` | ready |
//! | `printing` | none | unknown: the one contradicts the other |
//! | anything else | | unknown |
//!
//! What is kept: the job, until the answer of the printer has come.
//!
//! Facts: the printer's API description as public clients have written it down; from memory of them,
//! and never tried.

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
    name: "ultimaker",
    title: "UltiMaker",
    source: "UltiMaker API version 1, as public clients describe it",
    evidence: "only against bodies written from the public description",
    reach: Reach::Http { port: 80 },
    login: Login::Digest(""),
    options: &[printer::OPTIONS[0]],
    device: |settings| Ok(Box::new(UltiMaker::new(Parts::configured(settings)?))),
};

const ITEMS: &[&str] =
    &["execution", "controller.state", "job.name", "progress", "job.elapsed", "job.left"];

const STOPS: &[Stop] = &[Stop::Cancel, Stop::Pause];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Job,
    Printer,
    Stop,
}

/// A printer.
struct UltiMaker {
    items: Vec<Arc<str>>,
    parts: Parts,
    asked: Asked<Question>,
    /// The job, or null, once the printer has told.
    job: Option<Json>,
    stopping: Stopping,
}

impl UltiMaker {
    fn new(parts: Parts) -> Self {
        Self {
            items: parts.items(ITEMS),
            parts,
            asked: Asked::default(),
            job: None,
            stopping: Stopping::default(),
        }
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.job = None;
        self.stopping.clear();
    }

    fn trouble(&mut self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        self.job = None;
        out.unavailable(&self.items, why);
        out.trouble = Some(words.into());
    }

    /// Asks for a picture, unless one is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if self.asked.is_empty() {
            self.job = None;
            self.asked.ask(Question::Job, Request::get("/api/v1/print_job"), out);
            self.asked.ask(Question::Printer, Request::get("/api/v1/printer"), out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        let body = match stop {
            Stop::Cancel => r#"{"target":"abort"}"#,
            Stop::Pause => r#"{"target":"pause"}"#,
            Stop::Emergency | Stop::Off => {
                return out.stop_failed("an UltiMaker can only cancel and pause");
            }
        };
        let post = Request::post("/api/v1/print_job/state", body);
        let request = Request { method: Method::Put, ..post };
        if self.asked.ask(Question::Stop, request, out) {
            self.stopping.begin_without_deadline(stop);
        } else {
            out.stop_failed(TOO_MANY);
        }
    }

    fn response(&mut self, response: Response<'_>, out: &mut Outbox) {
        let Some(question) = self.asked.answered() else { return };
        let status = response.status;
        match (question, document(response.body)) {
            (Question::Stop, _) => {
                let reply = match status {
                    _ if succeeded(status) => StopReply::Accepted,
                    404 => StopReply::Failed("404: there is no job to stop".to_owned()),
                    _ => StopReply::Failed(refusal(status).1),
                };
                self.stopping.answered(reply, out);
                self.ask(out);
            }
            (Question::Job, _) if status == 404 => self.job = Some(Json::Null),
            (_, _) if !succeeded(status) => {
                let (why, words) = refusal(status);
                self.trouble(why, words, out);
            }
            (Question::Job, Some(job)) if job.get("state").is_some() => self.job = Some(job),
            (Question::Printer, Some(printer)) if printer.get("status").is_some() => {
                self.printer(&printer, out);
            }
            _ => {
                let words = "the answer is not an UltiMaker's; is the address right?";
                self.trouble(Unavailable::Garbled, words, out);
            }
        }
    }

    /// The picture is whole.
    fn printer(&mut self, printer: &Json, out: &mut Outbox) {
        let Some(job) = self.job.take() else { return };
        out.alive = true;
        let status = printer["status"].as_str().unwrap_or("");
        let state = job["state"].as_str().filter(|state| *state != "none");
        let execution = execution(status, state);
        let word = state.filter(|_| matches!(status, "idle" | "printing")).unwrap_or(status);
        if status == "booting" {
            out.text("controller.state", word);
            out.say("execution", Err(Unavailable::NotYet));
        } else {
            out.execution(word, execution);
        }
        say_text(out, "job.name", job.get("name"));
        say_number(out, "progress", job.get("progress"), 1.0);
        say_number(out, "job.elapsed", job.get("time_elapsed"), 1.0);
        let time = |name: &str| job[name].as_f64();
        let left = time("time_total").zip(time("time_elapsed"));
        let left = left.map(|(total, elapsed)| Json::from((total - elapsed).max(0.0)));
        say_number(out, "job.left", left.as_ref(), 1.0);
        for index in 0..self.parts.nozzles {
            let place = printer::nozzle(index);
            let extruder = &printer["heads"][0]["extruders"][usize::from(index)];
            say_temperature(&place, &extruder["hotend"]["temperature"], out);
        }
        if self.parts.bed {
            say_temperature("bed", &printer["bed"]["temperature"], out);
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

impl Device for UltiMaker {
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
            Heard::Bytes(_)
            | Heard::Frame(_)
            | Heard::Listening(_)
            | Heard::Message { .. }
            | Heard::Level { .. } => {}
        }
    }
}

fn say_temperature(place: &str, temperature: &Json, out: &mut Outbox) {
    say_number(out, &printer::actual(place), temperature.get("current"), 1.0);
    say_number(out, &printer::target(place), temperature.get("target"), 1.0);
}

/// The table of this file.
fn execution(status: &str, job: Option<&str>) -> Option<Execution> {
    match (status, job) {
        ("error", _) => Some(Execution::Fault),
        ("maintenance", _) => Some(Execution::Ready),
        ("idle" | "printing", Some("pre_print")) => Some(Execution::Preparing),
        ("idle" | "printing", Some("printing" | "pausing" | "resuming" | "post_print")) => {
            Some(Execution::Running)
        }
        ("idle" | "printing", Some("paused")) => Some(Execution::Paused),
        ("idle" | "printing", Some("wait_cleanup")) => Some(Execution::Finished),
        ("idle", None) => Some(Execution::Ready),
        _ => None,
    }
}
