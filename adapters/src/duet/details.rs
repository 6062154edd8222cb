//! The parts of a Duet's object model that change seldom, cut down to what a monitor needs: which heater
//! is which, the job's file, the message on the display. Knows nothing of how they are asked for.

use serde_json::Value as Json;

use crate::device::clean;

/// Longest file name that is kept, in bytes; RepRapFirmware allows 120.
const NAME_BYTES_MAX: usize = 512;

/// The parts of the model that are asked for when their sequence number changes.
pub(super) const DETAILS: [&str; 4] = ["heat", "job", "state", "tools"];

/// What the parts of the model say that changes seldom.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) sequences: [Option<i64>; DETAILS.len()],
    pub(super) nozzles: Vec<Option<usize>>,
    pub(super) bed: Option<usize>,
    pub(super) chamber: Option<usize>,
    pub(super) file: Option<String>,
    pub(super) file_bytes: Option<f64>,
    pub(super) layers: Option<f64>,
    pub(super) message: Option<String>,
}

impl Details {
    /// Takes what matters of a part of the model.
    pub(super) fn take(&mut self, part: &str, model: &Json) {
        let heater = |value: &Json| value.as_u64().and_then(|index| usize::try_from(index).ok());
        match part {
            "heat" => {
                self.bed = heater(&model["bedHeaters"][0]);
                self.chamber = heater(&model["chamberHeaters"][0]);
            }
            "tools" => {
                let tools = model.as_array().map_or(&[][..], Vec::as_slice);
                let nozzles = tools.iter().take(usize::from(u8::MAX));
                self.nozzles = nozzles.map(|tool| heater(&tool["heaters"][0])).collect();
            }
            "job" => {
                let name = model["file"]["fileName"].as_str();
                self.file = name.filter(|name| name.len() <= NAME_BYTES_MAX).map(file);
                self.file_bytes = model["file"]["size"].as_f64();
                self.layers = model["file"]["numLayers"].as_f64().filter(|_| self.file.is_some());
            }
            _ => {
                let boxed = model["messageBox"]["message"].as_str();
                let shown = boxed.or_else(|| model["displayMessage"].as_str());
                self.message = shown.map(clean);
            }
        }
    }
}

/// A job's file without the folder that they are all in.
fn file(path: &str) -> String {
    path.strip_prefix("0:/gcodes/").unwrap_or(path).to_owned()
}
