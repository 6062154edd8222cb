//! A gateway among faults that come and go at random: devices silent, late, garbled, a broker
//! killed, boards opened and left. Its memory and descriptors must not grow.
//!
//! The ordinary run soaks for a short while; `ANDON_SOAK_SECONDS` sets how long.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use andon_tests::andon;
use andon_tests::peers::Mosquitto;
use andon_tests::process::{Dice, Process, count_from_env, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};

const UNITS: u8 = 8;
/// What a short run may still take after its first half: caches and queues that fill for the first
/// time. A long one may take this and 0.1 MB an hour.
const SETTLING: f64 = 1.5e6;
const PER_HOUR: f64 = 0.1e6;
/// Descriptors come and go with connections.
const DESCRIPTORS: usize = 8;
const FAULTS: [&str; 5] = ["silence", "late ms=400", "unit", "short", "function"];

/// A process at one moment.
#[derive(Clone, Copy)]
struct Sample {
    resident: f64,
    descriptors: usize,
}

impl Sample {
    fn of(process: &Process) -> Result<Self> {
        let folder = format!("/proc/{}", process.id());
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: f64 = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        let descriptors = fs::read_dir(format!("{folder}/fd"))?.count();
        Ok(Self { resident: kilobytes * 1024.0, descriptors })
    }
}

#[test]
fn faults_that_come_and_go_for_long_cost_no_memory() -> Result<()> {
    let dir = work_dir("soak")?;
    let Some(mut broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let arguments = ["eastron/sdm120", "--unit", "1", "--unit", "2", "--unit", "3", "--unit", "4"];
    let tcp: Vec<_> = arguments.iter().chain(&["--tcp", "127.0.0.1:0"]).copied().collect();
    let rtu: Vec<_> = arguments.iter().chain(&["--rtu", "--baud", "19200"]).copied().collect();
    let mut benches = [Simulator::start("tcp", &dir, &tcp)?, Simulator::start("rtu", &dir, &rtu)?];
    let mut workshop = Workshop::new(&dir).mqtt(broker.port).tcp_bus("tcp", benches[0].port()?);
    workshop = workshop.rtu_bus("rtu", Path::new(&benches[1].address), 19_200);
    for unit in 1..=UNITS / 2 {
        workshop = workshop.meter("tcp", unit, "100 ms").meter("rtu", unit, "500 ms");
    }
    let mut gateway = andon::run(&dir, &workshop.write(&dir)?)?;
    let board = gateway.wait_for_line("board: http://", Duration::from_secs(10))?;
    let board = board.split("http://").nth(1).context("the board's address")?.trim().to_owned();

    let seconds = count_from_env("ANDON_SOAK_SECONDS", 30);
    let span = Duration::from_secs(u64::from(seconds));
    let mut dice = Dice::seeded("soak");
    let (mut samples, mut boards) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < span {
        disturb(&mut dice, &mut benches, &mut broker)?;
        look(&mut dice, &board, &mut boards)?;
        std::thread::sleep(Duration::from_millis(500));
        samples.push(Sample::of(&gateway)?);
    }
    ensure!(gateway.running(), "the gateway has ended; see {}", dir.display());
    judge(&samples, span)
}

/// One fault comes or goes; now and then the broker dies and returns.
fn disturb(dice: &mut Dice, benches: &mut [Simulator; 2], broker: &mut Mosquitto) -> Result<()> {
    let bench = &mut benches[usize::from(dice.below(3) == 0)];
    let unit = 1 + dice.below(u64::from(UNITS / 2));
    if dice.below(2) == 0 {
        bench.say(&format!("clear unit={unit}"))?;
    } else {
        let fault = FAULTS[usize::try_from(dice.below(FAULTS.len() as u64))?];
        bench.say(&format!("fault {fault} unit={unit}"))?;
    }
    if dice.below(20) == 0 {
        broker.kill();
        broker.restart()?;
    }
    Ok(())
}

/// A board is opened and read a little, or left without a word.
fn look(dice: &mut Dice, board: &str, boards: &mut Vec<TcpStream>) -> Result<()> {
    if boards.len() > 3 || dice.below(3) == 0 {
        boards.clear();
    }
    let mut stream = TcpStream::connect(board.trim_end_matches('/'))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
    let read = stream.read(&mut [0; 4096])?;
    ensure!(read > 0, "the board's stream ended at once");
    boards.push(stream);
    Ok(())
}

fn judge(samples: &[Sample], span: Duration) -> Result<()> {
    let (first, second) = samples.split_at(samples.len() / 2);
    let median = |samples: &[Sample]| {
        let mut resident: Vec<f64> = samples.iter().map(|sample| sample.resident).collect();
        resident.sort_by(f64::total_cmp);
        resident.get(resident.len() / 2).copied().context("no samples")
    };
    let most = |samples: &[Sample]| samples.iter().map(|sample| sample.descriptors).max();
    let (before, after) =
        (median(&first[first.len() / 2..])?, median(&second[second.len() / 2..])?);
    let hours = span.as_secs_f64() / 3600.0;
    eprintln!(
        "soaked for {span:?}: {:.2} MB in the second quarter, {:.2} MB in the last; at most {:?} \
         descriptors, then {:?}",
        before / 1e6,
        after / 1e6,
        most(first),
        most(second)
    );
    ensure!(after - before <= SETTLING + PER_HOUR * hours, "it has grown");
    ensure!(most(second) <= most(first).map(|most| most + DESCRIPTORS), "descriptors leak");
    Ok(())
}
