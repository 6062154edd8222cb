//! Gaps: addresses that nobody wants, which a unit is read around because it refused to read across
//! them while it answered for what lies on either side. Which of them are proved, and when each is
//! tried again. Pure; it must not decide what is read around, that is `rounds`' matter.
//!
//! A refusal may come of registers that a device does not have, and of one that was just starting.
//! So a gap is read around at once, but proved, and noted down, only when it was refused once more,
//! [`CONFIRM_AFTER`] later. What is proved is tried again a while after the gateway, the bus or the
//! device came up, for it may be another device, and then once in [`AGAIN_AFTER`]. A try is one read
//! in place of the two beside the gap, or, where those are too much for one, of what may be read as
//! one on either side: answered, it costs what they do or less; refused, the frames of a refusal, and
//! one or two requests more. Bounds: one try in [`TRY_LEAST`] on a bus, whose line hence gives it a
//! few per cent of its time while gaps are due; as many gaps as there are [`Holes`].

use std::sync::Arc;
use std::time::Duration;

use andon_adapters::modbus::{Batch, Block, Holes, Table};
use andon_adapters::profile::Profile;
use andon_engine::time::BootTime;

/// A gap is proved no sooner than this after it was found: by then a device has started.
const CONFIRM_AFTER: Duration = Duration::from_secs(10);
/// After the gateway, the bus or the device came up, what is proved is tried again no sooner.
const SETTLE: Duration = Duration::from_secs(60);
/// What is proved is tried again after this time …
const AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// … and no gap is sooner than this after a try, however often a device comes and goes, or when
/// the try proved nothing: it was not heard, or an item beside the gap was refused.
const RETRY_LEAST: Duration = Duration::from_secs(600);
/// Least time between two tries on a bus.
pub(super) const TRY_LEAST: Duration = Duration::from_secs(10);

/// Table, first address and count; count 0 is a boundary.
type Gap = (Table, u16, u16);

#[derive(Clone, Copy, Debug)]
struct Belief {
    gap: Gap,
    proved: bool,
    due: BootTime,
    tried: Option<BootTime>,
}

/// The gaps of one unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps(Vec<Belief>);

impl Gaps {
    /// Those of `holes`, which are known from before, that no `wanted` item lies in: such an item is
    /// asked for alone now and then.
    pub(super) fn remembered(holes: &Holes, wanted: &[Block], now: BootTime) -> Self {
        let hit = |&(table, start, count): &Gap| {
            let end = u32::from(start) + u32::from(count);
            let lies = |it: &Block| {
                it.table == table && u32::from(it.start) < end && u32::from(start) < it.end()
            };
            wanted.iter().any(lies)
        };
        let belief = |gap| Belief { gap, proved: true, due: now + SETTLE, tried: None };
        Self(holes.iter().filter(|gap| !hit(gap)).map(belief).collect())
    }

    /// A gap was found: it was refused, and either side was answered.
    pub(super) fn found(&mut self, gap: Gap, now: BootTime) {
        self.0.push(Belief { gap, proved: false, due: now + CONFIRM_AFTER, tried: None });
    }

    /// The unit may be another one, or have learned: it was away, or its bus was.
    pub(super) fn returned(&mut self, now: BootTime) {
        for belief in &mut self.0 {
            let least = belief.tried.map_or(BootTime(0), |tried| tried + RETRY_LEAST);
            belief.due = belief.due.min(least.max(now + SETTLE));
        }
    }

    /// The reads of a round with one across a gap that is due, by [`Batch::across`] in place of the two
    /// beside it. `None` where none is due, or where it is not known to be all that parts them.
    pub(super) fn attempt(
        &mut self,
        reads: &[Arc<Batch>],
        holes: &Holes,
        profile: &Profile,
        now: BootTime,
    ) -> Option<Arc<[Arc<Batch>]>> {
        if !self.0.iter().any(|belief| belief.due <= now) {
            return None;
        }
        for (at, pair) in reads.windows(2).enumerate() {
            let (left, right) = (&pair[0], &pair[1]);
            let due = |it: &Belief| it.due <= now && lies_between(it.gap, left, right);
            let known = |gap: &Gap| self.0.iter().any(|belief| belief.gap == *gap);
            let only =
                || holes.iter().filter(|it| lies_between(*it, left, right)).all(|it| known(&it));
            if !self.0.iter().any(due)
                || !only()
                || holes.obstruct(left.block)
                || holes.obstruct(right.block)
            {
                continue;
            }
            let Some(across) = left.across(right, profile) else { continue };
            for belief in self.0.iter_mut().filter(|it| lies_between(it.gap, left, right)) {
                // Until it is known what became of it: nobody may hear the answer.
                (belief.tried, belief.due) = (Some(now), now + RETRY_LEAST);
            }
            let (before, after) = (&reads[..at], &reads[at + 2..]);
            let across = across.into_iter().map(Arc::new);
            return Some(
                before.iter().cloned().chain(across).chain(after.iter().cloned()).collect(),
            );
        }
        None
    }

    /// What lies between two reads was refused, and either was answered. Returns whether gaps that
    /// are known lie there, which are proved by it, and whether that is news of any.
    pub(super) fn refused(&mut self, left: &Batch, right: &Batch, now: BootTime) -> (bool, bool) {
        let (mut known, mut news) = (false, false);
        for belief in self.0.iter_mut().filter(|it| lies_between(it.gap, left, right)) {
            (known, news) = (true, news || !belief.proved);
            (belief.proved, belief.due) = (true, now + AGAIN_AFTER);
        }
        (known, news)
    }

    /// Forgets what is no hole any more.
    pub(super) fn keep(&mut self, holes: &Holes) {
        self.0.retain(|belief| holes.iter().any(|hole| hole == belief.gap));
    }

    /// Of `holes`, what may be noted down: all but the gaps that are not proved yet.
    pub(super) fn proved(&self, holes: &Holes) -> Holes {
        let mut proved = Holes::default();
        let doubtful = |gap| self.0.iter().any(|belief| belief.gap == gap && !belief.proved);
        for (table, start, count) in holes.iter().filter(|&gap| !doubtful(gap)) {
            proved.insert(table, start, count);
        }
        proved
    }
}

fn lies_between((table, start, count): Gap, left: &Batch, right: &Batch) -> bool {
    table == left.block.table
        && table == right.block.table
        && left.block.end() <= u32::from(start)
        && u32::from(start) + u32::from(count) <= u32::from(right.block.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::tests::bench::profile;
    use andon_adapters::modbus::coalesce;

    const fn at(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    fn holes(list: &[(u16, u16)]) -> Holes {
        let mut holes = Holes::default();
        for &(start, count) in list {
            assert!(holes.insert(Table::Holding, start, count));
        }
        holes
    }

    /// The blocks of a round's reads of all `addresses`, tries among them.
    fn reads(gaps: &mut Gaps, addresses: &[u16], holes: &Holes, now: BootTime) -> String {
        let profile = profile(addresses);
        let all: Vec<usize> = (0..addresses.len()).collect();
        let plan: Vec<_> = coalesce(&profile, &all, holes).into_iter().map(Arc::new).collect();
        let tried = gaps.attempt(&plan, holes, &profile, now);
        let blocks = tried
            .as_deref()
            .unwrap_or(&plan)
            .iter()
            .map(|it| format!("{}+{}", it.block.start, it.block.count));
        blocks.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_gap_is_tried_once_more_and_then_once_a_day() {
        let (holes, addresses) = (holes(&[(3, 2), (8, 0)]), [0, 5, 6, 7, 8]);
        let mut gaps = Gaps::default();
        gaps.found((Table::Holding, 3, 2), at(100));
        assert_eq!(gaps.proved(&holes).len(), 1, "not noted down yet");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(109)), "0+1 5+3 8+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(110)), "0+8 8+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(111)), "0+1 5+3 8+1");
        // It was not heard, or refused for another reason: some minutes later.
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(709)), "0+1 5+3 8+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(710)), "0+8 8+1");
        let profile = profile(&addresses);
        let [left, right, _] = &coalesce(&profile, &[0, 1, 2, 3, 4], &holes)[..] else { panic!() };
        assert_eq!(gaps.refused(left, right, at(710)), (true, true));
        assert_eq!(gaps.refused(left, right, at(710)), (true, false));
        assert_eq!(gaps.proved(&holes), holes);
        let day = AGAIN_AFTER.as_secs();
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(709 + day)), "0+1 5+3 8+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(710 + day)), "0+8 8+1");
    }

    #[test]
    fn what_is_remembered_is_tried_a_minute_after_the_start_and_after_each_return() {
        let (holes, addresses) = (holes(&[(3, 2)]), [0, 5]);
        let mut gaps = Gaps::remembered(&holes, &[], at(0));
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(59)), "0+1 5+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(60)), "0+6");
        // However often it comes back, no more than every ten minutes.
        for seconds in 61..660 {
            gaps.returned(at(seconds));
            assert_eq!(reads(&mut gaps, &addresses, &holes, at(seconds)), "0+1 5+1");
        }
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(720)), "0+6");
    }

    #[test]
    fn nothing_is_tried_across_an_item_that_is_refused_or_beyond_what_one_read_may_ask() {
        // Register 4 is an item's, which is asked for alone.
        let known = holes(&[(3, 0), (4, 1)]);
        let wanted = [Block { table: Table::Holding, start: 4, count: 1 }];
        let mut gaps = Gaps::remembered(&known, &wanted, at(0));
        assert_eq!(reads(&mut gaps, &[0, 4, 5], &known, at(100)), "0+1 4+1 5+1");
        assert_eq!(reads(&mut gaps, &[0, 5], &known, at(100)), "0+1 5+1");
        let wide = holes(&[(3, 2)]);
        let mut gaps = Gaps::remembered(&wide, &[], at(0));
        assert_eq!(reads(&mut gaps, &[0, 125], &wide, at(100)), "0+1 125+1");
        assert_eq!(reads(&mut gaps, &[0, 124], &wide, at(100)), "0+125");
    }

    #[test]
    fn where_the_reads_beside_a_gap_are_too_much_for_one_what_lies_next_to_it_is_tried() {
        let addresses: Vec<u16> = (0..40).map(|at| at * 4).collect();
        for (gap, usual, tried) in [
            ((41, 3), "0+41 44+113", "0+85 88+69"),
            ((44, 0), "0+41 44+113", "0+85 88+69"),
            ((121, 3), "0+121 124+33", "0+85 88+69"),
        ] {
            let holes = holes(&[gap]);
            let mut gaps = Gaps::remembered(&holes, &[], at(0));
            assert_eq!(reads(&mut gaps, &addresses, &holes, at(59)), usual);
            assert_eq!(reads(&mut gaps, &addresses, &holes, at(60)), tried);
            assert_eq!(reads(&mut gaps, &addresses, &holes, at(61)), usual);
        }
    }

    #[test]
    fn a_try_of_what_is_proved_that_was_not_heard_is_made_again_after_minutes() {
        let (holes, addresses) = (holes(&[(3, 2)]), [0, 5]);
        let mut gaps = Gaps::remembered(&holes, &[], at(0));
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(60)), "0+6");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(659)), "0+1 5+1");
        assert_eq!(reads(&mut gaps, &addresses, &holes, at(660)), "0+6");
    }
}
