//! Framing, byte by byte: cutting requests out of a stream, and wrapping replies, true or not.
//!
//! RTU: unit, PDU, CRC-16 (Modbus over Serial Line V1.02 §2.5.1); TCP: the MBAP header (Modbus
//! Messaging on TCP/IP V1.0b §3.1.3). Nothing here knows time: whether the line has been silent is
//! said by the caller. Bound: [`ADU_MAX`] bytes of a frame, [`BUFFER_MAX`] bytes of a stream.

use andon_adapters::dlt645;

/// Longest frame of either kind: 7 bytes of header and 253 of PDU.
const ADU_MAX: usize = 260;
/// Most bytes that are kept in the hope of a frame.
const BUFFER_MAX: usize = 2 * ADU_MAX;
/// Bytes of the MBAP header.
const HEADER: usize = 7;

/// How frames look on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Modbus TCP.
    Tcp,
    /// RTU, on a serial line or in a TCP stream.
    Rtu,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The transaction id; 0 on RTU.
    pub(super) transaction: u16,
    pub(super) unit: u8,
    /// Function and body; empty for a DL/T 645 frame.
    pub(super) pdu: Vec<u8>,
    /// The DL/T 645 frame, when it is one.
    pub(super) meter: Option<dlt645::Frame>,
}

impl Request {
    /// The two numbers after the function, where there are any: in all that are served, address
    /// and count or value.
    pub(super) fn numbers(&self) -> Option<(u16, u16)> {
        match *self.pdu.as_slice() {
            [_, a, b, c, d, ..] => Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            _ => None,
        }
    }
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Request(Request),
    /// More bytes are needed, or a silence that says that there are no more.
    Wait,
    /// This is no Modbus TCP: the connection is of no use.
    Hopeless,
}

/// Bytes on their way to become requests.
#[derive(Debug)]
pub(super) struct Assembler {
    framing: Framing,
    bytes: Vec<u8>,
}

impl Assembler {
    pub(super) const fn new(framing: Framing) -> Self {
        Self { framing, bytes: Vec::new() }
    }

    /// Takes bytes off the stream. What cannot be part of a frame any more is dropped.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.framing == Framing::Rtu && self.bytes.len() > BUFFER_MAX {
            self.bytes.clear();
        }
    }

    /// How many bytes have not become a request.
    pub(super) const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next request.
    pub(super) fn cut(&mut self) -> Cut {
        match self.framing {
            Framing::Tcp => self.cut_tcp(),
            Framing::Rtu => match rtu_length(&self.bytes) {
                Some(length) if length <= self.bytes.len() && crc_holds(&self.bytes[..length]) => {
                    let frame: Vec<u8> = self.bytes.drain(..length).collect();
                    Cut::Request(from_rtu(&frame))
                }
                _ => match dlt645::cut(&self.bytes) {
                    Some((frame, used)) => {
                        self.bytes.drain(..used);
                        Cut::Request(Request {
                            transaction: 0,
                            unit: 0,
                            pdu: Vec::new(),
                            meter: Some(frame),
                        })
                    }
                    None => Cut::Wait,
                },
            },
        }
    }

    /// The line has been silent: what there is, is a whole frame or rubbish. A device knows the
    /// length of the functions that it serves only; all others end with the silence.
    pub(super) fn silence(&mut self) -> Option<Request> {
        let frame = std::mem::take(&mut self.bytes);
        (self.framing == Framing::Rtu && crc_holds(&frame)).then(|| from_rtu(&frame))
    }

    fn cut_tcp(&mut self) -> Cut {
        let &[t0, t1, p0, p1, l0, l1, unit, ref rest @ ..] = self.bytes.as_slice() else {
            return Cut::Wait;
        };
        // The length counts the unit and at least a function.
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if (p0, p1) != (0, 0) || !(2..=ADU_MAX - HEADER + 1).contains(&length) {
            return Cut::Hopeless;
        }
        let Some(pdu) = rest.get(..length - 1) else { return Cut::Wait };
        let transaction = u16::from_be_bytes([t0, t1]);
        let request = Request { transaction, unit, pdu: pdu.to_vec(), meter: None };
        self.bytes.drain(..HEADER + length - 1);
        Cut::Request(request)
    }
}

/// The length of the RTU frame at the head of `bytes`, where its function tells.
fn rtu_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        1..=6 => Some(8),
        15 | 16 => bytes.get(6).map(|&count| 9 + usize::from(count)),
        _ => None,
    }
}

fn from_rtu(frame: &[u8]) -> Request {
    let pdu = frame[1..frame.len() - 2].to_vec();
    Request { transaction: 0, unit: frame[0], pdu, meter: None }
}

/// Whether `frame` is unit, function at least, and the checksum over them.
fn crc_holds(frame: &[u8]) -> bool {
    frame.len() >= 4 && frame.split_last_chunk::<2>().is_some_and(|(body, crc)| crc16(body) == *crc)
}

/// A reply on the wire.
pub(super) fn wrap(framing: Framing, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + pdu.len());
    if framing == Framing::Tcp {
        // A PDU is never longer than 253 bytes; a lie that is gets a length that is a lie too.
        let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
        bytes.extend(transaction.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(length.to_be_bytes());
    }
    bytes.push(unit);
    bytes.extend_from_slice(pdu);
    if framing == Framing::Rtu {
        let crc = crc16(&bytes);
        bytes.extend(crc);
    }
    bytes
}

/// The checksum, in the order in which it goes over the wire: low byte first.
pub(super) fn crc16(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for &byte in bytes {
        crc ^= u16::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(assembler: &mut Assembler) -> Vec<Request> {
        std::iter::from_fn(|| match assembler.cut() {
            Cut::Request(request) => Some(request),
            Cut::Wait | Cut::Hopeless => None,
        })
        .collect()
    }

    #[test]
    fn the_checksum_is_the_standards() {
        // Check value of CRC-16/MODBUS, and the example of the relay board's manual.
        assert_eq!(crc16(b"123456789"), [0x37, 0x4B]);
        assert_eq!(crc16(&[0x01, 0x05, 0x00, 0x00, 0xFF, 0x00]), [0x8C, 0x3A]);
    }

    #[test]
    fn frames_are_found_however_they_are_split_or_merged() {
        for framing in [Framing::Rtu, Framing::Tcp] {
            let pdus: [&[u8]; 2] = [&[4, 0, 12, 0, 2], &[15, 0, 0, 0, 8, 1, 0xFF]];
            let wire: Vec<u8> = pdus.iter().flat_map(|pdu| wrap(framing, 7, 3, pdu)).collect();
            for split in 1..wire.len() {
                let mut assembler = Assembler::new(framing);
                let mut found = Vec::new();
                for part in wire.chunks(split) {
                    assembler.push(part);
                    found.extend(requests(&mut assembler));
                }
                let found: Vec<_> = found.iter().map(|it| (it.unit, &*it.pdu)).collect();
                assert_eq!(found, [(3, pdus[0]), (3, pdus[1])], "{framing:?} by {split}");
                assert_eq!(assembler.left(), 0);
            }
        }
    }

    #[test]
    fn silence_ends_unknown_functions_and_rubbish() {
        let mut assembler = Assembler::new(Framing::Rtu);
        assembler.push(&wrap(Framing::Rtu, 0, 3, &[0x11]));
        assert_eq!(assembler.cut(), Cut::Wait);
        let request = assembler.silence();
        assert_eq!(request.map(|it| (it.unit, it.pdu)), Some((3, vec![0x11])));
        assembler.push(&[0xFF, 0x00, 3, 4, 0, 12]);
        assert_eq!((assembler.cut(), assembler.silence()), (Cut::Wait, None));
        assert_eq!(assembler.left(), 0);
    }

    #[test]
    fn what_is_no_modbus_tcp_is_hopeless() {
        for bytes in [b"GET / HTTP/1.1", b"\0\x01\0\0\0\x01\x01\x04\0\0\0\0\0\0"] {
            let mut assembler = Assembler::new(Framing::Tcp);
            assembler.push(bytes);
            assert_eq!(assembler.cut(), Cut::Hopeless);
        }
    }
}
