//! A wall clock that leaps two hours under a running gateway, as NTP does to a computer that has no
//! clock of its own: no measured value moves, no machine-hour is made, nobody is alarmed. The
//! process lives in a time of its own (libfaketime); boot time is the kernel's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use andon_engine::time::BootTime;
use andon_tests::andon as binary;
use andon_tests::peers::{Mosquitto, need, skip};
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const LEAP: Duration = Duration::from_secs(2 * 60 * 60);
/// By so much two clocks that are read one after the other may differ, on a busy computer.
const APART: f64 = 0.5;
/// The clocks are looked at once a second.
const NOTICED: f64 = 3.0;
/// How long the machine runs on either side of the leap.
const SIDE: Duration = Duration::from_secs(5);

/// A wall clock for one process, moved by writing a file.
struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// `None` when libfaketime is not installed.
    fn new(dir: &Path) -> Result<Option<Self>> {
        let libraries = fs::read_dir("/usr/lib")?.filter_map(Result::ok);
        let library = libraries
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file());
        let Some(library) = library else {
            skip("libfaketime is not installed");
            return Ok(None);
        };
        let clock = Self { library, offset: dir.join("offset") };
        clock.set(Duration::ZERO)?;
        Ok(Some(clock))
    }

    fn set(&self, ahead: Duration) -> Result<()> {
        // Replaced by rename: a reader must never find half of it.
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("+{}\n", ahead.as_secs()))?;
        Ok(fs::rename(&new, &self.offset)?)
    }

    fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// What an observation says of when, in seconds.
#[derive(Debug)]
struct Said {
    /// By boot time.
    boot: f64,
    /// By the wall clock.
    wall: f64,
}

/// Observations in the order in which they were made, each as it first came with a time. What was
/// made before the clock's anchor was on disk is sent without one and then again, and any message
/// may come twice: whoever listens goes by its number, and every time it says the same.
fn arrived(log: &Path) -> Result<Vec<Said>> {
    let mut observations: BTreeMap<u64, Said> = BTreeMap::new();
    for line in fs::read_to_string(log)?.lines() {
        let told: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let seconds = |key: &str| told[key].as_f64().map(|millis| millis / 1000.0);
        let (Some(boot), seq) = (seconds("bt"), told["seq"].as_u64()) else {
            bail!("{line}");
        };
        let seq = seq.with_context(|| line.to_owned())?;
        let Some(wall) = seconds("t") else {
            ensure!(told["clock"] == "unsynced", "{line}");
            continue;
        };
        let first = observations.entry(seq).or_insert(Said { boot, wall });
        ensure!(first.wall == wall, "{seq} was first of {} and then of {wall}", first.wall);
    }
    Ok(observations.into_values().collect())
}

/// Seconds of the computer's boot time and of its wall clock.
fn now() -> Result<Said> {
    let boot = andon::clock::boot_now().since(BootTime(0)).as_secs_f64();
    Ok(Said { boot, wall: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() })
}

fn configuration(dir: &Path, broker: u16, meter: u16) -> Result<PathBuf> {
    // A meter that answers late, because the computer stood still, is no matter of clocks.
    let workshop = Workshop::new(dir).mqtt(broker).tcp_bus("panel", meter).with(
        "turnaround = \"10 s\"\n[source.meter]\nbus = \"panel\"\nunit_id = 1\nprofile = \"eastron/sdm120\"\n\
         period = \"100 ms\"\n[machine.saw]\nname = \"Saw\"\nkind = \"table-saw\"\n\
         items = { \"power.active\" = \"meter.power.active\" }\n\
         activity = { from = \"power.active\", idle_above = \"15 W\", run_above = \"120 W\", \
         enter_for = \"300 ms\", exit_for = \"300 ms\" }\n\
         [rule.lost]\nmachine = \"saw\"\nwhen = \"power.active > 5000 W\"\nfor = \"1 s\"\n\
         unknown_for = \"2 s\"\non_unknown = \"alarm\"\nseverity = \"high\"\nmessage = \"Lost.\"\n",
    );
    workshop.write(dir)
}

/// Waits until the board says this of the machine.
fn wait_for_activity(url: &str, activity: &str) -> Result<()> {
    wait_for(&format!("the saw to be in {activity}"), PATIENCE, || {
        machine(url).is_ok_and(|machine| machine["activity"] == activity)
    })
}

fn machine(url: &str) -> Result<Value> {
    Ok(binary::get(&format!("{url}/api/v1/picture"))?["machines"][0].clone())
}

#[test]
fn a_wall_clock_that_leaps_two_hours_moves_no_value_and_makes_no_hours() -> Result<()> {
    let dir = work_dir("clock")?;
    let Some(clock) = WallClock::new(&dir)? else { return Ok(()) };
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let mut meter = Simulator::start("meter", &dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
    meter.say("set power.active=900")?;
    let mut listener = Command::new(need("mosquitto_sub").context("mosquitto_sub")?);
    let topic = format!("andon/v1/{SITE}/saw/observation");
    let port = broker.port.to_string();
    listener.args(["-h", "127.0.0.1", "-p", &port, "-t", &topic]);
    let listener = Process::start("arrived", &dir, &mut listener)?;

    let config = configuration(&dir, broker.port, meter.port()?)?;
    let mut gateway = binary::andon(&["run", "--config"]);
    clock.give_to(gateway.arg(&config));
    let mut gateway = Process::start("andon-run", &dir, &mut gateway)?;
    let line = gateway.wait_for_line("board: http://", PATIENCE)?;
    let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();

    wait_for_activity(&url, "run")?;
    std::thread::sleep(SIDE);
    clock.set(LEAP)?;
    let leap = now()?;
    let leapt = Instant::now();
    while leapt.elapsed() < SIDE {
        let now = machine(&url)?;
        ensure!(now["activity"] == "run", "{now}");
        ensure!(now["items"][0]["value"].is_number(), "{now}");
        std::thread::sleep(Duration::from_millis(50));
    }
    meter.say("set power.active=50")?;
    wait_for_activity(&url, "idle")?;
    gateway.stop(PATIENCE)?;
    drop(listener);

    let ran = ran(&meter.witnessed()?)?;
    expect_one_leap(&arrived(&dir.join("arrived.log"))?, ran, &leap)?;
    let log = fs::read_to_string(dir.join("andon-run.log"))?;
    ensure!(!log.contains("alarm"), "nobody is to be alarmed by a clock:\n{log}");
    let mut hours = binary::andon(&["history", "hours", "--from", "-3h", "--format", "json"]);
    clock.give_to(hours.arg("--config").arg(&config));
    let hours: Value = serde_json::from_slice(&hours.output()?.stdout)?;
    let counted = hours["machines"][0]["run_ms"].as_f64().context("run_ms")? / 1000.0;
    eprintln!("ran {ran:.2} s by the meter's own log, {counted:.2} s by the hours");
    ensure!((counted - ran).abs() < 0.4, "{counted} s of {ran} s: {hours}");
    Ok(())
}

/// How long the meter told that the machine runs, in seconds, by its log: from its first reply to
/// the first one after it was told to say something else.
fn ran(log: &[Value]) -> Result<f64> {
    let stopped = log.iter().rposition(|line| line["kind"] == "set").context("it was stopped")?;
    let first_reply = |log: &[Value]| {
        log.iter().find(|line| line["kind"] == "reply").and_then(|line| line["at"].as_u64())
    };
    let (began, ended) = (first_reply(log), first_reply(&log[stopped..]));
    let (began, ended) = (began.context("it was read")?, ended.context("it was read again")?);
    Ok((ended - began) as f64 / 1e9)
}

/// Every value carries the wall time at which it was taken, by the clock before the leap or after.
fn expect_one_leap(arrived: &[Said], ran: f64, leap: &Said) -> Result<()> {
    ensure!(arrived.len() as f64 > ran * 5.0, "{} observations in {ran} s", arrived.len());
    let ahead = |one: &Said| (one.wall - one.boot) - (leap.wall - leap.boot);
    let old = arrived.iter().take_while(|one| ahead(one) < LEAP.as_secs_f64() / 2.0).count();
    let (before, after) = arrived.split_at(old);
    ensure!(!before.is_empty() && !after.is_empty(), "{old} of {} before", arrived.len());
    for (side, offset) in [(before, 0.0), (after, LEAP.as_secs_f64())] {
        for one in side {
            ensure!((ahead(one) - offset).abs() < APART, "{one:?} is {} s ahead", ahead(one));
        }
        for pair in side.windows(2) {
            ensure!(pair[0].wall < pair[1].wall, "{pair:?} is out of order");
        }
    }
    let noticed = after[0].boot - leap.boot;
    ensure!((-APART..NOTICED).contains(&noticed), "noticed after {noticed} s");
    eprintln!("{} observations before the leap, {} after it", before.len(), after.len());
    Ok(())
}
