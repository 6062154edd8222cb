//! `andon read`: poll sources once and show what was said beside what it means: raw registers and
//! decoded values, or a device's own words and the items made of them. A value that the engine would
//! refuse is refused here by the same function, and shown as what was refused, never as a value.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use andon_engine::item::Item;
use andon_engine::normalize::plausible;
use andon_engine::value::{Measured, Unavailable, Value};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::bus::device::{ProbedDevice, probe_device};
use crate::bus::{self, Fault, RawReading};
use crate::config::Loaded;
use crate::config::plan::{DevicePlan, Plan, Station};

/// How long a device with a protocol of its own is listened to: such devices push when they like,
/// and a controller that was reset by opening its port takes seconds to greet.
const LISTEN: Duration = Duration::from_secs(8);

/// Arguments of `andon read`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The source to poll; all of them without one
    source: Option<String>,
    /// A configuration file, or a folder with andon.toml and conf.d
    #[arg(long, env = "ANDON_CONFIG", default_value = "/etc/andon")]
    config: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Polls once; exit code 1 when a polled source gave no value at all.
#[must_use]
pub fn run(args: ReadArgs) -> ExitCode {
    match super::load_plan(&args.config) {
        Ok(loaded) => super::asynchronously(read(args, loaded)),
        Err(code) => code,
    }
}

async fn read(args: ReadArgs, loaded: Loaded) -> anyhow::Result<()> {
    let plan = loaded.plan;
    let chosen = |source: &str| args.source.as_deref().is_none_or(|wanted| wanted == source);
    let mut silent = Vec::new();
    let mut polled = 0;
    for device in plan.devices.iter().filter(|device| chosen(&device.source)) {
        polled += 1;
        silent.extend(read_device(device, &plan, args.json).await?);
    }
    for bus in &plan.buses {
        let units = bus.units.iter().enumerate().filter(|(_, unit)| chosen(&unit.source));
        for (position, unit) in units {
            polled += 1;
            let readings = match bus::probe_once(bus, position).await {
                Ok(readings) => readings,
                Err(error) => {
                    silent.push(format!("{} ({}: {error})", unit.source, bus.id));
                    continue;
                }
            };
            if readings
                .iter()
                .all(|reading| Judged::of(&reading.item, &reading.measured).why.is_some())
            {
                let why = nothing(&readings);
                silent.push(format!("{} ({} on {}: {why})", unit.source, unit.station, bus.id));
            }
            let text = if args.json {
                as_json(&unit.source, &readings)
            } else {
                as_table(&unit.source, unit.station, &bus.id, &readings)
            };
            super::say(text.trim_end())?;
        }
    }
    if polled == 0 {
        let units = plan.buses.iter().flat_map(|bus| &bus.units).map(|unit| &*unit.source);
        let known: Vec<&str> =
            units.chain(plan.devices.iter().map(|device| &*device.source)).collect();
        let wanted = args.source.context("the configuration has no sources")?;
        bail!("there is no source {wanted:?}; there are {}", known.join(", "));
    }
    if !silent.is_empty() {
        bail!("no value from {}", silent.join(", "));
    }
    Ok(())
}

/// Listens to a device and shows it; its name and why, when it gave no value.
async fn read_device(
    device: &DevicePlan,
    plan: &Plan,
    json: bool,
) -> anyhow::Result<Option<String>> {
    let probed = probe_device(device, &plan.brokers, &plan.state_dir, LISTEN).await;
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => return Ok(Some(format!("{} ({error})", device.source))),
    };
    let text = if json { device_json(device, &probed) } else { device_table(device, &probed) };
    super::say(text.trim_end())?;
    let gave = probed.said.iter().any(|(item, said)| Judged::of(item, said).why.is_none());
    let why = probed.trouble.as_deref().unwrap_or("it said nothing");
    Ok((!gave).then(|| format!("{} ({why})", device.source)))
}

/// One JSON line per item, then one with what was heard.
fn device_json(device: &DevicePlan, probed: &ProbedDevice) -> String {
    let mut lines: Vec<String> = probed
        .said
        .iter()
        .map(|(item, measured)| {
            let judged = Judged::of(item, measured);
            json!({
                "source": device.source,
                "item": item,
                "unit": symbol(item, measured),
                "value": judged.value,
                "why": judged.why,
                "refused": judged.refused,
            })
            .to_string()
        })
        .collect();
    let heard = json!({
        "source": device.source,
        "protocol": device.protocol.name,
        "heard": probed.raw,
        "truncated": probed.truncated,
        "trouble": probed.trouble,
    });
    lines.push(heard.to_string());
    lines.join("\n")
}

fn device_table(device: &DevicePlan, probed: &ProbedDevice) -> String {
    let mut table = format!("{} ({})\n", device.source, device.protocol.title);
    // Writing to a String cannot fail.
    for line in &probed.raw {
        writeln!(table, "  < {line}").ok();
    }
    if probed.truncated {
        writeln!(table, "  < (and more)").ok();
    }
    if let Some(trouble) = &probed.trouble {
        writeln!(table, "  ! {trouble}").ok();
    }
    for (item, measured) in &probed.said {
        writeln!(table, "  {item:<26} {}", Judged::of(item, measured).meaning(item)).ok();
    }
    table
}

/// One JSON line per reading.
fn as_json(source: &str, readings: &[RawReading]) -> String {
    let lines = readings.iter().map(|reading| {
        let judged = Judged::of(&reading.item, &reading.measured);
        json!({
            "source": source,
            "item": reading.item,
            "unit": symbol(&reading.item, &reading.measured),
            "register": register(reading),
            "words": reading.words,
            "value": judged.value,
            "why": judged.why,
            "refused": judged.refused,
            "fault": reading.fault.map(cause),
        })
        .to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn as_table(source: &str, station: Station, bus: &str, readings: &[RawReading]) -> String {
    let mut table = format!("{source} ({station} on {bus})\n");
    for reading in readings {
        let words: Vec<String> = reading.words.iter().map(|word| format!("{word:04x}")).collect();
        let words = if words.is_empty() { "–".to_owned() } else { words.join(" ") };
        let mut meaning = Judged::of(&reading.item, &reading.measured).meaning(&reading.item);
        if let Some(Fault::Exception(code)) = reading.fault {
            write!(meaning, " (exception {code})").ok();
        }
        let (register, item) = (register(reading), &reading.item);
        // Writing to a String cannot fail.
        writeln!(table, "  {register:<16} {words:<20} {item:<22} {meaning}").ok();
    }
    table
}

/// Why there is no value: the word of the wire, but for what is no fault.
fn missing(why: Unavailable) -> &'static str {
    match why {
        Unavailable::Sentinel => "none: the device says so",
        other => other.word(),
    }
}

/// A reading as the engine takes a first one: a value, or why there is none.
struct Judged<'a> {
    value: Option<&'a Value>,
    why: Option<Unavailable>,
    /// What was said and is not believed.
    refused: Option<&'a Value>,
}

impl<'a> Judged<'a> {
    /// An item outside the closed list is nothing that could be believed.
    fn of(item: &str, measured: &'a Measured) -> Self {
        let value = match measured {
            Ok(value) => value,
            Err(why) => return Self { value: None, why: Some(*why), refused: None },
        };
        let refusal = Item::named(item)
            .map_or(Some(Unavailable::Garbled), |item| plausible(&item, value.clone()).err());
        match refusal {
            None => Self { value: Some(value), why: None, refused: None },
            Some(why) => Self { value: None, why: Some(why), refused: Some(value) },
        }
    }

    /// For people: the value with its unit, or the reason with what was refused and what could be.
    fn meaning(&self, item: &str) -> String {
        let unit = shown(item, self.value.or(self.refused));
        if let Some(value) = self.value {
            return format!("{value} {unit}").trim_end().to_owned();
        }
        let why = self.why.map_or("", missing);
        match (self.refused, Item::named(item)) {
            (Some(refused), Ok(item)) if self.why == Some(Unavailable::OutOfRange) => {
                let said =
                    format!("– {why}: {refused} is not in {} to {}", item.least, item.greatest);
                format!("{said} {unit}").trim_end().to_owned()
            }
            (Some(refused), _) => format!("– {why}: {refused}"),
            (None, _) => format!("– {why}"),
        }
    }
}

/// Why a unit gave no value, of readings that are all without.
fn nothing(readings: &[RawReading]) -> String {
    if let Some(fault) = readings.iter().filter_map(|reading| reading.fault).next_back() {
        return cause(fault);
    }
    match readings.first().map(|reading| Judged::of(&reading.item, &reading.measured)) {
        Some(Judged { why: Some(why), .. }) => format!("{why}; is the profile right?"),
        _ => "no item is polled".to_owned(),
    }
}

/// Why a unit gave nothing, and what to look at. The codes' meanings are those of the Modbus
/// Application Protocol 1.1b3, section 7.
pub(super) fn cause(fault: Fault) -> String {
    match fault {
        Fault::Timeout => {
            "no answer; is the unit id right, and are speed, parity, A and B, power? \
                           or no Modbus is spoken there, or the device is slow and its bus needs a \
                           longer turnaround"
                .to_owned()
        }
        Fault::Garbled => "what comes is no answer to what was asked; is Modbus spoken there, at \
                           this speed and parity, by one device per unit id?"
            .to_owned(),
        Fault::Disconnected => {
            "the connection is closed at once; is Modbus spoken there?".to_owned()
        }
        Fault::Exception(code) => {
            let meaning = match code {
                1 => "it does not know this function; is the profile right?",
                2 => "it has no such register; is the profile right?",
                3 => "it does not take this many registers at once; is the profile right?",
                4 => "it has failed",
                5 | 6 => "it is busy",
                0x0A => "the gateway has no way to it; is the unit id right?",
                0x0B => "the gateway has heard nothing from it; is the unit id right?",
                _ => "see its manual",
            };
            format!("refused with exception {code}: {meaning}")
        }
    }
}

/// `input:0x000C`, as profiles write it.
fn register(reading: &RawReading) -> String {
    reading.table.place(reading.address)
}

/// The unit of an item of the closed list.
fn symbol(item: &str, measured: &Measured) -> &'static str {
    let of_signal = of_signal(item, measured.as_ref().ok());
    of_signal.or_else(|| Some(Item::named(item).ok()?.unit.symbol())).unwrap_or("")
}

/// The same for people: a share of one is written without.
fn shown(item: &str, value: Option<&Value>) -> &'static str {
    let of_signal = of_signal(item, value);
    of_signal.or_else(|| Some(Item::named(item).ok()?.unit.shown())).unwrap_or("")
}

/// A radio's signal is a level below a milliwatt, or a share of a hundred; the closed list names no
/// unit for it, and its value tells which it is, as on the board.
fn of_signal(item: &str, value: Option<&Value>) -> Option<&'static str> {
    let level = value.filter(|_| item == "signal")?.as_number()?;
    Some(if level < 0.0 { "dBm" } else { "%" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_unit_a_wrong_profile_and_a_wrong_port_are_told_apart() {
        assert!(cause(Fault::Timeout).contains("unit id"));
        assert!(cause(Fault::Exception(2)).starts_with("refused with exception 2"));
        assert!(cause(Fault::Exception(2)).contains("profile"));
        assert!(cause(Fault::Exception(0x0B)).contains("gateway"));
        assert!(cause(Fault::Disconnected).contains("is Modbus spoken there"));
    }

    #[test]
    fn what_the_quantity_cannot_be_is_refused_and_still_shown() {
        let said = Ok(Value::Number(4.998));
        let judged = Judged::of("power.factor", &said);
        assert_eq!((judged.value, judged.why), (None, Some(Unavailable::OutOfRange)));
        assert_eq!(judged.meaning("power.factor"), "– out_of_range: 4.998 is not in -1 to 1");
        let reading = RawReading {
            table: andon_adapters::modbus::Table::Holding,
            address: 0x1003,
            words: vec![0x1170, 1],
            item: "current.l1".into(),
            measured: Ok(Value::Number(260_833.28)),
            fault: None,
        };
        let table = as_table("meter", Station::Unit(1), "bench", std::slice::from_ref(&reading));
        assert!(table.contains("– out_of_range: 260833.28 is not in -10000 to 10000 A"), "{table}");
        let line: serde_json::Value =
            serde_json::from_str(&as_json("meter", std::slice::from_ref(&reading))).unwrap();
        assert_eq!(line["value"], json!(null));
        assert_eq!(line["refused"], json!(260_833.28));
        assert_eq!(line["why"], json!("out_of_range"));
        assert_eq!(nothing(&[reading]), "out_of_range; is the profile right?");
    }

    #[test]
    fn what_can_be_is_a_value_with_its_unit() {
        let said = Ok(Value::Number(-2734.5));
        assert_eq!(Judged::of("power.active", &said).meaning("power.active"), "-2734.5 W");
        let none = Err(Unavailable::Sentinel);
        assert_eq!(
            Judged::of("power.active", &none).meaning("power.active"),
            "– none: the device says so"
        );
    }

    #[test]
    fn a_radios_signal_has_the_unit_that_its_device_tells_it_in() {
        for (level, meaning, unit) in [(-61.0, "-61 dBm", "dBm"), (40.0, "40 %", "%")] {
            let said = Ok(Value::Number(level));
            assert_eq!(Judged::of("signal", &said).meaning("signal"), meaning);
            assert_eq!(symbol("signal", &said), unit);
        }
        let none = Err(Unavailable::Timeout);
        assert_eq!(Judged::of("signal", &none).meaning("signal"), "– timeout");
        assert_eq!(symbol("signal", &none), "");
        assert_eq!(symbol("power.active", &none), "W");
    }
}
