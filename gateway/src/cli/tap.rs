//! `andon tap`: what a site says, live from a broker, for a person or (`--json`) a program.
//!
//! A clean session under a name of its own: tapping takes nothing from anybody.

use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet, Publish, QoS};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::Usage;
use super::record::BrokerArgs;
use crate::mqtt::{Backoff, Lost, client_options};
use crate::wire::{Topic, is_name};

/// How long retained messages may take to come: brokers send them at once.
const RETAINED_WITHIN: Duration = Duration::from_secs(3);

/// The arguments of `andon tap`.
#[derive(Clone, Debug, Args)]
pub struct TapArgs {
    /// Where the messages come from
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The site; every site when absent
    #[arg(long, value_name = "SITE", default_value = "+")]
    pub site: String,
    /// One machine only
    #[arg(long, value_name = "MACHINE", default_value = "+")]
    pub machine: String,
    /// One JSON object per message: {"topic": …, "payload": …}
    #[arg(long)]
    pub json: bool,
}

/// Prints messages until interrupted or the output is closed.
///
/// # Errors
/// When the arguments make no sense; never because the broker is away.
pub async fn run(args: TapArgs) -> anyhow::Result<()> {
    for (key, name) in [("--site", &args.site), ("--machine", &args.machine)] {
        if name != "+" && !is_name(name) {
            return Err(Usage(format!("{key} \"{name}\" cannot be part of a topic")).into());
        }
    }
    let link = args.broker.link(format!("andon-tap-{}", std::process::id()))?;
    let mut options = client_options(&link)?;
    options.set_clean_session(true);
    let filter = format!("andon/v1/{}/{}/#", args.site, args.machine);
    let mut backoff = Backoff::default();
    loop {
        let (client, mut events) = AsyncClient::new(options.clone(), 16);
        let mut silent = None;
        let error = loop {
            match next(&mut events, &mut silent, &filter).await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    backoff.reset();
                    client.try_subscribe(&filter, QoS::AtMostOnce)?;
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    silent = Some(Instant::now() + RETAINED_WITHIN);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if publish.retain {
                        silent = None;
                    }
                    let line = if args.json { as_json(&publish) } else { readable(&publish) };
                    match writeln!(std::io::stdout(), "{line}") {
                        Ok(()) => {}
                        // A closed pipe is how `andon tap | head` ends.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                        Err(error) => return Err(error).context("stdout cannot be written"),
                    }
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let pause = backoff.pause();
        let why = Lost::from(error).words;
        tracing::warn!(why, broker = args.broker.broker, "not connected; trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// The next event; when nothing retained has come until `silent`, says so, once.
async fn next(
    events: &mut EventLoop,
    silent: &mut Option<Instant>,
    filter: &str,
) -> Result<Event, ConnectionError> {
    // Kept over the silence: a poll that is dropped may lose what it had read.
    let mut event = pin!(events.poll());
    loop {
        let Some(until) = *silent else { return event.await };
        tokio::select! {
            event = &mut event => return event,
            () = sleep_until(until) => {
                *silent = None;
                tracing::warn!(
                    "Subscribed to {filter}, and nothing is retained there: every site retains what \
                     its machines are. Are --site and --machine right, and did its gateway ever \
                     reach this broker?"
                );
            }
        }
    }
}

/// One JSON object; what is no JSON is a string in it.
fn as_json(publish: &Publish) -> String {
    let payload: Value = serde_json::from_slice(&publish.payload)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&publish.payload)));
    json!({ "topic": publish.topic, "retained": publish.retain, "payload": payload }).to_string()
}

/// One line for a person: when, where, what.
fn readable(publish: &Publish) -> String {
    let payload: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
    let Some((site, topic)) = Topic::parse(&publish.topic) else {
        return format!("{}  ({} bytes)", publish.topic, publish.payload.len());
    };
    let when = match &payload["t"] {
        // What a machine has and what a store has committed is said of no moment.
        Value::Null if payload.get("t").is_none() => "–".to_owned(),
        t => {
            let when = t.as_i64().and_then(|t| jiff::Timestamp::from_millisecond(t).ok());
            when.map_or_else(|| "no wall time".to_owned(), |when| format!("{when:.3}"))
        }
    };
    let (who, what) = match topic {
        Topic::Observation(machine) => (machine, values(&payload["items"])),
        Topic::State(machine) => {
            (machine, format!("is {}", words(&payload, &["execution", "why"])))
        }
        Topic::Alarm(machine, id) => (
            machine,
            format!("alarm {id}: {}", words(&payload, &["active", "acked", "latched", "cause"])),
        ),
        Topic::Event(machine) => (machine, words(&payload, &["event", "execution", "state"])),
        Topic::Birth(machine) => (machine, format!("has {}", names(&payload["items"]))),
        Topic::Status => {
            ("gateway", format!("status: {}", words(&payload, &["online", "version"])))
        }
        Topic::Stored(recorder) => {
            ("gateway", format!("stored by {recorder}: {}", payload["boots"]))
        }
    };
    clean(&format!("{when:<24}  {site}/{who}  {what}"))
}

fn values(items: &Value) -> String {
    let item = |(name, value): (&String, &Value)| match &value["why"] {
        Value::String(why) => format!("{name} missing ({why})"),
        _ => format!("{name} {value}"),
    };
    items
        .as_object()
        .map(|items| items.iter().map(item).collect::<Vec<_>>().join(", "))
        .unwrap_or_default()
}

fn names(items: &Value) -> String {
    let names = items.as_object().map(|items| items.keys().cloned().collect::<Vec<_>>());
    names.unwrap_or_default().join(", ")
}

/// The fields of a payload that are there and not null, as `key value`.
fn words(payload: &Value, keys: &[&str]) -> String {
    let found = keys.iter().filter_map(|key| match &payload[*key] {
        Value::Null => None,
        Value::String(text) => Some(format!("{key} {text}")),
        value => Some(format!("{key} {value}")),
    });
    found.collect::<Vec<_>>().join(", ")
}

/// Without control characters: what comes from a broker must not steer a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn publish(topic: &str, payload: &str) -> Publish {
        Publish::new(topic, QoS::AtMostOnce, payload)
    }

    #[test]
    fn messages_are_one_line_each() {
        let lines = [
            readable(&publish(
                "andon/v1/shop/laser/observation",
                include_str!("../../../tests/wire/observation.json"),
            )),
            readable(&publish(
                "andon/v1/shop/laser/state",
                include_str!("../../../tests/wire/state.json"),
            )),
            readable(&publish(
                "andon/v1/shop/laser/observation",
                include_str!("../../../tests/wire/observation-unsynced.json"),
            )),
            readable(&publish(
                "andon/v1/shop/laser/birth",
                include_str!("../../../tests/wire/birth.json"),
            )),
            readable(&publish("andon/v1/shop/laser/event", "\u{1b}[2J")),
            readable(&publish("other/topic", "x")),
            as_json(&publish("andon/v1/shop/laser/state", "not json")),
        ];
        expect![[r#"
            2026-09-21T14:13:20.250Z  shop/laser  energy.import 18230.0, input.1 true, power.active 1500.25, temperature.tube missing (timeout)
            2026-09-21T14:13:25.000Z  shop/laser  is execution running
            no wall time              shop/laser  power.active 0.0
            –                         shop/laser  has power.active
            –                         shop/laser  
            other/topic  (1 bytes)
            {"payload":"not json","retained":false,"topic":"andon/v1/shop/laser/state"}"#]]
        .assert_eq(&lines.join("\n"));
    }
}
