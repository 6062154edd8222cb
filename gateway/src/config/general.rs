//! The sections that say where things are: site, clock, state, journal, broker, store, board.
//!
//! Secrets come from files that only andon may read, or from the environment; never from the
//! configuration itself, which people copy into chats and repositories.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys;
use super::node::Content;
use super::plan::{
    HistoryPlan, HttpPlan, JournalPlan, MqttPlan, Name, Secret, SitePlan, StorePlan,
};
use super::problem::did_you_mean;
use super::section::{ID_HINT, Section, is_id};

/// Longest secret.
const SECRET_BYTES_MAX: u64 = 4096;
/// Where the state lies unless configured.
const STATE_DIR: &str = "/var/lib/andon";
/// Telemetry kept until it is delivered, unless configured: a week of 100 series at 1 Hz.
const TELEMETRY_BYTES: u64 = 256_000_000;
/// How often telemetry is synced, unless configured.
const SYNC: Duration = Duration::from_secs(5);

const DAY: Duration = Duration::from_secs(86_400);
/// Age of samples, unless configured: two years of 100 series at 1 Hz are 2.7 GB.
const HISTORY_KEEP: Duration = Duration::from_secs(730 * 86_400);
/// Age of minutes, unless configured.
const HISTORY_KEEP_MINUTES: Duration = Duration::from_secs(1825 * 86_400);
/// A century.
const HISTORY_KEEP_MAX: Duration = Duration::from_secs(36_525 * 86_400);
/// Bytes of history, unless configured: on a card of 16 GB beside everything else.
const HISTORY_BYTES: u64 = 4_000_000_000;

/// `[site]`
pub(super) fn site(root: &Section<'_>) -> Option<SitePlan> {
    let site = root.table("site")?;
    site.only(keys::SITE);
    let id = site.need("id", "\"my-space\"", site.text("id"));
    let id = id.filter(|id| {
        if !is_id(id) {
            site.problem("id", format!("\"{id}\" cannot be an id"), Some(ID_HINT.to_owned()));
        }
        is_id(id)
    });
    let name = site.name("name");
    let zone = site.need("time_zone", "\"Europe/Berlin\"", site.text("time_zone"));
    let zone = zone.filter(|zone| {
        let known = jiff::tz::TimeZone::get(zone).is_ok();
        if !known {
            let names: Vec<String> =
                jiff::tz::db().available().map(|name| name.to_string()).collect();
            let hint = did_you_mean(zone, names.iter().map(String::as_str))
                .unwrap_or_else(|| "an IANA name, \"Asia/Shanghai\"".to_owned());
            site.problem("time_zone", format!("there is no time zone \"{zone}\""), Some(hint));
        }
        known
    });
    let id = id?;
    Some(SitePlan {
        id: id.into(),
        name: name.unwrap_or_else(|| Name { en: id.to_owned(), zh: id.to_owned() }),
        time_zone: zone?.to_owned(),
    })
}

/// `[clock]`
pub(super) fn trust_wall(root: &Section<'_>) -> Option<bool> {
    let clock = root.table("clock")?;
    clock.only(keys::CLOCK);
    Some(clock.flag("trust_wall").unwrap_or(false))
}

/// `[state]`
pub(super) fn state_dir(root: &Section<'_>, folder: &Path) -> Option<PathBuf> {
    let state = root.table("state")?;
    state.only(keys::STATE);
    Some(folder.join(state.text("dir").unwrap_or(STATE_DIR)))
}

/// `[journal]`
pub(super) fn journal(root: &Section<'_>) -> Option<JournalPlan> {
    let journal = root.table("journal")?;
    journal.only(keys::JOURNAL);
    let telemetry_bytes = journal.bytes("telemetry_size", 16_000_000..=1_000_000_000_000);
    let sync = journal.duration("sync", Duration::from_millis(100)..=Duration::from_secs(300));
    Some(JournalPlan {
        telemetry_bytes: telemetry_bytes.unwrap_or(TELEMETRY_BYTES),
        sync: sync.unwrap_or(SYNC),
    })
}

/// `[history]`
pub(super) fn history(root: &Section<'_>) -> Option<HistoryPlan> {
    let history = root.table("history")?;
    history.only(keys::HISTORY);
    let ages = DAY..=HISTORY_KEEP_MAX;
    let keep = history.duration("keep", ages.clone());
    let keep_minutes = history.duration("keep_minutes", ages);
    let bytes = history.bytes("size", 16_000_000..=1_000_000_000_000);
    let keep = keep.unwrap_or(HISTORY_KEEP);
    if keep_minutes.is_some_and(|minutes| minutes < keep) {
        history.problem(
            "keep_minutes",
            "minutes are kept for less time than the samples that they are made of",
            Some("at least as long as keep: long curves are drawn from minutes".to_owned()),
        );
    }
    Some(HistoryPlan {
        keep,
        keep_minutes: keep_minutes.unwrap_or(HISTORY_KEEP_MINUTES.max(keep)),
        bytes: bytes.unwrap_or(HISTORY_BYTES),
    })
}

/// `[mqtt]`
pub(super) fn mqtt(root: &Section<'_>, folder: &Path, site: Option<&str>) -> Option<MqttPlan> {
    root.get("mqtt")?;
    let mqtt = root.table("mqtt")?;
    mqtt.only(keys::MQTT);
    let host = mqtt.need("host", "\"127.0.0.1\"", mqtt.text("host"));
    let (login, ca_file) = session(&mqtt, folder);
    let port = mqtt.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let client_id = mqtt.text("client_id").map(str::to_owned);
    let client_id = client_id.or_else(|| site.map(|site| format!("andon-{site}")));
    let recorder = mqtt.text("recorder").map(str::to_owned);
    if recorder.is_none() {
        mqtt.warn(
            "recorder",
            "without a recorder's name what the broker has taken counts as delivered, and a broker \
             that restarts may lose it",
            Some("recorder = \"main\", with \"andon record --name main\" behind it".to_owned()),
        );
    }
    let default_port = if ca_file.is_some() { 8883 } else { 1883 };
    Some(MqttPlan {
        host: host?.to_owned(),
        port: port.unwrap_or(default_port),
        client_id: client_id?,
        login,
        ca_file,
        recorder,
    })
}

/// User name with password, and the trusted roots, of a session at a broker.
pub(super) fn session(
    section: &Section<'_>,
    folder: &Path,
) -> (Option<(String, Secret)>, Option<PathBuf>) {
    let ca_file = section.text("ca_file").map(|file| folder.join(file));
    if let Some(Err(error)) = ca_file.as_ref().map(fs::metadata) {
        section.problem("ca_file", format!("cannot be read: {error}"), None);
    }
    let user = section.text("user");
    let password = secret(section, "password", "password_file", folder);
    if user.is_some() && !section.has("password") && !section.has("password_file") {
        let hint = "write password_file = \"mqtt.password\"".to_owned();
        section.problem("user", "has no password", Some(hint));
    }
    for key in ["password", "password_file"] {
        if !section.has("user") && section.has(key) {
            section.problem(key, "there is no user", Some("add user = \"…\"".to_owned()));
        }
    }
    (user.zip(password).map(|(user, password)| (user.to_owned(), password)), ca_file)
}

/// `[store]`
pub(super) fn store(root: &Section<'_>, folder: &Path) -> Option<StorePlan> {
    root.get("store")?;
    let store = root.table("store")?;
    store.only(keys::STORE);
    let url = store.need("url", "\"http://127.0.0.1:8428\"", store.text("url"));
    let url = url.filter(|url| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let fine = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace));
        if !fine {
            let hint = "write \"http://127.0.0.1:8428\"".to_owned();
            store.problem("url", format!("\"{url}\" is not an HTTP address"), Some(hint));
        }
        fine
    });
    let bucket = store.need("bucket", "\"andon\"", store.text("bucket"));
    let org = store.text_or_empty("org").unwrap_or_default();
    let token = secret(&store, "token", "token_file", folder).unwrap_or_default();
    Some(StorePlan {
        url: url?.trim_end_matches('/').to_owned(),
        org: org.to_owned(),
        bucket: bucket?.to_owned(),
        token,
    })
}

/// `[http]`
pub(super) fn http(root: &Section<'_>) -> Option<HttpPlan> {
    let http = root.table("http")?;
    http.only(keys::HTTP);
    let Some(text) = http.text("listen") else {
        return Some(HttpPlan { listen: SocketAddr::from(([127, 0, 0, 1], 8480)) });
    };
    let Ok(listen) = text.parse::<SocketAddr>() else {
        let hint = "write an address and a port, \"127.0.0.1:8480\"".to_owned();
        http.problem("listen", format!("\"{text}\" is not an address with a port"), Some(hint));
        return None;
    };
    if !listen.ip().is_loopback() {
        http.warn(
            "listen",
            format!("everybody who reaches {listen} sees the board, without encryption"),
            Some("keep 127.0.0.1 and put a TLS proxy before it, or trust that network".to_owned()),
        );
    }
    Some(HttpPlan { listen })
}

/// `[profiles]`: the overlay folder, when one is configured.
pub(super) fn profiles_dir(root: &Section<'_>, folder: &Path) -> Option<PathBuf> {
    let profiles = root.table("profiles")?;
    profiles.only(keys::PROFILES);
    let dir = folder.join(profiles.text("dir")?);
    if dir.is_dir() {
        return Some(dir);
    }
    profiles.problem("dir", "there is no such folder", None);
    None
}

/// A secret: `key` from the environment, or else the file that `file_key` names.
pub(super) fn secret(
    section: &Section<'_>,
    key: &'static str,
    file_key: &'static str,
    folder: &Path,
) -> Option<Secret> {
    match section.get(key).map(|node| &node.content) {
        Some(Content::Environment(text)) => return Some(Secret(text.clone())),
        Some(_) => {
            let variable = section.path_of(key).to_uppercase().replace('.', "__");
            let hint = if variable.contains('-') {
                // No shell sets a variable of such a name.
                format!("use {file_key}")
            } else {
                format!("use {file_key}, or the environment variable ANDON__{variable}")
            };
            section.problem(key, "secrets are not written into the configuration", Some(hint));
            return None;
        }
        None => {}
    }
    let path = folder.join(section.text(file_key)?);
    match read_secret(&path) {
        Ok(secret) => Some(secret),
        Err((message, hint)) => {
            section.problem(file_key, message, hint);
            None
        }
    }
}

fn read_secret(path: &Path) -> Result<Secret, (String, Option<String>)> {
    let unreadable = |error: std::io::Error| (format!("cannot be read: {error}"), None);
    let meta = fs::metadata(path).map_err(unreadable)?;
    // Any bit for others: the file must be its owner's and its group's affair.
    if meta.permissions().mode() & 0o007 != 0 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hint = format!("chmod 0640 {name}, group andon");
        return Err(("everybody on this computer can read it".into(), Some(hint)));
    }
    if meta.len() > SECRET_BYTES_MAX {
        return Err((format!("longer than {SECRET_BYTES_MAX} bytes"), None));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    match text.trim() {
        "" => Err(("the file is empty".into(), None)),
        secret => Ok(Secret(secret.to_owned())),
    }
}
