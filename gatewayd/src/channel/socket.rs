//! Our end of a socket pair, registered for what it waits for and nothing else.
//!
//! A Unix socket reports room whenever its peer has read, wanted or not: with both directions registered, keyd's
//! reading would wake us once more for each request and each piece of an answer, for nothing. So only reading is
//! registered, and writing while the socket is full, through a duplicate of the descriptor. It refuses to know what
//! the bytes mean. Used by [`super::link`].

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::uio::writev;
use tokio::net::unix::pipe::{Receiver, Sender};

/// A stream whose waiting directions are registered.
///
/// tokio registers a stream of its own for both, and registering a bare descriptor takes unsafe code. Its pipe ends
/// serve: they are registered for one direction each, and read and write as a socket does.
#[derive(Debug)]
pub struct PairSocket {
    reading: Receiver,
    /// While it is or was full in this exchange.
    writing: RefCell<Option<Sender>>,
}

impl PairSocket {
    /// Registers one end with the running runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { reading: Receiver::from_owned_fd_unchecked(stream.into())?, writing: RefCell::default() })
    }

    /// Reads into the free capacity of a buffer, of which there must be some. Nothing at the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let room = buffer.capacity() - buffer.len();
        loop {
            ready!(self.reading.poll_read_ready(cx))?;
            match self.reading.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(length) if 0 < length && length < room => {
                    // A short read has taken all there was: the next one waits without asking the kernel first.
                    let _ = self.reading.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                    return Poll::Ready(Ok(length));
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes as much of some slices as there is room for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut writing = self.writing.borrow_mut();
        loop {
            let written = match &*writing {
                None => writev(&self.reading, slices).map_err(io::Error::from),
                Some(sender) => {
                    ready!(sender.poll_write_ready(cx))?;
                    sender.try_write_vectored(slices)
                }
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if writing.is_none() {
                        // Without it nobody would say when there is room: rather an end than a wait.
                        let duplicate = self.reading.as_fd().try_clone_to_owned();
                        let sender = duplicate.and_then(Sender::from_owned_fd_unchecked).inspect_err(|_| self.end())?;
                        *writing = Some(sender);
                    }
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// Nothing more will be written for a while.
    pub fn rest(&self) {
        self.writing.take();
    }

    /// Whether there is nothing to read now and the other end is open. Takes a byte where there is one.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self.reading.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends it for everybody who shares it.
    pub fn end(&self) {
        // The other end may have been faster.
        let _ = shutdown(self.reading.as_raw_fd(), Shutdown::Both);
    }
}
