//! Asks a device once, for `andon read`: what it said beside what was made of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::{Heard, Outbox, Outgoing};
use andon_engine::value::Measured;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::broker::Brokers;
use super::connection::{Connection, Event, Opener};
use crate::config::plan::DevicePlan;

/// What is kept of what the device said, for a person to look at.
const HEARD_MAX: usize = 20;
/// Bytes of each that are kept.
const HEARD_BYTES_MAX: usize = 400;

/// What one conversation with a device brought.
#[derive(Debug, Default)]
pub struct Probed {
    /// What it said of its items, the last word of each.
    pub said: BTreeMap<Arc<str>, Measured>,
    /// What is wrong, in words.
    pub trouble: Option<String>,
    /// What was heard, as it came, shortened.
    pub heard: Vec<String>,
}

/// Opens the device's connection, asks it every period, and returns as soon as it has said
/// something of its items and then nothing new for a period; or what there is after `within`.
///
/// # Errors
/// In words, when there is no connection or the device cannot be made.
pub async fn probe_device(
    plan: &DevicePlan,
    brokers: &Brokers,
    state_dir: &Path,
    within: Duration,
) -> Result<Probed, String> {
    let mut device = (plan.protocol.device)(&plan.settings)?;
    let end = Instant::now() + within;
    let mut opener = Opener::new(plan, brokers, state_dir);
    let opening = timeout_at(end, opener.open()).await;
    let mut connection = opening.map_err(|_| "it does not answer".to_owned())??;
    let mut probed = Probed::default();
    let started = (crate::clock::boot_now(), Instant::now());
    let mut due = Instant::now();
    let mut known = 0;
    let mut heard = Some(Heard::Opened);
    let mut event: Event;
    loop {
        if let Some(heard) = heard.take() {
            let mut out = Outbox::default();
            device.step(started.0 + started.1.elapsed(), heard, &mut out);
            send(&mut connection, out.sends).await?;
            probed.trouble = out.trouble.or(probed.trouble.take()).filter(|_| !out.alive);
            probed.said.extend(out.said);
        }
        tokio::select! {
            biased;
            next = connection.next() => event = next,
            () = sleep_until(due) => {
                let good = probed.said.values().filter(|measured| measured.is_ok()).count();
                if good > 0 && good == known {
                    return Ok(probed);
                }
                known = good;
                due += plan.period;
                connection.due();
                heard = Some(Heard::Due);
                continue;
            }
            () = sleep_until(end) => return Ok(probed),
        }
        if let Event::Closed(why) = &event {
            return if probed.said.is_empty() { Err(why.clone()) } else { Ok(probed) };
        }
        note(&mut probed, &event);
        heard = event.heard();
    }
}

async fn send(connection: &mut Connection, sends: Vec<Outgoing>) -> Result<(), String> {
    for outgoing in sends {
        // A probe is one conversation: it does not begin anew.
        if outgoing != Outgoing::Reopen {
            connection.send(outgoing).await?;
        }
    }
    Ok(())
}

fn note(probed: &mut Probed, event: &Event) {
    let text = match event {
        Event::Bytes(bytes) => String::from_utf8_lossy(bytes).trim_end().to_owned(),
        Event::Frame(text) => text.clone(),
        Event::Response { status, body } => {
            format!("{status} {}", String::from_utf8_lossy(body))
        }
        Event::NoResponse { words, .. } => {
            probed.trouble = Some(words.clone());
            words.clone()
        }
        Event::Message { topic, payload, .. } => {
            format!("{topic} {}", String::from_utf8_lossy(payload))
        }
        Event::Level { line, on } => format!("line {line}: {}", if *on { "on" } else { "off" }),
        Event::Closed(why) => why.clone(),
    };
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    if text.len() > HEARD_BYTES_MAX {
        let cut = (0..=HEARD_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    if probed.heard.len() == HEARD_MAX {
        probed.heard.remove(0);
    }
    probed.heard.push(text);
}
