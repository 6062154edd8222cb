//! Buses and sources: lines, addresses, periods, and the places of devices.

use std::path::Path;
use std::time::Duration;

use andon_engine::plan::ItemIndex;

use super::{Folder, SHOP, sound, wrong};
use crate::config::plan::{Link, Parity};

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
    let plan = sound(shop).plan;
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
fn a_gateway_may_say_how_fast_the_line_behind_it_is() {
    let serial = "type = \"modbus-rtu\"\nport = \"/dev/serial/by-id/usb-A\"\nbaud = 9600";
    let shop = |baud: &str| {
        assert!(SHOP.contains(serial));
        SHOP.replace(serial, &format!("type = \"modbus-tcp\"\nhost = \"g\"\n{baud}"))
    };
    let said = |baud: &str| sound(&shop(baud)).plan.buses[0].link.clone();
    let link = |baud| Link::Tcp { address: "g:502".to_owned(), baud };
    assert_eq!((said("baud = 19200"), said("")), (link(Some(19_200)), link(None)));
    assert!(wrong(&shop("baud = 9601")).contains("9601 is not a usual speed"));
}

/// Simulators serve pseudo-terminals, and people make links: only names that move are refused.
#[test]
fn pseudo_terminals_and_links_are_ports() {
    for port in ["/dev/pts/5", "/tmp/andon/panel", "/dev/ttyAMA0", "/dev/ttyUSB-panel"] {
        let text = SHOP.replace("/dev/serial/by-id/usb-A", port);
        let plan = sound(&text).plan;
        let Link::Rtu { port: planned, .. } = &plan.buses[0].link else { panic!("{port}") };
        assert_eq!(planned, Path::new(port));
    }
}

/// What is wrong with a bus and source written like this.
fn wrong_with(bus: &str, source: &str) -> String {
    let text =
        format!("{}\n{source}\n", SHOP.replace("baud = 9600", &format!("baud = 9600\n{bus}")));
    wrong(&text)
}

#[test]
fn a_dead_device_may_cost_five_percent_at_most_and_a_pause_is_kept() {
    let folder = |bus: &str| {
        let text = SHOP.replace("baud = 9600", &format!("baud = 9600\n{bus}"));
        let plan = sound(&text).plan;
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
    let plan = sound(&shop).plan;
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
        wrong(&SHOP.replace("unit_id = 3", &format!("unit_id = 3\nperiods = {{ {periods} }}")))
    };
    assert!(with("\"energy.imprt\" = \"5 s\"").contains("did you mean \"energy.import\"?"));
    assert!(with("\"voltage\" = \"1 ms\"").contains("outside"));
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
