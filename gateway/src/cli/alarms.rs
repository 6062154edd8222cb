//! `andon alarms`: lists alarms, acknowledges and resets them, as a client of the gateway's API.
//! The configuration says where the gateway listens and keeps the operator's token; both can be
//! named instead.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::asking::{Whereabouts, plan_of};

/// Lists, acknowledges and resets alarms.
#[derive(Debug, Args)]
pub struct AlarmsArgs {
    /// What to do; lists when nothing is said.
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    whereabouts: Whereabouts,
    /// Print what the gateway answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The file with the operator's token, instead of asking the configuration
    #[arg(long, global = true, env = "ANDON_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Shows the alarms that are active, unknown, unacknowledged or latched.
    List,
    /// Says that a person has seen an alarm.
    Ack {
        /// The alarm.
        id: String,
        /// Who.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
    },
    /// Ends a latched alarm and the stops that it latched.
    Reset {
        /// The alarm.
        id: String,
        /// Why it is safe.
        #[arg(long)]
        reason: String,
        /// Who.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
    },
}

/// Carries it out; what was asked for goes to stdout.
///
/// # Errors
/// When the gateway cannot be reached, or refuses; the message says why.
pub async fn run(args: AlarmsArgs) -> anyhow::Result<()> {
    let gateway = args.whereabouts.gateway()?;
    let (id, verb, body) = match &args.act {
        None | Some(Act::List) => {
            let picture = gateway.get("picture", &[]).await?;
            return print(&picture["alarms"], args.json);
        }
        Some(Act::Ack { id, by }) => (id, "acknowledge", json!({ "by": by })),
        Some(Act::Reset { id, reason, by }) => (id, "reset", json!({ "by": by, "reason": reason })),
    };
    let file = match args.token_file {
        Some(file) => file,
        None => {
            let plan = plan_of(&args.whereabouts.config, "--url and --token-file")?;
            plan.state_dir.join("operator.token")
        }
    };
    let token = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read the operator's token from {}", file.display()))?;
    let request = gateway.client.post(gateway.resource("alarms", &[id, verb])?);
    gateway.answer(request.bearer_auth(token.trim()).json(&body)).await?;
    Ok(())
}

fn print(alarms: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return super::say(&alarms.to_string());
    }
    let alarms = alarms.as_array().context("the gateway's answer lists no alarms")?;
    super::put(&alarms.iter().map(|alarm| line(alarm) + "\n").collect::<String>())
}

/// One alarm for a person.
fn line(alarm: &Value) -> String {
    let word = |key: &str| alarm[key].as_str().unwrap_or("?").to_owned();
    if !alarm["stop"].is_null() {
        let machine = word("machine");
        return format!(
            "{:8} {:24} {machine:16} its protective stop FAILED, stop it by hand: {}",
            word("severity"),
            word("id"),
            word("cause")
        );
    }
    let condition = match alarm["active"].as_bool() {
        Some(true) => "active",
        Some(false) => "cleared",
        None => "unknown",
    };
    let seen = if alarm["acked"] == true { "acknowledged" } else { "unacknowledged" };
    let latched = if alarm["latched"] == true { ", latched" } else { "" };
    let age = alarm["for_ms"].as_u64().map_or(String::new(), |ms| format!(", {} s ago", ms / 1000));
    format!(
        "{:8} {:24} {:16} {condition}, {seen}{latched}{age}: {}",
        word("severity"),
        word("id"),
        word("machine"),
        word("cause"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reset_says_what_to_do() {
        // The engine's own words; the board's test holds the list of them.
        let protection = include_str!("../../engine/src/engine/protection.rs");
        let alarm = include_str!("../../engine/src/alarm.rs");
        for why in
            ["its stop is not confirmed", "its condition still holds", "its condition is unknown"]
        {
            assert!(format!("{protection}{alarm}").contains(why), "{why}");
            assert!(super::super::asking::advice(why).len() > 10, "{why}");
        }
    }

    #[test]
    fn a_failed_stop_is_listed_as_one() {
        let alarm = json!({ "id": "stop:cut", "stop": "cut", "machine": "laser",
            "severity": "critical", "active": true, "cause": "timeout" });
        let line = line(&alarm);
        assert!(line.starts_with("critical stop:cut"), "{line}");
        assert!(line.contains("its protective stop FAILED"), "{line}");
    }

    #[test]
    fn an_unknown_alarm_is_not_shown_as_cleared() {
        let alarm = json!({ "id": "laser-hot", "machine": "laser", "severity": "high",
            "active": null, "acked": false, "latched": true, "for_ms": null, "cause": "63.2 °C" });
        let line = line(&alarm);
        assert!(line.contains("unknown, unacknowledged, latched: 63.2 °C"), "{line}");
    }
}
