//! What a set of samples looks like: moments, quantiles, two modes, and how well two sets can be
//! told apart. Pure arithmetic over finite numbers.

/// What can be said of at least one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Ascending.
    sorted: Vec<f64>,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation, of the samples as they are.
    pub deviation: f64,
}

impl Distribution {
    /// Of finite samples; what is not finite is passed over. None without any.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|x| x.is_finite()).collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        Some(Self { sorted, mean, deviation: variance.sqrt() })
    }

    /// How many samples.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The samples, ascending.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// The sample below which `share` (0 to 1) of them lie, nearest rank.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.sorted.len() - 1;
        let rank = (share.clamp(0.0, 1.0) * last as f64).round();
        self.sorted[rank as usize]
    }

    /// The middle sample.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Without `share` of the samples at either end: strays say little of a level's width.
    pub fn trimmed(&self, share: f64) -> Self {
        let strays = (self.sorted.len() as f64 * share.clamp(0.0, 0.49)).ceil() as usize;
        let inner = self.sorted.get(strays..self.sorted.len().saturating_sub(strays));
        inner.and_then(Self::of).unwrap_or_else(|| self.clone())
    }

    /// The share of samples below `edge`.
    pub fn below(&self, edge: f64) -> f64 {
        self.sorted.partition_point(|x| *x < edge) as f64 / self.sorted.len() as f64
    }
}

/// How far apart two sets are, in their common deviation: `|m₂ − m₁| / √((s₁² + s₂²) / 2)`, the
/// d′ of signal detection. Infinite for two different constants, 0 for the same one.
pub fn d_prime(one: &Distribution, other: &Distribution) -> f64 {
    let apart = (other.mean - one.mean).abs();
    let spread = f64::midpoint(one.deviation.powi(2), other.deviation.powi(2)).sqrt();
    // The mean of equal samples is off by the rounding of their sum, and so is their deviation.
    let nothing = |x: f64| x <= one.mean.abs().max(other.mean.abs()) * 1e-9;
    match (nothing(apart), nothing(spread)) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY,
        (false, false) => apart / spread,
    }
}

/// The threshold that tells two sets apart best, and the share of samples that it puts on the
/// wrong side (each set weighs the same): 0 apart, ½ the same.
pub fn best_edge(lower: &Distribution, upper: &Distribution) -> (f64, f64) {
    let wrong = |edge: f64| f64::midpoint(1.0 - lower.below(edge), upper.below(edge));
    let edges = upper.sorted.iter().chain(&lower.sorted).copied();
    let start = (upper.sorted[0], wrong(upper.sorted[0]));
    edges.fold(start, |best, edge| {
        let share = wrong(edge);
        if share < best.1 { (edge, share) } else { best }
    })
}

/// The smallest step between two different samples of one level: the meter's resolution, where its
/// noise shows it.
pub fn resolution(samples: &[f64]) -> Option<f64> {
    let all = Distribution::of(samples)?;
    // Below this, two values differ by how numbers are kept and not by what was measured.
    let noise = |x: f64| x.abs().max(1.0) * 1e-6;
    let steps = all.sorted.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
    steps.filter(|(step, at)| *step > noise(*at)).map(|(step, _)| step).min_by(f64::total_cmp)
}

/// Two modes of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Modes {
    /// The lower ones.
    pub lower: Distribution,
    /// The upper ones.
    pub upper: Distribution,
}

/// Halves of an even spread lie 3.5 common deviations apart: two modes are further than that.
const MODES_APART: f64 = 5.0;
/// A mode is at least this share of the samples, or it is a stray.
const MODE_SHARE: f64 = 0.02;

/// The two modes of a set, when it has two: split where the variance between the parts is greatest
/// (Otsu), believed where the parts are far apart for their own width.
pub fn modes(samples: &[f64]) -> Option<Modes> {
    let all = Distribution::of(samples)?;
    let (count, total) = (all.sorted.len(), all.sorted.iter().sum::<f64>());
    let mut best = (0, 0.0);
    let mut sum = 0.0;
    for (at, pair) in (1..).zip(all.sorted.windows(2)) {
        sum += pair[0];
        if pair[0] < pair[1] {
            let (left, right) = (at as f64, (count - at) as f64);
            let between = left * right * (sum / left - (total - sum) / right).powi(2);
            if between > best.1 {
                best = (at, between);
            }
        }
    }
    let (lower, upper) = all.sorted.split_at(best.0);
    let least = (count as f64 * MODE_SHARE).ceil() as usize;
    if lower.len().min(upper.len()) < least.max(1) {
        return None;
    }
    let modes = Modes { lower: Distribution::of(lower)?, upper: Distribution::of(upper)? };
    (d_prime(&modes.lower, &modes.upper) >= MODES_APART).then_some(modes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(samples: &[f64]) -> Distribution {
        Distribution::of(samples).unwrap()
    }

    /// Figures from `python3 -c "import statistics as s; …"`: pstdev and median.
    #[test]
    fn moments_and_quantiles_are_those_of_the_textbook() {
        let all = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, f64::NAN]);
        assert_eq!((all.count(), all.mean, all.deviation), (8, 5.0, 2.0));
        assert_eq!((all.quantile(0.0), all.quantile(1.0), all.below(5.0)), (2.0, 9.0, 0.5));
        assert!(Distribution::of(&[f64::INFINITY]).is_none());
    }

    #[test]
    fn strays_do_not_widen_a_trimmed_level() {
        let mut samples = vec![40.0; 98];
        samples.extend([900.0, 900.0]);
        let all = of(&samples);
        assert!(all.deviation > 100.0);
        assert_eq!(all.trimmed(0.02).deviation, 0.0);
        assert_eq!(of(&[1.0, 2.0]).trimmed(0.4), of(&[1.0, 2.0]));
    }

    #[test]
    fn d_prime_is_in_common_deviations() {
        let (one, other) = (of(&[-1.0, 1.0]), of(&[9.0, 11.0]));
        assert_eq!(d_prime(&one, &other), 10.0);
        assert_eq!(d_prime(&of(&[3.0]), &of(&[3.0])), 0.0);
        assert_eq!(d_prime(&of(&[3.0]), &of(&[4.0])), f64::INFINITY);
        assert_eq!(d_prime(&of(&[0.4; 22]), &of(&[46.1; 23])), f64::INFINITY);
    }

    #[test]
    fn the_best_edge_of_sets_that_are_apart_errs_never() {
        let (lower, upper) = (of(&[1.0, 2.0, 3.0]), of(&[5.0, 6.0]));
        assert_eq!(best_edge(&lower, &upper), (5.0, 0.0));
        let (_, share) = best_edge(&of(&[1.0, 2.0]), &of(&[1.0, 2.0]));
        assert_eq!(share, 0.5);
        // One of four of the upper set lies below.
        let (_, share) = best_edge(&of(&[1.0, 2.0]), &of(&[0.0, 5.0, 6.0, 7.0]));
        assert_eq!(share, 0.125);
    }

    #[test]
    fn an_even_spread_has_one_mode_and_a_heater_two() {
        let even: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(modes(&even), None);
        let heater: Vec<f64> =
            (0..100).map(|n| f64::from(n % 7) + if n % 10 < 3 { 40.0 } else { 900.0 }).collect();
        let modes = modes(&heater).unwrap();
        assert_eq!((modes.lower.count(), modes.upper.count()), (30, 70));
        // One stray among a hundred is no mode.
        let mut stray = vec![900.0; 100];
        stray[50] = 0.0;
        assert_eq!(super::modes(&stray), None);
        assert_eq!(super::modes(&[5.0; 10]), None);
    }

    #[test]
    fn the_resolution_is_the_smallest_step() {
        assert_eq!(resolution(&[0.0, 10.0, 10.0, 5.0]), Some(5.0));
        assert_eq!(resolution(&[1.0, 1.0]), None);
    }

    proptest! {
        /// Watts or milliwatts, with or without an offset: what can be told apart stays so.
        #[test]
        fn separation_does_not_depend_on_the_unit(
            low in prop::collection::vec(0.0..100.0f64, 2..40),
            high in prop::collection::vec(50.0..200.0f64, 2..40),
            scale in 0.01..100.0f64,
            offset in -50.0..50.0f64,
        ) {
            let moved = |all: &[f64]| of(&all.iter().map(|x| x * scale + offset).collect::<Vec<_>>());
            let (plain, other) = ((of(&low), of(&high)), (moved(&low), moved(&high)));
            let (a, b) = (d_prime(&plain.0, &plain.1), d_prime(&other.0, &other.1));
            prop_assert!((a - b).abs() <= 1e-6 * a.max(1.0), "{} {}", a, b);
            let (_, share) = best_edge(&plain.0, &plain.1);
            let (_, moved_share) = best_edge(&other.0, &other.1);
            prop_assert!((0.0..=0.5).contains(&share));
            prop_assert!((share - moved_share).abs() < 0.03, "{} {}", share, moved_share);
        }
    }
}
