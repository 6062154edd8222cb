//! Child processes that cannot outlive their test, free ports, and waiting with a deadline.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// Where its stderr goes (and stdout, unless it was asked for).
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `dir/NAME.log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Result<Self> {
        Self::start_with(name, dir, command, Stdio::null())
    }

    /// As [`Process::start`], with a way to type into it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_interactive(
        name: &str,
        dir: &Path,
        command: &mut Command,
    ) -> Result<(Self, ChildStdin)> {
        let mut process = Self::start_with(name, dir, command, Stdio::piped())?;
        let stdin = process.child.stdin.take().context("stdin is a pipe")?;
        Ok((process, stdin))
    }

    fn start_with(name: &str, dir: &Path, command: &mut Command, stdin: Stdio) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(stdin)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A process that is gone already is what the caller wants.
            kill_process(pid, signal).ok();
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to stop with SIGTERM and waits.
    ///
    /// # Errors
    /// When it is still there after `deadline`.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        let mut status = None;
        wait_for(&format!("{} to stop", self.name), deadline, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        status.context("stopped without a status")
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of its output contains `text`; returns that line.
    ///
    /// # Errors
    /// When it ends or `deadline` passes before; the error carries the log.
    pub fn wait_for_line(&mut self, text: &str, deadline: Duration) -> Result<String> {
        let log = self.log.clone();
        let find = || -> Option<String> {
            let lines = BufReader::new(File::open(&log).ok()?).lines();
            lines.map_while(Result::ok).find(|line| line.contains(text))
        };
        let started = Instant::now();
        loop {
            if let Some(line) = find() {
                return Ok(line);
            }
            if !self.running() || started.elapsed() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("{} never said {text:?}; it said:\n{log}", self.name);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// When it does not within `deadline`.
pub fn wait_for(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        ensure!(started.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A loopback port that is free, and that neither the system nor another call gives to anybody else:
/// it may be closed and opened again.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    /// Below those that the system picks from.
    const PORTS: Range<u32> = 10_240..32_768;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Of runs beside each other each begins elsewhere.
    let begin = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let place =
            begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + place)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of loopback is free")
}

/// A new, empty folder for a test, under `tests/.work`; kept for looking at when a test fails.
///
/// # Errors
/// When it cannot be made.
pub fn work_dir(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".work");
    std::fs::create_dir_all(&root)?;
    loop {
        // A process id may have been another run's, whose folders are kept.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("{name}-{}-{count}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return Ok(made.map(|()| dir)?),
        }
    }
}

/// A small, seeded source of randomness for fault schedules (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Thrown from this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed is `ANDON_SEED`, or one of the hour; it is printed, so a failure can be repeated.
    pub fn seeded(name: &str) -> Self {
        let from_env = std::env::var("ANDON_SEED").ok().and_then(|text| text.parse().ok());
        let seed = from_env.unwrap_or(0x5eed_0000_0000_0001);
        eprintln!("{name}: ANDON_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A count for a fault test: the value of an environment variable, or the small share that every
/// run does.
pub fn count_from_env(variable: &str, share: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(share)
}
