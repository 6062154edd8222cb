//! A stream of bytes: a TCP connection, or a serial port that andon alone opens.
//!
//! A port is opened exclusively, by ioctl and by lock, so that a second program is refused and so
//! are we. Opening raises DTR, which resets many controllers; HUPCL is cleared, so that closing
//! does not do it again. The first cannot be avoided through a terminal device.

use std::io;
use std::time::Duration;

use andon_adapters::device::ANSWER_WITHIN;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::connection::Event;
use crate::config::plan::{Parity, Place};

/// A TCP peer that has not accepted within this time is away.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Bytes taken at once.
const CHUNK: usize = 4096;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open stream.
pub(super) struct StreamLink {
    stream: Box<dyn Stream>,
    chunk: Vec<u8>,
}

impl StreamLink {
    /// Connects to a host.
    pub(super) async fn tcp(host: &str, port: u16) -> Result<Self, String> {
        let connecting = TcpStream::connect((host, port));
        let stream = match timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err("the host does not answer".to_owned()),
        };
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream: Box::new(stream), chunk: vec![0; CHUNK] })
    }

    /// Opens a serial port, on a thread that may block: opening a USB port that has just vanished
    /// can hang.
    pub(super) async fn serial(place: &Place) -> Result<Self, String> {
        let Place::Serial { port, baud, parity, data_bits } = place else {
            return Err("this device is not on a serial port".to_owned());
        };
        let builder = tokio_serial::new(port.to_string_lossy(), *baud)
            .data_bits(if *data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
            .parity(match parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None);
        let open = move || SerialStream::open(&builder);
        let opened = tokio::task::spawn_blocking(open).await.map_err(|error| error.to_string())?;
        let stream = opened.map_err(|error| match io::Error::from(error) {
            busy if busy.raw_os_error() == Some(16) => "another program holds the port".to_owned(),
            error => error.to_string(),
        })?;
        keep_dtr(&stream);
        Ok(Self { stream: Box::new(stream), chunk: vec![0; CHUNK] })
    }

    /// The next bytes.
    pub(super) async fn next(&mut self) -> Event {
        match self.stream.read(&mut self.chunk).await {
            Ok(0) => Event::Closed("the other end has closed".to_owned()),
            Ok(count) => Event::Bytes(self.chunk[..count].to_vec()),
            Err(error) => Event::Closed(error.to_string()),
        }
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(ANSWER_WITHIN, sending).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("it takes no bytes".to_owned()),
        }
    }
}

/// Clears HUPCL: closing the port shall not drop DTR. A line that has no such flag keeps none.
fn keep_dtr(stream: &SerialStream) {
    use std::os::fd::{AsRawFd as _, BorrowedFd};
    // SAFETY is the borrow's: the descriptor is open as long as the stream that it is taken from.
    #[expect(unsafe_code, reason = "tokio-serial offers no AsFd")]
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    if let Ok(mut line) = rustix::termios::tcgetattr(descriptor) {
        line.control_modes.remove(rustix::termios::ControlModes::HUPCL);
        rustix::termios::tcsetattr(descriptor, rustix::termios::OptionalActions::Now, &line).ok();
    }
}
