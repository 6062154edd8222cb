//! The engine thread's end of the picture: hands batches over and never waits.
//!
//! When the queue is full, what it would have carried is kept here by its last value per item,
//! machine, alarm and trip, and goes first as soon as there is room. So the picture is late, never
//! wrong, and what is kept is bounded by the plan. History loses the samples in between and shows
//! it as coverage. Every batch merged this way is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use andon_engine::Output;
use andon_engine::event::Event;
use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use tokio::sync::mpsc;

/// Batches between engine and picture: 6 s at one batch per engine tick.
pub const BATCHES_MAX: usize = 64;

/// What a batch that could not be sent is reduced to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Item(ItemIndex),
    Activity(Arc<str>),
    Alarm(Arc<str>),
    Trip(Arc<str>),
}

/// Shared with the hub.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) stepped: AtomicU64,
    pub(super) missed: AtomicU64,
}

/// The engine thread's end.
#[derive(Debug)]
pub struct Feed {
    batches: mpsc::Sender<Arc<[Output]>>,
    progress: Arc<Progress>,
    owed: BTreeMap<Key, Output>,
}

impl Feed {
    pub(super) fn new(
        progress: Arc<Progress>,
        started: BootTime,
    ) -> (Self, mpsc::Receiver<Arc<[Output]>>) {
        let (batches, received) = mpsc::channel(BATCHES_MAX);
        progress.stepped.store(started.0, Ordering::Relaxed);
        (Self { batches, progress, owed: BTreeMap::new() }, received)
    }

    /// To be called after every step of the engine, whatever came out of it: the board ticks only
    /// while the engine steps. Never blocks.
    pub fn step(&mut self, now: BootTime, outputs: &Arc<[Output]>) {
        self.progress.stepped.store(now.0, Ordering::Relaxed);
        if !self.owed.is_empty() {
            let Ok(place) = self.batches.try_reserve() else {
                self.owe(outputs);
                return;
            };
            place.send(std::mem::take(&mut self.owed).into_values().collect());
        }
        if outputs.iter().any(|output| !matches!(output, Output::Command(_)))
            && self.batches.try_send(outputs.clone()).is_err()
        {
            self.owe(outputs);
        }
    }

    fn owe(&mut self, outputs: &[Output]) {
        if outputs.is_empty() {
            return;
        }
        self.progress.missed.fetch_add(1, Ordering::Relaxed);
        for output in outputs {
            match output {
                Output::Observation { machine, at, items } => {
                    for (index, measured) in items {
                        let items = vec![(*index, measured.clone())];
                        let last = Output::Observation { machine: *machine, at: *at, items };
                        self.owed.insert(Key::Item(*index), last);
                    }
                }
                Output::Event(event) => {
                    let key = match event {
                        Event::Activity { machine, .. } => Key::Activity(machine.clone()),
                        Event::Alarm { state, .. } => Key::Alarm(state.alarm.clone()),
                        Event::Trip { state, .. } => Key::Trip(state.output.clone()),
                        _ => continue,
                    };
                    self.owed.insert(key, output.clone());
                }
                _ => {}
            }
        }
    }
}
