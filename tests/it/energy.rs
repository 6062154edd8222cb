//! The energy of a window over which the gateway was killed: last register minus first register.

use std::path::Path;
use std::time::Duration;

use andon::journal::{Payload, Reader, Stream};
use andon_engine::event::Event;
use andon_tests::andon as binary;
use andon_tests::process::{wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::Workshop;
use anyhow::Result;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// Single precision of kilowatt-hours went over the wire.
const ROUNDING_WH: f64 = 0.2;

fn energy(config: &Path) -> Option<Value> {
    let config = config.to_string_lossy();
    let arguments = ["history", "hours", "--from", "-1h", "--format", "json", "--config", &*config];
    let output = binary::output(&arguments).ok()?;
    let report: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(report["machines"][0]["energy"].clone())
}

/// Waits until the report says so many watt-hours, from the first register to the last.
fn wait_for_energy(config: &Path, wh: f64, first: f64, last: f64) -> Result<()> {
    let mut told = None;
    let what = format!("{wh} Wh from {first} to {last}");
    let wanted = [("wh", wh), ("first", first), ("last", last)];
    wait_for(&what, PATIENCE, || {
        told = energy(config);
        let near = |&(key, wanted): &(&str, f64)| {
            let value = told.as_ref().map(|told| &told[key]);
            let value = value.map(|value| if key == "wh" { value } else { &value["wh"] });
            let number = value.and_then(Value::as_f64);
            number.is_some_and(|number| (number - wanted).abs() < ROUNDING_WH)
        };
        wanted.iter().all(near)
    })
    .map_err(|error| error.context(format!("the report says {told:?}")))
}

#[test]
fn energy_goes_on_over_a_kill_and_an_exchanged_meter_begins_anew() -> Result<()> {
    let dir = work_dir("energy")?;
    let mut meter = Simulator::start("meter", &dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
    meter.say("set energy.import=1000000")?;
    meter.say("set power.active=900")?;
    let workshop = Workshop::new(&dir).tcp_bus("panel", meter.port()?).with(
        "[source.meter]\nbus = \"panel\"\nunit_id = 1\nprofile = \"eastron/sdm120\"\n\
         period = \"100 ms\"\n[machine.saw]\nname = \"Saw\"\nkind = \"table-saw\"\nitems = { \
         \"power.active\" = \"meter.power.active\", \"energy.import\" = \"meter.energy.import\" }\n\
         activity = { from = \"power.active\", idle_above = \"15 W\", run_above = \"120 W\", \
         enter_for = \"300 ms\", exit_for = \"300 ms\" }\n",
    );
    let config = workshop.write(&dir)?;
    let mut gateway = binary::run(&dir, &config)?;
    // A register is noted when the machine changes.
    gateway_sees(&mut meter, "900", &config, 1_000_000.0)?;
    meter.say("set energy.import=1000100")?;
    gateway_sees(&mut meter, "50", &config, 1_000_100.0)?;
    wait_for_energy(&config, 100.0, 1_000_000.0, 1_000_100.0)?;
    gateway.kill();
    meter.say("set energy.import=1000400")?;
    let mut gateway = binary::run(&dir, &config)?;
    wait_for_energy(&config, 400.0, 1_000_000.0, 1_000_400.0)?;
    // Somebody exchanges the meter: what it showed before is nothing that was used.
    gateway.kill();
    meter.say("set energy.import=12000")?;
    let _gateway = binary::run(&dir, &config)?;
    gateway_sees(&mut meter, "900", &config, 12_000.0)?;
    meter.say("set energy.import=12030")?;
    gateway_sees(&mut meter, "50", &config, 12_030.0)?;
    wait_for_energy(&config, 430.0, 1_000_000.0, 12_030.0)
}

/// Changes the power until the register's reading has been noted.
fn gateway_sees(meter: &mut Simulator, watts: &str, config: &Path, register: f64) -> Result<()> {
    let mut watts = watts.to_owned();
    wait_for(&format!("a register of {register} Wh"), PATIENCE, || {
        meter.say(&format!("set power.active={watts}")).ok();
        watts = if watts == "900" { "50" } else { "900" }.to_owned();
        std::thread::sleep(Duration::from_millis(900));
        let noted = events(config);
        noted.iter().any(|wh| (wh - register).abs() < ROUNDING_WH)
    })
}

/// The registers in the journal.
fn events(config: &Path) -> Vec<f64> {
    let Some(dir) = config.parent() else { return Vec::new() };
    let records =
        Reader::open(&dir.join("state/journal")).and_then(|it| it.records(Stream::Events));
    let registers = records.into_iter().flatten().filter_map(|record| match record.payload {
        Payload::Event(Event::Energy { register, .. }) => Some(register.wh),
        _ => None,
    });
    registers.collect()
}
