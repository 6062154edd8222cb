//! Two of a kind in one place: each state folder belongs to one process, each name at a broker to
//! one client; who meets another is told. And a journal that was deleted starts as another one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use andon::journal::{BootId, Reader, Stream};
use andon_tests::andon as binary;
use andon_tests::peers::{Mosquitto, need};
use andon_tests::process::{Process, work_dir};
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Context as _, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than `andon tap` waits for something retained.
const TAP: Duration = Duration::from_secs(5);

fn recorder(dir: &Path, port: u16, name: &str, state: &str) -> Command {
    let broker = format!("127.0.0.1:{port}");
    let mut command = binary::andon(&["record", "--name", name, "--broker", &broker]);
    // Nothing is recorded here: there need not be a store.
    command.args(["--site", SITE, "--store", "http://127.0.0.1:9", "--state"]).arg(dir.join(state));
    command
}

#[test]
fn a_second_recorder_is_told_whose_folder_and_whose_name_it_takes() -> Result<()> {
    let dir = work_dir("recorders")?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let start = |log: &str, name: &str, state: &str| {
        Process::start(log, &dir, &mut recorder(&dir, broker.port, name, state))
    };
    let mut first = start("first", "main", "one")?;
    first.wait_for_line("the broker is reached", PATIENCE)?;
    let mut second = start("second", "main", "one")?;
    let told = second.wait_for_line("is in use by process", PATIENCE)?;
    let folder = dir.join("one").display().to_string();
    let whose = format!("process {};", first.id());
    ensure!(told.contains(&folder) && told.contains(&whose), "{told}");
    ensure!(!second.running() || second.stop(PATIENCE).is_ok(), "it must have ended");
    // Another name may share the folder; the same name elsewhere may not share the broker.
    let mut neighbour = start("neighbour", "spare", "one")?;
    neighbour.wait_for_line("the broker is reached", PATIENCE)?;
    let mut twin = start("twin", "main", "two")?;
    let words = "another client uses this id";
    let told =
        twin.wait_for_line(words, PATIENCE).or_else(|_| first.wait_for_line(words, PATIENCE));
    let told = told?;
    let complete = ["WARN", "andon-record-main", "a --name of its own"];
    ensure!(complete.iter().all(|word| told.contains(word)), "{told}");
    ensure!(neighbour.running(), "who has done nothing goes on");
    Ok(())
}

#[test]
fn a_second_gateway_on_a_state_folder_ends_and_says_whose_it_is() -> Result<()> {
    let dir = work_dir("gateways")?;
    let config = Workshop::new(&dir).write(&dir)?;
    let mut first = binary::run(&dir, &config)?;
    let output = binary::output(&["run", "--config", &config.to_string_lossy()])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{told}");
    let folder = dir.join("state").display().to_string();
    let whose = format!("process {};", first.id());
    ensure!(told.contains(&folder) && told.contains(&whose), "{told}");
    ensure!(first.running(), "the first goes on");
    first.kill();
    binary::run(&dir, &config).map(drop)
}

#[test]
fn numbers_of_a_deleted_journal_are_never_taken_for_new_ones() -> Result<()> {
    let dir = work_dir("deleted")?;
    let config = Workshop::new(&dir).write(&dir)?;
    let run = || -> Result<(BootId, u64)> {
        binary::run(&dir, &config)?.stop(PATIENCE)?;
        let mut events = Reader::open(&dir.join("state/journal"))?.records(Stream::Events)?;
        let last = events.by_ref().last().context("an event")?;
        Ok((last.boot, last.seq))
    };
    let (boot, seq) = run()?;
    let (same, later) = run()?;
    ensure!(boot == same && later > seq, "one folder in one boot goes on");
    std::fs::remove_dir_all(dir.join("state"))?;
    let (other, again) = run()?;
    ensure!(again <= later, "a new journal begins anew: {again}");
    ensure!(other != boot, "… and under the boot id of the old one, {boot}");
    Ok(())
}

#[test]
fn tap_says_when_nothing_is_retained_where_it_listens() -> Result<()> {
    let dir = work_dir("tap")?;
    let Some(broker) = Mosquitto::start(&dir)? else { return Ok(()) };
    let Some(publish) = need("mosquitto_pub") else { return Ok(()) };
    let port = broker.port.to_string();
    let topic = format!("andon/v1/{SITE}/_gateway/status");
    let mut command = Command::new(publish);
    command.args(["-h", "127.0.0.1", "-p", &port, "-r", "-t", &topic, "-m", "{\"online\":true}"]);
    ensure!(command.status()?.success(), "mosquitto_pub");
    let tap = |name: &str, arguments: &[&str]| {
        let mut command = binary::andon(&["tap", "--broker", &format!("127.0.0.1:{port}")]);
        Process::start(name, &dir, command.args(arguments))
    };
    let silent = "nothing is retained there";
    let mut nowhere = tap("nowhere", &["--site", "tset"])?;
    let mut nobody = tap("nobody", &["--site", SITE, "--machine", "lasre"])?;
    let mut here = tap("here", &["--site", SITE])?;
    let told = nowhere.wait_for_line(silent, PATIENCE)?;
    ensure!(told.contains("andon/v1/tset/+/#"), "{told}");
    let told = nobody.wait_for_line(silent, PATIENCE)?;
    ensure!(told.contains(&format!("andon/v1/{SITE}/lasre/#")), "{told}");
    here.wait_for_line("online true", PATIENCE)?;
    ensure!(here.wait_for_line(silent, TAP).is_err(), "something is retained here");
    Ok(())
}
