//! How far a stop has come: one at a time is with the device, the strongest first, and each is
//! answered within [`STOP_WITHIN`], come what may. Pure; time comes in.

use std::time::Duration;

use andon_adapters::device::{Stop, StopReply};
use andon_engine::engine::Reply;
use andon_engine::time::BootTime;

use super::{STOPS_MAX, StopOrder};

/// How long a device may take from the command to its confirmation. After it the stop counts as
/// failed; the engine, which tries again, must not wait for ever.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

struct Current {
    order: StopOrder,
    rank: usize,
    until: BootTime,
}

/// The stops of one device.
pub(super) struct Stops {
    /// What the device offers, strongest first.
    offered: Vec<Stop>,
    waiting: Vec<StopOrder>,
    current: Option<Current>,
}

impl Stops {
    pub(super) fn new(offered: &[Stop]) -> Self {
        Self { offered: offered.to_vec(), waiting: Vec::new(), current: None }
    }

    /// Whether another may be taken.
    pub(super) const fn has_room(&self) -> bool {
        self.waiting.len() < STOPS_MAX
    }

    /// Takes a stop that was queued.
    pub(super) fn take(&mut self, order: StopOrder) {
        self.waiting.push(order);
    }

    /// The stop that is to go out now: nothing is with the device, or something weaker or equal,
    /// which gives way. A weaker one waits.
    pub(super) fn begin(&mut self, now: BootTime) -> Option<Stop> {
        let rank = |order: &StopOrder| {
            let found = self.offered.iter().position(|stop| *stop == order.stop);
            found.unwrap_or(self.offered.len())
        };
        let (at, rank) =
            self.waiting.iter().map(rank).enumerate().min_by_key(|&(at, rank)| (rank, at))?;
        if self.current.as_ref().is_some_and(|current| current.rank < rank) {
            return None;
        }
        self.finish(Reply::Failed("a newer stop has taken its place".into()));
        let order = self.waiting.remove(at);
        let stop = order.stop;
        self.current = Some(Current { order, rank, until: now + STOP_WITHIN });
        Some(stop)
    }

    /// Until when the device must have answered.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.current.as_ref().map(|current| current.until)
    }

    /// Whether anything is with the device or waits.
    pub(super) const fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Passes on what the device says.
    pub(super) fn answered(&mut self, reply: StopReply) {
        match reply {
            StopReply::Accepted => {
                if let Some(current) = &mut self.current {
                    (current.order.reply)(Reply::Echoed);
                }
            }
            StopReply::ReadBack(stands) => self.finish(Reply::ReadBack(stands)),
            StopReply::Failed(words) => self.finish(Reply::Failed(words.into())),
        }
    }

    /// What is with the device has failed.
    pub(super) fn fail(&mut self, words: &str) {
        self.finish(Reply::Failed(words.into()));
    }

    /// Looks at the time.
    pub(super) fn look(&mut self, now: BootTime) {
        if self.deadline().is_some_and(|until| now >= until) {
            let seconds = STOP_WITHIN.as_secs();
            self.fail(&format!("the device has not confirmed the stop within {seconds} s"));
        }
    }

    fn finish(&mut self, reply: Reply) {
        if let Some(mut current) = self.current.take() {
            (current.order.reply)(reply);
        }
    }
}
