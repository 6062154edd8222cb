//! Machines with a protocol of their own, as the tests meet them: fakes that obey commands on
//! stdin, OctoPrint and Moonraker as their makers ship them, and the board that shows them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::peers::{need, skip};
use crate::process::{Process, free_port, wait_for};
use crate::workshop::Workshop;
use crate::{andon, process};

/// How long a program may take to start, or a board to show something, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// OctoPrint and Moonraker import half of Python first.
const START: Duration = Duration::from_secs(90);

fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fake of `tests/peers`: a line on stdin is a command, and each has a line of answer.
#[derive(Debug)]
pub struct Fake {
    /// Where it listens; 0 when it was told a path.
    pub port: u16,
    process: Process,
    stdin: ChildStdin,
    lines: usize,
}

impl Fake {
    /// Starts `peers/NAME.py` with `argument`, a port (0 picks one) or a path; `None` without Python.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(dir: &Path, name: &str, argument: &str) -> Result<Option<Self>> {
        let Some(python) = need("python3") else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(tests().join(format!("peers/{name}.py"))).arg(argument);
        // The log of an earlier one stays: it is read on from here.
        let before = lines(&dir.join(format!("{name}.log"))).map_or(0, |lines| lines.len());
        let (mut process, stdin) = Process::start_interactive(name, dir, &mut command)?;
        let mut said = Vec::new();
        wait_for(&format!("{name} to listen"), PATIENCE, || {
            said = lines(&process.log).unwrap_or_default();
            said.len() > before || !process.running()
        })?;
        let line = said.get(before).filter(|line| line.starts_with("listening"));
        let line = line.with_context(|| format!("it said {said:?}"))?;
        let port = line.split(' ').nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
        Ok(Some(Self { port, lines: before + 1, process, stdin }))
    }

    /// Gives a command; returns the answer.
    ///
    /// # Errors
    /// When it does not answer, or says that it does not know the command.
    pub fn say(&mut self, command: &str) -> Result<String> {
        writeln!(self.stdin, "{command}")?;
        let log = self.process.log.clone();
        let mut answer = None;
        wait_for(&format!("an answer to {command}"), PATIENCE, || {
            answer = lines(&log).ok().and_then(|lines| lines.get(self.lines).cloned());
            answer.is_some()
        })?;
        self.lines += 1;
        let answer = answer.context("an answer")?;
        ensure!(!answer.starts_with("no:"), "{command}: {answer}");
        Ok(answer)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// The whole lines of a log.
fn lines(log: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(log)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().map(str::to_owned).collect())
}

/// A request to a peer's own API; the status and the JSON of the answer, null when it is none.
///
/// # Errors
/// When there is no answer.
pub fn ask(key: &str, url: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let request = match body {
            Some(body) => client.post(url).json(body),
            None => client.get(url),
        };
        let response = request.header("X-Api-Key", key).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or_default()))
    })
}

/// A program that runs printers, of a virtual environment of its own; `None` where
/// `tests/install` has not been.
fn program(name: &str) -> Option<PathBuf> {
    let file = tests().join(format!(".venv-{name}/bin/{name}"));
    if file.is_file() {
        return Some(file);
    }
    skip(&format!("{name} is not installed (tests/install)"));
    None
}

/// OctoPrint with its virtual printer.
#[derive(Debug)]
pub struct OctoPrint {
    /// Where it listens.
    pub port: u16,
    /// What its virtual printer took and answered.
    printer_log: PathBuf,
    _process: Process,
}

/// The global key in `peers/octoprint_config.yaml`.
pub const OCTOPRINT_KEY: &str = "0123456789ABCDEF0123456789ABCDEF";

impl OctoPrint {
    /// Starts it with `files` (name, text) among its uploads, not connected to its printer.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(dir: &Path, files: &[(&str, String)]) -> Result<Option<Self>> {
        let Some(program) = program("octoprint") else { return Ok(None) };
        let base = dir.join("octoprint");
        std::fs::create_dir_all(base.join("uploads"))?;
        std::fs::copy(tests().join("peers/octoprint_config.yaml"), base.join("config.yaml"))?;
        for (name, text) in files {
            std::fs::write(base.join("uploads").join(name), text)?;
        }
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--iknowwhatimdoing", "--host", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .arg("--basedir")
            .arg(&base);
        let mut process = Process::start("octoprint-serve", dir, &mut command)?;
        let url = format!("http://127.0.0.1:{port}/api/version");
        wait_for("OctoPrint", START, || {
            !process.running()
                || ask(OCTOPRINT_KEY, &url, None).is_ok_and(|(status, _)| status == 200)
        })?;
        ensure!(process.running(), "{}", std::fs::read_to_string(&process.log)?);
        let printer_log = base.join("logs/plugin_virtual_printer_serial.log");
        Ok(Some(Self { port, printer_log, _process: process }))
    }

    /// Asks its API.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        ask(OCTOPRINT_KEY, &format!("http://127.0.0.1:{}{path}", self.port), None)
    }

    /// Commands something by its API.
    ///
    /// # Errors
    /// When it refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let (status, answer) = ask(OCTOPRINT_KEY, &url, Some(body))?;
        ensure!((200..300).contains(&status), "{path} {body}: {status} {answer}");
        Ok(())
    }

    /// Whether its printer has been told to wait for a heater and has not said yet that it has, or has
    /// begun a job and is about to be told, by the printer's own log.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn waits_for_heat(&self) -> Result<bool> {
        let log = std::fs::read_to_string(&self.printer_log)?;
        let waits = |line: &str| ["M109", "M190"].iter().any(|code| line.contains(code));
        // A job begins with its first line's number.
        let job = log.rfind("M110 N0").map_or("", |at| &log[at..]);
        let mut after = job.lines().rev().take_while(|line| !waits(line));
        Ok(!after.any(|line| line.ends_with(">>> ok")) || !job.lines().any(waits))
    }

    /// Whether somebody was let in to its push, by its own log.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn pushes(&self) -> Result<bool> {
        let log = std::fs::read_to_string(self.printer_log.with_file_name("octoprint.log"))?;
        Ok(log.contains("logged in on the socket"))
    }

    /// Connects it to its printer and waits until it is.
    ///
    /// # Errors
    /// When that fails.
    pub fn connect(&self) -> Result<()> {
        self.post("/api/connection", &json!({"command": "connect", "port": "VIRTUAL"}))?;
        process::wait_for("the virtual printer", PATIENCE, || {
            self.get("/api/printer").is_ok_and(|(status, _)| status == 200)
        })
    }
}

/// Moonraker, with the fake of Klipper behind it.
#[derive(Debug)]
pub struct Moonraker {
    /// Where it listens.
    pub port: u16,
    /// The key that it has made for its clients.
    pub key: String,
    /// Klipper.
    pub klippy: Fake,
    _process: Process,
}

impl Moonraker {
    /// Starts both. Nobody is let in without the key.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = program("moonraker") else { return Ok(None) };
        let (data, socket) = (dir.join("m"), dir.join("klippy.sock"));
        let path = socket.to_str().context("a path")?;
        let Some(klippy) = Fake::start(dir, "klippy", path)? else { return Ok(None) };
        std::fs::create_dir_all(data.join("config"))?;
        let port = free_port()?;
        let config = format!(
            "[server]\nhost: 127.0.0.1\nport: {port}\nklippy_uds_address: {path}\n\
             [machine]\nprovider: none\nvalidate_service: False\nvalidate_config: False\n\
             [authorization]\ntrusted_clients:\n  192.0.2.1\n"
        );
        std::fs::write(data.join("config/moonraker.conf"), config)?;
        let mut command = Command::new(&program);
        command.arg("-d").arg(&data);
        let mut process = Process::start("moonraker", dir, &mut command)?;
        let url = format!("http://127.0.0.1:{port}/server/info");
        wait_for("Moonraker", START, || {
            !process.running() || ask("none", &url, None).is_ok_and(|(status, _)| status == 401)
        })?;
        ensure!(process.running(), "{}", std::fs::read_to_string(&process.log)?);
        let key = key(&program, &data)?;
        wait_for("Moonraker to have Klipper", START, || {
            ask(&key, &url, None).is_ok_and(|(_, info)| info["result"]["klippy_state"] == "ready")
        })?;
        Ok(Some(Self { port, key, klippy, _process: process }))
    }
}

/// The key, out of Moonraker's own database: its API tells it only to whom it trusts already.
fn key(program: &Path, data: &Path) -> Result<String> {
    let script = "import sqlite3, sys\n\
        base = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)\n\
        print(base.execute(\"select password from authorized_users \
        where username = '_API_KEY_USER_'\").fetchone()[0])";
    let python = program.with_file_name("python");
    let file = data.join("database/moonraker-sql.db");
    let output = Command::new(python).args(["-c", script]).arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A gateway, seen through its board.
#[derive(Debug)]
pub struct Board {
    /// `andon run`.
    pub gateway: Process,
    url: String,
    token: String,
}

/// A machine as the board shows it.
#[derive(Clone, Debug)]
pub struct Shown(pub Value);

impl Shown {
    /// Its execution.
    pub fn execution(&self) -> &str {
        self.0["execution"].as_str().unwrap_or_default()
    }

    /// An item's value; null when it has none or is too old to be shown.
    pub fn value(&self, item: &str) -> Value {
        let found = self.item(item);
        let fresh = found["age_ms"].as_u64() <= found["stale_after_ms"].as_u64();
        if fresh { found["value"].clone() } else { Value::Null }
    }

    /// Why an item has no value.
    pub fn why(&self, item: &str) -> &str {
        self.item(item)["why"].as_str().unwrap_or_default()
    }

    fn item(&self, item: &str) -> &Value {
        let items = self.0["items"].as_array().map_or(&[][..], Vec::as_slice);
        items.iter().find(|found| found["name"] == item).unwrap_or(&Value::Null)
    }
}

impl Board {
    /// Starts `andon run` on a workshop and waits for its board.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(dir: &Path, workshop: &Workshop) -> Result<Self> {
        let mut gateway = andon::run(dir, &workshop.write(dir)?)?;
        let line = gateway.wait_for_line("board: http://", PATIENCE)?;
        let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();
        let token = std::fs::read_to_string(dir.join("state/operator.token"))?.trim().to_owned();
        Ok(Self { gateway, url, token })
    }

    /// The whole picture.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn picture(&self) -> Result<Value> {
        andon::get(&format!("{}/api/v1/picture", self.url))
    }

    /// A machine.
    ///
    /// # Errors
    /// When the board does not answer or has no such machine.
    pub fn machine(&self, id: &str) -> Result<Shown> {
        let picture = self.picture()?;
        let machines = picture["machines"].as_array().context("machines")?;
        let found = machines.iter().find(|machine| machine["id"] == id);
        Ok(Shown(found.with_context(|| format!("no machine {id}"))?.clone()))
    }

    /// Waits until a machine is shown as `condition` wants it.
    ///
    /// # Errors
    /// When it is not in time; with what was shown instead.
    pub fn wait_for(
        &self,
        id: &str,
        what: &str,
        condition: impl Fn(&Shown) -> bool,
    ) -> Result<Shown> {
        let mut last = Shown(Value::Null);
        wait_for(what, PATIENCE, || {
            last = self.machine(id).unwrap_or(Shown(Value::Null));
            condition(&last)
        })
        .with_context(|| format!("{id} is {}; {}", last.0, self.devices()))?;
        Ok(last)
    }

    /// Waits until a machine's execution is `execution`.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_execution(&self, id: &str, execution: &str) -> Result<Shown> {
        let what = format!("{id} to be {execution}");
        self.wait_for(id, &what, |shown| shown.execution() == execution)
    }

    /// Waits until a machine's protective stop is in `phase`.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_stop(&self, id: &str, phase: &str) -> Result<Value> {
        let what = format!("the stop of {id} to be {phase}");
        let shown = self.wait_for(id, &what, |shown| shown.0["stop"]["phase"] == phase)?;
        Ok(shown.0["stop"].clone())
    }

    /// Waits until a device's trouble or its reason to be down contains `words`.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_words(&self, source: &str, words: &str) -> Result<()> {
        let says = |device: &Value| {
            device["source"] == source
                && device["why"].as_str().is_some_and(|why| why.contains(words))
        };
        wait_for(&format!("{source} to say {words:?}"), PATIENCE, || {
            self.devices().as_array().is_some_and(|devices| devices.iter().any(says))
        })
        .with_context(|| format!("it says {}", self.devices()))
    }

    /// The devices as the board shows them.
    pub fn devices(&self) -> Value {
        self.picture().map(|picture| picture["gateway"]["devices"].clone()).unwrap_or_default()
    }

    /// Resets an alarm as a person does; the status.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn reset(&self, alarm: &str) -> Result<u16> {
        let url = format!("{}/api/v1/alarms/{alarm}/reset", self.url);
        andon::post(&url, &self.token, &json!({"by": "test", "reason": "looked at it"}))
    }
}
