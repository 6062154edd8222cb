//! What simulated devices do beside Modbus tables: DL/T 645 meters and Huanyang drives answer in
//! their own protocols, and settings that a profile describes can be written.
//!
//! The bytes of an answer are made with the codec's `wrap`, so a mistake in it could hide here;
//! that is why the codec is proved against frames and programs of others.

use andon_adapters::dlt645::{self, Address, Frame};
use andon_adapters::modbus::{Form, Protocol, Table};
use andon_adapters::profile::SettingKind;

use super::device::Device;

/// Answers of DL/T 645: the function with bit 7, and with bit 6 when it is refused.
const ANSWER: u8 = 0x80;
const REFUSAL: u8 = 0xC0;
const READ: u8 = 0x11;
const READ_ADDRESS: u8 = 0x13;
const READ_OF_1997: u8 = 0x01;
const NO_SUCH_DATA: u8 = 0b10;
/// Function and length of a Huanyang status read.
const STATUS: [u8; 2] = [4, 3];

/// A setting that a request writes.
pub(super) struct Written {
    pub(super) kind: SettingKind,
    pub(super) value: f64,
    pub(super) words: Vec<u16>,
    pub(super) address: u16,
    /// It applies only after a restart, which a simulated device never has.
    pub(super) after_restart: bool,
    /// The reply, without unit and checksum.
    pub(super) reply: Vec<u8>,
}

impl Written {
    /// The unit id that the device has from now on, when that is what was written.
    #[expect(clippy::cast_possible_truncation, reason = "a setting is within its bounds")]
    #[expect(clippy::cast_sign_loss, reason = "a setting is within its bounds")]
    pub(super) fn moves_to(&self) -> Option<u8> {
        (self.kind == SettingKind::Address && !self.after_restart).then_some(self.value as u8)
    }
}

impl Device {
    /// Whether what is said at `speed` is noise to it.
    pub(super) fn is_deaf(&self, speed: Option<u32>) -> bool {
        self.baud.zip(speed).is_some_and(|(own, heard)| own != heard)
    }

    /// The whole answer to a DL/T 645 frame; `None` when it is not for this device, or nothing
    /// that it answers.
    pub(super) fn answer_frame(&self, frame: &Frame) -> Option<Vec<u8>> {
        let own = self.meter?;
        let asked = frame.address;
        if asked != own && asked != Address::ANY {
            return None;
        }
        let of_1997 = self.profile().protocol() == Protocol::Dlt645Of1997;
        match frame.control {
            READ_ADDRESS if !of_1997 => {
                // The address as data has the order of the wire, as `wrap` writes it.
                let label = dlt645::wrap(own, 0, &[]);
                Some(dlt645::wrap(own, ANSWER | READ_ADDRESS, label.get(1..7)?))
            }
            READ if !of_1997 => {
                let identifier = <[u8; 4]>::try_from(frame.data.as_slice()).ok()?;
                let [low, high] = [[identifier[0], identifier[1]], [identifier[2], identifier[3]]];
                let table = Table::Identifier(u16::from_le_bytes(high));
                Some(self.tell(frame, table, u16::from_le_bytes(low)))
            }
            READ_OF_1997 if of_1997 => {
                let identifier = <[u8; 2]>::try_from(frame.data.as_slice()).ok()?;
                Some(self.tell(frame, Table::Identifier1997, u16::from_le_bytes(identifier)))
            }
            _ => None,
        }
    }

    fn tell(&self, frame: &Frame, table: Table, address: u16) -> Vec<u8> {
        let own = self.meter.unwrap_or(frame.address);
        let item =
            self.profile().items.iter().find(|item| (item.table, item.address) == (table, address));
        let (Some(item), Some(words)) = (item, self.keyed(table, address)) else {
            return dlt645::wrap(own, REFUSAL | frame.control, &[NO_SUCH_DATA]);
        };
        let bytes = match item.encoding.form {
            Form::Bcd { bytes, .. } => usize::from(bytes),
            _ => 2 * words.len(),
        };
        let big_endian: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let value = big_endian.iter().rev().take(bytes).copied();
        let data: Vec<u8> = frame.data.iter().copied().chain(value).collect();
        dlt645::wrap(own, ANSWER | frame.control, &data)
    }

    /// The reply of a Huanyang drive to a status read, without unit and checksum; `None` when
    /// this is not one.
    pub(super) fn answer_status(&self, pdu: &[u8]) -> Option<Vec<u8>> {
        if self.profile().protocol() != Protocol::Huanyang {
            return None;
        }
        let &[function, length, number, 0, 0] = pdu else { return None };
        if [function, length] != STATUS {
            return None;
        }
        let word = self.keyed(Table::Drive, u16::from(number)).and_then(|words| words.first());
        let [high, low] = word.copied().unwrap_or_default().to_be_bytes();
        Some(vec![function, length, number, high, low])
    }

    /// The setting that a request of function 6 or 16 writes; `None` when it writes none that the
    /// profile describes, or a value that the device does not take.
    pub(super) fn setting_in(&self, pdu: &[u8]) -> Option<Written> {
        let &[function @ (6 | 16), a, b, ref rest @ ..] = pdu else { return None };
        let address = u16::from_be_bytes([a, b]);
        let bytes = match (function, rest) {
            (6, bytes @ [_, _]) => bytes,
            (16, [_, count, length, bytes @ ..])
                if bytes.len() == usize::from(*length)
                    && bytes.len() == 2 * usize::from(*count) =>
            {
                bytes
            }
            _ => return None,
        };
        let words: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        let setting = self.profile().settings.iter().find(|setting| {
            (setting.address, setting.function) == (address, function)
                && usize::from(setting.block().count) == words.len()
        })?;
        let value = setting.decode(&words)?;
        setting.encode(value)?;
        let (kind, after_restart) = (setting.kind, setting.after_restart);
        Some(Written { kind, value, words, address, after_restart, reply: pdu.get(..5)?.to_vec() })
    }
}
