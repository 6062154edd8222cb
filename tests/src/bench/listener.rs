//! What arrives at the broker, counted by nobody of andon's: `mosquitto_sub` writes payloads into
//! a file, which is counted afterwards.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::peers::need;
use crate::process::Process;

/// Counts while it lives.
#[derive(Debug)]
pub(super) struct Listener {
    process: Process,
    log: PathBuf,
}

impl Listener {
    /// Listens to a topic filter.
    pub(super) fn start(dir: &Path, port: u16, filter: &str) -> Result<Self> {
        let program = need("mosquitto_sub").context("mosquitto_sub is not installed")?;
        let log = dir.join("arrived.log");
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "0", "-t", filter]);
        let process = Process::start("arrived", dir, &mut command)?;
        Ok(Self { process, log })
    }

    /// Ends it and counts the readings that arrived: the items of andon's observations, a reading
    /// per line of a peer's. The file is removed.
    pub(super) fn readings(mut self) -> Result<u64> {
        self.process.kill();
        let mut readings = 0;
        for line in BufReader::new(File::open(&self.log)?).lines().map_while(Result::ok) {
            readings += match serde_json::from_str::<Value>(&line) {
                Ok(Value::Object(message)) => {
                    message.get("items").and_then(Value::as_object).map_or(0, serde_json::Map::len)
                }
                _ => 1,
            } as u64;
        }
        fs::remove_file(&self.log)?;
        Ok(readings)
    }
}
