//! What anybody may publish at a shared broker: far too much, far too long, or no text at all. The
//! gateway stays up, its memory stays bounded, and the devices beside it are read as ever.

use std::time::Duration;

use andon_tests::peers::{Mosquitto, replay};
use andon_tests::plugs::{Board, PATIENCE, Publisher};
use andon_tests::process::{wait_for, work_dir};
use anyhow::{Result, ensure};

use super::{at_home, device, has_mosquitto};

/// A megabyte, which is as much as is read.
const MEGABYTE: usize = 1024 * 1024;
/// A debug build with its buffers, and some forty messages of the longest kind on their way.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;
const VICTIM: &str = "protocol = \"json\"\ntopic = \"shop/victim\"\n\
     mapping = { \"power.active\" = \"w W\", \"temperature\" = \"air:t °C\" }";
const PLUG: &str = "protocol = \"tasmota\"\ntopic = \"plug-saw\"";

/// The plug beside the one that is flooded is answered, and has been all the time.
fn assert_unharmed(board: &Board, during: &str) -> Result<()> {
    let power = board.item("plug", "power.active")?;
    ensure!(power["value"] == 5.0, "{during}: {power}");
    ensure!(power["age_ms"].as_u64().is_some_and(|age| age < 3000), "{during}: {power}");
    Ok(())
}

#[test]
fn rubbish_and_floods_at_a_broker_harm_nobody_else() -> Result<()> {
    if !has_mosquitto() {
        return Ok(());
    }
    let dir = work_dir("flood")?;
    let Some(home) = Mosquitto::start(&dir)? else { return Ok(()) };
    let port = home.port.to_string();
    let Some(_plug) = replay("tasmota", &dir, &["--port", &port])? else { return Ok(()) };
    at_home(&dir, home.port)
        .with(&device("home", "victim", VICTIM))
        .with(&device("home", "plug", PLUG))
        .write(&dir)?;
    let mut board = Board::start(&dir)?;
    board.wait_for_value("plug", "power.active", 5.0)?;
    board.wait_for_device("victim", "silent", "")?;
    let publisher = Publisher(home.port);
    // One that does not take all its messages is opened again, and may miss some meanwhile.
    let usual = || {
        wait_for("the victim's next value", PATIENCE, || {
            publisher.say("shop/victim", r#"{"w":40}"#).ok();
            board.item("victim", "power.active").is_ok_and(|found| found["value"] == 40.0)
        })
    };
    usual()?;

    let long = format!(r#"{{"w":41,"x":"{}"}}"#, "x".repeat(MEGABYTE - 40));
    let longer = "9".repeat(2 * MEGABYTE);
    let deep = "[".repeat(100_000);
    let deep_object = format!("{}1{}", r#"{"w":"#.repeat(50_000), "}".repeat(50_000));
    let rubbish: [(&str, &[u8]); 8] = [
        ("no text", b"\xff\xfe\x80{\"w\":1}\xc3"),
        ("nothing", b""),
        ("NUL", b"\0\0\0"),
        ("a deep list", deep.as_bytes()),
        ("a deep object", deep_object.as_bytes()),
        ("a megabyte", long.as_bytes()),
        ("two megabytes", longer.as_bytes()),
        ("a huge number", b"{\"w\":1e999}"),
    ];
    for (what, payload) in rubbish {
        for topic in ["shop/victim", "shop/victim/air", "tele/plug-saw/X"] {
            publisher.bytes(topic, payload)?;
        }
        assert_unharmed(&board, what)?;
        usual()?;
        assert_unharmed(&board, what)?;
        if what == "two megabytes" {
            publisher.bytes("shop/victim", payload)?;
            board.wait_for_device("victim", "answering", "bytes at shop/victim")?;
        }
    }

    let mut lines = String::new();
    for n in 0..4000 {
        lines.push_str(&format!("{{\"w\":{n}}}\n"));
    }
    let mut floods =
        [publisher.lines("shop/victim", &lines)?, publisher.lines("shop/victim/air", &lines)?];
    wait_for("the flood to end", Duration::from_secs(20), || {
        assert_unharmed(&board, "a flood").ok();
        floods.iter_mut().all(|flood| !matches!(flood.try_wait(), Ok(None)))
    })?;
    assert_unharmed(&board, "after a flood")?;
    usual()?;
    for _ in 0..40 {
        publisher.bytes("shop/victim", long.as_bytes())?;
        assert_unharmed(&board, "megabytes")?;
    }
    usual()?;
    ensure!(board.process.running(), "the gateway has ended");
    let peak = board.memory_peak()?;
    eprintln!("flood: the gateway had at most {} MB", peak / 1_000_000);
    ensure!(peak < MEMORY_MAX, "{} MB", peak / 1_000_000);
    let log = std::fs::read_to_string(&board.process.log)?;
    ensure!(log.len() < MEGABYTE && !log.contains("panicked"), "{} bytes of log", log.len());
    Ok(())
}
