//! A stop on its way: commanded, accepted, read back. The words of the device decide; this only
//! keeps the order of the replies and the deadline.
//!
//! A stop is over with exactly one of `ReadBack` and `Failed`, but for a printer's: what that refuses
//! ([`Stopping::answered`]) is read back all the same, and how long it may take is its owner's
//! business. Bound: one stop at a time; a new one takes the place of the last, of which nothing more is
//! said: whoever replaced it knows.

use std::time::Duration;

use andon_engine::time::BootTime;

use crate::device::{Outbox, Stop, StopReply};

/// How long a stop may take until the device, asked again, says that it stands. Relays need a
/// second; a printer that cancels retracts and parks first.
pub(crate) const STANDS_WITHIN: Duration = Duration::from_secs(15);

/// A stop on its way, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopping {
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    stop: Stop,
    /// When its time began to run; `None` when it has no deadline.
    since: Option<BootTime>,
    /// The device has answered the command; what it says from now on counts.
    answered: bool,
    /// The device was asked and said that it does not stand (yet).
    contradicted: bool,
}

impl Stopping {
    /// The command is being sent; it has its time from `now` on.
    pub(crate) fn begin(&mut self, now: BootTime, stop: Stop) {
        self.set(stop, Some(now));
    }

    /// The command is being sent, to a device that may take as long as it takes.
    pub(crate) fn begin_without_deadline(&mut self, stop: Stop) {
        self.set(stop, None);
    }

    fn set(&mut self, stop: Stop, since: Option<BootTime>) {
        self.under_way = Some(UnderWay { stop, since, answered: false, contradicted: false });
    }

    /// The connection is another one: whoever wants the stop commands it again.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The stop on its way.
    pub(crate) fn pending(&self) -> Option<Stop> {
        self.under_way.map(|under_way| under_way.stop)
    }

    /// Whether the device has answered the stop on its way.
    pub(crate) fn is_answered(&self) -> bool {
        self.under_way.is_some_and(|under_way| under_way.answered)
    }

    /// The device has answered the command, one way or the other, and is asked for its state next:
    /// even what it refuses may be because there is nothing to stop, which its state then shows.
    pub(crate) fn answered(&mut self, reply: StopReply, out: &mut Outbox) {
        if let Some(under_way) = &mut self.under_way {
            under_way.answered = true;
        }
        out.stop.push(reply);
    }

    /// As [`Self::answered`], when the command is refused, or did not arrive: the words say how.
    pub(crate) fn refused(&mut self, words: impl Into<String>, out: &mut Outbox) {
        self.answered(StopReply::Failed(words.into()), out);
    }

    /// The device has accepted the command. Returns whether that is news.
    pub(crate) fn accept(&mut self, out: &mut Outbox) -> bool {
        let news = self.under_way.as_mut().filter(|under_way| !under_way.answered);
        let Some(under_way) = news else { return false };
        under_way.answered = true;
        out.stop.push(StopReply::Accepted);
        true
    }

    /// The device, asked after the command, says whether the stop stands. Not standing is final
    /// only at the deadline.
    pub(crate) fn seen(&mut self, stands: bool, out: &mut Outbox) {
        let Some(under_way) = &mut self.under_way else { return };
        if stands {
            self.under_way = None;
            out.stop.push(StopReply::ReadBack(true));
        } else {
            under_way.contradicted = true;
        }
    }

    /// The command failed.
    pub(crate) fn fail(&mut self, words: &str, out: &mut Outbox) {
        if self.under_way.take().is_some() {
            out.stop_failed(words);
        }
    }

    /// Ends a stop that has had its time.
    pub(crate) fn tick(&mut self, now: BootTime, out: &mut Outbox) {
        let Some(under_way) = self.under_way else { return };
        if under_way.since.is_none_or(|since| now.since(since) < STANDS_WITHIN) {
            return;
        }
        if under_way.contradicted {
            self.under_way = None;
            out.stop.push(StopReply::ReadBack(false));
        } else {
            let how_far =
                if under_way.answered { "accepted, but not" } else { "not answered, nor" };
            self.fail(&format!("{how_far} read back within {} s", STANDS_WITHIN.as_secs()), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begun() -> Stopping {
        let mut stopping = Stopping::default();
        stopping.begin(BootTime(0), Stop::Off);
        stopping
    }

    #[test]
    fn a_stop_that_is_commanded_again_is_not_refused_by_the_one_before() {
        let (mut stopping, mut out) = (begun(), Outbox::default());
        stopping.accept(&mut out);
        stopping.begin(BootTime(1), Stop::Off);
        assert!(!stopping.is_answered() && stopping.accept(&mut out));
        stopping.seen(true, &mut out);
        let accepted = StopReply::Accepted;
        assert_eq!(out.stop, [accepted.clone(), accepted, StopReply::ReadBack(true)]);
    }

    #[test]
    fn a_stop_is_accepted_once_and_read_back_once() {
        let (mut stopping, mut out) = (begun(), Outbox::default());
        assert!(stopping.accept(&mut out) && !stopping.accept(&mut out));
        stopping.seen(false, &mut out);
        stopping.seen(true, &mut out);
        stopping.seen(true, &mut out);
        stopping.tick(BootTime(u64::MAX), &mut out);
        assert_eq!(out.stop, [StopReply::Accepted, StopReply::ReadBack(true)]);
    }

    #[test]
    fn what_a_printer_refuses_is_read_back_all_the_same_and_takes_its_time() {
        let (mut stopping, mut out) = (Stopping::default(), Outbox::default());
        stopping.begin_without_deadline(Stop::Cancel);
        let refused = StopReply::Failed("409".to_owned());
        stopping.answered(refused.clone(), &mut out);
        stopping.seen(false, &mut out);
        stopping.tick(BootTime(u64::MAX), &mut out);
        assert_eq!(out.stop.len(), 1);
        stopping.seen(true, &mut out);
        assert_eq!(out.stop, [refused, StopReply::ReadBack(true)]);
    }

    #[test]
    fn a_stop_that_does_not_stand_in_time_is_told_as_what_it_is() {
        let late = BootTime(0) + STANDS_WITHIN;
        let (mut stopping, mut out) = (begun(), Outbox::default());
        stopping.seen(false, &mut out);
        stopping.tick(BootTime(0) + SECOND, &mut out);
        assert_eq!(out.stop, []);
        stopping.tick(late, &mut out);
        assert_eq!(out.stop, [StopReply::ReadBack(false)]);

        let (mut stopping, mut out) = (begun(), Outbox::default());
        stopping.tick(late, &mut out);
        assert!(matches!(&out.stop[..], [StopReply::Failed(words)] if words.contains("answered")));
    }
}
