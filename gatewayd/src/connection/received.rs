//! The body of an agent's request, as hyper gives it out, with an account of what lies there unread.
//!
//! It refuses nothing and changes nothing. Wrapped around each request's body by the service; read by whoever sends it on,
//! or drops it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{Busy, Connection};

/// A request's body.
#[derive(Debug)]
pub struct Received {
    body: Incoming,
    /// On HTTP/2 its connection and stream.
    account: Option<(Rc<Connection>, u32)>,
}

impl Received {
    /// The body of the request that has just begun.
    #[must_use]
    pub fn new(body: Incoming, busy: &Busy) -> Self {
        Self { body, account: busy.stream.map(|stream| (busy.connection.clone(), stream)) }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some((connection, stream)), Some(Ok(frame))) = (&self.account, &frame)
            && frame.is_data()
        {
            connection.unread.borrow_mut().took(*stream);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some((connection, stream)) = &self.account {
            connection.unread.borrow_mut().leave(*stream);
        }
    }
}
