//! What the lines of the dialect do to what is known of a printer. Sends nothing: what follows from
//! an `ok`, a boot or a stop is the protocol's file.

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;

use super::link::{Busy, Card, Halt};
use super::{Marlin, words};
use crate::device::{Outbox, StopReply, clean};
use crate::printer;

impl Marlin {
    /// Whether the line was one of the dialect; does what it says, but for the `ok` before it.
    pub(super) fn understood(&mut self, now: BootTime, line: &str, out: &mut Outbox) -> bool {
        if let Some(error) = words::error(line) {
            self.error(now, error, out);
        } else if line.starts_with("echo:") && words::is_kill(line) {
            self.error(now, line, out);
        } else if let Some(busy) = words::busy(line) {
            let paused = busy.starts_with("paused");
            self.link.busy = Some((if paused { Busy::Paused } else { Busy::Processing }, now));
            self.say_state(now, out);
        } else if let Some(action) = words::action(line) {
            self.action(now, action, out);
        } else if let Some((at, of)) = words::sd_bytes(line) {
            self.card_prints(now, at, of, out);
        } else if line.starts_with("Not SD printing") {
            self.card_rests(now, out);
        } else if line.starts_with("Done printing file") {
            (self.link.done, self.link.card, self.link.job) = (true, Some(Card::Not), None);
            self.say_state(now, out);
        } else if let Some(capability) = line.strip_prefix("Cap:") {
            self.capability(capability);
        } else if let Some(file) = line.strip_prefix("Current file:") {
            self.link.job = Some(clean(file.trim())).filter(|file| !file.starts_with('('));
        } else if let Some(file) = line.strip_prefix("File opened:") {
            let file = file.split("Size:").next().unwrap_or_default();
            self.link.job = Some(clean(file.trim()));
        } else if line.starts_with("Resend:") || line.starts_with("rs ") {
            self.link.resend = true;
        } else {
            return self.temperatures(now, line, out)
                || line == "ok"
                || line.starts_with("ok ")
                || line == "wait";
        }
        true
    }

    fn capability(&mut self, capability: &str) {
        let capabilities = self.link.capabilities.get_or_insert_default();
        match capability.trim() {
            "EMERGENCY_PARSER:1" => capabilities.emergency_parser = true,
            "AUTOREPORT_TEMP:1" => capabilities.auto_temperature = true,
            "AUTOREPORT_SD_STATUS:1" => capabilities.auto_card = true,
            _ => {}
        }
    }

    fn error(&mut self, now: BootTime, error: &str, out: &mut Outbox) {
        let whole = match self.link.half_error.take() {
            Some(half) => format!("{half} {error}"),
            None => error.to_owned(),
        };
        if words::is_half(&whole) {
            self.link.half_error = Some(whole);
            return;
        }
        let lower = whole.to_ascii_lowercase();
        if lower.contains("checksum") || lower.contains("line number") {
            out.unavailable(&self.items, Unavailable::Refused);
            out.trouble = Some(format!("the printer counts lines for somebody: {}", clean(&whole)));
            return;
        }
        if let Some(verdict) = words::verdict(&whole) {
            // A fault is followed by the halt that it leads to; the fault is what to say.
            let known = self.link.halt.filter(|halt| halt.execution == Execution::Fault);
            let execution = known.map_or(verdict, |halt| halt.execution);
            let silent = words::is_kill(&whole) || known.is_some_and(|halt| halt.silent);
            if known.is_none() || verdict == Execution::Fault {
                self.link.message = clean(&whole);
            }
            self.link.halt = Some(Halt { execution, silent, at: now });
            if silent && self.link.stop.take_if(|stop| stop.emergency).is_some() {
                out.stop.push(StopReply::ReadBack(true));
            }
            self.say_state(now, out);
        } else {
            self.link.message = clean(&whole);
            out.text("message", &self.link.message);
        }
    }

    fn action(&mut self, now: BootTime, action: &str, out: &mut Outbox) {
        let (word, rest) = action.split_once(' ').unwrap_or((action, ""));
        match word {
            "pause" | "paused" => self.link.paused = true,
            "resume" | "resumed" | "cancel" => self.link.paused = false,
            "notification" | "prompt_begin" => {
                self.link.message = clean(rest);
                out.text("message", &self.link.message);
                return;
            }
            _ => return,
        }
        self.say_state(now, out);
    }

    fn card_prints(&mut self, now: BootTime, at: u64, of: u64, out: &mut Outbox) {
        let since = match self.link.card {
            Some(Card::Printing(before, _, since)) if before == at => since,
            Some(Card::Printing(before, ..)) => {
                if at > before {
                    // It goes on: whatever halted or held it does no more.
                    (self.link.halt, self.link.paused) = (None, false);
                }
                now
            }
            _ => {
                self.link.asked_job = false;
                now
            }
        };
        (self.link.done, self.link.no_card, self.link.card_at) = (false, false, Some(now));
        self.link.card = Some(Card::Printing(at, of, since));
        if let Some(stop) = self.link.stop.as_mut().filter(|stop| !stop.emergency) {
            stop.goes_on = true;
        }
        self.say_state(now, out);
    }

    fn card_rests(&mut self, now: BootTime, out: &mut Outbox) {
        if matches!(self.link.card, Some(Card::Printing(..))) {
            (self.link.job, self.link.paused) = (None, false);
        }
        (self.link.card, self.link.card_at, self.link.no_card) =
            (Some(Card::Not), Some(now), false);
        if self.link.stop.take_if(|stop| !stop.emergency).is_some() {
            out.stop.push(StopReply::ReadBack(true));
        }
        self.say_state(now, out);
    }

    fn temperatures(&mut self, now: BootTime, line: &str, out: &mut Outbox) -> bool {
        let heaters = words::heaters(line);
        if heaters.is_empty() {
            return false;
        }
        self.link.temperature_at = Some(now);
        if heaters.iter().any(|heater| heater.target.is_some()) {
            let hot = heaters.iter().any(|heater| heater.target.is_some_and(|target| target > 0.0));
            self.link.done &= self.link.hot || !hot;
            self.link.hot = hot;
        }
        if line.contains("W:") {
            self.link.busy = Some((Busy::Heating, now));
        }
        let several = heaters.iter().any(|heater| words::nozzle(heater.name) == Some(0));
        for heater in &heaters {
            let place = match (heater.name, words::nozzle(heater.name)) {
                ("B", _) if self.bed => "bed".to_owned(),
                ("C", _) if self.chamber => "chamber".to_owned(),
                ("T", _) if !several => printer::nozzle(0),
                (_, Some(nozzle)) if nozzle < self.nozzles => printer::nozzle(nozzle),
                _ => continue,
            };
            let item = format!("temperature.{place}");
            match heater.actual {
                actual if actual < 0.0 => out.say(&item, Err(Unavailable::Sentinel)),
                actual => out.number(&item, actual),
            }
            out.number_if(&format!("temperature.target.{place}"), heater.target);
        }
        if self.link.no_card || matches!(self.link.busy, Some((Busy::Heating, _))) {
            self.say_state(now, out);
        }
        true
    }
}
