//! Since when each machine had been in its state when the runs before this one ended, so that a
//! restart of andon does not make a machine that has run all morning one that runs since now.
//!
//! A fold over the events stream, by machine: a state goes on over a restart when the machine is in
//! it again and nobody had looked away for longer than [`UNSEEN_MAX`]. It is for the eyes alone: hours
//! and prices are counted from evidence, and a gap has none. Where the clocks of two boots cannot be
//! compared, nothing goes on. Bound: one entry per machine of the events stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::{Event, Execution};
use andon_engine::time::BootTime;

use crate::clock::Anchors;
use crate::http::picture::{Left, UNSEEN_MAX};
use crate::journal::BootId;

/// A moment of some boot.
type Moment = (BootId, BootTime);

/// By machine.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<Arc<str>, Standing>);

#[derive(Debug)]
struct Standing {
    execution: Execution,
    since: Moment,
    /// The run that saw it has ended, and until then it was seen.
    seen: Option<Moment>,
}

impl Standings {
    /// Takes an event of `boot`; `anchors` are those of the events so far.
    pub(super) fn note(&mut self, boot: BootId, event: &Event, anchors: &Anchors) {
        match event {
            Event::Activity { machine, at, execution, .. } => {
                let now = (boot, *at);
                let known = self.0.get_mut(machine);
                if known.is_some_and(|known| known.goes_on(*execution, now, anchors)) {
                    return;
                }
                let standing = Standing { execution: *execution, since: now, seen: None };
                self.0.insert(machine.clone(), standing);
            }
            Event::Evidence { machine, until, boot } => {
                if let (Some(known), Ok(boot)) = (self.0.get_mut(machine), boot.parse()) {
                    known.seen.get_or_insert((boot, *until));
                }
            }
            Event::Stopped { at } => {
                for known in self.0.values_mut() {
                    known.seen.get_or_insert((boot, *at));
                }
            }
            _ => {}
        }
    }

    /// What is left of each machine's state at `started` of `boot`, where that can be told.
    pub(super) fn left(
        &self,
        (boot, started): Moment,
        wall_ms: Option<i64>,
        anchors: &Anchors,
    ) -> impl Iterator<Item = (&Arc<str>, Left)> {
        let ago = move |(of, at): Moment| {
            if of == boot {
                return Some(started.since(at));
            }
            let ago = wall_ms?.checked_sub(anchors.wall_ms(&of, at)?)?;
            u64::try_from(ago).ok().map(Duration::from_millis)
        };
        self.0.iter().filter_map(move |(machine, known)| {
            let execution = known.execution;
            let (since, seen) = (known.since, known.seen?);
            let unseen = ago(seen)?;
            // Within a boot no clock that was set can make it longer or shorter.
            let began =
                if since.0 == seen.0 { unseen + seen.1.since(since.1) } else { ago(since)? };
            let left = Left { execution, began, seen: unseen };
            Some((machine, left))
        })
    }
}

impl Standing {
    /// Whether it is the same state that a machine is in from `now` on.
    fn goes_on(&mut self, execution: Execution, now: Moment, anchors: &Anchors) -> bool {
        let Some(seen) = self.seen else { return self.execution == execution };
        if execution == Execution::Unknown {
            // Nothing has been heard since the start: it may go on yet.
            return true;
        }
        let unseen = if seen.0 == now.0 {
            Some(now.1.since(seen.1))
        } else {
            let wall_ms = |(boot, at): Moment| anchors.wall_ms(&boot, at);
            let away =
                wall_ms(now).zip(wall_ms(seen)).and_then(|(now, then)| now.checked_sub(then));
            away.and_then(|away| u64::try_from(away).ok()).map(Duration::from_millis)
        };
        let same = self.execution == execution && unseen.is_some_and(|away| away <= UNSEEN_MAX);
        if same {
            self.seen = None;
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use andon_engine::event::Activity;

    use super::*;

    const MINUTE: u64 = 60;

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

    /// What is left at a start, in seconds: the state, when it began and until when it was seen.
    fn left(
        events: &[(u8, Event)],
        started: (u8, u64),
        wall_ms: Option<i64>,
    ) -> Option<(Execution, u64, u64)> {
        let (mut standings, mut anchors) = (Standings::default(), Anchors::default());
        for (of, event) in events {
            anchors.note(boot(*of), event);
            standings.note(boot(*of), event, &anchors);
        }
        let start = (boot(started.0), s(started.1));
        let found = standings.left(start, wall_ms, &anchors).next().map(|(_, left)| left);
        found.map(|left| (left.execution, left.began.as_secs(), left.seen.as_secs()))
    }

    #[test]
    fn a_state_is_left_as_it_was_begun_over_several_restarts() {
        use Execution as E;
        let mut events = vec![
            (1, does(10, E::Ready)),
            (1, does(100, E::Running)),
            (1, Event::Stopped { at: s(1300) }),
        ];
        assert_eq!(left(&events, (1, 1310), None), Some((E::Running, 1210, 10)));
        // Nothing at first, then the same: it goes on. A killed run leaves its evidence.
        events.extend([(1, does(1311, E::Unknown)), (1, does(1315, E::Running))]);
        let evidence = |until| {
            let of_boot = boot(1).to_string().into();
            (1, Event::Evidence { machine: "mill".into(), until: s(until), boot: of_boot })
        };
        events.push(evidence(1400));
        assert_eq!(left(&events, (1, 1405), None), Some((E::Running, 1305, 5)));
        // It did something else after that.
        events.extend([(1, does(1410, E::Ready)), (1, Event::Stopped { at: s(1500) })]);
        assert_eq!(left(&events, (1, 1501), None), Some((E::Ready, 91, 1)));
    }

    #[test]
    fn a_long_look_away_begins_anew() {
        use Execution as E;
        let away = 3 * MINUTE;
        let events = [
            (1, does(100, E::Running)),
            (1, Event::Stopped { at: s(200) }),
            (1, does(200 + away, E::Running)),
            (1, Event::Stopped { at: s(210 + away) }),
        ];
        assert_eq!(left(&events, (1, 220 + away), None), Some((E::Running, 20, 10)));
    }

    #[test]
    fn over_a_reboot_it_needs_both_clocks() {
        use Execution as E;
        let clock = |at, wall_ms| Event::Clock { at: s(at), wall_ms };
        let mut events = vec![
            (1, clock(50, 1_000_000)),
            (1, does(100, E::Running)),
            (1, Event::Stopped { at: s(650) }),
        ];
        // 600 s after the anchor it stopped, at 1,600,000; this boot begins 30 s later.
        assert_eq!(left(&events, (2, 3), Some(1_630_000)), Some((E::Running, 580, 30)));
        assert_eq!(left(&events, (2, 3), None), None);
        assert_eq!(left(&events, (2, 3), Some(900_000)), None, "a clock that went back");
        events.extend([(2, clock(4, 1_631_000)), (2, does(5, E::Running))]);
        events.push((2, Event::Stopped { at: s(65) }));
        assert_eq!(left(&events, (2, 67), Some(1_694_000)), Some((E::Running, 644, 2)));
    }
}
