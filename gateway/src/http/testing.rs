//! A small shop for the tests of this folder.

use std::sync::{Arc, Weak};
use std::time::Duration;

use andon_engine::Output;
use andon_engine::event::{AlarmState, Event, Severity};
use andon_engine::item::Item;
use andon_engine::plan::{self, ItemIndex, ItemPlan, MachineIndex, MachinePlan, Measurand};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Value};

use tokio::sync::mpsc;

use crate::config::plan::{
    HistoryPlan, HttpPlan, JournalPlan, MachineFace, Name, Plan, RuleFace, SitePlan,
};
use crate::diagnostics::{Collector, Parts};
use crate::journal::BootId;
use crate::run::Lines;

pub(super) fn name(text: &str) -> Name {
    Name { en: text.into(), zh: text.into() }
}

/// One laser with power and temperature, one stop, one rule `laser-hot`.
pub(crate) fn shop() -> Plan {
    let item = |name: &str| {
        ItemPlan::new(
            MachineIndex(0),
            Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1)),
        )
    };
    Plan {
        site: SitePlan { id: "shop".into(), name: name("Shop"), time_zone: "Asia/Shanghai".into() },
        trust_wall: false,
        state_dir: "/nonexistent".into(),
        journal: JournalPlan { telemetry_bytes: 1 << 20, sync: Duration::from_secs(5) },
        history: HistoryPlan {
            keep: Duration::from_secs(86_400),
            keep_minutes: Duration::from_secs(86_400),
            bytes: 1 << 30,
        },
        mqtt: None,
        store: None,
        http: HttpPlan { listen: ([127, 0, 0, 1], 0).into() },
        buses: Vec::new(),
        brokers: Vec::new(),
        devices: Vec::new(),
        machines: vec![MachineFace {
            name: name("Laser"),
            kind: "laser".into(),
            key_items: vec![ItemIndex(1)],
        }],
        rules: vec![RuleFace { message: name("Too hot") }],
        outputs: Vec::new(),
        engine: plan::Plan {
            machines: vec![MachinePlan { id: "laser".into(), activity: Vec::new(), energy: None }],
            items: vec![item("power.active"), item("temperature")],
            rules: Vec::new(),
            trips: vec![plan::TripPlan {
                id: "laser-contactor".into(),
                machine: MachineIndex(0),
                proof: None,
                attempt_deadline: Duration::from_millis(500),
                attempts: 3,
                permit_on_reset: false,
            }],
        }
        .into(),
    }
}

/// A collector of a plan of which nothing runs.
pub(super) fn collector(plan: Plan) -> Collector {
    Collector::new(Parts {
        plan: Arc::new(plan),
        boot: BootId([1; 16]),
        started: BootTime(0),
        lines: Lines { buses: Arc::new([]), devices: Arc::new([]) },
        progress: Arc::default(),
        telemetry: mpsc::channel(1).0.downgrade(),
        urgent: mpsc::channel(1).0.downgrade(),
        journal: Weak::new(),
        history: None,
        mqtt: None,
        store: None,
    })
}

pub(super) fn rules() -> Vec<Arc<str>> {
    vec!["laser-hot".into()]
}

pub(super) const fn s(seconds: u64) -> BootTime {
    BootTime::from_millis(seconds * 1000)
}

pub(super) fn sample(item: u32, at: BootTime, measured: Measured) -> Output {
    let items = vec![(ItemIndex(item), measured)];
    Output::Observation { machine: MachineIndex(0), at, items }
}

pub(super) const fn number(number: f64) -> Measured {
    Ok(Value::Number(number))
}

pub(super) fn alarm(at: BootTime, active: Option<bool>, acked: bool, latched: bool) -> Output {
    let state = AlarmState {
        alarm: "laser-hot".into(),
        machine: "laser".into(),
        severity: Severity::High,
        active,
        acked,
        latched,
        raised: s(10),
        cause: "temperature 63.2 °C".into(),
    };
    Output::Event(Event::Alarm { at, state, by: None, reason: None })
}
