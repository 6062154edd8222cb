//! Hours are counted from what this module believes: what it records against what was true.

use proptest::prelude::*;

use super::*;
use Activity::{Idle, Off, Run, Unknown};

const STALE_MS: u64 = 5000;

fn power(enter_ms: u64, exit_ms: u64) -> Tracker {
    let plan = ActivityPlan::Power {
        item: ItemIndex(0),
        idle: Band { enter: 15.0, exit: 12.0 },
        run: Band { enter: 200.0, exit: 150.0 },
        enter_for: Duration::from_millis(enter_ms),
        exit_for: Duration::from_millis(exit_ms),
    };
    Tracker::new(plan, Duration::from_millis(STALE_MS))
}

/// Believed changes as (activity, milliseconds).
#[derive(Default)]
struct Told(Vec<(Activity, u64)>, Vec<u64>);

impl Told {
    fn note(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.0.push((change.activity, change.at.as_millis()));
            self.1.push(u64::try_from(change.raw_run.as_millis()).unwrap());
        }
    }

    /// Milliseconds of an activity up to `end`.
    fn total(&self, wanted: Activity, end: u64) -> u64 {
        let ends = self.0.iter().skip(1).map(|(_, at)| *at).chain([end]);
        let intervals = self.0.iter().zip(ends);
        intervals.filter(|((a, _), _)| *a == wanted).map(|((_, from), to)| to - from).sum()
    }
}

fn play(tracker: &mut Tracker, samples: &[(u64, Option<f64>)]) -> Told {
    let mut told = Told::default();
    for (at, watts) in samples {
        let sample = watts.map(Value::Number).ok_or(Unavailable::Timeout);
        told.note(tracker.take(BootTime::from_millis(*at), &sample).into_iter().flatten());
    }
    told
}

fn seconds(watts: &[f64]) -> Vec<(u64, Option<f64>)> {
    (1..).zip(watts).map(|(at, watts)| (at * 1000, Some(*watts))).collect()
}

#[test]
fn a_start_by_way_of_idle_counts_each_part_as_what_it_was() {
    let told = play(&mut power(2000, 4000), &seconds(&[0.0, 50.0, 900.0, 900.0, 900.0]));
    assert_eq!(told.0, [(Off, 1000), (Idle, 2000), (Run, 3000)]);
}

#[test]
fn a_stop_by_way_of_idle_counts_each_part_as_what_it_was() {
    let watts = [900.0, 50.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let told = play(&mut power(2000, 4000), &seconds(&watts));
    assert_eq!(told.0, [(Run, 1000), (Idle, 2000), (Off, 4000)]);
}

#[test]
fn flicker_between_idle_and_off_still_ends_the_run() {
    let watts = [900.0, 50.0, 0.0, 50.0, 0.0, 50.0, 0.0, 50.0];
    let told = play(&mut power(2000, 4000), &seconds(&watts));
    assert_eq!(told.0, [(Run, 1000), (Idle, 2000)]);
}

#[test]
fn a_touch_of_run_before_off_is_no_run() {
    let watts = [50.0, 900.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let told = play(&mut power(2000, 4000), &seconds(&watts));
    assert_eq!(told.0, [(Idle, 1000), (Off, 3000)]);
}

#[test]
fn both_boundaries_may_be_believed_at_one_sample() {
    let mut tracker = power(2000, 4000);
    let samples = [(1000, 0.0), (2000, 50.0), (3000, 900.0), (7000, 900.0)];
    let told = play(&mut tracker, &samples.map(|(at, watts)| (at, Some(watts))));
    assert_eq!(told.0, [(Off, 1000), (Idle, 2000), (Run, 3000)]);
    // 3 to 7 lies after the boundary of the run, though it was known when that was believed.
    assert_eq!(told.1, [0, 0, 0]);
    assert_eq!(tracker.raw_run().as_millis(), 4000);
}

#[test]
fn a_heater_that_cycles_within_the_debounce_is_one_run_and_its_raw_time_is_kept() {
    let watts: Vec<f64> = (0..600).map(|n| if n % 5 < 3 { 900.0 } else { 40.0 }).collect();
    let mut tracker = power(2000, 10_000);
    let told = play(&mut tracker, &seconds(&watts));
    assert_eq!(told.0, [(Run, 1000)]);
    assert_eq!(tracker.raw_run().as_secs(), 360);
}

#[test]
fn dither_on_the_threshold_changes_nothing() {
    let dither: Vec<f64> = (0..36_000).map(|n| 200.0 + f64::from((n * 7919) % 97 - 48)).collect();
    let samples: Vec<_> = (0..).zip(dither).map(|(n, watts)| (n * 100, Some(watts))).collect();
    let told = play(&mut power(2000, 4000), &samples);
    assert!(told.0.len() <= 2, "{:?}", told.0);
}

#[test]
fn a_silent_plug_is_unknown_since_its_last_word_and_not_low() {
    let mut tracker = power(0, 0);
    let mut told = play(&mut tracker, &seconds(&[900.0, 1.0]));
    assert_eq!(tracker.age(BootTime::from_millis(7000)), None);
    told.note(tracker.age(BootTime::from_millis(7001)));
    assert_eq!(told.0, [(Run, 1000), (Off, 2000), (Unknown, 2000)]);
    assert_eq!(tracker.age(BootTime::from_millis(9000)), None);
}

#[test]
fn a_gap_is_unknown_even_when_nobody_looked() {
    let mut tracker = power(2000, 4000);
    let told = play(&mut tracker, &[(1000, Some(900.0)), (3000, Some(900.0)), (9000, Some(900.0))]);
    assert_eq!(told.0, [(Run, 1000), (Unknown, 3000), (Run, 9000)]);
    assert_eq!(tracker.raw_run().as_millis(), 2000);
    let told = play(&mut tracker, &[(13_900, None), (14_100, None), (14_200, Some(900.0))]);
    assert_eq!(told.0, [(Unknown, 9000), (Run, 14_200)]);
}

#[test]
fn hysteresis_and_debounce_do_not_reach_over_the_unknown() {
    // 170 W continues a run and begins none.
    let told = play(&mut power(2000, 4000), &[(1000, Some(900.0)), (9000, Some(170.0))]);
    assert_eq!(told.0, [(Run, 1000), (Unknown, 1000), (Idle, 9000)]);
}

#[test]
fn a_reversed_transformer_is_a_conflict_and_never_off() {
    let mut tracker = power(2000, 4000);
    let reversed = Ok(Value::Number(-1200.0));
    let [gap, news] = tracker.take(BootTime::from_millis(1000), &reversed);
    assert_eq!(gap, None);
    assert_eq!(news.map(|n| (n.activity, n.why)), Some((Unknown, Some(Unavailable::Conflict))));
    // Told once; a machine that was known becomes unknown as it does from any other bad sample.
    assert_eq!(tracker.take(BootTime::from_millis(2000), &reversed), [None, None]);
    let told = play(&mut tracker, &[(3000, Some(900.0)), (4000, Some(-900.0))]);
    assert_eq!(told.0, [(Run, 3000)]);
    let change = tracker.age(BootTime::from_millis(8001)).unwrap();
    assert_eq!((change.activity, change.at.as_millis()), (Unknown, 3000));
    assert_eq!(change.why, Some(Unavailable::Conflict));
    // The noise of a transformer around zero is off.
    assert_eq!(play(&mut power(0, 0), &[(1000, Some(-3.0))]).0, [(Off, 1000)]);
}

#[test]
fn a_contact_is_run_or_idle() {
    let plan = ActivityPlan::Input {
        item: ItemIndex(0),
        run_when: false,
        enter_for: Duration::ZERO,
        exit_for: Duration::from_secs(2),
    };
    let mut tracker = Tracker::new(plan, Duration::from_millis(STALE_MS));
    let mut told = Told::default();
    for (at, flag) in [(1, true), (2, false), (3, true), (4, false), (5, true), (7, true)] {
        let sample = Ok(Value::Flag(flag));
        told.note(tracker.take(BootTime::from_millis(at * 1000), &sample).into_iter().flatten());
    }
    assert_eq!(told.0, [(Idle, 1000), (Run, 2000), (Idle, 5000)]);
    assert_eq!(tracker.raw_run().as_secs(), 2);
}

fn signal() -> impl Strategy<Value = Vec<(u64, Option<f64>)>> {
    let watts = prop_oneof![
        3 => Just(Some(0.0)), 3 => Just(Some(50.0)), 5 => Just(Some(900.0)),
        2 => (100.0..250.0).prop_map(Some), 1 => Just(Some(-900.0)), 2 => Just(None),
    ];
    prop::collection::vec((prop_oneof![9 => 100_u64..3000, 1 => 4000_u64..20_000], watts), 1..150)
        .prop_map(|steps| {
            let mut at = 0;
            steps
                .into_iter()
                .map(|(later, watts)| {
                    at += later;
                    (at, watts)
                })
                .collect()
        })
}

proptest! {
    #[test]
    fn boundaries_never_go_back_and_the_raw_time_adds_up(
        samples in signal(), enter in 0_u64..4000, exit in 0_u64..6000
    ) {
        let mut tracker = power(enter, exit);
        let told = play(&mut tracker, &samples);
        prop_assert!(told.0.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{:?}", told.0);
        prop_assert!(told.1.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", told.1);
        prop_assert!(told.0.windows(2).all(|p| p[0].0 != p[1].0 || p[0].0 == Unknown));
        // The raw time that any two boundaries enclose fits between them.
        let fits = told.0.windows(2).zip(told.1.windows(2)).all(|(at, raw)| {
            raw[1] - raw[0] <= at[1].1 - at[0].1
        });
        prop_assert!(fits, "{:?} {:?}", told.0, told.1);
    }

    #[test]
    fn what_nobody_saw_is_unknown(samples in signal(), enter in 0_u64..4000, exit in 0_u64..6000) {
        let told = play(&mut power(enter, exit), &samples);
        let good: Vec<u64> = samples.iter()
            .filter(|(_, watts)| watts.is_some_and(|w| w > -15.0)).map(|(at, _)| *at).collect();
        let Some(&end) = good.last() else { return Ok(()) };
        let gaps: u64 = good.windows(2).map(|p| p[1] - p[0]).filter(|gap| *gap > STALE_MS).sum();
        let before: u64 = told.0.first().filter(|(a, _)| *a == Unknown).map_or(0, |c| good[0] - c.1);
        // All gaps, and nothing but the gaps.
        let seen: Vec<_> = told.0.iter().copied().filter(|(_, at)| *at <= end).collect();
        prop_assert_eq!(Told(seen, Vec::new()).total(Unknown, end), gaps + before);
    }

    #[test]
    fn without_debounce_the_run_is_the_raw_run(samples in signal()) {
        let mut tracker = power(0, 0);
        let told = play(&mut tracker, &samples);
        let good = samples.iter().filter(|(_, watts)| watts.is_some_and(|w| w > -15.0));
        let end = good.map(|(at, _)| *at).next_back().unwrap_or(0);
        let seen: Vec<_> = told.0.iter().copied().filter(|(_, at)| *at <= end).collect();
        let run = u128::from(Told(seen, Vec::new()).total(Run, end));
        prop_assert_eq!(run, tracker.raw_run().as_millis());
    }

    #[test]
    fn pulses_longer_than_the_debounce_are_recorded_to_one_sample(
        pulses in prop::collection::vec((6.0_f64..60.0, 8.0_f64..60.0), 1..12),
        period in 200_u64..1500, phase in 0_u64..1500,
    ) {
        // Truth in continuous time, seen through samples.
        let mut edges = vec![5000.0];
        for (run, pause) in &pulses {
            let start = edges[edges.len() - 1];
            edges.extend([start + run * 1000.0, start + (run + pause) * 1000.0]);
        }
        let end = edges.pop().unwrap() as u64 + 10_000;
        let samples: Vec<_> = (0..).map(|n| phase + n * period).take_while(|at| *at <= end)
            .map(|at| {
                let past = edges.iter().filter(|edge| **edge <= at as f64).count();
                (at, Some(if past % 2 == 1 { 900.0 } else { 40.0 }))
            })
            .collect();
        let told = play(&mut power(2000, 4000), &samples);
        let starts: Vec<u64> = told.0.iter().filter(|c| c.0 == Run).map(|c| c.1).collect();
        prop_assert_eq!(starts.len(), pulses.len(), "{:?}", told.0);
        for (nth, start) in starts.iter().enumerate() {
            let stop = told.0.iter().find(|c| c.0 == Idle && c.1 > *start).map(|c| c.1).unwrap();
            let truth = (pulses[nth].0 * 1000.0) as u64;
            prop_assert!((stop - start).abs_diff(truth) <= period + 1, "{} {}", stop - start, truth);
        }
    }
}
