//! What the journal costs: bytes per sample on disk, nanoseconds per record written and read.
//!
//! `cargo run --release --example journal_cost [RECORDS]` writes that many records (default
//! 200 000) of a plausible shop, ten items each, into a temporary folder, reads them back, prints
//! one line for each of two shops (steady and noisy), and removes the folder. Run it on the disk
//! that matters by setting TMPDIR.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::config::plan::JournalPlan;
use andon::journal::{BootId, Journal, Observation, Payload, Stream};
use andon_engine::time::BootTime;
use andon_engine::value::Value;

/// Machines in the shop, each observed once a second.
const MACHINES: u64 = 10;
/// Records handed over at once; the queue of the journal must hold several.
const BATCH: u64 = 1000;

fn main() -> anyhow::Result<()> {
    let records = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 200_000,
    };
    for (shop, noise) in [("steady", 0), ("noisy", 300)] {
        let line = measure(records, noise)?;
        writeln!(io::stdout(), "{shop}: {line}")?;
    }
    Ok(())
}

fn measure(records: u64, noise: u64) -> anyhow::Result<String> {
    let dir = std::env::temp_dir().join(format!("andon-journal-cost-{}", std::process::id()));
    let plan = JournalPlan { telemetry_bytes: 1 << 34, sync: Duration::from_secs(5) };
    let journal = Journal::open(&dir, &plan, BootId([1; 16]))?;
    let items: Vec<Arc<str>> = [
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
    ]
    .map(Arc::from)
    .to_vec();
    let machines: Vec<Arc<str>> =
        (0..MACHINES).map(|machine| format!("machine-{machine}").into()).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut writing = Duration::ZERO;
    let mut appended = 0;
    while appended < records {
        let batch: Vec<_> = (appended..(appended + BATCH).min(records))
            .map(|number| observation(number, &machines, &items, noise, &mut random))
            .collect();
        appended += batch.len() as u64;
        let begun = Instant::now();
        journal.append(batch);
        while journal.counters().written < appended {
            std::thread::yield_now();
        }
        writing += begun.elapsed();
    }
    let counters = journal.counters();
    let begun = Instant::now();
    let mut follower = journal.follow(Stream::Telemetry, None);
    let mut followed = 0;
    loop {
        let some = follower.next(4096).len() as u64;
        if some == 0 {
            break;
        }
        followed += some;
    }
    let reading = begun.elapsed();
    anyhow::ensure!(followed == records, "{followed} of {records} records came back");
    journal.close();
    std::fs::remove_dir_all(&dir)?;
    let per_record = |time: Duration| time.as_nanos() / u128::from(records.max(1));
    let milli_bytes = counters.bytes * 1000 / (records * items.len() as u64).max(1);
    Ok(format!(
        "{}.{:03} B/sample, {} ns/record written, {} ns/record followed",
        milli_bytes / 1000,
        milli_bytes % 1000,
        per_record(writing),
        per_record(reading)
    ))
}

fn observation(
    number: u64,
    machines: &[Arc<str>],
    items: &[Arc<str>],
    noise: u64,
    random: &mut u64,
) -> Payload {
    let mut next = |below: u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        u32::try_from(*random % (below + 1)).unwrap_or(0)
    };
    let (second, machine) = (number / MACHINES, number % MACHINES);
    // Polled on a grid of a second, off by up to 2 ms.
    let at = second * 1_000_000_000 + machine * 90_000_000 + u64::from(next(2_000_000));
    let values = items.iter().enumerate().map(|(index, item)| {
        let base = u32::try_from(second / 60).unwrap_or(0) + 2300;
        let value = f64::from(base + next(noise / (1 + index as u64))) / 10.0;
        (Arc::clone(item), Ok(Value::Number(value)))
    });
    let machine = Arc::clone(&machines[usize::try_from(machine).unwrap_or(0)]);
    Payload::Observation(Observation { machine, at: BootTime(at), items: values.collect() })
}
