//! Carries the engine's commands to the bus or device: which coil or stop an output is, and how its
//! replies find their way back. It decides nothing; the trip's states are the engine's.
//!
//! Runs on the engine's thread and never waits: the bus's write queue and the reply queue are
//! bounded, and a command that finds no room fails at once, which the engine's own deadline then
//! tries again.

use andon_engine::Input;
use andon_engine::engine::{Act, Command, Reply};
use tokio::sync::mpsc;

use crate::bus::WriteCoil;
use crate::config::plan::{OutputPlan, OutputTarget};
use crate::run::Lines;
use crate::run::engine_thread::Urgent;

/// All trip outputs with the buses and devices that they hang on.
pub struct Outputs {
    outputs: Vec<OutputPlan>,
    lines: Lines,
    replies: mpsc::Sender<Urgent>,
}

impl Outputs {
    /// Outputs in the order of the engine's trips; replies go into the engine's urgent queue.
    pub fn new(outputs: Vec<OutputPlan>, lines: Lines, replies: mpsc::Sender<Urgent>) -> Self {
        Self { outputs, lines, replies }
    }

    /// Sends a command on its way.
    pub fn carry_out(&self, command: Command) {
        let Command { trip, attempt, act } = command;
        let output = &self.outputs[usize::from(trip.0)];
        let replies = self.replies.clone();
        let reply = move |reply: Reply| {
            let input = Input::Reply { trip, attempt, reply };
            // A full queue loses the reply; the engine's attempt deadline then asks again.
            if replies.try_send(Urgent::Input(input)).is_err() {
                tracing::error!("The engine's urgent queue is full; a reply of an output is lost.");
            }
        };
        match output.target {
            OutputTarget::Coil { bus, unit, coil, tripped } => {
                let value = (act == Act::Trip) == tripped;
                let reply = Box::new(reply);
                self.lines.buses[bus].write(WriteCoil { unit, coil, value, reply });
            }
            OutputTarget::Stop { device, stop } if act == Act::Trip => {
                self.lines.devices[device].stop(stop, Box::new(reply));
            }
            // A controller's stop is undone at the controller; the configuration's check lets no
            // reset ask for it.
            OutputTarget::Stop { .. } => {
                reply(Reply::Failed("this stop is undone at the controller".into()));
            }
        }
    }
}
