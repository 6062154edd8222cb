//! The distributions of a recording as text: one row per phase over one axis of watts, with the
//! bands below it. The axis is linear near zero and logarithmic beyond, so that off, idle and run
//! are all to be seen.

use std::fmt::Write as _;

use super::bands::Bands;
use super::distribution::Distribution;
use super::{Phase, Recording};

/// Columns of the axis.
const COLUMNS: usize = 64;
/// Eighths of a row, from nothing to full.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where the axis turns from linear to logarithmic, in watts.
const KNEE: f64 = 5.0;

/// An axis of watts.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn of(all: &Distribution, bands: Option<&Bands>) -> Self {
        let upper = bands.map_or(0.0, |bands| bands.run.enter);
        let from = all.quantile(0.0).min(0.0);
        let to = all.quantile(1.0).max(upper).max(from + 1.0);
        Self { from: bend(from), to: bend(to) }
    }

    fn column(&self, watts: f64) -> usize {
        let share = (bend(watts) - self.from) / (self.to - self.from);
        ((share * COLUMNS as f64) as usize).min(COLUMNS - 1)
    }

    /// The watts at the left edge of a column.
    fn watts(&self, column: usize) -> f64 {
        let share = column as f64 / COLUMNS as f64;
        (self.from + (self.to - self.from) * share).sinh() * KNEE
    }
}

fn bend(watts: f64) -> f64 {
    (watts / KNEE).asinh()
}

/// Draws the phases, the axis and the bands; one line each, empty without samples.
pub fn histogram(recording: &Recording, bands: Option<&Bands>) -> String {
    let everything: Vec<f64> =
        Phase::ALL.into_iter().flat_map(|phase| recording.watts(phase)).collect();
    let Some(all) = Distribution::of(&everything) else { return String::new() };
    let axis = Axis::of(&all, bands);
    let mut text = String::new();
    for phase in Phase::ALL {
        let Some(level) = Distribution::of(&recording.watts(phase)) else { continue };
        let mut counts = [0_usize; COLUMNS];
        level.sorted().iter().for_each(|watts| counts[axis.column(*watts)] += 1);
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:>5} {} {:.1} ± {:.1} W",
            phase.word(),
            row(&counts),
            level.mean,
            level.deviation
        )
        .ok();
    }
    let _ = writeln!(text, "      {}", labels(&axis).trim_end());
    if let Some(bands) = bands {
        let _ = writeln!(text, "      {}", marks(&axis, bands).trim_end());
    }
    text
}

/// A column with anything in it is never empty: what is rare is what matters here.
fn row(counts: &[usize; COLUMNS]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let full = BARS.len() - 1;
    counts.iter().map(|count| BARS[(count * full).div_ceil(most)]).collect()
}

/// Watts below every sixteenth column.
fn labels(axis: &Axis) -> String {
    const EVERY: usize = 16;
    let label = |column: usize| format!("{:<EVERY$}", format!("|{}", short(axis.watts(column))));
    let labels: String = (0..COLUMNS).step_by(EVERY).map(label).collect();
    format!("{labels}|{} W", short(axis.watts(COLUMNS)))
}

fn short(watts: f64) -> String {
    if watts.abs() < 9.95 { format!("{watts:.1}") } else { format!("{watts:.0}") }
}

/// `i` and `r` where idle and run are entered, `<` where they are left, if that is another column.
fn marks(axis: &Axis, bands: &Bands) -> String {
    let mut marks = [' '; COLUMNS];
    for (band, letter) in [(&bands.idle, 'i'), (&bands.run, 'r')] {
        marks[axis.column(band.exit)] = '<';
        marks[axis.column(band.enter)] = letter;
    }
    marks.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Sample;
    use andon_engine::plan::Band;
    use expect_test::expect;
    use proptest::prelude::*;
    use std::time::Duration;

    fn recording(phases: [Vec<f64>; 3]) -> Recording {
        let mut recording = Recording::new("laser", "power.active", 1000);
        for (phase, watts) in Phase::ALL.into_iter().zip(phases) {
            let sample = |(n, watts): (u64, f64)| Sample { at_ms: n * 1000, watts: Ok(watts) };
            recording.put(phase, (0..).zip(watts).map(sample).collect());
        }
        recording
    }

    #[test]
    fn the_overlap_of_idle_and_run_is_to_be_seen() {
        let idle = (0..60).map(|n| 40.0 + f64::from(n % 5)).collect();
        let run = (0..60).map(|n| 20.0 + f64::from(n * n % 61) * 12.0).collect();
        let recording = recording([vec![0.0; 60], idle, run]);
        let bands = Bands {
            idle: Band { enter: 9.0, exit: 7.0 },
            run: Band { enter: 120.0, exit: 80.0 },
            enter_for: Duration::ZERO,
            exit_for: Duration::ZERO,
        };
        let drawn = format!("drawn:\n{}", histogram(&recording, Some(&bands)));

        expect![[r#"
            drawn:
              off █                                                                0.0 ± 0.0 W
             idle                                █▆                                42.0 ± 1.4 W
              run                        ▁    ▁     ▂  ▂▂     ▂  ▄▂▄ ▂▂▂▂▂ ▂▂▄▄█▂█ 385.8 ± 223.1 W
                  |0.0            |9.8            |43             |178            |740 W
                              <  i                      <    r
        "#]]
        .assert_eq(&drawn);
    }

    proptest! {
        /// Whatever was recorded: rows of one width, and a mark for every sample.
        #[test]
        fn nothing_that_was_recorded_is_invisible(
            off in prop::collection::vec(-5e3..5e3f64, 1..40),
            run in prop::collection::vec(-1e6..1e6f64, 1..40),
        ) {
            let recording = recording([off, Vec::new(), run]);
            let drawn = histogram(&recording, None);
            prop_assert_eq!(drawn.lines().count(), 3);
            for line in drawn.lines().take(2) {
                let bars: Vec<char> = line.chars().skip(6).take(COLUMNS).collect();
                prop_assert!(bars.iter().any(|bar| *bar != ' '), "{}", line);
            }
        }
    }
}
