//! Whole configurations: the annotated sample, the page for a new meter, broken ones as data, large
//! ones and arbitrary text.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use expect_test::expect_file;
use proptest::prelude::*;

use super::{Folder, SHOP, repository, sound, told, wrong};
use crate::config::plan::Plan;
use crate::config::{keys, load_with};

/// Every folder of `tests/data/broken` against its `expected.txt`; `UPDATE_EXPECT=1` rewrites.
#[test]
fn broken_configurations_are_reported_whole() {
    /// So that a moved folder is noticed.
    const LEAST: usize = 20;
    let mut folders: Vec<PathBuf> = fs::read_dir(repository().join("tests/data/broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= LEAST);
    for folder in folders {
        let folder = folder.canonicalize().unwrap();
        let problems = load_with(&folder, std::iter::empty()).expect_err("is broken");
        let root = format!("{}/", folder.display());
        expect_file![folder.join("expected.txt")].assert_eq(&told(&problems).replace(&root, ""));
    }
}

/// What stands in for something broken must hold wherever it is broken.
#[test]
fn the_sample_without_any_one_line_or_value_is_checked_to_the_end() {
    let sample = fs::read_to_string(repository().join("deploy/andon.toml")).unwrap();
    let lines: Vec<&str> = sample.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let garbled = line.split_once('=').map(|(key, _)| format!("{key}= \"?\""));
        for instead in [String::new()].into_iter().chain(garbled) {
            let mut changed = lines.clone();
            changed[number] = &instead;
            let folder = Folder::new(&[("andon.toml", &changed.join("\n"))]);
            if let Err(problems) = folder.load(&[]) {
                assert!(!problems.is_empty(), "line {number}: refused without a word");
            }
        }
    }
}

/// What is shown commented out is written as andon takes it. Some lines name files that are not
/// here, are one half of two, or stand in for others that would have to go.
#[test]
fn every_commented_value_of_the_sample_is_one_that_andon_takes() {
    const NO_FILE: [&str; 2] = ["cannot be read: No such file", "there is no such folder"];
    const OTHER_HALF: [&str; 2] = ["has no password", "there is no user"];
    const INSTEAD: [&str; 3] = ["duplicate key", "unknown key", "does not go with"];
    let expected = [&NO_FILE[..], &OTHER_HALF[..], &INSTEAD[..]].concat();
    let sample = fs::read_to_string(repository().join("deploy/andon.toml")).unwrap();
    let lines: Vec<&str> = sample.lines().collect();
    let mut taken = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some(setting) = line.strip_prefix("# ").filter(|setting| {
            let key = setting.split_once(" = ").map_or("", |(key, _)| key);
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }) else {
            continue;
        };
        let mut changed = lines.clone();
        changed[number] = setting;
        let folder = Folder::new(&[("andon.toml", &changed.join("\n"))]);
        let problems = folder.load(&[]).err().unwrap_or_default();
        for told in told(&problems).lines().filter(|line| line.contains("andon.toml:")) {
            let is_expected = expected.iter().any(|words| told.contains(words));
            assert!(is_expected, "{setting}: {told}");
        }
        taken += 1;
    }
    assert!(taken > 10, "{taken} lines");
}

/// A reader who writes a commented default, or copies an address, gets what there is anyway.
#[test]
fn ports_and_folders_in_the_documents_are_the_defaults() {
    let plan = sound(
        "[site]\nid = \"lab\"\ntime_zone = \"UTC\"\n[mqtt]\nhost = \"a\"\nrecorder = \"r\"\n",
    )
    .plan;
    let read = |name: &str| fs::read_to_string(repository().join(name)).unwrap();
    let sample = read("deploy/andon.toml");
    for shown in [
        format!("# listen = \"{}\"", plan.http.listen),
        format!("# dir = \"{}\"", plan.state_dir.display()),
        format!("# port = {} ", plan.mqtt.unwrap().port),
    ] {
        assert!(sample.contains(&shown), "{shown}");
    }
    let target = format!("targets: [\"{}\"]", plan.http.listen);
    assert!(read("deploy/METRICS.md").contains(&target), "{target}");
    for name in ["README.md", "README.zh-CN.md"] {
        for address in read(name).split("http://").skip(1) {
            let port = address.split(':').nth(1).unwrap_or_default();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            let known = [plan.http.listen.port().to_string(), "8428".to_owned(), String::new()];
            assert!(known.contains(&port), "{name}: http://{}", address.lines().next().unwrap());
        }
    }
}

#[test]
fn the_sample_passes_and_shows_every_key() {
    let path = repository().join("deploy/andon.toml");
    let loaded = load_with(&path, std::iter::empty()).map_err(|p| told(&p)).unwrap();
    assert_eq!(told(&loaded.warnings), "");
    let text = fs::read_to_string(path).unwrap();
    let words: BTreeSet<&str> =
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    for (section, keys) in keys::ALL {
        assert!(text.contains(&format!("\n[{section}")), "[{section}] is not in the sample");
        for key in *keys {
            assert!(words.contains(key), "{section}: {key} is not in the sample");
        }
    }
    for kind in keys::MACHINE_KINDS {
        assert!(text.contains(kind), "{kind} is not in the sample");
    }
}

#[test]
fn the_configuration_for_a_new_meter_is_sound() {
    let page = fs::read_to_string(repository().join("CONTRIBUTING.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let text = text.replace("VENDOR/MODEL", "eastron/sdm120");
    // Nobody has added a profile in this folder.
    let text = text.replace("profiles.dir", "# profiles.dir");
    let loaded = sound(&text);
    assert_eq!(told(&loaded.warnings), "");
    assert_eq!((loaded.plan.buses.len(), loaded.plan.machines.len()), (1, 1));
}

#[test]
fn minutes_are_kept_at_least_as_long_as_samples() {
    let with = |history: &str| format!("{SHOP}\n[history]\n{history}\n");
    let told = wrong(&with("keep = \"30 d\"\nkeep_minutes = \"29 d\""));
    assert!(told.contains("keep_minutes") && told.contains("at least as long as keep"), "{told}");
    let told = wrong(&with("keep_minutes = \"30 d\""));
    assert!(told.contains("at least as long as keep"), "{told}");
    let plan = sound(&with("keep = \"3650 d\"")).plan;
    assert_eq!(plan.history.keep_minutes, plan.history.keep);
    // What the sample shows are the defaults.
    let sample = fs::read_to_string(repository().join("deploy/andon.toml")).unwrap();
    let section = sample.split("[history]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let (shown, defaults) = (sound(&with(&section.replace("# k", "k"))).plan, sound(SHOP).plan);
    let of = |plan: &Plan| (plan.history.keep, plan.history.keep_minutes);
    assert_eq!(of(&shown), of(&defaults));
}

#[test]
fn a_thousand_sources_load() {
    let mut text = "[site]\nid = \"big\"\ntime_zone = \"UTC\"\n".to_owned();
    for n in 0..1000 {
        let (bus, unit) = (n / 200, n % 200 + 1);
        if unit == 1 {
            let _ = writeln!(text, "[bus.b{bus}]\ntype = \"modbus-tcp\"\nhost = \"10.0.0.{bus}\"");
        }
        let _ = writeln!(
            text,
            "[source.s{n}]\nbus = \"b{bus}\"\nunit_id = {unit}\nprofile = \"eastron/sdm120\"\n\
             [machine.m{n}]\nkind = \"other\"\nsource = \"s{n}\""
        );
    }
    let plan = sound(&text).plan;
    assert_eq!((plan.buses.len(), plan.machines.len()), (5, 1000));
    assert_eq!(plan.engine.machines.len(), 1000);
    // The items of a machine are contiguous.
    assert!(plan.engine.items.is_sorted_by_key(|item| item.machine));
    // Order is that of the file, not of the alphabet.
    assert_eq!(&*plan.engine.machines[10].id, "m10");
}

/// Lines of a configuration, sound and mangled.
fn lines() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "site",
        "id",
        "bus",
        "source",
        "machine",
        "output",
        "rule",
        "items",
        "when",
        "activity",
        "port",
        "type",
        "\"a[99999999999]\"",
        "\"\"",
        "x.y",
        "mqtt",
        "proof",
        "key_items",
    ]);
    let value = prop_oneof![
        Just("\"15 W\"".to_owned()),
        Just("9999999999999999999999".to_owned()),
        Just("nan".to_owned()),
        Just("[[1], {a = 2}]".to_owned()),
        Just("{ from = \"power.active\", \"power.active\" = \"a.b\" }".to_owned()),
        Just("1979-05-27".to_owned()),
        "\"[ -~°\\n]{0,12}\"",
        "[ -~]{0,12}",
    ];
    let line = prop_oneof![
        (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}")),
        (key.clone(), key.clone()).prop_map(|(a, b)| format!("[{a}.{b}]")),
        key.prop_map(|key| format!("[[{key}]]")),
        "\\PC{0,20}",
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    /// Whatever the files hold: a plan or problems, each with a file; never a panic.
    #[test]
    fn arbitrary_text_never_panics(main in lines(), part in lines()) {
        let main = format!("{SHOP}{main}");
        let folder = Folder::new(&[("andon.toml", &main), ("conf.d/a.toml", &part)]);
        if let Err(problems) = folder.load(&[]) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(!problem.file.is_empty() && !problem.message.is_empty());
                prop_assert!(problem.line <= main.lines().count().max(part.lines().count()) + 1);
            }
        }
    }
}
