//! The byte stream under a bus: opening it, and watching what passes.
//!
//! It knows no frame. A [`Tap`] stands between the stream and tokio-modbus, because that library
//! keeps its transport to itself: through the tap the owner sees when the last byte passed, tells
//! a vanished port from a broken frame, and throws late bytes away; on Modbus TCP late frames, by
//! a [`Sieve`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::port;
use super::sieve::{Late, Sieve};
use crate::config::plan::{Link, Parity};

/// A TCP peer that has not accepted within this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a bus speaks through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opening under way.
pub(super) type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;
/// Makes an [`Opening`] whenever the stream is needed anew.
pub(super) type Opener = Box<dyn FnMut() -> Opening + Send>;

/// The opener of `link`. A serial port is opened exclusively, unless another program has it, on a thread that may block: opening
/// a USB port that has just vanished can hang.
pub(super) fn opener(link: &Link) -> Opener {
    match link.clone() {
        Link::Tcp { address, .. } | Link::RtuOverTcp { address, .. } => Box::new(move || {
            let address = address.clone();
            Box::pin(async move {
                let connecting = tokio::net::TcpStream::connect(address);
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        }),
        Link::Rtu { port, baud, parity, stop_bits } => Box::new(move || {
            let builder = tokio_serial::new(port.to_string_lossy(), baud)
                .data_bits(DataBits::Eight)
                .parity(match parity {
                    Parity::None => tokio_serial::Parity::None,
                    Parity::Even => tokio_serial::Parity::Even,
                    Parity::Odd => tokio_serial::Parity::Odd,
                })
                .stop_bits(if stop_bits == 2 { StopBits::Two } else { StopBits::One })
                .flow_control(FlowControl::None);
            let port = port.clone();
            Box::pin(async move {
                let open = move || {
                    port::refuse_if_held(&port)?;
                    let opened = SerialStream::open(&builder);
                    opened.map_err(|error| port::unopened(&port, &error.into()))
                };
                let stream =
                    tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        }),
    }
}

/// A shared view of the stream.
#[derive(Clone)]
pub(super) struct Tap(Arc<Mutex<Tapped>>);

struct Tapped {
    stream: Box<dyn Stream>,
    /// When the last byte passed, either way.
    active: Instant,
    /// When the first byte went out that nothing was heard since.
    unheard: Option<Instant>,
    /// Bytes read since the last [`Tap::mark`].
    read: u64,
    /// The stream has ended or failed: the port or connection is gone.
    ended: bool,
    /// What keeps late answers back; on Modbus TCP only.
    sieve: Option<Sieve>,
}

impl Tapped {
    /// A read brought `count` bytes.
    fn notice(&mut self, poll: &Poll<io::Result<()>>, count: usize) {
        match poll {
            Poll::Ready(Ok(())) if count > 0 => {
                self.active = Instant::now();
                self.unheard = None;
            }
            Poll::Ready(_) => self.ended = true,
            Poll::Pending => {}
        }
    }

    /// Reads until something may be passed on.
    fn poll_sieved(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(sieve) = &mut self.sieve {
            let fit = sieve.fit();
            let count = fit.len().min(buffer.remaining());
            if count > 0 {
                buffer.put_slice(&fit[..count]);
                sieve.passed(count);
                self.read += count as u64;
                return Poll::Ready(Ok(()));
            }
            match self.poll_heard(cx) {
                Poll::Ready(Ok(1..)) => {}
                other => return other.map_ok(|_| ()),
            }
        }
        Poll::Pending
    }

    /// Reads once into the sieve; returns how many bytes came.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); 512];
        let mut heard = ReadBuf::uninit(&mut room);
        let poll = Pin::new(&mut self.stream).poll_read(cx, &mut heard);
        let count = heard.filled().len();
        if let Some(sieve) = &mut self.sieve {
            sieve.heard(heard.filled(), Instant::now());
        }
        self.notice(&poll, count);
        poll.map_ok(|()| count)
    }
}

impl Tap {
    /// `late` answers of Modbus TCP are kept back, when that is asked for.
    pub(super) fn new(stream: Box<dyn Stream>, late: bool) -> Self {
        let (active, sieve) = (Instant::now(), late.then(Sieve::default));
        let unheard = None;
        Self(Arc::new(Mutex::new(Tapped { stream, active, unheard, read: 0, ended: false, sieve })))
    }

    fn lock(&self) -> MutexGuard<'_, Tapped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last byte passed, either way.
    pub(super) fn active(&self) -> Instant {
        self.lock().active
    }

    /// Whether the port or connection is gone.
    pub(super) fn ended(&self) -> bool {
        self.lock().ended
    }

    /// Forgets the bytes read so far: a question to `whose` begins, for which a gateway is `free` or
    /// held by another.
    pub(super) fn mark(&self, whose: usize, free: bool) {
        let mut tapped = self.lock();
        tapped.read = 0;
        if let Some(sieve) = &mut tapped.sieve {
            sieve.begin(whose, free, Instant::now());
        }
    }

    /// The question that was marked is given up: its answer, when it still comes, is a late one.
    pub(super) fn give_up(&self) {
        if let Some(sieve) = &mut self.lock().sieve {
            sieve.give_up();
        }
    }

    /// Bytes read since the mark, those of late answers left out.
    pub(super) fn read(&self) -> u64 {
        let tapped = self.lock();
        tapped.read + tapped.sieve.as_ref().map_or(0, |sieve| sieve.kept() as u64)
    }

    /// Since when something is out that nothing was heard after.
    pub(super) fn unheard(&self) -> Option<Instant> {
        self.lock().unheard
    }

    /// Hears what has come already, without waiting, for whoever reads next; on Modbus TCP only.
    pub(super) async fn listen(&self) {
        poll_fn(|cx| {
            drop(self.lock().poll_heard(cx));
            Poll::Ready(())
        })
        .await;
    }

    /// When the late answer to the question to `whose` of an instant was heard, if it was.
    pub(super) fn late_of(&self, question: (usize, Instant)) -> Option<Instant> {
        self.lock().sieve.as_ref()?.late_of(question)
    }

    /// The late answers since this was last called.
    pub(super) fn take_late(&self) -> Vec<Late> {
        self.lock().sieve.as_mut().map(Sieve::take_late).unwrap_or_default()
    }

    /// Throws bytes away until none has come for `quiet`. Returns how many there were, or `None`
    /// when the line was not silent within `patience` or the stream has ended.
    pub(super) async fn drain(&mut self, quiet: Duration, patience: Duration) -> Option<u64> {
        let give_up = Instant::now() + patience;
        let mut silent_from = Instant::now();
        let mut drained = 0;
        let mut bytes = [0; 256];
        loop {
            let until = (silent_from + quiet).min(give_up);
            let read = tokio::io::AsyncReadExt::read(self, &mut bytes);
            match tokio::time::timeout_at(until, read).await {
                Ok(Ok(1..)) if Instant::now() >= give_up => return None,
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(count)) => {
                    drained += count as u64;
                    silent_from = Instant::now();
                }
                Err(_) if until < silent_from + quiet => return None,
                Err(_) => return Some(drained),
            }
        }
    }

    /// Throws away what has come already, without waiting. Returns how many bytes that was.
    pub(super) async fn discard(&mut self) -> u64 {
        /// Most that is looked at: a stream that never runs dry must not hold us.
        const BYTES_MAX: u64 = 4096;
        poll_fn(|cx| {
            let mut bytes = [0; 256];
            let mut discarded = 0;
            while discarded < BYTES_MAX && !self.ended() {
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut *self).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => discarded += buffer.filled().len() as u64,
                    Poll::Ready(Err(_)) | Poll::Pending => break,
                }
            }
            Poll::Ready(discarded)
        })
        .await
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut tapped = self.lock();
        if tapped.sieve.is_some() {
            return tapped.poll_sieved(cx, buffer);
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut tapped.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        tapped.read += count as u64;
        tapped.notice(&poll, count);
        poll
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut tapped = self.lock();
        let poll = Pin::new(&mut tapped.stream).poll_write(cx, bytes);
        match &poll {
            Poll::Ready(Ok(count @ 1..)) => {
                let now = Instant::now();
                tapped.active = now;
                tapped.unheard.get_or_insert(now);
                if let Some(sieve) = &mut tapped.sieve {
                    sieve.wrote(bytes.get(..*count).unwrap_or_default());
                }
            }
            Poll::Ready(_) => tapped.ended = true,
            Poll::Pending => {}
        }
        poll
    }

    /// Nothing to do: every write has reached the kernel. On a serial port a flush would be
    /// `tcdrain`, which blocks the thread; the request's wire time is in its deadline instead.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }
}
