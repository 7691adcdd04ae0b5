//! What an agent holds in place of a key.
//!
//! `PREFIX strongroom- 40 × [A-Za-z0-9]`: the prefix of the provider's keys, so that SDKs take it; a mark, so that
//! people and scanners know it; 238 random bits, so that nobody guesses it. It names a grant and says nothing of the
//! key. This file makes them and finds them in text; it refuses to say whose they are. Called by `decide` and
//! `admin/`.

use ring::rand::{SecureRandom, SystemRandom};

/// Makes a placeholder.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn make(prefix: &str, random: &SystemRandom) -> Result<String, ring::error::Unspecified> {
    let mut text = String::with_capacity(prefix.len() + MARK.len() + TAIL);
    text.push_str(prefix);
    text.push_str(MARK);
    let mut left = TAIL;
    while left > 0 {
        let mut bytes = [0; 64];
        random.fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: what lies above is thrown away, so each letter is as likely.
        for byte in bytes.iter().filter(|byte| **byte < 248).take(left) {
            text.push(char::from(LETTERS[usize::from(byte % 62)]));
            left -= 1;
        }
    }
    Ok(text)
}

/// The random tails that follow a mark anywhere in the bytes.
pub fn tails(bytes: &[u8]) -> impl Iterator<Item = &str> {
    memchr::memmem::find_iter(bytes, MARK).filter_map(move |at| {
        let start = at + MARK.len();
        let tail = bytes.get(start..start + TAIL)?;
        std::str::from_utf8(tail).ok().filter(|tail| tail.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    })
}

/// The text with `{}` in place of every placeholder, prefix left as it is: what a log may show.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let tail = rest.get(at + MARK.len()..at + MARK.len() + TAIL);
        let is_one = tail.is_some_and(|tail| tail.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let end = at + MARK.len() + if is_one { TAIL } else { 0 };
        out.push_str(if is_one { &rest[..at] } else { &rest[..end] });
        if is_one {
            out.push_str("{}");
        }
        rest = &rest[end..];
    }
    out + rest
}

/// The tail of a placeholder that [`make`] made.
#[must_use]
pub fn tail(placeholder: &str) -> Option<&str> {
    let start = placeholder.len().checked_sub(TAIL)?;
    placeholder.get(start..)
}

const MARK: &str = "strongroom-";
const TAIL: usize = 40;
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_differ_and_are_found_again() {
        let random = SystemRandom::new();
        let one = make("sk-", &random).expect("random bytes");
        let two = make("sk-", &random).expect("random bytes");
        assert_ne!(one, two);
        assert!(one.starts_with("sk-strongroom-") && one.len() == 3 + 11 + 40);
        let text = format!("x={one}&y={two}z");
        assert_eq!(
            tails(text.as_bytes()).collect::<Vec<_>>(),
            [tail(&one).expect("a tail"), tail(&two).expect("a tail")]
        );
    }

    #[test]
    fn logs_show_braces_where_a_placeholder_stood() {
        let one = make("", &SystemRandom::new()).expect("random bytes");
        assert_eq!(redacted(&format!("/a/{one}/strongroom-gateway/b")), "/a/{}/strongroom-gateway/b");
    }

    #[test]
    fn marks_without_a_tail_are_nothing() {
        assert_eq!(tails(b"strongroom-gateway and strongroom-short").count(), 0);
    }
}
