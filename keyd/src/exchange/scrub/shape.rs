//! What little of the keys' shape is public: which bytes could belong to one, and how many at most.
//!
//! Every form of a key is a run of such bytes without a gap, so a text is searched only where it has a run that is long
//! enough. [`runs`] looks at one byte in as many as the shortest form has; words, numbers and punctuation are stepped
//! over. It knows no key. Called by `search` and `stream`.

use std::ops::Range;

/// What decides how much is held back. It is the same for every key of the same coarse kind: public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    other_bytes: bool,
    /// Most bytes that are ever held: a power of two that the longest form of the longest key fits in.
    bucket: usize,
}

impl Shape {
    /// Of these keys.
    #[must_use]
    pub fn of<'a>(keys: impl Iterator<Item = &'a [u8]> + Clone) -> Self {
        let longest = keys.clone().map(<[u8]>::len).max().unwrap_or(0);
        let other_bytes = keys.clone().any(|key| !key.iter().all(|byte| COMMON[usize::from(*byte)]));
        // Base64 in `\u` escapes is eight bytes for each of a key's, and has an edge at either end.
        Self { other_bytes, bucket: (8 * longest + SLACK).next_power_of_two().max(SMALLEST_BUCKET) }
    }

    /// For each byte, whether it could belong to a form of a key.
    #[must_use]
    pub fn class(self) -> &'static Class {
        if self.other_bytes { &WIDE } else { &COMMON }
    }

    /// Length of the run of such bytes that a text begins with.
    #[must_use]
    pub fn leading(self, text: &[u8]) -> usize {
        let class = self.class();
        text.iter().take_while(|byte| class[usize::from(**byte)]).count()
    }

    /// Length of the run of such bytes that a text ends in, up to the bucket.
    #[must_use]
    pub fn trailing(self, text: &[u8]) -> usize {
        let class = self.class();
        text.iter().rev().take(self.bucket).take_while(|byte| class[usize::from(**byte)]).count()
    }
}

/// For each byte, whether it is in.
pub type Class = [bool; 256];

/// Runs of bytes in the class that are at least so long, in order.
pub fn runs<'a>(text: &'a [u8], class: &'a Class, least: usize) -> impl Iterator<Item = Range<usize>> + 'a {
    let least = least.max(1);
    let mut next = 0;
    std::iter::from_fn(move || {
        // A run may begin at `start`; everything in start..known is in the class.
        let (mut start, mut known) = (next, next);
        loop {
            let probe = start + least - 1;
            // A run that covers start..=probe covers the probe; where that is out, none begins before it.
            if !class[usize::from(*text.get(probe)?)] {
                (start, known) = (probe + 1, probe + 1);
                continue;
            }
            let inside = text[known..probe].iter().rev().take_while(|byte| class[usize::from(**byte)]).count();
            if probe - inside > known {
                (start, known) = (probe - inside, probe + 1);
                continue;
            }
            let end = probe + text[probe..].iter().take_while(|byte| class[usize::from(**byte)]).count();
            next = end;
            return Some(start..end);
        }
    })
}

const COMMON: Class = class(false);
const WIDE: Class = class(true);

/// Letters and digits, `-_.~`, `+/=`, `%\`; with other bytes, everything that a key may have (`policy/key_strength.rs`).
const fn class(other_bytes: bool) -> Class {
    let mut class = [false; 256];
    let mut byte = 0u8;
    loop {
        class[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=' | b'%' | b'\\')
            || other_bytes && byte > 0x20 && byte != 0x7f;
        if byte == 0xff {
            return class;
        }
        byte += 1;
    }
}

/// No smaller bucket, so that short keys all look alike.
pub const SMALLEST_BUCKET: usize = 512;
/// Room for an escaped edge on both sides, and for what a rounded-up base64 form has more.
const SLACK: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &[u8], least: usize) -> Vec<(usize, usize)> {
        runs(text, &COMMON, least).map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn only_long_runs_are_found() {
        assert_eq!(found(b"some words, and-one-long-identifier here", 16), [(12, 35)]);
        assert_eq!(found(b"some words, and-one-long-identifier here", 24), []);
        assert_eq!(found(b"", 16), []);
        assert_eq!(found(&[b'a'; 16], 16), [(0, 16)]);
        assert_eq!(found(&[b'a'; 15], 16), []);
    }

    #[test]
    fn the_bucket_tells_no_more_than_a_power_of_two() {
        let of = |length| Shape::of([&vec![b'x'; length][..]].into_iter()).bucket;
        assert_eq!([of(16), of(60), of(61), of(124), of(125)], [512, 512, 1024, 1024, 2048]);
        assert_eq!(Shape::of(std::iter::empty()).bucket, 512);
    }

    #[test]
    fn other_bytes_widen_the_class() {
        let narrow = Shape::of([&b"letters-digits_1.~+/=%\\"[..]].into_iter());
        assert_eq!(narrow.trailing(b"a:b"), 1);
        let wide = Shape::of([&b"with:colon"[..]].into_iter());
        assert_eq!(wide.trailing("a:é".as_bytes()), 4);
        assert_eq!(wide.trailing(b"a b\n"), 0);
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_plainest_way(
            text in proptest::collection::vec(prop_oneof![6 => Just(b'a'), 1 => Just(b' ')], 0..200),
            least in 1usize..20,
        ) {
            let mut expected = Vec::new();
            let mut start = 0;
            for at in 0..=text.len() {
                if text.get(at) != Some(&b'a') {
                    if at - start >= least {
                        expected.push((start, at));
                    }
                    start = at + 1;
                }
            }
            prop_assert_eq!(found(&text, least), expected);
        }
    }
}
