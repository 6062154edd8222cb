//! What to read next: groups of one unit and one period on a grid of absolute instants, earliest
//! deadline first. Pure: time comes in, and it knows no socket and no frame.
//!
//! What the owner does at a time is one read, not one round, so a group with an earlier deadline
//! waits for one read of another at most. Every period is met when, for each group, the share of
//! the bus that the groups of no longer period take, and the longest read of any group of a longer
//! period as a share of its own period, are together no more than 1 (the condition of Baker's
//! stack resource policy, a read being the resource); no order meets periods whose shares are more
//! than 1. When they are not met every group still has its turn: one that is late goes before any
//! that has been read since. Of equal deadlines the one that was read longest ago goes first, so
//! that what is skipped falls on all groups of one period alike.
//!
//! A group is released at every whole multiple of its period since the boot and should be read
//! before the next one, its deadline. What is missed is counted and skipped: there is never more
//! than one round of a group outstanding.

use std::time::Duration;

use andon_engine::time::BootTime;

/// A sample keeps its grid instant when it was taken no later after it than this, or a tenth of
/// the period when that is less: equal distances cost a store nothing.
pub const SNAP_MAX: Duration = Duration::from_millis(100);

/// Position of a group in the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupIndex(pub usize);

#[derive(Clone, Debug)]
struct Group {
    period: Duration,
    due: BootTime,
    /// Its round has a period's time from then at least: nothing was due before, or it gave way.
    begun: BootTime,
    last_sample: Option<BootTime>,
    /// When its last round was over.
    served: BootTime,
    skipped: u64,
}

impl Group {
    /// Its deadline, and since when it waits for a turn.
    fn turn(&self) -> (BootTime, BootTime) {
        (self.due.max(self.begun) + self.period, self.served)
    }

    /// When the round after the outstanding one is due if that is over at `now`, and how many
    /// between them are skipped.
    fn next(&self, now: BootTime) -> (BootTime, u64) {
        let next = self.due + self.period;
        let due = next.max(grid(now, self.period));
        let period = self.period.as_nanos().max(1);
        let skipped = due.since(next).as_nanos() / period;
        (due, u64::try_from(skipped).unwrap_or(u64::MAX))
    }
}

/// The groups of a bus.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    groups: Vec<Group>,
}

impl Scheduler {
    /// Groups with these periods; each is due at once, and then at its grid instants. No sample is
    /// stamped with an instant before `now`: an earlier run may have used it.
    pub fn new(periods: impl IntoIterator<Item = Duration>, now: BootTime) -> Self {
        let groups = periods.into_iter().map(|period| {
            let period = period.max(Duration::from_millis(1));
            let before = BootTime(now.0.saturating_sub(1));
            Group {
                period,
                due: grid(now, period),
                begun: now,
                last_sample: Some(before),
                served: BootTime(0),
                skipped: 0,
            }
        });
        Self { groups: groups.collect() }
    }

    /// The released group with the earliest deadline, if any is released; of several the one whose
    /// last round was over first.
    pub fn next(&self, now: BootTime) -> Option<GroupIndex> {
        let released = self.groups.iter().enumerate().filter(|(_, group)| group.due <= now);
        released.min_by_key(|(_, group)| group.turn()).map(|(at, _)| GroupIndex(at))
    }

    /// Whether the group's outstanding round is due.
    pub fn is_released(&self, group: GroupIndex, now: BootTime) -> bool {
        self.groups.get(group.0).is_some_and(|group| group.due <= now)
    }

    /// Until when the group's outstanding round should be over.
    pub fn deadline(&self, group: GroupIndex) -> Option<BootTime> {
        self.groups.get(group.0).map(|group| group.turn().0)
    }

    /// What [`Scheduler::next`] goes by: the least is next, of equal ones that of the first group.
    /// It stays as it is until the group's round is over or gives way.
    pub fn turn(&self, group: GroupIndex) -> Option<(BootTime, BootTime)> {
        self.groups.get(group.0).map(Group::turn)
    }

    /// Rounds of the group that were skipped so far.
    pub fn skipped(&self, group: GroupIndex) -> u64 {
        self.groups.get(group.0).map_or(0, |group| group.skipped)
    }

    /// When the next group is released; `None` without groups.
    pub fn wake(&self) -> Option<BootTime> {
        self.groups.iter().map(|group| group.due).min()
    }

    /// The time to stamp on the group's sample, taken at `taken`: its grid instant when that is
    /// near, else `taken`; always later than the group's sample before. It belongs to the
    /// group's outstanding round, so ask before [`Scheduler::finish`].
    pub fn stamp(&mut self, group: GroupIndex, taken: BootTime) -> BootTime {
        let Some(group) = self.groups.get_mut(group.0) else { return taken };
        let tolerance = (group.period / 10).min(SNAP_MAX);
        let near = taken >= group.due && taken.since(group.due) <= tolerance;
        let mut stamp = if near { group.due } else { taken };
        if let Some(last) = group.last_sample
            && stamp <= last
        {
            stamp = taken.max(last + Duration::from_nanos(1));
        }
        group.last_sample = Some(stamp);
        stamp
    }

    /// How many rounds of the group would be skipped if its outstanding one were over at `now`.
    pub fn skips(&self, group: GroupIndex, now: BootTime) -> u64 {
        self.groups.get(group.0).map_or(0, |group| group.next(now).1)
    }

    /// The group's round is over at `now`. The next one is the latest grid instant not later than
    /// `now`, or the next to come; those between are skipped. Returns how many.
    pub fn finish(&mut self, group: GroupIndex, now: BootTime) -> u64 {
        let Some(group) = self.groups.get_mut(group.0) else { return 0 };
        let (due, skipped) = group.next(now);
        group.due = due;
        group.served = now;
        group.skipped = group.skipped.saturating_add(skipped);
        skipped
    }

    /// The group's outstanding round gives way to those that are due sooner from now on.
    pub fn give_way(&mut self, group: GroupIndex, now: BootTime) {
        if let Some(group) = self.groups.get_mut(group.0) {
            group.begun = now;
        }
    }

    /// The group's last round, which is over, had no chance: it is due again at once.
    pub fn recall(&mut self, group: GroupIndex) {
        if let Some(group) = self.groups.get_mut(group.0) {
            let period = u64::try_from(group.period.as_nanos()).unwrap_or(u64::MAX);
            group.due = BootTime(group.due.0.saturating_sub(period));
        }
    }
}

/// The last whole multiple of `period` not later than `now`.
fn grid(now: BootTime, period: Duration) -> BootTime {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    BootTime(now.0 - now.0 % period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    #[test]
    fn the_earliest_deadline_goes_first() {
        let mut scheduler = Scheduler::new([SECOND * 10, SECOND], at(9_500));
        // However near the grid, a first round has its whole period.
        for group in [GroupIndex(1), GroupIndex(0)] {
            assert_eq!(
                scheduler.next(at(9_500)),
                Some(group),
                "nobody waits for the grid at the start"
            );
            assert_eq!(scheduler.stamp(group, at(9_500)), at(9_500));
            assert_eq!(scheduler.finish(group, at(9_550)), 0);
        }
        assert_eq!(scheduler.next(at(9_999)), None);
        assert_eq!(scheduler.wake(), Some(at(10_000)));
        assert_eq!(scheduler.next(at(10_000)), Some(GroupIndex(1)));
        scheduler.finish(GroupIndex(1), at(10_100));
        assert_eq!(scheduler.next(at(10_100)), Some(GroupIndex(0)));
        // The slow group is overdue by nine periods of the fast one; now it goes first.
        assert_eq!(scheduler.next(at(19_500)), Some(GroupIndex(1)));
        scheduler.finish(GroupIndex(1), at(19_500));
        assert_eq!(scheduler.next(at(19_500)), Some(GroupIndex(0)));
    }

    #[test]
    fn missed_rounds_are_counted_and_not_caught_up() {
        let mut scheduler = Scheduler::new([SECOND], at(1000));
        assert_eq!(scheduler.finish(GroupIndex(0), at(1200)), 0);
        assert_eq!(scheduler.wake(), Some(at(2000)));
        assert_eq!(scheduler.finish(GroupIndex(0), at(7300)), 4);
        assert_eq!(scheduler.wake(), Some(at(7000)));
        assert_eq!(scheduler.finish(GroupIndex(0), at(7400)), 0);
        assert_eq!(scheduler.wake(), Some(at(8000)));
    }

    #[test]
    fn a_round_that_is_recalled_is_due_at_once_and_the_next_one_when_it_was() {
        let mut scheduler = Scheduler::new([SECOND * 10], at(1000));
        scheduler.finish(GroupIndex(0), at(1200));
        assert_eq!(scheduler.next(at(1300)), None);
        scheduler.recall(GroupIndex(0));
        assert_eq!(scheduler.next(at(1300)), Some(GroupIndex(0)));
        assert_eq!(scheduler.finish(GroupIndex(0), at(1400)), 0, "nothing was skipped");
        assert_eq!(scheduler.wake(), Some(at(10_000)));
    }

    #[test]
    fn samples_snap_to_the_grid_when_near_and_keep_their_moment_when_not() {
        let mut scheduler = Scheduler::new([SECOND], at(1000));
        assert_eq!(scheduler.stamp(GroupIndex(0), at(1080)), at(1000));
        scheduler.finish(GroupIndex(0), at(1080));
        assert_eq!(scheduler.stamp(GroupIndex(0), at(2101)), at(2101));
    }

    #[test]
    fn the_first_sample_is_no_older_than_the_start() {
        let mut scheduler = Scheduler::new([SECOND], at(1050));
        assert_eq!(scheduler.stamp(GroupIndex(0), at(1060)), at(1060));
    }

    #[test]
    fn no_two_samples_have_the_same_time() {
        let mut scheduler = Scheduler::new([SECOND], at(1000));
        let first = scheduler.stamp(GroupIndex(0), at(1000));
        let second = scheduler.stamp(GroupIndex(0), at(1000));
        let third = scheduler.stamp(GroupIndex(0), at(900));
        assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
    }

    /// Groups by period and the reads of a round, in milliseconds.
    type Groups = Vec<(u64, Vec<u64>)>;

    fn groups() -> impl Strategy<Value = Groups> {
        let period = prop_oneof![
            prop::sample::select(vec![100u64, 200, 500, 1000, 2000, 5000]),
            50u64..3000,
        ];
        prop::collection::vec((period, prop::collection::vec(1u64..200, 1..5)), 1..8)
    }

    /// Runs them for a minute; calls `ended` with a group, when its round was due, and when over.
    fn run(groups: &Groups, mut ended: impl FnMut(usize, u64, u64)) -> Scheduler {
        let periods = groups.iter().map(|(period, _)| Duration::from_millis(*period));
        let mut scheduler = Scheduler::new(periods, at(0));
        let mut done = vec![0; groups.len()];
        let mut now = 0;
        while now < 60_000 {
            let Some(group) = scheduler.next(at(now)) else {
                now = scheduler.wake().unwrap().as_millis();
                continue;
            };
            let (period, reads) = &groups[group.0];
            now += reads[done[group.0]];
            done[group.0] += 1;
            if done[group.0] == reads.len() {
                done[group.0] = 0;
                let due = scheduler.deadline(group).unwrap().as_millis() - period;
                scheduler.finish(group, at(now));
                ended(group.0, due, now);
            }
        }
        scheduler
    }

    proptest! {
        #[test]
        fn every_period_is_met_when_shares_and_the_longest_read_leave_room(
            groups in groups(), filled in 0.3f64..=1.0,
        ) {
            // Reads are made shorter until the condition holds, by no more than need be.
            let condition = |groups: &Groups| {
                groups.iter().map(|(period, _)| {
                    let total = |reads: &Vec<u64>| reads.iter().sum::<u64>() as f64;
                    let shares = groups.iter().filter(|(other, _)| other <= period);
                    let shares: f64 = shares.map(|(p, reads)| total(reads) / *p as f64).sum();
                    let longer = groups.iter().filter(|(other, _)| other > period);
                    let longest = longer.flat_map(|(_, reads)| reads).max().copied();
                    shares + longest.unwrap_or(0) as f64 / *period as f64
                }).fold(0.0, f64::max)
            };
            let mut groups = groups;
            while condition(&groups) > filled {
                let longest = groups.iter_mut().flat_map(|(_, reads)| reads).max().unwrap();
                prop_assume!(*longest > 1);
                *longest = *longest * 9 / 10;
            }
            let mut late = Vec::new();
            let scheduler = run(&groups, |group, due, over| {
                if over > due + groups[group].0 {
                    late.push((group, due, over));
                }
            });
            prop_assert!(late.is_empty(), "{groups:?}: {late:?}");
            prop_assert!((0..groups.len()).all(|at| scheduler.skipped(GroupIndex(at)) == 0));
        }

        #[test]
        fn nobody_starves_however_much_is_asked(groups in groups()) {
            let all: u64 = groups.iter().flat_map(|(_, reads)| reads).sum();
            let mut last = vec![0; groups.len()];
            let mut turns = vec![0u64; groups.len()];
            let mut longest = vec![0; groups.len()];
            let scheduler = run(&groups, |group, _, over| {
                longest[group] = (over - last[group]).max(longest[group]);
                last[group] = over;
                turns[group] += 1;
            });
            for (at, (period, _)) in groups.iter().enumerate() {
                // A period until it is due, one until it is late, and a round of every other.
                let bound = 2 * period + 2 * all;
                prop_assert!(longest[at] <= bound, "{groups:?}: {at} waits {}", longest[at]);
                // Every round that was due was had or counted; the last may be under way.
                let rounds = turns[at] + scheduler.skipped(GroupIndex(at));
                prop_assert!(rounds.abs_diff(last[at] / period) <= 1, "{rounds} of {period} ms");
            }
        }
    }

    #[test]
    fn under_overload_every_group_still_has_its_turn() {
        let mut scheduler = Scheduler::new([SECOND; 4], at(0));
        let mut turns = [0u32; 4];
        let mut now = 0;
        while now < 60_000 {
            let group = scheduler.next(at(now)).unwrap();
            now += 700;
            turns[group.0] += 1;
            scheduler.finish(group, at(now));
        }
        assert!(turns.iter().all(|&turns| turns >= 20), "{turns:?}");
    }

    #[test]
    fn what_is_skipped_under_overload_falls_on_equal_periods_alike() {
        // Six devices every second, with long and short reads by turns: 10 % to 90 % too much.
        for over in [110u64, 120, 135, 150, 190] {
            let reads = |at: usize| if at.is_multiple_of(2) { over } else { over * 2 / 3 };
            let groups: Groups = (0..6).map(|at| (1000, vec![reads(at); 2])).collect();
            let scheduler = run(&groups, |_, _, _| {});
            let skipped: Vec<u64> = (0..6).map(|at| scheduler.skipped(GroupIndex(at))).collect();
            let (least, most) = (skipped.iter().min().unwrap(), skipped.iter().max().unwrap());
            assert!(*least > 0 && most - least <= 2, "{over} %: {skipped:?}");
        }
    }
}
