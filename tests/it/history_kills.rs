//! A process that writes history is killed at any moment: in the middle of an hour's rows, of a
//! day's merge, of giving up the oldest. What it said to be in the file must be there, and what it had
//! read from the journal must get there, each sample once and with its value; a day that is only a
//! roll-up now must say what its samples said; and the next one opens within its bound.
//!
//! The ordinary run kills a share; `ANDON_HISTORY_KILLS` sets the count.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use andon::history::Archive;
use andon::history::export::Selection;
use andon::history::offline::Offline;
use andon::history::query::{Question, Step};
use andon::journal::{Payload, Reader, Record, Stream};
use andon_engine::value::Value;
use andon_tests::process::{Dice, Process, count_from_env, work_dir};
use andon_tests::run_of_time::{
    BOOT, DAY, DAY_MS, ITEMS, LIMITS, MACHINE, RUN_DAYS, at_ms, measured, number, observation,
    periods, wall_ms,
};
use anyhow::{Context as _, Result, ensure};

/// Within this journal and history are open, whatever they find.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// The latest moment of a kill; one run in so many lives four times as long and writes all its days.
const LIFE_MAX_US: u64 = 400_000;
const LONG_EVERY: u32 = 10;
/// A life begins when all is open, but for one in so many, which may be killed before that.
const OPENING_EVERY: u32 = 4;
/// The file is looked at after so many kills, before the samples of any of them are given up.
const LOOK_EVERY: u32 = 10;

/// What a run said before it was killed: the last number that was read, and that was kept.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    read: Option<u64>,
    kept: Option<u64>,
}

#[test]
fn history_whose_writer_is_killed_has_every_sample_once() -> Result<()> {
    let dir = work_dir("history-kills")?;
    let mut dice = Dice::seeded("history kills");
    let kills = count_from_env("ANDON_HISTORY_KILLS", 20);
    let (mut told, mut slowest) = (Vec::new(), Duration::ZERO);
    for run in 0..kills {
        let log = dir.join("writer.log");
        std::fs::write(&log, "")?;
        let mut writer = Command::new(env!("CARGO_BIN_EXE_history_writer"));
        writer.arg(&dir).arg(run.to_string()).arg(dice.below(u64::MAX).to_string());
        let mut writer = Process::start("writer", &dir, &mut writer)?;
        if run % OPENING_EVERY != 0 {
            writer.wait_for_line("open ", OPEN_MAX)?;
        }
        let life = dice.below(LIFE_MAX_US) * if run % LONG_EVERY == 0 { 4 } else { 1 };
        std::thread::sleep(Duration::from_micros(life));
        writer.kill();
        let (of_run, opened) = hear(&std::fs::read_to_string(&log)?)?;
        told.push(of_run);
        slowest = slowest.max(opened);
        if run % LOOK_EVERY == LOOK_EVERY - 1 {
            look(&dir, &told, false)?;
        }
    }
    ensure!(slowest <= OPEN_MAX, "opening took {slowest:?}");
    finish(&dir, u64::from(kills))?;
    let samples = look(&dir, &told, true)?;
    let days = look_at_days(&dir, &told)?;
    let read: u64 = told.iter().filter_map(|told| Some(told.read? + 1)).sum();
    let kept: u64 = told.iter().filter_map(|told| Some(told.kept? + 1)).sum();
    eprintln!(
        "history killed {kills} times: {read} moments of {} items read back and {kept} told to be in \
         the file before a kill; {samples} are still there as samples, once each, {days} days right as \
         roll-ups; slowest opening {slowest:?}",
        ITEMS.len()
    );
    ensure!(kept > 0, "nothing was kept before the kills");
    Ok(())
}

/// What a writer said, and how long it took to open.
fn hear(log: &str) -> Result<(Told, Duration)> {
    let (mut told, mut opened) = (Told::default(), Duration::ZERO);
    // A last line without its end was being written when the kill came.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    for line in whole.lines() {
        let (word, number) = line.split_once(' ').with_context(|| format!("said {line:?}"))?;
        let number = number.parse()?;
        match word {
            "open" => opened = Duration::from_micros(number),
            "read" => told.read = Some(number),
            "kept" => told.kept = Some(number),
            _ => anyhow::bail!("the writer said {line:?}"),
        }
    }
    Ok((told, opened))
}

/// Brings what the journal still has into the file, up to the last sample: one of a later run shows
/// that all hours are over.
fn finish(dir: &Path, runs: u64) -> Result<()> {
    let mut history = Offline::open(dir, BOOT, Arc::new(wall_ms), periods())?;
    let from = history.position();
    let records = Reader::open(&dir.join("journal"))?.records(Stream::Telemetry)?;
    let mut behind = from.is_some();
    let mut last = from.context("history has no place in the journal")?;
    for record in records {
        last = record.position();
        if !behind {
            history.take(&record)?;
        }
        behind &= Some(record.position()) != from;
    }
    let (seq, payload) = (last.seq + 1, Payload::Observation(observation(runs, 0)));
    history.take(&Record { boot: BOOT, seq, prev: last.seq, payload })?;
    history.flush()?;
    history.merge()?;
    Ok(history.retain(&LIMITS)?)
}

/// The file's samples: each once, with its value, no run with a hole, and all that was told unless it
/// is old enough to be given up. A run that was followed by one that wrote, or any once it is `over`,
/// must be there as far as it was read. Returns how many moments they are.
fn look(dir: &Path, told: &[Told], over: bool) -> Result<u64> {
    let mut found: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let (machine, item) = (None, None);
    let all = Selection { from_ms: 0, to_ms: i64::MAX / 2, machine, item };
    let mut wrong = Vec::new();
    let exported = Archive::in_folder(dir).export(&all, &mut |sample| {
        let (run, nth) = number(sample.at_ms);
        if sample.measured != measured(sample.item, run, nth) || sample.machine != MACHINE {
            wrong.push((run, nth));
        }
        *found.entry((run, nth)).or_default() += 1;
        Ok(())
    });
    ensure!(exported?.damaged == 0, "rows are damaged");
    ensure!(wrong.is_empty(), "{} samples are wrong, first {:?}", wrong.len(), wrong[0]);
    let odd = found.iter().find(|(_, count)| **count != ITEMS.len());
    ensure!(odd.is_none(), "not once for each item: {odd:?}; see {}", dir.display());
    // Age counts from the newest sample that was taken, which may be any up to the next run's first.
    let keep_ms = i64::try_from(LIMITS.keep.as_millis())?;
    let kept_ms = at_ms(told.len() as u64, 0).div_euclid(DAY_MS) * DAY_MS - keep_ms;
    let followed = told.iter().rposition(|told| told.kept.is_some()).unwrap_or(0);
    for (place, told) in told.iter().enumerate() {
        let run = place as u64;
        let mut numbers = found.range((run, 0)..(run + 1, 0)).map(|((_, nth), _)| *nth);
        if let Some(first) = numbers.next() {
            let last = numbers.try_fold(first, |last, nth| (nth == last + 1).then_some(nth));
            ensure!(last.is_some(), "run {run} has a hole after {first}");
            ensure!(first == 0 || at_ms(run, first) <= kept_ms + 60_000, "run {run}: {first}");
        }
        let sure = if over || place < followed { told.read } else { told.kept };
        if let Some(sure) = sure.filter(|sure| at_ms(run, *sure) > kept_ms) {
            ensure!(found.contains_key(&(run, sure)), "run {run} lost {sure}; {}", dir.display());
        }
    }
    Ok(found.len() as u64)
}

/// Every whole day that was told to be kept, however long ago, by its roll-up: least, greatest, last
/// and mean value of what was known, and how much that was. Returns how many days.
fn look_at_days(dir: &Path, told: &[Told]) -> Result<u64> {
    let archive = Archive::in_folder(dir);
    let mut looked = 0;
    for (run, told) in (0..).zip(told) {
        let days = told.kept.unwrap_or(0) / DAY;
        if days == 0 {
            continue;
        }
        let (from_ms, to_ms) = (at_ms(run, 0), at_ms(run, RUN_DAYS * DAY));
        let series = ITEMS.map(|item| (MACHINE.to_owned(), item.to_owned())).to_vec();
        let steps = usize::try_from(RUN_DAYS)?;
        let curves = archive.steps(&Question { from_ms, to_ms, steps, series }, None)?;
        for (item, curve) in ITEMS.iter().zip(curves) {
            let curve = curve.with_context(|| format!("there is no {item}"))?;
            ensure!(curve.len() == steps, "a step is a day");
            for day in 0..days {
                let step = curve[usize::try_from(day)?].context("a day is not known")?;
                let expected = day_of(item, run, day);
                let near = (step.mean - expected.mean).abs() <= 1e-3 * (1.0 + expected.mean.abs());
                ensure!(
                    near && Step { mean: expected.mean, ..step } == expected,
                    "run {run}, day {day}, {item}: {step:?} instead of {expected:?}"
                );
            }
        }
        looked += days;
    }
    Ok(looked)
}

/// What a day's samples come to, by themselves.
fn day_of(item: &str, run: u64, day: u64) -> Step {
    let samples = (day * DAY + 1..=(day + 1) * DAY).map(|nth| match measured(item, run, nth) {
        Ok(Value::Number(number)) => Some(number),
        Ok(Value::Flag(flag)) => Some(f64::from(u8::from(flag))),
        Ok(Value::Text(_)) | Err(_) => None,
    });
    let known: Vec<f64> = samples.flatten().collect();
    let fold = |of: fn(f64, f64) -> f64| known.iter().copied().reduce(of).unwrap_or(f64::NAN);
    Step {
        min: fold(f64::min),
        max: fold(f64::max),
        mean: known.iter().sum::<f64>() / known.len() as f64,
        last: known.last().copied().unwrap_or(f64::NAN),
        coverage: (known.len() as f64 / DAY as f64 * 1e4).round() / 1e4,
    }
}
