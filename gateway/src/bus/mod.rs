//! The buses: one owner per serial line or TCP connection. It alone opens, asks, checks, waits and
//! opens again; readings leave through a [`Sink`], writes come in through a [`BusHandle`].
//!
//! Reading order: `timing` (how long things take), `unit` (who is worth asking), `scheduler` (what
//! is next), `group` (what is due together), `reads` (what is then asked) with `gaps` (what it is
//! asked for around, and when that is doubted), `transaction` (one checked `question`) with `wait`
//! (for how long), `mbap` (Modbus TCP), `sieve` (its late answers) and `dialect` (those that are no
//! Modbus), `transport`, `port` (who else has it) and `link` (the stream), `owner` (the loop),
//! `rounds` (one read of a round), `asking` (what follows from a reply), `gather` (readings on their
//! way); `memory` (what outlives a restart), `words` and `status` (what it tells), `load` (what it
//! will be asked). Nothing here knows rules or topics, and only `memory` a disk.
//!
//! Bounds: a dead unit costs at most its share of the bus (`unit`), and nobody waits for more than
//! `wait::HOLD_MAX` (3 s) at a time because of it. A write goes out after those before it, and after
//! the frame on the wire: that is its answer, or its allowance (half a second unless configured) without
//! one, and the drain, of as much again after a failure and twice that after an answer that may have
//! been a late one. The write queue holds [`WRITES_MAX`].

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use andon_engine::engine::Reply;
use andon_engine::plan::{ItemIndex, Plan};
use andon_engine::time::BootTime;
use andon_engine::value::Measured;
use tokio::sync::{mpsc, watch};

use crate::config::plan::{BusPlan, Link};
use memory::Memory;

mod asking;
pub mod device;
mod dialect;
mod gaps;
mod gather;
mod group;
mod inquiry;
mod link;
pub mod load;
mod mbap;
pub mod memory;
mod owner;
mod pause;
mod port;
mod probe;
mod question;
mod reads;
mod rounds;
pub mod scheduler;
mod setting;
mod sieve;
mod skips;
pub mod status;
pub mod timing;
mod transaction;
mod transport;
pub mod unit;
mod wait;
mod words;

#[cfg(test)]
mod tests;

pub use gather::Gather;
pub use inquiry::Inquiry;
pub use probe::{RawReading, probe_once};
pub use question::Fault;
pub use setting::Setter;
pub use status::Status;
pub use words::{LastWords, WORDS_MAX};

/// Writes that may wait. A trip is one write per attempt; more than this waiting means that the
/// bus is dead, and the next is better refused than late.
pub const WRITES_MAX: usize = 64;

/// Readings of one machine, sampled at one moment: the engine's `Input::Readings`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The sample's moment; not later than now.
    pub at: BootTime,
    /// The items of one machine.
    pub readings: Vec<(ItemIndex, Measured)>,
}

/// Where readings go. Bounded and awaited: polling slows when the engine is behind.
pub type Sink = mpsc::Sender<Delivery>;

/// A command to a coil.
pub struct WriteCoil {
    /// Position in the bus plan's `units`.
    pub unit: usize,
    /// Coil address, 0-based.
    pub coil: u16,
    /// What it is to be.
    pub value: bool,
    /// Called with [`Reply::Echoed`] and then [`Reply::ReadBack`], or with [`Reply::Failed`] in
    /// the place of either. On the bus's own thread: it must not block.
    pub reply: Box<dyn FnMut(Reply) + Send>,
}

/// A running bus. Its owner ends when the handle is dropped, after the writes that wait.
#[derive(Clone)]
pub struct BusHandle {
    plan: Arc<BusPlan>,
    writes: mpsc::Sender<WriteCoil>,
    status: Arc<Mutex<Status>>,
    memo: words::Memo,
    /// Closed when the owner has ended.
    running: watch::Receiver<()>,
}

impl BusHandle {
    /// Resolves when the owner has ended: nothing more goes out.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent; an error says that the owner's end is gone.
        while running.changed().await.is_ok() {}
    }

    /// Queues a write and returns at once. It goes out before any poll that has not begun. What
    /// is not on the allow-list, or finds the queue full, is answered [`Reply::Failed`] now.
    pub fn write(&self, mut write: WriteCoil) {
        if !owner::is_allowed(&self.plan, &write) {
            (write.reply)(Reply::Failed("this coil is not on the allow-list".into()));
            return;
        }
        if let Err(refused) = self.writes.try_send(write) {
            let (words, mut write) = match refused {
                mpsc::error::TrySendError::Full(write) => ("too many writes are waiting", write),
                mpsc::error::TrySendError::Closed(write) => ("the bus has stopped", write),
            };
            (write.reply)(Reply::Failed(words.into()));
        }
    }

    /// The last snapshot.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What an item (a position in its profile) of a unit (a position in the plan's `units`) was
    /// last read from; `None` when it never was, or is not polled.
    pub fn last_words(&self, unit: usize, item: usize) -> Option<LastWords> {
        self.memo.of(unit, item)
    }
}

/// The thread that the TCP buses and devices without outputs share, and the connections to brokers
/// that several devices share.
#[derive(Clone, Debug)]
pub struct Runtime {
    thread: tokio::runtime::Handle,
    brokers: Arc<Mutex<HashMap<Arc<str>, device::SharedBroker>>>,
    /// What follows the gateway's client ids at brokers: a broker has room for one client of a
    /// name, and lets the newer one in.
    suffix: Arc<str>,
    /// Readings of its buses on their way to the engine.
    gather: Arc<Gather>,
}

impl Runtime {
    /// Starts the thread. It lives as long as the process.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn start() -> io::Result<Self> {
        Self::named("")
    }

    /// The same for a program that may run beside the gateway, under names of its own.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_beside() -> io::Result<Self> {
        Self::named(&format!("-{}", std::process::id()))
    }

    fn named(suffix: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = runtime.handle().clone();
        let gather = Arc::new(Gather::default());
        let running = Arc::clone(&gather);
        std::thread::Builder::new()
            .name("buses".to_owned())
            .spawn(move || runtime.block_on(running.run()))?;
        Ok(Self { thread, brokers: Arc::default(), suffix: suffix.into(), gather })
    }

    /// Readings of its buses that do not come through the sink, though they have places in it.
    pub fn gathered(&self) -> Arc<Gather> {
        Arc::clone(&self.gather)
    }
}

/// Starts the owner of a bus: on a thread of its own when it is a serial line or carries trip
/// outputs, else on `shared`, which gathers what it reads. Whether anything is connected does not
/// matter. What it learns of its devices it remembers below `dir`.
///
/// # Errors
/// When the system has no thread or descriptor left.
pub fn start(
    plan: &Arc<BusPlan>,
    engine: &Arc<Plan>,
    dir: &Path,
    sink: Sink,
    shared: &Runtime,
) -> io::Result<BusHandle> {
    let opener = transport::opener(&plan.link);
    let memory = Memory::load(dir, plan);
    let own_thread = plan.carries_trips() || matches!(plan.link, Link::Rtu { .. });
    if !own_thread {
        let sink = (sink, Some(Arc::clone(&shared.gather)));
        let (handle, running) = prepare(plan, engine, sink, opener, memory);
        shared.thread.spawn(running);
        return Ok(handle);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, running) = prepare(plan, engine, (sink, None), opener, memory);
    std::thread::Builder::new()
        .name(format!("bus {}", plan.id))
        .spawn(move || runtime.block_on(running))?;
    Ok(handle)
}

fn prepare(
    plan: &Arc<BusPlan>,
    engine: &Arc<Plan>,
    sink: (Sink, Option<Arc<Gather>>),
    opener: transport::Opener,
    memory: Memory,
) -> (BusHandle, impl Future<Output = ()> + Send + use<>) {
    let plan = Arc::clone(plan);
    let (writes, waiting) = mpsc::channel(WRITES_MAX);
    let status = Arc::new(Mutex::new(Status::before(&plan)));
    let machines = group::Machines::of_plan(engine);
    let memo = words::Memo::new(&plan);
    let shared = (status.clone(), memo.clone());
    let bus = plan.clone();
    let (alive, running) = watch::channel(());
    // The owner is built where it runs: it takes the runtime's time.
    let owner = async move {
        let _alive = alive;
        owner::Owner::new(&bus, machines, sink, waiting, shared, opener, memory).run().await;
    };
    (BusHandle { plan, writes, status, memo, running }, owner)
}
