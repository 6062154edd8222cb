//! What a device that is not a Modbus register map is to the gateway: a [`Device`], which is told
//! what was heard and answers with what to send and what the device says of itself.
//!
//! A device owns no socket, reads no clock and never waits. The gateway's owner of the connection
//! opens it, brings every byte, frame, response or message, and calls at every period
//! ([`Heard::Due`]); time comes in as an argument. What a device may rely on:
//!
//! * [`Heard::Opened`] comes first after every (re)connection, [`Heard::Closed`] last. Nothing that
//!   was asked before is answered after. State that only the old connection knew is void.
//! * bytes arrive in any portions; frames, responses and messages arrive whole and in order.
//! * `now` never goes back.
//!
//! What a device must do:
//!
//! * **Say only what it has just had confirmed.** A value that was told is fresh at `now`. A device
//!   that pushes only changes is asked a question of life at every `Due`; its answer says the
//!   whole merged picture again. Values left unsaid go stale by themselves and that is right.
//! * **Say why.** When the device does not answer or answers rubbish, every item it would have told
//!   is said as `Err` with the reason; the words belong in [`Outbox::trouble`].
//! * **`execution` is the device's word mapped by its table** (see each file), `controller.state`
//!   the word itself, verbatim. A word that is not in the table is unknown, never ready:
//!   `Err(Unavailable::Garbled)`.
//! * Bound whatever it keeps: lines, maps, merged documents.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

/// Longest text that is passed on (a message, a job's name), in bytes; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 200;

/// Longest line of a line protocol, in bytes; what is longer is thrown away up to its end.
pub const LINE_BYTES_MAX: usize = 4096;

/// A device behind one connection, or behind a broker.
pub trait Device: Send {
    /// The items that it can tell, by name of the closed list. Fixed for its life.
    fn items(&self) -> &[Arc<str>];

    /// The stops that it offers, strongest first; empty when none.
    fn stops(&self) -> &[Stop] {
        &[]
    }

    /// Takes what was heard at `now`; what follows from it goes into `out`.
    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox);
}

/// What the owner of the connection brings.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// The connection stands: a socket, a serial port, a WebSocket, a session at a broker.
    Opened,
    /// The period has come round.
    Due,
    /// Bytes of a stream, in any portion.
    Bytes(&'a [u8]),
    /// A WebSocket text frame.
    Frame(&'a str),
    /// The WebSocket of [`Outgoing::Listen`] stands; or it could not be opened or is gone, for the
    /// reason in words, and requests go on without it.
    Listening(Result<(), &'a str>),
    /// The response to the oldest [`Outgoing::Request`] that has none yet. An answer that goes on is
    /// a response a part. It ends with an empty one, or by the next request; then parts that were on
    /// their way may still come.
    Response(Response<'a>),
    /// The oldest [`Outgoing::Request`] without response failed: refused, reset, or not answered
    /// within [`ANSWER_WITHIN`].
    NoResponse(Unavailable),
    /// A message of a topic that was subscribed to.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its payload.
        payload: &'a [u8],
        /// The broker kept it from before: it may be as old as the hills.
        retained: bool,
    },
    /// A line of a GPIO chip stands at this level; brought at every period and at every edge.
    Level {
        /// Its position among the source's lines.
        line: usize,
        /// Whether it is on.
        on: bool,
    },
    /// The connection is gone.
    Closed,
    /// A person or rule wants the machine stopped. Answered through [`Outbox::stop`]. One that
    /// comes before the last is answered takes its place: only the newest is answered from then on.
    Stop(Stop),
}

/// An HTTP response. Bodies are at most [`BODY_BYTES_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// It is a part of an answer that goes on (`multipart/x-mixed-replace`); an empty one ends it.
    pub is_part: bool,
}

/// Largest response body, WebSocket frame or message; larger ones count as garbled.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a request may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A way to stop what the machine does. None of them is a safety function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The controller halts: heaters, spindle and motors off; needs a reset there.
    Emergency,
    /// The job is ended; heaters and spindle are turned off in the controller's own way.
    Cancel,
    /// The job is held and can go on; heaters may stay on.
    Pause,
    /// The supply is switched off.
    Off,
}

impl Stop {
    /// Every stop.
    pub const ALL: [Self; 4] = [Self::Emergency, Self::Cancel, Self::Pause, Self::Off];

    /// The word in a configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Off => "off",
        }
    }
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Bytes of a stream.
    Bytes(Vec<u8>),
    /// A WebSocket text frame.
    Frame(String),
    /// Open a WebSocket beside the requests, at this path of the same host. There is one: whatever
    /// was opened before is closed. Answered by [`Heard::Listening`].
    Listen(&'static str),
    /// An HTTP request. They are sent one after the other; at most [`REQUESTS_MAX`] wait.
    Request(Request),
    /// Subscribe to a topic or filter.
    Subscribe(String),
    /// A message, QoS 1, not retained.
    Publish {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Close and open again: the conversation cannot go on.
    Reopen,
}

/// Requests that may wait for the one under way.
pub const REQUESTS_MAX: usize = 16;

/// An HTTP request to the device's own address; credentials are the owner's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, from the slash on.
    pub path: String,
    /// A JSON body.
    pub body: Option<String>,
    /// Headers of this request, beyond the credentials.
    pub headers: Vec<(&'static str, String)>,
}

impl Request {
    /// A plain GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), body: None, headers: Vec::new() }
    }

    /// A POST of a JSON body.
    pub fn post(path: impl Into<String>, body: impl Into<String>) -> Self {
        let body = Some(body.into());
        Self { method: Method::Post, path: path.into(), body, headers: Vec::new() }
    }
}

/// The HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
}

/// How far a stop has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReply {
    /// The device has accepted the command.
    Accepted,
    /// The device, asked again, says whether it stands.
    ReadBack(bool),
    /// The command failed; the words say how.
    Failed(String),
}

/// What follows from a step. Cleared by its owner between steps.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To send, in order.
    pub sends: Vec<Outgoing>,
    /// What the device says of its items, now.
    pub said: Vec<(Arc<str>, Measured)>,
    /// How a stop has gone on.
    pub stop: Vec<StopReply>,
    /// The device has answered something sensible, or its silence means something: it is alive.
    pub alive: bool,
    /// What is wrong, in words for the log, `read` and the board: `401: the key is not accepted`.
    pub trouble: Option<String>,
}

impl Outbox {
    /// Sends.
    pub fn send(&mut self, outgoing: Outgoing) {
        self.sends.push(outgoing);
    }

    /// Says an item.
    pub fn say(&mut self, item: &str, measured: Measured) {
        self.said.push((item.into(), measured));
    }

    /// Says a number; one that is not finite is garbled.
    pub fn number(&mut self, item: &str, number: f64) {
        let finite = number.is_finite().then_some(Value::Number(number));
        self.say(item, finite.ok_or(Unavailable::Garbled));
    }

    /// Says a number that the device may have left out: nothing is said then.
    pub fn number_if(&mut self, item: &str, number: Option<f64>) {
        if let Some(number) = number {
            self.number(item, number);
        }
    }

    /// Says a text, cut to [`TEXT_BYTES_MAX`] at a character's border, without control characters.
    pub fn text(&mut self, item: &str, text: &str) {
        self.say(item, Ok(Value::Text(clean(text).into())));
    }

    /// Says a flag.
    pub fn flag(&mut self, item: &str, flag: bool) {
        self.say(item, Ok(Value::Flag(flag)));
    }

    /// Says what the device is doing, by its own `word`: `None` is a word of no known meaning.
    pub fn execution(&mut self, word: &str, execution: Option<Execution>) {
        self.text("controller.state", word);
        let known = execution.filter(|execution| *execution != Execution::Unknown);
        let value = known.map(|execution| Value::Text(execution.word().into()));
        self.say("execution", value.ok_or(Unavailable::Garbled));
    }

    /// Says, in words, that a stop was not carried out.
    pub fn stop_failed(&mut self, why: impl Into<String>) {
        self.stop.push(StopReply::Failed(why.into()));
    }

    /// Says of all `items` that they are not to be had.
    pub fn unavailable(&mut self, items: &[Arc<str>], why: Unavailable) {
        self.said.extend(items.iter().map(|item| (item.clone(), Err(why))));
    }
}

/// A text without control characters, at most [`TEXT_BYTES_MAX`] long.
pub fn clean(text: &str) -> String {
    let mut clean: String = text.chars().filter(|c| !c.is_control()).collect();
    if clean.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        clean.truncate(end);
    }
    clean
}

/// Cuts a stream of bytes into lines, at `\n` or `\r`; empty lines are dropped, and so is a line
/// longer than [`LINE_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    too_long: bool,
    /// Lines that were thrown away.
    pub dropped: u64,
}

impl Lines {
    /// Takes bytes; `each` gets every line that they complete. Bytes that are not UTF-8 become
    /// replacement characters, so a noisy line parses as what it is: rubbish.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' && byte != b'\r' {
                self.too_long |= self.line.len() == LINE_BYTES_MAX;
                if !self.too_long {
                    self.line.push(byte);
                }
                continue;
            }
            if std::mem::take(&mut self.too_long) {
                self.dropped += 1;
            } else if !self.line.is_empty() {
                each(&String::from_utf8_lossy(&self.line));
            }
            self.line.clear();
        }
    }

    /// Forgets an unfinished line, as after a reconnection.
    pub fn clear(&mut self) {
        self.line.clear();
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let text = b"ok\r\n\r\n<Idle>\nT:20\xff\n";
        for portion in 1..=text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for bytes in text.chunks(portion) {
                lines.take(bytes, |line| seen.push(line.to_owned()));
            }
            assert_eq!(seen, ["ok", "<Idle>", "T:20\u{fffd}"]);
        }
    }

    #[test]
    fn an_endless_line_is_dropped_and_counted_and_the_next_is_heard() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX], |line| seen.push(line.to_owned()));
        lines.take(b"\nok\n", |line| seen.push(line.to_owned()));
        assert_eq!((seen.as_slice(), lines.dropped), (["ok".to_owned()].as_slice(), 1));
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let text = clean(&"温".repeat(100));
        assert!(text.len() <= TEXT_BYTES_MAX && text.chars().all(|c| c == '温'));
        assert_eq!(clean("a\u{7}b\nc"), "abc");
    }
}
