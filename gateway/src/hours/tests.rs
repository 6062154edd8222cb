//! Timelines: what was written in, hours out. Seconds of boot time; wall time of boot A's zero is
//! [`NOON`].

use andon_engine::event::Execution;
use andon_engine::value::Value;
use proptest::prelude::*;

use super::*;
use crate::config::plan::JournalPlan;
use crate::journal::tests::Folder;
use crate::journal::{Journal, Observation};

const NOON: i64 = 1_790_000_000_000;
const A: BootId = BootId([0xa; 16]);
const B: BootId = BootId([0xb; 16]);

const fn s(seconds: u64) -> BootTime {
    BootTime::from_millis(seconds * 1000)
}

const fn window(from_s: i64, to_s: i64) -> Window {
    Window { from_ms: NOON + from_s * 1000, to_ms: NOON + to_s * 1000 }
}

fn started(at: u64) -> Event {
    Event::Started { at: s(at), version: "1".into() }
}

fn stopped(at: u64) -> Event {
    Event::Stopped { at: s(at) }
}

fn clock(at: u64, wall_s: i64) -> Event {
    Event::Clock { at: s(at), wall_ms: NOON + wall_s * 1000 }
}

fn activity(at: u64, activity: Activity, raw_run_s: u64) -> Event {
    let (execution, raw_run_ms) = (Execution::Unknown, raw_run_s * 1000);
    Event::Activity { machine: "m".into(), at: s(at), activity, execution, why: None, raw_run_ms }
}

fn evidence(until: u64, boot: BootId) -> Event {
    Event::Evidence { machine: "m".into(), until: s(until), boot: boot.to_string().into() }
}

fn energy(at: u64, wh: f64, epoch: u32) -> Event {
    Event::Energy { machine: "m".into(), register: Register { at: s(at), wh, epoch } }
}

fn fold_all(events: impl IntoIterator<Item = (BootId, Event)>) -> Hours {
    let mut hours = Hours::default();
    for (seq, (boot, event)) in (1..).zip(events) {
        hours.note(&Record { boot, seq, prev: seq - 1, payload: Payload::Event(event) });
    }
    hours
}

/// Run, idle, off, fault, unknown and raw run, in seconds.
fn seconds(hours: &Hours, window: Window) -> [u64; 6] {
    let all = hours.within(window);
    let m = all.first().expect("one machine");
    [m.run_ms, m.idle_ms, m.off_ms, m.fault_ms, m.unknown_ms, m.raw_run_ms].map(|ms| ms / 1000)
}

#[test]
fn each_activity_has_its_column_and_the_window_cuts() {
    let hours = fold_all([
        (A, started(0)),
        (A, clock(1, 1)),
        (A, activity(10, Activity::Idle, 0)),
        (A, activity(110, Activity::Run, 0)),
        (A, activity(410, Activity::Fault, 280)),
        (A, activity(450, Activity::Off, 0)),
        (A, stopped(500)),
    ]);
    assert_eq!(seconds(&hours, window(0, 500)), [300, 100, 50, 40, 10, 280]);
    assert_eq!(seconds(&hours, window(200, 300)), [100, 0, 0, 0, 0, 100]);
    assert_eq!(seconds(&hours, window(-1000, -500)), [0, 0, 0, 0, 500, 0]);
}

#[test]
fn a_killed_run_ends_at_its_last_evidence_and_the_gap_is_unknown() {
    let before = [(A, started(0)), (A, clock(0, 0)), (A, activity(10, Activity::Run, 0))];
    let after = [
        (A, started(1000)),
        (A, evidence(60, A)),
        (A, activity(1010, Activity::Run, 0)),
        (A, stopped(1100)),
    ];
    let hours = fold_all(before.clone().into_iter().chain(after));
    assert_eq!(seconds(&hours, window(0, 2000)), [50 + 90, 0, 0, 0, 1860, 0]);
    // Without any evidence there is not a second of it, and never one up to now.
    assert_eq!(seconds(&fold_all(before), window(0, 2000)), [0, 0, 0, 0, 2000, 0]);
}

#[test]
fn a_clock_step_in_the_middle_of_a_run_changes_no_duration() {
    for step in [7200, -7200] {
        let hours = fold_all([
            (A, started(0)),
            (A, clock(0, 0)),
            (A, activity(100, Activity::Run, 0)),
            (A, clock(1900, 1900 + step)),
            (A, activity(3700, Activity::Idle, 3600)),
            (A, stopped(3800)),
        ]);
        let day = seconds(&hours, window(-43_200, 43_200));
        assert_eq!(day, [3600, 100, 0, 0, 86_400 - 3700, 3600], "step of {step} s");
        // The corrected clock places what came before the correction, too.
        assert_eq!(seconds(&hours, window(step + 100, step + 3700))[0], 3600);
    }
}

#[test]
fn drift_moves_later_moments_only() {
    let drifted = Event::Clock { at: s(1000), wall_ms: NOON + 1_000_300 };
    let hours = fold_all([
        (A, started(0)),
        (A, clock(0, 0)),
        (A, activity(0, Activity::Run, 0)),
        (A, drifted),
        (A, stopped(2000)),
    ]);
    assert_eq!(seconds(&hours, window(0, 500)), [500, 0, 0, 0, 0, 0]);
    let all = &hours.within(window(0, 2001))[0];
    assert_eq!((all.run_ms, all.unknown_ms), (2_000_000, 1000));
}

#[test]
fn a_reboot_is_a_run_of_its_own_and_an_unsynced_one_is_placed_once_it_is_anchored() {
    let first = [(A, started(5)), (A, clock(5, 5)), (A, activity(10, Activity::Run, 0))];
    let second = [(B, started(3)), (B, evidence(40, A)), (B, activity(4, Activity::Idle, 0))];
    let unsynced = fold_all(first.into_iter().chain(second).chain([(B, stopped(104))]));
    assert_eq!(seconds(&unsynced, window(0, 1000)), [30, 0, 0, 0, 970, 0]);
    assert_eq!(unsynced.uncounted(), 1);
    let mut anchored = unsynced;
    let event = clock(90, 590);
    anchored.note(&Record { boot: B, seq: 99, prev: 9, payload: Payload::Event(event) });
    assert_eq!(seconds(&anchored, window(0, 1000)), [30, 100, 0, 0, 870, 0]);
    assert_eq!(anchored.uncounted(), 0);
}

#[test]
fn retroactive_boundaries_overrule_what_was_written_before() {
    let hours = fold_all([
        (A, started(0)),
        (A, clock(0, 0)),
        (A, activity(10, Activity::Idle, 0)),
        (A, activity(100, Activity::Run, 0)),
        (A, activity(90, Activity::Unknown, 0)),
        (A, stopped(200)),
    ]);
    assert_eq!(seconds(&hours, window(0, 200)), [0, 80, 0, 0, 120, 0]);
}

#[test]
fn energy_is_the_difference_of_readings_inside_the_window_and_one_epoch() {
    let hours = fold_all([
        (A, started(0)),
        (A, clock(0, 0)),
        (A, energy(50, 900.0, 1)),
        (A, energy(100, 1000.0, 1)),
        (A, energy(200, 1010.0, 1)),
        (A, energy(300, 5.0, 2)),
        (A, energy(400, 8.5, 2)),
        (A, energy(600, 99.0, 2)),
    ]);
    let energy = hours.within(window(100, 500))[0].energy.unwrap();
    assert_eq!((energy.wh, energy.first.wh, energy.last.wh), (13.5, 1000.0, 8.5));
    assert_eq!((energy.first.at_ms, energy.last.at_ms), (NOON + 100_000, NOON + 400_000));
    assert_eq!(hours.within(window(180, 220))[0].energy, None);
}

#[test]
fn energy_goes_on_over_restarts_where_the_register_can_have_counted_so_far() {
    let restarted = |second: Vec<(BootId, Event)>| {
        let first = [(A, started(0)), (A, clock(0, 0)), (A, energy(100, 1000.0, 0))];
        let hours = fold_all(first.into_iter().chain(second));
        hours.within(window(0, 1_000_000))[0].energy.map(|it| (it.wh, it.first.wh, it.last.wh))
    };
    let killed = |wh, epoch| vec![(A, started(200)), (A, energy(210, wh, epoch))];
    assert_eq!(restarted(killed(1075.5, 0)), Some((75.5, 1000.0, 1075.5)));
    // Another epoch, or more than a megawatt could have brought there: nobody knows.
    assert_eq!(restarted(killed(1075.5, 1)), None);
    assert_eq!(restarted(killed(80_000.0, 0)), None);
    // A reboot, and the register read on: last minus first of the whole window.
    let rebooted = |wall| {
        vec![
            (B, started(5)),
            (B, energy(10, 20_000.0, 0)),
            (B, clock(10, wall)),
            (B, energy(70, 20_400.0, 0)),
        ]
    };
    assert_eq!(restarted(rebooted(86_400)), Some((19_400.0, 1000.0, 20_400.0)));
    assert_eq!(restarted(rebooted(101)), Some((400.0, 1000.0, 20_400.0)), "too fast in between");
}

/// From a journal on disk: telemetry is the evidence, and only answered telemetry.
#[test]
fn the_last_run_has_evidence_up_to_its_last_answer() {
    let folder = Folder::new("hours");
    let plan = JournalPlan { telemetry_bytes: 0, sync: std::time::Duration::from_secs(5) };
    let journal = Journal::open(folder.path(), &plan, A).unwrap();
    let observation = |at, value| {
        let items = vec![("power.active".into(), value)];
        Payload::Observation(Observation { machine: "m".into(), at: s(at), items })
    };
    let events = [started(0), clock(0, 0), activity(10, Activity::Run, 0)];
    journal.append(events.into_iter().map(Payload::Event).collect());
    journal.append(vec![
        observation(70, Ok(Value::Number(900.0))),
        observation(71, Err(andon_engine::value::Unavailable::Timeout)),
    ]);
    journal.close();
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(last_evidence(&reader).unwrap(), [evidence(70, A)]);
    assert_eq!(seconds(&fold(&reader).unwrap(), window(0, 100)), [60, 0, 0, 0, 40, 0]);
    let journal = Journal::open(folder.path(), &plan, A).unwrap();
    journal.append(vec![Payload::Event(stopped(90))]);
    journal.close();
    assert_eq!(last_evidence(&reader).unwrap(), []);
}

proptest! {
    /// Whatever was written, in whatever order: the columns sum to the window exactly.
    #[test]
    fn columns_sum_to_the_window(
        steps in prop::collection::vec((0..7u8, 0..2u8, 0..5000u64, -9000..9000i64), 0..60),
        from in -10_000..10_000i64,
        length in 1..20_000i64,
    ) {
        let events = steps.into_iter().map(|(kind, boot, at, wall)| {
            let boot = BootId([boot; 16]);
            let event = match kind {
                0 => started(at),
                1 => stopped(at),
                2 => clock(at, wall),
                3 => evidence(at, boot),
                _ => activity(at, Activity::ALL[wall.unsigned_abs() as usize % 5], at),
            };
            (boot, event)
        });
        let window = window(from, from + length);
        for m in fold_all(events).within(window) {
            let known = m.run_ms + m.idle_ms + m.off_ms + m.fault_ms;
            prop_assert_eq!(known + m.unknown_ms, window.length());
        }
    }
}
