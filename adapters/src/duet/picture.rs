//! A whole picture of a Duet's object model, said in andon's items: the live fields of this period and
//! the parts that change seldom. Asks nothing, but that a cancel goes on once its pause stands.

use andon_engine::event::Execution;
use andon_engine::time::BootTime;
use andon_engine::value::Unavailable;
use serde_json::Value as Json;

use super::Duet;
use crate::device::{Outbox, Stop};
use crate::http::{say_number, say_text};
use crate::printer;

impl Duet {
    pub(super) fn say(&mut self, now: BootTime, model: &Json, out: &mut Outbox) {
        let status = model["state"]["status"].as_str().unwrap_or("");
        let heaters = model["heat"]["heaters"].as_array().map_or(&[][..], Vec::as_slice);
        let faulty = heaters.iter().any(|heater| heater["state"] == "fault");
        let execution = execution(status, faulty);
        if matches!(status, "starting" | "updating") {
            out.text("controller.state", status);
            out.say("execution", Err(Unavailable::NotYet));
        } else {
            out.execution(status, execution);
        }
        let details = &self.details;
        let text = |text: &Option<String>| text.as_ref().map(|text| Json::from(&**text));
        say_text(out, "message", text(&details.message).as_ref());
        say_text(out, "job.name", text(&details.file).as_ref());
        let job = &model["job"];
        say_number(out, "job.elapsed", job.get("duration"), 1.0);
        say_number(out, "job.layer", job.get("layer"), 1.0);
        say_number(out, "job.layers", details.layers.map(Json::from).as_ref(), 1.0);
        let left = ["slicer", "filament", "file"].map(|method| &job["timesLeft"][method]);
        say_number(out, "job.left", left.into_iter().find(|left| !left.is_null()), 1.0);
        let size = details.file_bytes.filter(|size| *size > 0.0 && !job["duration"].is_null());
        let position = job.get("filePosition").filter(|_| size.is_some());
        say_number(out, "progress", position, size.unwrap_or(1.0).recip());
        self.temperatures(heaters, out);
        // Only the job that was running then: a person may pause the next one.
        let ended = matches!(status, "idle" | "halted" | "off");
        self.cancel_when_paused = self.cancel_when_paused.filter(|until| !ended && now < *until);
        if self.cancel_when_paused.is_some() && status == "paused" {
            self.stop(now, Stop::Cancel, Some(status), out);
        }
        printer::read_back(&mut self.stopping, execution, out);
    }

    fn temperatures(&self, heaters: &[Json], out: &mut Outbox) {
        let details = &self.details;
        let heater = |index: Option<usize>| index.and_then(|index| heaters.get(index));
        let mut say = |place: &str, index, with_target| {
            let heater = heater(index);
            let current = heater.and_then(|heater| heater.get("current"));
            say_number(out, &printer::actual(place), current, 1.0);
            if with_target {
                let target = heater.and_then(target);
                say_number(out, &printer::target(place), target.as_ref(), 1.0);
            }
        };
        for index in 0..self.parts.nozzles {
            let heater = details.nozzles.get(usize::from(index)).copied().flatten();
            say(&printer::nozzle(index), heater, true);
        }
        if self.parts.bed {
            say("bed", details.bed, true);
        }
        if self.parts.chamber {
            say("chamber", details.chamber, false);
        }
    }
}

/// The table of the protocol's file.
fn execution(status: &str, faulty: bool) -> Option<Execution> {
    match status {
        "halted" => Some(Execution::Stopped),
        "off" => Some(Execution::Off),
        _ if faulty => Some(Execution::Fault),
        "idle" | "simulating" => Some(Execution::Ready),
        "busy" | "changingTool" => Some(Execution::Preparing),
        "processing" | "pausing" | "resuming" | "cancelling" => Some(Execution::Running),
        "paused" => Some(Execution::Paused),
        _ => None,
    }
}

/// The temperature that a heater is to have, which depends on its state.
fn target(heater: &Json) -> Option<Json> {
    match heater["state"].as_str()? {
        "active" | "tuning" => heater.get("active").cloned(),
        "standby" => heater.get("standby").cloned(),
        "off" => Some(Json::from(0)),
        _ => None,
    }
}
