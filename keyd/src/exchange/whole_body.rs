//! A request's body held whole, because a key may go into it.
//!
//! Only requests that `policy` asks the body of come here. One body has 1 MiB at most, all of them together 16 MiB, and
//! each has half a minute to arrive; nothing is borrowed or locked meanwhile, and a body takes room as it comes and not as
//! it is announced. It refuses to look into what it holds. Called by `admit` (to read) and `upload` (to send).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http_body::Body;
use strongroom_protocol::Refusal;

/// The room that all bodies share.
#[derive(Debug, Clone, Default)]
pub struct BodyRoom(Rc<Cell<usize>>);

/// A body, and the room that it takes until it is dropped.
#[derive(Debug)]
pub struct WholeBody {
    bytes: Vec<u8>,
    taken: usize,
    room: BodyRoom,
}

impl WholeBody {
    /// Reads to the end.
    ///
    /// # Errors
    /// `too_large`, `overloaded` where others have all the room, `bad_request` where it breaks off or takes too long.
    pub async fn read<B: Body<Data: AsRef<[u8]>> + Unpin>(body: B, room: &BodyRoom) -> Result<Self, Refusal> {
        Self::read_within(TIME, body, room).await
    }

    async fn read_within<B: Body<Data: AsRef<[u8]>> + Unpin>(
        time: Duration,
        mut body: B,
        room: &BodyRoom,
    ) -> Result<Self, Refusal> {
        if body.size_hint().lower() > LARGEST as u64 {
            return Err(Refusal::TooLarge);
        }
        let mut whole = Self { bytes: Vec::new(), taken: 0, room: room.clone() };
        let reading = async {
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let frame = frame.map_err(|_| Refusal::BadRequest)?;
                // Trailers could smuggle fields past the judgement over the head.
                if let Ok(data) = frame.into_data() {
                    whole.add(data.as_ref())?;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(time, reading).await {
            Ok(outcome) => outcome.map(|()| whole),
            Err(_) => Err(Refusal::BadRequest),
        }
    }

    /// What came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts other bytes in their place. The old ones were the agent's own.
    pub fn replace(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Gives the bytes away, once; the room stays taken.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn add(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if self.bytes.len() + data.len() > LARGEST {
            return Err(Refusal::TooLarge);
        }
        let all = self.room.0.get() + data.len();
        if all > MOST {
            return Err(Refusal::Overloaded);
        }
        self.room.0.set(all);
        self.taken += data.len();
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Drop for WholeBody {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get() - self.taken);
    }
}

/// Bytes of one body.
const LARGEST: usize = 1024 * 1024;
/// Bytes of all.
const MOST: usize = 16 * LARGEST;
/// For a body to arrive: 1 MiB takes so long at 280 kbit/s.
const TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// So many chunks of so many bytes, and then perhaps no end.
    struct Chunks {
        left: usize,
        size: usize,
        ends: bool,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match (self.left, self.ends) {
                (0, true) => Poll::Ready(None),
                (0, false) => Poll::Pending,
                _ => {
                    self.left -= 1;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; self.size])))))
                }
            }
        }
    }

    fn chunks(left: usize, size: usize) -> Chunks {
        Chunks { left, size, ends: true }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_largest_body_is_taken_and_one_byte_more_is_not() {
        let room = BodyRoom::default();
        let whole = WholeBody::read(chunks(1024, 1024), &room).await.expect("1 MiB");
        assert_eq!((whole.bytes().len(), room.0.get()), (LARGEST, LARGEST));
        let more = WholeBody::read(chunks(1025, 1024), &room).await.map(drop);
        assert_eq!((more, room.0.get()), (Err(Refusal::TooLarge), LARGEST), "and it takes no room");
        drop(whole);
        assert_eq!(room.0.get(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_bodies_together_have_a_limit_and_room_comes_back() {
        let room = BodyRoom::default();
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(WholeBody::read(chunks(1, LARGEST), &room).await.expect("room"));
        }
        assert_eq!(WholeBody::read(chunks(1, 1), &room).await.map(drop), Err(Refusal::Overloaded));
        let sent = held[0].take_bytes();
        assert_eq!(sent.len(), LARGEST);
        assert!(WholeBody::read(chunks(1, 1), &room).await.is_err(), "what is being sent still takes its room");
        held.pop();
        assert!(WholeBody::read(chunks(1, 1), &room).await.is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_that_does_not_end_is_given_up_and_gives_its_room_back() {
        let room = BodyRoom::default();
        let endless = Chunks { left: 3, size: 5, ends: false };
        let read = WholeBody::read_within(Duration::from_millis(1), endless, &room).await;
        assert_eq!(read.map(drop), Err(Refusal::BadRequest));
        assert_eq!(room.0.get(), 0);
    }
}
