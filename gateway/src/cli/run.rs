//! `andon run`: the gateway, until it is asked to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::clock;
use crate::run::Gateway;

/// Arguments of `andon run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A configuration file, or a folder with andon.toml and conf.d
    #[arg(long, env = "ANDON_CONFIG", default_value = "/etc/andon")]
    config: PathBuf,
}

/// Runs the gateway until SIGINT or SIGTERM.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    let loaded = match super::load_plan(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // What is not the buses', the engine's or a disk's is little: a second thread would be woken
    // more often than it had anything to do.
    super::asynchronously_on(1, async move {
        let stop = super::asked_to_stop();
        let mut gateway = Gateway::start(loaded.plan, clock::boot_id()).await?;
        super::say(&format!("board: http://{}", gateway.board()));
        let asked = tokio::select! {
            () = stop => true,
            () = gateway.engine_ended() => false,
        };
        tracing::info!("Stopping.");
        gateway.stop().await;
        // Whoever supervises the process starts it again; a latched stop is commanded again then.
        anyhow::ensure!(asked, "the engine ended by itself; start andon again and report its log");
        Ok(())
    })
}
