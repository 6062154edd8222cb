//! The store's client: one write of lines, and what its refusal means.
//!
//! The lines are ours; `influxdb2` carries them. It hides `Retry-After`, so the pace of retries
//! is the writer's own. No retry happens here. Every request ends within [`TIMEOUT`].

use std::time::Duration;

use anyhow::Context as _;
use influxdb2::RequestError;
use influxdb2::api::write::TimestampPrecision;
use reqwest::StatusCode;

use crate::config::plan::StorePlan;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write may take altogether: a store that merges on a slow disk answers late.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest text of a store's answer that is kept.
const ANSWER_MAX: usize = 300;

/// Why a write was refused; one variant per recovery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400 and 422: some of these lines will never be taken. Find them.
    #[error("the store refuses lines: {0}")]
    BadLines(String),
    /// 413: fewer lines at once.
    #[error("the store takes no request as large")]
    TooLarge,
    /// 401, 403, 404: token, organisation or bucket are wrong. A person must act.
    #[error("the store lets us not write; check token, organisation and bucket: {0}")]
    Forbidden(String),
    /// 429, 5xx, timeouts, no connection: try again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// A bucket of a store.
#[derive(Clone, Debug)]
pub struct Store {
    client: influxdb2::Client,
    org: String,
    bucket: String,
}

impl Store {
    /// A client; no connection is made yet.
    ///
    /// # Errors
    /// When the URL is none, or no HTTP client can be made.
    pub fn new(plan: &StorePlan) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(&plan.url)
            .with_context(|| format!("\"{}\" is not a URL", plan.url))?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            "\"{}\" is not the URL of an HTTP server",
            plan.url
        );
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let client = influxdb2::ClientBuilder::with_builder(
            http,
            url.as_str(),
            plan.org.as_str(),
            plan.token.0.as_str(),
        )
        .build()
        .context("no HTTP client")?;
        Ok(Self { client, org: plan.org.clone(), bucket: plan.bucket.clone() })
    }

    /// Writes lines whose times are in milliseconds; returns when the store has committed them.
    ///
    /// # Errors
    /// [`Refusal`]; some of the lines may nevertheless have been stored.
    pub async fn write(&self, lines: String) -> Result<(), Refusal> {
        let written = self.client.write_line_protocol_with_precision(
            &self.org,
            &self.bucket,
            lines,
            TimestampPrecision::Milliseconds,
        );
        match written.await {
            Ok(()) => Ok(()),
            Err(RequestError::Http { status, text }) => refusal(status, &text),
            Err(RequestError::ReqwestProcessing { source }) => {
                Err(Refusal::Unavailable(root_cause(&source.without_url())))
            }
            Err(other) => Err(Refusal::Unavailable(other.to_string())),
        }
    }
}

/// What a status means. 204 never gets here; 200 is what some stores say instead.
fn refusal(status: StatusCode, text: &str) -> Result<(), Refusal> {
    let text: String = text.trim().chars().take(ANSWER_MAX).collect();
    let answer = format!("{status}: {text}");
    match status.as_u16() {
        200..=299 => Ok(()),
        400 | 422 => Err(Refusal::BadLines(answer)),
        413 => Err(Refusal::TooLarge),
        401 | 403 | 404 => Err(Refusal::Forbidden(answer)),
        _ => Err(Refusal::Unavailable(answer)),
    }
}

/// The innermost cause: "Connection refused" says more than "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
