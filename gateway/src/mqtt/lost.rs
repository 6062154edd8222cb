//! Why a connection to a broker ended, in words for a person, and whether another client of the
//! same name is behind it.

use std::time::Duration;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};

/// A connection closed by the broker within this time, [`IN_A_ROW`] times in a row, is taken over
/// by another client of the same name.
const SHORT: Duration = Duration::from_secs(10);
/// See [`SHORT`].
const IN_A_ROW: u32 = 3;

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) words: String,
    pub(crate) closed_by_broker: bool,
}

impl Lost {
    /// Ended for a reason of our own.
    pub(crate) fn because(words: &str) -> Self {
        Self { words: words.to_owned(), closed_by_broker: false }
    }
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        let closed_by_broker = match &error {
            ConnectionError::MqttState(StateError::ConnectionAborted) => true,
            ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => {
                matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset
                        | std::io::ErrorKind::ConnectionAborted
                        | std::io::ErrorKind::UnexpectedEof
                )
            }
            _ => false,
        };
        Self { words: words(&error), closed_by_broker }
    }
}

/// What a person can act on; the library's own words where there are no better.
fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker refuses this user name and password".to_owned(),
        ConnectionError::Tls(TlsError::Io(error)) => format!("no TLS with the broker: {error}"),
        ConnectionError::Tls(error) => format!("no TLS with the broker: {error}"),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Tells that connections are taken over, by how they end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TakenOver {
    short_in_a_row: u32,
}

impl TakenOver {
    /// A connection ended that had `lasted`, if it came to be at all. Returns whether another
    /// client uses the name.
    pub(crate) fn ended(&mut self, lasted: Option<Duration>, lost: &Lost) -> bool {
        let short = lost.closed_by_broker && lasted.is_some_and(|lasted| lasted < SHORT);
        self.short_in_a_row = if short { self.short_in_a_row.saturating_add(1) } else { 0 };
        self.short_in_a_row >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_connections_closed_by_the_broker_are_taken_over_and_others_are_not() {
        let closed = Lost { words: String::new(), closed_by_broker: true };
        let (short, long) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(60)));
        let mut taken = TakenOver::default();
        assert_eq!(
            [short, short, short].map(|lasted| taken.ended(lasted, &closed)),
            [false, false, true]
        );
        assert!(!taken.ended(long, &closed));
        assert!(![short, None, short, short].map(|lasted| taken.ended(lasted, &closed))[3]);
        assert!(!taken.ended(short, &Lost::because("the broker acknowledges nothing")));
    }
}
