//! An agent's request body on its way to a channel, recorded so that it can be sent once more.
//!
//! What has been read is kept up to a limit; a later sending gives that first and goes on with the rest. Only the
//! newest sending may read. Request trailers end here. It refuses to keep more than the limit: such a body can no
//! longer be sent again. Made for each request by `forward`, read by a channel.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::channel::Clock;
use crate::connection::Received;

/// The body of one request, shared by its sendings.
pub struct Source<B = Received>(Rc<RefCell<State<B>>>);

struct State<B> {
    body: B,
    /// Copied: each piece would hold all of the buffer that it was read into.
    recorded: Vec<u8>,
    size: usize,
    whole: SizeHint,
    is_empty: bool,
    ended: bool,
    broke: bool,
    sending: u32,
    /// The agent has not been asked for it yet.
    waits: bool,
    /// All that the agent has sent was read, and more is to come.
    is_behind: bool,
}

/// One sending of a body.
pub struct Replay<B = Received> {
    state: Rc<RefCell<State<B>>>,
    clock: Rc<Clock>,
    /// How much of what is recorded it has given.
    next: usize,
    sending: u32,
}

impl<B: Body<Data = Bytes> + Unpin> Source<B> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(body: B) -> Self {
        let (whole, ended) = (body.size_hint(), body.is_end_stream());
        let state = State {
            body,
            recorded: Vec::new(),
            size: 0,
            whole,
            is_empty: ended,
            ended,
            broke: false,
            sending: 0,
            waits: false,
            is_behind: false,
        };
        Self(Rc::new(RefCell::new(state)))
    }

    /// Reads nothing before [`Replay::go_on`], where there is anything to read.
    pub fn wait(&self) {
        let mut state = self.0.borrow_mut();
        state.waits = !state.is_empty;
    }

    /// It may be read from now on, asked for or not.
    pub fn wait_no_more(&self) {
        self.0.borrow_mut().waits = false;
    }

    /// Whether the agent has not been asked for it yet.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.0.borrow().waits
    }

    /// A new sending from the first byte; an older one gets no more.
    #[must_use]
    pub fn send(&self, clock: Rc<Clock>) -> Replay<B> {
        let mut state = self.0.borrow_mut();
        state.sending += 1;
        Replay { state: self.0.clone(), clock, next: 0, sending: state.sending }
    }

    /// Reads what is left, for so long and so many bytes at most, and keeps nothing of it. Nothing is read where it waits,
    /// for reading asks the agent, nor where there is known to be more.
    pub async fn forget(self, time: Duration, most: u64) {
        let mut room = Some(most);
        let rest = poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            while let Some(left) = room.filter(|&left| state.body.size_hint().lower() <= left)
                && !(state.waits || state.ended || state.broke)
            {
                match ready!(Pin::new(&mut state.body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        room = left.checked_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
                        state.ended = frame.is_trailers() || state.body.is_end_stream();
                    }
                    Some(Err(_)) => state.broke = true,
                    None => state.ended = true,
                }
            }
            Poll::Ready(())
        });
        let _ = tokio::time::timeout(time, rest).await;
    }

    /// Whether everything that was read is still there.
    #[must_use]
    pub fn can_be_sent_again(&self) -> bool {
        let state = self.0.borrow();
        state.size <= LIMIT && !state.broke
    }

    /// Whether it can be sent again whatever becomes of it.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.0.borrow().whole.upper().is_some_and(|most| most <= LIMIT as u64)
    }

    /// Whether the request has no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty
    }

    /// Whether the agent's body was read to its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// Whether it is the agent who keeps it waiting.
    #[must_use]
    pub fn awaits_agent(&self) -> bool {
        self.0.borrow().is_behind
    }

    /// Whether the agent's side broke off, or its framing was wrong.
    #[must_use]
    pub fn broke(&self) -> bool {
        self.0.borrow().broke
    }
}

impl<B> Replay<B> {
    /// The body is wanted.
    pub fn go_on(&self) {
        self.state.borrow_mut().waits = false;
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("next", &self.next).field("sending", &self.sending).finish_non_exhaustive()
    }
}

impl<B> Clone for Source<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Replay<B> {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        let mut state = this.state.borrow_mut();
        if state.sending != this.sending {
            return Poll::Ready(Some(Err(BrokenBody)));
        }
        if let Some(rest @ [_, ..]) = state.recorded.get(this.next..) {
            this.next += rest.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(rest)))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if state.waits {
            // Whoever lets it go on asks again.
            return Poll::Pending;
        }
        let polled = Pin::new(&mut state.body).poll_frame(cx);
        state.is_behind = polled.is_pending();
        let frame = ready!(polled);
        this.clock.progress();
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    state.keep(&data);
                    this.next = state.recorded.len();
                    state.ended = state.body.is_end_stream();
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                // Trailers are the last frame there is.
                Err(_) => {
                    state.ended = true;
                    Poll::Ready(None)
                }
            },
            Some(Err(_)) => {
                state.broke = true;
                Poll::Ready(Some(Err(BrokenBody)))
            }
            None => {
                state.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.borrow();
        state.is_empty || (state.ended && self.next >= state.recorded.len() && self.sending == state.sending)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        // hyper asks once, before the first frame.
        if self.next == 0 { state.whole } else { SizeHint::default() }
    }
}

impl<B> State<B> {
    fn keep(&mut self, data: &Bytes) {
        self.size = self.size.saturating_add(data.len());
        if self.size > LIMIT {
            self.recorded = Vec::new();
        } else {
            self.recorded.extend_from_slice(data);
        }
    }
}

/// The agent's body ended before its end, or another sending took it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenBody;

impl fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body broke off")
    }
}

impl std::error::Error for BrokenBody {}

/// Bytes of a body that are kept to be sent again.
const LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn clock() -> Rc<Clock> {
        Rc::default()
    }

    fn chunks(sizes: &[usize]) -> Chunks {
        Chunks(sizes.iter().map(|&size| Bytes::from(vec![b'x'; size])).collect())
    }

    struct Chunks(std::collections::VecDeque<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    async fn read<B: Body<Data = Bytes> + Unpin>(replay: Replay<B>) -> usize {
        replay.collect().await.unwrap().to_bytes().len()
    }

    #[tokio::test]
    async fn a_small_body_is_sent_as_often_as_wanted() {
        let source = Source::new(chunks(&[10, 20, 30]));
        for _ in 0..3 {
            assert!(source.can_be_sent_again());
            assert_eq!(read(source.send(clock())).await, 60);
        }
        assert!(source.has_ended());
    }

    #[tokio::test]
    async fn a_second_sending_goes_on_where_the_first_stopped_reading() {
        let source = Source::new(chunks(&[10, 20, 30]));
        let mut first = source.send(clock());
        first.frame().await.unwrap().unwrap();
        let second = source.send(clock());
        assert_eq!(first.frame().await.unwrap().unwrap_err(), BrokenBody);
        assert_eq!(read(second).await, 60);
    }

    #[tokio::test]
    async fn a_body_that_waits_is_not_read_until_it_is_wanted() {
        let source = Source::new(chunks(&[10, 20]));
        source.wait();
        let mut replay = source.send(clock());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut replay).poll_frame(&mut cx).is_pending());
        replay.go_on();
        assert_eq!(read(replay).await, 30);
        assert_eq!(read(source.send(clock())).await, 30, "once wanted it stays so");
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        let fits = Source::new(chunks(&[LIMIT - 1, 1]));
        assert_eq!(read(fits.send(clock())).await, LIMIT);
        assert!(fits.can_be_sent_again());
        let over = Source::new(chunks(&[LIMIT, 1]));
        assert_eq!(read(over.send(clock())).await, LIMIT + 1);
        assert!(!over.can_be_sent_again());
        assert_eq!(over.0.borrow().recorded.capacity(), 0);
    }

    /// Slices of large buffers, as hyper gives out where a chunk's size is written with many zeros.
    #[tokio::test]
    async fn what_is_kept_is_no_more_than_what_was_sent() {
        let slice = |_| Bytes::from(vec![b'x'; 64 * 1024]).slice(..1);
        let source = Source::new(Chunks((0..1000).map(slice).collect()));
        let mut sent = source.send(clock());
        while let Some(frame) = sent.frame().await {
            assert_eq!(frame.unwrap().into_data().unwrap().len(), 1);
        }
        assert!(source.0.borrow().recorded.capacity() <= 2048);
        assert_eq!(read(source.send(clock())).await, 1000);
    }

    #[tokio::test]
    async fn size_and_emptiness_are_those_of_the_body() {
        let source = Source::new(Full::new(Bytes::from_static(b"abc")));
        let replay = source.send(clock());
        assert_eq!((replay.size_hint().exact(), replay.is_end_stream()), (Some(3), false));
        let empty = Source::new(Full::new(Bytes::new()));
        assert!(empty.send(clock()).is_end_stream() && empty.has_ended());
    }
}
