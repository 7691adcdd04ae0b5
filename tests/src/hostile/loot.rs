//! All that a hostile gateway got from keyd, and the search for keys in it.
//!
//! Every form of every key is looked for, and every piece of eight bytes of the key in any case: chance finds one of those
//! in a gigabyte less than once in ten thousand runs. It refuses to print what it found. Used by [`super::Hostile`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_ctl::demo::needles::Needles;

/// Bytes from keyd, whoever of the attacker's parts received them.
#[derive(Debug, Clone, Default)]
pub struct Loot(Arc<Mutex<Vec<u8>>>);

impl Loot {
    /// Keeps bytes.
    pub fn take(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing came at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What of a key is in there, if anything.
    #[must_use]
    pub fn holds(&self, key: &str) -> Option<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(form) = Needles::of(key.as_bytes()).find(&bytes) {
            return Some(format!("the key, as {form}"));
        }
        // Names of fields go out in lower case.
        let (lower_key, lower_bytes) = (key.to_ascii_lowercase(), bytes.to_ascii_lowercase());
        let pieces: HashSet<&[u8]> = lower_key.as_bytes().windows(PIECE).collect();
        let found = lower_bytes.windows(PIECE).position(|window| pieces.contains(window))?;
        Some(format!("a piece of the key, {found} bytes in"))
    }

    /// Checks that nothing of the keys was taken.
    ///
    /// # Panics
    /// Where something was, or where keyd said nothing at all: then nothing was looked at.
    #[track_caller]
    pub fn assert_without(&self, keys: &[&str]) {
        assert!(!self.is_empty(), "keyd said nothing, so nothing is shown");
        for key in keys {
            assert_eq!(self.holds(key), None);
        }
    }
}

/// Bytes of a key that must not be seen anywhere.
const PIECE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_pieces_are_found_and_nothing_else() {
        let key = "sk-Zq8vB3mN7xT2kL9wR4yHtU5o";
        let holds = |text: &str| {
            let loot = Loot::default();
            loot.take(text.as_bytes());
            loot.holds(key).is_some()
        };
        assert!(holds("Bearer sk-Zq8vB3mN7xT2kL9wR4yHtU5o."));
        assert!(holds("...7xT2kL9w..."));
        assert!(holds("x-7xt2kl9w: 1"));
        assert!(holds("c2stWnE4dkIzbU43eFQya0w5d1I0eUh0VTVv"));
        assert!(!holds("7xT2kL9 sk-Zq8v ***"));
    }
}
