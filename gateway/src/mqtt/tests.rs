//! Delivery as a gateway sees it. Here are a shop with a journal of its own and a clock that a test
//! sets; the tests are beside: the publisher by itself, and the whole way over real brokers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use andon_engine::event::{Event, Execution};
use andon_engine::plan::MachinePlan;
use andon_engine::time::BootTime;
use andon_engine::value::Value;

use super::{BootId, Inputs, Journal, MqttPlan, Pace, Stream};
use crate::clock::Anchors;
use crate::config::plan::{HistoryPlan, HttpPlan, JournalPlan, MachineFace, Name, Plan, SitePlan};
use crate::journal::{Observation, Payload};
use crate::recorder::fake::folder;

mod brokers;
mod publisher;

const BOOT: BootId = BootId([7; 16]);

const NOON: i64 = 1_790_000_000_000;

const STATION: &str = "andon/v1/shop/laser/observation";

fn plan() -> Plan {
    let machine = MachinePlan { id: "laser".into(), activity: Vec::new(), energy: None };
    let engine = andon_engine::plan::Plan { machines: vec![machine], ..Default::default() };
    let face = MachineFace { name: Name::default(), kind: "laser".into(), key_items: Vec::new() };
    Plan {
        site: SitePlan { id: "shop".into(), name: Name::default(), time_zone: "UTC".into() },
        trust_wall: false,
        state_dir: PathBuf::new(),
        journal: JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) },
        history: HistoryPlan {
            keep: Duration::from_secs(86_400),
            keep_minutes: Duration::from_secs(86_400),
            bytes: 1 << 30,
        },
        mqtt: None,
        store: None,
        http: HttpPlan { listen: "127.0.0.1:0".parse().unwrap() },
        buses: Vec::new(),
        brokers: Vec::new(),
        devices: Vec::new(),
        machines: vec![face],
        rules: Vec::new(),
        outputs: Vec::new(),
        engine: engine.into(),
    }
}

/// A gateway's inputs, with a journal of its own and a clock that a test sets.
struct Shop {
    inputs: Inputs,
    anchors: Arc<Mutex<Anchors>>,
}

impl Shop {
    fn new(port: u16, recorder: Option<&str>) -> Self {
        let plan = Arc::new(plan());
        let journal = Arc::new(Journal::open(&folder("mqtt"), &plan.journal, BOOT).unwrap());
        let anchors = Arc::new(Mutex::new(Anchors::default()));
        let known = Arc::clone(&anchors);
        let mqtt = MqttPlan {
            host: "127.0.0.1".into(),
            port,
            client_id: "andon-shop".into(),
            login: None,
            ca_file: None,
            recorder: recorder.map(str::to_owned),
        };
        let inputs = Inputs {
            mqtt,
            plan,
            boot: BOOT,
            journal,
            wall: Arc::new(move |boot, at| known.lock().unwrap().wall_ms(boot, at)),
            now: Arc::new(|| BootTime::from_millis(5)),
            health: Arc::new(|| (BTreeMap::new(), Vec::new())),
            pace: Pace::default(),
        };
        Self { inputs, anchors }
    }

    fn anchor(&self) {
        let event = Event::Clock { at: BootTime(0), wall_ms: NOON };
        self.anchors.lock().unwrap().note(BOOT, &event);
    }

    fn observe(&self, numbers: std::ops::Range<u64>) {
        let observation = |n: u64| {
            let items = vec![("power.active".into(), Ok(Value::Number(n as f64)))];
            let at = BootTime::from_millis(n * 1000);
            Payload::Observation(Observation { machine: "laser".into(), at, items })
        };
        let end = numbers.end;
        self.append(numbers.map(observation).collect(), Stream::Telemetry, end);
    }

    /// Appends and waits until the journal's thread has written up to `seq`.
    fn append(&self, payloads: Vec<Payload>, stream: Stream, seq: u64) {
        self.inputs.journal.append(payloads);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while self.inputs.journal.newest(stream).is_none_or(|newest| newest.seq < seq) {
            assert!(std::time::Instant::now() < deadline, "the journal does not write");
            std::thread::yield_now();
        }
    }
}

/// The laser begins to do something, a second after the start.
fn activity(execution: Execution) -> Payload {
    does(1000, execution)
}

/// The laser begins to do something.
fn does(at_ms: u64, execution: Execution) -> Payload {
    Payload::Event(Event::Activity {
        machine: "laser".into(),
        at: BootTime::from_millis(at_ms),
        activity: execution.activity(),
        execution,
        why: None,
        raw_run_ms: 0,
    })
}
