//! What a device's owner tells about it: a snapshot, read by whoever likes.

use std::sync::Arc;

use andon_engine::time::BootTime;

use crate::config::plan::DevicePlan;

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// There is no connection.
    Down,
    /// Connected and not heard yet, or silent for too long.
    Silent,
    /// It answers.
    Answering,
}

impl DeviceState {
    /// `down`, `silent` or `answering`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Silent => "silent",
            Self::Answering => "answering",
        }
    }
}

/// A device at one moment. Counters only grow, from the start of the process.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// The source's id.
    pub source: Arc<str>,
    /// What it speaks.
    pub protocol: &'static str,
    /// How it is.
    pub state: DeviceState,
    /// Why it is not answering, in words; `None` when it answers.
    pub down: Option<String>,
    /// What is wrong although it may answer: `401: the key is not accepted`.
    pub trouble: Option<String>,
    /// When it last answered something sensible.
    pub last_answer: Option<BootTime>,
    /// Requests that failed, connections that were lost and things that were thrown away.
    pub errors: u64,
}

impl DeviceStatus {
    /// What is wrong, in the words that say most: without a connection why there is none, with one
    /// what the device itself complains of.
    pub fn why(&self) -> Option<&str> {
        let (first, second) = match self.state {
            DeviceState::Down => (&self.down, &self.trouble),
            DeviceState::Silent | DeviceState::Answering => (&self.trouble, &self.down),
        };
        first.as_deref().or(second.as_deref())
    }

    /// Before the owner has done anything.
    pub(super) fn before(plan: &DevicePlan) -> Self {
        Self {
            source: plan.source.clone(),
            protocol: plan.protocol.name,
            state: DeviceState::Down,
            down: Some("opening".to_owned()),
            trouble: None,
            last_answer: None,
            errors: 0,
        }
    }
}
