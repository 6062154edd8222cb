//! The demo's printer as a model: it heats up, prints, is paused once in a job for another filament,
//! finishes, and waits until somebody takes the print off its bed. No clock, no socket; bound: one job.

use super::world::{AMBIENT, Happening};
use crate::simulate::{JobShows, PrinterShows};

/// A job, with times in seconds.
struct Job {
    file: &'static str,
    lasts: f64,
    /// How far it is when its filament is changed.
    paused_at: f64,
    /// How high the print becomes, mm.
    height: f64,
}

/// The jobs, over and over.
const JOBS: [Job; 3] = [
    Job { file: "spool-holder.gcode", lasts: 1500.0, paused_at: 1450.0, height: 42.0 },
    Job { file: "knob-x4.gcode", lasts: 520.0, paused_at: 210.0, height: 18.0 },
    Job { file: "cable-clip-x12.gcode", lasts: 410.0, paused_at: 150.0, height: 8.0 },
];
/// How far the first job is when the demo starts: nobody waits half an hour to see an end.
const PRINTED_AT_START: f64 = 1422.0;
const FIRST_NUMBER: u64 = 128;
/// How long a filament takes to change, a bed is left uncleared, and a printer is left alone.
const PAUSED_FOR: f64 = 14.0;
const UNCLEARED_FOR: f64 = 25.0;
const IDLE_FOR: f64 = 12.0;
/// Targets while a job is on.
const NOZZLE: f64 = 215.0;
const BED: f64 = 60.0;
/// A job begins to print when both are as near to their targets.
const NEAR: f64 = 1.0;
/// °C per second with the heater full on, and what is lost of the distance to the air without.
const NOZZLE_HEATS: f64 = 4.5;
const NOZZLE_COOLS: f64 = 0.02;
const BED_HEATS: f64 = 1.1;
const BED_COOLS: f64 = 0.005;
/// Watts: the electronics, each heater full on and holding, the motors.
const AT_REST: f64 = 9.0;
const NOZZLE_FULL: f64 = 40.0;
const NOZZLE_HOLDS: f64 = 22.0;
const BED_FULL: f64 = 180.0;
const BED_HOLDS: f64 = 55.0;
const MOTORS: f64 = 38.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Heating,
    Printing,
    Paused,
    Finished,
}

/// The printer at one moment.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    phase: Phase,
    /// Seconds in this phase, and of the job.
    since: f64,
    printed: f64,
    /// Jobs before this one.
    done: usize,
    nozzle: f64,
    bed: f64,
}

impl Default for Printer {
    fn default() -> Self {
        let (phase, printed) = (Phase::Printing, PRINTED_AT_START);
        Self { phase, since: 0.0, printed, done: 0, nozzle: NOZZLE, bed: BED }
    }
}

impl Printer {
    /// Goes on by `seconds`.
    pub(super) fn step(&mut self, seconds: f64) -> Option<Happening> {
        self.since += seconds;
        let [nozzle, bed] = self.targets();
        self.nozzle = heated(self.nozzle, nozzle, NOZZLE_HEATS * seconds, NOZZLE_COOLS * seconds);
        self.bed = heated(self.bed, bed, BED_HEATS * seconds, BED_COOLS * seconds);
        let job = self.job();
        match self.phase {
            Phase::Idle if self.since >= IDLE_FOR => {
                self.printed = 0.0;
                self.enter(Phase::Heating, Some(Happening::PrintBegins))
            }
            Phase::Heating if self.is_hot() => self.enter(Phase::Printing, None),
            Phase::Printing => {
                let before = self.printed;
                self.printed = (before + seconds).min(job.lasts);
                if before < job.paused_at && self.printed >= job.paused_at {
                    self.enter(Phase::Paused, Some(Happening::PrintPaused))
                } else if self.printed >= job.lasts {
                    self.enter(Phase::Finished, Some(Happening::PrintDone))
                } else {
                    None
                }
            }
            Phase::Paused if self.since >= PAUSED_FOR => {
                self.enter(Phase::Printing, Some(Happening::PrintGoesOn))
            }
            Phase::Finished if self.since >= UNCLEARED_FOR => {
                self.done += 1;
                self.enter(Phase::Idle, Some(Happening::PrintCleared))
            }
            _ => None,
        }
    }

    fn enter(&mut self, phase: Phase, happening: Option<Happening>) -> Option<Happening> {
        (self.phase, self.since) = (phase, 0.0);
        happening
    }

    fn job(&self) -> &'static Job {
        &JOBS[self.done % JOBS.len()]
    }

    /// Of nozzle and bed; zero is off.
    fn targets(&self) -> [f64; 2] {
        match self.phase {
            Phase::Heating | Phase::Printing | Phase::Paused => [NOZZLE, BED],
            Phase::Idle | Phase::Finished => [0.0, 0.0],
        }
    }

    fn is_hot(&self) -> bool {
        self.nozzle >= NOZZLE - NEAR && self.bed >= BED - NEAR
    }

    /// What it draws, in watts.
    pub(super) fn power(&self) -> f64 {
        let [nozzle, bed] = self.targets();
        let draws = |actual: f64, target: f64, full: f64, holds: f64| match target {
            target if target <= 0.0 => 0.0,
            target if actual < target - NEAR => full,
            _ => holds,
        };
        AT_REST
            + draws(self.nozzle, nozzle, NOZZLE_FULL, NOZZLE_HOLDS)
            + draws(self.bed, bed, BED_FULL, BED_HOLDS)
            + if self.phase == Phase::Printing { MOTORS } else { 0.0 }
    }

    /// What its web interface tells.
    pub(super) fn shows(&self) -> PrinterShows {
        let (job, tenth) = (self.job(), |number: f64| (number * 10.0).round() / 10.0);
        let [nozzle, bed] = self.targets();
        let share = self.printed / job.lasts;
        PrinterShows {
            state: match self.phase {
                Phase::Idle => "IDLE",
                Phase::Heating => "BUSY",
                Phase::Printing => "PRINTING",
                Phase::Paused => "PAUSED",
                Phase::Finished => "FINISHED",
            },
            nozzle: [tenth(self.nozzle + self.wobble(nozzle)), nozzle],
            bed: [tenth(self.bed + self.wobble(bed) / 4.0), bed],
            height: tenth(share * job.height),
            job: (self.phase != Phase::Idle).then_some(JobShows {
                id: FIRST_NUMBER + self.done as u64,
                file: job.file,
                progress: tenth(share * 100.0),
                printing: self.printed as u64,
                remaining: (job.lasts - self.printed).ceil() as u64,
            }),
        }
    }

    /// A controller holds its target within half a degree.
    fn wobble(&self, target: f64) -> f64 {
        if target > 0.0 { ((self.since + self.printed) * 0.7).sin() * 0.4 } else { 0.0 }
    }
}

/// A temperature that goes up by `rise` at most, or loses `share` of its distance to the air.
fn heated(actual: f64, target: f64, rise: f64, share: f64) -> f64 {
    if actual < target {
        (actual + rise).min(target)
    } else {
        (actual - (actual - AMBIENT) * share).max(target.max(AMBIENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens until `end`, and when, in whole seconds.
    fn watch(printer: &mut Printer, end: f64) -> Vec<(u64, Happening)> {
        let mut seen = Vec::new();
        for tenth in 1..=(end * 10.0) as u64 {
            seen.extend(printer.step(0.1).map(|happening| (tenth / 10, happening)));
        }
        seen
    }

    #[test]
    fn a_print_is_paused_goes_on_ends_and_is_cleared_within_two_minutes() {
        let mut printer = Printer::default();
        let seen = watch(&mut printer, 140.0);
        let what: Vec<_> = seen.iter().map(|(_, happening)| *happening).collect();
        let paused_to_next = [
            Happening::PrintPaused,
            Happening::PrintGoesOn,
            Happening::PrintDone,
            Happening::PrintCleared,
            Happening::PrintBegins,
        ];
        assert_eq!(what, paused_to_next, "{seen:?}");
        assert!(seen[0].0 < 30, "the pause is seen in a demo of half a minute: {seen:?}");
    }

    #[test]
    fn it_draws_power_whenever_it_says_that_it_works_and_prints_only_when_hot() {
        let mut printer = Printer::default();
        for _ in 0..20_000 {
            printer.step(0.1);
            let (shows, watts) = (printer.shows(), printer.power());
            let works = ["BUSY", "PRINTING"].contains(&shows.state);
            assert!(!works || watts > 60.0, "{shows:?} at {watts} W");
            assert!(shows.state != "IDLE" || watts < 10.0, "{shows:?} at {watts} W");
            assert!(shows.state != "PRINTING" || shows.nozzle[0] > 210.0, "{shows:?}");
            assert_eq!(shows.job.is_none(), shows.state == "IDLE");
            assert!(shows.job.is_none_or(|job| (0.0..=100.0).contains(&job.progress)));
        }
    }
}
