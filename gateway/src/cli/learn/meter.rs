//! Where `andon learn` gets a machine's power from: the running gateway, whose picture carries the
//! age of every value, or, when none runs, the source itself.
//!
//! A report is taken once: a value that the gateway still shows from the poll before is no new
//! sample. What has no value is a sample with its reason.

use std::time::Duration;

use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use anyhow::{Context as _, bail};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Subject;
use crate::bus;
use crate::cli::Usage;
use crate::clock::boot_now;
use crate::config::plan::{BusPlan, Plan};

/// The gateway answers from memory; longer means that it is not there.
const DEADLINE: Duration = Duration::from_secs(3);
/// The picture is asked for no more often than this.
const ASK_LEAST: Duration = Duration::from_millis(200);

/// A machine's power, live.
pub(super) struct Meter {
    from: From,
    ticks: Interval,
    period: Duration,
    last: Option<BootTime>,
}

enum From {
    Gateway { client: reqwest::Client, url: reqwest::Url, machine: String, item: String },
    Source { bus: Box<BusPlan>, unit: usize, item: String },
}

/// When something was reported, and what.
pub(super) type Report = (BootTime, Result<f64, Unavailable>);

impl Meter {
    /// The gateway, when it answers; else the source.
    pub(super) async fn open(
        plan: &Plan,
        subject: &Subject,
        url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let base = url.map_or_else(|| format!("http://{}", plan.http.listen), str::to_owned);
        let address = format!("{}/api/v1/picture", base.trim_end_matches('/'));
        let address = reqwest::Url::parse(&address)
            .map_err(|_| Usage("--url is not an address".to_owned()))?;
        let client = reqwest::Client::builder().timeout(DEADLINE).build()?;
        let from = match client.get(address.clone()).send().await {
            Ok(response) if response.status().is_success() => {
                let picture =
                    response.json().await.context("the gateway's answer is no picture")?;
                let Subject { machine, item, .. } = subject;
                if entry(&picture, machine, item).is_none() {
                    bail!(
                        "the gateway at {base} has no {item} of {machine}: it runs something else"
                    );
                }
                let (machine, item) = (machine.clone(), item.clone());
                From::Gateway { client, url: address, machine, item }
            }
            Ok(response) => bail!("the gateway at {base} refused: {}", response.status()),
            Err(error) if url.is_some() => {
                return Err(error).context(format!("the gateway at {base} cannot be reached"));
            }
            Err(_) => source(plan, subject)?,
        };
        let every = match from {
            From::Gateway { .. } => (subject.period / 2).max(ASK_LEAST),
            From::Source { .. } => subject.period.max(ASK_LEAST),
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { from, ticks, period: subject.period, last: None })
    }

    /// In words.
    pub(super) fn name(&self) -> String {
        match &self.from {
            From::Gateway { url, .. } => format!("the gateway at {url}"),
            From::Source { bus, unit, .. } => {
                format!("source {}, as no gateway runs", bus.units[*unit].source)
            }
        }
    }

    /// Waits until it is time and asks; none when there is no news.
    pub(super) async fn next(&mut self) -> Option<Report> {
        self.ticks.tick().await;
        let (at, watts) = match &self.from {
            From::Gateway { client, url, machine, item } => {
                let picture = picture(client, url).await;
                reported(picture.as_ref(), machine, item, boot_now())
            }
            From::Source { bus, unit, item } => {
                let readings = bus::probe_once(bus, *unit).await;
                let found = readings.ok().and_then(|readings| {
                    readings.into_iter().find(|reading| *reading.item == **item)
                });
                let watts =
                    found.map_or(Err(Unavailable::Disconnected), |found| match found.measured {
                        Ok(Value::Number(watts)) => Ok(watts),
                        Ok(_) => Err(Unavailable::Garbled),
                        Err(why) => Err(why),
                    });
                (boot_now(), watts)
            }
        };
        // The age is rounded to milliseconds and the way here takes a few: half a period is news.
        let news = self.last.is_none_or(|last| at.since(last) > self.period / 2);
        if news {
            self.last = Some(at);
        }
        news.then_some((at, watts))
    }
}

async fn picture(client: &reqwest::Client, url: &reqwest::Url) -> Option<serde_json::Value> {
    let response = client.get(url.clone()).send().await.ok()?;
    response.json().await.ok()
}

/// What a picture says of an item; a picture that says nothing is a connection that is gone.
pub(super) fn reported(
    picture: Option<&serde_json::Value>,
    machine: &str,
    item: &str,
    now: BootTime,
) -> Report {
    let Some(item) = picture.and_then(|picture| entry(picture, machine, item)) else {
        return (now, Err(Unavailable::Disconnected));
    };
    let at = item["age_ms"].as_u64().map_or(now, |age| now - Duration::from_millis(age));
    let why = item["why"]
        .as_str()
        .and_then(|word| Unavailable::ALL.into_iter().find(|why| why.word() == word));
    (at, item["value"].as_f64().ok_or(why.unwrap_or(Unavailable::NotYet)))
}

/// An item of a machine in a picture.
fn entry<'a>(
    picture: &'a serde_json::Value,
    machine: &str,
    item: &str,
) -> Option<&'a serde_json::Value> {
    let machine = picture["machines"].as_array()?.iter().find(|entry| entry["id"] == machine)?;
    machine["items"].as_array()?.iter().find(|entry| entry["name"] == item)
}

/// The register that feeds the item.
fn source(plan: &Plan, subject: &Subject) -> anyhow::Result<From> {
    let wanted = |index: &ItemIndex| {
        plan.engine.items.get(index.0 as usize).is_some_and(|item| {
            let machine = &plan.engine.machines[usize::from(item.machine.0)].id;
            **machine == *subject.machine && *item.item.name == *subject.item
        })
    };
    for bus in &plan.buses {
        for (unit, device) in bus.units.iter().enumerate() {
            let poll = device.polls.iter().find(|poll| poll.fed.direct().iter().any(wanted));
            if let Some(poll) = poll {
                let item = device.profile.items[poll.profile_item].item.name.to_string();
                // Only what is wanted is asked for.
                let mut bus = Box::new(BusPlan::clone(bus));
                bus.units[unit].polls = vec![poll.clone()];
                return Ok(From::Source { bus, unit, item });
            }
        }
    }
    bail!(
        "no gateway answers, and {} is not read from a register: start the gateway with `andon run`",
        subject.item
    )
}
