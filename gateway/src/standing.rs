//! Since when each machine is in its state, so that a restart of andon does not make a machine that
//! has run all morning one that runs since now.
//!
//! A fold over the events stream, by machine: a state goes on over a restart when the machine is in
//! it again and nobody had looked away for longer than [`UNSEEN_MAX`]. The board and the retained
//! states are both told by it, and nothing else decides. It is for the eyes alone: hours and prices are
//! counted from evidence, and a gap has none. While the clocks of two boots cannot be compared, nothing
//! goes on. Bound: one entry per machine of the events stream, each with [`LEFT_MAX`] states at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::{Event, Execution};
use andon_engine::time::BootTime;

use crate::clock::Anchors;
use crate::journal::BootId;

/// A state goes on over a restart when nobody looked away for longer than this between: a restart
/// takes seconds, a reboot a minute. After a longer look away it counts from when it was seen again.
const UNSEEN_MAX: Duration = Duration::from_secs(120);

/// A stop that is not confirmed anew yet, what was seen last, and that nothing is known since.
const LEFT_MAX: usize = 3;

/// A moment of some boot.
pub type Moment = (BootId, BootTime);

/// By machine.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    machines: BTreeMap<Arc<str>, Standing>,
    /// The boot of the run that is being told of.
    run: Option<BootId>,
    /// The clock's anchors of every boot in the stream.
    anchors: Anchors,
}

/// What a machine does in this run, and what it did before while it may go on yet.
#[derive(Clone, Debug)]
struct Standing {
    now: State,
    left: Vec<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    execution: Execution,
    /// When it began, by whichever run saw that.
    since: Moment,
    /// When the run began to see it that saw it last, and how long it had been so by then: sums
    /// of what passed within boots, which no clock that is set makes longer or shorter.
    from: Moment,
    before: Duration,
    /// Until when that run saw it, once the run has ended.
    seen: Option<BootTime>,
}

impl Standings {
    /// Takes the next event of the stream. Returns whether a state that had been told already turns
    /// out to be older, because the clocks of two boots can be compared only now.
    pub fn note(&mut self, boot: BootId, event: &Event) -> bool {
        match event {
            Event::Clock { .. } => {
                // No later anchor changes what is known of the moments before it.
                let is_first = self.anchors.of(&boot).is_empty();
                self.anchors.note(boot, event);
                return is_first && self.settle();
            }
            Event::Started { at, .. } => self.start((boot, *at)),
            Event::Stopped { at } => {
                for standing in self.machines.values_mut() {
                    standing.now.end(boot, *at);
                }
            }
            Event::Evidence { machine, until, boot } => {
                if let (Some(standing), Ok(boot)) = (self.machines.get_mut(machine), boot.parse()) {
                    standing.left.iter_mut().for_each(|left| left.end(boot, *until));
                    standing.settle(&self.anchors);
                }
            }
            Event::Activity { machine, at, execution, .. } => {
                let now = (boot, *at);
                if self.run.is_some_and(|run| run != boot) {
                    // The start's own record is lost.
                    self.start(now);
                }
                self.run = Some(boot);
                let begun = State::new(*execution, now);
                match self.machines.get_mut(machine) {
                    Some(standing) => standing.begin(begun, &self.anchors),
                    None => {
                        let standing = Standing { now: begun, left: Vec::new() };
                        self.machines.insert(machine.clone(), standing);
                    }
                }
            }
            _ => {}
        }
        false
    }

    /// The clock's anchors of every boot so far.
    pub const fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Since when a machine is in its state; `None` of one that was never heard of.
    pub fn since(&self, machine: &str) -> Option<Moment> {
        self.machines.get(machine).map(|standing| standing.now.since)
    }

    /// How long a machine has been in its state at `now` of the boot that is being told of.
    pub fn lasted(&self, machine: &str, now: BootTime) -> Option<Duration> {
        let state = self.machines.get(machine)?.now;
        Some(state.before.saturating_add(now.since(state.from.1)))
    }

    /// A run begins: nothing is known of any machine, and what it did may go on.
    fn start(&mut self, started: Moment) {
        self.run = Some(started.0);
        for standing in self.machines.values_mut() {
            standing.restart(started, &self.anchors);
        }
    }

    fn settle(&mut self) -> bool {
        let mut older = false;
        for standing in self.machines.values_mut() {
            older |= standing.settle(&self.anchors);
        }
        older
    }
}

impl Standing {
    fn restart(&mut self, started: Moment, anchors: &Anchors) {
        let mut last = self.now;
        if last.execution == Execution::Unknown {
            // Nobody knows more of it since: it needs no evidence.
            last.end(last.from.0, last.from.1);
        }
        // What no run can tell any more, and what this state came in place of.
        self.left.retain(|left| left.seen.is_some() && left.execution != last.execution);
        self.left.push(last);
        assert!(self.left.len() <= LEFT_MAX, "invariant: three kinds of states are left at most");
        self.now = State::new(Execution::Unknown, started);
        self.settle(anchors);
    }

    fn begin(&mut self, begun: State, anchors: &Anchors) {
        let was = self.now.execution;
        if was == begun.execution {
            return;
        }
        self.now = begun;
        self.left.retain(|left| match left.execution {
            execution if execution == was => false,
            execution if execution == begun.execution => true,
            // A stop that stands over the restart is told once it is confirmed anew.
            Execution::Stopped => true,
            // Nothing has been heard since the start: it may go on yet.
            _ => begun.execution == Execution::Unknown,
        });
        self.settle(anchors);
    }

    /// Makes what the machine does the same as what it did, where that can be told. Returns whether
    /// it is.
    fn settle(&mut self, anchors: &Anchors) -> bool {
        let now = self.now;
        let Some(place) = self.left.iter().position(|left| left.execution == now.execution) else {
            return false;
        };
        let left = self.left[place];
        let Some(away) = left.seen.and_then(|seen| away((left.from.0, seen), now.from, anchors))
        else {
            return false;
        };
        self.left.remove(place);
        if now.execution != Execution::Unknown && away > UNSEEN_MAX {
            return false;
        }
        let seen = left.seen.map_or(Duration::ZERO, |seen| seen.since(left.from.1));
        self.now.since = left.since;
        self.now.before = left.before.saturating_add(seen).saturating_add(away);
        true
    }
}

impl State {
    const fn new(execution: Execution, from: Moment) -> Self {
        Self { execution, since: from, from, before: Duration::ZERO, seen: None }
    }

    /// The run that saw it has ended, in `boot`; it was seen until then.
    fn end(&mut self, boot: BootId, until: BootTime) {
        if self.from.0 == boot {
            self.seen.get_or_insert(until);
        }
    }
}

/// How long nobody looked between two moments, where their clocks can be compared.
fn away(seen: Moment, again: Moment, anchors: &Anchors) -> Option<Duration> {
    if seen.0 == again.0 {
        return Some(again.1.since(seen.1));
    }
    let wall_ms = |(boot, at): Moment| anchors.wall_ms(&boot, at);
    let away = wall_ms(again)?.checked_sub(wall_ms(seen)?)?;
    u64::try_from(away).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
