//! The publisher against a scripted broker and recorder in one process, and the whole way —
//! gateway, mosquitto, recorder, store — with everything in between killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use andon_engine::event::{Activity, Event, Execution};
use andon_engine::plan::MachinePlan;
use andon_engine::time::BootTime;
use andon_engine::value::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::broker_fixture::{DeafBroker, Mosquitto};
use super::publisher::{Message, Publisher, WINDOW};
use super::*;
use crate::clock::Anchors;
use crate::config::plan::{
    HistoryPlan, HttpPlan, JournalPlan, MachineFace, Name, Plan, SitePlan, StorePlan,
};
use crate::journal::{Observation, Payload};
use crate::recorder::broker::{self, BrokerInputs};
use crate::recorder::fake::{FakeStore, folder};
use crate::wire::{EventMessage, ObservationMessage, Stored, Topic};

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

    fn publisher(&self, now: Instant) -> Publisher {
        Publisher::new(&self.inputs, [None, None], now)
    }
}

/// Takes everything that the publisher has, as a broker that acknowledges at once.
fn take(publisher: &mut Publisher, now: Instant) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(message) = publisher.next(now) {
        publisher.taken(now, message.covers);
        publisher.sent(7);
        publisher.acknowledged(now, 7);
        all.push(message);
    }
    all
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    let observations = messages.iter().filter(|message| message.topic == STATION);
    let seq = |message: &Message| ObservationMessage::decode(&message.payload).unwrap().header.seq;
    observations.map(seq).collect()
}

fn store(publisher: &mut Publisher, now: Instant, ranges: &[(u64, u64)]) {
    let mut stored = Stored::default();
    for (first, last) in ranges {
        stored.insert(BOOT, Stream::Telemetry, first - 1, *last);
    }
    let topic = Topic::Stored("main").at("shop");
    publisher.received(now, "main", &topic, &crate::wire::encode(&stored));
}

fn telemetry_seq(publisher: &Publisher) -> u64 {
    publisher.positions()[Stream::Telemetry as usize].map_or(0, |position| position.seq)
}

#[tokio::test]
async fn puback_moves_no_cursor_where_a_recorder_confirms() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..10);
    assert_eq!(seqs(&take(&mut publisher, now)), (1..=10).collect::<Vec<_>>());
    assert_eq!(telemetry_seq(&publisher), 0);
    store(&mut publisher, now, &[(1, 4), (7, 9)]);
    assert_eq!(telemetry_seq(&publisher), 4);
    store(&mut publisher, now, &[(1, 9)]);
    assert_eq!(telemetry_seq(&publisher), 9);
    // A watermark of another life claims more than there is.
    store(&mut publisher, now, &[(1, 1_000_000)]);
    assert_eq!(telemetry_seq(&publisher), 10);
    assert_eq!(publisher.behind(), 0);
}

#[tokio::test]
async fn puback_moves_the_cursor_where_there_is_no_recorder() {
    let now = Instant::now();
    let shop = Shop::new(1, None);
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..10);
    take(&mut publisher, now);
    assert_eq!(telemetry_seq(&publisher), 10);
}

#[tokio::test]
async fn a_hole_below_newer_confirmations_is_sent_again_after_the_grace() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..10);
    take(&mut publisher, now);
    store(&mut publisher, now, &[(1, 4), (7, 9)]);
    store(&mut publisher, now, &[(1, 4), (7, 10)]);
    let early = now + Duration::from_secs(9);
    publisher.tick(early);
    assert_eq!(seqs(&take(&mut publisher, early)), [0; 0]);
    let late = now + Duration::from_secs(11);
    publisher.tick(late);
    assert_eq!(seqs(&take(&mut publisher, late)), [5, 6]);
}

#[tokio::test]
async fn what_nobody_confirms_is_sent_again_in_a_trickle_and_live_goes_on() {
    let mut now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..3000);
    assert_eq!(seqs(&take(&mut publisher, now)).len(), 3000);
    for round in 0..3 {
        now += Duration::from_secs(299);
        publisher.tick(now);
        assert_eq!(seqs(&take(&mut publisher, now)), [0; 0]);
        now += Duration::from_secs(2);
        publisher.tick(now);
        shop.observe(3000 + round..3001 + round);
        let again = seqs(&take(&mut publisher, now));
        assert_eq!(again[0], 3001 + round, "live first");
        assert_eq!(again[1..], (1..=super::lane::PASS_WINDOW as u64).collect::<Vec<_>>());
    }
    // The recorder is back: the pass goes on as it confirms.
    store(&mut publisher, now, &[(1, 500)]);
    assert_eq!(seqs(&take(&mut publisher, now)), (501..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_session_sends_again_at_once_and_a_kept_one_only_what_was_in_flight() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..10);
    take(&mut publisher, now);
    publisher.connected(now, true);
    assert_eq!(seqs(&take(&mut publisher, now)), [0; 0]);
    shop.observe(10..12);
    while let Some(message) = publisher.next(now) {
        publisher.taken(now, message.covers);
    }
    publisher.connected(now, true);
    assert_eq!(seqs(&take(&mut publisher, now)), [11, 12]);
    publisher.connected(now, false);
    assert_eq!(seqs(&take(&mut publisher, now)), (1..=12).collect::<Vec<_>>());
    let sent = publisher.sent_so_far();
    assert_eq!((sent.connections, sent.live, sent.again, sent.in_flight), (4, 12, 14, 0));
}

#[tokio::test]
async fn unsynced_messages_go_out_live_and_again_with_their_time() {
    let now = Instant::now();
    for recorder in [Some("main"), None] {
        let shop = Shop::new(1, recorder);
        let mut publisher = shop.publisher(now);
        publisher.connected(now, false);
        shop.observe(0..3);
        let live = take(&mut publisher, now);
        assert_eq!(seqs(&live), [1, 2, 3]);
        let text = String::from_utf8(live.last().unwrap().payload.clone()).unwrap();
        assert!(text.contains(r#""t":null,"clock":"unsynced""#), "{text}");
        publisher.tick(now);
        assert_eq!((seqs(&take(&mut publisher, now)), telemetry_seq(&publisher)), (vec![], 0));
        shop.anchor();
        publisher.tick(now);
        let again = take(&mut publisher, now);
        assert_eq!(seqs(&again), [1, 2, 3]);
        let mut observed = again.iter().filter(|message| message.covers.is_some());
        let first = ObservationMessage::decode(&observed.next().unwrap().payload).unwrap();
        assert_eq!(first.header.t, Some(NOON));
    }
}

#[tokio::test]
async fn the_window_bounds_what_is_in_flight() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let mut publisher = shop.publisher(now);
    publisher.connected(now, false);
    shop.observe(0..1000);
    let mut count = 0u16;
    while let Some(message) = publisher.next(now) {
        publisher.taken(now, message.covers);
        count += 1;
        publisher.sent(count);
    }
    assert_eq!(usize::from(count), WINDOW);
    assert_eq!(publisher.sent_so_far().in_flight, WINDOW);
    // The oldest one unacknowledged holds the window, so that no packet id comes round.
    for packet in 2..=count {
        publisher.acknowledged(now, packet);
    }
    assert!(publisher.next(now).is_none());
    publisher.acknowledged(now, 1);
    assert!(publisher.next(now).is_some());
}

#[tokio::test]
async fn states_are_retained_from_the_fold_and_sent_on_every_connection() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let activity = |execution: Execution| {
        Payload::Event(Event::Activity {
            machine: "laser".into(),
            at: BootTime::from_millis(1000),
            activity: execution.activity(),
            execution,
            why: None,
            raw_run_ms: 0,
        })
    };
    shop.append(vec![activity(Execution::Ready), activity(Execution::Running)], Stream::Events, 2);
    let mut publisher = shop.publisher(now);
    for _ in 0..2 {
        publisher.connected(now, true);
        let messages = take(&mut publisher, now);
        let retained: BTreeMap<_, _> = messages
            .iter()
            .filter(|message| message.retain)
            .map(|message| (message.topic.as_str(), message.payload.as_slice()))
            .collect();
        let topics: Vec<_> = retained.keys().copied().collect();
        assert_eq!(
            topics,
            [
                "andon/v1/shop/_gateway/status",
                "andon/v1/shop/laser/birth",
                "andon/v1/shop/laser/state",
            ]
        );
        let state: crate::wire::State =
            crate::wire::decode(retained["andon/v1/shop/laser/state"]).unwrap();
        assert_eq!((state.since, state.activity), (Some(NOON + 1000), Activity::Run));
    }
    shop.append(vec![activity(Execution::Paused)], Stream::Events, 3);
    let messages = take(&mut publisher, now);
    assert!(messages[0].retain && messages[0].topic.ends_with("/state"));
    let event = EventMessage::decode(&messages[1].payload).unwrap();
    assert_eq!(event.header.seq, 3);
}

#[tokio::test]
async fn a_state_that_was_sent_before_the_clock_was_known_is_sent_again_with_its_time() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    let running = Event::Activity {
        machine: "laser".into(),
        at: BootTime::from_millis(1000),
        activity: Activity::Run,
        execution: Execution::Running,
        why: None,
        raw_run_ms: 0,
    };
    shop.append(vec![Payload::Event(running)], Stream::Events, 1);
    let mut publisher = shop.publisher(now);
    publisher.connected(now, true);
    let mut since = || {
        let states = take(&mut publisher, now).into_iter();
        let states = states.filter(|message| message.topic.ends_with("/laser/state"));
        let state = |message: Message| -> crate::wire::State {
            crate::wire::decode(&message.payload).unwrap()
        };
        states.map(state).map(|state| (state.t, state.since)).collect::<Vec<_>>()
    };
    assert_eq!(since(), [(None, None)]);
    assert_eq!(since(), []);
    shop.anchor();
    assert_eq!(since(), [(Some(NOON + 5), Some(NOON + 1000))]);
    assert_eq!(since(), []);
}

#[tokio::test]
async fn a_state_that_went_on_over_a_restart_is_since_when_it_began() {
    let now = Instant::now();
    let shop = Shop::new(1, Some("main"));
    shop.anchor();
    let does = |at_ms, execution: Execution| Event::Activity {
        machine: "laser".into(),
        at: BootTime::from_millis(at_ms),
        activity: execution.activity(),
        execution,
        why: None,
        raw_run_ms: 0,
    };
    let started = |at_ms| Event::Started { at: BootTime::from_millis(at_ms), version: "1".into() };
    let events = [
        started(500),
        does(1000, Execution::Running),
        Event::Stopped { at: BootTime::from_millis(90_000) },
        started(95_000),
        does(95_001, Execution::Unknown),
        does(97_000, Execution::Running),
    ];
    shop.append(events.map(Payload::Event).to_vec(), Stream::Events, 6);
    let mut publisher = shop.publisher(now);
    publisher.connected(now, true);
    let messages = take(&mut publisher, now);
    let mut retained = messages.iter().filter(|message| message.topic.ends_with("/laser/state"));
    let state: crate::wire::State = crate::wire::decode(&retained.next().unwrap().payload).unwrap();
    assert_eq!((state.since, state.activity), (Some(NOON + 1000), Activity::Run));
}

/// A recorder behind the broker that can be killed and started again.
struct Recorder {
    inputs: BrokerInputs,
    task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Recorder {
    fn start(inputs: BrokerInputs) -> Self {
        let (stop, stopped) = watch::channel(false);
        let given = inputs.clone();
        let task = tokio::spawn(async move { broker::run(given, drop, stopped).await.unwrap() });
        Self { inputs, task, stop }
    }

    /// As SIGKILL: nothing is saved, nothing said.
    async fn kill_and_restart(self) -> Self {
        self.task.abort();
        let _ = self.task.await;
        drop(self.stop);
        Self::start(self.inputs)
    }
}

fn recorder_inputs(port: u16, store: StorePlan) -> BrokerInputs {
    let client_id = "andon-record-main".into();
    let host = "127.0.0.1".into();
    BrokerInputs {
        link: LinkOptions { host, port, client_id, login: None, ca_file: None },
        filters: broker::filters(&["shop".to_owned()]),
        name: "main".into(),
        store,
        state: folder("recorder"),
    }
}

/// Waits until `count` lines are in the store and confirmed to the gateway.
async fn confirmed(handle: &MqttHandle, fake: &FakeStore, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while distinct(fake).len() < count {
        assert!(Instant::now() < deadline, "{} of {count} lines", distinct(fake).len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut watch = handle.watch();
    let done = watch.wait_for(|status| status.state == LinkState::Up && status.behind == 0);
    tokio::time::timeout_at(deadline, done).await.expect("not confirmed").unwrap();
}

/// The distinct lines of the store; equal records must have become equal lines.
fn distinct(fake: &FakeStore) -> BTreeSet<String> {
    fake.stored().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_is_lost_when_recorder_store_and_broker_die_in_turn() {
    let Some(mut mosquitto) = Mosquitto::start().await else { return };
    let fake = FakeStore::start(Vec::new()).await;
    let mut recorder = Recorder::start(recorder_inputs(mosquitto.port, fake.plan()));
    let mut shop = Shop::new(mosquitto.port, Some("main"));
    let (resend, hole) = (Duration::from_secs(3), Duration::from_secs(1));
    shop.inputs.pace = Pace { resend, hole, ..Pace::default() };
    shop.anchor();
    shop.observe(0..500);
    let mut gateway = start(shop.inputs.clone()).unwrap();
    confirmed(&gateway, &fake, 500).await;

    shop.observe(500..900);
    recorder = recorder.kill_and_restart().await;
    shop.observe(900..1000);
    confirmed(&gateway, &fake, 1000).await;

    shop.observe(1000..1500);
    mosquitto.kill();
    shop.observe(1500..2000);
    mosquitto.restart().await;
    confirmed(&gateway, &fake, 2000).await;

    let fake = fake.stop().await;
    shop.observe(2000..2100);
    gateway.stop().await;
    gateway = start(shop.inputs.clone()).unwrap();
    let fake = fake.restart().await;
    confirmed(&gateway, &fake, 2100).await;
    gateway.stop().await;
    drop(recorder.task);

    let expected: BTreeSet<String> = (0i64..2100)
        .map(|n| format!("andon,site=shop,machine=laser power.active={n} {}", NOON + n * 1000))
        .collect();
    let stored = distinct(&fake);
    assert_eq!(expected.difference(&stored).count(), 0, "lost");
    assert_eq!(stored.difference(&expected).next(), None, "invented");
}

#[tokio::test]
async fn a_second_client_of_the_same_name_is_named() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let (one, other) = (Shop::new(mosquitto.port, None), Shop::new(mosquitto.port, None));
    let first = start(one.inputs.clone()).unwrap();
    let second = start(other.inputs.clone()).unwrap();
    let named = |status: &MqttStatus| {
        status.why.as_deref() == Some("another client uses the id \"andon-shop\"")
    };
    let (mut a, mut b) = (first.watch(), second.watch());
    let seen = async {
        tokio::select! {
            seen = a.wait_for(named) => seen.is_ok(),
            seen = b.wait_for(named) => seen.is_ok(),
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), seen).await.expect("not named"));
    tokio::join!(first.stop(), second.stop());
}

/// Waits until the status is as wanted; the status.
async fn told(gateway: &MqttHandle, wanted: impl Fn(&MqttStatus) -> bool) -> MqttStatus {
    let mut watch = gateway.watch();
    let told = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(wanted)).await;
    told.unwrap_or_else(|_| panic!("it says {:?}", gateway.status())).unwrap().clone()
}

#[tokio::test]
async fn what_waits_is_told_while_the_broker_is_away() {
    let mut mosquitto = match Mosquitto::start().await {
        Some(mosquitto) => mosquitto,
        None => return,
    };
    let shop = Shop::new(mosquitto.port, None);
    shop.anchor();
    mosquitto.kill();
    shop.observe(0..70);
    let gateway = start(shop.inputs.clone()).unwrap();
    told(&gateway, |status| status.state == LinkState::Down && status.behind == 70).await;
    shop.observe(70..100);
    told(&gateway, |status| status.state == LinkState::Down && status.behind == 100).await;
    mosquitto.restart().await;
    told(&gateway, |status| status.state == LinkState::Up && status.behind == 0).await;
    mosquitto.kill();
    told(&gateway, |status| status.state == LinkState::Down).await;
    shop.observe(100..105);
    told(&gateway, |status| status.state == LinkState::Down && status.behind == 5).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_acknowledges_nothing_is_left_and_tried_again_and_nothing_counts_as_sent() {
    let broker = DeafBroker::start().await;
    let mut shop = Shop::new(broker.port, None);
    shop.inputs.pace = Pace { progress: Duration::from_secs(1), ..Pace::default() };
    shop.anchor();
    shop.observe(0..20);
    let gateway = start(shop.inputs.clone()).unwrap();
    let deaf =
        |status: &MqttStatus| status.why.as_deref() == Some("the broker acknowledges nothing");
    let status = told(&gateway, deaf).await;
    assert_eq!((status.state, status.behind), (LinkState::Down, 20));
    broker.hear();
    told(&gateway, |status| status.state == LinkState::Up && status.behind == 0).await;
    let connections = broker.connections();
    assert!(connections.len() >= 2, "it was tried again");
    for seen in [&connections[0], connections.last().unwrap()] {
        assert_eq!(seen.iter().filter(|topic| *topic == STATION).count(), 20, "{connections:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_gateway_says_good_bye_and_its_status_is_retained() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let shop = Shop::new(mosquitto.port, None);
    let gateway = start(shop.inputs.clone()).unwrap();
    gateway.watch().wait_for(|status| status.state == LinkState::Up).await.unwrap();
    let mut listener = rumqttc::MqttOptions::new("listener", "127.0.0.1", mosquitto.port);
    listener.set_clean_session(true);
    let (client, mut events) = rumqttc::AsyncClient::new(listener, 8);
    let topic = Topic::Status.at("shop");
    client.try_subscribe(&topic, rumqttc::QoS::AtLeastOnce).unwrap();
    let mut gateway = Some(gateway);
    let mut heard = Vec::new();
    let listening = async {
        while heard.last() != Some(&false) {
            let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) =
                events.poll().await.unwrap()
            else {
                continue;
            };
            let status: crate::wire::Status = crate::wire::decode(&publish.payload).unwrap();
            heard.push(status.online);
            if let Some(gateway) = gateway.take() {
                tokio::spawn(gateway.stop());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listening).await.unwrap();
    assert_eq!(heard.first(), Some(&true));
}
