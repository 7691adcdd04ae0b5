//! How much memory an HTTP/2 agent's unread bodies hold, whatever stands between their pieces.
//!
//! h2 hands out slices of the buffer that it reads into, and each that nobody has taken keeps all of that buffer, with the
//! other frames in it: of unknown kinds, of streams that flow, padding. Its windows count the slices alone. So the frames
//! are followed here as they come in, and each unread piece is charged with all that came since the unread one before it,
//! as far as one buffer goes. Only lengths, kinds and streams are read; h2 stays the judge of everything else.
//!
//! ```text
//!   wire:     [DATA 1] [unknown ......] [DATA 3] [DATA 1] ...
//!   unread:    ^end                               ^end        the second is charged with the bytes between the ends
//! ```
//!
//! Which request has which stream is not hyper's to say. A request begins as soon as its head has been read, so nothing
//! behind that head is handed on before. What belongs to no request was dropped by h2, and holds nothing.
//! It refuses nothing by itself: the connection ends where too much is held. Fed with all that hyper reads.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// The frames of one connection, behind its preface.
#[derive(Debug, Default)]
pub struct Unread {
    /// Of the next frame's header.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// Bytes so far.
    position: u64,
    /// The newest stream that was opened.
    newest: u32,
    /// Its head is whole, and it has not begun yet.
    opening: Option<u32>,
    /// Of each request that has begun, where its unread pieces end.
    bodies: HashMap<u32, VecDeque<u64>>,
    /// All of those, with their sizes.
    pieces: BTreeMap<u64, u64>,
    held: u64,
}

/// A frame whose payload is under way.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    ends_head: bool,
    stream: u32,
    length: u64,
    left: u64,
}

impl Unread {
    /// Looks at the next bytes, and says how many may be handed on before it is asked whether a request has begun.
    #[must_use]
    pub fn see(&mut self, bytes: &[u8]) -> usize {
        self.opening = None;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(frame) = &mut self.frame else {
                let step = rest.len().min(HEADER - self.header.len());
                self.header.extend_from_slice(&rest[..step]);
                at += step;
                self.position += step as u64;
                if let Ok(header) = <[u8; HEADER]>::try_from(&self.header[..]) {
                    self.header.clear();
                    self.frame = Some(Frame::read(header));
                    self.end_frame();
                }
                if self.opening.is_some() {
                    return at;
                }
                continue;
            };
            let step = usize::try_from(frame.left).unwrap_or(usize::MAX).min(rest.len());
            frame.left -= step as u64;
            at += step;
            self.position += step as u64;
            self.end_frame();
            if self.opening.is_some() {
                return at;
            }
        }
        at
    }

    /// Whether a head has just become whole.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// A request has begun; gives its stream.
    pub fn begin(&mut self) -> Option<u32> {
        let stream = self.opening.take()?;
        self.bodies.insert(stream, VecDeque::new());
        Some(stream)
    }

    /// The next piece of this request's body was taken.
    pub fn took(&mut self, stream: u32) {
        if let Some(end) = self.bodies.get_mut(&stream).and_then(VecDeque::pop_front) {
            self.remove(end);
        }
    }

    /// Nobody wants the rest of this request's body.
    pub fn leave(&mut self, stream: u32) {
        for end in self.bodies.remove(&stream).unwrap_or_default() {
            self.remove(end);
        }
    }

    /// Whether more is held than an agent needs that fills its windows.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.held > MOST_HELD
    }

    fn end_frame(&mut self) {
        let Some(frame) = self.frame.filter(|frame| frame.left == 0) else { return };
        self.frame = None;
        match frame.kind {
            DATA => self.add(frame),
            // Trailers open nothing.
            HEADERS | CONTINUATION if frame.ends_head && frame.stream > self.newest => {
                self.newest = frame.stream;
                self.opening = Some(frame.stream);
            }
            _ => {}
        }
    }

    fn add(&mut self, frame: Frame) {
        let Some(body) = self.bodies.get_mut(&frame.stream) else { return };
        body.push_back(self.position);
        let before = self.pieces.last_key_value().map(|(&end, _)| end);
        self.held += charge(before, (self.position, frame.length));
        self.pieces.insert(self.position, frame.length);
    }

    fn remove(&mut self, end: u64) {
        let Some(length) = self.pieces.remove(&end) else { return };
        let before = self.pieces.range(..end).next_back().map(|(&before, _)| before);
        self.held -= charge(before, (end, length));
        // What was charged to this one the next one may hold now.
        if let Some((&next, &length)) = self.pieces.range(end..).next() {
            self.held -= charge(Some(end), (next, length));
            self.held += charge(before, (next, length));
        }
    }
}

impl Frame {
    fn read([a, b, c, kind, flags, s, t, u, v]: [u8; HEADER]) -> Self {
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        Self { kind, ends_head: flags & END_HEADERS != 0, stream, length, left: length }
    }
}

/// What a piece holds beside the unread one before it.
fn charge(before: Option<u64>, (end, length): (u64, u64)) -> u64 {
    (end - before.unwrap_or(0)).min(length + BUFFER)
}

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// h2 reads into buffers of this size, or of a frame's that is larger.
const BUFFER: u64 = 8 * 1024;

/// Twice a connection's window: what fills that in frames of the usual size is below it however the frames are mixed, and
/// small ones are where they follow each other.
const MOST_HELD: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), &vec![0; length]].concat()
    }

    fn data(stream: u32, length: usize) -> Vec<u8> {
        frame(DATA, 0, stream, length)
    }

    /// Hands everything on, and begins what is opened.
    fn read(unread: &mut Unread, bytes: &[u8]) -> Vec<u32> {
        let (mut at, mut begun) = (0, Vec::new());
        while at < bytes.len() {
            at += unread.see(&bytes[at..]);
            begun.extend(unread.begin());
        }
        begun
    }

    fn open(streams: &[u32]) -> Unread {
        let mut unread = Unread::default();
        for &stream in streams {
            assert_eq!(read(&mut unread, &frame(HEADERS, END_HEADERS, stream, 30)), [stream]);
        }
        unread
    }

    #[test]
    fn nothing_is_handed_on_behind_a_head_before_its_request_can_begin() {
        let mut unread = Unread::default();
        let (settings, head) = (frame(4, 0, 0, 6), frame(HEADERS, 0, 1, 20));
        let (more, body) = (frame(CONTINUATION, END_HEADERS, 1, 0), data(1, 10));
        let bytes = [&settings[..], &head, &more, &body].concat();
        assert_eq!(unread.see(&bytes), bytes.len() - body.len());
        assert_eq!((unread.is_opening(), unread.begin()), (true, Some(1)));
        assert_eq!(unread.see(&body), body.len());
        assert_eq!(unread.held, 10 + BUFFER.min(9 + bytes.len() as u64 - 19));
        let trailers = frame(HEADERS, END_HEADERS | 1, 1, 10);
        assert_eq!((read(&mut unread, &trailers), unread.is_opening()), (vec![], false));
    }

    #[test]
    fn what_stands_between_unread_pieces_is_held_with_them() {
        for filler in [0x20, 2, 6, 8] {
            let mut unread = open(&[1, 3]);
            let mut count = 0;
            while !unread.is_too_much() {
                read(&mut unread, &data(1, 256));
                read(&mut unread, &frame(filler, 0, 0, 8100));
                count += 1;
            }
            assert!(count < 70, "{count}");
        }
        // Others' pieces are no better.
        let mut unread = open(&[1, 3]);
        let mut count = 0;
        while !unread.is_too_much() {
            read(&mut unread, &[data(1, 1), data(3, 16384)].concat());
            unread.took(3);
            count += 1;
        }
        assert!(count < 70, "{count}");
    }

    #[test]
    fn full_windows_are_not_too_much_whatever_the_frames() {
        for length in [16, 256, 1024, 16384] {
            let streams: Vec<_> = (0..128).map(|number| 2 * number + 1).collect();
            let mut unread = open(&streams);
            for number in 0..256 * 1024 / length {
                read(&mut unread, &data(streams[number % 128], length));
            }
            assert!(!unread.is_too_much(), "{length}: {}", unread.held);
        }
        // A large body that waits, beside much that does not.
        let mut unread = open(&[1, 3]);
        for _ in 0..8 {
            read(&mut unread, &data(1, 16384));
            for _ in 0..100 {
                read(&mut unread, &data(3, 16384));
                unread.took(3);
            }
        }
        assert!(!unread.is_too_much(), "{}", unread.held);
    }

    #[test]
    fn what_was_taken_or_left_holds_nothing_nor_does_what_belongs_to_no_request() {
        let mut unread = open(&[1, 3]);
        for _ in 0..100_000 {
            read(&mut unread, &[data(1, 100), frame(0x20, 0, 0, 8100), data(5, 100)].concat());
            unread.took(1);
        }
        assert_eq!(unread.held, 0);
        read(&mut unread, &[data(3, 100), data(1, 100), data(3, 0)].concat());
        assert!(unread.held > 0);
        unread.leave(3);
        unread.leave(1);
        read(&mut unread, &data(3, 100));
        unread.took(3);
        assert_eq!((unread.held, unread.pieces.len(), unread.bodies.len()), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn the_account_is_the_same_however_bytes_are_cut_and_pieces_taken(
            frames in proptest::collection::vec((0u8..4, 0usize..300, any::<bool>()), 0..60),
            cut in 1usize..40,
        ) {
            let (mut whole, mut cuts) = (open(&[1, 3]), open(&[1, 3]));
            for (kind, length, takes) in frames {
                let bytes = if kind < 2 { data(1 + 2 * u32::from(kind), length) } else { frame(0x20, 0, 0, length) };
                read(&mut whole, &bytes);
                bytes.chunks(cut).for_each(|chunk| drop(read(&mut cuts, chunk)));
                if takes {
                    whole.took(1);
                    cuts.took(1);
                }
                let mut before = None;
                let sum: u64 = whole.pieces.iter().map(|(&end, &length)| charge(before.replace(end), (end, length))).sum();
                prop_assert_eq!((whole.held, cuts.held), (sum, sum));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&mut Unread::default(), &bytes);
        }
    }
}
