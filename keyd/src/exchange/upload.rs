//! The request's body on its way to the upstream: passed on, counted, its trailers dropped by [`super::pieces`].
//!
//! Body text is never searched: a placeholder in a prompt is a worthless string and stays one. The exception is the one
//! request whose body a credential names; its body was read whole before, and may have a key in it. Called by `forward`.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::link::{Broken, RequestBody};
use super::pieces::Pieces;
use super::whole_body::WholeBody;

/// A request body.
pub struct Upload {
    source: Source,
    count: Rc<Cell<u64>>,
}

enum Source {
    Passing(Pieces<RequestBody>),
    /// The bytes are given away in one frame.
    Whole(WholeBody),
}

impl Upload {
    /// A body that passes as it comes.
    #[must_use]
    pub fn passing(inner: RequestBody) -> Self {
        Self { source: Source::Passing(Pieces::of(inner)), count: Rc::default() }
    }

    /// A body that was read already.
    #[must_use]
    pub fn whole(body: WholeBody) -> Self {
        let count = Rc::new(Cell::new(body.bytes().len() as u64));
        Self { source: Source::Whole(body), count }
    }

    /// Counts what the agent sent.
    #[must_use]
    pub fn count(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.count)
    }

    /// The body, where it was read already.
    pub fn whole_mut(&mut self) -> Option<&mut WholeBody> {
        match &mut self.source {
            Source::Passing(_) => None,
            Source::Whole(whole) => Some(whole),
        }
    }

    /// Its bytes, where it was read already.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Passing(_) => None,
            Source::Whole(whole) => Some(whole.bytes()),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let inner = match &mut this.source {
            Source::Passing(inner) => inner,
            Source::Whole(whole) => {
                // The allocator wipes this buffer when the request is done with it.
                let bytes = whole.take_bytes();
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
        };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.count.set(this.count.get() + frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passing(inner) => inner.is_end_stream(),
            Source::Whole(whole) => whole.bytes().is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing(inner) => inner.size_hint(),
            Source::Whole(whole) => SizeHint::with_exact(whole.bytes().len() as u64),
        }
    }
}
