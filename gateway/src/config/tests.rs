//! Whole configurations: the annotated sample, broken ones as data, layers, and arbitrary text.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use andon_engine::plan::{ActivityPlan, Band, ItemIndex, MachineIndex};
use expect_test::expect_file;
use proptest::prelude::*;

use super::plan::{Link, Parity};
use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "andon-config-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = Self(env::temp_dir().join(name));
        for (file, text) in files {
            let path = folder.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
        let pairs = environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        load_with(&self.0, pairs)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const SHOP: &str = r#"
[site]
id = "lab"
time_zone = "Asia/Shanghai"
[bus.panel]
type = "modbus-rtu"
port = "/dev/serial/by-id/usb-A"
baud = 9600
[source.meter]
bus = "panel"
unit_id = 3
profile = "eastron/sdm120"
period = "2 s"
ct_ratio = 20
[machine.saw]
kind = "table-saw"
items = { "power.active" = "meter.power.active" }
activity = { from = "power.active", idle_above = "15 W", run_above = "0.12 kW" }
[machine.twin]
kind = "other"
items = { "power.active.l1" = "meter.power.active" }
"#;

fn told(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    })
}

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

/// A reader who writes a commented default, or copies an address, gets what there is anyway.
#[test]
fn ports_and_folders_in_the_documents_are_the_defaults() {
    let site =
        "[site]\nid = \"lab\"\ntime_zone = \"UTC\"\n[mqtt]\nhost = \"a\"\nrecorder = \"r\"\n";
    let folder = Folder::new(&[("andon.toml", site)]);
    let plan = folder.load(&[]).map_err(|p| told(&p)).unwrap().plan;
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
fn a_plan_has_everything_resolved() {
    let folder = Folder::new(&[("andon.toml", SHOP)]);
    let plan = folder.load(&[]).map_err(|p| told(&p)).unwrap().plan;
    assert_eq!(plan.site.name.en, "lab");
    let bus = &plan.buses[0];
    let Link::Rtu { baud, parity, stop_bits, .. } = bus.link else { panic!("{:?}", bus.link) };
    assert_eq!((baud, parity, stop_bits), (9600, Parity::None, 1));
    // One register that two machines share is read once.
    let poll = &bus.units[0].polls;
    assert_eq!(poll.len(), 1);
    assert_eq!(poll[0].fed.direct(), [ItemIndex(0), ItemIndex(1)]);
    assert_eq!((poll[0].period, poll[0].ratio), (Duration::from_secs(2), 20.0));
    let item = &plan.engine.items[1];
    assert_eq!((item.machine, &*item.item.name), (MachineIndex(1), "power.active.l1"));
    assert_eq!(item.stale_after, Duration::from_secs(6));
    let [ActivityPlan::Power { item, idle, run, .. }] = &plan.engine.machines[0].activity[..]
    else {
        panic!("{:?}", plan.engine.machines[0].activity)
    };
    assert_eq!(*item, ItemIndex(0));
    assert_eq!(*idle, Band { enter: 15.0, exit: 13.5 });
    assert_eq!(*run, Band { enter: 120.0, exit: 108.0 });
}

#[test]
fn meters_are_called_by_their_label_and_loops_stand_for_quantities() {
    let shop = r#"
[site]
id = "lab"
time_zone = "UTC"
[bus.mains]
type = "dlt645"
port = "/dev/serial/by-id/usb-A"
[source.mains]
bus = "mains"
address = "181219024435"
profile = "dlt645/three-phase"
ct_ratio = 40
[source.air]
bus = "mains"
unit_id = 5
profile = "waveshare/analog-input-8ch-current"
ct_ratio = 2
[machine.air]
kind = "compressor"
items = { "pressure" = { from = "air.loop.1", at_4ma = "0 bar", at_20ma = "10 bar" } }
[machine.mains]
kind = "other"
items = { "power.active" = "mains.power.active" }
"#;
    let folder = Folder::new(&[("andon.toml", shop)]);
    let plan = folder.load(&[]).map_err(|p| told(&p)).unwrap().plan;
    let bus = &plan.buses[0];
    let Link::Rtu { baud, parity, stop_bits, .. } = bus.link else { panic!("{:?}", bus.link) };
    assert_eq!((baud, parity, stop_bits), (2400, Parity::Even, 1));
    let [mains, air] = &*bus.units else { panic!("{:?}", bus.units) };
    assert_eq!(mains.station.to_string(), "meter 181219024435");
    let told = [mains.station, air.station].map(|it| serde_json::to_string(&it).unwrap());
    assert_eq!(told, ["\"181219024435\"", "5"]);
    assert_eq!(bus.turnaround_of(mains), Duration::from_millis(500));
    assert!(bus.turnaround_of(air) < Duration::from_millis(500));
    assert!((mains.polls[0].ratio - 40.0).abs() < f64::EPSILON);
    let poll = &air.polls[0];
    assert!(poll.fed.direct().is_empty());
    let (item, span) = poll.fed.loops()[0];
    assert_eq!((item, span.at_4ma, span.at_20ma), (ItemIndex(0), 0.0, 1e6));
    assert!((poll.ratio - 1.0).abs() < f64::EPSILON, "a loop's current has no transformer");
}

#[test]
fn a_machine_without_bands_of_its_own_takes_those_of_its_kind() {
    let shop = SHOP.replace("kind = \"other\"\nitems", "kind = \"other\"\nsource = \"meter\"\n#");
    let text = format!(
        "{shop}[machine.kiln]\nkind = \"kiln\"\nsource = \"meter\"\n\
         activity = {{ from = \"power.active\", exit_for = \"2 min\" }}\n\
         [machine.press]\nkind = \"drill-press\"\nsource = \"meter\"\n"
    );
    let folder = Folder::new(&[("andon.toml", &text)]);
    let plan = folder.load(&[]).map_err(|p| told(&p)).unwrap().plan;
    let kiln = crate::kinds::of("kiln").unwrap().activity;
    let [ActivityPlan::Power { idle, run, enter_for, exit_for, .. }] =
        plan.engine.machines[2].activity[..]
    else {
        panic!("no power")
    };
    assert_eq!((idle, run, enter_for), (kiln.idle(), kiln.run(), kiln.enter_for));
    assert_eq!(exit_for, Duration::from_secs(120));
    // What the kind looks at comes first; who names no activity has none.
    let first = |machine: usize| {
        &*plan.engine.items[plan.machines[machine].key_items[1].0 as usize].item.name
    };
    assert_eq!((first(1), first(3)), ("voltage", "current"));
    assert!(plan.engine.machines[3].activity.is_empty());

    let text = text.replace("exit_for = \"2 min\"", "run_above = \"500 W\"");
    let folder = Folder::new(&[("andon.toml", &text)]);
    let report = told(&folder.load(&[]).unwrap_err());
    assert!(report.contains("machine.kiln.activity.idle_above: missing"), "{report}");
}

#[test]
fn a_tile_shows_temperatures_that_have_a_target_then_progress_then_power() {
    let profile = |names: &[&str]| {
        let mut text = "title = \"Oven\"\nsource = \"none\"\nevidence = \"datasheet\"\n".to_owned();
        for (register, name) in names.iter().enumerate() {
            let read = format!("read = \"input:{register}\"\ntype = \"u16\"");
            let _ = writeln!(text, "[[item]]\nname = \"{name}\"\n{read}");
        }
        let registers = vec!["1"; names.len()].join(", ");
        let expect: Vec<_> = names.iter().map(|name| format!("\"{name}\" = 1")).collect();
        let expect = expect.join(", ");
        let registers = format!("registers = {{ \"input:0\" = [{registers}] }}");
        let _ = writeln!(text, "[[example]]\n{registers}\nexpect = {{ {expect} }}");
        text
    };
    let keys = |names: &[&str]| {
        let main = SHOP.replace("eastron/sdm120", "own/oven").replace("\nct_ratio = 20", "");
        let main = format!(
            "{main}[profiles]\ndir = \"own\"\n[machine.oven]\nkind = \"other\"\nsource = \"meter\"\n"
        );
        let files = [("andon.toml", &*main), ("own/own/oven.toml", &*profile(names))];
        let loaded = Folder::new(&files).load(&[]).map_err(|p| told(&p)).unwrap();
        let oven = loaded.plan.machines.last().unwrap().key_items.clone();
        let items = &loaded.plan.engine.items;
        oven.iter().map(|key| items[key.0 as usize].item.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&[
            "power.active",
            "temperature",
            "temperature.target.bed",
            "progress",
            "temperature.bed"
        ]),
        ["temperature.bed", "progress", "power.active"]
    );
    assert_eq!(
        keys(&["voltage", "temperature", "power.active"]),
        ["power.active", "temperature", "voltage"]
    );
}

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
    let folder = Folder::new(&[("andon.toml", &plain)]);
    let report = told(&folder.load(&[]).unwrap_err());
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

/// Simulators serve pseudo-terminals, and people make links: only names that move are refused.
#[test]
fn pseudo_terminals_and_links_are_ports() {
    for port in ["/dev/pts/5", "/tmp/andon/panel", "/dev/ttyAMA0", "/dev/ttyUSB-panel"] {
        let text = SHOP.replace("/dev/serial/by-id/usb-A", port);
        let plan = Folder::new(&[("andon.toml", &text)]).load(&[]).map_err(|p| told(&p)).unwrap();
        let Link::Rtu { port: planned, .. } = &plan.plan.buses[0].link else { panic!("{port}") };
        assert_eq!(planned, Path::new(port));
    }
}

#[test]
fn what_works_but_should_be_known_is_a_warning() {
    let more = "[source.spare]\nbus = \"panel\"\nunit_id = 9\nprofile = \"eastron/sdm120\"\n\
                [http]\nlisten = \"0.0.0.0:8480\"\n";
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}{more}"))]);
    let report = told(&folder.load(&[]).unwrap().warnings);
    assert!(report.contains("source.spare: no machine uses it"), "{report}");
    assert!(report.contains("http.listen: everybody who reaches 0.0.0.0:8480"), "{report}");
}

#[test]
fn the_configuration_for_a_new_meter_is_sound() {
    let page = fs::read_to_string(repository().join("CONTRIBUTING.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let text = text.replace("VENDOR/MODEL", "eastron/sdm120");
    // Nobody has added a profile in this folder.
    let text = text.replace("profiles.dir", "# profiles.dir");
    let folder = Folder::new(&[("andon.toml", &text)]);
    let loaded = folder.load(&[]).map_err(|problems| told(&problems)).unwrap();
    assert_eq!(told(&loaded.warnings), "");
    assert_eq!((loaded.plan.buses.len(), loaded.plan.machines.len()), (1, 1));
}

#[test]
fn machines_of_which_nothing_tells_what_they_do_are_named_in_one_warning() {
    let machine = |n: usize| format!("[machine.m{n}]\nkind = \"other\"\nsource = \"s{n}\"\n");
    let source = |n: usize| {
        format!("[source.s{n}]\nbus = \"b\"\nunit_id = {n}\nprofile = \"eastron/sdm120\"\n")
    };
    let head = "[site]\nid = \"x\"\ntime_zone = \"UTC\"\n\
                [bus.b]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\n";
    let report = |count: usize| {
        let more: String = (1..=count).map(|n| source(n) + &machine(n)).collect();
        told(&Folder::new(&[("andon.toml", &format!("{head}{more}"))]).load(&[]).unwrap().warnings)
    };
    let one = report(1);
    assert!(one.contains("machine.m1: nothing tells what it does"), "{one}");
    assert!(!one.contains("nor of"), "{one}");
    let many = report(6);
    assert!(many.contains("; nor of m2, m3, m4 and 2 more"), "{many}");
    let told_by = format!(
        "{head}{}{}activity = {{ from = \"power.active\", idle_above = \"15 W\", run_above = \"120 W\" }}\n",
        source(1),
        machine(1)
    );
    let meant = format!("{head}{}{}activity = []\n", source(1), machine(1));
    for sound in [&told_by, &meant] {
        let loaded = Folder::new(&[("andon.toml", sound)]).load(&[]).unwrap();
        assert_eq!(told(&loaded.warnings), "");
    }
    let without = told_by.replace(", idle_above = \"15 W\", run_above = \"120 W\"", "");
    let refused = told(&Folder::new(&[("andon.toml", &without)]).load(&[]).unwrap_err());
    assert!(refused.contains("kind \"other\" has no bands of its own"), "{refused}");
    assert!(refused.contains("andon learn") && !refused.contains("missing"), "{refused}");
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
    let plan = Folder::new(&[("andon.toml", &text)]).load(&[]).map_err(|p| told(&p)).unwrap().plan;
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

/// A second command while the first is being confirmed would confirm nothing.
#[test]
fn a_controllers_stop_has_three_periods_and_a_relay_a_second() {
    let deadlines = |period: &str, more: &str| {
        let text = format!(
            "{SHOP}
             [source.voron]
             protocol = \"moonraker\"
             host = \"10.0.0.20\"
             {period}
             [machine.voron]
             kind = \"fdm-printer\"
             source = \"voron\"
             [source.relays]
             bus = \"panel\"
             unit_id = 9
             profile = \"waveshare/relay-8ch\"
             [output.cut]
             kind = \"trip\"
             machine = \"voron\"
             relay = \"relays.relay.1\"
             [output.halt]
             kind = \"trip\"
             machine = \"voron\"
             stop = \"voron.emergency\"
             {more}"
        );
        let loaded = Folder::new(&[("andon.toml", &text)]).load(&[]);
        let loaded = loaded.map_err(|problems| told(&problems)).unwrap();
        let deadline = |id: &str| {
            let mut trips = loaded.plan.engine.trips.iter();
            trips.find(|trip| &*trip.id == id).unwrap().attempt_deadline.as_secs()
        };
        (deadline("cut"), deadline("halt"))
    };
    assert_eq!(deadlines("", ""), (1, 8));
    assert_eq!(deadlines("period = \"5 s\"", ""), (1, 17));
    assert_eq!(deadlines("period = \"1 h\"", ""), (1, 60));
    assert_eq!(deadlines("", "attempt_deadline = \"3 s\""), (1, 3));
}

/// What is wrong with a bus and source written like this.
fn wrong_with(bus: &str, source: &str) -> String {
    let text =
        format!("{}\n{source}\n", SHOP.replace("baud = 9600", &format!("baud = 9600\n{bus}")));
    match Folder::new(&[("andon.toml", &text)]).load(&[]) {
        Ok(_) => String::new(),
        Err(problems) => told(&problems),
    }
}

#[test]
fn a_dead_device_may_cost_five_percent_at_most_and_a_pause_is_kept() {
    let folder = |bus: &str| {
        let text = SHOP.replace("baud = 9600", &format!("baud = 9600\n{bus}"));
        let folder = Folder::new(&[("andon.toml", &text)]);
        let plan = folder.load(&[]).map_err(|problems| told(&problems)).unwrap().plan;
        (plan.buses[0].dead_share, plan.buses[0].pause)
    };
    assert_eq!(folder(""), (0.02, Duration::ZERO));
    let written = folder("dead_share = \"5 %\"\npause = \"20 ms\"");
    assert_eq!(written, (0.05, Duration::from_millis(20)));
    assert!(wrong_with("dead_share = \"6 %\"", "").contains("between 0.1 % and 5 %"));
    assert!(wrong_with("pause = \"2 s\"", "").contains("pause: 2 s is outside"));
}

#[test]
fn a_gateway_written_in_two_ways_is_one_bus() {
    let other = |host: &str| {
        let bus = |id: &str, host: &str| {
            format!("[bus.{id}]\ntype = \"modbus-tcp\"\nhost = \"{host}\"\n")
        };
        wrong_with("", &(bus("a", "Gateway.local") + &bus("b", host)))
    };
    assert!(other("gateway.LOCAL").contains("bus \"a\" has it already"));
    assert_eq!(other("other.local"), "");
}

#[test]
fn items_have_periods_of_their_own_and_the_nearest_pattern_decides() {
    let shop = SHOP.replace(
        "profile = \"eastron/sdm120\"",
        "profile = \"eastron/sdm120\"\n\
         periods = { \"energy.*\" = \"10 s\", \"energy.import\" = \"5 s\" }",
    );
    let shop = shop.replace(
        "items = { \"power.active\" = \"meter.power.active\" }",
        "items = { \"power.active\" = \"meter.power.active\", \"energy.import\" = \
         \"meter.energy.import\", \"energy.export\" = \"meter.energy.export\" }",
    );
    let folder = Folder::new(&[("andon.toml", &shop)]);
    let plan = folder.load(&[]).map_err(|problems| told(&problems)).unwrap().plan;
    let unit = &plan.buses[0].units[0];
    assert_eq!(unit.polls.len(), 3);
    for poll in &unit.polls {
        let name = &unit.profile.items[poll.profile_item].item.name;
        let expected = match &**name {
            "energy.import" => 5,
            "energy.export" => 10,
            _ => 2,
        };
        assert_eq!(poll.period.as_secs(), expected, "{name}");
        for feed in poll.fed.direct() {
            let item = &plan.engine.items[feed.0 as usize];
            assert_eq!(item.period, poll.period, "{name} goes stale by its own period");
        }
    }
    let with = |periods: &str| {
        let shop = SHOP.replace("unit_id = 3", &format!("unit_id = 3\nperiods = {{ {periods} }}"));
        match Folder::new(&[("andon.toml", &shop)]).load(&[]) {
            Ok(_) => String::new(),
            Err(problems) => told(&problems),
        }
    };
    assert!(with("\"energy.imprt\" = \"5 s\"").contains("did you mean \"energy.import\"?"));
    assert!(with("\"voltage\" = \"1 ms\"").contains("outside"));
}

#[test]
fn a_section_that_is_there_twice_is_named_once() {
    let again =
        "[machine.saw]\nkind = \"other\"\nitems = { \"power.active\" = \"meter.power.active\" }\n";
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}{again}"))]);
    let problems = folder.load(&[]).unwrap_err();
    let told = told(&problems);
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

#[test]
fn a_bus_without_a_source_is_a_warning() {
    let idle = "[bus.idle]\ntype = \"mqtt\"\nhost = \"localhost\"\n";
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}{idle}"))]);
    let told = told(&folder.load(&[]).unwrap().warnings);
    assert!(told.contains("bus.idle: no source is on it"), "{told}");
    assert!(!told.contains("bus.panel"), "{told}");
}

#[test]
fn a_hint_names_a_broker_that_is_there_or_says_how_to_add_one() {
    let plug = "[source.plug]\nprotocol = \"tasmota\"\ntopic = \"plug\"\n";
    let broker = "[bus.hall]\ntype = \"mqtt\"\nhost = \"localhost\"\n";
    let hint = |text: &str| {
        let folder = Folder::new(&[("andon.toml", text)]);
        let problems = folder.load(&[]).unwrap_err();
        let missing = problems.into_iter().find(|it| it.key == "source.plug.bus");
        missing.and_then(|problem| problem.hint).unwrap()
    };
    assert!(hint(&format!("{SHOP}{plug}")).starts_with("add a section [bus.home]"));
    assert_eq!(hint(&format!("{SHOP}{plug}{broker}")), "write bus = \"hall\"");
}

#[test]
fn an_unknown_item_of_a_gpio_line_is_told_where_it_stands() {
    let pins = "[source.pins]\nprotocol = \"gpio\"\nlines = { \"dor\" = 4 }\n";
    let folder = Folder::new(&[("andon.toml", &format!("{SHOP}{pins}"))]);
    let problems = folder.load(&[]).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.key, "source.pins.lines.dor");
    assert_eq!(problem.hint.as_deref(), Some("did you mean \"door\"?"));
}
