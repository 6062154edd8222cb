//! Shelly relays, plugs and meters: [`rpc`] (second generation and later, over a broker), [`http`]
//! (both generations), [`gen1`] (first generation, over a broker).
//!
//! Here: which items a device has, and what a status of the later generations means. A device
//! reports only changes beyond its own thresholds, so a steady load says nothing; all of these ask
//! at every period, and silence is never taken for a low value.
//!
//! | field | item |
//! |---|---|
//! | `switch:N.output` | `relay.N+1` |
//! | `apower`, `act_power` | `power.active` |
//! | `voltage`, `current`, `pf`, `freq` | `voltage`, `current`, `power.factor`, `frequency` |
//! | `aenergy.total` − `ret_aenergy.total` (Wh; the first counts both directions) | `energy.import` |
//! | `ret_aenergy.total`, `emdata:0.total_act_ret`, `em1data:N.total_act_ret_energy` | `energy.export` |
//! | `emdata:0.total_act`, `em1data:N.total_act_energy` | `energy.import` |
//! | `switch:0.temperature.tC` | `temperature.board` |
//! | `wifi.rssi` | `signal` |
//!
//! With several metered channels the values are `.l1`, `.l2`, `.l3`, and power and energy without
//! suffix are their sums. The three-phase meter does not net its phases; neither does the sum.
//! Facts: Shelly's API documentation, components Switch, PM1, EM, EM1, EMData, EM1Data.

use std::sync::Arc;

use andon_engine::item::CHANNELS_MAX;
use andon_engine::value::{Measured, Unavailable, Value as Said};
use serde_json::Value;

use crate::device::{Outbox, Stop};
use crate::document;
use crate::presence::Presence;
use crate::protocol::Settings;

pub mod gen1;
pub mod http;
pub mod rpc;

/// Channels of a meter that are told apart.
const METERS_MAX: u8 = 3;

/// The options that all Shelly protocols have.
const OPTIONS: &[(&str, &str)] = &[
    ("channels", "relays, 0 to 32; 1 when absent"),
    ("meter", "what measures: switch, pm1, em, em1 or none; switch when absent"),
    ("meters", "channels of the meter, 1 to 3; of switches as many as channels when absent"),
];

/// What measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meter {
    /// Nothing.
    None,
    /// The relays themselves; in the first generation `meters`.
    Switch,
    /// A meter without relay.
    Pm1,
    /// A three-phase meter.
    Em,
    /// Single-phase meters of a clamp device; in the first generation `emeters`.
    Em1,
}

/// What a device has, as its configuration says.
#[derive(Debug)]
struct Layout {
    channels: u8,
    meter: Meter,
    meters: u8,
    items: Vec<Arc<str>>,
}

impl Layout {
    fn new(settings: &Settings) -> Result<Self, String> {
        let count = |option: &str, least: u8, most: u8, absent: u8| {
            let Some(text) = settings.option(option) else { return Ok(absent) };
            let count = text.trim().parse().ok().filter(|count| (least..=most).contains(count));
            count.ok_or_else(|| {
                format!("{option} is \"{text}\"; write a number from {least} to {most}")
            })
        };
        let channels = count("channels", 0, CHANNELS_MAX, 1)?;
        let meter = match settings.option("meter") {
            None if channels == 0 => Meter::None,
            None | Some("switch") => Meter::Switch,
            Some("pm1") => Meter::Pm1,
            Some("em") => Meter::Em,
            Some("em1") => Meter::Em1,
            Some("none") => Meter::None,
            Some(other) => {
                let hint = "write switch, pm1, em, em1 or none";
                return Err(format!("meter is \"{other}\"; {hint}"));
            }
        };
        let meters = match meter {
            Meter::None => 0,
            Meter::Em => METERS_MAX,
            Meter::Switch => count("meters", 1, METERS_MAX, channels.clamp(1, METERS_MAX))?,
            Meter::Pm1 | Meter::Em1 => count("meters", 1, METERS_MAX, 1)?,
        };
        let items = items(channels, meter, meters);
        Ok(Self { channels, meter, meters, items })
    }

    /// What can be commanded: relays can only be switched off.
    fn stops(&self) -> &'static [Stop] {
        if self.channels == 0 { &[] } else { &[Stop::Off] }
    }

    /// Why a stop cannot be carried out, in words; nothing when it can.
    fn refuses(&self, stop: Stop) -> Option<&'static str> {
        match stop {
            Stop::Off if self.channels > 0 => None,
            Stop::Off => Some("the device has no relay"),
            Stop::Emergency | Stop::Cancel | Stop::Pause => {
                Some("a relay can only be switched off")
            }
        }
    }

    /// Heeds what stands at a device's `online`. A kept "true" may be years old; a kept "false", its
    /// last will, is what the broker knows last.
    fn online(&self, payload: &[u8], presence: &mut Presence, out: &mut Outbox) {
        if payload == b"false" {
            let trouble = "the broker says that the device is offline (its last will)";
            presence.offline(&self.items, out, trouble.to_owned());
        }
    }

    /// The name of an item of metered channel `meter`, from 0: with a phase when there are several.
    fn named(&self, item: &str, meter: u8) -> String {
        if self.meters > 1 { format!("{item}.l{}", meter + 1) } else { item.to_owned() }
    }

    /// Says an item when the device has it.
    fn say(&self, item: &str, measured: Measured, out: &mut Outbox) {
        if self.items.iter().any(|known| &**known == item) {
            out.say(item, measured);
        }
    }

    /// Says what a status says. In a `whole` one (not a list of changes) parts may be set against
    /// each other, and what is missing is told. Returns whether all relays are off.
    fn status(&self, status: &Value, whole: bool, out: &mut Outbox) -> Option<bool> {
        let mut all_off = Some(self.channels > 0);
        for channel in 0..self.channels {
            let output = status[format!("switch:{channel}")]["output"].as_bool();
            if let Some(on) = output {
                out.flag(&format!("relay.{}", channel + 1), on);
            }
            all_off = all_off.and_then(|off| output.map(|on| off && !on));
        }
        match self.meter {
            Meter::None => {}
            Meter::Em => self.three_phases(status, out),
            Meter::Switch | Meter::Pm1 | Meter::Em1 => self.single_phases(status, whole, out),
        }
        let board = &status["switch:0"]["temperature"]["tC"];
        if let Some(celsius) = document::number(board) {
            self.say("temperature.board", Ok(Said::Number(celsius)), out);
        }
        out.number_if("signal", document::number(&status["wifi"]["rssi"]));
        if whole {
            self.missing(status, out);
        }
        all_off
    }

    fn single_phases(&self, status: &Value, whole: bool, out: &mut Outbox) {
        let (kind, power) = match self.meter {
            Meter::Pm1 => ("pm1", "apower"),
            Meter::Em1 => ("em1", "act_power"),
            _ => ("switch", "apower"),
        };
        let mut sums = Sums::default();
        for meter in 0..self.meters {
            let part = &status[format!("{kind}:{meter}")];
            let fields = [
                ("power.active", power),
                ("voltage", "voltage"),
                ("current", "current"),
                ("power.factor", "pf"),
                ("frequency", "freq"),
            ];
            for (item, field) in fields {
                let Some(value) = part.get(field) else { continue };
                let measured = document::measured(value, 1.0);
                // The frequency is the same everywhere; the first channel tells it.
                let name = match item {
                    "frequency" if meter > 0 => continue,
                    "frequency" => item.to_owned(),
                    item => self.named(item, meter),
                };
                sums.add(item, &measured);
                out.say(&name, measured);
            }
            if whole {
                self.energy(status, meter, &mut sums, out);
            }
        }
        if self.meters > 1 {
            sums.say(self, out);
        }
    }

    /// The registers of a channel. Only from a whole status: one direction is a difference.
    fn energy(&self, status: &Value, meter: u8, sums: &mut Sums, out: &mut Outbox) {
        let (import, export) = if self.meter == Meter::Em1 {
            let part = &status[format!("em1data:{meter}")];
            let register =
                |field: &str| part.get(field).map(|value| document::measured(value, 1.0));
            (register("total_act_energy"), register("total_act_ret_energy"))
        } else {
            let kind = if self.meter == Meter::Pm1 { "pm1" } else { "switch" };
            let part = &status[format!("{kind}:{meter}")];
            let register = |field: &str| {
                part.get(field).map(|register| document::measured(&register["total"], 1.0))
            };
            let export = register("ret_aenergy");
            (register("aenergy").map(|both| difference(both, export.clone())), export)
        };
        for (item, measured) in [("energy.import", import), ("energy.export", export)] {
            let Some(measured) = measured else { continue };
            sums.add(item, &measured);
            self.say(&self.named(item, meter), measured, out);
        }
    }

    fn three_phases(&self, status: &Value, out: &mut Outbox) {
        let (live, registers) = (&status["em:0"], &status["emdata:0"]);
        for (meter, phase) in (0..).zip(["a", "b", "c"]) {
            for (item, field) in [
                ("power.active", "act_power"),
                ("power.apparent", "aprt_power"),
                ("voltage", "voltage"),
                ("current", "current"),
                ("power.factor", "pf"),
            ] {
                if let Some(value) = live.get(format!("{phase}_{field}")) {
                    self.say(&self.named(item, meter), document::measured(value, 1.0), out);
                }
            }
            for (item, field) in
                [("energy.import", "total_act_energy"), ("energy.export", "total_act_ret_energy")]
            {
                if let Some(value) = registers.get(format!("{phase}_{field}")) {
                    self.say(&self.named(item, meter), document::measured(value, 1.0), out);
                }
            }
        }
        for (item, value) in [
            ("power.active", live.get("total_act_power")),
            ("power.apparent", live.get("total_aprt_power")),
            ("frequency", live.get("a_freq")),
            ("energy.import", registers.get("total_act")),
            ("energy.export", registers.get("total_act_ret")),
        ] {
            if let Some(value) = value {
                self.say(item, document::measured(value, 1.0), out);
            }
        }
    }

    /// Tells which part of the configuration a whole status does not bear out, and what the
    /// device says is wrong with itself.
    fn missing(&self, status: &Value, out: &mut Outbox) {
        let switches = (0..self.channels).map(|channel| format!("switch:{channel}"));
        let meters = (0..self.meters).map(|meter| match self.meter {
            Meter::Pm1 => format!("pm1:{meter}"),
            Meter::Em1 => format!("em1:{meter}"),
            Meter::Em => "em:0".to_owned(),
            Meter::Switch | Meter::None => format!("switch:{meter}"),
        });
        for part in switches.chain(meters) {
            let Some(part_status) = status.get(&part) else {
                let has: Vec<&str> = status.as_object().map_or_else(Vec::new, |parts| {
                    let parts = parts.keys().map(String::as_str);
                    parts.filter(|part| part.contains(':') && part.len() < 20).take(8).collect()
                });
                let has = has.join(", ");
                out.trouble =
                    Some(format!("the device has no {part} but {has}: set channels and meter"));
                return;
            };
            if let Some(error) = part_status["errors"].get(0).and_then(Value::as_str) {
                out.trouble = Some(crate::device::clean(&format!("{part} says {error}")));
            }
        }
    }
}

/// Sums over the channels of a meter; a channel that says nothing leaves none.
#[derive(Debug, Default)]
struct Sums {
    sums: Vec<(&'static str, u8, Measured)>,
}

impl Sums {
    fn add(&mut self, item: &'static str, measured: &Measured) {
        if !matches!(item, "power.active" | "energy.import" | "energy.export") {
            return;
        }
        match self.sums.iter_mut().find(|(known, ..)| *known == item) {
            None => self.sums.push((item, 1, measured.clone())),
            Some((_, count, sum)) => {
                *count += 1;
                *sum = match (&*sum, measured) {
                    (Ok(Said::Number(sum)), Ok(Said::Number(number))) => {
                        Ok(Said::Number(sum + number))
                    }
                    (Err(why), _) | (_, Err(why)) => Err(*why),
                    _ => Err(Unavailable::Garbled),
                };
            }
        }
    }

    fn say(self, layout: &Layout, out: &mut Outbox) {
        for (item, count, sum) in self.sums {
            if count == layout.meters {
                layout.say(item, sum, out);
            }
        }
    }
}

/// What is left of a register of both directions.
fn difference(both: Measured, export: Option<Measured>) -> Measured {
    match (both?, export.transpose()?) {
        (Said::Number(both), None) => Ok(Said::Number(both)),
        (Said::Number(both), Some(Said::Number(export))) => Ok(Said::Number(both - export)),
        _ => Err(Unavailable::Garbled),
    }
}

/// `online` first.
fn items(channels: u8, meter: Meter, meters: u8) -> Vec<Arc<str>> {
    let mut items: Vec<Arc<str>> = vec!["online".into(), "signal".into()];
    items.extend((1..=channels).map(|channel| format!("relay.{channel}").into()));
    items.extend((channels > 0).then(|| "temperature.board".into()));
    let both_ways: &[&str] = match meter {
        Meter::None => return items,
        Meter::Switch => &["energy.import"],
        Meter::Pm1 | Meter::Em | Meter::Em1 => &["energy.import", "energy.export"],
    };
    let apparent: &[&str] = if meter == Meter::Em { &["power.apparent"] } else { &[] };
    items.push("frequency".into());
    for (names, adds_up) in [
        (&["power.active"][..], true),
        (apparent, true),
        (both_ways, true),
        (&["voltage", "current", "power.factor"], false),
    ] {
        for name in names {
            items.extend((adds_up || meters == 1).then(|| (*name).into()));
            let phases = (1..=meters).filter(|_| meters > 1);
            items.extend(phases.map(|phase| format!("{name}.l{phase}").into()));
        }
    }
    items
}

/// What follows a device's prefix in a topic of its own.
fn below<'t>(prefix: &str, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(prefix)?.strip_prefix('/')
}

#[cfg(test)]
mod tests;
