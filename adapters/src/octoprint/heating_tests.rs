//! A job's beginning as OctoPrint 1.11.8 told it is in `push_tests.rs`; here is what may follow.

use serde_json::json;

use super::*;

/// Looks at a printing job every half second, from `heating`'s last look on.
struct Watch {
    heating: Heating,
    millis: u64,
}

impl Watch {
    fn new() -> Self {
        Self { heating: Heating::default(), millis: 1000 }
    }

    fn look(&mut self, place: f64, nozzle: f64, bed: f64) -> bool {
        self.millis += 500;
        let heaters = json!({"time": 1, "tool0": {"actual": nozzle, "target": 200.0},
            "bed": {"actual": bed, "target": 60.0}, "chamber": {"actual": null, "target": null}});
        self.heating.prepares(BootTime::from_millis(self.millis), Some(place), Some(&heaters))
    }

    /// A job that has heated up and prints, at 1000.
    fn printing() -> Self {
        let mut watch = Self::new();
        watch.heating.rests(false);
        assert!(watch.look(18.0, 21.0, 20.0), "at once");
        assert!(watch.look(18.0, 199.0, 59.0), "until the file goes on");
        assert!(!watch.look(500.0, 200.0, 60.0));
        assert!(!watch.look(1000.0, 200.0, 60.0));
        watch
    }
}

#[test]
fn the_first_heat_up_is_preparation_until_it_is_warm() {
    let mut watch = Watch::new();
    watch.heating.rests(false);
    assert!(watch.look(18.0, 21.0, 20.0));
    assert!(watch.look(60.0, 21.0, 20.0), "a line or two go by: homing");
    assert!(watch.look(60.0, 198.5, 50.0), "the bed is still cold");
    assert!(watch.look(90.0, 200.0, 57.0), "the last degrees belong to it");
    assert!(watch.look(90.0, 200.0, 58.5), "the firmware waits until it holds");
    assert!(!watch.look(120.0, 200.0, 58.5));
    assert!(!watch.look(120.0, 200.0, 56.0), "a heater that is held swings");
}

#[test]
fn a_file_that_went_on_before_it_was_warm_is_still_waited_for() {
    let mut watch = Watch::new();
    watch.heating.rests(false);
    assert!(watch.look(0.0, 21.0, 20.0));
    assert!(watch.look(18.0, 200.0, 60.0), "two looks, far apart");
    assert!(!watch.look(26.0, 200.0, 60.0));
}

#[test]
fn the_lines_before_the_wait_are_preparation() {
    let mut watch = Watch::new();
    watch.heating.rests(false);
    for line in 0..8 {
        assert!(
            watch.look(18.0 * f64::from(line), 150.0, 20.0),
            "homing, and a purge line's start"
        );
    }
    assert!(watch.look(126.0, 199.0, 59.0));
    assert!(!watch.look(150.0, 200.0, 60.0));
}

#[test]
fn a_job_that_goes_on_for_long_prints_however_cold_it_is() {
    let mut watch = Watch::new();
    watch.heating.rests(false);
    let looks: Vec<bool> =
        (0..20).map(|line| watch.look(18.0 * f64::from(line), 150.0, 20.0)).collect();
    assert_eq!(looks.iter().filter(|prepares| **prepares).count(), 12);
    assert!(!watch.look(342.0, 150.0, 20.0), "one long move");
    let mut watch = Watch::new();
    watch.heating.rests(false);
    assert!(!watch.look(18.0, 200.0, 20.0), "only the bed is cold");
    assert!(!watch.look(60.0, 200.0, 20.0));
}

#[test]
fn a_heater_that_sags_or_is_turned_up_while_the_file_goes_on_is_no_preparation() {
    let mut watch = Watch::printing();
    for place in 0..20 {
        assert!(!watch.look(1001.0 + f64::from(place), 150.0, 60.0));
    }
    // A long move of two seconds and a half neither.
    for _ in 0..5 {
        assert!(!watch.look(1020.0, 150.0, 60.0));
    }
}

#[test]
fn a_wait_in_the_middle_of_a_job_is_preparation_once_the_file_has_stood() {
    let mut watch = Watch::printing();
    let looks: Vec<bool> = (0..10).map(|_| watch.look(1000.0, 150.0, 60.0)).collect();
    let first = looks.iter().position(|prepares| *prepares).unwrap();
    assert_eq!((first, looks[first..].iter().all(|it| *it)), (5, true), "after three seconds");
    assert!(watch.look(1000.0, 199.0, 60.0));
    assert!(!watch.look(1010.0, 199.0, 60.0));
}

#[test]
fn a_job_whose_beginning_was_not_seen_is_not_preparing_on_a_single_look() {
    let mut watch = Watch::new();
    let looks: Vec<bool> = (0..8).map(|_| watch.look(1000.0, 150.0, 60.0)).collect();
    assert_eq!(looks, [false, false, false, false, false, false, true, true]);
}

#[test]
fn a_job_that_is_to_hold_prepares_until_it_does() {
    let mut watch = Watch::new();
    watch.heating.rests(false);
    assert!(watch.look(18.0, 21.0, 20.0));
    assert!(watch.heating.rests(true) && watch.heating.rests(true));
    assert!(watch.look(18.0, 21.0, 20.0), "it goes on heating");
    assert!(!watch.heating.rests(false), "that job is over");
    assert!(!Watch::printing().heating.rests(true));
}

#[test]
fn a_pause_does_not_make_a_job_begin_again() {
    let mut watch = Watch::printing();
    watch.heating.rests(true);
    assert!(!watch.look(1000.0, 150.0, 60.0));
    watch.heating.rests(false);
    assert!(watch.look(18.0, 150.0, 60.0), "this is another job");
}

#[test]
fn a_job_that_has_just_begun_prepares_until_its_file_goes_on() {
    let mut heating = Heating::default();
    heating.rests(false);
    let mut look = |millis, place, heaters: Option<&Json>| {
        heating.prepares(BootTime::from_millis(millis), Some(place), heaters)
    };
    let off = json!({"tool0": {"actual": 20.0, "target": 0.0}});
    assert!(look(1000, 0.0, None), "nobody has told a target yet");
    assert!(look(1500, 18.0, Some(&off)), "a line or two go by");
    assert!(!look(2000, 60.0, Some(&off)), "nothing is heated");
    assert!(!look(9000, 60.0, Some(&off)), "one long move");
}

#[test]
fn what_is_not_told_is_no_reason() {
    let stands = |place: Option<f64>, heaters: &Json| {
        let mut heating = Heating::default();
        let mut look =
            |millis| heating.prepares(BootTime::from_millis(millis), place, Some(heaters));
        let looks: Vec<bool> = (2..9).map(|second| look(second * 1000)).collect();
        looks[6]
    };
    let cold = json!({"tool0": {"actual": 20.0, "target": 200.0}});
    assert!(stands(Some(18.0), &cold));
    assert!(!stands(None, &cold), "a file on the printer's card");
    for heaters in [
        json!({}),
        json!(null),
        json!({"tool0": {"actual": null, "target": 200.0}}),
        json!({"tool0": {"actual": 20.0, "target": 0.0}}),
        json!({"tool0": 3}),
    ] {
        assert!(!stands(Some(18.0), &heaters), "{heaters}");
    }
}
