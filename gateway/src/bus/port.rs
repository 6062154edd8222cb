//! Who else has a serial port open, and the words for a port that cannot be had.
//!
//! A lock stops only those who ask for it, and many programs do not. So the descriptors of all
//! processes are looked at as well before a port is opened: of those whose `/proc/PID/fd` we may read,
//! which are our own user's, or everybody's for root. It opens nothing and ends nobody.

use std::io;
use std::path::{Path, PathBuf};

/// Processes whose descriptors are looked at before a port is opened.
const PROCESSES_MAX: usize = 4096;
/// Where pseudo-terminals are. Whoever makes one keeps it open: that is no second reader.
const PSEUDO_TERMINALS: &str = "/dev/pts";

/// Refuses a port that another process has open, as far as the system lets us see.
///
/// # Errors
/// With [`io::ErrorKind::ResourceBusy`], and the words name the process.
pub(super) fn refuse_if_held(port: &Path) -> io::Result<()> {
    if is_pseudo_terminal(port) {
        return Ok(());
    }
    holder(&real(port)).map_or(Ok(()), |holder| Err(held(port, &holder)))
}

/// Whether a port is no port but another program.
pub(super) fn is_pseudo_terminal(port: &Path) -> bool {
    real(port).starts_with(PSEUDO_TERMINALS)
}

/// What a port's stable name points at.
fn real(port: &Path) -> PathBuf {
    std::fs::canonicalize(port).unwrap_or_else(|_| port.to_owned())
}

/// The error for a port that `holder` has.
pub(super) fn held(port: &Path, holder: &str) -> io::Error {
    let port = port.display();
    let words = format!("{holder} holds {port}; two programs on one port spoil both: end one");
    io::Error::new(io::ErrorKind::ResourceBusy, words)
}

/// The error of an opening that failed, with the port's name and what to look for.
pub(super) fn unopened(port: &Path, error: &io::Error) -> io::Error {
    // The library's words for a lock that it did not get; it has no kind for it.
    let locked = error.to_string().contains("exclusive lock");
    if locked
        || error.raw_os_error() == Some(libc::EBUSY)
        || error.kind() == io::ErrorKind::ResourceBusy
    {
        return held(port, "another program (andon run has the ports of its configuration)");
    }
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is it plugged in? ls /dev/serial/by-id",
        io::ErrorKind::PermissionDenied => "; is this user in the group dialout?",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{hint}", port.display()))
}

/// Another process that has the port open.
fn holder(port: &Path) -> Option<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut others = processes.map(|process| process.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
    });
    let found = others.by_ref().take(PROCESSES_MAX).find(|process| has_open(process, port))?;
    let name = std::fs::read_to_string(found.join("comm")).unwrap_or_default();
    let id = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Some(format!("{} (process {id})", name.trim()))
}

fn has_open(process: &Path, port: &Path) -> bool {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return false };
    let mut targets =
        descriptors.filter_map(Result::ok).filter_map(|fd| std::fs::read_link(fd.path()).ok());
    targets.any(|target| target == port)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::transport;
    use super::*;
    use crate::config::plan::{Link, Parity};

    fn link(port: &Path) -> Link {
        Link::Rtu { port: port.to_owned(), baud: 9600, parity: Parity::None, stop_bits: 1 }
    }

    #[tokio::test]
    async fn a_bus_refuses_a_port_that_a_program_has_open_without_a_lock() {
        let path = std::env::temp_dir().join(format!("andon-held-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert_eq!(holder(&path), None, "our own descriptor is no stranger's");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let refused = transport::opener(&link(&path))().await;
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        let words = refused.err().unwrap().to_string();
        let expected = format!("sleep (process {}) holds {}", child.id(), path.display());
        assert!(words.contains(&expected), "{words}");
    }

    #[tokio::test]
    async fn a_port_that_cannot_be_opened_is_named_with_what_to_look_for() {
        let absent = Path::new("/dev/serial/by-id/usb-absent");
        let error = transport::opener(&link(absent))().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let words = error.to_string();
        assert!(words.starts_with("/dev/serial/by-id/usb-absent: "), "{words}");
        assert!(words.ends_with("is it plugged in? ls /dev/serial/by-id"), "{words}");
        let locked = io::Error::other("Unable to acquire exclusive lock on serial port");
        let words = unopened(absent, &locked).to_string();
        assert!(words.contains("usb-absent") && words.contains("andon run"), "{words}");
    }
}
