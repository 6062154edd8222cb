//! What a gateway writes to its SD card in a day: 100 series at 1 Hz, its state on a file system
//! of its own whose block device the kernel counts for us. Needs root, for a loop device.
//!
//! `flash [SECONDS [OPTIONS[@SYNC] …]]` measures for so long (default 300) after half a minute and prints the
//! day that follows from it, beside what the same card is written with no gateway on it: mounted as
//! most are, and with what spares it, each card with a gateway of its own and all at once, because
//! bytes do not depend on what else the processor does; SYNC is another `[journal] sync` than the
//! default. Without `commit=` ext4 notes every 5 s, in three blocks, that a file was written to;
//! `lazytime` changed nothing about that on Linux 6.18. Two kinds of meters: those whose every
//! value changes by a new amount each second, and those that move as meters do. The blanks that a
//! new segment begins with are written once in hours, so they are reckoned from how much of the
//! segment was used up.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use andon_tests::andon;
use andon_tests::peers::{ModbusLink, ModbusServer, skip};
use andon_tests::process::{free_port, work_dir};
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};

/// Meters of five items each, read once a second.
const UNITS: u8 = 20;
/// What their values do, and what the server is asked to serve.
const METERS: &[(&str, &str)] = &[
    ("leap", "input:0,input:6,input:12,input:70,counter:72"),
    ("move as meters do", "tenths:0,tenths:6,watts:12,tenths:70,slow:72"),
];
/// How the card is mounted, and how often the journal is synced.
const OPTIONS: &[&str] =
    &["noatime", "noatime,commit=60", "noatime,commit=300", "noatime,commit=60@10 s"];
/// The gateway's start, and the file system's own first writes, are not the day's business.
const SETTLE: Duration = Duration::from_secs(30);
/// The card.
const CARD_BYTES: u64 = 512 * 1024 * 1024;
/// `/proc/diskstats` counts in sectors of this size, whatever the device's own are.
const SECTOR: u64 = 512;
const DAY: f64 = 86_400.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(300), |seconds| seconds.parse())?;
    let span = Duration::from_secs(seconds);
    if !rustix::process::geteuid().is_root() {
        skip("a loop device needs root");
        return Ok(());
    }
    let mut options: Vec<String> = arguments.collect();
    if options.is_empty() {
        options = OPTIONS.iter().map(|&options| options.to_owned()).collect();
    }
    std::thread::scope(|scope| {
        let days: Vec<_> = options
            .iter()
            .flat_map(|options| METERS.iter().map(move |meters| (options, meters)))
            .map(|(options, meters)| scope.spawn(move || day(options, *meters, span)))
            .collect();
        for day in days {
            match day.join() {
                Ok(Ok(Some(line))) => println!("{line}"),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => anyhow::bail!("a measurement panicked"),
            }
        }
        Ok(())
    })
}

fn day(options: &str, (kind, map): (&str, &str), span: Duration) -> Result<Option<String>> {
    let dir = work_dir("flash")?;
    let (mounted, sync) = options.split_once('@').unwrap_or((options, ""));
    let card = Card::insert(&dir, mounted)?;
    let port = free_port()?;
    let units: Vec<String> = (1..=UNITS).map(|unit| unit.to_string()).collect();
    let link = ModbusLink::Tcp(port);
    let meters = ModbusServer::start("meters", &dir, &link, &units.join(","), map)?;
    let Some(_meters) = meters else { return Ok(None) };
    let mut workshop = Workshop::new(&card.folder).tcp_bus("panel", port);
    for unit in 1..=UNITS {
        workshop = workshop.meter("panel", unit, "1 s");
    }
    if !sync.is_empty() {
        workshop = workshop.with(&format!("[journal]\nsync = \"{sync}\""));
    }
    let config = workshop.write(&dir)?;
    std::thread::sleep(SETTLE);
    let idle = card.measure(SETTLE)?;
    let gateway = andon::run(&dir, &config)?;
    std::thread::sleep(SETTLE);
    let used = card.used()?;
    let running = card.measure(span)?;
    let blanks = (card.used()? - used) as f64 / span.as_secs_f64();
    drop(gateway);
    Ok(Some(format!(
        "flash writes, 100 series at 1 Hz that {kind}, {options}: {:.1} MB a day in {:.0} writes, \
         and {:.1} MB of blanks; over {span:?} (card without a gateway: {:.1} MB a day)",
        running.bytes * DAY / 1e6,
        running.writes * DAY,
        blanks * DAY / 1e6,
        idle.bytes * DAY / 1e6
    )))
}

/// Per second.
struct Written {
    bytes: f64,
    writes: f64,
}

/// An ext4 file system in a file, as a block device; taken out when dropped.
struct Card {
    device: String,
    folder: PathBuf,
}

impl Card {
    fn insert(dir: &Path, options: &str) -> Result<Self> {
        let image = dir.join("card.img");
        fs::File::create(&image)?.set_len(CARD_BYTES)?;
        let folder = dir.join("card");
        fs::create_dir_all(&folder)?;
        let device = output(Command::new("losetup").args(["--show", "--find"]).arg(&image))?;
        let card = Self { device: device.trim().to_owned(), folder };
        output(
            Command::new("mkfs.ext4")
                .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .arg(&card.device),
        )?;
        output(Command::new("mount").args(["-o", options]).arg(&card.device).arg(&card.folder))?;
        Ok(card)
    }

    /// What is written to the card during `span`.
    fn measure(&self, span: Duration) -> Result<Written> {
        let (bytes, writes) = self.written()?;
        std::thread::sleep(span);
        let (bytes_after, writes_after) = self.written()?;
        let seconds = span.as_secs_f64();
        Ok(Written {
            bytes: (bytes_after - bytes) as f64 / seconds,
            writes: (writes_after - writes) as f64 / seconds,
        })
    }

    /// Bytes of the journal's telemetry, up to the last that is no blank.
    fn used(&self) -> Result<u64> {
        let mut used = 0;
        for entry in fs::read_dir(self.folder.join("state/journal/telemetry"))? {
            let bytes = fs::read(entry?.path())?;
            used += bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        }
        Ok(used)
    }

    /// Bytes and writes that the block device has completed.
    fn written(&self) -> Result<(u64, u64)> {
        let name = self.device.trim_start_matches("/dev/");
        let stats = fs::read_to_string("/proc/diskstats")?;
        let line = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = line.into_iter().find(|fields| fields.get(2) == Some(&name));
        let line = line.with_context(|| format!("{name} is not in /proc/diskstats"))?;
        Ok((line[9].parse::<u64>()? * SECTOR, line[7].parse()?))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // What cannot be undone here stays for whoever looks at the machine next.
        output(Command::new("umount").arg(&self.folder)).ok();
        output(Command::new("losetup").arg("--detach").arg(&self.device)).ok();
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {words}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
