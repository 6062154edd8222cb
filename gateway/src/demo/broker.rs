//! The demo's own MQTT broker. It keeps nothing on disk and knows no users: for the demo only;
//! a workshop uses mosquitto or any other broker.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Small, so that the demo stays small: the broker keeps this much per topic filter.
const SEGMENT_BYTES: usize = 256 * 1024;
const SEGMENTS: usize = 4;

/// Starts a broker on a free loopback port, on threads that end with the process.
///
/// # Errors
/// When there is no free port or no thread.
pub(super) fn start() -> anyhow::Result<SocketAddr> {
    let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let settings = ServerSettings {
        name: "demo".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: 64 * 1024,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 16,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("demo".to_owned(), settings)])),
        ..Config::default()
    };
    let mut broker = Broker::new(config);
    std::thread::Builder::new()
        .name("demo-broker".to_owned())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "The demo's broker ended.");
            }
        })
        .context("the demo's broker needs a thread")?;
    Ok(listen)
}
