//! The dialect of Huanyang HY drives (classic, PD165 = 3): it has Modbus's checksum and address and
//! is not Modbus, because the byte after the function is a length.
//!
//! A status read is `address 04 03 number 00 00 crc`; the answer repeats it with the value in the
//! place of the zeros, high byte first. LinuxCNC's `hy_comm` asks with length 1 and without zeros and
//! gets the same answer. Functions that write (02),
//! start (03) or set a speed (05) exist; they are not built here.
//!
//! It must not believe an echo: [`value`] holds address, function, length and number against the
//! question. Bound: a frame has [`FRAME`] bytes.

/// Bytes of a request and of an answer.
pub const FRAME: usize = 8;
/// The greatest number of a status value: set frequency 0, output frequency 1, output current 2,
/// speed 3, DC voltage 4, AC voltage 5, count 6, temperature 7.
pub const STATUS_MAX: u16 = 7;

const READ_STATUS: u8 = 4;
const EXCEPTION: u8 = 0x80 | READ_STATUS;
const LENGTH: u8 = 3;

/// Asks for a status value; `None` when there is no such number.
pub fn status_request(unit: u8, number: u16) -> Option<[u8; FRAME]> {
    let number = u8::try_from(number).ok().filter(|number| u16::from(*number) <= STATUS_MAX)?;
    Some(sealed([unit, READ_STATUS, LENGTH, number, 0, 0]))
}

/// The value in the answer to [`status_request`], searched in whatever came; `None` when there is
/// none yet. A frame of somebody else, or for another number, is none.
pub fn value(bytes: &[u8], unit: u8, number: u16) -> Option<u16> {
    bytes.windows(FRAME).find_map(|frame| {
        let &[of, READ_STATUS, LENGTH, echoed, high, low, ..] = frame else { return None };
        let ours = of == unit && u16::from(echoed) == number;
        let whole = sealed([of, READ_STATUS, LENGTH, echoed, high, low]) == *frame;
        (ours && whole).then_some(u16::from_be_bytes([high, low]))
    })
}

/// The exception code of whoever took the question for Modbus, as Modbus devices do: there it is
/// a read of no registers.
pub fn refusal(bytes: &[u8], unit: u8) -> Option<u8> {
    bytes.windows(5).find_map(|frame| {
        let &[of, EXCEPTION, code, low, high] = frame else { return None };
        let whole = crc16(&[of, EXCEPTION, code]).to_le_bytes() == [low, high];
        (of == unit && whole).then_some(code)
    })
}

fn sealed(body: [u8; 6]) -> [u8; FRAME] {
    let [a, b, c, d, e, f] = body;
    let [low, high] = crc16(&body).to_le_bytes();
    [a, b, c, d, e, f, low, high]
}

/// CRC-16 of Modbus over Serial Line V1.02 §6.2.2.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(
            crc ^ u16::from(byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output frequency 400.00 Hz, with the checksum by an independent program (Python).
    const FREQUENCY: [u8; 8] = [0x01, 0x04, 0x03, 0x01, 0x9C, 0x40, 0xC9, 0x7E];

    #[test]
    fn requests_have_the_length_byte_and_the_checksum() {
        let output = [0x01, 0x04, 0x03, 0x01, 0x00, 0x00, 0xA1, 0x8E];
        assert_eq!(status_request(1, 1), Some(output));
        assert_eq!(status_request(1, 8), None);
        assert_eq!(status_request(1, 256), None);
    }

    #[test]
    fn answers_carry_the_value_high_byte_first() {
        assert_eq!(value(&FREQUENCY, 1, 1), Some(40_000));
        let current = [0x01, 0x04, 0x03, 0x02, 0x00, 0x23, 0x10, 0x57];
        assert_eq!(value(&current, 1, 2), Some(35));
        let volts = [0x01, 0x04, 0x03, 0x04, 0x01, 0x36, 0x30, 0x09];
        assert_eq!(value(&volts, 1, 4), Some(310));
    }

    /// Exception 3 of unit 1 to function 4, the checksum by an independent program (Python).
    #[test]
    fn a_modbus_device_refuses_a_read_of_no_registers() {
        let refused = [0x01, 0x84, 0x03, 0x03, 0x01];
        assert_eq!(refusal(&refused, 1), Some(3));
        assert_eq!(refusal(&refused, 2), None);
        assert_eq!(refusal(&FREQUENCY, 1), None);
    }

    #[test]
    fn another_answer_is_none() {
        assert_eq!(value(&FREQUENCY, 2, 1), None);
        assert_eq!(value(&FREQUENCY, 1, 2), None);
        assert_eq!(value(&FREQUENCY[..7], 1, 1), None);
        let mut wrong = FREQUENCY;
        wrong[5] ^= 1;
        assert_eq!(value(&wrong, 1, 1), None);
    }

    proptest! {
        #[test]
        fn it_is_found_in_noise_and_only_when_whole(
            before in prop::collection::vec(any::<u8>(), 0..40),
            after in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            prop_assume!(value(&before, 1, 1).is_none());
            let mut line = before;
            for byte in FREQUENCY {
                prop_assert_eq!(value(&line, 1, 1), None);
                line.push(byte);
            }
            line.extend(after);
            prop_assert_eq!(value(&line, 1, 1), Some(40_000));
        }

        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..300), unit: u8) {
            value(&noise, unit, 1);
        }
    }
}
