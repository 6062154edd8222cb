//! A shop in trouble, for tests of how a snapshot is shown.

use super::{
    Boards, Bus, Clock, Consumer, Device, Diagnostics, Engine, History, Journal, Latest, Mqtt,
    Process, Queue, Requests, Unit,
};
use crate::history;
use crate::journal::Counters;

/// One bus with a unit of each standing but `not_asked`, one that has never answered, a printer
/// that is away, a broker that is gone.
pub(crate) fn shop() -> Diagnostics {
    Diagnostics {
        v: super::VERSION,
        process: Process {
            version: "0.1.0".to_owned(),
            boot: "b".to_owned(),
            uptime_ms: 7_440_000,
            cpu_ms: 65_000,
            resident_bytes: Some(9_437_184),
            resident_peak_bytes: None,
            threads: Some(7),
        },
        clock: Clock::default(),
        buses: vec![bus()],
        devices: vec![Device {
            source: "printer".into(),
            protocol: "moonraker".into(),
            state: "down".into(),
            why: Some("connection refused".to_owned()),
            errors: 3,
            last_answer_age_ms: None,
        }],
        engine: Engine {
            readings: 12_345,
            turns: 4000,
            busy_ms: 160.0,
            turn_longest_ms: 9.25,
            readings_per_second: Some(41.0),
            turn_mean_ms: Some(0.04),
            telemetry_queue: Some(Queue { filled: 1, room: 256 }),
            urgent_queue: None,
        },
        journal: Some(Journal {
            counters: Counters {
                written: 5000,
                bytes: 2_500_000,
                quarantined: 2,
                ..Counters::default()
            },
            consumers: vec![Consumer {
                consumer: "mqtt".to_owned(),
                stream: "telemetry".into(),
                behind: 412,
            }],
        }),
        history: Some(History {
            counters: history::Counters {
                samples: 90_000,
                failures: 3,
                merge_failures: 5,
                ..Default::default()
            },
            failing: Some("unable to open database file".to_owned()),
            bytes: Some(4_500_000),
            oldest_ms: Some(1_790_000_000_000),
            unmerged: 2,
            unmerged_why: Some("disk I/O error".to_owned()),
        }),
        mqtt: Some(Mqtt {
            why: Some("connection refused".to_owned()),
            confirmed_by: Some("recorder".into()),
            published_live: 4588,
            unconfirmed: 412,
            ..Mqtt::default()
        }),
        store: None,
        boards: Some(Boards { connected: 1, dropped: 0, missed: 0 }),
    }
}

fn bus() -> Bus {
    let unit = |source: &str, unit_id: &str, standing: &str, requests: Requests| Unit {
        source: source.into(),
        unit_id: unit_id.to_owned(),
        standing: standing.into(),
        why: (standing != "online").then(|| "timeout".into()),
        requests,
        allowance_ms: 12.5,
        turnaround_ms: (standing != "quarantined").then_some(7.5),
        worst_age_ms: (standing != "quarantined").then_some(1300),
        worst_age_periods: (standing != "quarantined").then_some(1.3),
        items_unread: if standing == "quarantined" { 12 } else { 0 },
        skipped_rounds: 0,
        holes: usize::from(standing == "suspect"),
        last_answer_age_ms: (standing != "quarantined").then_some(300),
        asked_again_ms: (standing == "quarantined").then_some(12_000),
    };
    let some = |answered, timeout| Requests { answered, timeout, ..Requests::default() };
    Bus {
        id: "panel".into(),
        up: true,
        why: None,
        occupancy: 0.31,
        requests_per_second: Some(9.52),
        worst_age_ms: Some(60_200),
        latest: Some(Latest {
            source: "meter-4".into(),
            item: "power.active".into(),
            period_ms: 1000,
            age_ms: 2600,
            periods: 2.6,
        }),
        units_silent: 1,
        units_polled: 3,
        items_unread: 12,
        skipped_rounds: 4,
        skipped_share: Some(0.125),
        skipping: true,
        stray_bytes: 9,
        units: vec![
            unit("meter-3", "3", "online", some(900, 0)),
            unit("meter-4", "4", "suspect", some(880, 2)),
            unit("meter-5", "5", "quarantined", some(0, 31)),
        ],
    }
}
