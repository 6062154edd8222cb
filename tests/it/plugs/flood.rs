//! What anybody may publish at a shared broker: far too much, far too long, or no text at all. The
//! gateway stays up, its memory stays bounded, and the devices beside it are read as ever.

use std::process::ChildStdin;

use andon_tests::peers::{Mosquitto, replay};
use andon_tests::plugs::{Board, PATIENCE, Publisher};
use andon_tests::process::{Process, wait_for, work_dir};
use anyhow::{Result, ensure};

use super::{at_home, device, has_mosquitto};

/// A megabyte, which is as much as is read.
const MEGABYTE: usize = 1024 * 1024;
/// Messages of this length, one after the other.
const MEGABYTES: usize = 40;
/// A debug build, usually 40 MB, and the longest messages that may wait for one device.
const MEMORY_MAX: u64 = 128 * 1024 * 1024;
const VICTIM: &str = "protocol = \"json\"\ntopic = \"shop/victim\"\n\
     mapping = { \"power.active\" = \"w W\", \"temperature\" = \"air:t °C\" }";
const PLUG: &str = "protocol = \"tasmota\"\ntopic = \"plug-saw\"";

/// A broker with a plug, and a device beside it that is to suffer.
struct Shop {
    board: Board,
    publisher: Publisher,
    _plug: (Process, ChildStdin),
    _home: Mosquitto,
}

impl Shop {
    fn start(name: &str) -> Result<Option<Self>> {
        if !has_mosquitto() {
            return Ok(None);
        }
        let dir = work_dir(name)?;
        let Some(home) = Mosquitto::start(&dir)? else { return Ok(None) };
        let port = home.port.to_string();
        let Some(plug) = replay("tasmota", &dir, &["--port", &port])? else { return Ok(None) };
        at_home(&dir, home.port)
            .with(&device("home", "victim", VICTIM))
            .with(&device("home", "plug", PLUG))
            .write(&dir)?;
        let board = Board::start(&dir)?;
        board.wait_for_value("plug", "power.active", 5.0)?;
        board.wait_for_device("victim", "silent", "")?;
        let shop = Self { board, publisher: Publisher(home.port), _plug: plug, _home: home };
        shop.assert_hears()?;
        Ok(Some(shop))
    }

    /// The victim is read as usual, if not at once: one that does not take all its messages is
    /// opened again, and may miss some meanwhile.
    fn assert_hears(&self) -> Result<()> {
        wait_for("the victim's next value", PATIENCE, || {
            self.publisher.say("shop/victim", r#"{"w":40}"#).ok();
            self.board.item("victim", "power.active").is_ok_and(|found| found["value"] == 40.0)
        })
    }

    /// The plug beside it is answered, and has been all the time.
    fn assert_unharmed(&self, during: &str) -> Result<()> {
        let power = self.board.item("plug", "power.active")?;
        ensure!(power["value"] == 5.0, "{during}: {power}");
        ensure!(power["age_ms"].as_u64().is_some_and(|age| age < 3000), "{during}: {power}");
        Ok(())
    }

    /// It runs, on bounded memory, and has not filled its log.
    fn assert_bounded(&mut self) -> Result<()> {
        ensure!(self.board.process.running(), "the gateway has ended");
        let peak = self.board.memory_peak()?;
        eprintln!("the gateway had at most {} MB", peak / 1_000_000);
        ensure!(peak < MEMORY_MAX, "{} MB", peak / 1_000_000);
        let log = std::fs::read_to_string(&self.board.process.log)?;
        ensure!(log.len() < MEGABYTE && !log.contains("panicked"), "{} bytes of log", log.len());
        Ok(())
    }
}

/// As long as is read.
fn long() -> String {
    format!(r#"{{"w":41,"x":"{}"}}"#, "x".repeat(MEGABYTE - 40))
}

#[test]
fn rubbish_at_a_broker_harms_nobody_else() -> Result<()> {
    let Some(mut shop) = Shop::start("rubbish")? else { return Ok(()) };
    let long = long();
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
        ("a huge number", b"{\"w\":1e999}"),
        ("two megabytes", longer.as_bytes()),
    ];
    for (what, payload) in rubbish {
        for topic in ["shop/victim/air", "tele/plug-saw/X", "shop/victim"] {
            shop.publisher.bytes(topic, payload)?;
        }
        shop.assert_unharmed(what)?;
        shop.assert_hears()?;
        shop.assert_unharmed(what)?;
    }
    let thrown_away = format!("a message of {} bytes at shop/victim was thrown away", 2 * MEGABYTE);
    shop.board.wait_for_device("victim", "answering", &thrown_away)?;
    shop.assert_bounded()
}

#[test]
fn a_flood_at_a_broker_harms_nobody_else_and_memory_is_bounded() -> Result<()> {
    let Some(mut shop) = Shop::start("flood")? else { return Ok(()) };
    let lines: Vec<String> = (0..4000).map(|n| format!("{{\"w\":{n}}}\n")).collect();
    let lines = lines.concat();
    let mut floods = [
        shop.publisher.lines("shop/victim", &lines)?,
        shop.publisher.lines("shop/victim/air", &lines)?,
    ];
    let mut harm = None;
    wait_for("the flood to end", PATIENCE, || {
        harm = harm.take().or(shop.assert_unharmed("a flood").err());
        floods.iter_mut().all(|flood| !matches!(flood.try_wait(), Ok(None)))
    })?;
    harm.map_or(Ok(()), Err)?;
    shop.assert_hears()?;
    for _ in 0..MEGABYTES {
        shop.publisher.bytes("shop/victim", long().as_bytes())?;
        shop.assert_unharmed("megabytes")?;
    }
    shop.assert_hears()?;
    shop.assert_bounded()
}
