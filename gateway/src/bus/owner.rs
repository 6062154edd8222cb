//! The loop that owns a bus: writes first, then one read of the released group with the earliest
//! deadline, then the same again; so an earlier deadline waits for one read of another, and a write
//! for the frame on the wire: for its answer or the end of its allowance, and for the drain after
//! it. A longer wait (for a slow device, or a gateway that is held) ends when a write comes. It must not decide what a value means; what a read is and what follows
//! from it is in `rounds`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use andon_adapters::modbus::{Batch, Block, Holes};
use andon_adapters::profile::ProfileItem;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::gaps::Gaps;
use super::gather::Gather;
use super::group::{Group, Machines};
use super::link::{Link, PATIENCE};
use super::memory::Memory;
use super::reads::Reads;
use super::rounds::{Progress, Step};
use super::scheduler::{GroupIndex, Scheduler};
use super::skips::Skips;
use super::status::{Ages, Counters, Occupancy, Refusal, Status};
use super::timing::{LineTiming, Turnaround};
use super::transaction::Framing;
use super::transport::Opener;
use super::unit::UnitHealth;
use super::words::Memo;
use super::{Delivery, Sink, WriteCoil};
use crate::config::plan::{BusPlan, UnitPlan};

/// Whether the bus plan lets anybody write this coil.
pub(super) fn is_allowed(plan: &BusPlan, write: &WriteCoil) -> bool {
    plan.units.get(write.unit).is_some_and(|unit| unit.writable_coils.contains(&write.coil))
}

/// What is known of a unit.
pub(super) struct Unit {
    pub(super) plan: UnitPlan,
    pub(super) health: UnitHealth,
    pub(super) turnaround: Turnaround,
    /// What was measured before the restart.
    pub(super) remembered: Option<Duration>,
    pub(super) holes: Holes,
    /// Those of the holes that no item lies in.
    pub(super) gaps: Gaps,
    pub(super) reads: Reads,
    /// Items (positions in the profile) that are refused alone.
    pub(super) refused: Arc<BTreeMap<usize, Refusal>>,
    /// Questions in a row with which the stream ended; not on a serial line, which ends for itself.
    pub(super) ended: u32,
    /// The read that failed last on a serial line. It is asked again before any other, so that a
    /// late answer to it is an answer to the same question.
    pub(super) fence: Option<(Block, Instant)>,
    /// The first failure after power or cable may have been away does not count: some devices
    /// swallow the first frame.
    pub(super) grace: bool,
    /// It has been told that it answers too slowly.
    pub(super) slow: bool,
    /// Why it does not answer.
    pub(super) why: Unavailable,
    pub(super) last_answer: Option<BootTime>,
    pub(super) counters: Counters,
}

impl Unit {
    /// What it usually needs before it answers, if anybody knows.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.turnaround.usual().or(self.remembered)
    }

    /// It answered for these items: what was refused of them is not any more. Returns whether any
    /// was.
    pub(super) fn forget_refusal(&mut self, batch: &Batch) -> bool {
        let known = batch.items.iter().any(|item| self.refused.contains_key(item));
        if known {
            Arc::make_mut(&mut self.refused).retain(|item, _| !batch.items.contains(item));
        }
        known
    }

    /// What is to be remembered of it.
    pub(super) fn known(&self) -> (&UnitPlan, Holes, Option<Duration>) {
        (&self.plan, self.gaps.proved(&self.holes), self.usual())
    }
}

/// Owner of one bus.
pub(super) struct Owner {
    pub(super) plan: Arc<BusPlan>,
    pub(super) link: Link,
    pub(super) units: Vec<Unit>,
    pub(super) groups: Vec<Group>,
    /// By group: its round, when it is under way.
    pub(super) rounds: Vec<Option<Progress>>,
    /// By group: when its values were last sampled.
    pub(super) sampled: Vec<Option<BootTime>>,
    /// By group: its last round was broken off because there was no stream, so it is due again as
    /// soon as there is one.
    pub(super) cut: Vec<bool>,
    /// By group: its unit was passed over while another's question held the gateway, so it is due
    /// again as soon as nothing does.
    pub(super) passed_over: Vec<bool>,
    /// By group: its unit, which is slow, was asked for another one since this one was.
    pub(super) has_turn: Vec<bool>,
    /// By group: how old its values became.
    pub(super) ages: Vec<Ages>,
    pub(super) scheduler: Scheduler,
    pub(super) machines: Machines,
    pub(super) sink: Sink,
    /// What takes readings along to the sink, on the shared thread.
    pub(super) gather: Option<Arc<Gather>>,
    pub(super) writes: mpsc::Receiver<WriteCoil>,
    /// A write that has broken into a wait; it goes before those of `writes`.
    pub(super) urgent: Option<WriteCoil>,
    /// The unit because of which the stream was dropped.
    pub(super) blamed: Option<usize>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) occupancy: Occupancy,
    pub(super) skips: Skips,
    /// Time that questions took which nobody answered.
    pub(super) failed: Duration,
    /// By group: what that was when its last round was over.
    pub(super) failed_before: Vec<Duration>,
    /// When a read across a gap was last tried on this bus.
    pub(super) gap_tried: Option<BootTime>,
    pub(super) memory: Memory,
    pub(super) memo: Memo,
    pub(super) strays: u64,
    pub(super) epoch: (BootTime, Instant),
}

impl Owner {
    pub(super) fn new(
        plan: &Arc<BusPlan>,
        machines: Machines,
        (sink, gather): (Sink, Option<Arc<Gather>>),
        writes: mpsc::Receiver<WriteCoil>,
        shared: (Arc<Mutex<Status>>, Memo),
        opener: Opener,
        memory: Memory,
    ) -> Self {
        let now = crate::clock::boot_now();
        let groups = Group::all(plan);
        let (framing, timing) = (Framing::of(&plan.link), LineTiming::of_bus(plan));
        let unit = |(at, unit): (usize, &UnitPlan)| {
            let remembered = memory.of(unit);
            let before = remembered.turnaround;
            let items = unit.polls.iter().filter_map(|it| unit.profile.items.get(it.profile_item));
            let wanted: Vec<Block> = items.map(ProfileItem::block).collect();
            Unit {
                health: UnitHealth::new(now, plan.dead_share),
                turnaround: Turnaround::new(plan.turnaround_of(unit)),
                remembered: before,
                gaps: Gaps::remembered(&remembered.holes, &wanted, now),
                holes: remembered.holes,
                reads: Reads::new(plan, at, &groups, before),
                refused: Arc::default(),
                ended: 0,
                fence: None,
                grace: true,
                slow: false,
                why: Unavailable::Timeout,
                last_answer: None,
                counters: Counters::default(),
                // What is polled is the groups' matter; a copy would be as large as the plan.
                plan: UnitPlan { polls: Vec::new(), ..unit.clone() },
            }
        };
        let (status, memo) = shared;
        let mut owner = Self {
            link: Link::new(plan.id.clone(), opener, framing, timing, plan.units.len()),
            units: plan.units.iter().enumerate().map(unit).collect(),
            rounds: groups.iter().map(|_| None).collect(),
            sampled: vec![None; groups.len()],
            cut: vec![false; groups.len()],
            passed_over: vec![false; groups.len()],
            has_turn: vec![false; groups.len()],
            ages: vec![Ages::default(); groups.len()],
            failed: Duration::ZERO,
            failed_before: vec![Duration::ZERO; groups.len()],
            memory,
            memo,
            scheduler: Scheduler::new(groups.iter().map(|group| group.period), now),
            groups,
            machines,
            sink,
            gather,
            writes,
            urgent: None,
            blamed: None,
            status,
            occupancy: Occupancy::new(now),
            skips: Skips::new(now),
            gap_tried: None,
            strays: 0,
            epoch: (now, Instant::now()),
            plan: plan.clone(),
        };
        owner.publish();
        owner
    }

    /// Runs until every handle is dropped or nobody takes the readings any more. Writes that wait
    /// go out first: a stop that was commanded in the last moment is still a stop.
    pub(super) async fn run(mut self) {
        self.poll().await;
        while let Ok(write) = self.next_write() {
            self.write(write).await;
        }
        let Self { memory, units, .. } = &mut self;
        memory.finish(units.iter().map(Unit::known)).await;
    }

    async fn poll(&mut self) {
        loop {
            match self.next_write() {
                Ok(write) => {
                    self.write(write).await;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            self.link.refresh().await;
            let held = self.link.held_until().filter(|_| self.passed_over.contains(&true));
            if held.is_none() {
                self.recall(|owner| &mut owner.passed_over);
            }
            let patience = self.link.patience_ends();
            let now = self.now();
            if patience.is_none()
                && let Some(group) = self.scheduler.next(now)
            {
                match self.step(group.0, now).await {
                    Ok(Step::Asked) => {}
                    // Others on the shared thread are to have a turn, which a question leaves them.
                    Ok(Step::StoodIn) => tokio::task::yield_now().await,
                    Err(NobodyListens) => return,
                }
                continue;
            }
            let wake = patience.or_else(|| self.scheduler.wake().map(|at| self.instant(at)));
            let wake = wake.unwrap_or_else(|| Instant::now() + PATIENCE);
            let wake = [self.link.deaf_from(), held].into_iter().flatten().fold(wake, Instant::min);
            tokio::select! {
                biased;
                write = self.writes.recv() => match write {
                    Some(write) => self.write(write).await,
                    None => return,
                },
                () = self.sink.closed() => return,
                fresh = self.link.open() => self.opened(fresh),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn next_write(&mut self) -> Result<WriteCoil, mpsc::error::TryRecvError> {
        self.urgent.take().map_or_else(|| self.writes.try_recv(), Ok)
    }

    pub(super) fn now(&self) -> BootTime {
        self.time_at(Instant::now())
    }

    /// The time at `moment`.
    pub(super) fn time_at(&self, moment: Instant) -> BootTime {
        self.epoch.0 + moment.saturating_duration_since(self.epoch.1)
    }

    fn instant(&self, at: BootTime) -> Instant {
        self.epoch.1 + at.since(self.epoch.0)
    }

    pub(super) fn opened(&mut self, fresh: bool) {
        let now = self.now();
        self.charge_reopening();
        for unit in &mut self.units {
            unit.fence = None;
            unit.grace |= fresh;
            if fresh {
                unit.gaps.returned(now);
            }
            if unit.why == Unavailable::Disconnected {
                unit.why = Unavailable::Timeout;
            }
        }
        self.recall(|owner| &mut owner.cut);
        self.publish();
    }

    /// The last rounds of these groups had no chance: they are due again, unless the next ones are.
    fn recall(&mut self, lost: fn(&mut Self) -> &mut Vec<bool>) {
        if !lost(self).contains(&true) {
            return;
        }
        let now = self.now();
        for group in 0..self.groups.len() {
            if std::mem::take(&mut lost(self)[group])
                && !self.scheduler.is_released(GroupIndex(group), now)
            {
                self.scheduler.recall(GroupIndex(group));
            }
        }
    }

    /// Hands a delivery over; a write does not wait for the engine to catch up.
    pub(super) async fn deliver(&mut self, delivery: Delivery) -> Result<(), NobodyListens> {
        if let Some(write) = self.urgent.take() {
            self.write(write).await;
        }
        let place = loop {
            tokio::select! {
                biased;
                place = self.sink.clone().reserve_owned() => break place,
                // Boxed: it is rare, and the room for it would be moved with every reading.
                Some(write) = self.writes.recv() => Box::pin(self.write(write)).await,
            }
        };
        let place = place.map_err(|_| NobodyListens)?;
        match &self.gather {
            Some(gather) if !self.machines.is_urgent(&delivery) => gather.add(place, delivery),
            _ => drop(place.send(delivery)),
        }
        Ok(())
    }
}

/// The engine's end of the sink is gone.
pub(super) struct NobodyListens;
