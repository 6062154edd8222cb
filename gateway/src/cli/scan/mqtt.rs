//! `andon scan mqtt`: devices that a broker knows of. Subscribes, listens, publishes nothing.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use rumqttc::{AsyncClient, Event, Packet, QoS};
use tokio::time::{Instant, timeout_at};

use crate::cli::record::BrokerArgs;
use crate::mqtt::client_options;
use crate::scan::announced::{Announced, FILTERS, PAYLOAD_MAX};
use crate::scan::proposal::{fragments, quoted};

/// Topic and framing beside the payload.
const FRAMING: usize = 1024;

/// The arguments of `andon scan mqtt`.
#[derive(Debug, Args)]
pub(super) struct MqttArgs {
    /// The broker to listen at
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// How long to listen; what is retained comes at once, the rest when a device next speaks
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// The id of the bus in what is proposed
    #[arg(long, value_name = "ID", default_value = "home")]
    pub bus: String,
    /// One JSON array of what was found
    #[arg(long)]
    pub json: bool,
}

/// Listens and prints.
///
/// # Errors
/// When the broker cannot be reached, refuses, or goes away.
pub(super) async fn run(args: MqttArgs) -> anyhow::Result<()> {
    let link = args.broker.link(format!("andon-scan-{}", std::process::id()))?;
    let mut options = client_options(&link)?;
    // A bridge lists all of its devices in one message.
    options
        .set_clean_session(true)
        .set_max_packet_size(PAYLOAD_MAX + FRAMING, PAYLOAD_MAX + FRAMING);
    let (client, mut events) = AsyncClient::new(options, FILTERS.len() + 2);
    let mut announced = Announced::default();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut connected = false;
    while let Ok(event) = timeout_at(end, events.poll()).await {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                connected = true;
                for filter in FILTERS {
                    client.try_subscribe(*filter, QoS::AtMostOnce)?;
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                announced.hear(&message.topic, &message.payload);
            }
            Ok(_) => {}
            Err(error) => anyhow::bail!("{}: {error}", args.broker.broker),
        }
    }
    anyhow::ensure!(connected, "{} does not answer", args.broker.broker);
    // So that the broker sees a good-bye; what it thinks of it is nobody's concern.
    client.try_disconnect().ok();
    timeout_at(Instant::now() + Duration::from_millis(200), events.poll()).await.ok();

    let proposals = announced.proposals();
    if announced.left_out > 0 {
        tracing::warn!(announced.left_out, "there were more announcements than are read");
    }
    if args.json {
        crate::cli::say(&serde_json::to_string_pretty(&proposals)?)?;
    } else if proposals.is_empty() {
        tracing::info!(
            "nothing was announced; a device that is off or was not set up for MQTT is not seen"
        );
    } else {
        let mut bus =
            format!("[bus.{}]\ntype = \"mqtt\"\nhost = {}\n", args.bus, quoted(&link.host));
        let standard = if link.ca_file.is_some() { 8883 } else { 1883 };
        if link.port != standard {
            let _ = writeln!(bus, "port = {}", link.port);
        }
        if let Some(user) = &args.broker.user {
            let _ = writeln!(bus, "user = {}", quoted(user));
        }
        for (key, file) in
            [("password_file", &args.broker.password_file), ("ca_file", &args.broker.ca_file)]
        {
            if let Some(file) = file {
                let _ = writeln!(bus, "{key} = {}", quoted(&file.to_string_lossy()));
            }
        }
        crate::cli::say(&format!("{bus}\n{}", fragments(proposals, &args.bus).trim_end()))?;
    }
    Ok(())
}
