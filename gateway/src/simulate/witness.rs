//! The simulator's log: JSON lines of what happened on a line, as an independent witness.
//!
//! Moments are nanoseconds of `CLOCK_BOOTTIME`, the gateway's own scale, so that one log can be
//! laid beside the other's. It is written under the lock of what it describes: lines are in the
//! order in which things happened. Each line is handed to the kernel whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use andon_adapters::profile::SettingKind;
use serde_json::{Value, json};

use super::device::Switched;
use super::frame::Request;
use crate::clock;

/// Where the log goes, if anywhere.
#[derive(Debug, Default)]
pub(super) struct Witness(Option<File>);

impl Witness {
    /// Logs into a new file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Some(File::create(path)?)))
    }

    fn line(&mut self, line: impl FnOnce(u64) -> Value) {
        let Some(file) = &mut self.0 else { return };
        let mut text = line(clock::boot_now().0).to_string();
        text.push('\n');
        if let Err(error) = file.write_all(text.as_bytes()) {
            // Half a log would be a false witness.
            tracing::error!(%error, "The simulator's log cannot be written; it ends here.");
            self.0 = None;
        }
    }

    pub(super) fn request(&mut self, request: &Request) {
        if let Some(frame) = &request.meter {
            // Data as it lies on the wire: an identifier's lowest byte first.
            let data: String = frame.data.iter().map(|byte| format!("{byte:02X}")).collect();
            self.line(|at| {
                json!({
                    "kind": "request", "at": at, "meter": frame.address,
                    "control": frame.control, "data": data,
                })
            });
            return;
        }
        self.line(|at| {
            let function = request.pdu.first();
            let mut line =
                json!({ "kind": "request", "at": at, "unit": request.unit, "function": function });
            if let Some((address, second)) = request.numbers() {
                line["address"] = address.into();
                let second_is = if matches!(function, Some(5 | 6)) { "value" } else { "count" };
                line[second_is] = second.into();
            }
            line
        });
    }

    /// `unit` and `function` are those of the request, whatever the reply says; a DL/T 645 frame
    /// has neither, and function 0 does not exist.
    pub(super) fn reply(&mut self, unit: u8, function: u8, bytes: usize) {
        self.line(|at| {
            if function == 0 {
                return json!({ "kind": "reply", "at": at, "bytes": bytes });
            }
            json!({
                "kind": "reply", "at": at, "unit": unit, "function": function, "bytes": bytes,
            })
        });
    }

    pub(super) fn coil(&mut self, unit: u8, Switched { coil, on }: Switched) {
        self.line(|at| json!({ "kind": "coil", "at": at, "unit": unit, "coil": coil, "on": on }));
    }

    /// A setting that was written.
    pub(super) fn setting(&mut self, unit: u8, kind: SettingKind, value: f64) {
        self.line(|at| {
            json!({
                "kind": "setting", "at": at, "unit": unit, "setting": kind.word(), "value": value,
            })
        });
    }

    pub(super) fn set(&mut self, unit: u8, item: &str, value: f64) {
        self.line(
            |at| json!({ "kind": "set", "at": at, "unit": unit, "item": item, "value": value }),
        );
    }

    /// A fault that begins, on one unit or on all.
    pub(super) fn fault(&mut self, unit: Option<u8>, fault: &str) {
        self.line(|at| json!({ "kind": "fault", "at": at, "unit": unit, "fault": fault }));
    }

    /// Faults that end, of one unit or of all; or the line's plug, `unplug` and `replug`.
    pub(super) fn change(&mut self, kind: &str, unit: Option<u8>) {
        self.line(|at| json!({ "kind": kind, "at": at, "unit": unit }));
    }
}
