//! A serial port as a stream of bytes: opened exclusively, and with as few resets as Linux allows.
//!
//! What can be avoided: the kernel raises DTR whenever a port is opened, and drops it when the
//! last descriptor is closed, unless `HUPCL` is off. Boards that reset on a rising DTR therefore
//! reset at every opening of a port that was closed before. `HUPCL` is turned off here, so that
//! DTR stays up from the first opening on: later openings, by andon or by others, are no edge.
//! What cannot be avoided: that first opening after the board was plugged in or the computer
//! started, because DTR is down then and rises before any program has a descriptor. Facts from
//! `termios(3)` and the kernel's `tty_port_block_til_ready`.
//!
//! XON and XOFF are the kernel's business where `flow` is set: it takes them out of what is heard,
//! holds back what is said, and sends them itself when nobody reads. A pseudo-terminal carries
//! characters and not bits, so parity and their number mean nothing there and are not looked at.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::termios::{ControlModes, InputModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::stream;
use super::wire::Opener;
use crate::bus::port;
use crate::config::plan::{Parity, SerialLine};

/// The opener of a serial port. It is opened on a thread that may block: opening a USB port that
/// has just vanished can hang.
pub(super) fn opener(source: &Arc<str>, port: &Path, line: SerialLine) -> Opener {
    let (source, port) = (source.clone(), port.to_owned());
    let told = Arc::new(AtomicBool::new(false));
    Box::new(move || {
        let builder = tokio_serial::new(port.to_string_lossy(), line.baud)
            .data_bits(if line.data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
            .parity(match line.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One })
            .flow_control(if line.xonxoff { FlowControl::Software } else { FlowControl::None })
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
                settle(&port, &held_up, &line)?;
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

/// Looks whether the port does what it was told, for a driver that cannot says nothing, and lets
/// characters of a wrong frame come as NUL: without them `4380` would be read as `480`.
fn settle(port: &Path, opened: &File, line: &SerialLine) -> io::Result<()> {
    let mut modes = tcgetattr(opened)?;
    if !port::is_pseudo_terminal(port)
        && let Some(refused) = refused(line, &modes)
    {
        let words = format!("{} does not do {refused}; another adapter may", port.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, words));
    }
    modes.input_modes.remove(InputModes::IGNPAR);
    tcsetattr(opened, OptionalActions::Now, &modes)?;
    Ok(())
}

/// What was asked of a port and is not what it has been set to.
fn refused(line: &SerialLine, held: &Termios) -> Option<String> {
    let (control, input) = (held.control_modes, held.input_modes);
    let size = if line.data_bits == 7 { ControlModes::CS7 } else { ControlModes::CS8 };
    if control & ControlModes::CSIZE != size {
        return Some(format!("{} data bits", line.data_bits));
    }
    let parity = match (control & (ControlModes::PARENB | ControlModes::PARODD)).bits() {
        bits if bits == (ControlModes::PARENB | ControlModes::PARODD).bits() => Parity::Odd,
        bits if bits == ControlModes::PARENB.bits() => Parity::Even,
        _ => Parity::None,
    };
    if parity != line.parity {
        return Some(format!("{:?} parity", line.parity).to_lowercase());
    }
    if control.contains(ControlModes::CSTOPB) != (line.stop_bits == 2) {
        return Some(format!("{} stop bits", line.stop_bits));
    }
    let flow = InputModes::IXON | InputModes::IXOFF;
    (input.contains(flow) != line.xonxoff).then(|| "flow = \"xonxoff\"".to_owned())
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};

    use super::*;

    const USUAL: SerialLine =
        SerialLine { baud: 9600, parity: Parity::None, data_bits: 8, stop_bits: 1, xonxoff: false };

    /// What a port is set to that takes eight bits and no parity, whatever it is told.
    fn stubborn() -> Termios {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let mut modes = tcgetattr(&near).unwrap();
        modes.make_raw();
        modes.control_modes.remove(ControlModes::CSIZE | ControlModes::PARODD);
        modes.control_modes.insert(ControlModes::CS7 | ControlModes::PARENB);
        tcsetattr(&near, OptionalActions::Now, &modes).unwrap();
        tcgetattr(&near).unwrap()
    }

    #[test]
    fn what_a_port_does_not_do_is_named() {
        let modes = stubborn();
        assert_eq!(refused(&USUAL, &modes), None);
        for (line, words) in [
            (SerialLine { data_bits: 7, parity: Parity::Even, ..USUAL }, "7 data bits"),
            (SerialLine { parity: Parity::Even, ..USUAL }, "even parity"),
            (SerialLine { parity: Parity::Odd, ..USUAL }, "odd parity"),
            (SerialLine { stop_bits: 2, ..USUAL }, "2 stop bits"),
            (SerialLine { xonxoff: true, ..USUAL }, "flow = \"xonxoff\""),
        ] {
            assert_eq!(refused(&line, &modes).as_deref(), Some(words));
        }
    }

    #[test]
    fn what_a_port_has_been_set_to_is_not_refused() {
        let mut modes = stubborn();
        modes.control_modes.remove(ControlModes::CSIZE);
        modes.control_modes.insert(ControlModes::CS7 | ControlModes::PARENB | ControlModes::CSTOPB);
        modes.input_modes.insert(InputModes::IXON | InputModes::IXOFF);
        let (parity, data_bits, stop_bits, xonxoff) = (Parity::Even, 7, 2, true);
        let line = SerialLine { baud: 19_200, parity, data_bits, stop_bits, xonxoff };
        assert_eq!(refused(&line, &modes), None);
        modes.control_modes.insert(ControlModes::PARODD);
        assert_eq!(refused(&SerialLine { parity: Parity::Odd, ..line }, &modes), None);
        assert!(refused(&line, &modes).is_some());
    }
}
