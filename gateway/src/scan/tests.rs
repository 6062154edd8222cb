//! A whole scan of a paced line with a dozen devices, and its witness.

use std::collections::BTreeSet;
use std::path::PathBuf;

use andon_adapters::profile::Library;
use serde_json::Value;

use super::*;
use crate::simulate::{Bench, Device};

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("andon-scan-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn device(unit: u8, profile: &str) -> Device {
    Device::new(unit, Library::load(None).0.get(profile).unwrap())
}

const FAST: Format = Format { baud: 115_200, parity: 'N' };
const SLOW: Format = Format { baud: 57_600, parity: 'N' };
const METERS: Format = Format { baud: 9600, parity: 'E' };

/// What the line carries at its own speed; beside it two devices at one address, one at another
/// speed, and a meter that is called by its label.
const LINE: [(u8, &str); 12] = [
    (1, "eastron/sdm120"),
    (2, "eastron/sdm630"),
    (5, "chint/dtsu666"),
    (6, "chint/ddsu666"),
    (8, "carlo-gavazzi/em24"),
    (9, "janitza/umg-96rm"),
    (11, "peacefair/pzem-004t-v3"),
    (12, "abb/b23"),
    (14, "schneider/iem3155"),
    (17, "waveshare/relay-16ch"),
    (18, "renke/rs-ws"),
    (19, "huanyang/hy"),
];
const OTHER_SPEED: (u8, &str) = (20, "acrel/adw300");
const TWINS: (u8, &str) = (15, "eastron/sdm230");
const LABEL: &str = "181219024435";

fn line() -> Bench {
    let fast = LINE.iter().chain([&TWINS]);
    let mut devices: Vec<Device> =
        fast.map(|&(unit, id)| device(unit, id).at_baud(FAST.baud)).collect();
    devices.push(device(OTHER_SPEED.0, OTHER_SPEED.1).at_baud(SLOW.baud));
    let label = LABEL.parse().unwrap();
    devices.push(device(200, "dlt645/single-phase").labelled(label).at_baud(METERS.baud));
    let bench = Bench::new(devices);
    bench.set_turnaround(std::time::Duration::from_millis(1));
    // The same model at the same address, measuring something else.
    bench.add_twin(device(TWINS.0, TWINS.1).at_baud(FAST.baud));
    bench.set_twin(TWINS.0, "voltage", 231.9);
    bench.set_twin(TWINS.0, "power.active", 7.0);
    bench
}

fn options(port: PathBuf) -> Options {
    let formats = vec![FAST, SLOW, METERS];
    Options { port, formats, units: (1, 20), wait_ms: 40, thorough: false }
}

/// What the witness heard: functions of Modbus and control codes of DL/T 645.
fn asked(log: &std::path::Path) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut functions, mut controls) = (BTreeSet::new(), BTreeSet::new());
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "request" {
            functions.extend(line["function"].as_u64());
            controls.extend(line["control"].as_u64());
        } else {
            assert_eq!(line["kind"], "reply", "nothing but questions and answers: {line}");
        }
    }
    (functions, controls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_dozen_is_found_or_reported_and_nothing_is_written() {
    let folder = folder("dozen");
    let (port, log) = (folder.join("line"), folder.join("witness.jsonl"));
    let bench = line();
    bench.log_to(&log).unwrap();
    bench.start_rtu(FAST.baud, Some(&port)).unwrap();
    let library = Library::load(None).0;
    let mut steps = 0;
    let mut scan = Scan::new(options(port.clone()), &library, None);
    let found = scan.run(|_| steps += 1).await.unwrap();
    assert_eq!(steps, 3 * 21);
    let of = |format: Format, station: Station| {
        let station = Some(station);
        let mut all = found.iter().filter(|it| (it.format, &it.station) == (format, &station));
        let one = all.next().unwrap_or_else(|| panic!("{station:?} at {format}: {found:#?}"));
        assert!(all.next().is_none(), "{station:?} twice");
        one
    };
    let known = |finding: &Finding, id: &str| {
        assert!(!finding.collision, "{finding:?}");
        assert!(finding.candidates.iter().any(|it| it.profile == id), "{id}: {finding:?}");
    };
    for (unit, id) in LINE {
        known(of(FAST, Station::Unit(unit)), id);
    }
    known(of(SLOW, Station::Unit(OTHER_SPEED.0)), OTHER_SPEED.1);
    known(of(METERS, Station::Meter(LABEL.to_owned())), "dlt645/single-phase");
    assert!(of(FAST, Station::Unit(TWINS.0)).collision);
    assert_eq!(found.len(), LINE.len() + 3, "{found:#?}");
    let (functions, controls) = asked(&log);
    assert_eq!(functions, BTreeSet::from([1, 2, 3, 4]), "functions that read");
    // 11h reads a value, 13h reads the address, 01h reads a value in the edition of 1997.
    assert!(controls.is_subset(&BTreeSet::from([0x01, 0x11, 0x13])), "{controls:?}");
    let text = line_proposal(&port, &found);
    // Its first phase stands where a meter of one phase has its only one.
    let unit = text.split("[source.").find(|part| part.starts_with("unit-2]")).unwrap();
    assert!(unit.contains("\"eastron/sdm630\"") && !unit.contains("sdm120"), "{unit}");
    // Two models with one map: a person takes one.
    let unit = text.split("[source.").find(|part| part.starts_with("unit-12]")).unwrap();
    assert!(unit.contains("unit_id = 12\n# Several profiles fit"), "{unit}");
    assert!(unit.contains("\n# profile = \"abb/b23\"") && unit.contains("\"abb/b24\""), "{unit}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_was_interrupted_goes_on_where_it_was() {
    let folder = folder("resumed");
    let (port, file) = (folder.join("line"), folder.join("state.json"));
    let bench = Bench::new([device(3, "eastron/sdm120"), device(9, "renke/rs-ws")]);
    bench.start_rtu(115_200, Some(&port)).unwrap();
    let library = Library::load(None).0;
    let wanted = Options { formats: vec![FAST], units: (1, 10), ..options(port) };
    let half = Options { units: (1, 4), ..wanted.clone() };
    let found = Scan::new(half.clone(), &library, Some(file.clone())).run(|_| {}).await.unwrap();
    assert_eq!(found.len(), 1);
    // The state of another scan is not believed.
    assert_eq!(Scan::new(wanted.clone(), &library, Some(file.clone())).done(), 0);
    assert_eq!(Scan::new(half, &library, Some(file.clone())).done(), 5);
    // The state that this scan would have left after unit 5.
    let state = State { options: wanted.clone(), done: 6, found };
    state.save(&file).unwrap();
    let mut units = Vec::new();
    let mut scan = Scan::new(wanted, &library, Some(file.clone()));
    assert_eq!(scan.done(), 6);
    let found = scan.run(|progress| units.push(progress.unit)).await.unwrap();
    assert_eq!(units, [6, 7, 8, 9, 10].map(Some));
    let stations: Vec<_> = found.into_iter().filter_map(|finding| finding.station).collect();
    assert_eq!(stations, [Station::Unit(3), Station::Unit(9)]);
    std::fs::write(&file, "{").unwrap();
    assert_eq!(Scan::new(options(folder.join("line")), &library, Some(file)).done(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_that_answer_at_once_are_reported() {
    let folder = folder("meters");
    let port = folder.join("line");
    let meter =
        |unit, label: &str| device(unit, "dlt645/single-phase").labelled(label.parse().unwrap());
    let bench = Bench::new([meter(1, LABEL), meter(2, "123456789012")]);
    bench.start_rtu(9600, Some(&port)).unwrap();
    let library = Library::load(None).0;
    let wanted = Options { formats: vec![METERS], units: (1, 1), ..options(port) };
    let found = Scan::new(wanted, &library, None).run(|_| {}).await.unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert!(only.collision && only.station.is_none());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_usual_scan_is_said_to_take_as_long_as_it_does() {
    let formats: Vec<Format> = [9600, 2400, 19_200, 4800, 38_400, 115_200, 57_600, 1200]
        .into_iter()
        .flat_map(|baud| ['N', 'E'].map(|parity| Format { baud, parity }))
        .collect();
    let port = PathBuf::from("/dev/null");
    let options = Options { port, formats, units: (1, 247), wait_ms: 100, thorough: false };
    // Two questions of 100 ms to 247 units in sixteen formats are 790 s before a bit is sent.
    assert!((900.0..1500.0).contains(&options.about().as_secs_f64()), "{:?}", options.about());
    let few = Options { formats: vec![FAST], units: (1, 10), ..options };
    assert!(few.about().as_secs() <= 3, "{:?}", few.about());
}
