//! Plugs and relays with Tasmota firmware, over a broker.
//!
//! Asks `cmnd/T/STATUS` 8 (measurements; 10 is the same) and 11 (relays, Wi-Fi) at every period,
//! so that the period is ours and not the plug's telemetry period of minutes, and so that a steady
//! load, which the plug need not report, is still known. What it reports by itself is taken too;
//! what a broker has kept from before never: its `Time` is local and without a zone.
//!
//! | firmware's word | item |
//! |---|---|
//! | `ENERGY.Power`, `Voltage`, `Current`, `Factor` | `power.active`, `voltage`, `current`, `power.factor` |
//! | `ENERGY.ApparentPower`, `ReactivePower`, `Frequency` | `power.apparent`, `power.reactive`, `frequency` |
//! | `ENERGY.Total` (kWh) | `energy.total` |
//! | `POWER`, `POWER1` … | `relay.1` … |
//! | `Wifi.Signal` (dBm) | `signal` |
//!
//! With option `phases` above 1 the firmware's arrays are `.l1`, `.l2`, `.l3` (the channels of a
//! strip as well), and power, current and energy without suffix are their sums. 0 V from a plug
//! that answers is a metering chip that is switched off with its relay: no value, not zero.
//!
//! Stop: `POWER` (all relays: `POWER0`) `OFF`, accepted by `stat/T/RESULT`, read back by
//! `STATUS11`. Facts: Tasmota's documentation, "MQTT" and "Commands". Bound: nothing is kept but
//! whether the relays are on.

use std::sync::Arc;

use andon_engine::item::CHANNELS_MAX;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use crate::device::{Device, Heard, Outbox, Outgoing, Stop};
use crate::document;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

/// Where the firmware puts prefix and topic unless told otherwise.
const FULL_TOPIC: &str = "%prefix%/%topic%/";
/// Phases of a meter.
const PHASES_MAX: u8 = 3;

/// Item, key in `ENERGY`, factor, and whether phases add up.
const ENERGY: &[(&str, &str, f64, bool)] = &[
    ("power.active", "Power", 1.0, true),
    ("power.apparent", "ApparentPower", 1.0, true),
    ("power.reactive", "ReactivePower", 1.0, true),
    ("current", "Current", 1.0, true),
    ("energy.total", "Total", 1000.0, true),
    ("voltage", "Voltage", 1.0, false),
    ("power.factor", "Factor", 1.0, false),
    ("frequency", "Frequency", 1.0, false),
];

/// Tasmota over a shared broker.
pub const PROTOCOL: Protocol = Protocol {
    name: "tasmota",
    title: "Tasmota plug, relay or meter over MQTT",
    source: "Tasmota documentation, MQTT.md and Commands.md",
    evidence: "against a replay through mosquitto; not yet against a plug",
    reach: Reach::SharedBroker,
    login: Login::None,
    options: &[
        ("channels", "relays, 0 to 32; 1 when absent"),
        ("phases", "channels of the meter, 0 (none) to 3; 1 when absent"),
        ("full_topic", "the firmware's FullTopic; %prefix%/%topic%/ when absent"),
        ("on", "the firmware's text of a relay that is on; ON when absent"),
        ("off", "the firmware's text of a relay that is off; OFF when absent"),
    ],
    device: |settings| Tasmota::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// A plug.
#[derive(Debug)]
struct Tasmota {
    command: String,
    status: String,
    telemetry: String,
    channels: u8,
    phases: u8,
    on: String,
    off: String,
    items: Vec<Arc<str>>,
    presence: Presence,
    stopping: Stopping,
}

impl Tasmota {
    fn new(settings: &Settings) -> Result<Self, String> {
        let topic = settings.topic.trim_matches('/');
        if topic.is_empty() || topic.contains(['+', '#', '%']) {
            return Err("topic is the plug's own topic, as its MQTT page shows it".to_owned());
        }
        let full = settings.option("full_topic").unwrap_or(FULL_TOPIC);
        if !full.contains("%prefix%") || !full.contains("%topic%") || full.contains(['+', '#']) {
            return Err(format!(
                "full_topic \"{full}\" has no %prefix% or no %topic%; copy it from the plug's MQTT \
                 page"
            ));
        }
        let at = |prefix: &str| {
            let full = full.replace("%prefix%", prefix).replace("%topic%", topic);
            format!("{}/", full.trim_end_matches('/'))
        };
        let channels = count(settings, "channels", CHANNELS_MAX)?;
        let phases = count(settings, "phases", PHASES_MAX)?;
        let word = |option, word: &str| settings.option(option).unwrap_or(word).to_owned();
        Ok(Self {
            command: at("cmnd"),
            status: at("stat"),
            telemetry: at("tele"),
            channels,
            phases,
            on: word("on", "ON"),
            off: word("off", "OFF"),
            items: items(channels, phases),
            presence: Presence::default(),
            stopping: Stopping::default(),
        })
    }

    fn publish(&self, command: &str, payload: &str, out: &mut Outbox) {
        let topic = format!("{}{command}", self.command);
        out.send(Outgoing::Publish { topic, payload: payload.as_bytes().to_vec() });
    }

    fn ask(&mut self, out: &mut Outbox) {
        let topic = &self.command;
        self.presence.ask(&self.items, out, || {
            format!("the plug does not answer at {topic}STATUS: is it off, or its topic another?")
        });
        if self.phases > 0 {
            self.publish("STATUS", "8", out);
        }
        self.publish("STATUS", "11", out);
    }

    fn message(&mut self, topic: &str, payload: &[u8], out: &mut Outbox) {
        if let Some(what) = topic.strip_prefix(&self.telemetry) {
            match what {
                "LWT" if payload == b"Offline" => self.offline(out),
                "SENSOR" => self.document(payload, Self::sensors, out),
                "STATE" => self.document(payload, Self::relays_and_signal, out),
                _ => {}
            }
        } else if let Some(what) = topic.strip_prefix(&self.status) {
            match what {
                "STATUS8" | "STATUS10" => self.document(
                    payload,
                    |plug, document, out| plug.sensors(&document["StatusSNS"], out),
                    out,
                ),
                "STATUS11" => self.document(payload, Self::read_back, out),
                "RESULT" => self.document(payload, Self::result, out),
                _ => {}
            }
        }
    }

    fn offline(&mut self, out: &mut Outbox) {
        let trouble = "the broker says that the plug is offline (its last will)".to_owned();
        self.presence.offline(&self.items, out, trouble);
    }

    fn document(
        &mut self,
        payload: &[u8],
        take: impl FnOnce(&mut Self, &Value, &mut Outbox),
        out: &mut Outbox,
    ) {
        match document::parse(payload).filter(Value::is_object) {
            Some(document) => {
                self.presence.heard(out);
                out.flag("online", true);
                take(self, &document, out);
            }
            None => {
                out.trouble = Some("the plug sent something that is no JSON".to_owned());
                let others: Vec<_> = self.items[1..].to_vec();
                out.unavailable(&others, Unavailable::Garbled);
            }
        }
    }

    fn sensors(&mut self, document: &Value, out: &mut Outbox) {
        if self.phases == 0 {
            return;
        }
        let energy = &document["ENERGY"];
        if !energy.is_object() {
            out.trouble = Some("the plug measures no energy: set phases to 0".to_owned());
            return;
        }
        for &(item, key, factor, adds_up) in ENERGY {
            if let Some(value) = energy.get(key) {
                self.quantity(item, value, factor, adds_up, out);
            }
        }
    }

    /// Says a quantity of `ENERGY`: a number, or one per phase.
    fn quantity(&self, item: &str, value: &Value, factor: f64, adds_up: bool, out: &mut Outbox) {
        let Value::Array(values) = value else {
            let measured = alive(item, document::measured(value, factor));
            if self.items.iter().any(|known| &**known == item) {
                out.say(item, measured);
            } else if item == "voltage" {
                // The firmware sends one voltage where its phases share it.
                (1..=self.phases).for_each(|n| out.say(&format!("voltage.l{n}"), measured.clone()));
            }
            return;
        };
        let phases = usize::from(self.phases);
        let measured: Vec<Measured> =
            values.iter().take(phases).map(|value| document::measured(value, factor)).collect();
        if values.len() > phases {
            out.trouble = Some(format!("the meter has {} channels: set phases", values.len()));
        }
        if phases > 1 && item != "frequency" {
            for (phase, measured) in (1..).zip(&measured) {
                let item_of_phase = format!("{item}.l{phase}");
                out.say(&item_of_phase, alive(item, measured.clone()));
            }
        }
        if adds_up && values.len() < phases {
            // What a channel left out is not zero.
            out.say(item, Err(Unavailable::Garbled));
        } else if adds_up && values.len() == phases {
            let sum = measured.into_iter().try_fold(0.0, |sum, measured| match measured? {
                Said::Number(number) => Ok(sum + number),
                Said::Flag(_) | Said::Text(_) => Err(Unavailable::Garbled),
            });
            match sum {
                Ok(sum) => out.number(item, sum),
                Err(why) => out.say(item, Err(why)),
            }
        } else if item == "frequency" {
            out.say(item, measured.first().cloned().unwrap_or(Err(Unavailable::Garbled)));
        } else if self.phases == 1 {
            out.say(item, Err(Unavailable::Garbled));
        }
    }

    /// What `STATUS11` and telemetry say of the relays. Returns whether all of them are off;
    /// `None` when one did not say.
    fn relays(&self, document: &Value, out: &mut Outbox) -> Option<bool> {
        let mut all_off = Some(self.channels > 0);
        for channel in 1..=self.channels {
            let alone = if self.channels == 1 { document.get("POWER") } else { None };
            let Some(word) = alone.or_else(|| document.get(format!("POWER{channel}"))) else {
                all_off = None;
                continue;
            };
            let on = self.is_on(word.as_str().unwrap_or_default());
            let item = format!("relay.{channel}");
            out.say(&item, on.map(Said::Flag).ok_or(Unavailable::Garbled));
            all_off = all_off.and_then(|off| on.map(|on| off && !on));
        }
        all_off
    }

    fn is_on(&self, word: &str) -> Option<bool> {
        match word {
            word if word == self.on => Some(true),
            word if word == self.off => Some(false),
            _ => None,
        }
    }

    fn relays_and_signal(&mut self, document: &Value, out: &mut Outbox) {
        self.relays(document, out);
        out.number_if("signal", document::number(&document["Wifi"]["Signal"]));
    }

    /// `STATUS11` is an answer to a question: what it says after the command is the read-back.
    fn read_back(&mut self, document: &Value, out: &mut Outbox) {
        let status = &document["StatusSTS"];
        out.number_if("signal", document::number(&status["Wifi"]["Signal"]));
        let all_off = self.relays(status, out);
        if let Some(all_off) = all_off.filter(|_| self.stopping.is_answered()) {
            self.stopping.seen(all_off, out);
        }
    }

    /// `stat/T/RESULT` echoes a command, ours or a person's at the button.
    fn result(&mut self, document: &Value, out: &mut Outbox) {
        self.relays(document, out);
        let switched_off = document.as_object().is_some_and(|result| {
            let mut relays = result.iter().filter(|(key, _)| key.starts_with("POWER"));
            relays.any(|(_, word)| word.as_str() == Some(&self.off))
        });
        if switched_off && self.stopping.accept(out) {
            self.publish("STATUS", "11", out);
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        match stop {
            Stop::Off if self.channels == 0 => self.stopping.fail("the device has no relay", out),
            Stop::Off if self.channels == 1 => self.publish("POWER", "OFF", out),
            Stop::Off => self.publish("POWER0", "OFF", out),
            Stop::Emergency | Stop::Cancel | Stop::Pause => {
                self.stopping.fail("a plug can only be switched off", out);
            }
        }
    }
}

impl Device for Tasmota {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn stops(&self) -> &[Stop] {
        if self.channels == 0 { &[] } else { &[Stop::Off] }
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.presence = Presence::default();
                for what in [&self.telemetry, &self.status] {
                    out.send(Outgoing::Subscribe(format!("{what}+")));
                }
                self.ask(out);
            }
            Heard::Due => self.ask(out),
            // A kept "Offline" is still so; anything else that was kept is of unknown age.
            Heard::Message { topic, payload, retained } if !retained || topic.ends_with("/LWT") => {
                self.message(topic, payload, out);
            }
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Closed => {
                presence::closed(&self.items, out);
                self.stopping.fail("the broker was lost before the stop was read back", out);
            }
            _ => {}
        }
        self.stopping.tick(now, out);
    }
}

/// A plug that answers has mains: 0 V is no measurement.
fn alive(item: &str, measured: Measured) -> Measured {
    if item == "voltage" && measured == Ok(Said::Number(0.0)) {
        return Err(Unavailable::Sentinel);
    }
    measured
}

/// A count from an option, up to `max`; 1 when absent.
fn count(settings: &Settings, option: &str, max: u8) -> Result<u8, String> {
    let Some(text) = settings.option(option) else { return Ok(1) };
    let count = text.trim().parse().ok().filter(|count| *count <= max);
    count.ok_or_else(|| format!("{option} is \"{text}\"; write a number from 0 to {max}"))
}

/// `online` first.
fn items(channels: u8, phases: u8) -> Vec<Arc<str>> {
    let mut items: Vec<Arc<str>> = vec!["online".into(), "signal".into()];
    items.extend((1..=channels).map(|channel| format!("relay.{channel}").into()));
    for &(item, _, _, adds_up) in ENERGY.iter().filter(|_| phases > 0) {
        if phases == 1 || adds_up || item == "frequency" {
            items.push(item.into());
        }
        if phases > 1 && item != "frequency" {
            items.extend((1..=phases).map(|phase| format!("{item}.l{phase}").into()));
        }
    }
    items
}

#[cfg(test)]
mod tests;
