//! `andon plan`: what each bus will be asked to do, and whether it can, before anything runs.
//!
//! Pure arithmetic over the plan: T(N) of every read that the poller would send, summed over a
//! second. What a device really takes before it answers is unknown until it is measured, so it is
//! an argument.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use andon_adapters::modbus::{Batch, Holes, coalesce};
use andon_engine::unit::parse_duration;
use serde_json::json;

use super::EXIT_CONFIG;
use super::check::listing;
use crate::bus::timing::LineTiming;
use crate::config;
use crate::config::plan::{BusPlan, DevicePlan, Plan, UnitPlan};

/// Exit code when a bus cannot do what it is asked.
const EXIT_OVERLOAD: u8 = 1;

/// Say what each bus has to do and what does not fit
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// The configuration: a file, or a folder with andon.toml and conf.d in it
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    pub config: PathBuf,
    /// What a device takes before it answers
    #[arg(long, value_name = "TIME", default_value = "10 ms", value_parser = parse_duration)]
    pub answer: Duration,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What one bus is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct BusLoad {
    /// Share of its time that is taken: above 1 it cannot be done.
    pub occupancy: f64,
    /// Reads per second.
    pub reads_per_second: f64,
    /// Greatest age that a value reaches before its successor arrives, all devices answering.
    pub worst_age: Duration,
    /// The sources, each with its share.
    pub sources: Vec<(String, f64)>,
}

/// Runs `andon plan`: 0, 1 when a bus is over 100 %, 78 when the configuration has problems.
pub fn run(args: &PlanArgs) -> ExitCode {
    let (stdout, stderr, code) = match config::load(&args.config) {
        Ok(loaded) => print(&loaded.plan, args),
        Err(problems) => (String::new(), listing(&problems, ""), EXIT_CONFIG),
    };
    // A reader that has closed its end wants no more; there is nobody left to tell.
    let _ = io::stdout().write_all(stdout.as_bytes());
    let _ = io::stderr().write_all(stderr.as_bytes());
    ExitCode::from(code)
}

fn print(plan: &Plan, args: &PlanArgs) -> (String, String, u8) {
    let loads: Vec<(&BusPlan, BusLoad)> =
        plan.buses.iter().map(|bus| (bus, load(bus, args.answer))).collect();
    let over = loads.iter().any(|(_, load)| load.occupancy > 1.0);
    let code = if over { EXIT_OVERLOAD } else { 0 };
    let stdout = if args.json {
        as_json(&loads, &plan.devices)
    } else {
        as_table(&loads) + &devices(&plan.devices)
    };
    let mut stderr = String::new();
    for (bus, load) in loads.iter().filter(|(_, load)| load.occupancy > 1.0) {
        let factor = load.occupancy;
        let _ = writeln!(
            stderr,
            "bus {}: does not fit: {:.0} % of its time are needed\n  hint: make periods {factor:.1} \
             times longer, raise the baud rate, or move sources to a bus of their own",
            bus.id,
            factor * 100.0
        );
    }
    (stdout, stderr, code)
}

/// What `bus` is asked to do when every device answers after `answer`.
pub fn load(bus: &BusPlan, answer: Duration) -> BusLoad {
    let line = LineTiming::of(&bus.link);
    let mut round = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    let mut reads_per_second = 0.0;
    let mut sources = Vec::with_capacity(bus.units.len());
    for unit in &bus.units {
        let mut share = 0.0;
        for (period, batch) in batches(unit) {
            let time = line.read_time(batch.block, answer);
            round += time;
            slowest = slowest.max(period);
            share += time.as_secs_f64() / period.as_secs_f64();
            reads_per_second += 1.0 / period.as_secs_f64();
        }
        sources.push((unit.source.to_string(), share));
    }
    let occupancy: f64 = sources.iter().map(|(_, share)| share).sum();
    // A read that is due waits at most for one of every other read, and an overloaded bus takes
    // all periods longer by what it is asked too much.
    let worst_age = slowest.mul_f64(occupancy.max(1.0)) + round;
    BusLoad { occupancy, reads_per_second, worst_age, sources }
}

/// The reads of one device, each with its period: items of one period are read together.
fn batches(unit: &UnitPlan) -> Vec<(Duration, Batch)> {
    let mut periods: Vec<Duration> = unit.polls.iter().map(|poll| poll.period).collect();
    periods.sort_unstable();
    periods.dedup();
    let of = |period: Duration| {
        let due = unit.polls.iter().filter(move |poll| poll.period == period);
        let items: Vec<usize> = due.map(|poll| poll.profile_item).collect();
        coalesce(&unit.profile, &items, &Holes::default())
            .into_iter()
            .map(move |batch| (period, batch))
    };
    periods.into_iter().flat_map(of).collect()
}

fn as_table(loads: &[(&BusPlan, BusLoad)]) -> String {
    let mut text = String::new();
    for (bus, load) in loads {
        let _ = writeln!(
            text,
            "bus {:<20} {:>6.1} %   {:>7.1} reads/s   worst age {:.1} s",
            &*bus.id,
            load.occupancy * 100.0,
            load.reads_per_second,
            load.worst_age.as_secs_f64()
        );
        for (source, share) in &load.sources {
            let _ = writeln!(text, "  {source:<22} {:>6.1} %", share * 100.0);
        }
    }
    text
}

/// Devices with a protocol of their own share no line: they have a period and no occupancy.
fn devices(plans: &[DevicePlan]) -> String {
    let mut text = String::new();
    for device in plans {
        let (source, protocol) = (&*device.source, device.protocol.name);
        let (period, age) = (device.period.as_secs_f64(), (device.period * 2).as_secs_f64());
        let _ = writeln!(
            text,
            "device {source:<17} {protocol:<18} every {period:.1} s   worst age {age:.1} s"
        );
    }
    text
}

fn as_json(loads: &[(&BusPlan, BusLoad)], plans: &[DevicePlan]) -> String {
    let buses: Vec<_> = loads
        .iter()
        .map(|(bus, load)| {
            let sources: Vec<_> = load
                .sources
                .iter()
                .map(|(source, share)| json!({ "source": source, "occupancy": share }))
                .collect();
            json!({
                "bus": &*bus.id,
                "occupancy": load.occupancy,
                "fits": load.occupancy <= 1.0,
                "reads_per_second": load.reads_per_second,
                "worst_age_s": load.worst_age.as_secs_f64(),
                "sources": sources,
            })
        })
        .collect();
    let devices: Vec<_> = plans
        .iter()
        .map(|device| {
            json!({
                "source": &*device.source,
                "protocol": device.protocol.name,
                "period_s": device.period.as_secs_f64(),
            })
        })
        .collect();
    format!("{}\n", json!({ "buses": buses, "devices": devices }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use andon_adapters::profile::Library;
    use andon_engine::plan::ItemIndex;

    use super::*;
    use crate::config::plan::{Link, Parity, PollPlan, Station};

    fn bus(units: u8, period: Duration) -> BusPlan {
        let profile = Library::load(None).0.get("eastron/sdm120").unwrap();
        let item = profile.position("power.active").unwrap();
        let unit = |unit_id| UnitPlan {
            source: format!("meter-{unit_id}").into(),
            station: Station::Unit(unit_id),
            profile: Arc::clone(&profile),
            polls: vec![PollPlan {
                profile_item: item,
                feeds: vec![ItemIndex(0)],
                loops: Vec::new(),
                period,
                ratio: 1.0,
            }],
            writable_coils: Vec::new(),
        };
        let link =
            Link::Rtu { port: "/dev/null".into(), baud: 9600, parity: Parity::Even, stop_bits: 1 };
        let units = (1..=units).map(unit).collect();
        BusPlan {
            id: "panel".into(),
            link,
            units,
            turnaround: Duration::from_millis(100),
            pause: Duration::ZERO,
            dead_share: 0.02,
        }
    }

    /// One f32 at 9600 8E1, answered within the silence: T(2) is 27.5 ms.
    #[test]
    fn occupancy_is_the_sum_of_read_times() {
        let one = load(&bus(1, Duration::from_secs(1)), Duration::ZERO);
        assert!((one.occupancy - 0.0275).abs() < 0.0005, "{}", one.occupancy);
        let eight = load(&bus(8, Duration::from_secs(1)), Duration::ZERO);
        assert!((eight.occupancy - 8.0 * one.occupancy).abs() < 1e-9);
        assert!(eight.worst_age > Duration::from_millis(1219), "{:?}", eight.worst_age);
        assert!(eight.worst_age < Duration::from_millis(1222), "{:?}", eight.worst_age);
    }

    #[test]
    fn a_bus_that_cannot_do_it_is_exit_1_and_says_by_how_much() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/andon.toml");
        let mut plan = config::load_with(&sample, std::iter::empty()).unwrap().plan;
        let args = PlanArgs { config: sample, answer: Duration::from_millis(10), json: false };
        assert_eq!(print(&plan, &args).2, 0);
        plan.buses = vec![bus(8, Duration::from_millis(100))];
        let (stdout, stderr, code) = print(&plan, &args);
        assert_eq!(code, 1);
        assert!(stdout.starts_with("bus panel"), "{stdout}");
        assert!(stderr.contains("does not fit"), "{stderr}");
        let (stdout, _, _) = print(&plan, &PlanArgs { json: true, ..args });
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["buses"][0]["fits"], false);
    }
}
