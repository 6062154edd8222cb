//! `andon export`: every sample of a stretch of time, as CSV or line protocol, losslessly.
//!
//! It reads the history file itself, and from the journal what is not in that yet, beside a running
//! gateway or without one, and changes nothing.
//! Data goes to stdout; what is said about it goes to stderr. Memory is bounded by one series of
//! one day.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use andon_engine::plan::ItemPlan;
use andon_engine::value::{Measured, Value};

use super::asking::plan_of;
use super::history::window;
use crate::config::did_you_mean;
use crate::history::export::{ExportError, Exported, Sample, Selection};
use crate::history::{Archive, tail};
use crate::journal::Stream;
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
    /// The tag `site` of line protocol; the configuration's without it, needed with --state.
    #[arg(long)]
    site: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// time,machine,item,value,reason; units are those of the item's name, see "andon profile items"
    Csv,
    /// `InfluxDB` line protocol, as the recorder writes it; its timestamps are milliseconds
    Lp,
}

/// Runs the command.
///
/// # Errors
/// When the window or the configuration cannot be read, there is neither history nor journal, or
/// nothing of that name.
pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    let place = place(&args)?;
    let window = window(&args.from, &args.to, Timestamp::now(), &place.zone)?;
    let selection = Selection {
        from_ms: window.from_ms,
        to_ms: window.to_ms,
        machine: args.machine,
        item: args.item,
    };
    let files = Files::in_folder(&place.state);
    let within = || format!("in {}", place.state.display());
    let named = files.check(&selection, place.names);
    named.map_err(
        |error| if error.is::<super::Usage>() { error } else { error.context(within()) },
    )?;
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = match args.format {
        Format::Csv => csv(&mut out, &files, &selection),
        Format::Lp => lines(&mut out, &files, &selection, &place.site),
    };
    let exported = match exported.and_then(|exported| {
        out.flush()?;
        Ok(exported)
    }) {
        // Whoever reads has seen enough.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(());
        }
        exported => exported.with_context(within)?,
    };
    tell(&exported, selection.to_ms);
    Ok(())
}

/// Says what was exported, until when, and what is missing.
fn tell(exported: &Exported, to_ms: i64) {
    let Exported { samples, of_journal, .. } = *exported;
    tracing::info!(samples, from_the_journal = of_journal.unwrap_or(0), "Exported.");
    let until = exported.until_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match (of_journal, until) {
        (None, Some(until)) if until.as_millisecond() < to_ms => tracing::warn!(
            %until,
            "There is no journal beside the history file: what had not come to history yet is missing."
        ),
        (None, None) => tracing::warn!(
            "The history file is empty, and there is no journal beside it that would be read instead."
        ),
        _ => {}
    }
    if exported.undated > 0 {
        tracing::warn!(
            records = exported.undated,
            "Records of the journal have no time and are not exported: the clock of this gateway is \
             not synchronised, or was not when they were read. Those of its present run follow once \
             it is; where there is no NTP and the clock is right, set trust_wall = true in [clock]."
        );
    } else if samples == 0 && of_journal.is_some() {
        tracing::warn!("There are no samples of that in this time.");
    }
    if exported.damaged > 0 {
        tracing::error!(rows = exported.damaged, "Rows were damaged; their samples are missing.");
    }
    tell_quarantined(exported);
}

/// Says what of the journal could not be read, and what that means for what was exported.
fn tell_quarantined(exported: &Exported) {
    if exported.quarantined > 0 {
        tracing::error!(
            stream = Stream::Telemetry.word(),
            blocks = exported.quarantined,
            "Blocks of the journal were damaged; samples that only they had are missing."
        );
    }
    if exported.events_quarantined > 0 {
        tracing::error!(
            stream = Stream::Events.word(),
            blocks = exported.events_quarantined,
            without_a_time = exported.undated,
            "Blocks of the journal were damaged, perhaps with what the clock was: samples from the \
             journal that have no time without it are missing, others may have a time that is a \
             little off and be in a store already under another. Those of the history file are right."
        );
    }
}

/// What the command is told by a configuration, or must do without.
struct Place {
    state: PathBuf,
    /// The site's id.
    site: String,
    /// Of local times.
    zone: TimeZone,
    /// What is configured.
    names: Names,
}

/// Machines and their items.
type Names = BTreeSet<(String, String)>;

fn place(args: &ExportArgs) -> anyhow::Result<Place> {
    let site = args.site.clone();
    if let Some(state) = args.state.clone() {
        let line_protocol = matches!(args.format, Format::Lp);
        let Some(site) = site.or_else(|| (!line_protocol).then(String::new)) else {
            let what = "with --state nobody says which site this is: name it with --site, as its \
                        lines have it in the store";
            return Err(super::Usage(what.to_owned()).into());
        };
        return Ok(Place { state, site, zone: TimeZone::system(), names: Names::new() });
    }
    let plan = plan_of(&args.config, "--state")?;
    let machine =
        |item: &ItemPlan| plan.engine.machines[usize::from(item.machine.0)].id.to_string();
    let items = plan.engine.items.iter();
    Ok(Place {
        site: site.unwrap_or_else(|| plan.site.id.to_string()),
        zone: TimeZone::get(&plan.site.time_zone)?,
        names: items.map(|item| (machine(item), item.item.name.to_string())).collect(),
        state: plan.state_dir,
    })
}

/// What is read: the history file, and the journal beside it.
struct Files {
    archive: Archive,
    journal: PathBuf,
}

impl Files {
    fn in_folder(state: &Path) -> Self {
        Self { archive: Archive::in_folder(state), journal: state.join("journal") }
    }

    fn export(
        &self,
        selection: &Selection,
        write: &mut dyn FnMut(Sample<'_>) -> io::Result<()>,
    ) -> Result<Exported, ExportError> {
        self.archive.export_with(Some(&self.journal), selection, write)
    }

    /// Refuses what is neither configured nor in the file nor in the journal.
    fn check(&self, selection: &Selection, mut names: Names) -> anyhow::Result<()> {
        if unknown(selection, &names).is_none() {
            return Ok(());
        }
        names.extend(self.archive.series()?);
        if unknown(selection, &names).is_none() {
            return Ok(());
        }
        names.extend(tail::series(&self.journal)?);
        // Where there is nothing at all, that is what must be said.
        match unknown(selection, &names).filter(|_| !names.is_empty()) {
            Some(what) => Err(super::Usage(what).into()),
            None => Ok(()),
        }
    }
}

/// What was selected and is not there, with what may have been meant.
fn unknown(selection: &Selection, names: &Names) -> Option<String> {
    let hint = |hint: Option<String>| hint.map_or_else(String::new, |hint| format!("; {hint}"));
    let Selection { machine, item, .. } = selection;
    if let Some(machine) = machine {
        let machines: BTreeSet<&str> = names.iter().map(|(machine, _)| &**machine).collect();
        if !machines.contains(&**machine) {
            let hint = hint(did_you_mean(machine, machines));
            return Some(format!("there is no machine {machine:?}{hint}"));
        }
    }
    let item = item.as_deref()?;
    let own = names.iter().filter(|(of, _)| machine.as_ref().is_none_or(|machine| machine == of));
    let items: BTreeSet<&str> = own.map(|(_, item)| &**item).collect();
    if items.contains(item) {
        return None;
    }
    let hint = hint(did_you_mean(item, items));
    Some(match machine {
        Some(machine) => format!("{machine} has no item {item:?}{hint}"),
        None => format!("no machine has an item {item:?}{hint}"),
    })
}

type Outcome = Result<Exported, ExportError>;

/// Numbers as the shortest digits that read back as the same bits, flags as `true` and `false`,
/// texts always quoted, so that `"1"` is no number; a value that is missing is empty, with its reason.
fn csv(out: &mut impl Write, files: &Files, selection: &Selection) -> Outcome {
    // Where nothing can be read there is an error alone, and no empty table.
    let mut head = Some("time,machine,item,value,reason");
    let exported = files.export(selection, &mut |sample| {
        if let Some(head) = head.take() {
            writeln!(out, "{head}")?;
        }
        let Sample { at_ms, machine, item, measured } = sample;
        let time = Timestamp::from_millisecond(at_ms).map_err(io::Error::other)?;
        write!(out, "{time:.3},{},{},", plain(machine), plain(item))?;
        match measured {
            Ok(Value::Number(number)) => writeln!(out, "{number:?},"),
            Ok(Value::Flag(flag)) => writeln!(out, "{flag},"),
            Ok(Value::Text(text)) => writeln!(out, "{},", quoted(&text)),
            Err(reason) => writeln!(out, ",{reason}"),
        }
    })?;
    if let Some(head) = head {
        writeln!(out, "{head}")?;
    }
    Ok(exported)
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

fn lines(out: &mut impl Write, files: &Files, selection: &Selection, site: &str) -> Outcome {
    let mut text = String::new();
    files.export(selection, &mut |sample| {
        let measured: &Measured = &sample.measured;
        text.clear();
        line::observation(&mut text, site, sample.machine, sample.at_ms, [(sample.item, measured)]);
        out.write_all(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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
    fn files(folder: &Folder) -> (Files, Selection) {
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
        (
            Files::in_folder(folder.path()),
            Selection { from_ms: NOON, to_ms: NOON + 60_000, machine, item },
        )
    }

    #[test]
    fn csv_reads_back_as_what_was_measured() {
        let folder = Folder::new("export-csv");
        let (files, selection) = files(&folder);
        let mut out = Vec::new();
        let exported = csv(&mut out, &files, &selection).unwrap();
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
        let (files, selection) = files(&folder);
        let mut out = Vec::new();
        lines(&mut out, &files, &selection, "shop").unwrap();
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
        let (files, mut selection) = files(&folder);
        let count = |selection: &Selection| csv(&mut Vec::new(), &files, selection).unwrap();
        selection.machine = Some("lathe".into());
        let mut out = Vec::new();
        assert_eq!(csv(&mut out, &files, &selection).unwrap().samples, 0);
        assert_eq!(String::from_utf8(out).unwrap(), "time,machine,item,value,reason\n");
        selection.machine = Some("laser".into());
        (selection.from_ms, selection.to_ms) = (NOON + 1000, NOON + 3000);
        assert_eq!(count(&selection).samples, 2);
        let empty = Folder::new("export-none");
        let mut out = Vec::new();
        let none = csv(&mut out, &Files::in_folder(empty.path()), &selection);
        assert!(matches!(none, Err(ExportError::None)));
        assert_eq!(String::from_utf8(out).unwrap(), "", "an error is no empty table");
    }

    #[test]
    fn a_name_that_was_mistyped_is_told_with_the_likest_and_one_that_is_known_is_not() {
        let folder = Folder::new("export-names");
        let (files, mut selection) = files(&folder);
        let configured = Names::from([("saw".to_owned(), "power.active".to_owned())]);
        let check = |selection: &Selection| files.check(selection, configured.clone());
        for (machine, item, told) in [
            (None, None, None),
            (Some("laser"), Some("x"), None),
            (Some("saw"), Some("power.active"), None),
            (None, Some("power.active"), None),
            (Some("lasr"), None, Some("there is no machine \"lasr\"; did you mean \"laser\"?")),
            (
                Some("saw"),
                Some("power.activ"),
                Some("saw has no item \"power.activ\"; did you mean \"power.active\"?"),
            ),
            (None, Some("zzz"), Some("no machine has an item \"zzz\"")),
        ] {
            selection.machine = machine.map(str::to_owned);
            selection.item = item.map(str::to_owned);
            let error = check(&selection).err();
            assert!(error.as_ref().is_none_or(anyhow::Error::is::<super::super::Usage>));
            assert_eq!(error.map(|error| error.to_string()).as_deref(), told);
        }
    }

    #[test]
    fn line_protocol_of_a_folder_needs_the_site_that_nobody_else_can_say() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: ExportArgs,
        }
        let place = |more: &[&str]| {
            let words = [&["export", "--from", "-1h", "--state", "/nonexistent"], more].concat();
            place(&<Cli as clap::Parser>::parse_from(words).args)
        };
        let refused = place(&["--format", "lp"]).err().unwrap();
        assert!(refused.to_string().contains("--site"), "{refused}");
        assert_eq!(place(&["--format", "lp", "--site", "shop"]).ok().unwrap().site, "shop");
        assert!(place(&[]).is_ok());
    }

    /// What is written to stderr at the end.
    fn told(exported: &Exported) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let into = lines.clone();
        let format = tracing_subscriber::fmt().without_time().with_ansi(false);
        let subscriber = format.with_writer(move || into.clone()).finish();
        tracing::subscriber::with_default(subscriber, || tell(exported, NOON));
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn damage_is_told_by_stream_with_what_it_means() {
        let exported = Exported { samples: 5, of_journal: Some(2), ..Exported::default() };
        assert!(!told(&exported).contains("ERROR"));
        let telemetry = told(&Exported { quarantined: 3, ..exported });
        assert_eq!(telemetry.matches("ERROR").count(), 1, "{telemetry}");
        assert!(telemetry.contains("stream=\"telemetry\" blocks=3"), "{telemetry}");
        let events = told(&Exported { events_quarantined: 2, undated: 7, ..exported });
        assert_eq!(events.matches("ERROR").count(), 1, "{events}");
        assert!(events.contains("stream=\"events\" blocks=2 without_a_time=7"), "{events}");
    }

    #[test]
    fn a_file_that_is_no_history_is_said_to_be_none_once() {
        let folder = Folder::new("export-garbage");
        std::fs::write(folder.path().join(crate::history::NAME), vec![b'x'; 8192]).unwrap();
        let selection = Selection { from_ms: 0, to_ms: 1, machine: None, item: None };
        let error = csv(&mut Vec::new(), &Files::in_folder(folder.path()), &selection);
        let told = format!("{:#}", anyhow::Error::from(error.err().unwrap()));
        assert_eq!(told, "history cannot be read: file is not a database");
    }
}
