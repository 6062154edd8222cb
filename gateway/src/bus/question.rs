//! What may be asked of a unit, and what is an answer to it: every reply is held against its question
//! by [`check`], in release builds too. It sends and waits for nothing; `transaction` does.

use andon_adapters::dlt645::Address;
use andon_adapters::modbus::{Block, Table, Words};
use tokio_modbus::{Request, Response};

use super::timing::{reply_bytes, request_bytes};

/// Bytes of a reply to a coil write on a serial line.
const ECHO_BYTES: u32 = 8;

/// What is asked of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Function 1 to 4.
    Read(Block),
    /// Function 5.
    WriteCoil { coil: u16, value: bool },
    /// Function 6 or 16; only [`super::setting`] asks it.
    WriteRegisters(Registers),
}

/// Registers that are to be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    address: u16,
    words: [u16; 4],
    count: usize,
    single: bool,
}

impl Registers {
    /// `None` unless there are one to four words, and one for function 6.
    pub(super) fn new(address: u16, words: &[u16], function: u8) -> Option<Self> {
        let count = words.len();
        let single = function == 6;
        let fits = if single { count == 1 } else { function == 16 && (1..=4).contains(&count) };
        let mut room = [0; 4];
        room.get_mut(..count).filter(|_| fits)?.copy_from_slice(words);
        Some(Self { address, words: room, count, single })
    }

    pub(super) const fn address(&self) -> u16 {
        self.address
    }

    pub(super) fn words(&self) -> &[u16] {
        &self.words[..self.count]
    }

    /// The one word that is written with function 6; `None` with function 16.
    pub(super) fn single(&self) -> Option<u16> {
        self.single.then_some(self.words[0])
    }
}

impl Ask {
    /// The Modbus request; `None` for a question in another protocol.
    pub(super) fn request(self) -> Option<Request<'static>> {
        Some(match self {
            Self::Read(Block { table: Table::Coil, start, count }) => {
                Request::ReadCoils(start, count)
            }
            Self::Read(Block { table: Table::Discrete, start, count }) => {
                Request::ReadDiscreteInputs(start, count)
            }
            Self::Read(Block { table: Table::Input, start, count }) => {
                Request::ReadInputRegisters(start, count)
            }
            Self::Read(Block { table: Table::Holding, start, count }) => {
                Request::ReadHoldingRegisters(start, count)
            }
            Self::Read(_) => return None,
            Self::WriteCoil { coil, value } => Request::WriteSingleCoil(coil, value),
            Self::WriteRegisters(registers @ Registers { address, single: true, .. }) => {
                Request::WriteSingleRegister(address, registers.words[0])
            }
            Self::WriteRegisters(registers) => {
                let words = registers.words().to_vec();
                Request::WriteMultipleRegisters(registers.address, words.into())
            }
        })
    }

    /// Bytes of request and reply on a serial line.
    pub(super) fn wire_bytes(self) -> u32 {
        match self {
            Self::Read(block) => request_bytes(block) + self.reply_bytes(),
            Self::WriteCoil { .. } => 2 * ECHO_BYTES,
            // At most four registers with their byte count.
            Self::WriteRegisters(_) => 2 * ECHO_BYTES + 1 + 2 * 4,
        }
    }

    /// Bytes of its reply on a serial line.
    fn reply_bytes(self) -> u32 {
        match self {
            Self::Read(block) => reply_bytes(block),
            Self::WriteCoil { .. } | Self::WriteRegisters(_) => ECHO_BYTES,
        }
    }
}

/// A reply that is what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As many registers as asked.
    Registers(Vec<u16>),
    /// As many bits as asked.
    Bits(Vec<bool>),
    /// The write was echoed to the letter.
    Echoed,
    /// The label of a DL/T 645 meter.
    Label(Address),
}

impl Answer {
    pub(super) fn words(&self) -> Words<'_> {
        match self {
            Self::Registers(registers) => Words::Registers(registers),
            Self::Bits(bits) => Words::Bits(bits),
            Self::Echoed | Self::Label(_) => Words::Bits(&[]),
        }
    }
}

/// Why there is no answer, by what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not a byte before the deadline.
    Timeout,
    /// Something came, but not an answer to this.
    Garbled,
    /// The unit, or the gateway before it, refused with this exception code.
    Exception(u8),
    /// The port or connection is gone.
    Disconnected,
}

/// Holds a reply against the question.
pub(super) fn check(ask: Ask, response: Response) -> Result<Answer, Fault> {
    match (ask, response) {
        (
            Ask::Read(Block { table: Table::Holding, count, .. }),
            Response::ReadHoldingRegisters(registers),
        )
        | (
            Ask::Read(Block { table: Table::Input, count, .. }),
            Response::ReadInputRegisters(registers),
        ) if registers.len() == usize::from(count) => Ok(Answer::Registers(registers)),
        (Ask::Read(Block { table: Table::Coil, count, .. }), Response::ReadCoils(mut bits))
        | (
            Ask::Read(Block { table: Table::Discrete, count, .. }),
            Response::ReadDiscreteInputs(mut bits),
        ) if bits.len() == usize::from(count).next_multiple_of(8) => {
            // The library returns the padding of the last byte too.
            bits.truncate(usize::from(count));
            Ok(Answer::Bits(bits))
        }
        (Ask::WriteCoil { coil, value }, Response::WriteSingleCoil(echoed, state))
            if (echoed, state) == (coil, value) =>
        {
            Ok(Answer::Echoed)
        }
        (Ask::WriteRegisters(asked), Response::WriteSingleRegister(address, word))
            if asked.single && (address, word) == (asked.address, asked.words[0]) =>
        {
            Ok(Answer::Echoed)
        }
        (Ask::WriteRegisters(asked), Response::WriteMultipleRegisters(address, count))
            if !asked.single && (address, usize::from(count)) == (asked.address, asked.count) =>
        {
            Ok(Answer::Echoed)
        }
        _ => Err(Fault::Garbled),
    }
}
