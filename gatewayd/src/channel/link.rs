//! Our end of a channel's socket pair: frames in, frames out, as far as the socket allows.
//!
//! keyd may answer before it has read the whole request, and close. A write then fails before the answer that lies in
//! the socket was read: so a write to a closed pair is no error, and the end of the reading tells. It refuses frames that
//! are none. Shared by a channel, the body it gives out and the upload that may outlive the answer's head.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::AsRawFd;
use strongroom_protocol::channel::frames::{Decoder, Encoder, Frame, Kind};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Dead;

/// Our end.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    decoder: RefCell<Decoder>,
    encoder: RefCell<Encoder>,
    /// keyd reads no more.
    is_deaf: Cell<bool>,
}

impl Link {
    /// Over a stream that is registered with the runtime.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: RefCell::default(), encoder: RefCell::default(), is_deaf: Cell::new(false) }
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// [`Dead`] where it is larger than the channel takes.
    pub fn push(&self, kind: Kind, payload: Bytes) -> Result<(), Dead> {
        self.encoder.borrow_mut().push(kind, payload).map_err(|_| Dead)
    }

    /// Whether so much waits that more should wait elsewhere.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.encoder.borrow().len() >= MOST_WAITING
    }

    /// Writes what waits.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut encoder = self.encoder.borrow_mut();
        while !encoder.is_empty() {
            if self.is_deaf.get() {
                *encoder = Encoder::default();
                break;
            }
            let mut slices = [IoSlice::new(&[]); 8];
            let count = encoder.slices(&mut slices);
            let written = match ready!(self.stream.poll_write_ready(cx)) {
                Ok(()) => self.stream.try_write_vectored(&slices[..count]),
                Err(error) => Err(error),
            };
            match written {
                Ok(length) => encoder.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.is_deaf.set(true),
            }
        }
        Poll::Ready(())
    }

    /// The next frame that keyd sent.
    ///
    /// # Errors
    /// [`Dead`] where it has closed or what it sent is none.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Result<Frame, Dead>> {
        let mut decoder = self.decoder.borrow_mut();
        loop {
            if let Some(frame) = decoder.next_frame().map_err(|_| Dead)? {
                return Poll::Ready(Ok(frame));
            }
            ready!(self.stream.poll_read_ready(cx)).map_err(|_| Dead)?;
            let buffer = decoder.room();
            let room = buffer.capacity() - buffer.len();
            match self.stream.try_read_buf(buffer) {
                Ok(0) => return Poll::Ready(Err(Dead)),
                // A short read has taken all there was.
                Ok(length) if length < room => self.nothing_left(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(Dead)),
            }
        }
    }

    /// Whether the next frame has come already and is the end of a body without trailers; if so it is taken.
    pub fn take_plain_end(&self) -> bool {
        self.decoder.borrow_mut().take_plain_end()
    }

    /// Whether nothing of a message is left on it and keyd holds its end open.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_clean = self.decoder.borrow().is_empty();
        let nothing_comes =
            || matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        is_clean && self.encoder.borrow().is_empty() && !self.is_deaf.get() && nothing_comes()
    }

    /// Ends it for everybody who shares it.
    pub fn end(&self) {
        // The other end may have been faster.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
    }

    fn nothing_left(&self) {
        let _ = self.stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// Bytes that wait to be written before an upload waits for the socket.
const MOST_WAITING: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    fn pair() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(ours), theirs)
    }

    #[tokio::test]
    async fn an_answer_survives_a_peer_that_stopped_reading() {
        let (ours, mut theirs) = pair();
        theirs.write_all(&[2, 0, 0, 5]).await.unwrap();
        theirs.write_all(b"early").await.unwrap();
        drop(theirs);
        ours.push(Kind::Data, Bytes::from(vec![0; 1_000_000])).unwrap();
        poll_fn(|cx| ours.poll_flush(cx)).await;
        let frame = poll_fn(|cx| ours.poll_frame(cx)).await;
        assert_eq!(frame, Ok(Frame::Data(Bytes::from_static(b"early"))));
        assert_eq!(poll_fn(|cx| ours.poll_frame(cx)).await, Err(Dead));
    }

    #[tokio::test]
    async fn a_quiet_link_is_told_from_one_that_ended_or_speaks() {
        let (ours, mut theirs) = pair();
        assert!(ours.is_quiet());
        theirs.write_all(&[3, 0, 0, 0]).await.unwrap();
        timeout(Duration::from_secs(5), ours.stream.readable()).await.unwrap().unwrap();
        assert!(!ours.is_quiet());
        let (ours, theirs) = pair();
        drop(theirs);
        timeout(Duration::from_secs(5), ours.stream.readable()).await.unwrap().unwrap();
        assert!(!ours.is_quiet());
    }
}
