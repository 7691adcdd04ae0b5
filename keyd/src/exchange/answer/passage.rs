//! A body's way through keyd without its sockets: decoded, cut into messages where it has some, searched.
//!
//! What has come is asked for until nothing more comes out of it; then the next piece is pushed. It refuses what cannot
//! be decoded. Called by `answer`.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::super::decode::memory::Memory;
use super::super::decode::{Decoding, Pulled, Undecodable};
use super::super::scrub::patterns::Patterns;
use super::super::scrub::stream::Stream;
use super::head::Shape;
use super::messages::Messages;

/// Where a body is between two pieces.
pub struct Passage {
    waiting: Option<Bytes>,
    decoding: Option<Decoding>,
    messages: Option<Messages>,
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
        let messages = shape.has_messages.then(Messages::default);
        Ok(Self { waiting: None, decoding, messages, stream: Stream::new(patterns), next: None })
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
            let piece = match &mut self.decoding {
                Some(decoding) => decoding.pull()?,
                None => self.waiting.take().map_or(Pulled::Nothing, Pulled::Piece),
            };
            let Pulled::Piece(piece) = piece else { return Ok(piece) };
            let mut out = self.search(piece)?.into_iter().filter(|piece| !piece.is_empty());
            if let Some(first) = out.next() {
                self.next = out.next();
                return Ok(Pulled::Piece(first));
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
            None => Some(
                self.stream.held() + [&self.waiting, &self.next].into_iter().flatten().map(Bytes::len).sum::<usize>(),
            ),
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
        is_done && self.waiting.is_none() && self.next.is_none() && self.stream.held() == 0
    }

    /// Whether the body was encoded.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        self.decoding.is_some()
    }

    fn search(&mut self, mut piece: Bytes) -> Result<[Bytes; 2], Undecodable> {
        let Some(messages) = &mut self.messages else { return Ok(self.stream.push(piece)) };
        let mut out = BytesMut::new();
        while let Some(end) = messages.next_end(&piece)? {
            self.stream.push(piece.split_to(end)).iter().for_each(|part| out.extend_from_slice(part));
            out.extend_from_slice(&self.stream.end_message());
        }
        self.stream.push(piece).iter().for_each(|part| out.extend_from_slice(part));
        Ok([out.freeze(), Bytes::new()])
    }
}

/// What is held of most keys is a shorter run, and every chunk goes through at once.
const LONG_RUN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::super::scrub::patterns::fixture::patterns;
    use super::*;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e";

    fn passage(has_messages: bool) -> Passage {
        let shape = Shape { codings: Vec::new(), has_messages };
        Passage::new(&shape, Rc::new(patterns(&[KEY], "sk-")), &Memory::default()).expect("memory")
    }

    fn message(text: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(text.len()).expect("short").to_be_bytes(), text].concat()
    }

    #[test]
    fn a_whole_message_is_not_delayed_whatever_it_ends_in() {
        let body = message(b"\x0a\x05hello");
        let mut plain = passage(false);
        plain.push(body.clone().into());
        let Ok(Pulled::Piece(piece)) = plain.pull() else { panic!("nothing") };
        assert_eq!(piece.len(), body.len() - 5, "the positive twin");
        let mut passage = passage(true);
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
            let mut passage = passage(true);
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
        let mut passage = passage(true);
        passage.push([message(b"fine"), vec![1, 0, 0, 0, 1]].concat().into());
        assert_eq!(passage.pull(), Err(Undecodable::Unknown));
    }
}
