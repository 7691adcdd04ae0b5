//! The request's body on its way to the upstream: passed on, counted, its trailers dropped.
//!
//! Body text is never searched: a placeholder in a prompt is a worthless string and stays one. Called by `forward`.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::link::{Broken, RequestBody};

/// A request body.
pub struct Upload {
    inner: RequestBody,
    count: Rc<Cell<u64>>,
}

impl Upload {
    /// Counts into `count`.
    #[must_use]
    pub fn new(inner: RequestBody, count: Rc<Cell<u64>>) -> Self {
        Self { inner, count }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            match frame {
                // Trailers could smuggle fields past the judgement over the head.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    self.count.set(self.count.get() + length as u64);
                    return Poll::Ready(Some(Ok(frame)));
                }
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
