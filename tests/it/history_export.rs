//! `andon export` beside a gateway that reads a meter and writes: whatever moment it looks at, what it
//! prints is what the journal was given, each sample once; and in the end all of it, in both forms.
//!
//! The days that are exported lie in an earlier boot, whose journal the test writes itself; the gateway
//! makes history of them when it starts, and what it has not made yet comes from the journal.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use andon::config::plan::JournalPlan;
use andon::journal::{BootId, Journal, Payload, Reader, Stream};
use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use andon_tests::andon as binary;
use andon_tests::process::{wait_for, work_dir};
use andon_tests::run_of_time::{BEGIN_MS, DAY, ITEMS, MACHINE, measured, number, observation};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Context as _, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(60);
/// The boot before, and what it wrote: three days, a sample a minute.
const BOOT: BootId = BootId([0xe0; 16]);
const SAMPLES: u64 = 3 * DAY;

/// A sample as it was printed: its number, its item, and what it was.
type Printed = (u64, String, String);

#[test]
fn an_export_beside_a_gateway_that_writes_has_each_sample_once() -> Result<()> {
    let dir = work_dir("history-export")?;
    write_journal(&dir.join("state/journal"))?;
    let meter = Simulator::start("meter", &dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
    let config = Workshop::new(&dir).tcp_bus("panel", meter.port()?).meter("panel", 1, "100 ms");
    let config = config.write(&dir)?;
    let _gateway = binary::run(&dir, &config)?;
    let live = observations_of(&dir, "panel-1")?;
    let (mut looks, mut found) = (0, BTreeSet::new());
    let mut trouble = None;
    wait_for("all of the days in an export", PATIENCE, || {
        looks += 1;
        match export(&config, "csv").and_then(|text| once(text.lines().skip(1), of_csv)) {
            Ok(rows) => found = rows,
            Err(error) => trouble = Some(error),
        }
        let written = observations_of(&dir, "panel-1").unwrap_or(0) - live;
        trouble.is_some() || (found.len() >= all().len() && written > 0)
    })?;
    trouble.map_or(Ok(()), Err)?;
    ensure!(found == all(), "more was exported than was written");
    let text = export(&config, "lp")?;
    ensure!(once(text.lines(), of_line)? == all(), "line protocol says something else");
    let while_exporting = observations_of(&dir, "panel-1")? - live;
    ensure!(while_exporting > 0, "the gateway wrote nothing meanwhile");
    eprintln!(
        "exported {} samples beside a gateway that wrote {while_exporting} observations, {looks} looks",
        found.len()
    );
    Ok(())
}

/// What the boot before left: an anchor and observations.
fn write_journal(dir: &Path) -> Result<()> {
    let plan = JournalPlan { telemetry_bytes: 1 << 26, sync: Duration::from_secs(5) };
    let journal = Journal::open(dir, &plan, BOOT)?;
    let anchor = Event::Clock { at: BootTime(0), wall_ms: BEGIN_MS };
    journal.append(vec![Payload::Event(anchor)]);
    // The last one shows that the hours before it are over; it lies outside what is exported.
    let samples = (0..SAMPLES).chain([SAMPLES + 120]);
    journal.append(samples.map(|nth| Payload::Observation(observation(0, nth))).collect());
    journal.close();
    Ok(())
}

/// Observations of a machine in the journal.
fn observations_of(dir: &Path, machine: &str) -> Result<usize> {
    let records = Reader::open(&dir.join("state/journal"))?.records(Stream::Telemetry)?;
    let of = |payload: &Payload| matches!(payload, Payload::Observation(seen) if *seen.machine == *machine);
    Ok(records.filter(|record| of(&record.payload)).count())
}

fn export(config: &Path, format: &str) -> Result<String> {
    let config = config.to_string_lossy();
    let window = ["--from", "2025-12-31T00:00:00Z", "--to", "2026-01-04T00:00:00Z"];
    let what = ["--machine", MACHINE, "--format", format, "--config", &config];
    let output = binary::output(&[&["export"], &window[..], &what[..]].concat())?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // Before the gateway has made the file there is none.
    let none = told.contains("there is no history here");
    ensure!(output.status.success() || none, "{told}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Reads lines; every sample may be there once, and none that was not written.
fn once<'t>(
    lines: impl Iterator<Item = &'t str>,
    read: fn(&str) -> Option<Printed>,
) -> Result<BTreeSet<Printed>> {
    let (mut found, all) = (BTreeSet::new(), all());
    for line in lines {
        let printed = read(line).with_context(|| format!("{line:?} is no sample"))?;
        ensure!(all.contains(&printed), "{line:?} was never written");
        ensure!(found.insert(printed), "{line:?} is there twice");
    }
    Ok(found)
}

/// What was written.
fn all() -> BTreeSet<Printed> {
    let samples = (0..SAMPLES).flat_map(|nth| ITEMS.map(|item| (nth, item)));
    samples.map(|(nth, item)| (nth, item.to_owned(), word(&measured(item, 0, nth)))).collect()
}

/// One word for a value; numbers by their bits.
fn word(measured: &Measured) -> String {
    match measured {
        Ok(Value::Number(number)) => format!("{:x}", number.to_bits()),
        Ok(Value::Flag(flag)) => flag.to_string(),
        Ok(Value::Text(text)) => text.to_string(),
        Err(reason) => format!("unavailable {}", reason.code()),
    }
}

/// `2026-01-02T03:04:00.000Z,press,temperature,1.5,`
fn of_csv(line: &str) -> Option<Printed> {
    let [time, MACHINE, item, value, reason] = line.split(',').collect::<Vec<_>>()[..] else {
        return None;
    };
    let time = time.strip_prefix("2026-01-")?.strip_suffix(":00.000Z")?;
    let (day, clock) = time.split_once('T')?;
    let (hours, minutes) = clock.split_once(':')?;
    let [day, hours, minutes]: [u64; 3] =
        [day.parse().ok()?, hours.parse().ok()?, minutes.parse().ok()?];
    let nth = (day - 1) * DAY + hours * 60 + minutes;
    let word = match (value, reason) {
        ("", "timeout") => word(&Err(Unavailable::Timeout)),
        ("true" | "false", "") => value.to_owned(),
        (_, "") => format!("{:x}", value.parse::<f64>().ok()?.to_bits()),
        _ => return None,
    };
    Some((nth, item.to_owned(), word))
}

/// `andon,site=test,machine=press temperature=1.5 1767225600000`
fn of_line(line: &str) -> Option<Printed> {
    let fields = line.strip_prefix(&format!("andon,site={SITE},machine={MACHINE} "))?;
    let (field, at) = fields.split_once(' ')?;
    let (0, nth) = number(at.parse().ok()?) else { return None };
    let (item, value) = field.split_once('=')?;
    if let Some(item) = item.strip_suffix(".unavailable") {
        let word = format!("unavailable {}", value.strip_suffix('i')?);
        return Some((nth, item.to_owned(), word));
    }
    let word = match value {
        "1i" | "0i" => (value == "1i").to_string(),
        number => format!("{:x}", number.parse::<f64>().ok()?.to_bits()),
    };
    Some((nth, item.to_owned(), word))
}
