//! The release binary under test, as its users start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Process;

/// How long andon may take to say that it is up.
const START: Duration = Duration::from_secs(15);

/// The binary: `ANDON_BIN`, or the release build of this workspace.
///
/// # Panics
/// When it has not been built: no test means anything without it.
pub fn binary() -> PathBuf {
    let built = || {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
        target.join("release/andon")
    };
    let binary = std::env::var_os("ANDON_BIN").map_or_else(built, PathBuf::from);
    assert!(binary.is_file(), "{} is missing: cargo build --release -p andon", binary.display());
    binary
}

/// A command of andon's.
pub fn andon(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env("RUST_LOG", "info");
    command
}

/// Runs a command of andon's to its end.
///
/// # Errors
/// When it cannot be started.
pub fn output(arguments: &[&str]) -> Result<Output> {
    andon(arguments).output().context("cannot run andon")
}

/// Starts `andon run` on a configuration and waits until its board is up.
///
/// # Errors
/// When it does not come up.
pub fn run(dir: &Path, config: &Path) -> Result<Process> {
    let mut command = andon(&["run", "--config"]);
    command.arg(config);
    // The log of an earlier run must not be taken for this one's.
    let log = dir.join("andon-run.log");
    if log.exists() {
        let kept = std::fs::read_dir(dir)?.count();
        std::fs::rename(&log, dir.join(format!("andon-run.{kept}.log")))?;
    }
    let mut process = Process::start("andon-run", dir, &mut command)?;
    process.wait_for_line("board: http://", START)?;
    Ok(process)
}

/// Starts `andon record` from a broker to a store.
///
/// # Errors
/// When it cannot be started.
pub fn record(dir: &Path, broker_port: u16, store_url: &str, site: &str) -> Result<Process> {
    let broker = format!("127.0.0.1:{broker_port}");
    let state = dir.join("record");
    let mut command = andon(&["record", "--name", "main", "--broker", &broker, "--site", site]);
    command.args(["--store", store_url, "--bucket", "andon", "--state"]).arg(state);
    Process::start("andon-record", dir, &mut command)
}

/// Gets JSON from andon's API.
///
/// # Errors
/// When it does not answer with JSON.
pub fn get(url: &str) -> Result<serde_json::Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(reqwest::get(url).await?.error_for_status()?.json().await?) })
}

/// Posts JSON to andon's API with the operator's token; returns the status.
///
/// # Errors
/// When it does not answer.
pub fn post(url: &str, token: &str, body: &serde_json::Value) -> Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let request = reqwest::Client::new().post(url).bearer_auth(token).json(body);
        Ok(request.send().await?.status().as_u16())
    })
}
