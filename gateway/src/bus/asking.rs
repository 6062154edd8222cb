//! What the owner asks, and what follows from the reply: drain or reopen, the unit's state, bus
//! time; and a coil's write with its echo and read-back. When to ask is `owner`'s matter.

use andon_adapters::modbus::{Block, Table};
use andon_engine::engine::Reply;
use andon_engine::value::Unavailable;
use tokio::time::{Instant, timeout};

use super::WriteCoil;
use super::link::PATIENCE;
use super::owner::{Owner, is_allowed};
use super::transaction::{Answer, Ask, Fault, Framing};

impl Owner {
    /// Reads a block; first once more the one that failed last, when that is another.
    pub(super) async fn read(&mut self, unit: usize, block: Block) -> Result<Answer, Fault> {
        if let Some((fence, _)) = self.units[unit].fence
            && fence != block
        {
            self.units[unit].counters.retries += 1;
            match self.ask(unit, Ask::Read(fence)).await {
                Ok(_) | Err(Fault::Exception(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.ask(unit, Ask::Read(block)).await
    }

    /// One transaction with everything that follows from it.
    async fn ask(&mut self, index: usize, ask: Ask) -> Result<Answer, Fault> {
        let begun = Instant::now();
        let timing = self.link.timing();
        let framing = self.link.framing();
        let unit = &mut self.units[index];
        let Some(connection) = self.link.connection() else {
            unit.why = Unavailable::Disconnected;
            return Err(Fault::Disconnected);
        };
        let allowance = unit.turnaround.allowance();
        let outcome = connection.ask(unit.plan.station, ask, allowance).await;
        unit.counters.count(outcome.result.as_ref().err().copied());
        let mut alive = true;
        let mut reopen = None;
        match outcome.result {
            Ok(_) | Err(Fault::Exception(..0x0A | 0x0C..)) => {
                unit.turnaround.in_time(outcome.taken);
                if framing == Framing::Rtu
                    && matches!(ask, Ask::Read(_))
                    && let Some((_, asked)) = unit.fence.take()
                {
                    // The answer may have been the late one; then the other is still to come.
                    let quiet = asked.elapsed().min(2 * allowance);
                    let recovered = Box::pin(connection.recover(&outcome, quiet)).await;
                    reopen = recovered.err().map(|_| connection_ended(framing));
                }
            }
            Err(Fault::Exception(_)) => {
                unit.why = Unavailable::Timeout;
                alive = false;
            }
            Err(Fault::Timeout | Fault::Garbled) => {
                alive = false;
                if outcome.result == Err(Fault::Timeout) {
                    unit.why = Unavailable::Timeout;
                    unit.turnaround.silent();
                } else {
                    unit.why = Unavailable::Garbled;
                }
                let exchange = match ask {
                    Ask::Read(block) => timing.read_time(block, allowance),
                    Ask::WriteCoil { .. } | Ask::WriteRegisters(_) => {
                        timing.wire(ask.wire_bytes()) + allowance
                    }
                };
                // Boxed: it is rare, and the room for it would be moved with every question.
                match Box::pin(connection.recover(&outcome, exchange)).await {
                    Ok(late) => {
                        if let Some(late) = late {
                            unit.counters.late += 1;
                            unit.turnaround.answered(late);
                        }
                        if let Ask::Read(block) = ask {
                            unit.fence = Some((block, outcome.sent));
                        }
                    }
                    Err(_) => reopen = Some(connection_ended(framing)),
                }
            }
            Err(Fault::Disconnected) => {
                unit.why = Unavailable::Disconnected;
                reopen = Some(true);
            }
        }
        self.strays += connection.take_strays();
        self.conclude(index, &outcome.result, alive, begun);
        if let Some(gone) = reopen {
            self.link.drop_connection(gone);
        }
        outcome.result
    }

    /// Books the transaction: bus time, the unit's state.
    fn conclude(
        &mut self,
        index: usize,
        result: &Result<Answer, Fault>,
        alive: bool,
        begun: Instant,
    ) {
        let over = Instant::now();
        let (now, cost) = (self.time_at(over), over - begun);
        self.occupancy.add(now, cost);
        let bus = &self.plan.id;
        let unit = &mut self.units[index];
        let source = &unit.plan.source;
        if !alive {
            self.failed += cost;
            if std::mem::take(&mut unit.grace) {
                return;
            }
            if unit.health.missed(now, cost) {
                tracing::warn!(%bus, unit = %source, error = %unit.why, "a unit is lost");
            }
        } else if *result != Err(Fault::Disconnected) {
            unit.grace = false;
            if unit.last_answer.replace(now).is_none() && unit.remembered.is_none() {
                self.memory.measured(now);
            }
            self.link.answered();
            if unit.health.answered() {
                tracing::info!(%bus, unit = %source, "a unit is back");
            }
        }
    }

    /// Writes a coil, checks the echo, reads it back, and says so at each step.
    pub(super) async fn write(&mut self, mut write: WriteCoil) {
        let outcome = self.try_write(&mut write).await;
        if let Err(words) = outcome {
            (write.reply)(Reply::Failed(words.into()));
        }
        self.publish();
    }

    async fn try_write(&mut self, write: &mut WriteCoil) -> Result<(), &'static str> {
        if !is_allowed(&self.plan, write) {
            return Err("this coil is not on the allow-list");
        }
        self.wait_for_link().await;
        let ask = Ask::WriteCoil { coil: write.coil, value: write.value };
        let again = self.units[write.unit].grace;
        let mut echo = self.ask(write.unit, ask).await;
        if again && matches!(echo, Err(Fault::Timeout | Fault::Garbled)) {
            self.wait_for_link().await;
            echo = self.ask(write.unit, ask).await;
        }
        echo.map_err(words)?;
        (write.reply)(Reply::Echoed);
        let block = Block { table: Table::Coil, start: write.coil, count: 1 };
        match self.read(write.unit, block).await.map_err(words)? {
            Answer::Bits(bits) if bits.len() == 1 => {
                (write.reply)(Reply::ReadBack(bits[0] == write.value));
                Ok(())
            }
            _ => Err(words(Fault::Garbled)),
        }
    }

    /// A connection that was dropped on purpose is back in a moment.
    async fn wait_for_link(&mut self) {
        if !self.link.is_up()
            && self.link.patience_ends().is_some()
            && let Ok(fresh) = timeout(PATIENCE, self.link.open()).await
        {
            self.opened(fresh);
        }
    }
}

/// A serial port that cannot be drained is lost; a TCP connection is dropped on purpose.
fn connection_ended(framing: Framing) -> bool {
    framing == Framing::Rtu
}

const fn words(fault: Fault) -> &'static str {
    match fault {
        Fault::Timeout => "the device did not answer",
        Fault::Garbled => "the device's answer was not one to this command",
        Fault::Exception(_) => "the device refused",
        Fault::Disconnected => "the bus is down",
    }
}
