//! Machines and their stops: items, bands, tiles and deadlines in the plan.

use std::fmt::Write as _;
use std::time::Duration;

use andon_engine::plan::{ActivityPlan, Band, ItemIndex, MachineIndex};

use super::{Folder, SHOP, sound, told, wrong};
use crate::config::plan::{Link, Parity};

#[test]
fn a_plan_has_everything_resolved() {
    let plan = sound(SHOP).plan;
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
fn a_machine_without_bands_of_its_own_takes_those_of_its_kind() {
    let shop = SHOP.replace("kind = \"other\"\nitems", "kind = \"other\"\nsource = \"meter\"\n#");
    let text = format!(
        "{shop}[machine.kiln]\nkind = \"kiln\"\nsource = \"meter\"\n\
         activity = {{ from = \"power.active\", exit_for = \"2 min\" }}\n\
         [machine.press]\nkind = \"drill-press\"\nsource = \"meter\"\n"
    );
    let plan = sound(&text).plan;
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
    let report = wrong(&text);
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
        let loaded = sound(&text);
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
