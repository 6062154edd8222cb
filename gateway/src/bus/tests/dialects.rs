//! Lines that carry more than Modbus: which bytes are believed, and that no device on such a line
//! changes anything for the others.

use std::path::Path;

use andon_adapters::dlt645::{Address, Identifier, wrap};
use andon_adapters::modbus::{Block, Table};
use andon_adapters::profile::Library;
use andon_engine::value::Value;

use super::*;
use crate::bus::dialect::{BYTES_MAX, Dialect};
use crate::bus::question::{Answer, Ask, Fault};
use crate::bus::transaction::{Connection, Framing};
use crate::config::plan::Station;
use crate::simulate::{self, Device};

const POWER: Block = Block { table: Table::Identifier(0x0203), start: 0, count: 2 };
const DRIVE: Block = Block { table: Table::Drive, start: 1, count: 1 };

fn label() -> Address {
    "121078563412".parse().unwrap()
}

fn power() -> Dialect {
    Dialect::of(Station::Meter(label()), Ask::Read(POWER)).unwrap()
}

/// 1.2345 kW, as a server of PyPI's dlt645 sends it.
fn watts() -> Vec<u8> {
    wrap(label(), 0x91, &[0x00, 0x00, 0x03, 0x02, 0x45, 0x23, 0x01])
}

#[test]
fn only_reads_of_identifiers_and_status_values_are_no_modbus() {
    let registers = Block { table: Table::Holding, start: 0, count: 1 };
    assert_eq!(Dialect::of(Station::Unit(1), Ask::Read(registers)), None);
    assert_eq!(Dialect::of(Station::Meter(label()), Ask::Read(registers)), None);
    let write = Ask::WriteCoil { coil: 0, value: true };
    assert_eq!(Dialect::of(Station::Meter(label()), write), None);
    assert!(Dialect::of(Station::Unit(1), Ask::Read(DRIVE)).is_some());
}

#[test]
fn the_answer_is_found_behind_an_echo_and_a_late_answer() {
    let mut line = power().request();
    assert_eq!(power().answer(&line), None, "an adapter's echo of the request");
    line.extend(wrap(label(), 0x91, &[0x00, 0x01, 0x01, 0x02, 0x01, 0x23]));
    assert_eq!(power().answer(&line), None, "a late answer to another question");
    let neighbour = "121078563413".parse().unwrap();
    line.extend(wrap(neighbour, 0x91, &[0x00, 0x00, 0x03, 0x02, 0x99, 0x99, 0x09]));
    assert_eq!(power().answer(&line), None, "another meter");
    line.extend(watts());
    assert_eq!(power().answer(&line), Some(Ok(Answer::Registers(vec![0x0001, 0x2345]))));
}

#[test]
fn refusals_and_values_of_another_length_are_told_apart() {
    let refused = |error| power().answer(&wrap(label(), 0xD1, &[error]));
    assert_eq!(refused(0b10), Some(Err(Fault::Exception(2))), "no such data");
    assert_eq!(refused(0b100), Some(Err(Fault::Exception(4))), "password");
    let short = wrap(label(), 0x91, &[0x00, 0x00, 0x03, 0x02, 0x45, 0x23]);
    assert_eq!(power().answer(&short), Some(Err(Fault::Garbled)));
}

proptest! {
    #[test]
    fn whatever_comes_is_never_taken_for_a_value(
        noise in prop::collection::vec(any::<u8>(), 0..BYTES_MAX),
    ) {
        let drive = Dialect::of(Station::Unit(1), Ask::Read(DRIVE)).unwrap();
        prop_assert_eq!(power().answer(&noise), None);
        prop_assert_eq!(drive.answer(&noise), None);
    }

    #[test]
    fn an_answer_counts_when_its_last_byte_is_there(cut in 0usize..19) {
        let answer = watts();
        prop_assert_eq!(answer.len(), 19);
        prop_assert_eq!(power().answer(&answer[..cut]), None);
        prop_assert!(power().answer(&answer).is_some());
    }
}

/// What a device on a bad line does with one question.
#[derive(Clone, Debug)]
enum Doing {
    Answer,
    Truncated(usize),
    Noise(Vec<u8>),
    /// The answer twice: the second half of the line's life is a late byte.
    Twice,
    OtherQuestion,
    Nothing,
}

fn doings() -> impl Strategy<Value = Doing> {
    prop_oneof![
        Just(Doing::Answer),
        (0usize..19).prop_map(Doing::Truncated),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Doing::Noise),
        Just(Doing::Twice),
        Just(Doing::OtherQuestion),
        Just(Doing::Nothing),
    ]
}

impl Doing {
    fn bytes(&self) -> Vec<u8> {
        let other = || wrap(label(), 0x91, &[0x00, 0x01, 0x01, 0x02, 0x01, 0x23]);
        match self {
            Self::Answer => watts(),
            Self::Truncated(at) => watts()[..*at].to_vec(),
            Self::Noise(noise) => noise.clone(),
            Self::Twice => [watts(), watts()].concat(),
            Self::OtherQuestion => [other(), watts()].concat(),
            Self::Nothing => Vec::new(),
        }
    }

    fn answers(&self) -> bool {
        matches!(self, Self::Answer | Self::Twice | Self::OtherQuestion)
    }
}

/// Asks a device that does these things, its bytes in pieces of `piece`; returns each result.
async fn converse(doings: Vec<Doing>, piece: usize) -> Vec<Result<Answer, Fault>> {
    let (near, mut far) = tokio::io::duplex(4096);
    let script = doings.clone();
    tokio::spawn(async move {
        let mut request = vec![0; power().request().len()];
        for doing in script {
            far.read_exact(&mut request).await.unwrap();
            for bytes in doing.bytes().chunks(piece) {
                far.write_all(bytes).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        std::future::pending::<()>().await;
    });
    let timing = crate::bus::timing::LineTiming::serial(2400, 11);
    let mut connection = Connection::new(Box::new(near), Framing::Rtu, timing);
    let mut results = Vec::new();
    for _ in doings {
        let patience = Duration::from_millis(500);
        let station = Station::Meter(label());
        let outcome = connection.ask(station, Ask::Read(POWER), patience).await;
        if matches!(outcome.result, Err(Fault::Timeout | Fault::Garbled)) {
            assert!(connection.recover(&outcome, patience).await.is_ok());
        }
        results.push(outcome.result);
    }
    results
}

proptest! {
    #[test]
    fn whatever_a_meter_does_a_reading_is_the_truth_or_none(
        doings in prop::collection::vec(doings(), 1..8),
        piece in 1usize..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let results = runtime.block_on(converse(doings.clone(), piece));
        for (doing, result) in doings.iter().zip(results) {
            match result {
                Ok(answer) => {
                    prop_assert_eq!(answer, Answer::Registers(vec![0x0001, 0x2345]));
                    prop_assert!(doing.answers(), "{:?}", doing);
                }
                Err(fault) => {
                    prop_assert!(!doing.answers(), "{:?} after {:?}", fault, doing);
                    let silent = doing.bytes().is_empty();
                    prop_assert_eq!(fault == Fault::Timeout, silent, "{:?}", doing);
                }
            }
        }
    }
}

/// A Modbus meter, a DL/T 645 meter and a Huanyang drive on one line of this speed.
fn mixed(port: &Path) -> crate::config::plan::Plan {
    let folder = port.parent().unwrap();
    let file = folder.join("andon.toml");
    let text = format!(
        "[site]\nid = \"lab\"\ntime_zone = \"UTC\"\n\
         [bus.line]\ntype = \"modbus-rtu\"\nport = \"{}\"\nbaud = 115200\n\
         [source.a]\nbus = \"line\"\nunit_id = 1\nprofile = \"eastron/sdm120\"\nperiod = \"200 ms\"\n\
         [source.b]\nbus = \"line\"\naddress = \"181219024435\"\nprofile = \"dlt645/single-phase\"\n\
         period = \"200 ms\"\n\
         [source.c]\nbus = \"line\"\nunit_id = 3\nprofile = \"huanyang/hy\"\nperiod = \"200 ms\"\n\
         [machine.a]\nkind = \"other\"\nitems = {{ \"power.active\" = \"a.power.active\" }}\n\
         [machine.b]\nkind = \"other\"\nsource = \"b\"\n\
         [machine.c]\nkind = \"other\"\nitems = {{ \"frequency.output\" = \"c.frequency.output\" }}\n",
        port.display()
    );
    std::fs::write(&file, text).unwrap();
    let loaded = crate::config::load_with(&file, std::iter::empty());
    loaded.unwrap_or_else(|problems| panic!("{problems:?}")).plan
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_carries_three_protocols_and_a_dead_meter_stops_nobody() {
    let folder = std::env::temp_dir().join(format!("andon-dialects-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let port = folder.join("line");
    let library = Library::load(None).0;
    let device = |unit, id| Device::new(unit, library.get(id).unwrap());
    let meter = device(2, "dlt645/single-phase").labelled("181219024435".parse().unwrap());
    let line = simulate::Bench::new([device(1, "eastron/sdm120"), meter, device(3, "huanyang/hy")]);
    line.start_rtu(115_200, Some(&port)).unwrap();
    line.set(1, "power.active", 1500.25).unwrap();
    line.set(2, "power.active", -1234.5).unwrap();
    line.set(2, "voltage", f64::NAN).unwrap();
    line.set(3, "frequency.output", 241.5).unwrap();
    let plan = mixed(&port);
    let (sink, mut readings) = mpsc::channel(64);
    let shared = Runtime::start().unwrap();
    let handle = start(&plan.buses[0], &plan.engine, &nowhere(), sink, &shared).unwrap();
    let name = |item: ItemIndex| &*plan.engine.items[item.0 as usize].item.name;
    let expected: [(u16, &str, Measured); 4] = [
        (0, "power.active", Ok(Value::Number(1500.25))),
        (1, "power.active", Ok(Value::Number(-1234.5))),
        (1, "voltage", Err(Unavailable::Sentinel)),
        (2, "frequency.output", Ok(Value::Number(241.5))),
    ];
    let mut found = [0; 4];
    while found.iter().any(|&count| count < 3) {
        let delivery = readings.recv().await.unwrap();
        for (item, measured) in delivery.readings {
            let machine = plan.engine.items[item.0 as usize].machine.0;
            for (count, (of, which, value)) in found.iter_mut().zip(&expected) {
                if (machine, name(item)) == (*of, *which) {
                    assert_eq!(&measured, value, "{which} of machine {of}");
                    *count += 1;
                }
            }
        }
    }
    line.fault(2, &"silence".parse().unwrap()).unwrap();
    let (mut silent, mut others) = (0, 0);
    while silent < 3 || others < 10 {
        let delivery = readings.recv().await.unwrap();
        for (item, measured) in delivery.readings {
            match plan.engine.items[item.0 as usize].machine.0 {
                1 => silent += u32::from(measured == Err(Unavailable::Timeout)),
                _ => {
                    assert!(measured.is_ok(), "{measured:?}");
                    others += 1;
                }
            }
        }
    }
    let status = handle.status();
    assert!(status.units[1].counters.timeouts > 0);
    assert_eq!(status.units[0].counters.timeouts + status.units[2].counters.timeouts, 0);
    drop(line);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn identifiers_are_as_long_on_the_wire_as_the_timing_says() {
    use crate::bus::timing::{reply_bytes, request_bytes};
    assert_eq!(request_bytes(POWER) as usize, power().request().len());
    // Four bytes of preamble, and one byte more where the value has an odd number.
    assert_eq!(reply_bytes(POWER) as usize, 4 + watts().len() + 1);
    assert_eq!(Identifier::of(DRIVE), None);
    let drive = Dialect::of(Station::Unit(1), Ask::Read(DRIVE)).unwrap();
    assert_eq!((request_bytes(DRIVE), reply_bytes(DRIVE)), (8, 8));
    assert_eq!(drive.request().len(), 8);
}
