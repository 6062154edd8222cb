//! The picture of a printer that its reports, full ones and changes alone, add up to. Knows nothing
//! of connections, requests or stops; what a word means is the table in the protocol's file.
//!
//! Newer printers (H2 and their like) put a temperature and its target into one number: the low 16
//! bits are the temperature, the high 16 the target, in whole degrees. Nozzles are numbered from 0;
//! of a printer with two, 0 is the right one. Facts: Home Assistant's integration (ha-bambulab), and
//! not yet a printer.

use andon_engine::event::Execution;
use serde_json::Value;

use super::{CANCELLED, DOOR_OPEN, HMS_MAX, SIGNATURE_REQUIRED};
use crate::device::{Outbox, clean};
use crate::document;
use crate::printer::nozzle;

/// Most nozzles that a printer has.
pub(super) const NOZZLES_MAX: u8 = 2;

/// Most entries of a report's list of nozzles that are looked at.
const TOLD_MAX: usize = 16;

/// A temperature and what it is to become, in °C.
#[derive(Clone, Copy, Debug, Default)]
struct Heater {
    actual: Option<f64>,
    target: Option<f64>,
}

impl Heater {
    /// Both out of one number; neither when it is none of 32 bits.
    fn unpacked(packed: &Value) -> Self {
        let packed = code(packed);
        let half = |shift: u32| packed.map(|packed| f64::from((packed >> shift) & 0xFFFF));
        Self { actual: half(0), target: half(16) }
    }

    fn say(self, place: &str, out: &mut Outbox) {
        out.number_if(&format!("temperature.{place}"), self.actual);
        out.number_if(&format!("temperature.target.{place}"), self.target);
    }
}

/// What the printer said last, as far as it is passed on.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) state: Option<String>,
    cancelled: bool,
    stage: Option<i64>,
    pub(super) print_error: Option<u32>,
    hms: Option<Vec<String>>,
    /// By the number that the printer gives them.
    nozzles: [Heater; NOZZLES_MAX as usize],
    /// Nozzles are told one by one: what is told of "the" nozzle is told of any of them.
    one_by_one: bool,
    bed: Heater,
    chamber: Option<f64>,
    pub(super) percent: Option<f64>,
    pub(super) minutes_left: Option<f64>,
    pub(super) layer: Option<f64>,
    pub(super) layers: Option<f64>,
    pub(super) job: Option<String>,
    pub(super) wifi_dbm: Option<f64>,
    pub(super) door_open: Option<bool>,
    pub(super) signature_required: bool,
}

impl Picture {
    /// Takes over what a report, full or not, says.
    pub(super) fn merge(&mut self, print: &Value) {
        let take = |field: &mut Option<f64>, name: &str| {
            if let Some(value) = print.get(name) {
                *field = document::number(value);
            }
        };
        take(&mut self.bed.actual, "bed_temper");
        take(&mut self.bed.target, "bed_target_temper");
        take(&mut self.chamber, "chamber_temper");
        take(&mut self.percent, "mc_percent");
        take(&mut self.minutes_left, "mc_remaining_time");
        take(&mut self.layer, "layer_num");
        take(&mut self.layers, "total_layer_num");
        self.merge_heaters(&print["device"]);
        if !self.one_by_one {
            take(&mut self.nozzles[0].actual, "nozzle_temper");
            take(&mut self.nozzles[0].target, "nozzle_target_temper");
        }
        if let Some(stage) = print.get("stg_cur") {
            self.stage = stage.as_i64();
        }
        if let Some(error) = print.get("print_error") {
            self.print_error = code(error);
        }
        if let Some(hms) = print.get("hms").and_then(Value::as_array) {
            self.hms = Some(hms.iter().take(HMS_MAX).filter_map(health).collect());
        }
        let word = |name: &str| print.get(name).and_then(Value::as_str);
        if let Some(job) = word("subtask_name").filter(|job| !job.is_empty()).or(word("gcode_file"))
        {
            self.job = Some(clean(job));
        }
        if let Some(signal) = word("wifi_signal") {
            self.wifi_dbm = signal.trim_end_matches("dBm").trim().parse().ok();
        }
        if let Some(flags) = print.get("home_flag").and_then(Value::as_u64) {
            self.door_open = Some(flags & DOOR_OPEN != 0);
        }
        if let Some(fun) = print.get("fun") {
            let bits = fun.as_u64().or_else(|| u64::from_str_radix(fun.as_str()?, 16).ok());
            self.signature_required = bits.is_some_and(|bits| bits & SIGNATURE_REQUIRED != 0);
        }
        if let Some(state) = word("gcode_state") {
            self.state = Some(clean(state));
        }
        let failed = self.state.as_deref() == Some("FAILED");
        self.cancelled = failed && (self.cancelled || self.print_error == Some(CANCELLED));
    }

    /// What newer printers say beside, or instead: nozzles one by one, bed and chamber, each with its
    /// target in the same number.
    fn merge_heaters(&mut self, device: &Value) {
        for told in device["extruder"]["info"].as_array().into_iter().flatten().take(TOLD_MAX) {
            let place = told["id"].as_u64().and_then(|id| usize::try_from(id).ok());
            let nozzle = place.and_then(|place| self.nozzles.get_mut(place));
            if let (Some(nozzle), Some(temperature)) = (nozzle, told.get("temp")) {
                *nozzle = Heater::unpacked(temperature);
                self.one_by_one = true;
            }
        }
        if let Some(temperature) = device["bed"]["info"].get("temp") {
            self.bed = Heater::unpacked(temperature);
        }
        if let Some(temperature) = device["ctc"]["info"].get("temp") {
            self.chamber = Heater::unpacked(temperature).actual;
        }
    }

    /// Says the temperatures of so many nozzles, of the bed and, where there is one, the chamber.
    pub(super) fn say_temperatures(&self, nozzles: u8, chamber: bool, out: &mut Outbox) {
        for (number, heater) in (0..nozzles).zip(&self.nozzles) {
            heater.say(&nozzle(number), out);
        }
        self.bed.say("bed", out);
        if chamber {
            out.number_if("temperature.chamber", self.chamber);
        }
    }

    pub(super) fn execution(&self) -> Option<Execution> {
        execution(self.state.as_deref()?, self.stage, self.cancelled)
    }

    /// The error and the health messages, verbatim codes; empty when the printer says there are
    /// none, `None` when it has said nothing about them.
    pub(super) fn message(&self) -> Option<String> {
        if self.print_error.is_none() && self.hms.is_none() {
            return None;
        }
        let error = match self.print_error {
            None | Some(0) => None,
            Some(CANCELLED) => Some("cancelled by a person".to_owned()),
            Some(code) => Some(format!("print error {}", hexadecimal(code))),
        };
        let hms = self.hms.iter().flatten().cloned();
        Some(error.into_iter().chain(hms).collect::<Vec<_>>().join(", "))
    }
}

/// The table at the head of the protocol's file.
pub(super) fn execution(state: &str, stage: Option<i64>, cancelled: bool) -> Option<Execution> {
    match (state, stage.unwrap_or(-1)) {
        ("IDLE", _) => Some(Execution::Ready),
        ("INIT" | "PREPARE" | "SLICING", _) => Some(Execution::Preparing),
        ("RUNNING" | "PAUSE", 20 | 21 | 23 | 27 | 28 | 33 | 35) => Some(Execution::Fault),
        ("RUNNING", 5 | 6 | 16 | 17 | 26 | 30 | 32 | 34) | ("PAUSE", _) => Some(Execution::Paused),
        ("RUNNING", 1..=4 | 7..=15 | 18 | 19 | 22 | 24 | 25 | 29 | 31) => {
            Some(Execution::Preparing)
        }
        ("RUNNING", _) => Some(Execution::Running),
        ("FINISH", _) => Some(Execution::Finished),
        ("FAILED", _) if cancelled => Some(Execution::Ready),
        ("FAILED", _) => Some(Execution::Fault),
        _ => None,
    }
}

/// A health message by its code, as the printer and the vendor's pages write it.
fn health(message: &Value) -> Option<String> {
    let (attribute, code) = (code(&message["attr"])?, code(&message["code"])?);
    Some(format!("HMS_{}_{}", hexadecimal(attribute), hexadecimal(code)))
}

/// `0300_400C`.
pub(super) fn hexadecimal(code: u32) -> String {
    format!("{:04X}_{:04X}", code >> 16, code & 0xFFFF)
}

/// A 32-bit code, which some firmware sends as a negative or as a text.
pub(super) fn code(value: &Value) -> Option<u32> {
    let wide = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    u32::try_from(wide).ok().or_else(|| i32::try_from(wide).ok().map(i32::cast_unsigned))
}
