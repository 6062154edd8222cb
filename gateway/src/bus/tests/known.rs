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

/// Registers 0, 2, 4 … of a device, read every second, minute and five seconds in turn.
fn of_three_periods(items: u16) -> (BusPlan, Arc<Plan>) {
    let addresses: Vec<u16> = (0..items).map(|at| 2 * at).collect();
    let (mut plan, engine) = bus(false, 1, &profile(&addresses));
    let periods = [SECOND, 60 * SECOND, 5 * SECOND].into_iter().cycle();
    for (poll, period) in plan.units[0].polls.iter_mut().zip(periods) {
        poll.period = period;
    }
    (plan, engine)
}

#[tokio::test(start_paused = true)]
async fn what_lies_beyond_a_hole_is_read_in_the_same_round_whatever_its_period() {
    const ITEMS: u16 = 8;
    for items in [2, 3, ITEMS] {
        for hole in 0..2 * items - 1 {
            let (plan, engine) = of_three_periods(items);
            let device = script(move |request: &Request| {
                let range = request.address..request.address + request.count;
                soon(if range.contains(&hole) { request.exception(2) } else { request.honest() })
            });
            let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
            // One delivery for each period that there is.
            let mut readings = bench.readings(usize::from(items.min(3))).await;
            readings.sort_unstable_by_key(|(item, _)| *item);
            let expected = (0..items).map(|at| {
                let refused = 2 * at == hole;
                (at.into(), if refused { Err(Unavailable::Refused) } else { number(2 * at) })
            });
            assert_eq!(readings, expected.collect::<Vec<_>>(), "{items} items, hole at {hole}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_not_believed_in_before_both_sides_of_it_were_heard() {
    // The far side is busy, or silent, when it is asked for by itself the first time.
    for busy in [true, false] {
        let mut alone = 0;
        let device = script(move |request: &Request| {
            let range = request.address..request.address + request.count;
            alone += u32::from(request.address == 2);
            match () {
                () if range.contains(&1) => soon(request.exception(2)),
                () if request.address == 2 && alone <= 2 && busy => soon(request.exception(6)),
                () if request.address == 2 && alone <= 2 => vec![],
                () => soon(request.honest()),
            }
        });
        let (plan, engine) = of_three_periods(2);
        let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
        bench.readings(2).await;
        assert_eq!(bench.handle.status().units[0].holes, 0, "busy {busy}");
    }
}

/// Registers 0 to 2 and 5 to 7, whose reads across 3 and 4 are refused while `refused` is 1.
fn gapped(asked: &Arc<Mutex<Vec<(u16, u16)>>>, refused: &Arc<AtomicU64>) -> bench::Script {
    let (asked, refused) = (asked.clone(), refused.clone());
    script(move |request: &Request| {
        asked.lock().unwrap().push((request.address, request.count));
        let across = request.address < 5 && request.address + request.count > 3;
        let refused = refused.load(Ordering::Relaxed);
        match () {
            () if refused == 2 => vec![],
            () if refused == 1 && across => soon(request.exception(2)),
            () => soon(request.honest()),
        }
    })
}

/// A bus with such a device, its memory, and what it is asked.
struct Gapped {
    folder: Folder,
    plan: BusPlan,
    engine: Arc<Plan>,
    asked: Arc<Mutex<Vec<(u16, u16)>>>,
    refused: Arc<AtomicU64>,
}

impl Gapped {
    fn new(name: &str) -> Self {
        let (mut plan, engine) = bus(false, 1, &profile(&[0, 1, 2, 5, 6, 7]));
        for poll in &mut plan.units[0].polls {
            poll.period = 5 * SECOND;
        }
        let (asked, refused) = (Arc::default(), Arc::new(AtomicU64::new(1)));
        Self { folder: Folder::new(name), plan, engine, asked, refused }
    }

    fn start(&self) -> Bench {
        let opener = scripted(false, gapped(&self.asked, &self.refused));
        let memory = Memory::load(self.folder.path(), &self.plan);
        Bench::of(&self.plan, &self.engine, opener, memory)
    }

    /// How often it was asked across the gap in `time`.
    async fn across(&self, bench: &mut Bench, time: Duration) -> usize {
        self.asked.lock().unwrap().clear();
        let begun = Instant::now();
        while begun.elapsed() < time {
            let delivery = bench.next().await;
            let silent = self.refused.load(Ordering::Relaxed) == 2;
            assert!(silent || delivery.readings.iter().all(|it| it.1.is_ok()), "{delivery:?}");
        }
        self.asked.lock().unwrap().iter().filter(|asked| **asked == (0, 8)).count()
    }

    async fn stop(&self, bench: Bench) -> usize {
        let Bench { handle, deliveries } = bench;
        drop(deliveries);
        handle.ended().await;
        memory::remembered(self.folder.path(), &self.plan)[0].holes.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_was_refused_while_the_device_started_is_forgotten_and_never_noted_down() {
    let shop = Gapped::new("bus-gap-transient");
    let mut bench = shop.start();
    shop.across(&mut bench, SECOND).await;
    assert_eq!(bench.handle.status().units[0].holes, 1);
    shop.refused.store(0, Ordering::Relaxed);
    shop.across(&mut bench, 20 * SECOND).await;
    assert_eq!(bench.handle.status().units[0].holes, 0);
    let asked = shop.across(&mut bench, 60 * SECOND).await;
    assert!((11..=13).contains(&asked), "one read each time: {asked}");
    assert_eq!(shop.stop(bench).await, 0);

    // One that is found and not tried again before the end is not noted down either.
    shop.refused.store(1, Ordering::Relaxed);
    let mut bench = shop.start();
    shop.across(&mut bench, SECOND).await;
    assert_eq!(bench.handle.status().units[0].holes, 1);
    assert_eq!(shop.stop(bench).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_tried_a_second_time_then_after_each_start_and_once_a_day() {
    let shop = Gapped::new("bus-gap-true");
    let mut bench = shop.start();
    assert_eq!(shop.across(&mut bench, 3600 * SECOND).await, 2, "found, and proved");
    assert_eq!(shop.across(&mut bench, 23 * 3600 * SECOND).await, 0);
    assert_eq!(shop.across(&mut bench, 2 * 3600 * SECOND).await, 1);
    assert_eq!(shop.stop(bench).await, 1);

    let mut bench = shop.start();
    assert_eq!(shop.across(&mut bench, 50 * SECOND).await, 0, "it is known from the start");
    assert_eq!(shop.across(&mut bench, 3600 * SECOND).await, 1);
    assert_eq!(shop.stop(bench).await, 1);

    // New firmware, while nobody looked.
    shop.refused.store(0, Ordering::Relaxed);
    let mut bench = shop.start();
    shop.across(&mut bench, 120 * SECOND).await;
    assert_eq!(bench.handle.status().units[0].holes, 0);
    assert_eq!(shop.stop(bench).await, 0);
}

#[tokio::test(start_paused = true)]
async fn registers_that_a_starting_device_refused_as_one_are_read_as_one_however_many_follow() {
    let mut dense = (*profile(&(0..40).collect::<Vec<u16>>())).clone();
    dense.max_registers = 20;
    let (plan, engine) = bus(false, 1, &Arc::new(dense));
    let (asked, starting) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(1)));
    let (heard, starts) = (asked.clone(), starting.clone());
    let device = script(move |request: &Request| {
        heard.lock().unwrap().push((request.address, request.count));
        let across = request.address < 10 && request.address + request.count > 10;
        let refused = across && starts.load(Ordering::Relaxed) == 1;
        soon(if refused { request.exception(2) } else { request.honest() })
    });
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    bench.readings(2).await;
    assert_eq!(bench.handle.status().units[0].holes, 1);
    starting.store(0, Ordering::Relaxed);
    for _ in 0..20 {
        assert!(bench.next().await.readings.iter().all(|it| it.1.is_ok()));
    }
    assert_eq!(bench.handle.status().units[0].holes, 0);
    asked.lock().unwrap().clear();
    bench.next().await;
    assert_eq!(*asked.lock().unwrap(), [(0, 20), (20, 20)]);
}

#[tokio::test(start_paused = true)]
async fn the_gaps_of_a_device_that_answers_slowly_are_tried_too() {
    let (plan, engine) = bus(true, 1, &profile(&[0, 1, 2, 5, 6, 7]));
    let (asked, refused) = (Arc::default(), Arc::new(AtomicU64::new(1)));
    let device = gapped(&asked, &refused);
    let slowly = script(move |request: &Request| {
        let replies = device.lock().unwrap()(request).into_iter();
        replies.map(|(_, reply)| (Duration::from_millis(1200), reply)).collect()
    });
    let mut bench = Bench::of(&plan, &engine, scripted(true, slowly), Memory::none());
    let begun = Instant::now();
    while bench.handle.status().units[0].holes == 0 {
        bench.next().await;
        assert!(begun.elapsed() < 900 * SECOND, "never found");
    }
    refused.store(0, Ordering::Relaxed);
    while bench.handle.status().units[0].holes > 0 {
        bench.next().await;
        assert!(begun.elapsed() < 1800 * SECOND, "believed for ever");
    }
    assert!(!bench.handle.status().units[0].is_silent());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_away_may_be_another_and_is_tried_again() {
    let shop = Gapped::new("bus-gap-replaced");
    let mut bench = shop.start();
    shop.across(&mut bench, 700 * SECOND).await;
    assert_eq!(bench.handle.status().units[0].holes, 1);
    shop.refused.store(2, Ordering::Relaxed);
    shop.across(&mut bench, 300 * SECOND).await;
    assert!(bench.handle.status().units[0].is_silent());
    shop.refused.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    while bench.handle.status().units[0].holes > 0 {
        bench.next().await;
        assert!(begun.elapsed() < 120 * SECOND);
    }
    assert_eq!(shop.stop(bench).await, 0);
}
