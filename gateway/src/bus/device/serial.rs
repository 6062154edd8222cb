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
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::stream;
use super::wire::Opener;
use crate::bus::port;
use crate::config::plan::Parity;

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
    let told = Arc::new(AtomicBool::new(false));
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
        let (source, port, told) = (source.clone(), port.clone(), told.clone());
        Box::pin(async move {
            let open = move || {
                port::refuse_if_held(&port)?;
                if port.exists() && !told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %source,
                        port = %port.display(),
                        "opening this port may reset the board behind it; a job that runs there \
                         would end"
                    );
                }
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

/// Refuses a port that somebody else has locked, and turns `HUPCL` off. The descriptor that is returned
/// holds DTR up until the real one is open.
fn prepare(port: &Path) -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let opened = File::options().read(true).write(true).custom_flags(flags).open(port);
    let file = opened.map_err(|error| port::unopened(port, &error))?;
    // Only tried and let go: the library takes the lock on a descriptor of its own.
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => flock(&file, FlockOperation::Unlock)?,
        Err(_) => return Err(port::held(port, "another program")),
    }
    let mut modes = tcgetattr(&file)?;
    modes.control_modes.remove(ControlModes::HUPCL);
    tcsetattr(&file, OptionalActions::Now, &modes)?;
    Ok(file)
}
