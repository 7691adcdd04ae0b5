//! An upstream's answer on its way to the agent, frame by frame, and the channel that it comes from.
//!
//! Nothing is buffered: the agent's pace is the channel's. When the answer ends the channel is given back; when either
//! side breaks off the channel is closed, and the agent's answer ends as broken. Trailers come in one field of the
//! channel and become real ones. It refuses to let a broken answer look complete.
//! Made by `forward`, read by the agent's connection.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::replay::Source;
use crate::channel::{Channel, Download};
use crate::connection::{Busy, Connection, LINGER};
use crate::gateway::Gateway;
use crate::ingress::fields;
use crate::pool::Key;

/// The body of every answer to an agent.
pub struct AgentBody {
    content: Content,
    request: Option<Source>,
    /// Reads and drops a request's body that nobody wants.
    reading: Option<JoinHandle<()>>,
    busy: Busy,
}

enum Content {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
}

/// The body of an upstream's answer.
pub struct Relay {
    body: Download,
    lease: Option<Lease>,
    /// Where the end of the connection is the end of the answer: it is reset when the answer breaks off.
    without_length: Option<Rc<Connection>>,
    /// It broke off; the agent gets what came before.
    is_breaking: bool,
}

/// A channel while a request uses it. Dropped before the end, it closes the channel.
pub struct Lease {
    /// Whose pool it goes back to.
    pub gateway: Rc<Gateway>,
    /// The channel.
    pub channel: Channel,
    /// What it may be used for next; nothing where it may not.
    pub key: Option<Key>,
    /// The request that must have been read to its end.
    pub source: Source,
    /// The agent's connection.
    pub connection: Rc<Connection>,
}

impl AgentBody {
    /// A body that is there at once.
    #[must_use]
    pub fn whole(bytes: Bytes, busy: Busy) -> Self {
        busy.lies();
        let content = Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()));
        Self { content, request: None, reading: None, busy }
    }

    /// An upstream's body.
    #[must_use]
    pub fn relay(relay: Relay, busy: Busy) -> Self {
        busy.lies();
        Self { content: Content::Relay(Box::new(relay)), request: None, reading: None, busy }
    }

    /// Keeps the request's body until the last frame is out, and what is left of it a moment longer. On HTTP/2 an upload
    /// that goes on after its body was dropped resets the stream, and the answer with it (RFC 9113, 8.1 wants the whole
    /// answer first); and there are agents that forget a whole answer when a reset follows it. Where nobody sends it on it
    /// is read from now on and dropped: an agent may leave its answer lying.
    #[must_use]
    pub fn holding(mut self, request: Source) -> Self {
        if matches!(self.content, Content::Relay(_)) {
            self.request = Some(request);
        } else if !request.has_ended() {
            self.reading = Some(spawn_local(request.forget(Duration::MAX, u64::MAX)));
        }
        self
    }
}

impl Drop for AgentBody {
    fn drop(&mut self) {
        if let Some(request) = self.request.take().filter(|request| !request.has_ended()) {
            spawn_local(request.forget(LINGER, u64::MAX));
        }
        if let Some(mut reading) = self.reading.take().filter(|reading| !reading.is_finished()) {
            spawn_local(async move {
                if timeout(LINGER, &mut reading).await.is_err() {
                    reading.abort();
                }
            });
        }
    }
}

impl Relay {
    /// Relays `body`, which comes over the lease's channel.
    #[must_use]
    pub fn new(body: Download, lease: Lease, without_length: bool) -> Self {
        let without_length = without_length.then(|| lease.connection.clone());
        let mut relay = Self { body, lease: Some(lease), without_length, is_breaking: false };
        relay.finish_if_ended();
        relay
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        if self.is_breaking {
            return self.break_off(cx);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(lease) = &self.lease {
            lease.channel.clock().progress();
        }
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.finish_if_ended();
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => {
                    self.finish();
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    fields::clean_response(&mut trailers);
                    Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
                }
            },
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Err(_)) => self.break_off(cx),
        }
    }

    fn finish_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn break_off(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        if !std::mem::replace(&mut self.is_breaking, true) {
            // An error would drop what hyper has not written yet, the head even: it writes that when it has to wait.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.lease = None;
        if let Some(connection) = self.without_length.take() {
            connection.break_off();
        }
        Poll::Ready(Some(Err(BrokenAnswer)))
    }
}

impl Lease {
    /// The answer has ended: the channel waits for its next request, if the last one has ended too.
    pub fn give_back(self) {
        self.channel.clock().stop();
        if !self.source.has_ended() {
            self.connection.leave_body_unread();
        } else if let Some(key) = self.key {
            let most = self.gateway.config().limits.idle_channels_per_pool.get();
            self.gateway.pool.put(key, self.channel, most);
        }
    }
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = BrokenAnswer;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenAnswer>>> {
        let polled = match &mut self.content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Relay(relay) => relay.poll(cx),
        };
        if polled.is_ready() {
            self.busy.lies()
        } else {
            self.busy.is_awaited()
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Relay(relay) => relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Relay(relay) => relay.body.size_hint(),
        }
    }
}

/// The answer ended before its end: keyd, the upstream or a time limit broke it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenAnswer;

impl fmt::Display for BrokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for BrokenAnswer {}
