//! The picture folded and rendered at given moments.

use andon_engine::Output;
use andon_engine::event::{Activity, Confirmation, Event, Execution, TripPhase, TripState};
use andon_engine::value::Unavailable;
use expect_test::{Expect, expect};

use super::super::testing::{alarm, number, rules, s, sample, shop};
use super::super::view::PhaseView;
use super::*;

fn picture() -> Picture {
    Picture::new(&shop(), &rules(), "b".into(), s(0))
}

fn check(picture: &Picture, at: BootTime, expected: &Expect) {
    let view = picture.machine(MachineIndex(0), at).unwrap();
    expected.assert_eq(&serde_json::to_string_pretty(&view).unwrap());
}

#[test]
fn everything_is_unknown_at_the_start() {
    let picture = picture();
    let view = picture.machine(MachineIndex(0), s(3)).unwrap();
    assert_eq!((view.execution, view.activity), (Execution::Unknown, Activity::Unknown));
    assert_eq!((view.why, view.in_state_ms), (Some(Unavailable::NotYet), 3000));
    assert!(view.items.iter().all(|item| item.value.is_none() && item.age_ms.is_none()));
    assert_eq!(view.stop.unwrap().phase, PhaseView::Unknown);
    let moment = Moment { boot: s(3), wall_ms: None };
    let whole = serde_json::to_value(picture.render(moment, Viewers::default())).unwrap();
    assert_eq!(whole["gateway"]["journal"]["state"], "failing");
    assert_eq!(whole["gateway"]["clock"], "unsynced");
    assert_eq!(whole["gateway"]["mqtt"]["state"], "off");
    // What hurts people is told whatever is known of the machine.
    assert_eq!(whole["kinds"]["laser"]["name"]["zh"], "激光切割机");
    assert!(whole["kinds"]["laser"]["hazards"][0]["en"].is_string());
}

#[test]
fn a_clock_that_is_trusted_as_configured_is_not_called_synchronised() {
    let plan = Plan { trust_wall: true, ..shop() };
    let picture = Picture::new(&plan, &rules(), "b".into(), s(0));
    let moment = Moment { boot: s(3), wall_ms: Some(1) };
    let gateway = serde_json::to_value(picture.gateway(moment, Viewers::default())).unwrap();
    assert_eq!(
        (&gateway["clock"], &gateway["clock_standing"]),
        (&"synced".into(), &"trusted".into())
    );
    let tick = serde_json::to_value(picture.tick(moment)).unwrap();
    assert_eq!(tick["clock_standing"], "trusted");
}

#[test]
fn a_machine_is_rendered_with_ages() {
    let mut picture = picture();
    picture.fold(&sample(0, s(10), number(1500.25)));
    picture.fold(&sample(1, s(11), Err(Unavailable::Timeout)));
    picture.fold(&Output::Event(Event::Activity {
        machine: "laser".into(),
        at: s(9),
        activity: Activity::Run,
        execution: Execution::Running,
        why: None,
        raw_run_ms: 0,
    }));
    picture.fold(&Output::Event(Event::Trip {
        at: s(11),
        state: TripState {
            output: "laser-contactor".into(),
            machine: "laser".into(),
            phase: TripPhase::Armed,
            level: None,
            cause: None,
            trouble: None,
        },
    }));
    check(
        &picture,
        s(12),
        &expect![[r#"
        {
          "id": "laser",
          "name": {
            "en": "Laser",
            "zh": "Laser"
          },
          "kind": "laser",
          "execution": "running",
          "activity": "run",
          "why": null,
          "activity_from": [],
          "in_state_ms": 3000,
          "items": [
            {
              "name": "temperature",
              "kind": "gauge",
              "unit": "°C",
              "value": null,
              "why": "timeout",
              "age_ms": 1000,
              "stale_after_ms": 5000,
              "key": true
            },
            {
              "name": "power.active",
              "kind": "gauge",
              "unit": "W",
              "value": 1500.25,
              "why": null,
              "age_ms": 2000,
              "stale_after_ms": 5000,
              "key": false
            }
          ],
          "stop": {
            "output": "laser-contactor",
            "phase": "armed",
            "level": null,
            "cause": null,
            "trouble": null
          }
        }"#]],
    );
}

#[test]
fn what_the_activity_is_told_from_is_named_and_contradicts_only_while_it_speaks() {
    let mut plan = shop();
    let mut engine = andon_engine::plan::Plan::clone(&plan.engine);
    engine.machines[0].activity =
        vec![ActivityPlan::Controller { item: ItemIndex(0), exit_for: Default::default() }];
    plan.engine = engine.into();
    let picture = Picture::new(&plan, &rules(), "b".into(), s(0));
    assert_eq!(picture.machine(MachineIndex(0), s(1)).unwrap().activity_from, ["power.active"]);
    // A contradiction lasts as long as there is somebody who contradicts.
    let mut picture = picture;
    picture.fold(&sample(0, s(2), number(-40.0)));
    picture.fold(&Output::Event(Event::Activity {
        machine: "laser".into(),
        at: s(2),
        activity: Activity::Unknown,
        execution: Execution::Unknown,
        why: Some(Unavailable::Conflict),
        raw_run_ms: 0,
    }));
    let why = |picture: &Picture, at| picture.machine(MachineIndex(0), at).unwrap().why;
    assert_eq!(why(&picture, s(3)), Some(Unavailable::Conflict));
    picture.fold(&sample(0, s(4), Err(Unavailable::Disconnected)));
    assert_eq!(why(&picture, s(5)), Some(Unavailable::Disconnected));
}

#[test]
fn a_machine_whose_meter_never_answered_says_that_it_does_not_answer() {
    let mut plan = shop();
    let mut engine = andon_engine::plan::Plan::clone(&plan.engine);
    engine.machines[0].activity =
        vec![ActivityPlan::Controller { item: ItemIndex(0), exit_for: Default::default() }];
    plan.engine = engine.into();
    let mut picture = Picture::new(&plan, &rules(), "b".into(), s(0));
    let activity = |why| Event::Activity {
        machine: "laser".into(),
        at: s(1),
        activity: Activity::Unknown,
        execution: Execution::Unknown,
        why,
        raw_run_ms: 0,
    };
    picture.fold(&Output::Event(activity(Some(Unavailable::NotYet))));
    let why = |picture: &Picture| picture.machine(MachineIndex(0), s(1400)).unwrap().why;
    assert_eq!(why(&picture), Some(Unavailable::NotYet));
    picture.fold(&sample(0, s(1399), Err(Unavailable::Timeout)));
    assert_eq!(why(&picture), Some(Unavailable::Timeout));
}

#[test]
fn an_old_value_is_stale_even_if_the_engine_is_silent() {
    let mut picture = picture();
    picture.fold(&sample(0, s(10), number(1.0)));
    let fresh = |at| {
        let item = &picture.machine(MachineIndex(0), at).unwrap().items[1];
        (item.value.is_some(), item.why)
    };
    assert_eq!(fresh(s(15)), (true, None));
    assert_eq!(fresh(s(16)), (false, Some(Unavailable::Stale)));
}

#[test]
fn only_alarms_that_concern_somebody_are_listed() {
    let mut picture = picture();
    for (active, acked, latched, listed) in [
        (Some(true), true, false, true),
        (None, true, false, true),
        (Some(false), false, false, true),
        (Some(false), true, true, true),
        (Some(false), true, false, false),
    ] {
        picture.fold(&alarm(s(12), active, acked, latched));
        assert_eq!(picture.alarms(s(20)).len(), usize::from(listed), "{active:?} {acked}");
    }
}

#[test]
fn the_age_of_an_alarm_of_another_boot_is_not_invented() {
    let mut picture = picture();
    let Output::Event(Event::Alarm { state, .. }) = alarm(s(12), None, false, true) else {
        unreachable!()
    };
    picture.restore_alarm(state, false);
    picture.fold(&alarm(s(12), Some(true), false, true));
    assert_eq!(picture.alarms(s(20))[0].for_ms, None);
}

fn stop(at: BootTime, phase: TripPhase, trouble: Option<&str>) -> Output {
    Output::Event(Event::Trip {
        at,
        state: TripState {
            output: "laser-contactor".into(),
            machine: "laser".into(),
            phase,
            level: Some(Confirmation::C0),
            cause: Some("laser-hot".into()),
            trouble: trouble.map(Into::into),
        },
    })
}

#[test]
fn a_stop_that_failed_is_the_most_urgent_alarm_until_it_is_confirmed() {
    let mut picture = picture();
    picture.fold(&alarm(s(10), Some(true), false, true));
    picture.fold(&stop(s(11), TripPhase::Tripping, None));
    assert_eq!(picture.alarms(s(12)).len(), 1);
    picture.fold(&stop(s(14), TripPhase::Failed, Some("timeout")));
    picture.fold(&stop(s(20), TripPhase::Failed, Some("weld suspected")));
    let listed = serde_json::to_value(picture.alarms(s(24))).unwrap();
    let failed = &listed[0];
    assert_eq!(
        (&failed["id"], &failed["severity"]),
        (&"stop:laser-contactor".into(), &"critical".into())
    );
    assert_eq!((&failed["for_ms"], &failed["cause"]), (&10_000.into(), &"weld suspected".into()));
    assert!(failed["message"]["en"].as_str().unwrap().contains("FAILED"));
    assert_eq!((&listed[1]["id"], &listed[1]["severity"]), (&"laser-hot".into(), &"high".into()));
    picture.fold(&stop(s(30), TripPhase::Latched, None));
    assert_eq!(picture.alarms(s(31)).len(), 1);
}

#[test]
fn a_state_goes_on_over_a_restart_that_was_short() {
    use Execution as E;
    let does = |at, execution| {
        let (activity, machine) = (Activity::Run, "laser".into());
        Event::Activity { machine, at, activity, execution, why: None, raw_run_ms: 0 }
    };
    let (before, boot, noon) = (BootId([1; 16]), BootId([2; 16]), 1_790_000_000_000);
    for (was, seen, then, in_state) in [
        (E::Running, 10, &[(1, E::Running)][..], 1320),
        (E::Running, 10, &[(0, E::Unknown), (5, E::Running)], 1320),
        // Nobody knows what it did meanwhile.
        (E::Running, 119, &[(2, E::Running)], 18),
        (E::Running, 10, &[(1, E::Ready), (5, E::Running)], 15),
        (E::Running, 10, &[(1, E::Paused)], 19),
        // A stop stands, whatever is said until it is confirmed anew.
        (E::Stopped, 10, &[(1, E::Ready), (5, E::Stopped)], 1320),
        (E::Unknown, 500, &[], 1320),
        (E::Unknown, 500, &[(5, E::Ready)], 15),
        (E::Running, 10, &[], 20),
    ] {
        // The boot before had lasted for 2000 s when this one began.
        let mut standings = Standings::default();
        standings.note(before, &Event::Clock { at: s(2000), wall_ms: noon });
        standings.note(before, &does(s(700), was));
        standings.note(before, &Event::Stopped { at: s(2000 - seen) });
        standings.note(boot, &Event::Clock { at: s(0), wall_ms: noon });
        standings.note(boot, &Event::Started { at: s(0), version: "1".into() });
        let mut picture = picture();
        picture.restore_states(boot, standings);
        for &(at, execution) in then {
            picture.fold(&Output::Event(does(s(at), execution)));
        }
        let view = picture.machine(MachineIndex(0), s(20)).unwrap();
        assert_eq!(view.in_state_ms, in_state * 1000, "{was:?} {seen} {then:?}");
    }
}
