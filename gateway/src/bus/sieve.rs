//! What of a Modbus TCP stream is passed on: whole frames, and none that answers a question which
//! was given up. Such an answer is known by its transaction, so that a timeout need not cost the
//! connection, and it tells when a gateway that serves one request at a time is free again.
//!
//! It accepts nothing: a frame of any other transaction, or what is no frame, is passed on, and
//! refused by whoever checks the answer. Bounds: [`GIVEN_UP_MAX`] questions are remembered, and a
//! frame is kept back until it is whole for [`FRAME_MAX`] bytes at most. Pure: time comes in.

use tokio::time::Instant;

/// Questions without an answer that are remembered: a gateway holds no more requests than that. The
/// answer to an older one is taken for none of ours, and costs the connection.
const GIVEN_UP_MAX: usize = 16;
/// Bytes of a header up to the length of what follows (Modbus Messaging on TCP/IP V1.0b §3.1.3).
const HEAD: usize = 6;
/// Bytes of the longest frame: its head, the unit and a PDU of 253.
const FRAME_MAX: usize = HEAD + 1 + 253;

/// A question on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    transaction: u16,
    whose: usize,
    free: bool,
    sent: Instant,
}

/// An answer that came after its question was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late {
    /// Who had been asked, as told to [`Sieve::begin`].
    pub(super) whose: usize,
    /// The gateway was free for it, as told there: else nobody knows how much of the time was its own.
    pub(super) free: bool,
    /// When it had been asked.
    pub(super) sent: Instant,
    /// When the answer was heard.
    pub(super) heard: Instant,
    /// The exception's code, when it was one.
    pub(super) exception: Option<u8>,
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// Heard, and not passed on yet.
    bytes: Vec<u8>,
    /// How many of them may be passed on.
    fit: usize,
    /// A question that begins: its transaction is in the first two bytes that are written.
    begun: Option<(usize, bool, Instant)>,
    first: Option<u8>,
    asked: Option<Asked>,
    given_up: Vec<Asked>,
    late: Vec<Late>,
}

impl Sieve {
    /// The next bytes written are a question to `whose`, for which the gateway is `free` or held by
    /// another; the one before it, when it has no answer yet, is given up.
    pub(super) fn begin(&mut self, whose: usize, free: bool, now: Instant) {
        self.give_up();
        self.begun = Some((whose, free, now));
        self.first = None;
    }

    /// Nobody waits any more for an answer to the last question.
    pub(super) fn give_up(&mut self) {
        if let Some(asked) = self.asked.take() {
            if self.given_up.len() >= GIVEN_UP_MAX {
                self.given_up.remove(0);
            }
            self.given_up.push(asked);
        }
    }

    /// These bytes went out.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let Some((whose, free, sent)) = self.begun else { return };
            let Some(first) = self.first.replace(byte) else { continue };
            let transaction = u16::from_be_bytes([first, byte]);
            // Its number has come round: no answer to the older one comes any more.
            self.given_up.retain(|asked| asked.transaction != transaction);
            self.asked = Some(Asked { transaction, whose, free, sent });
            self.begun = None;
        }
    }

    /// These bytes were heard.
    pub(super) fn heard(&mut self, bytes: &[u8], now: Instant) {
        self.bytes.extend_from_slice(bytes);
        while let Some(frame) = self.next_frame() {
            let end = self.fit + frame;
            let word = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
            let transaction = word(self.fit);
            let known = self.given_up.iter().position(|asked| asked.transaction == transaction);
            if let Some(known) = known {
                let Asked { whose, free, sent, .. } = self.given_up.remove(known);
                let code = self.bytes.get(self.fit + HEAD + 1..end).unwrap_or_default();
                let exception = match code {
                    [function, code] if function & 0x80 != 0 => Some(*code),
                    _ => None,
                };
                if self.late.len() < GIVEN_UP_MAX {
                    self.late.push(Late { whose, free, sent, heard: now, exception });
                }
                self.bytes.drain(self.fit..end);
                continue;
            }
            self.fit = end;
            if self.asked.is_some_and(|asked| asked.transaction == transaction) {
                self.asked = None;
            }
        }
    }

    /// Bytes of the frame after those that are fit, once it is whole. What is no frame is fit.
    fn next_frame(&mut self) -> Option<usize> {
        let rest = self.bytes.get(self.fit..)?;
        let &[_, _, high, low, more, less] = rest.get(..HEAD)?.first_chunk()?;
        let frame = HEAD + usize::from(u16::from_be_bytes([more, less]));
        if (high, low) != (0, 0) || !(HEAD + 2..=FRAME_MAX).contains(&frame) {
            self.fit = self.bytes.len();
            return None;
        }
        (rest.len() >= frame).then_some(frame)
    }

    /// What may be passed on.
    pub(super) fn fit(&self) -> &[u8] {
        self.bytes.get(..self.fit).unwrap_or_default()
    }

    /// The first `count` bytes that were fit have been passed on.
    pub(super) fn passed(&mut self, count: usize) {
        let count = count.min(self.fit);
        self.fit -= count;
        self.bytes.drain(..count);
    }

    /// Bytes that were heard and not passed on, but for the beginning of a late answer.
    pub(super) fn kept(&self) -> usize {
        let rest = self.bytes.get(self.fit..).unwrap_or_default();
        let is_late = rest.first_chunk().is_some_and(|&begins| {
            let transaction = u16::from_be_bytes(begins);
            self.given_up.iter().any(|asked| asked.transaction == transaction)
        });
        self.fit + if is_late { 0 } else { rest.len() }
    }

    /// When the late answer to the question to `whose` of `sent` was heard.
    pub(super) fn late_of(&self, (whose, sent): (usize, Instant)) -> Option<Instant> {
        let late = self.late.iter().find(|late| (late.whose, late.sent) == (whose, sent));
        late.map(|late| late.heard)
    }

    /// The late answers since this was last called.
    pub(super) fn take_late(&mut self) -> Vec<Late> {
        std::mem::take(&mut self.late)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(transaction: u16, pdu: &[u8]) -> Vec<u8> {
        let length = u16::try_from(pdu.len() + 1).unwrap();
        let head = [transaction.to_be_bytes(), [0, 0], length.to_be_bytes()].concat();
        [&head[..], &[7], pdu].concat()
    }

    fn ask(sieve: &mut Sieve, whose: usize, transaction: u16) -> Instant {
        let now = Instant::now();
        sieve.begin(whose, true, now);
        frame(transaction, &[3, 0, 0, 0, 1]).chunks(1).for_each(|byte| sieve.wrote(byte));
        now
    }

    fn passed(sieve: &mut Sieve) -> Vec<u8> {
        let passed = sieve.fit().to_vec();
        sieve.passed(passed.len());
        passed
    }

    #[test]
    fn an_answer_to_a_question_that_was_given_up_is_told_and_not_passed_on() {
        let mut sieve = Sieve::default();
        let sent = ask(&mut sieve, 4, 1);
        ask(&mut sieve, 5, 2);
        let now = Instant::now();
        sieve.heard(&frame(1, &[0x83, 0x0B]), now);
        assert_eq!((passed(&mut sieve), sieve.kept()), (vec![], 0));
        assert_eq!(sieve.late_of((4, sent)), Some(now));
        let late = Late { whose: 4, free: true, sent, heard: now, exception: Some(0x0B) };
        assert_eq!((sieve.take_late(), sieve.take_late()), (vec![late], vec![]));
        let answer = frame(2, &[3, 2, 0, 9]);
        sieve.heard(&answer, now);
        assert_eq!(passed(&mut sieve), answer);
        // Heard before there is another question.
        ask(&mut sieve, 5, 9);
        sieve.give_up();
        sieve.heard(&frame(9, &[3, 2, 0, 9]), now);
        assert_eq!((passed(&mut sieve), sieve.take_late().len()), (vec![], 1));
        // It was answered: a second answer to it is passed on, for it is none of ours.
        ask(&mut sieve, 5, 3);
        sieve.heard(&answer, now);
        assert_eq!(passed(&mut sieve), answer);
    }

    #[test]
    fn the_beginning_of_a_late_answer_is_no_part_of_the_answer_before_it() {
        let mut sieve = Sieve::default();
        ask(&mut sieve, 4, 1);
        ask(&mut sieve, 5, 2);
        let (late, answer) = (frame(1, &[3, 2, 0, 8]), frame(2, &[3, 2, 0, 9]));
        sieve.heard(&[&answer[..], &late[..5]].concat(), Instant::now());
        assert_eq!((passed(&mut sieve), sieve.kept()), (answer, 0));
        sieve.heard(&late[5..], Instant::now());
        assert_eq!((passed(&mut sieve), sieve.take_late().len()), (vec![], 1));
        // Of an answer that is wanted it is.
        ask(&mut sieve, 5, 3);
        sieve.heard(&frame(3, &[3, 2, 0, 9])[..5], Instant::now());
        assert_eq!((passed(&mut sieve), sieve.kept()), (vec![], 5));
    }

    #[test]
    fn a_number_that_has_come_round_is_the_newer_question() {
        let mut sieve = Sieve::default();
        ask(&mut sieve, 4, 1);
        ask(&mut sieve, 5, 2);
        ask(&mut sieve, 5, 1);
        let answer = frame(1, &[3, 2, 0, 9]);
        sieve.heard(&answer, Instant::now());
        assert_eq!(passed(&mut sieve), answer);
    }

    proptest! {
        #[test]
        fn nothing_is_kept_for_ever_and_nothing_is_invented(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            asked in 0u16..40,
        ) {
            let mut sieve = Sieve::default();
            for transaction in 0..asked {
                ask(&mut sieve, 0, transaction);
            }
            let mut heard = 0;
            for chunk in chunks {
                heard += chunk.len();
                sieve.heard(&chunk, Instant::now());
                heard -= passed(&mut sieve).len();
                prop_assert!(sieve.bytes.len() <= FRAME_MAX && sieve.bytes.len() <= heard);
                prop_assert!(sieve.given_up.len() <= GIVEN_UP_MAX);
            }
        }
    }
}
