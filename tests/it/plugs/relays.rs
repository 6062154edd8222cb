//! Plugs and relays of three kinds at one broker: what they measure, that a rule switches them off,
//! what is taken for a proof of that, and what they are when they have left.

use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use andon_tests::andon;
use andon_tests::peers::{Mosquitto, replay};
use andon_tests::plugs::{Board, PATIENCE, Publisher};
use andon_tests::process::{Process, work_dir};
use andon_tests::stalls::StallWatch;
use anyhow::{Result, ensure};
use serde_json::Value;

use super::{at_home, device, has_mosquitto, type_to};

const TASMOTA: &str = "protocol = \"tasmota\"\ntopic = \"plug-saw\"";
const SHELLY: &str = "protocol = \"shelly\"\ntopic = \"shellyplus1pm-a8032ab12345\"";
const GEN1: &str = "protocol = \"shelly-gen1\"\ntopic = \"shelly1pm-A4CF12F45A10\"";
/// Source, name of its replay, what its configuration says.
const KINDS: [(&str, &str, &str); 3] =
    [("saw", "tasmota", TASMOTA), ("fan", "shelly", SHELLY), ("lamp", "shelly_gen1", GEN1)];

/// Three questions without an answer, at the period of these tests, and the fourth that finds out.
const UNANSWERED: Duration = Duration::from_millis(4 * 300);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(4);
/// Longer than words about trouble that are not said again stay on the board.
const FORGOTTEN: Duration = Duration::from_secs(8);

/// A replay and a way to type to it.
struct Plug {
    _process: Process,
    stdin: ChildStdin,
}

impl Plug {
    fn say(&mut self, line: &str) -> Result<()> {
        type_to(&mut self.stdin, line)
    }
}

/// A broker with one plug of each kind.
struct Home {
    dir: PathBuf,
    broker: Mosquitto,
    plugs: Vec<Plug>,
}

impl Home {
    fn start(name: &str) -> Result<Option<Self>> {
        if !has_mosquitto() {
            return Ok(None);
        }
        let dir = work_dir(name)?;
        let Some(broker) = Mosquitto::start(&dir)? else { return Ok(None) };
        let mut plugs = Vec::new();
        for (_, name, _) in KINDS {
            let port = broker.port.to_string();
            let Some((process, stdin)) = replay(name, &dir, &["--port", &port])? else {
                return Ok(None);
            };
            plugs.push(Plug { _process: process, stdin });
        }
        Ok(Some(Self { dir, broker, plugs }))
    }

    fn write(&self, rest: &str) -> Result<()> {
        let mut workshop = at_home(&self.dir, self.broker.port);
        for (id, _, config) in KINDS {
            workshop = workshop.with(&device("home", id, config));
        }
        workshop.with(rest).write(&self.dir).map(drop)
    }

    /// The gateway, when all plugs have been heard.
    fn board(&self, rest: &str) -> Result<Board> {
        self.write(rest)?;
        let board = Board::start(&self.dir)?;
        for (id, ..) in KINDS {
            board.wait_for_value(id, "relay.1", true)?;
        }
        Ok(board)
    }
}

/// An output that switches off the plug of machine `id`, and a rule that wants it.
fn stop(id: &str, proof: &str) -> String {
    format!(
        "[output.off-{id}]\nkind = \"trip\"\nmachine = \"{id}\"\nstop = \"{id}.off\"\n\
         attempts = 2\n{proof}\n\
         [rule.overload-{id}]\nmachine = \"{id}\"\nwhen = \"power.active > 2 kW\"\n\
         clear = \"power.active < 1.5 kW\"\non_unknown = \"alarm\"\ntrip = \"off-{id}\"\n\
         message = \"Too much.\"\n"
    )
}

#[test]
fn what_plugs_measure_is_shown_in_its_units() -> Result<()> {
    let Some(mut home) = Home::start("plugs")? else { return Ok(()) };
    let board = home.board("")?;
    for (id, item, expected) in [
        ("saw", "power.active", 5.0),
        ("saw", "voltage", 230.0),
        ("saw", "signal", -85.0),
        ("fan", "power.active", 73.2),
        ("fan", "voltage", 235.0),
        ("fan", "frequency", 50.0),
        ("fan", "temperature.board", 38.7),
        ("lamp", "power.active", 36.5),
        // 6000 watt-minutes.
        ("lamp", "energy.import", 100.0),
        ("lamp", "temperature.board", 41.5),
    ] {
        board.wait_for_value(id, item, expected)?;
    }
    // Changes below what the device reports by itself, and at the meter of the first generation.
    for (plug, watts) in home.plugs.iter_mut().zip([1203.5, 75.5, 41.25]) {
        plug.say(&format!("power {watts}"))?;
    }
    for ((id, ..), watts) in KINDS.into_iter().zip([1203.5, 75.5, 41.25]) {
        board.wait_for_value(id, "power.active", watts)?;
        board.wait_for_device(id, "answering", "")?;
    }
    // kWh become Wh, and the counter goes on.
    let energy = board.item("saw", "energy.total")?["value"].as_f64();
    ensure!(energy.is_some_and(|wh| (3705.0..3800.0).contains(&wh)), "{energy:?}");
    Ok(())
}

#[test]
fn a_rule_switches_plugs_off_and_they_are_read_back() -> Result<()> {
    let Some(mut home) = Home::start("plugs-off")? else { return Ok(()) };
    let rules: String = KINDS.iter().map(|(id, ..)| stop(id, "")).collect();
    let board = home.board(&rules)?;
    for ((id, ..), plug) in KINDS.into_iter().zip(&mut home.plugs) {
        board.wait_for_stop(id, "armed", Value::Null)?;
        plug.say("power 2500")?;
        // There is no other meter that could prove more.
        board.wait_for_stop(id, "latched", "C2")?;
        board.wait_for_value(id, "relay.1", false)?;
        board.wait_for_value(id, "power.active", 0.0)?;
    }
    Ok(())
}

#[test]
fn a_relay_that_sticks_is_a_failed_stop() -> Result<()> {
    let Some(mut home) = Home::start("plugs-stuck")? else { return Ok(()) };
    let rules: String = KINDS.iter().map(|(id, ..)| stop(id, "")).collect();
    let board = home.board(&rules)?;
    for plug in &mut home.plugs {
        plug.say("stuck")?;
        plug.say("power 2500")?;
    }
    // The first two accept it and are not read back, at the second attempt as at the first; the
    // first generation only says how its relay stands.
    for ((id, ..), level) in KINDS.into_iter().zip(["C1", "C1", "C0"]) {
        let stop = board.wait_for_stop(id, "failed", level)?;
        let words = stop["trouble"].as_str().unwrap_or_default();
        ensure!(!words.is_empty() && !words.contains("place"), "{stop}");
        board.wait_for_value(id, "relay.1", true)?;
    }
    Ok(())
}

#[test]
fn a_plugs_own_meter_proves_nothing_and_another_one_does() -> Result<()> {
    let Some(mut home) = Home::start("plugs-proof")? else { return Ok(()) };
    let proof = |item: &str| {
        format!("proof = {{ item = \"{item}\", below = \"20 W\", within = \"8 s\", samples = 3 }}")
    };
    // A machine whose switched power is measured twice: by the plug, and in the panel.
    let machine = "[machine.mill]\nkind = \"mill\"\nitems = { \"power.active\" = \
                   \"saw.power.active\", \"power.active.l1\" = \"fan.power.active\" }\n";
    let rule = |item| stop("mill", &proof(item)).replace("\"mill.off\"", "\"saw.off\"");
    home.write(&format!("{machine}{}", rule("power.active")))?;
    let path = home.dir.join("andon.toml");
    let output = andon::output(&["check", "--config", &path.to_string_lossy()])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(78), "{said}");
    ensure!(said.contains("\"saw\" is the output's own"), "{said}");

    let board = home.board(&format!("{machine}{}", rule("power.active.l1")))?;
    board.wait_for_stop("mill", "armed", Value::Null)?;
    home.plugs[0].say("power 2500")?;
    board.wait_for_value("saw", "relay.1", false)?;
    // Read back, but the other meter still says 73 W.
    board.wait_for_stop("mill", "latched", "C2")?;
    home.plugs[1].say("power 1.5")?;
    board.wait_for_stop("mill", "latched", "C3").map(drop)
}

#[test]
fn a_plug_that_leaves_or_falls_silent_is_unknown_with_the_reason() -> Result<()> {
    let Some(mut home) = Home::start("plugs-lost")? else { return Ok(()) };
    let board = home.board("")?;
    for plug in &mut home.plugs {
        plug.say("silent")?;
    }
    let (since, stalls) = (Instant::now(), StallWatch::start());
    for (id, ..) in KINDS {
        board.wait_for_unknown(id, "power.active", "timeout")?;
        let took = since.elapsed();
        ensure!(took < UNANSWERED + SLACK + stalls.longest(), "{id}: {took:?}, {stalls:?}");
        board.wait_for_value(id, "online", false)?;
    }
    for (id, ..) in KINDS {
        let why = board.wait_for_device(id, "silent", "")?;
        ensure!(!why.is_empty(), "{id} is silent without a word");
    }
    for plug in &mut home.plugs {
        plug.say("speak")?;
    }
    for (id, ..) in KINDS {
        board.wait_for_value(id, "relay.1", true)?;
        board.wait_for_device(id, "answering", "")?;
    }
    // Without a good-bye; the broker says so in their place.
    for plug in &mut home.plugs {
        plug.say("quit")?;
    }
    let (since, stalls) = (Instant::now(), StallWatch::start());
    for (id, ..) in KINDS {
        board.wait_for_unknown(id, "power.active", "disconnected")?;
        let took = since.elapsed();
        ensure!(took < UNANSWERED + SLACK + stalls.longest(), "{id}: {took:?}, {stalls:?}");
        board.wait_for_value(id, "online", false)?;
    }
    for (id, ..) in KINDS {
        board.wait_for_device(id, "silent", "the broker says that the")?;
    }
    // The reason is still there when nobody has spoken for long.
    std::thread::sleep(FORGOTTEN);
    for (id, ..) in KINDS {
        board.wait_for_device(id, "silent", "the broker says that the")?;
        board.wait_for_unknown(id, "power.active", "disconnected")?;
    }
    Ok(())
}

/// What a broker may have kept for years, and what must not be believed of it.
const KEPT: [(&str, &str); 5] = [
    ("tele/plug-saw/LWT", "Online"),
    ("tele/plug-saw/SENSOR", r#"{"Time":"2022-01-11T21:57:38","ENERGY":{"Power":9999}}"#),
    ("shellyplus1pm-a8032ab12345/online", "true"),
    ("shellyplus1pm-a8032ab12345/status/switch:0", r#"{"id":0,"output":true,"apower":9999}"#),
    ("shellies/shelly1pm-A4CF12F45A10/relay/0/power", "9999"),
];

#[test]
fn what_a_broker_has_kept_is_not_shown_as_a_value() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let dir = work_dir("plugs-kept")?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    for (topic, payload) in KEPT {
        Publisher(broker.port).keep(topic, payload)?;
    }
    let mut home = Home { dir, broker, plugs: Vec::new() };
    home.write("")?;
    let board = Board::start(&home.dir)?;
    let never = |until: &str| -> Result<()> {
        for (id, ..) in KINDS {
            let power = board.item(id, "power.active")?["value"].clone();
            ensure!(power.as_f64() != Some(9999.0), "{id} is shown {until}");
        }
        Ok(())
    };
    // All three have been asked three times and have not answered; meanwhile it is never shown.
    let since = Instant::now();
    for (id, ..) in KINDS {
        while board.item(id, "power.active")?["why"] != "timeout" {
            never("before anybody was there")?;
            ensure!(since.elapsed() < PATIENCE, "{id} was never found missing");
        }
    }
    for (_, name, _) in KINDS {
        let port = home.broker.port.to_string();
        let Some((process, stdin)) = replay(name, &home.dir, &["--port", &port])? else {
            return Ok(());
        };
        home.plugs.push(Plug { _process: process, stdin });
    }
    for ((id, ..), watts) in KINDS.into_iter().zip([5.0, 73.2, 36.5]) {
        board.wait_for_value(id, "power.active", watts)?;
        never("although its device is there")?;
    }
    Ok(())
}
