//! One machine's activity from all the signals it has, in the order of their authority: its
//! controller, a contact, its power.
//!
//! The first signal that is known decides; those after it stand in when it falls silent. Power has
//! one word beside that: a machine without power cannot run. Where a controller or contact says
//! run and the power says off, nobody knows, and the reason is [`Unavailable::Conflict`]; where it
//! says idle, the machine is off. A fault stays a fault, with or without power.
//!
//! Signals do not change at the same moment: a meter is read later than a controller speaks and
//! debounced longer, and a controller that lost its power is only silent. So a conflict is told
//! when it has lasted as long as the slowest signal needs to come round, and is then stamped at
//! its beginning. One that ends before was none: what is agreed on in the end held all the while.

use std::time::Duration;

use crate::activity::Tracker;
use crate::controller::{Controller, Word};
use crate::event::{Activity, Execution};
use crate::plan::{ActivityPlan, ItemIndex};
use crate::time::BootTime;
use crate::value::{Measured, Unavailable};

/// A believed change of what a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the machine does.
    pub execution: Execution,
    /// Since when; may lie before the moment of belief.
    pub at: BootTime,
    /// Why it is unknown.
    pub why: Option<Unavailable>,
    /// Time in which the deciding signal said run, unfiltered, from the beginning up to `at`.
    pub raw_run: Duration,
}

/// Follows the signals of one machine.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Highest authority first.
    signals: Vec<Signal>,
    raw_run: Duration,
    /// How long the slowest signal may need until it says what the others say.
    patience: Duration,
    dispute: Option<Dispute>,
}

/// One signal says run and the power says off.
#[derive(Clone, Copy, Debug)]
struct Dispute {
    since: BootTime,
    /// Time that the deciding signal had said run by then.
    raw_run: Duration,
    /// It has lasted too long to be a matter of moments.
    told: bool,
}

#[derive(Clone, Debug)]
enum Signal {
    Controller(Controller),
    Level { tracker: Tracker, is_power: bool, word: (Activity, Option<Unavailable>) },
}

impl Signal {
    fn new(plan: &ActivityPlan, stale_after: Duration) -> Self {
        match plan {
            ActivityPlan::Controller { item, exit_for } => {
                Self::Controller(Controller::new(*item, *exit_for, stale_after))
            }
            level @ (ActivityPlan::Power { .. } | ActivityPlan::Input { .. }) => Self::Level {
                is_power: matches!(level, ActivityPlan::Power { .. }),
                tracker: Tracker::new(level.clone(), stale_after),
                word: (Activity::Unknown, Some(Unavailable::NotYet)),
            },
        }
    }

    fn item(&self) -> ItemIndex {
        match self {
            Self::Controller(controller) => controller.item,
            Self::Level { tracker, .. } => tracker.item(),
        }
    }

    fn raw_run(&self) -> Duration {
        match self {
            Self::Controller(controller) => controller.raw_run(),
            Self::Level { tracker, .. } => tracker.raw_run(),
        }
    }

    /// What it says, and why that is unknown.
    fn word(&self) -> (Execution, Option<Unavailable>) {
        match self {
            Self::Controller(controller) => {
                let unknown = controller.believed() == Execution::Unknown;
                (controller.believed(), unknown.then(|| controller.trouble()))
            }
            Self::Level { word: (activity, why), .. } => (execution_of(*activity), *why),
        }
    }

    fn take(&mut self, at: BootTime, sample: &Measured) -> [Option<Word>; 2] {
        match self {
            Self::Controller(controller) => controller.take(at, sample),
            Self::Level { tracker, word, .. } => {
                tracker.take(at, sample).map(|change| change.map(|change| level(change, word)))
            }
        }
    }

    fn age(&mut self, now: BootTime) -> Option<Word> {
        match self {
            Self::Controller(controller) => controller.age(now),
            Self::Level { tracker, word, .. } => tracker.age(now).map(|change| level(change, word)),
        }
    }

    fn is_without_power(&self) -> bool {
        matches!(self, Self::Level { is_power: true, word: (Activity::Off, _), .. })
    }
}

/// A change of a level in the words of executions; notes it as the signal's word.
fn level(change: crate::activity::Change, word: &mut (Activity, Option<Unavailable>)) -> Word {
    *word = (change.activity, change.why);
    let execution = execution_of(change.activity);
    Word { execution, at: change.at, why: change.why, raw_run: change.raw_run }
}

/// What a level alone can tell of a machine's execution.
const fn execution_of(activity: Activity) -> Execution {
    match activity {
        Activity::Off => Execution::Off,
        Activity::Idle => Execution::Ready,
        Activity::Run => Execution::Running,
        Activity::Fault => Execution::Fault,
        Activity::Unknown => Execution::Unknown,
    }
}

impl Follower {
    /// A follower that knows nothing yet, of signals in the order of their authority;
    /// `stale_after` gives that of an item.
    pub fn new(plans: &[ActivityPlan], stale_after: impl Fn(ItemIndex) -> Duration) -> Self {
        let signal = |plan: &ActivityPlan| Signal::new(plan, stale_after(plan.item()));
        let debounce = plans.iter().map(debounce).max().unwrap_or_default();
        let silence = plans.iter().map(|plan| stale_after(plan.item())).max().unwrap_or_default();
        Self {
            signals: plans.iter().map(signal).collect(),
            raw_run: Duration::ZERO,
            patience: debounce.saturating_add(silence),
            dispute: None,
        }
    }

    /// Whether it has any signal.
    pub fn has_signals(&self) -> bool {
        !self.signals.is_empty()
    }

    /// Time in which the deciding signal said run, up to its last good sample. It only grows.
    pub fn raw_run(&self) -> Duration {
        self.raw_run
    }

    /// Takes a sample of an item; nothing follows where no signal is told from it.
    pub fn take(&mut self, item: ItemIndex, at: BootTime, sample: &Measured) -> Vec<Change> {
        let mut changes = Vec::from_iter(self.tell_dispute(at));
        for nth in 0..self.signals.len() {
            if self.signals[nth].item() != item {
                continue;
            }
            let before = self.signals[nth].raw_run();
            let words = self.signals[nth].take(at, sample);
            if self.deciding() == Some(nth) {
                self.raw_run += self.signals[nth].raw_run().saturating_sub(before);
            }
            changes.extend(words.into_iter().flatten().filter_map(|word| self.change(nth, word)));
        }
        changes
    }

    /// Lets time pass.
    pub fn age(&mut self, now: BootTime) -> Vec<Change> {
        let mut changes = Vec::from_iter(self.tell_dispute(now));
        for nth in 0..self.signals.len() {
            let word = self.signals[nth].age(now);
            changes.extend(word.and_then(|word| self.change(nth, word)));
        }
        changes
    }

    /// The highest signal that is known.
    fn deciding(&self) -> Option<usize> {
        self.signals.iter().position(|signal| signal.word().0 != Execution::Unknown)
    }

    /// What a word of one signal means for the machine; nothing yet while signals disagree.
    fn change(&mut self, nth: usize, word: Word) -> Option<Change> {
        // Boundaries lie in the past: take off what the signal ran since.
        let since = self.signals[nth].raw_run().saturating_sub(word.raw_run);
        let raw_run = self.raw_run.saturating_sub(since);
        let Some((execution, why)) = self.combined(nth, &word) else {
            self.dispute.get_or_insert(Dispute { since: word.at, raw_run, told: false });
            return None;
        };
        let settled = self.dispute.take().filter(|dispute| !dispute.told);
        let (at, raw_run) = settled.map_or((word.at, raw_run), |of| (of.since, of.raw_run));
        Some(Change { execution, at, why, raw_run })
    }

    /// The conflict, once it has lasted too long to be a matter of moments.
    fn tell_dispute(&mut self, now: BootTime) -> Option<Change> {
        let patience = self.patience;
        let ripe = |dispute: &&mut Dispute| !dispute.told && now.since(dispute.since) >= patience;
        let dispute = self.dispute.as_mut().filter(ripe)?;
        dispute.told = true;
        let (at, why) = (dispute.since, Some(Unavailable::Conflict));
        Some(Change { execution: Execution::Unknown, at, why, raw_run: dispute.raw_run })
    }

    /// What the signals say together; `None` when one says run and the power says off.
    fn combined(&self, nth: usize, word: &Word) -> Option<(Execution, Option<Unavailable>)> {
        let says = |at: usize| {
            if at == nth { (word.execution, word.why) } else { self.signals[at].word() }
        };
        let known = (0..self.signals.len()).find(|&at| says(at).0 != Execution::Unknown);
        let Some(deciding) = known else {
            // The highest has the word on why nothing is known, unless it never spoke.
            let why = (0..self.signals.len()).filter_map(|at| says(at).1);
            let mut why = why.filter(|why| *why != Unavailable::NotYet);
            return Some((Execution::Unknown, Some(why.next().unwrap_or(Unavailable::NotYet))));
        };
        let (execution, _) = says(deciding);
        let lower = &self.signals[deciding + 1..];
        match execution.activity() {
            Activity::Run if lower.iter().any(Signal::is_without_power) => None,
            Activity::Idle if lower.iter().any(Signal::is_without_power) => {
                Some((Execution::Off, None))
            }
            _ => Some((execution, None)),
        }
    }
}

/// The longest that a signal's own debounce keeps it behind.
fn debounce(plan: &ActivityPlan) -> Duration {
    match plan {
        ActivityPlan::Controller { exit_for, .. } => *exit_for,
        ActivityPlan::Power { enter_for, exit_for, .. }
        | ActivityPlan::Input { enter_for, exit_for, .. } => (*enter_for).max(*exit_for),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Band;
    use crate::value::Value;

    const WORD: ItemIndex = ItemIndex(0);
    const WATTS: ItemIndex = ItemIndex(1);

    fn printer() -> Follower {
        let power = ActivityPlan::Power {
            item: WATTS,
            idle: Band { enter: 5.0, exit: 4.0 },
            run: Band { enter: 60.0, exit: 50.0 },
            enter_for: Duration::ZERO,
            exit_for: Duration::ZERO,
        };
        let controller = ActivityPlan::Controller { item: WORD, exit_for: Duration::ZERO };
        Follower::new(&[controller, power], |_| Duration::from_secs(5))
    }

    fn last(changes: &[Change]) -> (Execution, Option<Unavailable>) {
        changes.last().map(|change| (change.execution, change.why)).unwrap()
    }

    fn says(follower: &mut Follower, second: u64, word: &str) -> Vec<Change> {
        let at = BootTime::from_millis(second * 1000);
        follower.take(WORD, at, &Ok(Value::Text(word.into())))
    }

    fn uses(follower: &mut Follower, second: u64, watts: f64) -> Vec<Change> {
        follower.take(WATTS, BootTime::from_millis(second * 1000), &Ok(Value::Number(watts)))
    }

    #[test]
    fn the_controller_decides_and_power_stands_in_when_it_is_silent() {
        let mut printer = printer();
        says(&mut printer, 1, "finished");
        assert_eq!(last(&uses(&mut printer, 1, 120.0)), (Execution::Finished, None));
        for second in 2..=6 {
            uses(&mut printer, second, 120.0);
        }
        let changes = printer.age(BootTime::from_millis(6_500));
        assert_eq!(last(&changes), (Execution::Running, None));
        assert_eq!(changes[0].at, BootTime::from_millis(1000));
    }

    #[test]
    fn running_without_power_is_a_conflict_and_idle_without_power_is_off() {
        let mut printer = printer();
        says(&mut printer, 1, "running");
        let mut changes = Vec::new();
        for second in 2..=7 {
            changes.extend(says(&mut printer, second, "running"));
            changes.extend(uses(&mut printer, second, 0.5));
        }
        let conflict = (Execution::Unknown, Some(Unavailable::Conflict));
        assert_eq!((changes.len(), last(&changes)), (1, conflict));
        // Since it began, not since it was believed.
        assert_eq!(changes[0].at, BootTime::from_millis(2000));
        assert_eq!(last(&says(&mut printer, 8, "ready")), (Execution::Off, None));
        assert_eq!(last(&says(&mut printer, 9, "fault")), (Execution::Fault, None));
    }

    #[test]
    fn a_controller_that_runs_moments_before_its_meter_rises_ran_since_it_said_so() {
        let mut printer = printer();
        uses(&mut printer, 1, 0.5);
        assert_eq!(last(&says(&mut printer, 1, "ready")), (Execution::Off, None));
        for second in 2..=4 {
            assert_eq!(says(&mut printer, second, "running"), []);
            assert_eq!(uses(&mut printer, second, 0.5), []);
        }
        let changes = uses(&mut printer, 5, 120.0);
        assert_eq!(last(&changes), (Execution::Running, None));
        assert_eq!(changes[0].at, BootTime::from_millis(2000));
        assert_eq!(changes[0].raw_run, Duration::ZERO);
    }

    #[test]
    fn a_controller_that_lost_its_power_is_off_since_then_and_not_unknown() {
        let mut printer = printer();
        uses(&mut printer, 1, 120.0);
        says(&mut printer, 1, "running");
        for second in 2..=6 {
            assert_eq!(uses(&mut printer, second, 0.5), []);
        }
        let changes = printer.age(BootTime::from_millis(6_500));
        assert_eq!(last(&changes), (Execution::Off, None));
        assert_eq!(changes[0].at, BootTime::from_millis(2000));
    }

    #[test]
    fn a_meter_that_was_silent_before_a_controller_ran_contradicts_nothing() {
        let mut printer = printer();
        uses(&mut printer, 1, 0.5);
        says(&mut printer, 1, "ready");
        assert_eq!(says(&mut printer, 3, "running"), []);
        let changes = printer.age(BootTime::from_millis(6_500));
        assert_eq!(last(&changes), (Execution::Running, None));
        assert_eq!(changes[0].at, BootTime::from_millis(3000));
    }

    #[test]
    fn run_time_is_that_of_the_signal_that_decides() {
        let mut printer = printer();
        for second in 1..=10 {
            says(&mut printer, second, "ready");
            uses(&mut printer, second, 120.0);
        }
        assert_eq!(printer.raw_run(), Duration::ZERO);
        for second in 11..=20 {
            says(&mut printer, second, "running");
        }
        assert_eq!(printer.raw_run(), Duration::from_secs(9));
    }
}
