//! A plug that is asked over HTTP and wants its password: digest, with nonces that expire.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command};

use andon_tests::peers::need;
use andon_tests::plugs::{Board, PATIENCE};
use andon_tests::process::{Process, work_dir};
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::type_to;

const PASSWORD: &str = "nine wet cats";
const RULE: &str = "[output.off]\nkind = \"trip\"\nmachine = \"plug\"\nstop = \"plug.off\"\n\
                    attempts = 2\n\
                    [rule.overload]\nmachine = \"plug\"\nwhen = \"power.active > 2 kW\"\n\
                    clear = \"power.active < 1.5 kW\"\non_unknown = \"alarm\"\ntrip = \"off\"\n\
                    message = \"Too much.\"\n";

/// Starts the plug and writes a configuration that knows `password`.
fn start(dir: &Path, password: &str) -> Result<Option<(Process, ChildStdin)>> {
    let Some(python) = need("python3") else { return Ok(None) };
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/shelly_http.py"));
    command.args(["--password", PASSWORD]);
    let (mut process, stdin) = Process::start_interactive("shelly", dir, &mut command)?;
    let line = process.wait_for_line("listening ", PATIENCE)?;
    let port = line.split_whitespace().nth(1).context("a port")?;
    let file = dir.join("password");
    fs::write(&file, password)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Workshop::new(dir)
        .with(&format!(
            "[source.plug]\nprotocol = \"shelly-http\"\nhost = \"127.0.0.1\"\nport = {port}\n\
             password_file = \"{}\"\nperiod = \"200 ms\"\n\
             [machine.plug]\nkind = \"other\"\nsource = \"plug\"\n{RULE}",
            file.display()
        ))
        .write(dir)?;
    Ok(Some((process, stdin)))
}

/// How many requests were answered, and how many nonces were given out.
fn asked(plug: &mut Process, stdin: &mut ChildStdin) -> Result<(u64, u64)> {
    fs::write(&plug.log, "")?;
    type_to(stdin, "asked")?;
    let line = plug.wait_for_line("answered ", PATIENCE)?;
    let words: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    Ok((*words.first().context("answered")?, *words.get(1).context("nonces")?))
}

#[test]
fn a_plug_with_a_password_is_read_and_switched_off_while_its_nonces_expire() -> Result<()> {
    let dir = work_dir("digest")?;
    let Some((mut plug, mut stdin)) = start(&dir, PASSWORD)? else { return Ok(()) };
    let board = Board::start(&dir)?;
    board.wait_for_value("plug", "power.active", 73.2)?;
    for watts in [80.0, 90.0, 100.0, 110.0] {
        type_to(&mut stdin, &format!("power {watts}"))?;
        board.wait_for_value("plug", "power.active", watts)?;
        ensure!(board.item("plug", "power.active")?["why"].is_null());
    }
    board.wait_for_device("plug", "answering", "")?;
    board.wait_for_stop("plug", "armed", Value::Null)?;
    type_to(&mut stdin, "power 2500")?;
    board.wait_for_stop("plug", "latched", "C2")?;
    board.wait_for_value("plug", "relay.1", false)?;
    let (answered, nonces) = asked(&mut plug, &mut stdin)?;
    ensure!(nonces >= 3 && answered > nonces, "{answered} answered with {nonces} nonces");
    let device = board.device("plug")?;
    ensure!(device["errors"] == 0, "an old nonce was taken for a failure: {device}");
    let log = fs::read_to_string(&board.process.log)?;
    ensure!(!log.contains(PASSWORD), "the password is in the log");
    Ok(())
}

#[test]
fn a_wrong_password_is_named_and_stays_out_of_the_log() -> Result<()> {
    let dir = work_dir("digest-wrong")?;
    let Some((mut plug, mut stdin)) = start(&dir, "nine dry cats")? else { return Ok(()) };
    let board = Board::start(&dir)?;
    board.wait_for_unknown("plug", "power.active", "refused")?;
    board.wait_for_device("plug", "silent", "401: the password of user admin is not accepted")?;
    let (answered, _) = asked(&mut plug, &mut stdin)?;
    ensure!(answered == 0, "{answered} answered without the password");
    let log = fs::read_to_string(&board.process.log)?;
    let told = log.matches("401").count();
    ensure!(told <= 3 && !log.contains("nine dry cats"), "{log}");
    Ok(())
}
