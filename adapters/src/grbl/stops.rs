//! Stops of the GRBL family: the bytes that ask for them, and by which reports they are seen to stand.

use andon_engine::time::BootTime;

use super::link::{Awaits, Pending};
use super::report::Report;
use super::{Grbl, STOP_WITHIN};
use crate::device::{Outbox, Outgoing, Stop, StopReply};

const RESET: u8 = 0x18;
const SAFETY_DOOR: u8 = 0x84;

impl Grbl {
    pub(super) fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        let (awaits, bytes) = match stop {
            Stop::Emergency => (Awaits::Reset, vec![RESET]),
            Stop::Cancel => (Awaits::Door, vec![SAFETY_DOOR, b'?']),
            Stop::Pause => (Awaits::Hold, vec![b'!', b'?']),
            Stop::Off => {
                out.stop_failed("a GRBL controller has no switch");
                return;
            }
        };
        let stale = self.link.asked.is_some();
        out.send(Outgoing::Bytes(bytes));
        if awaits != Awaits::Reset {
            self.asked(now);
        }
        self.link.stop =
            Some(Pending { awaits, since: now, stale, answered: false, accepted: false });
    }

    pub(super) fn proceed_with_stop(
        &mut self,
        now: BootTime,
        report: &Report<'_>,
        out: &mut Outbox,
    ) {
        let Some(pending) = &mut self.link.stop else { return };
        if std::mem::take(&mut pending.stale) {
            return;
        }
        pending.answered = true;
        if !report.stands() {
            return;
        }
        let gone = matches!(report.state(), "Alarm" | "Sleep");
        if pending.awaits == Awaits::Door && !gone {
            *pending = Pending {
                awaits: Awaits::Reset,
                since: now,
                stale: false,
                answered: false,
                accepted: true,
            };
            out.stop.push(StopReply::Accepted);
            out.send(Outgoing::Bytes(vec![RESET]));
        } else if pending.awaits != Awaits::Reset || !matches!(report.state(), "Hold" | "Door") {
            self.link.stop = None;
            out.stop.push(StopReply::ReadBack(true));
        }
    }

    pub(super) fn give_up_stop(&mut self, now: BootTime, out: &mut Outbox) {
        // A reset may come without a banner, so it is asked after once before it counts as failed.
        let polled = self.link.polled;
        let over = |stop: &mut Pending| {
            let asked = polled.is_some_and(|polled| polled > stop.since);
            now.since(stop.since) >= STOP_WITHIN && (asked || stop.awaits != Awaits::Reset)
        };
        if let Some(pending) = self.link.stop.take_if(over) {
            out.stop.push(match pending.answered {
                true => StopReply::ReadBack(false),
                false => StopReply::Failed("no status report after the stop".into()),
            });
        }
    }
}
