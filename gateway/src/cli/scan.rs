//! `andon scan`: what there is to connect, as configuration to take over. One file per place that
//! is looked at.

pub mod lan;
pub mod mqtt;

use clap::Subcommand;

/// Where to look.
#[derive(Debug, Subcommand)]
pub enum ScanArgs {
    /// Devices that a broker knows of; only listens
    Mqtt(mqtt::MqttArgs),
    /// Printers and plugs in the local network, by what they announce
    Lan(lan::LanArgs),
}

/// Looks, and prints proposals on stdout.
///
/// # Errors
/// When the place cannot be reached.
pub async fn run(args: ScanArgs) -> anyhow::Result<()> {
    match args {
        ScanArgs::Mqtt(args) => mqtt::run(args).await,
        ScanArgs::Lan(args) => lan::run(args).await,
    }
}
