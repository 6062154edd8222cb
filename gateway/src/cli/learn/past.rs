//! `andon learn --replay`: what other bands would have made of what the journal still holds. It
//! reads the journal's folder and changes nothing, whether a gateway is running or not.

use std::path::PathBuf;
use std::time::Duration;

use andon_engine::plan::{ActivityPlan, Band};
use andon_engine::unit::parse_duration;
use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::LearnArgs;
use crate::cli::Usage;
use crate::cli::history;
use crate::config::plan::Plan;
use crate::hours::{self, MachineHours, Window};
use crate::journal::{Reader, Stream};
use crate::kinds::HYSTERESIS;
use crate::learn::bands::Bands;
use crate::learn::replay::{Answer, Question, Replay};

/// Intervals shown to a person; `--json` has all.
const INTERVALS_MAX: usize = 100;

/// Other bands; what is not said stays as it is configured.
#[derive(Debug, Args)]
pub(super) struct PastArgs {
    /// Ask the journal what other bands would have made of the time --from … --to
    #[arg(long, requires = "from")]
    pub(super) replay: bool,
    /// End of the window, excluded; as --from, and `now`
    #[arg(long, allow_hyphen_values = true, default_value = "now", requires = "replay")]
    to: String,
    /// Where off ends and idle begins
    #[arg(long, value_name = "POWER", value_parser = super::watts, requires = "replay")]
    idle_above: Option<f64>,
    /// Where idle is left again; 10 % below
    #[arg(long, value_name = "POWER", value_parser = super::watts, requires = "replay")]
    idle_below: Option<f64>,
    /// Where idle ends and run begins
    #[arg(long, value_name = "POWER", value_parser = super::watts, requires = "replay")]
    run_above: Option<f64>,
    /// Where run is left again; 10 % below
    #[arg(long, value_name = "POWER", value_parser = super::watts, requires = "replay")]
    run_below: Option<f64>,
    /// How long a higher band must hold
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "replay")]
    enter_for: Option<Duration>,
    /// How long a lower band must hold
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "replay")]
    exit_for: Option<Duration>,
    /// The journal's folder, instead of the configuration's
    #[arg(long, value_name = "DIR", requires = "replay")]
    journal: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Answers it on stdout.
pub(super) fn run(args: &LearnArgs, plan: &Plan) -> anyhow::Result<()> {
    let position = super::position(plan, &args.machine)?;
    let machine = &plan.engine.machines[position];
    let mut signals = machine.activity.iter();
    let Some(&ActivityPlan::Power { item, idle, run, enter_for, exit_for }) =
        signals.find(|signal| matches!(signal, ActivityPlan::Power { .. }))
    else {
        bail!("the activity of machine {:?} is not told from a power", args.machine);
    };
    let before = Bands { idle, run, enter_for, exit_for };
    let after = args.past.bands(before)?;
    let signal = &plan.engine.items[item.0 as usize];
    let zone = TimeZone::get(&plan.site.time_zone)
        .with_context(|| format!("time zone {:?}", plan.site.time_zone))?;
    let from = args.from.as_deref().unwrap_or("-24h");
    let window = history::window(from, &args.past.to, Timestamp::now(), &zone)?;
    let folder = args.past.journal.clone().unwrap_or_else(|| plan.state_dir.join("journal"));
    let reader = Reader::open(&folder)
        .with_context(|| format!("there is no journal in {}", folder.display()))?;
    let question = Question {
        machine: machine.id.clone(),
        item: signal.item.name.clone(),
        stale_after: signal.stale_after,
        plans: [before.plan(item), after.plan(item)],
    };
    let (answer, counted) = answer(&reader, question, window)?;
    let told = match args.json {
        true => format!("{}\n", as_json(window, counted.as_ref(), &answer)),
        false => as_table(window, &zone, counted.as_ref(), &answer)?,
    };
    crate::cli::put(&told)
}

/// What the journal holds, under both opinions, and what was counted while it happened.
fn answer(
    reader: &Reader,
    question: Question,
    window: Window,
) -> anyhow::Result<(Answer, Option<MachineHours>)> {
    let (machine, item) = (question.machine.clone(), question.item.clone());
    let mut replay = Replay::new(question);
    reader.records(Stream::Events)?.each(|record| replay.note_event(&record))?;
    reader.records(Stream::Telemetry)?.each(|record| replay.note_telemetry(&record))?;
    if replay.samples == 0 {
        bail!("the journal holds no sample of {item} of {machine}");
    }
    let counted = hours::fold(reader)?.within(window);
    Ok((replay.within(window), counted.into_iter().find(|hours| hours.machine == machine)))
}

impl PastArgs {
    /// The bands as they would be.
    fn bands(&self, now: Bands) -> anyhow::Result<Bands> {
        let band = |above: Option<f64>, below: Option<f64>, now: Band, least: f64| match above {
            Some(enter) => {
                Band { enter, exit: below.unwrap_or((enter * (1.0 - HYSTERESIS)).max(least)) }
            }
            None => Band { exit: below.unwrap_or(now.exit), ..now },
        };
        let idle = band(self.idle_above, self.idle_below, now.idle, 0.0);
        let run = band(self.run_above, self.run_below, now.run, idle.enter);
        let enter_for = self.enter_for.unwrap_or(now.enter_for);
        let exit_for = self.exit_for.unwrap_or(now.exit_for);
        let bands = Bands { idle, run, enter_for, exit_for };
        let bands = bands.checked().map_err(|why| Usage(why.to_string()))?;
        let same = || Usage("these are the bands as they are: name others".to_owned());
        anyhow::ensure!(bands != now, same());
        Ok(bands)
    }
}

fn as_json(window: Window, counted: Option<&MachineHours>, answer: &Answer) -> serde_json::Value {
    json!({ "v": 1, "window": window, "counted": counted, "replay": answer })
}

/// Minutes per state, and the intervals that would change.
fn as_table(
    window: Window,
    zone: &TimeZone,
    counted: Option<&MachineHours>,
    answer: &Answer,
) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let local = |ms: i64| -> anyhow::Result<String> {
        let local = Timestamp::from_millisecond(ms)?.to_zoned_datetime(zone.clone());
        Ok(local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    };
    let mut text = format!("minutes from {} to {}\n", local(window.from_ms)?, local(window.to_ms)?);
    writeln!(
        text,
        "{:<8} {:>10} {:>10} {:>10} {:>11}",
        "", "counted", "before", "after", "difference"
    )?;
    let Answer { before, after, changed } = answer;
    let rows = [
        ("run", counted.map(|c| c.run_ms), before.run_ms, after.run_ms),
        ("idle", counted.map(|c| c.idle_ms), before.idle_ms, after.idle_ms),
        ("off", counted.map(|c| c.off_ms), before.off_ms, after.off_ms),
        ("unknown", counted.map(|c| c.unknown_ms), before.unknown_ms, after.unknown_ms),
    ];
    let minutes = |ms: u64| ms as f64 / 60_000.0;
    for (state, counted, before, after) in rows {
        let counted = counted.map_or("–".to_owned(), |ms| format!("{:.2}", minutes(ms)));
        let (before, after) = (minutes(before), minutes(after));
        let difference = after - before;
        writeln!(
            text,
            "{state:<8} {counted:>10} {before:>10.2} {after:>10.2} {difference:>+11.2}"
        )?;
    }
    if let Some(fault) = counted.map(|counted| counted.fault_ms).filter(|ms| *ms > 0) {
        writeln!(text, "fault    {:>10.2}   (not told from a power)", minutes(fault))?;
    }
    for change in changed.iter().take(INTERVALS_MAX) {
        let (from, to) = (local(change.span.from_ms)?, local(change.span.to_ms)?);
        let length = minutes(change.span.length());
        let (before, after) = (change.before.word(), change.after.word());
        writeln!(text, "{from}  {to}  {length:>8.2} min  {before} → {after}")?;
    }
    if changed.len() > INTERVALS_MAX {
        writeln!(text, "and {} more; --json has them all", changed.len() - INTERVALS_MAX)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::replay::{Changed, Sums};
    use andon_engine::event::{Activity, Event};
    use andon_engine::plan::ItemIndex;
    use andon_engine::time::BootTime;
    use andon_engine::value::Value;
    use expect_test::expect;

    use crate::config::plan::JournalPlan;
    use crate::journal::tests::Folder;
    use crate::journal::{BootId, Journal, Observation, Payload};

    fn none() -> PastArgs {
        PastArgs {
            replay: true,
            to: "now".into(),
            idle_above: None,
            idle_below: None,
            run_above: None,
            run_below: None,
            enter_for: None,
            exit_for: None,
            journal: None,
        }
    }

    #[test]
    fn what_is_not_said_stays_and_nonsense_is_refused() {
        let now = Bands {
            idle: Band { enter: 15.0, exit: 12.0 },
            run: Band { enter: 120.0, exit: 100.0 },
            enter_for: Duration::from_secs(3),
            exit_for: Duration::from_secs(10),
        };
        let other = PastArgs { run_above: Some(200.0), ..none() }.bands(now).unwrap();
        assert_eq!(other.run, Band { enter: 200.0, exit: 180.0 });
        assert_eq!((other.idle, other.exit_for), (now.idle, now.exit_for));
        assert!(none().bands(now).is_err());
        let upside_down = PastArgs { run_above: Some(10.0), ..none() }.bands(now);
        assert!(upside_down.unwrap_err().to_string().contains("run_above"));
    }

    #[test]
    fn a_journal_on_disk_is_asked_and_left_as_it_is() {
        const NOON: i64 = 1_790_000_000_000;
        let folder = Folder::new("learn");
        let sizes = JournalPlan { telemetry_bytes: 0, sync: Duration::from_secs(5) };
        let journal = Journal::open(folder.path(), &sizes, BootId([7; 16])).unwrap();
        let at = |second: u64| BootTime::from_millis(second * 1000);
        let began = Event::Started { at: at(0), version: "1".into() };
        let clock = Event::Clock { at: at(0), wall_ms: NOON };
        journal.append([began, clock].map(Payload::Event).to_vec());
        let seen = |second| {
            let watts = if second < 60 { 150.0 } else { 40.0 };
            let items = vec![("power.active".into(), Ok(Value::Number(watts)))];
            Payload::Observation(Observation { machine: "saw".into(), at: at(second), items })
        };
        journal.append((0..121).map(seen).collect());
        journal.close();
        let before = Bands {
            idle: Band { enter: 15.0, exit: 12.0 },
            run: Band { enter: 200.0, exit: 180.0 },
            enter_for: Duration::from_secs(2),
            exit_for: Duration::from_secs(4),
        };
        let after = PastArgs { run_above: Some(100.0), ..none() }.bands(before).unwrap();
        let item = ItemIndex(0);
        let ask = |machine: &str| {
            let question = Question {
                machine: machine.into(),
                item: "power.active".into(),
                stale_after: Duration::from_secs(5),
                plans: [before.plan(item), after.plan(item)],
            };
            let window = Window { from_ms: NOON, to_ms: NOON + 180_000 };
            answer(&Reader::open(folder.path()).unwrap(), question, window)
        };
        let (told, counted) = ask("saw").unwrap();
        assert_eq!((told.before.run_ms, told.before.idle_ms), (0, 120_000));
        assert_eq!((told.after.run_ms, told.after.unknown_ms), (60_000, 60_000));
        // No state was ever counted: the engine of this test wrote none.
        assert_eq!(counted, None);
        assert!(ask("lathe").unwrap_err().to_string().contains("no sample"));
    }

    #[test]
    fn the_table_shows_minutes_before_and_after_and_where() {
        let sums = |run_ms, idle_ms| Sums { run_ms, idle_ms, off_ms: 0, unknown_ms: 60_000 };
        let span = Window { from_ms: 1_790_000_000_000, to_ms: 1_790_000_090_000 };
        let changed = Changed { span, before: Activity::Idle, after: Activity::Run };
        let (before, after) = (sums(0, 540_000), sums(90_000, 450_000));
        let answer = Answer { before, after, changed: vec![changed] };
        let window = Window { from_ms: 1_790_000_000_000, to_ms: 1_790_000_600_000 };
        let table = as_table(window, &TimeZone::UTC, None, &answer).unwrap();
        expect![[r#"
            minutes from 2026-09-21T14:13:20+00:00 to 2026-09-21T14:23:20+00:00
                        counted     before      after  difference
            run               –       0.00       1.50       +1.50
            idle              –       9.00       7.50       -1.50
            off               –       0.00       0.00       +0.00
            unknown           –       1.00       1.00       +0.00
            2026-09-21T14:13:20+00:00  2026-09-21T14:14:50+00:00      1.50 min  idle → run
        "#]]
        .assert_eq(&table);
    }
}
