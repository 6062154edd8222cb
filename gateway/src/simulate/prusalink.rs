//! A printer as PrusaLink tells of it, over HTTP: what it shows is set from outside, nothing moves
//! or heats by itself.
//!
//! Answered are `GET /api/v1/status` and `GET /api/v1/job` (204 without a job), with the key in
//! `X-Api-Key` and 401 without. It takes no orders: whatever else is asked is not found. Facts: the
//! OpenAPI description of PrusaLink, version 1.0.0-draft.
//!
//! Bound: it remembers what was shown last, and is served as the board is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::line::listen_on;
use crate::http::serve_routes;

/// What a printer shows; temperatures in °C, actual and target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PrinterShows {
    /// A word of the description: `PRINTING`.
    pub(crate) state: &'static str,
    pub(crate) nozzle: [f64; 2],
    pub(crate) bed: [f64; 2],
    /// Height of the nozzle above the bed, mm.
    pub(crate) height: f64,
    pub(crate) job: Option<JobShows>,
}

/// The job of a printer, until somebody clears the bed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct JobShows {
    pub(crate) id: u64,
    pub(crate) file: &'static str,
    /// In percent.
    pub(crate) progress: f64,
    /// Seconds.
    pub(crate) printing: u64,
    pub(crate) remaining: u64,
}

/// A served printer; it is gone when this goes.
#[derive(Debug)]
pub(crate) struct PrusaLink {
    shows: Arc<Mutex<PrinterShows>>,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

/// What a request is judged and answered by.
#[derive(Clone)]
struct Printer {
    key: Arc<str>,
    shows: Arc<Mutex<PrinterShows>>,
}

impl PrusaLink {
    /// Serves a printer on a free loopback port, for whoever has `key`.
    ///
    /// # Errors
    /// When there is no port.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn start(key: &str, shows: PrinterShows) -> io::Result<Self> {
        let listener: TcpListener = listen_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let shows = Arc::new(Mutex::new(shows));
        let printer = Printer { key: key.into(), shows: shows.clone() };
        let answer = move |uri: Uri, headers: HeaderMap| {
            let answer = printer.answer(&uri, &headers);
            async move { answer }
        };
        let routes = Router::new().fallback(answer);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            serve_routes(listener, routes, pin!(std::future::pending())).await;
        });
        Ok(Self { shows, address, _serving: serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows from now on.
    pub(crate) fn show(&self, shows: PrinterShows) {
        *lock(&self.shows) = shows;
    }
}

fn lock(shows: &Mutex<PrinterShows>) -> MutexGuard<'_, PrinterShows> {
    shows.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Printer {
    fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let key = headers.get("x-api-key").map(HeaderValue::as_bytes);
        if key != Some(self.key.as_bytes()) {
            return refusal(StatusCode::UNAUTHORIZED);
        }
        let shows = *lock(&self.shows);
        let document = match (uri.path(), shows.job) {
            ("/api/v1/status", _) => shows.status(),
            ("/api/v1/job", None) => return StatusCode::NO_CONTENT.into_response(),
            ("/api/v1/job", Some(job)) => job.document(shows.state),
            _ => return refusal(StatusCode::NOT_FOUND),
        };
        axum::Json(document).into_response()
    }
}

fn refusal(status: StatusCode) -> Response {
    let words = json!({ "title": status.as_str(), "text": status.canonical_reason() });
    (status, axum::Json(words)).into_response()
}

impl PrinterShows {
    fn status(&self) -> Json {
        let mut status = json!({
            "printer": {
                "state": self.state,
                "temp_nozzle": self.nozzle[0],
                "target_nozzle": self.nozzle[1],
                "temp_bed": self.bed[0],
                "target_bed": self.bed[1],
                "axis_z": self.height,
                "flow": 100,
                "speed": 100,
                "status_printer": { "ok": true, "message": "OK" },
            },
            "storage": { "name": "usb", "path": "/usb", "read_only": false },
        });
        if let Some(job) = self.job {
            status["job"] = job.times();
        }
        status
    }
}

impl JobShows {
    /// What a status and a job both tell.
    fn times(&self) -> Json {
        json!({
            "id": self.id,
            "progress": self.progress,
            "time_printing": self.printing,
            "time_remaining": self.remaining,
        })
    }

    fn document(&self, state: &str) -> Json {
        let mut document = self.times();
        document["state"] = state.into();
        document["file"] = json!({ "name": self.file, "display_name": self.file, "path": "/usb" });
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_and_without_a_job_there_is_no_content() {
        let (nozzle, bed) = ([24.0, 0.0], [24.0, 0.0]);
        let idle = PrinterShows { state: "IDLE", nozzle, bed, height: 0.0, job: None };
        let printer = Printer { key: "secret".into(), shows: Arc::new(Mutex::new(idle)) };
        let ask = |path: &'static str, key: &'static str| {
            let key = HeaderValue::from_static(key);
            let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), key)]);
            printer.answer(&Uri::from_static(path), &headers).status().as_u16()
        };
        assert_eq!(printer.answer(&Uri::from_static("/"), &HeaderMap::new()).status(), 401);
        assert_eq!(ask("/api/v1/status", "guess"), 401);
        assert_eq!(ask("/api/v1/status", "secret"), 200);
        assert_eq!(ask("/api/v1/job", "secret"), 204);
        assert_eq!(ask("/api/v1/info", "secret"), 404);
    }
}
