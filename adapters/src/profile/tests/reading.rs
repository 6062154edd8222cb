//! What is in the binary and in a folder beside it, and how it is written: read as it was meant.

use std::collections::BTreeSet;
use std::fs;

use expect_test::expect_file;

use super::super::library::embedded;
use super::*;

#[test]
fn every_profile_in_the_binary_is_sound() {
    let (library, problems) = Library::load(None);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0]);
    let files = embedded().map(|(id, _)| id).collect::<BTreeSet<_>>();
    assert_eq!(library.ids().map(str::to_owned).collect::<BTreeSet<_>>(), files);
    for id in ["eastron/sdm120", "eastron/sdm630", "waveshare/relay-8ch", "xy/md02"] {
        assert_eq!(&*library.get(id).unwrap().id, id);
    }
    assert!(files.len() >= 40, "{}", files.len());
    assert!(library.get("waveshare/relay-8ch").unwrap().is_writable(7));
    assert!(!library.get("waveshare/relay-8ch").unwrap().is_writable(8));
    assert_eq!(library.nearest("eastron/sdm12"), Some("eastron/sdm120"));
}

/// The examples were written without andon's encoder; the encoder must agree with them.
#[test]
fn the_simulators_encoder_agrees_with_every_example() {
    let (library, _) = Library::load(None);
    for id in library.ids() {
        let profile = library.get(id).unwrap();
        for example in &profile.examples {
            for (item, expected) in &example.expect {
                let item = &profile.items[*item];
                let Ok(expected) = expected else { continue };
                let value = expected
                    .as_number()
                    .or(expected.as_flag().map(|on| f64::from(u8::from(on))))
                    .unwrap();
                let held = |block: Block| {
                    example.registers.iter().find_map(|(table, start, words)| {
                        let from = usize::from(block.start.checked_sub(*start)?);
                        let words = words.get(from..from + usize::from(block.count))?;
                        let alike = *table == block.table && (!table.is_keyed() || from == 0);
                        alike.then_some(words)
                    })
                };
                let scale =
                    item.scale_register.map(|start| Block { start, count: 1, ..item.own() });
                let exponent = scale.map_or(0, |scale| held(scale).unwrap()[0].cast_signed());
                let encoded = crate::modbus::encode(item, value, exponent);
                assert_eq!(encoded, held(item.own()).unwrap(), "{id} {item:?}");
            }
        }
    }
}

#[test]
fn a_sound_profile_is_read() {
    let profile = check(SOUND, "test/meter").unwrap();
    assert_eq!(profile.max_registers, 10);
    assert_eq!(profile.position("energy.import"), Some(1));
    assert_eq!(profile.items[1].sentinels, [0xFFFF_FFFF]);
    assert!((profile.items[1].scale.factor() - 10.0).abs() < f64::EPSILON);
}

#[test]
fn a_folder_adds_overrides_and_hides() {
    let folder = std::env::temp_dir().join(format!("andon-profiles-{}", std::process::id()));
    fs::create_dir_all(folder.join("eastron")).unwrap();
    fs::write(folder.join("eastron/own.toml"), SOUND).unwrap();
    fs::write(folder.join("eastron/sdm630.toml"), SOUND).unwrap();
    fs::write(folder.join("eastron/sdm120.toml"), "title = 1").unwrap();
    fs::write(folder.join("eastron/notes.txt"), "not a profile").unwrap();
    let (library, problems) = Library::load(Some(&folder));
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(library.get("eastron/own").unwrap().title, "A meter");
    assert_eq!(library.get("eastron/sdm630").unwrap().title, "A meter");
    assert!(library.get("eastron/sdm120").is_none(), "a broken override hides what it overrides");
    assert!(problems.iter().all(|problem| problem.file.ends_with("eastron/sdm120.toml")));
    assert!(!problems.is_empty());
    let (_, problems) = Library::load(Some(&folder));
    assert_eq!(problems.len(), 1, "a folder that is not there is told");
}

#[test]
fn the_schema_beside_the_profiles_is_the_generated_one() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    expect_file!["../../../profiles/schema.json"].assert_eq(&schema);
}

#[test]
fn the_schema_knows_the_keys_that_are_read() {
    let schema = json_schema();
    let keys = |at: &str| -> BTreeSet<String> {
        schema.pointer(at).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let known = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys("/properties"), known(check::FILE_KEYS));
    assert_eq!(keys("/properties/item/items/properties"), known(check::ITEM_KEYS));
    assert_eq!(keys("/properties/example/items/properties"), known(examples::EXAMPLE_KEYS));
    let setting = "/properties/setting/properties/address/properties";
    assert_eq!(keys(setting), known(setting::SETTING_KEYS));
}

#[test]
fn settings_say_how_they_are_written() {
    let (library, _) = Library::load(None);
    // 3.0 as a single, and 200 A to 5 A, by Python's struct.
    let eastron = library.get("eastron/sdm120").unwrap();
    let address = eastron.setting(SettingKind::Address).unwrap();
    assert_eq!(address.encode(3.0), Some(vec![0x4040, 0x0000]));
    assert_eq!((address.address, address.function), (0x0014, 16));
    assert_eq!(address.encode(248.0), None);
    assert_eq!(address.decode(&[0x4040, 0x0000]), Some(3.0));
    let chint = library.get("chint/dtsu666").unwrap();
    assert_eq!(chint.setting(SettingKind::CtRatio).unwrap().encode(40.0), Some(vec![40]));
    assert_eq!(chint.setting(SettingKind::Address), None);
    let sunspec = library.get("sunspec/model-103").unwrap();
    assert_eq!(sunspec.identity[0], (Table::Holding, 40_000, vec![0x5375, 0x6E53]));
}

#[test]
fn the_profile_in_the_readme_is_sound() {
    let readme = include_str!("../../../README.md");
    let (_, after) = readme.split_once("```toml\n").unwrap();
    let (profile, _) = after.split_once("```").unwrap();
    assert_eq!(check(profile, "test/readme").unwrap().items.len(), 1);
}

#[test]
fn a_profile_beside_the_folders_of_vendors_is_told() {
    let folder = std::env::temp_dir().join(format!("andon-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pm1.toml"), SOUND).unwrap();
    let (_, problems) = Library::load(Some(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.file.ends_with("pm1.toml") && problem.message.contains("folder of its vendor"));
}
