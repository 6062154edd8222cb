//! `andon learn`: records what a machine draws while it is off, idle and running, and proposes its
//! bands; or asks the journal what other bands would have made of the past.
//!
//! It changes no configuration: the proposal is data, so it goes to stdout as the fragment to write
//! there, and everything said about it, prompts included, goes to stderr. [`meter`] is where samples
//! come from, [`past`] the question about the past; what is concluded is `crate::learn`'s.

mod meter;
mod past;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use andon_engine::item::{Item, Kind};
use andon_engine::plan::ActivityPlan;
use andon_engine::unit::{Unit, parse_as, parse_duration};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use self::meter::Meter;
use crate::cli::typed;
use crate::clock::boot_now;
use crate::config::plan::Plan;
use crate::learn::bands::{self, Lesson, SAMPLES_LEAST};
use crate::learn::{Phase, Recording, SAMPLES_MAX, Sample, drawing};

/// Longest recording of a phase.
const LENGTH_MAX: Duration = Duration::from_secs(3600);
/// The debounce that is proposed at least, unless the machine's kind knows better.
const DEBOUNCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));
/// A recording is no longer than this: three phases of [`SAMPLES_MAX`] lines.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A d′ beyond this says no more: levels without any noise are infinitely apart.
const D_PRIME_SHOWN: f64 = 99.9;
/// How often a line is written where there is no terminal to rewrite one on.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Arguments of `andon learn`.
#[derive(Debug, Args)]
pub struct LearnArgs {
    /// The machine
    machine: String,
    /// A configuration file, or a folder with andon.toml and conf.d
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    config: PathBuf,
    /// How long each phase is recorded
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = length)]
    length: Duration,
    /// Record this phase only, now and without asking, and add it to the recording that is kept
    #[arg(long, value_enum, requires = "keep", conflicts_with_all = ["from", "replay"])]
    phase: Option<Phase>,
    /// The machine has no idle: it is off or it runs, as a saw
    #[arg(long, conflicts_with = "replay")]
    without_idle: bool,
    /// Keep the recording in this file (JSON lines); phases that it has are replaced one by one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "replay"])]
    keep: Option<PathBuf>,
    /// A kept recording to propose bands from; with --replay, the begin of the window: RFC 3339,
    /// a local date or date and time, or `-7d` for that long ago
    #[arg(long, value_name = "FILE|TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// The power to learn from, instead of the one that the activity is told from
    #[arg(long, value_name = "ITEM")]
    item: Option<String>,
    /// Where the gateway is, instead of asking the configuration
    #[arg(long, env = "ANDON_URL")]
    url: Option<String>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    past: past::PastArgs,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    let most = LENGTH_MAX.as_secs();
    if length.is_zero() || length > LENGTH_MAX {
        return Err(format!("must be above 0 and at most {most} s"));
    }
    Ok(length)
}

/// `20 W`, or `20` for the same.
fn watts(text: &str) -> Result<f64, String> {
    let plain = text.trim().parse().ok().filter(|watts: &f64| watts.is_finite());
    plain.map_or_else(|| parse_as(text, Unit::Watt).map_err(|error| error.to_string()), Ok)
}

/// What is to be learnt of which machine.
struct Subject {
    machine: String,
    item: String,
    period: Duration,
    /// The debounce that is proposed at least.
    debounce: (Duration, Duration),
}

/// Runs the command: 0, 1 when bands are refused or nothing can be recorded, 78 for a broken
/// configuration.
pub fn run(args: LearnArgs) -> ExitCode {
    if let (Some(file), false) = (&args.from, args.past.replay) {
        return super::outcome(from_file(&args, Path::new(file)));
    }
    match super::load_plan(&args.config) {
        Ok(loaded) if args.past.replay => super::outcome(past::run(&args, &loaded.plan)),
        Ok(loaded) => super::asynchronously(record(args, loaded.plan)),
        Err(code) => code,
    }
}

/// Proposes from a kept recording; the configuration is asked for the machine's kind only.
fn from_file(args: &LearnArgs, file: &Path) -> anyhow::Result<()> {
    let recording = read(file)?;
    if recording.machine != args.machine {
        bail!("{} is a recording of machine {:?}", file.display(), recording.machine);
    }
    let plan = crate::config::load(&args.config).ok().map(|loaded| loaded.plan);
    let known = plan.and_then(|plan| {
        let machine = position(&plan, &args.machine).ok()?;
        Some(debounce(&plan, machine))
    });
    propose(args, &recording, known.unwrap_or(DEBOUNCE))
}

async fn record(args: LearnArgs, plan: Plan) -> anyhow::Result<()> {
    let subject = subject(&plan, &args)?;
    typed(enough(args.length, subject.period))?;
    let mut recording = match args.keep.as_deref().filter(|file| file.exists()) {
        Some(file) => read(file)?,
        None => Recording::new(
            &subject.machine,
            &subject.item,
            u64::try_from(subject.period.as_millis()).unwrap_or(u64::MAX),
        ),
    };
    if (&recording.machine, &recording.item) != (&subject.machine, &subject.item) {
        bail!("the file to keep is of {} {}", recording.machine, recording.item);
    }
    let mut meter = Meter::open(&plan, &subject, args.url.as_deref()).await?;
    tell(&format!("{} of {}, from {}", subject.item, subject.machine, meter.name()));
    let wanted = Phase::ALL.into_iter().filter(|phase| match args.phase {
        Some(only) => *phase == only,
        None => *phase != Phase::Idle || !args.without_idle,
    });
    for phase in wanted {
        if args.phase.is_none() {
            ask(phase).await?;
        }
        let samples = take(&mut meter, phase, args.length).await;
        recording.put(phase, samples);
        if let Some(file) = &args.keep {
            keep(file, &recording)?;
        }
    }
    let missing: Vec<Phase> = recording.missing();
    let missing = missing.iter().filter(|phase| **phase != Phase::Idle || !args.without_idle);
    let missing: Vec<&str> = missing.map(|phase| phase.word()).collect();
    if args.phase.is_some() && !missing.is_empty() {
        tell(&format!("Still to be recorded: {}.", missing.join(", ")));
        return Ok(());
    }
    propose(&args, &recording, subject.debounce)
}

/// Refuses at once what could only be refused after everything was recorded.
fn enough(length: Duration, period: Duration) -> anyhow::Result<()> {
    let least = period.saturating_mul(u32::try_from(SAMPLES_LEAST).unwrap_or(u32::MAX));
    if length < least {
        bail!(
            "--for {} s is too short: a phase needs {SAMPLES_LEAST} samples, and one comes every {} s; \
             record for {} s at least",
            length.as_secs_f64(),
            period.as_secs_f64(),
            least.as_secs_f64().ceil()
        );
    }
    Ok(())
}

/// Tells a person what to do and waits for Enter.
async fn ask(phase: Phase) -> anyhow::Result<()> {
    let what = match phase {
        Phase::Off => "Switch the machine OFF",
        Phase::Idle => "Switch it ON and leave it IDLE",
        Phase::Run => "Let it WORK as it usually does, pauses included",
    };
    tell(&format!("{what}, then press Enter."));
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    if read.await?? == 0 {
        bail!("there is nobody to press Enter; record with --phase off, idle and run --keep FILE");
    }
    Ok(())
}

/// Records one phase.
async fn take(meter: &mut Meter, phase: Phase, length: Duration) -> Vec<Sample> {
    let start = boot_now();
    let (mut samples, mut told) = (Vec::new(), None);
    loop {
        let elapsed = boot_now().since(start);
        if elapsed >= length || samples.len() >= SAMPLES_MAX {
            break;
        }
        let Some((at, watts)) = meter.next().await else { continue };
        // A report from before the phase began belongs to the one before.
        if at >= start {
            let at_ms = u64::try_from(at.since(start).as_millis()).unwrap_or(u64::MAX);
            samples.push(Sample { at_ms, watts });
        }
        let left = length.saturating_sub(boot_now().since(start)).as_secs();
        let value = watts.map_or_else(|why| format!("– ({why})"), |watts| format!("{watts:.1} W"));
        let line =
            format!("{:>4} {value:>14} {left:>5} s left, {} samples", phase.word(), samples.len());
        if std::io::stderr().is_terminal() {
            write!(std::io::stderr(), "\r{line}\x1b[K").ok();
        } else if told.is_none_or(|told| boot_now().since(told) >= LINE_EVERY) {
            told = Some(boot_now());
            tell(&line);
        }
    }
    if std::io::stderr().is_terminal() {
        tell("");
    }
    samples
}

/// Shows what was recorded and prints the fragment, or fails with the reason for having none.
fn propose(
    args: &LearnArgs,
    recording: &Recording,
    debounce: (Duration, Duration),
) -> anyhow::Result<()> {
    let idle = !recording.samples(Phase::Idle).is_empty();
    if !idle && !args.without_idle {
        bail!("idle was not recorded; a machine that has none wants --without-idle");
    }
    let mut recording = recording.clone();
    if args.without_idle {
        recording.put(Phase::Idle, Vec::new());
    }
    let lesson = bands::learn(&recording, debounce);
    tell(&drawing::histogram(&recording, lesson.bands.as_ref().ok()));
    for apart in &lesson.separations {
        tell(&format!(
            "{} and {}: d′ {:.1}, {:.1} % on the wrong side of the best threshold",
            apart.lower.word(),
            apart.upper.word(),
            apart.d_prime.min(D_PRIME_SHOWN),
            apart.overlap * 100.0
        ));
    }
    for odd in &lesson.oddities {
        tell(&format!("Look: {odd}."));
    }
    if args.json {
        super::say(&report(&recording, &lesson).to_string())?;
    }
    match lesson.bands {
        Ok(bands) => {
            if !args.json {
                tell("In place of the machine's activity in the configuration:");
                super::say(bands.fragment(&recording.machine, &recording.item).trim_end())?;
            }
            Ok(())
        }
        Err(why) => bail!("no bands are proposed: {why}"),
    }
}

/// The same for programs: watts and milliseconds.
fn report(recording: &Recording, lesson: &Lesson) -> serde_json::Value {
    let bands = lesson.bands.as_ref().ok().map(|bands| {
        json!({
            "idle_above": bands.idle.enter,
            "idle_below": bands.idle.exit,
            "run_above": bands.run.enter,
            "run_below": bands.run.exit,
            "enter_for_ms": bands.enter_for.as_millis(),
            "exit_for_ms": bands.exit_for.as_millis(),
        })
    });
    let separations = lesson.separations.iter().map(|apart| {
        json!({
            "lower": apart.lower,
            "upper": apart.upper,
            // JSON has no infinity: two constants have no deviation to be told apart by.
            "d_prime": Some(apart.d_prime).filter(|d_prime| d_prime.is_finite()),
            "overlap": apart.overlap,
        })
    });
    json!({
        "v": 1,
        "machine": recording.machine,
        "item": recording.item,
        "bands": bands,
        "refused": lesson.bands.as_ref().err().map(ToString::to_string),
        "separations": separations.collect::<Vec<_>>(),
        "look": lesson.oddities.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn subject(plan: &Plan, args: &LearnArgs) -> anyhow::Result<Subject> {
    let machine = position(plan, &args.machine)?;
    let own = |item: &andon_engine::plan::ItemPlan| usize::from(item.machine.0) == machine;
    let power = |item: &Item| item.unit == Unit::Watt && item.kind == Kind::Gauge;
    let items = || plan.engine.items.iter().filter(|item| own(item));
    let followed = plan.engine.machines[machine].activity.iter().find_map(|signal| match signal {
        ActivityPlan::Power { item, .. } => Some(*item),
        ActivityPlan::Controller { .. } | ActivityPlan::Input { .. } => None,
    });
    let found = match (&args.item, followed) {
        (Some(wanted), _) => items().find(|item| *item.item.name == **wanted),
        (None, Some(item)) => plan.engine.items.get(item.0 as usize),
        (None, _) => {
            let first = items().find(|item| power(&item.item));
            items().find(|item| &*item.item.name == "power.active").or(first)
        }
    };
    let item = found.filter(|item| power(&item.item)).with_context(|| {
        let known: Vec<&str> = items().map(|item| &*item.item.name).collect();
        format!("machine {:?} has no such power; it has {}", args.machine, known.join(", "))
    })?;
    Ok(Subject {
        machine: args.machine.clone(),
        item: item.item.name.to_string(),
        period: item.period,
        debounce: debounce(plan, machine),
    })
}

fn position(plan: &Plan, id: &str) -> anyhow::Result<usize> {
    let machines = &plan.engine.machines;
    machines.iter().position(|machine| &*machine.id == id).with_context(|| {
        let known: Vec<&str> = machines.iter().map(|machine| &*machine.id).collect();
        format!("there is no machine {id:?}; there are {}", known.join(", "))
    })
}

fn debounce(plan: &Plan, machine: usize) -> (Duration, Duration) {
    let kind = crate::kinds::of(&plan.machines[machine].kind);
    kind.map_or(DEBOUNCE, |kind| (kind.activity.enter_for, kind.activity.exit_for))
}

fn read(file: &Path) -> anyhow::Result<Recording> {
    let cannot = || format!("cannot read the recording {}", file.display());
    let bytes = std::fs::metadata(file).with_context(cannot)?.len();
    anyhow::ensure!(bytes <= FILE_BYTES_MAX, "{} is too long", file.display());
    let text = std::fs::read_to_string(file).with_context(cannot)?;
    Recording::from_lines(&text).with_context(cannot)
}

/// Written beside and renamed: an interrupted write costs no phase that was recorded before.
fn keep(file: &Path, recording: &Recording) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, recording.to_lines())
        .and_then(|()| std::fs::rename(&beside, file))
        .with_context(|| format!("cannot keep the recording in {}", file.display()))
}

/// Says something to the person in front of the terminal.
fn tell(text: &str) {
    super::talk(&format!("{}\n", text.trim_end()));
}

#[cfg(test)]
#[path = "learn/tests.rs"]
mod tests;
