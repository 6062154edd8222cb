//! `andon simulate`: devices for a bench without devices, faults included.
//!
//! What is typed on stdin changes them while they are served. A line that makes no sense gets one
//! line of help on stderr and changes nothing. Bound: [`TYPED_MAX`] bytes per line.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::profile::{Library, Profile};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tokio::sync::mpsc;

use super::Usage;
use crate::simulate::{Bench, Device, Fault};

/// Longest line that is read from stdin, in bytes.
const TYPED_MAX: usize = 4096;
/// Lines that were typed and not yet obeyed.
const TYPED_AHEAD: usize = 64;

/// What can be typed, for a line that makes no sense.
const HELP: &str = "type: set [UNIT] item=value …, fault KIND [unit=N] [key=value …], \
                    clear [unit=N], unplug, replug or quit";

/// Arguments of `andon simulate`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("line").required(true).multiple(false))]
pub struct SimulateArgs {
    /// Profiles to serve, as units 1, 2, 3 …
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Modbus TCP on this address; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", group = "line")]
    tcp: Option<SocketAddr>,
    /// Modbus RTU on a new pseudo-terminal
    #[arg(long, group = "line")]
    rtu: bool,
    /// RTU frames in a TCP stream on this address
    #[arg(long, value_name = "ADDR:PORT", group = "line")]
    rtu_over_tcp: Option<SocketAddr>,
    /// A symbolic link to the pseudo-terminal
    #[arg(long, value_name = "PATH", conflicts_with_all = ["tcp", "rtu_over_tcp"])]
    link: Option<PathBuf>,
    /// Speed of the serial line; bytes take their time
    #[arg(long, default_value_t = 9600, value_parser = clap::value_parser!(u32).range(50..=4_000_000))]
    baud: u32,
    /// A device at this unit id; a DL/T 645 meter by the twelve digits of its label
    #[arg(long, value_name = "UNIT=PROFILE")]
    device: Vec<String>,
    /// Serve the one PROFILE at this unit id; may be repeated
    #[arg(long, value_name = "N")]
    unit: Vec<u8>,
    /// A value, in the item's canonical unit
    #[arg(long, value_name = "[UNIT.]item=value")]
    set: Vec<String>,
    /// A fault: silence, late ms=300, hole start=12 count=2, … with unit=N for one unit only
    #[arg(long, value_name = "KIND key=value …")]
    fault: Vec<String>,
    /// What a device needs before it answers, in milliseconds: 5 on serial lines, 0 on TCP
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=60_000))]
    turnaround: Option<u64>,
    /// Where faults by chance begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write what is asked and answered into this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// A folder of profiles beside those in the binary
    #[arg(long = "profiles", alias = "dir", value_name = "DIR")]
    overlay: Option<PathBuf>,
}

/// Serves until `quit`, SIGINT or SIGTERM.
///
/// # Errors
/// When an argument names what is not there, or the line or the log cannot be opened.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let bench = Bench::new(devices(&args)?);
    bench.seed(args.seed);
    if let Some(milliseconds) = args.turnaround {
        bench.set_turnaround(Duration::from_millis(milliseconds));
    }
    if let Some(log) = &args.log {
        bench.log_to(log).with_context(|| format!("{} cannot be written", log.display()))?;
    }
    super::typed(prepare(&bench, &args))?;
    match (args.tcp, args.rtu_over_tcp) {
        (Some(address), _) => {
            bench.start_tcp(address).with_context(|| format!("--tcp {address}"))?;
        }
        (_, Some(address)) => {
            let started = bench.start_rtu_over_tcp(address, args.baud);
            started.with_context(|| format!("--rtu-over-tcp {address}"))?;
        }
        _ => {
            bench.start_rtu(args.baud, args.link.as_deref()).context("--rtu")?;
        }
    }
    tokio::select! {
        // First: signals are watched before anybody is told that this runs.
        biased;
        () = super::asked_to_stop() => {}
        () = tell(&bench) => {}
        () = obey(&bench, typed()) => {}
    }
    Ok(())
}

/// Says where the line is served, whenever that is another place.
async fn tell(bench: &Bench) {
    let mut told = None;
    loop {
        let address = bench.served_elsewhere(told.as_ref()).await;
        // It serves, whether or not anybody can be told.
        super::say(&format!("serving: {address}")).ok();
        told = Some(address);
    }
}

/// Sets what is to be so from the beginning.
fn prepare(bench: &Bench, args: &SimulateArgs) -> anyhow::Result<()> {
    for text in &args.set {
        let (unit, item, value) = parse_set(text)?;
        bench.set(unit, item, value).with_context(|| format!("--set {text}"))?;
    }
    for text in &args.fault {
        let (fault, unit) = Fault::parse(text).with_context(|| format!("--fault '{text}'"))?;
        bench.fault(unit, &fault).with_context(|| format!("--fault '{text}'"))?;
    }
    Ok(())
}

fn devices(args: &SimulateArgs) -> anyhow::Result<Vec<Device>> {
    let (library, problems) = Library::load(args.overlay.as_deref());
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    let mut devices: Vec<Device> = Vec::new();
    let add = |devices: &mut Vec<Device>, unit: u8, id: &str| {
        let twice = || Usage(format!("unit {unit} is given twice"));
        ensure!(devices.iter().all(|device| device.unit != unit), twice());
        devices.push(Device::new(unit, profile(&library, id)?));
        Ok(())
    };
    match (args.profiles.as_slice(), args.unit.as_slice()) {
        (ids, []) => {
            for (unit, id) in (1..=u8::MAX).zip(ids) {
                add(&mut devices, unit, id)?;
            }
        }
        ([id], units) => {
            for &unit in units {
                add(&mut devices, unit, id)?;
            }
        }
        _ => bail!(Usage(
            "--unit goes with one PROFILE; use --device UNIT=PROFILE for several".to_owned()
        )),
    }
    for device in &args.device {
        if let Some((label, id)) = device.split_once('=')
            && let Ok(label) = label.parse()
        {
            // A meter needs a handle for --set and --fault: the first unit id that is free.
            let taken = |unit: &u8| devices.iter().any(|device| device.unit == *unit);
            let unit = (1..=u8::MAX).find(|unit| !taken(unit)).context("too many devices")?;
            devices.push(Device::new(unit, profile(&library, id)?).labelled(label));
            continue;
        }
        let parts = device.split_once('=').and_then(|(unit, id)| Some((unit.parse().ok()?, id)));
        let (unit, id) =
            parts.with_context(|| Usage(format!("--device {device} is no UNIT=PROFILE")))?;
        add(&mut devices, unit, id)?;
    }
    let nothing = || Usage("nothing to serve: name a PROFILE or --device UNIT=PROFILE".to_owned());
    ensure!(!devices.is_empty(), nothing());
    Ok(devices)
}

fn profile(library: &Library, id: &str) -> anyhow::Result<Arc<Profile>> {
    library.get(id).with_context(|| match library.nearest(id) {
        Some(nearest) => format!("there is no profile \"{id}\"; did you mean \"{nearest}\"?"),
        None => format!(
            "there is no profile \"{id}\"; `andon profile list` shows those there are, and --profiles DIR \
             adds those of a folder, DIR/{id}.toml"
        ),
    })
}

/// `3.power.active=1500`, or without a unit for all that have the item.
fn parse_set(text: &str) -> anyhow::Result<(Option<u8>, &str, f64)> {
    let (name, value) = text.split_once('=').with_context(|| format!("{text} is no item=value"))?;
    let (unit, item) = match name.split_once('.') {
        Some((unit, item)) if unit.bytes().all(|byte| byte.is_ascii_digit()) => {
            (Some(unit.parse().with_context(|| format!("{unit} is no unit id"))?), item)
        }
        _ => (None, name),
    };
    Ok((unit, item, parse_value(value)?))
}

fn parse_value(text: &str) -> anyhow::Result<f64> {
    match text {
        "on" | "true" => Ok(1.0),
        "off" | "false" => Ok(0.0),
        _ => text.parse().with_context(|| format!("{text} is no number")),
    }
}

/// Lines from stdin, read on a thread because a terminal's reads cannot be given up. The end of
/// stdin is not the end of anything.
fn typed() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(TYPED_AHEAD);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = std::io::Read::take(&mut stdin, TYPED_MAX as u64);
            match bounded.read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Obeys what is typed, until `quit`.
async fn obey(bench: &Bench, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        match command(bench, &line) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => super::talk(&format!("andon: {error:#}; {HELP}\n")),
        }
    }
    std::future::pending::<()>().await;
}

/// Obeys one line. Returns false when it was `quit`.
fn command(bench: &Bench, line: &str) -> anyhow::Result<bool> {
    let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (verb, rest.trim()) {
        ("", _) => {}
        ("set", rest) => set(bench, rest)?,
        ("fault", rest) => {
            let (fault, unit) = Fault::parse(rest)?;
            bench.fault(unit, &fault)?;
        }
        ("clear", "") => bench.clear(None),
        ("clear", rest) => {
            let unit = rest.strip_prefix("unit=").and_then(|unit| unit.parse::<u8>().ok());
            bench.clear(Some(unit.with_context(|| format!("{rest} is no unit=N"))?));
        }
        ("unplug", "") => bench.unplug(),
        ("replug", "") => bench.replug(),
        ("quit", "") => return Ok(false),
        _ => bail!("\"{line}\" is no command"),
    }
    Ok(true)
}

/// `[UNIT] item=value …`: all of them, or those before the first that makes no sense.
fn set(bench: &Bench, text: &str) -> anyhow::Result<()> {
    let mut words = text.split_whitespace().peekable();
    let unit = words.next_if(|word| !word.contains('='));
    let unit = unit.map(|unit| unit.parse::<u8>().with_context(|| format!("{unit} is no unit id")));
    let unit = unit.transpose()?;
    ensure!(words.peek().is_some(), "there is nothing to set");
    for word in words {
        let (own, item, value) = parse_set(word)?;
        bench.set(unit.or(own), item, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn args(words: &str) -> Result<SimulateArgs, clap::Error> {
        let words = std::iter::once("simulate").chain(words.split_whitespace());
        Typed::try_parse_from(words).map(|typed| typed.args)
    }

    fn units(words: &str) -> Result<Vec<u8>, String> {
        let devices = devices(&args(words).map_err(|error| error.to_string())?);
        let devices = devices.map_err(|error| format!("{error:#}"))?;
        Ok(devices.iter().map(|device| device.unit).collect())
    }

    #[test]
    fn devices_are_numbered_or_placed() {
        assert_eq!(units("eastron/sdm120 xy/md02 --rtu"), Ok(vec![1, 2]));
        assert_eq!(units("eastron/sdm120 --unit 5 --unit 7 --tcp 127.0.0.1:0"), Ok(vec![5, 7]));
        let mixed = "xy/md02 --device 11=xy/md02 --device 10=waveshare/relay-8ch --rtu";
        assert_eq!(units(mixed), Ok(vec![1, 11, 10]));
    }

    #[test]
    fn what_cannot_be_served_is_told() {
        for (words, why) in [
            ("--rtu", "nothing to serve"),
            ("eastron/sdm12 --rtu", "did you mean \"eastron/sdm120\"?"),
            ("xy/md02 --device 1=xy/md02 --rtu", "unit 1 is given twice"),
            ("xy/md02 eastron/sdm120 --unit 5 --rtu", "--unit goes with one PROFILE"),
            ("--device xy/md02 --rtu", "is no UNIT=PROFILE"),
            ("--device 300=xy/md02 --rtu", "is no UNIT=PROFILE"),
            ("xy/md02", "required arguments"),
            ("xy/md02 --rtu --tcp 127.0.0.1:0", "cannot be used with"),
            ("xy/md02 --tcp 127.0.0.1:0 --link port", "cannot be used with"),
            ("xy/md02 --rtu --baud 0", "not in 50..=4000000"),
        ] {
            let told = units(words).unwrap_err();
            assert!(told.contains(why), "{words}: {told}");
        }
    }

    #[test]
    fn a_value_goes_to_one_unit_or_to_all() {
        let parsed = |text| parse_set(text).ok();
        assert_eq!(parsed("3.power.active=1500"), Some((Some(3), "power.active", 1500.0)));
        assert_eq!(parsed("power.active=-1.5"), Some((None, "power.active", -1.5)));
        assert_eq!(parsed("relay.1=on"), Some((None, "relay.1", 1.0)));
        for text in ["power.active", "power.active=much", "300.power.active=1"] {
            assert!(parse_set(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_typed_is_obeyed_or_told() {
        let words = "--device 10=waveshare/relay-8ch --device 11=xy/md02 --rtu";
        let bench = Bench::new(devices(&args(words).unwrap()).unwrap());
        let typed = |line| command(&bench, line).map_err(|error| format!("{error:#}"));
        for line in [
            "",
            "set 10 relay.1=on relay.3=1",
            "set relay.8=1",
            "set temperature=60",
            "fault late ms=300 unit=10",
            "fault sentinel",
            "clear unit=10",
            "clear",
            "unplug",
            "replug",
        ] {
            assert_eq!(typed(line), Ok(true), "{line}");
        }
        let on: Vec<u16> = (0..8).filter(|&coil| bench.coil(10, coil) == Some(true)).collect();
        assert_eq!(on, [0, 2, 7]);
        assert_eq!(typed("quit"), Ok(false));
        for (line, why) in [
            ("sett 3 x=1", "is no command"),
            ("unplug now", "is no command"),
            ("set 3", "nothing to set"),
            ("set 3 temperature=1", "there is no unit 3"),
            ("set 10 temperature=1", "unit 10 has no item \"temperature\""),
            ("set x temperature=1", "x is no unit id"),
            ("fault late", "late needs ms"),
            ("fault silence unit=9", "there is no unit 9"),
            ("clear 3", "is no unit=N"),
        ] {
            let told = typed(line).unwrap_err();
            assert!(told.contains(why), "{line}: {told}");
        }
    }
}
