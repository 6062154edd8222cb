//! Machines with a protocol of their own: LinuxCNC itself, OctoPrint's virtual printer, and the
//! fakes of `tests/peers`, each typed to through stdin; and the board that shows what andon makes
//! of them. What a machine is doing is asked from the machine, never from andon alone.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::andon as binary;
use crate::peers::{need, skip};
use crate::process::{Process, wait_for};

/// How long a state, an alarm or a stop may take to show on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a peer may take to start: LinuxCNC loads its real-time parts one by one.
const START: Duration = Duration::from_secs(40);
/// How long the LinuxCNC of another run may be waited for: its test takes a minute or two.
const OTHERS_TURN: Duration = Duration::from_secs(300);

/// A peer that obeys the lines of its stdin.
#[derive(Debug)]
pub struct Fake {
    /// The process; killing it unplugs what it served.
    pub process: Process,
    /// Where it serves: a path or a port.
    pub address: String,
    stdin: ChildStdin,
}

impl Fake {
    /// Starts `peers/NAME.py` with the system's Python, which is all that it needs.
    ///
    /// # Errors
    /// When it does not say that it is ready.
    pub fn start(name: &str, dir: &Path, arguments: &[&str]) -> Result<Option<Self>> {
        let Some(python) = need("python3") else { return Ok(None) };
        Self::with(&python, name, dir, arguments).map(Some)
    }

    /// Starts OctoPrint's virtual printer on a pseudo-terminal at `link`.
    ///
    /// # Errors
    /// When it does not say that it is ready.
    pub fn virtual_printer(dir: &Path, link: &Path) -> Result<Option<Self>> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-octoprint/bin/python");
        if !python.is_file() {
            skip("OctoPrint is not installed (tests/install)");
            return Ok(None);
        }
        let (link, folder) = (link.to_string_lossy(), dir.join("printer"));
        let arguments = ["--link", &link, "--folder", &folder.to_string_lossy()];
        Self::with(&python, "marlin_virtual", dir, &arguments).map(Some)
    }

    fn with(python: &Path, name: &str, dir: &Path, arguments: &[&str]) -> Result<Self> {
        let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("peers/{name}.py"));
        let mut command = Command::new(python);
        command.arg(peer).args(arguments);
        let log = dir.join(format!("{name}.log"));
        // One that was unplugged has said that it was ready, too.
        std::fs::remove_file(log).ok();
        let (mut process, stdin) = Process::start_interactive(name, dir, &mut command)?;
        let line = process.wait_for_line("ready ", START)?;
        let address = line.split("ready ").nth(1).context("an address")?.trim().to_owned();
        Ok(Self { process, address, stdin })
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the peer is gone")
    }

    /// Every byte that it has received, in hexadecimal.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn received(&mut self) -> Result<String> {
        self.ask("log")
    }

    /// The line that it answers an order with.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&mut self, order: &str) -> Result<String> {
        let path = self.process.log.clone();
        let lines = || {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines = log.lines().filter(|line| !line.starts_with("ready "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = lines().len();
        writeln!(self.stdin, "{order}").context("the peer is gone")?;
        wait_for("the peer's answer", PATIENCE, || lines().len() > before)?;
        lines().pop().context("a line")
    }
}

/// `andon run`, and its board.
#[derive(Debug)]
pub struct Board {
    /// The process.
    pub gateway: Process,
    url: String,
    token: String,
}

impl Board {
    /// Starts `andon run` on `dir/andon.toml`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        let mut gateway = binary::run(dir, &dir.join("andon.toml"))?;
        let line = gateway.wait_for_line("board: http://", PATIENCE)?;
        let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();
        let token = std::fs::read_to_string(dir.join("state/operator.token"))?.trim().to_owned();
        Ok(Self { gateway, url, token })
    }

    /// Kills it without a word and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self, dir: &Path) -> Result<()> {
        self.gateway.kill();
        *self = Self::start(dir)?;
        Ok(())
    }

    /// What the board shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn picture(&self) -> Result<Value> {
        binary::get(&format!("{}/api/v1/picture", self.url))
    }

    /// One machine of the board.
    ///
    /// # Errors
    /// When the board does not answer or has no such machine.
    pub fn machine(&self, id: &str) -> Result<Value> {
        found(&self.picture()?["machines"], "id", id)
    }

    /// How a source's connection is.
    ///
    /// # Errors
    /// When the board does not answer or has no such source.
    pub fn device(&self, source: &str) -> Result<Value> {
        found(&self.picture()?["gateway"]["devices"], "source", source)
    }

    /// An item of a machine: its value, or null.
    ///
    /// # Errors
    /// When there is no such item.
    pub fn value(&self, machine: &str, item: &str) -> Result<Value> {
        Ok(found(&self.machine(machine)?["items"], "name", item)?["value"].clone())
    }

    /// Waits until a machine is in this execution; returns the machine.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_execution(&self, machine: &str, execution: &str) -> Result<Value> {
        self.wait(machine, execution, |machine| machine["execution"] == execution)
    }

    /// Waits until an item's value pleases.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_value(
        &self,
        machine: &str,
        item: &str,
        pleases: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let value = |machine: &Value| {
            let item = found(&machine["items"], "name", item).unwrap_or_default();
            item["value"].clone()
        };
        let machine = self.wait(machine, item, |machine| pleases(&value(machine)))?;
        Ok(value(&machine))
    }

    /// Waits until the stop of a machine is in this phase; returns the stop.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_stop(&self, machine: &str, phase: &str) -> Result<Value> {
        let machine = self.wait(machine, phase, |machine| machine["stop"]["phase"] == phase)?;
        Ok(machine["stop"].clone())
    }

    /// Resets a rule's alarm as the operator, who may have to wait until it has cleared.
    ///
    /// # Errors
    /// When that is refused.
    pub fn reset(&self, rule: &str) -> Result<()> {
        let url = format!("{}/api/v1/alarms/{rule}/reset", self.url);
        let body = serde_json::json!({ "by": "test", "reason": "looked after" });
        wait_for("the reset to be accepted", PATIENCE, || {
            binary::post(&url, &self.token, &body).is_ok_and(|status| (200..300).contains(&status))
        })
    }

    /// Looks at a machine again and again for `span`: what it must not show, it must never show.
    ///
    /// # Errors
    /// When the machine did not please once.
    pub fn always(
        &self,
        machine: &str,
        span: Duration,
        pleases: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < span {
            let seen = self.machine(machine)?;
            ensure!(pleases(&seen), "after {:?}: {seen:#}", begun.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn wait(&self, machine: &str, what: &str, pleases: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        wait_for(&format!("{machine}: {what}"), PATIENCE, || {
            last = self.machine(machine).unwrap_or_default();
            pleases(&last)
        })
        .with_context(|| format!("it is {last:#}"))?;
        Ok(last)
    }
}

fn found(list: &Value, key: &str, name: &str) -> Result<Value> {
    let mut entries = list.as_array().into_iter().flatten();
    let entry = entries.find(|entry| entry[key] == name);
    entry.cloned().with_context(|| format!("no {name} in {list}"))
}

/// What `andon history hours` counts of the last hour, by machine.
///
/// # Errors
/// When the command fails.
pub fn hours(dir: &Path, machine: &str) -> Result<Value> {
    let config = dir.join("andon.toml");
    let output = binary::output(&[
        "history",
        "hours",
        "--from",
        "-1h",
        "--format",
        "json",
        "--config",
        &config.to_string_lossy(),
    ])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    found(&report["machines"], "machine", machine)
}

/// A running LinuxCNC, and a remote shell of its own that the test asks and commands it through.
#[derive(Debug)]
pub struct LinuxCnc {
    /// Where its remote shell listens.
    pub port: u16,
    /// A folder that LinuxCNC may read.
    pub dir: PathBuf,
    process: Process,
    _stdin: ChildStdin,
    shell: BufReader<TcpStream>,
    // The last to be dropped: the next one must not start before this one is gone.
    _turn: File,
}

impl LinuxCnc {
    /// Starts LinuxCNC with simulated motors; `None` where it is not installed. There can be one
    /// per computer, so that of another run of the tests is waited for.
    ///
    /// # Errors
    /// When it does not start, or the other one does not end.
    pub fn start(dir: &Path, port: u16) -> Result<Option<Self>> {
        if need("linuxcnc").is_none() {
            return Ok(None);
        }
        let turn = turn()?;
        // It does not run as root, and who it then is may not read a home folder.
        let state = std::env::temp_dir().join(format!("andon-linuxcnc-{}", std::process::id()));
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/linuxcnc/start"));
        command.arg(port.to_string()).arg(&state);
        let (mut process, stdin) = Process::start_interactive("linuxcnc", dir, &mut command)?;
        let mut stream = None;
        wait_for("LinuxCNC's remote shell", START, || {
            stream = TcpStream::connect(("127.0.0.1", port)).ok();
            stream.is_some() || !process.running()
        })?;
        let Some(stream) = stream else {
            anyhow::bail!("{}", std::fs::read_to_string(&process.log).unwrap_or_default());
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let shell = BufReader::new(stream);
        let mut mill = Self { port, dir: state, process, _stdin: stdin, shell, _turn: turn };
        mill.tell("hello EMC test 1", "HELLO ACK")?;
        mill.tell("set echo off", "set echo off")?;
        mill.tell("set verbose on", "SET VERBOSE ACK")?;
        Ok(Some(mill))
    }

    /// What it answers to `get WORD`, without the word.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&mut self, word: &str) -> Result<String> {
        let begin = word.to_ascii_uppercase();
        Ok(self.tell(&format!("get {word}"), &begin)?.trim_start_matches(&begin).trim().to_owned())
    }

    /// Commands it, having taken the right to.
    ///
    /// # Errors
    /// When it refuses.
    pub fn set(&mut self, command: &str) -> Result<()> {
        self.tell("set enable EMCTOO", "SET ENABLE ACK")?;
        let word = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        self.tell(&format!("set {command}"), &format!("SET {word} ACK")).map(drop)
    }

    /// Waits until it says this itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for(&mut self, word: &str, answer: &str) -> Result<()> {
        let what = format!("LinuxCNC to say {word} {answer}");
        wait_for(&what, PATIENCE, || self.get(word).is_ok_and(|said| said == answer))
    }

    fn tell(&mut self, line: &str, expected: &str) -> Result<String> {
        self.shell.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        loop {
            let mut answer = String::new();
            ensure!(self.shell.read_line(&mut answer)? > 0, "{line}: the shell is gone");
            let answer = answer.trim();
            // Its line ends are of two kinds, and an empty line may stand between.
            if !answer.is_empty() {
                ensure!(answer.starts_with(expected), "{line}: {answer}");
                return Ok(answer.to_owned());
            }
        }
    }
}

/// Waits until no other run of the tests has a LinuxCNC. Whoever has the file has the turn, and the
/// kernel takes it back from who was killed.
fn turn() -> Result<File> {
    let path = std::env::temp_dir().join("andon-linuxcnc.lock");
    // Another user's file may be locked, if not written.
    let file = File::open(&path).or_else(|_| File::create(&path)).context("LinuxCNC's lock")?;
    wait_for("the LinuxCNC of another run to end", OTHERS_TURN, || file.try_lock().is_ok())?;
    Ok(file)
}

impl Drop for LinuxCnc {
    fn drop(&mut self) {
        // Killed outright it would leave its real-time parts behind, and the next one would not start.
        self.process.stop(START).ok();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
