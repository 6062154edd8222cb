//! `andon export`: every sample of a stretch of time, as CSV or line protocol, losslessly.
//!
//! It reads the history file itself, beside a running gateway or without one, and changes nothing.
//! Data goes to stdout; what is said about it goes to stderr. Memory is bounded by one series of
//! one day.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use andon_engine::value::{Measured, Value};

use super::history::window;
use crate::history::Archive;
use crate::history::export::{ExportError, Sample, Selection};
use crate::recorder::line;

/// What is exported, and how.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Begin: RFC 3339, a local date or date and time, or `-24h` for that long ago.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// End, excluded; the same forms, and `now`.
    #[arg(long, allow_hyphen_values = true, default_value = "now")]
    to: String,
    /// One machine's id; all without it.
    #[arg(long)]
    machine: Option<String>,
    /// One item's name; all without it.
    #[arg(long)]
    item: Option<String>,
    /// The form of the data.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// The configuration, for the state's folder, the site and the time zone.
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    config: PathBuf,
    /// The state's folder; then no configuration is read, and times are this computer's.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The tag `site` of line protocol; the configuration's without it.
    #[arg(long)]
    site: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// time,machine,item,value,reason
    Csv,
    /// `InfluxDB` line protocol, as the recorder writes it
    Lp,
}

/// Runs the command.
///
/// # Errors
/// When the window or the configuration cannot be read, or there is no history.
pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    let (state, site, zone) = place(&args)?;
    let window = window(&args.from, &args.to, Timestamp::now(), &zone)?;
    let selection = Selection {
        from_ms: window.from_ms,
        to_ms: window.to_ms,
        machine: args.machine,
        item: args.item,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let archive = Archive::in_folder(&state);
    let exported = match args.format {
        Format::Csv => csv(&mut out, &archive, &selection),
        Format::Lp => lines(&mut out, &archive, &selection, &site),
    };
    let exported = match exported.and_then(|exported| {
        out.flush()?;
        Ok(exported)
    }) {
        // Whoever reads has seen enough.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(());
        }
        exported => exported.with_context(|| format!("in {}", state.display()))?,
    };
    let until = exported.until_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    tracing::info!(samples = exported.samples, "Exported.");
    match until {
        Some(until) if until.as_millisecond() < selection.to_ms => tracing::warn!(
            %until,
            "Samples are written to history when their hour is over; later ones are not exported."
        ),
        Some(_) => {}
        None => tracing::warn!("There are no samples yet: the first hour is not over."),
    }
    if exported.damaged > 0 {
        tracing::error!(rows = exported.damaged, "Rows were damaged; their samples are missing.");
    }
    Ok(())
}

/// The state's folder, the site's id and the zone of local times.
fn place(args: &ExportArgs) -> anyhow::Result<(PathBuf, String, TimeZone)> {
    if let Some(state) = &args.state {
        let site = args.site.clone().unwrap_or_default();
        return Ok((state.clone(), site, TimeZone::system()));
    }
    let plan = match crate::config::load(&args.config) {
        Ok(loaded) => loaded.plan,
        Err(problems) => anyhow::bail!(
            "the configuration at {} has {} problems (see \"andon check\"); name --state instead",
            args.config.display(),
            problems.len()
        ),
    };
    let zone = TimeZone::get(&plan.site.time_zone)?;
    Ok((plan.state_dir, args.site.clone().unwrap_or_else(|| plan.site.id.to_string()), zone))
}

type Outcome = Result<crate::history::export::Exported, ExportError>;

/// Numbers as the shortest digits that read back as the same bits, flags as `true` and `false`,
/// texts always quoted, so that `"1"` is no number; a value that is missing is empty, with its reason.
fn csv(out: &mut impl Write, archive: &Archive, selection: &Selection) -> Outcome {
    writeln!(out, "time,machine,item,value,reason")?;
    archive.export(selection, &mut |sample| {
        let Sample { at_ms, machine, item, measured } = sample;
        let time = Timestamp::from_millisecond(at_ms).map_err(io::Error::other)?;
        write!(out, "{time:.3},{},{},", plain(machine), plain(item))?;
        match measured {
            Ok(Value::Number(number)) => writeln!(out, "{number:?},"),
            Ok(Value::Flag(flag)) => writeln!(out, "{flag},"),
            Ok(Value::Text(text)) => writeln!(out, "{},", quoted(&text)),
            Err(reason) => writeln!(out, ",{reason}"),
        }
    })
}

/// Ids and names are plain by configuration; a journal may hold anything.
fn plain(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.chars().all(safe) { name.to_owned() } else { quoted(name) }
}

/// RFC 4180.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn lines(out: &mut impl Write, archive: &Archive, selection: &Selection, site: &str) -> Outcome {
    let mut text = String::new();
    archive.export(selection, &mut |sample| {
        let measured: &Measured = &sample.measured;
        text.clear();
        line::observation(&mut text, site, sample.machine, sample.at_ms, [(sample.item, measured)]);
        out.write_all(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use andon_engine::time::BootTime;
    use andon_engine::value::Unavailable;
    use influxdb_line_protocol::{FieldValue, parse_lines};

    use super::*;
    use crate::history::Periods;
    use crate::history::offline::Offline;
    use crate::journal::tests::Folder;
    use crate::journal::{BootId, Observation, Payload, Record};

    const NOON: i64 = 1_790_000_000_000;
    const BOOT: BootId = BootId([3; 16]);

    fn measured() -> Vec<Measured> {
        vec![
            Ok(Value::Number(230.1)),
            Ok(Value::Number(f64::from(50.02_f32))),
            Ok(Value::Number(-0.0)),
            Ok(Value::Number(1e300)),
            Ok(Value::Number(std::f64::consts::PI)),
            Ok(Value::Flag(true)),
            Ok(Value::Text("cut \"A\", b.nc".into())),
            Err(Unavailable::Timeout),
            Err(Unavailable::Stale),
        ]
    }

    /// A file with one sample of each kind a second, and what was selected of it.
    fn archive(folder: &Folder) -> (Archive, Selection) {
        let wall = |_: &BootId, at: BootTime| Some(NOON + i64::try_from(at.as_millis()).unwrap());
        let mut history =
            Offline::open(folder.path(), BOOT, Arc::new(wall), Periods::default()).unwrap();
        for (n, measured) in (0..).zip(measured()) {
            let (machine, at) = ("laser".into(), BootTime::from_millis(n * 1000));
            let seen = Observation { machine, at, items: vec![("x".into(), measured)] };
            let payload = Payload::Observation(seen);
            history.take(&Record { boot: BOOT, seq: n + 1, prev: n, payload }).unwrap();
        }
        let seen = Observation {
            machine: "laser".into(),
            at: BootTime::from_millis(2 * 3_600_000),
            items: Vec::new(),
        };
        let payload = Payload::Observation(seen);
        history.take(&Record { boot: BOOT, seq: 99, prev: 98, payload }).unwrap();
        history.flush().unwrap();
        let (machine, item) = (None, None);
        (history.archive(), Selection { from_ms: NOON, to_ms: NOON + 60_000, machine, item })
    }

    #[test]
    fn csv_reads_back_as_what_was_measured() {
        let folder = Folder::new("export-csv");
        let (archive, selection) = archive(&folder);
        let mut out = Vec::new();
        let exported = csv(&mut out, &archive, &selection).unwrap();
        assert_eq!(exported.samples, 9);
        let text = String::from_utf8(out).unwrap();
        let mut rows = text.lines();
        assert_eq!(rows.next(), Some("time,machine,item,value,reason"));
        assert_eq!(rows.next(), Some("2026-09-21T14:13:20.000Z,laser,x,230.1,"));
        let values: Vec<&str> =
            text.lines().skip(1).map(|row| row.splitn(4, ',').nth(3).unwrap()).collect();
        for (value, measured) in values.iter().zip(measured()) {
            match measured {
                Ok(Value::Number(number)) => {
                    let back: f64 = value.strip_suffix(',').unwrap().parse().unwrap();
                    assert_eq!(back.to_bits(), number.to_bits());
                }
                Ok(Value::Flag(flag)) => assert_eq!(*value, format!("{flag},")),
                Ok(Value::Text(_)) => assert_eq!(*value, "\"cut \"\"A\"\", b.nc\","),
                Err(reason) => assert_eq!(*value, format!(",{}", reason.word())),
            }
        }
    }

    #[test]
    fn line_protocol_reads_back_with_the_store_s_own_parser() {
        let folder = Folder::new("export-lp");
        let (archive, selection) = archive(&folder);
        let mut out = Vec::new();
        lines(&mut out, &archive, &selection, "shop").unwrap();
        let text = String::from_utf8(out).unwrap();
        let parsed: Vec<_> = parse_lines(&text).map(|line| line.unwrap()).collect();
        assert_eq!(parsed.len(), 9);
        for ((line, measured), n) in parsed.iter().zip(measured()).zip(0..) {
            assert_eq!(line.timestamp, Some(NOON + n * 1000));
            assert_eq!(line.tag_value("machine").unwrap().as_str(), "laser");
            let (field, value) = &line.field_set[0];
            match measured {
                Ok(Value::Number(number)) => {
                    let FieldValue::F64(back) = value else { panic!("{value:?}") };
                    assert_eq!(back.to_bits(), number.to_bits());
                }
                Ok(Value::Flag(flag)) => assert_eq!(value, &FieldValue::I64(i64::from(flag))),
                Ok(Value::Text(text)) => {
                    let FieldValue::String(back) = value else { panic!("{value:?}") };
                    assert_eq!(back.as_str(), &*text);
                }
                Err(reason) => {
                    assert_eq!(field.as_str(), "x.unavailable");
                    assert_eq!(value, &FieldValue::I64(i64::from(reason.code())));
                }
            }
        }
    }

    #[test]
    fn one_machine_or_one_item_and_the_edges_of_the_window() {
        let folder = Folder::new("export-some");
        let (archive, mut selection) = archive(&folder);
        let count = |selection: &Selection| csv(&mut Vec::new(), &archive, selection).unwrap();
        selection.machine = Some("lathe".into());
        assert_eq!(count(&selection).samples, 0);
        selection.machine = Some("laser".into());
        (selection.from_ms, selection.to_ms) = (NOON + 1000, NOON + 3000);
        assert_eq!(count(&selection).samples, 2);
        let empty = Folder::new("export-none");
        let none = csv(&mut Vec::new(), &Archive::in_folder(empty.path()), &selection);
        assert!(matches!(none, Err(ExportError::None)));
    }
}
