//! Whether a device behind a broker is there. The broker's own session proves nothing, and a
//! retained "online" may be years old; what counts is that the device answers what it is asked.
//!
//! Nothing is known after a connection was opened; the device is *absent* once it says so itself
//! (its last will) or leaves [`UNANSWERED_MAX`] questions without an answer.

use std::sync::Arc;

use andon_engine::value::Unavailable;

use crate::device::Outbox;

/// Questions without any answer after which a device counts as absent. One may be lost with a
/// radio frame; three in a row are silence.
pub(crate) const UNANSWERED_MAX: u32 = 3;

/// What is known of a device's presence.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    unanswered: u32,
    /// How it was said that the device is away.
    offline: Option<String>,
}

impl Presence {
    /// A question is being asked. Says what has to be said when the last ones were not answered:
    /// all `items` are not to be had, and `trouble`; when the device is known to be away, that.
    pub(crate) fn ask(
        &mut self,
        items: &[Arc<str>],
        out: &mut Outbox,
        trouble: impl FnOnce() -> String,
    ) {
        if !self.remind(items, out) && self.is_silent() {
            absent(items, Unavailable::Timeout, out);
            out.trouble = Some(trouble());
        }
        self.expect_answer();
    }

    /// Says again that the device is away, where that is known: words that are said once are
    /// forgotten, and who looks hours later wants them too. Returns whether it is.
    pub(crate) fn remind(&self, items: &[Arc<str>], out: &mut Outbox) -> bool {
        let Some(words) = &self.offline else { return false };
        absent(items, Unavailable::Disconnected, out);
        out.trouble = Some(words.clone());
        true
    }

    /// It is said that the device is no longer away. Until it speaks nothing is known of it.
    pub(crate) fn back(&mut self) {
        self.offline = None;
    }

    /// A question is being asked that may stay without an answer.
    pub(crate) fn expect_answer(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// The device has said something, just now.
    pub(crate) fn heard(&mut self, out: &mut Outbox) {
        *self = Self::default();
        out.alive = true;
    }

    /// Whether so many questions were left without an answer that the device counts as absent.
    pub(crate) fn is_silent(&self) -> bool {
        self.unanswered >= UNANSWERED_MAX
    }

    /// Whether the last question, if there was one, was followed by an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// The device or its bridge has said that it is away.
    pub(crate) fn offline(&mut self, items: &[Arc<str>], out: &mut Outbox, trouble: String) {
        self.offline = Some(trouble);
        self.remind(items, out);
    }
}

/// Says that nothing is to be had; `online`, where it is an item, is off by evidence.
fn absent(items: &[Arc<str>], why: Unavailable, out: &mut Outbox) {
    for item in items {
        match &**item {
            "online" => out.flag("online", false),
            item => out.say(item, Err(why)),
        }
    }
}

/// Says that the connection is gone, and with it everything that was known, `online` too.
pub(crate) fn closed(items: &[Arc<str>], out: &mut Outbox) {
    out.unavailable(items, Unavailable::Disconnected);
}
