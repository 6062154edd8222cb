//! Answers at every level of roll-up are what all samples say.

use andon_engine::value::{Measured, Value};

use super::*;

/// What [`Archive::steps`] must say, from all samples, by overlap of every sample with every step.
pub(super) fn oracle(
    samples: &[(i64, Measured)],
    period: i64,
    begin: i64,
    step: i64,
    count: i64,
) -> Vec<Option<Step>> {
    let mut spans = Vec::new();
    for (place, (at, measured)) in samples.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| samples[place].0);
        let near = before.is_some_and(|before| at - before <= (3 * period).max(5000));
        let from = if near { before.unwrap() } else { at - period };
        let midnight = (at - 1).div_euclid(86_400_000) * 86_400_000;
        let value = match measured {
            Ok(Value::Number(number)) => *number,
            Ok(Value::Flag(flag)) => f64::from(u8::from(*flag)),
            _ => continue,
        };
        spans.push((from.max(midnight), *at, value));
    }
    (0..count)
        .map(|place| {
            let (from, to) = (begin + place * step, begin + (place + 1) * step);
            let inside: Vec<(i64, f64)> = spans
                .iter()
                .map(|(a, b, value)| ((to.min(*b) - from.max(*a)).max(0), *value))
                .filter(|(known, _)| *known > 0)
                .collect();
            let known: i64 = inside.iter().map(|(known, _)| known).sum();
            let (_, last) = inside.last()?;
            let integral: f64 = inside.iter().map(|(known, value)| *known as f64 * value).sum();
            Some(Step {
                min: inside.iter().map(|it| it.1).fold(f64::INFINITY, f64::min),
                max: inside.iter().map(|it| it.1).fold(f64::NEG_INFINITY, f64::max),
                mean: integral / known as f64,
                last: *last,
                coverage: known as f64 / step as f64,
            })
        })
        .collect()
}

pub(super) fn compare(got: &[Option<Step>], want: &[Option<Step>], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        let (Some(got), Some(want)) = (got, want) else {
            assert_eq!(got, want, "{what}, step {place}");
            continue;
        };
        assert_eq!(
            (got.min, got.max, got.last),
            (want.min, want.max, want.last),
            "{what}, {place}"
        );
        assert!((got.mean - want.mean).abs() <= tolerance, "{what}, {place}: {got:?} {want:?}");
        assert!((got.coverage - want.coverage).abs() < 6e-5, "{what}, {place}: {got:?} {want:?}");
    }
}

#[test]
fn answers_are_what_all_samples_say_at_every_level() {
    const PERIOD_S: u64 = 60;
    let folder = Folder::new("history-oracle");
    let mut history = offline(&folder, PERIOD_S);
    // Eight days with a gap of seven hours across midnight, short gaps and unknown values.
    let records: Vec<Record> = (1..=8 * DAY_S / PERIOD_S)
        .filter(|n| {
            let minute_of_run = n * PERIOD_S / 60;
            !(2 * 1440 + 1300..3 * 1440 + 300).contains(&minute_of_run) && n % 97 != 0
        })
        .map(|n| record(n, n * PERIOD_S * 1000, mixture(n)))
        .collect();
    for record in &records {
        history.take(record).unwrap();
        if record.seq % 500 == 0 {
            history.flush().unwrap();
            // The last days stay in hours and in memory.
            if record.seq < 6 * 1440 {
                history.merge().unwrap();
            }
        }
    }
    let all = expected(&records);
    let end = BEGIN + i64::try_from(8 * DAY_S * 1000).unwrap();
    let day = 86_400_000;
    let cases = [
        ("samples", BEGIN + 3 * day - 3_600_000, BEGIN + 3 * day + 7 * 3_600_000, 960, 30_000),
        ("samples of today", end - 3_600_000, end, 120, 30_000),
        ("minutes", BEGIN + 2 * day, BEGIN + 4 * day, 576, 300_000),
        ("minutes up to now", end - 2 * day, end, 960, 180_000),
        ("hours", BEGIN, BEGIN + 6 * day, 72, 7_200_000),
        ("days", BEGIN, BEGIN + 6 * day, 6, day),
    ];
    for (what, from_ms, to_ms, steps, step_ms) in cases {
        for item in ["a", "b"] {
            let question = question(item, from_ms, to_ms, steps);
            let got = answer(&history.archive(), &question, None);
            let count = i64::try_from(steps).unwrap();
            let want = oracle(&all[item], 60_000, from_ms, step_ms, count);
            // Tenths and flags; a mean of roll-ups is good to a thousandth of them.
            let tolerance = if item == "a" { 1e-4 } else { 1e-3 };
            compare(&got, &want, tolerance, &format!("{what} of {item}"));
        }
    }
    let unknown = question("nothing", BEGIN, end, 10);
    assert_eq!(history.archive().steps(&unknown, None).unwrap(), [None]);
}

#[test]
fn hours_of_days_that_are_not_merged_are_answered_from_their_digests() {
    let folder = Folder::new("history-digests");
    let mut history = offline(&folder, 60);
    let records: Vec<Record> = rising(1..=20 * 60).collect();
    for record in &records {
        history.take(record).unwrap();
        history.flush().unwrap();
    }
    let question = question("a", BEGIN, BEGIN + 24 * 3_600_000, 24);
    let now = BEGIN + 20 * 3_600_000;
    let got = answer(&history.archive(), &question, Some(now));
    let want = oracle(&expected(&records)["a"], 60_000, BEGIN, 3_600_000, 24);
    compare(&got, &want, 1e-9, "hours of today");
    assert!(got[..20].iter().flatten().all(|step| step.coverage == 1.0));
}

#[test]
fn a_step_to_come_is_known_for_what_a_clock_that_ran_ahead_left_in_it() {
    let folder = Folder::new("history-ahead");
    let mut history = offline(&folder, 60);
    for record in rising(1..=20) {
        history.take(&record).unwrap();
    }
    let question = question("a", BEGIN, BEGIN + 2 * 3_600_000, 2);
    let coverage = |now: i64| {
        let steps = answer(&history.archive(), &question, Some(now));
        steps[0].map(|step| step.coverage)
    };
    assert_eq!(coverage(BEGIN + 20 * 60_000), Some(1.0));
    assert_eq!(coverage(BEGIN + 40 * 60_000), Some(0.5));
    assert_eq!(coverage(BEGIN - 7_200_000), Some(0.3333));
}
