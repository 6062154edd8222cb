//! Files, environment and secrets: what overrides what, and how what is wrong with them is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::{Folder, SHOP, told, wrong};
use crate::config::load_with;

#[test]
fn the_environment_overrides_files_and_is_named_when_wrong() {
    let late = ("conf.d/10.toml", "[mqtt]\nhost = \"late\"\nport = 1884\n");
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}\n[mqtt]\nhost = \"a\"\n")), late]);
    let environment = [
        ("ANDON__MQTT__PORT", "8883"),
        ("ANDON__MQTT__USER", "andon"),
        ("ANDON__MQTT__PASSWORD", "00123"),
        ("ANDON__CLOCK__TRUST_WALL", "true"),
        ("ANDON__SOURCE__METER__PERIOD", "4 s"),
        ("OTHER__MQTT__HOST", "nowhere"),
    ];
    let plan = folder.load(&environment).map_err(|p| told(&p)).unwrap().plan;
    let mqtt = plan.mqtt.unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.port), ("late", 8883));
    assert_eq!(mqtt.client_id, "andon-lab");
    let (user, password) = mqtt.login.unwrap();
    assert_eq!((user.as_str(), password.0.as_str()), ("andon", "00123"));
    assert!(!format!("{password:?}").contains("123"));
    assert!(plan.trust_wall);
    assert_eq!(plan.buses[0].units[0].polls[0].period, Duration::from_secs(4));

    let wrong = [
        ("ANDON__MQTT__PORT", "many"),
        ("ANDON__MQTT__HOTS", "b"),
        ("ANDON__MQQT__HOST", "b"),
        ("ANDON__MQTT__A[9999999999]", "b"),
    ];
    let report = told(&folder.load(&wrong).unwrap_err());
    for line in [
        "environment variable ANDON__MQTT__PORT: mqtt.port: must be a whole number, not text",
        "environment variable ANDON__MQTT__HOTS: mqtt.hots: unknown key",
        "environment variable ANDON__MQQT__HOST: \"mqqt\" is no section",
        "environment variable ANDON__MQTT__A[9999999999]: not a key path",
    ] {
        assert!(report.contains(line), "{line}\n---\n{report}");
    }
}

#[test]
fn a_secret_that_everybody_can_read_is_refused() {
    let mqtt = "[mqtt]\nhost = \"a\"\nuser = \"u\"\npassword_file = \"secret\"\n";
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}{mqtt}")), ("secret", "x y\n")]);
    let secret = folder.0.join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let report = told(&folder.load(&[]).unwrap_err());
    assert!(report.contains("mqtt.password_file: everybody on this computer"), "{report}");
    assert!(!report.contains("x y"));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let (_, password) = folder.load(&[]).unwrap().plan.mqtt.unwrap().login.unwrap();
    assert_eq!(password.0, "x y");
}

#[test]
fn passwords_that_a_protocol_puts_into_its_own_words_are_secrets_too() {
    let cnc = "[machine.cnc]\nkind = \"mill\"\nsource = \"cnc\"\n[source.cnc]\nprotocol = \"linuxcnc\"\nhost = \"cnc\"\n";
    let plain = format!("{SHOP}{cnc}connect_password = \"EMC2\"\npassword = \"s3cret\"\n");
    let report = wrong(&plain);
    for key in ["connect_password", "password"] {
        let line = format!("source.cnc.{key}: secrets are not written into the configuration");
        assert!(report.contains(&line), "{report}");
        let variable = format!("ANDON__SOURCE__CNC__{}", key.to_uppercase());
        assert!(report.contains(&format!("use {key}_file, or")), "{report}");
        assert!(report.contains(&variable), "{report}");
    }
    let files = format!("{SHOP}{cnc}connect_password_file = \"cnc.connect\"\n");
    let folder = Folder::new(&[("andon.toml", &files), ("cnc.connect", "EMC2\n")]);
    let secret = folder.0.join("cnc.connect");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let environment = [("ANDON__SOURCE__CNC__PASSWORD", "s3cret")];
    let plan = folder.load(&environment).map_err(|problems| told(&problems)).unwrap().plan;
    let settings = &plan.devices[0].settings;
    assert_eq!(settings.option("connect_password"), Some("EMC2"));
    assert_eq!(settings.option("password"), Some("s3cret"));
}

#[test]
fn a_section_that_is_there_twice_is_named_once() {
    let again =
        "[machine.saw]\nkind = \"other\"\nitems = { \"power.active\" = \"meter.power.active\" }\n";
    let told = wrong(&format!("{SHOP}{again}"));
    assert_eq!(told.matches("[machine.saw] is there already, in line 15").count(), 1, "{told}");
    assert!(!told.contains("duplicate key"), "{told}");
}

#[test]
fn a_file_is_named_with_its_folder() {
    let problems = load_with(Path::new("/nonexistent/andon"), std::iter::empty()).unwrap_err();
    assert_eq!(&*problems[0].file, "/nonexistent/andon");
    let folder = Folder::new(&[("andon.toml", "[site]\nid = 3\n")]);
    let file = folder.load(&[]).unwrap_err()[0].file.clone();
    assert_eq!(Path::new(&*file), folder.0.join("andon.toml"));
}
