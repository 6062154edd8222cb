//! Writes a journal until somebody kills it, and says which records can be read back: the victim
//! of the tests that kill a writer at any moment.
//!
//! `journal_writer DIR RUN SEED`: numbered observations and events of run RUN, in bursts of random
//! size. Each record that a follower has returned, and so the journal calls written, is told on
//! stdout as `STREAM RUN NUMBER SEQ`, after it was read and never before; `open MICROSECONDS` is
//! the first line.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use andon::config::plan::JournalPlan;
use andon::journal::{BootId, Cursor, Follower, Journal, Observation, Payload, Record, Stream};
use andon_engine::event::{Event, Register};
use andon_engine::time::BootTime;
use andon_engine::value::Value;
use andon_tests::process::Dice;
use anyhow::{Context as _, Result};

/// Most records of one burst; a segment of 4 MiB is filled within a second.
const BURST_MAX: u64 = 400;
/// Values of an observation, each of random bits so that nothing is squeezed out of them.
const VALUES: usize = 8;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("the journal's folder")?;
    let run = arguments.next().context("the number of the run")?;
    let seed = arguments.next().context("a seed")?.parse()?;
    let plan = JournalPlan { telemetry_bytes: 1 << 34, sync: Duration::from_millis(50) };
    let begun = Instant::now();
    let journal = Journal::open(Path::new(&dir), &plan, BootId([7; 16]))?;
    tell(&format!("open {}\n", begun.elapsed().as_micros()))?;

    let mut dice = Dice::new(seed);
    let mut cursor = journal.cursor("reader", Stream::Telemetry)?;
    let mut followers = Stream::ALL.map(|stream| journal.follow(stream, journal.newest(stream)));
    let mut numbers = [0_u64; 2];
    loop {
        let burst = 1 + dice.below(BURST_MAX);
        let payloads = (0..burst).map(|_| {
            // Every event is synced: too many of them and nothing else would be written.
            let stream = if dice.below(100) == 0 { Stream::Events } else { Stream::Telemetry };
            let number = numbers[stream as usize];
            numbers[stream as usize] += 1;
            payload(stream, &run, number, &mut dice)
        });
        journal.append(payloads.collect());
        while journal.counters().written < numbers.iter().sum() {
            std::thread::yield_now();
        }
        for follower in &mut followers {
            report(follower, &run, &mut cursor)?;
        }
    }
}

fn payload(stream: Stream, run: &str, number: u64, dice: &mut Dice) -> Payload {
    let at = BootTime(number);
    match stream {
        Stream::Telemetry => {
            let noise = (0..VALUES).map(|at| {
                let value = dice.below(1 << 53) as f64 / 3.0;
                (format!("noise.{at}").into(), Ok(Value::Number(value)))
            });
            Payload::Observation(Observation { machine: run.into(), at, items: noise.collect() })
        }
        Stream::Events => {
            let register = Register { at, wh: number as f64, epoch: 0 };
            Payload::Event(Event::Energy { machine: run.into(), register })
        }
    }
}

fn report(follower: &mut Follower, run: &str, cursor: &mut Cursor) -> Result<()> {
    loop {
        let records = follower.next(1000);
        let Some(last) = records.last() else { return Ok(()) };
        let mut lines = String::new();
        for record in &records {
            let Record { seq, payload, .. } = record;
            let (word, number) = match payload {
                Payload::Observation(observation) => ("telemetry", observation.at.0),
                Payload::Event(Event::Energy { register, .. }) => ("events", register.at.0),
                Payload::Event(_) => continue,
            };
            writeln!(lines, "{word} {run} {number} {seq}")?;
        }
        tell(&lines)?;
        if last.payload.stream() == Stream::Telemetry {
            cursor.save(last.position())?;
        }
    }
}

/// One write, so that a kill leaves whole lines or none.
fn tell(lines: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    out.flush()
}
