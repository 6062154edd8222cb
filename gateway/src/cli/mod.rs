//! The command line: one file per command; here only the list of them.
//!
//! stdout is data, stderr is talk. Exit codes: 0 ok, 1 failure, 2 usage, 78 configuration.

pub mod alarms;
pub mod asking;
pub mod check;
pub mod demo;
pub mod export;
pub mod history;
pub mod learn;
pub mod meter;
pub mod plan;
pub mod profile;
pub mod read;
pub mod record;
pub mod run;
pub mod scan;
pub mod simulate;

pub mod tap;
pub mod top;
pub mod why;

use std::io::{ErrorKind, IsTerminal as _, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Exit code for a configuration that cannot run (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Reads every machine of a workshop: live board, protective stop, machine-hours.
#[derive(Debug, Parser)]
#[command(name = "andon", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway: buses, engine, journal, MQTT, recorder and board
    Run(run::RunArgs),
    /// Run a simulated workshop through the real buses, with a broker of its own
    Demo(demo::DemoArgs),
    /// Record from an MQTT broker into a time-series store
    Record(record::RecordArgs),
    /// Check a configuration and report every problem with file, line and hint
    Check(check::CheckArgs),
    /// Show what each bus will carry, before anything runs
    Plan(plan::PlanArgs),
    /// Poll sources once: raw registers beside decoded values
    Read(read::ReadArgs),
    /// Find devices and propose a configuration; never writes to a device
    Scan(scan::ScanArgs),
    /// Change the address or transformer ratio of one connected meter
    Meter(meter::MeterArgs),
    /// Follow what a site says over MQTT
    Tap(tap::TapArgs),
    /// Serve simulated devices, with faults
    Simulate(simulate::SimulateArgs),
    /// List and check device profiles
    Profile(profile::ProfileArgs),
    /// List, acknowledge and reset alarms of a running gateway
    Alarms(alarms::AlarmsArgs),
    /// Watch a running gateway: its buses, and what worries most
    Top(top::TopArgs),
    /// Explain one item of a running gateway, from its register to its rules
    Why(why::WhyArgs),
    /// Machine-hours from the journal
    History(history::HistoryArgs),
    /// Every sample of a stretch of time, as CSV or line protocol
    Export(export::ExportArgs),
    /// Propose a machine's bands from what it draws off, idle and running; or try others on the past
    Learn(learn::LearnArgs),
    /// Print a shell's completions
    Completions {
        /// The shell to print for
        shell: clap_complete::Shell,
    },
}

/// The log goes to stderr, as much of it as `RUST_LOG` wants: levels, for all or by module. The
/// larger filter, of spans and values, would bring an engine of regular expressions with it.
fn start_log() {
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.map(|wanted| wanted.parse::<Targets>());
    let usual =
        || Targets::new().with_default(Level::INFO).with_target("rumqttd", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let (filter, wrong) = match wanted {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (usual(), Some(error)),
        None => (usual(), None),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG is not understood: write a level, or module=level, by commas.");
    }
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    // One TLS provider per process; a second installation is refused and changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => asynchronously(demo::run(args)),
        Command::Record(args) => asynchronously(record::run(args)),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Read(args) => read::run(args),
        Command::Scan(args) => scan::run(args),
        Command::Meter(args) => asynchronously(meter::run(args)),
        Command::Tap(args) => asynchronously(tap::run(args)),
        Command::Simulate(args) => asynchronously(simulate::run(args)),
        Command::Profile(args) => profile::run(&args),
        Command::Alarms(args) => asynchronously(alarms::run(args)),
        Command::Top(args) => asynchronously(top::run(args)),
        Command::Why(args) => asynchronously(why::run(args)),
        Command::History(args) => outcome(history::run(args)),
        Command::Export(args) => outcome(export::run(args)),
        Command::Learn(args) => learn::run(args),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "andon", &mut script);
            outcome(put(&String::from_utf8_lossy(&script)))
        }
    }
}

/// Runs a future on a runtime of its own.
fn asynchronously(future: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    asynchronously_on(2, future)
}

/// Runs a future on a runtime of its own with so many threads beside the calling one, for
/// everything but the buses and the engine, which have theirs.
fn asynchronously_on(threads: usize, future: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = outcome(runtime.block_on(future));
            // Tasks that do not end by themselves must not keep the process.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            code
        }
        Err(error) => outcome(Err(error.into())),
    }
}

/// An error is told on stderr with its causes; exit code 1, 2 for [`Usage`] or 78 for
/// [`Misconfigured`].
fn outcome(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk(&format!("andon: {error:#}\n"));
            if error.is::<Usage>() {
                ExitCode::from(2)
            } else if error.is::<Misconfigured>() {
                ExitCode::from(EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// What was typed cannot be meant; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// What was typed: an error of it is [`Usage`].
fn typed<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| Usage(format!("{error:#}")).into())
}

/// A configuration with problems has no word on what was not typed; exit code 78.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misconfigured(pub String);

/// Writes a line of data to stdout, as [`put`].
///
/// # Errors
/// As [`put`].
pub fn say(text: &str) -> anyhow::Result<()> {
    put(&format!("{text}\n"))
}

/// Writes data to stdout. A reader that went away has seen enough, which is no error of ours.
///
/// # Errors
/// When it cannot be written, as to a disk that is full.
pub fn put(text: &str) -> anyhow::Result<()> {
    write_to(&mut std::io::stdout().lock(), text)
}

fn write_to(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("stdout cannot be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says something to a person, on stderr. Where nobody listens any more the exit code still tells.
fn talk(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// Writes what a command has to say, and gives its exit code: `code`, or a failure where data could
/// not be written.
fn tell(stdout: &str, stderr: &str, code: u8) -> ExitCode {
    let written = put(stdout);
    talk(stderr);
    written.map_or_else(|error| outcome(Err(error)), |()| ExitCode::from(code))
}

/// Loads and checks a configuration, or tells every problem and gives the exit code for that.
///
/// # Errors
/// The exit code 78, after the problems were printed on stderr.
pub fn load_plan(path: &std::path::Path) -> Result<crate::config::Loaded, ExitCode> {
    crate::config::load(path).map_err(|problems| {
        for problem in &problems {
            talk(&format!("{problem}\n"));
        }
        ExitCode::from(EXIT_CONFIG)
    })
}

/// Resolves when the process is asked to stop: SIGINT or SIGTERM.
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("Signals cannot be watched; only SIGKILL will stop this process.");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_full_disk_is_a_failure_and_a_reader_that_went_away_is_none() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = write_to(&mut full, "data\n").unwrap_err();
        assert!(format!("{error:#}").contains("No space left on device"), "{error:#}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut closed = File::from(OwnedFd::from(writer));
        write_to(&mut closed, "data\n").unwrap();
    }

    #[test]
    fn problems_that_nobody_reads_are_no_panic() {
        const CHILD: &str = "ANDON_TEST_NOBODY_READS";
        if std::env::var_os(CHILD).is_some() {
            tell("", "a problem\n", EXIT_CONFIG);
            outcome(Err(Usage("a problem".to_owned()).into()));
            assert!(load_plan(std::path::Path::new("/nowhere")).is_err());
            return;
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "cli::tests::problems_that_nobody_reads_are_no_panic"]);
        again.arg("--nocapture").env(CHILD, "").stdout(std::process::Stdio::null()).stderr(writer);
        assert!(again.status().unwrap().success());
    }
}
