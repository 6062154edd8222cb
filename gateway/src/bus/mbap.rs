//! Modbus TCP: questions as frames, and what came held against the question that it is to answer.
//!
//! Pure: it waits for nothing and opens nothing; `transaction` does. Nothing may come beside the
//! answer: more bytes than its frame has are a length that lies, or an answer to something else.
//!
//! Facts: MODBUS Messaging on TCP/IP Implementation Guide V1.0b §3.1.3 (the header: transaction,
//! protocol 0, length of what follows, unit), MODBUS Application Protocol V1.1b3 §6 and §7.

use andon_adapters::modbus::{Block, Table};

use super::question::{Answer, Ask, Fault};

/// Longest frame: the header, the rest of it a PDU of 253 bytes.
pub(super) const FRAME_MAX: usize = 260;
/// Transaction, protocol, length and unit.
const HEADER: usize = 7;
/// Bytes of the header that the length does not count.
const UNCOUNTED: usize = 6;

/// The request that asks `unit`; `None` for a question in another protocol.
pub(super) fn request(transaction: u16, unit: u8, ask: Ask) -> Option<Vec<u8>> {
    let (function, words) = match ask {
        Ask::Read(Block { table, start, count }) => (read_function(table)?, [start, count]),
        Ask::WriteCoil { coil, value } => (5, [coil, if value { 0xFF00 } else { 0 }]),
        Ask::WriteRegisters(registers) => {
            let words = registers.words();
            match registers.single() {
                Some(word) => (6, [registers.address(), word]),
                None => (16, [registers.address(), words.len() as u16]),
            }
        }
    };
    let mut frame = Vec::with_capacity(HEADER + 5);
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0, 0, 0, unit, function]);
    frame.extend(words.into_iter().flat_map(u16::to_be_bytes));
    if let (16, Ask::WriteRegisters(registers)) = (function, ask) {
        let words = registers.words();
        frame.push(2 * words.len() as u8);
        frame.extend(words.iter().copied().flat_map(u16::to_be_bytes));
    }
    frame[UNCOUNTED - 1] = (frame.len() - UNCOUNTED) as u8;
    Some(frame)
}

const fn read_function(table: Table) -> Option<u8> {
    match table {
        Table::Coil => Some(1),
        Table::Discrete => Some(2),
        Table::Holding => Some(3),
        Table::Input => Some(4),
        _ => None,
    }
}

/// The answer to `request`, which asked `ask`, in the bytes that have come; `None` while there may
/// be more of it.
pub(super) fn answer(ask: Ask, request: &[u8], bytes: &[u8]) -> Option<Result<Answer, Fault>> {
    let (header, pdu) = bytes.split_at_checked(HEADER)?;
    let whole = UNCOUNTED + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let same = header[..4] == request[..4] && header[6] == request[6];
    if !same || !(HEADER..=FRAME_MAX).contains(&whole) || bytes.len() > whole {
        return Some(Err(Fault::Garbled));
    }
    (bytes.len() == whole).then(|| held_against(ask, &request[HEADER..], pdu))
}

fn held_against(ask: Ask, request: &[u8], reply: &[u8]) -> Result<Answer, Fault> {
    let function = request[0];
    match (ask, reply) {
        (_, &[refused, code]) if refused == function | 0x80 => Err(Fault::Exception(code)),
        (Ask::Read(Block { table, count, .. }), &[same, length, ref content @ ..])
            if same == function && content.len() == usize::from(length) =>
        {
            read_out(table, usize::from(count), content)
        }
        // An echo has function, address, and what was written or how much: five bytes of the request.
        (Ask::WriteCoil { .. } | Ask::WriteRegisters(_), echo) if *echo == request[..5] => {
            Ok(Answer::Echoed)
        }
        _ => Err(Fault::Garbled),
    }
}

fn read_out(table: Table, count: usize, content: &[u8]) -> Result<Answer, Fault> {
    if table.is_bits() && content.len() == count.div_ceil(8) {
        let bit = |at: usize| content[at / 8] >> (at % 8) & 1 == 1;
        Ok(Answer::Bits((0..count).map(bit).collect()))
    } else if !table.is_bits() && content.len() == 2 * count {
        let words = content.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        Ok(Answer::Registers(words.collect()))
    } else {
        Err(Fault::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::question::Registers;
    use super::*;

    fn read(table: Table, start: u16, count: u16) -> Ask {
        Ask::Read(Block { table, start, count })
    }

    fn writing(words: &[u16], function: u8) -> Ask {
        Ask::WriteRegisters(Registers::new(1, words, function).unwrap())
    }

    /// Requests and replies as the protocol's standard gives them in its examples (§6.1 to §6.12).
    fn examples() -> Vec<(Ask, &'static [u8], &'static [u8], Answer)> {
        let bits = |bytes: &[u8], count| {
            (0..count).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect::<Vec<bool>>()
        };
        vec![
            (
                read(Table::Coil, 0x13, 19),
                &[1, 0, 0x13, 0, 0x13],
                &[1, 3, 0xCD, 0x6B, 5],
                Answer::Bits(bits(&[0xCD, 0x6B, 5], 19)),
            ),
            (
                read(Table::Discrete, 0xC4, 22),
                &[2, 0, 0xC4, 0, 0x16],
                &[2, 3, 0xAC, 0xDB, 0x35],
                Answer::Bits(bits(&[0xAC, 0xDB, 0x35], 22)),
            ),
            (
                read(Table::Holding, 0x6B, 3),
                &[3, 0, 0x6B, 0, 3],
                &[3, 6, 2, 0x2B, 0, 0, 0, 0x64],
                Answer::Registers(vec![0x22B, 0, 0x64]),
            ),
            (
                read(Table::Input, 8, 1),
                &[4, 0, 8, 0, 1],
                &[4, 2, 0, 10],
                Answer::Registers(vec![10]),
            ),
            (
                Ask::WriteCoil { coil: 0xAC, value: true },
                &[5, 0, 0xAC, 0xFF, 0],
                &[5, 0, 0xAC, 0xFF, 0],
                Answer::Echoed,
            ),
            (writing(&[3], 6), &[6, 0, 1, 0, 3], &[6, 0, 1, 0, 3], Answer::Echoed),
            (
                writing(&[10, 0x102], 16),
                &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
                &[16, 0, 1, 0, 2],
                Answer::Echoed,
            ),
        ]
    }

    fn framed(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let [high, low] = transaction.to_be_bytes();
        let mut frame = vec![high, low, 0, 0, 0, pdu.len() as u8 + 1, unit];
        frame.extend(pdu);
        frame
    }

    #[test]
    fn requests_and_replies_are_those_of_the_standard() {
        for (ask, asked, replied, expected) in examples() {
            let request = request(0x1234, 17, ask).unwrap();
            assert_eq!(request, framed(0x1234, 17, asked));
            let reply = framed(0x1234, 17, replied);
            assert_eq!(answer(ask, &request, &reply), Some(Ok(expected)), "{ask:?}");
            for cut in 0..reply.len() {
                assert_eq!(answer(ask, &request, &reply[..cut]), None, "{ask:?}: {cut} bytes");
            }
            let refused = framed(0x1234, 17, &[asked[0] | 0x80, 2]);
            assert_eq!(answer(ask, &request, &refused), Some(Err(Fault::Exception(2))));
        }
        assert_eq!(request(1, 1, read(Table::Drive, 0, 1)), None);
    }

    #[test]
    fn a_reply_that_differs_in_anything_but_its_content_is_garbled() {
        for (ask, _, replied, expected) in examples() {
            let request = request(0x1234, 17, ask).unwrap();
            let reply = framed(0x1234, 17, replied);
            // Of a read only header, function and byte count are known before.
            let known = if expected == Answer::Echoed { reply.len() } else { HEADER + 2 };
            for (at, bit) in (0..known).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut forged = reply.clone();
                forged[at] ^= 1 << bit;
                let taken = answer(ask, &request, &forged);
                // A length that is greater than what came may still come true.
                let waits = taken.is_none() && (4..6).contains(&at);
                assert!(waits || taken == Some(Err(Fault::Garbled)), "{ask:?}: {forged:?}");
            }
            let more = [&reply[..], &[0]].concat();
            assert_eq!(answer(ask, &request, &more), Some(Err(Fault::Garbled)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), known in any::<bool>(),
        ) {
            for (ask, ..) in examples() {
                let request = request(0x1234, 17, ask).unwrap();
                let mut bytes = bytes.clone();
                if let Some(start) = bytes.get_mut(..8).filter(|_| known) {
                    start.copy_from_slice(&request[..8]);
                }
                let _ = answer(ask, &request, &bytes);
            }
        }
    }
}
