//! For tests only: runs a device through whatever may be heard, and words what it says.
//!
//! [`survives`] feeds sequences of everything that an owner may bring, made of genuine replies and
//! of what noise, truncation and malice make of them, and holds a device to its contract.

use std::collections::{BTreeMap, BTreeSet};

use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::contract;
use crate::device::{Device, Heard, Outbox, Outgoing, Response, Stop};

/// Most that these devices may want to send in one step; fewer than the contract allows.
const SENDS_MAX: usize = 16;

/// What was said, worded: the last of each item.
pub(crate) fn said(out: &Outbox) -> BTreeMap<String, String> {
    let word = |(item, measured): &(std::sync::Arc<str>, Result<Value, Unavailable>)| {
        let words = match measured {
            Ok(value) => value.to_string(),
            Err(why) => format!("({why})"),
        };
        (item.to_string(), words)
    };
    out.said.iter().map(word).collect()
}

/// One line per item that was said, in the order of their names.
pub(crate) fn told(out: &Outbox) -> String {
    said(out).iter().map(|(item, words)| format!("{item} {words}\n")).collect()
}

/// Steps a device and hands back what follows.
pub(crate) fn step(device: &mut dyn Device, seconds: u64, heard: Heard<'_>) -> Outbox {
    let mut out = Outbox::default();
    device.step(BootTime::from_millis(seconds * 1000), heard, &mut out);
    out
}

/// A response with a body.
pub(crate) fn response(status: u16, body: &str) -> Heard<'_> {
    Heard::Response(Response { status, body: body.as_bytes() })
}

/// Whether every item was said to be missing for this reason.
pub(crate) fn all_missing(device: &dyn Device, out: &Outbox, why: Unavailable) -> bool {
    let said = said(out);
    device.items().iter().all(|item| said.get(&**item) == Some(&format!("({why})")))
}

#[derive(Clone, Debug)]
enum Event {
    Opened,
    Due,
    Bytes(Vec<u8>),
    Frame(String),
    Response(u16, String),
    NoResponse(Unavailable),
    Closed,
    Stop(Stop),
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

fn event(genuine: &'static [&'static str]) -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        8 => Just(200u16),
        1 => Just(204),
        2 => prop::sample::select(&[401u16, 403, 404, 409, 500, 503][..]),
        1 => any::<u16>(),
    ];
    prop_oneof![
        2 => Just(Event::Opened),
        4 => Just(Event::Due),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Event::Bytes),
        6 => reply(genuine).prop_map(Event::Frame),
        6 => (status, reply(genuine)).prop_map(|(status, body)| Event::Response(status, body)),
        1 => prop::sample::select(&Unavailable::ALL[..]).prop_map(Event::NoResponse),
        1 => Just(Event::Closed),
        1 => prop::sample::select(&Stop::ALL[..]).prop_map(Event::Stop),
    ]
}

/// The id of a JSON-RPC call.
fn id(outgoing: &Outgoing) -> Option<u64> {
    let Outgoing::Frame(frame) = outgoing else { return None };
    serde_json::from_str::<serde_json::Value>(frame).ok()?.get("id")?.as_u64()
}

/// Holds a device to its contract whatever it hears: it does not panic, says only its own items
/// and each once, no number that is not finite, and never wants to send without bound. `device`
/// makes one that is in the midst of a good conversation.
pub(crate) fn survives(device: fn() -> Box<dyn Device>, genuine: &'static [&'static str]) {
    let events = prop::collection::vec((event(genuine), 0..7u64), 1..60);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    let outcome = runner.run(&events, |events| {
        let (mut device, mut seconds, mut last_id) = (device(), 10, 1);
        for (event, pause) in events {
            seconds += pause;
            let known = |text: &str| text.replace('@', &last_id.to_string());
            let (text, status) = match &event {
                Event::Frame(frame) => (known(frame), 0),
                Event::Response(status, body) => (known(body), *status),
                _ => (String::new(), 0),
            };
            let heard = match &event {
                Event::Opened => Heard::Opened,
                Event::Due => Heard::Due,
                Event::Bytes(bytes) => Heard::Bytes(bytes),
                Event::Frame(_) => Heard::Frame(&text),
                Event::Response(..) => response(status, &text),
                Event::NoResponse(why) => Heard::NoResponse(*why),
                Event::Closed => Heard::Closed,
                Event::Stop(stop) => Heard::Stop(*stop),
            };
            let out = step(&mut *device, seconds, heard);
            last_id = out.sends.iter().rev().find_map(id).unwrap_or(last_id);
            keeps_contract(&*device, &out)?;
        }
        Ok(())
    });
    outcome.expect("the device keeps its contract");
}

/// Beside the contract of all: a picture says each item once.
fn keeps_contract(device: &dyn Device, out: &Outbox) -> Result<(), TestCaseError> {
    contract::check(device, out);
    prop_assert!(out.sends.len() <= SENDS_MAX, "{} sends", out.sends.len());
    let items: BTreeSet<_> = out.said.iter().map(|(item, _)| item).collect();
    prop_assert_eq!(items.len(), out.said.len(), "an item was said twice");
    Ok(())
}
