//! HTTP requests, one after the other, with the credentials that the device wants to see.
//!
//! There is no connection to lose: a request that fails says so, and the next is tried at the
//! next period. Redirects are not followed; a body longer than [`BODY_BYTES_MAX`] is refused while
//! it comes in.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use andon_adapters::device::{ANSWER_WITHIN, BODY_BYTES_MAX, Method, REQUESTS_MAX, Request};
use andon_adapters::protocol::Login;
use andon_engine::value::Unavailable;
use digest_auth::{AuthContext, HttpMethod, WwwAuthenticateHeader};
use reqwest::{Client, header};

use super::connection::Event;
use super::stream::CONNECT_WITHIN;
use crate::config::plan::{Credentials, DevicePlan, Place};

type Answering = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The way to one device's web server.
pub(super) struct HttpLink {
    server: Arc<Server>,
    waiting: VecDeque<Request>,
    answering: Option<Answering>,
}

struct Server {
    client: Client,
    /// `http://host:port`
    base: String,
    login: Login,
    credentials: Credentials,
    /// The server's last challenge: its nonce is used until it goes stale.
    challenge: Mutex<Option<WwwAuthenticateHeader>>,
}

impl HttpLink {
    pub(super) fn new(plan: &DevicePlan) -> Result<Self, String> {
        let Place::Net { host, port } = &plan.place else {
            return Err("this device is not at a host".to_owned());
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let client = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let server = Server {
            client,
            base: format!("http://{host}:{port}"),
            login: plan.protocol.login,
            credentials: plan.credentials.clone(),
            challenge: Mutex::new(None),
        };
        Ok(Self { server: Arc::new(server), waiting: VecDeque::new(), answering: None })
    }

    /// Queues a request.
    pub(super) fn send(&mut self, request: Request) -> Result<(), String> {
        if self.waiting.len() >= REQUESTS_MAX {
            return Err(format!("more than {REQUESTS_MAX} requests wait"));
        }
        self.waiting.push_back(request);
        Ok(())
    }

    /// The next response; never resolves while nothing was asked.
    pub(super) async fn next(&mut self) -> Event {
        if self.answering.is_none() {
            let Some(request) = self.waiting.pop_front() else {
                return std::future::pending().await;
            };
            self.answering = Some(Box::pin(answer(self.server.clone(), request)));
        }
        let Some(answering) = &mut self.answering else { return std::future::pending().await };
        let event = answering.await;
        self.answering = None;
        event
    }
}

async fn answer(server: Arc<Server>, request: Request) -> Event {
    match server.ask(&request).await {
        Ok((status, body)) => Event::Response { status, body },
        Err((why, words)) => Event::NoResponse { why, words },
    }
}

type Failure = (Unavailable, String);

impl Server {
    async fn ask(&self, request: &Request) -> Result<(u16, Vec<u8>), Failure> {
        let response = self.send(request).await?;
        let challenged = response.status() == reqwest::StatusCode::UNAUTHORIZED;
        if !challenged || !self.answers_challenges() || !self.take_challenge(&response) {
            return read(response).await;
        }
        // Once: a server that asks again does not accept what it was shown.
        read(self.send(request).await?).await
    }

    async fn send(&self, request: &Request) -> Result<reqwest::Response, Failure> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.client.request(method, format!("{}{}", self.base, request.path));
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        self.show_credentials(builder, request).send().await.map_err(failure)
    }

    fn show_credentials(
        &self,
        builder: reqwest::RequestBuilder,
        request: &Request,
    ) -> reqwest::RequestBuilder {
        let Credentials { user, password, key } = &self.credentials;
        match (self.login, key) {
            (Login::Header(name) | Login::DigestOrHeader(_, name), Some(key)) => {
                builder.header(name, &key.0)
            }
            (Login::Basic, _) => {
                let password = password.as_ref().map(|password| &password.0);
                builder.basic_auth(user.as_deref().unwrap_or_default(), password)
            }
            (Login::Digest(_) | Login::DigestOrHeader(..), _) => match self.digest(request) {
                Some(answer) => builder.header(header::AUTHORIZATION, answer),
                None => builder,
            },
            _ => builder,
        }
    }

    fn answers_challenges(&self) -> bool {
        let digest = matches!(self.login, Login::Digest(_) | Login::DigestOrHeader(..));
        digest && self.credentials.password.is_some() && self.credentials.key.is_none()
    }

    /// Keeps the challenge of a 401; whether there was one.
    fn take_challenge(&self, response: &reqwest::Response) -> bool {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let mut headers = headers.iter().filter_map(|header| header.to_str().ok());
        let challenge = headers.find_map(|text| digest_auth::parse(text).ok());
        let found = challenge.is_some();
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = challenge;
        found
    }

    fn digest(&self, request: &Request) -> Option<String> {
        let usual = match self.login {
            Login::Digest(user) | Login::DigestOrHeader(user, _) => user,
            _ => return None,
        };
        let mut challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        let user = self.credentials.user.as_deref().unwrap_or(usual);
        let password = &self.credentials.password.as_ref()?.0;
        let method = match request.method {
            Method::Get => HttpMethod::GET,
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
            Method::Delete => HttpMethod::DELETE,
        };
        let body = request.body.as_ref().map(String::as_bytes);
        let context =
            AuthContext::new_with_method(user, password.as_str(), &request.path, body, method);
        // Each answer counts the nonce on: a server may refuse a count that it has seen.
        challenge.as_mut()?.respond(&context).ok().map(|answer| answer.to_header_string())
    }
}

/// Reads a body, up to its bound.
async fn read(mut response: reqwest::Response) -> Result<(u16, Vec<u8>), Failure> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            let words = format!("its answer is longer than {BODY_BYTES_MAX} bytes");
            return Err((Unavailable::Garbled, words));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// Why a request failed; the address is left out, which the reader knows.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failure(error: reqwest::Error) -> Failure {
    let why = if error.is_timeout() {
        Unavailable::Timeout
    } else if error.is_connect() {
        Unavailable::Disconnected
    } else {
        Unavailable::Garbled
    };
    // The causes say what happened; the outermost only says that a request failed.
    let mut words = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    let timeout = "no answer within 5 s".to_owned();
    (why, if why == Unavailable::Timeout || words.is_empty() { timeout } else { words })
}
