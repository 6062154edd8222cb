//! What anybody may publish at a shared broker: far too much, far too long, or no text at all. The
//! gateway stays up, its memory stays bounded, and the devices beside it are read as ever.

use std::process::ChildStdin;
use std::time::Duration;

use andon_tests::peers::{Mosquitto, replay};
use andon_tests::plugs::{Board, PATIENCE, Publisher};
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::stalls::StallWatch;
use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

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

/// How old the plug's values may be: ten periods.
const YOUNG: Duration = Duration::from_secs(3);
/// A pause of the plug or its broker, in seconds, that can leave three questions of 300 ms without an
/// answer.
const HELD_UP: f64 = 0.6;
/// How long after such a pause the plug may still be shown as absent, in seconds: until the next
/// answers are there.
const SHOWN_AFTER: f64 = 2.0;

/// A broker with a plug, and a device beside it that is to suffer.
struct Shop {
    board: Board,
    publisher: Publisher,
    plug: (Process, ChildStdin),
    stalls: StallWatch,
    _home: Mosquitto,
}

/// The moment that the plug's beats are told in, in seconds.
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)).as_secs_f64()
}

impl Shop {
    fn start(name: &str) -> Result<Option<Self>> {
        if !has_mosquitto() {
            return Ok(None);
        }
        let dir = work_dir(name)?;
        let Some(home) = Mosquitto::start(&dir)? else { return Ok(None) };
        let port = home.port.to_string();
        let Some(mut plug) = replay("tasmota_beating", &dir, &["--port", &port])? else {
            return Ok(None);
        };
        plug.0.wait_for_line("beat ", PATIENCE)?;
        at_home(&dir, home.port)
            .with(&device("home", "victim", VICTIM))
            .with(&device("home", "plug", PLUG))
            .write(&dir)?;
        let board = Board::start(&dir)?;
        board.wait_for_value("plug", "power.active", 5.0)?;
        board.wait_for_device("victim", "silent", "")?;
        let (publisher, stalls) = (Publisher(home.port), StallWatch::start());
        let shop = Self { board, publisher, plug, stalls, _home: home };
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

    /// The plug beside it is answered, and has been all the time. It is right to show it as absent
    /// where it was: when it or its broker stood still.
    fn assert_unharmed(&self, during: &str) -> Result<()> {
        let looked = now();
        let power = self.board.item("plug", "power.active")?;
        if power["why"] == "timeout" && self.was_held_up(looked)? {
            return Ok(());
        }
        ensure!(power["value"] == 5.0, "{during}: {power}");
        let young = YOUNG + self.stalls.longest();
        let age = power["age_ms"].as_u64().map(Duration::from_millis);
        ensure!(age.is_some_and(|age| age < young), "{during}: {power}, {:?}", self.stalls);
        Ok(())
    }

    /// Whether, just before it was looked at, the plug did not even hear itself through the broker.
    fn was_held_up(&self, looked: f64) -> Result<bool> {
        let log = std::fs::read_to_string(&self.plug.0.log)?;
        let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let beats = whole.filter_map(|line| line.strip_prefix("beat ")?.parse().ok());
        let mut beats: Vec<f64> = beats.collect();
        beats.push(now());
        let paused = |pair: &[f64]| pair[1] - pair[0] > HELD_UP;
        Ok(beats.windows(2).any(|pair| pair[1] > looked - SHOWN_AFTER && paused(pair)))
    }

    /// It runs, on bounded memory, has not filled its log, and has the plug.
    fn assert_bounded(&mut self) -> Result<()> {
        self.board.wait_for_value("plug", "power.active", 5.0)?;
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
    // Words that are not said again are forgotten, perhaps before anybody has looked.
    wait_for("the board to say what was thrown away", PATIENCE, || {
        shop.publisher.say("shop/victim", r#"{"w":40}"#).ok();
        shop.publisher.bytes("shop/victim", longer.as_bytes()).ok();
        shop.board.device("victim").is_ok_and(|victim| {
            let why = victim["why"].as_str().unwrap_or_default();
            victim["state"] == "answering" && why.contains(&thrown_away)
        })
    })?;
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
