//! The gateway is killed at any moment around a protective stop, and after its reset: a stop that its
//! journal has before the kill stands when the gateway is back, and a reset that was answered stays.
//!
//! A stop is commanded, and shown, before its record is written; how often a kill falls in between is
//! printed. The ordinary run kills a share; `ANDON_LATCH_KILLS` sets the count.

use std::time::Duration;

use andon_engine::event::TripPhase;
use andon_tests::process::{Dice, count_from_env, wait_for, work_dir};
use anyhow::{Result, ensure};

use crate::trips::{COOL, HOT, Line, tcp_bus, written};

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
    for nth in 1..=kills {
        line.wait_for_phase("armed")?;
        line.devices.say(&format!("set 11 temperature={HOT}"))?;
        std::thread::sleep(Duration::from_millis(dice.below(LIFE_MAX_MS)));
        if nth == kills {
            // One stop is written before its kill, however slow the computer is.
            let is_written = || {
                let phase = written(&dir).ok().flatten();
                phase.is_some_and(|phase| phase != TripPhase::Armed)
            };
            wait_for("the stop to be written", PATIENCE, is_written)?;
        }
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
        line.restart(&dir)?;
        ensure!(!is_latched(&line)?, "a reset was answered and is undone");
        resets += 1;
    }
    eprintln!(
        "killed {kills} times around a stop and after its reset: {stops} stops had been written and \
         {resets} resets answered, none was lost; {unwritten} stops were shown and not written yet"
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
