//! `GET /api/v1/history`: the two forms of its question.
//!
//! `machine`, `item`, `span_s`, `buckets`: the last hour at most, from memory, for the curves of
//! the tiles. `series` (`machine.item`, up to 128, by commas or repeated), `from`, `to` (moments as
//! people write them, or Unix milliseconds; now without), `buckets`: years, from the file. At most
//! [`ASKED_MAX`] of the latter are answered at once, each on a thread that may wait for the disk; the
//! rest wait in line. `deploy/HISTORY.md` describes both for users; what is not described there is
//! refused.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query as Parameters;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::routes::{App, busy, failure, unknown};
use crate::clock;
use crate::history::query::{self, Question, SERIES_MAX, SPAN_MAX_MS, STEPS_MAX};
use crate::history::recent::{Query, SPAN_MAX};
use crate::moment::moment;

/// Steps of a question to the last hour.
const RECENT_STEPS: usize = 120;
/// Steps of a question to years, unless it says.
const STEPS: usize = 500;
/// Questions to years that are answered at once: a Pi has few cores, and its card one head.
const ASKED_MAX: usize = 2;
/// What a question to the last hour consists of.
const RECENT: &[&str] = &["machine", "item", "span_s", "buckets"];
/// What a question to years consists of.
const YEARS: &[&str] = &["series", "machine", "item", "from", "to", "buckets"];
/// 2000-01-01: a number of seconds of this century, taken as milliseconds, lies before it.
const SECONDS_BELOW_MS: i64 = 946_684_800_000;
/// Pieces of an answer that wait for a slow reader.
const PIECES: usize = 2;

static ASKED: Semaphore = Semaphore::const_new(ASKED_MAX);

type Pairs = Vec<(String, String)>;

pub(super) async fn answer(app: &Arc<App>, uri: Uri) -> Response {
    let Ok(Parameters(pairs)) = Parameters::<Pairs>::try_from_uri(&uri) else {
        return failure(StatusCode::BAD_REQUEST, "the question cannot be read");
    };
    let is_recent = value(&pairs, "span_s").is_some();
    if let Err(what) = only(&pairs, if is_recent { RECENT } else { YEARS }) {
        return failure(StatusCode::BAD_REQUEST, &what);
    }
    if is_recent {
        return recent(app, &pairs).await;
    }
    match question(&pairs, clock::wall_now_ms(), &app.zone) {
        Ok(question) => {
            // Whether a name is in history is a question to the file as well.
            let Ok(place) = ASKED.acquire().await else {
                return failure(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
            };
            match named(app, &question.series).await {
                Ok(()) => years(app, question, place).await,
                Err(refused) => refused,
            }
        }
        Err(what) => failure(StatusCode::BAD_REQUEST, &what),
    }
}

/// Refuses what is not known, and what is there twice although it can be there once.
fn only(pairs: &Pairs, known: &[&str]) -> Result<(), String> {
    for (place, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(&&**name) {
            return Err(format!("{name:?} is not known here; known are {}", known.join(", ")));
        }
        if name != "series" && pairs[..place].iter().any(|(before, _)| before == name) {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(())
}

/// Refuses a series that is neither configured nor in history.
async fn named(app: &App, series: &[(String, String)]) -> Result<(), Response> {
    let find = |(machine, item): &(String, String)| app.collector.find(machine, item).err();
    let strange: Vec<_> = series.iter().filter_map(|name| Some((name, find(name)?))).collect();
    if strange.is_empty() {
        return Ok(());
    }
    let archive = app.archive.clone();
    let held = tokio::task::spawn_blocking(move || archive.series()).await;
    let Ok(Ok(held)) = held else { return Err(unreadable()) };
    match strange.into_iter().find(|(name, _)| !held.contains(*name)) {
        Some((_, why)) => Err(unknown(why)),
        None => Ok(()),
    }
}

fn unreadable() -> Response {
    let what = "history cannot be read now; /api/v1/diagnostics says how it is";
    failure(StatusCode::SERVICE_UNAVAILABLE, what)
}

fn value<'p>(pairs: &'p Pairs, key: &str) -> Option<&'p str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

async fn recent(app: &App, pairs: &Pairs) -> Response {
    let (Some(machine), Some(item), Some(span_s), Some(buckets)) = (
        value(pairs, "machine"),
        value(pairs, "item"),
        value(pairs, "span_s"),
        value(pairs, "buckets"),
    ) else {
        return failure(StatusCode::BAD_REQUEST, "machine, item, span_s and buckets are needed");
    };
    let Some(span_s) = span_s.parse().ok().filter(|it| (1..=SPAN_MAX.as_secs()).contains(it))
    else {
        let what = "span_s must be 1 to 3600; longer ago is asked with series, from and to";
        return failure(StatusCode::BAD_REQUEST, what);
    };
    let Some(buckets) = buckets.parse().ok().filter(|it| (1..=RECENT_STEPS).contains(it)) else {
        return failure(StatusCode::BAD_REQUEST, "buckets must be 1 to 120 with span_s");
    };
    if let Err(why) = app.collector.find(machine, item) {
        return unknown(why);
    }
    let query = Query {
        machine: machine.to_owned(),
        item: item.to_owned(),
        span: Duration::from_secs(span_s),
        buckets,
    };
    match app.hub.history(query).await {
        Ok(Some(answer)) => axum::Json(answer).into_response(),
        Ok(None) => failure(StatusCode::NOT_FOUND, "no history is kept of this item"),
        Err(error) => busy(error),
    }
}

/// The question, or what is wrong with it.
fn question(pairs: &Pairs, now_ms: i64, zone: &TimeZone) -> Result<Question, String> {
    let mut series = Vec::new();
    let named = pairs.iter().filter(|(key, _)| key == "series");
    for name in named.flat_map(|(_, names)| names.split(',')) {
        let (machine, item) = name.split_once('.').ok_or("series must be machine.item")?;
        series.push((machine.to_owned(), item.to_owned()));
    }
    match (value(pairs, "machine"), value(pairs, "item")) {
        (Some(machine), Some(item)) => series.push((machine.to_owned(), item.to_owned())),
        (None, None) => {}
        _ => return Err("machine and item go together; series=machine.item is both".to_owned()),
    }
    if series.is_empty() || series.len() > SERIES_MAX {
        return Err("1 to 128 series=machine.item are needed".to_owned());
    }
    let from = value(pairs, "from").ok_or("from is needed: -24h, a date, RFC 3339 or Unix ms")?;
    let from_ms = unix_ms("from", from, now_ms, zone)?;
    let to_ms = match value(pairs, "to") {
        None => now_ms,
        Some(to) => unix_ms("to", to, now_ms, zone)?,
    };
    let steps = match value(pairs, "buckets") {
        None => STEPS,
        Some(buckets) => buckets.parse().map_err(|_| "buckets must be 1 to 2000")?,
    };
    if !(1..=STEPS_MAX).contains(&steps) {
        return Err("buckets must be 1 to 2000".to_owned());
    }
    if !(1..=SPAN_MAX_MS).contains(&to_ms.saturating_sub(from_ms)) {
        return Err("from must be before to, by at most a century".to_owned());
    }
    Ok(Question { from_ms, to_ms, steps, series })
}

/// Unix milliseconds of what may be asked about, 1970 to 9999; 0 is the begin of everything in seconds
/// as well.
fn unix_ms(key: &str, text: &str, now_ms: i64, zone: &TimeZone) -> Result<i64, String> {
    let number = text.parse::<i64>().ok();
    if let Some(ms) = number.filter(|ms| (1..SECONDS_BELOW_MS).contains(ms)) {
        return Err(format!(
            "{key}={ms} lies before 2000 as Unix milliseconds; seconds are told as {}",
            ms.saturating_mul(1000)
        ));
    }
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let read = |text: &str| moment(text, now, zone).ok().map(Timestamp::as_millisecond);
    if let Some(ms) = number.or_else(|| read(text)) {
        return match ms {
            query::EARLIEST_MS..=query::LATEST_MS => Ok(ms),
            _ => Err(format!("{key}={text} lies before 1970 or after 9999 (-24h is a day ago)")),
        };
    }
    let plus = text.replace(' ', "+");
    if plus != text && read(&plus).is_some() {
        let escaped = plus.replace('+', "%2B");
        return Err(format!("{key}: a + in an address is a space; write {escaped}, or end in Z"));
    }
    let forms = "-24h, 2026-01-31, 2026-01-31T08:00 (both of the site), RFC 3339 or Unix ms";
    Err(format!("{key}={text:?} is none of {forms}"))
}

async fn years(app: &Arc<App>, question: Question, place: SemaphorePermit<'static>) -> Response {
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
            return unreadable();
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

    #[tokio::test(start_paused = true)]
    async fn a_name_is_not_looked_up_in_the_file_while_others_are_answered() {
        let (app, _feed) = super::super::routes::tests::app();
        let app = Arc::new(app);
        let all = ASKED.acquire_many(u32::try_from(ASKED_MAX).unwrap()).await.unwrap();
        let uri = Uri::from_static("/api/v1/history?series=nobody.power.active&from=-1h");
        let mut asked = std::pin::pin!(answer(&app, uri));
        let early = tokio::time::timeout(Duration::from_secs(60), &mut asked).await;
        assert!(early.is_err(), "answered out of turn");
        drop(all);
        assert_eq!(asked.await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_question_to_the_last_hour_is_refused_beyond_its_bounds() {
        let (app, _feed) = super::super::routes::tests::app();
        let app = Arc::new(app);
        for (query, told) in [
            ("span_s=3600&buckets=60", None),
            ("span_s=1&buckets=120", None),
            ("span_s=86400&buckets=60", Some("span_s must be 1 to 3600")),
            ("span_s=0&buckets=60", Some("span_s must be 1 to 3600")),
            ("span_s=abc&buckets=60", Some("span_s must be 1 to 3600")),
            ("span_s=3600&buckets=500", Some("buckets must be 1 to 120")),
            ("span_s=3600&buckets=0", Some("buckets must be 1 to 120")),
            ("span_s=3600&buckets=", Some("buckets must be 1 to 120")),
            ("span_s=3600", Some("are needed")),
        ] {
            let uri = format!("/api/v1/history?machine=laser&item=temperature&{query}");
            let answer = answer(&app, uri.parse().unwrap()).await;
            let refused = answer.status() == StatusCode::BAD_REQUEST;
            assert_eq!(refused, told.is_some(), "{query}: {}", answer.status());
            let text = axum::body::to_bytes(answer.into_body(), 65_536).await.unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains(told.unwrap_or_default()), "{query}: {text}");
        }
    }

    fn ask(query: &str) -> Result<Question, String> {
        let uri: Uri = format!("/api/v1/history?{query}").parse().unwrap();
        let Parameters(pairs) = Parameters::<Pairs>::try_from_uri(&uri).unwrap();
        only(&pairs, YEARS)?;
        question(&pairs, 1_790_000_000_000, &TimeZone::get("Asia/Shanghai").unwrap())
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
        let commas = ask("series=laser.power.active,kiln.temperature&from=-1h").unwrap();
        assert_eq!((commas.series, commas.from_ms), (asked.series, 1_789_996_400_000));
        // A date is the site's.
        assert_eq!(ask("series=a.b&from=2026-09-20").unwrap().from_ms, 1_789_833_600_000);
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
            ("series=a.b&from=2026-01-01&to=2026-01-01", "before"),
            ("series=a.b&from=1790000000", "1790000000000"),
            ("series=a.b&from=0&to=1790000000", "seconds"),
            ("series=a.b&from=2026-09-20T00:00:00+08:00", "2026-09-20T00:00:00%2B08:00"),
            ("series=a.b&from=0&step=60", "known are series, machine, item, from, to, buckets"),
            ("series=a.b&from=0&from=-1h", "twice"),
            ("series=a.b&item=power.active&from=0", "together"),
            ("series=a.b,&from=0", "machine.item"),
            ("series=a.b&from=-1&buckets=1", "from=-1 lies before 1970"),
            ("series=a.b&from=-24&to=0", "-24h is a day ago"),
            ("series=a.b&from=1969-12-31T23:59:59Z", "before 1970"),
            ("series=a.b&from=-100y", "before 1970"),
            ("series=a.b&from=0&to=253402300800001", "after 9999"),
            ("series=a.b&from=-9223372036854775808&to=9223372036854775807", "before 1970"),
            ("series=a.b&from=0&to=9223372036854775807", "after 9999"),
            ("series=a.b&from=0&to=9999-12-01", "century"),
            ("series=a.b&from=-9223372036854775807h", "RFC 3339"),
            ("series=a.b&from=99999999999999999999", "RFC 3339"),
        ] {
            let told = ask(query).unwrap_err();
            assert!(told.contains(what), "{query}: {told}");
        }
    }
}
