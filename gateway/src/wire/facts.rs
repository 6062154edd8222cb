//! The retained payloads: what a machine has, what it is doing, its alarms, and the gateway.
//!
//! Retained means: whoever subscribes later gets the last one. All of them are sent again on
//! every connection, because a broker may have forgotten them.

use std::collections::BTreeMap;
use std::sync::Arc;

use andon_engine::event::{Activity, AlarmState, Execution};
use andon_engine::value::Unavailable;
use serde::{Deserialize, Serialize};

use crate::config::plan::Name;
use crate::journal::BootId;

/// What a machine has, so that a reader needs no other source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// The payload's version.
    pub v: u8,
    /// The machine's name for people.
    pub name: Name,
    /// `laser`, `kiln`, …
    pub kind: String,
    /// Its items by name.
    pub items: BTreeMap<Arc<str>, BirthItem>,
}

/// What is to know of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthItem {
    /// The symbol of its unit; empty for flags, words and counts.
    pub unit: String,
    /// How often it is read, in milliseconds.
    pub period_ms: u64,
    /// From which age on it is no longer to be believed, in milliseconds.
    pub stale_after_ms: u64,
    /// The source that it is read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// The profile of that source: `eastron/sdm120`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Arc<str>>,
    /// What that source speaks, where it is a protocol of its own and no profile: `moonraker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Arc<str>>,
}

/// What a machine is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The payload's version.
    pub v: u8,
    /// Unix milliseconds of sending; null while there is no wall time.
    pub t: Option<i64>,
    /// Unix milliseconds of the boundary since which it is so, over restarts of andon that were short;
    /// null without wall time.
    pub since: Option<i64>,
    /// The board's word.
    pub execution: Execution,
    /// The word that hours are counted by.
    pub activity: Activity,
    /// Why it is unknown.
    pub why: Option<Unavailable>,
}

/// An alarm's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The payload's version.
    pub v: u8,
    /// Unix milliseconds of the change; null without wall time.
    pub t: Option<i64>,
    /// The state after it.
    #[serde(flatten)]
    pub state: AlarmState,
}

/// Whether the gateway is there, and how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The payload's version.
    pub v: u8,
    /// `true` for as long as the gateway is connected; the last will says `false`.
    pub online: bool,
    /// andon's version.
    pub version: String,
    /// The boot.
    pub boot: BootId,
    /// Unix milliseconds of sending; null without wall time, and in the last will.
    pub t: Option<i64>,
    /// Counts since the start: drops, errors, what is behind.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// The buses with their devices.
    #[serde(default)]
    pub buses: Vec<BusHealth>,
}

/// How a bus is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusHealth {
    /// Its id.
    pub id: Arc<str>,
    /// `up` or `down`.
    pub state: String,
    /// Why it is down.
    pub why: Option<String>,
    /// The devices on it.
    pub units: Vec<UnitHealth>,
}

/// How a device is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitHealth {
    /// The source's id.
    pub source: Arc<str>,
    /// `online`, `suspect`, `quarantined`, `slow`, `not_asked` or `bus_down`.
    pub state: String,
    /// Why it is not online.
    pub why: Option<String>,
}
