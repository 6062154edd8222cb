//! How long a large journal takes to open, whole and damaged, and what memory that needs.
//!
//! `cargo run --release --example journal_open [MEGABYTES]` writes a journal of that size (default
//! 2048) into a temporary folder, opens it as it is, then without a single footer, then with a byte
//! flipped in every 64 KiB, and removes the folder. Run it on the disk that matters by setting TMPDIR.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::config::plan::JournalPlan;
use andon::journal::{BootId, Journal, Observation, Payload};
use andon_engine::time::BootTime;
use andon_engine::value::Value;

/// What a journal of any size and in any state may take to open.
const WANTED: Duration = Duration::from_secs(5);
/// Records handed over at once; the queue of the journal holds several times as many.
const BATCH: u64 = 4000;
/// Every so many bytes one is damaged: about one per block.
const DAMAGE_EVERY: usize = 64 * 1024;
/// Longer than a footer's trailer, which is all that makes one good.
const TRAILER: u64 = 16;

fn main() -> anyhow::Result<()> {
    let megabytes: u64 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 2048,
    };
    let dir = std::env::temp_dir().join(format!("andon-journal-open-{}", std::process::id()));
    fill(&dir, megabytes * 1_000_000)?;
    measure(&dir, "as it was closed")?;
    for path in segments(&dir)? {
        let file = File::options().write(true).open(&path)?;
        let end = file.metadata()?.len().saturating_sub(TRAILER);
        file.write_all_at(&[0; TRAILER as usize], end)?;
    }
    measure(&dir, "without a single footer")?;
    for path in segments(&dir)? {
        let mut bytes = fs::read(&path)?;
        bytes.iter_mut().step_by(DAMAGE_EVERY).skip(1).for_each(|byte| *byte ^= 0x40);
        // Footers were written again by the opening before this one.
        let end = bytes.len().saturating_sub(1);
        bytes[end] ^= 1;
        fs::write(&path, bytes)?;
    }
    measure(&dir, "a byte flipped in every block, and no footer")?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn journal(dir: &Path) -> io::Result<Journal> {
    let plan = JournalPlan { telemetry_bytes: 1 << 40, sync: Duration::from_secs(5) };
    Journal::open(dir, &plan, BootId([1; 16]))
}

fn fill(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let journal = journal(dir)?;
    let items: Vec<Arc<str>> = (0..10).map(|item| format!("power.l{item}").into()).collect();
    let (mut appended, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    while journal.counters().bytes < bytes {
        let payload = |number: u64| {
            let values = items.iter().map(|item| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (Arc::clone(item), Ok(Value::Number((random % 100_000) as f64 / 10.0)))
            });
            let items = values.collect();
            let at = BootTime::from_millis(number * 100);
            Payload::Observation(Observation { machine: "laser".into(), at, items })
        };
        journal.append((appended..appended + BATCH).map(payload).collect());
        appended += BATCH;
        while journal.counters().written < appended {
            std::thread::yield_now();
        }
    }
    Ok(())
}

fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let found = fs::read_dir(dir.join("telemetry"))?.map(|entry| entry.map(|entry| entry.path()));
    let mut found: Vec<_> = found.collect::<io::Result<_>>()?;
    found.sort();
    Ok(found)
}

fn measure(dir: &Path, state: &str) -> anyhow::Result<()> {
    let mut bytes = 0;
    for path in segments(dir)? {
        bytes += path.metadata()?.len();
    }
    let begun = Instant::now();
    let journal = journal(dir)?;
    let taken = begun.elapsed();
    let quarantined = journal.counters().quarantined;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    writeln!(
        io::stdout(),
        "{state}: {} MB open in {:.2} s ({}), {quarantined} blocks quarantined, {peak}",
        bytes / 1_000_000,
        taken.as_secs_f64(),
        if taken <= WANTED { "within 5 s" } else { "TOO LONG" },
    )?;
    Ok(())
}
