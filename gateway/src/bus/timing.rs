//! How long things take on a line: wire time, the silence between frames, and what a device may
//! need before it answers. Pure arithmetic: it reads no clock and opens nothing.
//!
//! Facts: Modbus over Serial Line V1.02 §2.5.1.1 (3.5 characters of silence, 1.75 ms above
//! 19200 baud). A read of N registers takes T(N) = (8 + 5 + 2N)·c + max(d, t3.5) + t3.5, where c
//! is the time of a character and d what the device needs before it answers.

use std::time::Duration;

use andon_adapters::dlt645::Identifier;
use andon_adapters::modbus::{Block, ReadCost, Table};

use crate::config::plan::{BusPlan, Link, Parity};

/// Most that a device may need before its answer, unless the plan's floor says more. A slower one is
/// read as rarely as one that fails now and then: it would take the line from the others.
pub const TURNAROUND_MAX: Duration = Duration::from_millis(500);
/// Most that is waited for at all, unless the plan's floor says more: as long as 125 registers take at
/// 2400 baud behind a gateway, and more than a gateway waits for a device as a rule.
pub const TURNAROUND_SLOW: Duration = Duration::from_secs(2);
/// A deadline is this many times the slowest answer seen lately.
const TURNAROUND_MARGIN: u32 = 3;
/// The slowest answer is forgotten by 1/128 per answer: after some 300 answers a single late one
/// counts a tenth.
const FORGET: u32 = 128;
/// The usual turnaround is an average over about this many answers.
const AVERAGE_OVER: u32 = 16;
/// Bytes of a read request on a serial line: unit, function, address, count, checksum.
const REQUEST_BYTES: u32 = 8;
/// Bytes of a read reply beside its content: unit, function, byte count, checksum.
const REPLY_BYTES: u32 = 5;

/// The speed of a line that may be behind a Modbus TCP address, while nobody has said so: the one
/// that most devices are delivered with.
const ASSUMED_BAUD: u32 = 9600;

/// The times that follow from a line's speed; all zero on Modbus TCP, where nobody has said that
/// there is a line behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTiming {
    character: Duration,
    silence: Duration,
    /// What is configured to pass between an answer and the next request.
    pause: Duration,
}

impl LineTiming {
    /// The timing of a bus: of its link, with its pause.
    pub fn of_bus(plan: &BusPlan) -> Self {
        Self { pause: plan.pause, ..Self::of(&plan.link) }
    }

    /// The timing of `link`, without a pause. TCP has the character time of the line behind it, taken as 11 bits.
    pub fn of(link: &Link) -> Self {
        match link {
            Link::Tcp { baud: None, .. } => {
                let zero = Duration::ZERO;
                Self { character: zero, silence: zero, pause: zero }
            }
            Link::Tcp { baud: Some(baud), .. } | Link::RtuOverTcp { baud, .. } => {
                Self::serial(*baud, 11)
            }
            Link::Rtu { baud, parity, stop_bits, .. } => {
                let parity_bits = u32::from(*parity != Parity::None);
                Self::serial(*baud, 1 + 8 + parity_bits + u32::from(*stop_bits))
            }
        }
    }

    /// The timing of a serial line of `baud` bits per second and `bits` bits per character, start
    /// and stop bits counted.
    pub fn serial(baud: u32, bits: u32) -> Self {
        let baud = u64::from(baud.max(1));
        let character = Duration::from_nanos(u64::from(bits) * 1_000_000_000 / baud);
        // The standard's 3.5 characters are of 11 bits whatever the frame.
        let silence = if baud > 19_200 {
            Duration::from_micros(1750)
        } else {
            Duration::from_nanos(11 * 3_500_000_000 / baud)
        };
        Self { character, silence, pause: Duration::ZERO }
    }

    /// The silence that parts two frames (t3.5).
    pub const fn silence(&self) -> Duration {
        self.silence
    }

    /// What passes between an answer and the next request: the silence, or the pause when that is
    /// longer.
    pub fn gap(&self) -> Duration {
        self.silence.max(self.pause)
    }

    /// Time of `bytes` bytes on the wire.
    pub fn wire(&self, bytes: u32) -> Duration {
        self.character * bytes
    }

    /// T(N): what reading `block` takes when the device answers after `turnaround`.
    pub fn read_time(&self, block: Block, turnaround: Duration) -> Duration {
        self.wire(request_bytes(block) + reply_bytes(block))
            + turnaround.max(self.silence)
            + self.gap()
    }

    /// What reading costs when the device answers after `turnaround`.
    ///
    /// Where nobody knows whether there is a line, what was measured holds the time on it already and
    /// does not part it from the device's own. It is planned as for a line with a device that
    /// answers at once, whose requests cost as much as the content of ten registers at any speed: a
    /// device on Ethernet is then asked once more for a wider gap, a matter of milliseconds,
    /// and no line carries up to 125 registers that nobody wants, 0.3 s of it at 9600 baud.
    pub fn read_cost(&self, turnaround: Duration) -> ReadCost {
        if self.character.is_zero() {
            let line = Self { pause: self.pause, ..Self::serial(ASSUMED_BAUD, 11) };
            return line.read_cost(Duration::ZERO);
        }
        let frames = self.wire(REQUEST_BYTES + REPLY_BYTES);
        ReadCost::new(frames + turnaround.max(self.silence) + self.gap(), self.character)
    }
}

/// Bytes of the request to read `block`, checksum and preamble counted.
pub fn request_bytes(block: Block) -> u32 {
    Identifier::of(block).map_or(REQUEST_BYTES, Identifier::request_bytes)
}

/// Bytes of the reply to a read of `block`, checksum and preamble counted.
pub fn reply_bytes(block: Block) -> u32 {
    if let Some(identifier) = Identifier::of(block) {
        return identifier.reply_bytes(block.count);
    }
    if block.table == Table::Drive {
        return andon_adapters::huanyang::FRAME as u32;
    }
    let count = u32::from(block.count);
    REPLY_BYTES + if block.table.is_bits() { count.div_ceil(8) } else { 2 * count }
}

/// What a unit has needed before its answers, and so what it will be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turnaround {
    floor: Duration,
    slowest: Duration,
    /// Moving average of the answers in time; `None` before the first.
    usual: Option<Duration>,
    patience: Duration,
}

impl Turnaround {
    /// A unit of which nothing is known but the plan's `floor`.
    pub fn new(floor: Duration) -> Self {
        Self { floor, slowest: Duration::ZERO, usual: None, patience: floor }
    }

    /// How long the unit is waited for, beyond wire time: 3 times the slowest answer seen lately,
    /// at least the floor, at most [`TURNAROUND_MAX`] (or the floor, when that is more).
    pub fn allowance(&self) -> Duration {
        let most = TURNAROUND_MAX.max(self.floor);
        (self.slowest * TURNAROUND_MARGIN).max(self.patience).clamp(self.floor, most)
    }

    /// How long the unit is waited for where nothing else is urgent: a quarter more than the slowest
    /// answer seen lately when the allowance is less, at most [`TURNAROUND_SLOW`] (or the floor).
    pub fn longest(&self) -> Duration {
        let most = TURNAROUND_SLOW.max(self.floor);
        (self.slowest + self.slowest / 4).min(most).max(self.allowance())
    }

    /// The same for a probe that is to find a slow device.
    pub fn patient(&self) -> Duration {
        self.longest().max(TURNAROUND_SLOW)
    }

    /// Whether an answer after `taken` is one that takes the line from the others.
    pub fn is_slow(&self, taken: Duration) -> bool {
        taken > TURNAROUND_MAX.max(self.floor)
    }

    /// The slowest answer seen lately.
    pub const fn slowest(&self) -> Duration {
        self.slowest
    }

    /// What the unit usually needs before its answer, of the last few answers that came in time;
    /// `None` before the first.
    pub const fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// An answer came in time, after `taken` beyond wire time.
    pub fn in_time(&mut self, taken: Duration) {
        self.usual = Some(match self.usual {
            None => taken,
            Some(usual) => usual - usual / AVERAGE_OVER + taken / AVERAGE_OVER,
        });
        self.answered(taken);
    }

    /// An answer came, in time or late, after `taken` beyond wire time.
    pub fn answered(&mut self, taken: Duration) {
        let forgotten = self.slowest - self.slowest / FORGET;
        self.slowest = taken.min(TURNAROUND_SLOW.max(self.floor)).max(forgotten);
        self.patience = self.floor;
    }

    /// No answer came. The next one is waited for twice as long, so that a device which has
    /// become slow is found again where a late answer cannot be seen (TCP).
    pub fn silent(&mut self) {
        self.patience = (self.allowance() * 2).min(TURNAROUND_MAX.max(self.floor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(count: u16, baud: u32) -> f64 {
        let line = LineTiming::serial(baud, 11);
        let block = Block { table: Table::Holding, start: 0, count };
        line.read_time(block, Duration::ZERO).as_secs_f64() * 1e3
    }

    #[test]
    fn read_times_agree_with_the_standard() {
        for (count, baud, millis) in
            [(2, 9600, 27.5), (40, 9600, 114.6), (10, 19_200, 22.9), (125, 115_200, 28.6)]
        {
            let got = read(count, baud);
            assert!((got - millis).abs() < 0.4, "{count} registers at {baud}: {got} ms");
        }
    }

    #[test]
    fn a_pause_lengthens_every_read_by_what_the_silence_lacks() {
        let block = Block { table: Table::Holding, start: 0, count: 2 };
        let millis = |pause| {
            let pause = Duration::from_millis(pause);
            let line = LineTiming { pause, ..LineTiming::serial(9600, 11) };
            line.read_time(block, Duration::ZERO).as_secs_f64() * 1e3
        };
        assert!((millis(0) - 27.5).abs() < 0.1 && (millis(3) - 27.5).abs() < 0.1);
        assert!((millis(50) - 73.5).abs() < 0.1, "{}", millis(50));
    }

    #[test]
    fn what_may_lie_behind_an_address_is_planned_and_what_is_said_to_be_there_is_timed_as_a_line() {
        let of = |baud| LineTiming::of(&Link::Tcp { address: "gateway:502".to_owned(), baud });
        let ms = Duration::from_millis;
        let line = LineTiming::serial(19_200, 11);
        assert_eq!(of(Some(19_200)), line);
        assert_eq!(of(None).wire(100), Duration::ZERO);
        // A gap costs what its registers cost on the line, whatever was measured beyond it.
        let gap = |timing: LineTiming, registers: u16| {
            let count = |count| Block { table: Table::Holding, start: 0, count };
            let cost = timing.read_cost(ms(60));
            cost.of(count(2 + registers)) <= 2 * cost.of(count(1))
        };
        assert!(gap(of(None), 9) && !gap(of(None), 11));
        assert!(gap(of(Some(19_200)), 55) && !gap(of(Some(19_200)), 65));
        // Who wants a rest between requests is asked less often.
        assert!(gap(LineTiming { pause: ms(60), ..of(None) }, 30));
    }

    #[test]
    fn the_usual_turnaround_follows_the_device_and_no_single_answer() {
        let ms = Duration::from_millis;
        let mut turnaround = Turnaround::new(ms(100));
        assert_eq!(turnaround.usual(), None);
        (0..20).for_each(|_| turnaround.in_time(ms(8)));
        assert_eq!(turnaround.usual().unwrap().as_millis(), 8);
        turnaround.in_time(ms(40));
        assert_eq!(turnaround.usual().unwrap().as_millis(), 10);
        (0..100).for_each(|_| turnaround.in_time(ms(40)));
        assert_eq!(turnaround.usual().unwrap().as_millis(), 39);
    }

    #[test]
    fn the_silence_is_fixed_above_19200_baud() {
        assert_eq!(LineTiming::serial(115_200, 10).silence(), Duration::from_micros(1750));
        assert_eq!(LineTiming::serial(9600, 10).silence().as_micros(), 4010);
    }

    #[test]
    fn the_deadline_follows_the_device_between_floor_and_cap() {
        let ms = Duration::from_millis;
        let mut turnaround = Turnaround::new(ms(50));
        assert_eq!(turnaround.allowance(), ms(50));
        turnaround.answered(ms(40));
        assert_eq!(turnaround.allowance(), ms(120));
        turnaround.answered(ms(400));
        assert_eq!(turnaround.allowance(), TURNAROUND_MAX);
        for _ in 0..2000 {
            turnaround.answered(ms(5));
        }
        assert_eq!(turnaround.allowance(), ms(50));
    }

    #[test]
    fn a_device_beyond_the_cap_is_waited_for_where_nothing_is_urgent() {
        let ms = Duration::from_millis;
        let mut turnaround = Turnaround::new(ms(50));
        assert_eq!((turnaround.longest(), turnaround.patient()), (ms(50), TURNAROUND_SLOW));
        assert!(!turnaround.is_slow(ms(500)) && turnaround.is_slow(ms(1200)));
        turnaround.answered(ms(1200));
        assert_eq!((turnaround.allowance(), turnaround.longest()), (TURNAROUND_MAX, ms(1500)));
        turnaround.answered(ms(5000));
        assert_eq!(turnaround.longest(), TURNAROUND_SLOW);
        // Who is known to be slow is no slow one.
        let mut known = Turnaround::new(ms(3000));
        known.answered(ms(2500));
        assert_eq!((known.allowance(), known.longest()), (ms(3000), ms(3000)));
        assert!(!known.is_slow(ms(2500)));
    }

    #[test]
    fn silence_makes_patient_up_to_the_cap_and_an_answer_ends_it() {
        let ms = Duration::from_millis;
        let mut turnaround = Turnaround::new(ms(50));
        turnaround.silent();
        assert_eq!(turnaround.allowance(), ms(100));
        for _ in 0..10 {
            turnaround.silent();
        }
        assert_eq!(turnaround.allowance(), TURNAROUND_MAX);
        turnaround.answered(ms(10));
        assert_eq!(turnaround.allowance(), ms(50));
    }
}
