//! A line that is asked for more than it can do: what it achieves, who waits, who goes first.
//!
//! Time is simulated. Its timer knows whole milliseconds, so devices answer after the turnaround
//! that makes their answer end on one.

use super::bench::{Bench, Replies, Request, SECOND, bus, profile, script, scripted, soon};
use super::*;
use crate::bus::timing::LineTiming;
use crate::config::plan::Parity;
use andon_adapters::modbus::{Block, Table};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A line of `baud` whose devices begin to answer within a millisecond after the silence.
struct Line {
    timing: LineTiming,
}

impl Line {
    fn new(plan: &BusPlan) -> Self {
        Self { timing: LineTiming::of_bus(plan) }
    }

    fn block(request: &Request) -> Block {
        Block { table: Table::Holding, start: request.address, count: request.count }
    }

    /// Bytes of request and reply, and the silence before the answer, up to a whole millisecond.
    fn answer_ends(&self, request: &Request) -> Duration {
        let bytes = if request.function == 3 { 13 + 2 * u32::from(request.count) } else { 16 };
        let least = self.timing.wire(bytes) + self.timing.silence();
        Duration::from_millis(u64::try_from(least.as_nanos().div_ceil(1_000_000)).unwrap())
    }

    /// T(N) with that turnaround.
    fn read_time(&self, request: &Request) -> Duration {
        let wire = self.timing.wire(13 + 2 * u32::from(request.count));
        let turnaround = self.answer_ends(request) - wire;
        let read_time = self.timing.read_time(Self::block(request), turnaround);
        assert_eq!(read_time, self.answer_ends(request) + self.timing.silence());
        read_time
    }

    fn reply(&self, request: &Request) -> Replies {
        vec![(self.answer_ends(request), request.honest())]
    }
}

/// Units with `count` registers each, wanted ten times as often as the line can give them.
fn saturated(baud: u32, units: u8, count: u16) -> (BusPlan, Arc<Plan>) {
    // As many items as there can be, evenly, the first and the last register among them.
    let items = count.min(40);
    let addresses: Vec<u16> = (0..items).map(|at| at * (count - 1) / (items - 1)).collect();
    let (mut plan, engine) = bus(false, units, &profile(&addresses));
    plan.link = Link::Rtu { port: "/nowhere".into(), baud, parity: Parity::Even, stop_bits: 1 };
    for poll in plan.units.iter_mut().flat_map(|unit| &mut unit.polls) {
        poll.period = Duration::from_millis(20);
    }
    (plan, engine)
}

async fn drain(bench: &mut Bench, time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        bench.next().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_saturated_line_is_in_use_for_95_percent_of_the_time_that_its_reads_take() {
    for baud in [9600, 19_200, 38_400] {
        for count in [10, 40, 125] {
            let (plan, engine) = saturated(baud, 4, count);
            let line = Line::new(&plan);
            let used = Arc::new(Mutex::new(Duration::ZERO));
            let sum = used.clone();
            let device = script(move |request: &Request| {
                assert_eq!(request.count, count, "one read for all of a device's registers");
                *sum.lock().unwrap() += line.read_time(request);
                line.reply(request)
            });
            let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
            drain(&mut bench, SECOND).await;
            let (before, begun) = (*used.lock().unwrap(), Instant::now());
            drain(&mut bench, 30 * SECOND).await;
            let used = *used.lock().unwrap() - before;
            let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
            eprintln!("{baud} baud, {count} registers: {:.1} % of T(N)", share * 100.0);
            assert!(share >= 0.95, "{baud} baud, {count} registers: {share:.3}");
            let occupancy = bench.handle.status().occupancy;
            assert!(occupancy > 0.95, "it says so itself: {occupancy}");
        }
    }
}

/// Answers of units 1 to 7 in ten minutes, beside an eighth that is dead or not there.
async fn answers_beside(eighth: bool) -> u64 {
    let (plan, engine) = saturated(9600, if eighth { 8 } else { 7 }, 10);
    let line = Line::new(&plan);
    let count = Arc::new(AtomicU64::new(0));
    let answers = count.clone();
    let device = script(move |request: &Request| {
        if request.unit == 8 {
            return vec![];
        }
        answers.fetch_add(1, Ordering::Relaxed);
        line.reply(request)
    });
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    drain(&mut bench, 60 * SECOND).await;
    let before = count.load(Ordering::Relaxed);
    drain(&mut bench, 600 * SECOND).await;
    count.load(Ordering::Relaxed) - before
}

#[tokio::test(start_paused = true)]
async fn one_dead_unit_of_eight_costs_the_others_two_percent_of_a_full_line() {
    let (alone, beside) = (answers_beside(false).await, answers_beside(true).await);
    let share = beside as f64 / alone as f64;
    eprintln!("{beside} answers instead of {alone}: {:.2} %", share * 100.0);
    assert!(alone > 12_000, "the line must be full: {alone}");
    assert!(share >= 0.98, "{beside} of {alone}");
}

/// A line of eight units of which five are dead, after ten minutes, polled at `period`.
async fn beside_five_dead(period: Duration) -> Status {
    let (mut plan, engine) = bus(false, 8, &profile(&[100]));
    for poll in plan.units.iter_mut().flat_map(|unit| &mut unit.polls) {
        poll.period = period;
    }
    let line = Line::new(&plan);
    let device = script(
        move |request: &Request| if request.unit > 3 { vec![] } else { line.reply(request) },
    );
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    drain(&mut bench, 600 * SECOND).await;
    bench.handle.status()
}

#[tokio::test(start_paused = true)]
async fn dead_units_skip_rounds_of_the_others_but_are_no_line_that_cannot_keep_up() {
    // Three reads of some 30 ms.
    let status = beside_five_dead(200 * MILLISECOND).await;
    assert_eq!(status.silent(), 5);
    assert!(status.skipped_share.unwrap() > 0.05, "{:?}", status.skipped_share);
    assert!(!status.skipping, "the three that are left fill half of the line");
    let status = beside_five_dead(60 * MILLISECOND).await;
    assert!(status.skipping, "{:?}", status.skipped_share);
}

#[tokio::test(start_paused = true)]
async fn a_write_on_a_full_line_waits_for_half_a_frame_and_for_one_at_most() {
    let (plan, engine) = saturated(9600, 8, 10);
    let line = Line::new(&plan);
    let longest =
        line.read_time(&Request { transaction: None, unit: 1, function: 3, address: 0, count: 10 });
    let heard = Arc::new(Mutex::new(None));
    let hears = heard.clone();
    let device = script(move |request: &Request| {
        if request.function == 5 {
            hears.lock().unwrap().replace(Instant::now());
        }
        line.reply(request)
    });
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    drain(&mut bench, SECOND).await;
    let mut waits = Vec::new();
    for turn in 0..300u64 {
        // Anywhere in a frame: 37 ms and the frame's 46 have no common divisor.
        let until = Instant::now() + Duration::from_millis(37 * (turn % 7 + 1));
        while timeout_at(until, bench.deliveries.recv()).await.is_ok() {}
        let queued = Instant::now();
        bench.write(0, false).await;
        waits.push(heard.lock().unwrap().take().unwrap() - queued);
    }
    waits.sort_unstable();
    let (p50, p99, most) = (waits[150], waits[297], waits[299]);
    eprintln!("a write waits p50 {p50:?}, p99 {p99:?}, at most {most:?}; a frame is {longest:?}");
    assert!(p50 <= longest / 2 + 2 * MILLISECOND, "{p50:?}");
    assert!(p99 <= longest + MILLISECOND && most <= longest + MILLISECOND, "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_item_waits_for_one_read_of_a_slow_round_and_not_for_the_round() {
    // Eight reads of 60 ms every 10 s, far apart, beside one every 150 ms.
    let addresses: Vec<u16> = (0..9).map(|at| at * 200).collect();
    let (mut plan, engine) = bus(false, 1, &profile(&addresses));
    for poll in &mut plan.units[0].polls {
        let fast = poll.profile_item == 0;
        poll.period = if fast { 150 * MILLISECOND } else { 10 * SECOND };
    }
    let device = script(|request: &Request| vec![(60 * MILLISECOND, request.honest())]);
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    let mut slow = 0;
    let begun = Instant::now();
    while begun.elapsed() < 60 * SECOND {
        let delivery = bench.next().await;
        slow += usize::from(delivery.readings.len() == 8);
    }
    let unit = bench.handle.status().units.remove(0);
    assert_eq!((unit.groups[0].period, unit.groups[1].period), (150 * MILLISECOND, 10 * SECOND));
    assert_eq!(unit.skipped, 0, "{:?}", unit.groups);
    assert!((5..=7).contains(&slow), "{slow} slow rounds");
    let age = unit.worst_age(BootTime(u64::MAX)).unwrap();
    assert!(age > 10 * SECOND, "until a successor comes, age grows: {age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_item_rides_along_and_is_delivered_at_its_own_period() {
    let (mut plan, engine) = bus(false, 1, &profile(&[100, 101, 102]));
    plan.units[0].polls[2].period = 5 * SECOND;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let device = script(move |request: &Request| {
        heard.lock().unwrap().push(request.count);
        soon(request.honest())
    });
    let mut bench = Bench::of(&plan, &engine, scripted(false, device), Memory::none());
    let begun = Instant::now();
    let mut slow = Vec::new();
    while begun.elapsed() < 50 * SECOND {
        let delivery = bench.next().await;
        if delivery.readings[0].0 == ItemIndex(2) {
            assert_eq!(delivery.readings[0].1, number(102));
            slow.push(delivery.at);
        }
    }
    assert!((9..=11).contains(&slow.len()), "{slow:?}");
    let on_grid = |at: &BootTime| at.0.is_multiple_of(5_000_000_000);
    assert!(slow[1..].iter().all(on_grid), "on its own grid, but for the first: {slow:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|count| (2..=3).contains(count)), "{asked:?}");
    let shared = asked.iter().filter(|count| **count == 3).count();
    // The last may be on its way.
    assert!(shared - slow.len() <= 1, "no request for it alone: {shared}");
    assert!((48..=52).contains(&asked.len()), "{} requests in 50 s", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_rests_between_an_answer_and_the_next_request() {
    let (mut plan, engine) = bus(true, 4, &profile(&[100]));
    plan.pause = Duration::from_millis(30);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let device = script(move |request: &Request| {
        hears.lock().unwrap().push(Instant::now());
        soon(request.honest())
    });
    let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    for _ in 0..20 {
        bench.next().await;
    }
    let heard = heard.lock().unwrap();
    let least = heard.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(least >= Duration::from_millis(35), "{least:?}");
    assert!(least <= Duration::from_millis(40), "no longer than it must: {least:?}");
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_two_hours_is_counted_and_not_caught_up() {
    let mut bench = Bench::start(false, 1, &[100], script(|request| soon(request.honest())));
    let before = bench.next().await.at;
    tokio::time::advance(7200 * SECOND).await;
    let mut samples = vec![before];
    for _ in 0..5 {
        samples.push(bench.next().await.at);
    }
    assert!(samples.is_sorted() && samples[2] > before + 7199 * SECOND, "{samples:?}");
    let gaps: Vec<Duration> = samples[2..].windows(2).map(|it| it[1].since(it[0])).collect();
    assert!(gaps.iter().all(|gap| *gap <= SECOND), "{gaps:?}");
    let skipped = bench.handle.status().skipped;
    assert!((7198..=7200).contains(&skipped), "{skipped} rounds were skipped");
}
