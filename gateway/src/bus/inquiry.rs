//! A line held by hand, question by question: what a scan does before there is a configuration.
//!
//! Outside this module it can only read. It opens its own stream, so the gateway must not be running on the same
//! serial port (it holds it exclusively, and opening fails and says so).

use std::io;
use std::time::Duration;

use andon_adapters::dlt645::Address;
use andon_adapters::modbus::Block;

use super::dialect::Dialect;
use super::question::{Answer, Ask, Fault};
use super::timing::LineTiming;
use super::transaction::{Connection, Framing, Outcome};
use super::transport::{self, Opener};
use crate::config::plan::{Link, Station};

/// A line that can be asked.
pub struct Inquiry {
    opener: Opener,
    framing: Framing,
    timing: LineTiming,
    connection: Connection,
}

impl Inquiry {
    /// Opens the line.
    ///
    /// # Errors
    /// When the port or connection cannot be opened.
    pub async fn open(link: &Link) -> io::Result<Self> {
        let mut opener = transport::opener(link);
        let (framing, timing) = (Framing::of(link), LineTiming::of(link));
        let connection = Connection::new(opener().await?, framing, timing);
        Ok(Self { opener, framing, timing, connection })
    }

    /// How long a question for `block` takes when nobody answers it within `allowance`.
    pub fn silence(&self, block: Block, allowance: Duration) -> Duration {
        self.timing.wire(Ask::Read(block).wire_bytes()) + allowance + self.timing.silence()
    }

    /// Reads a block: its registers, or its bits as words 0 and 1. After a failure the line is
    /// drained for `quiet`, so that a late answer is not taken for the next.
    ///
    /// # Errors
    /// [`Fault::Disconnected`] when the line cannot be opened any more; else why there is no
    /// answer.
    pub async fn read(
        &mut self,
        station: Station,
        block: Block,
        allowance: Duration,
        quiet: Duration,
    ) -> Result<Vec<u16>, Fault> {
        Ok(match self.ask(station, Ask::Read(block), allowance, quiet).await? {
            Answer::Registers(registers) => registers,
            Answer::Bits(bits) => bits.into_iter().map(u16::from).collect(),
            Answer::Echoed | Answer::Label(_) => return Err(Fault::Garbled),
        })
    }

    /// Any question; those that write are [`super::setting`]'s only.
    pub(super) async fn ask(
        &mut self,
        station: Station,
        ask: Ask,
        allowance: Duration,
        quiet: Duration,
    ) -> Result<Answer, Fault> {
        let outcome = self.connection.ask(station, ask, allowance).await;
        self.settle(&outcome, quiet).await?;
        outcome.result
    }

    /// The label of the one DL/T 645 meter on the line, of the edition of 1997 or of 2007.
    ///
    /// # Errors
    /// As [`Inquiry::read`]; two meters answer at once, which garbles.
    pub async fn label(&mut self, of_1997: bool, allowance: Duration) -> Result<Address, Fault> {
        let dialect = if of_1997 { Dialect::LabelOf1997 } else { Dialect::Label };
        let outcome = self.connection.ask_in(dialect, allowance).await;
        self.settle(&outcome, Duration::ZERO).await?;
        match outcome.result? {
            Answer::Label(label) => Ok(label),
            _ => Err(Fault::Garbled),
        }
    }

    /// Makes the stream fit for the next question.
    async fn settle(&mut self, outcome: &Outcome, quiet: Duration) -> Result<(), Fault> {
        let failed =
            matches!(outcome.result, Err(Fault::Timeout | Fault::Garbled | Fault::Disconnected));
        if failed && self.connection.recover(outcome, quiet).await.is_err() {
            let stream = (self.opener)().await.map_err(|_| Fault::Disconnected)?;
            self.connection = Connection::new(stream, self.framing, self.timing);
        }
        Ok(())
    }
}
