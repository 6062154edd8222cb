//! `andon run`: the gateway, until it is asked to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::clock;
use crate::config::plan::BusPlan;
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
        let (state_dir, buses) = (loaded.plan.state_dir.clone(), loaded.plan.buses.clone());
        let mut gateway = Gateway::start(loaded.plan, clock::boot_id()).await?;
        // Counting what is asked of large buses takes its time: nobody's first reading waits for it.
        tokio::task::spawn_blocking(move || warn_of_overloads(&state_dir, &buses));
        // The gateway runs, whether or not anybody can be told.
        super::say(&format!("board: http://{}", gateway.board())).ok();
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

/// Says which buses are asked for more than they can do; they do what they can.
fn warn_of_overloads(state_dir: &Path, buses: &[Arc<BusPlan>]) {
    for over in super::plan::overloads(state_dir, buses) {
        let (message, hint) = over.words();
        tracing::warn!(bus = %over.bus, "The bus {message}; {hint}.");
    }
}
