//! The table of routes against the router, without a socket.

use std::sync::Mutex;

use andon_engine::time::BootTime;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::super::testing::{collector, rules, shop};
use super::super::{Hub, Moment, Picture, Status};
use super::*;
use crate::history::{Archive, Recent};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Desk {
    service: TowerToHyperService<Router>,
    orders: Arc<Mutex<Vec<Command>>>,
    _feed: super::super::Feed,
}

/// What the routes need, around a hub that runs as long as the feed is kept.
pub(in super::super) fn app() -> (App, super::super::Feed) {
    let plan = shop();
    let started = BootTime::from_millis(0);
    let picture = Picture::new(&plan, &rules(), build(), started);
    let (_, status) = watch::channel(Status::new(&plan));
    let now: Now = Arc::new(|| Moment { boot: BootTime::from_millis(1), wall_ms: None });
    let (hub, feed, handle) = Hub::new(picture, Recent::new(&plan), status, now.clone());
    tokio::spawn(hub.run());
    let app = App {
        archive: Archive::in_folder(std::path::Path::new("/nonexistent")),
        hub: handle,
        collector: collector(plan),
        now,
        token: Token::of(SECRET),
        commands: Arc::new(|_| Box::pin(async { Ok(()) })),
        rules: rules(),
        zone: jiff::tz::TimeZone::UTC,
        loopback: true,
        names: vec!["andon.local".into()],
    };
    (app, feed)
}

fn desk() -> Desk {
    let (mut app, feed) = app();
    let orders: Arc<Mutex<Vec<Command>>> = Arc::default();
    let taken = orders.clone();
    app.commands = Arc::new(move |command| {
        taken.lock().unwrap().push(command);
        Box::pin(async { Ok(()) })
    });
    Desk { service: TowerToHyperService::new(router(Arc::new(app))), orders, _feed: feed }
}

impl Desk {
    async fn status(&self, request: axum::http::request::Builder, body: &str) -> StatusCode {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.service.call(request).await.unwrap().status()
    }
}

fn request(method: &Method, path: &str, token: Option<&str>) -> axum::http::request::Builder {
    let path = path.replace("{id}", "laser-hot");
    let path = path.replace("{machine}", "laser").replace("{item}", "temperature");
    let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

const RESET: &str = "/api/v1/alarms/laser-hot/reset";

#[tokio::test]
async fn the_table_is_what_the_router_does() {
    let desk = desk();
    let body = r#"{"by":"Ann","reason":"cooled down"}"#;
    let query = "?machine=laser&item=temperature&span_s=60&buckets=2";
    for Route(method, path, who, _) in &ROUTES {
        let path =
            &if path.ends_with("history") { format!("{path}{query}") } else { (*path).into() };
        for token in [None, Some("wrong"), Some(SECRET)] {
            let status = desk.status(request(method, path, token), body).await;
            let admitted = *who == Who::Anyone || token == Some(SECRET);
            assert_eq!(status.is_success(), admitted, "{method} {path} {token:?} {status}");
            assert!(admitted || status == StatusCode::UNAUTHORIZED);
        }
        for other in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let status = desk.status(request(&other, path, Some(SECRET)), body).await;
            assert_eq!(status.is_success(), other == *method, "{other} {path} {status}");
        }
    }
    assert!(!desk.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_order_that_a_restart_would_undo_is_no_success() {
    let (mut app, _feed) = app();
    app.commands = Arc::new(|_| Box::pin(async { Err(Refusal::Unwritten) }));
    let service = TowerToHyperService::new(router(Arc::new(app)));
    let body = Body::from(r#"{"by":"Ann","reason":"cooled down"}"#);
    let reset = request(&Method::POST, RESET, Some(SECRET)).body(body).unwrap();
    assert_eq!(service.call(reset).await.unwrap().status(), StatusCode::INSUFFICIENT_STORAGE);
}

#[tokio::test]
async fn years_can_be_asked_about_before_there_are_any() {
    let desk = desk();
    let path = "/api/v1/history?series=laser.temperature&from=2026-01-01T00:00:00Z&buckets=2";
    assert_eq!(desk.status(request(&Method::GET, path, None), "").await, StatusCode::OK);
    let path = "/api/v1/history?series=laser.temperature";
    assert_eq!(desk.status(request(&Method::GET, path, None), "").await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_series_that_is_neither_configured_nor_in_history_is_not_found() {
    let desk = desk();
    for query in [
        "series=laser.temperatur&from=-1h",
        "series=laser.temperature,zzz.temperature&from=-1h",
        "machine=laser&item=temperatur&from=-1h",
        "machine=laser&item=temperatur&span_s=60&buckets=2",
    ] {
        let path = format!("/api/v1/history?{query}");
        let asked = request(&Method::GET, &path, None).body(Body::empty()).unwrap();
        let answer = desk.service.call(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{query}");
        let told = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        let hint = if query.contains("zzz") { None } else { Some("did you mean \"temperature\"?") };
        assert_eq!(told["hint"].as_str(), hint, "{query}: {told}");
        assert!(told["error"].is_string(), "{query}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_was_heard() {
    let desk = desk();
    let first = async |last: Option<&str>| {
        let mut request = request(&Method::GET, "/api/v1/events", None);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = desk.service.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let mut frames = answer.into_body().into_data_stream();
        let frame = futures_util::StreamExt::next(&mut frames).await.unwrap().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    let whole = first(None).await;
    let (id, _) = whole.strip_prefix("id: ").unwrap().split_once('\n').unwrap();
    assert!(whole.contains("event: picture"), "{whole}");
    // From the beginning of this run the gateway's own state has been told, and nothing else.
    let (run, _) = id.split_once('-').unwrap();
    let resumed = first(Some(&format!("{run}-0"))).await;
    assert!(resumed.contains("event: gateway") || resumed.contains("event: tick"), "{resumed}");
    for rubbish in ["", "12", "0000000000000000-0", "-1"] {
        assert!(first(Some(rubbish)).await.contains("event: picture"), "{rubbish}");
    }
}

#[tokio::test]
async fn foreign_hosts_and_unknown_paths_are_refused() {
    let desk = desk();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("ANDON.local", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ] {
        let request = Request::builder().uri("/api/v1/picture").header("host", host);
        assert_eq!(desk.status(request, "").await.as_u16(), status, "{host}");
    }
    for path in ["/nothing", "/../etc/passwd", "/api/v1/", "/index.html"] {
        let status = desk.status(request(&Method::GET, path, None), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn rubbish_orders_reach_nobody() {
    let desk = desk();
    let huge = format!(r#"{{"by":"Ann","reason":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    for (body, status) in [
        (r#"{"by":"Ann"}"#, 400),
        (r#"{"by":"Ann","reason":"  "}"#, 400),
        (r#"{"by":"","reason":"cooled"}"#, 400),
        (r#"{"by":"A\nB","reason":"cooled"}"#, 400),
        ("[[[[", 400),
        (huge.as_str(), 413),
    ] {
        let request = request(&Method::POST, RESET, Some(SECRET));
        assert_eq!(desk.status(request, body).await.as_u16(), status, "{body}");
    }
    let elsewhere = RESET.replace("laser-hot", "nobody");
    let request = request(&Method::POST, &elsewhere, Some(SECRET));
    let body = r#"{"by":"Ann","reason":"cooled"}"#;
    assert_eq!(desk.status(request, body).await, StatusCode::NOT_FOUND);
    assert!(desk.orders.lock().unwrap().is_empty());
}
