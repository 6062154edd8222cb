//! A device in a test: told what it hears, asked what came of it, and tried with rubbish.

use std::time::Duration;

use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use proptest::prelude::*;

use crate::contract::{check, check_items};
use crate::device::{Device, Heard, Outbox, Outgoing, Response, Stop};
use crate::protocol::{Protocol, Settings};

/// A device and its clock.
pub(crate) struct Rehearsal {
    pub(crate) device: Box<dyn Device>,
    now: BootTime,
}

impl Rehearsal {
    /// A device with this topic and these options.
    pub(crate) fn new(protocol: &Protocol, topic: &str, options: &[(&'static str, &str)]) -> Self {
        let options = options.iter().map(|&(key, text)| (key, text.to_owned())).collect();
        Self::with(protocol, &Settings { topic: topic.to_owned(), options, ..Settings::default() })
    }

    /// A device with these settings.
    pub(crate) fn with(protocol: &Protocol, settings: &Settings) -> Self {
        let device = (protocol.device)(settings).unwrap();
        Self { device, now: BootTime::from_millis(1_000_000) }
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// One step.
    pub(crate) fn hear(&mut self, heard: Heard<'_>) -> Outbox {
        let mut out = Outbox::default();
        self.device.step(self.now, heard, &mut out);
        check(&*self.device, &out);
        out
    }

    /// A message that is not retained.
    pub(crate) fn message(&mut self, topic: &str, payload: &str) -> Outbox {
        self.hear(Heard::Message { topic, payload: payload.as_bytes(), retained: false })
    }

    /// A message that the broker kept.
    pub(crate) fn retained(&mut self, topic: &str, payload: &str) -> Outbox {
        self.hear(Heard::Message { topic, payload: payload.as_bytes(), retained: true })
    }

    /// A response of status 200.
    pub(crate) fn response(&mut self, body: &str) -> Outbox {
        self.hear(Heard::Response(Response { status: 200, body: body.as_bytes() }))
    }
}

/// What an outbox says of an item, last word.
pub(crate) fn said(out: &Outbox, item: &str) -> Option<Measured> {
    out.said.iter().rev().find(|(name, _)| &**name == item).map(|(_, measured)| measured.clone())
}

/// The number that is said of an item.
pub(crate) fn number(out: &Outbox, item: &str) -> f64 {
    match said(out, item) {
        Some(Ok(Value::Number(number))) => number,
        other => panic!("{item} is {other:?}"),
    }
}

/// The text that is said of an item.
pub(crate) fn text(out: &Outbox, item: &str) -> String {
    match said(out, item) {
        Some(Ok(Value::Text(text))) => text.to_string(),
        other => panic!("{item} is {other:?}"),
    }
}

/// A flag.
#[expect(clippy::unnecessary_wraps, reason = "what is said is a result")]
pub(crate) fn flag(flag: bool) -> Option<Measured> {
    Some(Ok(Value::Flag(flag)))
}

/// Whether all items but `online` are said to be unavailable for this reason.
pub(crate) fn all_unavailable(device: &dyn Device, out: &Outbox, why: Unavailable) -> bool {
    let others = device.items().iter().filter(|item| &***item != "online");
    others.into_iter().all(|item| said(out, item) == Some(Err(why)))
}

/// The payloads that are published to a topic.
pub(crate) fn published(out: &Outbox, to: &str) -> Vec<String> {
    let payload = |outgoing: &Outgoing| match outgoing {
        Outgoing::Publish { topic, payload } if topic == to => {
            Some(String::from_utf8(payload.clone()).unwrap())
        }
        _ => None,
    };
    out.sends.iter().filter_map(payload).collect()
}

/// Something heard, owned.
#[derive(Clone, Debug)]
enum Scene {
    Opened,
    Due,
    Closed,
    NoResponse,
    Bytes(Vec<u8>),
    Response(u16, Vec<u8>),
    Message(String, Vec<u8>, bool),
    Stop(Stop),
}

fn scene(topics: &'static [&'static str], texts: &'static [&'static str]) -> BoxedStrategy<Scene> {
    let payload = prop_oneof![
        4 => proptest::sample::select(texts).prop_map(|text| text.as_bytes().to_vec()),
        3 => (proptest::sample::select(texts), any::<(usize, u8)>()).prop_map(spoilt),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
    ];
    let topic = prop_oneof![
        9 => proptest::sample::select(topics).prop_map(str::to_owned),
        1 => "[a-z/:0-9]{0,12}",
    ];
    prop_oneof![
        2 => Just(Scene::Opened),
        6 => Just(Scene::Due),
        1 => Just(Scene::Closed),
        1 => Just(Scene::NoResponse),
        1 => proptest::collection::vec(any::<u8>(), 0..16).prop_map(Scene::Bytes),
        4 => (prop_oneof![Just(200_u16), any::<u16>()], payload.clone())
            .prop_map(|(status, body)| Scene::Response(status, body)),
        12 => (topic, payload, any::<bool>())
            .prop_map(|(topic, payload, retained)| Scene::Message(topic, payload, retained)),
        2 => proptest::sample::select(&Stop::ALL[..]).prop_map(Scene::Stop),
    ]
    .boxed()
}

/// A text with one byte changed, or cut.
fn spoilt((text, (at, byte)): (&'static str, (usize, u8))) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len().max(1);
    match bytes.get_mut(at) {
        Some(spoilt) if byte % 2 == 0 => *spoilt = byte,
        _ => bytes.truncate(at),
    }
    bytes
}

/// Lets the device hear a long random conversation made of `topics` and `texts`, whole and
/// spoilt; [`check`] holds after every step.
pub(crate) fn survives_rubbish(
    make: impl Fn() -> Rehearsal,
    topics: &'static [&'static str],
    texts: &'static [&'static str],
) {
    let scenes = proptest::collection::vec((scene(topics, texts), 0_u64..20_000), 1..80);
    // Debug builds step slowly, and every protocol is tried.
    proptest!(ProptestConfig::with_cases(96), |(scenes in scenes)| {
        let mut rehearsal = make();
        check_items(rehearsal.device.items());
        for (scene, wait) in &scenes {
            rehearsal.wait(Duration::from_millis(*wait));
            rehearsal.hear(match scene {
                Scene::Opened => Heard::Opened,
                Scene::Due => Heard::Due,
                Scene::Closed => Heard::Closed,
                Scene::NoResponse => Heard::NoResponse(Unavailable::Timeout),
                Scene::Bytes(bytes) => Heard::Bytes(bytes),
                Scene::Response(status, body) => Heard::Response(Response { status: *status, body }),
                Scene::Message(topic, payload, retained) => {
                    Heard::Message { topic, payload, retained: *retained }
                }
                Scene::Stop(stop) => Heard::Stop(*stop),
            });
        }
    });
}
