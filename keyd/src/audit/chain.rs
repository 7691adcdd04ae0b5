//! What ties the lines of the log together: a keyed hash over each line and the hash before it.
//!
//! ```text
//!  link 0 = 32 zero bytes          line n carries link n-1 in hex, as "chain"
//!  link n = HMAC-SHA256(audit key, link n-1 ‖ line n without its newline)
//! ```
//!
//! Without the audit key nobody can compute a link, so a line that is changed, removed, added or moved shows at the next
//! one. It refuses to know what a line says. The HMAC state is made anew for each line and lives on the stack, because it
//! is worth as much as the key. Called by `writer.rs` and `verify.rs`.

use ring::hmac;

/// The chain's value at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link([u8; 32]);

impl Link {
    /// Before the first line.
    pub const FIRST: Self = Self([0; 32]);

    /// The value after `line`, which is without its newline.
    #[must_use]
    pub fn next(&self, key: &[u8], line: &[u8]) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        context.update(&self.0);
        context.update(line);
        let mut link = Self::FIRST;
        link.0.copy_from_slice(context.sign().as_ref());
        link
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in self.0 {
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        text
    }

    /// The value that `text` writes; nothing where it is not 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut link = Self::FIRST;
        for (byte, pair) in link.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(link)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_nothing_else_is_taken() {
        let link = Link::FIRST.next(b"key", b"line");
        assert_eq!(Link::from_hex(&link.to_hex()), Some(link));
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"G".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert_eq!(Link::from_hex(text), None);
        }
    }

    #[test]
    fn key_line_and_place_all_count() {
        let link = Link::FIRST.next(b"key", b"line");
        assert_eq!(link, Link::FIRST.next(b"key", b"line"));
        assert_ne!(link, Link::FIRST.next(b"kez", b"line"));
        assert_ne!(link, Link::FIRST.next(b"key", b"linf"));
        assert_ne!(link, link.next(b"key", b"line"));
    }

    /// Computed with another implementation: Python's hmac over 32 zero bytes and the line.
    #[test]
    fn the_chain_is_plain_hmac_sha256() {
        let link = Link::FIRST.next(&[0x55; 32], br#"{"seq":1}"#);
        assert_eq!(link.to_hex(), "7b169fff505e70278b72b73f0f069e6f0df60363160cc270471b13cbdc4b6cc5");
    }
}
