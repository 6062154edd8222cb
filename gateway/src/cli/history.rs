//! `andon history`: what the journal knows of the past, as a table or as JSON.
//!
//! It reads the journal's folder itself and changes nothing, whether a gateway is running or not.
//! The report is data, so it goes to stdout; everything said about it goes to stderr.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Usage;
use crate::hours::{self, MachineHours, Window};
use crate::journal::Reader;
use crate::moment::moment;

/// What the journal knows of the past.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// How long each machine ran, idled, was off, was in fault, or was not known to.
    Hours(HoursArgs),
}

/// Where the window lies and what the report looks like.
#[derive(Args, Debug)]
struct HoursArgs {
    /// Begin: RFC 3339, a local date or date and time, or `-24h` for that long ago.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// End, excluded; the same forms, and `now`.
    #[arg(long, allow_hyphen_values = true, default_value = "now")]
    to: String,
    /// What each row is about.
    #[arg(long, value_enum, default_value_t = By::Machine)]
    by: By,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Print as JSON: the same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The configuration, for the journal's folder and the time zone.
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    config: PathBuf,
    /// The journal's folder.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The zone of local dates, an IANA name; the site's, or else this computer's.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

impl HoursArgs {
    const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Machine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Csv,
    Json,
}

/// What the command takes from a configuration.
struct Site {
    journal: PathBuf,
    time_zone: String,
}

/// Runs the command.
///
/// # Errors
/// When the window, the configuration or the journal cannot be read, with what to do about it.
pub fn run(args: HistoryArgs) -> anyhow::Result<()> {
    let Command::Hours(args) = args.command;
    let format = args.format();
    let (journal, zone) = match args.journal {
        Some(journal) => (journal, None),
        None => {
            let site = site(&args.config)?;
            (site.journal, Some(site.time_zone))
        }
    };
    let zone = match args.time_zone.or(zone) {
        Some(name) => {
            TimeZone::get(&name).map_err(|error| Usage(format!("time zone {name:?}: {error}")))?
        }
        None => TimeZone::system(),
    };
    let window = window(&args.from, &args.to, Timestamp::now(), &zone)?;
    let reader = Reader::open(&journal)
        .with_context(|| format!("there is no journal in {}", journal.display()))?;
    let folded = hours::fold(&reader)?;
    if let Some(note) = note_of_uncounted(folded.uncounted()) {
        super::talk(&format!("{note}\n"));
    }
    let hours = folded.within(window);
    let By::Machine = args.by;
    match format {
        Format::Csv => {
            let mut table = Vec::new();
            write_csv(&mut table, window, &zone, &hours)?;
            super::put(&String::from_utf8_lossy(&table))
        }
        Format::Json => {
            let report = Report { v: 1, window, time_zone: zone.iana_name(), machines: &hours };
            super::say(&serde_json::to_string_pretty(&report)?)
        }
    }
}

/// What to say of starts of the gateway that have no wall time.
fn note_of_uncounted(starts: usize) -> Option<String> {
    (starts > 0).then(|| {
        format!(
            "note: {starts} starts of the gateway had no synchronised clock, so nothing of them is \
             counted: give this computer NTP, or set trust_wall = true in [clock] where its clock \
             is right"
        )
    })
}

/// Where the configuration says that the journal is.
fn site(config: &Path) -> anyhow::Result<Site> {
    let plan = super::asking::plan_of(config, "--journal")?;
    Ok(Site { journal: plan.state_dir.join("journal"), time_zone: plan.site.time_zone })
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    v: u8,
    #[serde(flatten)]
    window: Window,
    time_zone: Option<&'a str>,
    machines: &'a [MachineHours],
}

/// The window between two moments as people write them.
///
/// # Errors
/// [`Usage`], when one is none or they are in the wrong order.
pub(super) fn window(
    from: &str,
    to: &str,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Window, Usage> {
    let read = |option: &str, text: &str| {
        let at = moment(text, now, zone).map_err(|error| Usage(format!("{option}: {error:#}")))?;
        Ok(at.as_millisecond())
    };
    let (from_ms, to_ms) = (read("--from", from)?, read("--to", to)?);
    if from_ms >= to_ms {
        return Err(Usage(format!("--from {from} is not before --to {to}")));
    }
    Ok(Window { from_ms, to_ms })
}

fn write_csv(
    out: &mut impl Write,
    window: Window,
    zone: &TimeZone,
    hours: &[MachineHours],
) -> anyhow::Result<()> {
    writeln!(
        out,
        "machine,from,to,run_ms,idle_ms,off_ms,fault_ms,unknown_ms,raw_run_ms,energy_wh,\
         energy_first_at,energy_first_wh,energy_last_at,energy_last_wh"
    )?;
    let local = |ms: i64| -> anyhow::Result<String> {
        let local = Timestamp::from_millisecond(ms)?.to_zoned_datetime(zone.clone());
        Ok(local.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string())
    };
    let (from, to) = (local(window.from_ms)?, local(window.to_ms)?);
    for row in hours {
        // Ids are [a-z0-9-] by configuration, but a journal may hold anything: quoted, RFC 4180.
        let machine = row.machine.replace('"', "\"\"");
        write!(
            out,
            "\"{machine}\",{from},{to},{},{},{},{},{},{},",
            row.run_ms, row.idle_ms, row.off_ms, row.fault_ms, row.unknown_ms, row.raw_run_ms,
        )?;
        match &row.energy {
            Some(energy) => writeln!(
                out,
                "{},{},{},{},{}",
                energy.wh,
                local(energy.first.at_ms)?,
                energy.first.wh,
                local(energy.last.at_ms)?,
                energy.last.wh,
            )?,
            None => writeln!(out, ",,,,")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    #[test]
    fn hours_that_no_clock_places_are_told_with_the_cure() {
        assert_eq!(note_of_uncounted(0), None);
        let note = note_of_uncounted(2).unwrap();
        assert!(note.contains("2 starts") && note.contains("trust_wall"), "{note}");
    }

    #[test]
    fn json_is_asked_for_as_of_every_reading_command() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: HoursArgs,
        }
        let parse = |more: &[&str]| {
            let words = [&["hours", "--from", "-1h"], more].concat();
            <Cli as clap::Parser>::try_parse_from(words).map(|it| it.args.format())
        };
        assert!(matches!(parse(&[]), Ok(Format::Csv)));
        assert!(matches!(parse(&["--json"]), Ok(Format::Json)));
        assert!(parse(&["--json", "--format", "csv"]).is_err());
    }

    #[test]
    fn a_window_must_have_a_length() {
        assert!(window("now", "-1h", NOW, &TimeZone::UTC).is_err());
        assert!(window("abc", "now", NOW, &TimeZone::UTC).is_err());
        let day = window("-1h", "now", NOW, &TimeZone::UTC).unwrap();
        assert_eq!(day.to_ms - day.from_ms, 3_600_000);
    }

    #[test]
    fn csv_names_the_bounding_readings_and_leaves_absent_energy_empty() {
        let reading = |at_ms, wh| hours::Reading { at_ms, wh, epoch: 1 };
        let (first, last) =
            (reading(1_790_000_000_000, 1000.5), reading(1_790_000_060_000, 1010.5));
        let row = |machine: &str, energy| MachineHours {
            machine: machine.into(),
            run_ms: 1,
            idle_ms: 2,
            off_ms: 3,
            fault_ms: 4,
            unknown_ms: 5,
            raw_run_ms: 6,
            energy,
        };
        let rows = [row("a", Some(hours::Energy { wh: 10.0, first, last })), row("b\"", None)];
        let mut out = Vec::new();
        let window = Window { from_ms: 1_790_000_000_000, to_ms: 1_790_000_000_015 };
        write_csv(&mut out, window, &TimeZone::UTC, &rows).unwrap();
        expect![[r#"
            machine,from,to,run_ms,idle_ms,off_ms,fault_ms,unknown_ms,raw_run_ms,energy_wh,energy_first_at,energy_first_wh,energy_last_at,energy_last_wh
            "a",2026-09-21T14:13:20+00:00,2026-09-21T14:13:20.015+00:00,1,2,3,4,5,6,10,2026-09-21T14:13:20+00:00,1000.5,2026-09-21T14:14:20+00:00,1010.5
            "b""",2026-09-21T14:13:20+00:00,2026-09-21T14:13:20.015+00:00,1,2,3,4,5,6,,,,,
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
