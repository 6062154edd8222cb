//! What the owner asks, and what follows from the reply: drain or reopen, the unit's state, bus
//! time; and a coil's write with its echo and read-back. When to ask is `owner`'s matter.

use std::time::Duration;

use andon_adapters::modbus::{Block, Table};
use andon_engine::engine::Reply;
use andon_engine::value::Unavailable;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::WriteCoil;
use super::link::PATIENCE;
use super::owner::{Owner, Unit, is_allowed};
use super::question::{Answer, Ask, Fault};
use super::sieve::Late;
use super::timing::LineTiming;
use super::transaction::{Connection, Framing, Outcome};
use super::unit::UnitState;
use super::wait::Wait;

impl Unit {
    /// How long its answer is waited for.
    fn wait(&self, ask: Ask) -> Wait {
        let patient = matches!(ask, Ask::Read(_)) && self.health.is_patient();
        let Self { turnaround, .. } = self;
        Wait {
            allowance: turnaround.allowance(),
            longest: if patient { turnaround.patient() } else { turnaround.longest() },
        }
    }

    /// What follows from a reply, or from none: what it says of the unit, and whether the stream is to
    /// be opened anew, with whether it is gone.
    async fn follow(
        &mut self,
        connection: &mut Connection,
        ask: Ask,
        outcome: &Outcome,
        circumstances: Circumstances,
        (framing, timing): (Framing, LineTiming),
    ) -> (Verdict, Option<bool>) {
        let Circumstances { held, proved, urgent } = circumstances;
        let allowance = self.turnaround.allowance();
        self.counters.count(outcome.result.as_ref().err().copied());
        let mut verdict = Verdict::Alive;
        let mut reopen = None;
        let ended = std::mem::take(&mut self.ended);
        match outcome.result {
            Ok(_) | Err(Fault::Exception(..0x0A | 0x0C..)) => {
                if outcome.own {
                    self.turnaround.in_time(outcome.taken);
                    if self.turnaround.is_slow(outcome.taken) {
                        verdict = Verdict::Slow;
                    }
                }
                if framing == Framing::Rtu
                    && matches!(ask, Ask::Read(_))
                    && let Some((_, asked)) = self.fence.take()
                {
                    // The answer may have been the late one; then the other is still to come.
                    let quiet = asked.elapsed().min(2 * allowance);
                    let recovered = Box::pin(connection.recover(outcome, quiet)).await;
                    reopen = recovered.err().map(|_| connection_ended(framing));
                }
            }
            Err(Fault::Exception(_)) => {
                self.why = Unavailable::Timeout;
                verdict = Verdict::Missed;
            }
            Err(fault @ (Fault::Timeout | Fault::Garbled)) => {
                verdict = Verdict::Missed;
                if fault == Fault::Garbled {
                    self.why = Unavailable::Garbled;
                } else {
                    self.why = Unavailable::Timeout;
                    let gave_way = urgent && matches!(self.health.state(), UnitState::Slow { .. });
                    if !outcome.own && held || gave_way {
                        verdict = Verdict::Excused;
                    } else {
                        self.turnaround.silent();
                    }
                }
                let quiet = match ask {
                    Ask::Read(block) => timing.read_time(block, allowance),
                    Ask::WriteCoil { .. } | Ask::WriteRegisters(_) => {
                        timing.wire(ask.wire_bytes()) + allowance
                    }
                };
                // Boxed: it is rare, and the room for it would be moved with every question.
                match Box::pin(connection.recover(outcome, quiet)).await {
                    Ok(late) => self.failed(ask, outcome, late, framing),
                    Err(_) => reopen = Some(connection_ended(framing)),
                }
            }
            Err(Fault::Disconnected) => {
                self.why = Unavailable::Disconnected;
                // Once, that may be anybody's matter: a connection that was idle for long, a gateway
                // that restarts. Again, on a stream that had brought an answer to another, it is this
                // unit's question that ends it.
                self.ended = if framing == Framing::Rtu { 0 } else { ended.saturating_add(1) };
                let again = self.ended > 1 && proved;
                verdict = if again { Verdict::Missed } else { Verdict::Excused };
                reopen = Some(!again);
            }
        }
        (verdict, reopen)
    }

    /// A question got no answer in time, but `late` perhaps, and the stream stays.
    fn failed(&mut self, ask: Ask, outcome: &Outcome, late: Option<Duration>, framing: Framing) {
        if let Some(late) = late {
            self.counters.late += 1;
            self.turnaround.answered(late);
        }
        if framing == Framing::Rtu
            && let Ask::Read(block) = ask
        {
            self.fence = Some((block, outcome.sent));
        }
    }
}

impl Owner {
    /// The read that is to be asked before `block`: the one that failed last, when that is another.
    pub(super) fn fence_before(&self, unit: usize, block: Block) -> Option<Block> {
        let (fence, _) = self.units[unit].fence?;
        (fence != block).then_some(fence)
    }

    /// Reads a block.
    pub(super) async fn read(&mut self, unit: usize, block: Block) -> Result<Answer, Fault> {
        self.ask(unit, Ask::Read(block)).await
    }

    /// One transaction with everything that follows from it.
    async fn ask(&mut self, index: usize, ask: Ask) -> Result<Answer, Fault> {
        let begun = Instant::now();
        let (timing, framing) = (self.link.timing(), self.link.framing());
        let proved = self.link.is_proved();
        let unit = &mut self.units[index];
        let Some(connection) = self.link.connection() else {
            unit.why = Unavailable::Disconnected;
            return Err(Fault::Disconnected);
        };
        let allowance = unit.turnaround.allowance();
        let wait = unit.wait(ask);
        let urgent = write_comes(&mut self.writes, &mut self.urgent);
        let holder = connection.holder().filter(|&holder| holder != index);
        connection.whose = index;
        let outcome = connection.ask_until(unit.plan.station, ask, wait, urgent).await;
        let circumstances =
            Circumstances { held: holder.is_some(), proved, urgent: self.urgent.is_some() };
        let (verdict, reopen) =
            unit.follow(connection, ask, &outcome, circumstances, (framing, timing)).await;
        self.strays += connection.take_strays();
        let late = connection.take_late();
        self.note_late(&late, outcome.sent);
        let held = match (self.units[index].usual(), outcome.own) {
            (_, true) => outcome.held,
            (usual, false) => outcome.taken.saturating_sub(usual.unwrap_or(allowance)),
        };
        let spent = Spent { all: begun.elapsed(), held, holder };
        self.conclude(index, verdict, spent);
        if let Some(gone) = reopen {
            self.link.drop_connection(gone);
            let blamed = if verdict == Verdict::Excused { holder } else { Some(index) };
            self.blamed = blamed.filter(|_| !gone);
        }
        outcome.result
    }

    /// Late answers that were told from the one that was waited for.
    fn note_late(&mut self, late: &[Late], sent: Instant) {
        /// What came sooner after the last question may have lain there for long.
        const FRESH: Duration = Duration::from_millis(5);
        for late in late {
            let Some(unit) = self.units.get_mut(late.whose) else { continue };
            unit.counters.late += 1;
            let from_unit = !matches!(late.exception, Some(0x0A | 0x0B));
            if from_unit && late.free && late.heard >= sent + FRESH {
                unit.turnaround.answered(late.heard - late.sent);
            }
        }
    }

    /// Books the transaction: bus time, the unit's state, and what is owed to whoever held the
    /// gateway meanwhile.
    fn conclude(&mut self, index: usize, verdict: Verdict, spent: Spent) {
        let now = self.now();
        self.occupancy.add(now, spent.all);
        let owed = if verdict == Verdict::Excused { spent.all } else { spent.held };
        let holder = spent.holder.and_then(|holder| self.units.get_mut(holder));
        let cost = match holder.filter(|_| !owed.is_zero()) {
            Some(holder) => {
                holder.health.charge(now, owed);
                spent.all.saturating_sub(owed)
            }
            None => spent.all,
        };
        self.failed += match verdict {
            Verdict::Missed | Verdict::Excused => spent.all,
            Verdict::Alive | Verdict::Slow => spent.all.saturating_sub(cost),
        };
        let bus = &self.plan.id;
        let unit = &mut self.units[index];
        let source = &unit.plan.source;
        match verdict {
            Verdict::Excused => {}
            Verdict::Missed => {
                if !std::mem::take(&mut unit.grace) && unit.health.missed(now, cost) {
                    tracing::warn!(%bus, unit = %source, error = %unit.why, "a unit is lost");
                }
            }
            Verdict::Alive | Verdict::Slow => {
                unit.grace = false;
                if unit.last_answer.replace(now).is_none() && unit.remembered.is_none() {
                    self.memory.measured(now);
                }
                self.link.answered();
                let back = if verdict == Verdict::Slow {
                    if !std::mem::replace(&mut unit.slow, true) {
                        let turnaround = format!("{} ms", unit.turnaround.longest().as_millis());
                        tracing::warn!(
                            %bus, unit = %source, turnaround,
                            "a unit answers so slowly that it is read rarely; this turnaround in \
                             the section of its bus lets it take the line from the others"
                        );
                    }
                    unit.health.answered_slowly(now, cost)
                } else {
                    unit.health.answered()
                };
                if back {
                    tracing::info!(%bus, unit = %source, "a unit is back");
                }
            }
        }
    }

    /// The stream is back: whoever was the reason that it was dropped owes the time.
    pub(super) fn charge_reopening(&mut self) {
        let now = self.now();
        if let Some(unit) = self.blamed.take().and_then(|unit| self.units.get_mut(unit)) {
            // What lasts longer is no matter of a dropped connection any more.
            unit.health.charge(now, self.link.down_for().min(PATIENCE));
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
        if let Some(fence) = self.fence_before(write.unit, block) {
            self.units[write.unit].counters.retries += 1;
            let cleared = self.read(write.unit, fence).await;
            if self.units[write.unit].fence.is_some() {
                return Err(words(cleared.err().unwrap_or(Fault::Timeout)));
            }
        }
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
        let hurried = self.link.hurry();
        if !self.link.is_up()
            && (hurried || self.link.patience_ends().is_some())
            && let Ok(fresh) = timeout(PATIENCE, self.link.open()).await
        {
            self.opened(fresh);
        }
    }
}

/// What stood between a question and its answer.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    /// Another's question held the gateway.
    held: bool,
    /// The stream had brought an answer before.
    proved: bool,
    /// A write waits, which may have cut it short.
    urgent: bool,
}

/// What a transaction says of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It answered.
    Alive,
    /// It answered after longer than a unit of this bus may need.
    Slow,
    /// It did not.
    Missed,
    /// It had no chance to: the stream was lost, or the gateway held by another unit's question.
    Excused,
}

/// Bus time that a transaction took.
#[derive(Clone, Copy, Debug)]
struct Spent {
    all: Duration,
    /// As much of it as is owed to `holder`.
    held: Duration,
    holder: Option<usize>,
}

/// Resolves when a write waits, which is then in `urgent`.
async fn write_comes(writes: &mut mpsc::Receiver<WriteCoil>, urgent: &mut Option<WriteCoil>) {
    if urgent.is_none() {
        *urgent = writes.recv().await;
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
