//! A gateway whose devices are behind brokers: its board as the tests read it, and messages that
//! any program might publish.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::andon;
use crate::process::{Process, wait_for};

/// How long a value, a stop or a word may take to show on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway.
#[derive(Debug)]
pub struct Board {
    /// The gateway.
    pub process: Process,
    url: String,
}

impl Board {
    /// Starts the gateway on `dir/andon.toml`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        let mut process = andon::run(dir, &dir.join("andon.toml"))?;
        let line = process.wait_for_line("board: http://", PATIENCE)?;
        let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();
        Ok(Self { process, url })
    }

    /// All that the board shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn picture(&self) -> Result<Value> {
        andon::get(&format!("{}/api/v1/picture", self.url))
    }

    /// An item of a machine; null when there is none.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn item(&self, machine: &str, item: &str) -> Result<Value> {
        let machine = named(&self.picture()?["machines"], "id", machine);
        Ok(named(&machine["items"], "name", item))
    }

    /// What the gateway says of a device.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn device(&self, source: &str) -> Result<Value> {
        Ok(named(&self.picture()?["gateway"]["devices"], "source", source))
    }

    /// Waits until an item has this value.
    ///
    /// # Errors
    /// When it never has; the error says what it had.
    pub fn wait_for_value(
        &self,
        machine: &str,
        item: &str,
        expected: impl Into<Value>,
    ) -> Result<()> {
        let expected = expected.into();
        self.wait_for_item(machine, item, &expected.to_string(), |found| {
            alike(&found["value"], &expected)
        })
    }

    /// Waits until an item has no value, for this reason.
    ///
    /// # Errors
    /// When it never comes to that; the error says what it had.
    pub fn wait_for_unknown(&self, machine: &str, item: &str, why: &str) -> Result<()> {
        self.wait_for_item(machine, item, why, |found| {
            found["value"].is_null() && found["why"] == why
        })
    }

    fn wait_for_item(
        &self,
        machine: &str,
        item: &str,
        expected: &str,
        is_right: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let mut found = Value::Null;
        wait_for(&format!("{machine}'s {item} to be {expected}"), PATIENCE, || {
            found = self.item(machine, item).unwrap_or_default();
            is_right(&found)
        })
        .with_context(|| format!("it is {found}; {}", self.devices()))
    }

    /// Waits until a device is in `state` and the words about it contain `words`; returns them.
    ///
    /// # Errors
    /// When it never is; the error says how it was.
    pub fn wait_for_device(&self, source: &str, state: &str, words: &str) -> Result<String> {
        let mut found = Value::Null;
        wait_for(&format!("{source} to be {state}: {words}"), PATIENCE, || {
            found = self.device(source).unwrap_or_default();
            let why = found["why"].as_str().unwrap_or_default();
            found["state"] == state && why.contains(words)
        })
        .with_context(|| format!("it is {found}"))?;
        Ok(found["why"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the stop of a machine is in `phase` and confirmed as far as `level` (null for
    /// one that has not begun).
    ///
    /// # Errors
    /// When it never is; the error says how it was.
    pub fn wait_for_stop(
        &self,
        machine: &str,
        phase: &str,
        level: impl Into<Value>,
    ) -> Result<Value> {
        let level = level.into();
        let mut found = Value::Null;
        wait_for(&format!("{machine}'s stop to be {phase} {level}"), PATIENCE, || {
            let picture = self.picture().unwrap_or_default();
            found = named(&picture["machines"], "id", machine)["stop"].clone();
            found["phase"] == phase && found["level"] == level
        })
        .with_context(|| format!("it is {found}"))?;
        Ok(found)
    }

    fn devices(&self) -> String {
        self.picture().unwrap_or_default()["gateway"]["devices"].to_string()
    }

    /// The most memory that the gateway has ever had, in bytes.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn memory_peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
        let kib = line.split_whitespace().nth(1).context("a number")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

fn named(list: &Value, key: &str, name: &str) -> Value {
    let found = list.as_array().and_then(|list| list.iter().find(|one| one[key] == name));
    found.cloned().unwrap_or_default()
}

/// Equal, numbers to nine digits.
fn alike(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => {
            (found - expected).abs() <= 1e-9 * found.abs().max(expected.abs())
        }
        _ => found == expected,
    }
}

/// A plain `mosquitto_pub` at a broker on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Publisher(pub u16);

impl Publisher {
    fn command(self, topic: &str) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.0.to_string(), "-q", "1", "-t", topic]);
        command
    }

    /// Publishes once.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn say(self, topic: &str, payload: &str) -> Result<()> {
        ensure!(self.command(topic).args(["-m", payload]).status()?.success(), "{topic}");
        Ok(())
    }

    /// Publishes something that the broker keeps.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn keep(self, topic: &str, payload: &str) -> Result<()> {
        ensure!(self.command(topic).args(["-r", "-m", payload]).status()?.success(), "{topic}");
        Ok(())
    }

    /// Publishes any bytes.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub fn bytes(self, topic: &str, payload: &[u8]) -> Result<()> {
        if payload.is_empty() {
            ensure!(self.command(topic).arg("-n").status()?.success(), "{topic}");
            return Ok(());
        }
        let mut child = self.command(topic).arg("-s").stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(payload)?;
        ensure!(child.wait()?.success(), "{topic}");
        Ok(())
    }

    /// Publishes a message per line, as fast as the broker takes them.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn lines(self, topic: &str, lines: &str) -> Result<Child> {
        let mut child = self.command(topic).arg("-l").stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(lines.as_bytes())?;
        Ok(child)
    }
}
