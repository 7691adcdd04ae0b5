//! keyd's end of a channel's socket pair: requests in, answers out, a frame at a time.
//!
//! One [`Link`] is shared by the channel, which reads heads and writes answers, and by the body of the request under way,
//! which whoever talks to the upstream reads. It refuses anything out of order: a second head before the first request is
//! answered, data where no body was announced. gatewayd has gone then, as far as keyd is concerned. However much lies
//! ready, a turn of the thread is for one request, and for so many frames and bytes.
//! Called by `channel`; the body by `upload`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame as BodyFrame, SizeHint};
use hyper::ext::ReasonPhrase;
use strongroom_protocol::channel::frames::{Decoder, Encoder, Frame, Kind};
use strongroom_protocol::channel::head::{AnswerHead, RequestHead, encode_fields};
use tokio::io::AsyncWrite;
use tokio::task::{coop, yield_now};
use tokio_util::io::poll_read_buf;

use super::decode::memory::{Memory, Share};
use crate::sys::{self, PassedSocket};
use crate::turn;

/// Our end.
pub struct Link {
    socket: RefCell<PassedSocket>,
    decoder: RefCell<Decoder>,
    encoder: RefCell<Encoder>,
    upload: Cell<UploadState>,
    /// Counts requests: a body that outlives its own must not touch the next one's.
    turn: Cell<u64>,
    /// Waits for the end of the upload, to watch for the hang-up from then on.
    watching: Cell<Option<Waker>>,
    /// What all channels share for large heads, and our part while one is coming or has come.
    room: Memory,
    share: Cell<Option<Share>>,
}

/// How far the body of the request under way has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    /// The agent waits to be asked for it.
    Expected,
    Coming,
    /// Nobody wants what is left of it; perhaps that is its end alone.
    Unwanted,
    /// Pieces of it were thrown away.
    Spoiled,
    Ended,
    Broken,
}

impl Link {
    /// Over a pair whose kind was checked.
    #[must_use]
    pub fn new(socket: PassedSocket, room: Memory) -> Rc<Self> {
        Rc::new(Self {
            socket: RefCell::new(socket),
            decoder: RefCell::default(),
            encoder: RefCell::default(),
            upload: Cell::new(UploadState::Ended),
            turn: Cell::new(0),
            watching: Cell::default(),
            room,
            share: Cell::default(),
        })
    }

    /// The next request; nothing where gatewayd has closed or sends what is none.
    pub async fn request(self: &Rc<Self>) -> Option<Request<RequestBody>> {
        let mut was_there = true;
        let frame = poll_fn(|cx| {
            let frame = self.poll_frame(cx);
            was_there &= frame.is_ready();
            frame
        });
        let Ok(Frame::Head(payload)) = frame.await else { return None };
        if was_there {
            // Others have their turn: answers may be made without waiting for anything.
            yield_now().await;
        }
        turn::next().await;
        self.account_for(RequestHead::cost(&payload))?;
        let head = RequestHead::decode(payload).ok()?;
        let waits = head.fields.get(header::EXPECT).is_some_and(|value| value == CONTINUE);
        self.upload.set(match (head.has_body, waits) {
            (false, _) => UploadState::Ended,
            (true, false) => UploadState::Coming,
            (true, true) => UploadState::Expected,
        });
        self.turn.set(self.turn.get() + 1);
        let body = RequestBody { link: Rc::clone(self), turn: self.turn.get(), length: head.length() };
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (head.method, head.target, head.fields);
        Some(request)
    }

    /// Has a part of the room for a head, if it is large; nothing where there is none left.
    fn account_for(&self, bytes: usize) -> Option<()> {
        let share = self.share.take();
        if bytes > SMALL_HEAD {
            let mut share = share.or_else(|| self.room.share(0))?;
            share.resize(bytes).then(|| self.share.set(Some(share)))?;
        }
        Some(())
    }

    /// The part of the room that the head has which was read last: whoever takes it holds the head.
    #[must_use]
    pub fn take_share(&self) -> Option<Share> {
        self.share.take()
    }

    /// Says that no request will be looked at any more, before the end. One that is on its way here may be sent again.
    pub fn retire(&self) {
        let _ = self.push(Kind::End, Bytes::new());
        // Four bytes into a socket that nothing waits for: where it does not take them, gatewayd has gone.
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    /// Ends the connection, and comes back when gatewayd has read what lies there for it, or has closed its end.
    pub async fn let_go(&self) {
        let socket = self.socket.borrow().descriptor();
        if let Some(socket) = socket {
            sys::let_go(&socket).await;
        }
    }

    /// Comes back when gatewayd has hung up in the middle of an exchange, or speaks when it should not.
    pub async fn hung_up(&self) {
        poll_fn(|cx| match self.upload.get() {
            // Whoever reads the body sees it.
            UploadState::Expected | UploadState::Coming => {
                self.watching.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            UploadState::Broken => Poll::Ready(()),
            UploadState::Unwanted | UploadState::Spoiled => self.poll_past_the_rest(cx),
            UploadState::Ended => self.poll_frame(cx).map(drop),
        })
        .await;
    }

    /// Writes an answer, as its body comes and the socket takes it; says whether another request may follow.
    ///
    /// # Errors
    /// [`Broken`] where the body broke off or gatewayd has gone: what was written must not look whole.
    pub async fn answer<B>(&self, response: Response<B>) -> Result<bool, Broken>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (mut parts, mut body) = response.into_parts();
        let is_last = parts.headers.remove(CONNECTION).is_some_and(|value| value == CLOSE);
        let mut has_ended = body.is_end_stream();
        let reason = parts.extensions.remove::<ReasonPhrase>();
        let head = AnswerHead {
            has_body: !has_ended,
            is_last,
            status: parts.status,
            reason: reason.map_or_else(Bytes::new, |reason| Bytes::copy_from_slice(reason.as_bytes())),
            fields: parts.headers,
        };
        self.push(Kind::Head, head.encode())?;
        let mut has_broken = false;
        poll_fn(|cx| {
            let mut given = 0;
            loop {
                if (given >= MOST_AT_ONCE || turn::is_over()) && !has_ended {
                    // Others have their turn; an answer that is always ready would keep the thread.
                    cx.waker().wake_by_ref();
                    let _ = self.poll_flush(cx)?;
                    return Poll::Pending;
                }
                if has_ended && self.spoke_too_soon() {
                    return Poll::Ready(Err(Broken));
                }
                if has_ended || self.encoder.borrow().len() >= MOST_WAITING {
                    ready!(self.poll_flush(cx))?;
                    if has_ended {
                        return Poll::Ready(if has_broken { Err(Broken) } else { Ok(()) });
                    }
                }
                let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) else {
                    let _ = self.poll_flush(cx)?;
                    return Poll::Pending;
                };
                let Ok(frame) = frame.transpose() else {
                    // What came before it broke off goes out all the same.
                    (has_ended, has_broken) = (true, true);
                    continue;
                };
                match frame.map(BodyFrame::into_data) {
                    Some(Ok(data)) => {
                        given += data.len() + COST_OF_FRAME;
                        self.push(Kind::Data, data)?;
                        has_ended = body.is_end_stream();
                        if has_ended {
                            self.push(Kind::End, Bytes::new())?;
                        }
                    }
                    Some(Err(frame)) => {
                        has_ended = true;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.push(Kind::End, encode_fields(&trailers))?;
                    }
                    None => {
                        has_ended = true;
                        self.push(Kind::End, Bytes::new())?;
                    }
                }
            }
        })
        .await?;
        if matches!(self.upload.get(), UploadState::Coming | UploadState::Unwanted) {
            // hyper asks for no end where it has counted the bytes.
            let look = poll_fn(|cx| {
                self.look_for_the_end(cx);
                Poll::Ready(())
            });
            // It is looked for once, so the turn's being over must not hide it.
            coop::unconstrained(look).await;
        }
        Ok(!is_last && self.upload.get() == UploadState::Ended)
    }

    /// Throws away what is left of a body, for a hang-up shows behind it.
    fn poll_past_the_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.poll_frame(cx)) {
                Ok(Frame::Data(_)) => self.upload.set(UploadState::Spoiled),
                Ok(Frame::End(_)) if self.upload.get() == UploadState::Unwanted => self.upload.set(UploadState::Ended),
                // Behind the end nothing may come before the answer is through.
                Ok(Frame::End(_)) => {}
                Ok(Frame::Head(_) | Frame::Continue) | Err(Broken) => return Poll::Ready(()),
            }
        }
    }

    /// Whether something lies behind the request though the end of its answer is still here: gatewayd cannot have seen it.
    fn spoke_too_soon(&self) -> bool {
        let mut decoder = self.decoder.borrow_mut();
        let awaits_end = matches!(self.upload.get(), UploadState::Coming | UploadState::Unwanted);
        if awaits_end && decoder.take_plain_end() {
            self.upload_is(UploadState::Ended);
        }
        self.upload.get() == UploadState::Ended && !decoder.is_empty()
    }

    fn look_for_the_end(&self, cx: &mut Context<'_>) {
        if let Poll::Ready(frame) = self.poll_frame(cx) {
            self.upload_is(if matches!(frame, Ok(Frame::End(_))) { UploadState::Ended } else { UploadState::Broken });
        }
    }

    fn push(&self, kind: Kind, payload: Bytes) -> Result<(), Broken> {
        self.encoder.borrow_mut().push(kind, payload).map_err(|_| Broken)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let (mut socket, mut encoder) = (self.socket.borrow_mut(), self.encoder.borrow_mut());
        while !encoder.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = encoder.slices(&mut slices);
            let written = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count]));
            encoder.advance(written.map_err(|_| Broken)?);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Result<Frame, Broken>> {
        let (mut socket, mut decoder) = (self.socket.borrow_mut(), self.decoder.borrow_mut());
        loop {
            if !decoder.is_empty() {
                // What lies here already is taken from no socket, which would count it.
                let turn = ready!(coop::poll_proceed(cx));
                if let Some(frame) = decoder.next_frame().map_err(|_| Broken)? {
                    turn.made_progress();
                    if !matches!(frame, Frame::Head(_)) {
                        self.share.take();
                    }
                    return Poll::Ready(Ok(frame));
                }
            }
            // Before it is held: a thousand channels with heads that never end must not fill the memory.
            if let Some(length) = decoder.awaits() {
                self.account_for(length).ok_or(Broken)?;
            }
            match ready!(poll_read_buf(Pin::new(&mut *socket), cx, decoder.room())) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken)),
                Ok(_) => {}
            }
        }
    }

    fn upload_is(&self, state: UploadState) {
        self.upload.set(state);
        if let Some(waker) = self.watching.take() {
            waker.wake();
        }
    }
}

/// The body of a request, for whoever sends it upstream. Of one that is dropped early the rest is read and forgotten.
pub struct RequestBody {
    link: Rc<Link>,
    turn: u64,
    /// Bytes to come, where the request announced them.
    length: Option<u64>,
}

impl RequestBody {
    fn state(&self) -> UploadState {
        if self.turn == self.link.turn.get() { self.link.upload.get() } else { UploadState::Ended }
    }

    /// Whether so many more bytes keep within the announced length. HTTP/2 would send the rest as it comes, and whoever
    /// makes HTTP/1.1 of it behind the upstream would read it as another request.
    fn count(&mut self, bytes: usize) -> bool {
        let left = self.length.map_or(Some(None), |length| length.checked_sub(bytes as u64).map(Some));
        self.length = left.flatten();
        left.is_some()
    }

    /// Whether nothing that was announced is missing.
    fn may_end(&self) -> bool {
        self.length.is_none_or(|left| left == 0)
    }

    fn breaks(&self) -> Poll<Option<Result<BodyFrame<Bytes>, Broken>>> {
        self.link.upload_is(UploadState::Broken);
        Poll::Ready(Some(Err(Broken)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, Broken>>> {
        match self.state() {
            UploadState::Ended => return Poll::Ready(None),
            UploadState::Broken | UploadState::Unwanted | UploadState::Spoiled => {
                return Poll::Ready(Some(Err(Broken)));
            }
            UploadState::Expected => {
                self.link.push(Kind::Continue, Bytes::new())?;
                self.link.upload.set(UploadState::Coming);
                // Four bytes into a socket that nothing was written to: where it does not take them, gatewayd has gone.
                let _ = self.link.poll_flush(cx);
            }
            UploadState::Coming => {}
        }
        match ready!(self.link.poll_frame(cx)) {
            Ok(Frame::Data(data)) => {
                let ends = self.link.decoder.borrow_mut().take_plain_end();
                if !self.count(data.len()) || ends && !self.may_end() {
                    return self.breaks();
                }
                if ends {
                    self.link.upload_is(UploadState::Ended);
                }
                Poll::Ready(Some(Ok(BodyFrame::data(data))))
            }
            // Trailers would be fields that nobody has judged.
            Ok(Frame::End(_)) if self.may_end() => {
                self.link.upload_is(UploadState::Ended);
                Poll::Ready(None)
            }
            Ok(Frame::End(_) | Frame::Head(_) | Frame::Continue) | Err(Broken) => self.breaks(),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state() == UploadState::Ended
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if matches!(self.state(), UploadState::Expected | UploadState::Coming) {
            self.link.upload_is(UploadState::Unwanted);
        }
    }
}

/// The other end of the pair has gone, or what it sent is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel broke off")
    }
}

impl std::error::Error for Broken {}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// A head that any channel may send: most are far smaller.
const SMALL_HEAD: usize = 16 * 1024;
/// Bytes of all larger heads that are on their way.
pub const ROOM_FOR_HEADS: usize = 16 * 1024 * 1024;
/// Bytes of an answer that are searched before others have their turn.
const MOST_AT_ONCE: usize = 256 * 1024;
/// What a piece of an answer counts beside its bytes, for small ones are work too.
const COST_OF_FRAME: usize = 1024;
/// Bytes of an answer that wait for the socket before more is read from the upstream.
const MOST_WAITING: usize = 64 * 1024;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
