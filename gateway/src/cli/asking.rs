//! Asking a running gateway: where it is and how its API answers, for every command that is a client
//! of it. The configuration says where the gateway listens; an address can be named instead.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use super::check::count;
use super::{Misconfigured, Usage};

/// The gateway bounds its own work to less.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the gateway is.
#[derive(Debug, Args)]
pub struct Whereabouts {
    /// The gateway's configuration, which says where it listens and keeps the operator's token
    #[arg(long, global = true, env = "ANDON_CONFIG", default_value = "/etc/andon")]
    pub(super) config: PathBuf,
    /// Where the gateway is, instead of asking the configuration
    #[arg(long, global = true, env = "ANDON_URL")]
    pub(super) url: Option<String>,
}

impl Whereabouts {
    /// The gateway's address: the named one, or the configured one.
    ///
    /// # Errors
    /// When none is named and the configuration is at fault.
    pub(super) fn gateway(&self) -> anyhow::Result<Gateway> {
        match &self.url {
            Some(url) => Gateway::at(url.clone()),
            None => Gateway::at(format!("http://{}", plan_of(&self.config, "--url")?.http.listen)),
        }
    }
}

/// The plan of a configuration, for what was not named by `options` instead.
///
/// # Errors
/// When it has problems.
pub(super) fn plan_of(config: &Path, options: &str) -> anyhow::Result<crate::config::plan::Plan> {
    match crate::config::load(config) {
        Ok(loaded) => Ok(loaded.plan),
        Err(problems) => bail!(Misconfigured(format!(
            "the configuration at {} has {} (see \"andon check\"); name {options} instead",
            config.display(),
            count(problems.len(), "problem")
        ))),
    }
}

/// A running gateway, as its clients see it.
pub(super) struct Gateway {
    url: String,
    pub(super) client: Client,
}

impl Gateway {
    pub(super) fn at(url: String) -> anyhow::Result<Self> {
        Ok(Self { url, client: Client::builder().timeout(DEADLINE).build()? })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The address of a resource of the API; each of `below` is one segment, whatever is in it.
    ///
    /// # Errors
    /// When the gateway's address is none.
    pub(super) fn resource(&self, name: &str, below: &[&str]) -> anyhow::Result<Url> {
        let text = format!("{}/api/v1/{name}", self.url.trim_end_matches('/'));
        let wrong = |_| Usage(format!("{} is not an address", self.url));
        let mut url = Url::parse(&text).map_err(wrong)?;
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.extend(below)),
            Err(()) => bail!(Usage(format!("{} is not the address of a gateway", self.url))),
        }
        Ok(url)
    }

    /// What it answers to a question.
    ///
    /// # Errors
    /// As [`Gateway::answer`].
    pub(super) async fn get(&self, name: &str, below: &[&str]) -> anyhow::Result<Value> {
        self.answer(self.client.get(self.resource(name, below)?)).await
    }

    /// What it answers to a request; nothing where there is no body.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses; the message says why.
    pub(super) async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await.map_err(|error| self.unreached(error))?;
        let status = response.status();
        let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        if !status.is_success() {
            let why = body["error"].as_str().unwrap_or("no reason");
            match body["hint"].as_str() {
                Some(hint) => bail!("the gateway refused ({status}): {why}; {hint}"),
                None => bail!("the gateway refused ({status}): {why}{}", advice(why)),
            }
        }
        Ok(body)
    }
}

impl Gateway {
    /// The library repeats itself at every level; what went wrong is the innermost.
    fn unreached(&self, error: reqwest::Error) -> anyhow::Error {
        let error = anyhow::Error::from(error);
        let cause = error.root_cause();
        anyhow::anyhow!("the gateway at {} cannot be reached ({cause}); is it running?", self.url)
    }
}

/// Text of a device's or a network's own, fit for a terminal: no control character gets through.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A word of the gateway for a person: `not_yet` is `nothing heard yet`, `out_of_range` has spaces.
pub(super) fn reason(word: &str) -> String {
    match word {
        "not_yet" => "nothing heard yet".to_owned(),
        _ => plain(&word.replace('_', " ")),
    }
}

/// A duration in its two largest units: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 04 min`, `3 d 4 h`.
pub(super) fn lasting(ms: u64) -> String {
    let (s, tenths) = (ms / 1000, ms % 1000 / 100);
    let (d, h, min) = (s / 86_400, s / 3600 % 24, s / 60 % 60);
    match (d, h, min) {
        (0, 0, 0) if s < 10 => format!("{s}.{tenths} s"),
        (0, 0, 0) => format!("{s} s"),
        (0, 0, min) => format!("{min} min {:02} s", s % 60),
        (0, h, min) => format!("{h} h {min:02} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// What to do about a refusal, where that does not speak for itself.
pub(super) fn advice(why: &str) -> &'static str {
    match why {
        "its stop is not confirmed" => {
            "; stop the machine by hand, then see to the output and the meter that proves it: the stop \
             is tried on, and the reset is accepted once it is confirmed (see \"andon alarms list\")"
        }
        "its condition still holds" => "; mend what raised it first",
        "its condition is unknown" => "; what it watches gives no value: see to that device first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_stays_one_segment_of_the_address() {
        let gateway = Gateway::at("http://127.0.0.1:8480/".to_owned()).unwrap();
        let url = gateway.resource("why", &["../alarms", "a/b?c"]).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:8480/api/v1/why/..%2Falarms/a%2Fb%3Fc");
        assert!(Gateway::at("not an address".to_owned()).unwrap().resource("why", &[]).is_err());
    }

    #[test]
    fn nothing_that_a_device_says_steers_the_terminal() {
        assert_eq!(plain("ok\u{1b}[2J\n激光"), "ok\u{fffd}[2J\u{fffd}激光");
    }

    #[test]
    fn durations_are_told_in_their_two_largest_units() {
        let told = [400, 12_900, 185_000, 7_440_000, 273_600_000].map(lasting);
        assert_eq!(told, ["0.4 s", "12 s", "3 min 05 s", "2 h 04 min", "3 d 4 h"]);
    }
}
