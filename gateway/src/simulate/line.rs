//! Serving: the listener or pseudo-terminal of a line, its plug, and a task for it.
//!
//! Bound: [`CONNECTIONS_MAX`] connections at once; more are accepted and closed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bench::{Address, Bench, Shared};
use super::conversation::{Pace, hold};
use super::terminal::Terminal;

/// Most connections to one line; real gateways take 1 to 4.
pub const CONNECTIONS_MAX: usize = 16;

/// Between attempts to take what is not to be had at the moment: a port, a descriptor.
const RETRY: Duration = Duration::from_millis(100);

impl Bench {
    /// Serves the devices over Modbus TCP; port 0 takes a free one. Returns where. A bench is
    /// served on one line only.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_tcp(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.listen(address, Pace::TCP)
    }

    /// Serves RTU frames in a TCP stream, at the pace of a serial line of `baud` behind it.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_rtu_over_tcp(&self, address: SocketAddr, baud: u32) -> io::Result<SocketAddr> {
        self.listen(address, Pace::serial(baud))
    }

    /// Serves RTU on a new pseudo-terminal, at `baud`. Returns its path: `link`, when there is
    /// one. Without, the path is another one after [`Bench::replug`].
    ///
    /// # Errors
    /// When there is no pseudo-terminal to be had, or the link cannot be made.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_rtu(&self, baud: u32, link: Option<&Path>) -> io::Result<PathBuf> {
        let terminal = Terminal::open(link)?;
        let path = terminal.path().to_owned();
        self.shared.address.send_replace(Some(Address::Terminal(path.clone())));
        let line = Line::of(self, Pace::serial(baud));
        tokio::spawn(line.serve_terminal(terminal, link.map(Path::to_owned)));
        Ok(path)
    }

    fn listen(&self, address: SocketAddr, pace: Pace) -> io::Result<SocketAddr> {
        let listener = listen_on(address)?;
        let address = listener.local_addr()?;
        self.shared.address.send_replace(Some(Address::Tcp(address)));
        tokio::spawn(Line::of(self, pace).serve_listener(listener, address));
        Ok(address)
    }
}

/// What a line's task has: not a handle, so that it ends when the last handle goes.
struct Line {
    shared: Arc<Shared>,
    plug: watch::Receiver<bool>,
    pace: Pace,
}

impl Line {
    fn of(bench: &Bench, pace: Pace) -> Self {
        Self { shared: bench.shared.clone(), plug: bench.plug.subscribe(), pace }
    }

    async fn serve_listener(mut self, mut listener: TcpListener, address: SocketAddr) {
        loop {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    pulled = self.plug.changed() => match pulled {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(_) = connections.join_next() => {}
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                            connections.spawn(converse(self.shared.clone(), stream, self.pace));
                        }
                        Ok(_) => tracing::warn!(
                            "More than {CONNECTIONS_MAX} connections; the newest is closed."
                        ),
                        Err(error) => {
                            tracing::warn!(%error, "A connection could not be accepted.");
                            tokio::time::sleep(RETRY).await;
                        }
                    },
                }
            }
            drop(listener);
            connections.shutdown().await;
            if !self.plugged_again().await {
                return;
            }
            let Some(again) = self.retry(|| listen_on(address)).await else {
                return;
            };
            listener = again;
            self.shared.address.send_replace(Some(Address::Tcp(address)));
        }
    }

    async fn serve_terminal(mut self, mut terminal: Terminal, link: Option<PathBuf>) {
        loop {
            tokio::select! {
                pulled = self.plug.changed() => if pulled.is_err() {
                    return;
                },
                ended = hold(&self.shared, &mut terminal, self.pace, Terminal::speed) => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "The pseudo-terminal failed; another is opened.");
                    }
                }
            }
            drop(terminal);
            if !self.plugged_again().await {
                return;
            }
            let Some(again) = self.retry(|| Terminal::open(link.as_deref())).await else {
                return;
            };
            terminal = again;
            let path = terminal.path().to_owned();
            self.shared.address.send_replace(Some(Address::Terminal(path)));
        }
    }

    /// Waits for the plug. Returns false when nobody is left to plug it in.
    async fn plugged_again(&mut self) -> bool {
        self.shared.address.send_replace(None);
        self.plug.wait_for(|plugged| *plugged).await.is_ok()
    }

    /// Tries until it works. `None` when the last handle has gone meanwhile.
    async fn retry<T>(&self, mut open: impl FnMut() -> io::Result<T>) -> Option<T> {
        let mut told = false;
        loop {
            match open() {
                Ok(opened) => return Some(opened),
                Err(_) if self.plug.has_changed().is_err() => return None,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "The line cannot be plugged in; it is retried.");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// The same port again is no trouble: std sets `SO_REUSEADDR`.
pub(super) fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn converse(shared: Arc<Shared>, mut stream: TcpStream, pace: Pace) {
    // Without it the kernel would wait for an acknowledgement before a late reply.
    let held = match stream.set_nodelay(true) {
        Ok(()) => hold(&shared, &mut stream, pace, |_| None).await,
        Err(error) => Err(error),
    };
    if let Err(error) = held {
        tracing::debug!(%error, "A connection failed.");
    }
}
