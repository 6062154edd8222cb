//! Any device that publishes JSON, or bare numbers and words, over a broker, mapped by hand:
//! an item on the left, where it is found on the right ([`place`] has the syntax).
//!
//! ```toml
//! mapping = { "power.active" = "SENSOR:ENERGY.Power kW", "relay.1" = "STATE:POWER ON/OFF" }
//! ```
//!
//! The source's `period` is how often the device itself speaks, or is asked to. Values stand only
//! for the moment that they were heard in, unless `hold` says that the device reports only changes:
//! then they are said again at every period, as long as the `availability` topic says that the
//! device is there, and no longer than `hold`. What a broker has kept from
//! before is of unknown age and never a value, unless `retained = "use"` says that it may be.
//!
//! A mapped text `execution` needs the words that it stands for (`idle=ready run=running`); a word
//! that is not among them is unknown, never ready. Bound: [`MAPPING_MAX`] items, one value each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::unit::parse_duration;
use andon_engine::value::Unavailable;
use serde_json::Value;

use self::place::Place;
use crate::device::{Device, Heard, Outbox, Outgoing, clean};
use crate::document;
use crate::held::Held;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};

pub mod place;

/// Most items of one device.
pub const MAPPING_MAX: usize = 64;

/// JSON over a shared broker, mapped by hand.
pub const PROTOCOL: Protocol = Protocol {
    name: "json",
    title: "Any JSON or plain number over MQTT, mapped by hand",
    source: "the configuration",
    evidence: "against messages of other protocols' fixtures",
    reach: Reach::SharedBroker,
    login: Login::None,
    options: &[
        ("availability", "topic that says whether the device is there"),
        ("online", "what it says when the device is there; online when absent"),
        ("offline", "what it says when it is not; offline when absent"),
        (
            "hold",
            "the device reports only changes: how long a value stands while it is there (15 min)",
        ),
        ("retained", "use: what the broker kept from before counts as fresh; ignore when absent"),
        ("ask", "topic to publish to at every period, so that the device answers"),
        ("ask_payload", "what to publish there; nothing when absent"),
    ],
    device: |settings| Json::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// The topic that says whether a device is there.
#[derive(Debug)]
struct Availability {
    topic: String,
    online: String,
    offline: String,
    /// What it said last.
    said: Option<bool>,
}

/// A device.
#[derive(Debug)]
struct Json {
    topic: String,
    items: Vec<Arc<str>>,
    places: Vec<Place>,
    topics: BTreeSet<String>,
    availability: Option<Availability>,
    hold: Option<Duration>,
    use_retained: bool,
    question: Option<(String, String)>,
    presence: Presence,
    held: Held,
}

impl Json {
    fn new(settings: &Settings) -> Result<Self, String> {
        let topic = topic("topic", &settings.topic)?;
        if settings.mapping.is_empty() || settings.mapping.len() > MAPPING_MAX {
            return Err(format!(
                "mapping has {} items; name 1 to {MAPPING_MAX}, like {{ \"power.active\" = \
                 \"ENERGY.Power W\" }}",
                settings.mapping.len()
            ));
        }
        let mut places: Vec<Place> = Vec::new();
        for (item, text) in &settings.mapping {
            let place =
                Place::parse(item, text).map_err(|why| format!("mapping: {item}: {why}"))?;
            if item == "online" {
                return Err("mapping: online is said by itself; use availability".to_owned());
            }
            if places.iter().any(|known| known.item == place.item) {
                return Err(format!("mapping: {item} is there twice"));
            }
            places.push(place);
        }
        let availability = match settings.option("availability") {
            None => None,
            Some(text) => {
                let word =
                    |option, absent: &str| settings.option(option).unwrap_or(absent).to_owned();
                let (online, offline) = (word("online", "online"), word("offline", "offline"));
                Some(Availability {
                    topic: self::topic("availability", text)?,
                    online,
                    offline,
                    said: None,
                })
            }
        };
        let hold = settings.option("hold").map(parse_duration).transpose();
        let hold = hold.map_err(|why| format!("hold: {why}; write a time, like \"15 min\""))?;
        if hold.is_some() && availability.is_none() {
            return Err("hold needs availability: without it nobody would notice that the device \
                        is gone"
                .to_owned());
        }
        let use_retained = match settings.option("retained") {
            None | Some("ignore") => false,
            Some("use") => true,
            Some(other) => {
                return Err(format!("retained is \"{other}\"; write \"use\" or \"ignore\""));
            }
        };
        let question = settings.option("ask").map(|text| self::topic("ask", text)).transpose()?;
        let payload = settings.option("ask_payload").unwrap_or_default().to_owned();
        let topics = places.iter().map(|place| place.topic(&topic)).collect();
        let items = std::iter::once("online".into())
            .chain(places.iter().map(|place| place.item.clone()))
            .collect();
        Ok(Self {
            topic,
            items,
            places,
            topics,
            availability,
            hold,
            use_retained,
            question: question.map(|topic| (topic, payload)),
            presence: Presence::default(),
            held: Held::default(),
        })
    }

    fn due(&mut self, now: BootTime, out: &mut Outbox) {
        let there = self.availability.as_ref().and_then(|availability| availability.said);
        match self.hold {
            Some(hold) if there == Some(true) => {
                if self.held.say_again(now, hold, out) > 0 {
                    out.trouble =
                        Some(format!("nothing was heard at {} for longer than hold", self.topic));
                }
            }
            _ => {
                let topic = &self.topic;
                self.presence.ask(&self.items, out, || format!("nothing is heard at {topic}"));
            }
        }
        if let Some((topic, payload)) = &self.question {
            let (topic, payload) = (topic.clone(), payload.clone().into_bytes());
            out.send(Outgoing::Publish { topic, payload });
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
        if let Some(availability) = &mut self.availability
            && availability.topic == topic
        {
            availability.said = match std::str::from_utf8(payload) {
                Ok(word) if word == availability.online => Some(true),
                Ok(word) if word == availability.offline => Some(false),
                _ => None,
            };
            if availability.said == Some(false) {
                self.held.clear();
                let trouble = format!("{topic} says {}", availability.offline);
                self.presence.offline(&self.items, out, trouble);
            } else if availability.said == Some(true) {
                self.presence.back();
            }
            // The same topic may carry values as well.
        }
        if self.topics.contains(topic) && (!kept || self.use_retained) {
            self.values(now, topic, payload, out);
        }
    }

    fn values(&mut self, now: BootTime, topic: &str, payload: &[u8], out: &mut Outbox) {
        let document = document::parse(payload).or_else(|| {
            // A bare word is a value too.
            let text = std::str::from_utf8(payload).ok()?;
            (!text.trim_start().starts_with(['{', '['])).then(|| Value::from(text))
        });
        let here = self.places.iter().filter(|place| place.topic(&self.topic) == topic);
        let Some(document) = document else {
            out.trouble = Some(format!("{} has something that is no JSON", clean(topic)));
            for place in here {
                self.held.hear(now, &place.item, Err(Unavailable::Garbled), out);
            }
            return;
        };
        let mut missing = None;
        let mut found = false;
        for place in here {
            match place.find(&document) {
                Some(value) => {
                    found = true;
                    self.held.hear(now, &place.item, place.read(value), out);
                }
                None => missing = Some(format!("{}: there is no {}", place.item, place.path())),
            }
        }
        if found {
            self.presence.heard(out);
            out.flag("online", true);
        } else if let Some(missing) = missing {
            out.trouble = Some(format!("{missing} in what {} has", clean(topic)));
        }
    }
}

impl Device for Json {
    fn items(&self) -> &[Arc<str>] {
        &self.items
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.presence = Presence::default();
                self.held.clear();
                if let Some(availability) = &mut self.availability {
                    availability.said = None;
                    out.send(Outgoing::Subscribe(availability.topic.clone()));
                }
                let topics = self.topics.iter().cloned();
                topics.for_each(|topic| out.send(Outgoing::Subscribe(topic)));
                self.due(now, out);
            }
            Heard::Due => self.due(now, out),
            Heard::Message { topic, payload, retained } => {
                self.message(now, topic, payload, retained, out);
            }
            Heard::Stop(_) => {
                out.stop_failed("a device that is mapped by hand has no stop");
            }
            Heard::Closed => {
                self.held.clear();
                presence::closed(&self.items, out);
            }
            _ => {}
        }
    }
}

/// A topic without wildcards.
fn topic(option: &str, text: &str) -> Result<String, String> {
    let topic = text.trim().trim_end_matches('/');
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(format!("{option} is \"{text}\"; write a whole topic without + and #"));
    }
    Ok(topic.to_owned())
}

#[cfg(test)]
mod tests;
