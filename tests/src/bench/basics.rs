//! What andon costs before there is any load: size, start, memory; and its demo.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Pace;
use super::table::{Row, Table};
use super::usage::{Memory, boot_nanos};
use crate::andon::{self, binary};
use crate::process::Process;
use crate::simulator::Simulator;
use crate::workshop::Workshop;

/// How long the demo runs before its memory is looked at.
const DEMO: Duration = Duration::from_secs(15);

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    let megabytes = fs::metadata(binary())?.len() as f64 / 1e6;
    table.add(Row::at_most("binary, stripped, with the board in it", megabytes, 15.0, "MB"));
    idle(&dir.join("idle"), pace, table)?;
    demo(&dir.join("demo"), table)
}

/// One meter read twice a second: as idle as a gateway gets, and its first poll is seen.
fn idle(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    fs::create_dir_all(dir)?;
    let meter = Simulator::start("meter", dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
    let config = Workshop::new(dir).tcp_bus("panel", meter.port()?).meter("panel", 1, "500 ms");
    let config = config.write(dir)?;
    let started = boot_nanos();
    let gateway = andon::run(dir, &config)?;
    std::thread::sleep(pace.settle);
    let witnessed = meter.witnessed()?;
    let mut moments = witnessed.iter().filter_map(|line| line["at"].as_u64());
    let first = moments.find(|&at| at >= started).context("the meter was never polled")?;
    let wait = (first - started) as f64 / 1e6;
    table.add(Row::at_most("start to first poll on the wire", wait, 300.0, "ms"));
    let memory = Memory::of(&gateway)?;
    table.add(Row::at_most("memory idle, peak resident (VmHWM)", memory.peak, 14.0, "MB"));
    table.add(Row::at_most("memory idle, anonymous", memory.anonymous, 5.0, "MB"));
    Ok(())
}

fn demo(dir: &Path, table: &mut Table) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = andon::andon(&["demo", "--listen", "127.0.0.1:0"]);
    let started = Instant::now();
    let mut demo = Process::start("demo", dir, &mut command)?;
    demo.wait_for_line("board: http://", Duration::from_secs(10))?;
    let up = started.elapsed().as_secs_f64() * 1e3;
    std::thread::sleep(DEMO);
    table.add(Row::at_most("demo: start to board", up, 2000.0, "ms"));
    let peak = Memory::of(&demo)?.peak;
    table.add(Row::at_most("demo: memory, peak resident", peak, 25.0, "MB"));
    Ok(())
}
