//! What is concluded from a recording, in words: how far phases are apart, why there are no bands,
//! and what a person should look at. Only words: what they are given for is decided in
//! [`super::bands`].

use std::fmt;
use std::time::Duration;

use super::Phase;
use super::bands::{
    D_PRIME_LEAST, HYSTERESIS_DEVIATIONS, HYSTERESIS_LEAST, OVERLAP_MOST, SAMPLES_LEAST,
    STEPS_LEAST,
};

/// How well two neighbouring phases can be told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Separation {
    /// The lower phase.
    pub lower: Phase,
    /// The upper one, without its dips.
    pub upper: Phase,
    /// Distance of the means in common deviations.
    pub d_prime: f64,
    /// Share of samples that the best threshold puts on the wrong side.
    pub overlap: f64,
}

/// Why there are no bands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// Too few samples of a phase.
    TooFew {
        /// Of which.
        phase: Phase,
        /// How many have a value.
        have: usize,
    },
    /// Consumption counts as negative.
    Reversed {
        /// In which phase.
        phase: Phase,
        /// Watts on average.
        mean: f64,
    },
    /// The phases cannot be told apart.
    Alike(Separation),
    /// The upper phase draws less.
    Order {
        /// The one that should draw less.
        lower: Phase,
        /// The one that does.
        upper: Phase,
    },
    /// The phases are apart, but by less than the hysteresis that their noise needs.
    NoRoom {
        /// The lower phase.
        lower: Phase,
        /// The upper one.
        upper: Phase,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { phase, have } => write!(
                f,
                "{} has {have} samples with a value and needs {SAMPLES_LEAST}: record it again, \
                 for longer",
                phase.word()
            ),
            Self::Reversed { phase, mean } => write!(
                f,
                "{} reads {mean:.1} W on average: the current transformer is the wrong way round, \
                 or the meter's sign is; turn it, then record again",
                phase.word()
            ),
            Self::Alike(Separation { lower, upper, d_prime, overlap }) => write!(
                f,
                "{} and {} cannot be told apart by power: d′ {d_prime:.1} (at least \
                 {D_PRIME_LEAST}), {:.1} % of the samples on the wrong side of the best threshold \
                 (at most {} %); use a contact or the controller, or a meter of its own",
                lower.word(),
                upper.word(),
                overlap * 100.0,
                OVERLAP_MOST * 100.0,
            ),
            Self::Order { lower, upper } => write!(
                f,
                "{} draws no more than {}: were the phases recorded in the right order?",
                upper.word(),
                lower.word()
            ),
            Self::NoRoom { lower, upper } => write!(
                f,
                "between {} and {} there is no room for a hysteresis of {HYSTERESIS_LEAST} of the \
                 threshold and {HYSTERESIS_DEVIATIONS} deviations",
                lower.word(),
                upper.word()
            ),
        }
    }
}

/// Something that a person should look at, bands or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Oddity {
    /// Samples below zero, beyond noise.
    Negative {
        /// In which phase.
        phase: Phase,
        /// The least, in watts.
        least: f64,
    },
    /// Two phases are few steps of the meter apart.
    Coarse {
        /// The lower phase.
        lower: Phase,
        /// The upper one.
        upper: Phase,
        /// The meter's step, in watts.
        step: f64,
    },
    /// A powered phase in which the meter never moved.
    Still {
        /// Which phase.
        phase: Phase,
        /// Where it stood.
        watts: f64,
    },
    /// Samples without a value.
    Gaps {
        /// In which phase.
        phase: Phase,
        /// How many.
        missing: usize,
        /// Of how many.
        of: usize,
    },
    /// A phase that switches between two levels.
    Cycling {
        /// Which phase.
        phase: Phase,
        /// The lower level, in watts.
        low: f64,
        /// The upper one.
        high: f64,
        /// How often it left the level that it should be at.
        times: usize,
    },
    /// A run that fell back to idle, too seldom to be called cycling.
    Dips {
        /// How often.
        times: usize,
        /// The longest.
        longest: Duration,
    },
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative { phase, least } => write!(
                f,
                "{} has samples below zero, down to {least:.1} W: a reversed current transformer, \
                 or a machine that feeds back",
                phase.word()
            ),
            Self::Coarse { lower, upper, step } => write!(
                f,
                "{} and {} are fewer than {STEPS_LEAST} steps of the meter apart (one step is \
                 {step:.2} W): its resolution is too coarse for a threshold between them",
                lower.word(),
                upper.word()
            ),
            Self::Still { phase, watts } => write!(
                f,
                "{} never moved from {watts} W: the meter may report only what changes",
                phase.word()
            ),
            Self::Gaps { phase, missing, of } => {
                write!(f, "{}: {missing} of {of} samples had no value", phase.word())
            }
            Self::Cycling { phase, low, high, times } => write!(
                f,
                "{} switches between {low:.0} W and {high:.0} W ({times} times): a heater, or a \
                 tool that pauses; look whether exit_for is longer than its pauses",
                phase.word()
            ),
            Self::Dips { times, longest } => write!(
                f,
                "run fell back to idle {times} times, for up to {:.1} s: perhaps it was not working \
                 all the time",
                longest.as_secs_f64()
            ),
        }
    }
}
