//! The loop that owns one device: stops first, then what the device has to say, then the period.
//!
//! While there is no connection, every item is delivered as disconnected once a period, so that
//! whoever reads a value also reads why there is none. It must not decide what anything means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use andon_adapters::device::{ANSWER_WITHIN, Device, Heard, Outbox, Outgoing, StopReply};
use andon_engine::engine::Reply;
use andon_engine::event::{Activity, Execution};
use andon_engine::plan::ItemIndex;
use andon_engine::time::BootTime;
use andon_engine::value::{Measured, Unavailable, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, Event, Opener};
use super::{DeviceStatus, Order, Sink, patience};
use crate::bus::Delivery;
use crate::bus::group::Machines;
use crate::config::plan::{DevicePlan, Place};

/// First pause after a connection was lost or refused.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Greatest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A connection that lasted as long makes the pauses short again.
const LASTED: Duration = Duration::from_secs(30);
/// A stop that the device has not confirmed by then has failed; the engine's own deadline is
/// usually shorter, and then asks again.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Owner of one device.
pub(super) struct Owner {
    plan: DevicePlan,
    device: Box<dyn Device>,
    feeds: BTreeMap<Arc<str>, Vec<ItemIndex>>,
    machines: Machines,
    sink: Sink,
    orders: mpsc::Receiver<Order>,
    status: Arc<Mutex<DeviceStatus>>,
    opener: Opener,
    /// The stop under way, and when it has failed.
    stopping: Option<(Order, Instant)>,
    /// A job is known to be on: a serial port is not opened again then.
    job_on: bool,
    next_due: Instant,
    pause: Duration,
    jitter: u64,
    told_lost: bool,
    epoch: (BootTime, Instant),
}

/// The gateway stops: nobody takes readings or sends stops any more.
struct Ended;

impl Owner {
    pub(super) fn new(
        plan: DevicePlan,
        machines: Machines,
        sink: Sink,
        orders: mpsc::Receiver<Order>,
        status: Arc<Mutex<DeviceStatus>>,
        opener: Opener,
    ) -> Result<Self, String> {
        let device = (plan.protocol.device)(&plan.settings)?;
        let now = Instant::now();
        let jitter = plan.source.bytes().fold(0x9E37_79B9_7F4A_7C15, |seed: u64, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Ok(Self {
            device,
            feeds: plan.feeds.iter().cloned().collect(),
            machines,
            sink,
            orders,
            status,
            opener,
            stopping: None,
            job_on: false,
            next_due: now,
            pause: Duration::ZERO,
            jitter: jitter | 1,
            told_lost: false,
            epoch: (crate::clock::boot_now(), now),
            plan,
        })
    }

    /// Runs until every handle is dropped or nobody takes the readings any more.
    pub(super) async fn run(mut self) {
        loop {
            let connection = match self.connect().await {
                Ok(connection) => connection,
                Err(Ended) => return,
            };
            let opened = Instant::now();
            let ended = self.converse(connection).await;
            if opened.elapsed() >= LASTED {
                self.pause = Duration::ZERO;
            }
            let Ok(why) = ended else { return };
            self.lost(&why);
            if self.hear(None, Heard::Closed).await.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> BootTime {
        self.epoch.0 + self.epoch.1.elapsed()
    }

    fn tell(&self, change: impl FnOnce(&mut DeviceStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens the connection, however long that takes. Stops fail meanwhile, values say why they
    /// are absent.
    async fn connect(&mut self) -> Result<Connection, Ended> {
        let mut wake = Instant::now() + self.pause_before();
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => fail(order.ok_or(Ended)?, "there is no connection"),
                () = self.sink.closed() => return Err(Ended),
                () = sleep_until(wake) => {}
                () = sleep_until(self.next_due) => {
                    self.advance();
                    self.say_disconnected().await?;
                    continue;
                }
            }
            if Instant::now() < wake {
                continue;
            }
            let opened = tokio::select! {
                biased;
                () = self.sink.closed() => return Err(Ended),
                opened = self.opener.open() => opened,
            };
            match opened {
                Ok(connection) => {
                    self.found();
                    return Ok(connection);
                }
                Err(why) => {
                    self.lost(&why);
                    wake = Instant::now() + self.pause_before();
                }
            }
        }
    }

    /// The pause before the next attempt; doubles, half of it certain, half by chance.
    fn pause_before(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let chance = f64::from((self.jitter >> 48) as u16) / f64::from(u16::MAX);
        pause / 2 + (pause / 2).mul_f64(chance)
    }

    fn found(&mut self) {
        self.tell(|status| status.down = None);
        if std::mem::take(&mut self.told_lost) {
            tracing::info!(source = %self.plan.source, "The device is back.");
        }
    }

    fn lost(&mut self, why: &str) {
        self.job_on = false;
        self.tell(|status| {
            status.losses += u64::from(status.down.is_none());
            status.down = Some(why.to_owned());
            status.answers = Some(false);
        });
        if !std::mem::replace(&mut self.told_lost, true) {
            tracing::warn!(source = %self.plan.source, error = why, "The device is lost; trying again.");
        }
        if let Some((order, _)) = self.stopping.take() {
            fail(order, "the connection was lost");
        }
    }

    /// Talks until the connection is gone. Returns why.
    async fn converse(&mut self, mut connection: Connection) -> Result<String, Ended> {
        if let Err(why) = self.hear(Some(&mut connection), Heard::Opened).await? {
            return Ok(why);
        }
        self.next_due = Instant::now();
        let asked = Instant::now();
        loop {
            let deadline = self.stopping.as_ref().map(|(_, deadline)| *deadline);
            let deadline = deadline.unwrap_or_else(|| Instant::now() + STOP_WITHIN);
            let heard = tokio::select! {
                biased;
                order = self.orders.recv() => self.stop(&mut connection, order.ok_or(Ended)?).await?,
                () = self.sink.closed() => return Err(Ended),
                event = connection.next() => self.take(&mut connection, event).await?,
                () = sleep_until(deadline) => {
                    if let Some((order, _)) = self.stopping.take() {
                        fail(order, "the device does not confirm the stop");
                    }
                    Ok(())
                }
                () = sleep_until(self.next_due) => self.due(&mut connection, asked).await?,
            };
            if let Err(why) = heard {
                return Ok(why);
            }
        }
    }

    async fn take(
        &mut self,
        connection: &mut Connection,
        event: Event,
    ) -> Result<Result<(), String>, Ended> {
        if let Event::NoResponse { words, .. } = &event {
            self.trouble(Some(words.clone()));
        }
        match event {
            Event::Closed(why) => Ok(Err(why)),
            event => match event.heard() {
                Some(heard) => self.hear(Some(connection), heard).await,
                None => Ok(Ok(())),
            },
        }
    }

    async fn due(
        &mut self,
        connection: &mut Connection,
        asked: Instant,
    ) -> Result<Result<(), String>, Ended> {
        self.advance();
        let now = self.now();
        let patience = patience(self.plan.period);
        self.tell(|status| {
            let silent = match status.last_answer {
                Some(at) => now.since(at) > patience,
                None => asked.elapsed() > patience,
            };
            if silent {
                status.answers = Some(false);
            }
        });
        connection.due();
        self.hear(Some(connection), Heard::Due).await
    }

    /// The next period; those that were missed are skipped.
    fn advance(&mut self) {
        let late = Instant::now().saturating_duration_since(self.next_due).as_nanos();
        let missed = late / self.plan.period.as_nanos().max(1);
        let periods = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        self.next_due += self.plan.period.saturating_mul(periods);
    }

    async fn stop(
        &mut self,
        connection: &mut Connection,
        order: Order,
    ) -> Result<Result<(), String>, Ended> {
        let stop = order.stop;
        if let Some((earlier, _)) = self.stopping.replace((order, Instant::now() + STOP_WITHIN)) {
            fail(earlier, "another stop has taken its place");
        }
        self.hear(Some(connection), Heard::Stop(stop)).await
    }

    /// Lets the device hear, and does what it wants. The inner error says that the connection
    /// cannot go on.
    async fn hear(
        &mut self,
        connection: Option<&mut Connection>,
        heard: Heard<'_>,
    ) -> Result<Result<(), String>, Ended> {
        let mut out = Outbox::default();
        let now = self.now();
        self.device.step(now, heard, &mut out);
        let mut sent = Ok(());
        // A stop leaves before anything is delivered or told.
        if let Some(connection) = connection {
            for outgoing in out.sends {
                if outgoing == Outgoing::Reopen {
                    if self.keeps_the_port() {
                        continue;
                    }
                    sent = Err("the conversation begins anew".to_owned());
                } else {
                    sent = connection.send(outgoing).await;
                }
                if sent.is_err() {
                    break;
                }
            }
        }
        for reply in out.stop {
            self.answer_stop(reply);
        }
        if out.alive {
            self.tell(|status| {
                status.answers = Some(true);
                status.last_answer = Some(now);
                if out.trouble.is_none() {
                    status.trouble = None;
                }
            });
        }
        if out.trouble.is_some() {
            self.trouble(out.trouble);
        }
        self.deliver(now, &out.said).await?;
        Ok(sent)
    }

    /// Whether a serial port is kept although the device wants it opened again: opening may reset
    /// the controller, and with it the job.
    fn keeps_the_port(&self) -> bool {
        let serial = matches!(self.plan.place, Place::Serial { .. });
        serial && self.job_on && self.opener.port_exists()
    }

    fn trouble(&self, words: Option<String>) {
        let news = {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            let news = status.trouble != words;
            status.trouble.clone_from(&words);
            news
        };
        if let (true, Some(words)) = (news, words) {
            tracing::warn!(source = %self.plan.source, trouble = words, "The device has trouble.");
        }
    }

    fn answer_stop(&mut self, reply: StopReply) {
        let Some((order, _)) = &mut self.stopping else { return };
        match reply {
            StopReply::Accepted => (order.reply)(Reply::Echoed),
            StopReply::ReadBack(stands) => {
                (order.reply)(Reply::ReadBack(stands));
                self.stopping = None;
            }
            StopReply::Failed(words) => {
                (order.reply)(Reply::Failed(words.into()));
                self.stopping = None;
            }
        }
    }

    async fn say_disconnected(&mut self) -> Result<(), Ended> {
        let all: Vec<(Arc<str>, Measured)> =
            self.feeds.keys().map(|item| (item.clone(), Err(Unavailable::Disconnected))).collect();
        self.deliver(self.now(), &all).await
    }

    /// Hands what was said over, one delivery per machine. A stop does not wait for the engine to
    /// catch up.
    async fn deliver(&mut self, at: BootTime, said: &[(Arc<str>, Measured)]) -> Result<(), Ended> {
        let mut readings: BTreeMap<ItemIndex, Measured> = BTreeMap::new();
        for (item, measured) in said {
            if &**item == "execution" {
                self.job_on = is_job(measured);
            }
            // What was said last in one step counts.
            for feed in self.feeds.get(item).into_iter().flatten() {
                readings.insert(*feed, measured.clone());
            }
        }
        for (_, readings) in self.machines.split(readings.into_iter().collect()) {
            let permit = tokio::select! {
                biased;
                permit = self.sink.reserve() => permit.map_err(|_| Ended)?,
                () = tokio::time::sleep(ANSWER_WITHIN) => continue,
            };
            permit.send(Delivery { at, readings });
        }
        Ok(())
    }
}

fn fail(mut order: Order, why: &str) {
    (order.reply)(Reply::Failed(why.into()));
}

fn is_job(measured: &Measured) -> bool {
    let Ok(Value::Text(word)) = measured else { return false };
    Execution::of_word(word).is_some_and(|execution| {
        execution.activity() == Activity::Run || execution == Execution::Paused
    })
}
