//! The task that owns the picture and the last hour, and tells the boards what changes.
//!
//! Each board has a bounded queue; one that does not read is disconnected and counted. Whoever comes
//! back with the id of a frame of this run is told what it missed, everybody else starts with a whole
//! picture. Machines are told at most every [`FLUSH`], stops and alarms at once;
//! two changes of the same alarm are never merged. It ticks only while the engine steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use andon_engine::Output;
use andon_engine::event::Event;
use andon_engine::plan::{ItemIndex, MachineIndex};
use andon_engine::time::BootTime;
use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::feed::{Feed, Progress};
use super::picture::{Moment, Picture};
use super::status::Status;
use super::told::{FrameId, MISSED_MAX, Subject, Told};
use super::view::Viewers;
use crate::diagnostics::Heard;
use crate::history::recent::{Answer, Query, Recent, SPAN_MAX};
use crate::journal::{BootId, Follower, Observation, Payload};

/// Boards connected at once.
pub const CLIENTS_MAX: usize = 64;
/// Frames that a board may be behind.
const CLIENT_FRAMES: usize = 256;
const _: () = assert!(MISSED_MAX < CLIENT_FRAMES, "what was missed fits into the queue");
/// Questions waiting for the hub.
const ASKS_MAX: usize = 64;
/// Records read from the journal at once.
const RESTORE_RECORDS: usize = 256;
/// The board's heartbeat.
pub const TICK: Duration = Duration::from_secs(5);
/// A machine is told at most this often.
pub const FLUSH: Duration = Duration::from_millis(250);
/// No heartbeat when the engine has not stepped for so long: it steps every 100 ms.
const ENGINE_SILENT_MAX: Duration = Duration::from_secs(5);

/// Reads the clocks; injected.
pub type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

/// What is asked of the hub.
enum Ask {
    Subscribe(Option<FrameId>, oneshot::Sender<Option<mpsc::Receiver<Bytes>>>),
    Picture(oneshot::Sender<Bytes>),
    History(Query, oneshot::Sender<Option<Answer>>),
    Restore(Vec<Observation>),
    Heard(ItemIndex, oneshot::Sender<Option<Heard>>),
    Viewers(oneshot::Sender<Viewers>),
}

/// Asks the hub; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
}

/// The hub is gone, or too busy to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is too busy or is stopping")]
pub struct Busy;

impl Handle {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Busy> {
        let (sender, answer) = oneshot::channel();
        self.asks.try_send(ask(sender)).map_err(|_| Busy)?;
        answer.await.map_err(|_| Busy)
    }

    /// Frames of `text/event-stream`, beginning with what has changed since the frame `since` or, when
    /// nobody can say, with a whole picture; ends when the reader is too slow.
    ///
    /// # Errors
    /// [`Busy`] also when [`CLIENTS_MAX`] boards are connected.
    pub async fn subscribe(&self, since: Option<FrameId>) -> Result<mpsc::Receiver<Bytes>, Busy> {
        self.ask(|answer| Ask::Subscribe(since, answer)).await?.ok_or(Busy)
    }

    /// The picture as JSON.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn picture(&self) -> Result<Bytes, Busy> {
        self.ask(Ask::Picture).await
    }

    /// A question to the last hour; none when there is no such series.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn history(&self, query: Query) -> Result<Option<Answer>, Busy> {
        self.ask(|answer| Ask::History(query, answer)).await
    }

    /// What was heard of an item until now; none of one that is not in the plan.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn heard(&self, item: ItemIndex) -> Result<Option<Heard>, Busy> {
        self.ask(|answer| Ask::Heard(item, answer)).await
    }

    /// Who is looking.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn viewers(&self) -> Result<Viewers, Busy> {
        self.ask(Ask::Viewers).await
    }

    /// Fills the last hour with what the journal's telemetry remembers of this boot from before
    /// `started`. To be run in the background; the caller places `follower` where the hour begins
    /// if it can, since everything before is read and passed over.
    ///
    /// # Errors
    /// [`Busy`] when the hub is gone.
    pub async fn restore_from(
        &self,
        mut follower: Follower,
        boot: BootId,
        started: BootTime,
    ) -> Result<(), Busy> {
        loop {
            let records = follower.next(RESTORE_RECORDS);
            if records.is_empty() {
                if !follower.is_refused() {
                    return Ok(());
                }
                follower.ready().await;
                continue;
            }
            let ours = records.into_iter().filter(|record| record.boot == boot);
            let wanted = ours.filter_map(|record| match record.payload {
                Payload::Observation(seen)
                    if seen.at < started && started.since(seen.at) <= SPAN_MAX =>
                {
                    Some(seen)
                }
                _ => None,
            });
            self.restore(wanted.collect()).await?;
            tokio::task::yield_now().await;
        }
    }

    /// Fills the last hour with samples.
    ///
    /// # Errors
    /// [`Busy`] when the hub is gone.
    pub async fn restore(&self, observations: Vec<Observation>) -> Result<(), Busy> {
        self.asks.send(Ask::Restore(observations)).await.map_err(|_| Busy)
    }
}

/// The task.
pub struct Hub {
    picture: Picture,
    recent: Recent,
    now: Now,
    batches: mpsc::Receiver<Arc<[Output]>>,
    asks: mpsc::Receiver<Ask>,
    status: watch::Receiver<Status>,
    progress: Arc<Progress>,
    clients: Vec<mpsc::Sender<Bytes>>,
    told: Told,
    dropped: u64,
    dirty: BTreeSet<MachineIndex>,
    gateway_dirty: bool,
    flush_at: Instant,
}

impl Hub {
    /// The hub with its two ends: the engine's and the server's.
    pub fn new(
        picture: Picture,
        recent: Recent,
        status: watch::Receiver<Status>,
        now: Now,
    ) -> (Self, Feed, Handle) {
        let progress = Arc::new(Progress::default());
        let (feed, batches) = Feed::new(progress.clone(), now().boot);
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let hub = Self {
            told: Told::new(picture.machines()),
            picture,
            recent,
            now,
            batches,
            asks: asked,
            status,
            progress,
            clients: Vec::new(),
            dropped: 0,
            dirty: BTreeSet::new(),
            gateway_dirty: true,
            flush_at: Instant::now(),
        };
        (hub, feed, Handle { asks })
    }

    /// Runs until the engine's end is dropped; then every stream ends.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let first = self.status.borrow_and_update().clone();
        self.picture.set_status(first);
        let mut told = true;
        loop {
            let waiting = self.gateway_dirty || !self.dirty.is_empty();
            tokio::select! {
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.fold(&batch),
                    None => return,
                },
                Some(ask) = self.asks.recv() => self.answer(ask),
                changed = self.status.changed(), if told => match changed {
                    Ok(()) => {
                        let status = self.status.borrow_and_update().clone();
                        self.picture.set_status(status);
                        self.gateway_dirty = true;
                    }
                    Err(_) => told = false,
                },
                _ = tick.tick() => self.tick(),
                () = tokio::time::sleep_until(self.flush_at), if waiting => self.flush(),
            }
        }
    }

    fn fold(&mut self, batch: &[Output]) {
        let mut alarms = BTreeSet::new();
        let mut stops = BTreeSet::new();
        for output in batch {
            if let Output::Event(Event::Alarm { state, .. }) = output
                && !alarms.insert(state.alarm.clone())
            {
                self.tell(Subject::Alarms);
                alarms.clear();
                alarms.insert(state.alarm.clone());
            }
            if let Output::Observation { at, items, .. } = output {
                for (index, measured) in items {
                    self.recent.fold(*index, *at, measured);
                }
            }
            let Some(machine) = self.picture.fold(output) else { continue };
            if matches!(output, Output::Event(Event::Trip { .. })) {
                stops.insert(machine);
            } else {
                self.dirty.insert(machine);
            }
        }
        // A stop that fails, or is confirmed after all, is an alarm that comes or goes.
        let alarming = !alarms.is_empty() || !stops.is_empty();
        for machine in stops {
            self.dirty.remove(&machine);
            self.tell(Subject::Machine(machine));
        }
        if alarming {
            self.tell(Subject::Alarms);
        }
    }

    fn answer(&mut self, ask: Ask) {
        // Whoever has stopped waiting for an answer needs none.
        match ask {
            Ask::Subscribe(since, answer) => drop(answer.send(self.subscribe(since))),
            Ask::Picture(answer) => {
                let picture = self.picture.render((self.now)(), self.viewers());
                drop(answer.send(json(&picture)));
            }
            Ask::History(query, answer) => {
                drop(answer.send(self.recent.query(&query, (self.now)().boot)));
            }
            Ask::Heard(item, answer) => {
                drop(answer.send(self.picture.heard(item, (self.now)().boot)));
            }
            Ask::Viewers(answer) => drop(answer.send(self.viewers())),
            Ask::Restore(observations) => {
                for Observation { machine, at, items } in observations {
                    for (item, measured) in items {
                        self.recent.fold_named(&machine, &item, at, &measured);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, since: Option<FrameId>) -> Option<mpsc::Receiver<Bytes>> {
        self.clients.retain(|client| !client.is_closed());
        if self.clients.len() >= CLIENTS_MAX {
            return None;
        }
        let (sender, frames) = mpsc::channel(CLIENT_FRAMES);
        if let Some(missed) = since.and_then(|since| self.told.missed_since(since)) {
            for (subject, id) in missed {
                sender.try_send(self.render(subject, id)?).ok()?;
            }
        } else {
            let picture = self.picture.render((self.now)(), self.viewers());
            sender.try_send(frame(self.told.last(), "picture", &picture)).ok()?;
        }
        self.clients.push(sender);
        Some(frames)
    }

    /// A frame about a subject as of now; none of a machine that does not exist.
    fn render(&self, subject: Subject, id: FrameId) -> Option<Bytes> {
        let now = (self.now)();
        Some(match subject {
            Subject::Machine(index) => {
                frame(id, "machine", &self.picture.machine(index, now.boot)?)
            }
            Subject::Alarms => frame(id, "alarms", &self.picture.alarms(now.boot)),
            Subject::Gateway => frame(id, "gateway", &self.picture.gateway(now, self.viewers())),
        })
    }

    fn viewers(&self) -> Viewers {
        Viewers {
            connected: self.clients.iter().filter(|client| !client.is_closed()).count(),
            dropped: self.dropped,
            missed: self.progress.missed.load(Ordering::Relaxed),
        }
    }

    fn tick(&mut self) {
        let now = (self.now)();
        let stepped = BootTime(self.progress.stepped.load(Ordering::Relaxed));
        if now.boot.since(stepped) <= ENGINE_SILENT_MAX {
            self.send(&frame(self.told.last(), "tick", &self.picture.tick(now)));
        }
    }

    fn flush(&mut self) {
        self.flush_at = Instant::now() + FLUSH;
        for machine in std::mem::take(&mut self.dirty) {
            self.tell(Subject::Machine(machine));
        }
        if std::mem::take(&mut self.gateway_dirty) {
            self.tell(Subject::Gateway);
        }
    }

    fn tell(&mut self, subject: Subject) {
        let id = self.told.count(subject);
        if !self.clients.is_empty()
            && let Some(frame) = self.render(subject, id)
        {
            self.send(&frame);
        }
    }

    fn send(&mut self, frame: &Bytes) {
        let mut slow = 0;
        self.clients.retain(|client| match client.try_send(frame.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                slow += 1;
                false
            }
        });
        self.dropped += slow;
    }
}

/// One event of `text/event-stream`; JSON has no line breaks of its own.
fn frame(id: FrameId, event: &str, shape: &impl Serialize) -> Bytes {
    let mut frame = format!("id: {id}\nevent: {event}\ndata: ").into_bytes();
    frame.extend_from_slice(&json(shape));
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

fn json(shape: &impl Serialize) -> Bytes {
    serde_json::to_vec(shape).expect("invariant: views serialise").into()
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
