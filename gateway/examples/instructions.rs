//! Fixed work on the ways that every reading takes, for a program that counts instructions:
//! `tests/instructions` builds it, and a test compares the counts with those that are committed.
//!
//! `instructions WORK ROUNDS`: `readings` are so many polls of a meter decoded, normalised and stepped
//! through the engine with a rule; `journal` so many observations of ten items written to a journal,
//! `follow` the same, followed, `messages` the same, made into messages; `shop` so many observations
//! made up, `history` the same, written as an hour and merged as a day, `curves` the same, asked for as
//! curves of the hundred series. Nothing here measures time.

#[path = "data/shop.rs"]
mod shop;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon::config::plan::JournalPlan;
use andon::history::Periods;
use andon::history::offline::Offline;
use andon::history::query::Question;
use andon::journal::{BootId, Journal, Observation, Payload, Stream};
use andon::wire::{Header, ObservationMessage};
use andon_adapters::modbus::{Holes, Words, coalesce, decode};
use andon_adapters::profile::{Library, Profile};
use andon_engine::engine::Restored;
use andon_engine::plan::{
    ActivityPlan, Band, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand, Plan,
};
use andon_engine::rules::{self, RuleSource};
use andon_engine::time::BootTime;
use andon_engine::value::Value;
use andon_engine::{Engine, Input};
use anyhow::Context as _;
use shop::{BEGIN_MS, BOOT, DAY_S, Shop};

/// The meter whose polls are decoded.
const METER: &str = "eastron/sdm630";
/// Machines whose observations are written, in turn.
const MACHINES: u64 = 10;
/// Items of each of them.
const ITEMS: &[&str] = &[
    "power.active",
    "voltage.l1",
    "voltage.l2",
    "voltage.l3",
    "current.l1",
    "current.l2",
    "current.l3",
    "frequency",
    "temperature",
    "energy.import",
];

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let work = arguments.next().context("which work?")?;
    let rounds: u64 = arguments.next().context("how many rounds?")?.parse()?;
    match work.as_str() {
        "readings" => readings(rounds),
        "journal" => journal(rounds, Then::Close),
        "follow" => journal(rounds, Then::Follow),
        "messages" => journal(rounds, Then::Publish),
        "shop" | "history" | "curves" => history(&work, rounds),
        other => anyhow::bail!("{other} is no work"),
    }
}

fn readings(rounds: u64) -> anyhow::Result<()> {
    let (library, _) = Library::load(None);
    let profile = library.get(METER).context("the meter's profile")?;
    let profile = &*profile;
    let items: Vec<usize> = (0..profile.items.len()).collect();
    let batches = coalesce(profile, &items, &Holes::default());
    let mut engine = Engine::new(plan(profile)?, Restored::default());
    let mut out = Vec::new();
    for round in 0..rounds {
        let at = BootTime((round + 1) * 1_000_000_000);
        let mut readings = Vec::new();
        for batch in &batches {
            // 0x43 in the upper byte: floats between 128 and 256.
            let low = u16::try_from(round % 64).unwrap_or(0);
            let words: Vec<u16> = (0..batch.block.count).map(|at| 0x4300 + at % 7 + low).collect();
            let decoded = decode(profile, batch, Words::Registers(&words));
            let index = |item| ItemIndex(u32::try_from(item).unwrap_or(u32::MAX));
            readings.extend(decoded.into_iter().map(|(item, measured)| (index(item), measured)));
        }
        engine.step(at, Input::Readings { at, readings }, &mut out);
        engine.step(at, Input::Tick, &mut out);
        black_box(&out);
        out.clear();
    }
    Ok(())
}

/// A machine with all items of the profile, an activity and a rule.
fn plan(profile: &Profile) -> anyhow::Result<Plan> {
    let item = |item: &andon_adapters::profile::ProfileItem| {
        ItemPlan::new(MachineIndex(0), Measurand::every(item.item.clone(), Duration::from_secs(1)))
    };
    let power = profile.position("power.active").context("a power")?;
    let activity = ActivityPlan::Power {
        item: ItemIndex(u32::try_from(power)?),
        idle: Band { enter: 15.0, exit: 12.0 },
        run: Band { enter: 120.0, exit: 100.0 },
        enter_for: Duration::from_secs(3),
        exit_for: Duration::from_secs(10),
    };
    let machine = MachinePlan { id: "laser".into(), activity: vec![activity], energy: None };
    let mut plan = Plan {
        machines: vec![machine],
        items: profile.items.iter().map(item).collect(),
        ..Plan::default()
    };
    let source = RuleSource {
        id: "rule".into(),
        machine: "laser".into(),
        when: "power.active > 1.5 kW and execution == running".into(),
        hold_for: Some("1 s".into()),
        ..RuleSource::default()
    };
    let rule = rules::parse(&source, &plan);
    plan.rules.push(rule.map_err(|problems| anyhow::anyhow!("{problems:?}"))?);
    Ok(plan)
}

/// What becomes of a journal that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Follow,
    Publish,
}

fn journal(rounds: u64, then: Then) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("andon-instructions-{}", std::process::id()));
    let plan = JournalPlan { telemetry_bytes: 1 << 30, sync: Duration::from_secs(3600) };
    let boot = BootId([1; 16]);
    let journal = Journal::open(&dir, &plan, boot)?;
    let items: Vec<Arc<str>> = ITEMS.iter().map(|item| Arc::from(*item)).collect();
    let machines: Vec<Arc<str>> =
        (0..MACHINES).map(|machine| format!("machine-{machine}").into()).collect();
    journal.append((0..rounds).map(|round| observation(round, &machines, &items)).collect());
    journal.close();
    if then != Then::Close {
        let journal = Journal::open(&dir, &plan, boot)?;
        let mut follower = journal.follow(Stream::Telemetry, None);
        loop {
            let records = follower.next(64);
            if records.is_empty() {
                break;
            }
            for record in records {
                let header = Header::new(boot, record.seq, record.prev, Some(1_790_000_000_000));
                match &record.payload {
                    Payload::Observation(observation) if then == Then::Publish => {
                        black_box(ObservationMessage::encoded(header, observation));
                    }
                    payload => {
                        black_box(payload);
                    }
                }
            }
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Decimals that move a little, as meters deliver them.
fn observation(round: u64, machines: &[Arc<str>], items: &[Arc<str>]) -> Payload {
    let values = (0u64..).zip(items).map(|(index, item)| {
        let steps = 2300 + index * 37 + (round * 7 + index * 13) % (11 + index);
        let value = f64::from(u32::try_from(steps).unwrap_or(0)) / 10.0;
        (Arc::clone(item), Ok(Value::Number(value)))
    });
    let machine = Arc::clone(&machines[usize::try_from(round % MACHINES).unwrap_or(0)]);
    let at = BootTime((round / MACHINES + 1) * 1_000_000_000);
    Payload::Observation(Observation { machine, at, items: values.collect() })
}

fn history(work: &str, rounds: u64) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("andon-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let done = in_folder(&dir, work, rounds);
    std::fs::remove_dir_all(&dir)?;
    done
}

fn in_folder(dir: &Path, work: &str, rounds: u64) -> anyhow::Result<()> {
    let (mut shop, mut seq) = (Shop::new(), 0);
    let mut periods = Periods::default();
    for machine in &shop.machines {
        periods.note(machine, shop.items.iter().map(|item| (item.clone(), Duration::from_secs(1))));
    }
    let seconds = rounds / shop::MACHINES as u64;
    let mut history = Offline::open(dir, BOOT, Arc::new(shop::wall_ms), periods)?;
    // What is made up two days later shows that hour and day are over.
    for second in (1..=seconds).chain([2 * DAY_S]) {
        for record in shop.second(second, &mut seq) {
            if work == "shop" {
                black_box(&record);
            } else {
                history.take(&record)?;
            }
        }
    }
    history.flush()?;
    history.merge()?;
    if work == "curves" {
        let all = shop.machines.iter().flat_map(|of| shop.items.iter().map(move |item| (of, item)));
        let question = Question {
            from_ms: BEGIN_MS,
            to_ms: BEGIN_MS + i64::try_from(seconds * 1000)?,
            steps: 1000,
            series: all.map(|(of, item)| (of.to_string(), item.to_string())).collect(),
        };
        history.archive().answer(&question, None, &mut |piece| {
            black_box(&piece);
            true
        })?;
    }
    Ok(())
}
