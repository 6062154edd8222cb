//! Writes a journal and history from it until somebody kills it: the victim of the test that kills
//! it at any moment, while it writes hours, merges days or gives up old ones.
//!
//! `history_writer DIR RUN SEED`: the samples of run RUN (`run_of_time.rs`), in bursts of random size.
//! On stdout, after it is so and never before: `open MICROSECONDS`; `read NUMBER`, what a follower of
//! the journal has returned; `kept NUMBER`, up to where everything is in history's file.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::config::plan::JournalPlan;
use andon::history::offline::Offline;
use andon::journal::{Journal, Payload, Stream};
use andon_tests::process::Dice;
use andon_tests::run_of_time::{BOOT, DAY, LIMITS, RUN_DAYS, observation, periods, wall_ms};
use anyhow::{Context as _, Result};

/// Most samples of a burst: a day and a half.
const BURST_MAX: u64 = 2000;
/// Samples of an hour. It is over when a sample lies more than a minute behind its end.
const HOUR: u64 = 60;
/// A journal of so much is read again at every start when it must be, and is recycled in between.
const JOURNAL_BYTES: u64 = 16 << 20;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("a folder")?;
    let run: u64 = arguments.next().context("the number of the run")?.parse()?;
    let mut dice = Dice::new(arguments.next().context("a seed")?.parse()?);
    let dir = Path::new(&dir);
    let plan = JournalPlan { telemetry_bytes: JOURNAL_BYTES, sync: Duration::from_millis(50) };
    let begun = Instant::now();
    let journal = Journal::open(&dir.join("journal"), &plan, BOOT)?;
    let mut history = Offline::open(dir, BOOT, Arc::new(wall_ms), periods())?;
    tell(&format!("open {}", begun.elapsed().as_micros()))?;

    journal.note_consumer("history", Stream::Telemetry, history.position());
    let mut follower = journal.follow(Stream::Telemetry, history.position());
    let mut number = 0;
    while number < RUN_DAYS * DAY {
        let burst = (1 + dice.below(BURST_MAX)).min(RUN_DAYS * DAY - number);
        let samples = (number..number + burst).map(|number| observation(run, number));
        journal.append(samples.map(Payload::Observation).collect());
        number += burst;
        // Older runs' samples come first, as far as they were not in the file yet.
        let mut read = None;
        while read.is_none_or(|last| last + 1 < number) {
            let records = follower.next(500);
            if records.is_empty() {
                std::thread::yield_now();
            }
            for record in &records {
                history.take(record)?;
                if let Payload::Observation(seen) = &record.payload
                    && *seen == observation(run, read.map_or(number - burst, |last| last + 1))
                {
                    read = Some(read.map_or(number - burst, |last| last + 1));
                }
            }
            // Not only when all is read: one that is killed before that must have got further.
            history.flush()?;
            journal.note_consumer("history", Stream::Telemetry, history.position());
        }
        tell(&format!("read {}", number - 1))?;
        // The last sample may be the one that lies just a minute behind an hour's end.
        let kept = number.saturating_sub(2) / HOUR * HOUR;
        if kept > 0 {
            tell(&format!("kept {kept}"))?;
        }
        if dice.below(2) == 0 {
            history.merge()?;
            history.retain(&LIMITS)?;
        }
    }
    // All of the run's days are written: whoever kills this comes later.
    std::thread::park();
    Ok(())
}

/// One write, so that a kill leaves whole lines or none.
fn tell(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
