//! What the lines of Marlin and its relatives say, taken apart. Pure functions of one line.

use andon_engine::event::Execution;

/// One heater of a temperature line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heater<'a> {
    /// `T`, `T0` …, `B`, `C`.
    pub(super) name: &'a str,
    /// Its temperature; NaN when that is no number.
    pub(super) actual: f64,
    /// What it is heated to, when the line says.
    pub(super) target: Option<f64>,
}

/// The heaters of a temperature line, all forms of it: `T:210.02 /210.00 B:60.01 /60.00 @:64`,
/// `T:21.30/ 0.00`, `T0:… T1:…`, `T:25.00 E:0 W:?`. Empty when the line is none.
pub(super) fn heaters(line: &str) -> Vec<Heater<'_>> {
    /// Eight nozzles, the one in use, bed and chamber.
    const HEATERS_MAX: usize = 11;
    let mut heaters: Vec<Heater<'_>> = Vec::new();
    let mut rest = line.strip_prefix("ok").unwrap_or(line).trim_start();
    while let Some((name, after)) = rest.split_once(':') {
        let (name, after) = (name.trim(), after.trim_start());
        let end = after.find([' ', '/']).unwrap_or(after.len());
        let (actual, tail) = after.split_at(end);
        let (target, tail) = match tail.trim_start().strip_prefix('/') {
            Some(target) => {
                let target = target.trim_start();
                let (target, tail) = target.split_at(target.find(' ').unwrap_or(target.len()));
                (target.parse().ok(), tail)
            }
            None => (None, tail),
        };
        let known = matches!(name, "T" | "B" | "C") || nozzle(name).is_some();
        if known && heaters.len() < HEATERS_MAX {
            heaters.push(Heater { name, actual: actual.parse().unwrap_or(f64::NAN), target });
        } else if heaters.is_empty() {
            return heaters;
        }
        rest = tail.trim_start();
    }
    heaters
}

/// The number of the nozzle `T0`, `T1`, …
pub(super) fn nozzle(name: &str) -> Option<u8> {
    name.strip_prefix('T')?.parse().ok().filter(|_| name.len() == 2)
}

/// Position and length of `SD printing byte 123/12345`.
pub(super) fn sd_bytes(line: &str) -> Option<(u64, u64)> {
    let (at, of) = line.strip_prefix("SD printing byte ")?.trim().split_once('/')?;
    Some((at.parse().ok()?, of.parse().ok()?))
}

/// What `echo:busy: …` is busy with.
pub(super) fn busy(line: &str) -> Option<&str> {
    let words = line.strip_prefix("echo:").unwrap_or(line).trim_start();
    Some(words.strip_prefix("busy")?.trim_start_matches([':', ' ']))
}

/// What a `//action:` line asks for.
pub(super) fn action(line: &str) -> Option<&str> {
    Some(line.strip_prefix("//")?.trim_start().strip_prefix("action:")?.trim())
}

/// The words behind `Error:`, `!!` or `fatal:`.
pub(super) fn error(line: &str) -> Option<&str> {
    ["Error:", "!!", "fatal:"].iter().find_map(|prefix| line.strip_prefix(prefix)).map(str::trim)
}

/// The state that an error leaves the printer in; `None` when it goes on.
pub(super) fn verdict(error: &str) -> Option<Execution> {
    const FAULTS: [&str; 8] = [
        "thermal runaway",
        "heating failed",
        "maxtemp",
        "mintemp",
        "system stopped",
        "stopped due to errors",
        "heaters disabled",
        "lost communication",
    ];
    let error = error.to_ascii_lowercase();
    if FAULTS.iter().any(|fault| error.contains(fault)) {
        Some(Execution::Fault)
    } else if is_kill(&error) {
        Some(Execution::Stopped)
    } else {
        None
    }
}

/// Whether the firmware has halted for good: it answers nothing until it is reset.
pub(super) fn is_kill(words: &str) -> bool {
    const KILLS: [&str; 5] =
        ["kill()", "printer halted", "kill caused by", "shutdown detected", "watchdog"];
    let words = words.to_ascii_lowercase();
    KILLS.iter().any(|kill| words.contains(kill))
}

/// Whether an error is only the first half of one: old firmware prints the heater's number in a
/// line of its own and what happened to it in the next.
pub(super) fn is_half(error: &str) -> bool {
    matches!(error, "bed" | "Bed")
        || (error.len() == 1 && error.bytes().all(|b| b.is_ascii_digit()))
}
