//! An agent's connection: the bytes, and the clocks that tell a slow agent from a busy one.
//!
//! ```text
//!            first byte of a head            head complete
//!   Idle ────────────────────────▶ Head ────────────────────▶ Busy (a request or more)
//!    ▲  closed after `idle`         closed after `slow-headers`  │
//!    └────────────────────── last answer finished ───────────────┘
//! ```
//!
//! hyper has one time limit for both waiting and a slow head; here they are two, and a write that the agent does not
//! take has a third. On HTTP/2 an agent can leave one answer lying by its window, while the socket takes everything: an
//! answer that nobody asks on for has that third one too, and ends the connection. Which protocol is spoken is told by
//! what hyper reads, from its first byte on, and by the version of its requests: a CONNECT in front says nothing of it. It
//! refuses to look into the bytes beyond telling HTTP/2, whose control frames are no heads, and a body that is framed
//! twice.
//! Made by the accept loop; read and written by hyper; told by the service when requests begin and end.

mod agent_io;
mod framing;
mod own_words;
mod received;
mod unread;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Version;
use nix::sys::socket::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

pub use self::agent_io::{AgentIo, LINGER};
use self::framing::Framing;
pub use self::own_words::OwnWords;
pub use self::received::Received;
use self::unread::Unread;
use crate::config::Timeouts;
use crate::loopback_peer;

/// The socket of a connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over agent.sock.
    Unix(UnixStream),
    /// Inside a tunnel whose TLS ends here, over this other connection.
    Tls(RefCell<Box<TlsStream<AgentIo>>>, Rc<Connection>),
}

/// A connection: its socket, and where it stands. Shared by hyper's half ([`AgentIo`]), the service and the watch for
/// a hang-up.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    timeouts: Timeouts,
    active: Cell<usize>,
    since: Cell<Instant>,
    in_head: Cell<bool>,
    preface: Cell<Preface>,
    framing: RefCell<Framing>,
    /// On HTTP/2, what of its bodies holds memory.
    unread: RefCell<Unread>,
    linger: Cell<bool>,
    /// On HTTP/2, of each request under way: since when its answer lies there and is not asked for.
    lying: RefCell<HashMap<u64, Instant>>,
    next_request: Cell<u64>,
    /// All of the last answer has left hyper, and no other has begun.
    is_settled: Cell<bool>,
    is_broken: Cell<bool>,
}

/// How much of HTTP/2's connection preface hyper has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preface {
    Bytes(usize),
    Http1,
    Http2,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(stream: Stream, timeouts: Timeouts) -> Rc<Self> {
        Rc::new(Self {
            stream,
            timeouts,
            active: Cell::new(0),
            since: Cell::new(Instant::now()),
            in_head: Cell::new(false),
            preface: Cell::new(Preface::Bytes(0)),
            framing: RefCell::default(),
            unread: RefCell::default(),
            linger: Cell::new(false),
            lying: RefCell::default(),
            next_request: Cell::new(0),
            is_settled: Cell::new(false),
            is_broken: Cell::new(false),
        })
    }

    /// A request of this version has been read as far as its head; it lasts until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Rc<Self>, version: Version) -> Busy {
        self.active.set(self.active.get() + 1);
        self.is_settled.set(false);
        self.in_head.set(false);
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        let is_http2 = version == Version::HTTP_2;
        let stream = if is_http2 { self.unread.borrow_mut().begin() } else { None };
        Busy { connection: self.clone(), number, is_http2, stream }
    }

    /// Whether a request is being served.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.active.get() > 0
    }

    /// Whether no other request is being served than the one that asks.
    #[must_use]
    pub fn serves_one(&self) -> bool {
        self.active.get() <= 1
    }

    fn is_http1(&self) -> bool {
        self.preface.get() == Preface::Http1
    }

    /// The body of a request was not read to its end: when closing, the rest is read and dropped for a moment, so that
    /// the agent sees our answer and not a reset.
    pub fn leave_body_unread(&self) {
        self.linger.set(true);
    }

    /// It was read to its end after all.
    pub fn body_was_read(&self) {
        self.linger.set(false);
    }

    /// Whether a request on it framed its body twice; then none is answered but with a refusal.
    #[must_use]
    pub fn has_double_framing(&self) -> bool {
        self.preface.get() != Preface::Http2 && self.framing.borrow().is_double()
    }

    /// Makes closing a reset: an answer without a length would otherwise look complete.
    pub fn break_off(&self) {
        self.is_broken.set(true);
        match &self.stream {
            Stream::Tcp(stream) => drop(stream.set_zero_linger()),
            Stream::Unix(_) => {}
            Stream::Tls(_, outer) => outer.break_off(),
        }
    }

    /// The socket of agent.sock, to be shown to keyd.
    #[must_use]
    pub fn agent_socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.stream {
            Stream::Unix(stream) => Some(stream.as_fd()),
            _ => None,
        }
    }

    /// Whose process is at the other end, by the kernel's word: of agent.sock, and of a TCP connection of this machine.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        match &self.stream {
            Stream::Unix(stream) => Some(stream.peer_cred().ok()?.uid()),
            Stream::Tcp(_) => {
                let (own, peer) = self.addresses()?;
                loopback_peer::look_up(peer, own).ok()?.user()
            }
            Stream::Tls(_, outer) => outer.user(),
        }
    }

    /// Both ends, over TCP.
    #[must_use]
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        match &self.stream {
            Stream::Tcp(stream) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Stream::Unix(_) => None,
            Stream::Tls(_, outer) => outer.addresses(),
        }
    }

    /// Waits until the socket is ready, as tokio's streams do.
    ///
    /// # Errors
    /// Where the event loop is gone.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match &self.stream {
            Stream::Tcp(stream) => stream.ready(interest).await,
            Stream::Unix(stream) => stream.ready(interest).await,
            Stream::Tls(_, outer) => Box::pin(outer.ready(interest)).await,
        }
    }

    /// Says that nothing more is written.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = match &self.stream {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
            // A word of farewell would make a broken answer look whole.
            Stream::Tls(..) if self.is_broken.get() => return Poll::Ready(()),
            Stream::Tls(tls, _) => return Pin::new(&mut **tls.borrow_mut()).poll_shutdown(cx).map(drop),
        };
        // An agent that is gone already has nothing left to be told.
        let _ = nix::sys::socket::shutdown(socket, Shutdown::Write);
        Poll::Ready(())
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls, _) => Pin::new(&mut **tls.borrow_mut()).poll_flush(cx),
        }
    }

    /// Somebody has read these bytes: where nothing is under way, a head begins.
    fn was_read(&self, bytes: &[u8]) {
        if self.preface.get() != Preface::Http2 && !self.is_busy() && !self.in_head.get() && !bytes.is_empty() {
            self.in_head.set(true);
            self.since.set(Instant::now());
        }
    }

    /// hyper reads these bytes next, and speaks what they say: gives how many of them, before it is given a chance to
    /// begin a request.
    ///
    /// # Errors
    /// Where the bodies that lie unread hold too much.
    fn is_read_by_hyper(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        if let Preface::Bytes(count) = self.preface.get() {
            at = HTTP2_PREFACE[count..].len().min(bytes.len());
            self.preface.set(match at {
                length if HTTP2_PREFACE[count..count + length] != bytes[..length] => Preface::Http1,
                length if count + length == HTTP2_PREFACE.len() => Preface::Http2,
                length => Preface::Bytes(count + length),
            });
            if self.preface.get() == Preface::Http2 {
                self.in_head.set(false);
                self.since.set(Instant::now());
            }
        }
        if self.preface.get() == Preface::Http2 {
            let mut unread = self.unread.borrow_mut();
            let length = at + unread.see(&bytes[at..]);
            return if unread.is_too_much() { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(length) };
        }
        let mut framing = self.framing.borrow_mut();
        if !self.is_busy() {
            framing.idle();
        }
        framing.see(bytes);
        Ok(bytes.len())
    }

    /// Whether all that hyper has read ends with a head, whose request may begin now.
    fn is_opening(&self) -> bool {
        self.unread.borrow().is_opening()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_busy() {
            return self.lying.borrow().values().min().map(|since| *since + self.timeouts.stalled.get());
        }
        let limit = if self.in_head.get() { self.timeouts.slow_headers } else { self.timeouts.idle };
        Some(self.since.get() + limit.get())
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        loop {
            let read = match &self.stream {
                Stream::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buffer)
                }
                Stream::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buffer)
                }
                Stream::Tls(tls, _) => return Pin::new(&mut **tls.borrow_mut()).poll_read(cx, buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(length) => {
                    if 0 < length && length < room {
                        self.has_been_emptied();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// A read that fills less than its room has taken all there was: the next one waits without asking the kernel
    /// first. An end that came with it is not forgotten, for tokio keeps that apart.
    fn has_been_emptied(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
            Stream::Tls(..) => Ok(()),
        };
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let written = match &self.stream {
                Stream::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(slices)
                }
                Stream::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(slices)
                }
                Stream::Tls(tls, _) => return Pin::new(&mut **tls.borrow_mut()).poll_write_vectored(cx, slices),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // keyd has a copy of an agent's socket, and closing ours alone would leave the agent waiting.
        if let Stream::Unix(stream) = &self.stream {
            let _ = nix::sys::socket::shutdown(stream.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// A request that is being served; the connection may be idle again when the last one is dropped.
#[derive(Debug)]
pub struct Busy {
    connection: Rc<Connection>,
    number: u64,
    is_http2: bool,
    /// On HTTP/2.
    stream: Option<u32>,
}

impl Busy {
    /// The connection that it came on.
    #[must_use]
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Some of its answer is there to be taken, and from now on the agent's to ask for. In HTTP/1 the socket tells.
    pub fn lies(&self) {
        if self.is_http2 {
            self.connection.lying.borrow_mut().insert(self.number, Instant::now());
        }
    }

    /// It was asked for, and there is nothing yet.
    pub fn is_awaited(&self) {
        if self.is_http2 {
            self.connection.lying.borrow_mut().remove(&self.number);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_awaited();
        self.connection.active.set(self.connection.active.get() - 1);
        // The end of its answer may still wait in hyper.
        self.connection.is_settled.set(false);
        self.connection.since.set(Instant::now());
    }
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
