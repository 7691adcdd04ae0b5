//! One channel: frames over our end of a socket pair, one request at a time, and the clock of that request.
//!
//! The rest of gatewayd knows a channel only through this interface, so that its transport may change. A request and
//! its answer are moved by the tasks that wait for them: a channel has none of its own but a watch on its clock. It
//! refuses to outlive its use: dropping it ends the pair, and with it whatever ran there. A channel goes back to the pool
//! only when both bodies ended.
//! Opened by the forwarding of a request; kept by the pool.

mod clock;
mod download;
mod link;
mod socket;
mod upload;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use hyper::ext::ReasonPhrase;
use strongroom_protocol::Refusal;
use strongroom_protocol::channel::frames::{Frame, Kind};
use strongroom_protocol::channel::head::AnswerHead;
use tokio::task::AbortHandle;

pub use self::clock::Clock;
pub use self::download::Download;
use self::link::Link;
use self::socket::PairSocket;
use self::upload::Upload;
use crate::forward::replay::Replay;
use crate::pool::Permit;

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    link: Rc<Link>,
    clock: Rc<Clock>,
    watch: AbortHandle,
    /// The upload that goes on behind an answer.
    behind: Option<(AbortHandle, Rc<Cell<bool>>)>,
    is_last: bool,
    /// Shared with the watch: nobody may ever look again at an answer whose time is over.
    permit: Rc<RefCell<Option<Permit>>>,
}

impl Channel {
    /// Speaks over our end of a pair whose other end keyd has accepted.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] where the runtime cannot watch it.
    pub fn start(ours: UnixStream, permit: Permit) -> Result<Self, Refusal> {
        let socket = PairSocket::new(ours).map_err(|_| Refusal::Overloaded)?;
        let (link, clock) = (Rc::new(Link::new(socket)), Rc::new(Clock::default()));
        let permit = Rc::new(RefCell::new(Some(permit)));
        let (limit, ended, right) = (clock.clone(), link.clone(), permit.clone());
        let watch = tokio::task::spawn_local(async move {
            limit.run_out().await;
            ended.end();
            right.take();
        });
        Ok(Self { link, clock, watch: watch.abort_handle(), behind: None, is_last: false, permit })
    }

    /// Whether it can take a request now. It never waits: a channel where something of the last request is still under
    /// way may stay so for ever.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.is_last && !self.is_uploading() && self.link.is_quiet()
    }

    /// Whether something of the last request is still on its way behind the answer.
    #[must_use]
    pub fn is_uploading(&self) -> bool {
        self.behind.as_ref().is_some_and(|(_, has_ended)| !has_ended.get())
    }

    /// Sends a request, whose head is a payload already, and waits for the head of its answer.
    ///
    /// # Errors
    /// [`NoAnswer`] where the channel dies before there is one, by [`Clock::has_run_out`] or otherwise.
    pub async fn send(&mut self, head: Bytes, body: Replay) -> Result<Response<Download>, NoAnswer> {
        self.link.push(Kind::Head, head)?;
        let mut upload = Upload::new(self.link.clone(), body);
        let mut sent = false;
        let head = poll_fn(|cx| poll_exchange(&self.link, &mut upload, &mut sent, cx)).await?;
        if !sent {
            self.go_on_behind(upload);
        }
        self.is_last = head.is_last;
        Ok(self.response(head))
    }

    /// The clock of the request that is being sent.
    #[must_use]
    pub fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }

    fn go_on_behind(&mut self, mut upload: Upload) {
        let has_ended = Rc::new(Cell::new(false));
        let (link, ended) = (self.link.clone(), has_ended.clone());
        let task = tokio::task::spawn_local(async move {
            match poll_fn(|cx| upload.poll(cx)).await {
                Ok(()) => ended.set(true),
                Err(Dead) => link.end(),
            }
        });
        self.behind = Some((task.abort_handle(), has_ended));
    }

    fn response(&self, head: AnswerHead) -> Response<Download> {
        let length = head.fields.get(CONTENT_LENGTH).and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok());
        let mut response = Response::new(Download::new(self.link.clone(), head.has_body, length));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.fields;
        // hyper would write words of its own where there are none.
        if (!head.reason.is_empty() || head.status.canonical_reason().is_none())
            && let Ok(reason) = ReasonPhrase::try_from(head.reason)
        {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

/// The upload goes on until the answer's head is there.
fn poll_exchange(
    link: &Link,
    upload: &mut Upload,
    sent: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<AnswerHead, NoAnswer>> {
    loop {
        if !*sent {
            *sent = upload.poll(cx)?.is_ready();
        }
        return Poll::Ready(match ready!(link.poll_frame(cx))? {
            Frame::Head(payload) => AnswerHead::decode(payload).map_err(|_| NoAnswer::Dead),
            Frame::Continue => {
                upload.go_on();
                continue;
            }
            Frame::End(_) => Err(NoAnswer::Retired),
            Frame::Data(_) => Err(NoAnswer::Dead),
        });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.watch.abort();
        if let Some((upload, _)) = &self.behind {
            upload.abort();
        }
        // What was given out may still share the pair.
        self.link.end();
        // The watch keeps its share until it is next looked at.
        self.permit.take();
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// keyd had retired the channel and has not looked at the request.
    Retired,
    /// The channel has died; the request may have reached anybody.
    Dead,
}

impl From<Dead> for NoAnswer {
    fn from(_: Dead) -> Self {
        Self::Dead
    }
}

/// The channel has ended, or what came over it made no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead;

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel has ended")
    }
}

impl std::error::Error for Dead {}
