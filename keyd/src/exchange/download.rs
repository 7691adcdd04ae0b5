//! The answer's body as it comes from the upstream.
//!
//! An HTTP/2 upstream can end a stream without an error and without its last byte: hyper takes that for an end. It
//! refuses to: what has no end broke off. Made by `forward`, read by `answer`.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// An upstream's body.
pub struct Download {
    inner: Incoming,
    /// It says when it has ended, even after its last frame.
    tells_its_end: bool,
}

/// Why a body has no end.
#[derive(Debug)]
pub enum Broken {
    /// As hyper says.
    Transport(hyper::Error),
    /// The stream was ended early.
    Early,
}

impl Download {
    /// Wraps hyper's body.
    #[must_use]
    pub fn new(inner: Incoming, is_http2: bool) -> Self {
        Self { inner, tells_its_end: is_http2 }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            None if self.tells_its_end && !self.inner.is_end_stream() => Some(Err(Broken::Early)),
            frame => frame.map(|frame| frame.map_err(Broken::Transport)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's answer broke off")
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Transport(error) => Some(error),
            Self::Early => None,
        }
    }
}
