//! The gateway is killed at any moment around a protective stop and around its reset: what its journal
//! has of either before the kill is how it stands when the gateway is back.
//!
//! A stop is commanded, and shown, before its record is written, and a reset is answered before; how
//! often a kill falls in between is printed. The ordinary run kills a share; `ANDON_LATCH_KILLS` sets
//! the count.

use std::path::Path;
use std::time::Duration;

use andon::journal::{Payload, Reader, Stream};
use andon_engine::event::{Event, TripPhase};
use andon_tests::process::{Dice, count_from_env, wait_for, work_dir};
use anyhow::{Result, ensure};

use crate::trips::{COOL, HOT, Line, tcp_bus};

const PATIENCE: Duration = Duration::from_secs(20);
/// The latest moment of a kill after the crossing: the stop is latched by then.
const LIFE_MAX_MS: u64 = 400;
/// The latest moment of a kill after a reset was accepted.
const RESET_MAX_MS: u64 = 20;

#[test]
fn a_stop_and_a_reset_that_are_in_the_journal_survive_kills() -> Result<()> {
    let dir = work_dir("latch-kills")?;
    let mut line = Line::start(&dir, &["--tcp", "127.0.0.1:0"], tcp_bus)?;
    let mut dice = Dice::seeded("latch kills");
    let kills = count_from_env("ANDON_LATCH_KILLS", 5);
    let (mut stops, mut resets, mut unwritten) = (0, 0, 0);
    for _ in 0..kills {
        line.wait_for_phase("armed")?;
        line.devices.say(&format!("set 11 temperature={HOT}"))?;
        std::thread::sleep(Duration::from_millis(dice.below(LIFE_MAX_MS)));
        let shown = line.stop()?["phase"] != "armed";
        let written = written(&dir)?.is_some_and(|phase| phase != TripPhase::Armed);
        line.gateway.kill();
        // Nothing that can be measured now asks for a stop.
        line.devices.say(&format!("set 11 temperature={COOL}"))?;
        line.restart(&dir)?;
        let latched = is_latched(&line)?;
        ensure!(latched || !written, "a stop was in the journal and is not latched");
        stops += u32::from(written);
        unwritten += u32::from(shown && !latched);
        if !latched {
            continue;
        }
        line.reset()?;
        std::thread::sleep(Duration::from_millis(dice.below(RESET_MAX_MS)));
        let reset = self::written(&dir)? == Some(TripPhase::Armed);
        line.restart(&dir)?;
        let latched = is_latched(&line)?;
        ensure!(!latched || !reset, "a reset was in the journal and is undone");
        resets += u32::from(reset);
        unwritten += u32::from(latched);
        if latched {
            line.reset()?;
        }
    }
    eprintln!(
        "killed {kills} times around a stop and after its reset: {stops} stops and {resets} resets \
         had been written, none was lost; {unwritten} were shown and not written yet"
    );
    ensure!(stops > 0 && resets > 0, "nothing was written before a kill");
    Ok(())
}

/// How the stop stands, once the gateway has said so.
fn is_latched(line: &Line) -> Result<bool> {
    let mut latched = None;
    wait_for("the stop to be shown again", PATIENCE, || {
        let stop = line.stop().unwrap_or_default();
        latched = match stop["phase"].as_str() {
            Some("armed") => Some(false),
            Some("latched") => Some(true),
            _ => None,
        };
        latched.is_some()
    })?;
    Ok(latched == Some(true))
}

/// What the journal says of the stop at last.
fn written(dir: &Path) -> Result<Option<TripPhase>> {
    let events = Reader::open(&dir.join("state/journal"))?.records(Stream::Events)?;
    let phases = events.filter_map(|record| match record.payload {
        Payload::Event(Event::Trip { state, .. }) => Some(state.phase),
        _ => None,
    });
    Ok(phases.last())
}
