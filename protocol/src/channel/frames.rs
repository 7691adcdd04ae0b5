//! How bytes on a channel fall into frames: a kind, a length, a payload.
//!
//! ```text
//!  0      1             4
//!  +------+-------------+--------------------------+      gatewayd: Head Data* End, or Head alone
//!  | kind | length      | payload                  |      keyd:    Continue? Head Data* End, or Head alone
//!  | u8   | u24 BE      | exactly length bytes     |
//!  +------+-------------+--------------------------+
//! ```
//!
//! A length says where a frame ends, so nothing that an agent or an upstream sends can be taken for the channel's own
//! words, whatever it looks like. Data is handed on as it comes, heads and ends are gathered whole up to a limit that is
//! checked first. Plain state without I/O: both daemons read into [`Decoder::room`] and write out of
//! [`Encoder::slices`]. It refuses unknown kinds and lengths over the limit, for good, and to keep the memory of a large
//! message: a channel that is idle has little.
//!
//! Called by `gatewayd/src/channel` and `keyd/src/exchange/link.rs`.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The head of a request or an answer; see [`super::head`].
    Head,
    /// A piece of a body.
    Data,
    /// The clean end of a body, with its trailer fields.
    End,
    /// keyd has admitted the request and wants its body (the agent asked with `Expect: 100-continue`). Empty.
    Continue,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Data => 2,
            Self::End => 3,
            Self::Continue => 4,
        }
    }

    fn of(number: u8) -> Result<Self, Malformed> {
        Ok(match number {
            1 => Self::Head,
            2 => Self::Data,
            3 => Self::End,
            4 => Self::Continue,
            _ => return Err(Malformed),
        })
    }

    fn limit(self) -> usize {
        match self {
            Self::Head | Self::End => FIELDS_LIMIT,
            Self::Data => DATA_LIMIT,
            Self::Continue => 0,
        }
    }
}

/// A frame, or as much of a data frame as has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole head.
    Head(Bytes),
    /// Some bytes of a body; never empty.
    Data(Bytes),
    /// The end, with its trailers.
    End(Bytes),
    /// Go on with the body.
    Continue,
}

/// Reads frames out of bytes, however these were cut.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes to make room for. Grows while reads fill it, so that a bulk transfer takes few of them and a thousand quiet
    /// channels little memory.
    wanted: usize,
    /// The most that the buffer has held room for since it was new.
    held: usize,
    /// Of a data frame whose header was read.
    data_left: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), wanted: SMALLEST_READ / 2, held: 0, data_left: 0 }
    }
}

impl Decoder {
    /// Where the next bytes go: append what was read.
    pub fn room(&mut self) -> &mut BytesMut {
        let left = self.buffer.capacity() - self.buffer.len();
        if left == 0 {
            self.wanted = (self.wanted * 2).min(LARGEST_READ);
        }
        if left < self.wanted / 4 {
            self.buffer.reserve(self.wanted);
            self.held = self.held.max(self.buffer.capacity());
        }
        &mut self.buffer
    }

    /// The next frame; nothing where more bytes are needed.
    ///
    /// # Errors
    /// [`Malformed`]; nothing after it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        loop {
            if self.data_left > 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let length = self.data_left.min(self.buffer.len());
                self.data_left -= length;
                return Ok(Some(Frame::Data(self.buffer.split_to(length).freeze())));
            }
            let Some(&[kind, a, b, c]) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
            let (kind, length) = (Kind::of(kind)?, u32::from_be_bytes([0, a, b, c]) as usize);
            if length > kind.limit() {
                return Err(Malformed);
            }
            if kind == Kind::Data {
                self.buffer.advance(HEADER);
                self.data_left = length;
                continue;
            }
            if self.buffer.len() < HEADER + length {
                return Ok(None);
            }
            self.buffer.advance(HEADER);
            let payload = self.buffer.split_to(length).freeze();
            self.give_back();
            return Ok(Some(match kind {
                Kind::Head => Frame::Head(payload),
                Kind::End => Frame::End(payload),
                Kind::Continue | Kind::Data => Frame::Continue,
            }));
        }
    }

    /// Takes the end of a body, without trailers, if that is what has come next: so that a last piece is known to be one.
    #[must_use]
    pub fn take_plain_end(&mut self) -> bool {
        let is_next = self.data_left == 0 && self.buffer.starts_with(&[Kind::End.number(), 0, 0, 0]);
        if is_next {
            self.buffer.advance(HEADER);
            self.give_back();
        }
        is_next
    }

    /// Behind a head or an end the channel may be idle for long: memory that a large one needed, or the data between them, is
    /// kept no longer. The buffer would hold all of it for the few bytes that follow, or for none.
    fn give_back(&mut self) {
        if self.held > KEPT && self.buffer.len() <= SMALLEST_READ {
            let rest = BytesMut::from(&self.buffer[..]);
            *self = Self { buffer: rest, data_left: self.data_left, ..Self::default() };
        }
    }

    /// Bytes of the head or end that has begun and is not whole.
    #[must_use]
    pub fn awaits(&self) -> Option<usize> {
        let &[kind, a, b, c] = self.buffer.first_chunk::<HEADER>()?;
        let is_gathered = self.data_left == 0 && kind != Kind::Data.number();
        is_gathered.then(|| u32::from_be_bytes([0, a, b, c]) as usize)
    }

    /// Whether nothing is begun: what was read has been handed on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.data_left == 0
    }
}

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub struct Encoder {
    waiting: VecDeque<Bytes>,
    /// Behind those: headers and small payloads, which cost less to copy than to point to.
    tail: BytesMut,
    length: usize,
}

impl Encoder {
    /// Appends a frame. Data over [`DATA_LIMIT`] becomes several.
    ///
    /// # Errors
    /// [`Malformed`] where a head or an end is over its limit.
    pub fn push(&mut self, kind: Kind, mut payload: Bytes) -> Result<(), Malformed> {
        while kind == Kind::Data && payload.len() > DATA_LIMIT {
            let part = payload.split_to(DATA_LIMIT);
            self.append(kind, part);
        }
        if payload.len() > kind.limit() {
            return Err(Malformed);
        }
        if kind != Kind::Data || !payload.is_empty() {
            self.append(kind, payload);
        }
        Ok(())
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first of what waits, to be written at once; how many of the slices are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.waiting.iter().map(|part| &part[..]).chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while let Some(first) = self.waiting.front_mut() {
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
            self.waiting.pop_front();
        }
        self.tail.advance(written);
    }

    fn append(&mut self, kind: Kind, payload: Bytes) {
        let [_, a, b, c] = u32::try_from(payload.len()).expect("limits are below 2^24").to_be_bytes();
        self.length += HEADER + payload.len();
        self.tail.put_slice(&[kind.number(), a, b, c]);
        if payload.len() <= COPIED {
            self.tail.put_slice(&payload);
        } else {
            self.waiting.extend([self.tail.split().freeze(), payload]);
        }
    }
}

/// Bytes that are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel's bytes are no frames of this protocol")
    }
}

impl std::error::Error for Malformed {}

const HEADER: usize = 4;
/// Largest head or end, in bytes: the widest limits of either side and some room.
pub const FIELDS_LIMIT: usize = 256 * 1024;
/// Largest piece of a body in one frame, in bytes.
pub const DATA_LIMIT: usize = 1024 * 1024;
const SMALLEST_READ: usize = 8 * 1024;
const LARGEST_READ: usize = 128 * 1024;
/// Bytes of a buffer that is used again and again.
const KEPT: usize = 32 * 1024;
/// Copying so many bytes costs less than another slice.
const COPIED: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(encoder: &mut Encoder, at_a_time: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !encoder.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = encoder.slices(&mut slices);
            let bytes: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(at_a_time).collect();
            encoder.advance(bytes.len());
            out.extend(bytes);
        }
        out
    }

    /// Frames with the pieces of one body joined.
    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::default();
        let mut frames: Vec<Frame> = Vec::new();
        for chunk in chunks {
            decoder.room().put_slice(chunk);
            while let Some(frame) = decoder.next_frame()? {
                match (frames.last_mut(), frame) {
                    (Some(Frame::Data(before)), Frame::Data(more)) => {
                        *before = [&before[..], &more[..]].concat().into()
                    }
                    (_, frame) => frames.push(frame),
                }
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            bodies in proptest::collection::vec((0usize..5000, any::<u8>()), 1..8),
            at_a_time in 1usize..9000,
            cut in 1usize..9000,
        ) {
            let mut encoder = Encoder::default();
            let mut expected = Vec::new();
            for (length, byte) in bodies {
                let payload = Bytes::from(vec![byte; length]);
                encoder.push(Kind::Head, payload.slice(..length / 2)).unwrap();
                encoder.push(Kind::Data, payload.clone()).unwrap();
                encoder.push(Kind::End, payload.slice(..length / 3)).unwrap();
                expected.push(Frame::Head(payload.slice(..length / 2)));
                if length > 0 {
                    expected.push(Frame::Data(payload.clone()));
                }
                expected.push(Frame::End(payload.slice(..length / 3)));
            }
            let bytes = written(&mut encoder, at_a_time);
            prop_assert_eq!(read(bytes.chunks(cut)).unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic_or_take_room_that_they_did_not_bring(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut decoder = Decoder::default();
            decoder.room().put_slice(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
            prop_assert!(decoder.buffer.capacity() <= 2 * LARGEST_READ);
        }
    }

    #[test]
    fn large_bodies_become_several_frames() {
        let mut encoder = Encoder::default();
        let body = Bytes::from(vec![7; 2 * DATA_LIMIT + 5]);
        encoder.push(Kind::Data, body.clone()).unwrap();
        assert_eq!(encoder.len(), body.len() + 3 * HEADER);
        let bytes = written(&mut encoder, usize::MAX);
        assert_eq!(read([&bytes[..]]).unwrap(), [Frame::Data(body)]);
    }

    #[test]
    fn kinds_and_lengths_that_are_not_ours_are_refused() {
        for header in [[0, 0, 0, 0], [5, 0, 0, 0], [b'G', b'E', b'T', b' '], [4, 0, 0, 1], [1, 4, 0, 1], [3, 4, 0, 1]] {
            assert_eq!(read([&header[..]]), Err(Malformed), "{header:?}");
        }
        for header in [[1, 4, 0, 0], [2, 0x10, 0, 0], [3, 4, 0, 0]] {
            assert_eq!(read([&header[..]]), Ok(Vec::new()), "the positive twin: {header:?}");
        }
        assert!(Encoder::default().push(Kind::Head, vec![0; FIELDS_LIMIT + 1].into()).is_err());
        assert!(Encoder::default().push(Kind::End, vec![0; FIELDS_LIMIT + 1].into()).is_err());
    }

    #[test]
    fn only_an_end_without_trailers_that_is_next_is_taken() {
        let taken = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.room().put_slice(bytes);
            decoder.take_plain_end()
        };
        assert!(taken(&[3, 0, 0, 0]) && taken(&[3, 0, 0, 0, 1]));
        for bytes in [&[3, 0, 0][..], &[3, 0, 0, 1, 0], &[2, 0, 0, 4, 3, 0, 0, 0], &[4, 0, 0, 0]] {
            assert!(!taken(bytes), "{bytes:?}");
        }
        let mut decoder = Decoder::default();
        decoder.room().put_slice(&[2, 0, 0, 5, b'x']);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Data(Bytes::from_static(b"x")))));
        decoder.room().put_slice(&[3, 0, 0, 0]);
        assert!(!decoder.take_plain_end(), "these bytes are data");
    }

    /// Reads all that a peer sends at once, and forgets what came.
    fn take_in(decoder: &mut Decoder, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = decoder.room();
            let length = bytes.len().min(room.capacity() - room.len());
            room.put_slice(&bytes[..length]);
            bytes = &bytes[length..];
            while decoder.next_frame().unwrap().is_some() {}
        }
    }

    #[test]
    fn a_large_message_leaves_no_memory_behind() {
        let encoded = |head: usize, body: usize| {
            let mut encoder = Encoder::default();
            encoder.push(Kind::Head, vec![7; head].into()).unwrap();
            encoder.push(Kind::Data, vec![8; body].into()).unwrap();
            encoder.push(Kind::End, Bytes::new()).unwrap();
            written(&mut encoder, usize::MAX)
        };
        for (head, body) in [(FIELDS_LIMIT, 0), (10, 4 * DATA_LIMIT), (FIELDS_LIMIT, DATA_LIMIT)] {
            for next in [&[][..], &[1, 0, 0, 9]] {
                let mut decoder = Decoder::default();
                take_in(&mut decoder, &[&encoded(head, body)[..], next].concat());
                assert!(decoder.held <= KEPT, "{} bytes are kept", decoder.held);
                assert!(decoder.room().capacity() <= KEPT, "nor does it come back");
                take_in(&mut decoder, &[&[0; 9][..], &encoded(5, 50_000)].concat()[9 * usize::from(next.is_empty())..]);
                assert!(decoder.is_empty(), "and it goes on as before");
            }
        }
    }

    #[test]
    fn a_small_message_keeps_the_buffer_for_the_next() {
        let mut decoder = Decoder::default();
        take_in(&mut decoder, &[1, 0, 0, 1, b'x']);
        assert!(decoder.held > 0);
    }

    #[test]
    fn reads_grow_while_they_are_filled() {
        let mut decoder = Decoder::default();
        for _ in 0..8 {
            let room = decoder.room();
            let left = room.capacity() - room.len();
            room.put_bytes(2, left);
            while !decoder.buffer.is_empty() {
                if decoder.next_frame().is_err() {
                    decoder.buffer.clear();
                }
            }
        }
        let room = decoder.room();
        assert!((LARGEST_READ..=2 * LARGEST_READ).contains(&(room.capacity() - room.len())));
    }
}
