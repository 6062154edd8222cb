//! From a recording to bands: proposed, or refused with the reason.
//!
//! A threshold lies between what the lower phase rarely exceeds and what the upper one rarely falls
//! below, nearer to the lower, which is the steadier. Its hysteresis is the greater of
//! [`HYSTERESIS_LEAST`] of it and [`HYSTERESIS_DEVIATIONS`] of the lower phase's deviation. A run
//! that keeps falling back to idle (a heater that is switched, a tool between two cuts) is judged by
//! its upper mode, and `exit_for` is made longer than its dips. Two phases that power cannot tell
//! apart get no bands: hours counted by them would be guesses.

use std::time::Duration;

use andon_engine::plan::{ActivityPlan, Band, ItemIndex};

use super::distribution::{Distribution, best_edge, d_prime, modes, resolution};
use super::verdict::{Oddity, Refusal, Separation};
use super::{Phase, Recording, Sample};

/// Samples with a value that each phase needs: a mean and a deviation of fewer say little.
pub const SAMPLES_LEAST: usize = 20;
/// Phases nearer to each other than this d′ cannot be told apart.
pub const D_PRIME_LEAST: f64 = 2.0;
/// Nor those of which even the best threshold puts more than this share on the wrong side.
pub const OVERLAP_MOST: f64 = 0.02;
/// Hysteresis as a share of the threshold, at least …
pub const HYSTERESIS_LEAST: f64 = 0.05;
/// … and in deviations of the lower phase, at least.
pub const HYSTERESIS_DEVIATIONS: f64 = 3.0;
/// A run that is in its dips for more than this share of the time is judged with them.
const DIPS_SHARE_MOST: f64 = 0.6;
/// How much longer than the longest excursion a debounce is.
const DEBOUNCE_MARGIN: f64 = 1.5;
/// From so many dips on, a run is called cycling.
const CYCLES_LEAST: usize = 3;
/// What a transformer's noise around zero may be, in watts.
const NEGATIVE_LEAST: f64 = -1.0;
/// Phases fewer resolution steps of the meter apart than this are named.
pub const STEPS_LEAST: f64 = 5.0;
/// Where in the gap between two phases a threshold may lie.
const PLACE: (f64, f64) = (0.2, 0.5);

/// Bands of a power with their debounce; always the right way up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bands {
    /// Where off ends and idle begins.
    pub idle: Band,
    /// Where idle ends and run begins.
    pub run: Band,
    /// How long a higher band must hold.
    pub enter_for: Duration,
    /// How long a lower band must hold.
    pub exit_for: Duration,
}

impl Bands {
    /// The right way up, as the configuration wants them.
    ///
    /// # Errors
    /// What is the wrong way round, in words.
    pub fn checked(self) -> Result<Self, &'static str> {
        let Self { idle, run, .. } = self;
        match () {
            () if !(idle.exit > 0.0 && idle.exit < idle.enter) => {
                Err("idle_below must lie between 0 W and idle_above")
            }
            () if run.enter <= idle.enter => Err("run_above must be above idle_above"),
            () if !(run.exit >= idle.enter && run.exit < run.enter) => {
                Err("run_below must lie between idle_above and run_above")
            }
            () => Ok(self),
        }
    }

    /// As the engine takes them.
    pub fn plan(&self, item: ItemIndex) -> ActivityPlan {
        let Self { idle, run, enter_for, exit_for } = *self;
        ActivityPlan::Power { item, idle, run, enter_for, exit_for }
    }

    /// What to write into the configuration of a machine.
    pub fn fragment(&self, machine: &str, item: &str) -> String {
        format!(
            "[machine.{machine}.activity]\nfrom = \"{item}\"\nidle_above = \"{} W\"\n\
             idle_below = \"{} W\"\nrun_above = \"{} W\"\nrun_below = \"{} W\"\n\
             enter_for = \"{} s\"\nexit_for = \"{} s\"\n",
            self.idle.enter,
            self.idle.exit,
            self.run.enter,
            self.run.exit,
            self.enter_for.as_secs_f64(),
            self.exit_for.as_secs_f64(),
        )
    }
}

/// What a recording teaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Neighbouring phases.
    pub separations: Vec<Separation>,
    /// What a person should look at.
    pub oddities: Vec<Oddity>,
    /// The bands, or why there are none.
    pub bands: Result<Bands, Refusal>,
}

/// Proposes bands. `least` is the debounce that is kept where nothing calls for more. A recording
/// without idle is of a machine that has none.
pub fn learn(recording: &Recording, least: (Duration, Duration)) -> Lesson {
    let levels: Vec<Level> =
        Phase::ALL.into_iter().filter_map(|phase| Level::of(recording, phase)).collect();
    let idle = Level::of(recording, Phase::Idle);
    let levels: Vec<Level> =
        levels.into_iter().map(|level| level.without_dips(idle.as_ref())).collect();
    let separations: Vec<Separation> = levels.windows(2).map(separation).collect();
    let oddities = oddities(recording, &levels);
    let bands = refusal(recording, &levels, &separations)
        .map_or_else(|| bands(recording, &levels, least), Err);
    Lesson { separations, oddities, bands }
}

/// What a phase is judged by.
#[derive(Debug)]
struct Level {
    phase: Phase,
    /// All of it, or its upper mode.
    whole: Distribution,
    /// The same without strays.
    steady: Distribution,
    all: Vec<f64>,
}

impl Level {
    fn of(recording: &Recording, phase: Phase) -> Option<Self> {
        let all = recording.watts(phase);
        let whole = Distribution::of(&all)?;
        Some(Self { phase, steady: whole.trimmed(OVERLAP_MOST), whole, all })
    }

    /// A run with two modes of which the lower is idle is judged by the upper one.
    fn without_dips(self, idle: Option<&Self>) -> Self {
        let Self { phase, all, .. } = &self;
        let two = modes(all).filter(|_| *phase == Phase::Run);
        let (Some(two), Some(idle)) = (two, idle) else { return self };
        let level = |whole: Distribution| Self {
            phase: self.phase,
            steady: whole.trimmed(OVERLAP_MOST),
            whole,
            all: self.all.clone(),
        };
        let share = two.lower.count() as f64 / all.len() as f64;
        let dips = share <= DIPS_SHARE_MOST && alike(idle, &level(two.lower));
        if dips { level(two.upper) } else { self }
    }
}

/// Whether power cannot tell an upper level from a lower one.
fn alike(lower: &Level, upper: &Level) -> bool {
    let below = upper.steady.median() <= lower.steady.median();
    let near = d_prime(&lower.steady, &upper.steady) < D_PRIME_LEAST;
    below || near || best_edge(&lower.whole, &upper.whole).1 > OVERLAP_MOST
}

fn separation(pair: &[Level]) -> Separation {
    Separation {
        lower: pair[0].phase,
        upper: pair[1].phase,
        d_prime: d_prime(&pair[0].steady, &pair[1].steady),
        overlap: best_edge(&pair[0].whole, &pair[1].whole).1,
    }
}

fn refusal(recording: &Recording, levels: &[Level], apart: &[Separation]) -> Option<Refusal> {
    let few = Phase::ALL.into_iter().map(|phase| (phase, recording.watts(phase).len()));
    let needed = |phase: Phase| phase != Phase::Idle || !recording.samples(phase).is_empty();
    if let Some((phase, have)) =
        few.into_iter().find(|(phase, have)| needed(*phase) && *have < SAMPLES_LEAST)
    {
        return Some(Refusal::TooFew { phase, have });
    }
    // Noise around zero is no consumption; what lies below it on average is.
    let reversed = levels.iter().find(|level| level.steady.mean <= NEGATIVE_LEAST);
    if let Some(level) = reversed {
        return Some(Refusal::Reversed { phase: level.phase, mean: level.steady.mean });
    }
    levels.windows(2).zip(apart).find_map(|(pair, separation)| {
        let (lower, upper) = (pair[0].phase, pair[1].phase);
        if pair[1].steady.median() < pair[0].steady.median() {
            return Some(Refusal::Order { lower, upper });
        }
        alike(&pair[0], &pair[1]).then_some(Refusal::Alike(*separation))
    })
}

fn bands(
    recording: &Recording,
    levels: &[Level],
    least: (Duration, Duration),
) -> Result<Bands, Refusal> {
    let bands: Vec<Band> = levels.windows(2).map(band).collect::<Result<_, _>>()?;
    let (Some(&first), Some(&run)) = (bands.first(), bands.last()) else {
        return Err(Refusal::TooFew { phase: Phase::Run, have: 0 });
    };
    // Without idle there is one threshold, and idle is whatever lies below it and above off.
    let idle = if bands.len() == 1 {
        let share = f64::midpoint(first.exit, levels[0].steady.quantile(1.0).max(0.0));
        Band { enter: tidy(share, f64::ceil), exit: tidy(share * 0.9, f64::floor) }
    } else {
        first
    };
    let spike = |phase| excursions(recording.samples(phase), run, false).longest;
    let spike = spike(Phase::Off).max(spike(Phase::Idle));
    let dip = excursions(recording.samples(Phase::Run), run, true).longest;
    let enter_for = least.0.max(debounce(spike));
    let exit_for = least.1.max(debounce(dip));
    let no_room = |_| {
        let lower = levels[levels.len() - 2].phase;
        Refusal::NoRoom { lower, upper: Phase::Run }
    };
    Bands { idle, run, enter_for, exit_for }.checked().map_err(no_room)
}

/// The threshold between two phases, with its hysteresis.
fn band(pair: &[Level]) -> Result<Band, Refusal> {
    let (lower, upper) = (&pair[0].steady, &pair[1].steady);
    let (from, to) = (lower.quantile(1.0), upper.quantile(0.0));
    let middle = if to > from {
        let spread = lower.deviation + upper.deviation;
        let place = if spread > 0.0 { lower.deviation / spread } else { 0.0 };
        from + (to - from) * place.clamp(PLACE.0, PLACE.1)
    } else {
        best_edge(lower, upper).0
    };
    let hysteresis = (middle * HYSTERESIS_LEAST).max(lower.deviation * HYSTERESIS_DEVIATIONS);
    let enter = tidy(middle + hysteresis / 2.0, f64::ceil);
    let exit = tidy(middle - hysteresis / 2.0, f64::floor);
    let fits = exit > lower.median() && enter <= upper.median() && exit > 0.0;
    let (lower, upper) = (pair[0].phase, pair[1].phase);
    fits.then_some(Band { enter, exit }).ok_or(Refusal::NoRoom { lower, upper })
}

/// As many digits as a person would write.
fn tidy(watts: f64, round: fn(f64) -> f64) -> f64 {
    let per_watt = if watts < 100.0 { 10.0 } else { 1.0 };
    round(watts * per_watt) / per_watt
}

/// Excursions of a phase to the other side of a band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Excursions {
    times: usize,
    longest: Duration,
}

/// `runs` is the side that the phase should be on. An excursion lasts until the first sample back,
/// as the engine counts it.
fn excursions(samples: &[Sample], band: Band, runs: bool) -> Excursions {
    let mut found = Excursions::default();
    let (mut side, mut since) = (runs, None);
    for sample in samples {
        let Ok(watts) = sample.watts else { continue };
        side = watts >= band.enter || (side && watts >= band.exit);
        let away = side != runs;
        if let Some(begin) = since {
            let lasted = Duration::from_millis(sample.at_ms.saturating_sub(begin));
            found.longest = found.longest.max(lasted);
        }
        match (away, since) {
            (true, None) => {
                found.times += 1;
                since = Some(sample.at_ms);
            }
            (false, Some(_)) => since = None,
            _ => {}
        }
    }
    found
}

/// Longer than an excursion, in whole seconds; nothing for none.
fn debounce(longest: Duration) -> Duration {
    Duration::from_secs_f64((longest.as_secs_f64() * DEBOUNCE_MARGIN).ceil())
}

fn oddities(recording: &Recording, levels: &[Level]) -> Vec<Oddity> {
    let mut odd = Vec::new();
    for level in levels {
        let (phase, samples) = (level.phase, recording.samples(level.phase));
        let missing = samples.len() - level.all.len();
        if missing > 0 {
            odd.push(Oddity::Gaps { phase, missing, of: samples.len() });
        }
        let least = level.all.iter().copied().fold(f64::INFINITY, f64::min);
        if least < NEGATIVE_LEAST {
            odd.push(Oddity::Negative { phase, least });
        }
        let greatest = level.all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if phase != Phase::Off && least == greatest {
            odd.push(Oddity::Still { phase, watts: least });
        }
        odd.extend(cycling(phase, samples, &level.all));
    }
    let steps = levels.iter().filter_map(|level| resolution(&level.all));
    if let Some(step) = steps.min_by(f64::total_cmp) {
        let coarse = |pair: &&[Level]| {
            let apart = pair[1].steady.median() - pair[0].steady.median();
            apart > 0.0 && apart < STEPS_LEAST * step
        };
        odd.extend(levels.windows(2).filter(coarse).map(|pair| Oddity::Coarse {
            lower: pair[0].phase,
            upper: pair[1].phase,
            step,
        }));
    }
    odd
}

/// A powered phase with two modes.
fn cycling(phase: Phase, samples: &[Sample], watts: &[f64]) -> Option<Oddity> {
    let two = modes(watts).filter(|_| phase != Phase::Off)?;
    let (low, high) = (two.lower.median(), two.upper.median());
    let edge = f64::midpoint(low, high);
    let Excursions { times, longest } =
        excursions(samples, Band { enter: edge, exit: edge }, phase == Phase::Run);
    match phase {
        _ if times >= CYCLES_LEAST => Some(Oddity::Cycling { phase, low, high, times }),
        Phase::Run if times > 0 => Some(Oddity::Dips { times, longest }),
        _ => None,
    }
}

#[cfg(test)]
#[path = "bands_tests.rs"]
mod tests;
