//! A stream of bytes, over TCP or (see `serial`) a serial port. It knows no line.

use std::io;

use andon_adapters::device::Outgoing;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use super::CONNECT_WITHIN;
use super::wire::{Ends, News, Opener, Order, Wire};

/// Bytes that are read at once.
const READ_BYTES: usize = 1024;
/// A peer that has taken nothing for this long takes nothing any more.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// Opens a TCP connection.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((host, port));
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{host}:{port} is silent"));
    let stream = timeout(CONNECT_WITHIN, connecting).await.map_err(late)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The opener of a stream over TCP.
pub(super) fn tcp(host: &str, port: u16) -> Opener {
    let host = host.to_owned();
    Box::new(move || {
        let host = host.clone();
        Box::pin(async move { Ok(over(connect(&host, port).await?)) })
    })
}

/// A connection over `stream`.
pub(super) fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Wire {
    Wire::start(|Ends { orders, news }| async move {
        let (reading, writing) = tokio::io::split(stream);
        tokio::select! {
            why = read(reading, news) => why,
            why = write(writing, orders) => why,
        }
    })
}

async fn read(mut stream: impl AsyncRead + Unpin, news: mpsc::Sender<News>) -> String {
    let mut bytes = [0; READ_BYTES];
    loop {
        // A vanished USB port ends like a closed connection: with nothing to read, for ever.
        match stream.read(&mut bytes).await {
            Ok(0) => return "the port or connection is gone".to_owned(),
            Ok(count) => {
                let heard = bytes.get(..count).unwrap_or_default().to_vec();
                if news.send(News::Bytes(heard)).await.is_err() {
                    return String::new();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut orders: mpsc::Receiver<Order>) -> String {
    while let Some(order) = orders.recv().await {
        let Order::Send(Outgoing::Bytes(bytes)) = order else { continue };
        match timeout(WRITE_WITHIN, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the device takes no bytes".to_owned(),
        }
    }
    String::new()
}
