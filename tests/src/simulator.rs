//! `andon simulate` in a process of its own, typed to through stdin, and its log as a witness.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::andon::andon;
use crate::process::Process;

/// A simulator with its log.
#[derive(Debug)]
pub struct Simulator {
    /// The process.
    pub process: Process,
    /// Where it serves: `127.0.0.1:PORT` or a path.
    pub address: String,
    log: PathBuf,
    stdin: ChildStdin,
}

impl Simulator {
    /// Starts `andon simulate` with `arguments` and a log in `dir`.
    ///
    /// # Errors
    /// When it does not say where it serves.
    pub fn start(name: &str, dir: &Path, arguments: &[&str]) -> Result<Self> {
        let log = dir.join(format!("{name}.jsonl"));
        let mut command = andon(&["simulate"]);
        command.args(arguments).arg("--log").arg(&log);
        let (mut process, stdin) = Process::start_interactive(name, dir, &mut command)?;
        let line = process.wait_for_line("serving: ", Duration::from_secs(10))?;
        let address = line.split("serving: ").nth(1).context("an address")?.trim().to_owned();
        let address = address.trim_start_matches("tcp://").to_owned();
        Ok(Self { process, address, log, stdin })
    }

    /// The port of a TCP simulator.
    ///
    /// # Errors
    /// When it serves a pseudo-terminal.
    pub fn port(&self) -> Result<u16> {
        self.address.rsplit(':').next().context("a port")?.parse().context("a port")
    }

    /// Types a line: `set 3 power.active=1500`, `fault silence unit=3`, `clear`.
    ///
    /// # Errors
    /// When the simulator is gone.
    pub fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the simulator is gone")
    }

    /// Everything in its log so far; a torn last line is left out.
    ///
    /// # Errors
    /// When there is no log.
    pub fn witnessed(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}
