//! Whether the bus's stream is open, being opened, or waiting to be: never gives up, never storms.
//!
//! A vanished port is closed at once, so that the device gets its old name back when it returns.
//! A stream that was dropped on purpose (to get rid of late replies or garbage, or because nothing
//! is heard on it) is opened again at once, provided that it had brought an answer; otherwise tries
//! back off, with jitter, up to a cap.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::pause::{PAUSE_MAX_LOCAL, PAUSE_MAX_NET, Pauses};
use super::timing::LineTiming;
use super::transaction::{Connection, Framing};
use super::transport::{Opener, Opening};

/// While a dropped connection is opened again, polls wait this long before their items are
/// delivered as disconnected, and writes before they are reported failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

enum State {
    Up(Box<Connection>),
    Opening(Opening),
    Waiting { until: Instant },
}

/// The stream of a bus.
pub(super) struct Link {
    bus: std::sync::Arc<str>,
    opener: Opener,
    framing: Framing,
    timing: LineTiming,
    /// How many devices are behind it.
    devices: usize,
    state: State,
    pauses: Pauses,
    /// The stream has brought an answer since it was opened.
    proved: bool,
    /// Since when it is not up.
    down_since: Instant,
    /// The loss has been told.
    told: bool,
    /// It was dropped to get rid of late replies, not lost.
    on_purpose: bool,
    /// Why it is down, for status.
    why: Option<String>,
}

impl Link {
    pub(super) fn new(
        bus: std::sync::Arc<str>,
        mut opener: Opener,
        framing: Framing,
        timing: LineTiming,
        devices: usize,
    ) -> Self {
        let state = State::Opening(opener());
        let longest = match framing {
            Framing::Rtu => PAUSE_MAX_LOCAL,
            Framing::RtuOverTcp | Framing::Mbap => PAUSE_MAX_NET,
        };
        let pauses = Pauses::new(&bus, longest);
        Self {
            bus,
            opener,
            framing,
            timing,
            devices,
            state,
            pauses,
            proved: false,
            down_since: Instant::now(),
            told: false,
            on_purpose: false,
            why: None,
        }
    }

    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) const fn timing(&self) -> LineTiming {
        self.timing
    }

    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Up(connection) => Some(connection),
            State::Opening(_) | State::Waiting { .. } => None,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether it is up, or will be in a moment.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        self.is_up() || self.patience_ends().is_some()
    }

    /// Why it is down; `None` when it is up.
    pub(super) fn why(&self) -> Option<&str> {
        if self.is_up() { None } else { Some(self.why.as_deref().unwrap_or("opening")) }
    }

    /// Until when a bus that is just being opened again is worth waiting for.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        let ends = self.down_since + PATIENCE;
        let soon = match self.state {
            State::Up(_) => false,
            State::Opening(_) => true,
            State::Waiting { .. } => self.on_purpose,
        };
        (soon && Instant::now() < ends).then_some(ends)
    }

    /// For how long it has not been up, or had not when it came up.
    pub(super) fn down_for(&self) -> Duration {
        self.down_since.elapsed()
    }

    /// When it is to be looked at whether anything was heard at all.
    pub(super) fn deaf_from(&self) -> Option<Instant> {
        match &self.state {
            State::Up(connection) => connection.deaf_from(),
            State::Opening(_) | State::Waiting { .. } => None,
        }
    }

    /// Opens a stream anew on which nothing has been heard for long, while nobody needs it.
    pub(super) async fn refresh(&mut self) {
        if self.deaf_from().is_none_or(|from| Instant::now() < from) {
            return;
        }
        if let Some(connection) = self.connection() {
            connection.listen().await;
        }
        if self.deaf_from().is_some() {
            self.drop_connection(false);
        }
    }

    /// Whether the stream has brought an answer since it was opened.
    pub(super) const fn is_proved(&self) -> bool {
        self.proved
    }

    /// An answer came.
    pub(super) fn answered(&mut self) {
        self.proved = true;
        self.pauses.reset();
    }

    /// Until when its gateway may be held; at once when it is not.
    pub(super) fn held_until(&self) -> Option<Instant> {
        match &self.state {
            State::Up(connection) => connection.held_until(),
            State::Opening(_) | State::Waiting { .. } => None,
        }
    }

    /// A write is to go out: a stream that was dropped on purpose is opened without a further pause.
    /// Returns whether that was begun.
    pub(super) fn hurry(&mut self) -> bool {
        let hurries = self.on_purpose && matches!(self.state, State::Waiting { .. });
        if hurries {
            self.state = State::Opening((self.opener)());
        }
        hurries
    }

    /// Closes the stream, at once. On purpose, and proved: opened again without a pause and
    /// without a word.
    pub(super) fn drop_connection(&mut self, gone: bool) {
        self.down_since = Instant::now();
        self.on_purpose = !gone;
        if self.proved && !gone {
            self.state = State::Opening((self.opener)());
        } else {
            let why = if gone { "the port or connection is gone" } else { "nobody answers" };
            if gone {
                self.tell(why);
            }
            self.why = Some(why.to_owned());
            self.wait();
        }
        self.proved = false;
    }

    /// Goes on with opening; returns when it is up, with whether the devices may have been without
    /// power or cable meanwhile. Cancel safe.
    pub(super) async fn open(&mut self) -> bool {
        loop {
            match &mut self.state {
                State::Up(_) => return std::future::pending().await,
                State::Waiting { until } => {
                    sleep_until(*until).await;
                    self.state = State::Opening((self.opener)());
                }
                State::Opening(opening) => match opening.await {
                    Ok(stream) => {
                        let connection = Connection::new(stream, self.framing, self.timing)
                            .staying(self.devices);
                        self.state = State::Up(Box::new(connection));
                        self.why = None;
                        if std::mem::take(&mut self.told) {
                            tracing::info!(bus = %self.bus, "the bus is back");
                        }
                        return !std::mem::take(&mut self.on_purpose);
                    }
                    Err(error) => self.failed(&error),
                },
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let why = error.to_string();
        self.tell(&why);
        self.why = Some(why);
        self.wait();
    }

    fn tell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(bus = %self.bus, error = why, "the bus is lost; trying again");
        }
    }

    fn wait(&mut self) {
        self.state = State::Waiting { until: Instant::now() + self.pauses.next() };
    }
}
