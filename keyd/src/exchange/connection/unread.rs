//! What the h2 library holds of an answer beside the bytes that its windows count, and when that is enough.
//!
//! A piece of an answer that waits to be read keeps the whole buffer that it was read into, with whatever else lies in
//! there, and a place in a list. An upstream that sends small pieces, or much between two of them, makes them cost many
//! times their bytes; so the rest is counted too, and where it is too much the connection is not read until all pieces
//! have been taken. The upstream is held back by its socket then, and nothing that it says is heard. It refuses to cut
//! anybody off: small pieces are usual, and so is an agent that does not read. Counted by `frames`, cleared by `download`.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// The account of one connection.
#[derive(Default)]
pub struct Unread {
    /// Bytes that are kept for pieces that nobody has taken.
    overhead: Cell<usize>,
    /// Bytes since the last piece that were none of a piece.
    between: Cell<usize>,
    /// Bytes that the buffer which is being filled has left.
    left: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

impl Unread {
    /// A frame begins, with so many bytes behind its head.
    pub fn begins(&self, kind: u8, flags: u8, payload: usize) {
        let length = HEAD + payload;
        let wasted = self.buffer(length);
        if kind != DATA {
            self.between.set(self.between.get().saturating_add(length));
            return;
        }
        let padding = if flags & PADDED == 0 { 0 } else { payload.min(MOST_PADDING) };
        let between = self.between.take().min(LARGEST_BUFFER);
        let more = COST_OF_PIECE + padding + between + wasted;
        self.overhead.set(self.overhead.get().saturating_add(more));
    }

    /// Every piece that came has been taken.
    pub fn is_read(&self) {
        self.overhead.set(0);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Whether no more is to be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.overhead.get() >= MOST
    }

    /// Waits until more may be read.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_full() {
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Puts so many bytes into buffers as the codec does, which wants a frame in one; gives what the last buffer had left
    /// and will never be filled with.
    fn buffer(&self, length: usize) -> usize {
        let left = self.left.get();
        if length <= left {
            self.left.set(left - length);
            return 0;
        }
        // It is made for the head, and doubled for the rest.
        let is_doubled = left < HEAD && length > BUFFER;
        let new = length.max(if is_doubled { 2 * BUFFER } else { BUFFER });
        self.left.set(new - length);
        left
    }
}

/// Bytes in front of a payload (RFC 9113, 4.1).
pub const HEAD: usize = 9;
/// The kind of a piece.
pub const DATA: u8 = 0;
const PADDED: u8 = 8;
/// With the byte that says how much there is.
const MOST_PADDING: usize = 256;
/// A place in the list, which doubles as it grows.
const COST_OF_PIECE: usize = 512;
/// Bytes of the buffers that are read into.
const BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 32 * 1024;
/// A quarter of the window; pieces of the usual 16 KiB take an eighth of this for all of it.
const MOST: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these frames come until no more is read.
    fn count(frames: &[(u8, u8, usize)]) -> usize {
        let unread = Unread::default();
        (0..100_000)
            .take_while(|_| !unread.is_full())
            .inspect(|_| {
                frames.iter().for_each(|(kind, flags, payload)| unread.begins(*kind, *flags, *payload));
            })
            .count()
    }

    #[test]
    fn large_pieces_are_held_by_their_window_and_small_ones_by_this() {
        assert!(count(&[(DATA, 0, 16 * 1024)]) > 2 * 512 / 16);
        assert_eq!(count(&[(DATA, 0, 1)]), MOST / COST_OF_PIECE);
        let padded = count(&[(DATA, PADDED, 300)]);
        assert!((160..=MOST / (COST_OF_PIECE + MOST_PADDING)).contains(&padded), "{padded}");
    }

    #[test]
    fn what_lies_between_pieces_counts_with_them_and_alone_it_does_not() {
        for kind in [1, 4, 6, 99] {
            assert_eq!(count(&[(kind, 0, 16 * 1024)]), 100_000, "nothing keeps it");
            let mixed = count(&[(DATA, 0, 256), (kind, 0, 16 * 1024)]);
            assert!((6..=9).contains(&mixed), "{mixed}");
            let far_between = count(&[&[(DATA, 0, 256)][..], &[(kind, 0, 16 * 1024); 100]].concat());
            assert!((4..=6).contains(&far_between), "{far_between}");
        }
    }

    #[test]
    fn buffers_that_are_left_half_empty_count() {
        let pairs = count(&[(DATA, 0, 1), (DATA, 0, 8184)]);
        assert!(pairs < 20, "each pair leaves almost a whole one: {pairs}");
    }

    #[test]
    fn who_waits_goes_on_when_all_is_read() {
        let unread = Unread::default();
        let mut context = Context::from_waker(Waker::noop());
        while unread.poll_room(&mut context).is_ready() {
            unread.begins(DATA, 0, 1);
        }
        unread.is_read();
        assert!(unread.poll_room(&mut context).is_ready() && unread.waiting.borrow().is_none());
    }
}
