//! A device that is asked over HTTP: one request under way at a time, the others wait in order. Beside
//! them a device may push through a WebSocket of the same host (`Side`), whose end ends nothing else.
//!
//! A connection is reused while the device keeps it. Redirects are answers like any other: a
//! device that sends its clients elsewhere must not get the key carried there. Before a stop, what
//! waits is given up and what is under way has [`YIELD_WITHIN`] left.
//!
//! An answer in parts goes on until the device ends it or the next request is sent.

use std::collections::VecDeque;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::{
    ANSWER_WITHIN, BODY_BYTES_MAX, Method, Outgoing, REQUESTS_MAX, Request,
};
use andon_adapters::protocol::Login;
use andon_engine::value::Unavailable;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use super::CONNECT_WITHIN;
use super::login::Shown;
use super::parts::{self, Parts};
use super::websocket;
use super::wire::{Ends, News, ORDERS_MAX, Opener, Opening, Order, Wire};
use crate::config::plan::Credentials;

/// What a request that is under way has left when a stop comes.
const YIELD_WITHIN: Duration = Duration::from_millis(250);
/// An idle connection is closed after this time: devices close theirs after 5 s and more, and a
/// request that meets the closing is lost.
const IDLE: Duration = Duration::from_secs(4);

/// A host name or address as it stands in a URL.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The opener of a device that is asked over HTTP. Nothing is connected before the first request.
pub(super) fn opener(host: &str, port: u16, login: Login, credentials: &Credentials) -> Opener {
    let (host, credentials) = (host.to_owned(), credentials.clone());
    Box::new(move || {
        let base = format!("http://{}", authority(&host, port));
        let session = session(base, login, &credentials);
        let (host, credentials) = (host.clone(), credentials.clone());
        let opens = move |path| websocket::opener(&host, port, path, login, &credentials)();
        let side = Side { opens: Box::new(opens), state: Listening::Not };
        Box::pin(async move {
            let session = Arc::new(session?);
            Ok(Wire::start(|ends| carry(session, side, ends)))
        })
    })
}

/// The WebSocket beside the requests.
struct Side {
    opens: Box<dyn Fn(&'static str) -> Opening + Send>,
    state: Listening,
}

enum Listening {
    Not,
    Opening(Opening),
    Open(Wire),
}

impl Side {
    /// Opens it at `path`; one that was open is closed.
    fn listen(&mut self, path: &'static str) {
        self.state = Listening::Opening((self.opens)(path));
    }

    /// Sends a frame; one for which there is no WebSocket, or no room, is lost with it.
    fn send(&mut self, frame: Outgoing) {
        if let Listening::Open(wire) = &self.state {
            wire.order(Order::Send(frame));
        }
    }

    /// What it brings, or what becomes of it. Cancel safe.
    async fn next(&mut self) -> News {
        let why = match &mut self.state {
            Listening::Not => return std::future::pending().await,
            Listening::Opening(opening) => match opening.await {
                Ok(wire) => {
                    self.state = Listening::Open(wire);
                    return News::Listening;
                }
                Err(error) => error.to_string(),
            },
            Listening::Open(wire) => match wire.next().await {
                News::Lost(why) => why,
                news => return news,
            },
        };
        self.state = Listening::Not;
        News::NotListening(why)
    }
}

struct Session {
    client: Client,
    base: String,
    shown: Shown,
}

fn session(base: String, login: Login, credentials: &Credentials) -> io::Result<Session> {
    let client = Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .redirect(Policy::none())
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .no_proxy()
        .build()
        .map_err(io::Error::other)?;
    Ok(Session { client, base, shown: Shown::of(login, credentials)? })
}

/// A request that waits, or one that is not sent any more.
enum Waiting {
    Ask(Request),
    Never(&'static str),
}

/// Why there is no response.
pub(super) struct Failure(pub(super) Unavailable, pub(super) String);

/// What has come, and where more of the same answer will come from.
type Asking = Pin<Box<dyn Future<Output = (News, Option<Parts>)> + Send>>;

async fn carry(session: Arc<Session>, mut side: Side, mut ends: Ends) -> String {
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut asking: Option<Asking> = None;
    let mut yields_at: Option<Instant> = None;
    let mut goes_on = false;
    loop {
        if asking.is_none() {
            yields_at = None;
            match waiting.pop_front() {
                Some(Waiting::Ask(request)) => asking = Some(ask(session.clone(), request)),
                Some(Waiting::Never(why)) => {
                    let news = News::NoResponse(Unavailable::Timeout, why.to_owned());
                    if ends.news.send(news).await.is_err() {
                        return String::new();
                    }
                    continue;
                }
                None => {}
            }
        }
        let until = yields_at.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            order = ends.orders.recv() => match order {
                None => return String::new(),
                Some(Order::Hurry) => {
                    let given_up = || Waiting::Never("given up for a stop");
                    waiting.iter_mut().for_each(|waiting| *waiting = given_up());
                    yields_at = Some(Instant::now() + YIELD_WITHIN);
                }
                Some(Order::Send(Outgoing::Request(request))) => {
                    // What follows an answer in parts ends it.
                    asking.take_if(|_| std::mem::take(&mut goes_on));
                    if waiting.len() >= ORDERS_MAX {
                        return "more is asked than is ever answered".to_owned();
                    }
                    waiting.push_back(if waiting.len() < REQUESTS_MAX {
                        Waiting::Ask(request)
                    } else {
                        Waiting::Never("too many requests are waiting")
                    });
                }
                Some(Order::Send(Outgoing::Listen(path))) => side.listen(path),
                Some(Order::Send(frame @ Outgoing::Frame(_))) => side.send(frame),
                Some(Order::Send(_) | Order::Due) => {}
            },
            (news, parts) = next(&mut asking) => {
                // Nor does it go on when something else waits already.
                let parts = parts.filter(|_| waiting.is_empty());
                goes_on = parts.is_some();
                asking = parts.map(part);
                if ends.news.send(news).await.is_err() {
                    return String::new();
                }
            }
            // After the answers: a device that tells without end must not hold up a stop.
            news = side.next() => {
                if ends.news.send(news).await.is_err() {
                    return String::new();
                }
            }
            () = sleep_until(until), if yields_at.is_some() && asking.is_some() => {
                (asking, goes_on) = (None, false);
                waiting.push_front(Waiting::Never("given up for a stop"));
            }
        }
    }
}

async fn next(asking: &mut Option<Asking>) -> (News, Option<Parts>) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

fn ask(session: Arc<Session>, request: Request) -> Asking {
    Box::pin(async move {
        let answer = timeout(ANSWER_WITHIN, session.ask(&request)).await;
        match answer.map_err(late).and_then(|answer| answer) {
            Ok(Answer { status, body, rest }) => {
                (News::Response { status, body, is_part: rest.is_some() }, rest)
            }
            Err(Failure(why, words)) => (News::NoResponse(why, words), None),
        }
    })
}

/// The next part of an answer; an empty one is its end.
fn part(mut parts: Parts) -> Asking {
    Box::pin(async move {
        let part = timeout(ANSWER_WITHIN, parts.next()).await;
        let (status, part) = (parts.status(), part.ok().and_then(Result::ok));
        let more = part.is_some().then_some(parts);
        (News::Response { status, body: part.unwrap_or_default(), is_part: true }, more)
    })
}

fn late(_: Elapsed) -> Failure {
    Failure(Unavailable::Timeout, "no answer in time".to_owned())
}

/// An answer, or its first part and where more will come from.
struct Answer {
    status: u16,
    body: Vec<u8>,
    rest: Option<Parts>,
}

impl Session {
    async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let (response, answered) = self.send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Shown::Digest(digest) = &self.shown
            && digest.challenged(response.headers(), answered)
        {
            return body_of(self.send(request).await?.0).await;
        }
        body_of(response).await
    }

    /// Sends once; says as well whether a challenge was answered with it.
    async fn send(&self, request: &Request) -> Result<(Response, bool), Failure> {
        if !request.path.starts_with('/') {
            // It would become part of the host's name.
            let words = "a path must begin with a slash".to_owned();
            return Err(Failure(Unavailable::Refused, words));
        }
        let url = format!("{}{}", self.base, request.path);
        let mut asking = match request.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url),
            Method::Put => self.client.put(url),
            Method::Delete => self.client.delete(url),
        };
        for (name, value) in &request.headers {
            asking = asking.header(*name, value);
        }
        if let Some(body) = &request.body {
            asking = asking.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut answered = false;
        match &self.shown {
            Shown::Nothing => {}
            Shown::Header(name, value) => asking = asking.header(name, value),
            Shown::Basic(user, password) => asking = asking.basic_auth(user, Some(&password.0)),
            Shown::Digest(digest) => {
                if let Some(answer) = digest.answer(request) {
                    asking = asking.header(AUTHORIZATION, answer);
                    answered = true;
                }
            }
        }
        let response = asking.send().await.map_err(|error| failure(&error))?;
        Ok((response, answered))
    }
}

/// The body, as far as it is not too long, or its parts. What is too long is no answer.
async fn body_of(mut response: Response) -> Result<Answer, Failure> {
    if let Some(delimiter) = parts::delimiter(&response) {
        let mut parts = Parts::of(response, delimiter);
        let body = parts.next().await?;
        return Ok(Answer { status: parts.status(), body, rest: Some(parts) });
    }
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + part.len() > BODY_BYTES_MAX {
            let words = format!("the answer is longer than {BODY_BYTES_MAX} bytes");
            return Err(Failure(Unavailable::Garbled, words));
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { status, body, rest: None })
}

/// The reason in the words of whoever knows it best: the innermost cause. Without the URL.
pub(super) fn failure(error: &reqwest::Error) -> Failure {
    let why = if error.is_timeout() {
        Unavailable::Timeout
    } else if error.is_builder() {
        Unavailable::Refused
    } else {
        Unavailable::Disconnected
    };
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let words = cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    Failure(why, words)
}
