//! What andon costs under load: journal, quality, activity and a rule per machine, and a broker.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Pace;
use super::listener::Listener;
use super::registers::Registers;
use super::shape::{Outputs, Shape};
use super::table::{Row, Table};
use super::usage::{Memory, cpu};
use crate::andon;
use crate::peers::Mosquitto;
use crate::process::Process;

/// How long a gateway may take to reach its broker.
const REACHED: Duration = Duration::from_secs(10);

/// A load and the memory that it may take, in megabytes.
const LOADS: &[(u16, u16, u64, f64)] = &[
    // Connections, devices behind each (of 100 registers), period in ms, memory.
    (50, 1, 1000, 25.0),
    (50, 2, 100, 40.0),
    // A hundred thousand series: what is known of each takes its room, whatever the rate.
    (50, 20, 1000, 40.0),
];

/// What a gateway did while it was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Readings that were served.
    pub(super) readings: f64,
    /// Seconds of CPU.
    pub(super) cpu: f64,
    /// Seconds that passed.
    pub(super) elapsed: f64,
    pub(super) memory: Memory,
    /// Readings that arrived at the broker meanwhile, give or take those on their way.
    pub(super) arrived: Option<u64>,
}

impl Cost {
    /// Readings per second of CPU.
    pub(super) fn per_cpu_second(&self) -> f64 {
        self.readings / self.cpu
    }
}

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    for &(connections, units, millis, memory) in LOADS {
        let period = Duration::from_millis(millis);
        let shape = Shape { connections, units, registers: 100, period };
        for publishes in [false, true] {
            let (rate, series) = (shape.rate() as u64, u32::from(connections * units) * 100);
            let dir = dir.join(format!("{rate}-{series}-{publishes}"));
            fs::create_dir_all(&dir)?;
            let Some(cost) = of_andon(&dir, shape, publishes, pace)? else { continue };
            let with = if publishes { ", with a broker" } else { "" };
            let share = cost.cpu / cost.elapsed * 100.0;
            let got = cost.readings / cost.elapsed;
            let what = format!("{rate}/s of {series} series{with}: CPU of one core");
            table.add(Row::reported(&what, format!("{share:.1} % at {got:.0}/s")));
            let what = format!("{rate}/s of {series} series{with}: readings served in time");
            table.add(Row::reported(&what, format!("{:.1} %", got / shape.rate() * 100.0)));
            let what = format!("{rate}/s of {series} series{with}: memory, peak resident");
            table.add(Row::at_most(&what, cost.memory.peak, memory, "MB"));
            if let Some(arrived) = cost.arrived {
                let share = arrived as f64 / cost.readings * 100.0;
                let what = format!("{rate}/s of {series} series: arrived at the broker");
                table.add(Row::reported(&what, format!("{share:.1} %")));
            }
        }
    }
    Ok(())
}

/// Runs andon under a load; `None` without a broker where one is wanted.
pub(super) fn of_andon(
    dir: &Path,
    shape: Shape,
    publishes: bool,
    pace: Pace,
) -> Result<Option<Cost>> {
    let broker = if publishes { Mosquitto::start(dir)? } else { None };
    if publishes && broker.is_none() {
        return Ok(None);
    }
    let port = broker.as_ref().map(|broker| broker.port);
    let mut registers = Registers::start(dir, shape.connections)?;
    let outputs = Outputs { broker: port, ..Outputs::default() };
    let config = shape.andon(dir, &registers.ports, outputs)?;
    let mut gateway = andon::run(dir, &config)?;
    if publishes {
        gateway.wait_for_line("the broker is reached", REACHED)?;
    }
    let filter = "andon/v1/+/+/observation";
    let listener = port.map(|port| (port, filter));
    watched(dir, &gateway, &mut registers, listener, pace).map(Some)
}

/// Lets a process settle, and watches what it uses and what it was served.
pub(super) fn watched(
    dir: &Path,
    process: &Process,
    registers: &mut Registers,
    listener: Option<(u16, &str)>,
    pace: Pace,
) -> Result<Cost> {
    std::thread::sleep(pace.settle);
    let listener = listener.map(|(port, filter)| Listener::start(dir, port, filter)).transpose()?;
    let (cpu_before, served) = (cpu(process)?, registers.served()?);
    let began = Instant::now();
    std::thread::sleep(pace.measure);
    let (cpu_after, now_served) = (cpu(process)?, registers.served()?);
    let elapsed = began.elapsed().as_secs_f64();
    Ok(Cost {
        readings: (now_served - served) as f64,
        cpu: cpu_after - cpu_before,
        elapsed,
        memory: Memory::of(process)?,
        arrived: listener.map(Listener::readings).transpose()?,
    })
}
