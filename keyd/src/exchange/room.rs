//! What a channel may take of the memory that all channels share, the kernel's for them among it.
//!
//! An open channel takes what the socket pair can hold, for nobody may read there. An exchange takes its worst case before
//! it touches the upstream connection, and gives it back when its answer is through. It refuses the exchange that would be
//! one too many, before anything of it is written down or taken from a limit. Called by `gateway.rs` (opening), `forward`
//! (beginning) and `channel` (ends).

use std::cell::RefCell;
use std::time::Duration;

use strongroom_protocol::Refusal;

use super::decode::memory::{Memory, Share};
use super::refuse::Denial;

/// A channel's part, until it is dropped.
pub struct Room {
    share: RefCell<Share>,
    /// What the pair may hold.
    queue: usize,
}

impl Room {
    /// For a new channel, with what its pair may hold.
    ///
    /// # Errors
    /// `overloaded` where there is not so much left.
    pub fn open(memory: &Memory, queue: usize) -> Result<Self, Refusal> {
        let share = memory.share(queue).ok_or(Refusal::Overloaded)?;
        Ok(Self { share: RefCell::new(share), queue })
    }

    /// An exchange is about to use the upstream connection, or has found out that it needs less.
    ///
    /// # Errors
    /// `overloaded`; nothing was taken.
    pub fn begin(&self, is_http2: bool) -> Result<(), Denial> {
        let needed = if is_http2 { HTTP2 } else { HTTP1 };
        let has_it = self.share.borrow_mut().resize(self.queue + needed);
        if has_it { Ok(()) } else { Err(Denial::until(Refusal::Overloaded, MOMENT)) }
    }

    /// The exchange is over; the connection keeps some of its buffers.
    pub fn end(&self) {
        self.shrink(self.queue + IDLE);
    }

    /// The upstream connection is gone, and what nobody has read stays.
    pub fn close(&self) {
        self.shrink(self.queue);
    }

    fn shrink(&self, bytes: usize) {
        let mut share = self.share.borrow_mut();
        if share.bytes() > bytes {
            let _ = share.resize(bytes);
        }
    }
}

/// Bytes of all channels. With what decoders, bodies and heads share, and all else, it stays within the unit's MemoryMax=.
pub const ROOM_FOR_CHANNELS: usize = 800 * 1024 * 1024;
/// The most that an exchange was seen to hold when nobody read on either side: buffers of TLS, of HTTP, of the scrubber and
/// of the frames in both directions.
const HTTP1: usize = 608 * 1024;
/// The same with HTTP/2, whose window is on the way too, and in whatever pieces it comes.
const HTTP2: usize = 1024 * 1024;
/// What a connection keeps between exchanges.
const IDLE: usize = 128 * 1024;
/// Exchanges end all the time.
const MOMENT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: usize = 208 * 1024;

    #[test]
    fn a_full_account_refuses_and_the_refusal_takes_nothing() {
        let memory = Memory::of(2 * QUEUE + HTTP1 + IDLE);
        let (one, other) = (Room::open(&memory, QUEUE).unwrap(), Room::open(&memory, QUEUE).unwrap());
        one.begin(false).unwrap();
        for _ in 0..3 {
            assert_eq!(other.begin(false).unwrap_err().refusal, Refusal::Overloaded);
        }
        assert!(memory.share(IDLE).is_some(), "what is left is left");
        one.end();
        assert!(other.begin(true).is_err() && other.begin(false).is_ok());
    }

    #[test]
    fn what_was_taken_comes_back_at_every_end() {
        let all = QUEUE + HTTP2;
        let memory = Memory::of(all);
        let is_left = |bytes| memory.share(bytes).is_some() && memory.share(bytes + 1).is_none();
        let room = Room::open(&memory, QUEUE).unwrap();
        room.end();
        assert!(is_left(HTTP2), "an end without a beginning takes nothing");
        room.begin(true).unwrap();
        assert!(is_left(0));
        room.begin(false).unwrap();
        assert!(is_left(HTTP2 - HTTP1), "it was HTTP/1.1 after all");
        room.end();
        room.end();
        assert!(is_left(HTTP2 - IDLE));
        room.begin(true).unwrap();
        room.close();
        assert!(is_left(HTTP2), "the pair's queue is not read yet");
        room.begin(false).unwrap();
        drop(room);
        assert!(is_left(all));
        assert!(Room::open(&memory, all + 1).is_err() && is_left(all));
    }

    #[test]
    fn as_many_agents_as_gatewayd_takes_by_itself_are_served_at_once() {
        let memory = Memory::of(ROOM_FOR_CHANNELS);
        let rooms: Vec<_> = (0..1000).map(|_| Room::open(&memory, QUEUE).unwrap()).collect();
        assert!(rooms.iter().all(|room| room.begin(false).is_ok()));
    }
}
