//! What sessions at a device's own broker and at a shared one have in common: connecting with a
//! deadline, words for what fails, and which topics a filter means.

use std::io;
use std::time::Duration;

use andon_adapters::device::BODY_BYTES_MAX;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish,
};
use tokio::time::timeout;

use super::wire::{News, ORDERS_MAX};

/// How often a silent session is tried.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A broker that has not let us in within this time is away.
const SESSION_WITHIN: Duration = Duration::from_secs(8);
/// Topic and framing beside a payload.
const FRAMING: usize = 1024;

/// What every session here is: clean, tried often, and bounded.
pub(super) fn bound(options: &mut MqttOptions) {
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(BODY_BYTES_MAX + FRAMING, BODY_BYTES_MAX + FRAMING);
}

/// Connects and waits until the broker has let us in.
pub(super) async fn connect(options: MqttOptions) -> io::Result<(AsyncClient, EventLoop)> {
    let shown = options.credentials().is_some();
    let (client, mut events) = AsyncClient::new(options, ORDERS_MAX);
    let connecting = async {
        loop {
            if let Event::Incoming(Packet::ConnAck(_)) = events.poll().await? {
                return Ok(());
            }
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the broker lets nobody in");
    let connected: Result<(), ConnectionError> =
        timeout(SESSION_WITHIN, connecting).await.map_err(late)?;
    connected.map_err(|error| io::Error::other(refusal(&error, shown)))?;
    Ok((client, events))
}

/// Why a session ended.
pub(super) fn words(error: &ConnectionError) -> String {
    refusal(error, true)
}

/// Why a session failed; `shown` where user and password were shown.
fn refusal(error: &ConnectionError, shown: bool) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) if shown => "the broker refuses user and password".to_owned(),
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => {
            "the broker wants user and password, and none are set (user, password_file)".to_owned()
        }
        other => other.to_string(),
    }
}

/// A message as news.
pub(super) fn message(publish: Publish) -> News {
    News::Message {
        topic: publish.topic,
        payload: publish.payload.to_vec(),
        retained: publish.retain,
    }
}

/// Whether `topic` is meant by `filter`. As MQTT 3.1.1, section 4.7, has it; the library's own
/// panics where a topic begins with a letter that is not ASCII.
pub(super) fn matches(topic: &str, filter: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    let mut wanted = filter.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_refuses_no_password_that_was_never_shown() {
        let error = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert!(refusal(&error, true).contains("refuses user and password"));
        assert!(refusal(&error, false).contains("none are set"));
    }

    /// The examples of MQTT 3.1.1, sections 4.7.1 and 4.7.2.
    #[test]
    fn filters_mean_what_the_standard_says() {
        let player = "sport/tennis/player1";
        for (filter, topic, meant) in [
            ("sport/tennis/player1/#", player, true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", player, true),
            ("sport/tennis/+", player, true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/broker", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/broker", true),
            ("温度/+", "温度/1", true),
            ("a", "温度", false),
        ] {
            assert_eq!(matches(topic, filter), meant, "{filter} {topic}");
        }
    }
}
