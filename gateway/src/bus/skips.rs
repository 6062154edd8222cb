//! Whether a bus keeps up: how many of the rounds that were due in the last minute it skipped. Pure.
//!
//! A single skipped round is nobody's business: a device was slow, a connection was made again. A
//! bus that is asked for more than it can do skips all the time; it is told, and where to read less
//! often. What is skipped only because units did not answer is no such lack of time, however many
//! they are: those are told by name, and the bus keeps up once they are seen to. The first minute
//! is not looked at: everything is due at once then.

use std::time::Duration;

use andon_engine::time::BootTime;

/// The share of due rounds skipped for lack of time that begins a spell somebody should look at …
const SPELL_FROM: f64 = 0.05;
/// … until it is less than this, so that a line on the edge is not told of every minute.
const SPELL_UNTIL: f64 = 0.03;
/// What is looked at is the last minute, by slots of this length.
const SLOT: Duration = Duration::from_secs(10);
const SLOTS: usize = 6;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spell {
    /// So many rounds were skipped for lack of time, of those that were due in the last minute.
    Begun {
        /// Rounds that were skipped for lack of time.
        skipped: u64,
        /// Rounds that were due, those among them.
        due: u64,
    },
    /// The bus keeps up again.
    Over,
}

/// Rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    due: u64,
    skipped: u64,
    /// Skipped although failures took no time.
    lacking: u64,
}

impl Rounds {
    const fn and(self, other: Self) -> Self {
        Self {
            due: self.due.saturating_add(other.due),
            skipped: self.skipped.saturating_add(other.skipped),
            lacking: self.lacking.saturating_add(other.lacking),
        }
    }
}

/// Rounds of the last minute.
#[derive(Clone, Debug)]
pub(super) struct Skips {
    /// By slot.
    slots: [Rounds; SLOTS],
    slot: u64,
    begun: BootTime,
    share: Option<f64>,
    spell: bool,
}

impl Skips {
    pub(super) const fn new(now: BootTime) -> Self {
        let slot = slot_of(now);
        let none = Rounds { due: 0, skipped: 0, lacking: 0 };
        Self { slots: [none; SLOTS], slot, begun: now, share: None, spell: false }
    }

    /// A round is over at `now`, and so many after it were skipped; `lacking` of them would have
    /// been even if failures had taken no time. Returns what has changed, which is found out once
    /// per slot.
    pub(super) fn add(&mut self, now: BootTime, skipped: u64, lacking: u64) -> Option<Spell> {
        let slot = slot_of(now);
        let mut change = None;
        if slot > self.slot {
            // Nothing ended in the slots between: what stands there is of minutes ago.
            for empty in (self.slot + 1..slot).take(SLOTS) {
                self.slots[place(empty)] = Rounds::default();
            }
            change = self.judge(now);
            self.slots[place(slot)] = Rounds::default();
            self.slot = slot;
        }
        let rounds = Rounds { due: skipped.saturating_add(1), skipped, lacking };
        self.slots[place(slot)] = self.slots[place(slot)].and(rounds);
        change
    }

    /// Share of the rounds due in the last minute that were skipped, 0–1; `None` in the first.
    pub(super) const fn share(&self) -> Option<f64> {
        self.share
    }

    /// Whether a spell is on.
    pub(super) const fn is_spell(&self) -> bool {
        self.spell
    }

    fn judge(&mut self, now: BootTime) -> Option<Spell> {
        if now.since(self.begun) < SLOT * SLOTS as u32 {
            return None;
        }
        let Rounds { due, skipped, lacking } =
            self.slots.iter().fold(Rounds::default(), |sum, slot| sum.and(*slot));
        let share = |of: u64| of as f64 / due.max(1) as f64;
        self.share = Some(share(skipped));
        let before = self.spell;
        self.spell = share(lacking) >= if before { SPELL_UNTIL } else { SPELL_FROM };
        match (before, self.spell) {
            (false, true) => Some(Spell::Begun { skipped: lacking, due }),
            (true, false) => Some(Spell::Over),
            _ => None,
        }
    }
}

const fn slot_of(now: BootTime) -> u64 {
    now.0 / (SLOT.as_nanos() as u64)
}

const fn place(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round a second for `seconds` from `from`; every `nth` skips the one after it.
    fn run(skips: &mut Skips, from: u64, seconds: u64, nth: u64) -> Vec<(u64, Spell)> {
        let rounds = from..from + seconds;
        let add = |at: u64| {
            let skipped = u64::from(nth > 0 && at.is_multiple_of(nth));
            Some((at, skips.add(BootTime::from_millis(at * 1000), skipped, skipped)?))
        };
        rounds.filter_map(add).collect()
    }

    #[test]
    fn a_spell_of_skips_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut skips = Skips::new(BootTime::from_millis(0));
        assert_eq!(run(&mut skips, 1, 300, 5), [(60, Spell::Begun { skipped: 11, due: 70 })]);
        assert!(skips.is_spell() && (skips.share().unwrap() - 1.0 / 6.0).abs() < 0.02);
        assert_eq!(run(&mut skips, 301, 300, 0), [(360, Spell::Over)]);
        assert_eq!((skips.is_spell(), skips.share()), (false, Some(0.0)));
    }

    #[test]
    fn what_failures_cost_is_shown_and_is_no_spell() {
        let mut skips = Skips::new(BootTime::from_millis(0));
        let told: Vec<Spell> =
            (1..600).filter_map(|at| skips.add(BootTime::from_millis(at * 1000), 1, 0)).collect();
        assert_eq!((told.as_slice(), skips.is_spell(), skips.share()), (&[][..], false, Some(0.5)));
    }

    #[test]
    fn a_spell_ends_while_no_more_is_skipped_than_one_dead_device_costs() {
        let mut skips = Skips::new(BootTime::from_millis(0));
        assert_eq!(run(&mut skips, 1, 300, 5).len(), 1);
        assert_eq!(run(&mut skips, 301, 600, 50), [(370, Spell::Over)]);
        assert!(skips.share().unwrap() > 0.01);
    }

    #[test]
    fn rounds_of_minutes_ago_are_not_of_the_last_minute() {
        let mut skips = Skips::new(BootTime::from_millis(0));
        assert_eq!(run(&mut skips, 1, 59, 1), []);
        let told = skips.clone().add(BootTime::from_millis(115_000), 0, 0);
        assert_eq!(told, Some(Spell::Begun { skipped: 10, due: 20 }), "of 50 s to 110 s");
        assert_eq!(skips.add(BootTime::from_millis(300_000), 0, 0), None);
        assert_eq!(skips.share(), Some(0.0));
    }

    #[test]
    fn a_skipped_round_now_and_then_and_the_first_minute_are_no_spell() {
        let mut skips = Skips::new(BootTime::from_millis(0));
        assert_eq!(run(&mut skips, 1, 600, 30), []);
        let mut skips = Skips::new(BootTime::from_millis(0));
        assert_eq!(run(&mut skips, 1, 15, 1), []);
        assert_eq!(skips.share(), None);
    }
}
