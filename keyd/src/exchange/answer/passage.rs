//! A body's way through keyd without its sockets: decoded, cut into messages where it has some, searched.
//!
//! What has come is asked for until nothing more comes out of it; then the next piece is pushed. A piece is searched in
//! steps, and others have their turn between two of them. It refuses what cannot be decoded. Called by `answer`.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::super::decode::memory::Memory;
use super::super::decode::{Decoding, Pulled, Undecodable};
use super::super::scrub::patterns::Patterns;
use super::super::scrub::stream::Stream;
use super::head::Shape;
use super::messages::Messages;
use super::readable;
use crate::turn;

/// Where a body is between two pieces.
pub struct Passage {
    waiting: Option<Bytes>,
    decoding: Option<Decoding>,
    messages: Option<Messages>,
    /// Decoded and not yet searched.
    rest: Bytes,
    /// Of what may be text: its first bytes, until they cannot be the mark of another encoding.
    beginning: Option<Vec<u8>>,
    stream: Stream,
    /// A second piece that may go out.
    next: Option<Bytes>,
}

impl Passage {
    /// At the beginning of a body of this shape.
    ///
    /// # Errors
    /// Where there is no memory to decode it.
    pub fn new(shape: &Shape, patterns: Rc<Patterns>, memory: &Memory) -> Result<Self, Undecodable> {
        let decoding = Decoding::new(&shape.codings, memory)?;
        let messages = shape.messages.map(Messages::new);
        let beginning = shape.may_be_text.then(Vec::new);
        let (rest, stream) = (Bytes::new(), Stream::new(patterns));
        Ok(Self { waiting: None, decoding, messages, beginning, rest, stream, next: None })
    }

    /// Looks for these keys from here on: the vault changed while the body was running.
    pub fn set_patterns(&mut self, patterns: Rc<Patterns>) {
        self.stream.set_patterns(patterns);
    }

    /// Takes a piece of the body. All that came before has to be asked for first.
    pub fn push(&mut self, piece: Bytes) {
        match &mut self.decoding {
            Some(decoding) => decoding.push(piece),
            None => self.waiting = Some(piece),
        }
    }

    /// What may go out of what has come, if there is anything.
    ///
    /// # Errors
    /// Where it cannot be searched.
    pub fn pull(&mut self) -> Result<Pulled, Undecodable> {
        if let Some(out) = self.next.take() {
            return Ok(Pulled::Piece(out));
        }
        loop {
            if self.rest.is_empty() {
                let piece = match &mut self.decoding {
                    Some(decoding) => decoding.pull()?,
                    None => self.waiting.take().map_or(Pulled::Nothing, Pulled::Piece),
                };
                let Pulled::Piece(piece) = piece else { return Ok(piece) };
                self.look_at_the_beginning(&piece)?;
                self.rest = piece;
            }
            let mut out = self.search()?.into_iter().filter(|piece| !piece.is_empty());
            if let Some(first) = out.next() {
                self.next = out.next();
                return Ok(Pulled::Piece(first));
            }
            if !self.rest.is_empty() && turn::is_over() {
                return Ok(Pulled::Paused);
            }
        }
    }

    /// The body ended as it should: what is left of it, and how many keys were in that.
    ///
    /// # Errors
    /// Where its encoding did not end.
    pub fn finish(self) -> Result<(Bytes, u64), Undecodable> {
        match self.decoding {
            Some(decoding) if !decoding.is_done() => Err(Undecodable::CutOff),
            _ => Ok(self.stream.finish()),
        }
    }

    /// How many keys were masked since the last call.
    #[must_use]
    pub fn take_found(&mut self) -> u64 {
        self.stream.take_found()
    }

    /// Bytes that came and have still to go out, where they are as many as came.
    #[must_use]
    pub fn held(&self) -> Option<usize> {
        match self.decoding {
            Some(_) => None,
            None => {
                let pieces = [self.waiting.as_ref(), self.next.as_ref(), Some(&self.rest)].into_iter().flatten();
                Some(self.stream.held() + pieces.map(Bytes::len).sum::<usize>())
            }
        }
    }

    /// Bytes that the next piece should have, if they are at hand: a long run that is held is searched again with each.
    /// How much is held depends on no key.
    #[must_use]
    pub fn least(&self) -> usize {
        let held = self.stream.held();
        if held < LONG_RUN { 0 } else { held / 8 }
    }

    /// Whether nothing is left to come out, were this the end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_done = self.decoding.as_ref().is_none_or(Decoding::is_done);
        is_done && self.waiting.is_none() && self.rest.is_empty() && self.next.is_none() && self.stream.held() == 0
    }

    /// Whether the body was encoded.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        self.decoding.is_some()
    }

    /// Searches some of the rest: all, where it is short or makes little work.
    fn search(&mut self) -> Result<[Bytes; 2], Undecodable> {
        let Some(messages) = &mut self.messages else {
            let step = self.rest.split_to(self.rest.len().min(STEP));
            return Ok(self.stream.push(step));
        };
        let mut out = BytesMut::new();
        while !self.rest.is_empty() && !turn::is_over() {
            let most = self.rest.len().min(STEP);
            let end = messages.next_end(&self.rest[..most])?;
            let step = self.rest.split_to(end.unwrap_or(most));
            self.stream.push(step).iter().for_each(|part| out.extend_from_slice(part));
            if end.is_some() && messages.end_runs(self.stream.class()) {
                out.extend_from_slice(&self.stream.end_message());
            }
        }
        Ok([out.freeze(), Bytes::new()])
    }

    fn look_at_the_beginning(&mut self, piece: &[u8]) -> Result<(), Undecodable> {
        if let Some(beginning) = &mut self.beginning {
            let wanted = LONGEST_MARK - beginning.len();
            beginning.extend_from_slice(&piece[..wanted.min(piece.len())]);
            if readable::is_marked_wide(beginning) {
                return Err(Undecodable::Unknown);
            }
            if beginning.len() == LONGEST_MARK {
                self.beginning = None;
            }
        }
        Ok(())
    }
}

/// Bytes of a byte order mark, at most.
const LONGEST_MARK: usize = 4;
/// Bytes that are searched at once: even where they are a key again and again that takes milliseconds.
const STEP: usize = 16 * 1024;
/// What is held of most keys is a shorter run, and every chunk goes through at once.
const LONG_RUN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::super::scrub::patterns::fixture::patterns;
    use super::super::messages::Framing;
    use super::*;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e";

    fn passage(messages: Option<Framing>) -> Passage {
        with_key(KEY, messages)
    }

    fn with_key(key: &[u8], messages: Option<Framing>) -> Passage {
        let shape = Shape { messages, may_be_text: messages.is_none(), ..Shape::default() };
        Passage::new(&shape, Rc::new(patterns(&[key], "sk-")), &Memory::default()).expect("memory")
    }

    /// What comes out of a whole body that comes in pieces of this size.
    fn through(passage: &mut Passage, body: &[u8], piece: usize) -> Result<Vec<u8>, Undecodable> {
        let mut out = Vec::new();
        for piece in body.chunks(piece) {
            passage.push(Bytes::copy_from_slice(piece));
            while let Pulled::Piece(some) = passage.pull()? {
                out.extend_from_slice(&some);
            }
        }
        Ok(out)
    }

    #[test]
    fn a_key_that_looks_like_frames_is_masked() {
        let key = "p\u{e4}:xPFkThf4VucSm\u{c0}Ab1!HgaKwVJ7faC9qEwjky40".as_bytes();
        let at = key.windows(2).position(|two| two == "\u{c0}".as_bytes()).expect("a byte 0x80") + 1;
        let body = [message(&[b"x ", &key[..at]].concat()), key[at..].to_vec(), b" end".to_vec()].concat();
        for framing in [Framing::Grpc, Framing::GrpcWeb, Framing::Connect] {
            for piece in [1, 3, body.len()] {
                let mut passage = with_key(key, Some(framing));
                let out = through(&mut passage, &body, piece).unwrap_or_default();
                let rest = passage.finish().map(|(rest, _)| rest).unwrap_or_default();
                let out = [&out[..], &rest].concat();
                assert!(!key.windows(8).any(|part| memchr::memmem::find(&out, part).is_some()), "{framing:?} {piece}");
                // Where 0x80 is a flag of the framing the body passes, masked; elsewhere it breaks off before it.
                assert_eq!(out.len() == body.len(), framing == Framing::GrpcWeb, "{framing:?} {piece}");
            }
        }
    }

    #[test]
    fn a_text_that_is_marked_as_utf_16_breaks_off() {
        for piece in [1, 2, 100] {
            assert_eq!(through(&mut passage(None), b"\xff\xfes\0k\0", piece), Err(Undecodable::Unknown));
            let utf8 = b"\xef\xbb\xbfplain text\n";
            assert_eq!(through(&mut passage(None), utf8, piece), Ok(utf8.to_vec()));
        }
    }

    fn message(text: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(text.len()).expect("short").to_be_bytes(), text].concat()
    }

    #[test]
    fn a_whole_message_is_not_delayed_whatever_it_ends_in() {
        let body = message(b"\x0a\x05hello");
        let mut plain = passage(None);
        plain.push(body.clone().into());
        let Ok(Pulled::Piece(piece)) = plain.pull() else { panic!("nothing") };
        assert_eq!(piece.len(), body.len() - 5, "the positive twin");
        let mut passage = passage(Some(Framing::Grpc));
        for _ in 0..3 {
            passage.push(body.clone().into());
            assert_eq!(passage.pull(), Ok(Pulled::Piece(body.clone().into())));
            assert!(passage.is_empty());
        }
    }

    #[test]
    fn a_key_in_a_message_is_masked_and_frames_stay() {
        let body = [message(&[b"\x0a\x20", KEY].concat()), message(KEY), message(b"")].concat();
        let mask = vec![b'*'; KEY.len()];
        let expected = [message(&[b"\x0a\x20", &mask[..]].concat()), message(&mask), message(b"")].concat();
        for chunk in [1, 7, body.len()] {
            let mut passage = passage(Some(Framing::Grpc));
            let mut out = Vec::new();
            for piece in body.chunks(chunk) {
                passage.push(Bytes::copy_from_slice(piece));
                while let Pulled::Piece(some) = passage.pull().unwrap() {
                    out.extend_from_slice(&some);
                }
            }
            assert!(passage.is_empty());
            assert_eq!(out, expected);
            assert_eq!(passage.take_found(), 2);
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut passage = passage(Some(Framing::Grpc));
        passage.push([message(b"fine"), vec![1, 0, 0, 0, 1]].concat().into());
        assert_eq!(passage.pull(), Err(Undecodable::Unknown));
    }
}
