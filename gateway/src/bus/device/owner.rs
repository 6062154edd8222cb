//! The loop that owns a device: stops first, then the period, then what the connection brings.
//!
//! While the connection is down every wanted item is delivered as disconnected once per period, so
//! that values say why they are absent. Whether the device's answers make sense is the device's
//! word ([`Outbox::alive`]); the loop only watches how long it has been.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use andon_adapters::device::{Device, Heard, Outbox, Outgoing};
use andon_engine::event::Execution;
use andon_engine::plan::{ItemIndex, stale_after};
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::StopOrder;
use super::cause::completed;
use super::link::{Change, Link};
use super::status::{DeviceState, DeviceStatus};
use super::stops::Stops;
use super::wire::{News, Opener, Order, SENDS_MAX};
use crate::bus::group::{Machines, deliveries};
use crate::bus::link::PATIENCE;
use crate::bus::pause::{PAUSE_MAX_LOCAL, PAUSE_MAX_NET, Pauses};
use crate::bus::{Delivery, Sink};
use crate::config::plan::{DevicePlan, Place};

/// Deliveries that may wait for the engine. With so many waiting the device is neither asked nor
/// read any further, unless a stop is with it: that waits for nobody.
const PENDING_MAX: usize = 64;
/// The same while a stop is with the device; beyond it the oldest delivery is dropped.
const PENDING_WITH_STOP_MAX: usize = 4 * PENDING_MAX;
/// Different words about trouble that are logged until there is none.
const TROUBLES_MAX: usize = 8;

/// What an owner is made of.
pub(super) struct Inputs {
    pub(super) plan: Arc<DevicePlan>,
    pub(super) device: Box<dyn Device>,
    pub(super) machines: Machines,
    pub(super) sink: Sink,
    pub(super) stops: mpsc::Receiver<StopOrder>,
    pub(super) status: Arc<Mutex<DeviceStatus>>,
    pub(super) opener: Opener,
}

/// Owner of one device.
pub(super) struct Owner {
    plan: Arc<DevicePlan>,
    device: Box<dyn Device>,
    out: Outbox,
    link: Link,
    feeds: HashMap<Arc<str>, Vec<ItemIndex>>,
    machines: Machines,
    sink: Sink,
    pending: VecDeque<Delivery>,
    orders: mpsc::Receiver<StopOrder>,
    stops: Stops,
    shared: Arc<Mutex<DeviceStatus>>,
    status: DeviceStatus,
    next_due: BootTime,
    /// Since when the connection has been up, or down.
    changed_at: BootTime,
    /// It has answered since it was opened.
    proved: bool,
    /// The device wants the connection closed and opened again.
    reopen: bool,
    /// What it last said that it was doing.
    execution: Option<Execution>,
    /// That it is lost has been told.
    lost_told: bool,
    /// That the port stays open during a job has been told.
    kept_told: bool,
    troubles_told: Vec<String>,
    trouble_at: BootTime,
    epoch: (BootTime, Instant),
}

impl Owner {
    pub(super) fn new(inputs: Inputs) -> Self {
        let Inputs { plan, device, machines, sink, stops, status, opener } = inputs;
        let now = crate::clock::boot_now();
        let longest = if is_local(&plan.place) { PAUSE_MAX_LOCAL } else { PAUSE_MAX_NET };
        Self {
            link: Link::new(opener, Pauses::new(&plan.source, longest)),
            out: Outbox::default(),
            feeds: plan.feeds.iter().cloned().collect(),
            machines,
            sink,
            pending: VecDeque::new(),
            orders: stops,
            stops: Stops::new(device.stops(), super::stop_within(plan.period)),
            status: DeviceStatus::before(&plan),
            shared: status,
            next_due: now,
            changed_at: now,
            proved: false,
            reopen: false,
            execution: None,
            lost_told: false,
            kept_told: false,
            troubles_told: Vec::new(),
            trouble_at: now,
            epoch: (now, Instant::now()),
            device,
            plan,
        }
    }

    /// Runs until every handle is dropped or nobody takes the readings any more. A stop that was
    /// commanded in the last moment still goes out, and its answer is waited for.
    pub(super) async fn run(mut self) {
        let mut ending = false;
        while !(ending && self.stops.is_idle()) {
            self.begin_stops();
            let sink = self.sink.clone();
            let due = self.instant(self.next_due);
            // A stop that waits for the opening waits no longer than this.
            let waits = self.link.is_opening().then(|| self.changed_at + PATIENCE);
            let waits = waits.filter(|until| *until > self.now());
            let deadline = self.stops.deadline().into_iter().chain(waits).min();
            let deadline = deadline.map_or(due, |until| self.instant(until));
            let flows = self.flows();
            tokio::select! {
                biased;
                order = self.orders.recv(), if !ending && self.stops.has_room() => match order {
                    Some(order) => self.stops.take(order),
                    None => ending = true,
                },
                () = sleep_until(deadline), if !self.stops.is_idle() => self.look(),
                permit = sink.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(delivery) = self.pending.pop_front() {
                            permit.send(delivery);
                        }
                    }
                    Err(_) => {
                        // Nobody wants them; what is left to do is the stop.
                        self.pending.clear();
                        ending = true;
                    }
                },
                () = sink.closed(), if !ending => ending = true,
                () = sleep_until(due), if flows => self.due(),
                change = self.link.next(), if flows => self.take(change).await,
            }
            if std::mem::take(&mut self.reopen) {
                self.open_again().await;
            }
            self.publish();
        }
        self.link.close(true).await;
    }

    fn now(&self) -> BootTime {
        self.epoch.0 + self.epoch.1.elapsed()
    }

    fn instant(&self, at: BootTime) -> Instant {
        self.epoch.1 + at.since(self.epoch.0)
    }

    fn look(&mut self) {
        let now = self.now();
        self.stops.look(now);
        if now >= self.next_due && self.flows() {
            self.due();
        }
    }

    /// Whether the device is asked and read.
    fn flows(&self) -> bool {
        self.pending.len() < PENDING_MAX || !self.stops.is_idle()
    }

    fn begin_stops(&mut self) {
        if self.link.is_opening() && self.now().since(self.changed_at) < PATIENCE {
            // That is soon decided, one way or the other, and the stop goes out or fails with it.
            return;
        }
        while let Some(stop) = self.stops.begin(self.now()) {
            let Some(wire) = self.link.wire() else {
                let why = self.status.down.as_deref().unwrap_or("opening");
                let words = format!("the device is not connected: {why}");
                self.stops.fail(&words);
                continue;
            };
            wire.order(Order::Hurry);
            self.step(Heard::Stop(stop));
        }
    }

    /// The next point of the grid after `now`.
    fn advance(&mut self, now: BootTime) {
        let period = self.plan.period.max(Duration::from_millis(1));
        let late = now.since(self.next_due).as_nanos() / period.as_nanos();
        let periods = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
        self.next_due = self.next_due + period.saturating_mul(periods);
    }

    fn due(&mut self) {
        let now = self.now();
        self.advance(now);
        if let Some(wire) = self.link.wire() {
            wire.order(Order::Due);
            self.step(Heard::Due);
        } else if !self.link.is_opening() || now.since(self.changed_at) >= PATIENCE {
            self.fail_all(Unavailable::Disconnected);
        }
        self.review();
    }

    async fn take(&mut self, change: Change) {
        match change {
            Change::Opened => {
                self.changed_at = self.now();
                self.proved = false;
                self.status.down = Some("not heard yet".to_owned());
                self.step(Heard::Opened);
                if self.link.wire().is_some() && !self.reopen {
                    // The first question does not wait for the grid, and stands for the point of it
                    // that has come meanwhile.
                    if self.changed_at >= self.next_due {
                        self.advance(self.changed_at);
                    }
                    if let Some(wire) = self.link.wire() {
                        wire.order(Order::Due);
                    }
                    self.step(Heard::Due);
                }
            }
            Change::Failed(why) => {
                self.status.errors += 1;
                self.lost(why);
            }
            Change::News(News::Lost(why)) => {
                self.status.errors += 1;
                self.closed(&why, false).await;
                self.lost(why);
            }
            Change::News(news) => self.heard(&news),
        }
        self.review();
    }

    fn heard(&mut self, news: &News) {
        match news {
            News::Trouble(words) => {
                self.status.errors += 1;
                self.trouble(words.clone());
            }
            News::NotListening(_) => self.status.errors += 1,
            News::NoResponse(_, words) => {
                self.status.errors += 1;
                if self.status.state != DeviceState::Answering {
                    self.status.down = Some(words.clone());
                }
            }
            _ => {}
        }
        if let Some(heard) = news.heard() {
            self.step_after(Some(news), heard);
        }
    }

    fn step(&mut self, heard: Heard<'_>) {
        self.step_after(None, heard);
    }

    fn step_after(&mut self, news: Option<&News>, heard: Heard<'_>) {
        let now = self.now();
        let mut out = std::mem::take(&mut self.out);
        self.device.step(now, heard, &mut out);
        if out.alive {
            self.status.last_answer = Some(now);
            self.proved = true;
            self.link.proved();
        }
        if let Some(words) = out.trouble.take() {
            self.trouble(match news {
                Some(news) => completed(&self.plan, news, words),
                None => words,
            });
        }
        self.note_execution(&out.said);
        self.deliver(now, &out.said);
        for reply in out.stop.drain(..) {
            self.stops.answered(reply);
        }
        self.send(out.sends.drain(..));
        out.said.clear();
        out.alive = false;
        self.out = out;
    }

    fn send(&mut self, sends: impl ExactSizeIterator<Item = Outgoing>) {
        if sends.len() > SENDS_MAX {
            self.trouble(format!("more than {SENDS_MAX} things to send at once; the rest is left"));
        }
        for outgoing in sends.take(SENDS_MAX) {
            if outgoing == Outgoing::Reopen {
                self.reopen = true;
                return;
            }
            if self.link.wire().is_some_and(|wire| !wire.order(Order::Send(outgoing))) {
                let words = "the connection takes nothing more";
                self.trouble(words.to_owned());
                self.stops.fail(words);
                self.reopen = true;
                return;
            }
        }
    }

    fn note_execution(&mut self, said: &[(Arc<str>, Measured)]) {
        for (item, measured) in said {
            if &**item == "execution"
                && let Ok(Value::Text(word)) = measured
            {
                let busy = [Execution::Preparing, Execution::Running, Execution::Paused];
                self.execution = busy.into_iter().find(|known| known.word() == &**word);
                self.kept_told &= self.execution.is_some();
            }
        }
    }

    fn deliver(&mut self, now: BootTime, said: &[(Arc<str>, Measured)]) {
        let mut readings: Vec<(ItemIndex, Measured)> = Vec::new();
        for (item, measured) in said {
            for &feed in self.feeds.get(item).into_iter().flatten() {
                // What is said last counts.
                readings.retain(|(known, _)| *known != feed);
                readings.push((feed, measured.clone()));
            }
        }
        for delivery in deliveries(now, readings, &self.machines) {
            if self.pending.len() >= PENDING_WITH_STOP_MAX {
                self.pending.pop_front();
                self.status.errors += 1;
            }
            self.pending.push_back(delivery);
        }
    }

    fn fail_all(&mut self, why: Unavailable) {
        let said: Vec<_> = self.feeds.keys().map(|item| (item.clone(), Err(why))).collect();
        self.deliver(self.now(), &said);
    }

    async fn open_again(&mut self) {
        if self.link.wire().is_none() {
            return;
        }
        if let Place::Serial { port, .. } = &self.plan.place
            && let Some(execution) = self.execution
            && port.exists()
        {
            if !std::mem::replace(&mut self.kept_told, true) {
                tracing::warn!(
                    source = %self.plan.source,
                    execution = execution.word(),
                    "the device is silent; its port stays open, because opening it again might \
                     reset the board and end the job"
                );
            }
            return;
        }
        let proved = self.proved;
        self.closed("opened again", proved).await;
        if !proved {
            self.lost("nobody answers".to_owned());
        }
    }

    /// The connection is gone: whatever hung on it is void.
    async fn closed(&mut self, why: &str, at_once: bool) {
        self.link.close(at_once).await;
        self.changed_at = self.now();
        (self.proved, self.execution, self.kept_told) = (false, None, false);
        self.step(Heard::Closed);
        self.reopen = false;
        self.stops.fail(&format!("the connection was lost: {why}"));
        self.status.state = DeviceState::Down;
        self.status.down = Some(why.to_owned());
        self.fail_all(Unavailable::Disconnected);
    }

    fn lost(&mut self, why: String) {
        if !std::mem::replace(&mut self.lost_told, true) {
            tracing::warn!(source = %self.plan.source, error = why, "the device is lost; trying again");
        }
        self.status.down = Some(why);
    }

    /// Logs `words` once per change.
    fn trouble(&mut self, words: String) {
        self.trouble_at = self.now();
        if !self.troubles_told.contains(&words) && self.troubles_told.len() < TROUBLES_MAX {
            tracing::warn!(source = %self.plan.source, trouble = words, "the device is in trouble");
            self.troubles_told.push(words.clone());
        }
        self.status.trouble = Some(words);
    }

    /// Looks at how the device is, by what has been heard.
    fn review(&mut self) {
        let now = self.now();
        // As long as its values are believed, it is not shown as one that does not answer.
        let patience = stale_after(self.plan.period);
        if self.status.trouble.is_some() && now.since(self.trouble_at) > patience {
            self.status.trouble = None;
            self.troubles_told.clear();
        }
        if self.link.wire().is_none() {
            self.status.state = DeviceState::Down;
            return;
        }
        let answered = self.status.last_answer.filter(|_| self.proved);
        let silent = now.since(answered.unwrap_or(self.changed_at)) > patience;
        if answered.is_some() && !silent {
            self.status.state = DeviceState::Answering;
            self.status.down = None;
            if std::mem::take(&mut self.lost_told) {
                tracing::info!(source = %self.plan.source, "the device is back");
            }
            return;
        }
        self.status.state = DeviceState::Silent;
        if silent {
            let known = self.status.down.take().filter(|words| words != "not heard yet");
            let why = known.unwrap_or_else(|| "it does not answer".to_owned());
            self.lost(why);
        }
    }

    fn publish(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clone_from(&self.status);
    }
}

/// Whether looking for it costs nobody anything.
const fn is_local(place: &Place) -> bool {
    matches!(place, Place::Serial { .. } | Place::Gpio { .. })
}
