//! A snapshot as lines of text. Pure; what is not known is a dash.

use jiff::Timestamp;

use crate::cli::asking::{lasting, plain, reason};
use crate::diagnostics::{Bus, Device, Diagnostics, Unit};

use super::{Blind, Seen};

/// Items of one machine that are named, for one reason; more are counted.
const NAMES_SHOWN: usize = 4;

/// Ages of more periods than this are told with their item: a value was missed.
const LATE: f64 = 2.0;
/// A bus that does not keep up stands before units that are lost.
const SKIPPING_RANK: u8 = 5;

/// The lines, at most `rows` of them. With `before`, the processor's share is of the time since then.
pub(super) fn lines(seen: &Seen, before: Option<&Seen>, rows: usize) -> Vec<String> {
    let now = &seen.diagnostics;
    let mut lines =
        head(now, before.map(|it| (&it.diagnostics, seen.at.duration_since(it.at).as_secs_f64())));
    lines.push(String::new());
    lines.push(
        "BUSES  busy, requests, ages: of the last minute; failed, skipped: since the start"
            .to_owned(),
    );
    lines.push(format!(
        "{:<16} {:<6} {:>6} {:>8} {:>8} {:>12} {:>8} {:>8}",
        "BUS", "STATE", "BUSY", "REQ/S", "FAILED", "WORST AGE", "PERIODS", "SKIPPED"
    ));
    for bus in &now.buses {
        lines.push(bus_line(bus));
        lines.extend(ages(bus));
    }
    let (worried, well) = worst(now);
    lines.push(String::new());
    lines.push(format!("UNITS AND DEVICES  {well} in order, {} to look at", worried.len()));
    lines.extend(worried);
    if !seen.blind.is_empty() {
        lines.push(String::new());
        let all: usize = seen.blind.iter().map(Blind::count).sum();
        lines.push(format!("ITEMS WITHOUT A VALUE  {all}"));
        lines.extend(seen.blind.iter().map(blind_line));
    }
    lines.truncate(rows);
    lines
}

fn head(now: &Diagnostics, before: Option<(&Diagnostics, f64)>) -> Vec<String> {
    let process = &now.process;
    let cpu = before.map(|(before, seconds)| {
        let used = process.cpu_ms.saturating_sub(before.process.cpu_ms) as f64 / 1000.0;
        format!(", cpu {:.1} %", 100.0 * used / seconds)
    });
    let clock = now.clock.standing.words();
    let memory = |bytes: Option<u64>| {
        bytes.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6))
    };
    let engine = &now.engine;
    let figure = |known: Option<f64>, digits: usize| {
        known.map_or("–".to_owned(), |it| format!("{it:.digits$}"))
    };
    let queue =
        engine.telemetry_queue.map_or("–".to_owned(), |it| format!("{}/{}", it.filled, it.room));
    vec![
        format!(
            "andon {}  up {}, {} MB (peak {}){}, {clock}",
            plain(&process.version),
            lasting(process.uptime_ms),
            memory(process.resident_bytes),
            memory(process.resident_peak_bytes),
            cpu.unwrap_or_default(),
        ),
        format!(
            "engine   {} values and absences/s, turn {} ms (longest {:.1}), queue {queue}",
            figure(engine.readings_per_second, 0),
            figure(engine.turn_mean_ms, 2),
            engine.turn_longest_ms,
        ),
        journal(now),
        history(now),
        mqtt(now),
        store(now),
    ]
}

fn journal(now: &Diagnostics) -> String {
    let Some(journal) = &now.journal else { return "journal  –".to_owned() };
    let counters = &journal.counters;
    let state = counters
        .failing
        .as_ref()
        .map_or_else(|| "ok".to_owned(), |why| format!("FAILING: {}", plain(why)));
    let mut line = format!(
        "journal  {state}, {} records, {:.1} MB",
        counters.written,
        counters.bytes as f64 / 1e6
    );
    for (count, what) in [
        (counters.dropped + counters.events_dropped, "dropped"),
        (counters.recycled_unread, "recycled unread"),
        (counters.quarantined, "blocks quarantined"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

fn history(now: &Diagnostics) -> String {
    let Some(history) = &now.history else { return "history  –".to_owned() };
    let (counters, failing) = (&history.counters, history.failing.as_deref());
    let state = failing.map_or_else(|| "ok".to_owned(), |why| format!("FAILING: {}", plain(why)));
    let size = history.bytes.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
    let mut line = format!("history  {state}, {} samples written, {size} MB", counters.samples);
    let oldest = history.oldest_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    if let Some(oldest) = oldest {
        line.push_str(&format!(" since {}", oldest.strftime("%Y-%m-%d %H:%M UTC")));
    }
    for (count, what) in [
        (counters.undated, "records without a time"),
        (counters.passed_over, "samples passed over"),
        (counters.damaged, "rows damaged"),
        (history.unmerged, "days not merged"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(why) = &history.unmerged_why {
        line.push_str(&format!(" ({})", plain(why)));
    }
    line
}

fn mqtt(now: &Diagnostics) -> String {
    let Some(mqtt) = &now.mqtt else { return "mqtt     not used".to_owned() };
    let by = mqtt.confirmed_by.as_deref().unwrap_or("nobody");
    format!(
        "mqtt     {}, {} in flight, {} unconfirmed (by {by}), {} sent again or late",
        link(mqtt.up, mqtt.why.as_deref()),
        mqtt.in_flight,
        mqtt.unconfirmed,
        mqtt.published_again,
    )
}

fn store(now: &Diagnostics) -> String {
    let Some(store) = &now.store else { return "store    not used".to_owned() };
    format!(
        "store    {}, {} lines committed, {} waiting, {} dead letters",
        link(store.up, store.why.as_deref()),
        store.committed,
        store.behind,
        store.dead_letters,
    )
}

fn link(up: bool, why: Option<&str>) -> String {
    match (up, why) {
        (true, _) => "up".to_owned(),
        (false, Some(why)) => format!("DOWN: {}", plain(why)),
        (false, None) => "DOWN".to_owned(),
    }
}

fn bus_line(bus: &Bus) -> String {
    let failed: u64 = bus.units.iter().map(|unit| unit.requests.failed()).sum();
    let rate = bus.requests_per_second.map_or("–".to_owned(), |rate| format!("{rate:.1}"));
    format!(
        "{:<16} {:<6} {:>5.0}% {rate:>8} {failed:>8} {:>12} {:>8} {:>8}  {}",
        plain(&bus.id),
        if bus.up { "up" } else { "DOWN" },
        bus.occupancy * 100.0,
        bus.worst_age_ms.map_or("–".to_owned(), lasting),
        bus.latest.as_ref().map_or("–".to_owned(), |latest| format!("{:.1}", latest.periods)),
        bus.skipped_rounds,
        bus.why.as_deref().map(plain).unwrap_or_default(),
    )
    .trim_end()
    .to_owned()
}

/// What there is to say of a bus's ages: the value that is late, and what has none.
fn ages(bus: &Bus) -> Option<String> {
    let late = bus.latest.as_ref().filter(|latest| latest.periods > LATE).map(|latest| {
        format!(
            "latest: {}.{}, {} old, read every {}",
            plain(&latest.source),
            plain(&latest.item),
            brief(latest.age_ms),
            brief(latest.period_ms)
        )
    });
    let (silent, of) = (bus.units_silent, bus.units_polled);
    let silent = (silent > 0).then(|| format!("{silent} of {of} units do not answer"));
    let unread = bus.items_unread;
    let unread = (unread > 0).then(|| format!("{unread} items never read, or refused"));
    let all: Vec<String> = [late, silent, unread].into_iter().flatten().collect();
    (!all.is_empty()).then(|| format!("  {}", all.join("; ")))
}

/// A duration that may be well below a second.
fn brief(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { lasting(ms) }
}

/// A bus that does not keep up, to look at.
fn skipping(bus: &Bus) -> Option<(u8, String)> {
    let percent = bus.skipped_share.unwrap_or_default() * 100.0;
    let id = plain(&bus.id);
    let line = format!(
        "  {id:<16} bus: cannot keep up, {percent:.0} % of the last minute's readings skipped; \
         see andon plan"
    );
    bus.skipping.then_some((SKIPPING_RANK, line))
}

/// A line for each unit and device that is not in order, the worst first, and how many are.
fn worst(now: &Diagnostics) -> (Vec<String>, usize) {
    let skipping = now.buses.iter().filter_map(skipping);
    let units = now.buses.iter().flat_map(|bus| bus.units.iter().map(move |unit| (bus, unit)));
    let units = units.map(|(bus, it)| (unit_rank(it), unit_line(bus, it)));
    let devices = now.devices.iter().map(|it| (device_rank(it), device_line(it)));
    let (mut worried, well): (Vec<_>, Vec<_>) =
        units.chain(devices).chain(skipping).partition(|(rank, _)| *rank > 0);
    worried.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    (worried.into_iter().map(|(_, line)| line).collect(), well.len())
}

fn unit_rank(unit: &Unit) -> u8 {
    match &*unit.standing {
        "online" => 0,
        "not_asked" => 1,
        "bus_down" => 2,
        "suspect" | "slow" => 3,
        _ => 4,
    }
}

fn device_rank(device: &Device) -> u8 {
    match &*device.state {
        "answering" => u8::from(device.why.is_some()),
        "silent" => 3,
        _ => 4,
    }
}

fn unit_line(bus: &Bus, unit: &Unit) -> String {
    let why = unit.why.as_deref().map_or(String::new(), |why| format!(" ({})", reason(why)));
    let Unit { requests, .. } = unit;
    format!(
        "  {:<16} unit {} on {}: {}{why}, {} of {} requests failed{}",
        plain(&unit.source),
        plain(&unit.unit_id),
        plain(&bus.id),
        reason(&unit.standing),
        requests.failed(),
        requests.ended(),
        answered(unit.last_answer_age_ms),
    )
}

fn device_line(device: &Device) -> String {
    let why = device.why.as_deref().map_or(String::new(), |why| format!(" ({})", plain(why)));
    format!(
        "  {:<16} {}: {}{why}, {} errors{}",
        plain(&device.source),
        plain(&device.protocol),
        plain(&device.state),
        device.errors,
        answered(device.last_answer_age_ms),
    )
}

/// The items of a machine that have no value, by why.
fn blind_line(blind: &Blind) -> String {
    let said = blind.items.iter().map(|(why, (names, age))| {
        let names = match names.len() {
            0..=NAMES_SHOWN => names.join(", "),
            many => format!("{many} items"),
        };
        format!("{names}: {}{}", reason(why), ago(*age))
    });
    let said: Vec<String> = said.collect();
    format!("  {:<16} {:>3}  {}", blind.machine, blind.count(), said.join("; "))
}

fn answered(age: Option<u64>) -> String {
    age.map_or(", has never answered".to_owned(), |ms| format!(", last answer {} ago", lasting(ms)))
}

fn ago(age: Option<u64>) -> String {
    age.map_or(String::new(), |ms| format!(", {} ago", lasting(ms)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tokio::time::Instant;

    use super::*;
    use crate::diagnostics::testing::shop;

    fn blind(machine: &str, why: &str, count: usize, age: Option<u64>) -> Blind {
        let names = (0..count).map(|n| format!("item-{n}")).collect();
        Blind { machine: machine.to_owned(), items: [(why.to_owned(), (names, age))].into() }
    }

    #[test]
    fn a_shop_in_trouble_is_told_worst_first_and_unknown_is_a_dash() {
        let seen = Seen {
            diagnostics: shop(),
            blind: vec![blind("laser", "timeout", 1, Some(92_000))],
            at: Instant::now(),
        };
        expect![[r#"
            andon 0.1.0  up 2 h 04 min, 9.4 MB (peak –), clock NOT synchronised: no hours are counted, nothing reaches the store
            engine   41 values and absences/s, turn 0.04 ms (longest 9.2), queue 1/256
            journal  ok, 5000 records, 2.5 MB, 2 blocks quarantined
            history  FAILING: unable to open database file, 90000 samples written, 4.5 MB since 2026-09-21 14:13 UTC, 2 days not merged (disk I/O error)
            mqtt     DOWN: connection refused, 0 in flight, 412 unconfirmed (by recorder), 0 sent again or late
            store    not used

            BUSES  busy, requests, ages: of the last minute; failed, skipped: since the start
            BUS              STATE    BUSY    REQ/S   FAILED    WORST AGE  PERIODS  SKIPPED
            panel            up        31%      9.5       33   1 min 00 s      2.6        4
              latest: meter-4.power.active, 2.6 s old, read every 1.0 s; 1 of 3 units do not answer; 12 items never read, or refused

            UNITS AND DEVICES  1 in order, 4 to look at
              panel            bus: cannot keep up, 12 % of the last minute's readings skipped; see andon plan
              meter-5          unit 5 on panel: quarantined (timeout), 31 of 31 requests failed, has never answered
              printer          moonraker: down (connection refused), 3 errors, has never answered
              meter-4          unit 4 on panel: suspect (timeout), 2 of 882 requests failed, last answer 0.3 s ago

            ITEMS WITHOUT A VALUE  1
              laser              1  item-0: timeout, 1 min 32 s ago"#]].assert_eq(&lines(&seen, None, usize::MAX).join("\n"));
        assert_eq!(lines(&seen, None, 3).len(), 3);
    }

    #[test]
    fn units_that_are_only_written_to_are_none_of_those_that_should_answer() {
        let mut bus = shop().buses.remove(0);
        bus.units.push(Unit { source: "relay".into(), ..Unit::default() });
        let said = ages(&bus).unwrap();
        assert!(said.contains("1 of 3 units do not answer"), "{said}");
    }

    #[test]
    fn each_machine_without_values_is_shown_and_what_has_no_room_is_counted() {
        let mut blind =
            vec![blind("cnc", "timeout", 41, Some(92_000)), blind("saw", "not_yet", 1, None)];
        blind[0].items.insert("refused".to_owned(), (vec!["door".to_owned()], Some(400)));
        let told =
            lines(&Seen { diagnostics: shop(), blind, at: Instant::now() }, None, usize::MAX);
        expect![[r#"
            ITEMS WITHOUT A VALUE  43
              cnc               42  door: refused, 0.4 s ago; 41 items: timeout, 1 min 32 s ago
              saw                1  item-0: nothing heard yet"#]]
        .assert_eq(&told[told.len() - 3..].join("\n"));
    }

    #[test]
    fn requests_are_of_the_last_minute_like_what_stands_beside_them() {
        let mut bus = shop().buses.remove(0);
        assert!(bus_line(&bus).contains("31%      9.5 "), "{}", bus_line(&bus));
        bus.requests_per_second = None;
        assert!(bus_line(&bus).contains("31%        – "), "{}", bus_line(&bus));
    }
}
