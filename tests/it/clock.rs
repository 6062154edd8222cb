//! A wall clock that leaps two hours under a running gateway, as NTP does to a computer that has no
//! clock of its own: no measured value moves, no machine-hour is made, nobody is alarmed. The
//! process lives in a time of its own (libfaketime); boot time is the kernel's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use andon_tests::andon as binary;
use andon_tests::peers::{Mosquitto, need, skip};
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const LEAP: Duration = Duration::from_secs(2 * 60 * 60);
/// From the end of a poll to a line of the subscriber, on a busy machine.
const UNDER_WAY: f64 = 2.0;
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

/// An observation as it arrived.
#[derive(Debug)]
struct Arrived {
    /// When, in seconds of the subscriber's clock.
    at: f64,
    /// What it says of when, in seconds.
    said: f64,
}

/// Observations in the order in which they were made, each as it first came with a time. What was
/// made before the clock's anchor was on disk is sent without one and then again, and any message
/// may come twice: whoever listens goes by its number, and every time it says the same.
fn arrived(log: &Path) -> Result<Vec<Arrived>> {
    let mut observations: BTreeMap<u64, Arrived> = BTreeMap::new();
    for line in fs::read_to_string(log)?.lines() {
        let (at, payload) = line.split_once(' ').with_context(|| line.to_owned())?;
        let told: Value = serde_json::from_str(payload).with_context(|| line.to_owned())?;
        let Some(said) = told["t"].as_f64().map(|said| said / 1000.0) else {
            ensure!(told["clock"] == "unsynced", "{line}");
            continue;
        };
        let seq = told["seq"].as_u64().with_context(|| line.to_owned())?;
        let first = observations.entry(seq).or_insert(Arrived { at: at.parse()?, said });
        ensure!(first.said == said, "{seq} was first of {} and then of {said}", first.said);
    }
    Ok(observations.into_values().collect())
}

fn configuration(dir: &Path, broker: u16, meter: u16) -> Result<PathBuf> {
    let workshop = Workshop::new(dir).mqtt(broker).tcp_bus("panel", meter).with(
        "[source.meter]\nbus = \"panel\"\nunit_id = 1\nprofile = \"eastron/sdm120\"\n\
         period = \"100 ms\"\n[machine.saw]\nname = \"Saw\"\nkind = \"table-saw\"\n\
         items = { \"power.active\" = \"meter.power.active\" }\n\
         activity = { from = \"power.active\", idle_above = \"15 W\", run_above = \"120 W\", \
         enter_for = \"300 ms\", exit_for = \"300 ms\" }\n\
         [rule.lost]\nmachine = \"saw\"\nwhen = \"power.active > 5000 W\"\nfor = \"1 s\"\n\
         unknown_for = \"2 s\"\non_unknown = \"alarm\"\nseverity = \"high\"\nmessage = \"Lost.\"\n",
    );
    workshop.write(dir)
}

/// Waits until the board says this of the machine; returns when that was.
fn wait_for_activity(url: &str, activity: &str) -> Result<Instant> {
    wait_for(&format!("the saw to be in {activity}"), PATIENCE, || {
        machine(url).is_ok_and(|machine| machine["activity"] == activity)
    })?;
    Ok(Instant::now())
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
    listener.args(["-h", "127.0.0.1", "-p", &port, "-t", &topic, "-F", "%U %p"]);
    let listener = Process::start("arrived", &dir, &mut listener)?;

    let config = configuration(&dir, broker.port, meter.port()?)?;
    let mut gateway = binary::andon(&["run", "--config"]);
    clock.give_to(gateway.arg(&config));
    let mut gateway = Process::start("andon-run", &dir, &mut gateway)?;
    let line = gateway.wait_for_line("board: http://", PATIENCE)?;
    let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();

    let started = wait_for_activity(&url, "run")?;
    std::thread::sleep(SIDE);
    clock.set(LEAP)?;
    let leapt = Instant::now();
    while leapt.elapsed() < SIDE {
        let now = machine(&url)?;
        ensure!(now["activity"] == "run", "{now}");
        ensure!(now["items"][0]["value"].is_number(), "{now}");
        std::thread::sleep(Duration::from_millis(50));
    }
    meter.say("set power.active=50")?;
    let ran = wait_for_activity(&url, "idle")?.duration_since(started).as_secs_f64();
    gateway.stop(PATIENCE)?;
    drop(listener);

    expect_one_leap(&arrived(&dir.join("arrived.log"))?, ran)?;
    let log = fs::read_to_string(dir.join("andon-run.log"))?;
    ensure!(!log.contains("alarm"), "nobody is to be alarmed by a clock:\n{log}");
    let mut hours = binary::andon(&["history", "hours", "--from", "-3h", "--format", "json"]);
    clock.give_to(hours.arg("--config").arg(&config));
    let hours: Value = serde_json::from_slice(&hours.output()?.stdout)?;
    let counted = hours["machines"][0]["run_ms"].as_f64().context("run_ms")? / 1000.0;
    eprintln!("ran {ran:.2} s by a stopwatch beside it, {counted:.2} s by the hours");
    ensure!((counted - ran).abs() < 1.0, "{counted} s of {ran} s: {hours}");
    Ok(())
}

/// Every value carries the wall time at which it was taken, by the clock before the leap or after.
fn expect_one_leap(arrived: &[Arrived], ran: f64) -> Result<()> {
    ensure!(arrived.len() as f64 > ran * 5.0, "{} observations in {ran} s", arrived.len());
    let ahead = |one: &Arrived| one.said - one.at;
    let old = arrived.iter().take_while(|one| ahead(one) < LEAP.as_secs_f64() / 2.0).count();
    let (before, after) = arrived.split_at(old);
    ensure!(!before.is_empty() && !after.is_empty(), "{old} of {} before", arrived.len());
    for (side, leap) in [(before, 0.0), (after, LEAP.as_secs_f64())] {
        for one in side {
            let late = leap - ahead(one);
            ensure!((-0.3..UNDER_WAY).contains(&late), "{one:?} is {late} s late");
        }
        for pair in side.windows(2) {
            ensure!(pair[0].said < pair[1].said, "{pair:?} is out of order");
        }
    }
    let noticed = after[0].at - before[0].at;
    ensure!(noticed < SIDE.as_secs_f64() + NOTICED + UNDER_WAY, "noticed after {noticed} s only");
    eprintln!("{} observations before the leap, {} after it", before.len(), after.len());
    Ok(())
}
