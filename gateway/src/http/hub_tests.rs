//! The hub under paused time: what each board is told, and when.

use std::future::Future;

use super::super::testing::{alarm, number, rules, s, sample, shop};
use super::*;

struct Bench {
    feed: Feed,
    handle: Handle,
}

fn bench() -> (Bench, Hub) {
    let begun = Instant::now();
    let now: Now = Arc::new(move || Moment { boot: s(100) + begun.elapsed(), wall_ms: None });
    let plan = shop();
    let picture = Picture::new(&plan, &rules(), "b".into(), s(100));
    let (_, status) = watch::channel(Status::new(&plan));
    let (hub, feed, handle) = Hub::new(picture, Recent::new(&plan), status, now);
    (Bench { feed, handle }, hub)
}

fn kind(frame: &Bytes) -> String {
    let text = std::str::from_utf8(frame).unwrap();
    assert!(text.starts_with("id: ") && text.ends_with("\n\n"), "{text}");
    text.lines().nth(1).unwrap().strip_prefix("event: ").unwrap().to_owned()
}

async fn kinds(frames: &mut mpsc::Receiver<Bytes>, span: Duration) -> Vec<String> {
    let end = Instant::now() + span;
    let mut seen = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout_at(end, frames.recv()).await {
        seen.push(kind(&frame));
    }
    seen
}

async fn with_hub<F: Future<Output = ()>>(scene: impl FnOnce(Bench) -> F) {
    let (bench, hub) = bench();
    let hub = tokio::spawn(hub.run());
    scene(bench).await;
    hub.abort();
}

#[tokio::test(start_paused = true)]
async fn machines_are_coalesced_and_alarms_are_not() {
    with_hub(async |mut bench: Bench| {
        let mut frames = bench.handle.subscribe(None).await.unwrap();
        assert_eq!(kind(&frames.recv().await.unwrap()), "picture");
        kinds(&mut frames, FLUSH * 2).await;
        for n in 0..20 {
            let outputs: Arc<[Output]> = [
                sample(0, s(100), number(f64::from(n))),
                alarm(s(100), Some(true), false, false),
                alarm(s(100), Some(false), false, false),
            ]
            .into();
            bench.feed.step(s(100), &outputs);
        }
        let seen = kinds(&mut frames, Duration::from_secs(1)).await;
        let count = |kind: &str| seen.iter().filter(|seen| *seen == kind).count();
        // The first sample may be told at once, all others together 250 ms later.
        assert!((1..=2).contains(&count("machine")), "{seen:?}");
        assert_eq!(count("alarms"), 40);
    })
    .await;
}

fn id(frame: &Bytes) -> FrameId {
    let text = std::str::from_utf8(frame).unwrap();
    FrameId::parse(text.lines().next().unwrap().strip_prefix("id: ").unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_board_that_comes_back_is_told_what_it_missed_as_of_now() {
    with_hub(async |mut bench: Bench| {
        let mut frames = bench.handle.subscribe(None).await.unwrap();
        let picture = frames.recv().await.unwrap();
        assert_eq!(kind(&picture), "picture");
        let mut last = id(&picture);
        let end = Instant::now() + FLUSH * 2;
        while let Ok(Some(frame)) = tokio::time::timeout_at(end, frames.recv()).await {
            last = id(&frame);
        }
        drop(frames);
        bench.feed.step(s(100), &[sample(0, s(100), number(7.0))].into());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut back = bench.handle.subscribe(Some(last)).await.unwrap();
        let missed = back.recv().await.unwrap();
        assert_eq!(kind(&missed), "machine");
        let text = std::str::from_utf8(&missed).unwrap();
        let told = text.lines().nth(2).unwrap().strip_prefix("data: ").unwrap();
        let machine: serde_json::Value = serde_json::from_str(told).unwrap();
        assert_eq!(machine["items"][1]["value"], 7.0);
        // Not the age that the frame had when it was missed.
        assert!(machine["items"][1]["age_ms"].as_u64().unwrap() >= 3000, "{machine}");
        let after = kinds(&mut back, FLUSH).await;
        assert!(after.iter().all(|kind| kind != "machine" && kind != "picture"), "{after:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_board_of_another_run_gets_a_whole_picture() {
    with_hub(async |bench: Bench| {
        for id in [FrameId::parse("0-0"), FrameId::parse("00000000000000ff-99")] {
            assert!(id.is_some());
            let mut frames = bench.handle.subscribe(id).await.unwrap();
            assert_eq!(kind(&frames.recv().await.unwrap()), "picture");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_ticks_only_while_the_engine_steps() {
    with_hub(async |mut bench: Bench| {
        let mut frames = bench.handle.subscribe(None).await.unwrap();
        for second in 0..20 {
            bench.feed.step(s(100 + second), &Arc::default());
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        let lively = kinds(&mut frames, Duration::from_millis(10)).await;
        assert!(lively.iter().filter(|kind| *kind == "tick").count() >= 3, "{lively:?}");
        kinds(&mut frames, ENGINE_SILENT_MAX + TICK).await;
        let silent = kinds(&mut frames, TICK * 4).await;
        assert!(silent.iter().all(|kind| kind != "tick"), "{silent:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_board_is_dropped_and_counted() {
    with_hub(async |mut bench: Bench| {
        let mut slow = bench.handle.subscribe(None).await.unwrap();
        for _ in 0..=CLIENT_FRAMES {
            bench.feed.step(s(100), &[alarm(s(100), Some(true), false, false)].into());
            tokio::task::yield_now().await;
        }
        let picture = bench.handle.picture().await.unwrap();
        let picture: serde_json::Value = serde_json::from_slice(&picture).unwrap();
        assert_eq!(picture["gateway"]["viewers"]["dropped"], 1);
        slow.close();
        assert!(bench.handle.subscribe(None).await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_did_not_fit_arrives_by_its_last_value() {
    let (mut bench, hub) = bench();
    for n in 0..500_u32 {
        bench.feed.step(s(100), &[sample(0, s(100), number(f64::from(n)))].into());
    }
    let hub = tokio::spawn(hub.run());
    tokio::time::advance(Duration::from_secs(1)).await;
    bench.handle.picture().await.unwrap();
    bench.feed.step(s(101), &Arc::default());
    tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let picture = bench.handle.picture().await.unwrap();
            let picture: serde_json::Value = serde_json::from_slice(&picture).unwrap();
            if picture["machines"][0]["items"][1]["value"] == 499.0 {
                assert_eq!(picture["gateway"]["viewers"]["missed"], 500 - 64);
                return;
            }
            bench.feed.step(s(101), &Arc::default());
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    hub.abort();
}

#[tokio::test(start_paused = true)]
async fn boards_are_bounded() {
    with_hub(async |bench: Bench| {
        let mut boards = Vec::new();
        for _ in 0..CLIENTS_MAX {
            boards.push(bench.handle.subscribe(None).await.unwrap());
        }
        assert_eq!(bench.handle.subscribe(None).await.err(), Some(Busy));
        boards.pop();
        assert!(bench.handle.subscribe(None).await.is_ok());
    })
    .await;
}

// In real time: paused time would run ahead while the journal's thread writes.
#[tokio::test]
async fn the_hour_before_a_restart_comes_back_from_the_journal() {
    with_hub(async |bench: Bench| {
        let dir = std::env::temp_dir().join(format!("andon-hour-{}", std::process::id()));
        let boot = BootId([7; 16]);
        let plan = shop();
        let journal = crate::journal::Journal::open(&dir, &plan.journal, boot).unwrap();
        let items = vec![("temperature".into(), number(20.0))];
        let seen = Observation { machine: "laser".into(), at: s(95), items };
        journal.append(vec![Payload::Observation(seen)]);
        let query = || Query {
            machine: "laser".into(),
            item: "temperature".into(),
            span: Duration::from_secs(60),
            buckets: 1,
        };
        let follow = || journal.follow(crate::journal::Stream::Telemetry, None);
        // Its writer may be a thread of its own.
        follow().ready().await;
        let before = bench.handle.history(query()).await.unwrap();
        bench.handle.restore_from(follow(), BootId([8; 16]), s(100)).await.unwrap();
        assert_eq!(bench.handle.history(query()).await.unwrap(), before);
        bench.handle.restore_from(follow(), boot, s(100)).await.unwrap();
        assert_ne!(bench.handle.history(query()).await.unwrap(), before);
        drop(journal);
        std::fs::remove_dir_all(&dir).unwrap();
    })
    .await;
}
