//! `andon scan`: what is there, before anything is configured. It never writes to a device.

mod serial;

use std::process::ExitCode;

/// Arguments of `andon scan`.
#[derive(Debug, clap::Args)]
pub struct ScanArgs {
    #[command(subcommand)]
    command: ScanCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ScanCommand {
    /// Find the devices on a serial line and propose a configuration
    Serial(serial::SerialArgs),
}

/// Scans; exit code 1 when nothing was found or the scan could not be ended.
pub fn run(args: ScanArgs) -> ExitCode {
    match args.command {
        ScanCommand::Serial(args) => super::asynchronously(serial::run(args)),
    }
}
