//! What the meter says after a stop: proof, weld, or nothing.

use super::*;

#[test]
fn one_high_sample_starts_the_proof_over() {
    let mut bench = Bench::latched();
    for (at, watts) in [(101, 0.0), (102, 0.0), (103, 500.0), (104, 0.0), (105, 0.0)] {
        bench.meter(at * SECOND, watts);
    }
    assert_eq!(bench.state().1, Some(Confirmation::C2));
    bench.meter(106 * SECOND, 0.0);
    assert_eq!(bench.state().1, Some(Confirmation::C3));
}

#[test]
fn no_proof_from_samples_before_the_command_or_its_echo() {
    let mut bench = Bench::tripped();
    for _ in 0..5 {
        bench.meter(100 * SECOND, 0.0);
    }
    bench.meter(100_050, 0.0);
    bench.reply(100_100, Reply::Echoed);
    bench.reply(100_200, Reply::ReadBack(true));
    bench.meter(101 * SECOND, 0.0);
    bench.meter(102 * SECOND, 0.0);
    assert_eq!(bench.state().1, Some(Confirmation::C2));
}

#[test]
fn a_silent_meter_leaves_it_unverified_and_untroubled() {
    let mut bench = Bench::latched();
    for at in 101..200 {
        bench.sample(at * SECOND, Err(Unavailable::Timeout));
    }
    bench.ticks(101 * SECOND, 200 * SECOND);
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_meter_wired_the_wrong_way_round_proves_nothing() {
    let mut bench = Bench::latched();
    for at in 101..=110 {
        bench.meter(at * SECOND, -850.0);
    }
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C2), None));
    bench.meter(111 * SECOND, -850.0);
    let weld = words("weld suspected: the meter still reads -850");
    assert_eq!(bench.state(), (TripPhase::Failed, Some(Confirmation::C2), weld));
}

#[test]
fn a_weld_is_told_once_and_commanded_on_even_when_the_meter_falls_silent() {
    let mut bench = Bench::latched();
    for at in 101..=110 {
        bench.meter(at * SECOND, 850.0);
    }
    assert_eq!(bench.events, 3, "a contactor and a meter take their time");
    bench.meter(111 * SECOND, 850.0);
    assert_eq!(bench.state().0, TripPhase::Failed);
    let events = bench.events;
    for at in 111..170 {
        bench.reply(at * SECOND + 50, Reply::Echoed);
        bench.reply(at * SECOND + 90, Reply::ReadBack(true));
        bench.ticks(at * SECOND, at * SECOND + SECOND);
        if at < 140 {
            bench.meter((at + 1) * SECOND, 850.0 + at as f64);
        }
    }
    assert_eq!(bench.events, events, "the events stream is kept for ever");
    let retries = bench.sent.len() - 2;
    assert!((10..=12).contains(&retries), "{:?}", bench.sent);
    assert_eq!(bench.state().2, words("weld suspected: the meter still reads 850"));
    for at in 171..=173 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.state(), (TripPhase::Latched, Some(Confirmation::C3), None));
}

#[test]
fn a_refused_attempt_does_not_hide_the_weld() {
    let mut bench = Bench::latched();
    bench.meter(111 * SECOND, 850.0);
    bench.reply(111_100, Reply::Failed("timeout".into()));
    assert_eq!(bench.state().2, words("weld suspected: the meter still reads 850"));
}

#[test]
fn power_that_comes_back_after_the_proof_reopens_it_at_once() {
    let mut bench = Bench::latched();
    for at in 101..=103 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.state().1, Some(Confirmation::C3));
    bench.meter(104 * SECOND, 85.0);
    assert_eq!((bench.state().0, bench.state().1), (TripPhase::Failed, Some(Confirmation::C2)));
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn a_stop_is_confirmed_by_its_meter_or_without_one_by_its_read_back() {
    let mut bench = Bench::latched();
    assert_eq!(bench.trip.confirmed(), None, "the meter has not spoken");
    for at in 101..=103 {
        bench.meter(at * SECOND, 0.0);
    }
    assert_eq!(bench.trip.confirmed(), Some(BootTime::from_millis(101 * SECOND)));
    let mut bench = Bench::new();
    bench.plan.proof = None;
    bench.trip(100 * SECOND, "hot");
    bench.reply(100_100, Reply::Echoed);
    assert_eq!(bench.trip.confirmed(), None);
    bench.reply(100_200, Reply::ReadBack(true));
    assert_eq!(bench.trip.confirmed(), Some(BootTime::from_millis(100_200)));
    // Another cause commands it again: it holds until that fails.
    bench.trip(110 * SECOND, "smoke");
    assert!(bench.trip.confirmed().is_some());
    bench.ticks(110 * SECOND, 120 * SECOND);
    assert_eq!((bench.state().0, bench.trip.confirmed()), (TripPhase::Failed, None));
}

#[test]
fn a_second_cause_does_not_talk_a_weld_away() {
    let mut bench = Bench::latched();
    bench.meter(111 * SECOND, 850.0);
    let before = bench.state();
    assert!(bench.trip(112 * SECOND, "smoke").command.is_some());
    bench.reply(112_100, Reply::Echoed);
    bench.reply(112_200, Reply::ReadBack(true));
    assert_eq!(bench.state(), before);
}
