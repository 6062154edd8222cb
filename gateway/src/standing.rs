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
mod tests {
    use andon_engine::event::Activity;
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    fn boot(number: u8) -> BootId {
        BootId([number; 16])
    }

    fn does(at: u64, execution: Execution) -> Event {
        let activity = Activity::Run;
        Event::Activity {
            machine: "mill".into(),
            at: s(at),
            activity,
            execution,
            why: None,
            raw_run_ms: 0,
        }
    }

    fn started(at: u64) -> Event {
        Event::Started { at: s(at), version: "1".into() }
    }

    fn stopped(at: u64) -> Event {
        Event::Stopped { at: s(at) }
    }

    fn clock(at: u64, wall_s: i64) -> Event {
        Event::Clock { at: s(at), wall_ms: wall_s * 1000 }
    }

    fn evidence(of: u8, until: u64) -> Event {
        let boot = boot(of).to_string().into();
        Event::Evidence { machine: "mill".into(), until: s(until), boot }
    }

    /// What the mill has been doing at `now`: what, for how many seconds, and the boot and second
    /// since when.
    fn told(events: &[(u8, Event)], now: u64) -> (Execution, u64, (u8, u64)) {
        let mut standings = Standings::default();
        for (of, event) in events {
            standings.note(boot(*of), event);
        }
        let (of, at) = standings.since("mill").unwrap();
        let lasted = standings.lasted("mill", s(now)).unwrap().as_secs();
        let execution = standings.machines["mill"].now.execution;
        (execution, lasted, (of.0[0], at.as_millis() / 1000))
    }

    #[test]
    fn a_state_goes_on_over_several_restarts() {
        use Execution as E;
        let mut events = vec![
            (1, started(5)),
            (1, does(10, E::Ready)),
            (1, does(100, E::Running)),
            (1, stopped(1300)),
            (1, started(1310)),
        ];
        assert_eq!(told(&events, 1312), (E::Unknown, 2, (1, 1310)));
        // Nothing at first, then the same. A killed run leaves its evidence.
        events.extend([(1, does(1311, E::Unknown)), (1, does(1315, E::Running))]);
        assert_eq!(told(&events, 1320), (E::Running, 1220, (1, 100)));
        events.extend([(1, started(1404)), (1, evidence(1, 1400)), (1, does(1405, E::Running))]);
        assert_eq!(told(&events, 1410), (E::Running, 1310, (1, 100)));
        // It does something else, and goes on with that.
        events.extend([(1, does(1420, E::Ready)), (1, stopped(1500)), (1, started(1501))]);
        events.push((1, does(1502, E::Ready)));
        assert_eq!(told(&events, 1510), (E::Ready, 90, (1, 1420)));
    }

    #[test]
    fn a_stop_goes_on_over_several_restarts_whatever_is_said_until_it_is_confirmed_anew() {
        use Execution as E;
        let mut events = vec![(1, started(5)), (1, does(10, E::Ready)), (1, does(50, E::Stopped))];
        for restart in [1000, 2000, 3000] {
            events.extend([(1, stopped(restart)), (1, started(restart + 2))]);
            events.push((1, does(restart + 3, E::Unknown)));
            events.push((1, does(restart + 4, E::Ready)));
            assert_eq!(told(&events, restart + 5), (E::Ready, 1, (1, restart + 4)));
            events.push((1, does(restart + 6, E::Stopped)));
            let expected = (E::Stopped, restart - 43, (1, 50));
            assert_eq!(told(&events, restart + 7), expected);
        }
        // One that ended before the gateway came to confirm it is not there any more, and a new
        // one is new.
        events.extend([(1, does(4000, E::Ready)), (1, does(4010, E::Stopped))]);
        assert_eq!(told(&events, 4011), (E::Stopped, 1, (1, 4010)));
    }

    #[test]
    fn restarts_before_anything_is_heard_forget_nothing() {
        use Execution as E;
        let mut events = vec![(1, started(5)), (1, does(100, E::Running)), (1, stopped(200))];
        for restart in [210, 230, 250] {
            events.extend([(1, started(restart)), (1, does(restart, E::Unknown))]);
            events.push((1, stopped(restart + 10)));
        }
        // Nobody has known anything of it since the first of them.
        events.push((1, started(270)));
        assert_eq!(told(&events, 271), (E::Unknown, 61, (1, 210)));
        events.push((1, does(272, E::Running)));
        assert_eq!(told(&events, 280), (E::Running, 180, (1, 100)));
    }

    #[test]
    fn a_long_look_away_begins_anew() {
        use Execution as E;
        for (away, expected) in [(120, (220, 100)), (121, (10, 321))] {
            let again = 200 + away;
            let events = [
                (1, started(5)),
                (1, does(100, E::Running)),
                (1, stopped(200)),
                (1, started(again - 1)),
                (1, does(again, E::Running)),
                (1, stopped(again + 5)),
                (1, started(again + 6)),
                (1, does(again + 7, E::Running)),
            ];
            let (_, lasted, since) = told(&events, again + 10);
            assert_eq!(
                (lasted, since),
                (expected.0 + if away == 120 { 10 } else { 0 }, (1, expected.1))
            );
        }
    }

    #[test]
    fn a_run_that_left_no_evidence_is_not_believed_to_its_end() {
        use Execution as E;
        let events = [
            (1, started(5)),
            (1, does(100, E::Running)),
            (1, started(200)),
            (1, does(201, E::Running)),
            (1, stopped(210)),
            (1, started(211)),
            (1, does(212, E::Running)),
        ];
        assert_eq!(told(&events, 220), (E::Running, 19, (1, 201)));
    }

    #[test]
    fn over_a_reboot_it_needs_both_clocks() {
        use Execution as E;
        let mut events = vec![
            (1, clock(50, 1000)),
            (1, started(51)),
            (1, does(100, E::Running)),
            (1, stopped(650)),
            (2, started(3)),
            (2, does(5, E::Running)),
        ];
        // It stopped 600 s after the anchor, at 1600, and this boot began 27 s later.
        assert_eq!(told(&events, 8), (E::Running, 3, (2, 5)));
        let went_back = [events.as_slice(), &[(2, clock(9, 900))]].concat();
        assert_eq!(told(&went_back, 10), (E::Running, 5, (2, 5)));
        // The clock is known only after the machine was seen again.
        events.push((2, clock(9, 1636)));
        assert_eq!(told(&events, 10), (E::Running, 587, (1, 100)));
        // A clock that is set makes nothing longer.
        events.push((2, clock(20, 5000)));
        assert_eq!(told(&events, 30), (E::Running, 607, (1, 100)));
        events.extend([(2, stopped(65)), (3, clock(1, 5050)), (3, started(2))]);
        events.push((3, does(4, E::Running)));
        assert_eq!(told(&events, 5), (E::Running, 651, (1, 100)));
    }

    #[test]
    fn a_state_that_has_ended_before_the_clock_was_known_does_not_come_back() {
        use Execution as E;
        let events = [
            (1, clock(50, 1000)),
            (1, does(100, E::Running)),
            (1, stopped(650)),
            (2, started(3)),
            (2, does(5, E::Running)),
            (2, does(7, E::Ready)),
            (2, does(9, E::Running)),
            (2, clock(10, 1640)),
        ];
        assert_eq!(told(&events, 10), (E::Running, 1, (2, 9)));
    }

    fn anything() -> impl Strategy<Value = (u8, Event)> {
        use Execution as E;
        let states = prop::sample::select(vec![E::Unknown, E::Stopped, E::Running, E::Ready]);
        let event = (0..5, 0..400u64, states).prop_map(|(kind, at, execution)| match kind {
            0 => started(at),
            1 => stopped(at),
            2 => clock(at, 1000),
            3 => evidence(1, at),
            _ => does(at, execution),
        });
        (1..3u8, event)
    }

    proptest! {
        /// The bound on what is kept is asserted where it is kept.
        #[test]
        fn whatever_the_stream_says_a_machine_is_in_what_was_said_last_or_unknown(
            events in prop::collection::vec(anything(), 0..60),
        ) {
            let mut standings = Standings::default();
            let mut last = None;
            for (of, event) in &events {
                standings.note(boot(*of), event);
                match event {
                    Event::Activity { execution, .. } => last = Some(*execution),
                    Event::Started { .. } => last = last.map(|_| Execution::Unknown),
                    _ => {}
                }
                prop_assert_eq!(standings.machines.get("mill").map(|it| it.now.execution), last);
            }
        }
    }
}
