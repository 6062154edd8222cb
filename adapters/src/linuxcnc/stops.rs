//! Stops of LinuxCNC: the commands, who refuses them, and by which answers they are seen to stand.

use andon_engine::time::BootTime;

use super::{LinuxCnc, Pending};
use crate::device::{Outbox, Outgoing, Stop, StopReply};

impl LinuxCnc {
    pub(super) fn stop(&mut self, now: BootTime, stop: Stop, out: &mut Outbox) {
        let command = match stop {
            Stop::Emergency => "set estop on",
            Stop::Cancel => "set abort",
            Stop::Pause => "set pause",
            Stop::Off => {
                out.stop_failed("not offered by this protocol");
                return;
            }
        };
        let read = if stop == Stop::Emergency { "estop" } else { "program_status" };
        let enable = format!("set enable {}\r\n{command}\r\n", self.password);
        let rest = format!("set enable off\r\nget {read}\r\n");
        out.send(Outgoing::Bytes((enable + &rest).into_bytes()));
        self.link.stop = Some(Pending { stop, since: now, accepted: false });
    }

    /// `ESTOP ACK`, `ENABLE NAK`, …
    pub(super) fn set_answered(&mut self, rest: &str, out: &mut Outbox) {
        let Some(pending) = &mut self.link.stop else { return };
        let subject = match pending.stop {
            Stop::Emergency => "ESTOP",
            Stop::Cancel => "ABORT",
            Stop::Pause | Stop::Off => "PAUSE",
        };
        match rest.split_once(' ') {
            Some(("ENABLE", "NAK")) if !pending.accepted => {
                self.link.stop = None;
                out.stop_failed("the control password is not accepted");
            }
            Some((word, "ACK")) if word == subject => {
                pending.accepted = true;
                out.stop.push(StopReply::Accepted);
            }
            Some((word, "NAK")) if word == subject => {
                self.link.stop = None;
                out.stop_failed("LinuxCNC refuses it");
            }
            _ => {}
        }
    }

    pub(super) fn read_back(&mut self, word: &str, rest: &str, out: &mut Outbox) {
        let Some(pending) = self.link.stop.filter(|pending| pending.accepted) else { return };
        let stands = match (pending.stop, word) {
            (Stop::Emergency, "ESTOP") => rest == "ON",
            (Stop::Cancel, "PROGRAM_STATUS") => rest == "IDLE",
            (Stop::Pause, "PROGRAM_STATUS") => rest == "PAUSED" || rest == "IDLE",
            _ => false,
        };
        if stands {
            self.link.stop = None;
            out.stop.push(StopReply::ReadBack(true));
        }
    }
}
