//! The snapshot as metrics: the one table of their names. Base units (seconds, bytes, ratio 0–1); a
//! state is one 0/1 sample per state; what is not known has no sample. Bounded: samples per bus,
//! source and consumer of the configuration, never per item or per viewer.
//!
//! Released names keep their meaning: add, never rename.

use super::exposition::Kind::{Counter, Gauge};
use super::exposition::{Exposition, Kind};
use super::{Bus, Diagnostics, History, Journal, Requests, Unit};

/// The words of a unit's standing.
const STANDINGS: [&str; 6] = ["not_asked", "bus_down", "online", "suspect", "quarantined", "slow"];
/// The words of a device's state.
const STATES: [&str; 3] = ["down", "silent", "answering"];

/// The text that Prometheus scrapes.
pub fn exposition(now: &Diagnostics) -> String {
    let mut out = Exposition::default();
    process(&mut out, now);
    buses(&mut out, &now.buses);
    units(&mut out, &now.buses);
    devices(&mut out, now);
    engine(&mut out, now);
    journal(&mut out, now);
    history(&mut out, now);
    mqtt(&mut out, now);
    store(&mut out, now);
    boards(&mut out, now);
    out.into_text()
}

fn process(out: &mut Exposition, now: &Diagnostics) {
    let process = &now.process;
    out.family(
        ("andon_build_info", Gauge, "Always 1; the version is a label."),
        ["version"],
        [([process.version.clone()], 1.0)],
    );
    let uptime = Some(seconds(process.uptime_ms));
    one(out, ("andon_uptime_seconds", Gauge, "Since the start of the process."), uptime);
    let cpu = Some(seconds(process.cpu_ms));
    one(out, ("andon_process_cpu_seconds_total", Counter, "Processor time used."), cpu);
    let memory = process.resident_bytes.map(count);
    one(out, ("andon_process_resident_bytes", Gauge, "Memory in use."), memory);
    let peak = process.resident_peak_bytes.map(count);
    one(out, ("andon_process_resident_peak_bytes", Gauge, "The most memory ever in use."), peak);
    one(out, ("andon_process_threads", Gauge, "Threads."), process.threads.map(count));
    let anchored = Some(flag(now.clock.anchored));
    one(out, ("andon_clock_anchored", Gauge, "1 when records have a wall time."), anchored);
    let disciplined = Some(flag(now.clock.kernel_synchronised));
    let about = ("andon_clock_synchronised", Gauge, "1 when the kernel's clock is disciplined.");
    one(out, about, disciplined);
}

fn buses(out: &mut Exposition, buses: &[Bus]) {
    let each = |out: &mut Exposition, about, figure: fn(&Bus) -> Option<f64>| {
        let known = buses.iter().filter_map(|bus| Some(([bus.id.to_string()], figure(bus)?)));
        out.family(about, ["bus"], known);
    };
    each(out, ("andon_bus_up", Gauge, "1 when the port or connection is open."), |bus| {
        Some(flag(bus.up))
    });
    let about = ("andon_bus_occupancy_ratio", Gauge, "Share of the last minute in use, 0-1.");
    each(out, about, |bus| Some(bus.occupancy));
    let about =
        ("andon_bus_worst_age_seconds", Gauge, "Greatest age of a value in the last minute.");
    each(out, about, |bus| bus.worst_age_ms.map(seconds));
    let about = (
        "andon_bus_worst_age_periods",
        Gauge,
        "Greatest age in the value's own periods; above 2: one was missed.",
    );
    each(out, about, |bus| bus.latest.as_ref().map(|latest| latest.periods));
    let about =
        ("andon_bus_units_silent", Gauge, "Units that do not answer; ages are without them.");
    each(out, about, |bus| Some(bus.units_silent as f64));
    let about = ("andon_bus_items_unread", Gauge, "Items never read, or refused by their device.");
    each(out, about, |bus| Some(bus.items_unread as f64));
    let about =
        ("andon_bus_skipped_rounds_total", Counter, "Due rounds skipped: the bus was busy.");
    each(out, about, |bus| Some(count(bus.skipped_rounds)));
    let about =
        ("andon_bus_skipped_ratio", Gauge, "Share of the last minute's rounds skipped, 0-1.");
    each(out, about, |bus| bus.skipped_share);
    let about = (
        "andon_bus_skipping",
        Gauge,
        "1 from a share of 0.05 skipped for lack of time until it is below 0.03.",
    );
    each(out, about, |bus| Some(flag(bus.skipping)));
    let about = ("andon_bus_stray_bytes_total", Counter, "Bytes that nobody had asked for.");
    each(out, about, |bus| Some(count(bus.stray_bytes)));
}

fn units(out: &mut Exposition, buses: &[Bus]) {
    let all = || buses.iter().flat_map(|bus| bus.units.iter().map(move |unit| (bus, unit)));
    let named = |bus: &Bus, unit: &Unit| (bus.id.to_string(), unit.source.to_string());
    let requests = all().flat_map(|(bus, unit)| {
        let (bus, source) = named(bus, unit);
        outcomes(&unit.requests)
            .map(|(word, n)| ([bus.clone(), source.clone(), word.to_owned()], count(n)))
    });
    let about = (
        "andon_unit_requests_total",
        Counter,
        "Requests by what became of them; parted: read in parts.",
    );
    out.family(about, ["bus", "source", "outcome"], requests);
    let standings = all().flat_map(|(bus, unit)| {
        let (bus, source) = named(bus, unit);
        STANDINGS.map(|word| {
            ([bus.clone(), source.clone(), word.to_owned()], flag(*unit.standing == *word))
        })
    });
    let about = ("andon_unit_standing", Gauge, "1 for how the unit stands, 0 for the others.");
    out.family(about, ["bus", "source", "standing"], standings);
    let each = |out: &mut Exposition, about, figure: fn(&Unit) -> Option<f64>| {
        let known = all().filter_map(|(bus, unit)| {
            let (bus, source) = named(bus, unit);
            Some(([bus, source], figure(unit)?))
        });
        out.family(about, ["bus", "source"], known);
    };
    let about = ("andon_unit_retries_total", Counter, "Requests that repeated a failed one.");
    each(out, about, |unit| Some(count(unit.requests.retries)));
    let about =
        ("andon_unit_late_answers_total", Counter, "Answers thrown away: after the deadline.");
    each(out, about, |unit| Some(count(unit.requests.late)));
    let about = ("andon_unit_last_answer_age_seconds", Gauge, "Since the unit last answered.");
    each(out, about, |unit| unit.last_answer_age_ms.map(seconds));
    let about = ("andon_unit_worst_age_seconds", Gauge, "Greatest age of a value, last minute.");
    each(out, about, |unit| unit.worst_age_ms.map(seconds));
    let about = (
        "andon_unit_worst_age_periods",
        Gauge,
        "Greatest age in the value's own periods; above 2: one was missed.",
    );
    each(out, about, |unit| unit.worst_age_periods);
    let about = ("andon_unit_items_unread", Gauge, "Items never read, or refused by the unit.");
    each(out, about, |unit| Some(unit.items_unread as f64));
    let about =
        ("andon_unit_skipped_rounds_total", Counter, "Due rounds skipped: the bus was busy.");
    each(out, about, |unit| Some(count(unit.skipped_rounds)));
    let about = ("andon_unit_holes", Gauge, "Addresses and boundaries that it does not read.");
    each(out, about, |unit| Some(unit.holes as f64));
    let about = ("andon_unit_turnaround_seconds", Gauge, "What it needs before it answers.");
    each(out, about, |unit| unit.turnaround_ms.map(|ms| ms / 1000.0));
    let about = ("andon_unit_allowance_seconds", Gauge, "Waited for its answer beyond wire time.");
    each(out, about, |unit| Some(unit.allowance_ms / 1000.0));
}

const fn outcomes(requests: &Requests) -> [(&'static str, u64); 6] {
    [
        ("answered", requests.answered),
        ("timeout", requests.timeout),
        ("garbled", requests.garbled),
        ("refused", requests.refused),
        ("parted", requests.parted),
        ("disconnected", requests.disconnected),
    ]
}

fn devices(out: &mut Exposition, now: &Diagnostics) {
    let states = now.devices.iter().flat_map(|device| {
        STATES.map(|word| {
            let labels = [device.source.to_string(), device.protocol.to_string(), word.to_owned()];
            (labels, flag(*device.state == *word))
        })
    });
    let about = ("andon_device_state", Gauge, "1 for how the device is, 0 for the others.");
    out.family(about, ["source", "protocol", "state"], states);
    let source = |device: &super::Device| [device.source.to_string()];
    let errors = now.devices.iter().map(|device| (source(device), count(device.errors)));
    let about = ("andon_device_errors_total", Counter, "What failed, was lost or thrown away.");
    out.family(about, ["source"], errors);
    let ages = now
        .devices
        .iter()
        .filter_map(|device| Some((source(device), device.last_answer_age_ms.map(seconds)?)));
    let about = ("andon_device_last_answer_age_seconds", Gauge, "Since the device last spoke.");
    out.family(about, ["source"], ages);
}

fn engine(out: &mut Exposition, now: &Diagnostics) {
    let engine = &now.engine;
    let readings = Some(count(engine.readings));
    one(
        out,
        ("andon_engine_readings_total", Counter, "Readings taken, those without a value too."),
        readings,
    );
    let turns = Some(count(engine.turns));
    one(out, ("andon_engine_turns_total", Counter, "Turns of the engine's thread."), turns);
    let busy = Some(engine.busy_ms / 1000.0);
    one(out, ("andon_engine_busy_seconds_total", Counter, "Time spent in turns."), busy);
    let longest = Some(engine.turn_longest_ms / 1000.0);
    one(out, ("andon_engine_turn_longest_seconds", Gauge, "The longest turn ever."), longest);
    let queues = || {
        let queues = [("telemetry", engine.telemetry_queue), ("urgent", engine.urgent_queue)];
        queues.into_iter().filter_map(|(name, queue)| Some(([name.to_owned()], queue?)))
    };
    let filled = queues().map(|(name, queue)| (name, queue.filled as f64));
    let about = ("andon_engine_queue_filled", Gauge, "What waits for the engine.");
    out.family(about, ["queue"], filled);
    let room = queues().map(|(name, queue)| (name, queue.room as f64));
    out.family(("andon_engine_queue_room", Gauge, "What its queue can hold."), ["queue"], room);
}

fn journal(out: &mut Exposition, now: &Diagnostics) {
    let Some(Journal { counters, consumers }) = &now.journal else { return };
    let written = Some(count(counters.written));
    one(out, ("andon_journal_records_total", Counter, "Records written."), written);
    let bytes = Some(count(counters.bytes));
    one(out, ("andon_journal_bytes_total", Counter, "Bytes written."), bytes);
    let dropped = [("telemetry", counters.dropped), ("events", counters.events_dropped)];
    let dropped = dropped.map(|(stream, n)| ([stream.to_owned()], count(n)));
    let about = ("andon_journal_dropped_total", Counter, "Records that never reached the disk.");
    out.family(about, ["stream"], dropped);
    let recycled = Some(count(counters.recycled_unread));
    let about = ("andon_journal_recycled_unread_total", Counter, "Recycled before all had them.");
    one(out, about, recycled);
    let quarantined = Some(count(counters.quarantined));
    let about = ("andon_journal_quarantined_total", Counter, "Blocks and segments found broken.");
    one(out, about, quarantined);
    let about = ("andon_journal_gaps_total", Counter, "Times that a reader's place was gone.");
    one(out, about, Some(count(counters.gaps)));
    let failures = Some(count(counters.failures));
    one(out, ("andon_journal_failures_total", Counter, "Failed writes and syncs."), failures);
    let failing = Some(flag(counters.failing.is_some()));
    one(out, ("andon_journal_failing", Gauge, "1 while nothing can be written."), failing);
    let behind = consumers.iter().map(|consumer| {
        ([consumer.consumer.clone(), consumer.stream.to_string()], count(consumer.behind))
    });
    let about = ("andon_journal_behind_records", Gauge, "Records after a consumer's saved place.");
    out.family(about, ["consumer", "stream"], behind);
}

fn history(out: &mut Exposition, now: &Diagnostics) {
    let Some(past) = &now.history else { return };
    let History { counters, failing, bytes, oldest_ms, unmerged, .. } = past;
    let bytes = bytes.map(count);
    one(out, ("andon_history_bytes", Gauge, "Bytes of the history file and its log."), bytes);
    let about =
        ("andon_history_oldest_sample_timestamp_seconds", Gauge, "Unix time of its oldest hour.");
    one(out, about, oldest_ms.map(|ms| ms as f64 / 1000.0));
    let samples = Some(count(counters.samples));
    one(out, ("andon_history_samples_total", Counter, "Samples written to history."), samples);
    let undated = Some(count(counters.undated));
    let about = ("andon_history_undated_total", Counter, "Records of boots that had no wall time.");
    one(out, about, undated);
    let passed = Some(count(counters.passed_over));
    let about =
        ("andon_history_passed_over_total", Counter, "Samples too old, or of too many series.");
    one(out, about, passed);
    let damaged = Some(count(counters.damaged));
    one(out, ("andon_history_damaged_total", Counter, "Rows that did not check."), damaged);
    let failures = Some(count(counters.failures));
    one(out, ("andon_history_failures_total", Counter, "Failed attempts to write."), failures);
    let failing = Some(flag(failing.is_some()));
    one(out, ("andon_history_failing", Gauge, "1 while nothing can be written."), failing);
    let about = ("andon_history_merge_failures_total", Counter, "Failed attempts to merge a day.");
    one(out, about, Some(count(counters.merge_failures)));
    let about = ("andon_history_unmerged_days", Gauge, "Days of groups whose merge has failed.");
    one(out, about, Some(count(*unmerged)));
}

fn mqtt(out: &mut Exposition, now: &Diagnostics) {
    let Some(mqtt) = &now.mqtt else { return };
    let up = Some(flag(mqtt.up));
    one(out, ("andon_mqtt_up", Gauge, "1 when the broker is reached."), up);
    let connections = Some(count(mqtt.connections));
    one(out, ("andon_mqtt_connections_total", Counter, "Connections made."), connections);
    let about = ("andon_mqtt_in_flight", Gauge, "Messages not acknowledged yet.");
    one(out, about, Some(mqtt.in_flight as f64));
    let published = [("live", mqtt.published_live), ("again", mqtt.published_again)];
    let published = published.map(|(pass, n)| ([pass.to_owned()], count(n)));
    let about =
        ("andon_mqtt_published_total", Counter, "Records published: live, or again or late.");
    out.family(about, ["pass"], published);
    let about = ("andon_mqtt_unconfirmed_records", Gauge, "Records not confirmed yet.");
    one(out, about, Some(count(mqtt.unconfirmed)));
}

fn store(out: &mut Exposition, now: &Diagnostics) {
    let Some(store) = &now.store else { return };
    one(out, ("andon_store_up", Gauge, "1 when the last write was taken."), Some(flag(store.up)));
    let committed = Some(count(store.committed));
    one(out, ("andon_store_committed_total", Counter, "Lines committed."), committed);
    let about = ("andon_store_dead_letters_total", Counter, "Lines refused for good.");
    one(out, about, Some(count(store.dead_letters)));
    let about = ("andon_store_dead_letters_lost_total", Counter, "Dead letters not kept either.");
    one(out, about, Some(count(store.dead_letters_lost)));
    let behind = Some(count(store.behind));
    one(out, ("andon_store_behind_records", Gauge, "Records that wait for the store."), behind);
}

fn boards(out: &mut Exposition, now: &Diagnostics) {
    let Some(boards) = now.boards else { return };
    let connected = Some(boards.connected as f64);
    one(out, ("andon_boards_connected", Gauge, "Boards connected."), connected);
    let dropped = Some(count(boards.dropped));
    one(out, ("andon_boards_dropped_total", Counter, "Boards that read too slowly."), dropped);
    let missed = Some(count(boards.missed));
    one(out, ("andon_boards_missed_total", Counter, "Batches merged before the picture."), missed);
}

/// A family with at most one sample, without labels.
fn one(out: &mut Exposition, about: (&str, Kind, &str), value: Option<f64>) {
    out.family(about, [], value.map(|value| ([], value)));
}

fn seconds(ms: u64) -> f64 {
    count(ms) / 1000.0
}

/// Exact up to 2^53.
fn count(count: u64) -> f64 {
    count as f64
}

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}
