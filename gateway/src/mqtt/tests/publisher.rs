//! The publisher against a scripted broker and recorder: what is sent, sent again, and counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::{Activity, Event, Execution};
use andon_engine::time::BootTime;
use tokio::time::Instant;

use super::{BOOT, NOON, STATION, Shop, activity, does};
use crate::journal::tests::{Folder, SMALL, open};
use crate::journal::{Payload, Stream};
use crate::mqtt::lane::PASS_WINDOW;
use crate::mqtt::publisher::{Message, Publisher, WINDOW};
use crate::wire::{EventMessage, ObservationMessage, Stored, Topic};

/// A shop whose clock is known, and its publisher, connected to a broker that has no session of it.
fn connected(recorder: Option<&str>, now: Instant) -> (Shop, Publisher) {
    let shop = Shop::new(1, recorder);
    shop.anchor();
    let mut publisher = publisher(&shop, now);
    publisher.connected(now, false);
    (shop, publisher)
}

fn publisher(shop: &Shop, now: Instant) -> Publisher {
    Publisher::new(&shop.inputs, [None, None], now)
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
    let (shop, mut publisher) = connected(Some("main"), now);
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
    let (shop, mut publisher) = connected(None, now);
    shop.observe(0..10);
    take(&mut publisher, now);
    assert_eq!(telemetry_seq(&publisher), 10);
}

#[tokio::test]
async fn a_hole_below_newer_confirmations_is_sent_again_after_the_grace() {
    let now = Instant::now();
    let (shop, mut publisher) = connected(Some("main"), now);
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
    let (shop, mut publisher) = connected(Some("main"), now);
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
        assert_eq!(again[1..], (1..=PASS_WINDOW as u64).collect::<Vec<_>>());
    }
    // The recorder is back: the pass goes on as it confirms.
    store(&mut publisher, now, &[(1, 500)]);
    assert_eq!(seqs(&take(&mut publisher, now)), (501..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_keeps_nothing_from_the_broker_that_lies_behind_it() {
    let now = Instant::now();
    let folder = Folder::new("mqtt-unreadable");
    let mut shop = Shop::new(1, Some("main"));
    shop.inputs.journal = Arc::new(open(&folder, BOOT, SMALL, None));
    shop.anchor();
    shop.observe(0..12_000);
    let segments = fs::read_dir(folder.path().join("telemetry")).unwrap();
    let mut segments: Vec<PathBuf> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 3, "{segments:?}");
    fs::remove_file(&segments[1]).unwrap();
    fs::create_dir(&segments[1]).unwrap();
    // A broker that was away is back, and its recorder stores whatever comes, but for one record.
    let mut publisher = publisher(&shop, now);
    publisher.connected(now, false);
    let mut sent = Vec::new();
    let mut more = |publisher: &mut Publisher, now: Instant, hole: Option<u64>| {
        let before = sent.len();
        loop {
            let some = seqs(&take(publisher, now));
            let Some(last) = some.last() else { break };
            let ranges = match hole {
                Some(hole) => vec![(1, hole - 1), (hole + 1, *last)],
                None => vec![(1, *last)],
            };
            store(publisher, now, &ranges);
            sent.extend(some);
        }
        sent[before..].to_vec()
    };
    let lost = more(&mut publisher, now, Some(100)).last().unwrap() + 1;
    assert!((500..9000).contains(&lost), "{lost}");
    // Nothing is begun again while the segment is tried.
    let later = now + Duration::from_secs(11);
    publisher.tick(later);
    assert_eq!(more(&mut publisher, later, Some(100)), [0; 0]);
    // Whoever reads it, in the end it is given up.
    let mut other = shop.inputs.journal.follow(Stream::Telemetry, None);
    for minute in 0..100 {
        other.next_by(usize::MAX, || BootTime::from_millis(minute * 60_000));
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut rest = Vec::new();
    while rest.last() != Some(&12_000) {
        assert!(std::time::Instant::now() < deadline, "sent up to {:?}", rest.last());
        rest.extend(more(&mut publisher, later, None));
    }
    assert!(rest[0] > lost && rest.is_sorted() && rest.len() as u64 == 12_001 - rest[0]);
    assert_eq!(telemetry_seq(&publisher), 12_000);
}

#[tokio::test]
async fn a_lost_session_sends_again_at_once_and_a_kept_one_only_what_was_in_flight() {
    let now = Instant::now();
    let (shop, mut publisher) = connected(Some("main"), now);
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
        let mut publisher = publisher(&shop, now);
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
    let (shop, mut publisher) = connected(Some("main"), now);
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
    shop.append(vec![activity(Execution::Ready), activity(Execution::Running)], Stream::Events, 2);
    let mut publisher = publisher(&shop, now);
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
    shop.append(vec![activity(Execution::Running)], Stream::Events, 1);
    let mut publisher = publisher(&shop, now);
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
    let started = |at_ms| {
        Payload::Event(Event::Started { at: BootTime::from_millis(at_ms), version: "1".into() })
    };
    let stopped = Payload::Event(Event::Stopped { at: BootTime::from_millis(90_000) });
    let before = [started(500), does(1000, Execution::Running), stopped];
    let after =
        [started(95_000), does(95_001, Execution::Unknown), does(97_000, Execution::Running)];
    shop.append([before, after].concat(), Stream::Events, 6);
    let mut publisher = publisher(&shop, now);
    publisher.connected(now, true);
    let messages = take(&mut publisher, now);
    let mut retained = messages.iter().filter(|message| message.topic.ends_with("/laser/state"));
    let state: crate::wire::State = crate::wire::decode(&retained.next().unwrap().payload).unwrap();
    assert_eq!((state.since, state.activity), (Some(NOON + 1000), Activity::Run));
}
