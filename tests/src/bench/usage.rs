//! What a process has used, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

use crate::process::Process;

/// Kernel ticks per second of CPU time (`getconf CLK_TCK`), 100 on every Linux that andon runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that a process has used, its own and the kernel's on its behalf.
pub(super) fn cpu(process: &Process) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let after_name = stat.rsplit(") ").next().context("a stat line")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Megabytes of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// The most that was resident so far (`VmHWM`).
    pub(super) peak: f64,
    /// What is resident now and belongs to no file.
    pub(super) anonymous: f64,
}

impl Memory {
    pub(super) fn of(process: &Process) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("a field")?;
            let kilobytes = line.split_whitespace().nth(1).context("a number")?;
            Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
        };
        Ok(Self { peak: field("VmHWM:")?, anonymous: field("RssAnon:")? })
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn boot_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
