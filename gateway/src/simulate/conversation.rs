//! What is said on one stream: bytes become requests, replies become bytes, at the line's pace.
//!
//! On a serial line a byte takes its time in both directions: a request counts as heard when its
//! last byte would have arrived, and replies leave byte by byte. Moments are computed from the
//! schedule and not from when a timer fired, so that lateness of timers does not add up. While a
//! late reply waits, further requests are heard and answered.
//!
//! Bounds: [`PENDING_MAX`] requests (and those of one more read) and as many replies wait; beyond,
//! nothing is read, and requests get no reply. A stream that takes no bytes for
//! [`WRITE_PATIENCE`] ends.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use super::bench::Shared;
use super::frame::{Assembler, Cut, Framing, Request};

/// Most requests, and most replies, that wait on one stream.
pub const PENDING_MAX: usize = 32;

/// A stream that takes no bytes for so long has nobody at its other end.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
/// Silence after which bytes that are no frame yet will not become one. More than t3.5 at any
/// speed above 2400 baud, because a frame in a TCP stream or from a busy machine can come in parts.
const GIVE_UP: Duration = Duration::from_millis(20);
/// Bits of a character: start, eight, parity or a second stop, stop.
const BITS: u64 = 11;

/// How fast a line is and how frames look on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) framing: Framing,
    /// Time of a character.
    character: Duration,
    /// Time between two frames (t3.5).
    silence: Duration,
}

impl Pace {
    /// Modbus TCP: no pace at all.
    pub(super) const TCP: Self =
        Self { framing: Framing::Tcp, character: Duration::ZERO, silence: Duration::ZERO };

    /// RTU at this many bits per second (Modbus over Serial Line V1.02 §2.5.1.1).
    pub(super) fn serial(baud: u32) -> Self {
        let baud = baud.max(1);
        let character = Duration::from_nanos(BITS * 1_000_000_000 / u64::from(baud));
        let silence = match baud {
            ..=19_200 => character * 7 / 2,
            _ => Duration::from_micros(1750),
        };
        Self { framing: Framing::Rtu, character, silence }
    }

    fn time_of(&self, bytes: usize) -> Duration {
        self.character * u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// A reply that waits or is being said.
#[derive(Debug)]
struct Reply {
    /// When its first byte begins.
    begins: Instant,
    bytes: Vec<u8>,
    said: usize,
    unit: u8,
    function: u8,
}

struct Conversation<'a> {
    shared: &'a Shared,
    pace: Pace,
    assembler: Assembler,
    /// The speed at which the other end speaks, where that is known.
    speed: Option<u32>,
    /// When the last byte that was read has arrived.
    heard: Instant,
    /// When the line is free for the next reply.
    free: Instant,
    /// Requests and when their last byte has arrived.
    requests: VecDeque<(Instant, Request)>,
    replies: Vec<Reply>,
    /// The reply being said.
    speaking: Option<Reply>,
}

/// Answers on `stream` until it ends; `speed` tells the speed of its other end.
///
/// # Errors
/// When the stream fails or takes no bytes.
pub(super) async fn hold<S>(
    shared: &Shared,
    stream: &mut S,
    pace: Pace,
    speed: fn(&S) -> Option<u32>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let mut conversation = Conversation {
        shared,
        pace,
        assembler: Assembler::new(pace.framing),
        speed: None,
        heard: now,
        free: now,
        requests: VecDeque::new(),
        replies: Vec::new(),
        speaking: None,
    };
    let mut bytes = [0; 256];
    loop {
        let due = conversation.due();
        let alarm = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read(&mut bytes), if conversation.requests.len() < PENDING_MAX => {
                let count = read?;
                conversation.speed = speed(stream);
                if count == 0 || !conversation.hear(&bytes[..count]) {
                    return Ok(());
                }
            }
            () = alarm => {}
        }
        conversation.go_on(stream).await?;
    }
}

impl Conversation<'_> {
    /// Takes bytes that were read. Returns false when this stream will never make sense.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        self.heard = self.heard.max(Instant::now()) + self.pace.time_of(bytes.len());
        self.assembler.push(bytes);
        loop {
            match self.assembler.cut() {
                Cut::Request(request) => {
                    let ended = self.heard - self.pace.time_of(self.assembler.left());
                    self.requests.push_back((ended, request));
                }
                Cut::Wait => return true,
                Cut::Hopeless => return false,
            }
        }
    }

    /// When bytes that are no frame yet are given up.
    fn gives_up(&self) -> Option<Instant> {
        let patience = self.pace.silence.max(GIVE_UP);
        let waits = self.pace.framing == Framing::Rtu && self.assembler.left() > 0;
        waits.then(|| self.heard + patience)
    }

    /// When something is to be done next.
    fn due(&self) -> Option<Instant> {
        let speech = match &self.speaking {
            Some(reply) => Some(reply.begins + self.pace.time_of(reply.said + 1)),
            None => self.replies.iter().map(|reply| reply.begins.max(self.free)).min(),
        };
        let request = self.requests.front().map(|(ended, _)| *ended);
        [speech, request, self.gives_up()].into_iter().flatten().min()
    }

    /// Does what is due.
    async fn go_on<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        let now = Instant::now();
        if self.gives_up().is_some_and(|moment| moment <= now)
            && let Some(request) = self.assembler.silence()
        {
            self.requests.push_back((self.heard, request));
        }
        while let Some((ended, request)) = self.requests.pop_front_if(|(ended, _)| *ended <= now) {
            self.answer(ended, &request);
        }
        while self.speak(now, stream).await? {}
        Ok(())
    }

    fn answer(&mut self, ended: Instant, request: &Request) {
        let Some(answer) = self.shared.answer(self.pace.framing, request, self.speed) else {
            return;
        };
        if self.replies.len() < PENDING_MAX {
            self.replies.push(Reply {
                begins: ended + answer.delay.max(self.pace.silence),
                bytes: answer.bytes,
                said: 0,
                unit: request.unit,
                function: request.pdu.first().copied().unwrap_or_default(),
            });
        }
    }

    /// Says what may be said by `now`. Returns whether a reply has come to its end, so that there
    /// may be another.
    async fn speak<S: AsyncWrite + Unpin>(
        &mut self,
        now: Instant,
        stream: &mut S,
    ) -> io::Result<bool> {
        if self.speaking.is_none() {
            let next = (0..self.replies.len()).min_by_key(|&at| self.replies[at].begins);
            let Some(at) = next.filter(|&at| self.replies[at].begins.max(self.free) <= now) else {
                return Ok(false);
            };
            let mut reply = self.replies.remove(at);
            reply.begins = reply.begins.max(self.free);
            self.speaking = Some(reply);
        }
        let Some(reply) = &mut self.speaking else { return Ok(false) };
        let passed = now.saturating_duration_since(reply.begins).as_nanos();
        let may = match self.pace.character.as_nanos() {
            0 => reply.bytes.len(),
            character => usize::try_from(passed / character).unwrap_or(usize::MAX),
        };
        let until = may.min(reply.bytes.len());
        if until > reply.said {
            timeout(WRITE_PATIENCE, stream.write_all(&reply.bytes[reply.said..until])).await??;
            reply.said = until;
        }
        if reply.said < reply.bytes.len() {
            return Ok(false);
        }
        self.shared.told(reply.unit, reply.function, reply.bytes.len());
        self.free = reply.begins + self.pace.time_of(reply.bytes.len());
        self.speaking = None;
        Ok(true)
    }
}
