//! `andon plan`: what each bus will be asked to do, and whether it can, before anything runs.
//!
//! Pure arithmetic over the plan, counted from the reads that the poller would send. What a device
//! takes before it answers is as it was measured where it was, else an argument.

mod propose;
mod report;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::unit::parse_duration;

use super::EXIT_CONFIG;
use super::check::listing;
use crate::bus::load::{BusLoad, load, occupancy};
use crate::bus::memory::{Remembered, remembered};
use crate::config::plan::{BusPlan, Plan};
use crate::config::{self, TURNAROUND_RANGE, say};
use propose::{Proposal, propose, urgent};
use report::{as_json, as_table, devices};

/// Exit code when a bus cannot do what it is asked.
const EXIT_OVERLOAD: u8 = 1;
/// What a device is taken to need before it answers where nobody has measured it.
const ANSWER: Duration = Duration::from_millis(10);

/// Say what each bus has to do and what does not fit
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// The configuration: a file, or a folder with andon.toml and conf.d in it
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    pub config: PathBuf,
    /// What every device takes before it answers; without it what was measured, else 10 ms
    #[arg(long, value_name = "TIME", value_parser = turnaround)]
    pub answer: Option<Duration>,
    /// List every item with its period, its greatest age and the read that it sits in
    #[arg(long)]
    pub items: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// A time that a device may take before it answers, as the configuration has it.
fn turnaround(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    if TURNAROUND_RANGE.contains(&time) {
        return Ok(time);
    }
    let [is, least, most] = [time, *TURNAROUND_RANGE.start(), *TURNAROUND_RANGE.end()].map(say);
    Err(format!("{is} is outside {least} to {most}, which \"turnaround\" of a bus may be"))
}

/// A bus with what it is asked, and what to change when that does not fit.
struct Judged<'a> {
    bus: &'a BusPlan,
    load: BusLoad,
    /// By unit: where its turnaround comes from.
    turnarounds: Vec<Turnaround>,
    /// Units that have run before, so that their holes are known.
    learned: usize,
    proposal: Option<Proposal>,
}

/// Where a turnaround comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turnaround {
    /// Nobody has measured it.
    Assumed,
    /// The running gateway has measured it.
    Measured,
    /// It was named on the command line.
    Given,
}

impl Turnaround {
    const fn word(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Measured => "measured",
            Self::Given => "given",
        }
    }
}

impl Judged<'_> {
    fn count(&self, from: Turnaround) -> usize {
        self.turnarounds.iter().filter(|it| **it == from).count()
    }
}

/// What a person should know of a bus that is asked for more than all of its time.
pub(super) struct Overload {
    pub(super) bus: Arc<str>,
    /// Of its time.
    pub(super) percent: f64,
    /// Devices whose turnaround is only assumed, of all.
    assumed: (usize, usize),
}

impl Overload {
    /// What is wrong, and what to do about it.
    pub(super) fn words(&self) -> (String, &'static str) {
        let percent = percent(self.percent / 100.0);
        let said = match self.assumed {
            (0, _) => String::new(),
            (some, of) => format!(", with a turnaround that is assumed for {some} of {of} devices"),
        };
        let said = format!("is asked for {percent} % of its time{said}: readings will be skipped");
        (said, "\"andon plan\" says what to read less often")
    }
}

/// The buses among `buses` that cannot do what they are asked, as far as anybody knows.
pub(super) fn overloads(state_dir: &Path, buses: &[Arc<BusPlan>]) -> Vec<Overload> {
    let judge = |bus: &Arc<BusPlan>| {
        let (known, turnarounds) = known(state_dir, bus, None);
        let percent = occupancy(bus, &known) * 100.0;
        let assumed = turnarounds.iter().filter(|it| **it == Turnaround::Assumed).count();
        let assumed = (assumed, turnarounds.len());
        (percent > 100.0).then(|| Overload { bus: bus.id.clone(), percent, assumed })
    };
    buses.iter().filter_map(judge).collect()
}

/// A share of a bus's time in whole percent; what is more than all of it is never told as 100.
fn percent(share: f64) -> u32 {
    let percent = (share * 100.0).round() as u32;
    if share > 1.0 { percent.max(101) } else { percent }
}

/// What is known of the devices of `bus`, the turnaround of each filled in, and where that comes from.
fn known(
    state_dir: &Path,
    bus: &BusPlan,
    given: Option<Duration>,
) -> (Vec<Remembered>, Vec<Turnaround>) {
    let fill = |mut unit: Remembered| {
        let (turnaround, from) = match (given, unit.turnaround) {
            (Some(given), _) => (given, Turnaround::Given),
            (None, Some(measured)) => (measured, Turnaround::Measured),
            (None, None) => (ANSWER, Turnaround::Assumed),
        };
        unit.turnaround = Some(turnaround);
        (unit, from)
    };
    remembered(state_dir, bus).into_iter().map(fill).unzip()
}

/// Runs `andon plan`: 0, 1 when a bus is over 100 %, 78 when the configuration has problems.
pub fn run(args: &PlanArgs) -> ExitCode {
    let (stdout, stderr, code) = match config::load(&args.config) {
        Ok(loaded) => print(&loaded.plan, args),
        Err(problems) => (String::new(), listing(&problems, ""), EXIT_CONFIG),
    };
    super::tell(&stdout, &stderr, code)
}

fn judge<'a>(plan: &'a Plan, bus: &'a BusPlan, args: &PlanArgs) -> Judged<'a> {
    let learned = remembered(&plan.state_dir, bus);
    let learned = learned.iter().filter(|unit| unit.turnaround.is_some()).count();
    let (assumed, turnarounds) = known(&plan.state_dir, bus, args.answer);
    let load = load(bus, &assumed);
    let over = load.occupancy > 1.0;
    let proposal = over.then(|| propose(bus, &assumed, &urgent(plan))).flatten();
    Judged { bus, load, turnarounds, learned, proposal }
}

fn print(plan: &Plan, args: &PlanArgs) -> (String, String, u8) {
    let judged: Vec<Judged<'_>> = plan.buses.iter().map(|bus| judge(plan, bus, args)).collect();
    let over = judged.iter().any(|it| it.load.occupancy > 1.0);
    let code = if over { EXIT_OVERLOAD } else { 0 };
    let verdicts: String = judged.iter().map(verdict::say).collect();
    if args.json {
        return (as_json(&judged, &plan.devices), verdicts, code);
    }
    let table = as_table(&judged, args.items) + &devices(&plan.devices);
    (table + &verdicts, String::new(), code)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use andon_adapters::profile::Library;
    use andon_engine::plan::ItemIndex;

    use super::*;
    use crate::config::plan::{Fed, Link, Parity, PollPlan, Station, UnitPlan};

    fn bus(units: u8, period: Duration) -> BusPlan {
        let profile = Library::load(None).0.get("eastron/sdm120").unwrap();
        let item = profile.position("power.active").unwrap();
        let unit = |unit_id| UnitPlan {
            source: format!("meter-{unit_id}").into(),
            station: Station::Unit(unit_id),
            profile: Arc::clone(&profile),
            polls: vec![PollPlan {
                profile_item: item,
                fed: Fed::One(ItemIndex(0)),
                period,
                ratio: 1.0,
            }],
            periods: Vec::new(),
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
        let one = load(&bus(1, Duration::from_secs(1)), &[]);
        assert!((one.occupancy - 0.0275).abs() < 0.0005, "{}", one.occupancy);
        let eight = load(&bus(8, Duration::from_secs(1)), &[]);
        assert!((eight.occupancy - 8.0 * one.occupancy).abs() < 1e-9);
        assert!(eight.worst_age > Duration::from_millis(1219), "{:?}", eight.worst_age);
        assert!(eight.worst_age < Duration::from_millis(1222), "{:?}", eight.worst_age);
    }

    #[test]
    fn an_answer_may_take_as_long_as_the_configuration_lets_it() {
        assert_eq!(turnaround("10 s"), Ok(Duration::from_secs(10)));
        let refused = turnaround("1 h").unwrap_err();
        assert!(refused.contains("is outside 1 ms to 10 s"), "{refused}");
        assert!(turnaround("0 s").is_err() && turnaround("soon").is_err());
    }

    #[test]
    fn a_bus_that_cannot_do_it_is_exit_1_and_says_by_how_much() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/andon.toml");
        let mut plan = config::load_with(&sample, std::iter::empty()).unwrap().plan;
        let args = PlanArgs {
            config: sample,
            answer: Some(Duration::from_millis(10)),
            items: false,
            json: false,
        };
        let (stdout, _, code) = print(&plan, &args);
        assert_eq!(code, 0);
        assert!(stdout.contains("worst age") && !stdout.contains("worst age about"), "{stdout}");
        let report = print(&plan, &PlanArgs { json: true, ..args.clone() }).0;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["buses"][0]["worst_age_is"], "bound");
        let device = &report["devices"][0];
        let period = device["period_s"].as_f64().unwrap();
        assert_eq!(device["worst_age_s"].as_f64(), Some(2.0 * period), "as the table says");
        plan.buses = vec![Arc::new(bus(8, Duration::from_millis(100)))];
        let (stdout, _, code) = print(&plan, &args);
        assert_eq!(code, 1);
        assert!(stdout.starts_with("bus panel"), "{stdout}");
        assert!(stdout.contains("are found when it runs"), "nothing has run: {stdout}");
        assert!(stdout.contains("worst age about"), "no bound is known: {stdout}");
        assert!(stdout.contains("does not fit"), "advice is what was asked for: {stdout}");
        assert!(stdout.contains("10.0 ms (given)"), "{stdout}");
        let assumed = print(&plan, &PlanArgs { answer: None, ..args.clone() }).0;
        assert!(assumed.contains("10.0 ms (assumed)"), "{assumed}");
        let (stdout, _, _) = print(&plan, &PlanArgs { json: true, ..args });
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["buses"][0]["fits"], false);
        assert_eq!(report["buses"][0]["worst_age_is"], "estimate");
    }

    /// Meters of three phases whose 60-odd items are all read every second.
    pub(super) fn crowded(units: u8) -> BusPlan {
        let profile = Library::load(None).0.get("eastron/sdm630").unwrap();
        let mut plan = bus(units, Duration::from_secs(1));
        for (at, unit) in plan.units.iter_mut().enumerate() {
            let poll = unit.polls[0].clone();
            let feed = |item: usize| ItemIndex(u32::try_from(at * 1000 + item).unwrap());
            let polls = 0..profile.items.len();
            unit.polls = polls
                .map(|item| PollPlan {
                    profile_item: item,
                    fed: Fed::One(feed(item)),
                    ..poll.clone()
                })
                .collect();
            unit.profile = profile.clone();
        }
        plan
    }

    pub(super) fn answering_after(millis: u64, units: usize) -> Vec<Remembered> {
        let turnaround = Some(Duration::from_millis(millis));
        vec![Remembered { turnaround, ..Remembered::default() }; units]
    }

    #[test]
    fn what_does_not_fit_fits_after_the_moves_that_are_proposed() {
        let bus = crowded(4);
        let assumed = answering_after(20, 4);
        let profile = &bus.units[0].profile;
        let power = profile.position("power.active").unwrap();
        let urgent = [ItemIndex(u32::try_from(power).unwrap())].into();
        let proposal = propose(&bus, &assumed, &urgent).unwrap();
        assert!(proposal.before > 1.0, "{}", proposal.before);
        assert!(proposal.after <= 0.9, "{}", proposal.say());
        // Carried out by hand, it comes to what it said.
        let mut moved = bus.clone();
        for it in &proposal.moves {
            let unit = moved.units.iter_mut().find(|unit| unit.source == it.source).unwrap();
            for name in &it.items {
                let item = profile.position(name).unwrap();
                let poll = unit.polls.iter_mut().find(|poll| poll.profile_item == item).unwrap();
                assert_eq!(poll.period, it.from);
                poll.period = it.to;
            }
        }
        assert!((load(&moved, &assumed).occupancy - proposal.after).abs() < 1e-9);
        assert_eq!(moved.units[0].polls[power].period.as_secs(), 1, "a rule looks at it");
        let words = proposal.say();
        assert!(words.contains("from 1 s to 5 s"), "{words}");
        assert!(words.contains("periods = {"), "{words}");
        // Devices that are alike are told of in one line, and no gauge waits longer than a counter.
        let sections = words.lines().filter(|line| line.contains("[source."));
        assert!(sections.count() <= 2, "{words}");
        let slowest = |counter: bool| {
            let is = |name: &Arc<str>| name.starts_with("energy") == counter;
            let moves = proposal.moves.iter().filter(|it| it.items.iter().any(is));
            moves.map(|it| it.to).max()
        };
        assert!(slowest(true) >= slowest(false), "{words}");
    }

    #[test]
    fn the_line_behind_an_address_is_planned_by_its_baud() {
        let serial = load(&bus(8, Duration::from_secs(1)), &answering_after(10, 8));
        let mut tcp = bus(8, Duration::from_secs(1));
        let address = "gateway:502".to_owned();
        tcp.link = Link::Tcp { address: address.clone(), baud: Some(9600) };
        assert_eq!(load(&tcp, &answering_after(10, 8)), serial);
        let said = |bus: BusPlan| {
            let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/andon.toml");
            let mut plan = config::load_with(&sample, std::iter::empty()).unwrap().plan;
            plan.buses = vec![Arc::new(bus)];
            let config = "/dev/null".into();
            print(&plan, &PlanArgs { config, answer: None, items: false, json: false }).0
        };
        assert!(!said(tcp.clone()).contains("baud = …"));
        tcp.link = Link::Tcp { address, baud: None };
        assert!(load(&tcp, &answering_after(10, 8)).occupancy < serial.occupancy / 2.0);
        assert!(said(tcp).contains("baud = … in [bus.panel]"));
    }

    #[test]
    fn a_slow_item_costs_only_its_registers_where_it_rides_along() {
        // Voltages of three phases every second, and the currents beside them every ten.
        let mut bus = crowded(1);
        let profile = bus.units[0].profile.clone();
        let is = |at: usize, kind: &str| profile.items[at].item.name.starts_with(kind);
        bus.units[0].polls.retain(|poll| {
            let name = &profile.items[poll.profile_item].item.name;
            ["voltage.l1", "voltage.l2", "current.l1", "current.l2"].contains(&&**name)
        });
        for poll in &mut bus.units[0].polls {
            if is(poll.profile_item, "current") {
                poll.period = Duration::from_secs(10);
            }
        }
        let line = load(&bus, &answering_after(10, 1));
        // 8N… of the bench is 8E1, 11 bits: 13 characters, 10 ms and 4.01 ms, and 8 bytes of
        // content in nine rounds; in the tenth 8 registers from 0 (l1, l2, l3, l1, l2).
        let c = 11.0 / 9600.0;
        let request = 13.0 * c + 0.010 + 3.5 * c;
        let expected = (9.0 * (request + 8.0 * c) + request + 20.0 * c) / 10.0;
        assert!((line.occupancy - expected).abs() < 1e-4, "{} {expected}", line.occupancy);
        assert!((line.reads_per_second - 1.0).abs() < 1e-9);
        let current = line.sources[0].items.iter().find(|it| &*it.item == "current.l1").unwrap();
        assert_eq!(current.shared.unwrap().to_string(), "input:0x0000+10");
        assert!(line.guaranteed);
    }

    #[test]
    fn ages_are_the_period_and_what_may_come_before() {
        let line = load(&bus(8, Duration::from_secs(1)), &[]);
        // Eight reads of 27.5 ms: the last of them is over after 220 ms.
        let age = line.sources[7].items[0].worst_age.as_secs_f64();
        assert!((age - 1.220).abs() < 0.002, "{age}");
        assert!(line.guaranteed);
        let tight = load(&bus(36, Duration::from_secs(1)), &[]);
        assert!(tight.guaranteed && tight.worst_age <= Duration::from_secs(2));
        assert!(!load(&bus(37, Duration::from_secs(1)), &[]).guaranteed);
    }
}
