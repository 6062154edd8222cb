//! `andon why MACHINE.ITEM`: one item of a running gateway, from the register or message that it comes
//! from to the rules that look at it. `andon why MACHINE`: why its state is what it is, from the items
//! that it is told from.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::Usage;
use super::asking::{Gateway, Whereabouts, lasting, plain, reason};
use crate::diagnostics::Explanation;

mod item;

use item::{believed, text};

/// Arguments of `andon why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The machine and its item, laser.power.active; or the machine, for its state
    #[arg(value_name = "MACHINE[.ITEM]")]
    item: String,
    #[command(flatten)]
    whereabouts: Whereabouts,
    /// Print what the gateway answers, as JSON
    #[arg(long)]
    json: bool,
}

/// Asks the running gateway and prints what it answers.
///
/// # Errors
/// When the gateway cannot be reached, or knows no such item; the message names the likest one.
pub async fn run(args: WhyArgs) -> anyhow::Result<()> {
    let gateway = args.whereabouts.gateway()?;
    let Some((machine, item)) = args.item.split_once('.') else {
        return machine(&gateway, &args.item, args.json).await;
    };
    if machine.is_empty() || item.is_empty() {
        bail!(Usage(format!("{:?} is no MACHINE.ITEM, such as laser.power.active", args.item)));
    }
    let told = gateway.get("why", &[machine, item]).await?;
    if args.json {
        return super::say(&told.to_string());
    }
    super::say(text(&read(&gateway, told)?).trim_end())
}

fn read(gateway: &Gateway, told: Value) -> anyhow::Result<Explanation> {
    serde_json::from_value(told)
        .with_context(|| format!("{} explains nothing of this version", gateway.url()))
}

/// Asks for a machine's state and for the items that it is told from.
async fn machine(gateway: &Gateway, id: &str, as_json: bool) -> anyhow::Result<()> {
    let picture = gateway.get("picture", &[]).await?;
    let machines = picture["machines"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(machine) = machines.iter().find(|machine| machine["id"] == id) else {
        // The gateway knows its sources too, and says whose this one is.
        gateway.get("why", &[id, "execution"]).await?;
        bail!("there is no machine {id:?}");
    };
    if as_json {
        return super::say(&machine.to_string());
    }
    let mut signals = Vec::new();
    for item in machine["activity_from"].as_array().into_iter().flatten().filter_map(Value::as_str)
    {
        signals.push(read(gateway, gateway.get("why", &[id, item]).await?)?);
    }
    super::say(state(id, machine, &signals).trim_end())
}

/// Why a machine's state is what it is, for a person.
fn state(id: &str, machine: &Value, signals: &[Explanation]) -> String {
    let why = machine["why"].as_str();
    let word = machine["execution"].as_str().unwrap_or("unknown");
    let since = machine["in_state_ms"]
        .as_u64()
        .map_or(String::new(), |ms| format!(", for {}", lasting(ms)));
    let mut out = format!("{id} is {}{since}", plain(word));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", why.map_or(String::new(), |why| format!(": {}", reason(why))));
    if signals.is_empty() {
        let _ = writeln!(
            out,
            "  nothing tells what it does; its values are all there is. For a state, write\n  \
             activity = {{ from = \"power.active\", … }} into [machine.{id}]"
        );
    }
    for it in signals {
        let _ = writeln!(out, "  told from  {} = {}", it.item, believed(it));
        if let Some(meaning) = &it.watchers.meaning {
            let _ = writeln!(out, "  meaning    {}", plain(meaning));
        }
    }
    if why == Some("conflict") {
        out.push_str(if signals.len() > 1 {
            "  conflict   one of these says that it runs and the power says that it is off, or the \
             power is\n             far below zero: look which of them is wrong\n"
        } else {
            "  conflict   a power far below zero is no consumption: the meter may be wired the wrong \
             way round,\n             or the machine feeds back\n"
        });
    }
    for it in signals {
        let _ = writeln!(out, "  ask        andon why {id}.{}", it.item);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::diagnostics::{Heard, Watchers};
    use andon_engine::value::Value as Believed;

    pub(super) fn power(watts: f64) -> Explanation {
        Explanation {
            v: 1,
            machine: "mains".into(),
            item: "power.active".into(),
            kind: "gauge".into(),
            unit: "W".into(),
            period_ms: 1000,
            stale_after_ms: 5000,
            heard: Heard { value: Some(Believed::Number(watts)), ..Heard::default() },
            origin: None,
            watchers: Watchers {
                meaning: Some("off below 15 W".to_owned()),
                ..Watchers::default()
            },
        }
    }

    #[test]
    fn a_state_that_is_told_from_nothing_says_what_to_write() {
        let machine = json!({ "execution": "unknown", "why": null, "in_state_ms": 12_000 });
        let said = state("mains", &machine, &[]);
        assert!(said.starts_with("mains is unknown, for 12"), "{said}");
        assert!(said.contains("into [machine.mains]"), "{said}");
    }

    #[test]
    fn a_state_names_its_signal_what_it_means_and_what_contradicts() {
        let machine = json!({ "execution": "unknown", "why": "conflict", "in_state_ms": 900 });
        let said = state("mains", &machine, &[power(-2734.5)]);
        for words in
            [": conflict\n", "power.active = -2734.5 W", "off below 15 W", "wrong way round"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(said.contains("andon why mains.power.active"), "{said}");
    }

    #[test]
    fn a_machine_that_nobody_heard_of_yet_says_so_in_words() {
        let machine = json!({ "execution": "unknown", "why": "not_yet", "in_state_ms": 900 });
        let said = state("mill", &machine, &[power(0.0)]);
        assert!(said.contains(": nothing heard yet\n"), "{said}");
    }
}
