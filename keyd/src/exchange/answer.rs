//! The answer's body on its way to gatewayd, through the scrubber.
//!
//! One pass, a chunk at a time, with the socket's own back-pressure. A clean end gives what the scrubber held; any
//! other end drops it and breaks the channel, so that gatewayd cannot take a cut-off answer for a whole one. Trailers
//! are scrubbed too. [`head`] looks at what comes before, [`passage`] is the way without
//! sockets. Called by `forward`.

pub mod head;
pub mod messages;
pub mod passage;
mod readable;

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use strongroom_protocol::Refusal;

use self::passage::Passage;
use super::decode::{Pulled, Undecodable};
use super::download::{Broken, Download};
use super::fields;
use super::gather::Gather;
use super::record::Ending;
use super::scrub::head::scrub_fields;
use super::scrub::patterns::Patterns;

/// What goes out on the channel.
pub enum Answer {
    /// A refusal: its words are gatewayd's.
    Empty,
    /// An upstream's body.
    Streaming(Box<Streaming>),
}

/// Gives other patterns when the vault has changed since these were made.
type Newest = Box<dyn Fn(&Rc<Patterns>) -> Option<Rc<Patterns>>>;

/// An upstream's body, and what is to be done when it ends.
pub struct Streaming {
    inner: Gather<Download>,
    /// Until the body's end.
    passage: Option<Passage>,
    is_decoded: bool,
    trailers: Option<HeaderMap>,
    patterns: Rc<Patterns>,
    newest: Newest,
    ending: Ending,
}

impl Streaming {
    /// A body to scrub. `newest` gives other patterns when the vault has changed since these were made.
    #[must_use]
    pub fn new(
        inner: Download,
        passage: Passage,
        patterns: Rc<Patterns>,
        newest: impl Fn(&Rc<Patterns>) -> Option<Rc<Patterns>> + 'static,
        ending: Ending,
    ) -> Self {
        let is_decoded = passage.is_decoded();
        let (inner, passage, newest) = (Gather::new(inner), Some(passage), Box::new(newest));
        let mut streaming = Self { inner, passage, is_decoded, trailers: None, patterns, newest, ending };
        streaming.note_end();
        streaming
    }

    /// Nobody asks again once a body says that it has ended: so the end is noted when it can be seen.
    fn note_end(&mut self) {
        if self.has_ended() {
            self.ending.complete();
        }
    }

    fn has_ended(&self) -> bool {
        // Nothing can be held before the first chunk, so a body that is empty from the start is known to be.
        self.passage.as_ref().is_none_or(Passage::is_empty) && self.inner.is_end_stream() && self.trailers.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        while let Some(passage) = &mut self.passage {
            let out = match passage.pull() {
                Ok(out) => out,
                Err(undecodable) => return Poll::Ready(Some(Err(self.give_up(undecodable)))),
            };
            self.ending.scrubbed(passage.take_found());
            match out {
                Pulled::Piece(out) => return self.give(out),
                Pulled::Paused => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pulled::Nothing => {}
            }
            match ready!(self.inner.poll(cx, passage.least())) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(newer) = (self.newest)(&self.patterns) {
                            self.patterns = Rc::clone(&newer);
                            passage.set_patterns(newer);
                        }
                        passage.push(data);
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    self.drop_rest();
                    self.ending.refused(Refusal::UpstreamProtocol);
                    return Poll::Ready(Some(Err(BrokenAnswer::Upstream(error))));
                }
                None => {
                    let rest = self.passage.take().map_or(Ok(Default::default()), Passage::finish);
                    let (rest, found) = match rest {
                        Ok(rest) => rest,
                        Err(undecodable) => return Poll::Ready(Some(Err(self.give_up(undecodable)))),
                    };
                    self.ending.scrubbed(found);
                    if !rest.is_empty() {
                        return self.give(rest);
                    }
                }
            }
        }
        let trailers = self.trailers.take().and_then(|trailers| self.searched(trailers));
        self.ending.complete();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn give(&mut self, out: Bytes) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        self.ending.sent(out.len());
        self.note_end();
        Poll::Ready(Some(Ok(Frame::data(out))))
    }

    fn give_up(&mut self, undecodable: Undecodable) -> BrokenAnswer {
        tracing::debug!(%undecodable, "an answer is broken off");
        self.drop_rest();
        self.ending.refused(Refusal::ResponseUnscrubbable);
        BrokenAnswer::Undecodable(undecodable)
    }

    /// What is held is dropped with the passage.
    fn drop_rest(&mut self) {
        self.passage = None;
        self.trailers = None;
    }

    fn searched(&mut self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        if let Some(newer) = (self.newest)(&self.patterns) {
            self.patterns = newer;
        }
        fields::prepare_response(&mut trailers, fields::Leave { range: false, cookies: false });
        if self.is_decoded {
            head::decoded(&mut trailers);
        }
        self.ending.scrubbed(scrub_fields(&mut trailers, &self.patterns));
        (!trailers.is_empty()).then_some(trailers)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenAnswer;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(streaming) => streaming.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(streaming) => streaming.has_ended(),
        }
    }

    /// Masking keeps the length, so an announced length stays true.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(streaming) => {
                let held = streaming.passage.as_ref().and_then(Passage::held);
                match (held, streaming.inner.exact()) {
                    (Some(held), Some(rest)) => SizeHint::with_exact(rest + held as u64),
                    _ => SizeHint::default(),
                }
            }
        }
    }
}

/// The answer will not end as it should.
#[derive(Debug)]
pub enum BrokenAnswer {
    /// The upstream broke off.
    Upstream(Broken),
    /// It cannot be searched any further.
    Undecodable(Undecodable),
}

impl fmt::Display for BrokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream(_) => "the upstream's answer broke off",
            Self::Undecodable(_) => "the upstream's answer cannot be decoded",
        })
    }
}

impl Error for BrokenAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Undecodable(error) => Some(error),
        }
    }
}
