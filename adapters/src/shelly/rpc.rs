//! Shelly's second generation and later over a broker: requests to `TOPIC/rpc`, answers on
//! `TOPIC/andon/rpc` (the answer's topic is the request's `src` with `/rpc`), notifications on
//! `TOPIC/events/rpc`, statuses on `TOPIC/status/…` where they are turned on, `TOPIC/online` as
//! last will.
//!
//! Stop: `Switch.Set` of every relay, accepted by its answer, read back by the answer to a
//! `Shelly.GetStatus` that was asked after it.

use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::{Value, json};

use super::{Layout, OPTIONS, below};
use crate::device::{Device, Heard, Outbox, Outgoing, Stop, clean};
use crate::document;
use crate::presence::{self, Presence};
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

/// Shelly, second generation and later, over a shared broker.
pub const PROTOCOL: Protocol = Protocol {
    name: "shelly",
    title: "Shelly (Plus, Pro, Gen3, Gen4) over MQTT",
    source: "Shelly Gen2+ API documentation: MQTT, RPC protocol, Switch, PM1, EM, EM1",
    evidence: "against a replay through mosquitto; not yet against a device",
    reach: Reach::SharedBroker,
    login: Login::None,
    options: OPTIONS,
    device: |settings| Shelly::new(settings).map(|device| Box::new(device) as Box<dyn Device>),
};

/// A device.
#[derive(Debug)]
struct Shelly {
    topic: String,
    layout: Layout,
    presence: Presence,
    stopping: Stopping,
    /// The last request.
    id: u64,
    /// The last `Switch.Set` of the stop on its way.
    switch_id: u64,
}

impl Shelly {
    fn new(settings: &Settings) -> Result<Self, String> {
        let topic = settings.topic.trim_matches('/').to_owned();
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err("topic is the device's MQTT prefix, as its settings show it".to_owned());
        }
        let layout = Layout::new(settings)?;
        let (presence, stopping) = (Presence::default(), Stopping::default());
        Ok(Self { topic, layout, presence, stopping, id: 0, switch_id: 0 })
    }

    fn request(&mut self, method: &str, params: &Value, out: &mut Outbox) {
        self.id += 1;
        let src = format!("{}/andon", self.topic);
        let mut request = json!({ "id": self.id, "src": src, "method": method });
        if !params.is_null() {
            request["params"] = params.clone();
        }
        let topic = format!("{}/rpc", self.topic);
        out.send(Outgoing::Publish { topic, payload: request.to_string().into_bytes() });
    }

    fn ask(&mut self, out: &mut Outbox) {
        let topic = &self.topic;
        self.presence.ask(&self.layout.items, out, || {
            format!("the device does not answer at {topic}/rpc: is it off, or its prefix another?")
        });
        self.request("Shelly.GetStatus", &Value::Null, out);
    }

    fn message(&mut self, topic: &str, payload: &[u8], retained: bool, out: &mut Outbox) {
        let Some(what) = below(&self.topic, topic) else { return };
        if what == "online" {
            return self.layout.online(payload, &mut self.presence, out);
        }
        if retained {
            return;
        }
        let part = what.strip_prefix("status/");
        if part.is_none() && !matches!(what, "andon/rpc" | "events/rpc") {
            return;
        }
        let Some(document) = document::parse(payload).filter(Value::is_object) else {
            out.trouble = Some(format!("{} sent something that is no JSON", clean(topic)));
            out.unavailable(&self.layout.items[1..], Unavailable::Garbled);
            return;
        };
        self.presence.heard(out);
        out.flag("online", true);
        match (what, part) {
            ("andon/rpc", _) => self.answer(&document, out),
            ("events/rpc", _) if notifies(&document) => {
                self.layout.status(&document["params"], false, out);
            }
            // A notified list of changes and the status of one part are treated alike.
            (_, Some(part)) => {
                self.layout.status(&json!({ part: document }), false, out);
            }
            _ => {}
        }
    }

    fn answer(&mut self, answer: &Value, out: &mut Outbox) {
        let id = answer["id"].as_u64().unwrap_or(0);
        if let Some(error) = answer.get("error") {
            let message = error["message"].as_str().unwrap_or("no reason given");
            let words = clean(&format!("{}: {message}", error["code"]));
            if id <= self.switch_id && self.stopping.pending().is_some() {
                self.stopping.fail(&words, out);
            }
            out.trouble = Some(words);
            out.unavailable(&self.layout.items[1..], Unavailable::Refused);
        } else if id == self.switch_id && self.stopping.pending().is_some() {
            if self.stopping.accept(out) {
                self.request("Shelly.GetStatus", &Value::Null, out);
            }
        } else if answer["result"].is_object() && answer["result"].get("was_on").is_none() {
            let all_off = self.layout.status(&answer["result"], true, out);
            let asked_after = id > self.switch_id && self.stopping.is_answered();
            if let Some(all_off) = all_off.filter(|_| asked_after) {
                self.stopping.seen(all_off, out);
            }
        }
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        if let Some(words) = self.layout.refuses(stop) {
            self.stopping.fail(words, out);
        } else {
            for channel in 0..self.layout.channels {
                self.request("Switch.Set", &json!({ "id": channel, "on": false }), out);
            }
            self.switch_id = self.id;
        }
    }
}

/// Whether a notification is about a status; others are about buttons and settings.
fn notifies(notification: &Value) -> bool {
    matches!(notification["method"].as_str(), Some("NotifyStatus" | "NotifyFullStatus"))
}

impl Device for Shelly {
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
                for what in ["andon/rpc", "events/rpc", "online", "status/+"] {
                    out.send(Outgoing::Subscribe(format!("{}/{what}", self.topic)));
                }
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
