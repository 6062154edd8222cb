//! A Bambu Lab printer, which is its own broker: TLS with a certificate that it signed itself, a
//! login, reports of which most say only what has changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};

use andon_tests::peers::{Mosquitto, need, replay};
use andon_tests::plugs::{Board, PATIENCE};
use andon_tests::process::{Process, free_port, work_dir};
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::type_to;

const CODE: &str = "12345678";

struct Printer {
    dir: PathBuf,
    port: u16,
    process: Process,
    stdin: ChildStdin,
}

impl Printer {
    /// A printer with a certificate of its own, made anew at every start.
    fn start(dir: &Path) -> Result<Option<Self>> {
        for program in ["mosquitto", "mosquitto_passwd", "openssl"] {
            if need(program).is_none() {
                return Ok(None);
            }
        }
        let port = free_port()?;
        let started = switch_on(dir, port)?;
        Ok(started.map(|(process, stdin)| Self { dir: dir.to_owned(), port, process, stdin }))
    }

    fn say(&mut self, line: &str) -> Result<()> {
        type_to(&mut self.stdin, line)
    }

    /// Switches it off and on again, with other keys.
    fn replace(&mut self) -> Result<()> {
        self.process.kill();
        let (process, stdin) = switch_on(&self.dir, self.port)?.context("a replay")?;
        (self.process, self.stdin) = (process, stdin);
        Ok(())
    }

    fn workshop(&self, code: &str, rest: &str) -> Result<Workshop> {
        let file = self.dir.join("code");
        fs::write(&file, code)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(Workshop::new(&self.dir).with(&format!(
            "[source.bambu]\nprotocol = \"bambu\"\nhost = \"127.0.0.1\"\nport = {}\n\
             serial_number = \"01S00C123400001\"\npassword_file = \"{}\"\nperiod = \"500 ms\"\n\
             [machine.printer]\nkind = \"fdm-printer\"\nsource = \"bambu\"\n{rest}",
            self.port,
            file.display()
        )))
    }

    fn pin(&self) -> PathBuf {
        self.dir.join("state/pins/bambu")
    }
}

fn switch_on(dir: &Path, port: u16) -> Result<Option<(Process, ChildStdin)>> {
    let (folder, port) = (dir.to_string_lossy(), port.to_string());
    let name = "bambu";
    // The log of an earlier printer must not be taken for this one's.
    fs::remove_file(dir.join("bambu.log")).ok();
    replay(name, dir, &["--port", &port, "--dir", &folder])
}

/// What openssl takes the printer's certificate for.
fn fingerprint(dir: &Path) -> Result<String> {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(dir.join("server.pem"));
    let told = String::from_utf8(command.output()?.stdout)?;
    let digits = told.trim().split('=').nth(1).context("a fingerprint")?;
    Ok(digits.replace(':', "").to_ascii_lowercase())
}

#[test]
fn a_printers_job_is_shown_on_the_board_and_at_the_broker_and_changes_are_merged() -> Result<()> {
    let dir = work_dir("bambu")?;
    let Some(mut printer) = Printer::start(&dir)? else { return Ok(()) };
    fs::create_dir_all(dir.join("site"))?;
    let Some(broker) = Mosquitto::start(&dir.join("site"))? else { return Ok(()) };
    let Some(mut watch) = broker.watch("andon/v1/test/printer/#")? else { return Ok(()) };
    printer.workshop(CODE, "")?.mqtt(broker.port).write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_value("printer", "execution", "ready")?;
    board.wait_for_device("bambu", "answering", "")?;
    ensure!(fs::read_to_string(printer.pin())?.trim() == fingerprint(&dir)?, "another pin");

    for (line, item, expected) in [
        ("state PREPARE 2", "execution", "preparing"),
        ("state RUNNING 0", "execution", "running"),
        ("state PAUSE 16", "execution", "paused"),
        ("state RUNNING 33", "execution", "fault"),
        ("state RUNNING 0", "execution", "running"),
        ("set subtask_name \"齿轮\"", "job.name", "齿轮"),
        ("set print_error 50348044", "message", "cancelled by a person"),
        (
            "set hms [{\"attr\":83886592,\"code\":131073}]",
            "message",
            "cancelled by a person, HMS_0500_0200_0002_0001",
        ),
    ] {
        printer.say(line)?;
        board.wait_for_value("printer", item, expected)?;
    }
    // Each of these is said once, alone; afterwards all of them stand together.
    let numbers = [
        ("nozzle_temper 219.5", "temperature.nozzle", 219.5),
        ("nozzle_target_temper 220", "temperature.target.nozzle", 220.0),
        ("bed_temper 59.75", "temperature.bed", 59.75),
        ("mc_percent 42", "progress", 0.42),
        ("mc_remaining_time 90", "job.left", 5400.0),
        ("layer_num 17", "job.layer", 17.0),
    ];
    for (words, item, expected) in numbers {
        printer.say(&format!("set {words}"))?;
        board.wait_for_value("printer", item, expected)?;
    }
    for (_, item, expected) in numbers {
        board.wait_for_value("printer", item, expected)?;
    }
    board.wait_for_value("printer", "job.name", "齿轮")?;
    for fragment in ["HMS_0500_0200_0002_0001", "219.5", "\"progress\":0.42", "齿轮"] {
        watch.wait_for_line(fragment, PATIENCE)?;
    }
    Ok(())
}

#[test]
fn a_printer_with_another_certificate_is_refused_until_a_person_removes_the_pin() -> Result<()> {
    let dir = work_dir("bambu-pin")?;
    let Some(mut printer) = Printer::start(&dir)? else { return Ok(()) };
    printer.workshop(CODE, "")?.write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_device("bambu", "answering", "")?;
    let pinned = fs::read_to_string(printer.pin())?;

    printer.replace()?;
    let remove = format!("remove {}", printer.pin().display());
    let why = board.wait_for_device("bambu", "down", &remove)?;
    ensure!(why.contains("pinned"), "{why}");
    board.wait_for_unknown("printer", "temperature.nozzle", "disconnected")?;
    ensure!(fs::read_to_string(printer.pin())? == pinned, "the pin was replaced");

    fs::remove_file(printer.pin())?;
    board.wait_for_device("bambu", "answering", "")?;
    board.wait_for_value("printer", "temperature.nozzle", 25.0)?;
    ensure!(fs::read_to_string(printer.pin())?.trim() == fingerprint(&dir)?, "another pin");
    Ok(())
}

#[test]
fn a_wrong_access_code_is_named_and_pins_nothing() -> Result<()> {
    let dir = work_dir("bambu-code")?;
    let Some(printer) = Printer::start(&dir)? else { return Ok(()) };
    printer.workshop("wrong-code", "")?.write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_device("bambu", "down", "the broker refuses user and password")?;
    board.wait_for_unknown("printer", "temperature.nozzle", "disconnected")?;
    ensure!(!printer.pin().exists(), "a printer that let nobody in was pinned");
    let log = fs::read_to_string(&board.process.log)?;
    ensure!(!log.contains("wrong-code"), "the code is in the log");
    Ok(())
}

const RULE: &str = "[output.cut]\nkind = \"trip\"\nmachine = \"printer\"\nstop = \"bambu.cancel\"\n\
                    attempts = 2\n\
                    [rule.hot]\nmachine = \"printer\"\nwhen = \"temperature.nozzle > 280 °C\"\n\
                    clear = \"temperature.nozzle < 250 °C\"\non_unknown = \"alarm\"\n\
                    trip = \"cut\"\nmessage = \"The nozzle is too hot.\"\n";

#[test]
fn a_rule_cancels_the_job_and_the_stop_is_read_back_and_latched() -> Result<()> {
    let dir = work_dir("bambu-stop")?;
    let Some(mut printer) = Printer::start(&dir)? else { return Ok(()) };
    printer.workshop(CODE, RULE)?.write(&dir)?;
    let board = Board::start(&dir)?;
    printer.say("state RUNNING 0")?;
    board.wait_for_value("printer", "execution", "running")?;
    board.wait_for_stop("printer", "armed", Value::Null)?;
    printer.say("set nozzle_temper 290")?;
    let stop = board.wait_for_stop("printer", "latched", "C2")?;
    ensure!(stop["cause"] == "hot", "{stop}");
    board.wait_for_value("printer", "execution", "ready")?;
    board.wait_for_value("printer", "message", "cancelled by a person")
}

#[test]
fn a_printer_that_wants_signed_commands_is_a_failed_stop_that_says_so() -> Result<()> {
    let dir = work_dir("bambu-signed")?;
    let Some(mut printer) = Printer::start(&dir)? else { return Ok(()) };
    printer.workshop(CODE, RULE)?.write(&dir)?;
    let board = Board::start(&dir)?;
    printer.say("signed")?;
    printer.say("state RUNNING 0")?;
    board.wait_for_value("printer", "execution", "running")?;
    printer.say("set nozzle_temper 290")?;
    let stop = board.wait_for_stop("printer", "failed", "C0")?;
    let words = stop["trouble"].as_str().unwrap_or_default();
    ensure!(words.contains("signed commands") && words.contains("developer mode"), "{stop}");
    board.wait_for_value("printer", "execution", "running")
}

#[test]
fn a_printer_that_is_slow_to_cancel_is_a_failed_stop_until_it_has() -> Result<()> {
    let dir = work_dir("bambu-slow")?;
    let Some(mut printer) = Printer::start(&dir)? else { return Ok(()) };
    printer.workshop(CODE, RULE)?.write(&dir)?;
    let board = Board::start(&dir)?;
    printer.say("state RUNNING 0")?;
    board.wait_for_value("printer", "execution", "running")?;
    printer.say("deaf")?;
    printer.say("set nozzle_temper 290")?;
    // Every attempt is accepted; none is read back.
    let stop = board.wait_for_stop("printer", "failed", "C1")?;
    let words = stop["trouble"].as_str().unwrap_or_default();
    ensure!(words.contains("does not answer"), "{stop}");
    printer.say("set print_error 50348044")?;
    printer.say("state FAILED -1")?;
    board.wait_for_stop("printer", "latched", "C2").map(drop)
}
