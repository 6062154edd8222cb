//! Shelly's first generation: what its `/status` says, and the device over a broker
//! (`shellies/ID/…`).
//!
//! Over a broker every value has a topic of its own. `command` = `update` makes the device send
//! them all; that is the question of every period. `relay/N/energy` and `meters[].total` count
//! watt-minutes, `emeter/N/total` watt-hours.
//!
//! Facts: Shelly's Gen1 API documentation. Stop: `relay/N/command` = `off`; the device answers
//! with the relay's state, and is asked again.

use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use super::{Layout, METERS_MAX, Meter, OPTIONS, Sums, below};
use crate::device::{Device, Heard, Outbox, Outgoing, Stop};
use crate::document;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

/// Watt-hours per watt-minute.
const WATT_MINUTE: f64 = 1.0 / 60.0;

/// Shelly, first generation, over a shared broker.
pub const PROTOCOL: Protocol = Protocol {
    name: "shelly-gen1",
    title: "Shelly of the first generation (1PM, 2.5, Plug S, EM, 3EM) over MQTT",
    source: "Shelly Gen1 API documentation: MQTT support",
    evidence: "against a replay through mosquitto; not yet against a device",
    reach: Reach::SharedBroker,
    login: Login::None,
    options: OPTIONS,
    device: |settings| Gen1::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// Says what a `/status` says. Returns whether all relays are off.
pub(super) fn status(layout: &Layout, status: &Value, out: &mut Outbox) -> Option<bool> {
    let mut all_off = Some(layout.channels > 0);
    for channel in 0..layout.channels {
        let on = status["relays"][usize::from(channel)]["ison"].as_bool();
        if let Some(on) = on {
            out.flag(&format!("relay.{}", channel + 1), on);
        }
        all_off = all_off.and_then(|off| on.map(|on| off && !on));
    }
    let list = if layout.meter == Meter::Switch { "meters" } else { "emeters" };
    let mut sums = Sums::default();
    for meter in 0..layout.meters {
        let Some(part) = status[list].get(usize::from(meter)) else {
            out.trouble = Some(format!("the device has no {list}[{meter}]: set meter and meters"));
            break;
        };
        for &(field, item, factor) in fields(layout.meter) {
            let Some(value) = part.get(field) else { continue };
            let measured = match part["is_valid"].as_bool() {
                Some(false) => Err(Unavailable::Sentinel),
                _ => document::measured(value, factor),
            };
            sums.add(item, &measured);
            layout.say(&layout.named(item, meter), measured, out);
        }
    }
    if layout.meters > 1 {
        sums.say(layout, out);
    }
    if let Some(celsius) = document::number(&status["temperature"]) {
        layout.say("temperature.board", Ok(Said::Number(celsius)), out);
    }
    out.number_if("signal", document::number(&status["wifi_sta"]["rssi"]));
    all_off
}

/// Field, item, factor, of a meter.
fn fields(meter: Meter) -> &'static [(&'static str, &'static str, f64)] {
    match meter {
        Meter::None => &[],
        Meter::Switch => &[("power", "power.active", 1.0), ("total", "energy.import", WATT_MINUTE)],
        Meter::Pm1 | Meter::Em | Meter::Em1 => &[
            ("power", "power.active", 1.0),
            ("voltage", "voltage", 1.0),
            ("current", "current", 1.0),
            ("pf", "power.factor", 1.0),
            ("total", "energy.import", 1.0),
            ("total_returned", "energy.export", 1.0),
        ],
    }
}

/// A device over a broker.
#[derive(Debug)]
struct Gen1 {
    topic: String,
    layout: Layout,
    presence: Presence,
    stopping: Stopping,
    /// Powers since the last question, for their sum.
    powers: [Option<f64>; METERS_MAX as usize],
    /// Relays as heard since the stop was sent, or since it was accepted.
    off: u32,
}

impl Gen1 {
    fn new(settings: &Settings) -> Result<Self, String> {
        let id = settings.topic.trim_matches('/').trim_start_matches("shellies/");
        if id.is_empty() || id.contains(['+', '#']) {
            return Err("topic is the device's MQTT id, as in shellies/ID".to_owned());
        }
        let layout = Layout::new(settings)?;
        Ok(Self {
            topic: format!("shellies/{id}"),
            layout,
            presence: Presence::default(),
            stopping: Stopping::default(),
            powers: [None; METERS_MAX as usize],
            off: 0,
        })
    }

    fn publish(&self, to: &str, payload: &str, out: &mut Outbox) {
        let topic = format!("{}/{to}", self.topic);
        out.send(Outgoing::Publish { topic, payload: payload.as_bytes().to_vec() });
    }

    fn ask(&mut self, out: &mut Outbox) {
        let topic = &self.topic;
        self.presence.ask(&self.layout.items, out, || {
            format!("the device says nothing at {topic}: is it off, or its id another?")
        });
        self.powers = [None; METERS_MAX as usize];
        self.publish("command", "update", out);
    }

    fn message(&mut self, topic: &str, payload: &[u8], retained: bool, out: &mut Outbox) {
        let Some(what) = below(&self.topic, topic) else { return };
        if what == "online" {
            return self.layout.online(payload, &mut self.presence, out);
        }
        let parts: Vec<&str> = what.split('/').take(4).collect();
        if retained || parts.last() == Some(&"command") {
            return;
        }
        let Ok(text) = std::str::from_utf8(payload) else {
            out.trouble = Some("the device sent something that is no text".to_owned());
            return;
        };
        self.presence.heard(out);
        out.flag("online", true);
        match parts[..] {
            ["relay", channel] => self.relay(channel, text, out),
            ["relay", channel, "power"] => self.metered(Meter::Switch, channel, "power", text, out),
            ["relay", channel, "energy"] => {
                self.metered(Meter::Switch, channel, "total", text, out);
            }
            ["emeter", channel, field] => self.metered(Meter::Em1, channel, field, text, out),
            ["temperature"] => self.layout.say("temperature.board", number(text, 1.0), out),
            _ => {}
        }
    }

    fn relay(&mut self, channel: &str, word: &str, out: &mut Outbox) {
        let channel: Option<u8> =
            channel.parse().ok().filter(|channel| *channel < self.layout.channels);
        let Some(channel) = channel else { return };
        let on = match word {
            "on" => Some(true),
            // An overload has opened the relay.
            "off" | "overpower" => Some(false),
            _ => None,
        };
        let measured = on.map(Said::Flag).ok_or(Unavailable::Garbled);
        out.say(&format!("relay.{}", channel + 1), measured);
        match on {
            Some(false) => self.off |= 1_u32 << channel,
            _ => self.off &= !(1_u32 << channel),
        }
        let all_off = self.off.count_ones() == u32::from(self.layout.channels);
        if on == Some(true) && self.stopping.is_answered() {
            self.stopping.seen(false, out);
        } else if all_off && self.stopping.is_answered() {
            self.stopping.seen(true, out);
        } else if all_off && self.stopping.accept(out) {
            self.off = 0;
            self.publish("command", "update", out);
        }
    }

    fn metered(&mut self, meter: Meter, channel: &str, field: &str, text: &str, out: &mut Outbox) {
        let channel: Option<u8> =
            channel.parse().ok().filter(|channel| *channel < self.layout.meters);
        let of_relay = |meter| meter == Meter::Switch;
        let Some(channel) = channel.filter(|_| of_relay(meter) == of_relay(self.layout.meter))
        else {
            return;
        };
        let Some(&(_, item, factor)) =
            fields(self.layout.meter).iter().find(|(known, ..)| *known == field)
        else {
            return;
        };
        let measured = number(text, factor);
        if let (true, Ok(Said::Number(power))) = (field == "power", &measured) {
            self.powers[usize::from(channel)] = Some(*power);
        }
        self.layout.say(&self.layout.named(item, channel), measured, out);
        let powers = &self.powers[..usize::from(self.layout.meters)];
        if field == "power" && self.layout.meters > 1 {
            let sum: Option<f64> = powers.iter().copied().sum();
            out.number_if("power.active", sum);
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        if let Some(words) = self.layout.refuses(stop) {
            self.stopping.fail(words, out);
        } else {
            self.off = 0;
            for channel in 0..self.layout.channels {
                self.publish(&format!("relay/{channel}/command"), "off", out);
            }
        }
    }
}

/// A number as a payload of its own.
fn number(text: &str, factor: f64) -> Measured {
    document::measured(&Value::from(text), factor)
}

impl Device for Gen1 {
    fn items(&self) -> &[Arc<str>] {
        &self.layout.items
    }

    fn stops(&self) -> &[Stop] {
        self.layout.stops()
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.presence = Presence::default();
                out.send(Outgoing::Subscribe(format!("{}/#", self.topic)));
                self.ask(out);
            }
            Heard::Due => self.ask(out),
            Heard::Message { topic, payload, retained } => {
                self.message(topic, payload, retained, out);
            }
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Closed => {
                presence::closed(&self.layout.items, out);
                self.stopping.fail("the broker was lost before the stop was read back", out);
            }
            _ => {}
        }
        self.stopping.tick(now, out);
    }
}
