//! What a bus knows of its devices and tells: holes over a restart, last words, figures.

use std::io;

use super::bench::{Bench, Request, bus, profile, script, scripted, soon};
use super::*;
use crate::journal::tests::Folder;
use andon_adapters::modbus::{Block, Table};

/// Requests of a device that refuses register 17, for as long as it does.
fn holed(asked: &Arc<Mutex<Vec<(u16, u16)>>>, holed: &Arc<AtomicU64>) -> bench::Script {
    let (asked, holed) = (asked.clone(), holed.clone());
    script(move |request: &Request| {
        asked.lock().unwrap().push((request.address, request.count));
        let range = request.address..request.address + request.count;
        let refused = range.contains(&17) && holed.load(Ordering::Relaxed) == 1;
        soon(if refused { request.exception(2) } else { request.honest() })
    })
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_logged_once_however_often_it_is_asked_for_again() {
    let log = Log::default();
    let into = log.clone();
    let format = tracing_subscriber::fmt().without_time().with_ansi(false);
    let subscriber = format.with_writer(move || into.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let folder = Folder::new("bus-holes-log");
    let (plan, engine) = bus(false, 1, &profile(&(0..40).collect::<Vec<u16>>()));
    let (asked, there) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(1)));
    let opener = scripted(false, holed(&asked, &there));
    let mut bench = Bench::of(&plan, &engine, opener, Memory::load(folder.path(), &plan));
    let begun = Instant::now();
    while begun.elapsed() < 31 * 60 * SECOND {
        bench.next().await;
    }
    drop(guard);
    let alone = asked.lock().unwrap().iter().filter(|it| **it == (17, 1)).count();
    assert!(alone > 3, "asked for again every ten minutes: {alone}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("refuses these addresses").count(), 1, "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_remembered_over_a_restart_and_forgotten_when_it_is_filled() {
    let folder = Folder::new("bus-holes");
    let (plan, engine) = bus(false, 1, &profile(&(0..40).collect::<Vec<u16>>()));
    let (asked, there) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(1)));
    let start = || {
        asked.lock().unwrap().clear();
        let opener = scripted(false, holed(&asked, &there));
        Bench::of(&plan, &engine, opener, Memory::load(folder.path(), &plan))
    };
    let mut bench = start();
    assert_eq!(bench.readings(3).await.iter().filter(|it| it.1.is_ok()).count(), 3 * 39);
    assert_eq!(bench.handle.status().units[0].holes, 1);
    let Bench { handle, deliveries } = bench;
    drop(deliveries);
    handle.ended().await;
    drop(handle);

    // The hole is read around from the first request on, and asked for alone once.
    let mut bench = start();
    let readings = bench.readings(3).await;
    assert_eq!(readings.iter().filter(|it| it.1.is_ok()).count(), 3 * 39);
    let mut first: Vec<_> = asked.lock().unwrap()[..3].to_vec();
    first.sort_unstable();
    assert_eq!(first, [(0, 17), (17, 1), (18, 22)]);
    assert!(!asked.lock().unwrap()[3..].iter().any(|&(at, count)| (at..at + count).contains(&17)));
    let refusal = bench.handle.status().units[0].refused[&17];
    assert_eq!(refusal.block, Block { table: Table::Holding, start: 17, count: 1 });
    assert_eq!((refusal.exception, refusal.remembered), (2, true));
    assert_eq!(refusal.until.since(refusal.at), 600 * SECOND);

    // New firmware: within ten minutes all forty are read as one again.
    there.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    while begun.elapsed() < 11 * 60 * SECOND {
        bench.next().await;
    }
    assert_eq!(bench.handle.status().units[0].holes, 0);
    assert!(bench.handle.status().units[0].refused.is_empty());
    assert_eq!(asked.lock().unwrap().last(), Some(&(0, 40)));
    assert_eq!(bench.readings(1).await.iter().filter(|it| it.1.is_ok()).count(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_parted_at_a_hole_is_no_error() {
    let (asked, there) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(1)));
    let mut bench = Bench::start(false, 1, &[15, 16, 18, 19], holed(&asked, &there));
    assert_eq!(bench.readings(3).await.iter().filter(|it| it.1.is_ok()).count(), 3 * 4);
    assert_eq!(asked.lock().unwrap()[0], (15, 5), "the first read spans what nobody wants");
    let counters = bench.handle.status().units[0].counters;
    assert_eq!((counters.parted, counters.errors()), (1, 0));
    let asked = u64::try_from(asked.lock().unwrap().len()).unwrap();
    assert!(counters.requests() >= asked - 1, "{} of {asked}", counters.requests());

    // Where an item's own register is refused, that stays an error.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut bench = Bench::start(false, 1, &[16, 17, 18], holed(&asked, &there));
    bench.readings(1).await;
    let counters = bench.handle.status().units[0].counters;
    assert_eq!((counters.exceptions, counters.errors()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_words_behind_a_value_are_kept_with_their_address_and_moment() {
    let mut bench = Bench::start(false, 2, &[100, 103], script(|it| soon(it.honest())));
    assert_eq!(bench.handle.last_words(1, 1), None);
    bench.readings(4).await;
    let last = bench.handle.last_words(1, 1).unwrap();
    assert_eq!(last.block, Block { table: Table::Holding, start: 103, count: 1 });
    assert_eq!(last.words(), [103]);
    let before = last.at;
    bench.readings(4).await;
    let again = bench.handle.last_words(1, 1).unwrap().at;
    assert!(again > before && again.since(before) <= 3 * SECOND, "{again:?} {before:?}");
    assert_eq!(bench.handle.last_words(2, 0), None);
    assert_eq!(bench.handle.last_words(0, 2), None);
}

#[tokio::test(start_paused = true)]
async fn a_bus_tells_its_requests_retries_turnaround_and_greatest_age() {
    let mut turn = 0;
    let device = script(move |request: &Request| {
        turn += 1;
        // One answer in twenty is lost.
        if turn % 20 == 7 { vec![] } else { vec![(Duration::from_millis(37), request.honest())] }
    });
    let mut bench = Bench::start(false, 1, &[100, 101], device);
    for _ in 0..100 {
        bench.next().await;
    }
    let status = bench.handle.status();
    let unit = &status.units[0];
    assert!((100..=112).contains(&status.requests()), "{}", status.requests());
    assert!((4..=6).contains(&unit.counters.timeouts), "{:?}", unit.counters);
    assert_eq!(status.retries(), unit.counters.timeouts);
    // 37 ms less the wire time of 8 and 9 bytes at 9600 baud, 19.5 ms.
    let turnaround = unit.turnaround.unwrap().as_secs_f64() * 1e3;
    assert!((15.0..=19.0).contains(&turnaround), "{turnaround} ms");
    let age = unit.groups[0].age.unwrap();
    assert!(age >= SECOND && age <= SECOND + SECOND / 2, "{age:?}");
    let now = unit.last_answer.unwrap();
    assert_eq!(status.worst_age(now), Some(age));
    assert!(status.worst_age(now + 60 * SECOND).unwrap() >= 60 * SECOND);
}
