//! Small chunks of a body, gathered where each of them would have all that is held back searched again.
//!
//! What has come is given as one chunk: when it is as much as was asked for, or when nothing more came in a turn in which
//! the connection could bring more. It refuses to wait longer than that, by a clock or for the next byte. Read by
//! `answer`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// A body, and what was taken from it.
pub struct Gather<B: Body<Data = Bytes>> {
    inner: B,
    gathered: BytesMut,
    /// What came behind the gathered bytes and is none: trailers, an error, the end.
    behind: Option<Next<B>>,
    /// Something was gathered since the connection had its turn.
    is_fresh: bool,
}

type Next<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

impl<B: Body<Data = Bytes> + Unpin> Gather<B> {
    /// At the beginning.
    #[must_use]
    pub fn new(inner: B) -> Self {
        Self { inner, gathered: BytesMut::new(), behind: None, is_fresh: false }
    }

    /// The next frame; of data at least so many bytes, if they are at hand.
    pub fn poll(&mut self, cx: &mut Context<'_>, least: usize) -> Poll<Next<B>> {
        if let Some(behind) = self.behind.take() {
            return Poll::Ready(behind);
        }
        // Each chunk counts, for it may be empty.
        for _ in 0..MOST_CHUNKS {
            let next = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(next) => next,
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending if self.is_fresh => {
                    self.is_fresh = false;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return self.give(),
            };
            match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if self.gathered.is_empty() && data.len() >= least => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Ok(Ok(data))) => {
                    self.gathered.extend_from_slice(&data);
                    self.is_fresh = true;
                }
                Some(Ok(Err(trailers))) => return self.give_before(Some(Ok(trailers))),
                Some(Err(error)) => return self.give_before(Some(Err(error))),
                None => return self.give_before(None),
            }
            if self.gathered.len() >= least {
                return self.give();
            }
        }
        if self.gathered.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.give()
    }

    fn give(&mut self) -> Poll<Next<B>> {
        self.is_fresh = false;
        Poll::Ready(Some(Ok(Frame::data(self.gathered.split().freeze()))))
    }

    fn give_before(&mut self, behind: Next<B>) -> Poll<Next<B>> {
        if self.gathered.is_empty() {
            return Poll::Ready(behind);
        }
        self.behind = Some(behind);
        self.give()
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.gathered.is_empty() && self.behind.is_none() && self.inner.is_end_stream()
    }

    /// How much will come, if that is known.
    #[must_use]
    pub fn exact(&self) -> Option<u64> {
        let size: SizeHint = self.inner.size_hint();
        size.exact().map(|rest| rest + self.gathered.len() as u64)
    }
}

/// Chunks of one turn.
const MOST_CHUNKS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// A chunk, a moment in which there is none, trailers or an error.
    enum Step {
        Chunk(&'static [u8]),
        Moment,
        Trailers,
        Error,
    }

    struct Steps(VecDeque<Step>);

    impl Body for Steps {
        type Data = Bytes;
        type Error = ();

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(Step::Moment) => Poll::Pending,
                Some(Step::Chunk(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
                Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new())))),
                Some(Step::Error) => Poll::Ready(Some(Err(()))),
            }
        }
    }

    /// What each turn gives: data, `-` for nothing yet, `t`, `e` and `.` for trailers, an error and the end.
    fn turns(steps: impl IntoIterator<Item = Step>, least: usize) -> Vec<String> {
        let mut gather = Gather::new(Steps(steps.into_iter().collect()));
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = Vec::new();
        while turns.last().is_none_or(|last| last != "." && last != "e") {
            turns.push(match gather.poll(&mut context, least) {
                Poll::Pending => "-".to_owned(),
                Poll::Ready(None) => ".".to_owned(),
                Poll::Ready(Some(Err(()))) => "e".to_owned(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => String::from_utf8(data.to_vec()).expect("text"),
                    Err(_) => "t".to_owned(),
                },
            });
        }
        turns
    }

    #[test]
    fn chunks_that_are_at_hand_are_gathered_and_no_more_is_waited_for() {
        use Step::{Chunk, Error, Moment, Trailers};
        assert_eq!(turns([Chunk(b"ab"), Chunk(b"c"), Moment, Moment], 0), ["ab", "c", "-", "-", "."]);
        assert_eq!(turns([Chunk(b"a"), Chunk(b"b"), Chunk(b"c"), Chunk(b"d")], 3), ["abc", "d", "."]);
        // One turn for the connection, as long as it brings something.
        assert_eq!(turns([Chunk(b"a"), Moment, Chunk(b"b"), Moment, Moment], 9), ["-", "-", "ab", "."]);
        assert_eq!(turns([Moment, Chunk(b"a"), Trailers], 9), ["-", "a", "t", "."]);
        assert_eq!(turns([Chunk(b"a"), Error], 9), ["a", "e"]);
        assert_eq!(turns([Chunk(b"long"), Error], 3), ["long", "e"]);
    }

    #[test]
    fn a_run_that_is_held_is_searched_once_for_many_small_chunks() {
        let steps = (0..5400).flat_map(|_| [Step::Chunk(b"x"), Step::Moment]);
        let pieces = turns(steps, 131_072 / 8).into_iter().filter(|turn| turn.starts_with('x')).count();
        assert_eq!(pieces, 1);
        let empty = (0..5400).map(|_| Step::Chunk(b""));
        assert_eq!(turns(empty, 10).len(), 6, "and empty ones come to an end of their turn");
    }
}
