//! One fuzz target for every codec: bytes become a conversation that the codec must survive.
//!
//! `ANDON_FUZZ` names the target: a protocol of `andon profile protocols`, or one of those in
//! [`target`]. Survive means: no panic, no endless loop (libFuzzer's timeout), no growth (its
//! memory limit), and nothing said that the contract forbids.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use andon_adapters::device::{Device, Heard, Outbox, Response, Stop, TEXT_BYTES_MAX};
use andon_adapters::modbus::{Holes, Words, coalesce, decode};
use andon_adapters::profile::{self, Library, Profile};
use andon_adapters::protocol::{self, Settings};
use andon_adapters::{dlt645, huanyang};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};

/// What is fuzzed, by name.
static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("ANDON_FUZZ").expect("ANDON_FUZZ names the target"));

/// Every profile in the binary.
static PROFILES: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    let (library, _) = Library::load(None);
    library.ids().filter_map(|id| library.get(id)).collect()
});

/// A device may say its whole picture in any step …
const SAID_MAX: usize = 256;
/// … and again for every few bytes that it heard; more than that is growth that nobody asked for.
const SAID_PER_BYTE: usize = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target(&TARGET, bytes));

fn target(name: &str, bytes: &[u8]) {
    match name {
        "profile" => {
            let text = String::from_utf8_lossy(bytes);
            // Problems are fine, panics are not.
            drop(profile::check(&text, "fuzz/fuzz"));
        }
        "dlt645" => meter(bytes),
        "huanyang" => drive(bytes),
        "modbus" => registers(bytes),
        protocol => converse(protocol, bytes),
    }
}

/// A line on which anything may be said to somebody who asked a DL/T 645 meter.
fn meter(mut bytes: &[u8]) {
    let address: dlt645::Address = "123456789012".parse().expect("twelve digits");
    let identifiers = [dlt645::Identifier::Of2007(0x0001_0000), dlt645::Identifier::Of1997(0x9010)];
    while let Some((frame, length)) = dlt645::cut(bytes) {
        assert!((1..=bytes.len()).contains(&length), "a frame is part of what was heard");
        for identifier in &identifiers {
            if let Ok(value) = dlt645::value(&frame, address, *identifier) {
                drop(dlt645::words(value));
            }
        }
        dlt645::told_address(&frame);
        bytes = &bytes[length..];
    }
}

/// The same for a drive.
fn drive(bytes: &[u8]) {
    for number in 0..=huanyang::STATUS_MAX {
        huanyang::value(bytes, 1, number);
    }
    huanyang::refusal(bytes, 1);
}

/// Any registers, read as any device that there is a profile of.
fn registers(bytes: &[u8]) {
    let profiles = &*PROFILES;
    let [first, rest @ ..] = bytes else { return };
    let Some(profile) = profiles.get(usize::from(*first) % profiles.len().max(1)) else { return };
    let all: Vec<usize> = (0..profile.items.len()).collect();
    let words: Vec<u16> =
        rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let bits: Vec<bool> = rest.iter().map(|byte| byte & 1 == 1).collect();
    for batch in coalesce(profile, &all, &Holes::default()) {
        for words in [Words::Registers(&words), Words::Bits(&bits)] {
            for (item, measured) in decode(profile, &batch, words) {
                assert!(item < profile.items.len());
                if let Ok(Value::Number(number)) = measured {
                    assert!(number.is_finite());
                }
            }
        }
    }
}

/// Cuts the bytes into what a device hears: a kind, a length, and so many bytes.
fn converse(name: &str, mut bytes: &[u8]) {
    let protocol = protocol::named(name).unwrap_or_else(|| panic!("no target {name}"));
    let mapping = vec![("power.active".to_owned(), "ENERGY.Power W".to_owned())];
    let settings = Settings { topic: "t".to_owned(), mapping, ..Settings::default() };
    let mut device =
        (protocol.device)(&settings).expect("the settings are those of a plain device");
    let mut now = BootTime::from_millis(1000);
    let mut out = Outbox::default();
    step(&mut *device, now, Heard::Opened, &mut out);
    if name == "octoprint" && bytes.first().is_some_and(|byte| byte % 4 != 0) {
        listen(&mut *device, now, &mut out);
    }
    while let [kind, length, rest @ ..] = bytes {
        // Long portions are rare in the wild and matter: the high bit multiplies.
        let length = usize::from(length & 0x7F) << (if length & 0x80 == 0 { 0 } else { 5 });
        let (part, after) = rest.split_at(length.min(rest.len()));
        bytes = after;
        now = now + Duration::from_millis(u64::from(kind >> 4) * 250);
        let text = String::from_utf8_lossy(part);
        let heard = match kind & 0x0F {
            0 => Heard::Opened,
            1 | 2 => Heard::Due,
            3 => Heard::Closed,
            4 => Heard::NoResponse(Unavailable::Timeout),
            5 => Heard::Stop(Stop::ALL[usize::from(kind >> 4) % Stop::ALL.len()]),
            6 => Heard::Level { line: length, on: true },
            13 => Heard::Listening(if length == 0 { Ok(()) } else { Err(&text) }),
            7 | 8 => Heard::Frame(&text),
            9 | 10 => {
                let status = [200, 204, 401, 404, 409, 500, 501, 503][usize::from(kind >> 5)];
                let is_part = kind & 0x0F == 10;
                Heard::Response(Response { status, body: part, is_part })
            }
            11 | 12 => {
                let split = part.iter().position(|byte| *byte == b' ').unwrap_or(part.len());
                let topic = String::from_utf8_lossy(&part[..split]).into_owned();
                let payload = part.get(split + 1..).unwrap_or_default();
                let heard = Heard::Message { topic: &topic, payload, retained: kind & 0x10 != 0 };
                step(&mut *device, now, heard, &mut out);
                continue;
            }
            _ => Heard::Bytes(part),
        };
        step(&mut *device, now, heard, &mut out);
    }
}

/// Brings OctoPrint to where it pushes, which no chance would: most of what is heard then are frames.
fn listen(device: &mut dyn Device, now: BootTime, out: &mut Outbox) {
    let answer =
        |body: &'static str| Response { status: 200, body: body.as_bytes(), is_part: false };
    let job = Heard::Response(answer(r#"{"state":"Operational"}"#));
    let printer = Heard::Response(answer(r#"{"state":{"text":"Operational","flags":{}}}"#));
    let login = Heard::Response(answer(r#"{"name":"_api","session":"1"}"#));
    for heard in [job, printer, Heard::Due, job, printer, login, Heard::Listening(Ok(()))] {
        step(device, now, heard, out);
    }
}

/// One step, and what its outbox may hold.
fn step(device: &mut dyn Device, now: BootTime, heard: Heard<'_>, out: &mut Outbox) {
    *out = Outbox::default();
    device.step(now, heard, out);
    let most = SAID_MAX + SAID_PER_BYTE * length(heard);
    assert!(out.said.len() <= most && out.sends.len() <= most, "it never stops talking");
    for (item, measured) in &out.said {
        assert!(device.items().contains(item), "{item} was never offered");
        match measured {
            Ok(Value::Number(number)) => assert!(number.is_finite(), "{item} is {number}"),
            Ok(Value::Text(text)) => assert!(text.len() <= TEXT_BYTES_MAX, "{item} is too long"),
            Ok(Value::Flag(_)) | Err(_) => {}
        }
    }
}

/// The bytes of what is heard.
fn length(heard: Heard<'_>) -> usize {
    match heard {
        Heard::Bytes(bytes) => bytes.len(),
        Heard::Frame(text) => text.len(),
        Heard::Response(response) => response.body.len(),
        Heard::Message { payload, .. } => payload.len(),
        _ => 0,
    }
}
