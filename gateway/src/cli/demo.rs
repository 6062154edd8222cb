//! `andon demo`: the whole of andon on a simulated workshop.

use std::net::SocketAddr;
use std::time::Duration;

use andon_engine::unit::parse_duration;
use clap::Args;

/// Arguments of `andon demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after this long with a summary, for example 30s
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<Duration>,
    /// Also record into this time-series store (InfluxDB v2 write API)
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Where the board listens
    #[arg(long, default_value = "127.0.0.1:8480", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Runs the demo.
///
/// # Errors
/// When a loopback port, a pseudo-terminal or a temporary folder cannot be had.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    crate::demo::run(args, super::asked_to_stop()).await
}
