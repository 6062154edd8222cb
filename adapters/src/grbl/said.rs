//! What a controller of the GRBL family says of itself, in andon's items. Nothing is asked or decided
//! here; what a state means is `link`.

use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};

use super::link::Last;
use super::report::{Report, numbers};
use super::{AXES, Grbl, dialect};
use crate::device::{Outbox, clean};

impl Grbl {
    pub(super) fn say_state(&mut self, now: BootTime, report: &Report<'_>, out: &mut Outbox) {
        let execution = self.link.execution(report);
        out.execution(report.word, execution);
        let mode = match report.state() {
            "Check" => Ok("check"),
            _ if report.pendant => Ok("manual"),
            "Jog" | "Home" => Ok("manual"),
            "Run" | "Hold" | "Door" | "Tool" => Ok("automatic"),
            _ => Err(Unavailable::Sentinel),
        };
        out.say("controller.mode", mode.map(|mode| Value::Text(mode.into())));
        self.say_words(report.word, out);
        self.link.last = Some(Last { word: clean(report.word), execution, at: now });
    }

    pub(super) fn say_words(&self, word: &str, out: &mut Outbox) {
        match self.link.alarm.filter(|_| self.link.message.is_empty()) {
            // Told by a report alone: grblHAL says the number there.
            Some(alarm) => {
                let text = dialect::alarm_text(self.link.flavour, alarm);
                out.text("message", &with_text(&format!("ALARM:{alarm}"), text));
            }
            None => out.text("message", &self.link.message),
        }
        let code = match self.link.alarm {
            _ if !word.starts_with("Alarm") || self.link.waits_for_homing() => Ok(0),
            Some(alarm) => Ok(alarm),
            // It was there before this connection, and its number is said only once.
            None => Err(Unavailable::NotYet),
        };
        out.say("fault.code", code.map(|code| Value::Number(f64::from(code))));
    }

    pub(super) fn say_numbers(&self, report: &Report<'_>, out: &mut Outbox) {
        let values = report.machine.or(report.work).unwrap_or_default();
        let position: Vec<Option<f64>> = numbers(values).take(AXES.len()).collect();
        for (place, item) in &self.axes {
            let value = position.get(*place).copied();
            let offset = self.link.offset.get(*place).copied().flatten();
            let scale = if *place < 3 { self.millimetres_per_unit } else { 1.0 };
            match (value, report.machine, offset) {
                (None, _, _) => out.say(item, Err(Unavailable::Sentinel)),
                (Some(None), _, _) => out.say(item, Err(Unavailable::Garbled)),
                (Some(Some(value)), Some(_), _) => out.number(item, value * scale),
                (Some(Some(value)), None, Some(offset)) => {
                    out.number(item, (value + offset) * scale);
                }
                // Nobody knows where the work's zero is until the offset has been sent.
                (Some(Some(_)), None, None) => out.say(item, Err(Unavailable::NotYet)),
            }
        }
        if let Some(feed) = report.feed {
            let mut rates = numbers(feed);
            let feed = rates.next().flatten().unwrap_or(f64::NAN);
            out.number("feed", feed * self.millimetres_per_unit);
            let sign = if self.link.counterclockwise { -1.0 } else { 1.0 };
            if let Some(speed) = rates.next() {
                out.number("speed.spindle", speed.unwrap_or(f64::NAN) * sign);
            }
        }
        if let Some([feed, spindle]) = self.link.overrides {
            out.number("override.feed", feed.unwrap_or(f64::NAN));
            out.number("override.spindle", spindle.unwrap_or(f64::NAN));
        }
    }
}

/// A code with its meaning, where that is known.
pub(super) fn with_text(code: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{code} {text}"),
        None => code.to_owned(),
    }
}
