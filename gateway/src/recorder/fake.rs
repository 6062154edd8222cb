//! A store for tests: speaks the v2 write API over real HTTP and does what a script says.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::plan::{Secret, StorePlan};

/// A fresh folder below the system's temporary one.
pub(crate) fn folder(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("andon-{name}-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[derive(Default)]
struct Inner {
    script: Vec<u16>,
    refused: Option<(String, u16)>,
    body_max: usize,
    stored: String,
    requests: usize,
}

#[derive(serde::Deserialize)]
struct Target {
    bucket: String,
    org: String,
    precision: String,
}

type Shared = Arc<Mutex<Inner>>;

/// The store.
pub(crate) struct FakeStore {
    inner: Shared,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

async fn write(State(shared): State<Shared>, Query(to): Query<Target>, body: String) -> StatusCode {
    let mut inner = shared.lock().unwrap();
    inner.requests += 1;
    if (to.bucket.as_str(), to.org.as_str(), to.precision.as_str()) != ("machines", "shop", "ms") {
        return StatusCode::NOT_IMPLEMENTED;
    }
    if !inner.script.is_empty() {
        return StatusCode::from_u16(inner.script.remove(0)).unwrap();
    }
    if inner.body_max > 0 && body.len() > inner.body_max {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    if let Some((text, status)) = &inner.refused
        && body.contains(text.as_str())
    {
        return StatusCode::from_u16(*status).unwrap();
    }
    inner.stored.push_str(&body);
    StatusCode::NO_CONTENT
}

impl FakeStore {
    /// Starts a store that answers with these statuses first, then takes everything.
    pub(crate) async fn start(script: Vec<u16>) -> Self {
        let inner = Arc::new(Mutex::new(Inner { script, ..Inner::default() }));
        Self::serve(inner, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn serve(inner: Shared, address: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/api/v2/write", post(write))
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(Arc::clone(&inner));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { inner, address, serving }
    }

    /// Stops listening; what is stored stays.
    pub(crate) async fn stop(self) -> Self {
        self.serving.abort();
        let serving = tokio::spawn(async {});
        let _ = self.serving.await;
        Self { inner: self.inner, address: self.address, serving }
    }

    /// Listens again at the same address.
    pub(crate) async fn restart(self) -> Self {
        Self::serve(self.inner, self.address).await
    }

    /// Its configuration.
    pub(crate) fn plan(&self) -> StorePlan {
        StorePlan {
            url: format!("http://{}", self.address),
            org: "shop".into(),
            bucket: "machines".into(),
            token: Secret("secret".into()),
        }
    }

    /// Refuses every request that contains `text`.
    pub(crate) fn refuse(&self, text: &str, status: u16) {
        self.inner.lock().unwrap().refused = Some((text.to_owned(), status));
    }

    /// Refuses larger requests with 413.
    pub(crate) fn body_max(&self, bytes: usize) {
        self.inner.lock().unwrap().body_max = bytes;
    }

    /// Everything taken so far.
    pub(crate) fn stored(&self) -> String {
        self.inner.lock().unwrap().stored.clone()
    }

    /// Requests received so far.
    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().unwrap().requests
    }
}
