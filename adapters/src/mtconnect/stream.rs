//! Whether an agent tells by itself what is new, or is to be asked. Knows nothing of what it tells.

use std::time::Duration;

use andon_engine::time::BootTime;

/// Without a part for this long, two heartbeats and a half, an agent does not tell by itself.
const SILENCE: Duration = Duration::from_millis(2500);

/// How long an agent is asked every period that did not tell by itself.
pub(super) const ASKED_FOR: Duration = Duration::from_secs(600);

/// Parts after which an answer is one that goes on.
const PARTS_THAT_PROVE: u8 = 2;

/// What is known of an answer that goes on.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// When it was asked for, or its last part came.
    heard: Option<BootTime>,
    parts: u8,
    asked_until: Option<BootTime>,
}

impl Stream {
    pub(super) const fn is_open(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether to ask for it rather than for what is new until now.
    pub(super) fn may_begin(&self, now: BootTime) -> bool {
        self.asked_until.is_none_or(|until| now > until)
    }

    pub(super) const fn begin(&mut self, now: BootTime) {
        (self.heard, self.parts) = (Some(now), 0);
    }

    pub(super) fn part(&mut self, now: BootTime) {
        self.heard = Some(now);
        self.parts = self.parts.saturating_add(1);
    }

    /// Whether it has stopped to come. One that has not begun is waited for like any answer.
    pub(super) fn is_silent(&self, now: BootTime) -> bool {
        self.parts > 0 && self.heard.is_some_and(|heard| now.since(heard) >= SILENCE)
    }

    /// We have no use for the rest of it.
    pub(super) const fn close(&mut self) {
        (self.heard, self.parts) = (None, 0);
    }

    /// It has ended: what is new is asked for once, or for some time when it did not go on.
    pub(super) fn end(&mut self, now: BootTime) {
        if self.parts < PARTS_THAT_PROVE {
            return self.refuse(now);
        }
        self.close();
        self.asked_until = Some(now);
    }

    /// The agent does not tell by itself.
    pub(super) fn refuse(&mut self, now: BootTime) {
        self.close();
        self.asked_until = Some(now + ASKED_FOR);
    }
}
