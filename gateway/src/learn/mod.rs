//! Learning a machine's bands: what was recorded while it was off, idle and running, as values and
//! as the lines of a file.
//!
//! Nothing under this folder reads a clock, a device or a file; `cli::learn` does. [`distribution`]
//! says what samples look like, [`bands`] proposes bands or refuses with a [`verdict`], [`drawing`]
//! shows why, and [`replay`] asks what other bands would have made of the past.
//!
//! The file is JSON lines: a head, then one line per sample with its phase, its milliseconds since
//! the phase began, and a value in watts or the reason for its absence. At most
//! [`SAMPLES_MAX`] samples per phase are kept.

pub mod bands;
pub mod distribution;
pub mod drawing;
pub mod replay;
pub mod verdict;

use andon_engine::value::Unavailable;
use serde::{Deserialize, Serialize};

/// Samples of a phase, at most: an hour at ten per second.
pub const SAMPLES_MAX: usize = 36_000;
/// Lines of a file, at most: three phases and the head.
const LINES_MAX: usize = 3 * SAMPLES_MAX + 1;

/// What a person had the machine do while it was recorded.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Switched off.
    Off = 0,
    /// On, and not working.
    Idle = 1,
    /// Working.
    Run = 2,
}

impl Phase {
    /// All of them, upwards.
    pub const ALL: [Self; 3] = [Self::Off, Self::Idle, Self::Run];

    /// Its word in files and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Idle => "idle",
            Self::Run => "run",
        }
    }
}

/// One sample of a machine's power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the phase began.
    pub at_ms: u64,
    /// Watts, or why there are none.
    pub watts: Result<f64, Unavailable>,
}

/// What was recorded of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its id.
    pub machine: String,
    /// The power item that its activity is told from.
    pub item: String,
    /// How often that is read, in milliseconds.
    pub period_ms: u64,
    phases: [Vec<Sample>; 3],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u8,
    machine: String,
    item: String,
    period_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    phase: Phase,
    at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watts: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<Unavailable>,
}

/// A file that is no recording.
#[derive(Debug, thiserror::Error)]
pub enum NotARecording {
    /// A line that is not what stands there.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// More lines than a recording has.
    #[error("more than {LINES_MAX} lines")]
    TooLong,
}

impl Recording {
    /// Nothing recorded yet.
    pub fn new(machine: &str, item: &str, period_ms: u64) -> Self {
        let phases = [Vec::new(), Vec::new(), Vec::new()];
        Self { machine: machine.to_owned(), item: item.to_owned(), period_ms, phases }
    }

    /// The samples of a phase, in the order of their time.
    pub fn samples(&self, phase: Phase) -> &[Sample] {
        &self.phases[phase as usize]
    }

    /// The watts of a phase, without the samples that have none.
    pub fn watts(&self, phase: Phase) -> Vec<f64> {
        self.samples(phase).iter().filter_map(|sample| sample.watts.ok()).collect()
    }

    /// Puts samples in place of those of a phase; what is beyond [`SAMPLES_MAX`] is left out.
    pub fn put(&mut self, phase: Phase, mut samples: Vec<Sample>) {
        samples.sort_by_key(|sample| sample.at_ms);
        samples.truncate(SAMPLES_MAX);
        self.phases[phase as usize] = samples;
    }

    /// The phases of which nothing was recorded.
    pub fn missing(&self) -> Vec<Phase> {
        Phase::ALL.into_iter().filter(|phase| self.samples(*phase).is_empty()).collect()
    }

    /// The recording as the lines of a file.
    pub fn to_lines(&self) -> String {
        let head = Head {
            v: 1,
            machine: self.machine.clone(),
            item: self.item.clone(),
            period_ms: self.period_ms,
        };
        let mut text = serde_json::json!(head).to_string();
        for phase in Phase::ALL {
            for sample in self.samples(phase) {
                let (watts, why) = (sample.watts.ok(), sample.watts.err());
                let line = Line { phase, at_ms: sample.at_ms, watts, why };
                text.push('\n');
                text.push_str(&serde_json::json!(line).to_string());
            }
        }
        text.push('\n');
        text
    }

    /// Reads the lines of a file.
    ///
    /// # Errors
    /// The first line that is not what stands there.
    pub fn from_lines(text: &str) -> Result<Self, NotARecording> {
        let fail = |line: usize, why: String| NotARecording::Line { line: line + 1, why };
        if text.lines().count() > LINES_MAX {
            return Err(NotARecording::TooLong);
        }
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (at, first) = lines.next().ok_or_else(|| fail(0, "is missing".to_owned()))?;
        let head: Head = serde_json::from_str(first).map_err(|e| fail(at, e.to_string()))?;
        if head.v != 1 {
            return Err(fail(at, format!("version {} is not known here", head.v)));
        }
        let mut recording = Self::new(&head.machine, &head.item, head.period_ms);
        let mut phases = [Vec::new(), Vec::new(), Vec::new()];
        for (at, text) in lines {
            let line: Line = serde_json::from_str(text).map_err(|e| fail(at, e.to_string()))?;
            let watts = match (line.watts, line.why) {
                (Some(watts), None) => Ok(watts),
                (None, Some(why)) => Err(why),
                _ => return Err(fail(at, "needs either watts or why".to_owned())),
            };
            phases[line.phase as usize].push(Sample { at_ms: line.at_ms, watts });
        }
        for (phase, samples) in Phase::ALL.into_iter().zip(phases) {
            recording.put(phase, samples);
        }
        Ok(recording)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let watts = prop_oneof![
            9 => (-3e3..3e3).prop_map(Ok),
            1 => Just(Err(Unavailable::Timeout)),
        ];
        let samples = prop::collection::vec((0..100_000u64, watts), 0..50);
        samples
            .prop_map(|all| all.into_iter().map(|(at_ms, watts)| Sample { at_ms, watts }).collect())
    }

    proptest! {
        #[test]
        fn a_kept_recording_is_read_back_as_it_was(
            off in samples(), idle in samples(), run in samples(),
        ) {
            let mut recording = Recording::new("saw", "power.active", 1000);
            for (phase, samples) in Phase::ALL.into_iter().zip([off, idle, run]) {
                recording.put(phase, samples);
            }
            let read = Recording::from_lines(&recording.to_lines()).unwrap();
            prop_assert_eq!(read, recording);
        }

        #[test]
        fn arbitrary_lines_are_refused_and_never_panic(text in "\\PC{0,80}") {
            prop_assert!(Recording::from_lines(&text).is_err());
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let text = "{\"v\":1,\"machine\":\"saw\",\"item\":\"power.active\",\"period_ms\":1000}\n\
                    {\"phase\":\"run\",\"at_ms\":1,\"watts\":3.5}\n{\"phase\":\"run\",\"at_ms\":2}\n";
        let error = Recording::from_lines(text).unwrap_err().to_string();
        assert_eq!(error, "line 3: needs either watts or why");
    }
}
