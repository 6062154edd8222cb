//! What is believed, and what becomes a reason.

use proptest::prelude::*;

use super::*;
use crate::item::Item;
use crate::plan::{MachineIndex, Measurand};

fn plan(name: &str, max_rate: Option<f64>) -> ItemPlan {
    ItemPlan::new(
        MachineIndex(0),
        Measurand {
            max_rate,
            ..Measurand::every(Item::named(name).unwrap(), Duration::from_secs(1))
        },
    )
}

/// Takes one reading a second and tells what became of each: the number, or the reason's word.
fn told(plan: &ItemPlan, readings: &[f64]) -> Vec<String> {
    let mut state = ItemState::default();
    let taken = readings.iter().enumerate().map(|(second, &number)| {
        let at = BootTime::from_millis(1000 * (second as u64 + 1));
        match state.take(plan, at, Ok(Value::Number(number))) {
            Some(Ok(value)) => value.to_string(),
            Some(Err(why)) => why.word().to_owned(),
            None => "ignored".to_owned(),
        }
    });
    taken.collect()
}

#[test]
fn what_a_quantity_cannot_be_is_no_value() {
    let told =
        told(&plan("temperature", None), &[20.0, f64::NAN, 1e9, -274.0, f64::INFINITY, 21.0]);
    assert_eq!(told, ["20", "sentinel", "out_of_range", "out_of_range", "sentinel", "21"]);
}

#[test]
fn a_leap_is_not_believed_until_it_is_slow_enough() {
    // 10 °C per second at most: 90 is 70 away from the last good value, so eight seconds pass.
    let mut readings = vec![20.0];
    readings.extend([90.0; 8]);
    let told = told(&plan("temperature", Some(10.0)), &readings);
    assert_eq!(told[1..7], ["too_fast"; 6]);
    assert_eq!(told[7..], ["90", "90"]);
}

/// What becomes of a first and a second reading after a restart, and the epoch then.
fn resumed(away: Option<u64>, first: f64, second: f64) -> ([String; 2], u32) {
    let energy = plan("energy.import", None);
    let mut state = ItemState::default();
    let away = away.map(Duration::from_secs);
    state.resume(5000.0, 3, BootTime::from_millis(10_000), away);
    let mut take = |second: u64, number: f64| match state.take(
        &energy,
        BootTime::from_millis(second * 1000),
        Ok(Value::Number(number)),
    ) {
        Some(Ok(value)) => value.to_string(),
        Some(Err(why)) => why.word().to_owned(),
        None => "ignored".to_owned(),
    };
    let told = [take(11, first), take(12, second)];
    (told, state.epoch())
}

#[test]
fn a_counter_goes_on_over_a_restart_unless_it_cannot_have_counted_so_far() {
    let told = |first: &str, second: &str| [first.to_owned(), second.to_owned()];
    assert_eq!(resumed(Some(60), 5010.0, 5011.0), (told("5010", "5011"), 3));
    // A megawatt is 16,667 Wh a minute, and a step is always believed.
    assert_eq!(resumed(Some(60), 22_000.0, 22_001.0), (told("22000", "22001"), 3));
    assert_eq!(resumed(Some(60), 30_000.0, 30_001.0), (told("unconfirmed", "30001"), 4));
    assert_eq!(resumed(None, 30_000.0, 30_001.0), (told("30000", "30001"), 3));
    for away in [Some(60), None] {
        assert_eq!(resumed(away, 12.0, 13.0), (told("unconfirmed", "13"), 4), "exchanged");
        assert_eq!(resumed(away, 12.0, 5001.0), (told("unconfirmed", "5001"), 3), "garbled once");
    }
}

#[test]
fn a_counter_that_goes_back_needs_a_second_reading() {
    let energy = plan("energy.import", None);
    assert_eq!(told(&energy, &[5000.0, 0.0, 5001.0]), ["5000", "unconfirmed", "5001"]);
    assert_eq!(told(&energy, &[5000.0, 0.0, 1.0, 2.0]), ["5000", "unconfirmed", "1", "2"]);
    assert_eq!(told(&energy, &[5000.0, 9e9, 9e9]), ["5000", "unconfirmed", "9000000000"]);
    // Single precision rounds; that is no reset.
    assert_eq!(told(&energy, &[123_456_790.0, 123_456_784.0]), ["123456790", "123456784"]);
}

#[test]
fn a_reading_that_is_not_newer_is_ignored() {
    let (plan, mut state) = (plan("voltage", None), ItemState::default());
    let at = BootTime::from_millis;
    assert!(state.take(&plan, at(2000), Ok(Value::Number(230.0))).is_some());
    assert_eq!(state.take(&plan, at(2000), Ok(Value::Number(1.0))), None);
    assert_eq!(state.take(&plan, at(1000), Err(Unavailable::Timeout)), None);
}

#[test]
fn an_old_value_is_stale_once() {
    let (plan, mut state) = (plan("voltage", None), ItemState::default());
    let at = BootTime::from_millis;
    let mut value = Err(Unavailable::NotYet);
    assert!(!state.age(&plan, at(60_000), &mut value), "nothing was ever heard: it stays not_yet");
    value = state.take(&plan, at(61_000), Ok(Value::Number(230.0))).unwrap();
    assert!(!state.age(&plan, at(66_000), &mut value));
    assert!(state.age(&plan, at(66_001), &mut value));
    assert_eq!(value, Err(Unavailable::Stale));
    assert!(!state.age(&plan, at(70_000), &mut value));
}

#[test]
fn a_value_of_the_wrong_kind_is_garbled() {
    let mut state = ItemState::default();
    let taken = state.take(&plan("input.1", None), BootTime(1), Ok(Value::Number(1.0)));
    assert_eq!(taken, Some(Err(Unavailable::Garbled)));
}

proptest! {
    #[test]
    fn only_plausible_numbers_come_out(readings in prop::collection::vec(any::<f64>(), 0..60)) {
        for name in ["temperature", "energy.import", "power.factor"] {
            let plan = plan(name, Some(1e3));
            let mut state = ItemState::default();
            for (second, &number) in readings.iter().enumerate() {
                let at = BootTime::from_millis(1000 * (second as u64 + 1));
                if let Some(Ok(Value::Number(out))) = state.take(&plan, at, Ok(Value::Number(number))) {
                    prop_assert!(out.is_finite());
                    prop_assert!((plan.item.least..=plan.item.greatest).contains(&out));
                }
            }
        }
    }
}
