//! How far a stop has come: one at a time is with the device, the strongest first, and each is
//! answered within its time, come what may. Pure; time comes in.
//!
//! Only that it stands ends a stop before that. A device may refuse to cancel because there is
//! nothing to cancel, or say that it does not stand yet: both are passed on, and what it says next
//! still counts.

use std::time::Duration;

use andon_adapters::device::{Stop, StopReply};
use andon_engine::engine::Reply;
use andon_engine::time::BootTime;

use super::{STOPS_MAX, StopOrder};
use crate::config::plan::stop_deadline;

/// How long a device may take from the command to its confirmation, at least. After it the stop
/// counts as failed; the engine, which tries again, must not wait for ever.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long a device that is asked every `period` may take.
pub(super) fn stop_within(period: Duration) -> Duration {
    STOP_WITHIN.max(stop_deadline(period))
}

struct Current {
    order: StopOrder,
    rank: usize,
    until: BootTime,
    /// The device has refused it. It may still say that it stands, but nobody waits for that.
    refused: bool,
}

/// The stops of one device.
pub(super) struct Stops {
    /// What the device offers, strongest first.
    offered: Vec<Stop>,
    /// How long each may take.
    within: Duration,
    waiting: Vec<StopOrder>,
    current: Option<Current>,
}

impl Stops {
    pub(super) fn new(offered: &[Stop], within: Duration) -> Self {
        Self { offered: offered.to_vec(), within, waiting: Vec::new(), current: None }
    }

    /// Whether another may be taken.
    pub(super) const fn has_room(&self) -> bool {
        self.waiting.len() < STOPS_MAX
    }

    /// Takes a stop that was queued.
    pub(super) fn take(&mut self, order: StopOrder) {
        self.waiting.push(order);
    }

    /// The stop that is to go out now: nothing is with the device, or something weaker, equal or
    /// refused, which gives way. A weaker one waits.
    pub(super) fn begin(&mut self, now: BootTime) -> Option<Stop> {
        let rank = |order: &StopOrder| {
            let found = self.offered.iter().position(|stop| *stop == order.stop);
            found.unwrap_or(self.offered.len())
        };
        let (at, rank) =
            self.waiting.iter().map(rank).enumerate().min_by_key(|&(at, rank)| (rank, at))?;
        let stronger = |current: &Current| current.rank < rank && !current.refused;
        if self.current.as_ref().is_some_and(stronger) {
            return None;
        }
        self.finish(Reply::Failed("a newer stop has taken its place".into()));
        let order = self.waiting.remove(at);
        let stop = order.stop;
        self.current = Some(Current { order, rank, until: now + self.within, refused: false });
        Some(stop)
    }

    /// Until when the device must have answered.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.expected().map(|current| current.until)
    }

    /// Whether nothing waits, nor for anything that the device has not refused.
    pub(super) fn is_idle(&self) -> bool {
        self.expected().is_none() && self.waiting.is_empty()
    }

    /// What is with the device and may still succeed.
    fn expected(&self) -> Option<&Current> {
        self.current.as_ref().filter(|current| !current.refused)
    }

    /// Passes on what the device says.
    pub(super) fn answered(&mut self, reply: StopReply) {
        let Some(current) = &mut self.current else { return };
        match reply {
            StopReply::Accepted => (current.order.reply)(Reply::Echoed),
            StopReply::ReadBack(true) => self.finish(Reply::ReadBack(true)),
            StopReply::ReadBack(false) => (current.order.reply)(Reply::ReadBack(false)),
            StopReply::Failed(words) => {
                current.refused = true;
                (current.order.reply)(Reply::Failed(words.into()));
            }
        }
    }

    /// What is with the device has failed.
    pub(super) fn fail(&mut self, words: &str) {
        self.finish(Reply::Failed(words.into()));
    }

    /// Looks at the time.
    pub(super) fn look(&mut self, now: BootTime) {
        if self.deadline().is_some_and(|until| now >= until) {
            let seconds = self.within.as_secs();
            self.fail(&format!("the device has not confirmed the stop within {seconds} s"));
        }
    }

    fn finish(&mut self, reply: Reply) {
        if let Some(mut current) = self.current.take() {
            (current.order.reply)(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Replies = Arc<Mutex<Vec<Reply>>>;

    fn order(stop: Stop) -> (StopOrder, Replies) {
        let replies = Replies::default();
        let heard = replies.clone();
        (
            StopOrder { stop, reply: Box::new(move |reply| heard.lock().unwrap().push(reply)) },
            replies,
        )
    }

    fn begun(stop: Stop) -> (Stops, Replies) {
        let mut stops = Stops::new(&[Stop::Emergency, Stop::Cancel], STOP_WITHIN);
        let (order, replies) = order(stop);
        stops.take(order);
        assert_eq!(stops.begin(BootTime::default()), Some(stop));
        (stops, replies)
    }

    fn said(replies: &Replies) -> String {
        format!("{:?}", std::mem::take(&mut *replies.lock().unwrap()))
    }

    #[test]
    fn a_stop_that_stands_only_after_a_while_is_confirmed_all_the_same() {
        let (mut stops, replies) = begun(Stop::Cancel);
        stops.answered(StopReply::Accepted);
        stops.answered(StopReply::ReadBack(false));
        stops.answered(StopReply::ReadBack(false));
        assert!(!stops.is_idle());
        stops.answered(StopReply::ReadBack(true));
        let expected = "[Echoed, ReadBack(false), ReadBack(false), ReadBack(true)]";
        assert_eq!(said(&replies), expected);
        assert!(stops.is_idle());
    }

    #[test]
    fn a_refusal_because_nothing_runs_does_not_hide_that_nothing_runs() {
        let (mut stops, replies) = begun(Stop::Emergency);
        stops.answered(StopReply::Failed("409: nothing runs".into()));
        assert!(stops.is_idle(), "nobody waits for what was refused");
        stops.answered(StopReply::ReadBack(true));
        assert_eq!(said(&replies), "[Failed(\"409: nothing runs\"), ReadBack(true)]");
    }

    #[test]
    fn a_refused_stop_gives_way_to_a_weaker_one_and_a_stop_under_way_does_not() {
        let (mut stops, _) = begun(Stop::Emergency);
        stops.take(order(Stop::Cancel).0);
        assert_eq!(stops.begin(BootTime::default()), None);
        stops.answered(StopReply::Failed("no".into()));
        assert_eq!(stops.begin(BootTime::default()), Some(Stop::Cancel));
    }
}
