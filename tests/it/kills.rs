//! A process that writes the journal is killed at any moment. What it had said to be readable must
//! still be there under its number, in order and once, and the next one opens within its bound.
//!
//! The ordinary run kills a share; `ANDON_JOURNAL_KILLS` sets the count.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use andon::journal::{Payload, Reader, Record, Stream};
use andon_engine::event::Event;
use andon_tests::process::{Dice, Process, count_from_env, work_dir};
use anyhow::{Context as _, Result, ensure};

/// Within this a journal is open, whatever it finds.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// The latest moment of a kill: a segment is full by then, so kills meet the change too.
const LIFE_MAX_US: u64 = 120_000;
/// Every so many runs live long enough to fill a segment.
const LONG_EVERY: u32 = 20;

/// What a record is, and the number that it bears: (stream, run, number in the run) → seq.
type Told = HashMap<(Stream, u32, u64), u64>;

#[test]
fn a_journal_whose_writer_is_killed_keeps_all_that_could_be_read() -> Result<()> {
    let dir = work_dir("journal-kills")?;
    let journal = dir.join("journal");
    let mut dice = Dice::seeded("journal kills");
    let kills = count_from_env("ANDON_JOURNAL_KILLS", 40);
    let (mut told, mut slowest) = (Told::new(), Duration::ZERO);
    for run in 0..kills {
        let log = dir.join("writer.log");
        std::fs::write(&log, "")?;
        let mut writer = Command::new(env!("CARGO_BIN_EXE_journal_writer"));
        writer.arg(&journal).arg(run.to_string()).arg(dice.below(u64::MAX).to_string());
        let mut writer = Process::start("writer", &dir, &mut writer)?;
        let life = dice.below(LIFE_MAX_US) * if run % LONG_EVERY == 0 { 10 } else { 1 };
        std::thread::sleep(Duration::from_micros(life));
        writer.kill();
        slowest = slowest.max(hear(&std::fs::read_to_string(&log)?, &mut told)?);
    }
    ensure!(slowest <= OPEN_MAX, "opening took {slowest:?}");
    let found = read(&journal)?;
    let lost = told.iter().filter(|(record, seq)| found.get(record) != Some(seq)).count();
    eprintln!(
        "journal killed {kills} times: {} records read back before a kill, {lost} of them lost, \
         {} found, slowest opening {slowest:?}",
        told.len(),
        found.len()
    );
    ensure!(!told.is_empty(), "nothing was written before the kills");
    ensure!(lost == 0, "{lost} records are lost; see {}", dir.display());
    Ok(())
}

/// Takes what a writer said; returns how long it took to open.
fn hear(log: &str, told: &mut Told) -> Result<Duration> {
    let mut opened = Duration::ZERO;
    // A last line without its end was being written when the kill came.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    for line in whole.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["open", micros] => opened = Duration::from_micros(micros.parse()?),
            [stream, run, number, seq] => {
                let stream = Stream::ALL.into_iter().find(|of| of.word() == stream);
                let stream = stream.with_context(|| format!("the writer said {line:?}"))?;
                told.insert((stream, run.parse()?, number.parse()?), seq.parse()?);
            }
            _ => anyhow::bail!("the writer said {line:?}"),
        }
    }
    Ok(opened)
}

/// Everything that is in the journal, each record and each number once, each run without a hole.
fn read(journal: &Path) -> Result<Told> {
    let mut found = Told::new();
    for stream in Stream::ALL {
        let (mut numbers, mut next) = (HashSet::new(), HashMap::new());
        let records = Reader::open(journal)?.records(stream)?;
        for Record { seq, payload, .. } in records {
            let (run, number) = match payload {
                Payload::Observation(seen) => (seen.machine.parse()?, seen.at.0),
                Payload::Event(Event::Energy { machine, register }) => {
                    (machine.parse()?, register.at.0)
                }
                Payload::Event(other) => anyhow::bail!("nobody wrote {other:?}"),
            };
            ensure!(numbers.insert(seq), "number {seq} is used twice");
            let expected = next.entry(run).or_insert(0);
            ensure!(number == *expected, "run {run} goes from {expected} to {number}");
            *expected += 1;
            found.insert((stream, run, number), seq);
        }
    }
    Ok(found)
}
