//! The whole way — gateway, broker, recorder, store — with everything in between killed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{NOON, STATION, Shop};
use crate::config::plan::StorePlan;
use crate::mqtt::broker_fixture::{DeafBroker, Mosquitto};
use crate::mqtt::{LinkOptions, LinkState, MqttHandle, MqttStatus, Pace, start};
use crate::recorder::broker::{self, BrokerInputs};
use crate::recorder::fake::{FakeStore, folder};
use crate::wire::Topic;

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
    let Some(mut mosquitto) = Mosquitto::start().await else { return };
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
