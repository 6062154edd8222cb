//! The thread that owns the engine: two queues in, and what was gathered for it, safety first;
//! commands out before anything else; the rest into queues that never make it wait.
//!
//! At most [`DELIVERIES_PER_STEP`] deliveries of the telemetry queue and as many of what was gathered
//! are taken before the urgent queue and the clock are looked at again.

use std::sync::Arc;
use std::thread::JoinHandle;

use andon_engine::engine::{Refusal, TICK};
use andon_engine::time::BootTime;
use andon_engine::{Engine, Input, Output};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::bus::{Delivery, Gather};
use crate::clock;
use crate::config::plan::Plan;
use crate::diagnostics::Progress;
use crate::http::Feed;
use crate::journal::{Journal, Observation, Payload};
use crate::outputs::Outputs;
use crate::run::diary::Pen;
use crate::run::distinct::Distinct;

/// Deliveries taken in one go before the urgent queue is looked at again; one delivery is the
/// items of one machine, at most a few dozen readings.
const DELIVERIES_PER_STEP: usize = 32;

/// Room for replies, operators' words and the clock. They are few; a full queue is a defect.
pub const URGENT_QUEUE: usize = 256;

/// Room for deliveries of all buses; a full queue slows the polling down.
pub const TELEMETRY_QUEUE: usize = 256;

/// The queue of telemetry, and what was gathered with places in it.
pub type Readings = (mpsc::Receiver<Delivery>, Arc<Gather>);

/// What must not wait behind telemetry.
pub enum Urgent {
    /// A reply of an output.
    Input(Input),
    /// A person's word, with the way back for the answer.
    Operator(Input, oneshot::Sender<Answer>),
    /// An event that is not the engine's: the clock's.
    Event(andon_engine::event::Event),
    /// The end: everything up to here is stepped, then the thread stops.
    Stop,
}

/// What becomes of a person's word: a refusal, or it is done, and the receiver tells when a restart
/// would not undo it.
pub type Answer = Result<oneshot::Receiver<()>, Refusal>;

/// Where the engine's outputs go.
pub struct Sinks {
    /// The journal, from which MQTT, store, history and hours are fed.
    pub journal: Arc<Journal>,
    /// The board; it never makes this thread wait.
    pub board: Feed,
    /// The log; it never makes this thread wait either.
    pub diary: Pen,
    /// The trip outputs.
    pub outputs: Outputs,
    /// Where it is counted what the thread does.
    pub progress: Arc<Progress>,
}

/// Starts the thread.
///
/// # Errors
/// When the system refuses a thread or a timer.
pub fn start(
    engine: Engine,
    plan: Arc<Plan>,
    urgent: mpsc::Receiver<Urgent>,
    readings: Readings,
    sinks: Sinks,
) -> std::io::Result<Thread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (alive, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
        // Dropped when the thread ends, in whatever way: whoever waits for it then knows.
        let _alive: oneshot::Sender<()> = alive;
        let distinct = Distinct::new(plan.engine.items.len());
        let (out, done) = (Vec::new(), Vec::new());
        let shell = Shell { engine, plan, distinct, sinks, out, began: None, done };
        runtime.block_on(shell.run(urgent, readings));
    })?;
    Ok(Thread { thread, ended })
}

/// The running thread.
pub struct Thread {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Resolves when the thread has ended, by [`Urgent::Stop`] or by a panic.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: only the end of the sender counts.
        (&mut self.ended).await.ok();
    }

    /// Waits for the thread. Returns whether it ended without a panic.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

struct Shell {
    engine: Engine,
    plan: Arc<Plan>,
    distinct: Distinct,
    sinks: Sinks,
    out: Vec<Output>,
    /// When the turn under way began.
    began: Option<BootTime>,
    /// Those whose word was done in this turn.
    done: Vec<oneshot::Sender<Answer>>,
}

impl Shell {
    async fn run(mut self, mut urgent: mpsc::Receiver<Urgent>, (mut telemetry, gather): Readings) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut fed = true;
        let mut deliveries = Vec::with_capacity(DELIVERIES_PER_STEP);
        let mut gathered = Vec::with_capacity(DELIVERIES_PER_STEP);
        // What a restored state demands (an output that was tripped) leaves before anything else.
        self.step(Input::Tick);
        self.dispatch();
        loop {
            tokio::select! {
                biased;
                word = urgent.recv() => match word {
                    Some(Urgent::Stop) | None => break,
                    Some(word) => self.hear(word),
                },
                _ = tick.tick() => self.step(Input::Tick),
                count = telemetry.recv_many(&mut deliveries, DELIVERIES_PER_STEP), if fed => {
                    // No bus is left, or there never was one: what is known grows old, and stops
                    // stand as they stood.
                    fed = count > 0;
                    // However much comes this way, what was gathered has its turn.
                    gather.take_ripe(DELIVERIES_PER_STEP, &mut deliveries);
                    deliveries.drain(..).for_each(|delivery| self.take(delivery));
                }
                () = gather.take(DELIVERIES_PER_STEP, &mut gathered) => {
                    gathered.drain(..).for_each(|delivery| self.take(delivery));
                }
            }
            self.dispatch();
        }
        while let Ok(delivery) = telemetry.try_recv() {
            self.take(delivery);
        }
        gather.take_all().into_iter().for_each(|delivery| self.take(delivery));
        self.dispatch();
    }

    fn take(&mut self, Delivery { at, readings }: Delivery) {
        self.sinks.progress.count(readings.len());
        self.step(Input::Readings { at, readings });
    }

    fn hear(&mut self, word: Urgent) {
        match word {
            Urgent::Input(input) => self.step(input),
            Urgent::Operator(input, answer) => {
                let before = self.out.len();
                self.step(input);
                let refusal = self.out[before..].iter().find_map(|output| match output {
                    Output::Refused(refusal) => Some(refusal.clone()),
                    _ => None,
                });
                match refusal {
                    // The asker may have gone: nothing was done.
                    Some(refusal) => drop(answer.send(Err(refusal))),
                    None => self.done.push(answer),
                }
            }
            Urgent::Event(event) => self.out.push(Output::Event(event)),
            Urgent::Stop => {}
        }
    }

    fn step(&mut self, input: Input) {
        let now = clock::boot_now();
        self.began.get_or_insert(now);
        self.engine.step(now, input, &mut self.out);
    }

    /// Sends off what the steps produced: commands first, then the journal, then the board.
    fn dispatch(&mut self) {
        for output in &self.out {
            if let Output::Command(command) = output {
                self.sinks.outputs.carry_out(*command);
            }
        }
        let Self { plan, distinct, out, .. } = self;
        let records: Vec<Payload> =
            out.iter().filter_map(|out| record(plan, distinct, out)).collect();
        let (mut waiting, mut told) = (Vec::new(), Vec::new());
        for answer in self.done.drain(..) {
            let (tell, synced) = oneshot::channel();
            waiting.push(tell);
            told.push((answer, synced));
        }
        if !records.is_empty() || !waiting.is_empty() {
            self.sinks.journal.append_for(records, waiting);
        }
        for (answer, synced) in told {
            // The asker may have gone; what was done is done and on its way to the disk.
            answer.send(Ok(synced)).ok();
        }
        self.sinks.diary.note(&self.out);
        let batch: Arc<[Output]> = self.out.drain(..).collect();
        let now = clock::boot_now();
        self.sinks.board.step(now, &batch);
        if let Some(began) = self.began.take() {
            self.sinks.progress.turned(now.since(began));
        }
    }
}

/// What the journal has of an output.
fn record(plan: &Plan, distinct: &mut Distinct, output: &Output) -> Option<Payload> {
    match output {
        Output::Observation { machine, at, items } => {
            let at = distinct.moment(*at, items);
            let machine = plan.engine.machines[usize::from(machine.0)].id.clone();
            let name = |index: usize| plan.engine.items[index].item.name.clone();
            let items = items.iter();
            let items = items.map(|(item, value)| (name(item.0 as usize), value.clone())).collect();
            Some(Payload::Observation(Observation { machine, at, items }))
        }
        Output::Event(event) => Some(Payload::Event(event.clone())),
        Output::Command(_) | Output::Refused(_) => None,
    }
}
