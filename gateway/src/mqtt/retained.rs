//! What the broker retains for whoever comes later: births, states, alarms, and the status.
//!
//! States and alarms are a fold of the journal's events, so that they are right after a restart
//! without asking anybody. Everything is sent again on every connection. Bounded by the plan:
//! machines and rules that it does not know are passed over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use andon_engine::event::{Activity, AlarmState, Event, Execution};
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use super::WallClock;
use super::births::Births;
use crate::config::plan::Plan;
use crate::journal::{BootId, Follower, Payload};
use crate::standing::Standings;
use crate::wire::{self, Alarm, State, Topic, VERSION};

/// Events read in one go.
const READ_MAX: usize = 1024;

/// Something retained.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Status,
    Birth(Arc<str>),
    State(Arc<str>),
    Alarm(Arc<str>),
}

struct Doing {
    activity: Activity,
    execution: Execution,
    why: Option<Unavailable>,
}

/// The retained messages and which of them are to be sent.
pub(super) struct Retained {
    site: Arc<str>,
    events: Follower,
    births: Births,
    doing: HashMap<Arc<str>, Doing>,
    /// Since when they do it.
    standings: Standings,
    alarms: HashMap<Arc<str>, (BootId, BootTime, AlarmState)>,
    due: BTreeSet<Key>,
    /// What was sent while this boot had no wall time: sent again once when it has one.
    timeless: BTreeSet<Key>,
}

impl Retained {
    /// What `plan` has, with the events so far.
    pub(super) fn new(plan: &Arc<Plan>, events: Follower) -> Self {
        Self {
            site: Arc::clone(&plan.site.id),
            events,
            births: Births::new(plan),
            doing: HashMap::new(),
            standings: Standings::default(),
            alarms: HashMap::new(),
            due: BTreeSet::new(),
            timeless: BTreeSet::new(),
        }
    }

    /// Folds the events that have happened since.
    pub(super) fn fold(&mut self) {
        loop {
            let records = self.events.next(READ_MAX);
            for record in &records {
                if let Payload::Event(event) = &record.payload {
                    self.note(record.boot, event);
                }
            }
            if records.len() < READ_MAX {
                return;
            }
        }
    }

    fn note(&mut self, boot: BootId, event: &Event) {
        if event.machine().is_some_and(|machine| !self.births.knows(machine)) {
            return;
        }
        if self.standings.note(boot, event) {
            self.due.extend(self.doing.keys().cloned().map(Key::State));
        }
        match event {
            // Every run tells anew what each machine does.
            Event::Started { .. } => self.doing.clear(),
            Event::Activity { machine, activity, execution, why, .. } => {
                let doing = Doing { activity: *activity, execution: *execution, why: *why };
                self.doing.insert(Arc::clone(machine), doing);
                self.due.insert(Key::State(Arc::clone(machine)));
            }
            Event::Alarm { at, state, .. } => {
                self.alarms.insert(Arc::clone(&state.alarm), (boot, *at, state.clone()));
                self.due.insert(Key::Alarm(Arc::clone(&state.alarm)));
            }
            _ => {}
        }
    }

    /// Everything is to be sent again.
    pub(super) fn all_due(&mut self) {
        self.due.insert(Key::Status);
        self.due.extend(self.births.machines().cloned().map(Key::Birth));
        self.due.extend(self.doing.keys().cloned().map(Key::State));
        self.due.extend(self.alarms.keys().cloned().map(Key::Alarm));
    }

    /// The status is to be sent again.
    pub(super) fn status_due(&mut self) {
        self.due.insert(Key::Status);
    }

    /// Whether anything may be sent: now, or once there is a wall time.
    pub(super) fn is_any_due(&self) -> bool {
        !(self.due.is_empty() && self.timeless.is_empty())
    }

    /// The next message that is to be sent: topic and payload; the payload of the status is made
    /// by the caller.
    pub(super) fn next(
        &mut self,
        wall: &WallClock,
        now_ms: Option<i64>,
    ) -> Option<(String, Option<Vec<u8>>)> {
        if now_ms.is_some() {
            self.due.append(&mut self.timeless);
        }
        while let Some(key) = self.due.pop_first() {
            let message = match &key {
                Key::Status => Some((Topic::Status, None)),
                Key::Birth(machine) => {
                    let birth = self.births.of(machine);
                    birth.map(|birth| (Topic::Birth(machine), Some(wire::encode(&birth))))
                }
                Key::State(machine) => self.doing.get(machine).map(|doing| {
                    let since = self.standings.since(machine);
                    let state = State {
                        v: VERSION,
                        t: now_ms,
                        since: since.and_then(|(boot, at)| wall(&boot, at)),
                        execution: doing.execution,
                        activity: doing.activity,
                        why: doing.why,
                    };
                    (Topic::State(machine), Some(wire::encode(&state)))
                }),
                Key::Alarm(id) => self.alarms.get(id).map(|(boot, at, state)| {
                    let payload = Alarm { v: VERSION, t: wall(boot, *at), state: state.clone() };
                    (Topic::Alarm(&state.machine, id), Some(wire::encode(&payload)))
                }),
            };
            if let Some((topic, payload)) = message {
                let topic = topic.at(&self.site);
                if now_ms.is_none() {
                    self.timeless.insert(key);
                }
                return Some((topic, payload));
            }
        }
        None
    }
}
