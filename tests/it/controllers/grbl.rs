//! GRBL on a pseudo-terminal with paced bytes: what is a pause and what is a silence, what is done
//! to the port, and the stop. The fake is told what to do; nothing else knows what is true.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use andon_tests::controllers::{Board, Fake, PATIENCE, hours};
use andon_tests::process::{wait_for, work_dir};
use andon_tests::stalls::StallWatch;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::Value;

use super::{AT_ONCE, PERIOD_MS, above, text};

/// What a busy machine may take to hand a line on.
const HANDED_ON_MS: u64 = 150;

/// A router behind a fake at `dir/tty`, asked every [`PERIOD_MS`].
fn router(dir: &Path, more: &str) -> Result<()> {
    let port = dir.join("tty");
    let config = format!(
        "[source.cnc]\nprotocol = \"grbl\"\nport = \"{}\"\nowner = \"andon\"\npins = \"D\"\n\
         period = \"{PERIOD_MS} ms\"\n\
         [machine.router]\nkind = \"router\"\nsource = \"cnc\"\n{more}",
        port.display()
    );
    Workshop::new(dir).with(&config).write(dir).map(drop)
}

fn fake(dir: &Path) -> Result<Option<Fake>> {
    Fake::start("grbl_fake", dir, &["--link", &dir.join("tty").to_string_lossy()])
}

/// The terminal as a program beside andon sees it.
fn beside(dir: &Path) -> Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits())?;
    let opened = File::options().read(true).write(true).custom_flags(flags).open(dir.join("tty"));
    opened.context("the terminal")
}

/// Whether the terminal's lines would drop when the last program closes it.
fn hangs_up(terminal: &File) -> Result<bool> {
    Ok(tcgetattr(terminal)?.control_modes.contains(ControlModes::HUPCL))
}

fn set_hang_up(terminal: &File) -> Result<()> {
    let mut modes = tcgetattr(terminal)?;
    modes.control_modes.insert(ControlModes::HUPCL);
    Ok(tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// How long the fake has said that a job took, in milliseconds: from its first report that it runs
/// to the first that it has ended. `course` is what it has reported, as `MOMENT STATE,…`.
fn reported(course: &str) -> Result<u64> {
    let told: Vec<(&str, &str)> =
        course.split(',').filter_map(|change| change.split_once(' ')).collect();
    let states: Vec<&str> = told.iter().map(|(_, state)| *state).collect();
    ensure!(states == ["Idle", "Run", "Idle", "Run", "Idle"], "{course}");
    let at = |nth: usize| told[nth].0.parse::<u64>();
    Ok(at(4)? - at(1)?)
}

/// GRBL says Idle during G4. The pause is shorter than `exit_for`, so it is part of the run.
#[test]
fn a_dwell_of_grbl_is_part_of_the_run_and_the_hours_are_those_of_the_job() -> Result<()> {
    let dir = work_dir("grbl-dwell")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(&dir, "activity = { from = \"execution\", exit_for = \"5 s\" }\n")?;
    let mut board = Board::start(&dir)?;
    board.wait_for_execution("router", "ready")?;
    let stalls = StallWatch::start();
    cnc.say("run")?;
    board.wait_for_execution("router", "running")?;
    sleep(Duration::from_secs(1));
    cnc.say("dwell 3")?;
    board.wait_for_value("router", "controller.state", |word| word == "Idle")?;
    let run = |machine: &Value| machine["activity"] == "run";
    board.always("router", Duration::from_millis(2200), run)?;
    board.wait_for_value("router", "controller.state", |word| word == "Run")?;
    board.always("router", Duration::from_secs(1), run)?;
    cnc.say("end")?;
    board.wait_for_execution("router", "finished")?;
    board.gateway.stop(PATIENCE)?;
    let counted = hours(&dir, "router")?["run_ms"].as_u64().context("run_ms")?;
    let job = reported(&cnc.ask("course")?)?;
    let bound = HANDED_ON_MS + u64::try_from(stalls.longest().as_millis())?;
    ensure!(counted.abs_diff(job) <= bound, "{counted} ms counted of {job} ms, {stalls:?}");
    Ok(())
}

#[test]
fn homing_door_and_alarm_of_grbl_are_told_apart_from_silence() -> Result<()> {
    let dir = work_dir("grbl-words")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(&dir, "")?;
    let board = Board::start(&dir)?;
    board.wait_for_execution("router", "ready")?;
    // Longer than a device may be silent before it is lost.
    cnc.say("home 20")?;
    board.wait_for_execution("router", "preparing")?;
    board.always("router", Duration::from_secs(7), |seen| seen["execution"] == "preparing")?;
    let log = std::fs::read_to_string(&board.gateway.log)?;
    ensure!(!log.contains("the device is lost"), "homing is no loss: {log}");
    board.wait_for_execution("router", "ready")?;
    cnc.say("run")?;
    board.wait_for_execution("router", "running")?;
    cnc.say("pins D")?;
    cnc.say("door")?;
    board.wait_for_execution("router", "paused")?;
    board.wait_for_value("router", "door", |open| open == true)?;
    cnc.say("pins")?;
    cnc.say("run")?;
    board.wait_for_value("router", "door", |open| open == false)?;
    // A hard limit: GRBL says it once, and then nothing until it is reset.
    cnc.say("alarm 1")?;
    board.wait_for_execution("router", "fault")?;
    board.wait_for_value("router", "message", |words| text(words).starts_with("ALARM:1 "))?;
    ensure!(board.value("router", "fault.code")? == 1.0);
    board.always("router", AT_ONCE, |seen| seen["execution"] == "fault")
}

/// The same number is a homing failure in one firmware, an emergency stop in another, and the
/// spindle's in a third.
#[test]
fn an_alarm_is_told_in_the_words_of_its_firmware() -> Result<()> {
    let dir = work_dir("grbl-flavours")?;
    let flavours = [
        ("grbl", "flavour = \"grbl\"", "fault", "second switch"),
        ("grblhal", "", "stopped", "emergency stop"),
        ("fluidnc", "", "fault", "spindle control"),
    ];
    let mut config = String::new();
    let mut fakes = Vec::new();
    for (flavour, option, ..) in flavours {
        let place = dir.join(flavour);
        std::fs::create_dir_all(&place)?;
        let port = place.join("tty");
        let arguments = ["--link", &port.to_string_lossy(), "--flavour", flavour];
        let Some(fake) = Fake::start("grbl_fake", &place, &arguments)? else { return Ok(()) };
        fakes.push(fake);
        config.push_str(&format!(
            "[source.{flavour}]\nprotocol = \"grbl\"\nport = \"{}\"\nowner = \"andon\"\n{option}\n\
             [machine.m-{flavour}]\nkind = \"router\"\nsource = \"{flavour}\"\n",
            port.display()
        ));
    }
    Workshop::new(&dir).with(&config).write(&dir)?;
    let board = Board::start(&dir)?;
    for ((flavour, option, execution, words), fake) in flavours.iter().zip(&mut fakes) {
        let machine = format!("m-{flavour}");
        board.wait_for_execution(&machine, "ready")?;
        // What it is is asked ("$I") when it is first seen idle, unless the configuration says it.
        if option.is_empty() {
            wait_for("the build report to be asked for", PATIENCE, || {
                fake.received().is_ok_and(|bytes| bytes.contains("2449"))
            })?;
        }
        fake.say("alarm 10")?;
        board.wait_for_execution(&machine, execution)?;
        board.wait_for_value(&machine, "message", |said| text(said).contains(words))?;
        ensure!(board.value(&machine, "fault.code")? == 10.0);
    }
    Ok(())
}

#[test]
fn a_grbl_that_is_unplugged_has_no_values_and_comes_back_when_plugged_in() -> Result<()> {
    let dir = work_dir("grbl-replug")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(&dir, "")?;
    let mut board = Board::start(&dir)?;
    cnc.say("run")?;
    board.wait_for_execution("router", "running")?;
    cnc.process.kill();
    let (pulled, stalls) = (Instant::now(), StallWatch::start());
    board.wait_for_value("router", "position.x", Value::is_null)?;
    let took = pulled.elapsed();
    ensure!(took < AT_ONCE + stalls.longest(), "{took:?}, {stalls:?}");
    let machine = board.wait_for_execution("router", "unknown")?;
    ensure!(machine["why"] == "disconnected", "{machine}");
    ensure!(board.device("cnc")?["state"] == "down");
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    board.wait_for_execution("router", "ready")?;
    cnc.say("run")?;
    board.wait_for_execution("router", "running")?;
    board.gateway.wait_for_line("the device is back", PATIENCE).map(drop)
}

#[test]
fn a_port_that_another_program_holds_is_refused_with_words_until_it_lets_go() -> Result<()> {
    let dir = work_dir("grbl-held")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(&dir, "")?;
    let sender = beside(&dir)?;
    flock(&sender, FlockOperation::NonBlockingLockExclusive)?;
    let board = Board::start(&dir)?;
    let words = "two programs on one port spoil both";
    wait_for("the refusal", PATIENCE, || {
        board.device("cnc").is_ok_and(|cnc| text(&cnc["why"]).contains(words))
    })?;
    ensure!(board.device("cnc")?["state"] == "down");
    ensure!(board.machine("router")?["execution"] == "unknown");
    ensure!(cnc.received()?.is_empty(), "not a byte may disturb the other program");
    drop(sender);
    board.wait_for_execution("router", "ready")?;
    // And andon itself is not joined by a second one.
    let other = dir.join("other");
    std::fs::create_dir_all(&other)?;
    std::os::unix::fs::symlink(std::fs::canonicalize(dir.join("tty"))?, other.join("tty"))?;
    router(&other, "")?;
    let second = Board::start(&other)?;
    wait_for("the second to be refused", PATIENCE, || {
        second.device("cnc").is_ok_and(|cnc| text(&cnc["why"]).contains(words))
    })?;
    board.always("router", AT_ONCE, |seen| seen["execution"] == "ready")
}

/// HUPCL is what would drop DTR at the last close, and so reset the board at the next opening.
/// Whoever opens the port turns it off; the test turns it on again, and sees if anybody opened.
#[test]
fn a_job_outlives_a_silent_board_and_a_killed_gateway() -> Result<()> {
    let dir = work_dir("grbl-job")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(&dir, "")?;
    let terminal = beside(&dir)?;
    set_hang_up(&terminal)?;
    // Under way before: even what it is must not be asked now.
    cnc.say("run")?;
    let mut board = Board::start(&dir)?;
    board.wait_for_execution("router", "running")?;
    ensure!(!hangs_up(&terminal)?, "closing the port would drop DTR");

    set_hang_up(&terminal)?;
    cnc.say("mute")?;
    let machine = board.wait_for_execution("router", "unknown")?;
    ensure!(machine["why"] == "timeout" || machine["why"] == "stale", "{machine}");
    wait_for("the device to count as silent", PATIENCE, || {
        board.device("cnc").is_ok_and(|cnc| cnc["state"] == "silent")
    })?;
    ensure!(hangs_up(&terminal)?, "the port was opened again while a job may be running");
    cnc.say("unmute")?;
    board.wait_for_execution("router", "running")?;
    ensure!(hangs_up(&terminal)?, "the port was opened again while a job was running");

    board.restart(&dir)?;
    board.wait_for_execution("router", "running")?;
    ensure!(!hangs_up(&terminal)?, "the next close would drop DTR");
    let position = board.value("router", "position.x")?.as_f64().context("x")?;
    board.wait_for_value("router", "position.x", above(position))?;
    let bytes = cnc.received()?;
    let (questions, others): (Vec<_>, Vec<_>) =
        bytes.as_bytes().chunks(2).partition(|byte| *byte == b"3f");
    ensure!(questions.len() > 10 && others.is_empty(), "sent during a job: {bytes}");
    Ok(())
}

#[test]
fn a_grbl_is_reset_by_a_rule_reads_it_back_and_stays_latched() -> Result<()> {
    let dir = work_dir("grbl-stop")?;
    let Some(mut cnc) = fake(&dir)? else { return Ok(()) };
    router(
        &dir,
        "[output.stop]\nkind = \"trip\"\nmachine = \"router\"\nstop = \"cnc.emergency\"\n\
         attempt_deadline = \"20 s\"\n\
         [rule.fast]\nmachine = \"router\"\nwhen = \"speed.spindle > 20000 rpm\"\n\
         clear = \"speed.spindle < 15000 rpm\"\non_unknown = \"alarm\"\n\
         severity = \"high\"\ntrip = \"stop\"\nmessage = \"The spindle runs away.\"\n",
    )?;
    let board = Board::start(&dir)?;
    cnc.say("spindle 12000")?;
    cnc.say("run")?;
    board.wait_for_execution("router", "running")?;
    board.wait_for_stop("router", "armed")?;
    ensure!(!cnc.received()?.contains("18"));
    cnc.say("spindle 24000")?;
    let stop = board.wait_for_stop("router", "latched")?;
    ensure!(stop["level"] == "C2" && stop["cause"] == "fast", "{stop}");
    let bytes = cnc.received()?;
    // One is enough: an attempt may last longer than the reading back takes on any busy machine.
    let resets = bytes.as_bytes().chunks(2).filter(|byte| *byte == b"18").count();
    ensure!(resets == 1, "one reset, not {resets}: {bytes}");
    // Reset while it moved: GRBL has lost its position, and says so.
    board.wait_for_execution("router", "stopped")?;
    board.wait_for_value("router", "execution", |word| word == "fault")?;
    board.wait_for_value("router", "message", |words| text(words).starts_with("ALARM:3"))?;
    board.wait_for_value("router", "speed.spindle", |speed| *speed == 0.0)?;
    board.always("router", AT_ONCE, |seen| seen["stop"]["phase"] == "latched")?;
    board.reset("fast")?;
    board.wait_for_stop("router", "armed").map(drop)
}
