//! `andon read`: poll sources once and show raw registers beside decoded values.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use andon_engine::item::Item;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::bus::{self, RawReading};
use crate::config::Loaded;
use crate::config::plan::Station;

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
                silent.push(unit.source.to_string());
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
        let known: Vec<&str> =
            plan.buses.iter().flat_map(|bus| &bus.units).map(|unit| &*unit.source).collect();
        let wanted = args.source.context("the configuration has no sources")?;
        bail!("there is no source {wanted:?}; there are {}", known.join(", "));
    }
    if !silent.is_empty() {
        bail!("no value from {}", silent.join(", "));
    }
    Ok(())
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
            Ok(value) => format!("{value} {}", symbol(&reading.item)),
            Err(why) => format!("– {why}"),
        };
        let (register, item) = (register(reading), &reading.item);
        // Writing to a String cannot fail.
        writeln!(table, "  {register:<16} {words:<20} {item:<22} {}", meaning.trim_end()).ok();
    }
    table
}

/// `input:0x000C`, as profiles write it.
fn register(reading: &RawReading) -> String {
    reading.table.place(reading.address)
}

/// The unit of an item of the closed list.
fn symbol(item: &str) -> &'static str {
    Item::named(item).map_or("", |item| item.unit.symbol())
}
