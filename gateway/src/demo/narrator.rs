//! Tells a spectator what happens, from two independent sources: what was done to the world, and
//! what the gateway wrote into its journal about it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::{Confirmation, Event, Execution, TripPhase};
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use tokio::time::Instant;

use super::world::Happening;
use crate::cli::say;
use crate::journal::{Follower, Journal, Payload, Stream};

/// Records read at once.
const BATCH: usize = 500;

/// How often the journal is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Machines whose controllers are told of: they change seldom enough.
const CONTROLLERS: [&str; 2] = ["printer-a", "router"];

/// The machine whose meter dies.
const DRILL_PRESS: &str = "drill-press";

/// What has been seen.
#[derive(Debug, Default)]
struct Seen {
    readings: u64,
    missing: u64,
    stops: u32,
    /// When the running stop was commanded.
    commanded: Option<BootTime>,
    read_back: Option<Duration>,
    proved: Option<Duration>,
    meter_known: bool,
    meter_lost: u32,
    meter_back: u32,
    /// What each of [`CONTROLLERS`] is doing.
    doing: [Option<Execution>; CONTROLLERS.len()],
}

impl Seen {
    /// Tells what the machines with a controller are doing, and how the drill press's meter is.
    fn note_activity(
        &mut self,
        machine: &str,
        execution: Execution,
        why: Option<Unavailable>,
        tell: &dyn Fn(&str),
    ) {
        let known = execution != Execution::Unknown;
        if let Some(place) = CONTROLLERS.iter().position(|controller| *controller == machine) {
            // Before its first answer nothing is known of any machine, which is no news.
            let before = self.doing[place];
            if before != Some(execution) && (known || before.is_some()) {
                self.doing[place] = Some(execution);
                tell(&format!("{machine}: {}", execution.word()));
            }
        }
        if machine != DRILL_PRESS {
            return;
        }
        match (std::mem::replace(&mut self.meter_known, known), known) {
            (true, false) => {
                self.meter_lost += 1;
                let why = why.map_or("no reason", |why| why.word());
                tell(&format!("{machine}: no data ({why})"));
            }
            (false, true) if self.meter_lost > self.meter_back => {
                self.meter_back += 1;
                tell(&format!("{machine}: {}", execution.word()));
            }
            _ => {}
        }
    }
}

/// Where the world's happenings are told.
#[derive(Clone)]
pub(super) struct Stage(Instant);

impl Stage {
    /// Tells a happening of the world.
    pub(super) fn tell(&self, happening: Happening) {
        let words = match happening {
            Happening::PumpFails => "the laser's pump stands still; its water is getting warm",
            Happening::PumpRepaired => "somebody repaired the pump and reset the stop",
            Happening::MeterDies => "the drill press's meter stops answering",
            Happening::MeterReturns => "the drill press's meter answers again",
            Happening::PrintBegins => "printer A heats up for its next job",
            Happening::PrintPaused => "somebody pauses printer A to change its filament",
            Happening::PrintGoesOn => "printer A goes on with the new filament",
            Happening::PrintDone => "printer A is through; the print stays on its bed",
            Happening::PrintCleared => "somebody takes the print off printer A's bed",
            Happening::ProgramBegins => "the router runs a program",
            Happening::DoorOpens => "somebody opens the router's door in the midst of its program",
            Happening::DoorCloses => "the router's door is closed; its spindle comes up again",
            Happening::ProgramEnds => "the router's program is through",
            Happening::LimitHit => "the router runs into a limit switch",
            Happening::RouterReset => "somebody frees the router and presses its reset button",
            Happening::RouterUnlocked => "somebody unlocks the router",
        };
        line(self.0, &format!("world    {words}"));
    }
}

/// Follows the journal.
pub(super) struct Narrator {
    started: Instant,
    events: RefCell<Follower>,
    telemetry: RefCell<Follower>,
    seen: RefCell<Seen>,
}

fn line(started: Instant, words: &str) {
    let seconds = started.elapsed().as_secs();
    // The workshop goes on, whether or not anybody can be told.
    say(&format!("{:02}:{:02}  {words}", seconds / 60, seconds % 60)).ok();
}

impl Narrator {
    pub(super) fn new(started: Instant, journal: &Arc<Journal>) -> Self {
        Self {
            started,
            events: RefCell::new(journal.follow(Stream::Events, None)),
            telemetry: RefCell::new(journal.follow(Stream::Telemetry, None)),
            seen: RefCell::default(),
        }
    }

    /// Where the world tells.
    pub(super) fn stage(&self) -> Stage {
        Stage(self.started)
    }

    /// Tells for ever.
    pub(super) async fn tell(&self) {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            self.catch_up();
        }
    }

    /// Reads and tells what the journal has got meanwhile.
    pub(super) fn catch_up(&self) {
        loop {
            let events = self.events.borrow_mut().next(BATCH);
            let telemetry = self.telemetry.borrow_mut().next(BATCH);
            if events.is_empty() && telemetry.is_empty() {
                return;
            }
            for record in events {
                if let Payload::Event(event) = record.payload {
                    self.note(&event);
                }
            }
            let mut seen = self.seen.borrow_mut();
            for record in telemetry {
                if let Payload::Observation(observation) = record.payload {
                    seen.readings += observation.items.len() as u64;
                    let missing = observation.items.iter().filter(|(_, value)| value.is_err());
                    seen.missing += missing.count() as u64;
                }
            }
        }
    }

    fn note(&self, event: &Event) {
        let tell = |words: &str| line(self.started, &format!("gateway  {words}"));
        let mut seen = self.seen.borrow_mut();
        match event {
            Event::Alarm { state, .. } if state.active == Some(true) && !state.acked => {
                tell(&format!("alarm {}: {} {}", state.alarm, state.machine, state.cause));
            }
            Event::Trip { at, state } => match (state.phase, state.level) {
                (TripPhase::Tripping, Some(Confirmation::C0)) if state.trouble.is_none() => {
                    seen.commanded = Some(*at);
                    seen.stops += 1;
                    tell(&format!("{}: stop commanded", state.machine));
                }
                (TripPhase::Latched, Some(Confirmation::C2)) => {
                    seen.read_back = seen.commanded.map(|commanded| at.since(commanded));
                    let took = seen.read_back.unwrap_or_default().as_secs_f64() * 1e3;
                    tell(&format!("{}: output read back open after {took:.1} ms", state.machine));
                }
                (TripPhase::Latched, Some(Confirmation::C3)) => {
                    seen.proved = seen.commanded.map(|commanded| at.since(commanded));
                    let took = seen.proved.unwrap_or_default().as_secs_f64();
                    let machine = &state.machine;
                    tell(&format!("{machine}: power off, proved by its meter after {took:.1} s"));
                }
                (TripPhase::Failed, _) => {
                    let trouble = state.trouble.as_deref().unwrap_or("it is not confirmed");
                    tell(&format!("{}: THE STOP FAILED: {trouble}", state.machine));
                }
                (TripPhase::Armed, _) if seen.stops > 0 => {
                    tell(&format!("{}: stop armed again", state.machine));
                }
                _ => {}
            },
            Event::Activity { machine, execution, why, .. } => {
                seen.note_activity(machine, *execution, *why, &tell);
            }
            _ => {}
        }
    }

    /// What happened, in one line.
    pub(super) fn summary(&self, elapsed: Duration) -> String {
        let seen = self.seen.borrow();
        let stop = match (seen.read_back, seen.proved) {
            (Some(read_back), Some(proved)) => format!(
                "{} stop, read back after {:.1} ms and proved after {:.1} s",
                seen.stops,
                read_back.as_secs_f64() * 1e3,
                proved.as_secs_f64()
            ),
            (Some(read_back), None) => format!(
                "{} stop, read back after {:.1} ms, not proved yet",
                seen.stops,
                read_back.as_secs_f64() * 1e3
            ),
            _ => "no stop".to_owned(),
        };
        format!(
            "demo: {:.0} s, {} readings ({} missing, each with its reason), {stop}, meter lost {} \
             and back {}",
            elapsed.as_secs_f64(),
            seen.readings,
            seen.missing,
            seen.meter_lost,
            seen.meter_back
        )
    }
}
