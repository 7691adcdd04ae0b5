//! The answer's body as it comes from the upstream.
//!
//! An HTTP/2 upstream can end a stream without an error and without its last byte: hyper takes that for an end. It
//! refuses to: what has no end broke off. A small piece of one is copied, for it would keep the buffer that it was read
//! into, and when none is left the connection is told so. Made by `forward`, read by `answer`.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Unread;

/// An upstream's body.
pub struct Download {
    inner: Incoming,
    /// With HTTP/2, which also says when it has ended, even after its last frame.
    unread: Option<Rc<Unread>>,
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
    /// Wraps hyper's body, and what HTTP/2 holds of it.
    #[must_use]
    pub fn new(inner: Incoming, unread: Option<Rc<Unread>>) -> Self {
        Self { inner, unread }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let Some(unread) = &self.unread else { return polled.map_err(Broken::Transport) };
        let has_more = matches!(polled, Poll::Ready(Some(Ok(_)))) && !self.inner.is_end_stream();
        if !has_more {
            unread.is_read();
        }
        Poll::Ready(match ready!(polled) {
            None if !self.inner.is_end_stream() => Some(Err(Broken::Early)),
            frame => frame.map(|frame| frame.map(|frame| frame.map_data(apart)).map_err(Broken::Transport)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn apart(data: Bytes) -> Bytes {
    if data.len() < COPIED { Bytes::copy_from_slice(&data) } else { data }
}

/// Half of what a buffer has.
const COPIED: usize = 8 * 1024;

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
