//! Samples that whoever knows their run and number knows too: what a process that was killed wrote
//! into history, said again by the test that killed it.
//!
//! Every run has days of its own, a sample a minute. Sample n of a run stands for the minute that
//! ends with it, so a day's are 1 to 1440, and 0 is the last moment of the day before.

use std::sync::Arc;
use std::time::Duration;

use andon::config::plan::HistoryPlan;
use andon::history::Periods;
use andon::journal::{BootId, Observation};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};

/// The one boot of all runs.
pub const BOOT: BootId = BootId([7; 16]);
/// The machine.
pub const MACHINE: &str = "press";
/// Its items.
pub const ITEMS: [&str; 3] = ["temperature", "power.active", "state"];
/// 2026-01-01T00:00:00Z.
pub const BEGIN_MS: i64 = 1_767_225_600_000;
/// A sample and the next.
pub const PERIOD_MS: i64 = 60_000;
/// Samples of a day.
pub const DAY: u64 = 1440;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;
/// Days that each run has for itself; it writes no more than that.
pub const RUN_DAYS: u64 = 8;
/// What is kept: samples of the newest twelve runs, minutes of some more.
pub const LIMITS: HistoryPlan = HistoryPlan {
    keep: Duration::from_secs(100 * 86_400),
    keep_minutes: Duration::from_secs(150 * 86_400),
    bytes: 1 << 30,
};

/// The moment of a sample, Unix milliseconds.
pub fn at_ms(run: u64, number: u64) -> i64 {
    let minutes = run * RUN_DAYS * DAY + number;
    BEGIN_MS + i64::try_from(minutes).unwrap_or(0) * PERIOD_MS
}

/// The run and the number of a sample of this moment.
pub fn number(at_ms: i64) -> (u64, u64) {
    let minutes = u64::try_from((at_ms - BEGIN_MS) / PERIOD_MS).unwrap_or(0);
    (minutes / (RUN_DAYS * DAY), minutes % (RUN_DAYS * DAY))
}

/// Wall time of all boots.
pub fn wall_ms(_: &BootId, at: BootTime) -> Option<i64> {
    Some(BEGIN_MS + i64::try_from(at.as_millis()).unwrap_or(0))
}

/// The periods of the items.
pub fn periods() -> Periods {
    let mut periods = Periods::default();
    for item in ITEMS {
        periods.note(MACHINE, item, Duration::from_millis(PERIOD_MS.unsigned_abs()));
    }
    periods
}

/// What was measured: a saw-tooth, noise with a gap now and then, a flag.
pub fn measured(item: &str, run: u64, number: u64) -> Measured {
    let mixed = (run * 1_000_003 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    match item {
        "temperature" => Ok(Value::Number((number % DAY) as f64 / 10.0)),
        "power.active" if mixed.is_multiple_of(50) => Err(Unavailable::Timeout),
        "power.active" => Ok(Value::Number(mixed as f64 / 3.0)),
        _ => Ok(Value::Flag(number % 7 < 3)),
    }
}

/// All of it, as the journal has it.
pub fn observation(run: u64, number: u64) -> Observation {
    let at = BootTime::from_millis(u64::try_from(at_ms(run, number) - BEGIN_MS).unwrap_or(0));
    let items = ITEMS.iter().map(|&item| (Arc::from(item), measured(item, run, number)));
    Observation { machine: MACHINE.into(), at, items: items.collect() }
}
