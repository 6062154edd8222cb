//! Zigbee plugs, relays and sensors through zigbee2mqtt.
//!
//! The bridge publishes a device's state when it changes. `state` and `power` are asked for at
//! every period (`NAME/get`), which only devices on mains answer; a sensor that sleeps reports
//! when something changes. While the bridge's own check of availability says `online`, the last
//! values that were heard over this connection stand for at most [`HOLD`]; without it a device
//! that does not answer is unknown. So is one that answered [`ANSWERS`] questions in a row and then
//! falls silent: the bridge takes ten minutes to notice that it was unplugged. What a broker has
//! kept from before is never a value.
//!
//! | key of the state | item |
//! |---|---|
//! | `state`, with several `channels` `state_l1` … | `relay.1` … |
//! | `power`, `voltage`, `current`, `energy` (kWh), `power_factor`, `ac_frequency` | `power.active`, `voltage`, `current`, `energy.total`, `power.factor`, `frequency` |
//! | `temperature`, `humidity` (%), `pressure` (hPa) | `temperature`, `humidity`, `pressure` |
//! | `co2`, `pm25`, `pm10`, `illuminance` | the same |
//! | `contact` (closed) | `door` (open) |
//! | `occupancy`, `smoke`, `water_leak`, `carbon_monoxide` | `input.1`, `input.2`, `input.3`, `input.4` |
//! | `linkquality` (0–255) | `signal` (%) |
//!
//! Stop: `NAME/set` OFF, accepted by the state that the bridge publishes for it, read back by the
//! answer to a `NAME/get`. Facts: zigbee2mqtt's guide, "MQTT topics and messages", "Device
//! availability". Bound: one value per item.

use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use crate::device::{Device, Heard, Outbox, Outgoing, Stop};
use crate::document;
use crate::held::Held;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

/// How long a value stands without a message while the bridge says `online`. It looks after
/// devices on mains that were silent for ten minutes.
pub const HOLD: Duration = Duration::from_secs(15 * 60);
/// Questions in a row that were answered before a device counts as one that answers.
pub const ANSWERS: u8 = 5;
/// Relays of one device.
const CHANNELS_MAX: u8 = 8;
/// Keys of a plug.
const PLUG_KEYS: &str = "state,power,voltage,current,energy";

/// How a key is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// A number, times this.
    Number(f64),
    /// True or false.
    Flag,
    /// True or false, and the item says the opposite.
    Opposite,
}

const KEYS: &[(&str, &str, Form)] = &[
    ("power", "power.active", Form::Number(1.0)),
    ("voltage", "voltage", Form::Number(1.0)),
    ("current", "current", Form::Number(1.0)),
    ("energy", "energy.total", Form::Number(1000.0)),
    ("power_factor", "power.factor", Form::Number(1.0)),
    ("ac_frequency", "frequency", Form::Number(1.0)),
    ("temperature", "temperature", Form::Number(1.0)),
    ("humidity", "humidity", Form::Number(0.01)),
    ("pressure", "pressure", Form::Number(100.0)),
    ("co2", "co2", Form::Number(1.0)),
    ("pm25", "pm25", Form::Number(1.0)),
    ("pm10", "pm10", Form::Number(1.0)),
    ("illuminance", "illuminance", Form::Number(1.0)),
    ("contact", "door", Form::Opposite),
    ("occupancy", "input.1", Form::Flag),
    ("smoke", "input.2", Form::Flag),
    ("water_leak", "input.3", Form::Flag),
    ("carbon_monoxide", "input.4", Form::Flag),
    ("linkquality", "signal", Form::Number(100.0 / 255.0)),
];

/// The keys of a state that are read, beside `state`.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, ..)| *key)
}

/// Zigbee2MQTT over a shared broker.
pub const PROTOCOL: Protocol = Protocol {
    name: "zigbee2mqtt",
    title: "Zigbee plug or sensor through zigbee2mqtt",
    source: "zigbee2mqtt guide: MQTT topics and messages, device availability",
    evidence: "against recorded messages only",
    reach: Reach::SharedBroker,
    login: Login::None,
    options: &[
        ("base", "the bridge's base topic; zigbee2mqtt when absent"),
        (
            "keys",
            "keys of the device's state, with commas; state,power,voltage,current,energy when absent",
        ),
        ("channels", "relays, 1 to 8, when state is among the keys; 1 when absent"),
    ],
    device: |settings| Zigbee::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// A device behind the bridge.
#[derive(Debug)]
struct Zigbee {
    topic: String,
    bridge: String,
    items: Vec<Arc<str>>,
    /// Keys with their items; relays apart.
    keys: Vec<(&'static str, Arc<str>, Form)>,
    /// The keys of the relays.
    relays: Vec<String>,
    /// What is asked for at every period; empty for devices that sleep.
    question: String,
    available: Option<bool>,
    bridge_away: bool,
    /// Questions in a row that were followed by an answer; stays at [`ANSWERS`].
    answered: u8,
    presence: Presence,
    held: Held,
    stopping: Stopping,
}

impl Zigbee {
    fn new(settings: &Settings) -> Result<Self, String> {
        let base = settings.option("base").unwrap_or("zigbee2mqtt").trim_matches('/');
        let name = settings.topic.trim_matches('/');
        if [base, name].iter().any(|part| part.is_empty() || part.contains(['+', '#'])) {
            return Err("topic is the device's friendly name, as the bridge shows it".to_owned());
        }
        let wanted = settings.option("keys").unwrap_or(PLUG_KEYS);
        let mut items: Vec<Arc<str>> = vec!["online".into()];
        let (mut keys, mut relays, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for key in wanted.split(',').map(str::trim).chain(["linkquality"]) {
            if key == "state" {
                relays = relay_keys(settings)?;
                items.extend((1..=relays.len()).map(|n| format!("relay.{n}").into()));
                asked.extend(relays.clone());
                continue;
            }
            let known = KEYS.iter().find(|(known, ..)| *known == key);
            let Some(&(known, item, form)) = known else {
                let all: Vec<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
                return Err(format!("keys: \"{key}\" is none of state, {}", all.join(", ")));
            };
            if items.iter().any(|there| &**there == item) {
                continue;
            }
            items.push(item.into());
            keys.push((known, item.into(), form));
            if key == "power" {
                asked.push(key.to_owned());
            }
        }
        let asked: Vec<String> = asked.iter().map(|key| format!(r#""{key}":"""#)).collect();
        Ok(Self {
            topic: format!("{base}/{name}"),
            bridge: format!("{base}/bridge/state"),
            items,
            keys,
            relays,
            question: if asked.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", asked.join(","))
            },
            available: None,
            bridge_away: false,
            answered: 0,
            presence: Presence::default(),
            held: Held::default(),
            stopping: Stopping::default(),
        })
    }

    fn publish(&self, to: &str, payload: &str, out: &mut Outbox) {
        let topic = format!("{}/{to}", self.topic);
        out.send(Outgoing::Publish { topic, payload: payload.as_bytes().to_vec() });
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        if self.answered < ANSWERS {
            self.answered = if self.presence.is_answered() { self.answered + 1 } else { 0 };
        }
        let answers = self.answered == ANSWERS && !self.question.is_empty();
        let vouched_for = self.available == Some(true) && !self.bridge_away;
        if vouched_for && !answers {
            self.presence.expect_answer();
            let stale = self.held.say_again(now, HOLD, out);
            if stale > 0 {
                let minutes = HOLD.as_secs() / 60;
                out.trouble = Some(format!("the device has said nothing for {minutes} min"));
            }
        } else if self.question.is_empty() {
            self.presence.remind(&self.items, out);
        } else {
            let topic = &self.topic;
            self.presence.ask(&self.items, out, || {
                format!("{topic} does not answer; turn on the bridge's check of availability")
            });
        }
        if !self.question.is_empty() {
            self.publish("get", &self.question, out);
        }
    }

    fn message(
        &mut self,
        now: BootTime,
        topic: &str,
        payload: &[u8],
        kept: bool,
        out: &mut Outbox,
    ) {
        if topic == self.bridge {
            self.bridge_away = availability(payload) == Some(false);
            self.judge(out);
            return;
        }
        match topic.strip_prefix(&*self.topic) {
            Some("/availability") => {
                self.available = availability(payload);
                self.judge(out);
            }
            Some("") if !kept => self.state(now, payload, out),
            _ => {}
        }
    }

    /// What the bridge has said about itself and the device.
    fn judge(&mut self, out: &mut Outbox) {
        let words = match (self.bridge_away, self.available) {
            (true, _) => "zigbee2mqtt itself is offline",
            (false, Some(false)) => "zigbee2mqtt says that the device is offline",
            (false, _) => return self.presence.back(),
        };
        self.held.clear();
        self.presence.offline(&self.items, out, words.to_owned());
    }

    fn state(&mut self, now: BootTime, payload: &[u8], out: &mut Outbox) {
        let Some(state) = document::parse(payload).filter(Value::is_object) else {
            out.trouble = Some("the bridge sent a state that is no JSON".to_owned());
            out.unavailable(&self.items[1..], Unavailable::Garbled);
            self.held.clear();
            return;
        };
        self.presence.heard(out);
        out.flag("online", true);
        for (key, item, form) in &self.keys {
            if let Some(value) = state.get(key) {
                self.held.hear(now, item, read(value, *form), out);
            }
        }
        let mut all_off = Some(!self.relays.is_empty());
        for (number, key) in (1..).zip(&self.relays) {
            let on = match state.get(key).map(Value::as_str) {
                None => {
                    all_off = None;
                    continue;
                }
                Some(Some("ON")) => Some(true),
                Some(Some("OFF")) => Some(false),
                Some(_) => None,
            };
            let measured = on.map(Said::Flag).ok_or(Unavailable::Garbled);
            self.held.hear(now, &format!("relay.{number}").into(), measured, out);
            all_off = all_off.and_then(|off| on.map(|on| off && !on));
        }
        match all_off {
            Some(all_off) if self.stopping.is_answered() => self.stopping.seen(all_off, out),
            Some(true) if self.stopping.accept(out) => self.publish("get", &self.question, out),
            _ => {}
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        if stop != Stop::Off {
            self.stopping.fail("a relay can only be switched off", out);
        } else if self.relays.is_empty() {
            self.stopping.fail("the device has no relay", out);
        } else {
            let off: Vec<String> =
                self.relays.iter().map(|key| format!(r#""{key}":"OFF""#)).collect();
            self.publish("set", &format!("{{{}}}", off.join(",")), out);
        }
    }
}

impl Device for Zigbee {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        if self.relays.is_empty() { &[] } else { &[Stop::Off] }
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.presence = Presence::default();
                (self.available, self.bridge_away, self.answered) = (None, false, 0);
                self.held.clear();
                let topics = [
                    self.topic.clone(),
                    format!("{}/availability", self.topic),
                    self.bridge.clone(),
                ];
                topics.into_iter().for_each(|topic| out.send(Outgoing::Subscribe(topic)));
                self.due(now, out);
            }
            Heard::Due => self.due(now, out),
            Heard::Message { topic, payload, retained } => {
                self.message(now, topic, payload, retained, out);
            }
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Closed => {
                self.held.clear();
                presence::closed(&self.items, out);
                self.stopping.fail("the broker was lost before the stop was read back", out);
            }
            _ => {}
        }
        self.stopping.tick(now, out);
    }
}

fn relay_keys(settings: &Settings) -> Result<Vec<String>, String> {
    let text = settings.option("channels").unwrap_or("1");
    let channels = text.trim().parse().ok().filter(|n| (1..=CHANNELS_MAX).contains(n));
    match channels {
        Some(1) => Ok(vec!["state".to_owned()]),
        Some(channels) => Ok((1..=channels).map(|channel| format!("state_l{channel}")).collect()),
        None => Err(format!("channels is \"{text}\"; write a number from 1 to {CHANNELS_MAX}")),
    }
}

/// `online` or `{"state":"online"}`.
fn availability(payload: &[u8]) -> Option<bool> {
    let document = document::parse(payload);
    let word = document.as_ref().and_then(|document| document["state"].as_str());
    match word.or_else(|| std::str::from_utf8(payload).ok()) {
        Some("online") => Some(true),
        Some("offline") => Some(false),
        _ => None,
    }
}

fn read(value: &Value, form: Form) -> Measured {
    match form {
        Form::Number(factor) => document::measured(value, factor),
        Form::Flag | Form::Opposite => {
            let flag = value.as_bool().ok_or(Unavailable::Garbled)?;
            Ok(Said::Flag(flag == (form == Form::Flag)))
        }
    }
}

#[cfg(test)]
mod tests;
