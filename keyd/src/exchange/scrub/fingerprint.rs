//! A keyed number for every stretch of so many symbols, carried on from one place of a text to the next.
//!
//! ```text
//!   number = rot(secret[first], n-1) ^ ... ^ rot(secret[last but one], 1) ^ secret[last]         n symbols
//! ```
//!
//! A text is searched by comparing these and not by comparing bytes: whoever guesses some bytes of a stretch and has
//! the guess echoed a million times finds that it takes as long as any other text. The secret is random, made once a
//! process and kept with the keys, so the numbers say nothing of what they stand for. Upper and lower case, and both
//! base64 alphabets, have one number: `form` looks closer. Called by `search`.

use std::sync::OnceLock;

use ring::rand::{SecureRandom, SystemRandom};

use super::form::standard;
use crate::secret::Secret;

/// A random word for each symbol.
#[derive(Clone, Copy)]
pub struct Words(&'static [[u8; 8]; 256]);

impl Words {
    /// This process's. None where there was no room in locked memory, or no randomness, when they were first wanted.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        static WORDS: OnceLock<Option<Secret>> = OnceLock::new();
        let words = WORDS.get_or_init(|| {
            let mut words = Secret::zeroed(256 * 8).ok()?;
            SystemRandom::new().fill(&mut words).ok()?;
            for symbol in 0..=255u8 {
                let same = usize::from(standard(symbol).to_ascii_lowercase());
                words.copy_within(8 * same..8 * (same + 1), 8 * usize::from(symbol));
            }
            Some(words)
        });
        words.as_ref()?.as_chunks().0.try_into().ok().map(Self)
    }

    /// The number with one more symbol at its end.
    #[must_use]
    pub fn append(self, number: u64, symbol: u8) -> u64 {
        number.rotate_left(1) ^ self.word(symbol)
    }

    /// The number without the symbol that came so many ago.
    #[must_use]
    pub fn forget(self, number: u64, symbol: u8, ago: u32) -> u64 {
        number ^ self.word(symbol).rotate_left(ago)
    }

    fn word(self, symbol: u8) -> u64 {
        u64::from_le_bytes(self.0[usize::from(symbol)])
    }
}

/// Symbols of the shortest stretch that is compared at once. Nobody guesses eight unknown ones by measuring time.
pub const SHORTEST_WINDOW: usize = 8;
/// And of the longest.
pub const LONGEST_WINDOW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &[u8]) -> u64 {
        let words = Words::of_process().expect("room");
        text.iter().fold(0, |number, symbol| words.append(number, *symbol))
    }

    #[test]
    fn a_number_is_carried_on() {
        let words = Words::of_process().expect("room");
        let text = b"the quick brown fox jumps over";
        let mut carried = number(&text[..16]);
        for at in 16..text.len() {
            carried = words.forget(words.append(carried, text[at]), text[at - 16], 16);
            assert_eq!(carried, number(&text[at - 15..=at]));
        }
    }

    #[test]
    fn only_case_and_alphabet_are_overlooked() {
        assert_eq!(number(b"Ab-_cd+/"), number(b"aB+/CD-_"));
        assert_ne!(number(b"abcdefgh"), number(b"abcdefhg"));
        assert_ne!(number(b"aaaaaaaa"), number(b"bbbbbbbb"));
    }
}
