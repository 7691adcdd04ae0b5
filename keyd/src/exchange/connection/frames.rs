//! A watch over the frames that an HTTP/2 upstream sends.
//!
//! A frame that carries no part of an answer costs the upstream next to nothing and keyd, whose one thread serves all
//! agents, an answer or a change of state: PING, SETTINGS, WINDOW_UPDATE, RST_STREAM, PRIORITY and frames of no known
//! kind. Their number is bounded by time and by what was sent; whoever sends more is cut off. Data has the flow control
//! of the h2 library, and [`Unread`] says when what waits costs too much beside: no frame is begun then. It refuses to look
//! into a frame beyond its head (RFC 9113, 4.1). Made by `http2`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::unread::{DATA, HEAD, Unread};

/// A stream of HTTP/2 frames, watched.
pub struct Watched<T> {
    inner: T,
    reading: Reading,
    allowance: Allowance,
    /// Bytes sent that have not counted yet.
    sent: usize,
    unread: Rc<Unread>,
    /// Bytes that were read and are to come later: there was too much, or a head is before them.
    behind: Bytes,
}

/// Where in a frame the reading is.
#[derive(Default)]
struct Reading {
    head: [u8; HEAD],
    filled: usize,
    payload: usize,
    /// A head of an answer has begun: its fields take many times its bytes, so whoever waits for it has the next turn.
    has_head: bool,
}

/// How many frames may still come.
struct Allowance {
    left: u32,
    since: Instant,
}

impl<T> Watched<T> {
    /// Watches from the first byte on.
    #[must_use]
    pub fn new(inner: T, unread: Rc<Unread>) -> Self {
        let allowance = Allowance { left: BURST, since: Instant::now() };
        Self { inner, reading: Reading::default(), allowance, sent: 0, unread, behind: Bytes::new() }
    }

    fn wrote(&mut self, length: usize) {
        self.sent += length;
        let earned = self.sent / BYTES_FOR_A_FRAME;
        self.sent %= BYTES_FOR_A_FRAME;
        self.allowance.earn(u32::try_from(earned).unwrap_or(BURST));
    }
}

impl Reading {
    /// How many frames with another purpose than data begin in these bytes, and how many bytes there are before a frame
    /// that is not to begin.
    fn see(&mut self, bytes: &[u8], unread: &Unread) -> (u32, usize) {
        let (mut count, mut rest) = (0, bytes);
        loop {
            let skipped = self.payload.min(rest.len());
            (self.payload, rest) = (self.payload - skipped, &rest[skipped..]);
            if rest.is_empty() || self.filled == 0 && (self.has_head || unread.is_full()) {
                return (count, bytes.len() - rest.len());
            }
            let taken = (HEAD - self.filled).min(rest.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&rest[..taken]);
            (self.filled, rest) = (self.filled + taken, &rest[taken..]);
            if self.filled == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                self.filled = 0;
                self.has_head |= kind == HEADERS;
                unread.begins(kind, flags, self.payload);
                count += u32::from(kind != DATA);
            }
        }
    }
}

impl Allowance {
    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(BURST);
    }

    fn spend(&mut self, frames: u32, now: impl FnOnce() -> Instant) -> io::Result<()> {
        if self.left < frames {
            let now = now();
            let time = now.duration_since(self.since).as_millis();
            self.since = now;
            self.earn(u32::try_from(time * u128::from(FRAMES_A_MILLISECOND)).unwrap_or(BURST));
        }
        self.left = self.left.checked_sub(frames).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, FLOOD))?;
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.unread.poll_room(cx));
        if std::mem::take(&mut this.reading.has_head) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = if this.behind.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            let (count, taken) = this.reading.see(&buffer.filled()[before..], &this.unread);
            this.behind = Bytes::copy_from_slice(&buffer.filled()[before + taken..]);
            buffer.set_filled(before + taken);
            count
        } else {
            let most = this.behind.len().min(buffer.remaining());
            let (count, taken) = this.reading.see(&this.behind[..most], &this.unread);
            buffer.put_slice(&this.behind.split_to(taken));
            count
        };
        Poll::Ready(this.allowance.spend(count, Instant::now))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, parts))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

const HEADERS: u8 = 1;
/// Frames at once. An answer brings two heads, a few window updates, and now and then a ping.
const BURST: u32 = 10_000;
/// Ten thousand a second: about a hundredth of a processor.
const FRAMES_A_MILLISECOND: u32 = 10;
/// An upload may be acknowledged twice, stream and connection, for each piece of it.
const BYTES_FOR_A_FRAME: usize = 1024;
const FLOOD: &str = "the upstream floods the connection with frames";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_counted_wherever_they_are_cut() {
        // A payload that looks like frames is no frame.
        let bytes = [frame(DATA, &[6; 40]), frame(6, &[0; 8]), frame(DATA, &[]), frame(4, &[]), frame(1, &[9; 30])];
        let bytes = bytes.concat();
        for size in 1..bytes.len() {
            let mut reading = Reading::default();
            let (unread, mut count) = (Unread::default(), 0);
            for mut part in bytes.chunks(size) {
                while !part.is_empty() {
                    let (more, taken) = reading.see(part, &unread);
                    (count, part) = (count + more, &part[taken..]);
                    reading.has_head = false;
                }
            }
            assert_eq!((count, reading.filled, reading.payload), (3, 0, 0), "cut into {size}");
        }
    }

    fn flood(frames: &[u8]) -> io::Result<()> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            theirs.write_all(frames).await?;
            let mut read = vec![0; frames.len()];
            Watched::new(ours, Rc::default()).read_exact(&mut read).await.map(drop)
        })
    }

    #[test]
    fn a_flood_is_cut_off_and_data_is_not() {
        let pings = |count| frame(6, &[0; 8]).repeat(count);
        assert!(flood(&pings(BURST as usize)).is_ok());
        assert_eq!(flood(&pings(BURST as usize * 2)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(flood(&frame(DATA, &[b'x'; 1024]).repeat(100)).is_ok());
    }

    #[test]
    fn behind_a_head_others_have_their_turn() {
        let frames = [frame(HEADERS, &[9; 30]), frame(HEADERS, &[9; 20]), frame(DATA, b"x"), frame(DATA, b"y")];
        let mut reading = Reading::default();
        let (unread, bytes) = (Unread::default(), frames.concat());
        assert_eq!(reading.see(&bytes, &unread), (1, HEAD + 30));
        reading.has_head = false;
        assert_eq!(reading.see(&bytes[HEAD + 30..], &unread), (1, HEAD + 20));
        reading.has_head = false;
        assert_eq!(reading.see(&bytes[2 * HEAD + 50..], &unread), (0, 2 * (HEAD + 1)));
    }

    #[test]
    fn what_costs_too_much_is_left_where_it_is_until_there_is_room() {
        let frames = frame(DATA, b"piece").repeat(2000);
        let (ours, mut theirs) = tokio::io::duplex(frames.len());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            theirs.write_all(&frames).await.unwrap();
            let unread = Rc::new(Unread::default());
            let mut watched = Watched::new(ours, Rc::clone(&unread));
            let mut read = Vec::new();
            let mut rounds = 0;
            while read.len() < frames.len() {
                let mut buffer = [0; 5000];
                let mut buffer = ReadBuf::new(&mut buffer);
                let poll =
                    Pin::new(&mut watched).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut buffer);
                read.extend_from_slice(buffer.filled());
                if poll.is_pending() {
                    assert_eq!(read.len() % (HEAD + 5), 0, "between two frames");
                    unread.is_read();
                    rounds += 1;
                }
            }
            assert!(read == frames && rounds > 5, "{rounds}");
        });
    }

    #[test]
    fn patience_earns_frames_up_to_a_limit() {
        let start = Instant::now();
        let mut allowance = Allowance { left: 0, since: start };
        let at = |millis| move || start + std::time::Duration::from_millis(millis);
        assert!(allowance.spend(1, at(0)).is_err());
        assert!(allowance.spend(1000, at(100)).is_ok());
        assert!(allowance.spend(1, at(100)).is_err());
        assert!(allowance.spend(BURST, at(3_600_000)).is_ok());
        assert!(allowance.spend(1, at(3_600_000)).is_err());
    }

    #[test]
    fn what_was_sent_may_be_acknowledged() {
        let mut watched = Watched::new((), Rc::default());
        watched.allowance.left = 0;
        let never = || unreachable!("no time has passed");
        for _ in 0..10_000 {
            watched.wrote(1500);
            watched.wrote(BYTES_FOR_A_FRAME * 2 - 1500);
            assert!(watched.allowance.spend(2, never).is_ok());
        }
    }
}
