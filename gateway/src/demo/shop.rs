//! The simulated devices of the demo: which device shows which part of the world, on which line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use andon_adapters::profile::{Library, Profile};
use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::STEP;
use super::narrator::Stage;
use super::world::{Happening, LOADS, World};
use crate::simulate::{Bench, Device, Fault};

/// Loads with a meter at the panel, by unit: the first of [`LOADS`].
const PANEL_METERS: u8 = 6;
/// The relay board and the water's thermometer at the panel.
const RELAYS: u8 = 10;
const WATER: u8 = 11;
/// The drill press's meter on the wood shop's line.
const DRILL_PRESS: u8 = 3;
/// The laser's contactor.
const CONTACTOR: u16 = 0;
/// The line's speed; its bytes are paced to it.
const BAUD: u32 = 19_200;
