//! The body of an answer, out of a channel.
//!
//! Pieces are handed on as they come; nothing is gathered. It refuses to call an answer whole that has no end frame.
//! Made by [`super::Channel`], read by `forward/relay.rs`.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use strongroom_protocol::channel::frames::Frame;
use strongroom_protocol::channel::head;

use super::Dead;
use super::link::Link;

/// A body that is being received.
#[derive(Debug)]
pub struct Download {
    link: Rc<Link>,
    has_ended: bool,
    /// Bytes to come, where the answer announced them.
    length: Option<u64>,
}

impl Download {
    /// Of an answer whose head has come.
    #[must_use]
    pub fn new(link: Rc<Link>, has_body: bool, length: Option<u64>) -> Self {
        let has_ended = !has_body || link.take_plain_end();
        Self { link, has_ended, length: if has_body { length } else { Some(0) } }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Dead;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Dead>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.link.poll_frame(cx)) {
            Ok(Frame::Data(data)) => {
                self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
                // So that the last piece is known to be the last.
                self.has_ended = self.link.take_plain_end();
                Some(Ok(http_body::Frame::data(data)))
            }
            Ok(Frame::End(payload)) => {
                self.has_ended = true;
                match head::fields(payload) {
                    Ok(trailers) if trailers.is_empty() => None,
                    Ok(trailers) => Some(Ok(http_body::Frame::trailers(trailers))),
                    Err(_) => Some(Err(Dead)),
                }
            }
            Ok(Frame::Head(_) | Frame::Continue) | Err(Dead) => Some(Err(Dead)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
