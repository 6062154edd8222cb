//! Printers and machine tools that cannot be had as a program: fakes written from their makers'
//! documentation, through the gateway to the board and the broker.

use std::time::Duration;

use andon_tests::machines::{Board, Fake};
use andon_tests::peers::Mosquitto;
use andon_tests::process::{Process, free_port, wait_for, work_dir};
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{printer, secret, stop_above};

const PATIENCE: Duration = Duration::from_secs(20);

/// A fake, the board, and what a subscriber of the broker hears.
struct Shop {
    fake: Fake,
    board: Board,
    heard: Process,
    /// What the execution has been so far, one after the other, and nothing else.
    expected: Vec<&'static str>,
    _broker: Mosquitto,
}

impl Shop {
    fn start(name: &str, protocol: &str, more: &str) -> Result<Option<Self>> {
        let dir = work_dir(name)?;
        let Some(fake) = Fake::start(&dir, name, "0")? else { return Ok(None) };
        let Some(broker) = Mosquitto::start(&dir)? else { return Ok(None) };
        let Some(heard) = broker.watch(&format!("andon/v1/{SITE}/#"))? else { return Ok(None) };
        let more = if more.is_empty() {
            String::new()
        } else {
            format!("password_file = \"{}\"", secret(&dir, "password", more)?)
        };
        let mqtt = format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n", broker.port);
        let source = printer(protocol, fake.port, &more);
        let board = Board::start(&dir, &Workshop::new(&dir).with(&mqtt).with(&source))?;
        Ok(Some(Self { fake, board, heard, expected: Vec::new(), _broker: broker }))
    }

    /// Gives a command and waits until the board and the broker have the execution it leads to.
    fn becomes(&mut self, command: &str, execution: &'static str) -> Result<()> {
        self.fake.say(command)?;
        self.reaches(execution)
    }

    fn reaches(&mut self, execution: &'static str) -> Result<()> {
        self.board.wait_for_execution("printer", execution)?;
        self.expected.push(execution);
        let what = format!("the broker to have {:?}", self.expected);
        wait_for(&what, PATIENCE, || self.executions().is_ok_and(|heard| heard == self.expected))
            .with_context(|| format!("it has {:?}", self.executions()))
    }

    /// Whether not a single request was needed to be told of three changes of a machine that runs.
    fn is_told_unasked(&mut self) -> Result<bool> {
        let asked = self.fake.say("requests")?;
        self.becomes("set estop TRIGGERED", "stopped")?;
        self.becomes("set estop ARMED", "running")?;
        self.becomes("set exec INTERRUPTED", "paused")?;
        Ok(self.fake.say("requests")? == asked)
    }

    fn waits_for_value(&self, item: &str, value: &Value) -> Result<()> {
        let what = format!("{item} to be {value}");
        self.board.wait_for("printer", &what, |shown| shown.value(item) == *value).map(drop)
    }

    /// Not one message of the broker's said that the item had no value.
    fn never_missed(&self, item: &str) -> Result<()> {
        let log = std::fs::read_to_string(&self.heard.log)?;
        let told = log.matches(&format!("\"{item}\":")).count();
        let missing = log.matches(&format!("\"{item}\":{{\"q\"")).count();
        ensure!(told > 10 && missing == 0, "{item}: told {told} times, missing {missing} times");
        Ok(())
    }

    /// Every change of the execution that the broker has passed on, from the first that is known.
    fn executions(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(&self.heard.log)?;
        let topic = format!("andon/v1/{SITE}/printer/state ");
        let states = log.lines().filter_map(|line| line.strip_prefix(&topic));
        let states = states.filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let words = states.filter_map(|state| Some(state["execution"].as_str()?.to_owned()));
        let mut words: Vec<String> = words.skip_while(|word| word == "unknown").collect();
        words.dedup();
        Ok(words)
    }
}

#[test]
fn prusalink_reaches_board_and_broker_and_stale_nonces_cost_nothing() -> Result<()> {
    let Some(mut shop) = Shop::start("prusalink", "prusalink", "secret")? else { return Ok(()) };
    shop.reaches("ready")?;
    shop.becomes("print vase.gcode", "running")?;
    shop.waits_for_value("job.name", &"vase.gcode".into())?;
    shop.fake.say("progress 42")?;
    shop.fake.say("nozzle 214.9 215")?;
    shop.waits_for_value("progress", &0.42.into())?;
    shop.waits_for_value("temperature.nozzle", &214.9.into())?;
    for (word, execution) in [
        ("BUSY", "preparing"),
        ("ATTENTION", "paused"),
        ("FINISHED", "finished"),
        ("ERROR", "fault"),
        ("STOPPED", "ready"),
        ("NONSENSE", "unknown"),
        ("PRINTING", "running"),
    ] {
        shop.becomes(&format!("state {word}"), execution)?;
    }
    // Twenty requests use a nonce up by themselves; and it may be forgotten at any time.
    let before: u64 = shop.fake.say("requests")?.parse()?;
    for _ in 0..3 {
        shop.fake.say("expire")?;
        shop.becomes("state PAUSED", "paused")?;
        shop.becomes("state PRINTING", "running")?;
    }
    let log = std::fs::read_to_string(&shop.board.gateway.log)?;
    assert!(!log.contains("trouble="), "a nonce that went stale is no trouble: {log}");
    wait_for("two nonces to be used up", PATIENCE, || {
        let asked = shop.fake.say("requests").unwrap_or_default().parse::<u64>();
        asked.is_ok_and(|asked| asked > before + 45)
    })?;
    shop.never_missed("temperature.nozzle")?;
    Ok(())
}

#[test]
fn a_duet_reaches_board_and_broker_through_a_forgotten_session() -> Result<()> {
    let Some(mut shop) = Shop::start("duet", "duet", "secret")? else { return Ok(()) };
    shop.reaches("ready")?;
    shop.becomes("print bracket.g", "running")?;
    shop.fake.say("position 1000")?;
    shop.fake.say("heater 1 205.5 210 active")?;
    shop.waits_for_value("progress", &0.25.into())?;
    shop.waits_for_value("temperature.nozzle", &205.5.into())?;
    shop.waits_for_value("temperature.target.nozzle", &210.0.into())?;
    shop.board.wait_for("printer", "the job's name", |shown| {
        shown.value("job.name").as_str().is_some_and(|name| name.ends_with("bracket.g"))
    })?;
    for (word, execution) in [
        ("paused", "paused"),
        ("changingTool", "preparing"),
        ("halted", "stopped"),
        ("off", "off"),
        ("starting", "unknown"),
        ("processing", "running"),
    ] {
        shop.becomes(&format!("state {word}"), execution)?;
    }
    shop.becomes("heater 1 205.5 210 fault", "fault")?;
    shop.becomes("heater 1 205.5 210 active", "running")?;
    // The board forgets the session: a new one, and not even one missing value on the board.
    for _ in 0..3 {
        shop.fake.say("expire")?;
        shop.becomes("state paused", "paused")?;
        shop.becomes("state processing", "running")?;
    }
    assert_eq!(shop.fake.say("sessions")?, "1", "no session is left behind");
    shop.never_missed("temperature.nozzle")?;
    Ok(())
}

#[test]
fn an_mtconnect_agent_that_restarts_or_runs_away_shows_no_wrong_value() -> Result<()> {
    let Some(mut shop) = Shop::start("mtconnect_agent", "mtconnect", "")? else { return Ok(()) };
    // An agent that answers is not a machine that answers.
    shop.board.wait_for("printer", "an answer", |shown| shown.why("execution") == "sentinel")?;
    assert_eq!(shop.board.machine("printer")?.execution(), "unknown");
    for command in ["set avail AVAILABLE", "set estop ARMED", "condition system Normal"] {
        shop.fake.say(command)?;
    }
    for (word, execution) in [
        ("READY", "ready"),
        ("ACTIVE", "running"),
        ("FEED_HOLD", "paused"),
        ("PROGRAM_COMPLETED", "finished"),
        ("NONSENSE", "unknown"),
        ("ACTIVE", "running"),
    ] {
        shop.becomes(&format!("set exec {word}"), execution)?;
    }
    // It tells by itself. An agent that stood still for seconds is asked anew, and so it is tried
    // again: one that has to be asked for every change is asked the second time, too.
    if !shop.is_told_unasked()? {
        shop.becomes("set exec ACTIVE", "running")?;
        ensure!(shop.is_told_unasked()?, "changes were asked for");
    }
    shop.becomes("condition system Fault 401 Servo alarm", "fault")?;
    shop.becomes("condition system Normal", "paused")?;
    shop.fake.say("set Sact 12000")?;
    shop.fake.say("set Xact 17.5")?;
    shop.waits_for_value("position.x", &17.5.into())?;

    // More than the buffer holds in one period: what was lost is said, what is shown is true.
    shop.fake.say("flood 500")?;
    shop.board.wait_for_words("printer", "a gap: observations")?;
    shop.waits_for_value("position.x", &499.0.into())?;
    shop.waits_for_value("speed.spindle", &12000.0.into())?;
    shop.board.gateway.wait_for_line("a gap: observations", PATIENCE)?;

    // A new instance counts from 1 again, and knows nothing: nor does the board. This one does not
    // tell by itself.
    shop.fake.say("once")?;
    shop.fake.say("restart")?;
    shop.reaches("unknown")?;
    shop.board.wait_for("printer", "nothing", |shown| shown.value("position.x").is_null())?;
    shop.board.gateway.wait_for_line("the agent was restarted", PATIENCE)?;
    shop.fake.say("set avail AVAILABLE")?;
    shop.fake.say("set estop ARMED")?;
    shop.becomes("set exec ACTIVE", "running")?;
    assert_eq!(shop.board.machine("printer")?.value("position.x"), Value::Null);
    // The adapter behind the agent is gone.
    shop.becomes("lost", "unknown")?;
    // Of two executions none is taken for the machine's.
    shop.fake.say("twin")?;
    shop.fake.say("restart")?;
    shop.board.wait_for_words("printer", "several executions; name one with path: path, path2")
}

#[test]
fn a_machine_without_its_peer_is_unknown_until_it_comes() -> Result<()> {
    let dir = work_dir("absent")?;
    let port = free_port()?;
    let password = format!("password_file = \"{}\"", secret(&dir, "password", "secret")?);
    let workshop = Workshop::new(&dir).with(&printer("prusalink", port, &password));
    let mut board = Board::start(&dir, &workshop)?;
    board.wait_for("printer", "a reason", |shown| {
        shown.execution() == "unknown"
            && shown.0["why"].as_str().is_some()
            && shown.why("temperature.nozzle") == "disconnected"
    })?;
    board.wait_for_words("printer", "the device cannot be reached")?;
    board.gateway.wait_for_line("Connection refused", PATIENCE)?;
    let Some(mut fake) = Fake::start(&dir, "prusalink", &port.to_string())? else { return Ok(()) };
    let shown = board.wait_for_execution("printer", "ready")?;
    assert_eq!(shown.value("temperature.nozzle"), 23.5);
    // It is switched off in the middle of a job: nothing is shown of it that it does not say.
    fake.say("print vase.gcode")?;
    board.wait_for_execution("printer", "running")?;
    fake.kill();
    board.wait_for("printer", "to be lost", |shown| {
        shown.execution() == "unknown" && shown.value("temperature.nozzle").is_null()
    })?;
    let Some(_again) = Fake::start(&dir, "prusalink", &port.to_string())? else { return Ok(()) };
    board.wait_for_execution("printer", "ready").map(drop)
}

#[test]
fn a_printer_that_takes_its_time_to_stop_is_latched_once_it_stands() -> Result<()> {
    let dir = work_dir("slow-stop")?;
    let Some(mut fake) = Fake::start(&dir, "prusalink", "0")? else { return Ok(()) };
    let password = format!("password_file = \"{}\"", secret(&dir, "password", "secret")?);
    let source = printer("prusalink", fake.port, &password);
    let workshop = Workshop::new(&dir).with(&source).with(&stop_above("cancel", 250));
    let board = Board::start(&dir, &workshop)?;
    board.wait_for_stop("printer", "armed")?;
    fake.say("print vase.gcode")?;
    board.wait_for_execution("printer", "running")?;
    // It takes the command, and then retracts and parks; commands meanwhile are refused.
    fake.say("slow")?;
    fake.say("nozzle 260 215")?;
    board.wait_for("printer", "the stop to be echoed", |shown| {
        let stop = &shown.0["stop"];
        stop["level"] == "C1" && stop["phase"] != "latched"
    })?;
    fake.say("settle")?;
    let stop = board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["trouble"].is_null(), "{stop}");
    // The rule trips again while there is no job any more: that it stands is what counts.
    fake.say("nozzle 200 215")?;
    board.wait_for("printer", "to cool", |shown| shown.value("temperature.nozzle") == 200.0)?;
    fake.say("nozzle 260 215")?;
    std::thread::sleep(2 * super::LAG);
    let stop = board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["trouble"].is_null(), "{stop}");
    Ok(())
}

#[test]
fn a_duets_emergency_stop_is_read_back_and_latched() -> Result<()> {
    let dir = work_dir("duet-stop")?;
    let Some(mut fake) = Fake::start(&dir, "duet", "0")? else { return Ok(()) };
    let password = format!("password_file = \"{}\"", secret(&dir, "password", "secret")?);
    let source = printer("duet", fake.port, &password);
    // Longer than the reading back takes on any busy machine: a second attempt would be no fault.
    let patient = "stop = \"printer.emergency\"\nattempt_deadline = \"20 s\"";
    let stop = stop_above("emergency", 250).replace("stop = \"printer.emergency\"", patient);
    let workshop = Workshop::new(&dir).with(&source).with(&stop);
    let board = Board::start(&dir, &workshop)?;
    board.wait_for_stop("printer", "armed")?;
    fake.say("print bracket.g")?;
    board.wait_for_execution("printer", "running")?;
    fake.say("heater 1 260 210 active")?;
    let stop = board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["trouble"].is_null(), "{stop}");
    board.wait_for("printer", "halted", |shown| shown.value("execution") == "stopped")?;
    assert_eq!(fake.say("codes")?, "M112", "once, and nothing else");
    Ok(())
}
