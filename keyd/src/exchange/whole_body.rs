//! A request's body held whole, because a key may go into it.
//!
//! Only requests that `policy` asks the body of come here. One body has 1 MiB at most, all of them together 16 MiB, and
//! each has half a minute to arrive; nothing is borrowed or locked meanwhile, and a body takes room as it comes and not as
//! it is announced. Whoever sends one has not shown a placeholder yet, so nobody may keep the room by sending no more: where
//! there is none left, what has brought nothing for longest is given up for what comes. What is whole waits for its
//! upstream, and nobody gives it up: so one agent has half of the room for such bodies, and those for one authority have.
//! It refuses to look into what it holds. Called by `admit` (to read) and `upload` (to send).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use strongroom_protocol::{Authority, Refusal};
use tokio_util::sync::CancellationToken;

/// The room that all bodies share.
#[derive(Debug, Clone, Default)]
pub struct BodyRoom(Rc<Room>);

#[derive(Debug, Default)]
struct Room {
    taken: Account,
    /// What is still coming and holds something, by when it last brought some.
    arriving: RefCell<BTreeMap<u64, Rc<Arriving>>>,
    /// The last place that was given; 0 is nobody's.
    last: Cell<u64>,
    /// What is whole and whose.
    owned: RefCell<HashMap<Owner, Weak<AtomicUsize>>>,
}

/// Whose a whole body is; it has two of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Agent(u64),
    Authority(Authority),
}

/// Bytes that are taken. Of one thread, and atomic because [`Bytes`] asks for owners that any thread may drop.
#[derive(Debug, Clone, Default)]
struct Account(Arc<AtomicUsize>);

/// A body that is still coming.
#[derive(Debug, Default)]
struct Arriving {
    bytes: RefCell<Vec<u8>>,
    /// Its place in the order, once it holds something.
    place: Cell<u64>,
    given_up: CancellationToken,
}

/// A body, and the room that it takes until the last of its bytes is dropped.
#[derive(Debug)]
pub struct WholeBody(Held);

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    taken: Taken,
}

/// So many bytes, of each of these accounts.
#[derive(Debug, Default)]
struct Taken(usize, Vec<Account>);

impl BodyRoom {
    fn owned_by(&self, owner: Owner) -> Account {
        let mut owned = self.0.owned.borrow_mut();
        let known = owned.get(&owner).and_then(Weak::upgrade);
        Account(known.unwrap_or_else(|| {
            // Who has none any more needs no account.
            owned.retain(|_, account| account.strong_count() > 0);
            let new = Arc::default();
            owned.insert(owner, Arc::downgrade(&new));
            new
        }))
    }
}

impl WholeBody {
    /// Reads to the end.
    ///
    /// # Errors
    /// `too_large`, `overloaded` where others have all the room or took it, `bad_request` where it breaks off or takes too
    /// long.
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
        let arrival = Arrival { body: Rc::default(), room: Rc::clone(&room.0) };
        let reading = async {
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let frame = frame.map_err(|_| Refusal::BadRequest)?;
                // Trailers could smuggle fields past the judgement over the head.
                if let Ok(data) = frame.into_data() {
                    arrival.add(data.as_ref())?;
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = arrival.body.given_up.cancelled() => Err(Refusal::Overloaded),
            read = tokio::time::timeout(time, reading) => match read {
                Ok(outcome) => outcome.map(|()| arrival.end()),
                Err(_) => Err(Refusal::BadRequest),
            }
        }
    }

    /// Counts it as this agent's, and as one for this authority.
    ///
    /// # Errors
    /// `overloaded` where one of them has its part already.
    pub fn belongs_to(&mut self, agent: u64, authority: &Authority, room: &BodyRoom) -> Result<(), Refusal> {
        let Taken(bytes, accounts) = &mut self.0.taken;
        let owners = [Owner::Agent(agent), Owner::Authority(authority.clone())].map(|owner| room.owned_by(owner));
        if owners.iter().any(|owner| owner.bytes() + *bytes > MOST_OF_ONE) {
            return Err(Refusal::Overloaded);
        }
        for owner in owners {
            owner.take(*bytes);
            accounts.push(owner);
        }
        Ok(())
    }

    /// What came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Puts other bytes in their place. The old ones were the agent's own.
    pub fn replace(&mut self, bytes: Vec<u8>) {
        self.0.bytes = bytes;
    }

    /// Gives the bytes away, once. Whoever holds them holds the room: an upstream that takes nothing keeps them with the
    /// HTTP library, long after this body was dropped.
    pub fn take_bytes(&mut self) -> Bytes {
        Bytes::from_owner(std::mem::take(&mut self.0))
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Account {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.1.iter().for_each(|account| account.give_back(self.0));
    }
}

/// Takes a body out of the room, however its arrival ends.
struct Arrival {
    body: Rc<Arriving>,
    room: Rc<Room>,
}

impl Arrival {
    fn add(&self, data: &[u8]) -> Result<(), Refusal> {
        if data.is_empty() {
            return Ok(());
        }
        if self.body.bytes.borrow().len() + data.len() > LARGEST {
            return Err(Refusal::TooLarge);
        }
        self.room.arriving.borrow_mut().remove(&self.body.place.get());
        while self.room.taken.bytes() + data.len() > MOST {
            let (_, stalest) = self.room.arriving.borrow_mut().pop_first().ok_or(Refusal::Overloaded)?;
            stalest.given_up.cancel();
            self.room.taken.give_back(stalest.bytes.take().len());
        }
        self.room.taken.take(data.len());
        self.body.bytes.borrow_mut().extend_from_slice(data);
        let place = self.room.last.get() + 1;
        self.room.last.set(place);
        self.body.place.set(place);
        self.room.arriving.borrow_mut().insert(place, Rc::clone(&self.body));
        Ok(())
    }

    /// It is whole, and from now on nobody's to give up.
    fn end(&self) -> WholeBody {
        let bytes = self.body.bytes.take();
        WholeBody(Held { taken: Taken(bytes.len(), vec![self.room.taken.clone()]), bytes })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.room.arriving.borrow_mut().remove(&self.body.place.get());
        self.room.taken.give_back(self.body.bytes.take().len());
    }
}

/// Bytes of one body.
const LARGEST: usize = 1024 * 1024;
/// Bytes of all.
const MOST: usize = 16 * LARGEST;
/// Bytes of those that are whole, of one agent or for one authority.
const MOST_OF_ONE: usize = MOST / 2;
/// For a body to arrive: 1 MiB takes so long at 280 kbit/s.
const TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll, Waker};

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

    /// How it ended, if it has.
    fn outcome<F: Future<Output = Result<WholeBody, Refusal>>>(read: &mut Pin<Box<F>>) -> Option<Result<(), Refusal>> {
        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.map(drop)),
            Poll::Pending => None,
        }
    }

    fn chunks(left: usize, size: usize) -> Chunks {
        Chunks { left, size, ends: true }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_largest_body_is_taken_and_one_byte_more_is_not() {
        let room = BodyRoom::default();
        let whole = WholeBody::read(chunks(1024, 1024), &room).await.expect("1 MiB");
        assert_eq!((whole.bytes().len(), room.0.taken.bytes()), (LARGEST, LARGEST));
        let more = WholeBody::read(chunks(1025, 1024), &room).await.map(drop);
        assert_eq!((more, room.0.taken.bytes()), (Err(Refusal::TooLarge), LARGEST), "and it takes no room");
        drop(whole);
        assert_eq!(room.0.taken.bytes(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_bodies_together_have_a_limit_and_room_comes_back() {
        let room = BodyRoom::default();
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(WholeBody::read(chunks(1, LARGEST), &room).await.expect("room"));
        }
        assert_eq!(WholeBody::read(chunks(1, 1), &room).await.map(drop), Err(Refusal::Overloaded));
        let mut sent = held.remove(0).take_bytes();
        assert_eq!(sent.split_to(1000).len(), 1000);
        assert!(WholeBody::read(chunks(1, 1), &room).await.is_err(), "what is being sent still takes its room");
        drop(sent);
        assert!(WholeBody::read(chunks(1, 1), &room).await.is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_agent_or_authority_leaves_room_to_the_others() {
        let room = BodyRoom::default();
        let authority = |number: usize| -> Authority { format!("h{number}.example").parse().unwrap() };
        for one_agent in [true, false] {
            // The other of the two is another each time.
            let agent = |number: usize| if one_agent { 7 } else { number as u64 };
            let host = |number: usize| if one_agent { number } else { 7 };
            let mut held = Vec::new();
            for number in 0..8 {
                let mut whole = WholeBody::read(chunks(1, LARGEST), &room).await.expect("room");
                assert_eq!(whole.belongs_to(agent(number), &authority(host(number)), &room), Ok(()));
                held.push(whole.take_bytes());
            }
            let mut more = WholeBody::read(chunks(1, 1), &room).await.expect("room");
            let refused = more.belongs_to(agent(8), &authority(host(8)), &room);
            assert_eq!(refused, Err(Refusal::Overloaded), "the ninth");
            assert_eq!(more.belongs_to(100, &authority(100), &room), Ok(()), "somebody else's");
            held.pop();
            assert_eq!(more.belongs_to(agent(8), &authority(host(8)), &room), Ok(()), "one was sent");
        }
        assert_eq!(room.0.taken.bytes(), 0);
        let left = room.0.owned.borrow().values().filter(|account| account.strong_count() > 0).count();
        assert_eq!(left, 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_brings_no_more_gives_its_room_to_what_comes() {
        let room = BodyRoom::default();
        let mut standing: Vec<_> = (0..17)
            .map(|number| {
                let size = if number == 1 { LARGEST / 2 } else { LARGEST - 1 };
                Box::pin(WholeBody::read(Chunks { left: 1, size, ends: false }, &room))
            })
            .collect();
        let outcomes = |bodies: &mut [Pin<Box<_>>]| bodies.iter_mut().map(outcome).collect::<Vec<_>>();
        let began = outcomes(&mut standing);
        assert_eq!(began, vec![None; 17], "each had room when it came");
        let whole = WholeBody::read(chunks(2, LARGEST / 2), &room).await.expect("room");
        let (gone, waiting) = standing.split_at_mut(2);
        let given_up = Some(Err(Refusal::Overloaded));
        assert_eq!(outcomes(gone), [given_up, given_up], "the stalest for the last of 17, the next for the new one");
        assert_eq!(outcomes(waiting), vec![None; 15], "and no more than is needed");
        drop((standing, whole));
        assert_eq!(room.0.taken.bytes(), 0);
        assert!(room.0.arriving.borrow().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_that_does_not_end_is_given_up_and_gives_its_room_back() {
        let room = BodyRoom::default();
        let endless = Chunks { left: 3, size: 5, ends: false };
        let read = WholeBody::read_within(Duration::from_millis(1), endless, &room).await;
        assert_eq!(read.map(drop), Err(Refusal::BadRequest));
        assert_eq!(room.0.taken.bytes(), 0);
    }
}
