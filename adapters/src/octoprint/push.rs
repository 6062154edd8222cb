//! OctoPrint's push: the way to it, and what its messages tell.
//!
//! The key buys a session (`POST /api/login`, passive), and `user:session` is shown on a WebSocket
//! beside the requests: the raw endpoint of SockJS, where each frame is an object with one key. Logs,
//! plugins and events are subscribed away before that. Then OctoPrint tells `history` once and
//! `current` whenever it has heard of its printer, at most twice a second, which is why nothing is
//! throttled here. A session that is void (`reauthRequired`) is bought anew. `connected`, `event`,
//! `plugin` and whatever else may come tell nothing that is shown.
//!
//! `temps` are the temperatures since the last `current`, oldest first, often none. They carry no
//! `offset`; andon shows none.
//!
//! Bounds: one session asked for, one WebSocket; the next try after [`AGAIN_AFTER`], or after
//! [`AGAIN_AFTER_REFUSAL`] where a login was refused, because OctoPrint lets an address be refused ten
//! times an hour and then nobody in from there. Nothing of a message is kept.
//!
//! Facts: OctoPrint 1.11.8, its push documentation and its source (`server/util/sockjs.py`).

use std::time::Duration;

use andon_engine::time::BootTime;
use serde_json::{Value as Json, json};

use crate::device::{ANSWER_WITHIN, BODY_BYTES_MAX, Outbox, Outgoing, Request, clean};

/// Where raw frames are spoken.
const PATH: &str = "/sockjs/websocket";

/// Pause before the way is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The same after a refused login.
const AGAIN_AFTER_REFUSAL: Duration = Duration::from_secs(600);

/// How far the way has been gone.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing was told by requests yet: it is not known whether it is OctoPrint.
    #[default]
    Unasked,
    /// There is no push; it is tried from then on.
    Without { from: BootTime },
    /// The session is asked for.
    LoggingIn,
    /// The WebSocket is being opened, for this user and session.
    Opening { session: String },
    /// The session was shown; nothing was told yet.
    Showing { since: BootTime },
    /// It tells.
    Live,
}

/// The way to OctoPrint's push.
#[derive(Debug, Default)]
pub(super) struct Push {
    phase: Phase,
    /// When the last try began; a push that comes and goes is no reason to try without end.
    tried: BootTime,
    /// Why there is none, in words, once that is known.
    why_not: Option<String>,
}

impl Push {
    /// Begins anew: the connection is another one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Requests have told a picture: it is OctoPrint, and the key is good.
    pub(super) fn may_begin(&mut self, now: BootTime) {
        if matches!(self.phase, Phase::Unasked) {
            self.phase = Phase::Without { from: now };
        }
    }

    /// Why requests are all there is.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// The period has come round: the request for a session, when it is time for one.
    pub(super) fn due(&mut self, now: BootTime) -> Option<Request> {
        match self.phase {
            Phase::Without { from } if now >= from => {
                (self.phase, self.tried) = (Phase::LoggingIn, now);
                Some(Request::post("/api/login", r#"{"passive":true}"#))
            }
            Phase::Showing { since } if now.since(since) >= ANSWER_WITHIN => {
                self.fail(now, "nothing is told", AGAIN_AFTER);
                None
            }
            _ => None,
        }
    }

    /// The answer to the request for a session; `Err` in words.
    pub(super) fn logged_in(
        &mut self,
        now: BootTime,
        answer: Result<Option<&Json>, String>,
        out: &mut Outbox,
    ) {
        if !matches!(self.phase, Phase::LoggingIn) {
            return;
        }
        match answer.map(|login| login.and_then(session)) {
            Ok(Some(session)) => {
                self.phase = Phase::Opening { session };
                out.send(Outgoing::Listen(PATH));
            }
            Ok(None) => self.fail(now, "its login gives no session", AGAIN_AFTER),
            Err(words) => self.fail(now, &words, AGAIN_AFTER_REFUSAL),
        }
    }

    /// Nothing has answered the request for a session.
    pub(super) fn unanswered(&mut self, now: BootTime, why: &str) {
        if matches!(self.phase, Phase::LoggingIn) {
            self.fail(now, why, AGAIN_AFTER);
        }
    }

    /// The WebSocket stands, or is gone.
    pub(super) fn listening(
        &mut self,
        now: BootTime,
        listening: Result<(), &str>,
        out: &mut Outbox,
    ) {
        match (listening, std::mem::take(&mut self.phase)) {
            (Ok(()), Phase::Opening { session }) => {
                // What is subscribed away must be so before the session is shown.
                let less = json!({"subscribe": {"state": {"logs": false, "messages": false},
                    "plugins": false, "events": false}});
                for frame in [less, json!({"auth": session})] {
                    out.send(Outgoing::Frame(frame.to_string()));
                }
                self.phase = Phase::Showing { since: now };
            }
            (Err(why), Phase::Opening { .. } | Phase::Showing { .. }) => {
                self.fail(now, why, AGAIN_AFTER);
            }
            (Err(why), Phase::Live) => self.retry(why),
            (_, phase) => self.phase = phase,
        }
    }

    /// Takes a frame. Returns what it tells of the printer, if anything.
    pub(super) fn frame(&mut self, now: BootTime, frame: &str, out: &mut Outbox) -> Option<Json> {
        if !matches!(self.phase, Phase::Showing { .. } | Phase::Live) {
            return None;
        }
        let message = (frame.len() <= BODY_BYTES_MAX).then(|| serde_json::from_str(frame).ok());
        let Some(Json::Object(mut message)) = message.flatten() else {
            out.trouble = Some("OctoPrint pushes what is not JSON".to_owned());
            return None;
        };
        if let Some(void) = message.get("reauthRequired") {
            let why = format!("its session is void: {}", void["reason"].as_str().unwrap_or(""));
            match self.phase {
                Phase::Live => self.retry(&why),
                _ => self.fail(now, &why, AGAIN_AFTER),
            }
            return None;
        }
        let told = message.remove("current").or_else(|| message.remove("history"))?;
        if !told["state"]["flags"].is_object() {
            out.trouble = Some("OctoPrint's push is not as described".to_owned());
            return None;
        }
        (self.phase, self.why_not) = (Phase::Live, None);
        Some(told)
    }

    /// It was there and is gone: it is tried at once, but not more often than it would be anyway.
    fn retry(&mut self, why: &str) {
        self.fail(self.tried, why, AGAIN_AFTER);
    }

    fn fail(&mut self, now: BootTime, why: &str, pause: Duration) {
        self.phase = Phase::Without { from: now + pause };
        let why = clean(why);
        self.why_not = Some(format!("OctoPrint does not push, it is asked at every period: {why}"));
    }
}

/// The newest temperatures of a message, if it has any.
pub(super) fn newest_temperatures(told: &Json) -> Option<&Json> {
    told["temps"].as_array()?.last()
}

/// User and session of a login. OctoPrint cuts at the colon, so none may have another.
fn session(login: &Json) -> Option<String> {
    let part = |name: &str| {
        let text = login.get(name).and_then(Json::as_str);
        text.filter(|text| !text.is_empty() && !text.contains(':'))
    };
    Some(format!("{}:{}", part("name")?, part("session")?))
}
