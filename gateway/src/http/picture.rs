//! The picture: what the gateway believes about the shop at this moment, folded from the engine's
//! outputs. Pure: no clock, no I/O; the moment is passed in. Everything is unknown until told.
//!
//! Bounded by the plan: one entry per item, machine and trip, and [`ALARMS_FOREIGN_MAX`] alarms
//! beyond the plan's rules.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::Output;
use andon_engine::event::{Activity, AlarmState, Event, Execution};
use andon_engine::item::Kind;
use andon_engine::plan::{ActivityPlan, ItemIndex, ItemPlan, MachineIndex};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable};

use super::reports::Reports;
use super::status::Status;
use super::stop::{self, Stop};
use super::view::{
    AlarmView, Clock, GatewayView, ItemView, KindView, MachineView, PictureView, SiteView,
    TickView, VERSION, Viewers,
};
use crate::clock::Standing;
use crate::config::plan::{Name, Plan};
use crate::diagnostics::Heard;
use crate::journal::BootId;
use crate::kinds;
use crate::standing::Standings;

/// Alarms of rules that have left the configuration; a person must still be able to see them.
const ALARMS_FOREIGN_MAX: usize = 64;

/// The moment of rendering, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Boot time.
    pub boot: BootTime,
    /// Unix milliseconds, when this boot has an anchor.
    pub wall_ms: Option<i64>,
}

/// What the gateway believes.
#[derive(Debug)]
pub struct Picture {
    site: crate::config::plan::SitePlan,
    build: Arc<str>,
    messages: BTreeMap<Arc<str>, Name>,
    machines: Vec<Machine>,
    by_id: BTreeMap<Arc<str>, MachineIndex>,
    plan: Arc<andon_engine::plan::Plan>,
    /// In the order of the plan, so that an item's index finds it.
    items: Vec<Item>,
    alarms: BTreeMap<Arc<str>, Alarm>,
    boot: BootId,
    /// Since when the machines are in their states.
    standings: Standings,
    started: BootTime,
    /// What the other parts say about themselves.
    status: Status,
    seq: u64,
}

#[derive(Debug)]
struct Machine {
    id: Arc<str>,
    name: Name,
    kind: String,
    execution: Execution,
    activity: Activity,
    why: Option<Unavailable>,
    activity_from: Vec<ItemIndex>,
    /// Those of the tile first.
    items: Vec<ItemIndex>,
    key_items: usize,
    stops: Vec<Stop>,
}

/// What was last measured; what is fixed is in the plan.
#[derive(Clone, Debug)]
struct Item {
    measured: Measured,
    at: Option<BootTime>,
    reports: Reports,
}

#[derive(Debug)]
struct Alarm {
    state: AlarmState,
    /// `raised` is a moment of an earlier boot, which cannot be compared with now.
    foreign: bool,
}

impl Picture {
    /// Nothing known but the configuration, since `started`. `rules` are the ids of the plan's
    /// rules, in its order; `build` is the hash of the board's files.
    pub fn new(plan: &Plan, rules: &[Arc<str>], build: Arc<str>, started: BootTime) -> Self {
        let unheard =
            Item { measured: Err(Unavailable::NotYet), at: None, reports: Reports::default() };
        let machines: Vec<_> =
            (0..plan.engine.machines.len()).map(|n| Machine::new(plan, n)).collect();
        let by_id = (0..).map(MachineIndex).zip(&machines).map(|(n, m)| (m.id.clone(), n));
        let messages = rules.iter().cloned().zip(plan.rules.iter().map(|r| r.message.clone()));
        Self {
            site: plan.site.clone(),
            build,
            messages: messages.collect(),
            by_id: by_id.collect(),
            machines,
            items: vec![unheard; plan.engine.items.len()],
            plan: Arc::clone(&plan.engine),
            alarms: BTreeMap::new(),
            boot: BootId::default(),
            standings: Standings::default(),
            started,
            status: Status::new(plan),
            seq: 0,
        }
    }

    /// Takes what the other parts say about themselves.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
        self.seq += 1;
    }

    /// Takes an alarm as the journal remembers it; `this_boot` says whether it was raised in this
    /// boot, so that its age is known.
    pub fn restore_alarm(&mut self, state: AlarmState, this_boot: bool) {
        self.put_alarm(state, !this_boot);
    }

    /// Takes what the machines did before this run of `boot`, with its start.
    pub fn restore_states(&mut self, boot: BootId, standings: Standings) {
        (self.boot, self.standings) = (boot, standings);
    }

    /// Takes an output of the engine; returns the machine that looks different now.
    pub fn fold(&mut self, output: &Output) -> Option<MachineIndex> {
        match output {
            Output::Observation { machine, at, items } => {
                for (index, measured) in items {
                    let Some(item) = self.items.get_mut(index.0 as usize) else { continue };
                    if item.at.is_none_or(|before| before <= *at) {
                        item.measured.clone_from(measured);
                        item.at = Some(*at);
                    }
                    item.reports.count(*at, measured);
                }
                self.seq += 1;
                Some(*machine)
            }
            Output::Event(event) => self.fold_event(event),
            _ => None,
        }
    }

    fn fold_event(&mut self, event: &Event) -> Option<MachineIndex> {
        self.standings.note(self.boot, event);
        let index = event.machine().and_then(|id| self.by_id.get(id)).copied();
        let machine = index.and_then(|index| self.machines.get_mut(usize::from(index.0)));
        match event {
            Event::Activity { activity, execution, why, .. } => {
                let machine = machine?;
                machine.execution = *execution;
                machine.activity = *activity;
                machine.why = *why;
            }
            Event::Trip { at, state } => {
                let mut stops = machine?.stops.iter_mut();
                stops.find(|stop| stop.output() == &*state.output)?.take(*at, state);
            }
            Event::Alarm { state, .. } => {
                let foreign = self
                    .alarms
                    .get(&state.alarm)
                    .is_some_and(|alarm| alarm.foreign && alarm.state.raised == state.raised);
                self.put_alarm(state.clone(), foreign);
                return None;
            }
            _ => return None,
        }
        self.seq += 1;
        index
    }

    fn put_alarm(&mut self, state: AlarmState, foreign: bool) {
        let room = self.alarms.len() < self.messages.len() + ALARMS_FOREIGN_MAX;
        if room || self.alarms.contains_key(&state.alarm) {
            self.alarms.insert(state.alarm.clone(), Alarm { state, foreign });
            self.seq += 1;
        }
    }

    /// Counts the changes since the start.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// How many machines there are.
    pub const fn machines(&self) -> usize {
        self.machines.len()
    }

    /// The whole picture as of `now`.
    pub fn render(&self, now: Moment, viewers: Viewers) -> PictureView<'_> {
        PictureView {
            v: VERSION,
            seq: self.seq,
            site: SiteView {
                id: &self.site.id,
                name: &self.site.name,
                time_zone: &self.site.time_zone,
            },
            gateway: self.gateway(now, viewers),
            machines: self.machines.iter().map(|m| self.view(m, now.boot)).collect(),
            kinds: self.machines.iter().filter_map(|m| face_of_kind(&m.kind)).collect(),
            alarms: self.alarms(now.boot),
        }
    }

    /// One machine as of `now`.
    pub fn machine(&self, index: MachineIndex, now: BootTime) -> Option<MachineView<'_>> {
        self.machines.get(usize::from(index.0)).map(|machine| self.view(machine, now))
    }

    /// What was heard of an item until `now`; none of one that is not in the plan.
    pub fn heard(&self, index: ItemIndex, now: BootTime) -> Option<Heard> {
        let position = usize::try_from(index.0).ok()?;
        let (item, plan) = (self.items.get(position)?, self.plan.items.get(position)?);
        let view = item.view(plan, false, now);
        let heard = Heard {
            value: view.value.cloned(),
            why: view.why,
            age_ms: view.age_ms,
            ..item.reports.heard(now)
        };
        Some(heard)
    }

    /// andon's own state as of `now`.
    pub fn gateway(&self, now: Moment, viewers: Viewers) -> GatewayView<'_> {
        GatewayView {
            version: env!("CARGO_PKG_VERSION"),
            build: &self.build,
            clock: clock(now),
            clock_standing: self.clock_standing(now),
            now_ms: now.wall_ms,
            mqtt: &self.status.mqtt,
            store: &self.status.store,
            journal: &self.status.journal,
            buses: &self.status.buses,
            devices: &self.status.devices,
            viewers,
        }
    }

    /// The heartbeat as of `now`.
    pub fn tick(&self, now: Moment) -> TickView<'_> {
        TickView {
            seq: self.seq,
            now_ms: now.wall_ms,
            build: &self.build,
            clock: clock(now),
            clock_standing: self.clock_standing(now),
        }
    }

    fn clock_standing(&self, now: Moment) -> Standing {
        let Status { synchronised, trust_wall, .. } = self.status;
        Standing::of(now.wall_ms.is_some(), synchronised, trust_wall)
    }

    /// The stops that have failed, then the alarms that are active, unknown, unacknowledged or
    /// latched; most urgent first.
    pub fn alarms(&self, now: BootTime) -> Vec<AlarmView<'_>> {
        let failed = self.machines.iter().flat_map(|machine| {
            machine.stops.iter().filter_map(move |stop| stop.alarm(&machine.id, now))
        });
        failed.chain(self.alarms_of_rules(now)).collect()
    }

    fn alarms_of_rules(&self, now: BootTime) -> Vec<AlarmView<'_>> {
        let concerns =
            |state: &AlarmState| state.active != Some(false) || !state.acked || state.latched;
        let mut listed: Vec<_> =
            self.alarms.values().filter(|alarm| concerns(&alarm.state)).collect();
        listed.sort_by_key(|alarm| (std::cmp::Reverse(alarm.state.severity), alarm.state.acked));
        let view = |Alarm { state, foreign }: &'_ Alarm| {
            (!foreign).then(|| millis(now.since(state.raised)))
        };
        let shown = listed.into_iter().map(|alarm| AlarmView {
            id: Cow::Borrowed(&*alarm.state.alarm),
            stop: None,
            machine: &alarm.state.machine,
            severity: alarm.state.severity.into(),
            active: alarm.state.active,
            acked: alarm.state.acked,
            latched: alarm.state.latched,
            for_ms: view(alarm),
            cause: &alarm.state.cause,
            message: self.messages.get(&alarm.state.alarm),
        });
        shown.collect()
    }

    fn view<'a>(&'a self, machine: &'a Machine, now: BootTime) -> MachineView<'a> {
        let items: Vec<_> = (machine.items.iter().enumerate())
            .filter_map(|(n, index)| {
                let item = self.items.get(index.0 as usize)?;
                let plan = self.plan.items.get(index.0 as usize)?;
                Some(item.view(plan, n < machine.key_items, now))
            })
            .collect();
        // Without a word from the engine, a machine that says nothing at all is unknown for the
        // reason that its first item gives.
        let silent = items.iter().all(|item| item.value.is_none());
        let silence = items.first().filter(|_| silent).and_then(|item| item.why);
        let named = |index: &ItemIndex| self.plan.items.get(index.0 as usize);
        let from: Vec<&str> =
            machine.activity_from.iter().filter_map(named).map(|it| &*it.item.name).collect();
        // Nor is there a conflict any longer of signals that say nothing any more, and of signals
        // that never had a value their own reason says more than that nothing was heard.
        let signals = || items.iter().filter(|item| from.contains(&item.name));
        let mute = signals().all(|item| item.value.is_none());
        let told = match machine.why {
            Some(Unavailable::Conflict | Unavailable::NotYet) if mute => {
                let mut reasons = signals().filter_map(|signal| signal.why);
                reasons.find(|why| *why != Unavailable::NotYet).or(machine.why)
            }
            why => why,
        };
        let why = (machine.execution == Execution::Unknown).then(|| told.or(silence));
        let lasted = self.standings.lasted(&machine.id, now);
        MachineView {
            id: &machine.id,
            name: &machine.name,
            kind: &machine.kind,
            execution: machine.execution,
            activity: machine.activity,
            why: why.flatten(),
            activity_from: from,
            in_state_ms: millis(lasted.unwrap_or_else(|| now.since(self.started))),
            items,
            stop: machine.stops.iter().map(Stop::view).max_by_key(|stop| stop::worry(stop.phase)),
        }
    }
}

impl Machine {
    fn new(plan: &Plan, position: usize) -> Self {
        let machine = &plan.engine.machines[position];
        let face = &plan.machines[position];
        let mut items = face.key_items.clone();
        let own = |item: &andon_engine::plan::ItemPlan| usize::from(item.machine.0) == position;
        for (index, item) in (0..).map(ItemIndex).zip(&plan.engine.items) {
            if own(item) && !face.key_items.contains(&index) {
                items.push(index);
            }
        }
        let trips = plan.engine.trips.iter().filter(|t| usize::from(t.machine.0) == position);
        Self {
            id: machine.id.clone(),
            name: face.name.clone(),
            kind: face.kind.clone(),
            execution: Execution::Unknown,
            activity: Activity::Unknown,
            why: None,
            activity_from: machine.activity.iter().map(ActivityPlan::item).collect(),
            items,
            key_items: face.key_items.len(),
            stops: trips.map(|trip| Stop::new(trip.id.clone())).collect(),
        }
    }
}

impl Item {
    fn view<'a>(&'a self, plan: &'a ItemPlan, key: bool, now: BootTime) -> ItemView<'a> {
        let age_ms = self.at.map(|at| millis(now.since(at)));
        let stale_after_ms = millis(plan.stale_after);
        let stale = age_ms.is_some_and(|age| age > stale_after_ms);
        // The engine says so too, but a picture must not trust that its source is alive.
        let (value, why) = match &self.measured {
            Ok(_) if stale => (None, Some(Unavailable::Stale)),
            Ok(value) => (Some(value), None),
            Err(why) => (None, Some(*why)),
        };
        let item = &plan.item;
        let (name, unit) = (&*item.name, item.unit.symbol());
        ItemView { name, kind: item_kind(item.kind), unit, value, why, age_ms, stale_after_ms, key }
    }
}

/// The word for how an item behaves.
pub const fn item_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
        Kind::Flag => "flag",
        Kind::Text => "text",
    }
}

/// A ready-made kind as the board shows it.
fn face_of_kind(id: &str) -> Option<(&'static str, KindView)> {
    let kind = kinds::of(id)?;
    Some((kind.id, KindView { name: &kind.name, hazards: &kind.hazards }))
}

const fn clock(now: Moment) -> Clock {
    match now.wall_ms {
        Some(_) => Clock::Synced,
        None => Clock::Unsynced,
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
