//! Our end of a channel's socket pair: frames in, frames out, as far as the socket allows.
//!
//! keyd may answer before it has read the whole request, and close. A write then fails before the answer that lies in
//! the socket was read: so a write to a closed pair is no error, and the end of the reading tells. It refuses frames that
//! are none. Shared by a channel, the body it gives out and the upload that may outlive the answer's head.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use strongroom_protocol::channel::frames::{Decoder, Encoder, Frame, Kind};

use super::Dead;
use super::socket::PairSocket;

/// Our end.
#[derive(Debug)]
pub struct Link {
    socket: PairSocket,
    decoder: RefCell<Decoder>,
    encoder: RefCell<Encoder>,
    /// keyd reads no more.
    is_deaf: Cell<bool>,
}

impl Link {
    /// Over one end of a pair.
    #[must_use]
    pub fn new(socket: PairSocket) -> Self {
        Self { socket, decoder: RefCell::default(), encoder: RefCell::default(), is_deaf: Cell::new(false) }
    }

    /// Puts a frame behind those that wait. A small piece of a body is copied: it may be a slice of a buffer that is many
    /// times as large, and all of that would wait with it, uncounted.
    ///
    /// # Errors
    /// [`Dead`] where it is larger than the channel takes.
    pub fn push(&self, kind: Kind, payload: Bytes) -> Result<(), Dead> {
        let is_small = kind == Kind::Data && payload.len() < SMALL;
        let payload = if is_small { Bytes::copy_from_slice(&payload) } else { payload };
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
            match ready!(self.socket.poll_write(cx, &slices[..count])) {
                Ok(length) => encoder.advance(length),
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
            match ready!(self.socket.poll_read(cx, decoder.room())) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Dead)),
                Ok(_) => {}
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
        is_clean && self.encoder.borrow().is_empty() && !self.is_deaf.get() && self.socket.is_silent()
    }

    /// Nothing more will be written for this request.
    pub fn rest(&self) {
        self.socket.rest();
    }

    /// Ends it for everybody who shares it.
    pub fn end(&self) {
        self.socket.end();
    }
}

/// Bytes that wait to be written before an upload waits for the socket.
const MOST_WAITING: usize = 128 * 1024;

/// Shorter than a usual frame of HTTP/2, and than what an upload at full speed comes in.
const SMALL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    fn pair() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(PairSocket::new(ours).unwrap()), theirs)
    }

    async fn becomes_loud(link: &Link) -> bool {
        let until = Instant::now() + Duration::from_secs(5);
        while link.is_quiet() && Instant::now() < until {
            tokio::task::yield_now().await;
        }
        !link.is_quiet()
    }

    #[tokio::test]
    async fn an_answer_survives_a_peer_that_stopped_reading() {
        let (ours, mut theirs) = pair();
        theirs.write_all(&[2, 0, 0, 5]).unwrap();
        theirs.write_all(b"early").unwrap();
        drop(theirs);
        ours.push(Kind::Data, Bytes::from(vec![0; 1_000_000])).unwrap();
        poll_fn(|cx| ours.poll_flush(cx)).await;
        let frame = poll_fn(|cx| ours.poll_frame(cx)).await;
        assert_eq!(frame, Ok(Frame::Data(Bytes::from_static(b"early"))));
        assert_eq!(poll_fn(|cx| ours.poll_frame(cx)).await, Err(Dead));
    }

    #[tokio::test]
    async fn small_pieces_wait_without_the_buffers_that_they_came_in() {
        let (ours, _theirs) = pair();
        for (length, is_held) in [(1, false), (SMALL - 1, false), (SMALL, true)] {
            let buffer = Bytes::from(vec![7; 128 * 1024]);
            ours.push(Kind::Data, buffer.slice(..length)).unwrap();
            assert_eq!(buffer.is_unique(), !is_held, "{length}");
        }
    }

    #[tokio::test]
    async fn a_quiet_link_is_told_from_one_that_ended_or_speaks() {
        let (ours, mut theirs) = pair();
        assert!(ours.is_quiet());
        theirs.write_all(&[3, 0, 0, 0]).unwrap();
        assert!(becomes_loud(&ours).await);
        let (ours, theirs) = pair();
        drop(theirs);
        assert!(becomes_loud(&ours).await);
    }

    /// A full socket is waited for, also where a second exchange fills it again.
    #[tokio::test]
    async fn what_fills_the_socket_goes_out_as_the_peer_reads() {
        let (ours, mut theirs) = pair();
        for _ in 0..2 {
            ours.push(Kind::Data, Bytes::from(vec![7; 1_000_000])).unwrap();
            let mut reader = theirs.try_clone().unwrap();
            let reading = std::thread::spawn(move || reader.read_exact(&mut vec![0; 1_000_004]));
            poll_fn(|cx| ours.poll_flush(cx)).await;
            ours.rest();
            reading.join().unwrap().unwrap();
        }
        theirs.write_all(&[3, 0, 0, 0]).unwrap();
        assert_eq!(poll_fn(|cx| ours.poll_frame(cx)).await, Ok(Frame::End(Bytes::new())));
    }
}
