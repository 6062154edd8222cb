//! Who may ask what: the one table of routes, the guard before them and the answers.
//!
//! The router is made from [`ROUTES`] alone, each with its own check; what is not in the table is
//! 404. On loopback only requests that name this host are answered, so that a foreign page whose
//! name resolves to 127.0.0.1 reads nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use andon_engine::plan::RuleIndex;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::curves;
use super::hub::{Busy, Handle, Now};
use super::token::Token;
use super::told::FrameId;
use super::view::Viewers;
use crate::diagnostics::{self, Boards, Collector, Diagnostics, Unknown};
use crate::history::Archive;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// A body must be there within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// The engine answers within a step; longer means that it is in trouble.
const COMMAND_DEADLINE: Duration = Duration::from_secs(3);
/// Characters of a person's name.
const BY_CHARS_MAX: usize = 64;
/// Characters of a person's reason.
const REASON_CHARS_MAX: usize = 500;
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The board's files: path, type, bytes. What begins as gzip does is sent as such to everybody:
/// there is no browser that does not unpack it, and a radio carries a third.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../../dashboards/web/dist/index.html")),
    ("/app.js", "text/javascript", include_bytes!("../../../dashboards/web/packed/app.js.gz")),
    ("/app.css", "text/css", include_bytes!("../../../dashboards/web/packed/app.css.gz")),
    ("/favicon.svg", "image/svg+xml", include_bytes!("../../../dashboards/web/dist/favicon.svg")),
];
/// How gzip begins (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// Hash of the board's files.
pub fn build() -> Arc<str> {
    static BUILD: LazyLock<Arc<str>> = LazyLock::new(|| {
        let crc = FILES.iter().fold(0, |crc, (.., bytes)| crc32c::crc32c_append(crc, bytes));
        format!("{crc:08x}").into()
    });
    BUILD.clone()
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever reaches the port.
    Anyone,
    /// Whoever has the operator's token.
    Operator,
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    File(usize),
    Health,
    Picture,
    Events,
    History,
    Diagnostics,
    Metrics,
    Why,
    Acknowledge,
    Reset,
}

struct Route(Method, &'static str, Who, Endpoint);

/// Everything that this server answers.
const ROUTES: [Route; 13] = [
    Route(Method::GET, FILES[0].0, Who::Anyone, Endpoint::File(0)),
    Route(Method::GET, FILES[1].0, Who::Anyone, Endpoint::File(1)),
    Route(Method::GET, FILES[2].0, Who::Anyone, Endpoint::File(2)),
    Route(Method::GET, FILES[3].0, Who::Anyone, Endpoint::File(3)),
    Route(Method::GET, "/healthz", Who::Anyone, Endpoint::Health),
    Route(Method::GET, "/api/v1/picture", Who::Anyone, Endpoint::Picture),
    Route(Method::GET, "/api/v1/events", Who::Anyone, Endpoint::Events),
    Route(Method::GET, "/api/v1/history", Who::Anyone, Endpoint::History),
    Route(Method::GET, "/api/v1/diagnostics", Who::Anyone, Endpoint::Diagnostics),
    Route(Method::GET, "/api/v1/why/{machine}/{item}", Who::Anyone, Endpoint::Why),
    Route(Method::GET, "/metrics", Who::Anyone, Endpoint::Metrics),
    Route(Method::POST, "/api/v1/alarms/{id}/acknowledge", Who::Operator, Endpoint::Acknowledge),
    Route(Method::POST, "/api/v1/alarms/{id}/reset", Who::Operator, Endpoint::Reset),
];

/// What a person orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Acknowledge the alarm.
    Acknowledge,
    /// Reset it and the stops that it latched.
    Reset {
        /// Why; never empty.
        reason: Arc<str>,
    },
}

/// A person's order about an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The alarm.
    pub rule: RuleIndex,
    /// Who; never empty.
    pub by: Arc<str>,
    /// What.
    pub order: Order,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The engine will not, and says why.
    Refused(Arc<str>),
    /// The engine cannot be asked.
    Busy,
    /// It is carried out, but the journal does not have it: a restart would undo it.
    Unwritten,
}

/// Hands an order to the engine's safety queue and awaits what became of it.
pub type Commands =
    Arc<dyn Fn(Command) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>> + Send + Sync>;

/// What the routes need.
pub struct App {
    /// Asks the hub.
    pub hub: Handle,
    /// Asks history.
    pub archive: Archive,
    /// Makes snapshots of the gateway.
    pub collector: Collector,
    /// The board's clock.
    pub now: Now,
    /// The operator's.
    pub token: Token,
    /// Carries orders to the engine.
    pub commands: Commands,
    /// Ids of the plan's rules, in its order.
    pub rules: Vec<Arc<str>>,
    /// The site's, of dates in questions.
    pub zone: TimeZone,
    /// Whether the server listens on loopback: then foreign host names are refused.
    pub loopback: bool,
    /// Host names that are ours beside `localhost`, without ports.
    pub names: Vec<String>,
}

/// The router of the table.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for Route(method, path, who, endpoint) in &ROUTES {
        let post = *method == Method::POST;
        let filter = if post { MethodFilter::POST } else { MethodFilter::GET };
        router = router.route(path, endpoint.with(filter, *who));
    }
    router
        .fallback(async || failure(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

impl Endpoint {
    fn with(self, filter: MethodFilter, who: Who) -> MethodRouter<Arc<App>> {
        on(filter, move |State(app): State<Arc<App>>, request: Request| async move {
            if who == Who::Operator && !operator(&app, request.headers()) {
                let mut refused =
                    failure(StatusCode::UNAUTHORIZED, "the operator's token is needed");
                let bearer = HeaderValue::from_static("Bearer");
                refused.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
                return refused;
            }
            match self {
                Self::File(position) => file(position, request.headers()),
                Self::Health => "ok".into_response(),
                Self::Picture => app.hub.picture().await.map_or_else(busy, json_bytes),
                Self::Events => {
                    let since = last_event(request.headers());
                    app.hub.subscribe(since).await.map_or_else(busy, stream)
                }
                Self::History => curves::answer(&app, request.uri().clone()).await,
                Self::Diagnostics => axum::Json(diagnostics(&app).await).into_response(),
                Self::Metrics => {
                    let text = diagnostics::exposition(&diagnostics(&app).await);
                    ([(header::CONTENT_TYPE, diagnostics::CONTENT_TYPE)], text).into_response()
                }
                Self::Why => why(&app, request).await,
                Self::Acknowledge | Self::Reset => command(&app, self, request).await,
            }
        })
    }
}

async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let api = request.uri().path().starts_with("/api/");
    let mut response = if app.loopback && !names_us(&app, request.headers()) {
        failure(StatusCode::FORBIDDEN, "this host name is not the gateway's")
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, if api { "no-store" } else { "no-cache" }),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn names_us(app: &App, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let ours = ["localhost", "127.0.0.1", "[::1]"].into_iter();
    ours.chain(app.names.iter().map(String::as_str)).any(|own| own.eq_ignore_ascii_case(name))
}

fn operator(app: &App, headers: &HeaderMap) -> bool {
    let offered = headers.get(header::AUTHORIZATION).and_then(|offered| offered.to_str().ok());
    let token = offered.and_then(|offered| offered.strip_prefix("Bearer "));
    token.is_some_and(|token| app.token.admits(token))
}

fn file(position: usize, headers: &HeaderMap) -> Response {
    let (_, kind, bytes) = FILES[position];
    let tag = format!("\"{}\"", build());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == *tag);
    let tag = (header::ETAG, tag);
    if known {
        return (StatusCode::NOT_MODIFIED, [tag]).into_response();
    }
    let mut response = ([tag, (header::CONTENT_TYPE, kind.to_owned())], bytes).into_response();
    if bytes.starts_with(&GZIP) {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The last frame that a board says it has heard.
fn last_event(headers: &HeaderMap) -> Option<FrameId> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(FrameId::parse)
}

fn stream(frames: tokio::sync::mpsc::Receiver<Bytes>) -> Response {
    let frames = futures_util::stream::unfold(frames, async |mut frames| {
        let frame = frames.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), frames))
    });
    let kind = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    (kind, Body::from_stream(frames)).into_response()
}

async fn diagnostics(app: &App) -> Diagnostics {
    let boards = app.hub.viewers().await.ok();
    let boards =
        boards.map(|Viewers { connected, dropped, missed }| Boards { connected, dropped, missed });
    app.collector.diagnostics((app.now)(), boards)
}

async fn why(app: &App, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let named = axum::RequestPartsExt::extract::<Path<(String, String)>>(&mut parts).await;
    let Ok(Path((machine, item))) = named else {
        return failure(StatusCode::BAD_REQUEST, "the names are not UTF-8");
    };
    let index = match app.collector.find(&machine, &item) {
        Ok(index) => index,
        Err(why) => return unknown(why),
    };
    let heard = match app.hub.heard(index).await {
        Ok(heard) => heard.unwrap_or_default(),
        Err(error) => return busy(error),
    };
    match app.collector.explain(index, heard, (app.now)().boot) {
        Some(explanation) => axum::Json(explanation).into_response(),
        None => failure(StatusCode::NOT_FOUND, "there is no such item"),
    }
}

#[derive(Deserialize)]
struct CommandBody {
    by: String,
    #[serde(default)]
    reason: String,
}

async fn command(app: &App, endpoint: Endpoint, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let id = axum::RequestPartsExt::extract::<Path<String>>(&mut parts).await;
    let rule = id.ok().and_then(|Path(id)| app.rules.iter().position(|rule| **rule == *id));
    let Some(rule) = rule.and_then(|rule| u16::try_from(rule).ok()).map(RuleIndex) else {
        return failure(StatusCode::NOT_FOUND, "there is no alarm of this id");
    };
    let body = tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, BODY_BYTES_MAX));
    let bytes = match body.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return failure(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Err(_) => return failure(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let Ok(CommandBody { by, reason }) = serde_json::from_slice(&bytes) else {
        return failure(StatusCode::BAD_REQUEST, "the body must be JSON with \"by\"");
    };
    let Some(by) = words(&by, BY_CHARS_MAX) else {
        return failure(StatusCode::BAD_REQUEST, "\"by\" must say who, in at most 64 characters");
    };
    let order = match (endpoint, words(&reason, REASON_CHARS_MAX)) {
        (Endpoint::Reset, Some(reason)) => Order::Reset { reason },
        (Endpoint::Reset, None) => {
            let what = "\"reason\" must say why, in at most 500 characters";
            return failure(StatusCode::BAD_REQUEST, what);
        }
        _ => Order::Acknowledge,
    };
    let outcome = (app.commands)(Command { rule, by, order });
    match tokio::time::timeout(COMMAND_DEADLINE, outcome).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(Refusal::Refused(why))) => failure(StatusCode::CONFLICT, &why),
        Ok(Err(Refusal::Busy)) => busy(Busy),
        Ok(Err(Refusal::Unwritten)) => {
            let what = "it is done, but not on the disk yet: a restart now would undo it";
            failure(StatusCode::INSUFFICIENT_STORAGE, what)
        }
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "the engine did not answer; look again"),
    }
}

/// What a person wrote, when it says something, is not too long and has no control characters.
fn words(written: &str, chars_max: usize) -> Option<Arc<str>> {
    let written = written.trim();
    let fits = !written.is_empty() && written.chars().count() <= chars_max;
    (fits && !written.chars().any(char::is_control)).then(|| written.into())
}

fn json_bytes(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

pub(super) fn busy(error: Busy) -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
}

/// There is no such machine or item.
pub(super) fn unknown(Unknown { error, hint }: Unknown) -> Response {
    let told = axum::Json(json!({ "error": error, "hint": hint }));
    (StatusCode::NOT_FOUND, told).into_response()
}

pub(super) fn failure(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(json!({ "error": error }))).into_response()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
pub(super) mod tests;
