//! Units of Modbus TCP that die, several that are dead, and such as end the connection: what the
//! others, and writes, lose by it. Time is paused.

use super::bench::{Bench, Request, SECOND, bus, end, profile, script, scripted, soon};
use super::gateways::{MS, serial_gateway, states, watch};
use super::*;
use tokio::time::sleep;

/// How a gateway treats those that do not answer: when it gives up, and whether it says so.
const GATEWAYS: [(Duration, bool); 6] = [
    (Duration::ZERO, false),
    (Duration::from_millis(500), true),
    (Duration::from_secs(1), true),
    (Duration::from_secs(1), false),
    (Duration::from_millis(2500), true),
    (Duration::from_millis(2500), false),
];

/// Four units behind a gateway; those of `dead` stop answering after 20 s.
fn workshop(turnaround: Duration, gateway: (Duration, bool), dead: &'static [u8]) -> Bench {
    let (mut plan, engine) = bus(true, 4, &profile(&[100]));
    plan.turnaround = turnaround;
    let begun = Instant::now();
    let (gives_up, says_so) = gateway;
    let device = serial_gateway(move |request| {
        if dead.contains(&request.unit) && begun.elapsed() > 20 * SECOND {
            (gives_up, says_so.then(|| request.exception(0x0B)))
        } else {
            (20 * MS, Some(request.honest()))
        }
    });
    Bench::of(&plan, &engine, scripted(true, device), Memory::none())
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_dies_behind_a_gateway_takes_no_other_down() {
    for turnaround in [50 * MS, 100 * MS, 250 * MS] {
        for gateway in GATEWAYS {
            let case = format!("turnaround {turnaround:?}, gives up and says so: {gateway:?}");
            let mut bench = workshop(turnaround, gateway, &[2]);
            let seen = watch(&mut bench, 4, 320 * SECOND).await;
            let states = states(&bench);
            for unit in [0, 2, 3] {
                let (good, bad) = &seen[unit];
                assert!(*good >= 290 && bad.len() <= 1, "{case}: unit {unit}: {good}, {bad:?}");
                assert_eq!(states[unit], UnitState::Online, "{case}: unit {unit}");
            }
            assert!(matches!(states[1], UnitState::Quarantined { .. }), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_units_that_die_behind_a_gateway_take_no_other_down() {
    for gateway in GATEWAYS {
        let mut bench = workshop(250 * MS, gateway, &[1, 2]);
        let seen = watch(&mut bench, 4, 320 * SECOND).await;
        let states = states(&bench);
        for unit in [2, 3] {
            let (good, bad) = &seen[unit];
            let case = format!("gives up and says so {gateway:?}: unit {unit}: {good}, {bad:?}");
            assert!(*good >= 275 && bad.len() <= 5, "{case}");
            assert_eq!(states[unit], UnitState::Online, "{case}");
        }
        for unit in [0, 1] {
            assert!(matches!(states[unit], UnitState::Quarantined { .. }), "{gateway:?}: {unit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_switched_on_is_found_although_another_is_dead() {
    for (gives_up, says_so) in GATEWAYS {
        let case = format!("gives up after {gives_up:?}, says so: {says_so}");
        let on = Arc::new(Mutex::new(false));
        let is_on = on.clone();
        let device = serial_gateway(move |request| match request.unit {
            1 => (gives_up, says_so.then(|| request.exception(0x0B))),
            2 if !*is_on.lock().unwrap() => (gives_up, says_so.then(|| request.exception(0x0B))),
            _ => (20 * MS, Some(request.honest())),
        });
        let (mut plan, engine) = bus(true, 4, &profile(&[100]));
        plan.turnaround = 250 * MS;
        for unit in &mut plan.units {
            unit.polls[0].period = 40 * SECOND;
        }
        let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
        watch(&mut bench, 4, 1200 * SECOND).await;
        *on.lock().unwrap() = true;
        let switched = Instant::now();
        while states(&bench)[1] != UnitState::Online {
            bench.next().await;
            assert!(switched.elapsed() < 200 * SECOND, "{case}: not found");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_question_ends_the_connection_keeps_no_other_from_being_asked() {
    for period in [SECOND, 3600 * SECOND] {
        let (mut plan, engine) = bus(true, 4, &profile(&[100]));
        plan.units[1].polls[0].period = period;
        let mut opened = scripted(
            true,
            script(|request: &Request| match request.unit {
                2 => end(),
                _ => soon(request.honest()),
            }),
        );
        let count = Arc::new(AtomicU64::new(0));
        let counts = count.clone();
        let opener: Opener = Box::new(move || {
            counts.fetch_add(1, Ordering::Relaxed);
            opened()
        });
        let mut bench = Bench::of(&plan, &engine, opener, Memory::none());
        let seen = watch(&mut bench, 4, 300 * SECOND).await;
        for unit in [0, 2, 3] {
            let (good, bad) = &seen[unit];
            assert!(*good >= 290 && bad.len() <= 5, "{period:?}: unit {unit}: {good}, {bad:?}");
            assert_eq!(states(&bench)[unit], UnitState::Online, "{period:?}: unit {unit}");
        }
        let opened = count.load(Ordering::Relaxed);
        assert!(opened <= if period == SECOND { 30 } else { 4 }, "{period:?}: {opened} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_when_it_was_idle_loses_no_reading() {
    // A server that closes after every answer: the next question finds it out.
    let (plan, engine) = bus(true, 2, &profile(&[100]));
    let mut turn = 0;
    let device = script(move |request: &Request| {
        turn += 1;
        if turn % 3 == 0 { end() } else { soon(request.honest()) }
    });
    let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    let seen = watch(&mut bench, 2, 60 * SECOND).await;
    for (unit, (good, _)) in seen.iter().enumerate() {
        assert!(*good >= 58, "unit {unit}: {good}");
        assert_eq!(states(&bench)[unit], UnitState::Online);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_out_on_a_bus_whose_only_meter_is_dead() {
    let (mut plan, engine) = bus(true, 2, &profile(&[100]));
    plan.turnaround = 250 * MS;
    plan.units[0].polls.clear();
    let device = script(|request: &Request| match request.unit {
        2 => vec![],
        _ => soon(request.honest()),
    });
    let Bench { handle, mut deliveries } =
        Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
    let bench = Bench { handle, deliveries: mpsc::channel(1).1 };
    for turn in 0..300u32 {
        // The stream has brought no answer for long, and is dropped at each look at the meter.
        sleep((100_000 + turn * 7919 % 60_013) * MS).await;
        let begun = Instant::now();
        let replies = bench.write(0, true).await;
        assert_eq!(replies.first(), Some(&Reply::Echoed), "write {turn}: {replies:?}");
        assert!(begun.elapsed() < SECOND, "write {turn}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_that_is_heard_while_nobody_asks_is_no_answer_to_the_next_question() {
    let (mut plan, engine) = bus(true, 1, &profile(&[100]));
    plan.units[0].polls[0].period = 10 * SECOND;
    plan.turnaround = 250 * MS;
    let mut turn = 0;
    let device = script(move |request: &Request| {
        turn += 1;
        let takes = if turn % 4 == 1 { SECOND } else { 5 * MS };
        vec![(takes, request.honest())]
    });
    let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    watch(&mut bench, 1, 600 * SECOND).await;
    let counters = bench.handle.status().units[0].counters;
    assert_eq!((counters.garbled, counters.disconnects), (0, 0), "{counters:?}");
    assert!(counters.answers >= 40, "{counters:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_to_the_unit_that_waits_for_a_held_gateway_waits_for_it_too() {
    let asked_2 = Arc::new(Mutex::new(None));
    let asks = asked_2.clone();
    let device = serial_gateway(move |request| match request.unit {
        2 => {
            *asks.lock().unwrap() = Some(Instant::now());
            (SECOND, Some(request.exception(0x0B)))
        }
        _ => (20 * MS, Some(request.honest())),
    });
    let (mut plan, engine) = bus(true, 2, &profile(&[100]));
    plan.turnaround = 250 * MS;
    plan.units[0].polls[0].period = 200 * MS;
    let Bench { handle, mut deliveries } =
        Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
    let bench = Bench { handle, deliveries: mpsc::channel(1).1 };
    for later in [260, 300, 400, 600, 900] {
        asked_2.lock().unwrap().take();
        while asked_2.lock().unwrap().is_none() {
            sleep(MS).await;
        }
        sleep(later * MS).await;
        let replies = bench.write(0, true).await;
        assert_eq!(replies.first(), Some(&Reply::Echoed), "{later} ms: {replies:?}");
        assert_eq!(states(&bench)[0], UnitState::Online, "{later} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_device_with_many_reads_leaves_the_line_to_others_between_them() {
    let addresses: Vec<u16> = (0..10).map(|at| at * 1000).collect();
    let (mut plan, engine) = bus(true, 2, &profile(&addresses));
    plan.units[1].polls.truncate(1);
    let device = script(|request: &Request| match request.unit {
        1 => vec![(1200 * MS, request.honest())],
        _ => soon(request.honest()),
    });
    let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    let (mut last, mut longest, mut heard) = (Instant::now(), Duration::ZERO, [0; 10]);
    let begun = Instant::now();
    while begun.elapsed() < 7200 * SECOND {
        for (item, measured) in bench.next().await.readings {
            match heard.get_mut(item.0 as usize) {
                Some(heard) => *heard += u32::from(measured.is_ok()),
                None if measured.is_ok() => {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                None => {}
            }
        }
    }
    assert!(longest <= 4 * SECOND, "the other waited {longest:?}");
    assert!(heard.iter().all(|heard| *heard >= 10), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_device_is_asked_for_rarely_is_read_although_it_lies_beside_other_items() {
    let (mut plan, engine) = bus(true, 1, &profile(&[100, 101]));
    plan.units[0].polls[1].period = 60 * SECOND;
    let device = script(|request: &Request| vec![(1200 * MS, request.honest())]);
    let mut bench = Bench::of(&plan, &engine, scripted(true, device), Memory::none());
    let (mut good, begun) = (0, Instant::now());
    while begun.elapsed() < 3600 * SECOND {
        let readings = bench.next().await.readings;
        good += readings.iter().filter(|(item, it)| item.0 == 1 && it.is_ok()).count();
    }
    assert!(good >= 20, "{good} of 60");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_lost_by_a_gateway_that_ends_each_connection_for_some_minutes() {
    let begun = Instant::now();
    let device = script(move |request: &Request| {
        let ends = (60..300).contains(&begun.elapsed().as_secs());
        if ends { end() } else { soon(request.honest()) }
    });
    let mut bench = Bench::start(true, 4, &[100], device);
    watch(&mut bench, 4, 315 * SECOND).await;
    assert_eq!(states(&bench), [UnitState::Online; 4]);
    let seen = watch(&mut bench, 4, 20 * SECOND).await;
    assert!(seen.iter().all(|(good, bad)| *good >= 19 && bad.is_empty()), "{seen:?}");
}
