//! What works but should be known.

use super::{SHOP, sound, told, wrong};

/// What is warned of in this text alone, which is sound.
fn warned(text: &str) -> String {
    told(&sound(text).warnings)
}

#[test]
fn what_works_but_should_be_known_is_a_warning() {
    let more = "[source.spare]\nbus = \"panel\"\nunit_id = 9\nprofile = \"eastron/sdm120\"\n\
                [http]\nlisten = \"0.0.0.0:8480\"\n";
    let report = warned(&format!("{SHOP}{more}"));
    assert!(report.contains("source.spare: no machine uses it"), "{report}");
    assert!(report.contains("http.listen: everybody who reaches 0.0.0.0:8480"), "{report}");
}

#[test]
fn a_bus_without_a_source_is_a_warning() {
    let idle = "[bus.idle]\ntype = \"mqtt\"\nhost = \"localhost\"\n";
    let told = warned(&format!("{SHOP}{idle}"));
    assert!(told.contains("bus.idle: no source is on it"), "{told}");
    assert!(!told.contains("bus.panel"), "{told}");
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
        warned(&format!("{head}{more}"))
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
        assert_eq!(warned(sound), "");
    }
    let without = told_by.replace(", idle_above = \"15 W\", run_above = \"120 W\"", "");
    let refused = wrong(&without);
    assert!(refused.contains("kind \"other\" has no bands of its own"), "{refused}");
    assert!(refused.contains("andon learn") && !refused.contains("missing"), "{refused}");
}

#[test]
fn more_values_than_history_keeps_are_a_warning() {
    use super::super::unkept;
    assert_eq!(unkept(65_536), None);
    let (message, hint) = unkept(65_600).unwrap();
    assert!(message.contains("history keeps 65536: 64 of them"), "{message}");
    assert!(hint.contains("second gateway"), "{hint}");
}
