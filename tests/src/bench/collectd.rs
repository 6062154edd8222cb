//! andon beside collectd: the same registers of the same server into the same kind of broker.
//!
//! collectd asks for every register by itself, that is its way, and publishes at QoS 0, which is
//! in its favour: andon waits for the broker's word, and keeps a journal. On Debian it is there
//! after `apt-get install --no-install-recommends collectd-core libmodbus5 libmosquitto1`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Pace;
use super::floor;
use super::loads::{self, Cost};
use super::registers::Registers;
use super::shape::Shape;
use super::table::{Row, Table, median};
use crate::peers::{Mosquitto, need};
use crate::process::Process;

/// What is compared, and how many times collectd's readings per CPU second are wanted.
const SHAPES: &[(&str, Shape, f64)] = &[
    (
        "dense maps (50 × 100 registers)",
        Shape { connections: 50, units: 1, registers: 100, period: Duration::from_secs(1) },
        10.0,
    ),
    (
        "one-register maps (50 × 20 devices)",
        Shape { connections: 50, units: 20, registers: 1, period: Duration::from_millis(200) },
        3.0,
    ),
];

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    let Some(program) = need("collectd") else { return Ok(()) };
    for (nth, &(name, shape, least)) in SHAPES.iter().enumerate() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..pace.rounds {
            let dir = dir.join(format!("{nth}-{round}"));
            for name in ["andon", "collectd"] {
                fs::create_dir_all(dir.join(name))?;
            }
            let cost = loads::of_andon(&dir.join("andon"), shape, true, pace)?;
            let Some(cost) = cost else { return Ok(()) };
            ours.push(cost);
            let cost = of_collectd(&program, &dir.join("collectd"), shape, pace)?;
            let Some(cost) = cost else { return Ok(()) };
            theirs.push(cost);
        }
        add_rows(name, least, &ours, &theirs, table);
        if shape.registers == 1 {
            let floor = floor::transactions_per_cpu_second(dir, shape, pace)? / 1e3;
            let theirs = median(theirs.iter().map(|cost| cost.per_cpu_second() / 1e3).collect());
            table.add(floor_row(name, floor, theirs));
        }
    }
    Ok(())
}

fn add_rows(name: &str, least: f64, ours: &[Cost], theirs: &[Cost], table: &mut Table) {
    let of = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let rate: fn(&Cost) -> f64 = |cost| cost.per_cpu_second() / 1e3;
    let what = format!("{name}: thousand readings per CPU second");
    table.add(Row::times(&what, of(ours, rate), of(theirs, rate), least, "k"));
    let pair = |what: &str, figure: fn(&Cost) -> f64, unit: &str| {
        let (andon, peer) = (of(ours, figure), of(theirs, figure));
        let mut row = Row::reported(&format!("{name}: {what}"), format!("{andon:.2} {unit}"));
        row.peer = format!("{peer:.2} {unit}");
        row.ratio = format!("{:.2}", andon / peer);
        row
    };
    table.add(pair("CPU per million readings", |cost| 1e6 / cost.per_cpu_second(), "s"));
    table.add(pair("memory, peak resident", |cost| cost.memory.peak, "MB"));
    table.add(pair("readings a second", |cost| cost.readings / cost.elapsed, "/s"));
    let arrived: fn(&Cost) -> f64 =
        |cost| cost.arrived.map_or(f64::NAN, |arrived| arrived as f64 / cost.readings * 100.0);
    table.add(pair("arrived at the broker", arrived, "%"));
}

/// What anybody could reach who only asked, and did nothing with the answers.
fn floor_row(name: &str, floor: f64, peer: f64) -> Row {
    let what = format!("{name}: kernel floor of one request and reply");
    let mut row = Row::reported(&what, format!("{floor:.0} k"));
    row.peer = format!("{peer:.0} k");
    row.ratio = format!("{:.1}", floor / peer);
    row
}

fn of_collectd(program: &Path, dir: &Path, shape: Shape, pace: Pace) -> Result<Option<Cost>> {
    let Some(broker) = Mosquitto::start(dir)? else { return Ok(None) };
    let mut registers = Registers::start(dir, shape.connections)?;
    let config = shape.collectd(dir, &registers.ports, broker.port)?;
    let mut command = Command::new(program);
    // In the foreground: it ends with the benchmark.
    command.arg("-f").arg("-C").arg(config);
    let collectd = Process::start("collectd", dir, &mut command)?;
    let listener = Some((broker.port, "collectd/#"));
    let cost = loads::watched(dir, &collectd, &mut registers, listener, pace)?;
    let log = std::fs::read_to_string(&collectd.log)?;
    ensure!(cost.readings > 0.0, "collectd reads nothing; it says:\n{log}");
    Ok(Some(cost))
}
