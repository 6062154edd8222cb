//! What a bad day brings to a device: genuine replies and what noise, truncation and malice make of
//! them, in any order and any portions. Nothing here knows a protocol.

use std::collections::BTreeSet;
use std::time::Duration;

use andon_engine::value::Unavailable;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Trial;
use crate::contract::check_items;
use crate::device::{Device, Heard, Outbox, Outgoing, Response, Stop};

/// Most that a device that says a whole picture may want to send in one step; fewer than the
/// contract allows.
const SENDS_MAX: usize = 16;

/// Conversations that are tried of devices that say whole pictures.
const CASES: u32 = 192;

/// The same of others: those behind a broker are tried with several settings, and debug builds step
/// slowly.
const CASES_AT_A_BROKER: u32 = 96;

/// What an owner brings to a device.
#[derive(Clone, Debug)]
pub(crate) enum Sound {
    Opened,
    Due,
    Closed,
    Stop(Stop),
    /// Milliseconds in which nothing comes.
    Wait(u64),
    Bytes(Vec<u8>),
    /// In frames, bodies and payloads `@` stands for the id of the last call.
    Frame(String),
    Response(u16, Vec<u8>, bool),
    NoResponse(Unavailable),
    /// Whether the WebSocket beside the requests stands.
    Listening(bool),
    Message(String, Vec<u8>, bool),
}

impl Trial {
    /// Brings all of these, bytes undivided.
    pub(crate) fn hear_all(&mut self, sounds: &[Sound]) {
        for sound in sounds {
            self.sound(sound, usize::MAX, 0);
        }
    }

    /// Brings one, bytes in such portions, and hands back what followed last.
    fn sound(&mut self, sound: &Sound, portion: usize, last_id: u64) -> Outbox {
        let known = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace('@', &last_id.to_string()).into_bytes()
        };
        match sound {
            Sound::Opened => self.hear(Heard::Opened),
            Sound::Due => self.hear(Heard::Due),
            Sound::Closed => self.hear(Heard::Closed),
            Sound::Stop(stop) => self.hear(Heard::Stop(*stop)),
            Sound::NoResponse(why) => self.hear(Heard::NoResponse(*why)),
            Sound::Listening(stands) => {
                self.hear(Heard::Listening(stands.then_some(()).ok_or("HTTP error: 403 Forbidden")))
            }
            Sound::Frame(text) => self.hear(Heard::Frame(&text.replace('@', &last_id.to_string()))),
            Sound::Response(status, body, is_part) => {
                let (status, is_part) = (*status, *is_part);
                self.hear(Heard::Response(Response { status, body: &known(body), is_part }))
            }
            Sound::Message(topic, payload, retained) => {
                let retained = *retained;
                self.hear(Heard::Message { topic, payload: &known(payload), retained })
            }
            Sound::Wait(millis) => {
                self.wait(Duration::from_millis(*millis));
                Outbox::default()
            }
            Sound::Bytes(bytes) => {
                let parts = bytes.chunks(portion).map(|part| self.hear(Heard::Bytes(part)));
                parts.last().unwrap_or_default()
            }
        }
    }
}

/// Anything a wire may bring: lines of the dialect, whole, cut off or run together, and rubbish.
pub(crate) fn sounds(dialect: &'static [&'static str]) -> impl Strategy<Value = Vec<Sound>> {
    let line = || proptest::sample::select(dialect).prop_map(|l| format!("{l}\r\n").into_bytes());
    let bytes = prop_oneof![
        6 => line(),
        1 => (line(), 0usize..40).prop_map(|(line, keep)| line[..keep.min(line.len())].to_vec()),
        1 => (line(), 0usize..40, any::<u8>()).prop_map(|(mut line, at, byte)| {
            let at = at % line.len();
            line[at] = byte;
            line
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ];
    let sound = prop_oneof![
        8 => bytes.prop_map(Sound::Bytes),
        4 => Just(Sound::Due),
        3 => (0u64..20_000).prop_map(Sound::Wait),
        1 => Just(Sound::Opened),
        1 => Just(Sound::Closed),
        1 => proptest::sample::select(&Stop::ALL[..]).prop_map(Sound::Stop),
    ];
    proptest::collection::vec(sound, 0..60)
}

/// Whatever a wire brings: no panic, nothing said that is not offered, and the same said and sent
/// whether the bytes come one by one, in portions or all together.
pub(crate) fn same_in_any_portions(make: fn() -> Box<dyn Device>, sounds: &[Sound]) {
    let after = |portion: usize| {
        let mut trial = Trial::opened(make());
        for sound in sounds {
            trial.sound(sound, portion, 0);
        }
        (trial.said, trial.sent, trial.stop, trial.trouble)
    };
    let whole = after(usize::MAX);
    assert_eq!(whole, after(1));
    assert_eq!(whole, after(7));
}

/// A genuine reply, or what becomes of it on a bad day. `@` stands for the id of the last call.
fn reply(genuine: &'static [&'static str]) -> impl Strategy<Value = String> {
    let one = prop::sample::select(genuine);
    let spoiled = (one.clone(), one.clone(), 0..7usize, any::<prop::sample::Index>());
    let spoiled = spoiled.prop_map(|(first, second, how, place)| match how {
        0 => first.chars().take(place.index(first.len() + 1)).collect(),
        1 => format!("{first}{second}"),
        2 => first.replace("0", "99999999999999999999999999999"),
        3 => first.replace("0", "-1e308"),
        4 => first.replacen(": ", ":", usize::MAX).replacen(":\"", ":[\"", 3),
        5 => "[".repeat(place.index(100_000)) + first,
        _ => first.replace("1", "null").replace("true", "\"yes\""),
    });
    let text = prop_oneof![
        8 => one.prop_map(str::to_owned),
        4 => spoiled,
        1 => ".{0,64}",
        1 => Just(String::new()),
    ];
    (text, prop::option::weighted(0.2, 0..40u32)).prop_map(|(text, number)| match number {
        Some(number) => text.replace('@', &number.to_string()),
        None => text,
    })
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

/// Everything that an owner may bring, made of `genuine` texts at `topics`.
fn scenes(
    topics: &'static [&'static str],
    genuine: &'static [&'static str],
) -> impl Strategy<Value = Vec<(Sound, u64)>> {
    let status = prop_oneof![
        8 => Just(200u16),
        1 => Just(204),
        2 => prop::sample::select(&[401u16, 403, 404, 409, 500, 503][..]),
        1 => any::<u16>(),
    ];
    let payload = || {
        prop_oneof![
            6 => reply(genuine).prop_map(String::into_bytes),
            3 => (prop::sample::select(genuine), any::<(usize, u8)>()).prop_map(spoilt),
            1 => prop::collection::vec(any::<u8>(), 0..64),
        ]
    };
    let topic = prop_oneof![
        9 => prop::sample::select(if topics.is_empty() { &[""] } else { topics })
            .prop_map(str::to_owned),
        1 => "[a-z/:0-9]{0,12}",
    ];
    let sound = prop_oneof![
        2 => Just(Sound::Opened),
        5 => Just(Sound::Due),
        1 => Just(Sound::Closed),
        1 => prop::sample::select(&Unavailable::ALL[..]).prop_map(Sound::NoResponse),
        2 => any::<bool>().prop_map(Sound::Listening),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Sound::Bytes),
        6 => reply(genuine).prop_map(Sound::Frame),
        6 => (status, payload(), prop::bool::weighted(0.2))
            .prop_map(|(status, body, is_part)| Sound::Response(status, body, is_part)),
        6 => (topic, payload(), any::<bool>())
            .prop_map(|(topic, payload, retained)| Sound::Message(topic, payload, retained)),
        1 => prop::sample::select(&Stop::ALL[..]).prop_map(Sound::Stop),
    ];
    prop::collection::vec((sound, prop_oneof![0..7_000_u64, 0..20_000_u64]), 1..80)
}

/// The id of a JSON-RPC call.
fn id(outgoing: &Outgoing) -> Option<u64> {
    let Outgoing::Frame(frame) = outgoing else { return None };
    serde_json::from_str::<serde_json::Value>(frame).ok()?.get("id")?.as_u64()
}

/// Lets a device hear long conversations made of `topics` and `genuine` texts, whole and spoilt; the
/// contract holds after every step.
pub(crate) fn survives_rubbish(
    make: impl Fn() -> Trial,
    topics: &'static [&'static str],
    genuine: &'static [&'static str],
) {
    converse(CASES_AT_A_BROKER, make, topics, genuine, |_| {});
}

/// The same of a device that says whole pictures: each item once, and it never wants to send much.
/// `device` makes one that is in the midst of a good conversation.
pub(crate) fn survives(device: fn() -> Box<dyn Device>, genuine: &'static [&'static str]) {
    converse(
        CASES,
        || Trial::over(device()),
        &[],
        genuine,
        |out| {
            assert!(out.sends.len() <= SENDS_MAX, "{} sends", out.sends.len());
            let items: BTreeSet<_> = out.said.iter().map(|(item, _)| item).collect();
            assert_eq!(items.len(), out.said.len(), "an item was said twice");
        },
    );
}

fn converse(
    cases: u32,
    make: impl Fn() -> Trial,
    topics: &'static [&'static str],
    genuine: &'static [&'static str],
    check: impl Fn(&Outbox),
) {
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let outcome = runner.run(&scenes(topics, genuine), |scenes| {
        let (mut trial, mut last_id) = (make(), 1);
        check_items(trial.device.items());
        for (sound, pause) in &scenes {
            trial.wait(Duration::from_millis(*pause));
            let out = trial.sound(sound, usize::MAX, last_id);
            last_id = out.sends.iter().rev().find_map(id).unwrap_or(last_id);
            check(&out);
        }
        Ok(())
    });
    outcome.expect("the device keeps its contract");
}
