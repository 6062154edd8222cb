//! Devices that a broker knows of: what Tasmota, zigbee2mqtt, Shelly and Home Assistant's
//! discovery have announced, mostly retained, becomes proposals.
//!
//! Only reads. Bounds: [`DEVICES_MAX`] devices of each kind, [`PAYLOAD_MAX`] bytes per message.
//! Facts: Tasmota's discovery protocol, zigbee2mqtt's guide, Shelly's API documentation, Home
//! Assistant's "MQTT discovery".

use std::collections::BTreeMap;

use andon_adapters::zigbee2mqtt;
use serde_json::Value;

use super::home_assistant::Entities;
use super::proposal::Proposal;

/// Most devices of one kind that are kept.
pub const DEVICES_MAX: usize = 500;
/// Largest announcement; a bridge lists all of its devices in one.
pub const PAYLOAD_MAX: usize = 4 * 1024 * 1024;
/// Most channels of a relay or meter that are counted.
const CHANNELS_MAX: usize = 32;

/// What is known of a device of which only the last will was heard.
const ONLY_THERE: &str = "it only said that it is there: channels and meter are guesses";

/// Where announcements are. The two discovery prefixes and the bridge's base are the usual ones.
pub const FILTERS: &[&str] = &[
    "tasmota/discovery/#",
    "tele/+/LWT",
    "zigbee2mqtt/bridge/devices",
    "shellies/announce",
    "shellies/+/announce",
    "shellies/+/online",
    "+/online",
    "+/events/rpc",
    "homeassistant/#",
];

/// What was announced so far.
#[derive(Debug, Default)]
pub struct Announced {
    /// By MAC address: configuration and sensors.
    tasmota: BTreeMap<String, (Option<Value>, Option<Value>)>,
    /// Topics with a last will of Tasmota's.
    wills: BTreeMap<String, ()>,
    zigbee: Option<Value>,
    /// By id: the announcement of the first generation.
    gen1: BTreeMap<String, Value>,
    /// By prefix: the parts that a later generation has told of.
    later: BTreeMap<String, Vec<String>>,
    entities: Entities,
    /// Announcements that were left out because there were too many.
    pub left_out: u64,
}

impl Announced {
    /// Takes a message.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) {
        if payload.len() > PAYLOAD_MAX {
            self.left_out += 1;
            return;
        }
        let levels: Vec<&str> = topic.split('/').collect();
        let document = || serde_json::from_slice::<Value>(payload).ok();
        let fits = match levels[..] {
            ["tasmota", "discovery", mac, what @ ("config" | "sensors")] => {
                let Some(document) = document() else { return };
                keep(&mut self.tasmota, mac, |(config, sensors)| {
                    *(if what == "config" { config } else { sensors }) = Some(document);
                })
            }
            ["tele", topic, "LWT"] => keep(&mut self.wills, topic, |()| {}),
            ["zigbee2mqtt", "bridge", "devices"] => {
                self.zigbee = document().or(self.zigbee.take());
                true
            }
            ["shellies", "announce"] | ["shellies", _, "announce"] => {
                let Some(document) = document() else { return };
                let Some(id) = document["id"].as_str().map(str::to_owned) else { return };
                keep(&mut self.gen1, &id, |known| *known = document)
            }
            ["shellies", id, "online"] => keep(&mut self.gen1, id, |_| {}),
            [prefix, "online"] if prefix.starts_with("shelly") => {
                keep(&mut self.later, prefix, |_| {})
            }
            [prefix, "events", "rpc"] => {
                let Some(document) = document() else { return };
                if !document["src"].as_str().is_some_and(|src| src.starts_with("shelly")) {
                    return;
                }
                keep(&mut self.later, prefix, |parts| tell_parts(&document, parts))
            }
            ["homeassistant", ..] if topic.ends_with("/config") => {
                document().is_none_or(|document| self.entities.hear(&document))
            }
            _ => true,
        };
        self.left_out += u64::from(!fits);
    }

    /// What there is to propose.
    pub fn proposals(&self) -> Vec<Proposal> {
        let mut proposals: Vec<Proposal> = self.tasmota.values().filter_map(tasmota).collect();
        for topic in self.wills.keys() {
            if !proposals.iter().any(|known| known.topic.as_deref() == Some(topic)) {
                let note = "its discovery is off (SetOption19 0): channels and phases are guesses";
                proposals.push(at(topic, Proposal::new(topic, "tasmota").note(note)));
            }
        }
        let zigbee = self.zigbee.as_ref().and_then(Value::as_array).into_iter().flatten();
        proposals.extend(zigbee.take(DEVICES_MAX).filter_map(zigbee_device));
        proposals.extend(self.gen1.iter().map(|(id, announced)| shelly_gen1(id, announced)));
        proposals.extend(self.later.iter().map(|(prefix, parts)| shelly(prefix, parts)));
        let known: Vec<String> = proposals.iter().map(topic_of).collect();
        proposals.extend(self.entities.proposals(&known));
        proposals
    }
}

/// Keeps something under a key, unless there are too many keys already.
fn keep<T: Default>(known: &mut BTreeMap<String, T>, key: &str, put: impl FnOnce(&mut T)) -> bool {
    if !known.contains_key(key) && known.len() == DEVICES_MAX {
        return false;
    }
    put(known.entry(key.to_owned()).or_default());
    true
}

/// Adds the parts that a notification tells of: `switch:0`.
fn tell_parts(notification: &Value, parts: &mut Vec<String>) {
    let told = notification["params"].as_object().into_iter().flat_map(|told| told.keys());
    for part in told.filter(|part| part.contains(':')) {
        if parts.len() < CHANNELS_MAX && !parts.contains(part) {
            parts.push(part.clone());
        }
    }
}

fn at(topic: &str, proposal: Proposal) -> Proposal {
    Proposal { topic: Some(topic.to_owned()), ..proposal }
}

/// The first levels of a device's own topics, by which other announcements of it are known.
fn topic_of(proposal: &Proposal) -> String {
    let topic = proposal.topic.clone().unwrap_or_default();
    match proposal.protocol {
        "zigbee2mqtt" => format!("zigbee2mqtt/{topic}"),
        "shelly-gen1" => format!("shellies/{topic}"),
        _ => topic,
    }
}

fn tasmota((config, sensors): &(Option<Value>, Option<Value>)) -> Option<Proposal> {
    let config = config.as_ref()?;
    let topic = config["t"].as_str()?;
    let name = config["dn"].as_str().filter(|name| !name.is_empty()).unwrap_or(topic);
    let mut proposal = at(topic, Proposal::new(name, "tasmota"));
    let relays = config["rl"].as_array().into_iter().flatten().take(CHANNELS_MAX);
    let channels = relays.filter(|relay| relay.as_u64().is_some_and(|kind| kind > 0)).count();
    if channels != 1 {
        proposal = proposal.option("channels", channels.to_string());
    }
    let energy = sensors.as_ref().map(|sensors| &sensors["sn"]["ENERGY"]);
    let phases = match energy {
        Some(energy) if energy.is_object() => energy["Power"].as_array().map_or(1, Vec::len),
        _ => 0,
    };
    if phases != 1 {
        proposal = proposal.option("phases", phases.min(3).to_string());
    }
    let full = config["ft"].as_str().unwrap_or("%prefix%/%topic%/");
    if full != "%prefix%/%topic%/" {
        proposal = proposal.option("full_topic", full);
    }
    for (option, at, usual) in [("off", 0, "OFF"), ("on", 1, "ON")] {
        let word = config["state"][at].as_str().unwrap_or(usual);
        if word != usual {
            proposal = proposal.option(option, word);
        }
    }
    let usual = ["cmnd", "stat", "tele"];
    let prefixes = config["tp"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if config["tp"].is_array() && !prefixes.eq(usual) {
        proposal = proposal.note("its prefixes are not cmnd, stat and tele: set them back first");
    }
    Some(proposal)
}

fn zigbee_device(device: &Value) -> Option<Proposal> {
    let name = device["friendly_name"].as_str()?;
    let definition = device.get("definition").filter(|definition| definition.is_object())?;
    let mut found = Vec::new();
    properties(&definition["exposes"], 0, &mut found);
    let relays = found
        .iter()
        .filter(|key| **key == "state" || key.starts_with("state_l"))
        .count()
        .min(CHANNELS_MAX);
    let mut keys: Vec<&str> = if relays > 0 { vec!["state"] } else { Vec::new() };
    let known = zigbee2mqtt::keys().filter(|key| *key != "linkquality" && found.contains(key));
    keys.extend(known);
    if keys.is_empty() {
        return None;
    }
    let (vendor, model) = (definition["vendor"].as_str(), definition["model"].as_str());
    let note = format!("{} {}", vendor.unwrap_or("?"), model.unwrap_or("?"));
    let mut proposal = at(name, Proposal::new(name, "zigbee2mqtt")).note(note);
    proposal = proposal.option("keys", keys.join(","));
    if relays > 1 {
        proposal = proposal.option("channels", relays.to_string());
    }
    Some(proposal)
}

/// The properties that a zigbee device's definition exposes, features of features too.
fn properties<'a>(exposes: &'a Value, depth: u8, found: &mut Vec<&'a str>) {
    /// Features of features of a device: two levels are in use.
    const DEPTH_MAX: u8 = 4;
    for expose in exposes.as_array().into_iter().flatten() {
        // A battery's voltage is no voltage of a supply.
        if expose["unit"] != "mV" {
            found.extend(expose["property"].as_str());
        }
        if depth < DEPTH_MAX {
            properties(&expose["features"], depth + 1, found);
        }
    }
}

fn shelly_gen1(id: &str, announced: &Value) -> Proposal {
    let proposal = at(id, Proposal::new(id, "shelly-gen1"));
    let Some(model) = announced["model"].as_str() else { return proposal.note(ONLY_THERE) };
    let proposal = proposal.note(model);
    match model {
        "SHEM" => proposal.option("meter", "em1").option("meters", "2"),
        "SHEM-3" => proposal.option("meter", "em1").option("meters", "3"),
        "SHSW-1" => proposal.option("meter", "none"),
        "SHSW-25" => proposal.option("channels", "2"),
        _ => proposal,
    }
}

fn shelly(prefix: &str, parts: &[String]) -> Proposal {
    let count =
        |kind: &str| parts.iter().filter(|part| part.split(':').next() == Some(kind)).count();
    let proposal = at(prefix, Proposal::new(prefix, "shelly"));
    let switches = count("switch");
    let proposal = match switches {
        0 if parts.is_empty() => {
            return proposal.note(ONLY_THERE);
        }
        1 => proposal,
        n => proposal.option("channels", n.to_string()),
    };
    for kind in ["em", "em1", "pm1"] {
        let meters = count(kind);
        if meters > 0 {
            let proposal = proposal.option("meter", kind);
            let several = kind != "em" && meters > 1;
            return if several {
                proposal.option("meters", meters.min(3).to_string())
            } else {
                proposal
            };
        }
    }
    proposal
}

#[cfg(test)]
mod tests;
