//! Diagnostics of the gateway that is not one, per situation. Pure.

const requests = (answered, more = {}) => ({
  answered, timeout: 0, garbled: 0, refused: 0, parted: 0, disconnected: 0, late: 0, retries: 0, ...more,
});

function unit(source, unit_id, standing, counts, more = {}) {
  const never = counts.answered === 0;
  return {
    source, unit_id, standing, requests: counts, allowance_ms: 12, skipped_rounds: 0, holes: 0,
    why: standing === "online" ? null : standing === "bus_down" ? "disconnected" : "timeout",
    turnaround_ms: never ? null : 7.4, worst_age_ms: never ? null : 1300,
    last_answer_age_ms: never ? null : 300, ...more,
  };
}

export function diagnostics(situation) {
  const [lost, young] = [situation === "quarantined", situation === "restart"];
  const clock = { anchored: !lost && !young, now_ms: null, kernel_synchronised: !lost && !young, trusted: false, standing: lost || young ? "unsynced" : "synced" };
  const panel = {
    id: "panel", up: !young, why: young ? "opening" : null, occupancy: lost ? 0.87 : 0.31,
    worst_age_ms: young ? null : 3273,
    latest: young ? null : { source: "panel-4", item: "power.active", period_ms: 1000, age_ms: lost ? 2600 : 1100, periods: lost ? 2.6 : 1.1 },
    units_silent: young ? 3 : lost ? 1 : 0, units_polled: 3, items_unread: young ? 36 : lost ? 12 : 0, skipped_share: young ? null : lost ? 0.12 : 0, skipping: lost,
    skipped_rounds: lost ? 17 : 0, stray_bytes: lost ? 9 : 0,
    units: [
      unit("panel-3", "3", young ? "bus_down" : "online", requests(young ? 0 : 8123)),
      unit("panel-4", "4", young ? "bus_down" : lost ? "suspect" : "online",
        requests(young ? 0 : 8101, lost ? { timeout: 7, garbled: 12, retries: 9 } : {}), { holes: lost ? 2 : 0 }),
      unit("panel-5", "5", young ? "bus_down" : lost ? "quarantined" : "online",
        requests(young || lost ? 0 : 8120, lost ? { timeout: 31 } : {})),
    ],
  };
  return {
    v: 1,
    process: {
      version: "0.1.0", boot: "mock", uptime_ms: young ? 900 : 273_600_000 + Math.round(performance.now()), cpu_ms: young ? 40 : 3_900_000,
      resident_bytes: 12_300_000, resident_peak_bytes: young ? null : 13_100_000, threads: 9,
    },
    clock,
    buses: [panel, { ...panel, id: "wood", up: !lost && !young, why: lost ? "No such file or directory" : panel.why, units: [
      unit("saw-meter", "1", lost || young ? "bus_down" : "online", requests(young ? 0 : 510, lost ? { disconnected: 4 } : {})),
    ] }],
    devices: [{
      source: "printer", protocol: "moonraker", state: lost || young ? "down" : "answering",
      why: young ? "opening" : lost ? "connection refused" : null, errors: lost ? 3 : 0, last_answer_age_ms: lost || young ? null : 900,
    }],
    engine: {
      readings: 123_456, turns: 20_000, busy_ms: 900, turn_longest_ms: 4.2, readings_per_second: young ? null : 41,
      turn_mean_ms: young ? null : 0.05, telemetry_queue: { filled: 0, room: 256 }, urgent_queue: { filled: 0, room: 256 },
    },
    journal: {
      written: 81_234, bytes: 40_600_000, dropped: 0, events_dropped: 0, recycled_unread: lost ? 50 : 0, quarantined: lost ? 2 : 0,
      gaps: 0, failures: lost ? 1 : 0, failing: young ? "No space left on device" : null,
      consumers: [{ consumer: "mqtt", stream: "telemetry", behind: lost ? 412 : 3 }, { consumer: "mqtt", stream: "events", behind: 0 }],
    },
    history: {
      samples: 4_200_000, undated: 0, passed_over: 0, damaged: lost ? 1 : 0, unmerged: lost ? 2 : 0, unmerged_why: lost ? "disk I/O error" : null, failures: young ? 3 : 0,
      failing: young ? "unable to open database file" : null, bytes: 1_900_000, oldest_ms: 1_767_225_600_000,
    },
    mqtt: {
      up: !lost && !young, why: lost ? "connection refused" : null, confirmed_by: "recorder", connections: 2, in_flight: lost ? 0 : 2,
      published_live: 81_000, published_again: lost ? 120 : 0, unconfirmed: lost ? 412 : 3,
    },
    store: null,
    boards: { connected: 2, dropped: 0, missed: 0 },
  };
}
