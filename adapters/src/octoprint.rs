//! Printers behind OctoPrint: told by its push, asked through its REST interface.
//!
//! Push (`push`) tells a change within half a second. It is said at once where it changes what the
//! printer does, and else once in a period. What push has not told since the last period is asked for:
//! all of it where there is no push, which is then the source's trouble, with the reason.
//!
//! Two requests make one picture: `/api/job`, which is always answered, then `/api/printer`, which
//! is refused with 409 while OctoPrint has no printer; only then is anything said. `/api/connection`
//! is not asked: after an error it says no more than `Closed`, where `/api/job` has the reason.
//!
//! What the printer does is read from flags, never from texts (`flags`), and whether it waits for a heater
//! from temperatures (`heating`).
//!
//! The two answers may be of two moments: when their states differ, both are asked for once more, or a
//! job that has just ended would be shown as ready instead of finished for a period. Answers that a
//! push has overtaken tell temperatures only.
//!
//! What is kept: the last answer of `/api/job`, until that of `/api/printer`; what was last said of
//! the execution; where the file stands.
//!
//! Facts: OctoPrint's documentation of its REST API and its push updates; replies and messages of
//! OctoPrint 1.11.8 in the tests.

use std::sync::Arc;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use crate::device::{Device, Heard, Outbox, Request, Response, Stop, StopReply, clean};
use crate::http::{
    Asked, TOO_MANY, document, refusal, say_number, say_text, silence, succeeded, unavailable_but,
};
use crate::printer::{self, Parts};
use crate::protocol::{Login, Protocol, Reach};
use crate::stopping::Stopping;

use self::flags::{by_error, by_flags};
use self::heating::Heating;
use self::push::Push;

mod flags;
mod heating;
mod push;
#[cfg(test)]
mod push_tests;
#[cfg(test)]
mod tests;

/// Its line in the registry.
pub const PROTOCOL: Protocol = Protocol {
    name: "octoprint",
    title: "OctoPrint",
    source: "OctoPrint documentation: REST API (job, printer operations, login), push updates",
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Job,
    Printer,
    Stop,
    Login,
}

/// A printer behind OctoPrint.
struct OctoPrint {
    items: Vec<Arc<str>>,
    parts: Parts,
    asked: Asked<Question>,
    job: Option<Json>,
    /// The picture under way is the second try.
    again: bool,
    /// A push has told the state after the picture under way was asked for.
    overtaken: bool,
    push: Push,
    /// What was pushed since the period began.
    pushed: Pushed,
    /// What was last said of the execution.
    last: Option<Execution>,
    heating: Heating,
    stopping: Stopping,
}

/// Parts of a picture.
#[derive(Clone, Copy, Debug, Default)]
struct Pushed {
    state: bool,
    temperatures: bool,
}

impl OctoPrint {
    fn new(parts: Parts) -> Self {
        Self {
            items: parts.items(ITEMS),
            parts,
            asked: Asked::default(),
            job: None,
            again: false,
            overtaken: false,
            push: Push::default(),
            pushed: Pushed::default(),
            last: None,
            heating: Heating::default(),
            stopping: Stopping::default(),
        }
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.job = None;
        (self.again, self.overtaken) = (false, false);
        self.push.forget();
        (self.pushed, self.last) = (Pushed::default(), None);
        self.heating.forget();
        self.stopping.clear();
    }

    /// A picture by requests has failed: what a push tells meanwhile stands.
    fn trouble(&mut self, why: Unavailable, words: impl Into<String>, out: &mut Outbox) {
        if !self.overtaken {
            self.last = None;
            out.unavailable(&self.items, why);
        }
        out.trouble = Some(words.into());
    }

    /// Asks for a picture, unless one is on its way.
    fn ask(&mut self, out: &mut Outbox) {
        if !self.asked.has(&Question::Printer) {
            self.job = None;
            self.overtaken = false;
            self.asked.ask(Question::Job, Request::get("/api/job"), out);
            self.asked.ask(Question::Printer, Request::get("/api/printer?exclude=sd"), out);
        }
    }

    /// The period has come round. What was pushed in the one that ends need not be asked for.
    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        let Pushed { state, temperatures } = std::mem::take(&mut self.pushed);
        if !(state && temperatures) {
            self.ask(out);
        }
        if let Some(login) = self.push.due(now) {
            self.asked.ask(Question::Login, login, out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        let (path, command) = match stop {
            Stop::Emergency => ("/api/printer/command", r#"{"commands":["M112"]}"#),
            Stop::Cancel => ("/api/job", r#"{"command":"cancel"}"#),
            Stop::Pause => ("/api/job", r#"{"command":"pause","action":"pause"}"#),
            Stop::Off => {
                return out.stop_failed("OctoPrint does not switch the supply");
            }
        };
        if self.asked.ask(Question::Stop, Request::post(path, command), out) {
            self.stopping.begin_without_deadline(stop);
        } else {
            out.stop_failed(TOO_MANY);
        }
    }

    fn response(&mut self, now: BootTime, response: Response<'_>, out: &mut Outbox) {
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
            (Question::Login, login) => {
                let refused = || Err(complaint(login.as_ref(), status));
                let answer = if succeeded(status) { Ok(login.as_ref()) } else { refused() };
                self.push.logged_in(now, answer, out);
            }
            (Question::Printer, _) if status == 409 => self.without_printer(now, out),
            (_, _) if !succeeded(status) => {
                let (why, words) = refusal(status);
                self.trouble(why, words, out);
            }
            (Question::Job, Some(job)) if job.get("state").is_some() => self.job = Some(job),
            (Question::Printer, Some(printer)) if printer.get("state").is_some() => {
                self.printer(now, &printer, out);
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
    fn printer(&mut self, now: BootTime, printer: &Json, out: &mut Outbox) {
        let Some(job) = self.job.take() else { return };
        if self.asks_again(job["state"] != printer["state"]["text"], out) {
            return;
        }
        self.asked_for(now, out);
        if !self.overtaken {
            let temperatures = Some(&printer["temperature"]);
            let execution = self.execution(now, &printer["state"], &job, temperatures);
            self.say(execution, &printer["state"], &job, out);
        }
        self.temperatures(&printer["temperature"], out);
        printer::read_back(&mut self.stopping, by_flags(&printer["state"], &job), out);
    }

    /// Requests have told something: it is OctoPrint.
    fn asked_for(&mut self, now: BootTime, out: &mut Outbox) {
        out.alive = true;
        self.push.may_begin(now);
        out.trouble = self.push.why_not().map(str::to_owned);
    }

    /// A frame of the WebSocket.
    fn pushed(&mut self, now: BootTime, frame: &str, out: &mut Outbox) {
        let Some(told) = self.push.frame(now, frame, out) else { return };
        out.alive = true;
        self.overtaken = true;
        let state = &told["state"];
        let known = std::mem::replace(&mut self.pushed.state, true);
        if state["flags"]["operational"] == Json::Bool(true) {
            let newest = push::newest_temperatures(&told);
            let execution = self.execution(now, state, &told, newest);
            if !known || execution != self.last {
                self.say(execution, state, &told, out);
            }
            if let Some(newest) = newest
                && !std::mem::replace(&mut self.pushed.temperatures, true)
            {
                self.temperatures(newest, out);
            }
        } else {
            self.offline(state["text"].as_str(), state["error"].as_str(), out);
        }
        // While answers are on their way, a stop may have been commanded after this was told.
        if !self.asked.has(&Question::Printer) {
            printer::read_back(&mut self.stopping, self.last, out);
        }
    }

    /// Says all that is not temperatures: OctoPrint has a printer.
    fn say(&mut self, execution: Option<Execution>, state: &Json, job: &Json, out: &mut Outbox) {
        self.last = execution;
        out.execution(state["text"].as_str().unwrap_or(""), execution);
        say_text(out, "message", state.get("error"));
        say_text(out, "job.name", job.pointer("/job/file/name"));
        say_number(out, "progress", job.pointer("/progress/completion"), 0.01);
        say_number(out, "job.elapsed", job.pointer("/progress/printTime"), 1.0);
        say_number(out, "job.left", job.pointer("/progress/printTimeLeft"), 1.0);
    }

    /// What the printer does, by its flags and its heaters.
    fn execution(
        &mut self,
        now: BootTime,
        state: &Json,
        job: &Json,
        temperatures: Option<&Json>,
    ) -> Option<Execution> {
        let flag = |name: &str| state["flags"][name] == Json::Bool(true);
        let execution = by_flags(state, job);
        let holds = ["pausing", "paused", "resuming"].into_iter().any(flag);
        let ends = ["finishing", "cancelling"].into_iter().any(flag);
        if execution != Some(Execution::Running) || holds || ends {
            let prepared = self.heating.rests(holds);
            return if prepared && flag("pausing") {
                Some(Execution::Preparing)
            } else {
                execution
            };
        }
        let on_card = job.pointer("/job/file/origin").is_some_and(|origin| origin == "sdcard");
        let place = job.pointer("/progress/filepos").and_then(Json::as_f64).filter(|_| !on_card);
        let prepares = self.heating.prepares(now, place, temperatures);
        Some(if prepares { Execution::Preparing } else { Execution::Running })
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
    fn without_printer(&mut self, now: BootTime, out: &mut Outbox) {
        let Some(job) = self.job.take() else { return };
        let state = job["state"].as_str().unwrap_or("");
        let error = job["error"].as_str().filter(|error| !error.is_empty());
        if self.asks_again(error.is_none() && !state.starts_with("Offline"), out) {
            return;
        }
        self.asked_for(now, out);
        if !self.overtaken {
            self.offline(Some(state), error, out);
        }
        printer::read_back(&mut self.stopping, error.and_then(by_error), out);
    }

    /// OctoPrint has no printer: `/api/job` or a push knows why.
    fn offline(&mut self, state: Option<&str>, error: Option<&str>, out: &mut Outbox) {
        let (state, error) = (state.unwrap_or(""), error.filter(|error| !error.is_empty()));
        self.heating.rests(false);
        let reason = clean(error.unwrap_or(state));
        out.trouble = Some(format!("OctoPrint is not connected to the printer: {reason}"));
        let why = Unavailable::Disconnected;
        self.last = error.and_then(by_error);
        if let Some(error) = error {
            unavailable_but(&["execution", "controller.state", "message"], &self.items, why, out);
            out.text("message", error);
            out.execution(state, self.last);
        } else {
            unavailable_but(&["controller.state"], &self.items, why, out);
            out.text("controller.state", state);
        }
    }

    fn no_response(&mut self, now: BootTime, why: Unavailable, out: &mut Outbox) {
        match self.asked.answered() {
            Some(Question::Stop) => {
                self.stopping.refused(silence(why), out);
            }
            Some(Question::Login) => {
                return self.push.unanswered(now, silence(why));
            }
            _ => {}
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

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.forget();
                self.ask(out);
            }
            Heard::Due => self.due(now, out),
            Heard::Response(response) => self.response(now, response, out),
            Heard::NoResponse(why) => self.no_response(now, why, out),
            Heard::Frame(frame) => self.pushed(now, frame, out),
            Heard::Listening(listening) => self.push.listening(now, listening, out),
            Heard::Closed => {
                self.forget();
                let why = Unavailable::Disconnected;
                self.trouble(why, silence(why), out);
            }
            Heard::Stop(stop) => self.stop(stop, out),
            Heard::Bytes(_) | Heard::Message { .. } | Heard::Level { .. } => {}
        }
    }
}

/// OctoPrint's own words for a refusal, or else the status.
fn complaint(document: Option<&Json>, status: u16) -> String {
    let words = document.and_then(|document| document.get("error")).and_then(Json::as_str);
    words.map_or_else(|| refusal(status).1, |words| format!("{status}: {}", clean(words)))
}
