//! Shelly over HTTP: `/rpc/Shelly.GetStatus` (second generation and later, digest
//! authentication as `admin`) or `/status` (first generation, basic authentication).
//!
//! One question at a time: a device that is slow is not asked again before it answered. Stop:
//! `Switch.Set` or `/relay/N?turn=off`, accepted by its answer, read back by a status that was
//! asked after it.

use std::collections::VecDeque;
use std::sync::Arc;

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::{Value, json};

use super::{Layout, OPTIONS, gen1};
use crate::device::{Device, Heard, Outbox, Outgoing, REQUESTS_MAX, Request, Response, Stop};
use crate::document;
use crate::http::TOO_MANY;
use crate::presence;
use crate::protocol::{Login, Protocol, Reach, Settings};
use crate::stopping::Stopping;

/// Shelly, second generation and later, over HTTP.
pub const PROTOCOL: Protocol = Protocol {
    name: "shelly-http",
    title: "Shelly (Plus, Pro, Gen3, Gen4) over HTTP",
    source: "Shelly Gen2+ API documentation: RPC over HTTP, authentication",
    evidence: "against a fake that asks for digest; not yet against a device",
    reach: Reach::Http { port: 80 },
    login: Login::Digest("admin"),
    options: OPTIONS,
    device: |settings| device(settings, Generation::Later),
};

/// Shelly, first generation, over HTTP.
pub const PROTOCOL_GEN1: Protocol = Protocol {
    name: "shelly-gen1-http",
    title: "Shelly of the first generation (1PM, 2.5, Plug S, EM, 3EM) over HTTP",
    source: "Shelly Gen1 API documentation: /status, /relay",
    evidence: "against recorded responses only",
    reach: Reach::Http { port: 80 },
    login: Login::Basic,
    options: OPTIONS,
    device: |settings| device(settings, Generation::First),
};

/// Which language it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    First,
    Later,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Status,
    /// The switching off of a relay; the last one of a stop?
    Off {
        last: bool,
    },
    /// The same for a stop whose place another one has taken.
    Replaced,
}

/// A device.
#[derive(Debug)]
struct Http {
    generation: Generation,
    layout: Layout,
    /// Requests without response, oldest first; at most [`REQUESTS_MAX`].
    asked: VecDeque<Asked>,
    stopping: Stopping,
}

fn device(settings: &Settings, generation: Generation) -> Result<Box<dyn Device>, String> {
    let layout = Layout::new(settings)?;
    let room = REQUESTS_MAX - 2;
    if usize::from(layout.channels) > room {
        return Err(format!("channels is {}; over HTTP at most {room}", layout.channels));
    }
    Ok(Box::new(Http { generation, layout, asked: VecDeque::new(), stopping: Stopping::default() }))
}

impl Http {
    fn request(&mut self, asked: Asked, request: Request, out: &mut Outbox) {
        self.asked.push_back(asked);
        out.send(Outgoing::Request(request));
    }

    fn ask(&mut self, out: &mut Outbox) {
        let path = match self.generation {
            Generation::First => "/status",
            Generation::Later => "/rpc/Shelly.GetStatus",
        };
        self.request(Asked::Status, Request::get(path), out);
    }

    fn response(&mut self, response: Response<'_>, out: &mut Outbox) {
        let Some(asked) = self.asked.pop_front() else { return };
        let trouble = match (response.status, self.generation) {
            (200, _) => None,
            (401, Generation::Later) => Some("401: the password of user admin is not accepted"),
            (401, Generation::First) => Some("401: user or password is not accepted"),
            (404, Generation::Later) => {
                Some("404: is it of the first generation? (shelly-gen1-http)")
            }
            (404, Generation::First) => Some("404: is it of a later generation? (shelly-http)"),
            _ => Some("the device refuses"),
        };
        if let Some(trouble) = trouble {
            let words = match response.status {
                401 | 404 => trouble.to_owned(),
                status => format!("{status}: {trouble}"),
            };
            self.failed(asked, Unavailable::Refused, words, out);
            return;
        }
        let Some(document) = document::parse(response.body).filter(Value::is_object) else {
            let words = "the device answered something that is no JSON".to_owned();
            self.failed(asked, Unavailable::Garbled, words, out);
            return;
        };
        out.alive = true;
        out.flag("online", true);
        match asked {
            Asked::Status => {
                let all_off = match self.generation {
                    Generation::First => gen1::status(&self.layout, &document, out),
                    Generation::Later => self.layout.status(&document, true, out),
                };
                // Responses come in order, so a status after the acceptance was asked after it.
                if let Some(all_off) = all_off.filter(|_| self.stopping.is_answered()) {
                    self.stopping.seen(all_off, out);
                }
            }
            Asked::Off { last: true } if self.stopping.accept(out) => {
                // What was asked before the command proves nothing; the answer to this does.
                self.ask(out);
            }
            Asked::Off { .. } | Asked::Replaced => {}
        }
    }

    fn failed(&mut self, asked: Asked, why: Unavailable, words: String, out: &mut Outbox) {
        if let Asked::Off { .. } = asked {
            self.stopping.fail(&words, out);
        }
        if matches!(why, Unavailable::Timeout | Unavailable::Disconnected) {
            out.flag("online", false);
        }
        out.unavailable(&self.layout.items[1..], why);
        out.trouble = Some(words);
    }

    fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        self.stopping.begin(now, stop);
        // What becomes of the commands of an earlier stop is not this one's business.
        for asked in &mut self.asked {
            if let Asked::Off { .. } = asked {
                *asked = Asked::Replaced;
            }
        }
        let channels = self.layout.channels;
        if let Some(words) = self.layout.refuses(stop) {
            self.stopping.fail(words, out);
        } else if self.asked.len() + usize::from(channels) >= REQUESTS_MAX {
            self.stopping.fail(TOO_MANY, out);
        } else {
            for channel in 0..channels {
                let request = match self.generation {
                    Generation::First => Request::get(format!("/relay/{channel}?turn=off")),
                    Generation::Later => Request::post(
                        "/rpc/Switch.Set",
                        json!({ "id": channel, "on": false }).to_string(),
                    ),
                };
                self.request(Asked::Off { last: channel + 1 == channels }, request, out);
            }
        }
    }
}

impl Device for Http {
    fn items(&self) -> &[Arc<str>] {
        &self.layout.items
    }

    fn stops(&self) -> &[Stop] {
        self.layout.stops()
    }

    fn step(&mut self, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
        match heard {
            Heard::Opened => {
                self.asked.clear();
                self.ask(out);
            }
            Heard::Due if self.asked.is_empty() => self.ask(out),
            Heard::Response(response) => self.response(response, out),
            Heard::NoResponse(why) => {
                if let Some(asked) = self.asked.pop_front() {
                    let words = format!("the device does not answer ({why})");
                    self.failed(asked, why, words, out);
                }
            }
            Heard::Stop(stop) => self.stop(now, stop, out),
            Heard::Closed => {
                self.asked.clear();
                presence::closed(&self.layout.items, out);
                self.stopping.fail("the connection was lost before the stop was read back", out);
            }
            _ => {}
        }
        self.stopping.tick(now, out);
    }
}
