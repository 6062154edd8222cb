//! A WebSocket: text frames in both directions, of at most
//! [`BODY_BYTES_MAX`](andon_adapters::device::BODY_BYTES_MAX) bytes. Silence is broken by pings; a
//! peer that answers none is gone. Without TLS.

use std::io;
use std::time::Duration;

use andon_adapters::device::{BODY_BYTES_MAX, Outgoing};
use andon_adapters::protocol::Login;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::CONNECT_WITHIN;
use super::http::authority;
use super::login::Shown;
use super::stream::connect;
use super::wire::{Ends, News, Opener, Order, Wire};
use crate::config::plan::Credentials;

/// A peer that was silent for this long is sent a ping.
const PING_AFTER: Duration = Duration::from_secs(10);
/// A peer that has taken no frame, or not even a ping's answer, for this long is gone.
const GONE_AFTER: Duration = Duration::from_secs(25);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

type Socket = WebSocketStream<TcpStream>;

/// The opener of a WebSocket. A key stands in the header of the upgrade request.
pub(super) fn opener(
    host: &str,
    port: u16,
    path: &'static str,
    login: Login,
    credentials: &Credentials,
) -> Opener {
    let (host, credentials) = (host.to_owned(), credentials.clone());
    Box::new(move || {
        let (host, shown) = (host.clone(), Shown::of(login, &credentials));
        Box::pin(async move {
            let shaking = open(&host, port, path, shown?);
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time");
            let socket = timeout(CONNECT_WITHIN * 2, shaking).await.map_err(late)??;
            Ok(Wire::start(|ends| carry(socket, ends)))
        })
    })
}

async fn open(host: &str, port: u16, path: &str, shown: Shown) -> io::Result<Socket> {
    let url = format!("ws://{}{path}", authority(host, port));
    let mut request = url.into_client_request().map_err(io::Error::other)?;
    if let Shown::Header(name, value) = shown {
        // Two versions of the same library are in the tree.
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(io::Error::other)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(io::Error::other)?;
        request.headers_mut().insert(name, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * BODY_BYTES_MAX)
        .max_message_size(Some(BODY_BYTES_MAX))
        .max_frame_size(Some(BODY_BYTES_MAX));
    let stream = connect(host, port).await?;
    let shaken = client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = shaken.map_err(|error| match error {
        Error::Http(response) => {
            let status = response.status();
            io::Error::other(format!("the device refuses the WebSocket: {status}"))
        }
        other => io::Error::other(other.to_string()),
    })?;
    Ok(socket)
}

async fn carry(socket: Socket, Ends { orders, news }: Ends) -> String {
    let (writing, reading) = socket.split();
    let (heard, last_heard) = watch::channel(Instant::now());
    tokio::select! {
        why = read(reading, news, heard) => why,
        why = write(writing, orders, last_heard) => why,
    }
}

async fn read(
    mut socket: SplitStream<Socket>,
    news: mpsc::Sender<News>,
    heard: watch::Sender<Instant>,
) -> String {
    while let Some(message) = socket.next().await {
        heard.send_replace(Instant::now());
        let told = match message {
            Ok(Message::Text(text)) => News::Frame(text.as_str().to_owned()),
            Ok(Message::Binary(_)) => {
                News::Trouble("a binary frame came, where text is spoken".to_owned())
            }
            // The library answers pings by itself.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) => return "the device has closed the WebSocket".to_owned(),
            Err(Error::Capacity(_)) => {
                return format!("a frame is longer than {BODY_BYTES_MAX} bytes");
            }
            Err(error) => return error.to_string(),
        };
        if news.send(told).await.is_err() {
            return String::new();
        }
    }
    "the WebSocket is gone".to_owned()
}

async fn write(
    mut socket: SplitSink<Socket, Message>,
    mut orders: mpsc::Receiver<Order>,
    last_heard: watch::Receiver<Instant>,
) -> String {
    let mut pinged_at = Instant::now();
    loop {
        let heard = *last_heard.borrow();
        let ping_at = heard.max(pinged_at) + PING_AFTER;
        let message = match timeout_at(ping_at, orders.recv()).await {
            Ok(None) => return String::new(),
            Ok(Some(Order::Send(Outgoing::Frame(text)))) => Message::text(text),
            Ok(Some(_)) => continue,
            Err(_) if last_heard.borrow().elapsed() >= GONE_AFTER => {
                return "the device answers no ping".to_owned();
            }
            Err(_) if last_heard.borrow().elapsed() >= PING_AFTER => {
                pinged_at = Instant::now();
                Message::Ping(Vec::new().into())
            }
            Err(_) => continue,
        };
        match timeout(GONE_AFTER, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the device takes no frames".to_owned(),
        }
    }
}
