//! The one entry point: [`Engine::step`].
//!
//! A step takes its input into the values, lets machines, trips and rules follow (alarms and stops in
//! `protection`), and returns what that leads to (in the words of `exchange`): commands first, then
//! observations and events in the order in which they came about. All time comes in; the same inputs
//! give the same outputs, byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::aging::Aging;
use crate::alarm::Alarm;
use crate::event::{Activity, AlarmState, Event, Execution, Register, TripState};
use crate::follower::{Change, Follower};
use crate::lookup::Lookup;
use crate::normalize::ItemState;
use crate::plan::{ItemIndex, MachineIndex, Plan, RuleIndex, TripIndex, TripPlan};
use crate::time::BootTime;
use crate::trip::{self, Trip};
use crate::value::{Measured, Unavailable, Value};

mod exchange;
mod protection;

pub use exchange::{Act, Command, Input, LeftRegister, Output, Refusal, Reply, Restored};

/// How often [`Input::Tick`] is due.
pub const TICK: Duration = Duration::from_millis(100);

/// How often a machine's energy register is noted while nothing else happens.
pub const ENERGY_EVERY: Duration = Duration::from_secs(15 * 60);

/// The whole engine: one shop's state.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    items: Vec<ItemState>,
    values: Vec<Measured>,
    aging: Aging,
    machines: Vec<Machine>,
    states: Vec<(Execution, Activity)>,
    alarms: Vec<Alarm>,
    trips: Vec<Trip>,
    /// Trips to take up again at the first step.
    resume: Vec<TripState>,
    /// Whether that has been done.
    resumed: bool,
    /// Whether the trips that are armed have been told.
    trips_told: bool,
    /// The rules that look at each item, and at each machine's state.
    rules_of_item: Lookup<RuleIndex>,
    rules_of_machine: Lookup<RuleIndex>,
    /// The trips that each item proves.
    trips_of_item: Lookup<TripIndex>,
    /// Readings that were not newer than the last of their item.
    pub out_of_order: u64,
}

/// What the engine keeps of a machine.
#[derive(Debug)]
struct Machine {
    follower: Follower,
    /// What its signals say, and why that is unknown.
    followed: (Execution, Option<Unavailable>),
    /// What was last told, and since when.
    told: Option<(Execution, Option<Unavailable>, BootTime)>,
    /// Time in the raw run band up to the last boundary told.
    raw_run_told: Duration,
    register: Option<Register>,
    register_told: Option<BootTime>,
}

/// What a step collects: commands leave first.
#[derive(Default)]
struct Collected {
    commands: Vec<Command>,
    rest: Vec<Output>,
    /// Machines whose state changed: rules look at states too.
    changed: Vec<usize>,
}

impl Engine {
    /// An engine that knows nothing but its plan and what was left latched.
    pub fn new(plan: impl Into<Arc<Plan>>, restored: Restored) -> Self {
        let plan: Arc<Plan> = plan.into();
        let (rules_of_item, rules_of_machine) = rules_by_subject(&plan);
        let proves = |(index, trip): (usize, &TripPlan)| {
            let index = TripIndex(u16::try_from(index).unwrap_or(u16::MAX));
            trip.proof.as_ref().map(|proof| (proof.item.0 as usize, index))
        };
        let trips_of_item = plan.trips.iter().enumerate().filter_map(proves).collect();
        let trips_of_item = Lookup::new(plan.items.len(), trips_of_item);
        let left: BTreeMap<&str, &AlarmState> =
            restored.alarms.iter().map(|state| (&*state.alarm, state)).collect();
        let alarm = |id: &str| left.get(id).map_or_else(Alarm::default, |s| Alarm::restored(s));
        let stale_after = |item: ItemIndex| plan.items[item.0 as usize].stale_after;
        let machine = |signals: &[crate::plan::ActivityPlan]| {
            let follower = Follower::new(signals, stale_after);
            let why = follower.has_signals().then_some(Unavailable::NotYet);
            let followed = (Execution::Unknown, why);
            Machine {
                follower,
                followed,
                told: None,
                raw_run_told: Duration::ZERO,
                register: None,
                register_told: None,
            }
        };
        let trip = |index| Trip::armed(TripIndex(u16::try_from(index).unwrap_or(u16::MAX)));
        let mut items = vec![ItemState::default(); plan.items.len()];
        for left in restored.registers {
            let machine = plan.machines.iter().find(|plan| plan.id == left.machine);
            if let Some(item) = machine.and_then(|plan| plan.energy) {
                items[item.0 as usize].resume(left.wh, left.epoch, left.now, left.away);
            }
        }
        Self {
            items,
            values: vec![Err(Unavailable::NotYet); plan.items.len()],
            aging: Aging::new(&plan),
            machines: plan.machines.iter().map(|plan| machine(&plan.activity)).collect(),
            states: vec![(Execution::Unknown, Activity::Unknown); plan.machines.len()],
            alarms: plan.rules.iter().map(|rule| alarm(&rule.id)).collect(),
            trips: (0..plan.trips.len()).map(trip).collect(),
            resume: restored.trips,
            resumed: false,
            trips_told: false,
            rules_of_item,
            rules_of_machine,
            trips_of_item,
            out_of_order: 0,
            plan,
        }
    }

    /// Takes one input at `now` and appends what follows to `out`, commands first. `now` must not
    /// go back.
    pub fn step(&mut self, now: BootTime, input: Input, out: &mut Vec<Output>) {
        let mut collected = Collected::default();
        self.resume(now, &mut collected);
        match input {
            Input::Readings { at, readings } => self.take(now, at, readings, &mut collected),
            Input::Tick => self.tick(now, &mut collected),
            Input::Reply { trip, attempt, reply } => {
                let index = usize::from(trip.0);
                let outcome =
                    self.trips[index].reply(&self.plan.trips[index], now, attempt, &reply);
                self.note_trip(now, index, outcome, &mut collected);
            }
            Input::Acknowledge { rule, by } => self.acknowledge(now, rule, by, &mut collected),
            Input::Reset { rule, by, reason } => self.reset(now, rule, by, reason, &mut collected),
        }
        self.evaluate_rules_of_changed(now, &mut collected);
        out.extend(collected.commands.into_iter().map(Output::Command));
        out.append(&mut collected.rest);
    }

    /// The alarms that there is anything to say about.
    pub fn alarms(&self, now: BootTime) -> impl Iterator<Item = AlarmState> {
        let all = self.alarms.iter().zip(&self.plan.rules);
        all.filter(|(alarm, _)| alarm.is_raised()).map(move |(alarm, rule)| {
            alarm.state(rule, &self.plan.machines[usize::from(rule.machine.0)].id, now)
        })
    }

    /// All trips.
    pub fn trips(&self) -> impl Iterator<Item = TripState> {
        let all = self.trips.iter().zip(&self.plan.trips);
        all.map(|(trip, plan)| {
            trip.state(plan, &self.plan.machines[usize::from(plan.machine.0)].id)
        })
    }

    fn take(
        &mut self,
        now: BootTime,
        at: BootTime,
        mut readings: Vec<(ItemIndex, Measured)>,
        collected: &mut Collected,
    ) {
        // In place: a reading that is not news is dropped, the others become observations.
        readings.retain_mut(|(item, reading)| {
            let index = item.0 as usize;
            let taken = std::mem::replace(reading, Err(Unavailable::NotYet));
            let plan = &self.plan.items[index];
            let Some(value) = self.items[index].take(plan, at, taken) else {
                self.out_of_order += 1;
                return false;
            };
            if value.is_ok() {
                self.aging.fresh(plan.machine, at + plan.stale_after);
            }
            self.values[index] = value.clone();
            *reading = value;
            true
        });
        let Some(&(first, _)) = readings.first() else { return };
        let machine = self.plan.items[first.0 as usize].machine;
        // The observation stands before the events that it leads to.
        let place = collected.rest.len();
        collected.rest.push(Output::Observation { machine, at, items: Vec::new() });
        for (item, value) in &readings {
            self.follow(now, at, machine, *item, value, collected);
        }
        for (item, _) in &readings {
            for nth in 0..self.rules_of_item.of(item.0 as usize).len() {
                let rule = self.rules_of_item.of(item.0 as usize)[nth];
                self.evaluate(now, usize::from(rule.0), collected);
            }
        }
        self.evaluate_rules_of_changed(now, collected);
        collected.rest[place] = Output::Observation { machine, at, items: readings };
    }

    /// Lets the machine's activity, its register and the trips that it proves follow a value.
    fn follow(
        &mut self,
        now: BootTime,
        at: BootTime,
        machine: MachineIndex,
        item: ItemIndex,
        value: &Measured,
        collected: &mut Collected,
    ) {
        let index = usize::from(machine.0);
        if self.plan.machines[index].energy == Some(item)
            && let Some(wh) = value.as_ref().ok().and_then(Value::as_number)
        {
            let epoch = self.items[item.0 as usize].epoch();
            self.machines[index].register = Some(Register { at, wh, epoch });
            let due = self.machines[index].register_told;
            if due.is_none_or(|told| at.since(told) >= ENERGY_EVERY) {
                self.tell_register(index, collected);
            }
        }
        for change in self.machines[index].follower.take(item, at, value) {
            self.note_change(index, change, collected);
        }
        for nth in 0..self.trips_of_item.of(item.0 as usize).len() {
            let trip = usize::from(self.trips_of_item.of(item.0 as usize)[nth].0);
            let outcome = self.trips[trip].sample(&self.plan.trips[trip], now, at, value);
            self.note_trip(now, trip, outcome, collected);
        }
    }

    /// Values whose time is over become stale, machine by machine.
    fn grow_old(&mut self, now: BootTime, collected: &mut Collected) {
        for machine in 0..self.machines.len() {
            let Some(items) = self.aging.take_due(machine, now) else { continue };
            let machine = MachineIndex(u16::try_from(machine).unwrap_or(u16::MAX));
            let mut stale = Vec::new();
            for index in items {
                let (plan, state) = (&self.plan.items[index], &self.items[index]);
                let value = &mut self.values[index];
                if plan.machine != machine {
                    continue;
                }
                if state.age(plan, now, value) {
                    let item = ItemIndex(u32::try_from(index).unwrap_or(u32::MAX));
                    stale.push((item, value.clone()));
                } else if let (true, Some(until)) = (value.is_ok(), state.fresh_until(plan)) {
                    self.aging.fresh(machine, until);
                }
            }
            if !stale.is_empty() {
                collected.rest.push(Output::Observation { machine, at: now, items: stale });
            }
        }
    }

    fn tick(&mut self, now: BootTime, collected: &mut Collected) {
        self.grow_old(now, collected);
        for index in 0..self.machines.len() {
            for change in self.machines[index].follower.age(now) {
                self.note_change(index, change, collected);
            }
            if self.machines[index].told.is_none() {
                // A machine is unknown until it is known, and that is told from the start.
                self.tell_state(index, now, self.raw_run(index), collected);
            }
        }
        if !std::mem::replace(&mut self.trips_told, true) {
            // That a stop is armed is told from the start, too.
            for trip in 0..self.trips.len() {
                let changed = !self.trips[trip].is_tripped();
                self.note_trip(now, trip, trip::Outcome { command: None, changed }, collected);
            }
        }
        for trip in 0..self.trips.len() {
            let outcome = self.trips[trip].tick(&self.plan.trips[trip], now);
            self.note_trip(now, trip, outcome, collected);
        }
        // Timers run in alarms whose rules' inputs do not change.
        for rule in 0..self.plan.rules.len() {
            self.evaluate(now, rule, collected);
        }
        self.evaluate_rules_of_changed(now, collected);
    }

    /// Evaluates the rules that look at machines whose state changed. What they trip changes
    /// states again only once, when it is confirmed, so that ends.
    fn evaluate_rules_of_changed(&mut self, now: BootTime, collected: &mut Collected) {
        while let Some(machine) = collected.changed.pop() {
            for nth in 0..self.rules_of_machine.of(machine).len() {
                let rule = self.rules_of_machine.of(machine)[nth];
                self.evaluate(now, usize::from(rule.0), collected);
            }
        }
    }

    fn note_change(&mut self, index: usize, change: Change, collected: &mut Collected) {
        self.machines[index].followed = (change.execution, change.why);
        self.tell_state(index, change.at, change.raw_run, collected);
    }

    /// Tells what a machine does when that is news: a stop that is confirmed stands above what its
    /// signal says. One that is only commanded, or failed, says nothing of the machine: whether it
    /// goes on is what its signal says. `raw_run` is the time in the raw run band up to `at`.
    fn tell_state(
        &mut self,
        index: usize,
        at: BootTime,
        raw_run: Duration,
        collected: &mut Collected,
    ) {
        let mut trips = self.trips.iter().zip(&self.plan.trips);
        let stopped = trips
            .any(|(trip, plan)| usize::from(plan.machine.0) == index && trip.confirmed().is_some());
        let machine = &mut self.machines[index];
        let (execution, why) = match machine.followed {
            _ if stopped => (Execution::Stopped, None),
            followed => followed,
        };
        let activity = execution.activity();
        // Why nothing is heard must be seen, though the machine stays as unknown as it was.
        let explained =
            |told| told == Some(Unavailable::NotYet) && why.is_some_and(|why| Some(why) != told);
        if machine.told.is_some_and(|(told, why, _)| told == execution && !explained(why)) {
            return;
        }
        // Boundaries are stamped in the past, but never before the one told last.
        let at = machine.told.map_or(at, |(.., last)| at.max(last));
        machine.told = Some((execution, why, at));
        let raw_run_ms = raw_run.saturating_sub(machine.raw_run_told).as_millis();
        machine.raw_run_told = raw_run.max(machine.raw_run_told);
        self.states[index] = (execution, activity);
        collected.changed.push(index);
        let id = self.plan.machines[index].id.clone();
        collected.rest.push(Output::Event(Event::Activity {
            machine: id,
            at,
            activity,
            execution,
            why,
            raw_run_ms: u64::try_from(raw_run_ms).unwrap_or(u64::MAX),
        }));
        self.tell_register(index, collected);
    }

    /// Time in the raw run band up to the last good sample.
    fn raw_run(&self, index: usize) -> Duration {
        self.machines[index].follower.raw_run()
    }

    fn tell_register(&mut self, index: usize, collected: &mut Collected) {
        let machine = &mut self.machines[index];
        let Some(register) = machine.register else { return };
        if machine.register_told == Some(register.at) {
            return;
        }
        machine.register_told = Some(register.at);
        let id = self.plan.machines[index].id.clone();
        collected.rest.push(Output::Event(Event::Energy { machine: id, register }));
    }
}

/// The rules that look at each item, and at each machine's state, in their order.
fn rules_by_subject(plan: &Plan) -> (Lookup<RuleIndex>, Lookup<RuleIndex>) {
    let (mut of_item, mut of_machine) = (Vec::new(), Vec::new());
    for (index, rule) in plan.rules.iter().enumerate() {
        let index = RuleIndex(u16::try_from(index).unwrap_or(u16::MAX));
        for condition in std::iter::once(&rule.when).chain(&rule.clear) {
            of_item.extend(condition.items().map(|item| (item.0 as usize, index)));
            of_machine.extend(condition.machines().map(|it| (usize::from(it.0), index)));
        }
    }
    let (items, machines) = (plan.items.len(), plan.machines.len());
    (Lookup::new(items, of_item), Lookup::new(machines, of_machine))
}
