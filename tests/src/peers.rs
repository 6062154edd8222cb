//! Programs that nobody of andon wrote: mosquitto, VictoriaMetrics, pymodbus, socat.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{Process, free_port};

/// How long a peer may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Finds a program on PATH or in the folders that hold daemons.
///
/// Says in one line that a test is skipped when it is missing, counts that for the test command,
/// and panics instead where `CI=true`.
pub fn need(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Counts a skipped test; a failure where `CI=true`.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI: {why}");
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("ANDON_SKIPPED") {
        use std::io::Write as _;
        if let Ok(mut file) = std::fs::File::options().append(true).open(file) {
            writeln!(file, "{why}").ok();
        }
    }
}

/// A mosquitto broker on a port of its own.
#[derive(Debug)]
pub struct Mosquitto {
    /// Where it listens.
    pub port: u16,
    /// What its configuration says beside the defaults of these tests.
    security: String,
    program: PathBuf,
    dir: PathBuf,
    process: Option<Process>,
}

impl Mosquitto {
    /// Starts a broker that keeps its sessions on disk; `None` when it is not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = need("mosquitto") else { return Ok(None) };
        Self::start_with(program, dir, "allow_anonymous true\n".to_owned()).map(Some)
    }

    /// Starts a broker that speaks TLS alone, with a certificate of `dir/ca.pem`, and asks for a
    /// login: `user` with `password`. `None` when a program is not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_secured(dir: &Path, user: &str, password: &str) -> Result<Option<Self>> {
        let Some(program) = need("mosquitto") else { return Ok(None) };
        let Some(passwords) = need("mosquitto_passwd") else { return Ok(None) };
        if !certificates(dir)? {
            return Ok(None);
        }
        let file = dir.join("passwords");
        let mut command = Command::new(passwords);
        command.arg("-b").arg("-c").arg(&file).args([user, password]);
        finish(&mut command)?;
        let path = |name: &str| dir.join(name).display().to_string();
        let security = format!(
            "allow_anonymous false\npassword_file {}\ncafile {}\ncertfile {}\nkeyfile {}\n",
            path("passwords"),
            path("ca.pem"),
            path("server.pem"),
            path("server.key"),
        );
        Self::start_with(program, dir, security).map(Some)
    }

    fn start_with(program: PathBuf, dir: &Path, security: String) -> Result<Self> {
        let (port, dir) = (free_port()?, dir.to_owned());
        let mut broker = Self { port, security, program, dir, process: None };
        broker.restart()?;
        Ok(broker)
    }

    /// Starts it again on the same port, after [`Mosquitto::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        let conf = self.dir.join("mosquitto.conf");
        // max_queued_messages: an absent recorder's session must not be cut by the default 1000.
        let text = format!(
            "per_listener_settings false\nlistener {} 127.0.0.1\n{}max_queued_messages 0\n\
             max_inflight_messages 0\npersistence false\nuser {}\n",
            self.port, self.security, "root"
        );
        std::fs::write(&conf, text)?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&conf);
        let mut process = Process::start("mosquitto", &self.dir, &mut command)?;
        wait_for_port(&mut process, self.port)?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts `mosquitto_sub` on `filter` with topic and payload per line; `None` when missing.
    ///
    /// # Errors
    /// When it does not start.
    pub fn watch(&self, filter: &str) -> Result<Option<Process>> {
        let Some(program) = need("mosquitto_sub") else { return Ok(None) };
        let port = self.port.to_string();
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port, "-v", "-q", "1", "-t", filter]);
        Ok(Some(Process::start("mosquitto_sub", &self.dir, &mut command)?))
    }
}

/// Makes `ca.pem`, and `server.pem` with `server.key` for 127.0.0.1, signed by it; `other.pem`
/// has signed nothing. `false` when openssl is not installed.
fn certificates(dir: &Path) -> Result<bool> {
    let Some(openssl) = need("openssl") else { return Ok(false) };
    let make = |arguments: &str| {
        let mut command = Command::new(&openssl);
        finish(command.current_dir(dir).args(arguments.split(' ')))
    };
    for name in ["ca", "other"] {
        make(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {name}.key -out {name}.pem -subj /CN={name}"
        ))?;
    }
    make("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1")?;
    std::fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1\n")?;
    make(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile server.ext -out server.pem",
    )?;
    Ok(true)
}

/// Runs a command to its end.
fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {told}");
    Ok(())
}

/// A VictoriaMetrics store on a port of its own.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// Where it listens.
    pub port: u16,
    program: PathBuf,
    dir: PathBuf,
    process: Option<Process>,
}

impl VictoriaMetrics {
    /// Starts a store that treats equal (series, timestamp) as one; `None` when not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = need("victoria-metrics") else { return Ok(None) };
        let mut store = Self { port: free_port()?, program, dir: dir.to_owned(), process: None };
        store.restart()?;
        Ok(Some(store))
    }

    /// Starts it again on the same port and data, after [`VictoriaMetrics::stop`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-httpListenAddr=127.0.0.1:{}", self.port))
            .arg(format!("-storageDataPath={}", self.dir.join("victoria").display()))
            .args(["-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms", "-loggerLevel=WARN"]);
        let mut process = Process::start("victoria-metrics", &self.dir, &mut command)?;
        wait_for_port(&mut process, self.port)?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in an orderly way, so that what it acknowledged is on disk.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(Duration::from_secs(30)).map(drop),
            None => Ok(()),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Waits until a process listens on a loopback port.
///
/// # Errors
/// When it ends, or does not in time.
pub fn wait_for_port(process: &mut Process, port: u16) -> Result<()> {
    let mut alive = true;
    crate::process::wait_for(&format!("port {port}"), START, || {
        alive = process.running();
        !alive || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    anyhow::ensure!(alive, "{}", std::fs::read_to_string(&process.log).unwrap_or_default());
    Ok(())
}

/// How the pymodbus server is reached.
#[derive(Clone, Debug)]
pub enum ModbusLink {
    /// Modbus TCP on this loopback port.
    Tcp(u16),
    /// RTU on this pseudo-terminal at this speed.
    Rtu(PathBuf, u32),
}

/// A pymodbus server that serves a new value at every read and logs each one.
#[derive(Debug)]
pub struct ModbusServer {
    /// The process; killing it ends the serving.
    pub process: Process,
    /// Its own log of what it served.
    pub served: PathBuf,
}

impl ModbusServer {
    /// Starts a server for `units`, with the addresses `map` (`input:12,counter:72`).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        name: &str,
        dir: &Path,
        link: &ModbusLink,
        units: &str,
        map: &str,
    ) -> Result<Option<Self>> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = tests.join(".venv/bin/python");
        if !python.is_file() {
            skip("pymodbus is not installed (tests/install)");
            return Ok(None);
        }
        let served = dir.join(format!("{name}.served"));
        let mut command = Command::new(python);
        command.arg(tests.join("peers/modbus_server.py"));
        match link {
            ModbusLink::Tcp(port) => command.arg("--tcp").arg(port.to_string()),
            ModbusLink::Rtu(pty, baud) => {
                command.arg("--rtu").arg(pty).arg("--baud").arg(baud.to_string())
            }
        };
        command.args(["--units", units, "--map", map, "--log"]).arg(&served);
        let mut process = Process::start(name, dir, &mut command)?;
        process.wait_for_line("ready", START)?;
        if let ModbusLink::Tcp(port) = link {
            wait_for_port(&mut process, *port)?;
        }
        Ok(Some(Self { process, served }))
    }
}

/// Starts the replay of a device behind a broker, `peers/NAME_replay.py`; what it obeys on stdin is
/// in its head comment. `None` when its client library is missing.
///
/// # Errors
/// When it does not start.
pub fn replay(name: &str, dir: &Path, arguments: &[&str]) -> Result<Option<(Process, ChildStdin)>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = tests.join(".venv/bin/python");
    let has_client = Command::new(&python).args(["-c", "import paho.mqtt"]).output();
    if !has_client.is_ok_and(|output| output.status.success()) {
        skip("paho-mqtt is not installed (tests/install)");
        return Ok(None);
    }
    let mut command = Command::new(python);
    command.arg(tests.join(format!("peers/{name}_replay.py"))).args(arguments);
    let (mut process, stdin) = Process::start_interactive(name, dir, &mut command)?;
    process.wait_for_line("ready", START)?;
    Ok(Some((process, stdin)))
}

/// Two pseudo-terminals tied back to back.
#[derive(Debug)]
pub struct NullModem {
    /// One end.
    pub near: PathBuf,
    /// The other end.
    pub far: PathBuf,
    _process: Process,
}

impl NullModem {
    /// Ties two pseudo-terminals with socat; `None` when it is not installed.
    ///
    /// # Errors
    /// When they do not appear.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = need("socat") else { return Ok(None) };
        let (near, far) = (dir.join("tty-near"), dir.join("tty-far"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let mut command = Command::new(program);
        command.arg(end(&near)).arg(end(&far));
        let process = Process::start("socat", dir, &mut command).context("socat")?;
        crate::process::wait_for("the pseudo-terminals", START, || near.exists() && far.exists())?;
        Ok(Some(Self { near, far, _process: process }))
    }
}
