//! The answer's body on its way to gatewayd, through the scrubber.
//!
//! One pass, a chunk at a time, with the socket's own back-pressure. A clean end gives what the scrubber held; any
//! other end drops it and breaks the channel, so that gatewayd cannot take a cut-off answer for a whole one. Trailers
//! are scrubbed and travel as one declared field. Called by `forward`.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use strongroom_protocol::channel;

use super::fields;
use super::record::Ending;
use super::scrub::head::scrub_fields;
use super::scrub::patterns::Patterns;
use super::scrub::stream::Stream;

/// What hyper's server sends on the channel.
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
    inner: Incoming,
    stream: Option<Stream>,
    trailers: Option<HeaderMap>,
    patterns: Rc<Patterns>,
    newest: Newest,
    ending: Ending,
}

impl Streaming {
    /// A body to scrub. `newest` gives other patterns when the vault has changed since these were made.
    #[must_use]
    pub fn new(
        inner: Incoming,
        patterns: Rc<Patterns>,
        newest: impl Fn(&Rc<Patterns>) -> Option<Rc<Patterns>> + 'static,
        ending: Ending,
    ) -> Self {
        let stream = Some(Stream::new(Rc::clone(&patterns)));
        let mut streaming = Self { inner, stream, trailers: None, patterns, newest: Box::new(newest), ending };
        streaming.note_end();
        streaming
    }

    /// hyper does not ask again once a body says that it has ended: so the end is noted when it can be seen.
    fn note_end(&mut self) {
        if self.has_ended() {
            self.ending.complete();
        }
    }

    fn has_ended(&self) -> bool {
        // Nothing can be held before the first chunk, so a body that is empty from the start is known to be.
        self.stream.as_ref().is_none_or(Stream::is_at_start) && self.inner.is_end_stream() && self.trailers.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        while let Some(stream) = &mut self.stream {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(newer) = (self.newest)(&self.patterns) {
                            self.patterns = Rc::clone(&newer);
                            stream.set_patterns(newer);
                        }
                        let out = stream.push(data);
                        self.ending.scrubbed(stream.take_found());
                        if !out.is_empty() {
                            self.ending.sent(out.len());
                            self.note_end();
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    // What is held is dropped with the stream.
                    self.stream = None;
                    self.trailers = None;
                    return Poll::Ready(Some(Err(BrokenAnswer(error))));
                }
                None => {
                    let (rest, found) = self.stream.take().map(Stream::finish).unwrap_or_default();
                    self.ending.scrubbed(found);
                    if !rest.is_empty() {
                        self.ending.sent(rest.len());
                        self.note_end();
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
        let trailers = self.trailers.take().and_then(|trailers| self.encode(trailers));
        self.ending.complete();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn encode(&mut self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        fields::prepare_response(&mut trailers, fields::Leave { range: false, cookies: false });
        self.ending.scrubbed(scrub_fields(&mut trailers, &self.patterns));
        let text = channel::encode_trailers(trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        if text.is_empty() || text.len() > channel::TRAILERS_LIMIT {
            return None;
        }
        let mut carrier = HeaderMap::with_capacity(1);
        carrier.insert(channel::TRAILERS, HeaderValue::try_from(text).ok()?);
        Some(carrier)
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
            Self::Streaming(streaming) => match (&streaming.stream, streaming.inner.size_hint().exact()) {
                (Some(stream), Some(rest)) => SizeHint::with_exact(rest + stream.held() as u64),
                _ => SizeHint::default(),
            },
        }
    }
}

/// The upstream broke off.
#[derive(Debug)]
pub struct BrokenAnswer(hyper::Error);

impl fmt::Display for BrokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's answer broke off")
    }
}

impl Error for BrokenAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
