//! Voltages, currents and powers that fit each other, as on a real supply: S = U·I, P = S·pf and
//! Q² = S² − P² in each phase; totals are sums over the phases.
//!
//! What somebody has set stays as it was set; the rest follows from it, and where nothing was set,
//! from what the device starts with. Pure: values in, values out.

/// A typical supply, where a device does not measure it.
const VOLTS: f64 = 230.0;
/// The same for its power factor.
const FACTOR: f64 = 0.9;
/// A power factor below this says nothing of the current.
const FACTOR_LEAST: f64 = 1e-3;

const PHASES: [&str; 3] = [".l1", ".l2", ".l3"];
const QUANTITIES: [&str; 6] =
    ["voltage", "current", "power.active", "power.apparent", "power.reactive", "power.factor"];

/// One phase, or the whole of a single-phase device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Phase {
    volts: f64,
    amperes: f64,
    active: f64,
    apparent: f64,
    reactive: f64,
    factor: f64,
}

impl Phase {
    fn named(&self) -> [(&'static str, f64); 6] {
        let Self { volts, amperes, active, apparent, reactive, factor } = *self;
        let values = [volts, amperes, active, apparent, reactive, factor];
        std::array::from_fn(|at| (QUANTITIES[at], values[at]))
    }
}

/// What is known of a device: what it has, what somebody has set, what it starts with.
pub(super) trait Known {
    /// Whether it measures this item.
    fn has(&self, item: &str) -> bool;
    /// What somebody has set it to.
    fn given(&self, item: &str) -> Option<f64>;
    /// What it starts with, where it measures it.
    fn initial(&self, item: &str) -> Option<f64>;
}

/// Whether others follow from this item.
pub(super) fn concerns(item: &str) -> bool {
    QUANTITIES.iter().any(|quantity| item.starts_with(quantity))
}

/// The items that follow from the others, with their values.
pub(super) fn fitting(known: &impl Known) -> Vec<(String, f64)> {
    let measured = |suffix: &str| QUANTITIES.iter().any(|it| known.has(&format!("{it}{suffix}")));
    let phases: Vec<&str> = PHASES.into_iter().filter(|phase| measured(phase)).collect();
    // A drive that measures its own current and no power says nothing of a supply.
    let has_power = |suffix: &&str| {
        ["power.active", "power.apparent"].iter().any(|it| known.has(&format!("{it}{suffix}")))
    };
    if ![""].iter().chain(&phases).any(has_power) {
        return Vec::new();
    }
    let solved: Vec<(&str, Phase)> = if phases.is_empty() {
        vec![("", solve(known, "", None))]
    } else {
        let share = share(known, &phases);
        let mut solved: Vec<_> =
            phases.iter().map(|phase| (*phase, solve(known, phase, share))).collect();
        solved.push(("", total(&solved)));
        solved
    };
    let mut fitting = Vec::new();
    for (suffix, phase) in solved {
        for (quantity, value) in phase.named() {
            let item = format!("{quantity}{suffix}");
            if known.has(&item) && known.given(&item).is_none() {
                fitting.push((item, value));
            }
        }
    }
    fitting
}

/// What each phase that nothing was said of has of a total that was set, or of the total that the
/// device starts with where it measures no power by phase.
fn share(known: &impl Known, phases: &[&str]) -> Option<f64> {
    let by_phase = phases.iter().any(|phase| {
        ["power.active", "power.apparent"].iter().any(|it| known.has(&format!("{it}{phase}")))
    });
    let start = || if by_phase { None } else { known.initial("power.active") };
    let total = known.given("power.active").filter(|watts| watts.is_finite()).or_else(start)?;
    let finite = |watts: &f64| watts.is_finite();
    let set = |phase: &&str| known.given(&format!("power.active{phase}")).filter(finite);
    let given: Vec<f64> = phases.iter().filter_map(set).collect();
    let free = phases.len() - given.len();
    (free > 0).then(|| (total - given.iter().sum::<f64>()) / free as f64)
}

fn solve(known: &impl Known, suffix: &str, share: Option<f64>) -> Phase {
    let name = |quantity: &str| format!("{quantity}{suffix}");
    let given = |quantity| known.given(&name(quantity)).filter(|value: &f64| value.is_finite());
    let start = |quantity| known.initial(&name(quantity));
    let volts = given("voltage").or_else(|| start("voltage")).unwrap_or(VOLTS);
    let factor = given("power.factor").or_else(|| start("power.factor")).unwrap_or(FACTOR);
    let set = given("power.apparent").or_else(|| given("current").map(|amperes| volts * amperes));
    let by_factor = |active: f64| match factor.abs() < FACTOR_LEAST {
        true => active.abs(),
        false => (active / factor).abs(),
    };
    let (active, apparent) = match (given("power.active").or(share), set.map(f64::abs)) {
        (Some(active), Some(apparent)) => (active, apparent),
        (Some(active), None) => (active, by_factor(active)),
        (None, Some(apparent)) => (apparent * factor, apparent),
        (None, None) => {
            let active = start("power.active").unwrap_or_default();
            (active, by_factor(active))
        }
    };
    let factor = if apparent > 0.0 { (active / apparent).clamp(-1.0, 1.0) } else { 1.0 };
    let reactive = (apparent * apparent - active * active).max(0.0).sqrt();
    let amperes = if volts > 0.0 { apparent / volts } else { 0.0 };
    Phase { volts, amperes, active, apparent, reactive, factor }
}

fn total(phases: &[(&str, Phase)]) -> Phase {
    let sum = |of: fn(&Phase) -> f64| phases.iter().map(|(_, phase)| of(phase)).sum::<f64>();
    let (active, apparent) = (sum(|phase| phase.active), sum(|phase| phase.apparent));
    Phase {
        volts: sum(|phase| phase.volts) / phases.len().max(1) as f64,
        amperes: sum(|phase| phase.amperes),
        active,
        apparent,
        reactive: sum(|phase| phase.reactive),
        factor: if apparent > 0.0 { (active / apparent).clamp(-1.0, 1.0) } else { 1.0 },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Meter {
        items: Vec<String>,
        given: BTreeMap<&'static str, f64>,
    }

    impl Known for Meter {
        fn has(&self, item: &str) -> bool {
            self.items.iter().any(|it| it == item)
        }

        fn given(&self, item: &str) -> Option<f64> {
            self.given.get(item).copied()
        }

        fn initial(&self, item: &str) -> Option<f64> {
            let start = match item.split(".l").next()? {
                "voltage" => 220.0,
                "power.active" => 400.0,
                "power.factor" => 0.8,
                _ => 1.0,
            };
            self.has(item).then_some(start)
        }
    }

    /// Everything that a meter shows, what was set included.
    fn shown(phases: &[&str], given: &[(&'static str, f64)]) -> BTreeMap<String, f64> {
        let items = phases.iter().flat_map(|phase| QUANTITIES.map(|it| format!("{it}{phase}")));
        let meter = Meter { items: items.collect(), given: given.iter().copied().collect() };
        let set = given.iter().map(|(item, value)| ((*item).to_owned(), *value));
        fitting(&meter).into_iter().chain(set).collect()
    }

    fn expect_fit(shown: &BTreeMap<String, f64>, phase: &str) {
        let of = |quantity: &str| shown[&format!("{quantity}{phase}")];
        let near = |one: f64, other: f64| (one - other).abs() <= 1e-6 * one.abs().max(1.0);
        let (active, apparent) = (of("power.active"), of("power.apparent"));
        assert!(near(apparent, of("voltage") * of("current")), "{shown:?}");
        assert!(near(active, apparent * of("power.factor")), "{shown:?}");
        assert!(near(apparent.powi(2), active.powi(2) + of("power.reactive").powi(2)), "{shown:?}");
    }

    #[test]
    fn whatever_is_set_the_rest_of_a_phase_fits_it() {
        for given in [
            &[][..],
            &[("power.active", 1500.0)],
            &[("power.active", -700.0), ("power.factor", -0.7)],
            &[("current", 6.0)],
            &[("current", 6.0), ("power.factor", 1.0)],
            &[("voltage", 235.0), ("power.apparent", 940.0)],
            &[("voltage", 200.0), ("current", 10.0), ("power.active", 1500.0)],
            &[("power.active", 0.0)],
        ] {
            expect_fit(&shown(&[""], given), "");
        }
        let kettle = shown(&[""], &[("power.active", 2200.0), ("power.factor", 1.0)]);
        assert_eq!((kettle["current"], kettle["power.reactive"]), (10.0, 0.0));
    }

    #[test]
    fn a_total_is_shared_where_no_phase_has_a_power_of_its_own() {
        let items = ["power.active", "current", "current.l1", "current.l2"];
        let meter = Meter { items: items.map(str::to_owned).to_vec(), given: BTreeMap::default() };
        let shown: BTreeMap<String, f64> = fitting(&meter).into_iter().collect();
        assert!((shown["power.active"] - 400.0).abs() < 1e-9, "{shown:?}");
        assert!(shown["current.l1"] > 0.5 && shown["current.l1"] == shown["current.l2"]);
    }

    #[test]
    fn three_phases_sum_to_their_total_and_a_total_is_shared() {
        let all = ["", ".l1", ".l2", ".l3"];
        let by_phase = shown(&all, &[("power.active.l1", 1000.0), ("current.l2", 5.0)]);
        let by_total = shown(&all, &[("power.active", 3000.0), ("power.active.l1", 1000.0)]);
        for shown in [&by_phase, &by_total] {
            for phase in PHASES {
                expect_fit(shown, phase);
            }
            let sum: f64 = PHASES.map(|phase| shown[&format!("power.active{phase}")]).iter().sum();
            assert!((sum - shown["power.active"]).abs() < 1e-9, "{shown:?}");
        }
        assert_eq!(by_total["power.active.l2"], 1000.0);
    }
}
