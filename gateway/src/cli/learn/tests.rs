//! What is read from a picture, kept in a file, and printed as configuration.

use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use super::meter::reported;
use super::*;

const NOW: BootTime = BootTime::from_millis(60_000);

#[test]
fn a_picture_gives_the_moment_of_the_report_and_never_a_zero_for_unknown() {
    let item = |value: serde_json::Value, why: Option<&str>, age_ms: Option<u64>| {
        let item = json!({ "name": "power.active", "value": value, "why": why, "age_ms": age_ms });
        json!({ "machines": [{ "id": "saw", "items": [item] }] })
    };
    let read = |picture: &serde_json::Value| reported(Some(picture), "saw", "power.active", NOW);
    let at = BootTime::from_millis(59_600);
    assert_eq!(read(&item(json!(41.5), None, Some(400))), (at, Ok(41.5)));
    let silent = read(&item(json!(null), Some("timeout"), Some(400)));
    assert_eq!(silent, (at, Err(Unavailable::Timeout)));
    assert_eq!(read(&item(json!(null), None, None)).1, Err(Unavailable::NotYet));
    assert_eq!(read(&json!({ "error": "busy" })).1, Err(Unavailable::Disconnected));
    assert_eq!(reported(None, "saw", "power.active", NOW).1, Err(Unavailable::Disconnected));
}

#[test]
fn a_proposal_can_be_pasted_into_a_configuration() {
    let mut recording = Recording::new("saw", "power.active", 1000);
    for (phase, watts) in Phase::ALL.into_iter().zip([0.0, 46.2, 1523.4]) {
        let sample = |n: u64| {
            let watts = watts + (n * 37 % 61) as f64 / 61.0;
            Sample { at_ms: n * 1000, watts: Ok(watts) }
        };
        recording.put(phase, (0..60).map(sample).collect());
    }
    let bands = bands::learn(&recording, DEBOUNCE).bands.unwrap();
    let folder = std::env::temp_dir().join(format!("andon-learn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let shop = "[site]\nid = \"lab\"\ntime_zone = \"UTC\"\n\
        [bus.panel]\ntype = \"modbus-tcp\"\nhost = \"10.0.0.1\"\n\
        [source.meter]\nbus = \"panel\"\nunit_id = 3\nprofile = \"eastron/sdm120\"\n\
        [machine.saw]\nkind = \"table-saw\"\nsource = \"meter\"\n";
    let text = format!("{shop}{}", bands.fragment("saw", "power.active"));
    std::fs::write(folder.join("andon.toml"), text).unwrap();
    let loaded = crate::config::load(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    let plan = loaded.map_err(|problems| format!("{problems:?}")).unwrap().plan;
    let [ActivityPlan::Power { idle, run, enter_for, exit_for, .. }] =
        plan.engine.machines[0].activity[..]
    else {
        panic!("no power")
    };
    assert_eq!((idle, run), (bands.idle, bands.run));
    assert_eq!((enter_for, exit_for), (bands.enter_for, bands.exit_for));
}

#[test]
fn a_kept_recording_is_replaced_whole() {
    let file = std::env::temp_dir().join(format!("andon-learn-{}.jsonl", std::process::id()));
    let mut recording = Recording::new("saw", "power.active", 1000);
    keep(&file, &recording).unwrap();
    recording.put(Phase::Run, vec![Sample { at_ms: 5, watts: Ok(3.25) }]);
    keep(&file, &recording).unwrap();
    let read = read(&file);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read.unwrap(), recording);
}

#[test]
fn powers_are_read_with_or_without_their_unit() {
    assert_eq!(watts("20"), Ok(20.0));
    assert_eq!(watts("0.02 kW"), Ok(20.0));
    assert!(watts("20 V").is_err() && watts("nan").is_err());
    assert!(length("0s").is_err() && length("2h").is_err());
}

#[test]
fn a_phase_too_short_for_its_samples_is_refused_before_it_is_recorded() {
    let words = enough(Duration::from_secs(6), Duration::from_secs(1)).unwrap_err().to_string();
    assert!(words.contains("20 samples") && words.contains("20 s at least"), "{words}");
    assert!(enough(Duration::from_secs(20), Duration::from_secs(1)).is_ok());
    assert!(enough(Duration::from_secs(6), Duration::from_millis(200)).is_ok());
}
