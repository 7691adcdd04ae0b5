//! hyper's half of an agent's connection: reads and writes that fail when a clock has run out.
//!
//! The clocks' states are the connection's; here is the timer that wakes the task. Closing waits a moment for the rest
//! of a body that nobody read. It refuses no bytes. Made by `serve`, driven by hyper.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Connection;

/// hyper's half of a connection: reads and writes that end with an error when a clock has run out.
#[derive(Debug)]
pub struct AgentIo {
    connection: Rc<Connection>,
    timer: RefCell<Pin<Box<Sleep>>>,
    blocked_since: Option<Instant>,
    closing_since: Option<Instant>,
    /// Bytes that were read already, to be read once more.
    again: Bytes,
    /// Nothing more is written.
    has_ended: bool,
}

impl AgentIo {
    /// For one connection, once.
    #[must_use]
    pub fn new(connection: Rc<Connection>) -> Self {
        let timer = RefCell::new(Box::pin(sleep_until(Instant::now() + connection.timeouts.idle.get())));
        Self { connection, timer, blocked_since: None, closing_since: None, again: Bytes::new(), has_ended: false }
    }

    /// These bytes come first in the next read: they were read by somebody who only wanted to see them.
    pub fn rewind(&mut self, bytes: Bytes) {
        // Only a part of what was rewound before may have been read again.
        self.again = if self.again.is_empty() { bytes } else { [bytes, self.again.clone()].concat().into() };
    }

    /// Whether a clock has run out; if not, the task is woken when the next one does.
    fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let blocked = self.blocked_since.map(|since| since + self.connection.timeouts.stalled.get());
        let closing = self.closing_since.map(|since| since + LINGER);
        let Some(deadline) = [self.connection.deadline(), blocked, closing].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        let mut timer = self.timer.borrow_mut();
        // Most deadlines are put off long before they come: a timer that rings too early is set again then.
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = self.connection.poll_write(cx, slices) {
            self.blocked_since = None;
            return Poll::Ready(result);
        }
        self.blocked_since.get_or_insert_with(Instant::now);
        self.poll_expired(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for AgentIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.again.is_empty() {
            match self.connection.poll_read(cx, buffer) {
                Poll::Ready(result) => result?,
                Poll::Pending => return self.poll_expired(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            }
        } else {
            let length = self.again.len().min(buffer.remaining());
            buffer.put_slice(&self.again.split_to(length));
        }
        self.connection.was_read(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AgentIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing_since.is_none() {
            self.closing_since = Some(Instant::now());
        }
        if !self.has_ended {
            if self.connection.poll_end(cx).is_pending() && self.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            self.has_ended = true;
        }
        if !self.connection.linger.get() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            if self.poll_expired(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match self.connection.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// How long the rest of an unwanted body is read and dropped.
pub const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use http::Version;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::super::{HTTP2_PREFACE, OwnWords, Stream};
    use super::*;
    use crate::config::{Config, Timeouts};

    fn timeouts() -> Timeouts {
        let text = "[timeouts]\nslow-headers = \"100ms\"\nidle = \"400ms\"\nstalled = \"200ms\"";
        toml::from_str::<Config>(text).unwrap().timeouts
    }

    fn pair() -> (Rc<Connection>, AgentIo, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(Stream::Unix(ours), timeouts());
        (connection.clone(), AgentIo::new(connection), theirs)
    }

    async fn read_until_error(io: &mut (impl AsyncRead + Unpin)) -> (io::ErrorKind, Duration) {
        let start = Instant::now();
        loop {
            match io.read(&mut [0; 64]).await {
                Ok(0) => panic!("closed"),
                Ok(_) => {}
                Err(error) => return (error.kind(), start.elapsed()),
            }
        }
    }

    #[tokio::test]
    async fn what_was_rewound_comes_again_in_its_order_however_much_was_read_of_it() {
        let (_, mut io, mut agent) = pair();
        agent.write_all(b"abcdefgh").await.unwrap();
        let mut first = [0; 8];
        io.read_exact(&mut first).await.unwrap();
        io.rewind(Bytes::copy_from_slice(&first));
        let mut some = [0; 3];
        io.read_exact(&mut some).await.unwrap();
        io.rewind(Bytes::copy_from_slice(&some));
        agent.write_all(b"ij").await.unwrap();
        let mut all = [0; 10];
        io.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcdefghij");
    }

    #[tokio::test]
    async fn a_head_has_less_time_than_silence() {
        let (_, mut io, _silent) = pair();
        let (kind, silent) = read_until_error(&mut io).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(silent >= Duration::from_millis(400), "{silent:?}");

        let (_, mut io, mut slow) = pair();
        slow.write_all(b"GET / HT").await.unwrap();
        let (kind, head) = read_until_error(&mut io).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!((Duration::from_millis(100)..Duration::from_millis(400)).contains(&head), "{head:?}");
    }

    #[tokio::test]
    async fn bytes_that_trickle_do_not_prolong_a_head() {
        let (_, mut io, mut slow) = pair();
        let trickle = async {
            while slow.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            (kind, _) = read_until_error(&mut io) => assert_eq!(kind, io::ErrorKind::TimedOut),
            () = trickle => panic!("closed"),
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("never ended"),
        }
    }

    #[tokio::test]
    async fn a_busy_connection_is_not_hurried() {
        let (connection, mut io, mut agent) = pair();
        agent.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        io.read_exact(&mut [0; 18]).await.unwrap();
        let busy = connection.begin(Version::HTTP_11);
        let patient = tokio::time::timeout(Duration::from_millis(600), read_until_error(&mut io)).await;
        assert!(patient.is_err());
        drop(busy);
        assert_eq!(read_until_error(&mut io).await.0, io::ErrorKind::TimedOut);
    }

    /// hyper knows what it speaks; what the agent said before is no matter.
    #[tokio::test]
    async fn an_answer_that_lies_on_http2_has_its_clock_whatever_came_first() {
        let (connection, mut io, mut agent) = pair();
        agent.write_all(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n").await.unwrap();
        io.read_exact(&mut [0; 34]).await.unwrap();
        drop(connection.begin(Version::HTTP_11));
        let busy = connection.begin(Version::HTTP_2);
        busy.lies();
        let (kind, time) = read_until_error(&mut io).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(time >= Duration::from_millis(200), "{time:?}");
        busy.is_awaited();
        let patient = tokio::time::timeout(Duration::from_millis(600), read_until_error(&mut io)).await;
        assert!(patient.is_err(), "the twin: one that is awaited");
    }

    /// As where it stood behind a CONNECT that was refused.
    #[tokio::test]
    async fn a_head_that_begins_with_what_was_rewound_has_no_more_time() {
        let (connection, mut io, mut agent) = pair();
        agent.write_all(b"CONNECT GET / HT").await.unwrap();
        let mut all = [0; 16];
        io.read_exact(&mut all).await.unwrap();
        io.rewind(Bytes::copy_from_slice(&all[8..]));
        drop(connection.begin(Version::HTTP_11));
        let (_, time) = read_until_error(&mut io).await;
        assert!((Duration::from_millis(100)..Duration::from_millis(400)).contains(&time), "{time:?}");
    }

    #[tokio::test]
    async fn frames_of_http2_are_no_slow_head() {
        let (connection, io, mut agent) = pair();
        let mut io = OwnWords::new(io, connection, |_| Bytes::new());
        agent.write_all(&HTTP2_PREFACE[..10]).await.unwrap();
        io.read_exact(&mut [0; 10]).await.unwrap();
        agent.write_all(&HTTP2_PREFACE[10..]).await.unwrap();
        agent.write_all(b"frame").await.unwrap();
        let (_, time) = read_until_error(&mut io).await;
        assert!(time >= Duration::from_millis(350), "{time:?}");
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_is_given_up() {
        let (connection, mut io, _agent) = pair();
        let _busy = connection.begin(Version::HTTP_11);
        let block = vec![0; 1 << 20];
        let error = io.write_all(&block).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn closing_reads_what_was_left_unread() {
        let (connection, mut io, mut agent) = pair();
        connection.leave_body_unread();
        let block = vec![0; 1 << 20];
        let sending = async {
            agent.write_all(&block).await.unwrap();
            agent.shutdown().await.unwrap();
        };
        let (closed, ()) = tokio::join!(io.shutdown(), sending);
        closed.unwrap();
    }
}
