//! `andon scan`: what there is to connect, as configuration to take over. One file per place that
//! is looked at. It never writes to a device and publishes nothing.

mod lan;
mod mqtt;
mod serial;

use std::process::ExitCode;

/// Arguments of `andon scan`.
#[derive(Debug, clap::Args)]
pub struct ScanArgs {
    #[command(subcommand)]
    command: ScanCommand,
}

/// Where to look.
#[derive(Debug, clap::Subcommand)]
enum ScanCommand {
    /// Find the devices on a serial line and propose a configuration; twenty minutes with all speeds
    Serial(serial::SerialArgs),
    /// Devices that a broker knows of; only listens
    Mqtt(mqtt::MqttArgs),
    /// Printers and plugs in the local network, by what they announce
    Lan(lan::LanArgs),
}

/// Looks, and prints proposals on stdout; exit code 1 when that could not be done.
pub fn run(args: ScanArgs) -> ExitCode {
    match args.command {
        ScanCommand::Serial(args) => super::asynchronously(serial::run(args)),
        ScanCommand::Mqtt(args) => super::asynchronously(mqtt::run(args)),
        ScanCommand::Lan(args) => super::asynchronously(lan::run(args)),
    }
}
