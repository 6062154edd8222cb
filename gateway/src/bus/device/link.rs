//! Whether a device's connection is open, being opened, or waiting to be: never gives up, never
//! storms. It tells what happens; what that means is the owner's business.

use tokio::time::{Instant, sleep_until};

use super::wire::{News, Opener, Opening, Wire};
use crate::bus::pause::Pauses;

enum State {
    Up(Wire),
    Opening(Opening),
    Waiting { until: Instant },
}

/// What has happened to a connection.
pub(super) enum Change {
    /// It stands.
    Opened,
    /// An attempt has failed; the words say why.
    Failed(String),
    /// It has brought something. After [`News::Lost`] the owner closes it.
    News(News),
}

/// The connection of a device.
pub(super) struct Link {
    opener: Opener,
    state: State,
    pauses: Pauses,
}

impl Link {
    pub(super) fn new(mut opener: Opener, pauses: Pauses) -> Self {
        let state = State::Opening(opener());
        Self { opener, state, pauses }
    }

    /// The connection, when it is up.
    pub(super) const fn wire(&self) -> Option<&Wire> {
        match &self.state {
            State::Up(wire) => Some(wire),
            State::Opening(_) | State::Waiting { .. } => None,
        }
    }

    /// Whether it is being opened right now.
    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    /// The device has answered: the next opening may follow at once.
    pub(super) const fn proved(&mut self) {
        self.pauses.reset();
    }

    /// Closes the connection and opens it again, at once or after a pause.
    pub(super) async fn close(&mut self, at_once: bool) {
        let until =
            Instant::now() + if at_once { std::time::Duration::ZERO } else { self.pauses.next() };
        if let State::Up(wire) = std::mem::replace(&mut self.state, State::Waiting { until }) {
            wire.close().await;
        }
    }

    /// The next thing that happens. Cancel safe.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            match &mut self.state {
                State::Up(wire) => return Change::News(wire.next().await),
                State::Waiting { until } => {
                    sleep_until(*until).await;
                    self.state = State::Opening((self.opener)());
                }
                State::Opening(opening) => match opening.await {
                    Ok(wire) => {
                        self.state = State::Up(wire);
                        return Change::Opened;
                    }
                    Err(error) => {
                        let until = Instant::now() + self.pauses.next();
                        self.state = State::Waiting { until };
                        return Change::Failed(error.to_string());
                    }
                },
            }
        }
    }
}
