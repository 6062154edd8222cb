//! Sockets to requests: bounded connections, bounded headers, deadlines for whoever dawdles.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::routes::{App, router};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// A request's headers must be there within this time, also on a kept connection.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// A reader that takes nothing for so long is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(20);
/// What is left of connections after so long is cut at shutdown.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no file descriptors): the error would return at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the board and the API until `shutdown` resolves; then ends connections within 2 s.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()> + Send) {
    serve_routes(listener, router(Arc::new(app)), pin!(shutdown)).await;
}

/// Serves any routes in the same way, with the same bounds. There is one copy of it in the binary,
/// whatever ends it.
pub(crate) async fn serve_routes(
    listener: TcpListener,
    router: axum::Router,
    mut shutdown: Pin<&mut (dyn Future<Output = ()> + Send)>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, router.clone(), stopping.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "A connection could not be accepted.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, router: axum::Router, mut stopping: watch::Receiver<()>) {
    // The last part of an answer is not to wait until the part before it is acknowledged. Where that
    // cannot be said, answers are slower.
    stream.set_nodelay(true).ok();
    let io = TokioIo::new(Pressed { stream, stalled: None });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // A broken connection is the reader's business.
        ended = &mut connection => drop(ended),
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// A stream whose writes fail when the other side takes nothing for [`WRITE_STALL_MAX`].
struct Pressed {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Pressed {
    fn press<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_STALL_MAX));
        ready!(self.stalled.get_or_insert_with(deadline).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Pressed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pressed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.press(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
