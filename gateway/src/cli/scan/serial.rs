//! `andon scan serial PORT`: speeds, parities, unit ids and DL/T 645 meters of one line.
//!
//! The proposal is data, on stdout, also of a scan that is ended early. The progress is talk, on
//! stderr: a bar on a terminal, a line per speed and parity elsewhere, and a line per device found.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use andon_adapters::profile::Library;
use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::cli::Usage;
use crate::scan::{Finding, Format, Options, Progress, Scan, Station, line_proposal};

/// The speeds that makers set, most usual first.
const BAUDS: [u32; 8] = [9600, 2400, 19_200, 4800, 38_400, 115_200, 57_600, 1200];
/// Characters of the bar.
const BAR: usize = 24;

/// Arguments of `andon scan serial`.
#[derive(Debug, Args)]
pub(super) struct SerialArgs {
    /// The serial port, /dev/serial/by-id/…
    port: PathBuf,
    /// Speeds to try
    #[arg(long, value_name = "BAUD", value_delimiter = ',', default_values_t = BAUDS)]
    baud: Vec<u32>,
    /// Parities to try: N, E, O
    #[arg(long, value_name = "PARITY", value_delimiter = ',', default_values_t = ['N', 'E'])]
    parity: Vec<char>,
    /// Unit ids to ask, as FIRST-LAST
    #[arg(long, value_name = "FIRST-LAST", default_value = "1-247")]
    units: String,
    /// How long a unit is waited for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(5..=2000))]
    wait: u64,
    /// Look for boards that know only coils, and for Huanyang drives, too
    #[arg(long)]
    thorough: bool,
    /// Where the scan is kept while it runs, to go on from there; andon-scan-PORT.json in the folder
    /// of temporary files without it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Begin anew, whatever is kept
    #[arg(long)]
    restart: bool,
    /// What was found, as JSON
    #[arg(long)]
    json: bool,
    /// A folder of profiles beside those in the binary
    #[arg(long = "profiles", alias = "dir", value_name = "DIR")]
    overlay: Option<PathBuf>,
}

/// Scans the line and proposes a configuration.
///
/// # Errors
/// When an argument makes no sense, the port cannot be opened or is gone, or nothing was found.
pub(super) async fn run(args: SerialArgs) -> anyhow::Result<()> {
    let (library, problems) = Library::load(args.overlay.as_deref());
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    let options = options(&args)?;
    let file = args.state.clone().unwrap_or_else(|| default_state(&args.port));
    if args.restart {
        std::fs::remove_file(&file).ok();
    }
    let port = args.port.display();
    tracing::info!(
        "A whole scan of this kind takes {}; fewer --baud, --parity and --units take less. Ended early, \
         it tells what it has found, and goes on from {} the next time.",
        span(options.about()),
        file.display()
    );
    let mut scan = Scan::new(options, &library, Some(file.clone()));
    if scan.done() > 0 {
        tracing::info!("The scan goes on from step {}; --restart begins anew.", scan.done());
    }
    let mut bar = Bar::new(scan.done());
    let ended = tokio::select! {
        found = scan.run(|progress| bar.show(progress)) => Some(found),
        () = super::super::asked_to_stop() => None,
    };
    bar.clear();
    let Some(ended) = ended else {
        scan.save().context("the scan cannot be kept")?;
        propose(&args, scan.found())?;
        bail!("{port}: ended before its end; the same command goes on from here");
    };
    let found = match ended {
        Ok(found) => found,
        Err(error) => {
            if !scan.found().is_empty() {
                propose(&args, scan.found())?;
            }
            let kept = if file.exists() { " (the same command goes on from here)" } else { "" };
            return Err(error.context(format!("{port}{kept}")));
        }
    };
    std::fs::remove_file(&file).ok();
    propose(&args, &found)?;
    ensure!(!found.is_empty(), "nothing answers on {port}: cable, A and B, power, other speeds");
    Ok(())
}

fn propose(args: &SerialArgs, found: &[Finding]) -> anyhow::Result<()> {
    if args.json {
        crate::cli::say(&serde_json::to_string(found)?)
    } else {
        crate::cli::say(line_proposal(&stable(&args.port), found).trim_end())
    }
}

fn options(args: &SerialArgs) -> anyhow::Result<Options> {
    let ends = args.units.split_once('-').unwrap_or((&args.units, &args.units));
    let units = ends.0.parse().ok().zip(ends.1.parse().ok());
    let Some(units @ (1..=247u8, 1..=247u8)) = units.filter(|(first, last)| first <= last) else {
        bail!(Usage(format!("--units {} is not FIRST-LAST within 1-247", args.units)));
    };
    let wrong = |what: &str| Usage(what.to_owned());
    let is_speed = |baud: &u32| (50..=4_000_000).contains(baud);
    ensure!(args.baud.iter().all(is_speed), wrong("--baud: 50 to 4000000"));
    let formats = args.baud.iter().flat_map(|&baud| {
        args.parity.iter().map(move |&parity| (baud, parity.to_ascii_uppercase()))
    });
    let formats: Vec<Format> = formats.map(|(baud, parity)| Format { baud, parity }).collect();
    let is_parity = |format: &Format| "NEO".contains(format.parity);
    ensure!(formats.iter().all(is_parity), wrong("--parity: N, E or O"));
    ensure!(!formats.is_empty(), wrong("no speed or no parity to try"));
    let (port, thorough) = (args.port.clone(), args.thorough);
    Ok(Options { port, formats, units, wait_ms: args.wait, thorough })
}

/// One file per port among the temporary files: a scan that was interrupted goes on without being
/// told where it was.
fn default_state(port: &Path) -> PathBuf {
    let name: String = port
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    std::env::temp_dir().join(format!("andon-scan{name}.json"))
}

/// The stable name of a port, where it has one: configurations take no other.
fn stable(port: &Path) -> PathBuf {
    let links = std::fs::read_dir("/dev/serial/by-id").into_iter().flatten().flatten();
    let device = std::fs::canonicalize(port).ok();
    let mut links = links.map(|entry| entry.path());
    links
        .find(|link| device.is_some() && std::fs::canonicalize(link).ok() == device)
        .unwrap_or_else(|| port.to_owned())
}

/// A bar with the time that is left, on a terminal; elsewhere a line when speed or parity change.
/// What is found is told at once.
struct Bar {
    shown: bool,
    from: usize,
    begun: Instant,
    told: usize,
    format: Option<Format>,
}

impl Bar {
    fn new(from: usize) -> Self {
        let shown = std::io::stderr().is_terminal();
        Self { shown, from, begun: Instant::now(), told: 0, format: None }
    }

    fn show(&mut self, progress: Progress<'_>) {
        for finding in progress.found.iter().skip(self.told) {
            self.clear();
            writeln!(std::io::stderr(), "found {}", told(finding)).ok();
        }
        self.told = progress.found.len();
        if !self.shown {
            if self.format.replace(progress.format) != Some(progress.format) {
                let line = bar(progress, self.from, self.begun.elapsed());
                writeln!(std::io::stderr(), "{line}").ok();
            }
            return;
        }
        let line = bar(progress, self.from, self.begun.elapsed());
        write!(std::io::stderr(), "\r\x1b[K{line}").ok();
    }

    fn clear(&mut self) {
        if self.shown {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }
}

/// `unit 3 at 9600 8N1: eastron/sdm120`.
fn told(finding: &Finding) -> String {
    let who = match &finding.station {
        Some(Station::Unit(unit)) => format!("unit {unit}"),
        Some(Station::Meter(label)) => format!("meter {label}"),
        None => "meters".to_owned(),
    };
    let profiles: Vec<&str> = finding.candidates.iter().map(|it| &*it.profile).collect();
    let what = match profiles.as_slice() {
        _ if finding.collision => "two devices at one address".to_owned(),
        [] => "fits no profile".to_owned(),
        profiles => profiles.join(" or "),
    };
    format!("{who} at {}: {what}", finding.format)
}

fn span(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..=99 => format!("about {} s", seconds.max(1)),
        seconds => format!("about {} min", seconds.div_ceil(60)),
    }
}

/// `[####      ] 9600 8N1 unit 17, 4 min left, 2 found`.
fn bar(progress: Progress<'_>, from: usize, elapsed: Duration) -> String {
    let Progress { done, steps, format, unit, found } = progress;
    let full = BAR * done / steps.max(1);
    let who = unit.map_or_else(|| "meters".to_owned(), |unit| format!("unit {unit}"));
    let here = u32::try_from(done.saturating_sub(from)).unwrap_or(u32::MAX);
    let left = u32::try_from(steps.saturating_sub(done)).unwrap_or(u32::MAX);
    let left = elapsed.checked_div(here).map(|each| each * left);
    let left = left.map_or_else(String::new, |left| match left.as_secs() {
        seconds @ 0..=99 => format!(", {seconds} s left"),
        seconds => format!(", {} min left", seconds.div_ceil(60)),
    });
    let found = if found.is_empty() { String::new() } else { format!(", {} found", found.len()) };
    let rest = " ".repeat(BAR - full.min(BAR));
    format!("[{}{rest}] {format} {who}{left}{found}", "#".repeat(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_long_it_takes() {
        let format = Format { baud: 9600, parity: 'N' };
        let at = |done, unit| Progress { done, steps: 100, format, unit, found: &[] };
        let begun = bar(at(50, Some(3)), 50, Duration::ZERO);
        assert_eq!(begun, format!("[{}{}] 9600 8N1 unit 3", "#".repeat(12), " ".repeat(12)));
        let later = bar(at(60, None), 50, Duration::from_secs(30));
        assert!(later.ends_with("9600 8N1 meters, 2 min left"), "{later}");
        assert!(bar(at(99, None), 0, Duration::from_secs(99)).ends_with(", 1 s left"));
    }

    #[test]
    fn what_is_found_is_named_while_the_scan_goes_on() {
        let format = Format { baud: 9600, parity: 'N' };
        let mut finding = Finding {
            format,
            station: Some(Station::Unit(3)),
            collision: false,
            candidates: Vec::new(),
        };
        assert_eq!(told(&finding), "unit 3 at 9600 8N1: fits no profile");
        finding.collision = true;
        assert_eq!(told(&finding), "unit 3 at 9600 8N1: two devices at one address");
        let found = [finding];
        let progress = Progress { done: 1, steps: 2, format, unit: Some(4), found: &found };
        assert!(bar(progress, 1, Duration::ZERO).ends_with("unit 4, 1 found"));
    }
}
