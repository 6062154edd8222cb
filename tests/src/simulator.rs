//! `andon simulate` in a process of its own, typed to through stdin, and its log as a witness.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::andon::andon;
use crate::process::{Process, wait_for};

/// A simulator with its log.
#[derive(Debug)]
pub struct Simulator {
    /// The process.
    pub process: Process,
    /// Where it serves: `127.0.0.1:PORT` or a path.
    pub address: String,
    log: PathBuf,
    /// The log once more, read as far as its last `set` that was waited for.
    followed: BufReader<File>,
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
        let followed = BufReader::new(File::open(&log)?);
        Ok(Self { process, address, log, followed, stdin })
    }

    /// The port of a TCP simulator.
    ///
    /// # Errors
    /// When it serves a pseudo-terminal.
    pub fn port(&self) -> Result<u16> {
        self.address.rsplit(':').next().context("a port")?.parse().context("a port")
    }

    /// Types a line: `set 3 power.active=1500`, `fault silence unit=3`, `clear`. What is set is set
    /// when this returns.
    ///
    /// # Errors
    /// When the simulator is gone, or does not do it.
    pub fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the simulator is gone")?;
        let sets = line.strip_prefix("set ").map_or(0, |rest| rest.matches('=').count());
        let mut done = 0;
        // One line at a time, whole or not: the rest of it is read at the next look.
        let mut text = String::new();
        wait_for(line, Duration::from_secs(20), || {
            while done < sets && self.followed.read_line(&mut text).is_ok_and(|read| read > 0) {
                if text.ends_with('\n') {
                    done += usize::from(text.contains("\"kind\":\"set\""));
                    text.clear();
                }
            }
            done >= sets
        })
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
