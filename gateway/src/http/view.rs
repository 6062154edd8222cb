//! The shapes of the API's JSON: what [`super::picture::Picture`] looks like from outside.
//!
//! Only shapes: nothing here decides anything. Ages and durations are milliseconds relative to
//! the moment of rendering, so that no reader ever compares its wall clock with ours. Released
//! fields keep their meaning: add, never rename.

use std::borrow::Cow;
use std::collections::BTreeMap;

use andon_engine::event::{self, Activity, Confirmation, Execution};
use andon_engine::value::{Unavailable, Value};
use serde::Serialize;

use super::status::{Bus, Device, JournalStatus, LinkStatus, MqttStatus};
use crate::clock::Standing;
use crate::config::plan::Name;

/// Version of these shapes.
pub const VERSION: u8 = 1;

/// The whole picture.
#[derive(Debug, Serialize)]
pub struct PictureView<'a> {
    /// [`VERSION`].
    pub v: u8,
    /// Counts the changes of the picture since the gateway's start.
    pub seq: u64,
    /// The workshop.
    pub site: SiteView<'a>,
    /// andon's own state.
    pub gateway: GatewayView<'a>,
    /// The machines, in the order of the configuration.
    pub machines: Vec<MachineView<'a>>,
    /// What the kinds of those machines have in common; `other` has nothing.
    pub kinds: BTreeMap<&'static str, KindView>,
    /// The alarms that concern somebody, most urgent first.
    pub alarms: Vec<AlarmView<'a>>,
}

/// The workshop.
#[derive(Debug, Serialize)]
pub struct SiteView<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub name: &'a Name,
    /// IANA name.
    pub time_zone: &'a str,
}

/// Whether the gateway knows what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// This boot has an anchor.
    Synced,
    /// It has none: no wall time is claimed.
    Unsynced,
}

/// andon's own state.
#[derive(Debug, Serialize)]
pub struct GatewayView<'a> {
    /// andon's version.
    pub version: &'static str,
    /// Hash of the board's files: a board that was built from others reloads itself.
    pub build: &'a str,
    /// Whether `now_ms` is known.
    pub clock: Clock,
    /// Why it is believed or not; what people are told.
    pub clock_standing: Standing,
    /// Unix milliseconds.
    pub now_ms: Option<i64>,
    /// The broker.
    pub mqtt: &'a MqttStatus,
    /// The store behind the recorder in this process.
    pub store: &'a LinkStatus,
    /// The journal.
    pub journal: &'a JournalStatus,
    /// The buses, in the order of the configuration.
    pub buses: &'a [Bus],
    /// The devices that are more than a register map, in the order of the configuration.
    pub devices: &'a [Device],
    /// Who is looking, and what they missed.
    pub viewers: Viewers,
}

/// Who is looking, and what was dropped on the way to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Viewers {
    /// Boards connected now.
    pub connected: usize,
    /// Boards disconnected because they read too slowly, since the start.
    pub dropped: u64,
    /// Batches that reached the picture merged, because it was behind the engine.
    pub missed: u64,
}

/// What machines of a kind have in common; it never changes while the gateway runs.
#[derive(Debug, Serialize)]
pub struct KindView {
    /// For people.
    pub name: &'static Name,
    /// What hurts people, one short sentence each.
    pub hazards: &'static [Name],
}

/// One machine.
#[derive(Debug, Serialize)]
pub struct MachineView<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub name: &'a Name,
    /// Picks the icon.
    pub kind: &'a str,
    /// What it is executing.
    pub execution: Execution,
    /// The same, coarsely.
    pub activity: Activity,
    /// Why it is unknown, when a reason is known.
    pub why: Option<Unavailable>,
    /// The items that its activity is told from, highest authority first. Without any it is unknown
    /// for ever, whatever its values.
    pub activity_from: Vec<&'a str>,
    /// How long the execution has been this one.
    pub in_state_ms: u64,
    /// Its items, those of the tile first.
    pub items: Vec<ItemView<'a>>,
    /// Its protective stop; the most worrying one where there are several.
    pub stop: Option<StopView<'a>>,
}

/// One item of a machine.
#[derive(Debug, Serialize)]
pub struct ItemView<'a> {
    /// From the closed list.
    pub name: &'a str,
    /// `gauge`, `counter`, `flag` or `text`.
    pub kind: &'static str,
    /// Symbol of its canonical unit.
    pub unit: &'static str,
    /// The value, if there is one.
    pub value: Option<&'a Value>,
    /// Why there is none.
    pub why: Option<Unavailable>,
    /// Age of the last report, good or bad; none before the first.
    pub age_ms: Option<u64>,
    /// An older value must not be shown as a value.
    pub stale_after_ms: u64,
    /// Whether it belongs on the tile.
    pub key: bool,
}

/// Where a protective stop stands. `unknown` until the engine has said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseView {
    /// Not heard of yet.
    Unknown,
    /// Ready to cut.
    Armed,
    /// Being carried out.
    Tripping,
    /// Carried out; stays until a person resets it.
    Latched,
    /// A person must act.
    Failed,
}

/// A protective stop.
#[derive(Debug, Serialize)]
pub struct StopView<'a> {
    /// The output's id.
    pub output: &'a str,
    /// Where it stands.
    pub phase: PhaseView,
    /// How far it is confirmed.
    pub level: Option<Confirmation>,
    /// The alarm that tripped it.
    pub cause: Option<&'a str>,
    /// What went wrong, in words.
    pub trouble: Option<&'a str>,
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// When there is time.
    Low,
    /// Soon.
    Medium,
    /// Now.
    High,
    /// Now, by hand: a protective stop has failed. No rule can say so of itself.
    Critical,
}

impl From<event::Severity> for Severity {
    fn from(severity: event::Severity) -> Self {
        match severity {
            event::Severity::Low => Self::Low,
            event::Severity::Medium => Self::Medium,
            event::Severity::High => Self::High,
        }
    }
}

/// One alarm.
#[derive(Debug, Serialize)]
pub struct AlarmView<'a> {
    /// The rule's id; of a stop that has failed `stop:` and the id of its output.
    pub id: Cow<'a, str>,
    /// The output, when this is a stop that has failed. Nobody acknowledges or resets that: it
    /// leaves the list when the stop is confirmed.
    pub stop: Option<&'a str>,
    /// The machine's id.
    pub machine: &'a str,
    /// How urgent.
    pub severity: Severity,
    /// Whether the condition holds; none when that is unknown.
    pub active: Option<bool>,
    /// Whether a person has seen it.
    pub acked: bool,
    /// Whether it stays until a person resets it.
    pub latched: bool,
    /// How long ago it was raised; none when that was in an earlier boot.
    pub for_ms: Option<u64>,
    /// What was compared.
    pub cause: &'a str,
    /// What happened and what to do; none for a rule that has since left the configuration.
    pub message: Option<&'a Name>,
}

/// The heartbeat of the stream.
#[derive(Debug, Serialize)]
pub struct TickView<'a> {
    /// The picture's.
    pub seq: u64,
    /// Unix milliseconds, when known.
    pub now_ms: Option<i64>,
    /// Hash of the board's files.
    pub build: &'a str,
    /// Whether `now_ms` is known.
    pub clock: Clock,
    /// Why it is believed or not; what people are told.
    pub clock_standing: Standing,
}
