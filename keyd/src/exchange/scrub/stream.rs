//! One pass over a body in chunks: keys masked, whatever the cuts.
//!
//! Across chunks the trailing run of bytes that could belong to a key is held back, up to a public length
//! ([`Shape`]), until a byte outside it or the end. Not "a live prefix of a key": then how much arrives would tell an
//! agent that can have bytes echoed, or a gateway that stalls, the next byte of the key. There is no flush by timer for
//! the same reason. At a clean end what is held goes out, and a tail that begins as a key does is masked too (see `tail`);
//! at any other end what is held is dropped by dropping this.
//!
//! Called by `exchange/answer/passage.rs`.

use std::ops::Range;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::form::Case;
use super::patterns::Patterns;
use super::shape::Class;
#[cfg(doc)]
use super::shape::Shape;

/// The state between two chunks.
pub struct Stream {
    patterns: Rc<Patterns>,
    /// Raw bytes that are held back; at most a bucket.
    held: Vec<u8>,
    /// Parts of `held` that are known to belong to a key.
    masked: Vec<Range<usize>>,
    /// Bytes of `held` that were searched for these keys.
    known: usize,
    found: u64,
    /// Bytes that pay for the next searches for tails at ends of messages.
    credit: usize,
}

impl Stream {
    /// At the beginning of a body.
    #[must_use]
    pub fn new(patterns: Rc<Patterns>) -> Self {
        Self { patterns, held: Vec::new(), masked: Vec::new(), known: 0, found: 0, credit: FIRST_CREDIT }
    }

    /// Looks for these keys from here on: the vault changed while the body was running.
    pub fn set_patterns(&mut self, patterns: Rc<Patterns>) {
        self.patterns = patterns;
        self.known = 0;
    }

    /// How many keys were masked since the last call.
    #[must_use]
    pub fn take_found(&mut self) -> u64 {
        std::mem::take(&mut self.found)
    }

    /// The bytes that could belong to a key.
    #[must_use]
    pub fn class(&self) -> &'static Class {
        self.patterns.shape().class()
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a chunk and gives what may go out now, in two pieces that may both be empty.
    ///
    /// What is held is a run of bytes of the class, and a key lies in one run. So of a large chunk only the bytes up to
    /// the first outside the class have to lie behind those that are held; the rest is searched where it is.
    #[must_use]
    pub fn push(&mut self, chunk: Bytes) -> [Bytes; 2] {
        if chunk.is_empty() || self.patterns.is_empty() && self.held.is_empty() {
            return [Bytes::new(), chunk];
        }
        if self.held.is_empty() {
            return [Bytes::new(), self.search(chunk)];
        }
        let edge = self.patterns.shape().leading(&chunk[..chunk.len().min(LONGEST_EDGE)]);
        if edge == LONGEST_EDGE || chunk.len() < LONGEST_JOINED {
            let joined = self.join(&chunk);
            return [self.search(joined), Bytes::new()];
        }
        let joined = self.join(&chunk[..edge]);
        let masked = self.find(&joined);
        wipe(&mut self.held);
        self.known = 0;
        [overwrite(joined, &masked), self.search(chunk.slice(edge..))]
    }

    /// Behind what is held.
    fn join(&self, more: &[u8]) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.held.len() + more.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(more);
        joined.freeze()
    }

    /// The parts that belong to a key of a text that begins with what is held.
    fn find(&mut self, data: &[u8]) -> Vec<Range<usize>> {
        let before = self.held.len();
        self.credit = self.credit.saturating_add(data.len() - before);
        let mut masked = std::mem::take(&mut self.masked);
        // What lies in the held bytes alone may be found again, and only its edge may be new.
        self.patterns.each(data, Case::Kept, self.known, |range| {
            self.found += u64::from(range.end > before);
            masked.push(range);
        });
        masked
    }

    /// Searches a text that begins with what is held, and holds back what it ends in.
    fn search(&mut self, data: Bytes) -> Bytes {
        let masked = self.find(&data);
        let out = data.len() - self.patterns.shape().trailing(&data);
        wipe(&mut self.held);
        self.held.extend_from_slice(&data[out..]);
        self.known = self.held.len();
        self.masked = masked
            .iter()
            .filter(|range| range.end > out)
            .map(|range| range.start.saturating_sub(out)..range.end - out)
            .collect();
        overwrite(data.slice(..out), &masked)
    }

    /// A message in the body ended, and what follows is not of the class: gives what was held. It may be the last, so a
    /// tail is looked for; that takes long, and a body has as many messages as its sender likes: so they pay for it.
    #[must_use]
    pub fn end_message(&mut self) -> Bytes {
        if self.patterns.may_have_a_tail(self.held.len())
            && let Some(left) = self.credit.checked_sub(PRICE)
        {
            self.credit = left;
            self.mask_tails();
        }
        self.give_held()
    }

    /// The body ended as it should: gives what was held.
    #[must_use]
    pub fn finish(mut self) -> (Bytes, u64) {
        self.mask_tails();
        (self.give_held(), self.found)
    }

    fn mask_tails(&mut self) {
        for start in self.patterns.tails(&self.held) {
            self.masked.push(start..self.held.len());
            self.found += 1;
        }
    }

    fn give_held(&mut self) -> Bytes {
        self.known = 0;
        let masked = std::mem::take(&mut self.masked);
        overwrite(Bytes::from(std::mem::take(&mut self.held)), &masked)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        wipe(&mut self.held);
    }
}

fn overwrite(data: Bytes, masked: &[Range<usize>]) -> Bytes {
    if !masked.iter().any(|range| range.start < data.len()) {
        return data;
    }
    let mut copy = BytesMut::from(&data[..]);
    for range in masked {
        let end = range.end.min(copy.len());
        if range.start < end {
            copy[range.start..end].fill(MASK);
        }
    }
    copy.freeze()
}

/// What was held may be a key.
fn wipe(held: &mut Vec<u8>) {
    use zeroize::Zeroize;
    held.zeroize();
}

/// Bytes of a body that pay for one search for tails at the end of a message.
const PRICE: usize = 512;
/// Of these the first messages have as many as they like.
const FIRST_CREDIT: usize = 128 * PRICE;
/// A chunk that begins with a longer run is copied whole.
const LONGEST_EDGE: usize = 1024;
/// A shorter chunk costs less to copy than to send in two pieces.
const LONGEST_JOINED: usize = 4096;
/// What a key is overwritten with.
pub const MASK: u8 = b'*';

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::patterns::fixture::patterns;
    use super::*;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e";

    fn scrub<'a>(keys: &[&[u8]], chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<usize>) {
        let mut stream = Stream::new(Rc::new(patterns(keys, "sk-")));
        let mut out = Vec::new();
        let mut lengths = Vec::new();
        for chunk in chunks {
            let part = stream.push(Bytes::copy_from_slice(chunk)).concat();
            lengths.push(part.len());
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(&stream.finish().0);
        (out, lengths)
    }

    fn whole(keys: &[&[u8]], text: &[u8]) -> Vec<u8> {
        scrub(keys, [text]).0
    }

    #[test]
    fn a_key_is_masked_with_the_same_length() {
        let text = [b"{\"k\":\"", KEY, b"\"}"].concat();
        assert_eq!(whole(&[KEY], &text), [b"{\"k\":\"", &[b'*'; 32][..], b"\"}"].concat());
        assert_eq!(whole(&[KEY], b"no key here."), b"no key here.");
    }

    #[test]
    fn a_key_is_masked_whatever_the_cut() {
        let text = [b"a ", KEY, b" b ", KEY].concat();
        let expected = whole(&[KEY], &text);
        assert!(!expected.windows(20).any(|part| part == &KEY[..20]));
        for cut in 0..=text.len() {
            assert_eq!(scrub(&[KEY], [&text[..cut], &text[cut..]]).0, expected, "cut at {cut}");
        }
        assert_eq!(scrub(&[KEY], text.chunks(1)).0, expected);
    }

    #[test]
    fn only_the_edge_of_a_large_chunk_is_copied() {
        let large: Bytes = [&KEY[12..], b" and ", KEY, &b" words".repeat(1000)].concat().into();
        let mut stream = Stream::new(Rc::new(patterns(&[KEY], "sk-")));
        assert_eq!(stream.push(Bytes::from_static(&KEY[..12])).concat(), b"");
        let [edge, rest] = stream.push(large.clone());
        assert_eq!(edge, [MASK; 32][..]);
        assert_eq!(rest.len() + "words".len(), large.len() - 20);
        assert_eq!(stream.take_found(), 2);
        // Where there is nothing to mask it is the same memory.
        let [edge, rest] = stream.push(Bytes::from_owner(b" words".repeat(1000)));
        assert_eq!((edge, rest.len()), (Bytes::from_static(b"words"), 5995));
        let owned = Bytes::from(b" words".repeat(1000));
        let [_, rest] = stream.push(owned.clone());
        assert_eq!(rest.as_ptr(), owned.as_ptr());
    }

    #[test]
    fn overlapping_keys_are_all_masked() {
        let (one, two) = (&b"abababababababababab"[..], &b"babababababababababX"[..]);
        let text = b"..ababababababababababXY.. ";
        let out = whole(&[one, two], text);
        assert_eq!(out, whole(&[two, one], text));
        assert_eq!(out, b"..*********************Y.. ");
    }

    #[test]
    fn what_is_held_back_does_not_depend_on_the_key() {
        let other = b"sk-test-XXXXXXXXXXXXXXXXXXXXXXXX";
        for cut in 0..KEY.len() {
            let real = [b"text ", &KEY[..cut]].concat();
            let fake = [b"text ", &other[..cut]].concat();
            assert_eq!(scrub(&[KEY], [&real[..]]).1, scrub(&[KEY], [&fake[..]]).1, "after {cut} bytes");
        }
    }

    #[test]
    fn events_that_end_in_a_control_byte_or_bracket_are_not_delayed() {
        for text in [&b"data: {\"delta\":\"hello\"}\n\n"[..], b"{\"a\":1}", b"{\"a\":1}\n", b"event: x\r\n"] {
            assert_eq!(scrub(&[KEY], [text]).1, [text.len()]);
        }
        assert_eq!(scrub(&[KEY], [&b"word"[..]]).1, [0], "its positive twin: a bare word is held");
    }

    #[test]
    fn a_long_run_is_held_up_to_the_bucket() {
        let text = vec![b'x'; 100_000];
        let (out, lengths) = scrub(&[KEY], text.chunks(1000));
        assert_eq!(out, text);
        assert_eq!(lengths[0], 1000 - 512);
        assert!(lengths[1..].iter().all(|length| *length == 1000));
    }

    #[test]
    fn a_cut_off_key_at_a_clean_end_is_masked() {
        let key = [KEY, b"1f0a9b8c"].concat();
        let cut = &key[..3 + 16];
        assert_eq!(whole(&[&key], &[b"x ", cut].concat()), [b"x ", &[b'*'; 19][..]].concat());
        let short = [b"x ", &key[..3 + 15]].concat();
        assert_eq!(whole(&[&key], &short), short);
    }

    #[test]
    fn another_token_of_the_same_issuer_is_no_tail() {
        let token = |signature: &[u8]| [b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.", signature].concat();
        let key = token(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        for other in [&b"SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5"[..], b"SflKxwRJSMeKKF2QT4fwpM", b""] {
            assert_eq!(whole(&[&key], &token(other)), token(other));
        }
        let cut = &key[..key.len() - 20];
        assert_eq!(whole(&[&key], cut), vec![b'*'; cut.len()], "the positive twin");
    }

    #[test]
    fn keys_with_other_bytes_widen_the_class() {
        let key = &b"pass:word!with,other;bytes#1"[..];
        let text = [b"a ", key, b" b"].concat();
        for cut in 0..text.len() {
            let (out, _) = scrub(&[key], [&text[..cut], &text[cut..]]);
            assert_eq!(out, [b"a ", &[b'*'; 28][..], b" b"].concat());
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_unsplit_output(
            parts in proptest::collection::vec(prop_oneof![
                Just(KEY.to_vec()),
                Just(b"abababababababababab".to_vec()),
                Just(KEY[..20].to_vec()),
                "[a-z0-9 \\n]{0,12}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..12),
            ], 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let keys: &[&[u8]] = &[KEY, b"abababababababababab"];
            let text = parts.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let whole = scrub(keys, [&text[..]]).0;
            // An escape that is cut off behind a beginning of a key is masked beyond what the reference knows of.
            let is_short = |(one, other): (&u8, &u8)| *other == b'*' && one != other;
            prop_assert!(!whole.iter().zip(&reference(keys, &text)).any(is_short), "something is left");
            prop_assert_eq!(scrub(keys, chunks).0, whole);
        }

        #[test]
        fn the_lengths_that_go_out_are_those_of_another_text_of_the_same_classes(
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'-'), Just(b' '), Just(b'"')], 0..600),
            cut in any::<prop::sample::Index>(),
        ) {
            // The same text with the key's own bytes where letters stand.
            let mut own = KEY.iter().cycle();
            let real: Vec<u8> = text.iter().map(|byte| if *byte == b'a' { *own.next().expect("endless") } else { *byte }).collect();
            let cut = cut.index(text.len() + 1);
            prop_assert_eq!(scrub(&[KEY], [&text[..cut], &text[cut..]]).1, scrub(&[KEY], [&real[..cut], &real[cut..]]).1);
        }
    }

    fn is_of_class(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-_.~+/=%\\".contains(&byte)
    }

    /// The whole text at once, in the plainest way.
    fn reference(keys: &[&[u8]], text: &[u8]) -> Vec<u8> {
        let mut out = text.to_vec();
        for key in keys {
            for at in 0..=text.len().saturating_sub(key.len()) {
                if text[at..].starts_with(key) {
                    out[at..at + key.len()].fill(b'*');
                }
            }
            let public = if key.starts_with(b"sk-") { 3 } else { 0 };
            let least = public + 16.min((key.len() - public) / 2);
            let held = text.iter().rev().take_while(|byte| is_of_class(**byte)).count();
            let mut starts = (least..key.len().min(held + 1)).rev().map(|length| text.len() - length);
            if let Some(start) = starts.find(|start| text[*start..].starts_with(&key[..least])) {
                out[start..].fill(b'*');
            }
        }
        out
    }
}
