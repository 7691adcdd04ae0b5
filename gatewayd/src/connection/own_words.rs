//! Puts our refusal where hyper's parser would answer by itself.
//!
//! What hyper cannot read it answers with a bare 400, 414 or 431, past the service: an agent would not learn who said no,
//! or what to do. Such an answer is known by its moment and not by its looks, for an upstream may say the same: no
//! request is under way, and hyper's buffer was empty after the last one ended. What hyper writes then is its own. Where
//! the agent was slow to read the last answer, the moment does not come, and the bare answer stays. On HTTP/2 there is no
//! such moment: the end of an answer may wait there while nothing is under way.
//! It refuses to touch anything else. The connection learns here what hyper reads, and so what it speaks and, on HTTP/2,
//! what lies unread: there hyper gets a head and what follows it one after the other. Wrapped around an agent's connection
//! by `serve`, for hyper.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use strongroom_protocol::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{AgentIo, Connection};

/// A connection on which even what cannot be read is refused in our words.
pub struct OwnWords<F> {
    io: AgentIo,
    connection: Rc<Connection>,
    refuse: F,
    /// Of our answer, what is not written yet.
    left: Option<Bytes>,
    /// Read behind a head, and not hyper's yet.
    behind: Bytes,
    /// hyper has a head and has had no chance to begin its request.
    pauses: bool,
}

impl<F: Fn(Refusal) -> Bytes + Unpin> OwnWords<F> {
    /// Around a connection on which hyper has not written anything; `refuse` makes the whole answer.
    pub fn new(io: AgentIo, connection: Rc<Connection>, refuse: F) -> Self {
        connection.is_settled.set(true);
        Self { io, connection, refuse, left: None, behind: Bytes::new(), pauses: false }
    }

    fn is_the_parsers(&self, bytes: &[u8]) -> bool {
        let may_be = self.connection.is_settled.get() && !self.connection.is_busy() && self.connection.is_http1();
        may_be && CLIENT_ERRORS.iter().any(|start| bytes.starts_with(start))
    }
}

impl<F: Fn(Refusal) -> Bytes + Unpin> AsyncRead for OwnWords<F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.pauses) {
            // hyper begins what it has before it reads on.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.behind.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            let bytes = &buffer.filled()[before..];
            let length = this.connection.is_read_by_hyper(bytes)?;
            this.behind = Bytes::copy_from_slice(&bytes[length..]);
            buffer.set_filled(before + length);
        } else {
            let next = this.behind.slice(..this.behind.len().min(buffer.remaining()));
            let length = this.connection.is_read_by_hyper(&next)?;
            buffer.put_slice(&next[..length]);
            this.behind.advance(length);
        }
        this.pauses = this.connection.is_opening();
        Poll::Ready(Ok(()))
    }
}

impl<F: Fn(Refusal) -> Bytes + Unpin> AsyncWrite for OwnWords<F> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let first = slices.first().map_or(&[][..], |slice| slice);
        if this.left.is_none() && this.is_the_parsers(first) {
            this.left = Some((this.refuse)(reason(first)));
            // The agent may still be sending what could not be read.
            this.connection.leave_body_unread();
        }
        let Some(left) = &mut this.left else { return Pin::new(&mut this.io).poll_write_vectored(cx, slices) };
        while left.has_remaining() {
            let written = ready!(Pin::new(&mut this.io).poll_write(cx, left))?;
            left.advance(written);
        }
        // In place of all that hyper had to say; it closes the connection behind it.
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when its own buffer is empty.
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        if !self.connection.is_busy() {
            self.connection.is_settled.set(true);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What the status says that hyper chose.
fn reason(head: &[u8]) -> Refusal {
    match head.get(CLIENT_ERRORS[0].len() - 1..) {
        Some([b'4', b'1', b'4', ..] | [b'4', b'3', b'1', ..]) => Refusal::TooLarge,
        _ => Refusal::BadRequest,
    }
}

/// In the version of the last request that could be read.
const CLIENT_ERRORS: [&[u8]; 2] = [b"HTTP/1.1 4", b"HTTP/1.0 4"];

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::Version;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::super::Stream;
    use super::*;
    use crate::config::Timeouts;

    const BARE: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    fn said(refusal: Refusal) -> Bytes {
        Bytes::from_static(refusal.code().as_bytes())
    }

    type Words = OwnWords<fn(Refusal) -> Bytes>;

    fn pair() -> (Rc<Connection>, Words, UnixStream) {
        let (ours, agent) = UnixStream::pair().unwrap();
        let connection = Connection::new(Stream::Unix(ours), Timeouts::default());
        let io = AgentIo::new(connection.clone());
        (connection.clone(), OwnWords::new(io, connection, said as fn(Refusal) -> Bytes), agent)
    }

    /// What the agent gets of one write, and of a flush if there is one.
    async fn got(words: &mut Words, agent: &mut UnixStream, bytes: &[u8]) -> Vec<u8> {
        let written =
            poll_fn(|cx| Pin::new(&mut *words).poll_write_vectored(cx, &[IoSlice::new(bytes)])).await.unwrap();
        assert_eq!(written, bytes.len());
        let mut buffer = vec![0; 1024];
        let length = agent.read(&mut buffer).await.unwrap();
        buffer.truncate(length);
        buffer
    }

    async fn begin_http1(words: &mut Words, agent: &mut UnixStream) {
        agent.write_all(b"GET").await.unwrap();
        words.read_exact(&mut [0; 3]).await.unwrap();
    }

    /// What an upstream puts into a body may stand at the beginning of a write, where the one before ended within it.
    #[tokio::test]
    async fn on_http2_nothing_is_replaced() {
        let (_, mut words, mut agent) = pair();
        agent.write_all(super::super::HTTP2_PREFACE).await.unwrap();
        words.read_exact(&mut [0; 24]).await.unwrap();
        words.flush().await.unwrap();
        assert_eq!(got(&mut words, &mut agent, BARE).await, BARE);
        let (_, mut words, mut agent) = pair();
        begin_http1(&mut words, &mut agent).await;
        assert_eq!(got(&mut words, &mut agent, BARE).await, said(Refusal::TooLarge), "the positive twin");
    }

    #[tokio::test]
    async fn what_is_written_with_no_request_under_way_is_replaced_and_all_else_is_not() {
        let (connection, mut words, mut agent) = pair();
        begin_http1(&mut words, &mut agent).await;
        let busy = connection.begin(Version::HTTP_11);
        assert_eq!(got(&mut words, &mut agent, BARE).await, BARE, "an upstream's answer");
        drop(busy);
        assert_eq!(got(&mut words, &mut agent, BARE).await, BARE, "its rest, behind the end of the request");
        words.flush().await.unwrap();
        assert_eq!(got(&mut words, &mut agent, b"\x00\x00\x00\x04HTTP/1.1 4").await, b"\x00\x00\x00\x04HTTP/1.1 4");
        assert_eq!(got(&mut words, &mut agent, BARE).await, said(Refusal::TooLarge));
    }

    fn frame(kind: u8, flags: u8, stream: u8, length: u16) -> Vec<u8> {
        let [a, b] = length.to_be_bytes();
        [&[0, a, b, kind, flags, 0, 0, 0, stream][..], &vec![0; length.into()]].concat()
    }

    #[tokio::test]
    async fn an_http2_agent_whose_unread_bodies_hold_too_much_is_let_go() {
        let (connection, mut words, mut agent) = pair();
        let head = [super::super::HTTP2_PREFACE, &frame(1, 4, 1, 5)].concat();
        let round = [frame(0, 0, 1, 256), frame(0x20, 0, 0, 8100)].concat();
        agent.write_all(&[&head[..], &round].concat()).await.unwrap();
        let mut buffer = vec![0; 16 * 1024];
        assert_eq!(words.read(&mut buffer).await.unwrap(), head.len(), "a request may begin before its body is read");
        let _busy = connection.begin(Version::HTTP_2);
        words.read_exact(&mut buffer[..round.len()]).await.unwrap();
        for _ in 0..200 {
            connection.unread.borrow_mut().took(1);
            agent.write_all(&round).await.unwrap();
            words.read_exact(&mut buffer[..round.len()]).await.unwrap();
        }
        let mut rounds = 0;
        let error = loop {
            agent.write_all(&round).await.unwrap();
            match words.read_exact(&mut buffer[..round.len()]).await {
                Ok(_) => rounds += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert!((50..70).contains(&rounds), "{rounds}");
    }

    #[tokio::test]
    async fn a_flush_in_the_middle_of_an_answer_settles_nothing() {
        let (connection, mut words, mut agent) = pair();
        begin_http1(&mut words, &mut agent).await;
        let busy = connection.begin(Version::HTTP_11);
        words.flush().await.unwrap();
        assert_eq!(got(&mut words, &mut agent, BARE).await, BARE);
        drop(busy);
        assert_eq!(got(&mut words, &mut agent, BARE).await, BARE);
    }

    #[tokio::test]
    async fn the_status_tells_why() {
        for (start, refusal) in [
            ("HTTP/1.1 400 Bad Request", Refusal::BadRequest),
            ("HTTP/1.0 400 Bad Request", Refusal::BadRequest),
            ("HTTP/1.1 414 URI Too Long", Refusal::TooLarge),
        ] {
            let (_, mut words, mut agent) = pair();
            begin_http1(&mut words, &mut agent).await;
            let bare = format!("{start}\r\n\r\n");
            assert_eq!(got(&mut words, &mut agent, bare.as_bytes()).await, said(refusal));
        }
    }
}
