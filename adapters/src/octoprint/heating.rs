//! Whether a job that OctoPrint calls `Printing` waits for a heater. OctoPrint has no word for it,
//! but three facts that tell: what a heater is to have, what it has, and its place in the file, which
//! stands still while the printer does not answer the line that waits.
//!
//! A heater is cold from [`COLD`] degrees below its target on, until less than [`WARM`] are missing.
//! A job that has just begun prepares, for its first lines say what is to be heated, until its nozzle
//! is warm or its file goes on: homing and levelling belong to it. While a nozzle is cold nothing is
//! printed, and the lines before the wait do not count, unless they go on for [`GOES_ON_COLD`] looks.
//! After that, and where the job's beginning was not seen, the file must have stood for [`STANDS`] as
//! well: a heater that sags, or is turned up, while the file goes on is no preparation. It lasts until
//! the file goes on, for firmware waits until a temperature has held; while something is still cold,
//! until it does so at two looks in a row: such a job prints, however cold its bed.
//!
//! What cannot be told stays *running*: a wait for something to cool, a file on the printer's own
//! card (its place is known too rarely), a heater without a reading.

use std::time::Duration;

use andon_engine::time::BootTime;
use serde_json::Value as Json;

/// Degrees below its target from which on a heater is cold.
const COLD: f64 = 5.0;

/// Degrees below its target at which it is cold no more: firmware waits for a window about its
/// target, and a heater that is held there swings by a degree or so.
const WARM: f64 = 2.0;

/// How long the file must stand: longer than the long moves of a large print usually take.
const STANDS: Duration = Duration::from_secs(3);

/// Looks that are closer than this are one: OctoPrint tells twice a second, and is asked besides.
const LOOK: Duration = Duration::from_millis(400);

/// How many looks in a row the file must have gone on, for a cold printer to print.
const GOES_ON: u8 = 2;

/// The same while the nozzle of a job that has just begun is cold: five seconds at least.
const GOES_ON_COLD: u8 = 12;

/// What is known of the job on its way.
#[derive(Debug, Default)]
pub(super) struct Heating {
    job: Job,
    /// Where the file stood when it was last looked at, and when that was.
    place: Option<(f64, BootTime)>,
    /// Since when it has stood there.
    stood: BootTime,
    /// Looks in a row at which it had gone on.
    gone_on: u8,
    /// A heater is.
    cold: bool,
    /// A nozzle is.
    nozzle_cold: bool,
    prepares: bool,
    /// It prepared when it was asked to hold.
    held: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Job {
    /// Nothing has been heard yet: one that prints may have done so for long.
    #[default]
    Unheard,
    /// There is none.
    None,
    /// No nozzle has been warm in it, and its file has not gone on for long.
    Beginning,
    /// It has printed, or may have.
    Begun,
}

impl Heating {
    /// Forgets all: what was missed is not known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// There is no job, or one that does not print just now: it `goes_on` later, or not. Returns
    /// whether it was preparing when it was asked to hold: it does so until it holds.
    pub(super) fn rests(&mut self, goes_on: bool) -> bool {
        let job = if goes_on { self.job } else { Job::None };
        let held = goes_on && (self.prepares || self.held);
        *self = Self { job, held, ..Self::default() };
        held
    }

    /// A job prints, by OctoPrint's word. Returns whether it prepares: `place` is how far the file has
    /// been read, `temperatures` are those that were told with it, if any.
    pub(super) fn prepares(
        &mut self,
        now: BootTime,
        place: Option<f64>,
        temperatures: Option<&Json>,
    ) -> bool {
        self.job = match self.job {
            Job::Unheard => Job::Begun,
            Job::None => Job::Beginning,
            known => known,
        };
        self.held = false;
        self.look(now, place);
        self.feel(temperatures);
        let begins_cold = self.job == Job::Beginning && self.nozzle_cold;
        let goes_on = self.gone_on >= if begins_cold { GOES_ON_COLD } else { GOES_ON };
        if goes_on {
            self.job = Job::Begun;
        }
        let stands = self.gone_on == 0;
        let waits = match self.job {
            // Its first lines set what is to be heated; what they will set is not told yet.
            Job::Beginning => true,
            _ if self.prepares => stands || self.cold,
            _ => self.cold && now.since(self.stood) >= STANDS,
        };
        self.prepares = self.place.is_some() && !goes_on && waits;
        self.prepares
    }

    /// Takes temperatures, if there are any.
    fn feel(&mut self, temperatures: Option<&Json>) {
        let Some(heaters) = temperatures.and_then(Json::as_object) else { return };
        if heaters.is_empty() {
            return;
        }
        let is_warm = |(name, heater): (&String, &Json)| {
            name.starts_with("tool") && lacks(heater, f64::NEG_INFINITY, WARM)
        };
        if heaters.iter().any(is_warm) {
            if self.job == Job::Beginning {
                // Where the file went until now, it went cold.
                self.gone_on = 0;
            }
            self.job = Job::Begun;
        }
        let missing = if self.cold { WARM } else { COLD };
        let mut cold = heaters.iter().filter(|(_, heater)| lacks(heater, missing, f64::INFINITY));
        self.cold = cold.clone().next().is_some();
        self.nozzle_cold = cold.any(|(name, _)| name.starts_with("tool"));
    }

    fn look(&mut self, now: BootTime, place: Option<f64>) {
        match (self.place, place) {
            (Some((_, at)), Some(_)) if now.since(at) < LOOK => {}
            (Some((before, _)), Some(place)) if before == place => {
                self.place = Some((place, now));
                self.gone_on = 0;
            }
            (before, Some(place)) => {
                self.gone_on = before.map_or(0, |_| self.gone_on.saturating_add(1));
                (self.place, self.stood) = (Some((place, now)), now);
            }
            (_, None) => (self.place, self.gone_on) = (None, 0),
        }
    }
}

/// Whether a heater that is turned on lacks at least `least` degrees and less than `most`.
fn lacks(heater: &Json, least: f64, most: f64) -> bool {
    let number = |name: &str| heater.get(name).and_then(Json::as_f64);
    let target = number("target").filter(|target| *target > 0.0);
    let missing = target.zip(number("actual")).map(|(target, actual)| target - actual);
    missing.is_some_and(|missing| (least..most).contains(&missing))
}

#[cfg(test)]
#[path = "heating_tests.rs"]
mod tests;
