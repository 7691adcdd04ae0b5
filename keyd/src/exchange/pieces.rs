//! A request's body in pieces that are worth the place that each takes.
//!
//! Whoever sends a body counts its bytes and not its pieces, and each piece costs some hundred bytes beside, and keeps the
//! buffer that it was read into. So what is small is copied, and while a few small pieces are still with the HTTP library
//! what comes is gathered behind them. It refuses to wait for more of a body: what has come goes on as soon as there is a
//! place. Used by `upload`.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body whose small pieces are gathered.
pub struct Pieces<B: Body<Data = Bytes>> {
    inner: B,
    gathered: Vec<u8>,
    /// What came behind the gathered bytes: a large piece, an error, the end.
    behind: Option<Next<B>>,
    places: Arc<Mutex<Places>>,
}

type Next<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

/// The places for pieces that were gathered. Of one thread, and behind a lock because [`Bytes`] asks for owners that any
/// thread may drop.
#[derive(Default)]
struct Places {
    taken: usize,
    waiting: Option<Waker>,
}

/// A piece that has a place, until its last byte is sent or dropped.
struct Placed {
    bytes: Vec<u8>,
    places: Arc<Mutex<Places>>,
}

impl<B: Body<Data = Bytes> + Unpin> Pieces<B> {
    /// At the beginning.
    #[must_use]
    pub fn of(inner: B) -> Self {
        Self { inner, gathered: Vec::new(), behind: None, places: Arc::default() }
    }

    fn take(&mut self, cx: &mut Context<'_>) {
        while self.behind.is_none() && self.gathered.len() < LARGE {
            let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(cx) else { return };
            match next {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.len() < LARGE => self.gathered.extend_from_slice(&data),
                    Ok(data) => self.behind = Some(Some(Ok(Frame::data(data)))),
                    // Trailers could smuggle fields past the judgement over the head.
                    Err(_) => {}
                },
                end => self.behind = Some(end),
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error: Unpin> + Unpin> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next<B>> {
        let this = &mut *self;
        this.take(cx);
        if this.gathered.is_empty() {
            return this.behind.take().map_or(Poll::Pending, Poll::Ready);
        }
        // What cannot grow any more need not wait, for there is no end of large pieces that are not counted here either.
        let is_full = this.behind.is_some() || this.gathered.len() >= LARGE;
        let mut places = this.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.taken >= PLACES && !is_full {
            places.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        places.taken += 1;
        drop(places);
        let piece = Placed { bytes: mem::take(&mut this.gathered), places: Arc::clone(&this.places) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        let is_last = self.behind.as_ref().is_none_or(Option::is_none);
        self.gathered.is_empty() && is_last && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let behind = match &self.behind {
            Some(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let here = (self.gathered.len() + behind) as u64;
        self.inner.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + here))
    }
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.taken -= 1;
        if let Some(waker) = places.waiting.take() {
            waker.wake();
        }
    }
}

/// Bytes that are worth a place whatever they keep: reads are of 128 KiB at most.
const LARGE: usize = 16 * 1024;
/// Small pieces that are with the HTTP library at once: somebody who sends them one by one notices nothing of it.
const PLACES: usize = 8;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    /// Pieces, moments in which there is none, and an error in the end, if there is to be one.
    #[derive(Clone, Default)]
    struct Script(Rc<RefCell<VecDeque<Step>>>);

    type Step = Poll<Option<Result<Frame<Bytes>, ()>>>;

    impl Body for Script {
        type Data = Bytes;
        type Error = ();

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Step {
            self.0.borrow_mut().pop_front().unwrap_or(Poll::Pending)
        }
    }

    impl Script {
        fn add(&self, size: usize) {
            self.0.borrow_mut().push_back(Poll::Ready(Some(Ok(Frame::data(vec![b'x'; size].into())))));
        }
    }

    fn next(pieces: &mut Pieces<Script>) -> Poll<Option<Result<Bytes, ()>>> {
        let frame = Pin::new(pieces).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().expect("no trailers"))))
    }

    /// The next piece, which is there.
    fn piece(pieces: &mut Pieces<Script>) -> Bytes {
        let Poll::Ready(Some(Ok(piece))) = next(pieces) else { panic!("nothing") };
        piece
    }

    #[test]
    fn a_piece_goes_on_at_once_while_there_is_a_place() {
        let script = Script::default();
        let mut pieces = Pieces::of(script.clone());
        let mut sent = Vec::new();
        for size in 1..=PLACES {
            script.add(size);
            sent.push(piece(&mut pieces));
            assert_eq!(sent.last().map(Bytes::len), Some(size));
            assert!(next(&mut pieces).is_pending());
        }
        for _ in 0..100 {
            script.add(1);
            assert!(next(&mut pieces).is_pending(), "the places are taken");
        }
        drop(sent.remove(0).split_to(1));
        assert_eq!(piece(&mut pieces).len(), 100, "and together they have the first that is free");
        let all = script.clone();
        (0..PLACES * 100_000).for_each(|_| all.add(1));
        let mut count = 0;
        while let Poll::Ready(Some(Ok(piece))) = next(&mut pieces) {
            assert_eq!(piece.len(), LARGE, "what is large needs none");
            sent.push(piece);
            count += 1;
        }
        assert_eq!(count, PLACES * 100_000 / LARGE);
    }

    #[test]
    fn a_place_that_is_free_again_wakes_whoever_waits() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let flag = Arc::new(Flag(false.into()));
        let is_woken = || flag.0.swap(false, std::sync::atomic::Ordering::Relaxed);
        let script = Script::default();
        let mut pieces = Pieces::of(script.clone());
        let mut sent: Vec<_> = (0..PLACES)
            .map(|_| {
                script.add(1);
                piece(&mut pieces)
            })
            .collect();
        script.add(1);
        let waker = Waker::from(Arc::clone(&flag));
        assert!(Pin::new(&mut pieces).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        assert!(!is_woken());
        sent.pop();
        assert!(is_woken());
    }

    #[test]
    fn what_is_large_passes_as_it_is_and_in_its_turn() {
        let script = Script::default();
        let mut pieces = Pieces::of(script.clone());
        for size in [1, LARGE, 2, LARGE + 1] {
            script.add(size);
        }
        script.0.borrow_mut().push_back(Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new())))));
        script.0.borrow_mut().push_back(Poll::Ready(Some(Err(()))));
        let sizes: Vec<_> = (0..4).map(|_| piece(&mut pieces).len()).collect();
        assert_eq!(sizes, [1, LARGE, 2, LARGE + 1]);
        assert_eq!(next(&mut pieces), Poll::Ready(Some(Err(()))));
    }

    #[test]
    fn the_end_is_known_with_the_last_piece() {
        let mut pieces = Pieces::of(http_body_util::Full::from("whole"));
        assert_eq!((pieces.size_hint().exact(), pieces.is_end_stream()), (Some(5), false));
        let frame = Pin::new(&mut pieces).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(frame, Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| data == "whole")));
        assert_eq!((pieces.size_hint().exact(), pieces.is_end_stream()), (Some(0), true));
    }
}
