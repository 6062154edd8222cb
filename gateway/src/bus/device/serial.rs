//! A serial port as a stream of bytes: opened exclusively, and with as few resets as Linux allows.
//!
//! What can be avoided: the kernel raises DTR whenever a port is opened, and drops it when the
//! last descriptor is closed, unless `HUPCL` is off. Boards that reset on a rising DTR therefore
//! reset at every opening of a port that was closed before. `HUPCL` is turned off here, so that
//! DTR stays up from the first opening on: later openings, by andon or by others, are no edge.
//! What cannot be avoided: that first opening after the board was plugged in or the computer
//! started, because DTR is down then and rises before any program has a descriptor. Facts from
//! `termios(3)` and the kernel's `tty_port_block_til_ready`.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::stream;
use super::wire::Opener;
use crate::config::plan::Parity;

/// Processes whose descriptors are looked at before a port is opened.
const PROCESSES_MAX: usize = 4096;

/// The opener of a serial port. It is opened on a thread that may block: opening a USB port that
/// has just vanished can hang.
pub(super) fn opener(
    source: &Arc<str>,
    port: &Path,
    baud: u32,
    parity: Parity,
    data_bits: u8,
) -> Opener {
    let (source, port) = (source.clone(), port.to_owned());
    let mut told = false;
    Box::new(move || {
        let builder = tokio_serial::new(port.to_string_lossy(), baud)
            .data_bits(if data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
            .parity(match parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None)
            .exclusive(true);
        let port = port.clone();
        if port.exists() && !std::mem::replace(&mut told, true) {
            tracing::warn!(
                %source,
                port = %port.display(),
                "opening this port may reset the board behind it; a job that runs there would end"
            );
        }
        Box::pin(async move {
            let open = move || {
                let held_up = prepare(&port)?;
                let stream = SerialStream::open(&builder)?;
                drop(held_up);
                Ok::<_, io::Error>(stream)
            };
            let stream = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
            Ok(stream::over(stream))
        })
    })
}

/// Where pseudo-terminals are. Whoever makes one keeps it open: that is no second reader.
const PSEUDO_TERMINALS: &str = "/dev/pts";

/// Refuses a port that somebody else uses, and turns `HUPCL` off. The descriptor that is returned
/// holds DTR up until the real one is open.
fn prepare(port: &Path) -> io::Result<File> {
    let real = std::fs::canonicalize(port).unwrap_or_else(|_| port.to_owned());
    if !real.starts_with(PSEUDO_TERMINALS)
        && let Some(holder) = holder(&real)
    {
        return Err(held(port, &holder));
    }
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let opened = File::options().read(true).write(true).custom_flags(flags).open(port);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => held(port, "another program"),
        _ => io::Error::new(error.kind(), format!("{}: {error}", port.display())),
    })?;
    // Only tried and let go: the library takes the lock on a descriptor of its own.
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => flock(&file, FlockOperation::Unlock)?,
        Err(_) => return Err(held(port, "another program")),
    }
    let mut modes = tcgetattr(&file)?;
    modes.control_modes.remove(ControlModes::HUPCL);
    tcsetattr(&file, OptionalActions::Now, &modes)?;
    Ok(file)
}

fn held(port: &Path, holder: &str) -> io::Error {
    let port = port.display();
    let words = format!("{holder} holds {port}; two programs on one port spoil both: end one");
    io::Error::new(io::ErrorKind::ResourceBusy, words)
}

/// Another process that has the port open, as far as the system lets us see: many programs open
/// a port without locking it.
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
    use super::*;

    #[test]
    fn a_program_that_took_no_lock_is_found_all_the_same() {
        let path = std::env::temp_dir().join(format!("andon-held-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert_eq!(holder(&path), None, "our own descriptor is no stranger's");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let found = holder(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found, Some(format!("sleep (process {})", child.id())));
    }
}
