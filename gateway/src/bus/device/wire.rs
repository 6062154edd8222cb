//! A standing connection to a device: orders go in, news comes out, both bounded. What lies
//! between is a task of the protocol's kind (`stream`, `http`, `websocket`, `broker`, `gpio`).
//!
//! A connection that is closed takes its queues with it: nothing that it still brings can be
//! heard by whoever opens the next one.

use std::future::Future;
use std::io;
use std::pin::Pin;

use andon_adapters::device::{Heard, Outgoing, REQUESTS_MAX, Response};
use andon_engine::value::Unavailable;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Orders that may wait: what one step may send, beside what waits already.
pub(super) const ORDERS_MAX: usize = 2 * SENDS_MAX;
/// Most that one step may send; a device that wants more is at fault.
pub(super) const SENDS_MAX: usize = 4 * REQUESTS_MAX;
/// News that may wait; then the connection is not read any further.
const NEWS_MAX: usize = 64;

/// Opening under way.
pub(super) type Opening = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;
/// Makes an [`Opening`] whenever the connection is needed anew.
pub(super) type Opener = Box<dyn FnMut() -> Opening + Send>;

/// What the connection is told.
#[derive(Debug)]
pub(super) enum Order {
    /// To send.
    Send(Outgoing),
    /// The period has come round: for connections that are asked without a question.
    Due,
    /// A stop follows: whatever was ordered before gives way to it.
    Hurry,
}

/// What the connection brings.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// Bytes of a stream.
    Bytes(Vec<u8>),
    /// A WebSocket text frame.
    Frame(String),
    /// The response to the oldest request without one.
    Response {
        /// The status code.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// It is a part of an answer that goes on.
        is_part: bool,
    },
    /// The oldest request without response failed; in words as well.
    NoResponse(Unavailable, String),
    /// The WebSocket beside the requests stands.
    Listening,
    /// There is none; the words say why.
    NotListening(String),
    /// A message of a topic.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
        /// The broker kept it from before.
        retained: bool,
    },
    /// A GPIO line stands at this level.
    Level {
        /// Its position among the lines.
        line: usize,
        /// Whether it is on.
        on: bool,
    },
    /// Something was thrown away; the words say what.
    Trouble(String),
    /// The connection is gone; the words say why. The last of all news.
    Lost(String),
}

impl News {
    /// What the device hears of it, if anything. An opened or lost connection is its owner's news.
    pub(super) fn heard(&self) -> Option<Heard<'_>> {
        Some(match self {
            Self::Bytes(bytes) => Heard::Bytes(bytes),
            Self::Frame(text) => Heard::Frame(text),
            &Self::Response { status, ref body, is_part } => {
                Heard::Response(Response { status, body, is_part })
            }
            Self::NoResponse(why, _) => Heard::NoResponse(*why),
            Self::Message { topic, payload, retained } => {
                Heard::Message { topic, payload, retained: *retained }
            }
            Self::Listening => Heard::Listening(Ok(())),
            Self::NotListening(why) => Heard::Listening(Err(why)),
            Self::Level { line, on } => Heard::Level { line: *line, on: *on },
            Self::Trouble(_) | Self::Lost(_) => return None,
        })
    }
}

/// The task's end of a connection.
pub(super) struct Ends {
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) news: mpsc::Sender<News>,
}

/// The owner's end of a connection. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Wire {
    orders: mpsc::Sender<Order>,
    news: mpsc::Receiver<News>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Runs a connection; `carry` returns why it ended.
    pub(super) fn start<F>(carry: impl FnOnce(Ends) -> F) -> Self
    where
        F: Future<Output = String> + Send + 'static,
    {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (told, news) = mpsc::channel(NEWS_MAX);
        let carrying = carry(Ends { orders: ordered, news: told.clone() });
        let task = tokio::spawn(async move {
            let why = carrying.await;
            // Whoever has closed the connection does not want to know.
            told.send(News::Lost(why)).await.ok();
        });
        Self { orders, news, task }
    }

    /// Hands an order over; `false` when the connection takes no more.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// The next news. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        let news = self.news.recv().await;
        news.unwrap_or_else(|| News::Lost("the connection has ended".to_owned()))
    }

    /// Closes the connection and waits until its descriptor is closed as well: a port that is
    /// held exclusively cannot be opened twice.
    pub(super) async fn close(mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
