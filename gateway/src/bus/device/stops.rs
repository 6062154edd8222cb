//! How far a stop has come: one at a time is with the device, the strongest first, and each is
//! answered within [`STOP_WITHIN`], come what may. Pure; time comes in.
//!
//! A device that does not stand yet may take its time: that is passed on, and what it says later still
//! counts. So does what it says after a refusal, which may only mean that nothing is left to stop.

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
    /// The last one, when the device has refused it.
    refused: Option<StopOrder>,
}

impl Stops {
    pub(super) fn new(offered: &[Stop]) -> Self {
        Self { offered: offered.to_vec(), waiting: Vec::new(), current: None, refused: None }
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
        self.fail("a newer stop has taken its place");
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
            StopReply::Accepted => self.tell(Reply::Echoed),
            StopReply::ReadBack(false) => self.tell(Reply::ReadBack(false)),
            StopReply::ReadBack(true) => {
                let current = self.current.take().map(|current| current.order);
                if let Some(mut order) = current.or_else(|| self.refused.take()) {
                    (order.reply)(Reply::ReadBack(true));
                }
            }
            StopReply::Failed(words) => {
                self.tell(Reply::Failed(words.into()));
                self.refused =
                    self.current.take().map(|current| current.order).or(self.refused.take());
            }
        }
    }

    /// What is with the device has failed for good.
    pub(super) fn fail(&mut self, words: &str) {
        self.tell(Reply::Failed(words.into()));
        (self.current, self.refused) = (None, None);
    }

    /// Looks at the time.
    pub(super) fn look(&mut self, now: BootTime) {
        if self.deadline().is_some_and(|until| now >= until) {
            let seconds = STOP_WITHIN.as_secs();
            self.fail(&format!("the device has not confirmed the stop within {seconds} s"));
        }
    }

    fn tell(&mut self, reply: Reply) {
        if let Some(current) = &mut self.current {
            (current.order.reply)(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Told = Arc<Mutex<Vec<Reply>>>;

    fn begun(stops: &mut Stops, stop: Stop) -> Told {
        let told = Told::default();
        let replies = told.clone();
        let reply = Box::new(move |reply| replies.lock().unwrap().push(reply));
        stops.take(StopOrder { stop, reply });
        assert_eq!(stops.begin(BootTime(0)), Some(stop));
        told
    }

    fn offering() -> Stops {
        Stops::new(&[Stop::Emergency, Stop::Cancel])
    }

    fn refused(words: &str) -> StopReply {
        StopReply::Failed(words.to_owned())
    }

    #[test]
    fn a_device_that_does_not_stand_yet_may_still_stand_later() {
        let mut stops = offering();
        let told = begun(&mut stops, Stop::Cancel);
        stops.answered(StopReply::Accepted);
        stops.answered(StopReply::ReadBack(false));
        assert!(!stops.is_idle());
        stops.answered(StopReply::ReadBack(true));
        stops.answered(StopReply::ReadBack(true));
        let expected = [Reply::Echoed, Reply::ReadBack(false), Reply::ReadBack(true)];
        assert_eq!(*told.lock().unwrap(), expected);
        assert!(stops.is_idle());
    }

    #[test]
    fn a_device_that_refuses_because_it_stands_already_is_believed() {
        let mut stops = offering();
        let told = begun(&mut stops, Stop::Cancel);
        stops.answered(refused("no job"));
        assert!(stops.is_idle(), "nobody waits for what was refused");
        stops.answered(StopReply::ReadBack(false));
        stops.answered(StopReply::ReadBack(true));
        stops.answered(StopReply::ReadBack(true));
        let expected = [Reply::Failed("no job".into()), Reply::ReadBack(true)];
        assert_eq!(*told.lock().unwrap(), expected);
    }

    #[test]
    fn what_stands_for_one_order_says_nothing_of_another_or_of_another_connection() {
        let mut stops = offering();
        let first = begun(&mut stops, Stop::Cancel);
        stops.answered(refused("no job"));
        let second = begun(&mut stops, Stop::Cancel);
        stops.fail("the connection was lost");
        stops.answered(StopReply::ReadBack(true));
        assert_eq!(*first.lock().unwrap(), [Reply::Failed("no job".into())]);
        assert_eq!(*second.lock().unwrap(), [Reply::Failed("the connection was lost".into())]);
    }

    #[test]
    fn a_stop_that_is_never_confirmed_ends() {
        let mut stops = offering();
        let told = begun(&mut stops, Stop::Emergency);
        stops.answered(StopReply::ReadBack(false));
        stops.look(BootTime(0) + STOP_WITHIN);
        assert!(stops.is_idle());
        let told = told.lock().unwrap();
        assert!(matches!(&told[..], [Reply::ReadBack(false), Reply::Failed(_)]), "{told:?}");
    }
}
