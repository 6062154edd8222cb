//! `andon top`: a running gateway at a glance, once a second on a terminal. It shows nothing old: when
//! the gateway does not answer, the screen says so and is otherwise empty.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::asking::{Gateway, Whereabouts, plain};
use crate::diagnostics::Diagnostics;

mod screen;

/// How often the screen is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// Lines of a terminal that does not say how many it has.
const LINES: usize = 24;

/// Arguments of `andon top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    whereabouts: Whereabouts,
    /// Print once, after the second that rates need, instead of every second
    #[arg(long)]
    once: bool,
    /// Print the gateway's snapshot once, as JSON
    #[arg(long)]
    json: bool,
}

/// Shows the gateway until SIGINT or SIGTERM; once where stdout is no terminal.
///
/// # Errors
/// When the gateway cannot be reached to begin with.
pub async fn run(args: TopArgs) -> anyhow::Result<()> {
    let gateway = args.whereabouts.gateway()?;
    if args.json {
        return super::say(&gateway.get("diagnostics", &[]).await?.to_string());
    }
    let first = look(&gateway).await?;
    if args.once || !std::io::stdout().is_terminal() {
        // A rate is of the time between two looks.
        tokio::time::sleep(EVERY).await;
        let seen = look(&gateway).await?;
        return super::say(&screen::lines(&seen, Some(&first), usize::MAX).join("\n"));
    }
    let terminal = Terminal::take();
    let ended = watch(&gateway, first, &terminal).await;
    drop(terminal);
    ended
}

/// What is looked at in one go.
struct Seen {
    diagnostics: Diagnostics,
    /// Machines with items that have no value.
    blind: Vec<Blind>,
    at: Instant,
}

/// The items of one machine that have no value.
struct Blind {
    machine: String,
    /// By why: their names, and how long ago the one that is silent longest was heard of; none when
    /// no word of any has come.
    items: BTreeMap<String, (Vec<String>, Option<u64>)>,
}

impl Blind {
    /// How many items.
    fn count(&self) -> usize {
        self.items.values().map(|(names, _)| names.len()).sum()
    }

    fn longest(&self) -> Option<u64> {
        self.items.values().filter_map(|(_, age)| *age).max()
    }
}

async fn look(gateway: &Gateway) -> anyhow::Result<Seen> {
    let told = gateway.get("diagnostics", &[]).await?;
    let diagnostics = serde_json::from_value(told)
        .with_context(|| format!("{} tells no diagnostics of this version", gateway.url()))?;
    let picture = gateway.get("picture", &[]).await?;
    Ok(Seen { diagnostics, blind: blind(&picture), at: Instant::now() })
}

/// The machines of a picture with items that have no value, the longest silent first; those that
/// nobody has heard of yet last.
fn blind(picture: &Value) -> Vec<Blind> {
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| plain(value.as_str().unwrap_or("?"));
    let mut blind = Vec::new();
    for machine in each(&picture["machines"]) {
        let mut found = Blind { machine: word(&machine["id"]), items: BTreeMap::new() };
        for item in each(&machine["items"]).iter().filter(|item| item["value"].is_null()) {
            let (names, age) = found.items.entry(word(&item["why"])).or_default();
            names.push(word(&item["name"]));
            *age = (*age).max(item["age_ms"].as_u64());
        }
        if !found.items.is_empty() {
            blind.push(found);
        }
    }
    blind.sort_by_key(|machine| std::cmp::Reverse(machine.longest()));
    blind
}

async fn watch(gateway: &Gateway, first: Seen, terminal: &Terminal) -> anyhow::Result<()> {
    let stop = super::asked_to_stop();
    tokio::pin!(stop);
    terminal.draw(&screen::lines(&first, None, terminal.rows()))?;
    let mut before = first;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        let seen = async {
            tick.tick().await;
            look(gateway).await
        };
        let seen = tokio::select! {
            () = &mut stop => return Ok(()),
            seen = seen => seen,
        };
        match seen {
            Ok(seen) => {
                terminal.draw(&screen::lines(&seen, Some(&before), terminal.rows()))?;
                before = seen;
            }
            Err(error) => {
                let silent = before.at.elapsed().as_secs();
                let said = plain(&format!("{error:#}"));
                terminal.draw(&[format!("NOT LIVE for {silent} s: {said}")])?;
            }
        }
    }
}

/// The terminal, with long lines cut instead of wrapped for as long as it is held.
struct Terminal;

impl Terminal {
    fn take() -> Self {
        // A terminal that is gone is noticed at the first drawing.
        write(b"\x1b[?7l\x1b[2J").ok();
        Self
    }

    /// How many lines it has.
    fn rows(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(LINES)
    }

    /// Draws over what was there.
    fn draw(&self, lines: &[String]) -> std::io::Result<()> {
        write(format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")).as_bytes())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write(b"\x1b[?7h\r\n").ok();
    }
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn machines_without_values_are_listed_longest_silent_first_and_the_unheard_last() {
        let item = |name: &str, value: Value, age: Option<u64>| {
            let why = if name == "door" { "refused" } else { "timeout" };
            json!({ "name": name, "value": value, "why": why, "age_ms": age })
        };
        let picture = json!({ "machines": [
            { "id": "laser", "items": [item("voltage", json!(230), Some(3)), item("current", Value::Null, None)] },
            { "id": "cnc", "items": [
                item("feed", Value::Null, Some(900)), item("load", Value::Null, Some(5000)),
                item("door", Value::Null, Some(70)),
            ] },
            { "id": "saw", "items": [item("current", json!(1), Some(3))] },
        ]});
        let told = blind(&picture);
        let machines: Vec<(&str, usize)> =
            told.iter().map(|it| (&*it.machine, it.count())).collect();
        assert_eq!(machines, [("cnc", 3), ("laser", 1)]);
        let names = vec!["feed".to_owned(), "load".to_owned()];
        assert_eq!(told[0].items["timeout"], (names, Some(5000)));
        assert_eq!(told[0].items["refused"], (vec!["door".to_owned()], Some(70)));
        assert!(blind(&json!({ "machines": "rubbish" })).is_empty());
    }
}
