//! The benchmark that anyone can run: memory, binary size, start to first poll, CPU per reading,
//! beside the numbers that andon wants to reach. Run it through `tests/bench`.
//!
//! Readings are counted in the simulator's own log, CPU and memory in `/proc`: andon is not asked.

#![expect(clippy::print_stdout, reason = "the table is the output")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use andon_tests::andon::{self, binary};
use andon_tests::peers::Mosquitto;
use andon_tests::process::{Process, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result};

/// How long each load is measured.
const MEASURE: Duration = Duration::from_secs(20);

/// How long a load runs before it is measured.
const SETTLE: Duration = Duration::from_secs(4);

/// Kernel ticks per second of CPU time (`getconf CLK_TCK`), 100 on every Linux that andon runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Items that the benchmark's meter reads with one request; each is one reading.
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

struct Row {
    what: &'static str,
    measured: String,
    wanted: &'static str,
    reached: bool,
}

fn main() -> Result<()> {
    let dir = work_dir("bench")?;
    let mut rows = Vec::new();
    size(&mut rows)?;
    idle(&dir, &mut rows)?;
    for load in LOADS {
        loaded(&dir, load, &mut rows)?;
    }
    for line in LINES {
        saturated(&dir, line, &mut rows)?;
    }
    demo(&dir, &mut rows)?;
    println!("{:<50} {:>22}   {:<24} reached", "what", "measured", "wanted");
    for Row { what, measured, wanted, reached } in rows {
        println!("{what:<50} {measured:>22}   {wanted:<24} {}", if reached { "yes" } else { "NO" });
    }
    Ok(())
}

fn size(rows: &mut Vec<Row>) -> Result<()> {
    let bytes = fs::metadata(binary())?.len();
    rows.push(Row {
        what: "binary, stripped, with the board in it",
        measured: megabytes(bytes),
        wanted: "≤ 15 MB",
        reached: bytes <= 15_000_000,
    });
    Ok(())
}

fn idle(dir: &Path, rows: &mut Vec<Row>) -> Result<()> {
    // One meter read twice a second: as idle as a gateway gets, and its first poll is seen.
    let dir = dir.join("idle");
    fs::create_dir_all(&dir)?;
    let meter = Simulator::start("meter", &dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
    let config = Workshop::new(&dir).tcp_bus("panel", meter.port()?).meter("panel", 1, "500 ms");
    let config = config.write(&dir)?;
    let started = boot_nanos();
    let gateway = andon::run(&dir, &config)?;
    std::thread::sleep(SETTLE);
    let first = meter
        .witnessed()?
        .iter()
        .filter_map(|line| line["at"].as_u64())
        .find(|&at| at >= started)
        .context("the meter was never polled")?;
    let wait = Duration::from_nanos(first - started);
    rows.push(Row {
        what: "start to first poll on the wire",
        measured: format!("{:.0} ms", wait.as_secs_f64() * 1e3),
        wanted: "≤ 300 ms",
        reached: wait <= Duration::from_millis(300),
    });
    let memory = Memory::of(&gateway)?;
    rows.push(Row {
        what: "memory idle, peak resident (VmHWM)",
        measured: megabytes(memory.peak),
        wanted: "≤ 14 MB",
        reached: memory.peak <= 14_000_000,
    });
    rows.push(Row {
        what: "memory idle, anonymous",
        measured: megabytes(memory.anonymous),
        wanted: "≤ 5 MB",
        reached: memory.anonymous <= 5_000_000,
    });
    Ok(())
}

/// A load that is measured.
struct Load {
    what: &'static str,
    /// Meters, each of 100 readings a second.
    units: u8,
    /// Whether everything goes to a broker as well, and how its memory row is called.
    publishes: bool,
    memory: Option<&'static str>,
}

const LOADS: &[Load] = &[
    Load { what: "CPU per 1 000 readings at 500/s", units: 5, publishes: false, memory: None },
    Load {
        what: "CPU per 1 000 readings at 5 000/s",
        units: 50,
        publishes: false,
        memory: Some("memory at 5 000 readings/s, peak resident"),
    },
    Load {
        what: "CPU per 1 000 readings at 500/s, with a broker",
        units: 5,
        publishes: true,
        memory: None,
    },
    Load {
        what: "CPU per 1 000 readings at 5 000/s, with a broker",
        units: 50,
        publishes: true,
        memory: Some("memory at 5 000 readings/s, with a broker"),
    },
];

fn loaded(dir: &Path, load: &Load, rows: &mut Vec<Row>) -> Result<()> {
    let &Load { what, units, publishes, memory } = load;
    let dir = dir.join(format!("load-{units}-{publishes}"));
    fs::create_dir_all(&dir)?;
    let broker = if publishes { Mosquitto::start(&dir)? } else { None };
    if publishes && broker.is_none() {
        return Ok(());
    }
    let mut arguments = vec!["eastron/sdm630".to_owned(), "--tcp".into(), "127.0.0.1:0".into()];
    for unit in 1..=units {
        arguments.extend(["--unit".into(), unit.to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let meters = Simulator::start("meters", &dir, &arguments)?;
    let mut workshop = Workshop::new(&dir).tcp_bus("panel", meters.port()?);
    if let Some(broker) = &broker {
        // What the broker has taken is delivered: no recorder takes part in the figure.
        let port = broker.port;
        workshop = workshop.with(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n"));
    }
    for unit in 1..=units {
        workshop = workshop.with(&machine(unit));
    }
    let mut gateway = andon::run(&dir, &workshop.write(&dir)?)?;
    if publishes {
        gateway.wait_for_line("the broker is reached", SETTLE)?;
    }
    std::thread::sleep(SETTLE);
    let (cpu_before, served_before) = (cpu(&gateway)?, polls(&meters)?);
    let began = Instant::now();
    std::thread::sleep(MEASURE);
    let cpu = cpu(&gateway)? - cpu_before;
    let elapsed = began.elapsed().as_secs_f64();
    let readings = (polls(&meters)? - served_before) as f64 * ITEMS.len() as f64;
    let peak = Memory::of(&gateway)?.peak;
    rows.push(Row {
        what,
        measured: format!("{:.2} ms ({:.0} r/s)", cpu * 1e6 / readings, readings / elapsed),
        wanted: "reported",
        reached: true,
    });
    if let Some(what) = memory {
        rows.push(Row {
            what,
            measured: megabytes(peak),
            wanted: "≤ 25 MB",
            reached: peak <= 25_000_000,
        });
    }
    Ok(())
}

/// A serial line that is asked for more than it can do.
struct SerialLine {
    what: &'static str,
    baud: u32,
}

const LINES: &[SerialLine] = &[
    SerialLine { what: "a full line at 9600 baud, of T(N)", baud: 9600 },
    SerialLine { what: "a full line at 38400 baud, of T(N)", baud: 38_400 },
];

/// What the devices of a paced pseudo-terminal need before they answer: more than the silence.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Meters on it, each wanted every 100 ms.
const LINE_UNITS: u8 = 8;

/// The share of the time that the replies of a line, served at its pace by another process, need
/// at the least: T(N) = (8 + bytes) c + max(d, t35) + t35, for 11 bits a character.
fn saturated(dir: &Path, line: &SerialLine, rows: &mut Vec<Row>) -> Result<()> {
    let dir = dir.join(format!("line-{}", line.baud));
    fs::create_dir_all(&dir)?;
    let (baud, millis) = (line.baud.to_string(), TURNAROUND.as_millis().to_string());
    let mut arguments = vec!["eastron/sdm630", "--rtu", "--baud", &baud, "--turnaround", &millis];
    let units: Vec<String> = (1..=LINE_UNITS).map(|unit| unit.to_string()).collect();
    units.iter().for_each(|unit| arguments.extend(["--unit", unit]));
    let meters = Simulator::start("meters", &dir, &arguments)?;
    let mut workshop = Workshop::new(&dir).with(&format!(
        "[bus.panel]\ntype = \"modbus-rtu\"\nport = \"{}\"\nbaud = {baud}\nparity = \"even\"\n",
        meters.address
    ));
    for unit in 1..=LINE_UNITS {
        workshop = workshop.with(&machine(unit));
    }
    let _gateway = andon::run(&dir, &workshop.write(&dir)?)?;
    std::thread::sleep(SETTLE);
    let (before, began) = (line_time(&meters, line.baud)?, Instant::now());
    std::thread::sleep(MEASURE);
    let used = line_time(&meters, line.baud)? - before;
    let share = used / began.elapsed().as_secs_f64();
    rows.push(Row {
        what: line.what,
        measured: format!("{:.1} %", share * 100.0),
        wanted: "≥ 95 %",
        reached: share >= 0.95,
    });
    Ok(())
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

/// A meter of ten items read every 100 ms: 100 readings a second.
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

fn demo(dir: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let dir = dir.join("demo");
    fs::create_dir_all(&dir)?;
    let mut command = andon::andon(&["demo", "--listen", "127.0.0.1:0"]);
    let started = Instant::now();
    let mut demo = Process::start("demo", &dir, &mut command)?;
    demo.wait_for_line("board: http://", Duration::from_secs(10))?;
    let up = started.elapsed();
    std::thread::sleep(Duration::from_secs(15));
    let memory = Memory::of(&demo)?;
    rows.push(Row {
        what: "demo: start to board",
        measured: format!("{:.0} ms", up.as_secs_f64() * 1e3),
        wanted: "≤ 2 s",
        reached: up <= Duration::from_secs(2),
    });
    rows.push(Row {
        what: "demo: memory, peak resident",
        measured: megabytes(memory.peak),
        wanted: "≤ 25 MB",
        reached: memory.peak <= 25_000_000,
    });
    Ok(())
}

/// Read requests that the simulator answered, each one poll of one meter.
fn polls(meters: &Simulator) -> Result<usize> {
    let lines = meters.witnessed()?;
    let polls = lines.iter().filter(|line| line["kind"] == "reply");
    let distinct: HashSet<u64> = polls.filter_map(|line| line["at"].as_u64()).collect();
    Ok(distinct.len())
}

/// Seconds of CPU that a process has used, its own and the kernel's on its behalf.
fn cpu(process: &Process) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let after_name = stat.rsplit(") ").next().context("a stat line")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

struct Memory {
    peak: u64,
    anonymous: u64,
}

impl Memory {
    /// Bytes, from `/proc/PID/status`.
    fn of(process: &Process) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("a field")?;
            let kilobytes = line.split_whitespace().nth(1).context("a number")?;
            Ok(kilobytes.parse::<u64>()? * 1024)
        };
        Ok(Self { peak: field("VmHWM:")?, anonymous: field("RssAnon:")? })
    }
}

fn boot_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
