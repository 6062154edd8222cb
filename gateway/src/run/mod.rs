//! Starting and stopping the gateway, in the order that keeps its promises.
//!
//! Start: journal and its past → engine with what was latched → buses → board, MQTT, recorder.
//! Nothing here waits for a device, a broker or a store: everything may be absent. Stop: the
//! buses fall silent, the engine steps what it has been given, the journal is written and synced;
//! what is not delivered yet stays in it.

pub mod engine_thread;
mod restore;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use andon_engine::Engine;
use andon_engine::event::Event;
use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use crate::config::plan::Plan;
use crate::journal::{Journal, Payload, Reader, Stream};
use crate::outputs::Outputs;
use crate::{bus, clock, hours, http, mqtt, recorder};

use engine_thread::{HUB_QUEUE, Sinks, TELEMETRY_QUEUE, URGENT_QUEUE, Urgent};
use restore::Past;

/// How long the tasks may take to end before they are left behind.
const STOP_WITHIN: Duration = Duration::from_secs(5);
