//! What history costs: bytes per sample by kind, time to write and merge, time to answer, memory.
//!
//! ```text
//! history_cost [DAYS]           everything below of so many days (default 1), as a report
//! history_cost keep DIR DAYS    writes the days into DIR and says what that took, as one line
//! history_cost ask DIR DAYS     asks what keep has written, and says what that took
//! history_cost many SERIES PERIOD MINUTES
//!                               what is written before its hour is over, of very many series with a
//!                               sample every PERIOD seconds
//! history_cost lines DAYS       prints them as line protocol, for other stores
//! ```
//!
//! `cargo run --release --example history_cost` runs it. The days are those of `data/shop.rs`. The
//! report writes them into a temporary folder (TMPDIR) as history does, asks the questions that a
//! board asks, and removes the folder; a year takes some ten minutes and 1.6 GB. CPU is that of the
//! thread that writes, without what makes the samples up.

#[path = "data/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon::history::offline::Offline;
use andon::history::query::Question;
use andon::history::{Archive, NAME, Periods};
use andon::journal::{Observation, Payload, Record};
use andon_engine::time::BootTime;
use andon_engine::value::Value;
use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use shop::{BEGIN_MS, BOOT, DAY_S, MACHINES, Shop};

/// Line protocol that is printed at once.
const LINES_BYTES: usize = 1 << 20;
/// Items of a machine of very many series.
const MANY_ITEMS: u64 = 20;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => report(1),
        ["keep", dir, days] => keep(Path::new(dir), days.parse()?),
        ["ask", dir, days] => {
            ask(&mut io::stdout(), &Archive::in_folder(Path::new(dir)), &Shop::new(), days.parse()?)
        }
        ["lines", days] => lines(days.parse()?),
        ["many", series, period, minutes] => {
            many(series.parse()?, period.parse()?, minutes.parse()?)
        }
        [days] => report(days.parse()?),
        _ => anyhow::bail!(
            "history_cost [DAYS] | keep DIR DAYS | ask DIR DAYS | lines DAYS | \
             many SERIES PERIOD MINUTES"
        ),
    }
}

fn report(days: u64) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("andon-history-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&dir, days);
    std::fs::remove_dir_all(&dir)?;
    measured
}

/// A history that is written, and what it took.
struct Written {
    history: Offline,
    shop: Shop,
    /// CPU of taking samples and writing hours, and of merging days.
    taking: Duration,
    merging: Duration,
    /// The first day in hour rows: bytes of a sample.
    hour_rows: f64,
}

/// Writes so many whole days, the last one merged too: some minutes of the next day are in memory.
fn write(dir: &Path, days: u64, mut look: impl FnMut(&str, &Offline)) -> anyhow::Result<Written> {
    let mut shop = Shop::new();
    let mut periods = Periods::default();
    for machine in &shop.machines {
        let items = shop.items.iter().map(|item| (Arc::clone(item), Duration::from_secs(1)));
        periods.note(machine, items);
    }
    let mut history = Offline::open(dir, BOOT, Arc::new(shop::wall_ms), periods)?;
    let (mut taking, mut merging) = (Duration::ZERO, Duration::ZERO);
    let (mut seq, mut hour_rows) = (0, f64::NAN);
    for second in 1..=days * DAY_S + 1200 {
        let records: Vec<Record> = shop.second(second, &mut seq);
        let begun = cpu();
        for record in &records {
            history.take(record)?;
        }
        if second % 3600 == 120 {
            history.flush()?;
        }
        taking += cpu() - begun;
        if second == DAY_S + 120 {
            // The first day is there in hours: what it takes before it is merged.
            hour_rows = rows(&history)?.1;
            look("hour rows", &history);
        }
        if second > DAY_S && second % DAY_S == 1200 {
            let begun = cpu();
            history.merge()?;
            merging += cpu() - begun;
            if second == DAY_S + 1200 {
                look("merged", &history);
            }
        }
    }
    Ok(Written { history, shop, taking, merging, hour_rows })
}

/// CPU that this thread has used.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

fn keep(dir: &Path, days: u64) -> anyhow::Result<()> {
    let written = write(dir, days, |_, _| {})?;
    let samples = written.history.counters().samples;
    let merged = rows(&written.history)?.1;
    let hours = written.hour_rows;
    let [taking, merging] = [written.taking, written.merging].map(|cpu| cpu.as_secs_f64());
    let cpu = taking + merging;
    writeln!(
        io::stdout(),
        "samples {samples} cpu {cpu:.3} taking {taking:.3} merging {merging:.3} \
         hours {hours:.4} merged {merged:.4}"
    )?;
    memory(&mut io::stdout(), "writing")
}

/// Writes what does not fit into memory, and says what a sample of it takes.
fn many(series: u64, period_s: u64, minutes: u64) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("andon-history-many-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let items: Vec<Arc<str>> = (0..MANY_ITEMS).map(|n| format!("temperature.{n}").into()).collect();
    let machines: Vec<Arc<str>> =
        (0..series.div_ceil(MANY_ITEMS)).map(|n| format!("m{n}").into()).collect();
    let mut periods = Periods::default();
    for machine in &machines {
        let items = items.iter().map(|item| (Arc::clone(item), Duration::from_secs(period_s)));
        periods.note(machine, items);
    }
    let mut history = Offline::open(&dir, BOOT, Arc::new(shop::wall_ms), periods)?;
    let (mut seq, mut noise) = (0, 1_u64);
    for second in (period_s..=minutes * 60).step_by(usize::try_from(period_s)?) {
        for machine in &machines {
            let items = items.iter().map(|item| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (Arc::clone(item), Ok(Value::Number(230.0 + (noise >> 59) as f64 / 10.0)))
            });
            let (at, items) = (BootTime::from_millis(second * 1000), items.collect());
            let payload =
                Payload::Observation(Observation { machine: Arc::clone(machine), at, items });
            (seq, _) =
                (seq + 1, history.take(&Record { boot: BOOT, seq: seq + 1, prev: seq, payload })?);
        }
    }
    let samples = history.counters().samples as f64;
    let bytes: usize = history.bytes_by_series()?.iter().map(|(.., bytes)| bytes).sum();
    let file = std::fs::metadata(dir.join(NAME))?.len();
    writeln!(
        io::stdout(),
        "{series} series every {period_s} s: {samples} samples written early, {:.3} B each in rows, \
         {:.3} B in the file",
        bytes as f64 / samples,
        file as f64 / samples
    )?;
    memory(&mut io::stdout(), "writing")?;
    drop(history);
    Ok(std::fs::remove_dir_all(&dir)?)
}

fn lines(days: u64) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let (mut shop, mut seq, mut text) = (Shop::new(), 0, String::new());
    for second in 1..=days * DAY_S {
        for Record { payload, .. } in shop.second(second, &mut seq) {
            let Payload::Observation(seen) = payload else { continue };
            write!(text, "shop,machine={} ", seen.machine)?;
            for (place, (item, measured)) in seen.items.iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                write!(text, "{comma}{}=", item.replace('.', "_"))?;
                match measured {
                    // A counter of whole watt-hours and a state are integers there.
                    Ok(Value::Number(number)) if item.starts_with("energy") => {
                        write!(text, "{number}i")?;
                    }
                    Ok(Value::Number(number)) => write!(text, "{number}")?,
                    Ok(Value::Flag(flag)) => write!(text, "{}i", u8::from(*flag))?,
                    _ => anyhow::bail!("the shop says nothing else"),
                }
            }
            writeln!(text, " {}", BEGIN_MS / 1000 + i64::try_from(second)?)?;
        }
        if text.len() >= LINES_BYTES {
            out.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    Ok(out.write_all(text.as_bytes())?)
}

fn measure(dir: &Path, days: u64) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let mut trouble = None;
    let written = write(dir, days, |what, history| {
        trouble = trouble.take().or(sizes(&mut io::stdout(), what, history, dir).err());
    })?;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let Written { history, shop, taking, merging, .. } = written;
    let samples = history.counters().samples;
    writeln!(out, "{samples} samples: taken in {taking:.1?} of CPU, merged in {merging:.1?}")?;
    memory(&mut out, "writing")?;
    if days > 1 {
        sizes(&mut out, "all", &history, dir)?;
    }
    // From here on the memory of questions alone counts.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    memory(&mut out, "before the questions")?;
    ask(&mut out, &history.archive(), &shop, days)
}

/// Peak memory since it was last forgotten.
fn memory(out: &mut impl Write, what: &str) -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).context("a peak")?;
    Ok(writeln!(out, "{what}: {line}")?)
}

/// Bytes, and series, by kind.
type Kinds = BTreeMap<String, (usize, usize)>;

/// Bytes of rows of samples, by kind, those beside them under an empty name; and per sample.
fn rows(history: &Offline) -> anyhow::Result<(Kinds, f64)> {
    let mut kinds = Kinds::new();
    for (_, item, bytes) in history.bytes_by_series()? {
        let kind = item.split('.').next().unwrap_or_default().to_owned();
        let kind = kinds.entry(kind).or_default();
        *kind = (kind.0 + bytes, kind.1 + 1);
    }
    let all: usize = kinds.values().map(|(bytes, _)| bytes).sum();
    Ok((kinds, all as f64 / history.counters().samples as f64))
}

/// Bytes per sample: of each kind, of what is beside them, and of the whole file with its roll-ups.
fn sizes(out: &mut impl Write, what: &str, history: &Offline, dir: &Path) -> anyhow::Result<()> {
    let samples = history.counters().samples as f64;
    let per_series = samples / (MACHINES * 10) as f64;
    let (kinds, all) = rows(history)?;
    write!(out, "{what}:")?;
    for (kind, (bytes, series)) in &kinds {
        let of = if kind.is_empty() { samples } else { per_series * *series as f64 };
        let kind = if kind.is_empty() { "beside" } else { kind };
        write!(out, " {kind} {:.3}", *bytes as f64 / of)?;
    }
    let file = std::fs::metadata(dir.join(NAME))?.len();
    let (per_sample, mb) = (file as f64 / samples, file as f64 / 1e6);
    writeln!(out, "; all {all:.3}, file {per_sample:.3} B per sample ({mb:.1} MB)")?;
    Ok(())
}

/// The questions of a board, each asked five times; the median counts.
fn ask(out: &mut impl Write, archive: &Archive, shop: &Shop, days: u64) -> anyhow::Result<()> {
    let all: Vec<(String, String)> = shop
        .machines
        .iter()
        .flat_map(|machine| shop.items.iter().map(|item| (machine.to_string(), item.to_string())))
        .collect();
    let end_ms = BEGIN_MS + i64::try_from(days * DAY_S * 1000)?;
    let spans = [
        ("an hour", 3_600_000),
        ("a day", 86_400_000),
        ("a month", 30 * 86_400_000),
        ("a year", 365 * 86_400_000_i64),
    ];
    for (name, span) in spans {
        if span > end_ms - BEGIN_MS {
            break;
        }
        for (series, steps) in [(1, 1000), (20, 1000), (100, 1000), (100, 365)] {
            let question = Question {
                from_ms: end_ms - span,
                to_ms: end_ms,
                steps,
                series: all[..series].to_vec(),
            };
            let mut times: Vec<(Duration, usize)> = (0..5)
                .map(|_| {
                    let begun = cpu();
                    let mut bytes = 0;
                    archive.answer(&question, None, &mut |piece| {
                        bytes += piece.len();
                        true
                    })?;
                    anyhow::Ok((cpu() - begun, bytes))
                })
                .collect::<Result<_, _>>()?;
            times.sort_unstable();
            let (median, bytes) = times[2];
            let asked = format!("{series} series, {name}, {steps} steps");
            writeln!(out, "{asked}: {median:.1?} of CPU, {bytes} bytes of JSON")?;
        }
    }
    memory(out, "asking")
}
