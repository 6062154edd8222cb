//! What devices that are asked in JSON over HTTP have in common: who waits for which answer, what a
//! status or a body that is not as asked means in words, and numbers and texts out of a document.
//!
//! Nothing here knows any device. A field that is absent or null is the device's own "no value"
//! ([`Unavailable::Sentinel`]); one of the wrong type is garbled; neither is ever a zero.

use std::collections::VecDeque;
use std::sync::Arc;

use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use crate::device::{Outbox, Outgoing, REQUESTS_MAX, Request};

/// Why a command is not sent: [`REQUESTS_MAX`] questions have no answer yet.
pub(crate) const TOO_MANY: &str = "too many requests wait for an answer";

/// What was asked and has no answer yet, oldest first; at most [`REQUESTS_MAX`].
#[derive(Debug)]
pub(crate) struct Asked<T>(VecDeque<T>);

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Asked<T> {
    /// Sends `request` and remembers `what` it asks; not when too many wait already.
    pub(crate) fn ask(&mut self, what: T, request: Request, out: &mut Outbox) -> bool {
        if self.0.len() >= REQUESTS_MAX {
            return false;
        }
        self.0.push_back(what);
        out.send(Outgoing::Request(request));
        true
    }

    /// What the answer that has just come was asked for.
    pub(crate) fn answered(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    /// Whether `what` waits for an answer.
    pub(crate) fn has(&self, what: &T) -> bool
    where
        T: PartialEq,
    {
        self.0.contains(what)
    }

    /// Whether everything is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was asked: the connection is another one.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a status other than a success says: the reason, and words for people.
pub(crate) fn refusal(status: u16) -> (Unavailable, String) {
    let (why, words) = match status {
        401 | 403 => (Unavailable::Refused, "the key is not accepted"),
        404 => (Unavailable::Refused, "the device does not know this address; is it of this kind?"),
        408 | 429 | 503 => (Unavailable::Timeout, "the device is too busy to answer"),
        300..=399 => (Unavailable::Garbled, "the device points elsewhere; is the address right?"),
        400..=599 => (Unavailable::Refused, "the device refuses"),
        _ => (Unavailable::Garbled, "this is no answer to what was asked"),
    };
    (why, format!("{status}: {words}"))
}

/// Words for a request that was not answered.
pub(crate) fn silence(why: Unavailable) -> &'static str {
    match why {
        Unavailable::Timeout => "the device does not answer",
        Unavailable::Disconnected => "the device cannot be reached",
        Unavailable::Refused => "the device refuses the connection",
        _ => "the answer could not be read",
    }
}

/// Whether the status is a success.
pub(crate) fn succeeded(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The document in a body; `None` when it is not JSON, or nested deeper than the parser goes (128).
pub(crate) fn document(body: &[u8]) -> Option<Json> {
    serde_json::from_slice(body).ok()
}

/// Says of `items`, but for those `told` otherwise, that they are not to be had.
pub(crate) fn unavailable_but(
    told: &[&str],
    items: &[Arc<str>],
    why: Unavailable,
    out: &mut Outbox,
) {
    let missing = items.iter().filter(|item| !told.contains(&&***item));
    out.said.extend(missing.map(|item| (item.clone(), Err(why))));
}

/// Says a number of a document, times `scale`.
pub(crate) fn say_number(out: &mut Outbox, item: &str, found: Option<&Json>, scale: f64) {
    match found {
        None | Some(Json::Null) => out.say(item, Err(Unavailable::Sentinel)),
        Some(value) => match value.as_f64() {
            Some(number) => out.number(item, number * scale),
            None => out.say(item, Err(Unavailable::Garbled)),
        },
    }
}

/// Says a text of a document; an empty one is no value.
pub(crate) fn say_text(out: &mut Outbox, item: &str, found: Option<&Json>) {
    match found {
        None | Some(Json::Null) => out.say(item, Err(Unavailable::Sentinel)),
        Some(Json::String(text)) if text.is_empty() => out.say(item, Err(Unavailable::Sentinel)),
        Some(Json::String(text)) => out.text(item, text),
        Some(_) => out.say(item, Err(Unavailable::Garbled)),
    }
}

/// A text as it may stand in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
