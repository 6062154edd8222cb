//! A WebSocket with text frames, and a key in the request that opens it.

use andon_adapters::device::{ANSWER_WITHIN, BODY_BYTES_MAX};
use andon_adapters::protocol::Login;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::connection::Event;
use super::stream::CONNECT_WITHIN;
use crate::config::plan::DevicePlan;

/// An open WebSocket.
pub(super) struct WebSocketLink(WebSocketStream<TcpStream>);

impl WebSocketLink {
    pub(super) async fn open(
        host: &str,
        port: u16,
        path: &str,
        plan: &DevicePlan,
    ) -> Result<Self, String> {
        let connecting = TcpStream::connect((host, port));
        let stream = match timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err("the host does not answer".to_owned()),
        };
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let address = format!("ws://{host}:{port}{path}");
        let mut request = address.into_client_request().map_err(|error| error.to_string())?;
        if let (Login::Header(name), Some(key)) = (plan.protocol.login, &plan.credentials.key) {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(&key.0);
            request.headers_mut().insert(name, value.map_err(|_| "the key is not printable")?);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(BODY_BYTES_MAX))
            .max_frame_size(Some(BODY_BYTES_MAX));
        let opening = client_async_with_config(request, stream, Some(config));
        match timeout(ANSWER_WITHIN, opening).await {
            Ok(Ok((socket, _))) => Ok(Self(socket)),
            Ok(Err(Error::Http(response))) if response.status().as_u16() == 401 => {
                Err("401: the key is not accepted, or one is needed".to_owned())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not open a WebSocket".to_owned()),
        }
    }

    /// The next text frame; pings are answered by the library when the next is read.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Event::Frame(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => {
                    return Event::Closed("the other end has closed".to_owned());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Event::Closed(error.to_string()),
            }
        }
    }

    pub(super) async fn send(&mut self, text: String) -> Result<(), String> {
        match timeout(ANSWER_WITHIN, self.0.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("it takes no frames".to_owned()),
        }
    }
}
