//! How much of a serial line's time its replies need: a line that is asked for more than it can do,
//! served at its pace by another process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Pace;
use super::table::{Row, Table};
use crate::andon;
use crate::simulator::Simulator;
use crate::workshop::Workshop;

/// The lines' speeds.
const BAUDS: [u32; 3] = [9600, 19_200, 38_400];
/// What the devices of a paced pseudo-terminal need before they answer: more than the silence.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Meters on it, each wanted every 100 ms.
const UNITS: u8 = 8;
/// Items that a meter reads with one request.
const ITEMS: &[&str] = &[
    "voltage.l1",
    "voltage.l2",
    "voltage.l3",
    "current.l1",
    "current.l2",
    "current.l3",
    "power.active.l1",
    "power.active.l2",
    "power.active.l3",
    "power.factor.l1",
];

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    for baud in BAUDS {
        let dir = dir.join(baud.to_string());
        fs::create_dir_all(&dir)?;
        let share = share_used(&dir, baud, pace)?;
        let what = format!("a full line at {baud} baud, of T(N)");
        table.add(Row::at_least(&what, share * 100.0, 95.0, "%"));
    }
    Ok(())
}

/// The share of the time that the replies of a line need at the least:
/// T(N) = (8 + bytes) c + max(d, t35) + t35, for 11 bits a character.
fn share_used(dir: &Path, baud: u32, pace: Pace) -> Result<f64> {
    let (speed, millis) = (baud.to_string(), TURNAROUND.as_millis().to_string());
    let mut arguments = vec!["eastron/sdm630", "--rtu", "--baud", &speed, "--turnaround", &millis];
    let units: Vec<String> = (1..=UNITS).map(|unit| unit.to_string()).collect();
    units.iter().for_each(|unit| arguments.extend(["--unit", unit]));
    let meters = Simulator::start("meters", dir, &arguments)?;
    let mut workshop = Workshop::new(dir).with(&format!(
        "[bus.panel]\ntype = \"modbus-rtu\"\nport = \"{}\"\nbaud = {baud}\nparity = \"even\"\n",
        meters.address
    ));
    for unit in 1..=UNITS {
        workshop = workshop.with(&machine(unit));
    }
    let _gateway = andon::run(dir, &workshop.write(dir)?)?;
    std::thread::sleep(pace.settle);
    let (before, began) = (line_time(&meters, baud)?, Instant::now());
    std::thread::sleep(pace.measure);
    let used = line_time(&meters, baud)? - before;
    Ok(used / began.elapsed().as_secs_f64())
}

/// Seconds that the replies of a line so far take at the least.
fn line_time(meters: &Simulator, baud: u32) -> Result<f64> {
    let character = 11.0 / f64::from(baud);
    let silence = if baud > 19_200 { 0.001_75 } else { 3.5 * character };
    let around = TURNAROUND.as_secs_f64().max(silence) + silence;
    let lines = meters.witnessed()?;
    let replies = lines.iter().filter(|line| line["kind"] == "reply");
    let bytes = replies.filter_map(|line| line["bytes"].as_f64());
    Ok(bytes.map(|bytes| (8.0 + bytes) * character + around).sum())
}

/// A meter of ten items, wanted every 100 ms.
fn machine(unit: u8) -> String {
    let items: Vec<String> =
        ITEMS.iter().map(|item| format!("\"{item}\" = \"m{unit}.{item}\"")).collect();
    format!(
        "[source.m{unit}]\nbus = \"panel\"\nunit_id = {unit}\nprofile = \"eastron/sdm630\"\n\
         period = \"100 ms\"\n[machine.m{unit}]\nname = \"m{unit}\"\nkind = \"other\"\n\
         items = {{ {} }}\n",
        items.join(", ")
    )
}
