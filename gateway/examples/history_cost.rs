//! What history costs: bytes per sample by kind, time to write and merge, time to answer, memory.
//!
//! `cargo run --release --example history_cost [DAYS]` makes DAYS (default 1) of a shop of ten
//! machines at 1 Hz, a hundred series: 40 temperatures (slow drift and noise of 0.15 °C in tenths),
//! 30 powers (noise of 15 W in tenths while on, half of the day), 20 states and 10 energy registers.
//! The seed is fixed. It writes them into a temporary folder (TMPDIR) as history does, asks the
//! questions that a board asks, and removes the folder. A year takes some ten minutes and 1.6 GB.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::history::offline::Offline;
use andon::history::query::Question;
use andon::history::{Archive, NAME, Periods};
use andon::journal::{BootId, Observation, Payload, Record};
use andon_engine::time::BootTime;
use andon_engine::value::Value;

/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;
const DAY_S: u64 = 86_400;
const MACHINES: usize = 10;
const BOOT: BootId = BootId([1; 16]);

fn main() -> anyhow::Result<()> {
    let days = std::env::args().nth(1).map_or(Ok(1), |days| days.parse())?;
    let dir = std::env::temp_dir().join(format!("andon-history-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&dir, days);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path, days: u64) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let wall = Arc::new(|_: &BootId, at: BootTime| {
        Some(BEGIN_MS + i64::try_from(at.as_millis()).unwrap_or(0))
    });
    let mut shop = Shop::new();
    let mut periods = Periods::default();
    for machine in &shop.machines {
        let items = shop.items.iter().map(|item| (Arc::clone(item), Duration::from_secs(1)));
        periods.note(machine, items);
    }
    let mut history = Offline::open(dir, BOOT, wall, periods)?;
    let (mut taking, mut merging) = (Duration::ZERO, Duration::ZERO);
    let mut seq = 0;
    for second in 1..=days * DAY_S + 3600 {
        let records: Vec<Record> = shop.second(second, &mut seq);
        let begun = Instant::now();
        for record in &records {
            history.take(record)?;
        }
        if second % 3600 == 120 {
            history.flush()?;
        }
        taking += begun.elapsed();
        if second == DAY_S + 120 {
            // The first day is there in hours: what it takes before it is merged.
            sizes(&mut out, "hour rows", &history, dir)?;
        }
        if second % DAY_S == 1200 {
            let begun = Instant::now();
            history.merge()?;
            merging += begun.elapsed();
            if second == DAY_S + 1200 {
                sizes(&mut out, "merged", &history, dir)?;
            }
        }
    }
    let samples = history.counters().samples;
    writeln!(out, "{samples} samples: taken in {taking:.1?}, merged in {merging:.1?}")?;
    if days > 1 {
        sizes(&mut out, "all", &history, dir)?;
    }
    ask(&mut out, &history.archive(), &shop, days)?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mut memory = status.lines().filter(|line| line.starts_with("VmHWM"));
    memory.try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(())
}

/// Bytes per sample: of each kind, of what is beside them, and of the whole file with its roll-ups.
fn sizes(out: &mut impl Write, what: &str, history: &Offline, dir: &Path) -> anyhow::Result<()> {
    let samples = history.counters().samples as f64;
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (_, item, bytes) in history.bytes_by_series()? {
        let kind = item.split('.').next().unwrap_or_default().to_owned();
        let kind =
            kinds.entry(if kind.is_empty() { "beside".to_owned() } else { kind }).or_default();
        *kind = (kind.0 + bytes, kind.1 + 1);
    }
    write!(out, "{what}:")?;
    let per_series = samples / (MACHINES * 10) as f64;
    let mut all = 0;
    for (kind, (bytes, series)) in &kinds {
        all += bytes;
        let of = if kind == "beside" { samples } else { per_series * *series as f64 };
        write!(out, " {kind} {:.3}", *bytes as f64 / of)?;
    }
    let file = std::fs::metadata(dir.join(NAME))?.len();
    writeln!(
        out,
        "; all {:.3}, file {:.3} B per sample ({:.1} MB)",
        all as f64 / samples,
        file as f64 / samples,
        file as f64 / 1e6
    )?;
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
                    let begun = Instant::now();
                    let mut bytes = 0;
                    archive.answer(&question, None, &mut |piece| {
                        bytes += piece.len();
                        true
                    })?;
                    anyhow::Ok((begun.elapsed(), bytes))
                })
                .collect::<Result<_, _>>()?;
            times.sort_unstable();
            let (median, bytes) = times[2];
            writeln!(
                out,
                "{series} series, {name}, {steps} steps: {median:.1?}, {bytes} bytes of JSON"
            )?;
        }
    }
    Ok(())
}

/// The shop.
struct Shop {
    machines: Vec<Arc<str>>,
    items: Vec<Arc<str>>,
    random: u64,
    temperatures: Vec<f64>,
    states: Vec<bool>,
    energy: Vec<f64>,
}

impl Shop {
    fn new() -> Self {
        let names = |kind: &str, count| (1..=count).map(|n| format!("{kind}.{n}").into()).collect();
        let items: [Vec<Arc<str>>; 4] =
            [names("temperature", 4), names("power", 3), names("state", 2), names("energy", 1)];
        Self {
            machines: (0..MACHINES).map(|n| format!("machine-{n}").into()).collect(),
            items: items.concat(),
            random: 0x9e37_79b9_7f4a_7c15,
            temperatures: vec![25.0; MACHINES * 4],
            states: vec![false; MACHINES * 2],
            energy: vec![1e6; MACHINES],
        }
    }

    /// Uniform in 0..1: splitmix64.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (one, other) = (self.uniform().max(1e-300), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }

    fn second(&mut self, second: u64, seq: &mut u64) -> Vec<Record> {
        (0..MACHINES)
            .map(|machine| {
                let tenths = |value: f64| Value::Number((value * 10.0).round() / 10.0);
                let mut values = Vec::new();
                for n in 0..4 {
                    let drift = self.normal() * 0.02;
                    let noise = self.normal() * 0.15;
                    let place = &mut self.temperatures[machine * 4 + n];
                    *place += 0.0005 * (25.0 - *place) + drift;
                    values.push(tenths(*place + noise));
                }
                // Half of the day on, each in its own rhythm of hours.
                let on = (second / 3600 + machine as u64) % 4 < 2;
                let mut watts = 0.0;
                for n in 0..3 {
                    let watt =
                        if on { 400.0 + 300.0 * f64::from(n) + self.normal() * 15.0 } else { 0.0 };
                    watts += watt;
                    values.push(tenths(watt));
                }
                for n in 0..2 {
                    let flips = self.uniform() < 1.0 / 600.0;
                    let state = &mut self.states[machine * 2 + n];
                    *state ^= flips;
                    values.push(Value::Flag(*state));
                }
                self.energy[machine] += watts / 3600.0;
                values.push(Value::Number(self.energy[machine].floor()));
                let items = self.items.iter().cloned().zip(values.into_iter().map(Ok)).collect();
                let at = BootTime::from_millis(second * 1000);
                let observation =
                    Observation { machine: self.machines[machine].clone(), at, items };
                *seq += 1;
                Record {
                    boot: BOOT,
                    seq: *seq,
                    prev: *seq - 1,
                    payload: Payload::Observation(observation),
                }
            })
            .collect()
    }
}
