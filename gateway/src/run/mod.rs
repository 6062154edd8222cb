//! Starting and stopping the gateway, in the order that keeps its promises.
//!
//! Start: journal and its past → engine with what was latched → buses, devices → board, MQTT,
//! recorder.
//! Nothing here waits for a device, a broker or a store: all of them may be absent. Stop: the
//! engine steps what it has been given, buses and devices send what waits, the journal is written;
//! what is not delivered yet stays in it.

mod diary;
mod distinct;
pub mod engine_thread;
mod past;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use andon_engine::event::Event;
use andon_engine::time::BootTime;
use andon_engine::{Engine, Input};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle as Task;

use crate::bus;
use crate::bus::device::start_device;
use crate::clock::{self, Anchors};
use crate::config::plan::Plan;
use crate::diagnostics::{self, Collector, Progress};
use crate::history::{self, Recent};
use crate::http::{self, App, Hub, Moment, Order, Token};
use crate::journal::{self, BootId, Journal, Payload, Stream};
use crate::lock::FolderLock;
use crate::mqtt::{self, MqttHandle, WallClock};
use crate::outputs::Outputs;
use crate::recorder::embedded::{self, EmbeddedHandle, EmbeddedInputs};

use engine_thread::{Sinks, TELEMETRY_QUEUE, URGENT_QUEUE, Urgent};
use past::Past;
use watch::{Clock, Watch};

pub use watch::Lines;

/// How long buses and devices may take to send the writes and stops that wait.
const BUSES_STOP_WITHIN: Duration = Duration::from_secs(3);

/// How long the board's connections may take to end.
const BOARD_STOPS_WITHIN: Duration = Duration::from_secs(3);

/// How long a person's word may take to be on the disk; shorter than the board's patience with it.
const SYNCED_WITHIN: Duration = Duration::from_secs(2);

/// A running gateway.
pub struct Gateway {
    board: SocketAddr,
    journal: Arc<Journal>,
    urgent: mpsc::Sender<Urgent>,
    engine: engine_thread::Thread,
    parts: Parts,
    lines: Lines,
    stop: channel::Sender<bool>,
    tasks: Vec<Task<()>>,
    /// Held until everything else has ended.
    _lock: FolderLock,
}

/// What reads the journal.
struct Parts {
    mqtt: Option<MqttHandle>,
    store: Option<EmbeddedHandle>,
    history: history::Handle,
}

impl Parts {
    fn start(
        plan: &Arc<Plan>,
        (boot, started): (BootId, BootTime),
        journal: &Arc<Journal>,
        anchors: &SharedAnchors,
        lines: &Lines,
    ) -> anyhow::Result<Self> {
        let wall = &wall_clock(anchors.clone());
        let inputs = history::Inputs::of_plan(plan, (boot, started), journal, wall);
        let history = history::start(inputs)?;
        let telling = history.telling();
        let health = watch::health(plan.clone(), journal.clone(), telling, lines.clone());
        let mqtt = start_mqtt(plan, boot, journal, wall, health)?;
        let store = start_store(plan, boot, journal, wall)?;
        Ok(Self { mqtt, store, history })
    }

    async fn stop(self) {
        if let Some(mqtt) = self.mqtt {
            mqtt.stop().await;
        }
        if let Some(store) = self.store {
            store.stop().await;
        }
        // It may be in the middle of a merge.
        let history = self.history;
        tokio::task::spawn_blocking(move || history.stop()).await.unwrap_or(());
    }
}

/// The clock's anchors, shared between the one that notes them and those that read.
type SharedAnchors = Arc<RwLock<Anchors>>;

impl Gateway {
    /// Starts everything that the plan names, in the boot `boot`: [`clock::boot_id`], or a new
    /// one for a gateway whose journal does not outlive it.
    ///
    /// # Errors
    /// When another process uses the state folder, the journal cannot be opened, the board's
    /// address is taken, or the system has no thread left. Devices, broker and store may all be
    /// absent.
    pub async fn start(plan: Plan, boot: BootId) -> anyhow::Result<Self> {
        let plan = Arc::new(plan);
        let lock = FolderLock::take(&plan.state_dir, "lock")?;
        let (listener, board) = listen(plan.http.listen).await?;
        let started = clock::boot_now();
        let (boot, journal) = open_journal(&plan, boot)?;
        let past = Past::of(&journal).context("the journal's past cannot be read")?;
        past.tell_void(&plan);
        journal.append(past.opening(&plan, started));
        let anchors: SharedAnchors = Arc::new(RwLock::new(past.anchors().clone()));

        let (urgent, urgent_words) = mpsc::channel(URGENT_QUEUE);
        let (lines, sink, readings) = start_lines(&plan)?;
        let queues = (sink, urgent.downgrade());
        let progress = Arc::new(Progress::default());
        let outputs = Outputs::new(plan.outputs.clone(), lines.clone(), urgent.clone());

        let (status, statuses) = channel::channel(http::Status::new(&plan));
        let now = board_clock(anchors.clone(), boot);
        let wall_ms = believable_wall_ms(&plan, past.anchors(), boot, started);
        let picture = past.picture(&plan, boot, started, wall_ms);
        let (hub, feed, handle) = Hub::new(picture, Recent::new(&plan), statuses, now.clone());
        let engine = Engine::new(Arc::clone(&plan.engine), past.restored(boot, started, wall_ms));
        let (diary, written) = diary::open();
        let progressing = progress.clone();
        let sinks =
            Sinks { journal: journal.clone(), board: feed, diary, outputs, progress: progressing };
        let engine = engine_thread::start(engine, plan.clone(), urgent_words, readings, sinks)?;

        let parts = Parts::start(&plan, (boot, started), &journal, &anchors, &lines)?;
        let (stop, stopped) = channel::channel(false);
        let collector = Collector::new(diagnostics::Parts {
            plan: plan.clone(),
            boot,
            started,
            lines: lines.clone(),
            progress: progress.clone(),
            telemetry: queues.0,
            urgent: queues.1,
            journal: Arc::downgrade(&journal),
            history: Some(parts.history.telling()),
            mqtt: parts.mqtt.as_ref().map(MqttHandle::watch),
            store: parts.store.as_ref().map(EmbeddedHandle::watch),
        });
        let told = (handle.clone(), parts.history.archive(), collector, now);
        let app = app(&plan, told, urgent.clone(), board)?;
        let watch = Watch {
            clock: Clock::new(boot, past.anchors(), plan.trust_wall),
            anchors,
            urgent: urgent.clone(),
            written: journal.follow(Stream::Events, journal.newest(Stream::Events)),
            status,
            journal: journal.clone(),
            lines: lines.clone(),
            progress,
            mqtt: parts.mqtt.as_ref().map(MqttHandle::watch),
            store: parts.store.as_ref().map(EmbeddedHandle::watch),
        };
        let restore = past.telemetry_of_the_last_hour(&journal);
        let tasks = vec![
            tokio::spawn(hub.run()),
            tokio::spawn(written),
            tokio::spawn(watch.run(stopped.clone())),
            tokio::spawn(http::serve(listener, app, ends(stopped))),
            // The hub is gone only when the gateway is.
            tokio::spawn(
                async move { handle.restore_from(restore, boot, started).await.unwrap_or(()) },
            ),
        ];
        Ok(Self { board, journal, urgent, engine, parts, lines, stop, tasks, _lock: lock })
    }

    /// Where the board is.
    pub fn board(&self) -> SocketAddr {
        self.board
    }

    /// The journal, for whoever wants to follow it.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Resolves when the engine has ended although nobody asked it to. Without it there are no
    /// rules and no stops: the process must end, and be started again.
    pub async fn engine_ended(&mut self) {
        self.engine.ended().await;
    }

    /// Stops in an orderly way: what was read is in the journal, synced, but for the readings of the
    /// last few milliseconds that were still being gathered; what is not delivered yet is delivered
    /// after the next start.
    pub async fn stop(self) {
        // The engine's thread ends when it hears this; its bus handles go with it.
        if self.urgent.send(Urgent::Stop).await.is_err() {
            tracing::error!("The engine's thread had ended already.");
        }
        let engine = self.engine;
        if !tokio::task::spawn_blocking(move || engine.join()).await.unwrap_or(false) {
            tracing::error!("The engine's thread has panicked.");
        }
        // With the engine's queue gone the buses send what waits, and end.
        let ended = async {
            for bus in self.lines.buses.iter() {
                bus.ended().await;
            }
            for device in self.lines.devices.iter() {
                device.ended().await;
            }
        };
        if tokio::time::timeout(BUSES_STOP_WITHIN, ended).await.is_err() {
            tracing::warn!("A bus or device is still busy; it is left behind.");
        }
        self.journal.append(vec![Payload::Event(Event::Stopped { at: clock::boot_now() })]);
        self.parts.stop().await;
        self.stop.send_replace(true);
        for task in self.tasks {
            let abort = task.abort_handle();
            if tokio::time::timeout(BOARD_STOPS_WITHIN, task).await.is_err() {
                abort.abort();
            }
        }
        // The last holder of the journal writes and syncs it.
        drop(self.journal);
    }
}

/// The board's socket and where it is.
async fn listen(at: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(at).await;
    let listener = listener.with_context(|| format!("the board cannot listen on {at}"))?;
    let board = listener.local_addr()?;
    Ok((listener, board))
}

/// The journal, and the boot that its records will belong to.
fn open_journal(plan: &Plan, boot: BootId) -> anyhow::Result<(BootId, Arc<Journal>)> {
    let dir = plan.state_dir.join("journal");
    let boot = journal::boot_in(&dir, boot);
    let journal = Journal::open(&dir, &plan.journal, boot)
        .with_context(|| format!("the journal in {} cannot be opened", dir.display()))?;
    Ok((boot, Arc::new(journal)))
}

/// What the routes need.
fn app(
    plan: &Plan,
    (hub, archive, collector, now): (http::Handle, history::Archive, Collector, http::Now),
    urgent: mpsc::Sender<Urgent>,
    board: SocketAddr,
) -> anyhow::Result<App> {
    Ok(App {
        hub,
        archive,
        collector,
        now,
        token: Token::open(&plan.state_dir).context("the operator's token cannot be kept")?,
        commands: commands(urgent),
        rules: plan.engine.rules.iter().map(|rule| rule.id.clone()).collect(),
        zone: TimeZone::get(&plan.site.time_zone).context("the site's time zone")?,
        loopback: board.ip().is_loopback(),
        names: Vec::new(),
    })
}

/// The wall time of the start: by an anchor of this boot, or by a clock that is to be believed.
fn believable_wall_ms(
    plan: &Plan,
    anchors: &Anchors,
    boot: BootId,
    started: BootTime,
) -> Option<i64> {
    let believed = || plan.trust_wall || clock::synchronised();
    anchors.wall_ms(&boot, started).or_else(|| believed().then(clock::wall_now_ms))
}

/// Starts whatever readings come from: buses, and devices with a protocol of their own; with the
/// queue that they end in.
fn start_lines(
    plan: &Plan,
) -> std::io::Result<(Lines, mpsc::WeakSender<bus::Delivery>, engine_thread::Readings)> {
    let (sink, telemetry) = mpsc::channel(TELEMETRY_QUEUE);
    let shared = bus::Runtime::start()?;
    let start = |bus| bus::start(bus, &plan.engine, &plan.state_dir, sink.clone(), &shared);
    let buses = plan.buses.iter().map(start).collect::<Result<_, _>>()?;
    let start = |device| {
        let (sink, dir) = (sink.clone(), &plan.state_dir);
        start_device(device, &plan.brokers, &plan.engine, dir, sink, &shared)
    };
    let devices = plan.devices.iter().map(start).collect::<Result<_, _>>()?;
    Ok((Lines { buses, devices }, sink.downgrade(), (telemetry, shared.gathered())))
}

fn board_clock(anchors: SharedAnchors, boot: BootId) -> http::Now {
    Arc::new(move || {
        let now = clock::boot_now();
        let anchors = anchors.read().unwrap_or_else(PoisonError::into_inner);
        Moment { boot: now, wall_ms: anchors.wall_ms(&boot, now) }
    })
}

fn wall_clock(anchors: SharedAnchors) -> WallClock {
    Arc::new(move |boot: &BootId, at: BootTime| {
        anchors.read().unwrap_or_else(PoisonError::into_inner).settled_ms(boot, at)
    })
}

fn start_mqtt(
    plan: &Arc<Plan>,
    boot: BootId,
    journal: &Arc<Journal>,
    wall: &WallClock,
    health: mqtt::Health,
) -> anyhow::Result<Option<MqttHandle>> {
    let Some(broker) = &plan.mqtt else { return Ok(None) };
    let inputs = mqtt::Inputs {
        mqtt: broker.clone(),
        plan: plan.clone(),
        boot,
        journal: journal.clone(),
        wall: wall.clone(),
        now: Arc::new(clock::boot_now),
        health,
        pace: mqtt::Pace::default(),
    };
    mqtt::start(inputs).map(Some)
}

fn start_store(
    plan: &Plan,
    boot: BootId,
    journal: &Arc<Journal>,
    wall: &WallClock,
) -> anyhow::Result<Option<EmbeddedHandle>> {
    let Some(store) = &plan.store else { return Ok(None) };
    let inputs = EmbeddedInputs {
        store: store.clone(),
        site: plan.site.id.clone(),
        boot,
        journal: journal.clone(),
        wall: wall.clone(),
        dead_letters: plan.state_dir.join("dead-letters.lp"),
    };
    embedded::start(inputs).map(Some)
}

/// The way of a person's word to the engine and back.
fn commands(urgent: mpsc::Sender<Urgent>) -> http::Commands {
    Arc::new(move |command: http::Command| {
        let http::Command { rule, by, order } = command;
        let input = match order {
            Order::Acknowledge => Input::Acknowledge { rule, by },
            Order::Reset { reason } => Input::Reset { rule, by, reason },
        };
        let urgent = urgent.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let sent = urgent.try_send(Urgent::Operator(input, answer));
            sent.map_err(|_| http::Refusal::Busy)?;
            let outcome = answered.await.map_err(|_| http::Refusal::Busy)?;
            let synced = outcome.map_err(|no| http::Refusal::Refused(no.why.into()))?;
            let synced = tokio::time::timeout(SYNCED_WITHIN, synced).await;
            if matches!(synced, Ok(Ok(()))) { Ok(()) } else { Err(http::Refusal::Unwritten) }
        })
    })
}

/// Resolves when the gateway stops.
async fn ends(mut stopped: channel::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    stopped.wait_for(|stop| *stop).await.ok();
}
