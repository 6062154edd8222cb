//! Timelines: readings in; states, alarms, trips and commands out. A scenario is a text file in
//! `tests/scenarios`; `UPDATE_SCENARIOS=1` rewrites what each expects.
//!
//! The shop: a laser with power and coolant temperature, a contactor that trips it, proved by its
//! power; a saw with a contact. Lines before `---` are inputs, one per line, at their second:
//!
//! ```text
//! 0.0 laser power.active=1200 temperature.coolant=25
//! 1.0 laser power.active=timeout
//! 2.0 tick            # one tick; `2..9 tick` ticks every 0.1 s
//! 2.1 echo | readback yes | readback no | refuse WORDS     # replies to the last command
//! 3.0 reset hot REASON | acknowledge hot
//! 0..60/1 laser power.active=900x20,40x5    # every second: 900 for 20 s, then 40 for 5 s, again …
//! 0..60/0.5 laser power.active=200~48       # every half second: 200 ± 48, never twice the same way
//! 60.0 total laser    # what was recorded up to now, and the time in the raw run band beside it
//! ```

#![expect(clippy::unwrap_used, reason = "a broken scenario is a failed test")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use andon_engine::engine::{Command, Reply, Restored};
use andon_engine::event::{Activity, Event};
use andon_engine::item::{Item, Kind};
use andon_engine::plan::{
    ActivityPlan, Band, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand, Plan, Proof,
    RuleIndex, TripPlan,
};
use andon_engine::rules::{self, RuleSource};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use andon_engine::{Engine, Input, Output};
use proptest::prelude::*;

fn item(machine: u16, name: &str) -> ItemPlan {
    ItemPlan::new(
        MachineIndex(machine),
        Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1)),
    )
}

fn shop() -> Plan {
    let power = ActivityPlan::Power {
        item: ItemIndex(0),
        idle: Band { enter: 15.0, exit: 12.0 },
        run: Band { enter: 200.0, exit: 150.0 },
        enter_for: Duration::from_secs(2),
        exit_for: Duration::from_secs(4),
    };
    let contact = ActivityPlan::Input {
        item: ItemIndex(3),
        run_when: true,
        enter_for: Duration::ZERO,
        exit_for: Duration::ZERO,
    };
    let machine = |id: &str, activity, energy| MachinePlan {
        id: id.into(),
        activity: vec![activity],
        energy,
    };
    let mut plan = Plan {
        machines: vec![machine("laser", power, Some(ItemIndex(2))), machine("saw", contact, None)],
        items: vec![
            item(0, "power.active"),
            item(0, "temperature.coolant"),
            item(0, "energy.import"),
            item(1, "input.1"),
        ],
        rules: Vec::new(),
        trips: vec![TripPlan {
            id: "cut".into(),
            machine: MachineIndex(0),
            proof: Some(Proof {
                item: ItemIndex(0),
                below: 20.0,
                samples: 3,
                within: Duration::from_secs(10),
            }),
            attempt_deadline: Duration::from_secs(1),
            attempts: 3,
            permit_on_reset: true,
        }],
    };
    let hot = RuleSource {
        id: "hot".into(),
        machine: "laser".into(),
        when: "temperature.coolant > 40 °C".into(),
        clear: Some("temperature.coolant < 35 °C".into()),
        on_unknown: Some("alarm".into()),
        unknown_for: Some("3 s".into()),
        severity: Some("high".into()),
        trip: Some("cut".into()),
        ..RuleSource::default()
    };
    let busy = RuleSource {
        id: "busy".into(),
        machine: "saw".into(),
        when: "activity == run and laser.activity == run".into(),
        hold_for: Some("3 s".into()),
        ..RuleSource::default()
    };
    plan.rules = [hot, busy].iter().map(|source| rules::parse(source, &plan).unwrap()).collect();
    plan
}

/// A shop that is told lines and writes down what follows.
struct Theatre {
    plan: Plan,
    engine: Engine,
    last: Option<Command>,
    /// Boundaries as hours are counted from them: machine, moment, activity, raw run before it.
    boundaries: Vec<(String, BootTime, Activity, u64)>,
    told: String,
}

impl Theatre {
    fn new(restored: Restored) -> Self {
        let plan = shop();
        let engine = Engine::new(plan.clone(), restored);
        Self { engine, plan, last: None, boundaries: Vec::new(), told: String::new() }
    }

    fn play(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (when, what) = line.split_once(' ').unwrap();
            let (from, to) = when.split_once("..").unwrap_or((when, when));
            let (to, every) = to.split_once('/').unwrap_or((to, "0.1"));
            let (from, to, every) = (tenths(from), tenths(to), tenths(every));
            for at in (from..=to).step_by(usize::try_from(every).unwrap()) {
                if let Some(machine) = what.strip_prefix("total ") {
                    let total = self.total(machine, moment(at));
                    writeln!(self.told, "{:.1} {machine} {total}", at as f64 / 10.0).unwrap();
                } else {
                    let input = self.input(at, from, what);
                    self.step(at, input);
                }
            }
        }
    }

    /// `from` is where the line's range begins.
    fn input(&self, at: u64, from: u64, what: &str) -> Input {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        let command = || self.last.expect("a command to reply to");
        let reply =
            |reply| Input::Reply { trip: command().trip, attempt: command().attempt, reply };
        let rule = |id: &str| {
            let position = self.plan.rules.iter().position(|rule| &*rule.id == id).unwrap();
            RuleIndex(u16::try_from(position).unwrap())
        };
        match verb {
            "tick" => Input::Tick,
            "echo" => reply(Reply::Echoed),
            "readback" => reply(Reply::ReadBack(rest == "yes")),
            "refuse" => reply(Reply::Failed(rest.into())),
            "late" => Input::Reply {
                trip: command().trip,
                attempt: command().attempt - 1,
                reply: Reply::ReadBack(true),
            },
            "acknowledge" => Input::Acknowledge { rule: rule(rest), by: "Ann".into() },
            "reset" => {
                let (id, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Input::Reset { rule: rule(id), by: "Ann".into(), reason: reason.into() }
            }
            machine => self.readings(at, from, machine, rest),
        }
    }

    fn readings(&self, at: u64, from: u64, machine: &str, words: &str) -> Input {
        let position = self.plan.machines.iter().position(|plan| &*plan.id == machine).unwrap();
        let readings = words.split(' ').map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            let index = self
                .plan
                .items
                .iter()
                .position(|item| {
                    usize::from(item.machine.0) == position && &*item.item.name == name
                })
                .unwrap();
            let flag = self.plan.items[index].item.kind == Kind::Flag;
            let measured = match varying(value, at - from).map_or_else(|| value.parse(), Ok) {
                Ok(number) if flag => Ok(Value::Flag(number > 0.0)),
                Ok(number) => Ok(Value::Number(number)),
                Err(_) => Err(*Unavailable::ALL.iter().find(|why| why.word() == value).unwrap()),
            };
            (ItemIndex(u32::try_from(index).unwrap()), measured)
        });
        Input::Readings { at: moment(at), readings: readings.collect() }
    }

    fn step(&mut self, at: u64, input: Input) {
        let mut out = Vec::new();
        self.engine.step(moment(at), input, &mut out);
        for output in out {
            if let Output::Command(command) = output {
                self.last = Some(command);
            }
            if let Output::Event(Event::Activity { machine, at, activity, raw_run_ms, .. }) =
                &output
            {
                self.boundaries.push((machine.to_string(), *at, *activity, *raw_run_ms));
            }
            if let Some(line) = self.line(&output) {
                writeln!(self.told, "{:.1} {line}", at as f64 / 10.0).unwrap();
            }
        }
    }

    /// What was recorded of a machine from its first boundary up to `now`.
    fn total(&self, machine: &str, now: BootTime) -> Total {
        let mut total = Total::default();
        let mut changes: Vec<(BootTime, Activity)> = Vec::new();
        for (_, at, activity, raw_ms) in self.boundaries.iter().filter(|(id, ..)| id == machine) {
            // A boundary may be stamped before one told earlier: the later word counts.
            changes.retain(|(earlier, _)| earlier < at);
            changes.push((*at, *activity));
            total.raw_ms += raw_ms;
        }
        let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([now]);
        for ((from, activity), to) in changes.iter().zip(ends) {
            let length = u64::try_from(to.since(*from).as_millis()).unwrap();
            match activity {
                Activity::Run => total.run_ms += length,
                Activity::Idle => total.idle_ms += length,
                Activity::Off => total.off_ms += length,
                Activity::Fault | Activity::Unknown => total.unknown_ms += length,
            }
        }
        total
    }

    /// Observations are left out where they only repeat what was read.
    fn line(&self, output: &Output) -> Option<String> {
        Some(match output {
            Output::Command(command) => {
                format!("command {:?} attempt {}", command.act, command.attempt)
            }
            Output::Refused(refusal) => format!("refused {}: {}", refusal.alarm, refusal.why),
            Output::Observation { machine, items, .. } => {
                let bad: Vec<String> = items
                    .iter()
                    .filter_map(|(item, value)| {
                        let why = value.as_ref().err()?;
                        Some(format!("{}={why}", self.plan.items[item.0 as usize].item.name))
                    })
                    .collect();
                if bad.is_empty() {
                    return None;
                }
                let machine = &self.plan.machines[usize::from(machine.0)].id;
                format!("{machine} {}", bad.join(" "))
            }
            Output::Event(Event::Activity { machine, at, execution, why, raw_run_ms, .. }) => {
                let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                format!(
                    "{machine} {} since {}{why} raw {raw_run_ms}",
                    execution.word(),
                    seconds(*at)
                )
            }
            Output::Event(Event::Alarm { state, by, .. }) => format!(
                "alarm {} active {:?} acked {} latched {} [{}]{}",
                state.alarm,
                state.active,
                state.acked,
                state.latched,
                state.cause,
                by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default()
            ),
            Output::Event(Event::Trip { state, .. }) => format!(
                "stop {:?} {:?}{}",
                state.phase,
                state.level,
                state.trouble.as_ref().map(|words| format!(": {words}")).unwrap_or_default()
            ),
            Output::Event(Event::Energy { machine, register }) => {
                format!(
                    "{machine} {} Wh epoch {} at {}",
                    register.wh,
                    register.epoch,
                    seconds(register.at)
                )
            }
            Output::Event(other) => format!("{other:?}"),
        })
    }
}

/// What was recorded, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Total {
    run_ms: u64,
    idle_ms: u64,
    off_ms: u64,
    unknown_ms: u64,
    raw_ms: u64,
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run_ms, idle_ms, off_ms, unknown_ms, raw_ms } = self;
        write!(
            f,
            "recorded run {run_ms} idle {idle_ms} off {off_ms} unknown {unknown_ms} raw run {raw_ms}"
        )
    }
}

/// A value that varies with the tenths since its line began: a cycle `900x20,40x5`, or a dither
/// `200~48`. None for a value that does not.
fn varying(value: &str, since: u64) -> Option<f64> {
    if let Some((middle, swing)) = value.split_once('~') {
        let (middle, swing): (f64, f64) = (middle.parse().unwrap(), swing.parse().unwrap());
        // Hops over all of -1 … 1 in an order without a rhythm.
        return Some(middle + swing * ((since * 7919 % 97) as f64 / 48.0 - 1.0));
    }
    let steps: Vec<(f64, u64)> = value
        .split(',')
        .map(|step| {
            let (value, length) = step.split_once('x')?;
            Some((value.parse().unwrap(), tenths(length)))
        })
        .collect::<Option<_>>()?;
    let mut into = since % steps.iter().map(|(_, length)| length).sum::<u64>();
    let step = steps.iter().find(|(_, length)| {
        let here = into < *length;
        into = into.saturating_sub(*length);
        here
    });
    step.map(|(value, _)| *value)
}

fn tenths(text: &str) -> u64 {
    (text.parse::<f64>().unwrap() * 10.0).round() as u64
}

/// Boots are never at zero: the shop's second 0 is a minute after the boot.
fn moment(tenths: u64) -> BootTime {
    BootTime::from_millis(60_000 + tenths * 100)
}

fn seconds(at: BootTime) -> f64 {
    (at.as_millis() as f64 - 60_000.0) / 1000.0
}

#[test]
fn scenarios_tell_what_they_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let mut theatre = Theatre::new(Restored::default());
        theatre.play(&without_comments(script));
        if theatre.told != expected {
            if std::env::var_os("UPDATE_SCENARIOS").is_some() {
                std::fs::write(&file, format!("{script}---\n{}", theatre.told)).unwrap();
            }
            wrong.push(format!("{}:\n{}", file.display(), theatre.told));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn without_comments(script: &str) -> String {
    let lines = script.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let script: String = (0..400)
        .map(|n| {
            let watts = (n * 7919) % 1500;
            let warm = 20 + (n * 31) % 30;
            format!(
                "{} laser power.active={watts} temperature.coolant={warm}\n",
                f64::from(n) / 2.0
            )
        })
        .collect();
    let tell = || {
        let mut theatre = Theatre::new(Restored::default());
        theatre.play(&script);
        theatre.told
    };
    assert_eq!(tell(), tell());
}

#[test]
fn a_latched_stop_survives_a_restart_and_is_commanded_again() {
    let mut before = Theatre::new(Restored::default());
    before.play("0 laser power.active=900 temperature.coolant=50\n0.1 echo\n0.2 readback yes");
    let restored = Restored {
        alarms: before.engine.alarms(moment(3)).collect(),
        trips: before.engine.trips().collect(),
        ..Restored::default()
    };
    let mut after = Theatre::new(restored);
    after.play(
        "10 tick\n10.1 echo\n10.2 readback yes\n11 reset hot too early\n\
         12 laser power.active=0 temperature.coolant=25\n13 reset hot pump repaired",
    );
    let commands = after.told.matches("command Trip").count();
    assert_eq!(commands, 1, "{}", after.told);
    assert!(after.told.contains("refused hot: its condition is unknown"), "{}", after.told);
    assert!(after.told.contains("command Permit"), "{}", after.told);
    let armed: Vec<_> = after.engine.trips().collect();
    assert_eq!(armed[0].phase, andon_engine::event::TripPhase::Armed, "{}", after.told);
}

/// Pulses and pauses in tenths of a second, as lines of a scenario that end with idle for good.
/// Returns the script, the moment of its end and the true run time in milliseconds.
fn square_wave(pulses: &[(u64, u64)], period: u64, phase: u64) -> (String, u64, u64) {
    let mut edges = vec![50];
    for (run, pause) in pulses {
        let start = edges[edges.len() - 1];
        edges.extend([start + run, start + run + pause]);
    }
    let end = edges.pop().unwrap() + 100;
    let mut script = String::new();
    for at in (phase..=end).step_by(usize::try_from(period).unwrap()) {
        let past = edges.iter().filter(|edge| **edge <= at).count();
        let watts = if past % 2 == 1 { 900 } else { 40 };
        writeln!(script, "{:.1} laser power.active={watts}", at as f64 / 10.0).unwrap();
    }
    (script, end, pulses.iter().map(|(run, _)| run * 100).sum())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Longer than the debounce, whatever the moments of the samples: the run that is recorded is
    /// the true one to a sample per pulse, and the raw time beside it agrees.
    #[test]
    fn square_waves_longer_than_the_debounce_are_recorded_as_they_were(
        pulses in prop::collection::vec((60_u64..600, 80_u64..600), 1..8),
        period in 2_u64..15, phase in 0_u64..15,
    ) {
        let (script, end, truth) = square_wave(&pulses, period, phase);
        let mut theatre = Theatre::new(Restored::default());
        theatre.play(&script);
        let total = theatre.total("laser", moment(end));
        let tolerance = period * 100 * pulses.len() as u64;
        prop_assert!(total.run_ms.abs_diff(truth) <= tolerance, "{} for {}", total, truth);
        prop_assert!(total.raw_ms.abs_diff(total.run_ms) <= 1, "{}", total);
    }

    /// Of any length: what may be billed, the lesser of recorded and raw, is never more than the
    /// truth by more than a sample per pulse; and what is recorded and not raw was a short dip.
    #[test]
    fn pulses_of_any_length_are_never_overstated_by_the_lesser_of_both(
        pulses in prop::collection::vec((1_u64..100, 1_u64..100), 1..20),
        period in 2_u64..15, phase in 0_u64..15,
    ) {
        let (script, end, truth) = square_wave(&pulses, period, phase);
        let mut theatre = Theatre::new(Restored::default());
        theatre.play(&script);
        let total = theatre.total("laser", moment(end));
        let tolerance = period * 100 * pulses.len() as u64;
        prop_assert!(total.run_ms.min(total.raw_ms) <= truth + tolerance, "{} for {}", total, truth);
        // `exit_for` is 4 s, told from sample to sample: no dip that was absorbed is longer than
        // that, a sample until it was seen and one more until it had held.
        let absorbed = pulses.iter().filter(|(_, pause)| *pause <= 40 + 2 * period).count() as u64;
        let most = total.raw_ms + absorbed * (4000 + 2 * period * 100);
        prop_assert!(total.run_ms <= most, "{} for {}", total, truth);
    }
}
