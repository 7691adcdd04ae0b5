//! The upstream's socket as TLS reads and writes it.
//!
//! An upstream may answer before it has read the whole request, and close; the kernel then resets the connection, and
//! what was still being written fails before the answer that lies in the socket was read. So a write that fails for
//! that reason is dropped as if it were in flight, and the read side says what became of the connection. It refuses to
//! hide any other error. Made by `connect`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose failed writes do not overtake what can still be read.
#[derive(Debug)]
pub struct Socket<T> {
    inner: T,
    has_read_all: bool,
}

impl<T> Socket<T> {
    /// Wraps a stream socket.
    #[must_use]
    pub fn new(inner: T) -> Self {
        Self { inner, has_read_all: false }
    }

    fn after_the_read_side(&self, written: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_gone(&error) && !self.has_read_all => Poll::Ready(Ok(offered)),
            other => other,
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.has_read_all = true;
            }
            Poll::Ready(Err(_)) => self.has_read_all = true,
            _ => {}
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.after_the_read_side(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.after_the_read_side(written, parts.iter().map(|part| part.len()).sum())
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection of which the other end has answered and then reset.
    async fn reset_after(answer: &[u8]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        theirs.write_all(answer).await.unwrap();
        theirs.set_zero_linger().unwrap();
        drop(theirs);
        ours.ready(tokio::io::Interest::ERROR).await.unwrap();
        ours
    }

    #[tokio::test]
    async fn an_answer_survives_the_reset_behind_it() {
        let mut plain = reset_after(b"early answer").await;
        assert!(plain.write_all(b"more").await.is_err(), "without the wrapper the write fails first");

        let mut socket = Socket::new(reset_after(b"early answer").await);
        for _ in 0..3 {
            socket.write_all(b"more").await.unwrap();
        }
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"early answer");
        // The end of the stream, or the reset where no write has used it up.
        assert!(!matches!(socket.read(&mut answer).await, Ok(1..)));
        assert!(socket.write_all(b"more").await.is_err(), "nothing is left to wait for");
    }
}
