//! Machines with a controller, through the real binary: what LinuxCNC, OctoPrint's virtual printer
//! and fakes of GRBL and Haas say of themselves, against what the board and the hours make of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use andon_tests::controllers::{Board, Fake, LinuxCnc, PATIENCE, hours};
use andon_tests::process::{free_port, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::stalls::StallWatch;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

mod grbl;
mod haas;

/// How often the controllers of these tests are asked.
const PERIOD_MS: u64 = 250;
/// The first register of the power in the meter's profile.
const POWER: u64 = 0x000C;
/// What a person would call at once.
const AT_ONCE: Duration = Duration::from_secs(3);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn above(bound: f64) -> impl Fn(&Value) -> bool {
    move |value| value.as_f64().is_some_and(|value| value > bound)
}

/// What LinuxCNC itself says it is doing: its own words, one after the other.
fn own_words(mill: &mut LinuxCnc) -> Result<[String; 3]> {
    Ok([mill.get("estop")?, mill.get("machine")?, mill.get("program_status")?])
}

/// Waits until LinuxCNC says these words, and the board what they mean.
fn both_say(mill: &mut LinuxCnc, board: &Board, words: [&str; 3], execution: &str) -> Result<()> {
    wait_for(&format!("LinuxCNC to say {words:?}"), PATIENCE, || {
        own_words(mill).is_ok_and(|own| own == words)
    })?;
    board.wait_for_execution("mill", execution)?;
    let still = own_words(mill)?;
    ensure!(still == words, "the board says {execution}, LinuxCNC has gone on to {still:?}");
    Ok(())
}

/// LinuxCNC takes away the right to command when andon stops it, and nothing else: so each step is
/// commanded and asked by a remote shell that andon knows nothing of.
#[test]
fn linuxcnc_is_shown_as_it_says_itself_and_is_stopped_and_stays_stopped() -> Result<()> {
    let dir = work_dir("linuxcnc")?;
    let Some(mut mill) = LinuxCnc::start(&dir, free_port()?)? else { return Ok(()) };
    Workshop::new(&dir)
        .with(&format!(
            "[source.cnc]\nprotocol = \"linuxcnc\"\nhost = \"127.0.0.1\"\nport = {}\n\
             period = \"{PERIOD_MS} ms\"\n[machine.mill]\nkind = \"mill\"\nsource = \"cnc\"\n\
             [output.stop]\nkind = \"trip\"\nmachine = \"mill\"\nstop = \"cnc.emergency\"\n\
             [rule.far]\nmachine = \"mill\"\nwhen = \"position.x > 60 mm\"\n\
             clear = \"position.x < 50 mm\"\non_unknown = \"alarm\"\nseverity = \"high\"\n\
             trip = \"stop\"\nmessage = \"Too far.\"\n",
            mill.port
        ))
        .write(&dir)?;
    let board = Board::start(&dir)?;
    both_say(&mut mill, &board, ["ON", "OFF", "IDLE"], "stopped")?;
    mill.set("estop off")?;
    both_say(&mut mill, &board, ["OFF", "OFF", "IDLE"], "off")?;
    mill.set("machine on")?;
    both_say(&mut mill, &board, ["OFF", "ON", "IDLE"], "ready")?;

    let program = mill.dir.join("near.ngc");
    // Twelve seconds: time enough to pause it on a busy machine, and its end is waited for.
    std::fs::write(&program, "G21 G90\nG1 X30 F300\nG1 X0\nM2\n")?;
    mill.set("mode auto")?;
    mill.set(&format!("open {}", program.display()))?;
    mill.set("run 0")?;
    both_say(&mut mill, &board, ["OFF", "ON", "RUNNING"], "running")?;
    board.wait_for_value("mill", "job.name", |name| name == "near.ngc")?;
    mill.set("pause")?;
    both_say(&mut mill, &board, ["OFF", "ON", "PAUSED"], "paused")?;
    let own = mill.get("abs_act_pos")?;
    let x: f64 = own.split(' ').next().context("x")?.parse()?;
    board.wait_for_value("mill", "position.x", |shown| {
        shown.as_f64().is_some_and(|shown| (shown - x).abs() < 0.001)
    })?;
    mill.set("resume")?;
    both_say(&mut mill, &board, ["OFF", "ON", "RUNNING"], "running")?;
    // The program's end.
    both_say(&mut mill, &board, ["OFF", "ON", "IDLE"], "ready")?;
    mill.set("run 0")?;
    both_say(&mut mill, &board, ["OFF", "ON", "RUNNING"], "running")?;
    mill.set("abort")?;
    both_say(&mut mill, &board, ["OFF", "ON", "IDLE"], "ready")?;
    stopped_by_a_rule(&dir, mill, board)
}

fn stopped_by_a_rule(dir: &Path, mut mill: LinuxCnc, mut board: Board) -> Result<()> {
    let program = mill.dir.join("far.ngc");
    std::fs::write(&program, "G21 G90\nG1 X200 F2400\nM2\n")?;
    board.wait_for_stop("mill", "armed")?;
    mill.set(&format!("open {}", program.display()))?;
    mill.set("run 0")?;
    mill.wait_for("estop", "ON")?;
    let stop = board.wait_for_stop("mill", "latched")?;
    ensure!(stop["level"] == "C2" && stop["cause"] == "far", "{stop}");
    both_say(&mut mill, &board, ["ON", "OFF", "IDLE"], "stopped")?;
    let reached = mill.get("abs_act_pos")?;
    let x: f64 = reached.split(' ').next().context("x")?.parse()?;
    ensure!((60.0..200.0).contains(&x), "it went on to its end: {reached}");
    // A latch outlives the process.
    board.restart(dir)?;
    let stop = board.wait_for_stop("mill", "latched")?;
    ensure!(stop["level"] == "C2", "{stop}");
    Ok(())
}

/// A printer behind OctoPrint's virtual printer.
fn printer(dir: &Path, more: &str) -> Result<Option<(Fake, Board)>> {
    let port = dir.join("tty");
    let Some(printer) = Fake::virtual_printer(dir, &port)? else { return Ok(None) };
    let config = format!(
        "[source.marlin]\nprotocol = \"marlin\"\nport = \"{}\"\nowner = \"andon\"\n\
         period = \"500 ms\"\n\
         [machine.printer]\nkind = \"fdm-printer\"\nsource = \"marlin\"\n{more}",
        port.display()
    );
    Workshop::new(dir).with(&config).write(dir)?;
    Ok(Some((printer, Board::start(dir)?)))
}

#[test]
fn a_print_from_marlins_card_is_followed_until_it_runs_away() -> Result<()> {
    let dir = work_dir("marlin")?;
    let Some((mut marlin, board)) = printer(&dir, "")? else { return Ok(()) };
    board.wait_for_execution("printer", "ready")?;
    board.wait_for_value("printer", "temperature.nozzle", |celsius| *celsius == 21.3)?;
    // A heater that somebody has turned on is no job, and not billed as one.
    marlin.say("gcode M104 S45")?;
    board.wait_for_value("printer", "temperature.target.nozzle", |celsius| *celsius == 45.0)?;
    board.wait_for_value("printer", "temperature.nozzle", above(40.0))?;
    board.wait_for_execution("printer", "ready")?;
    marlin.say("card calibration.gcode 3000")?;
    marlin.say("gcode M23 calibration.gcode")?;
    marlin.say("gcode M24")?;
    board.wait_for_execution("printer", "running")?;
    let first = board.wait_for_value("printer", "progress", above(0.0))?;
    let first = first.as_f64().context("a number")?;
    let later = board.wait_for_value("printer", "progress", above(first))?;
    ensure!(later.as_f64().is_some_and(|share| share < 1.0), "{later}");
    marlin.say("debug trigger_fatal_error_marlin")?;
    board.wait_for_execution("printer", "fault")?;
    let words = "Thermal Runaway, system stopped! Heater_ID: bed";
    board.wait_for_value("printer", "message", |said| said == words).map(drop)
}

#[test]
fn a_marlin_that_gets_too_hot_is_halted_and_stays_latched() -> Result<()> {
    let dir = work_dir("marlin-stop")?;
    let rule = "[output.stop]\nkind = \"trip\"\nmachine = \"printer\"\nstop = \"marlin.emergency\"\n\
                [rule.hot]\nmachine = \"printer\"\nwhen = \"temperature.nozzle > 50 °C\"\n\
                clear = \"temperature.nozzle < 45 °C\"\non_unknown = \"alarm\"\n\
                severity = \"high\"\ntrip = \"stop\"\nmessage = \"Too hot.\"\n";
    let Some((mut marlin, board)) = printer(&dir, rule)? else { return Ok(()) };
    board.wait_for_stop("printer", "armed")?;
    board.wait_for_execution("printer", "ready")?;
    marlin.say("gcode M104 S80")?;
    let stop = board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["cause"] == "hot", "{stop}");
    board.wait_for_execution("printer", "stopped")?;
    board.wait_for_value("printer", "message", |said| text(said).contains("KILLED"))?;
    board.always("printer", AT_ONCE, |seen| {
        seen["execution"] == "stopped" && seen["stop"]["phase"] == "latched"
    })
}

#[test]
fn a_haas_is_shown_by_its_own_answers_whoever_else_asks() -> Result<()> {
    let dir = work_dir("haas")?;
    let Some(mut haas) = Fake::start("haas_fake", &dir, &[])? else { return Ok(()) };
    let port: u16 = haas.address.parse()?;
    Workshop::new(&dir)
        .with(&format!(
            "[source.vf2]\nprotocol = \"haas\"\nhost = \"127.0.0.1\"\nport = {port}\n\
             period = \"{PERIOD_MS} ms\"\n[machine.mill]\nkind = \"mill\"\nsource = \"vf2\"\n"
        ))
        .write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_execution("mill", "ready")?;
    board.wait_for_value("mill", "job.name", |name| name == "O01234")?;
    board.wait_for_value("mill", "parts", |parts| *parts == 4380.0)?;
    // Answers go to everybody, so andon hears those of this client, and its program's prints.
    let mut other = TcpStream::connect(("127.0.0.1", port))?;
    other.set_read_timeout(Some(PATIENCE))?;
    other.write_all(b"?Q102\r\n?Q102\r\n")?;
    ensure!(other.read(&mut [0; 256])? > 0, "the other client is answered");
    for (order, execution) in [("busy", "running"), ("hold", "paused")] {
        haas.say(order)?;
        other.write_all(b"?Q100\r\n?Q104\r\n?Q300\r\n?Q101\r\n")?;
        haas.say("say MACRO, 3028, 1234.000000")?;
        haas.say("say PART 7 DONE")?;
        board.wait_for_execution("mill", execution)?;
    }
    haas.say("spindle 3500")?;
    haas.say("comma no")?;
    haas.say("busy")?;
    board.wait_for_execution("mill", "running")?;
    board.wait_for_value("mill", "speed.spindle", |speed| *speed == 3500.0)?;
    for _ in 0..20 {
        other.write_all(b"?Q600 3027\r\n?Q500\r\n?Q102\r\n")?;
        let seen = board.machine("mill")?;
        ensure!(seen["execution"] == "running", "{seen:#}");
        sleep(Duration::from_millis(50));
    }
    haas.say("alarm")?;
    board.wait_for_execution("mill", "fault")?;
    board.wait_for_value("mill", "controller.state", |word| word == "ALARM ON")?;
    ensure!(board.device("vf2")?["state"] == "answering");
    Ok(())
}

/// What the simulator's own log says: how long its answers, from one to the next, were a power above
/// the threshold. When it was told to change is no witness: nobody may ask for a while after that.
fn truth(log: &[Value]) -> Result<u64> {
    let (mut watts, mut asked) = (0.0, None);
    let (mut begun, mut total) = (None, 0);
    for line in log {
        let at = line["at"].as_u64().context("a moment")?;
        match line["kind"].as_str() {
            Some("set") => watts = line["value"].as_f64().context("a power")?,
            Some("request") if asks_for_power(line) => asked = Some(watts),
            Some("reply") => match asked.take() {
                Some(watts) if watts > 120.0 => begun = begun.or(Some(at)),
                Some(_) => total += begun.take().map_or(0, |begun| at - begun),
                None => {}
            },
            _ => {}
        }
    }
    Ok(total / 1_000_000)
}

/// Whether a request's registers have those of the power among them.
fn asks_for_power(request: &Value) -> bool {
    let (first, count) = (request["address"].as_u64(), request["count"].as_u64());
    first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&POWER))
}

#[test]
fn a_square_wave_on_the_wire_is_counted_to_the_sample() -> Result<()> {
    const PULSES: u64 = 4;
    const SAMPLE_MS: u64 = 100;
    let dir = work_dir("square-wave")?;
    let arguments = ["--tcp", "127.0.0.1:0", "--device", "1=eastron/sdm120"];
    let mut meter = Simulator::start("meter", &dir, &arguments)?;
    meter.say("set 1 power.active=40")?;
    Workshop::new(&dir)
        .with(&format!(
            "[bus.line]\ntype = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {}\n\
             [source.meter]\nbus = \"line\"\nunit_id = 1\nprofile = \"eastron/sdm120\"\n\
             period = \"{SAMPLE_MS} ms\"\n[machine.saw]\nkind = \"table-saw\"\nsource = \"meter\"\n\
             activity = {{ from = \"power.active\", idle_above = \"15 W\", run_above = \"120 W\", \
             enter_for = \"500 ms\", exit_for = \"500 ms\" }}\n",
            meter.port()?
        ))
        .write(&dir)?;
    let mut board = Board::start(&dir)?;
    board.wait_for_execution("saw", "ready")?;
    let stalls = StallWatch::start();
    for _ in 0..PULSES {
        meter.say("set 1 power.active=900")?;
        sleep(Duration::from_millis(1530));
        meter.say("set 1 power.active=40")?;
        sleep(Duration::from_millis(970));
    }
    board.wait_for_execution("saw", "ready")?;
    board.gateway.stop(PATIENCE)?;
    let truth = truth(&meter.witnessed()?)?;
    let counted = hours(&dir, "saw")?["run_ms"].as_u64().context("run_ms")?;
    ensure!(truth > PULSES * 1000, "{truth} ms of pulses");
    // For all the edges together; each is stamped a little after the answer that the log has.
    let bound = 2 * SAMPLE_MS + u64::try_from(stalls.longest().as_millis())?;
    ensure!(counted.abs_diff(truth) <= bound, "{counted} ms counted of {truth} ms, {stalls:?}");
    Ok(())
}
