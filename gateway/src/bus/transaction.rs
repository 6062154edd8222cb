//! One question, one answer: every reply is checked here, in release builds too.
//!
//! On Modbus TCP `mbap` frames and checks: of a register asked for by itself that is most of what
//! the gateway does. RTU is framed by tokio-modbus, which compares unit and function; its typed
//! methods leave counts and echoes to debug assertions, so only its `call` is used and the rest is
//! checked by [`check`]. What is asked and answered is in `question`. Nothing here decides what to ask or what a failure means for a unit.

use std::future::pending;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_modbus::Slave;
use tokio_modbus::client::{Client as _, Context, rtu};
use tokio_modbus::slave::SlaveContext as _;

use super::dialect::{self, Dialect};
use super::mbap;
use super::question::{Answer, Ask, Fault, check};
use super::sieve::Late;
use super::timing::LineTiming;
use super::transport::{Stream, Tap};
use super::wait::{HOLD_MAX, Hold, Wait, Window};
use crate::config::plan::{Link, Station};

/// A line that is not silent within this time is babbling; the port is opened anew.
pub(super) const BABBLE_MAX: Duration = Duration::from_secs(3);
/// A question that its station cannot be asked: the plan holds none such.
const UNASKABLE: Fault = Fault::Garbled;

/// How frames lie on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// RTU on a serial port: after a failure the line is drained.
    Rtu,
    /// RTU on a TCP stream: after a failure it is connected anew.
    RtuOverTcp,
    /// Modbus TCP: likewise after garbage; a late answer is known by its transaction.
    Mbap,
}

impl Framing {
    pub(super) fn of(link: &Link) -> Self {
        match link {
            Link::Tcp { .. } => Self::Mbap,
            Link::RtuOverTcp { .. } => Self::RtuOverTcp,
            Link::Rtu { .. } => Self::Rtu,
        }
    }
}

/// An open stream with what frames on it.
pub(super) struct Connection {
    tap: Tap,
    client: Client,
    framing: Framing,
    timing: LineTiming,
    /// Who is asked; a late answer and a hold are told by it.
    pub(super) whose: usize,
    /// Timeouts do not cost the stream, where late answers can be told.
    stays: bool,
    /// There is one device behind it, and no gateway for others to hold.
    lone: bool,
    hold: Option<Hold>,
    /// Bytes that nobody had asked for.
    strays: u64,
    /// The line has a thread to itself, which may sleep.
    precise: bool,
}

/// Who puts requests into frames, and takes replies out of them.
enum Client {
    Rtu(Context),
    Mbap(Box<Mbap>),
}

/// What is kept from one question on Modbus TCP to the next.
struct Mbap {
    /// The stream, for the exchange and for who watches it meanwhile.
    speaks: Tap,
    hears: Tap,
    transaction: u16,
    /// What came since the last request; room for a byte more than any frame has.
    bytes: [u8; mbap::FRAME_MAX + 1],
    /// The deadline. One timer for all: putting it off costs less than another.
    timer: Pin<Box<Sleep>>,
}

/// What became of a question.
pub(super) struct Outcome {
    pub(super) result: Result<Answer, Fault>,
    /// When the request left.
    pub(super) sent: Instant,
    /// What the unit needed beyond wire time; meaningful for answers and exceptions.
    pub(super) taken: Duration,
    /// How long another's question held the gateway meanwhile, where its late answer has shown it.
    pub(super) held: Duration,
    /// Whether the gateway was its own for as long as it may take to answer: else nobody knows how
    /// much of `taken`, or of a timeout, is.
    pub(super) own: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, framing: Framing, timing: LineTiming) -> Self {
        let tap = Tap::new(stream, framing == Framing::Mbap);
        let client = attach(&tap, framing);
        let precise = framing == Framing::Rtu;
        let (whose, stays, lone, hold, strays) = (0, false, false, None, 0);
        Self { tap, client, framing, timing, whose, stays, lone, hold, strays, precise }
    }

    /// A connection to so many devices that stays after a timeout, where its late answer can be told
    /// from others.
    pub(super) const fn staying(mut self, devices: usize) -> Self {
        self.stays = matches!(self.framing, Framing::Mbap);
        self.lone = devices <= 1;
        self
    }

    /// Who owes it that the gateway may be held.
    pub(super) fn holder(&self) -> Option<usize> {
        self.hold.filter(|hold| hold.lasts(Instant::now())).map(|hold| hold.debtor)
    }

    /// Until when it may be held.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until()).filter(|until| Instant::now() < *until)
    }

    /// The late answers since this was last called; on Modbus TCP only.
    pub(super) fn take_late(&mut self) -> Vec<Late> {
        let late = self.tap.take_late();
        let frees = |hold: &Hold| late.iter().any(|it| (it.whose, it.sent) == hold.question());
        self.hold = self.hold.filter(|hold| !frees(hold));
        late
    }

    /// From when nothing has been heard for so long after a question that the stream is better opened
    /// anew; `None` while it is not expected to say anything, or does not stay after a timeout.
    pub(super) fn deaf_from(&self) -> Option<Instant> {
        self.tap.unheard().filter(|_| self.stays).map(|since| since + HOLD_MAX)
    }

    /// Hears what has come, without waiting.
    pub(super) async fn listen(&mut self) {
        self.tap.listen().await;
    }

    /// Bytes that nobody had asked for, since this was last called.
    pub(super) fn take_strays(&mut self) -> u64 {
        std::mem::take(&mut self.strays)
    }

    /// Asks `station` and waits for wire time and `allowance`, no longer.
    pub(super) async fn ask(&mut self, station: Station, ask: Ask, allowance: Duration) -> Outcome {
        self.ask_until(station, ask, Wait::of(allowance), pending()).await
    }

    /// Asks `station` and waits for wire time and the allowance, and then until the longest wait and
    /// any hold are over or something is `urgent`.
    pub(super) async fn ask_until(
        &mut self,
        station: Station,
        ask: Ask,
        wait: Wait,
        urgent: impl Future<Output = ()>,
    ) -> Outcome {
        if let Some(dialect) = Dialect::of(station, ask) {
            // Boxed, as is the rest below, so that little room is moved with each reading on TCP.
            return Box::pin(self.ask_dialect(dialect, wait, urgent)).await;
        }
        if self.framing != Framing::Mbap || self.timing.gap() > Duration::ZERO {
            Box::pin(self.settle()).await;
        }
        let (window, exchange) = self.begin(ask.wire_bytes(), wait);
        let result = match station {
            Station::Unit(unit) => match &mut self.client {
                Client::Mbap(client) => client.call(unit, ask, &window, urgent).await,
                Client::Rtu(client) => {
                    Box::pin(call(client, &self.tap, unit, ask, &window, urgent)).await
                }
            },
            Station::Meter(_) => Err(UNASKABLE),
        };
        self.outcome(result, &window, exchange)
    }

    /// [`Connection::ask`] in another protocol than Modbus.
    pub(super) async fn ask_in(&mut self, dialect: Dialect, allowance: Duration) -> Outcome {
        self.ask_dialect(dialect, Wait::of(allowance), pending()).await
    }

    async fn ask_dialect(
        &mut self,
        dialect: Dialect,
        wait: Wait,
        urgent: impl Future<Output = ()>,
    ) -> Outcome {
        self.settle().await;
        let (window, exchange) = self.begin(dialect.wire_bytes(), wait);
        let mut bytes = Vec::new();
        let mut tap = self.tap.clone();
        let conversation = converse(&mut tap, dialect, &mut bytes);
        let alarm = pin!(sleep_until(window.own()));
        let reply = window.over(&self.tap, alarm, conversation, urgent).await;
        let result = reply.unwrap_or(Err(match bytes.is_empty() {
            true => Fault::Timeout,
            false => Fault::Garbled,
        }));
        self.outcome(result, &window, exchange)
    }

    /// A question of `bytes` bytes, there and back, begins.
    fn begin(&mut self, bytes: u32, wait: Wait) -> (Window, Duration) {
        let sent = Instant::now();
        let exchange = self.timing.wire(bytes);
        let hold = self.hold.filter(|hold| hold.lasts(sent) && hold.whose != self.whose);
        self.tap.mark(self.whose, hold.is_none());
        (Window { sent, wait, exchange, hold }, exchange)
    }

    fn outcome(
        &mut self,
        result: Result<Answer, Fault>,
        window: &Window,
        exchange: Duration,
    ) -> Outcome {
        let now = Instant::now();
        let Window { sent, hold, .. } = *window;
        let freed = hold.and_then(|hold| self.tap.late_of(hold.question()));
        let freed = freed.map(|freed| freed.max(sent));
        // A gateway that has answered a later question is done with the one before it.
        if freed.is_some() || matches!(result, Ok(_) | Err(Fault::Exception(_))) {
            self.hold = None;
        }
        let begun = freed.unwrap_or(sent);
        Outcome {
            result,
            sent,
            taken: now.saturating_duration_since(begun + exchange),
            held: begun - sent,
            own: hold.is_none() || freed.is_some(),
        }
    }

    /// Whether the stream is better opened anew after a timeout: nothing was heard for long, or since
    /// a lone device was asked the last time.
    fn is_deaf(&self, outcome: &Outcome) -> bool {
        let Some(since) = self.tap.unheard() else { return false };
        since.elapsed() >= HOLD_MAX || self.lone && since < outcome.sent
    }

    /// Waits until 3.5 characters, or the configured pause, have passed since the last byte,
    /// throwing away what comes unasked. Costs nothing when that time has passed already.
    async fn settle(&mut self) {
        if self.framing == Framing::Mbap {
            // What came unasked is found out by its transaction; only a pause is kept.
            return sleep_until(self.tap.active() + self.timing.gap()).await;
        }
        let give_up = Instant::now() + BABBLE_MAX;
        loop {
            self.strays += self.tap.discard().await;
            let silent = self.tap.active() + self.timing.gap();
            let now = Instant::now();
            if silent <= now || now >= give_up || self.tap.ended() {
                return;
            }
            self.precise &= rest_until(silent, self.precise).await;
        }
    }

    /// After a failure: makes sure that no late byte can be taken for the next answer. `Ok` holds
    /// how late an answer came, when one came; `Err` means that the stream must be opened anew.
    pub(super) async fn recover(
        &mut self,
        outcome: &Outcome,
        quiet: Duration,
    ) -> Result<Option<Duration>, Reopen> {
        if self.tap.ended() {
            return Err(Reopen);
        }
        if self.stays && outcome.result == Err(Fault::Timeout) && !self.is_deaf(outcome) {
            self.tap.give_up();
            // The gateway has come to it after what held it, its own earlier question included.
            let before = self.hold.filter(|hold| hold.lasts(outcome.sent));
            // Who gave way to something urgent while another's still held it: that goes on.
            let gave_way = before.filter(|it| it.whose != self.whose && it.lasts(Instant::now()));
            let after = || Hold::after(before, self.whose, outcome.sent);
            self.hold = Some(gave_way.unwrap_or_else(after));
            return Ok(None);
        }
        if self.framing != Framing::Rtu {
            return Err(Reopen);
        }
        self.client = attach(&self.tap, self.framing);
        let quiet = quiet.max(self.timing.silence());
        let drained = self.tap.drain(quiet, quiet + BABBLE_MAX).await.ok_or(Reopen)?;
        self.strays += drained;
        let late = self.tap.active().saturating_duration_since(outcome.sent);
        Ok((drained > 0).then_some(late))
    }
}

impl Mbap {
    /// Sends and listens until the answer comes or the window is over.
    async fn call(
        &mut self,
        unit: u8,
        ask: Ask,
        window: &Window,
        urgent: impl Future<Output = ()>,
    ) -> Result<Answer, Fault> {
        self.transaction = self.transaction.wrapping_add(1);
        let request = mbap::request(self.transaction, unit, ask).ok_or(UNASKABLE)?;
        let Self { speaks, hears, bytes, timer, .. } = self;
        let exchange = async {
            let mut held = 0;
            speaks.write_all(&request).await.map_err(|_| Fault::Disconnected)?;
            loop {
                match speaks.read(&mut bytes[held..]).await {
                    Ok(count @ 1..) => held += count,
                    Ok(0) | Err(_) => return Err(Fault::Disconnected),
                }
                if let Some(result) = mbap::answer(ask, &request, &bytes[..held]) {
                    return result;
                }
            }
        };
        let reply = window.over(hears, timer.as_mut(), exchange, urgent).await;
        reply.unwrap_or_else(|| Err(unanswered(hears)))
    }
}

/// Why there is no answer when time was up.
fn unanswered(tap: &Tap) -> Fault {
    if tap.read() == 0 { Fault::Timeout } else { Fault::Garbled }
}

/// Sends and listens until the answer comes; what was heard is in `bytes`.
async fn converse(tap: &mut Tap, dialect: Dialect, bytes: &mut Vec<u8>) -> Result<Answer, Fault> {
    tap.write_all(&dialect.request()).await.map_err(|_| Fault::Disconnected)?;
    loop {
        let count = tap.read_buf(bytes).await;
        if !matches!(count, Ok(1..)) {
            return Err(Fault::Disconnected);
        }
        match dialect.answer(bytes) {
            Some(result) => return result,
            None if bytes.len() > dialect::BYTES_MAX => return Err(Fault::Garbled),
            None => {}
        }
    }
}

/// Has tokio-modbus send, and listen until the answer comes or the window is over.
async fn call(
    client: &mut Context,
    tap: &Tap,
    unit: u8,
    ask: Ask,
    window: &Window,
    urgent: impl Future<Output = ()>,
) -> Result<Answer, Fault> {
    let request = ask.request().ok_or(UNASKABLE)?;
    client.set_slave(Slave(unit));
    let alarm = pin!(sleep_until(window.own()));
    match window.over(tap, alarm, client.call(request), urgent).await {
        None => Err(unanswered(tap)),
        Some(Ok(Ok(response))) => check(ask, response),
        Some(Ok(Err(code))) => Err(Fault::Exception(u8::from(code))),
        Some(Err(_)) if tap.ended() => Err(Fault::Disconnected),
        Some(Err(_)) => Err(Fault::Garbled),
    }
}

/// Sleeps until `moment`, to the tenth of a millisecond on a line that has a thread to itself: the
/// runtime's timer knows whole ones, and at 38400 baud one is a tenth of a short read. Returns
/// whether that worked: simulated time stands still while a thread sleeps.
async fn rest_until(moment: Instant, precise: bool) -> bool {
    const TIMER: Duration = Duration::from_millis(1);
    if precise {
        if moment.saturating_duration_since(Instant::now()) > TIMER {
            sleep_until(moment - TIMER).await;
        }
        std::thread::sleep(moment.saturating_duration_since(Instant::now()).min(TIMER));
    }
    let over = Instant::now() >= moment;
    if !over {
        sleep_until(moment).await;
    }
    over || !precise
}

/// The stream cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reopen;

/// A fresh client: one that has seen garbage keeps remains of it in its decoder.
fn attach(tap: &Tap, framing: Framing) -> Client {
    match framing {
        Framing::Rtu | Framing::RtuOverTcp => Client::Rtu(rtu::attach_slave(tap.clone(), Slave(0))),
        Framing::Mbap => Client::Mbap(Box::new(Mbap {
            speaks: tap.clone(),
            hears: tap.clone(),
            transaction: 0,
            bytes: [0; mbap::FRAME_MAX + 1],
            timer: Box::pin(sleep_until(Instant::now())),
        })),
    }
}
