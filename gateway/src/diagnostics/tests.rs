//! What a snapshot becomes for a monitoring system, and what an item is explained by.

use expect_test::{expect, expect_file};

use super::testing::shop;
use super::*;

#[test]
fn what_is_not_known_has_no_sample_and_a_state_is_one_sample_per_word() {
    let text = exposition(&shop());
    assert!(!text.contains("andon_process_resident_peak_bytes"), "nobody knows it");
    let age = |line: &&str| line.starts_with("andon_unit_worst_age_seconds{");
    assert_eq!(text.lines().filter(age).count(), 2, "a unit has never answered");
    assert!(text.contains("andon_bus_worst_age_seconds{bus=\"panel\"} 60.2"), "and hides none");
    assert!(text.contains("andon_bus_worst_age_periods{bus=\"panel\"} 2.6"));
    assert!(text.contains("andon_bus_units_silent{bus=\"panel\"} 1"));
    assert!(!text.contains("andon_store_"), "no store is configured");
    let standing: Vec<&str> =
        text.lines().filter(|line| line.starts_with("andon_unit_standing{")).collect();
    assert_eq!(standing.len(), 3 * 6);
    assert_eq!(standing.iter().filter(|line| line.ends_with(" 1")).count(), 3);
    let requests: Vec<&str> =
        text.lines().filter(|line| line.contains("source=\"meter-4\",outcome")).collect();
    let expected = expect![[r#"
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="answered"} 880
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="timeout"} 2
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="garbled"} 0
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="refused"} 0
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="parted"} 0
        andon_unit_requests_total{bus="panel",source="meter-4",outcome="disconnected"} 0"#]];
    expected.assert_eq(&requests.join("\n"));
}

/// The names of all metrics, as `deploy/METRICS.md` lists them: every figure known.
#[test]
fn the_page_of_metrics_lists_what_is_exposed() {
    let mut now = shop();
    now.process.resident_peak_bytes = Some(1);
    now.engine.urgent_queue = now.engine.telemetry_queue;
    now.store = Some(Store::default());
    now.devices[0].last_answer_age_ms = Some(1);
    let text = exposition(&now);
    let mut page = include_str!("metrics-head.md").to_owned();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let kind = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        let sample = lines.peek().copied().unwrap_or_default();
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest);
        let labels: Vec<&str> =
            labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        page.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    expect_file!["../../../deploy/METRICS.md"].assert_eq(&page);
}

#[test]
fn a_snapshot_survives_its_own_json() {
    let told = serde_json::to_string(&shop()).unwrap();
    assert_eq!(serde_json::from_str::<Diagnostics>(&told).unwrap(), shop());
}

#[test]
fn the_journals_counters_stand_beside_its_consumers_under_released_names() {
    let told = serde_json::to_string_pretty(&shop().journal).unwrap();
    let expected = expect![[r#"
        {
          "written": 5000,
          "bytes": 2500000,
          "dropped": 0,
          "events_dropped": 0,
          "recycled_unread": 0,
          "quarantined": 2,
          "gaps": 0,
          "failures": 0,
          "failing": null,
          "consumers": [
            {
              "consumer": "mqtt",
              "stream": "telemetry",
              "behind": 412
            }
          ]
        }"#]];
    expected.assert_eq(&told);
}
