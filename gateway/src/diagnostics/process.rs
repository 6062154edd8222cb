//! What the kernel says of this process: `/proc/self/status`, see proc_pid_status(5). Where there is
//! none, nothing is known.

use std::time::Duration;

use super::{Process, millis};

/// Bytes read of the file; it is about 1.5 KB.
const BYTES_MAX: u64 = 16 * 1024;

/// This process, up for `uptime`.
pub(super) fn of_this(uptime: Duration, cpu: Duration, boot: String) -> Process {
    let facts = status();
    Process {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot,
        uptime_ms: millis(uptime),
        cpu_ms: millis(cpu),
        resident_bytes: field(&facts, "VmRSS").and_then(|kilobytes| kilobytes.checked_mul(1024)),
        resident_peak_bytes: field(&facts, "VmHWM").and_then(|kb| kb.checked_mul(1024)),
        threads: field(&facts, "Threads"),
    }
}

fn status() -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open("/proc/self/status");
    // What cannot be read is not known.
    file.and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)).ok();
    text
}

/// The number of a line `NAME:\t1234 kB`.
fn field(facts: &str, name: &str) -> Option<u64> {
    let line = facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_its_whole_name_and_what_is_no_number_is_unknown() {
        let facts = "VmHWM:\t   14336 kB\nVmRSS:\t    9216 kB\nThreads:\t7\nVmLib:\tmany\n";
        assert_eq!(field(facts, "VmRSS"), Some(9216));
        assert_eq!(field(facts, "Threads"), Some(7));
        assert_eq!(field(facts, "VmLib"), None);
        assert_eq!(field(facts, "Vm"), None);
        assert_eq!(field("", "VmRSS"), None);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let process = of_this(Duration::from_secs(2), Duration::from_millis(30), "b".to_owned());
        let (now, peak) = (process.resident_bytes.unwrap(), process.resident_peak_bytes.unwrap());
        assert!(now > 1 << 20 && peak >= now, "{process:?}");
        assert!(process.threads.unwrap() >= 1);
        assert_eq!((process.uptime_ms, process.cpu_ms), (2000, 30));
    }
}
