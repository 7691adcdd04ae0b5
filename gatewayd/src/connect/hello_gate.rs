//! The agent's side of a blind tunnel: nothing passes from it before its first words are known to be no TLS hello for
//! another host than the CONNECT's.
//!
//! Else a host that an agent may reach would lead to every other on the same servers, by the name in the handshake. What
//! is no TLS passes as it comes, and so does a hello without a name; towards the agent everything passes from the
//! beginning, for in some protocols the server speaks first. It refuses a hello that never ends, and looks at nothing
//! behind the hello. Made by `tunnel`.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use strongroom_protocol::authority::Host;
use strongroom_protocol::exchange::TunnelFailure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::client_hello::{FirstWords, Seen};

/// A stream whose reads begin with a look at the first words.
pub struct HelloGate<S> {
    inner: S,
    host: Host,
    /// For a hello, from its first byte.
    patience: Duration,
    state: State,
    refused: Rc<Cell<Option<TunnelFailure>>>,
}

enum State {
    Waiting(FirstWords, Option<Pin<Box<Sleep>>>),
    /// What was held comes first.
    Open(Bytes),
    Shut,
}

impl<S> HelloGate<S> {
    /// Before a tunnel to this host. Reads fail where the first words are refused; why is said in the cell.
    pub fn new(inner: S, host: Host, patience: Duration, refused: Rc<Cell<Option<TunnelFailure>>>) -> Self {
        Self { inner, host, patience, state: State::Waiting(FirstWords::default(), None), refused }
    }

    fn shut(&mut self, why: TunnelFailure) -> Poll<io::Result<()>> {
        self.state = State::Shut;
        self.refused.set(Some(why));
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    fn open(&mut self) {
        if let State::Waiting(words, _) = std::mem::replace(&mut self.state, State::Shut) {
            self.state = State::Open(words.into_bytes().into());
        }
    }

    fn is_for_its_host(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| name.parse() == Ok(self.host.clone()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HelloGate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (words, clock) = match &mut this.state {
                State::Open(held) if held.is_empty() => return Pin::new(&mut this.inner).poll_read(cx, buffer),
                State::Open(held) => {
                    let length = held.len().min(buffer.remaining());
                    buffer.put_slice(&held.split_to(length));
                    return Poll::Ready(Ok(()));
                }
                State::Shut => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                State::Waiting(words, clock) => (words, clock),
            };
            let mut scratch = [0; 4096];
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    let Some(clock) = clock else { return Poll::Pending };
                    ready!(clock.as_mut().poll(cx));
                    return this.shut(TunnelFailure::UnreadableHello);
                }
            }
            match (read.filled(), words.is_empty()) {
                // It says nothing, and may still hear something.
                ([], true) => this.open(),
                ([], false) => return this.shut(TunnelFailure::UnreadableHello),
                (bytes, _) => match words.push(bytes) {
                    Seen::More => {
                        clock.get_or_insert_with(|| Box::pin(sleep(this.patience)));
                    }
                    Seen::Other | Seen::Hello(None) => this.open(),
                    Seen::Hello(Some(name)) if this.is_for_its_host(&name) => this.open(),
                    Seen::Hello(Some(_)) => return this.shut(TunnelFailure::AnotherName),
                    Seen::Malformed => return this.shut(TunnelFailure::UnreadableHello),
                },
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HelloGate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a TLS client is told (RFC 8446, 6.2; RFC 6066, 3).
#[must_use]
pub const fn alert(failure: TunnelFailure) -> [u8; 7] {
    const FATAL: u8 = 2;
    const DECODE_ERROR: u8 = 50;
    const UNRECOGNIZED_NAME: u8 = 112;
    let description = if matches!(failure, TunnelFailure::AnotherName) { UNRECOGNIZED_NAME } else { DECODE_ERROR };
    [21, 3, 3, 0, 2, FATAL, description]
}
