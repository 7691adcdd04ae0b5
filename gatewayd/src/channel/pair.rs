//! Our end of a channel's socket pair, as hyper reads and writes it.
//!
//! keyd may answer before it has read the whole request, and close. A write would then fail before the answer that
//! lies in the socket was read, and hyper would drop it. So a write to a closed pair waits until the end of the stream
//! was read, and fails then. It refuses nothing and hides no other error. Made by [`super::Channel`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Our end.
#[derive(Debug)]
pub struct Pair {
    stream: UnixStream,
    has_read_all: bool,
}

impl Pair {
    /// Wraps a stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, has_read_all: false }
    }

    fn after_the_read_side(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            // No waker is needed: the end of the stream wakes the reader, which is the same task.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe && !self.has_read_all => Poll::Pending,
            other => other,
        }
    }
}

impl AsyncRead for Pair {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0 {
            self.has_read_all = true;
        }
        read
    }
}

impl AsyncWrite for Pair {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_the_read_side(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_the_read_side(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_answer_survives_a_peer_that_stopped_reading() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Pair::new(ours);
        theirs.write_all(b"early answer").await.unwrap();
        drop(theirs);
        assert!(timeout(Duration::from_millis(50), ours.write_all(b"more")).await.is_err(), "neither done nor failed");
        let mut answer = [0; 12];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"early answer");
        assert_eq!(ours.read(&mut answer).await.unwrap(), 0);
        let late = timeout(Duration::from_secs(5), ours.write_all(b"more")).await.expect("fails at once");
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
