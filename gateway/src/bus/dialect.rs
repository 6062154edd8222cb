//! Questions that are no Modbus: what goes out, and which of the bytes that come are the answer.
//!
//! It waits for nothing and opens nothing; `transaction` does. Frames that answer something else
//! (a late answer, another meter, the echo of an adapter) are passed over, so that what is asked
//! for may still come before the deadline. Only reads exist.

use andon_adapters::dlt645::{self, Identifier, NoValue};
use andon_adapters::huanyang;
use andon_adapters::modbus::{Block, Table};

use super::question::{Answer, Ask, Fault};
use crate::config::plan::Station;

/// Most bytes that are looked at for one answer; more is babble.
pub(super) const BYTES_MAX: usize = 1024;
/// What a DL/T 645 meter says when it has no such data (bit 1 of its error byte).
const NO_SUCH_DATA: u8 = 0b10;

/// A question in another protocol than Modbus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Dlt645 {
        address: dlt645::Address,
        identifier: Identifier,
        words: u16,
    },
    Huanyang {
        unit: u8,
        number: u16,
    },
    /// Whatever DL/T 645-2007 meter hears it tells its label.
    Label,
    /// Whatever DL/T 645-1997 meter hears it tells its energy, and so its label.
    LabelOf1997,
}

/// What meters of 1997 all have: their energy.
const ENERGY_OF_1997: Identifier = Identifier::Of1997(0x9010);

impl Dialect {
    /// The question, when it is one in another protocol.
    pub(super) fn of(station: Station, ask: Ask) -> Option<Self> {
        let Ask::Read(block) = ask else { return None };
        match (station, block) {
            (Station::Meter(address), block) => {
                let identifier = Identifier::of(block)?;
                Some(Self::Dlt645 { address, identifier, words: block.count })
            }
            (Station::Unit(unit), Block { table: Table::Drive, start, .. }) => {
                Some(Self::Huanyang { unit, number: start })
            }
            (Station::Unit(_), _) => None,
        }
    }

    /// Bytes of request and answer on a serial line, preambles counted.
    pub(super) fn wire_bytes(self) -> u32 {
        match self {
            Self::Dlt645 { identifier, words, .. } => {
                identifier.request_bytes() + identifier.reply_bytes(words)
            }
            Self::Huanyang { .. } => 2 * huanyang::FRAME as u32,
            Self::Label => 16 + 22,
            Self::LabelOf1997 => ENERGY_OF_1997.request_bytes() + ENERGY_OF_1997.reply_bytes(2),
        }
    }

    pub(super) fn request(self) -> Vec<u8> {
        match self {
            Self::Label => dlt645::address_request(),
            Self::LabelOf1997 => dlt645::read_request(dlt645::Address::ANY, ENERGY_OF_1997),
            Self::Dlt645 { address, identifier, .. } => dlt645::read_request(address, identifier),
            Self::Huanyang { unit, number } => {
                huanyang::status_request(unit, number).unwrap_or_default().to_vec()
            }
        }
    }

    /// The answer among the bytes that have come; `None` when it has not come yet.
    pub(super) fn answer(self, bytes: &[u8]) -> Option<Result<Answer, Fault>> {
        match self {
            Self::Label => label_in(bytes, dlt645::told_address),
            Self::LabelOf1997 => label_in(bytes, |frame| {
                dlt645::value(frame, dlt645::Address::ANY, ENERGY_OF_1997).ok()?;
                Some(frame.address).filter(|address| address.is_decimal())
            }),
            Self::Dlt645 { address, identifier, words } => {
                let mut rest = bytes;
                while let Some((frame, used)) = dlt645::cut(rest) {
                    match dlt645::value(&frame, address, identifier) {
                        Ok(value) => return Some(registers(value, words)),
                        Err(NoValue::Refused(error)) => {
                            return Some(Err(Fault::Exception(exception(error))));
                        }
                        Err(NoValue::Other) => rest = rest.get(used..).unwrap_or_default(),
                    }
                }
                None
            }
            Self::Huanyang { unit, number } => {
                let value = huanyang::value(bytes, unit, number);
                let refusal = || huanyang::refusal(bytes, unit);
                value
                    .map(|word| Ok(Answer::Registers(vec![word])))
                    .or_else(|| refusal().map(|code| Err(Fault::Exception(code))))
            }
        }
    }
}

/// The first label in what came.
fn label_in(
    bytes: &[u8],
    label: impl Fn(&dlt645::Frame) -> Option<dlt645::Address>,
) -> Option<Result<Answer, Fault>> {
    let mut rest = bytes;
    while let Some((frame, used)) = dlt645::cut(rest) {
        if let Some(label) = label(&frame) {
            return Some(Ok(Answer::Label(label)));
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    None
}

/// A value that takes as many words as the profile says; any other is not what it describes.
fn registers(value: &[u8], words: u16) -> Result<Answer, Fault> {
    let registers = dlt645::words(value);
    if registers.len() == usize::from(words) {
        Ok(Answer::Registers(registers))
    } else {
        Err(Fault::Garbled)
    }
}

/// The Modbus exception that calls for the same: 2 for data that the meter has not, 4 for a
/// refusal that may pass.
const fn exception(error: u8) -> u8 {
    if error & NO_SUCH_DATA != 0 { 2 } else { 4 }
}
