//! `GET /api/v1/history`: the two forms of its question.
//!
//! `machine`, `item`, `span_s`, `buckets`: the last hour at most, from memory, for the curves of
//! the tiles. `series` (`machine.item`, up to 128 times), `from`, `to` (RFC 3339 or Unix
//! milliseconds; now without), `buckets`: years, from the file. At most [`ASKED_MAX`] of the latter
//! are answered at once, each on a thread that may wait for the disk; the rest wait in line.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query as Parameters;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{Semaphore, mpsc};

use super::routes::{App, busy, failure};
use crate::clock;
use crate::history::query::{Question, SERIES_MAX, SPAN_MAX_MS, STEPS_MAX};
use crate::history::recent::Query;

/// Steps of a question to the last hour.
const RECENT_STEPS: usize = 120;
/// Steps of a question to years, unless it says.
const STEPS: usize = 500;
/// Questions to years that are answered at once: a Pi has few cores, and its card one head.
const ASKED_MAX: usize = 2;
/// Pieces of an answer that wait for a slow reader.
const PIECES: usize = 2;

static ASKED: Semaphore = Semaphore::const_new(ASKED_MAX);

type Pairs = Vec<(String, String)>;

pub(super) async fn answer(app: &Arc<App>, uri: Uri) -> Response {
    let Ok(Parameters(pairs)) = Parameters::<Pairs>::try_from_uri(&uri) else {
        return failure(StatusCode::BAD_REQUEST, "the question cannot be read");
    };
    if value(&pairs, "span_s").is_some() {
        return recent(app, &pairs).await;
    }
    match question(&pairs, clock::wall_now_ms()) {
        Ok(question) => years(app, question).await,
        Err(what) => failure(StatusCode::BAD_REQUEST, what),
    }
}

fn value<'p>(pairs: &'p Pairs, key: &str) -> Option<&'p str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

async fn recent(app: &App, pairs: &Pairs) -> Response {
    let number = |key| value(pairs, key).and_then(|text| text.parse::<u64>().ok());
    let (Some(machine), Some(item), Some(span_s), Some(buckets)) =
        (value(pairs, "machine"), value(pairs, "item"), number("span_s"), number("buckets"))
    else {
        return failure(StatusCode::BAD_REQUEST, "machine, item, span_s and buckets are needed");
    };
    let query = Query {
        machine: machine.to_owned(),
        item: item.to_owned(),
        span: Duration::from_secs(span_s),
        buckets: usize::try_from(buckets).unwrap_or(RECENT_STEPS).min(RECENT_STEPS),
    };
    match app.hub.history(query).await {
        Ok(Some(answer)) => axum::Json(answer).into_response(),
        Ok(None) => failure(StatusCode::NOT_FOUND, "no history is kept of this item"),
        Err(error) => busy(error),
    }
}

/// The question, or what is wrong with it.
fn question(pairs: &Pairs, now_ms: i64) -> Result<Question, &'static str> {
    let mut series = Vec::new();
    for (_, name) in pairs.iter().filter(|(key, _)| key == "series") {
        let (machine, item) = name.split_once('.').ok_or("series must be machine.item")?;
        series.push((machine.to_owned(), item.to_owned()));
    }
    if let (Some(machine), Some(item)) = (value(pairs, "machine"), value(pairs, "item")) {
        series.push((machine.to_owned(), item.to_owned()));
    }
    if series.is_empty() || series.len() > SERIES_MAX {
        return Err("1 to 128 series=machine.item are needed");
    }
    let from = value(pairs, "from").ok_or("from is needed, RFC 3339 or Unix milliseconds")?;
    let from_ms = moment(from).ok_or("from must be RFC 3339 or Unix milliseconds")?;
    let to_ms = match value(pairs, "to") {
        None => now_ms,
        Some(to) => moment(to).ok_or("to must be RFC 3339 or Unix milliseconds")?,
    };
    let steps = match value(pairs, "buckets") {
        None => STEPS,
        Some(buckets) => buckets.parse().map_err(|_| "buckets must be 1 to 2000")?,
    };
    if !(1..=STEPS_MAX).contains(&steps) {
        return Err("buckets must be 1 to 2000");
    }
    if !(1..=SPAN_MAX_MS).contains(&to_ms.saturating_sub(from_ms)) {
        return Err("from must be before to, by at most a century");
    }
    Ok(Question { from_ms, to_ms, steps, series })
}

/// Unix milliseconds of the years that andon can have seen, or may be asked about.
fn moment(text: &str) -> Option<i64> {
    let ms = match text.parse() {
        Ok(ms) => ms,
        Err(_) => text.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
    };
    (-SPAN_MAX_MS..=2 * SPAN_MAX_MS).contains(&ms).then_some(ms)
}

async fn years(app: &Arc<App>, question: Question) -> Response {
    let Ok(place) = ASKED.acquire().await else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    };
    let (pieces, mut answer) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES);
    let archive = app.archive.clone();
    tokio::task::spawn_blocking(move || {
        let now_ms = Some(clock::wall_now_ms());
        // A reader that goes away closes the channel; a slow one is cut off by the server.
        let mut write = |piece: Vec<u8>| pieces.blocking_send(Ok(piece.into())).is_ok();
        if let Err(error) = archive.answer(&question, now_ms, &mut write) {
            tracing::warn!(%error, "A question to history could not be answered.");
            pieces.blocking_send(Err(std::io::Error::other(error))).ok();
        }
        drop(place);
    });
    // The first piece decides whether there is an answer.
    let first = match answer.recv().await {
        Some(Ok(first)) => first,
        Some(Err(_)) | None => {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "history cannot be read now");
        }
    };
    let rest = futures_util::stream::unfold(answer, async |mut answer| {
        Some((answer.recv().await?, answer))
    });
    let first = futures_util::stream::once(async { Ok(first) });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Question, &'static str> {
        let uri: Uri = format!("/api/v1/history?{query}").parse().unwrap();
        let Parameters(pairs) = Parameters::<Pairs>::try_from_uri(&uri).unwrap();
        question(&pairs, 1_790_000_000_000)
    }

    #[test]
    fn a_question_names_series_and_a_stretch_of_time() {
        let asked = ask("series=laser.power.active&series=kiln.temperature\
             &from=2026-09-20T00:00:00%2B08:00&to=1789948800000&buckets=7");
        let asked = asked.unwrap();
        let name = |machine: &str, item: &str| (machine.to_owned(), item.to_owned());
        assert_eq!(asked.series, [name("laser", "power.active"), name("kiln", "temperature")]);
        assert_eq!((asked.from_ms, asked.to_ms), (1_789_833_600_000, 1_789_948_800_000));
        assert_eq!(asked.steps, 7);
        let until_now = ask("machine=laser&item=temperature&from=0").unwrap();
        assert_eq!((until_now.to_ms, until_now.steps), (1_790_000_000_000, STEPS));
    }

    #[test]
    fn what_is_wrong_with_a_question_is_said() {
        let many = "series=a.b&".repeat(129);
        for (query, what) in [
            ("from=0", "series"),
            ("series=laser&from=0", "machine.item"),
            (many.as_str(), "128"),
            ("series=a.b", "from is needed"),
            ("series=a.b&from=yesterday", "RFC 3339"),
            ("series=a.b&from=0&to=soon", "RFC 3339"),
            ("series=a.b&from=0&buckets=2001", "2000"),
            ("series=a.b&from=0&buckets=0", "2000"),
            ("series=a.b&from=0&buckets=-1", "2000"),
            ("series=a.b&from=5&to=5", "before"),
            ("series=a.b&from=-9223372036854775808&to=9223372036854775807", "RFC 3339"),
        ] {
            let told = ask(query).unwrap_err();
            assert!(told.contains(what), "{query}: {told}");
        }
    }
}
