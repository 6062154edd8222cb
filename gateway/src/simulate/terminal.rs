//! A pseudo-terminal: a serial port whose other end is a program.
//!
//! It is raw and without echo from the start. The far end stays open here too, because otherwise
//! the kernel reports a hang-up for as long as no client has it open. What nobody reads is lost,
//! as it is on a wire.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The device's end; closing it hangs up the port.
#[derive(Debug)]
pub(super) struct Terminal {
    near: AsyncFd<File>,
    far: OwnedFd,
    name: PathBuf,
    link: Option<PathBuf>,
}

impl Terminal {
    /// Opens a pseudo-terminal and lets `link` point to it. A symbolic link that is there already
    /// is replaced, anything else is not.
    ///
    /// # Errors
    /// When there is no pseudo-terminal to be had, or the link cannot be made.
    pub(super) fn open(link: Option<&Path>) -> io::Result<Self> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let name = ptsname(&near, Vec::new())?.into_string().map_err(io::Error::other)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let far = rustix::fs::open(&name, flags, Mode::empty())?;
        let mut attributes = tcgetattr(&far)?;
        attributes.make_raw();
        tcsetattr(&far, OptionalActions::Now, &attributes)?;
        rustix::io::ioctl_fionbio(&near, true)?;
        #[expect(deprecated, reason = "a file keeps its descriptor; the replacement is unsafe")]
        let near = AsyncFd::new(File::from(near))?;
        let mut terminal = Self { near, far, name: name.into(), link: None };
        if let Some(link) = link {
            if std::fs::symlink_metadata(link).is_ok_and(|there| there.is_symlink()) {
                std::fs::remove_file(link)?;
            }
            std::os::unix::fs::symlink(&terminal.name, link)?;
            terminal.link = Some(link.to_owned());
        }
        Ok(terminal)
    }

    /// The speed that its client has set, in bits per second: a pseudo-terminal has none of its
    /// own, but keeps what it is told.
    pub(super) fn speed(&self) -> Option<u32> {
        Some(tcgetattr(&self.far).ok()?.output_speed())
    }

    /// Where a client finds it: the link, where there is one.
    pub(super) fn path(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.name)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && std::fs::read_link(link).is_ok_and(|target| target == self.name)
        {
            // Nobody is left to whom a dangling link could be told.
            std::fs::remove_file(link).ok();
        }
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut readable = ready!(self.near.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            match readable.try_io(|near| near.get_ref().read(room)) {
                Ok(read) => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.near.get_ref().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(bytes.len()),
            written => written,
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
