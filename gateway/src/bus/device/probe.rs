//! One device, listened to for a while: what `andon read` shows. It opens a connection of its own,
//! under a name of its own at a broker: a gateway that runs goes on. Only a serial port must it give
//! up first (it holds it exclusively, and opening fails and says so).

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use andon_adapters::device::{Device, Heard, Outbox, Outgoing, clean};
use andon_engine::time::BootTime;
use andon_engine::value::Measured;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cause::completed;
use super::opener;
use super::wire::{News, Order, SENDS_MAX, Wire};
use crate::bus::Runtime;
use crate::config::plan::{BrokerPlan, DevicePlan};

/// Things heard that are shown; the last ones.
const RAW_MAX: usize = 32;
/// Bytes of one thing heard that are shown.
const RAW_BYTES_MAX: usize = 400;
/// Once every item has been said, this much longer is waited: what is said first is often a
/// part only.
const SETTLE: Duration = Duration::from_millis(300);

/// What came of listening to a device.
#[derive(Clone, Debug, Default)]
pub struct ProbedDevice {
    /// What the device said of its items, the last of each, in the order of their names.
    pub said: Vec<(Arc<str>, Measured)>,
    /// What is wrong, in words.
    pub trouble: Option<String>,
    /// The last lines, bodies, frames, messages and levels, as they came.
    pub raw: Vec<String>,
    /// Some of what was heard is not in `raw`, or not whole.
    pub truncated: bool,
}

/// Opens the device and asks it at every period, until every item was said or `timeout` is over.
///
/// # Errors
/// When it cannot be opened within `timeout`; the words say why.
pub async fn probe_device(
    plan: &DevicePlan,
    brokers: &[BrokerPlan],
    state_dir: &Path,
    timeout: Duration,
) -> io::Result<ProbedDevice> {
    let until = Instant::now() + timeout;
    let device = (plan.protocol.device)(&plan.settings).map_err(io::Error::other)?;
    let mut open = opener(plan, brokers, state_dir, &Runtime::start_beside()?)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it could not be opened in time");
    let wire = timeout_at(until, open()).await.map_err(late)??;
    let epoch = (crate::clock::boot_now(), Instant::now());
    let mut probe = Probe {
        plan: plan.clone(),
        device,
        out: Outbox::default(),
        wire,
        epoch,
        probed: ProbedDevice::default(),
        raw: VecDeque::new(),
        rest: Vec::new(),
        reopen: false,
    };
    probe.listen(plan.period.max(SETTLE), until).await;
    probe.note_rest();
    probe.wire.close().await;
    probe.probed.raw = probe.raw.into();
    probe.probed.said.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(probe.probed)
}

struct Probe {
    plan: DevicePlan,
    device: Box<dyn Device>,
    out: Outbox,
    wire: Wire,
    epoch: (BootTime, Instant),
    probed: ProbedDevice,
    raw: VecDeque<String>,
    /// Bytes of a line that is not complete.
    rest: Vec<u8>,
    reopen: bool,
}

impl Probe {
    async fn listen(&mut self, period: Duration, until: Instant) {
        self.step(Heard::Opened);
        let mut due = Instant::now();
        let mut complete_at = None;
        loop {
            let end = complete_at.map_or(until, |at: Instant| until.min(at + SETTLE));
            tokio::select! {
                biased;
                () = sleep_until(end) => return,
                () = sleep_until(due) => {
                    due += period;
                    self.wire.order(Order::Due);
                    self.step(Heard::Due);
                }
                news = self.wire.next() => {
                    self.note(&news);
                    if let News::Lost(why) | News::NoResponse(_, why) | News::Trouble(why) = &news {
                        self.probed.trouble = Some(why.clone());
                    }
                    let before = self.probed.trouble.take();
                    if let Some(heard) = news.heard() {
                        self.step(heard);
                    }
                    let said = self.probed.trouble.take();
                    let said = said.map(|said| completed(&self.plan, &news, said));
                    self.probed.trouble = said.or(before);
                    if matches!(news, News::Lost(_)) {
                        return;
                    }
                }
            }
            if std::mem::take(&mut self.reopen) {
                // A gateway would open again; whoever reads once wants to know why.
                let words = "the device did not answer in a way that makes sense".to_owned();
                self.probed.trouble.get_or_insert(words);
                return;
            }
            if complete_at.is_none() && self.is_complete() {
                complete_at = Some(Instant::now());
            }
        }
    }

    fn is_complete(&self) -> bool {
        let items = self.device.items();
        // "There is none" is an answer too: no job, no mode.
        let answered = |measured: &Measured| {
            matches!(measured, Ok(_) | Err(andon_engine::value::Unavailable::Sentinel))
        };
        let said = &self.probed.said;
        items
            .iter()
            .all(|item| said.iter().any(|(said, measured)| said == item && answered(measured)))
    }

    fn step(&mut self, heard: Heard<'_>) {
        let now = self.epoch.0 + self.epoch.1.elapsed();
        let mut out = std::mem::take(&mut self.out);
        self.device.step(now, heard, &mut out);
        for (item, measured) in out.said.drain(..) {
            self.probed.said.retain(|(known, _)| *known != item);
            self.probed.said.push((item, measured));
        }
        if let Some(words) = out.trouble.take() {
            self.probed.trouble = Some(words);
        }
        for outgoing in out.sends.drain(..).take(SENDS_MAX) {
            self.reopen |= outgoing == Outgoing::Reopen || !self.wire.order(Order::Send(outgoing));
        }
        out.stop.clear();
        self.out = out;
    }

    fn note(&mut self, news: &News) {
        match news {
            News::Bytes(bytes) => {
                for &byte in bytes {
                    if byte == b'\n' || byte == b'\r' || self.rest.len() > RAW_BYTES_MAX {
                        self.note_rest();
                    }
                    if byte != b'\n' && byte != b'\r' {
                        self.rest.push(byte);
                    }
                }
            }
            News::Frame(text) => self.note_text("", text.as_bytes()),
            News::Response { status, body, .. } => self.note_text(&format!("{status} "), body),
            News::Message { topic, payload, retained } => {
                let kept = if *retained { "(retained) " } else { "" };
                self.note_text(&format!("{topic} {kept}"), payload);
            }
            News::Level { line, on } => {
                let level = if *on { "on" } else { "off" };
                self.note_text(&format!("line {} ", line + 1), level.as_bytes());
            }
            News::NoResponse(..)
            | News::Listening
            | News::NotListening(_)
            | News::Trouble(_)
            | News::Lost(_) => {}
        }
    }

    fn note_rest(&mut self) {
        let line = std::mem::take(&mut self.rest);
        if !line.is_empty() {
            self.note_text("", &line);
        }
    }

    fn note_text(&mut self, before: &str, bytes: &[u8]) {
        let shown = bytes.get(..RAW_BYTES_MAX).unwrap_or(bytes);
        self.probed.truncated |= shown.len() < bytes.len();
        let shown = String::from_utf8_lossy(shown);
        // Control characters would garble a terminal; `clean` also cuts, so it goes by pieces.
        let text: String = shown.chars().filter(|c| !c.is_control()).collect();
        let line = format!("{}{text}", clean(before));
        // What comes again and again says nothing new.
        if self.raw.back() != Some(&line) {
            if self.raw.len() == RAW_MAX {
                self.raw.pop_front();
                self.probed.truncated = true;
            }
            self.raw.push_back(line);
        }
    }
}
