//! One item of one machine, from the register or message that it comes from to the rules that look at
//! it: the answer to "why does it say that?". Pure but for the copies of what buses and devices say
//! of themselves; what nobody knows is absent.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_adapters::profile::ProfileItem;
use andon_engine::event::Severity;
use andon_engine::plan::{ActivityPlan, ItemIndex};
use andon_engine::rules::{Condition, Rule};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use serde::{Deserialize, Serialize};

use super::collect::{device, unit};
use super::{Collector, Device, Unit, VERSION, millis};
use crate::bus::LastWords;
use crate::bus::status::Refusal;
use crate::config::did_you_mean;
use crate::config::plan::{BusPlan, Name, Plan, PollPlan, UnitPlan};
use crate::http::item_kind;

/// Everything known of an item. Counts are since the gateway's start; ages are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Version of this shape.
    pub v: u8,
    /// The machine's id.
    pub machine: Arc<str>,
    /// The item's name.
    pub item: Arc<str>,
    /// `gauge`, `counter`, `flag` or `text`.
    pub kind: Arc<str>,
    /// Symbol of its canonical unit.
    pub unit: Arc<str>,
    /// How often it is read, or confirmed.
    pub period_ms: u64,
    /// An older value is none.
    pub stale_after_ms: u64,
    /// What is believed of it, and how it came to that.
    pub heard: Heard,
    /// What it comes from; none of an item that nothing feeds.
    pub origin: Option<Origin>,
    /// Who looks at it.
    pub watchers: Watchers,
}

/// What was heard of an item since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// The value, if there is one to believe.
    pub value: Option<Value>,
    /// Why there is none.
    pub why: Option<Unavailable>,
    /// Age of the last report, good or bad; none before the first.
    pub age_ms: Option<u64>,
    /// Reports with a value.
    pub values: u64,
    /// Reports without one, by their reason.
    pub failures: BTreeMap<Arc<str>, u64>,
    /// The last of those.
    pub last_failure: Option<LastFailure>,
}

/// The last report without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Its reason.
    pub why: Unavailable,
    /// Since then.
    pub age_ms: u64,
}

/// Where an item comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A register of a unit on a bus.
    Register(Box<Register>),
    /// A device with a protocol of its own.
    Device {
        /// The device.
        device: Device,
        /// What it is called for people.
        title: Arc<str>,
        /// The device's own item.
        item: Arc<str>,
    },
}

/// A register and what is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// The bus's id.
    pub bus: Arc<str>,
    /// Why the bus is down; none when it is up.
    pub bus_down: Option<String>,
    /// The unit.
    pub unit: Unit,
    /// Its profile.
    pub profile: Arc<str>,
    /// The source's own item.
    pub item: Arc<str>,
    /// As profiles write it: `input:0x000C`.
    pub place: String,
    /// `coil`, `discrete`, `input`, `holding`, `di` or `drive`.
    pub table: Arc<str>,
    /// 0-based.
    pub address: u16,
    /// How many registers.
    pub registers: u16,
    /// `f32`, `u16`, …
    pub form: String,
    /// Order of its bytes.
    pub order: Arc<str>,
    /// Factor from the device's number to the canonical unit.
    pub scale: f64,
    /// Where the device keeps a power of ten beside it.
    pub scale_register: Option<u16>,
    /// Factor from transformer ratios.
    pub ratio: f64,
    /// What 4 and 20 mA mean, of a current loop.
    pub span: Option<[f64; 2]>,
    /// What stood there last; none before the first answer.
    pub raw: Option<Raw>,
    /// The greatest age in the last minute of the values that are read together with it, every
    /// period; none before the first.
    #[serde(default)]
    pub worst_age_ms: Option<u64>,
    /// The same in periods: 1 as a rule, above 2 a round was missed.
    #[serde(default)]
    pub worst_age_periods: Option<f64>,
    /// The device's refusal to tell it, while that stands.
    #[serde(default)]
    pub refused: Option<Refused>,
}

/// A device's refusal of registers that it was asked for alone. Until it is asked again each round
/// reports it without asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// As blocks are written: `input:0x0034+2`.
    pub block: String,
    /// The exception's code.
    pub exception: u8,
    /// Since it was asked last.
    pub age_ms: u64,
    /// Until it is asked again; with the next round that is due then.
    pub again_ms: u64,
    /// Whether the next start knows it too.
    pub remembered: bool,
}

/// What stood in registers when the item was last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {
    /// Where the words begin; before the item where its scale register lies before it.
    pub place: String,
    /// Four hexadecimal digits per register, of at most eight.
    pub words: Vec<String>,
    /// Since they were read.
    pub age_ms: u64,
}

/// Who looks at an item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watchers {
    /// Rules.
    pub rules: Vec<RuleWatch>,
    /// `controller`, `power` or `input`, when the machine's activity is told from it.
    pub activity: Option<Arc<str>>,
    /// What it then means, in words.
    #[serde(default)]
    pub meaning: Option<String>,
    /// Whether its differences are the machine's energy.
    pub energy: bool,
    /// The outputs whose effect it proves.
    pub proves: Vec<Arc<str>>,
}

/// A rule that looks at an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleWatch {
    /// Its id, which is the alarm's.
    pub id: Arc<str>,
    /// How urgent.
    pub severity: Severity,
    /// How long its condition must hold.
    pub hold_ms: u64,
    /// The output that it trips.
    pub trips: Option<Arc<str>>,
    /// What it says to people.
    pub message: Name,
}

/// There is no such item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What there is none of.
    pub error: String,
    /// What may have been meant.
    pub hint: Option<String>,
}

impl Collector {
    /// The item of this name, or why there is none.
    ///
    /// # Errors
    /// [`Unknown`] for a machine or item that the configuration does not have.
    pub fn find(&self, machine: &str, item: &str) -> Result<ItemIndex, Unknown> {
        find(&self.parts.plan, machine, item)
    }

    /// Everything known of an item of the plan; none of one that is not in it.
    pub fn explain(&self, index: ItemIndex, heard: Heard, now: BootTime) -> Option<Explanation> {
        let plan = &self.parts.plan;
        let item = plan.engine.items.get(usize::try_from(index.0).ok()?)?;
        let machine = plan.engine.machines.get(usize::from(item.machine.0))?;
        Some(Explanation {
            v: VERSION,
            machine: machine.id.clone(),
            item: item.item.name.clone(),
            kind: item_kind(item.item.kind).into(),
            unit: item.item.unit.symbol().into(),
            period_ms: millis(item.period),
            stale_after_ms: millis(item.stale_after),
            heard,
            origin: self.register(index, now).or_else(|| self.device(index, now)),
            watchers: watchers(plan, index),
        })
    }

    fn register(&self, index: ItemIndex, now: BootTime) -> Option<Origin> {
        let (bus, position, poll) = poll_of(&self.parts.plan, index)?;
        let handle = self.parts.lines.buses.get(bus)?;
        let bus = self.parts.plan.buses.get(bus)?;
        let plan = bus.units.get(position)?;
        let item = plan.profile.items.get(poll.profile_item)?;
        let status = handle.status();
        let of_unit = status.units.get(position)?;
        let told = unit(of_unit, status.down.is_some(), now);
        let known = of_unit.refused.get(&poll.profile_item);
        // What is refused has no value that could be old.
        let age = of_unit.worst_age_of(poll.period, now).filter(|_| known.is_none());
        let period = poll.period.as_secs_f64().max(f64::MIN_POSITIVE);
        Some(Origin::Register(Box::new(Register {
            refused: known.map(|it| refused(it, now)),
            worst_age_ms: age.map(millis),
            worst_age_periods: age.map(|age| age.as_secs_f64() / period),
            bus_down: status.down,
            unit: told,
            raw: handle.last_words(position, poll.profile_item).map(|last| raw(&last, now)),
            ..wired(bus, plan, item, poll, index)
        })))
    }

    fn device(&self, index: ItemIndex, now: BootTime) -> Option<Origin> {
        let devices = self.parts.plan.devices.iter().zip(self.parts.lines.devices.iter());
        devices.into_iter().find_map(|(plan, handle)| {
            let (item, _) = plan.feeds.iter().find(|(_, feeds)| feeds.contains(&index))?;
            Some(Origin::Device {
                device: device(handle.status(), now),
                title: plan.protocol.title.into(),
                item: item.clone(),
            })
        })
    }
}

fn raw(last: &LastWords, now: BootTime) -> Raw {
    Raw {
        place: last.block.table.place(last.block.start),
        words: last.words().iter().map(|word| format!("{word:04x}")).collect(),
        age_ms: millis(now.since(last.at)),
    }
}

fn refused(it: &Refusal, now: BootTime) -> Refused {
    Refused {
        block: it.block.to_string(),
        exception: it.exception,
        age_ms: millis(now.since(it.at)),
        again_ms: millis(it.until.since(now)),
        remembered: it.remembered,
    }
}

/// What the configuration says of a register.
fn wired(
    bus: &BusPlan,
    unit: &UnitPlan,
    item: &ProfileItem,
    poll: &PollPlan,
    index: ItemIndex,
) -> Register {
    let span = poll.fed.loops().iter().find(|(fed, _)| *fed == index);
    Register {
        bus: bus.id.clone(),
        bus_down: None,
        unit: Unit::default(),
        profile: unit.profile.id.clone(),
        item: item.item.name.clone(),
        place: item.table.place(item.address),
        table: item.table.word().into(),
        address: item.address,
        registers: item.own().count,
        form: item.type_word(),
        order: item.encoding.order.word().into(),
        scale: item.scale.factor(),
        scale_register: item.scale_register,
        ratio: poll.ratio,
        span: span.map(|(_, span)| [span.at_4ma, span.at_20ma]),
        raw: None,
        worst_age_ms: None,
        worst_age_periods: None,
        refused: None,
    }
}

/// The bus, the position of the unit on it, and the poll that feeds an item.
fn poll_of(plan: &Plan, index: ItemIndex) -> Option<(usize, usize, &PollPlan)> {
    plan.buses.iter().enumerate().find_map(|(bus, it)| {
        it.units.iter().enumerate().find_map(|(unit, it)| {
            let feeds = |poll: &&PollPlan| poll.fed.all().any(|fed| fed == index);
            it.polls.iter().find(feeds).map(|poll| (bus, unit, poll))
        })
    })
}

fn find(plan: &Plan, machine: &str, item: &str) -> Result<ItemIndex, Unknown> {
    let machines = plan.engine.machines.iter();
    let Some(position) = machines.clone().position(|known| *known.id == *machine) else {
        if let Some(known) = of_source(plan, machine) {
            return Err(known);
        }
        let hint = did_you_mean(machine, machines.map(|known| &*known.id));
        return Err(Unknown { error: format!("there is no machine {machine:?}"), hint });
    };
    let own = || {
        let items = (0..).map(ItemIndex).zip(&plan.engine.items);
        items.filter(|(_, known)| usize::from(known.machine.0) == position)
    };
    own().find(|(_, known)| *known.item.name == *item).map(|(index, _)| index).ok_or_else(|| {
        let hint = did_you_mean(item, own().map(|(_, known)| &*known.item.name));
        Unknown { error: format!("{machine} has no item {item:?}"), hint }
    })
}

/// That a name is a source's and not a machine's, and which machine to ask for instead.
fn of_source(plan: &Plan, name: &str) -> Option<Unknown> {
    let units = plan.buses.iter().flat_map(|bus| &bus.units).map(|unit| {
        (&unit.source, unit.polls.iter().flat_map(|poll| poll.fed.all()).collect::<Vec<_>>())
    });
    let devices = plan.devices.iter().map(|device| {
        (&device.source, device.feeds.iter().flat_map(|(_, feeds)| feeds).copied().collect())
    });
    let (_, fed) = units.chain(devices).find(|(source, _)| ***source == *name)?;
    let mut machines: Vec<&str> = Vec::new();
    for index in fed {
        let item = usize::try_from(index.0).ok().and_then(|at| plan.engine.items.get(at));
        let machine = item.and_then(|item| plan.engine.machines.get(usize::from(item.machine.0)));
        if let Some(machine) = machine.filter(|it| !machines.contains(&&*it.id)) {
            machines.push(&machine.id);
        }
    }
    let (of, hint) = match machines.as_slice() {
        [] => ("no machine".to_owned(), None),
        [one] => (format!("machine {one}"), Some(format!("ask for {one}"))),
        many => (format!("machines {}", many.join(", ")), Some("ask for one of these".to_owned())),
    };
    Some(Unknown { error: format!("{name} is a source of {of}"), hint })
}

fn watchers(plan: &Plan, index: ItemIndex) -> Watchers {
    let looks = |rule: &Rule| {
        let clear = rule.clear.iter().flat_map(Condition::items);
        rule.when.items().chain(clear).any(|item| item == index)
    };
    let rules = plan.engine.rules.iter().zip(&plan.rules).filter(|(rule, _)| looks(rule));
    let watch = |(rule, face): (&Rule, &crate::config::plan::RuleFace)| RuleWatch {
        id: rule.id.clone(),
        severity: rule.severity,
        hold_ms: millis(rule.hold_for),
        trips: rule
            .trip
            .and_then(|trip| plan.engine.trips.get(usize::from(trip.0)))
            .map(|trip| trip.id.clone()),
        message: face.message.clone(),
    };
    let activities = plan.engine.machines.iter().flat_map(|machine| &machine.activity);
    let told = activities.into_iter().find(|activity| activity.item() == index);
    let proves = plan
        .engine
        .trips
        .iter()
        .filter(|trip| trip.proof.as_ref().is_some_and(|proof| proof.item == index));
    Watchers {
        rules: rules.map(watch).collect(),
        activity: told.map(|activity| activity_word(activity).into()),
        meaning: told.map(meaning),
        energy: plan.engine.machines.iter().any(|machine| machine.energy == Some(index)),
        proves: proves.map(|trip| trip.id.clone()).collect(),
    }
}

/// What the values of a signal mean for the machine.
fn meaning(activity: &ActivityPlan) -> String {
    match activity {
        ActivityPlan::Controller { .. } => "the machine does what its controller says".to_owned(),
        ActivityPlan::Power { idle, run, .. } => format!(
            "off below {} W, idle from there, run from {} W (left below {} W and {} W), nothing below \
             zero",
            idle.enter, run.enter, idle.exit, run.exit
        ),
        ActivityPlan::Input { run_when, .. } => {
            let means = if *run_when { ["run", "idle"] } else { ["idle", "run"] };
            format!("on means {}, off means {}", means[0], means[1])
        }
    }
}

const fn activity_word(activity: &ActivityPlan) -> &'static str {
    match activity {
        ActivityPlan::Controller { .. } => "controller",
        ActivityPlan::Power { .. } => "power",
        ActivityPlan::Input { .. } => "input",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn whoever_asks_for_a_source_is_told_its_machine() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/andon.toml");
        let plan = crate::config::load(&sample).unwrap().plan;
        let of = |name: &str| find(&plan, name, "execution").unwrap_err();
        let known = of("meter-1");
        assert_eq!(known.error, "meter-1 is a source of machine saw");
        assert_eq!(known.hint.as_deref(), Some("ask for saw"));
        let unknown = of("lasr");
        assert_eq!(unknown.error, "there is no machine \"lasr\"");
        assert!(unknown.hint.unwrap().contains("laser"));
    }
}
