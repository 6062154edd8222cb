//! What is proposed against what was recorded: separable, inseparable, and odd machines.

use andon_engine::value::Unavailable;
use proptest::prelude::*;

use super::*;

const LEAST: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));

/// One sample a second.
fn recording(off: &[f64], idle: &[f64], run: &[f64]) -> Recording {
    let mut recording = Recording::new("laser", "power.active", 1000);
    for (phase, watts) in Phase::ALL.into_iter().zip([off, idle, run]) {
        let sample = |(n, watts): (u64, &f64)| Sample { at_ms: n * 1000, watts: Ok(*watts) };
        recording.put(phase, (0..).zip(watts).map(sample).collect());
    }
    recording
}

/// A level with an even spread around it.
fn level(watts: f64, spread: f64) -> Vec<f64> {
    (0..60).map(|n| watts + spread * (f64::from((n * 37) % 61) / 30.0 - 1.0)).collect()
}

fn taught(off: &[f64], idle: &[f64], run: &[f64]) -> Lesson {
    learn(&recording(off, idle, run), LEAST)
}

#[test]
fn bands_lie_between_the_phases_with_their_hysteresis() {
    let lesson = taught(&level(0.3, 0.2), &level(45.0, 6.0), &level(700.0, 250.0));
    let bands = lesson.bands.unwrap();
    assert!(bands.idle.exit > 0.5 && bands.idle.enter < 39.0, "{bands:?}");
    assert!(bands.run.exit > 51.0 && bands.run.enter < 450.0, "{bands:?}");
    // Idle's deviation is 3.5 W: three of them are more than 5 % of the threshold.
    assert!(bands.run.enter - bands.run.exit >= 10.5, "{bands:?}");
    assert_eq!((bands.enter_for, bands.exit_for), LEAST);
    assert!(lesson.oddities.is_empty(), "{:?}", lesson.oddities);
    assert_eq!(lesson.separations.len(), 2);
}

#[test]
fn what_cannot_be_told_apart_gets_no_bands() {
    let near = taught(&level(0.3, 0.2), &level(100.0, 30.0), &level(130.0, 30.0));
    let Err(Refusal::Alike(apart)) = near.bands else { panic!("{near:?}") };
    assert_eq!((apart.lower, apart.upper), (Phase::Idle, Phase::Run));
    assert!(apart.d_prime < D_PRIME_LEAST && apart.overlap > OVERLAP_MOST, "{apart:?}");
    // A saw has no idle: what was recorded as such is off.
    let saw = taught(&[0.0; 60], &[0.0; 60], &level(700.0, 250.0));
    assert!(matches!(saw.bands, Err(Refusal::Alike(Separation { lower: Phase::Off, .. }))));
    let order = taught(&level(0.3, 0.2), &level(700.0, 20.0), &level(45.0, 6.0));
    assert!(matches!(order.bands, Err(Refusal::Order { upper: Phase::Run, .. })), "{order:?}");
}

#[test]
fn a_machine_without_idle_is_off_or_runs() {
    let bands = taught(&[0.0; 60], &[], &level(700.0, 250.0)).bands.unwrap();
    assert!(bands.idle.enter <= bands.run.exit && bands.run.enter < 450.0, "{bands:?}");
}

#[test]
fn too_few_samples_are_refused_and_unknown_ones_do_not_count() {
    let short = taught(&level(0.0, 0.1), &level(45.0, 3.0)[..19], &level(700.0, 20.0));
    assert_eq!(short.bands, Err(Refusal::TooFew { phase: Phase::Idle, have: 19 }));
    let mut silent = recording(&level(0.0, 0.1), &level(45.0, 3.0), &level(700.0, 20.0));
    let timeouts = (0..60).map(|n| Sample { at_ms: n, watts: Err(Unavailable::Timeout) });
    silent.put(Phase::Run, timeouts.collect());
    assert_eq!(learn(&silent, LEAST).bands, Err(Refusal::TooFew { phase: Phase::Run, have: 0 }));
}

#[test]
fn a_reversed_transformer_is_named_and_refused() {
    let lesson = taught(&level(0.0, 0.3), &level(-45.0, 3.0), &level(-700.0, 20.0));
    assert!(matches!(lesson.bands, Err(Refusal::Reversed { phase: Phase::Idle, .. })));
    let negative = |odd: &&Oddity| matches!(odd, Oddity::Negative { .. });
    assert_eq!(lesson.oddities.iter().filter(negative).count(), 2, "{:?}", lesson.oddities);
}

#[test]
fn a_heater_that_cycles_is_judged_by_its_upper_mode_and_its_dips_make_exit_for() {
    // 8 s on, 12 s off, and idle the same as the pauses.
    let run: Vec<f64> = level(0.0, 3.0)
        .iter()
        .enumerate()
        .map(|(n, x)| x + if n % 20 < 8 { 900.0 } else { 45.0 })
        .collect();
    let lesson = taught(&level(0.3, 0.2), &level(45.0, 3.0), &run);
    let bands = lesson.bands.unwrap();
    assert!(bands.run.exit > 48.0 && bands.run.enter < 897.0, "{bands:?}");
    assert_eq!(bands.exit_for, Duration::from_secs(18));
    let cycling = |odd: &Oddity| matches!(odd, Oddity::Cycling { phase: Phase::Run, times: 3, .. });
    assert!(lesson.oddities.iter().any(cycling), "{:?}", lesson.oddities);
}

#[test]
fn a_spike_while_idle_makes_enter_for_longer() {
    let mut idle = level(45.0, 3.0);
    idle.extend(level(45.0, 3.0).repeat(4));
    (30..34).for_each(|n| idle[n] = 900.0);
    let bands = taught(&level(0.3, 0.2), &idle, &level(900.0, 30.0)).bands.unwrap();
    assert_eq!(bands.enter_for, Duration::from_secs(6));
}

#[test]
fn a_meter_too_coarse_or_stuck_is_named() {
    // A step of 10 W, and idle is two of them.
    let (off, idle) = ([0.0; 60], [20.0; 60]);
    let run: Vec<f64> = (0..60).map(|n| f64::from(50 + n % 7) * 10.0).collect();
    let lesson = taught(&off, &idle, &run);
    let coarse = Oddity::Coarse { lower: Phase::Off, upper: Phase::Idle, step: 10.0 };
    assert!(lesson.oddities.contains(&coarse), "{:?}", lesson.oddities);
    let still = Oddity::Still { phase: Phase::Idle, watts: 20.0 };
    assert!(lesson.oddities.contains(&still), "{:?}", lesson.oddities);
}

#[test]
fn samples_without_a_value_are_counted() {
    let mut gaps = recording(&level(0.0, 0.1), &level(45.0, 3.0), &level(700.0, 20.0));
    let mut samples = gaps.samples(Phase::Idle).to_vec();
    samples[7].watts = Err(Unavailable::Timeout);
    gaps.put(Phase::Idle, samples);
    let lesson = learn(&gaps, LEAST);
    assert!(lesson.oddities.contains(&Oddity::Gaps { phase: Phase::Idle, missing: 1, of: 60 }));
    assert!(lesson.bands.is_ok());
}

proptest! {
    /// Whatever levels a machine has, if they are clearly apart: the bands are the right way up,
    /// and put all of what was recorded where it was recorded.
    #[test]
    fn clearly_apart_phases_are_told_apart_by_what_is_proposed(
        idle in 3.0..200.0f64, times in 3.0..40.0f64, noise in 0.0..0.1f64,
    ) {
        let watts = [0.0, idle, idle * times];
        let [off, idle, run] = watts.map(|watts| level(watts, (watts * noise).max(0.1)));
        let bands = taught(&off, &idle, &run).bands;
        let bands = bands.map_err(|why| TestCaseError::fail(why.to_string()))?;
        prop_assert!(bands.checked().is_ok());
        prop_assert!(bands.idle.enter * HYSTERESIS_LEAST <= (bands.idle.enter - bands.idle.exit) * 1.1);
        prop_assert!(off.iter().all(|x| *x < bands.idle.exit), "{:?}", bands);
        prop_assert!(idle.iter().all(|x| *x >= bands.idle.enter && *x < bands.run.exit), "{:?}", bands);
        prop_assert!(run.iter().all(|x| *x >= bands.run.enter), "{:?}", bands);
    }

    /// Whatever was recorded: bands the right way up, or a reason.
    #[test]
    fn whatever_was_recorded_gives_ordered_bands_or_a_reason(
        off in prop::collection::vec(-50.0..50.0f64, 0..60),
        idle in prop::collection::vec(-50.0..500.0f64, 0..60),
        run in prop::collection::vec(-50.0..5000.0f64, 0..60),
    ) {
        match taught(&off, &idle, &run).bands {
            Ok(bands) => prop_assert!(bands.checked().is_ok()),
            Err(why) => prop_assert!(!why.to_string().is_empty()),
        }
    }
}
