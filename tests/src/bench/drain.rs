//! How fast what waited in the journal leaves once the broker or the store is back, and how late
//! what is measured meanwhile arrives.
//!
//! At the broker by the moments at which `mosquitto_sub` received messages, in the store by what it
//! says itself to have taken in.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Pace;
use super::registers::Registers;
use super::shape::{Outputs, Shape};
use super::table::{Row, Table};
use crate::andon;
use crate::peers::{Mosquitto, VictoriaMetrics, need};
use crate::process::Process;

/// 20 000 readings a second.
const SHAPE: Shape =
    Shape { connections: 50, units: 4, registers: 100, period: Duration::from_secs(1) };
/// What wants to leave in a second.
const RATE: f64 = 100_000.0;
/// How long draining may take in the worst case.
const DRAINED: Duration = Duration::from_secs(120);
/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    for name in ["broker", "store"] {
        fs::create_dir_all(dir.join(name))?;
    }
    to_broker(&dir.join("broker"), pace, table)?;
    to_store(&dir.join("store"), pace, table)
}

fn to_broker(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    let Some(subscriber) = need("mosquitto_sub") else { return Ok(()) };
    let Some(mut broker) = Mosquitto::start(dir)? else { return Ok(()) };
    let registers = Registers::start(dir, SHAPE.connections)?;
    let outputs = Outputs { broker: Some(broker.port), ..Outputs::default() };
    let config = SHAPE.andon(dir, &registers.ports, outputs)?;
    let mut gateway = andon::run(dir, &config)?;
    gateway.wait_for_line("the broker is reached", Duration::from_secs(10))?;
    broker.kill();
    std::thread::sleep(pace.outage);
    broker.restart()?;
    let back = unix_seconds();
    let mut command = Command::new(subscriber);
    let port = broker.port.to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-F", "%U %p", "-t", "andon/v1/+/+/observation"]);
    let mut listener = Process::start("arrived", dir, &mut command)?;
    // The gateway comes back after a pause of up to half a minute.
    std::thread::sleep(Duration::from_secs(30) + pace.outage / 2);
    listener.kill();
    let arrived = Arrived::read(&listener.log, back)?;
    fs::remove_file(&listener.log)?;
    let what = "drain to the broker: readings a second";
    table.add(Row::at_least(what, arrived.rate(), RATE, "/s"));
    table.add(Row::reported(
        "drain to the broker: readings that had waited",
        format!("{:.0}", arrived.late),
    ));
    let what = "drain to the broker: live lag meanwhile, worst";
    table.add(Row::at_most(what, arrived.lag * 1e3, 1000.0, "ms"));
    Ok(())
}

/// What arrived after the broker came back.
#[derive(Debug, Default)]
struct Arrived {
    /// Readings from before that, and when the first and last of them arrived.
    late: f64,
    first: f64,
    last: f64,
    /// The worst lag, in seconds, of what was measured and arrived in between.
    lag: f64,
}

impl Arrived {
    fn read(log: &Path, back: f64) -> Result<Self> {
        let (mut found, mut live) = (Self::default(), Vec::new());
        for line in BufReader::new(File::open(log)?).lines().map_while(Result::ok) {
            let Some((arrived, payload)) = line.split_once(' ') else { continue };
            let (Ok(arrived), Ok(message)) =
                (arrived.parse::<f64>(), serde_json::from_str::<Value>(payload))
            else {
                continue;
            };
            let taken = message["t"].as_f64().context("a time")? / 1e3;
            let items = message["items"].as_object().map_or(0, serde_json::Map::len) as f64;
            if taken < back {
                if found.late == 0.0 {
                    found.first = arrived;
                }
                found.late += items;
                found.last = arrived;
            } else {
                live.push((taken, arrived));
            }
        }
        // What was measured while the rest was on its way, and just after: devices are read on whole
        // seconds. Before, there was no connection.
        let meanwhile = found.first..found.last + 1.0;
        let meanwhile = live.iter().filter(|(taken, _)| meanwhile.contains(taken));
        found.lag = meanwhile.map(|(taken, arrived)| arrived - taken).fold(0.0, f64::max);
        ensure!(found.late > 0.0, "nothing that had waited arrived");
        Ok(found)
    }

    fn rate(&self) -> f64 {
        self.late / (self.last - self.first).max(f64::MIN_POSITIVE)
    }
}

fn to_store(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    let Some(mut store) = VictoriaMetrics::start(dir)? else { return Ok(()) };
    store.stop()?;
    let registers = Registers::start(dir, SHAPE.connections)?;
    let url = store.url();
    let outputs = Outputs { store: Some(&url), ..Outputs::default() };
    let config = SHAPE.andon(dir, &registers.ports, outputs)?;
    let _gateway = andon::run(dir, &config)?;
    std::thread::sleep(pace.outage);
    let waiting = SHAPE.rate() * pace.outage.as_secs_f64();
    store.restart()?;
    // From the last look that found nothing, so that the pause before the first attempt does not
    // count and the first batch does.
    let began = Instant::now();
    let (mut empty, mut taken) = (began, 0.0);
    while taken < waiting {
        ensure!(began.elapsed() < DRAINED, "the store was not reached, or never caught up");
        std::thread::sleep(LOOK);
        let now = Instant::now();
        taken = rows(&url)?;
        if taken == 0.0 {
            empty = now;
        }
    }
    // The recorder goes by the order of the journal, so these come before all that is measured
    // meanwhile; what was taken beyond them by now may not have waited.
    let rate = waiting / empty.elapsed().as_secs_f64();
    table.add(Row::at_least("drain to VictoriaMetrics: readings a second", rate, RATE, "/s"));
    Ok(())
}

/// Rows that the store has taken in.
fn rows(url: &str) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        reqwest::get(format!("{url}/metrics")).await?.error_for_status()?.text().await
    })?;
    let counter = "vm_rows_inserted_total{type=\"influx\"} ";
    let found = text.lines().find_map(|line| line.strip_prefix(counter));
    found.context("the store counts no rows")?.trim().parse().context("a count")
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
