//! Alarms and the stops that they trip: what rules see, what a person's word does, and what stands
//! from before the restart.

use std::sync::Arc;

use super::exchange::{Output, Refusal};
use super::{Collected, Engine};
use crate::alarm::{self, Evaluated};
use crate::event::Event;
use crate::plan::RuleIndex;
use crate::rules::{Rule, View};
use crate::time::BootTime;
use crate::trip;

impl Engine {
    /// Takes up, once, the stops that a previous run had latched.
    pub(super) fn resume(&mut self, now: BootTime, collected: &mut Collected) {
        for left in std::mem::take(&mut self.resume) {
            let found = self.plan.trips.iter().position(|plan| plan.id == left.output);
            if let Some(index) = found {
                let outcome = self.trips[index].resume(&self.plan.trips[index], now, &left);
                self.note_trip(now, index, outcome, collected);
                self.latch_for(now, index, left.cause.as_deref(), collected);
            }
        }
        if !std::mem::replace(&mut self.resumed, true) {
            self.trip_what_is_latched(now, collected);
        }
    }

    /// A stop that stands has a latched alarm, so that a person can reset it: the one that caused
    /// it, or any other of the same output when that rule is no more.
    fn latch_for(
        &mut self,
        now: BootTime,
        trip: usize,
        cause: Option<&str>,
        collected: &mut Collected,
    ) {
        let of_trip = |rule: &Rule| rule.trip.is_some_and(|it| usize::from(it.0) == trip);
        let rules = || self.plan.rules.iter().enumerate().filter(|(_, rule)| of_trip(rule));
        let latched = rules().any(|(index, _)| self.alarms[index].is_latched());
        if latched || !self.trips[trip].is_tripped() {
            return;
        }
        let caused = rules().find(|(_, rule)| Some(&*rule.id) == cause);
        if let Some((index, _)) = caused.or_else(|| rules().next()) {
            self.alarms[index].latch(now, "a stop from before the restart");
            self.tell_alarm(now, index, None, None, collected);
        }
    }

    /// A latched alarm has a stop that stands, even when only the alarm reached the disk.
    fn trip_what_is_latched(&mut self, now: BootTime, collected: &mut Collected) {
        for index in 0..self.plan.rules.len() {
            let rule = &self.plan.rules[index];
            let Some(trip) = rule.trip.map(|trip| usize::from(trip.0)) else { continue };
            if self.alarms[index].is_latched() && !self.trips[trip].is_tripped() {
                let id = rule.id.clone();
                let outcome = self.trips[trip].trip(&self.plan.trips[trip], now, &id);
                self.note_trip(now, trip, outcome, collected);
            }
        }
    }

    pub(super) fn evaluate(&mut self, now: BootTime, index: usize, collected: &mut Collected) {
        let rule = &self.plan.rules[index];
        let view = View { values: &self.values, states: &self.states };
        let when = rule.when.evaluate(view);
        let clear = match &rule.clear {
            Some(clear) => clear.evaluate(view),
            None => when.map(|when| !when),
        };
        match self.alarms[index].step(rule, now, Evaluated { when, clear }) {
            alarm::Outcome::Same => return,
            alarm::Outcome::Changed => {}
            alarm::Outcome::Raised { trips } => {
                let cause = rule.when.describe(&self.plan, rule.machine, view);
                self.alarms[index].set_cause(&cause);
                if let Some(trip) = rule.trip.filter(|_| trips) {
                    let (trip, id) = (usize::from(trip.0), rule.id.clone());
                    let outcome = self.trips[trip].trip(&self.plan.trips[trip], now, &id);
                    self.note_trip(now, trip, outcome, collected);
                }
            }
        }
        self.tell_alarm(now, index, None, None, collected);
    }

    pub(super) fn acknowledge(
        &mut self,
        now: BootTime,
        rule: RuleIndex,
        by: Arc<str>,
        collected: &mut Collected,
    ) {
        let index = usize::from(rule.0);
        if !self.alarms[index].is_raised() {
            return self.refuse(index, "there is nothing to acknowledge", collected);
        }
        if self.alarms[index].acknowledge() {
            self.tell_alarm(now, index, Some(by), None, collected);
        }
    }

    pub(super) fn reset(
        &mut self,
        now: BootTime,
        rule: RuleIndex,
        by: Arc<str>,
        reason: Arc<str>,
        collected: &mut Collected,
    ) {
        let index = usize::from(rule.0);
        if reason.trim().is_empty() {
            return self.refuse(index, "a reset needs a reason", collected);
        }
        let trip = self.plan.rules[index].trip.map(|trip| usize::from(trip.0));
        if trip.is_some_and(|trip| self.trips[trip].is_doubtful()) {
            return self.refuse(index, "its stop is not confirmed", collected);
        }
        if let Err(why) = self.alarms[index].reset() {
            return self.refuse(index, why, collected);
        }
        self.tell_alarm(now, index, Some(by), Some(reason), collected);
        let Some(trip) = trip else { return };
        let held_by_another = |other: usize| {
            self.plan.rules[other].trip == self.plan.rules[index].trip
                && self.alarms[other].is_latched()
        };
        if !(0..self.plan.rules.len()).any(held_by_another) {
            let outcome = self.trips[trip].reset(&self.plan.trips[trip], now);
            self.note_trip(now, trip, outcome, collected);
        }
    }

    fn refuse(&self, index: usize, why: &'static str, collected: &mut Collected) {
        let alarm = self.plan.rules[index].id.clone();
        collected.rest.push(Output::Refused(Refusal { alarm, why }));
    }

    fn tell_alarm(
        &self,
        now: BootTime,
        index: usize,
        by: Option<Arc<str>>,
        reason: Option<Arc<str>>,
        collected: &mut Collected,
    ) {
        let rule = &self.plan.rules[index];
        let machine = &self.plan.machines[usize::from(rule.machine.0)].id;
        let state = self.alarms[index].state(rule, machine, now);
        collected.rest.push(Output::Event(Event::Alarm { at: now, state, by, reason }));
    }

    pub(super) fn note_trip(
        &mut self,
        now: BootTime,
        index: usize,
        outcome: trip::Outcome,
        collected: &mut Collected,
    ) {
        collected.commands.extend(outcome.command);
        if !outcome.changed {
            return;
        }
        let plan = &self.plan.trips[index];
        let machine = usize::from(plan.machine.0);
        let state = self.trips[index].state(plan, &self.plan.machines[machine].id);
        collected.rest.push(Output::Event(Event::Trip { at: now, state }));
        let at = self.trips[index].confirmed().unwrap_or(now);
        self.tell_state(machine, at, self.raw_run(machine), collected);
    }
}
