//! What is said, byte by byte, on lines in memory under paused time: replies, faults, pace, log.
//! Listeners and pseudo-terminals are in `serving`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::{Block, Form, Protocol, Words, coalesce, decode};
use andon_adapters::profile::{Library, Profile};
use andon_engine::value::{Unavailable, Value};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout};

use super::bench::NotThere;
use super::conversation::{Pace, hold};
use super::frame::{Framing, crc16, wrap};
use super::*;

mod serving;

const METER: u8 = 3;
const RELAYS: u8 = 10;
const WATER: u8 = 11;
/// Longer than anything here takes, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

const READ_POWER: [u8; 5] = [4, 0, 0x0C, 0, 2];
const RELAY_1_ON: [u8; 5] = [5, 0, 0, 0xFF, 0];

/// The reply, as PDU, to what a healthy meter at 1500.25 W and a healthy relay are asked.
const POWER: [u8; 6] = [4, 4, 0x44, 0xBB, 0x88, 0x00];

fn device(unit: u8, profile: &str) -> Device {
    let (library, problems) = Library::load(None);
    assert_eq!(problems, []);
    Device::new(unit, library.get(profile).unwrap())
}

fn bench() -> Bench {
    Bench::new([
        device(METER, "eastron/sdm120"),
        device(RELAYS, "waveshare/relay-8ch"),
        device(WATER, "xy/md02"),
    ])
}

fn fault(bench: &Bench, unit: u8, text: &str) {
    bench.fault(unit, &text.parse().unwrap()).unwrap();
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("andon-simulate-{}-{name}", std::process::id()));
    std::fs::remove_file(&path).ok();
    path
}

/// A line in memory, RTU at `baud` or TCP. It ends with the stream.
fn wire(bench: &Bench, baud: Option<u32>) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(8192);
    let shared = bench.shared.clone();
    let pace = baud.map_or(Pace::TCP, Pace::serial);
    tokio::spawn(async move { hold(&shared, &mut far, pace, |_| None).await });
    near
}

/// What comes back for a PDU within a (paused) second of silence.
async fn exchange(stream: &mut DuplexStream, framing: Framing, unit: u8, pdu: &[u8]) -> Vec<u8> {
    stream.write_all(&wrap(framing, 0x0102, unit, pdu)).await.unwrap();
    heard(stream).await
}

async fn heard(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = [0; 512];
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut part)).await {
        bytes.extend_from_slice(&part[..count]);
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn every_fault_shows_on_the_wire_and_ends() {
    // Fault, what is asked of which unit, the bytes of the unit and PDU that come back.
    let cases: [(&str, u8, &[u8], Vec<u8>); 16] = [
        ("silence", METER, &READ_POWER, vec![]),
        ("drop percent=100", METER, &READ_POWER, vec![]),
        ("unit", METER, &READ_POWER, [&[METER + 1], &POWER[..]].concat()),
        ("function", METER, &READ_POWER, vec![METER, 3, 4, 0x44, 0xBB, 0x88, 0x00]),
        ("short", METER, &READ_POWER, vec![METER, 4, 2, 0x44, 0xBB]),
        ("bytecount", METER, &READ_POWER, vec![METER, 4, 6, 0x44, 0xBB, 0x88, 0x00]),
        ("exception code=6", METER, &READ_POWER, vec![METER, 0x84, 6]),
        ("hole start=13 count=1", METER, &READ_POWER, vec![METER, 0x84, 2]),
        ("hole start=14 count=9", METER, &READ_POWER, [&[METER], &POWER[..]].concat()),
        (
            "hole start=13 count=1 table=holding",
            METER,
            &READ_POWER,
            [&[METER], &POWER[..]].concat(),
        ),
        ("nan item=power.active", METER, &READ_POWER, vec![METER, 4, 4, 0x7F, 0xC0, 0, 0]),
        ("sentinel", WATER, &[4, 0, 1, 0, 2], vec![WATER, 4, 4, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("nan item=humidity", WATER, &[4, 0, 2, 0, 1], vec![WATER, 4, 2, 0xFF, 0xFF]),
        ("echo", RELAYS, &RELAY_1_ON, vec![RELAYS, 5, 0, 1, 0, 0]),
        ("stuck-coil", RELAYS, &RELAY_1_ON, vec![RELAYS, 5, 0, 0, 0xFF, 0]),
        ("exception code=4", RELAYS, &RELAY_1_ON, vec![RELAYS, 0x85, 4]),
    ];
    for framing in [Framing::Rtu, Framing::Tcp] {
        for (text, unit, pdu, told) in &cases {
            let bench = bench();
            bench.set(METER, "power.active", 1500.25).unwrap();
            let mut line = wire(&bench, (framing == Framing::Rtu).then_some(9600));
            let healthy = exchange(&mut line, framing, *unit, pdu).await;
            assert!(bench.set_coil(RELAYS, 0, false));
            fault(&bench, *unit, text);
            let expected = match told.split_first() {
                Some((unit, pdu)) => wrap(framing, 0x0102, *unit, pdu),
                None => Vec::new(),
            };
            let faulty = exchange(&mut line, framing, *unit, pdu).await;
            assert_eq!(faulty, expected, "{text}, {framing:?}");
            assert_eq!(bench.coil(RELAYS, 0), Some(false), "{text} switches nothing");
            bench.clear(*unit);
            let cleared = exchange(&mut line, framing, *unit, pdu).await;
            assert_eq!(cleared, healthy, "{text}, {framing:?}, cleared");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_are_garbled_on_serial_lines() {
    let bench = bench();
    let mut line = wire(&bench, Some(9600));
    let healthy = exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await;
    fault(&bench, METER, "crc");
    let crc = exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await;
    let (body, sum) = crc.split_last_chunk::<2>().unwrap();
    assert_eq!(body, &healthy[..healthy.len() - 2]);
    assert_ne!(*sum, crc16(body));
    bench.clear(METER);
    fault(&bench, METER, "cut");
    assert_eq!(exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await, healthy[..4]);
    bench.clear(None);
    fault(&bench, METER, "noise bytes=5");
    let noisy = exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await;
    assert_eq!(noisy[5..], healthy);
    bench.seed(7);
    let seventh = exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await;
    bench.seed(7);
    assert_eq!(exchange(&mut line, Framing::Rtu, METER, &READ_POWER).await, seventh);
    assert_ne!(seventh, noisy);
}

#[tokio::test(start_paused = true)]
async fn losses_are_as_many_as_asked_for_and_can_be_repeated() {
    let bench = bench();
    let mut line = wire(&bench, None);
    fault(&bench, METER, "drop percent=30");
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        bench.seed(seed);
        let mut lost = Vec::new();
        for _ in 0..300 {
            lost.push(exchange(&mut line, Framing::Tcp, METER, &READ_POWER).await.is_empty());
        }
        let count = lost.iter().filter(|lost| **lost).count();
        assert!((60..=120).contains(&count), "{count} of 300 at 30 percent");
        runs.push(lost);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[1], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_comes_once_and_holds_nobody_up() {
    for baud in [None, Some(9600)] {
        let framing = if baud.is_some() { Framing::Rtu } else { Framing::Tcp };
        let bench = bench();
        fault(&bench, METER, "late ms=300");
        let mut line = wire(&bench, baud);
        let started = Instant::now();
        line.write_all(&wrap(framing, 1, METER, &READ_POWER)).await.unwrap();
        line.write_all(&wrap(framing, 2, WATER, &[4, 0, 1, 0, 1])).await.unwrap();
        let prompt = framing_bytes(framing, 2);
        let mut first = vec![0; prompt];
        line.read_exact(&mut first).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(100), "{framing:?}");
        assert!(first.contains(&WATER), "{first:?}");
        let mut second = vec![0; framing_bytes(framing, 4)];
        line.read_exact(&mut second).await.unwrap();
        let took = started.elapsed().as_millis();
        assert!((300..340).contains(&took), "{framing:?}: {took} ms");
        assert!(second.contains(&METER), "{second:?}");
        assert!(heard(&mut line).await.is_empty(), "once");
    }
}

/// Bytes of a reply with this many bytes of values.
fn framing_bytes(framing: Framing, values: usize) -> usize {
    values + if framing == Framing::Rtu { 5 } else { 9 }
}

#[tokio::test(start_paused = true)]
async fn bytes_take_their_time_in_both_directions() {
    for (baud, silence) in [(1200, 3.5 * 11_000.0 / 1200.0), (9600, 5.0), (115_200, 5.0)] {
        let bench = bench();
        let mut line = wire(&bench, Some(baud));
        let character = 11_000.0 / f64::from(baud);
        let started = Instant::now();
        line.write_all(&wrap(Framing::Rtu, 0, METER, &READ_POWER)).await.unwrap();
        let mut reply = [0; 9];
        line.read_exact(&mut reply[..1]).await.unwrap();
        let first = started.elapsed().as_secs_f64() * 1e3;
        line.read_exact(&mut reply[1..]).await.unwrap();
        let last = started.elapsed().as_secs_f64() * 1e3;
        let begins = 8.0 * character + silence;
        // A timer is up to a millisecond late, and what is late together is not late twice.
        for (got, due) in [(first, begins + character), (last, begins + 9.0 * character)] {
            assert!((due - 0.1..due + 2.1).contains(&got), "{baud}: {got} ms, due {due} ms");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_obeyed_and_not_answered() {
    let bench = Bench::new([1, 2].map(|unit| device(unit, "waveshare/relay-8ch")));
    let mut line = wire(&bench, Some(9600));
    assert!(exchange(&mut line, Framing::Rtu, 0, &RELAY_1_ON).await.is_empty());
    assert_eq!((bench.coil(1, 0), bench.coil(2, 0)), (Some(true), Some(true)));
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_are_refused() {
    let cases: [(&[u8], u8); 11] = [
        (&[1, 0, 0, 0, 0], 3),
        (&[1, 0, 0, 7, 0xD1], 3),
        // The board has no registers at all.
        (&[4, 0, 0, 0, 1], 2),
        (&[4, 0, 0], 3),
        (&[1, 0, 0], 3),
        (&[5, 0, 0, 0x55, 0], 3),
        (&[5, 0, 8, 0, 0], 2),
        (&[15, 0, 0, 0, 9, 1, 0], 3),
        (&[15, 0, 0, 0, 0, 0], 3),
        (&[15, 0, 4, 0, 8, 1, 0xFF], 2),
        (&[0x2B, 14, 1, 0], 1),
    ];
    let relays = Bench::new([device(RELAYS, "waveshare/relay-8ch")]);
    let mut line = wire(&relays, None);
    for (pdu, code) in cases {
        let reply = exchange(&mut line, Framing::Tcp, RELAYS, pdu).await;
        assert_eq!(reply[7..], [pdu[0] | 0x80, code], "{pdu:?}");
    }
    assert!((0..8).all(|coil| relays.coil(RELAYS, coil) == Some(false)));
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_what_happened_in_order() {
    let path = scratch("log");
    let bench = bench();
    bench.log_to(&path).unwrap();
    let mut line = wire(&bench, Some(19_200));
    bench.set(WATER, "temperature", 60.0).unwrap();
    exchange(&mut line, Framing::Rtu, WATER, &[4, 0, 1, 0, 1]).await;
    exchange(&mut line, Framing::Rtu, RELAYS, &RELAY_1_ON).await;
    fault(&bench, RELAYS, "stuck-coil");
    exchange(&mut line, Framing::Rtu, RELAYS, &[5, 0, 0, 0, 0]).await;
    bench.clear(None);
    fault(&bench, RELAYS, "silence");
    exchange(&mut line, Framing::Rtu, RELAYS, &[0x2B, 14, 1, 0]).await;
    bench.unplug();
    bench.replug();
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut last = 0;
    let mut told = String::new();
    for line in log.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = line.as_object_mut().unwrap().remove("at").unwrap().as_u64().unwrap();
        assert!(at >= last);
        last = at;
        told += &format!("{line}\n");
    }
    expect_test::expect![[r#"
        {"item":"temperature","kind":"set","unit":11,"value":60.0}
        {"address":1,"count":1,"function":4,"kind":"request","unit":11}
        {"bytes":7,"function":4,"kind":"reply","unit":11}
        {"address":0,"function":5,"kind":"request","unit":10,"value":65280}
        {"coil":0,"kind":"coil","on":true,"unit":10}
        {"bytes":8,"function":5,"kind":"reply","unit":10}
        {"fault":"stuck-coil","kind":"fault","unit":10}
        {"address":0,"function":5,"kind":"request","unit":10,"value":0}
        {"bytes":8,"function":5,"kind":"reply","unit":10}
        {"kind":"clear","unit":null}
        {"fault":"silence","kind":"fault","unit":10}
        {"function":43,"kind":"request","unit":10}
        {"kind":"unplug","unit":null}
        {"kind":"replug","unit":null}
    "#]]
    .assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn values_start_distinct_and_plausible_and_survive_the_wire() {
    let (library, _) = Library::load(None);
    let modbus = |profile: &Arc<Profile>| profile.protocol() == Protocol::Modbus;
    for profile in library.ids().filter_map(|id| library.get(id)).filter(modbus) {
        let id = &*profile.id;
        let mut of_item: Vec<Vec<f64>> = vec![Vec::new(); profile.items.len()];
        for unit in 1..=32 {
            let bench = Bench::new([Device::new(unit, profile.clone())]);
            let readings = read_all(&bench, unit, &profile).await;
            assert_eq!(readings.len(), profile.items.len(), "{id}");
            let mut seen: Vec<(String, f64)> = Vec::new();
            for (position, measured) in readings {
                let item = &profile.items[position].item;
                // Currents that follow from powers may fall together at a device's resolution.
                let coarse =
                    is_coarse(&profile.items[position]) || super::supply::concerns(&item.name);
                match measured.unwrap() {
                    Value::Number(number) => {
                        let inside = (item.least..=item.greatest).contains(&number);
                        assert!(
                            number != 0.0 && inside,
                            "{id}, unit {unit}: {} = {number}",
                            item.name
                        );
                        let kin = |(measure, other): &(String, f64)| {
                            *measure == format!("{:?}", item.unit) && *other == number
                        };
                        let twice = !coarse && seen.iter().any(kin);
                        assert!(!twice, "{id}, unit {unit}: {} twice", item.name);
                        seen.push((format!("{:?}", item.unit), number));
                        let known = !coarse && of_item[position].contains(&number);
                        assert!(!known, "{id}: {}", item.name);
                        of_item[position].push(number);
                    }
                    other => assert_eq!(other, Value::Flag(false), "{id}: {}", item.name),
                }
            }
        }
    }
}

/// Whether a device measures too roughly, or too little, to tell the simulator's steps apart.
fn is_coarse(item: &andon_adapters::profile::ProfileItem) -> bool {
    let (base, per_unit, per_item) = super::device::steps(item);
    let float = matches!(item.encoding.form, Form::F32 | Form::F64);
    let exponent = i32::from(super::device::exponent(item));
    let step = item.scale.factor() * 10f64.powi(exponent);
    let narrow = matches!(item.encoding.form, Form::U16 | Form::I16);
    let full = narrow && base / step > f64::from(i16::MAX);
    !float && (full || step > per_unit.min(per_item))
}

/// Every item of a unit, read as the gateway plans it.
async fn read_all(
    bench: &Bench,
    unit: u8,
    profile: &andon_adapters::profile::Profile,
) -> Vec<(usize, Result<Value, Unavailable>)> {
    let mut line = wire(bench, None);
    let positions: Vec<usize> = (0..profile.items.len()).collect();
    let mut readings = Vec::new();
    for batch in coalesce(profile, &positions, &Default::default()) {
        let Block { table, start, count } = batch.block;
        let [[a, b], [c, d]] = [start, count].map(u16::to_be_bytes);
        line.write_all(&wrap(Framing::Tcp, 0, unit, &[table.read_function().unwrap(), a, b, c, d]))
            .await
            .unwrap();
        let mut head = [0; 9];
        line.read_exact(&mut head).await.unwrap();
        let mut content = vec![0; usize::from(head[8])];
        line.read_exact(&mut content).await.unwrap();
        let words: Vec<u16> = content
            .chunks(2)
            .map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
            .collect();
        let bits: Vec<bool> = (0..usize::from(count))
            .map(|n| content.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1))
            .collect();
        let words = if table.is_bits() { Words::Bits(&bits) } else { Words::Registers(&words) };
        readings.extend(decode(profile, &batch, words));
    }
    readings
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let bench = bench();
    let absent = Fault::Nan("humidity".to_owned());
    assert_eq!(bench.set(4, "power.active", 1.0), Err(NotThere::Unit(4)));
    let item = NotThere::Item(METER, "humidity".to_owned());
    assert_eq!(bench.set(METER, "humidity", 0.5), Err(item.clone()));
    assert_eq!(bench.fault(METER, &absent), Err(item));
    assert_eq!(bench.fault(4, &Fault::Silence), Err(NotThere::Unit(4)));
    let nowhere = NotThere::Anywhere("speed.spindle".to_owned());
    assert_eq!(bench.set(None, "speed.spindle", 1.0), Err(nowhere));
    assert_eq!(bench.fault(None, &absent), Ok(()));
    assert_eq!((bench.coil(METER, 0), bench.coil(RELAYS, 8)), (None, None));
    assert!(!bench.set_coil(METER, 0, true));
}

/// Zeros where no item is, from the first item of a table to the last; exception 2 outside.
#[test]
fn gaps_are_zero_and_the_rest_is_refused() {
    let text = "title = \"T\"\nsource = \"S\"\nevidence = \"datasheet\"\n\
                [[item]]\nname = \"voltage\"\nread = \"holding:10\"\ntype = \"u16\"\n\
                [[item]]\nname = \"current\"\nread = \"holding:20\"\ntype = \"u16\"\n\
                [[example]]\nregisters = { \"holding:10\" = [230] }\nexpect = { voltage = 230 }\n\
                [[example]]\nregisters = { \"holding:20\" = [4] }\nexpect = { current = 4 }\n";
    let profile = andon_adapters::profile::check(text, "t/t").unwrap();
    let device = Device::new(1, Arc::new(profile));
    for (start, count, served) in [(10, 11, true), (12, 5, true), (9, 2, false), (20, 2, false)] {
        let reply = device.reply(&[3, 0, start, 0, count]).0;
        assert_eq!(reply.len() == 2 + 2 * usize::from(count), served, "{start}+{count}");
        if !served {
            assert_eq!(reply, [0x83, 2]);
        }
    }
    assert_eq!(device.reply(&[3, 0, 12, 0, 2]).0, [3, 4, 0, 0, 0, 0]);
    assert_eq!(device.reply(&[4, 0, 10, 0, 1]).0, [0x84, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_write_of_more_registers_than_its_bytes_can_hold_is_refused() {
    let mut line = wire(&bench(), None);
    // 200 registers would be 400 bytes, of which the length byte can say 144.
    let pdu = [&[16, 0, 1, 0, 200, 144], &[0; 144][..]].concat();
    let answer = exchange(&mut line, Framing::Tcp, METER, &pdu).await;
    assert_eq!(answer.get(7).copied(), Some(16 | 0x80), "{answer:?}");
    assert!(!exchange(&mut line, Framing::Tcp, METER, &READ_POWER).await.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_whatever_stop_the_service(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        unit in prop::sample::select(vec![METER, RELAYS, WATER, 0]),
        framed in any::<bool>(),
        serial in any::<bool>(),
        faults in prop::sample::subsequence(vec![
            "echo", "unit", "function", "short", "bytecount", "crc", "cut", "noise bytes=9",
            "sentinel", "late ms=70", "drop percent=50",
        ], 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bench = bench();
            let baud = serial.then_some(19_200);
            let framing = if serial { Framing::Rtu } else { Framing::Tcp };
            for text in faults {
                bench.fault(None, &text.parse().unwrap()).unwrap();
            }
            let mut line = wire(&bench, baud);
            for part in &parts {
                let bytes = if framed { wrap(framing, 9, unit, part) } else { part.clone() };
                // A TCP stream of rubbish is closed: the rest falls on nobody's ears.
                let _ = line.write_all(&bytes).await;
            }
            heard(&mut line).await;
            bench.clear(None);
            if !serial {
                line = wire(&bench, baud);
            }
            bench.set(METER, "power.active", 1500.25).unwrap();
            let reply = exchange(&mut line, framing, METER, &READ_POWER).await;
            assert_eq!(reply, wrap(framing, 0x0102, METER, &POWER));
        });
    }
}
