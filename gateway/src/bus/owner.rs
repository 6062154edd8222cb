//! The loop that owns a bus: writes first, then the released group with the earliest deadline;
//! between the frames of a group it looks for writes again.
//!
//! A failure is a reading too: whatever is due is delivered in its round, if need be as
//! unavailable, and without bus time where none would help. It must not decide what a value means.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use andon_adapters::modbus::{Batch, Block, Holes};
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::group::{Group, Machines, Round};
use super::link::{Link, PATIENCE};
use super::scheduler::{GroupIndex, Scheduler};
use super::status::{Counters, Occupancy, Status};
use super::timing::{LineTiming, Turnaround};
use super::transaction::{Fault, Framing};
use super::transport::Opener;
use super::unit::UnitHealth;
use super::{Delivery, Sink, WriteCoil};
use crate::config::plan::{BusPlan, UnitPlan};

/// An item that the device refuses alone is asked for again after this time: firmware changes,
/// and a device that is still starting may refuse what it later knows.
const REFUSED_RETRY: Duration = Duration::from_secs(600);

/// Whether the bus plan lets anybody write this coil.
pub(super) fn is_allowed(plan: &BusPlan, write: &WriteCoil) -> bool {
    plan.units.get(write.unit).is_some_and(|unit| unit.writable_coils.contains(&write.coil))
}

/// What is known of a unit.
pub(super) struct Unit {
    pub(super) plan: UnitPlan,
    pub(super) health: UnitHealth,
    pub(super) turnaround: Turnaround,
    pub(super) holes: Holes,
    /// Items (positions in the profile) that are refused alone, and until when.
    pub(super) refused: BTreeMap<usize, BootTime>,
    /// The read that failed last on a serial line. It is asked again before any other, so that a
    /// late answer to it is an answer to the same question.
    pub(super) fence: Option<(Block, Instant)>,
    /// The first failure after power or cable may have been away does not count: some devices
    /// swallow the first frame.
    pub(super) grace: bool,
    /// Why it does not answer.
    pub(super) why: Unavailable,
    pub(super) last_answer: Option<BootTime>,
    pub(super) counters: Counters,
}

/// Owner of one bus.
pub(super) struct Owner {
    pub(super) plan: Arc<BusPlan>,
    pub(super) link: Link,
    pub(super) units: Vec<Unit>,
    pub(super) groups: Vec<Arc<Group>>,
    pub(super) scheduler: Scheduler,
    pub(super) machines: Machines,
    pub(super) sink: Sink,
    pub(super) writes: mpsc::Receiver<WriteCoil>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) occupancy: Occupancy,
    pub(super) skipped: u64,
    pub(super) strays: u64,
    pub(super) epoch: (BootTime, Instant),
}

impl Owner {
    pub(super) fn new(
        plan: &Arc<BusPlan>,
        machines: Machines,
        sink: Sink,
        writes: mpsc::Receiver<WriteCoil>,
        status: Arc<Mutex<Status>>,
        opener: Opener,
    ) -> Self {
        let now = crate::clock::boot_now();
        let unit = |unit: &UnitPlan| Unit {
            // What is polled is the groups' matter; a copy would be as large as the plan.
            plan: UnitPlan { polls: Vec::new(), ..unit.clone() },
            health: UnitHealth::new(now),
            turnaround: Turnaround::new(plan.turnaround_of(unit)),
            holes: Holes::default(),
            refused: BTreeMap::new(),
            fence: None,
            grace: true,
            why: Unavailable::Timeout,
            last_answer: None,
            counters: Counters::default(),
        };
        let groups = Group::all(plan);
        let (framing, timing) = (Framing::of(&plan.link), LineTiming::of(&plan.link));
        let owner = Self {
            link: Link::new(plan.id.clone(), opener, framing, timing),
            units: plan.units.iter().map(unit).collect(),
            scheduler: Scheduler::new(groups.iter().map(|group| group.period), now),
            groups: groups.into_iter().map(Arc::new).collect(),
            machines,
            sink,
            writes,
            status,
            occupancy: Occupancy::new(now),
            skipped: 0,
            strays: 0,
            epoch: (now, Instant::now()),
            plan: plan.clone(),
        };
        owner.publish_units(0.0);
        owner
    }

    /// Runs until every handle is dropped or nobody takes the readings any more. Writes that wait
    /// go out first: a stop that was commanded in the last moment is still a stop.
    pub(super) async fn run(mut self) {
        self.poll().await;
        while let Ok(write) = self.writes.try_recv() {
            self.write(write).await;
        }
    }

    async fn poll(&mut self) {
        loop {
            match self.writes.try_recv() {
                Ok(write) => {
                    self.write(write).await;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let patience = self.link.patience_ends();
            if patience.is_none()
                && let Some(group) = self.scheduler.next(self.now())
            {
                if self.round(group).await.is_err() {
                    return;
                }
                // Let others on the shared thread have a turn, and the link go on opening.
                tokio::task::yield_now().await;
                continue;
            }
            let wake = patience.or_else(|| self.scheduler.wake().map(|at| self.instant(at)));
            let wake = wake.unwrap_or_else(|| Instant::now() + PATIENCE);
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

    pub(super) fn now(&self) -> BootTime {
        self.epoch.0 + self.epoch.1.elapsed()
    }

    fn instant(&self, at: BootTime) -> Instant {
        self.epoch.1 + at.since(self.epoch.0)
    }

    pub(super) fn opened(&mut self, fresh: bool) {
        for unit in &mut self.units {
            unit.fence = None;
            unit.grace |= fresh;
            if unit.why == Unavailable::Disconnected {
                unit.why = Unavailable::Timeout;
            }
        }
        self.publish();
    }

    /// Reads a group once and delivers what came of it.
    async fn round(&mut self, index: GroupIndex) -> Result<(), NobodyListens> {
        let Some(group) = self.groups.get(index.0).cloned() else { return Ok(()) };
        let mut round = Round::default();
        let unit = &self.units[group.unit];
        if !self.link.is_up() {
            group.fail_all(Unavailable::Disconnected, &mut round);
        } else if unit.health.may_ask(self.now()) {
            self.read_group(&group, &mut round).await;
        } else {
            group.fail_all(unit.why, &mut round);
        }
        let now = self.now();
        let at = self.scheduler.stamp(index, round.taken.unwrap_or(now));
        self.skipped += self.scheduler.finish(index, now);
        self.publish();
        for delivery in round.deliveries(at, &self.machines) {
            self.deliver(delivery).await?;
        }
        Ok(())
    }

    /// Hands a delivery over; a write does not wait for the engine to catch up.
    async fn deliver(&mut self, delivery: Delivery) -> Result<(), NobodyListens> {
        let sink = self.sink.clone();
        loop {
            tokio::select! {
                biased;
                permit = sink.reserve() => {
                    permit.map_err(|_| NobodyListens)?.send(delivery);
                    return Ok(());
                }
                Some(write) = self.writes.recv() => self.write(write).await,
            }
        }
    }

    async fn read_group(&mut self, group: &Group, round: &mut Round) {
        let mut waiting: VecDeque<Batch> = group.batches().to_vec().into();
        let mut splits = Vec::new();
        let mut refused = Vec::new();
        let mut retried =
            !matches!(self.units[group.unit].health.state(), super::unit::UnitState::Online);
        while let Some(batch) = waiting.pop_front() {
            while let Ok(write) = self.writes.try_recv() {
                self.write(write).await;
            }
            if self.is_refused(group.unit, &batch) {
                group.fail(&batch, Unavailable::Refused, round);
                continue;
            }
            match self.read(group.unit, batch.block).await {
                Ok(answer) => {
                    round.taken.get_or_insert(self.now());
                    group.decode(&batch, answer.words(), round);
                }
                Err(Fault::Exception(2 | 3)) => match batch.split(group.profile()) {
                    Some((left, right)) => {
                        waiting.push_front(right.clone());
                        waiting.push_front(left.clone());
                        splits.push((left, right));
                    }
                    None => {
                        refused.push(batch.block);
                        self.refuse(group.unit, &batch);
                        group.fail(&batch, Unavailable::Refused, round);
                    }
                },
                Err(Fault::Exception(0x0A | 0x0B)) => {
                    waiting.push_front(batch);
                    break;
                }
                Err(Fault::Exception(code)) => {
                    if code == 1 {
                        self.refuse(group.unit, &batch);
                    }
                    group.fail(&batch, Unavailable::Refused, round);
                }
                Err(Fault::Timeout | Fault::Garbled) if !retried && self.link.is_up() => {
                    retried = true;
                    waiting.push_front(batch);
                }
                Err(Fault::Timeout | Fault::Garbled | Fault::Disconnected) => {
                    waiting.push_front(batch);
                    break;
                }
            }
        }
        if waiting.is_empty() {
            self.remember_holes(group, &splits, &refused);
        }
        let why = self.units[group.unit].why;
        for batch in waiting {
            group.fail(&batch, why, round);
        }
    }

    fn is_refused(&self, unit: usize, batch: &Batch) -> bool {
        let refused = &self.units[unit].refused;
        let now = self.now();
        batch.items.iter().all(|item| refused.get(item).is_some_and(|&until| now < until))
    }

    fn refuse(&mut self, unit: usize, batch: &Batch) {
        let until = self.now() + REFUSED_RETRY;
        self.units[unit].refused.extend(batch.items.iter().map(|&item| (item, until)));
        tracing::info!(
            bus = %self.plan.id,
            unit = %self.units[unit].plan.source,
            block = %batch.block,
            "the device refuses these addresses; they are asked for rarely"
        );
    }

    /// After a round that was answered to the end: plans the unit's reads around what it refused.
    fn remember_holes(&mut self, group: &Group, splits: &[(Batch, Batch)], refused: &[Block]) {
        if splits.is_empty() && refused.is_empty() {
            return;
        }
        let unit = &mut self.units[group.unit];
        let mut news = false;
        for block in refused {
            news |= unit.holes.insert(block.table, block.start, block.count);
        }
        for (left, right) in splits {
            let holds = |batch: &Batch| refused.iter().any(|&block| batch.block.contains(block));
            if !holds(left) && !holds(right) {
                news |= unit.holes.insert_between(left, right);
            }
        }
        if news {
            let ours = self.groups.iter_mut().filter(|other| other.unit == group.unit);
            ours.for_each(|other| Arc::make_mut(other).replan(&unit.holes));
        }
    }

    pub(super) fn publish(&mut self) {
        let now = self.now();
        let occupancy = self.occupancy.share(now);
        self.publish_units(occupancy);
    }

    fn publish_units(&self, occupancy: f64) {
        // In place: a bus with many units says this after every read.
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.down.as_deref() != self.link.why() {
            status.down = self.link.why().map(str::to_owned);
        }
        status.occupancy = occupancy;
        status.skipped = self.skipped;
        status.stray_bytes = self.strays;
        for (told, unit) in status.units.iter_mut().zip(&self.units) {
            told.state = unit.health.state();
            told.last_answer = unit.last_answer;
            told.allowance = unit.turnaround.allowance();
            told.counters = unit.counters;
        }
    }
}

/// The engine's end of the sink is gone.
struct NobodyListens;
