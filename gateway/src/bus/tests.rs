//! The owner against devices that misbehave, byte by byte. Time is paused but where a real
//! descriptor is involved; every register of an honest device holds its own address, so that an
//! answer taken for another's shows as a wrong value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use andon_engine::value::Unavailable;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::status::Standing;
use super::transport::Opener;
use super::unit::UnitState;
use super::*;

pub(super) mod bench;
mod dialects;
mod dying;
mod full;
mod gateways;
mod known;

use bench::{
    Bench, Forge, Request, SECOND, Terminal, bus, nowhere, number, profile, script, scripted, soon,
};

/// Items at 100 and 200 are read by two requests of equal shape; any value but these is a lie.
fn assert_truthful(readings: &[(u32, Measured)]) -> usize {
    let truth = [number(100), number(200)];
    let good = readings.iter().filter(|(_, measured)| measured.is_ok());
    good.inspect(|(item, measured)| assert_eq!(*measured, truth[*item as usize])).count()
}

#[tokio::test(start_paused = true)]
async fn honest_devices_are_read_on_the_grid() {
    let mut bench = Bench::start(false, 2, &[100, 200], script(|request| soon(request.honest())));
    let (started, mut samples) = (Instant::now(), Vec::new());
    for turn in 0..20 {
        let delivery = bench.next().await;
        assert_eq!(delivery.readings.len(), 2, "one delivery per machine and cycle");
        if turn < 2 {
            assert!(started.elapsed() < Duration::from_millis(300), "at once");
        } else {
            assert_eq!(delivery.at.0 % 1_000_000_000, 0, "on the grid");
        }
        samples.push((delivery.readings[0].0, delivery.at));
    }
    samples.sort_unstable();
    samples.dedup();
    assert_eq!(samples.len(), 20, "no two samples of an item have one time");
    assert!(bench.handle.status().occupancy < 0.2);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_never_taken_for_another() {
    for tcp in [false, true] {
        for late in [66, 70, 75, 80, 90, 110, 130, 200, 320, 700] {
            let mut turn = 0;
            let device = script(move |request: &Request| {
                turn += 1;
                let delay = if turn % 3 == 0 { late } else { 25 };
                vec![(Duration::from_millis(delay), request.honest())]
            });
            let mut bench = Bench::start(tcp, 1, &[100, 200], device);
            let good = assert_truthful(&bench.readings(40).await);
            assert!(good >= 20, "tcp {tcp}, {late} ms late: only {good} good readings");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_slower_than_the_floor_is_found() {
    for tcp in [false, true] {
        let device =
            script(|request: &Request| vec![(Duration::from_millis(180), request.honest())]);
        let mut bench = Bench::start(tcp, 1, &[100, 200], device);
        let readings = bench.readings(60).await;
        assert!(assert_truthful(&readings[80..]) >= 36, "tcp {tcp}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_answers_are_garbled() {
    let wrong: [(&str, Forge); 5] = [
        ("unit", |request| {
            let mut pdu = request.honest_pdu();
            pdu[0] += 1;
            request.frame(&pdu)
        }),
        ("function", |request| {
            let mut pdu = request.honest_pdu();
            pdu[1] = 4;
            request.frame(&pdu)
        }),
        ("short", |request| request.frame(&[request.unit, request.function, 2, 0, 5])),
        ("long", |request| {
            request.frame(&[request.unit, request.function, 8, 0, 1, 0, 2, 0, 3, 0, 4])
        }),
        ("byte count", |request| {
            let mut pdu = request.honest_pdu();
            pdu.extend([0, 9]);
            request.frame(&pdu)
        }),
    ];
    for tcp in [false, true] {
        for (name, reply) in wrong {
            let device = script(move |request: &Request| soon(reply(request)));
            let mut bench = Bench::start(tcp, 1, &[100, 101, 102], device);
            for (_, measured) in bench.readings(3).await {
                // Behind the dropped connection or in quarantine other reasons follow.
                assert!(measured.is_err(), "{name}, tcp {tcp}: {measured:?}");
            }
            assert!(bench.handle.status().units[0].counters.garbled >= 1, "{name}, tcp {tcp}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_hole_among_forty_registers_leaves_thirty_nine() {
    let addresses: Vec<u16> = (0..40).collect();
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let device = script(move |request: &Request| {
        counted.fetch_add(1, Ordering::Relaxed);
        let hole = (request.address..request.address + request.count).contains(&17);
        soon(if hole { request.exception(2) } else { request.honest() })
    });
    let mut bench = Bench::start(false, 1, &addresses, device);
    for _ in 0..2 {
        let before = requests.load(Ordering::Relaxed);
        let readings = bench.readings(1).await;
        assert_eq!(readings.len(), 40);
        for (item, measured) in readings {
            let at = u16::try_from(item).unwrap();
            let expected = if at == 17 { Err(Unavailable::Refused) } else { number(at) };
            assert_eq!(measured, expected, "register {at}");
        }
        let asked = requests.load(Ordering::Relaxed) - before;
        assert!(asked <= if before == 0 { 16 } else { 2 }, "{asked} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn noise_before_and_inside_a_frame_yields_no_wrong_value() {
    let mut turn = 0;
    let device = script(move |request: &Request| {
        turn += 1;
        let mut reply = request.honest();
        match turn % 16 {
            1 => drop(reply.splice(0..0, [0x00, 0xFF, 0x00])),
            6 => drop(reply.splice(4..4, [0x55, 0xAA])),
            11 => reply[3] ^= 0x10,
            _ => {}
        }
        soon(reply)
    });
    let mut bench = Bench::start(false, 1, &[100, 200], device);
    let good = assert_truthful(&bench.readings(40).await);
    assert!(good >= 60, "only {good} of 80");
}

#[tokio::test(start_paused = true)]
async fn a_silent_unit_of_eight_costs_the_others_nothing_and_the_bus_a_fiftieth() {
    let silent = Arc::new(AtomicU64::new(0));
    let asked = silent.clone();
    let device = script(move |request: &Request| {
        if request.unit == 3 {
            asked.fetch_add(1, Ordering::Relaxed);
            return vec![];
        }
        soon(request.honest())
    });
    let mut bench = Bench::start(false, 8, &[100, 101], device);
    let begun = Instant::now();
    let mut good = [0u32; 8];
    while begun.elapsed() < 300 * SECOND {
        let delivery = bench.next().await;
        let (item, measured) = &delivery.readings[0];
        let unit = item.0 as usize / 2;
        good[unit] += u32::from(measured.is_ok());
        assert!(unit != 2 || *measured == Err(Unavailable::Timeout));
    }
    for (unit, &good) in good.iter().enumerate() {
        assert!(if unit == 2 { good == 0 } else { good >= 297 }, "unit {unit}: {good} of 300");
    }
    // A failure costs waiting, as much of draining, and wire time; the wait doubles to 500 ms. The
    // first is forgiven, three more are allowed for.
    let failure = |turn: u64| Duration::from_millis(2 * (50u64 << turn).min(500) + 50);
    let wasted: Duration =
        (0..silent.load(Ordering::Relaxed)).map(|turn| failure(turn.min(9))).sum();
    let allowed = begun.elapsed().mul_f64(unit::DEAD_SHARE) + failure(0) + 3 * failure(9);
    assert!(wasted <= allowed, "{wasted:?} of {allowed:?}");
    let status = bench.handle.status();
    assert!(matches!(status.units[2].state, UnitState::Quarantined { .. }));
    assert!(
        status
            .units
            .iter()
            .enumerate()
            .all(|(at, unit)| at == 2 || unit.state == UnitState::Online)
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_cannot_reach_one_unit_marks_only_that_unit() {
    let device = script(|request: &Request| {
        soon(if request.unit == 2 { request.exception(0x0B) } else { request.honest() })
    });
    let mut bench = Bench::start(true, 3, &[100], device);
    for _ in 0..30 {
        let delivery = bench.next().await;
        let (item, measured) = &delivery.readings[0];
        let expected = if item.0 == 1 { Err(Unavailable::Timeout) } else { number(100) };
        assert_eq!(*measured, expected);
    }
    let units = bench.handle.status().units;
    assert_eq!((units[0].state, units[2].state), (UnitState::Online, UnitState::Online));
    assert!(matches!(units[1].state, UnitState::Quarantined { .. }));
    // It is told of with the reason that its items have.
    assert_eq!(units[1].standing(false), (Standing::Quarantined, Some(Unavailable::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_never_opens_delivers_disconnected() {
    let opener: Opener = Box::new(|| Box::pin(std::future::pending()));
    let mut bench = Bench::with(true, 2, &[100], opener);
    for (_, measured) in bench.readings(6).await {
        assert_eq!(measured, Err(Unavailable::Disconnected));
    }
    assert!(bench.handle.status().down.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_write_is_echoed_and_read_back() {
    let mut on = false;
    let device = script(move |request: &Request| {
        let mut pdu = request.honest_pdu();
        match request.function {
            5 => on = request.count == 0xFF00,
            1 => pdu[3] = u8::from(on),
            _ => {}
        }
        soon(request.frame(&pdu))
    });
    for value in [true, false] {
        let bench = Bench::start(false, 1, &[100], device.clone());
        assert_eq!(bench.write(0, value).await, [Reply::Echoed, Reply::ReadBack(true)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_coil_that_does_not_stand_where_it_was_put_reads_back_false() {
    let bench = Bench::start(false, 1, &[100], script(|request| soon(request.honest())));
    assert_eq!(bench.write(0, true).await, [Reply::Echoed, Reply::ReadBack(false)]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_echo_is_a_failed_write() {
    for (at, xor) in [(3, 7), (4, 0xFF)] {
        for tcp in [false, true] {
            let device = script(move |request: &Request| {
                let mut pdu = request.honest_pdu();
                if request.function == 5 {
                    pdu[at] ^= xor;
                }
                soon(request.frame(&pdu))
            });
            let bench = Bench::start(tcp, 1, &[100], device);
            let replies = bench.write(0, true).await;
            assert!(matches!(replies[..], [Reply::Failed(_)]), "byte {at}: {replies:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_off_the_allow_list_never_reaches_the_wire() {
    let wrote = Arc::new(AtomicU64::new(0));
    let counted = wrote.clone();
    let device = script(move |request: &Request| {
        counted.fetch_add(u64::from(request.function == 5), Ordering::Relaxed);
        soon(request.honest())
    });
    let mut bench = Bench::start(false, 1, &[100], device);
    assert!(matches!(bench.write(1, true).await[..], [Reply::Failed(_)]));
    bench.next().await;
    assert_eq!(wrote.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_one_frame_at_most() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let device = script(move |request: &Request| {
        hears.lock().unwrap().push((Instant::now(), request.function));
        vec![(Duration::from_millis(40), request.honest())]
    });
    // Eight requests of 40 ms each per unit and second: more than the bus can do.
    let addresses: Vec<u16> = (0..8).map(|at| at * 100).collect();
    let mut bench = Bench::start(false, 8, &addresses, device);
    bench.next().await;
    for _ in 0..5 {
        bench.next().await;
        let queued = Instant::now();
        bench.write(0, true).await;
        let heard = heard.lock().unwrap();
        let between = heard.iter().filter(|(at, _)| *at >= queued);
        let polls = between.take_while(|(_, function)| *function != 5).count();
        let wrote = heard.iter().find(|(at, function)| *at >= queued && *function == 5).unwrap();
        assert!(polls <= 1, "{polls} polls went first");
        assert!(wrote.0 - queued <= Duration::from_millis(60), "{:?}", wrote.0 - queued);
    }
    assert!(bench.handle.status().skipped > 0, "the bench must be overloaded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_whatever_make_it_panic_or_believe(
        replies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        echo_header in any::<bool>(),
        tcp in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut turn = 0;
            let device = script(move |request: &Request| {
                turn += 1;
                let mut reply = replies[turn % replies.len()].clone();
                if echo_header {
                    let mut pdu = vec![request.unit];
                    pdu.append(&mut reply);
                    reply = request.frame(&pdu);
                }
                soon(reply)
            });
            let mut bench = Bench::start(tcp, 1, &[100, 200], device);
            assert_eq!(bench.readings(6).await.len(), 12);
        });
    }
}

#[tokio::test]
async fn a_port_that_vanishes_and_returns_under_another_name_is_read_again() {
    let honest = script(|request| soon(request.honest()));
    let path = std::env::temp_dir().join(format!("andon-bus-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (mut plan, engine) = bus(false, 1, &profile(&[100]));
    plan.units[0].polls[0].period = Duration::from_millis(50);
    let parity = crate::config::plan::Parity::None;
    plan.link = Link::Rtu { port: path.clone(), baud: 115_200, parity, stop_bits: 1 };
    let plan = Arc::new(plan);
    let (sink, deliveries) = mpsc::channel(64);
    let (handle, running) =
        prepare(&plan, &engine, (sink, None), transport::opener(&plan.link), Memory::none());
    tokio::spawn(running);
    let mut bench = Bench { handle, deliveries };
    // Absent at first, then plugged in, pulled, and plugged in elsewhere.
    bench.until(&Err(Unavailable::Disconnected)).await;
    for _ in 0..2 {
        let terminal = Terminal::plug(honest.clone());
        std::os::unix::fs::symlink(&terminal.name, &path).unwrap();
        bench.until(&number(100)).await;
        assert_eq!(bench.handle.status().down, None);
        drop(terminal);
        std::fs::remove_file(&path).unwrap();
        bench.until(&Err(Unavailable::Disconnected)).await;
        assert!(bench.handle.status().down.is_some());
    }
}

#[tokio::test]
async fn over_loopback_a_black_hole_is_left_and_the_returning_server_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut plan, engine) = bus(true, 1, &profile(&[100]));
    plan.units[0].writable_coils.clear();
    plan.units[0].polls[0].period = Duration::from_millis(50);
    plan.link = Link::Tcp { address, baud: None };
    let shared = Runtime::start().unwrap();
    let (sink, _direct) = mpsc::channel(64);
    let handle = start(&Arc::new(plan), &engine, &nowhere(), sink, &shared).unwrap();
    let (taker, deliveries) = mpsc::channel(64);
    let mut bench = Bench { handle, deliveries };
    tokio::spawn(async move {
        let (gather, mut taken) = (shared.gathered(), Vec::new());
        loop {
            gather.take(64, &mut taken).await;
            for delivery in taken.drain(..) {
                taker.send(delivery).await.ok();
            }
        }
    });
    // The first two connections are accepted and swallow everything.
    let held = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
    bench.until(&Err(Unavailable::Timeout)).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 12];
                while stream.read_exact(&mut bytes).await.is_ok() {
                    let reply = Request::parse(&bytes, true).honest();
                    stream.write_all(&reply).await.unwrap();
                }
            });
        }
    });
    bench.until(&number(100)).await;
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_probe_shows_registers_beside_values() {
    let mut turn = 0;
    let device = script(move |request: &Request| {
        turn += 1;
        let hole = request.address <= 20 && request.address + request.count > 20;
        match turn {
            1 => vec![],
            _ if hole => soon(request.exception(2)),
            _ => soon(request.honest()),
        }
    });
    let (plan, _) = bus(false, 1, &profile(&[19, 20]));
    let readings = probe::probe_with(&plan, 0, scripted(false, device)).await.unwrap();
    let seen: Vec<_> =
        readings.iter().map(|it| (it.address, it.words.clone(), it.measured.clone())).collect();
    assert_eq!(seen, [(19, vec![19], number(19)), (20, vec![], Err(Unavailable::Refused))]);
    let faults: Vec<_> = readings.iter().map(|it| it.fault).collect();
    assert_eq!(faults, [None, Some(Fault::Exception(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_quarantined_unit_is_tried_at_once() {
    let wrote = Arc::new(AtomicU64::new(0));
    let counted = wrote.clone();
    let device = script(move |request: &Request| {
        let write = request.function == 5;
        counted.fetch_add(u64::from(write), Ordering::Relaxed);
        if write { soon(request.honest()) } else { vec![] }
    });
    let mut bench = Bench::start(false, 1, &[100], device);
    while !matches!(bench.handle.status().units[0].state, UnitState::Quarantined { .. }) {
        bench.next().await;
    }
    let replies = bench.write(0, true).await;
    // The coil's echo came; its read-back did not, and that is said too.
    assert!(matches!(replies[..], [Reply::Echoed, Reply::Failed(_)]), "{replies:?}");
    assert_eq!(wrote.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_goes_out_before_the_bus_ends() {
    let wrote = Arc::new(AtomicU64::new(0));
    let counted = wrote.clone();
    let device = script(move |request: &Request| {
        counted.fetch_add(u64::from(request.function == 5), Ordering::Relaxed);
        soon(request.honest())
    });
    let mut bench = Bench::start(false, 1, &[100], device);
    bench.next().await;
    let (replies, mut heard) = mpsc::channel(4);
    bench.handle.write(WriteCoil {
        unit: 0,
        coil: 0,
        value: false,
        reply: Box::new(move |reply| replies.try_send(reply).unwrap()),
    });
    // The engine is gone, and nobody takes readings any more.
    drop(bench.deliveries);
    bench.handle.ended().await;
    assert_eq!(wrote.load(Ordering::Relaxed), 1);
    assert_eq!(heard.recv().await, Some(Reply::Echoed));
}

#[tokio::test]
async fn a_bus_with_trips_runs_on_a_thread_of_its_own_and_ends_with_its_handle() {
    let (mut plan, engine) = bus(true, 1, &profile(&[100]));
    plan.units[0].polls[0].period = Duration::from_millis(20);
    // Nobody listens on the discard port of the loopback interface.
    plan.link = Link::Tcp { address: "127.0.0.1:9".to_owned(), baud: None };
    assert!(plan.carries_trips());
    let (sink, deliveries) = mpsc::channel(64);
    let shared = Runtime::start().unwrap();
    let mut bench = Bench {
        handle: start(&Arc::new(plan), &engine, &nowhere(), sink, &shared).unwrap(),
        deliveries,
    };
    bench.until(&Err(Unavailable::Disconnected)).await;
    assert!(matches!(bench.write(0, false).await[..], [Reply::Failed(_)]));
    let Bench { handle, mut deliveries } = bench;
    drop(handle);
    let ended = async { while deliveries.recv().await.is_some() {} };
    tokio::time::timeout(10 * SECOND, ended).await.expect("the owner ends");
}
