//! A group's round: which reads it takes, what each brought, and its end.
//!
//! A failure is a reading too: whatever is due is delivered in its round, if need be as
//! unavailable, and without bus time where none would help; but for a device that is slow and not
//! asked, of which nothing failed. Rounds of one unit that begin together share reads: such a read
//! belongs to the one with the earliest deadline, and the others have their part of it. When to
//! read is `owner`'s matter.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use andon_adapters::modbus::{Batch, Block, decode};
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use super::gaps::TRY_LEAST;
use super::group::Round;
use super::owner::{NobodyListens, Owner, Unit};
use super::question::{Answer, Fault};
use super::scheduler::GroupIndex;
use super::skips::Spell;
use super::status::{Refusal, UnitStatus};
use super::transaction::Framing;
use super::unit::UnitState;

/// An item that the device refuses alone is asked for again after this time: firmware changes,
/// and a device that is still starting may refuse what it later knows.
const REFUSED_RETRY: Duration = Duration::from_secs(600);

/// A round under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Reads that are still to come, the next one first.
    waiting: VecDeque<Arc<Batch>>,
    round: Round,
    splits: Vec<(Batch, Batch)>,
    /// What was answered since the first of them.
    answered: Vec<Block>,
    refused: Vec<Block>,
    /// Its one second try has been had.
    retried: bool,
    /// It was ended by a failure: what was refused until then proves nothing.
    broken: bool,
    /// Its unit might be asked when it began, or when another of its rounds did. One that turns out
    /// slow is asked to its end then: else nothing beyond its first read would ever be heard.
    allowed: bool,
}

/// What was done for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The device was asked.
    Asked,
    /// Something was known to stand in for an answer.
    StoodIn,
}

impl Owner {
    /// One read of this group's round, which is due at `now`, or what stands in for it, and
    /// whatever round that ends.
    pub(super) async fn step(
        &mut self,
        group: usize,
        now: BootTime,
    ) -> Result<Step, NobodyListens> {
        if self.rounds[group].is_none() {
            self.begin(group, now);
        }
        let unit = self.groups[group].unit;
        let group = self.asker(group);
        let mut step = Step::StoodIn;
        let (up, may_go_on) = (self.link.is_up(), self.may_go_on(group, now));
        let passed_over = up && may_go_on && self.is_no_time_to_probe(unit);
        if passed_over {
            self.lose(unit, |owner| &mut owner.passed_over);
        }
        let turned_away = passed_over || !may_go_on;
        if turned_away && matches!(self.units[unit].health.state(), UnitState::Slow { .. }) {
            // It answers, and is not asked now: its values grow old by themselves.
            self.skip(group);
        } else if !up {
            self.break_off(group, Unavailable::Disconnected);
        } else if turned_away {
            self.break_off(group, self.units[unit].why);
        } else {
            step = self.read_next(group, now).await;
        }
        for group in self.units[unit].reads.groups() {
            if self.has_ended(group) {
                self.conclude_round(group).await?;
            }
        }
        Ok(step)
    }

    /// The group whose read comes next for this one: another of its unit where that has all of them.
    fn asker(&self, group: usize) -> usize {
        let reads = &self.units[self.groups[group].unit].reads;
        let waits = |group: usize| self.rounds[group].iter().flat_map(|it| it.waiting.iter());
        if waits(group).next().is_some() {
            return group;
        }
        let serves = |other: &usize| waits(*other).any(|batch| reads.serves(batch, group));
        reads.groups().find(serves).unwrap_or(group)
    }

    /// Whether its unit may be asked, or was when this round began and is only slow.
    fn may_go_on(&self, group: usize, now: BootTime) -> bool {
        let health = &self.units[self.groups[group].unit].health;
        let allowed = self.rounds[group].as_ref().is_some_and(|progress| progress.allowed);
        health.may_ask(now) || (allowed && matches!(health.state(), UnitState::Slow { .. }))
    }

    /// Whether a unit that is dead, or slow, would be asked while another's question may hold the
    /// gateway: those that answer show whether it does.
    fn is_no_time_to_probe(&mut self, unit: usize) -> bool {
        let left_alone = self.units[unit].health.is_left_alone();
        let holder = self.link.connection().and_then(|connection| connection.holder());
        left_alone && holder.is_some_and(|holder| holder != unit)
    }

    /// Begins the rounds of all groups of the unit that are due.
    fn begin(&mut self, group: usize, now: BootTime) {
        let unit = &mut self.units[self.groups[group].unit];
        let allowed = unit.health.may_ask(now);
        if allowed && matches!(unit.health.state(), UnitState::Slow { .. }) {
            unit.reads.groups().for_each(|group| self.has_turn[group] = true);
        }
        let (rounds, scheduler) = (&mut self.rounds, &self.scheduler);
        let waits = |&group: &usize| {
            rounds[group].is_none() && scheduler.is_released(GroupIndex(group), now)
        };
        let mut due: Vec<usize> = unit.reads.groups().filter(waits).collect();
        // The scheduler's order, so that no group's turn comes before the read that it shares.
        due.sort_by_key(|&group| (scheduler.turn(GroupIndex(group)), group));
        // Those that begin together may share reads.
        let allowed = allowed || due.iter().any(|&group| self.has_turn[group]);
        for &group in &due {
            self.has_turn[group] = false;
            rounds[group] = Some(Progress { allowed, ..Progress::default() });
        }
        unit.reads.retime(unit.turnaround.usual(), now);
        let reads = unit.reads.of(&due, &unit.holes);
        // A device that answers, and not more often than the line can spare it.
        let answers = unit.last_answer.is_some() && unit.health.answers(now);
        let early = self.gap_tried.is_some_and(|tried| now.since(tried) < TRY_LEAST);
        let attempt = (answers && !early)
            .then(|| unit.gaps.attempt(&reads, &unit.holes, &unit.plan.profile, now))
            .flatten();
        if attempt.is_some() {
            self.gap_tried = Some(now);
        }
        for batch in attempt.as_ref().unwrap_or(&reads).iter() {
            let first = due.iter().find(|&&group| unit.reads.serves(batch, group));
            if let Some(progress) = first.and_then(|&group| rounds[group].as_mut()) {
                progress.waiting.push_back(batch.clone());
            }
        }
    }

    /// Whether nothing more is to come for a round that is under way: no read that holds an item
    /// of it, nor a part of one of its own, which may hold others' items alone.
    fn has_ended(&self, group: usize) -> bool {
        let reads = &self.units[self.groups[group].unit].reads;
        let serves =
            |progress: &Progress| progress.waiting.iter().any(|batch| reads.serves(batch, group));
        self.rounds[group].as_ref().is_some_and(|progress| progress.waiting.is_empty())
            && !reads.groups().any(|other| self.rounds[other].as_ref().is_some_and(serves))
    }

    async fn read_next(&mut self, group: usize, now: BootTime) -> Step {
        let next = self.rounds[group].as_mut().and_then(|progress| progress.waiting.pop_front());
        let Some(batch) = next else { return Step::StoodIn };
        let unit = self.groups[group].unit;
        if self.is_refused(unit, &batch, now) {
            self.fail(unit, &batch, Unavailable::Refused);
            return Step::StoodIn;
        }
        let known = self.units[unit].last_answer.is_some() || self.link.framing() == Framing::Rtu;
        let before = self.units[unit].health.state();
        let online = known && before == UnitState::Online;
        let fence = self.fence_before(unit, batch.block);
        let result = self.read(unit, fence.unwrap_or(batch.block)).await;
        self.note_return(unit, before);
        if matches!(self.units[unit].health.state(), UnitState::Slow { .. }) {
            // Each of its reads takes long: the others are not to wait for all of them.
            let now = self.now();
            let groups = self.units[unit].reads.groups();
            groups.for_each(|group| self.scheduler.give_way(GroupIndex(group), now));
        }
        let Some(progress) = self.rounds[group].as_mut() else { return Step::Asked };
        if fence.is_some() {
            self.units[unit].counters.retries += 1;
        }
        match result {
            // Its turn comes again: after a write, if one waits, or an earlier deadline.
            _ if fence.is_some() && self.units[unit].fence.is_none() => {
                progress.waiting.push_front(batch);
            }
            Err(Fault::Timeout) if self.urgent.is_some() => progress.waiting.push_front(batch),
            Ok(answer) => {
                if !progress.splits.is_empty() {
                    progress.answered.push(batch.block);
                }
                self.answered(unit, &batch, &answer);
            }
            Err(Fault::Exception(code @ (2 | 3))) => {
                match batch.split(&self.units[unit].plan.profile) {
                    Some((left, right)) => {
                        progress.waiting.push_front(Arc::new(right.clone()));
                        progress.waiting.push_front(Arc::new(left.clone()));
                        progress.splits.push((left, right));
                        self.units[unit].counters.part();
                    }
                    None => {
                        progress.refused.push(batch.block);
                        self.refuse(unit, &batch, code);
                    }
                }
            }
            Err(Fault::Exception(1)) => self.refuse(unit, &batch, 1),
            Err(Fault::Timeout | Fault::Garbled)
                if online && !progress.retried && self.link.is_worth_waiting_for() =>
            {
                progress.retried = true;
                progress.waiting.push_front(batch);
                self.units[unit].counters.retries += 1;
            }
            Err(
                Fault::Exception(0x0A | 0x0B)
                | Fault::Timeout
                | Fault::Garbled
                | Fault::Disconnected,
            ) => {
                progress.waiting.push_front(batch);
                self.break_off(group, self.units[unit].why);
            }
            Err(Fault::Exception(_)) => self.fail(unit, &batch, Unavailable::Refused),
        }
        Step::Asked
    }

    /// A unit that was away may be another one now.
    fn note_return(&mut self, unit: usize, before: UnitState) {
        let away = matches!(before, UnitState::Quarantined { .. });
        if away && self.units[unit].health.state() == UnitState::Online {
            let now = self.now();
            self.units[unit].gaps.returned(now);
        }
    }

    fn answered(&mut self, unit: usize, batch: &Batch, answer: &Answer) {
        let now = self.now();
        let words = answer.words();
        self.memo.note(unit, batch, words, now);
        let known = &mut self.units[unit];
        for (item, measured) in decode(&known.plan.profile, batch, words) {
            let Some((group, place)) = known.reads.place_of(item) else { continue };
            if let Some(progress) = self.rounds[group].as_mut() {
                progress.round.taken.get_or_insert(now);
                self.groups[group].feed(&self.plan, place, &measured, &mut progress.round);
            }
        }
        if known.forget_refusal(batch) | known.holes.forget(batch.block) {
            known.gaps.keep(&known.holes);
            known.reads.replan();
            self.memory.learned();
        }
    }

    /// Every item of `batch` is unavailable, whosever it is.
    fn fail(&mut self, unit: usize, batch: &Batch, why: Unavailable) {
        for &item in &batch.items {
            let Some((group, place)) = self.units[unit].reads.place_of(item) else { continue };
            if let Some(progress) = self.rounds[group].as_mut() {
                self.groups[group].feed(&self.plan, place, &Err(why), &mut progress.round);
            }
        }
    }

    /// The rounds of a unit that are under way had no chance; those that share reads have lost them
    /// all.
    fn lose(&mut self, unit: usize, lost: fn(&mut Self) -> &mut Vec<bool>) {
        for group in self.units[unit].reads.groups() {
            if let Some(progress) = &self.rounds[group] {
                self.has_turn[group] |= progress.allowed;
                lost(self)[group] = true;
            }
        }
    }

    /// Ends the round's reads: nothing is known of what waits.
    fn skip(&mut self, group: usize) {
        if let Some(progress) = self.rounds[group].as_mut() {
            progress.broken = true;
            progress.waiting.clear();
        }
    }

    /// Ends the round's reads: what waits is unavailable.
    fn break_off(&mut self, group: usize, why: Unavailable) {
        let unit = self.groups[group].unit;
        // A unit whose questions end the stream is not what it is opened for.
        if why == Unavailable::Disconnected && self.units[unit].ended <= 1 {
            self.lose(unit, |owner| &mut owner.cut);
        }
        let Some(progress) = self.rounds[group].as_mut() else { return };
        progress.broken = true;
        for batch in std::mem::take(&mut progress.waiting) {
            self.fail(unit, &batch, why);
        }
    }

    /// The round is over: what it brought is delivered, and the next one is due in its time.
    async fn conclude_round(&mut self, group: usize) -> Result<(), NobodyListens> {
        let Some(mut progress) = self.rounds[group].take() else { return Ok(()) };
        let unit = self.groups[group].unit;
        if !progress.broken {
            self.remember_holes(unit, &progress);
        }
        let now = self.now();
        let round = std::mem::take(&mut progress.round);
        if let Some(taken) = round.taken
            && let Some(before) = self.sampled[group].replace(taken)
        {
            self.ages[group].add(now, now.since(before));
        }
        let at = self.scheduler.stamp(GroupIndex(group), round.taken.unwrap_or(now));
        let failed = self.failed - std::mem::replace(&mut self.failed_before[group], self.failed);
        let without = BootTime(now.0.saturating_sub(failed.as_nanos() as u64));
        let lacking = self.scheduler.skips(GroupIndex(group), without);
        let skipped = self.scheduler.finish(GroupIndex(group), now);
        if let Some(spell) = self.skips.add(now, skipped, lacking) {
            self.tell(spell);
        }
        self.publish_unit(unit, now);
        let Self { memory, units, .. } = self;
        memory.tend(now, units.iter().map(Unit::known));
        for delivery in round.deliveries(at, &self.machines) {
            self.deliver(delivery).await?;
        }
        Ok(())
    }

    /// Says once that the bus skips what is due, and once that it keeps up again.
    fn tell(&self, spell: Spell) {
        let bus = &self.plan.id;
        match spell {
            Spell::Begun { skipped, due } => tracing::warn!(
                %bus, skipped, due,
                "The bus cannot keep up: readings that were due in the last minute were skipped. \
                 See \"andon plan\"."
            ),
            Spell::Over => tracing::info!(%bus, "The bus keeps up again."),
        }
    }

    fn is_refused(&self, unit: usize, batch: &Batch, now: BootTime) -> bool {
        let refused = &self.units[unit].refused;
        batch.items.iter().all(|item| refused.get(item).is_some_and(|it| now < it.until))
    }

    fn refuse(&mut self, unit: usize, batch: &Batch, exception: u8) {
        let (at, block) = (self.now(), batch.block);
        let refusal =
            Refusal { block, exception, at, until: at + REFUSED_RETRY, remembered: false };
        let refused = Arc::make_mut(&mut self.units[unit].refused);
        // Asked again and refused again is no news.
        let is_news = !batch.items.iter().all(|item| refused.contains_key(item));
        refused.extend(batch.items.iter().map(|&item| (item, refusal)));
        if is_news {
            tracing::info!(
                bus = %self.plan.id,
                unit = %self.units[unit].plan.source,
                block = %batch.block,
                "the device refuses these addresses; they are asked for rarely"
            );
        }
        self.fail(unit, batch, Unavailable::Refused);
    }

    /// After a round that was answered to the end: plans the unit's reads around what it refused.
    fn remember_holes(&mut self, unit: usize, progress: &Progress) {
        let Progress { splits, answered, refused, .. } = progress;
        let now = self.now();
        let unit = &mut self.units[unit];
        let (mut news, mut proved) = (false, false);
        for block in refused {
            news |= unit.holes.insert(block.table, block.start, block.count);
            let known = unit.holes.iter().any(|it| it == (block.table, block.start, block.count));
            let refusals = Arc::make_mut(&mut unit.refused).values_mut();
            refusals.filter(|it| it.block == *block).for_each(|it| it.remembered = known);
        }
        for (left, right) in splits {
            // Where a part was refused itself, or not heard, that may have been all that was wrong.
            if !answered.contains(&left.block) || !answered.contains(&right.block) {
                continue;
            }
            let (known, proves) = unit.gaps.refused(left, right, now);
            proved |= proves;
            if !known && let Some(gap) = unit.holes.insert_between(left, right) {
                unit.gaps.found(gap, now);
                news = true;
            }
        }
        if news {
            unit.gaps.keep(&unit.holes);
            unit.reads.replan();
        }
        if news || proved {
            self.memory.learned();
        }
    }

    /// Brings the snapshot up to date.
    pub(super) fn publish(&mut self) {
        let now = self.now();
        (0..self.units.len().max(1)).for_each(|unit| self.publish_unit(unit, now));
    }

    /// Brings the bus's own figures and those of one unit up to date.
    pub(super) fn publish_unit(&mut self, index: usize, now: BootTime) {
        let (occupancy, rate) = (self.occupancy.share(now), self.occupancy.rate(now));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.down.as_deref() != self.link.why() {
            status.down = self.link.why().map(str::to_owned);
        }
        (status.occupancy, status.request_rate) = (occupancy, rate);
        status.stray_bytes = self.strays;
        (status.skipped_share, status.skipping) = (self.skips.share(), self.skips.is_spell());
        let Some((unit, shown)) = self.units.get_mut(index).zip(status.units.get_mut(index)) else {
            return;
        };
        let before = shown.skipped;
        let groups = unit.reads.groups();
        show(unit, shown);
        for (group, shown) in groups.zip(&mut shown.groups) {
            shown.skipped = self.scheduler.skipped(GroupIndex(group));
            shown.sampled = self.sampled[group];
            shown.age = self.ages[group].greatest(now);
            shown.refused = 0;
        }
        for (group, _) in unit.refused.keys().filter_map(|&item| unit.reads.place_of(item)) {
            if let Some(shown) = shown.groups.get_mut(group - unit.reads.groups().start) {
                shown.refused += 1;
            }
        }
        shown.skipped = shown.groups.iter().map(|group| group.skipped).sum();
        let more = shown.skipped - before;
        status.skipped += more;
    }
}

fn show(unit: &Unit, shown: &mut UnitStatus) {
    shown.state = unit.health.state();
    shown.last_answer = unit.last_answer;
    shown.allowance = unit.turnaround.allowance();
    shown.turnaround = unit.usual();
    shown.holes = unit.holes.len();
    shown.refused = unit.refused.clone();
    shown.counters = unit.counters;
}
