//! `andon read`: poll sources once and show what was said beside what it means: raw registers and
//! decoded values, or a device's own words and the items made of them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use andon_engine::item::Item;
use andon_engine::unit::Unit;
use andon_engine::value::Unavailable;
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
        silent.extend(read_device(device, &plan, args.json).await);
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
            if readings.iter().all(|reading| reading.measured.is_err()) {
                let mut faults = readings.iter().filter_map(|reading| reading.fault);
                let why = faults.next_back().map_or_else(|| "no item is polled".to_owned(), cause);
                silent.push(format!("{} ({} on {}: {why})", unit.source, unit.station, bus.id));
            }
            let text = if args.json {
                as_json(&unit.source, &readings)
            } else {
                as_table(&unit.source, unit.station, &bus.id, &readings)
            };
            super::say(text.trim_end());
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
async fn read_device(device: &DevicePlan, plan: &Plan, json: bool) -> Option<String> {
    let probed = probe_device(device, &plan.brokers, &plan.state_dir, LISTEN).await;
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => return Some(format!("{} ({error})", device.source)),
    };
    let text = if json { device_json(device, &probed) } else { device_table(device, &probed) };
    super::say(text.trim_end());
    let gave = probed.said.iter().any(|(_, measured)| measured.is_ok());
    let why = probed.trouble.as_deref().unwrap_or("it said nothing");
    (!gave).then(|| format!("{} ({why})", device.source))
}

/// One JSON line per item, then one with what was heard.
fn device_json(device: &DevicePlan, probed: &ProbedDevice) -> String {
    let mut lines: Vec<String> = probed
        .said
        .iter()
        .map(|(item, measured)| {
            json!({
                "source": device.source,
                "item": item,
                "unit": symbol(item),
                "value": measured.as_ref().ok(),
                "why": measured.as_ref().err(),
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
        let meaning = match measured {
            Ok(value) => format!("{value} {}", shown(item)),
            Err(why) => format!("– {}", missing(*why)),
        };
        writeln!(table, "  {item:<26} {}", meaning.trim_end()).ok();
    }
    table
}

/// One JSON line per reading.
fn as_json(source: &str, readings: &[RawReading]) -> String {
    let lines = readings.iter().map(|reading| {
        let value = reading.measured.as_ref().ok();
        let why = reading.measured.as_ref().err();
        json!({
            "source": source,
            "item": reading.item,
            "unit": symbol(&reading.item),
            "register": register(reading),
            "words": reading.words,
            "value": value,
            "why": why,
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
        let meaning = match &reading.measured {
            Ok(value) => format!("{value} {}", shown(&reading.item)),
            Err(why) => match reading.fault {
                Some(Fault::Exception(code)) => format!("– {why} (exception {code})"),
                _ => format!("– {}", missing(*why)),
            },
        };
        let (register, item) = (register(reading), &reading.item);
        // Writing to a String cannot fail.
        writeln!(table, "  {register:<16} {words:<20} {item:<22} {}", meaning.trim_end()).ok();
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

/// Why a unit gave nothing, and what to look at. The codes' meanings are those of the Modbus
/// Application Protocol 1.1b3, section 7.
fn cause(fault: Fault) -> String {
    match fault {
        Fault::Timeout => {
            "no answer; is the unit id right, and are speed, parity, A and B, power? \
                           or no Modbus is spoken there"
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
fn symbol(item: &str) -> &'static str {
    Item::named(item).map_or("", |item| item.unit.symbol())
}

/// The same for people: a share of one is written without.
fn shown(item: &str) -> &'static str {
    Some(symbol(item)).filter(|symbol| *symbol != Unit::Ratio.symbol()).unwrap_or_default()
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
}
