//! What an agent holds in place of a key.
//!
//! `PREFIX strongroom- 40 × [A-Za-z0-9]`: the prefix of the provider's keys, so that SDKs take it; a mark, so that
//! people and scanners know it; 238 random bits, so that nobody guesses it. It names a grant and says nothing of the
//! key. This file makes them and finds them in text; it refuses to say whose they are. Called by `decide` and
//! `admin/`.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::placeholder::{MARK, TAIL, tail_at};
use strongroom_protocol::session::TOKEN_PREFIX;

use super::path;
use super::percent;

/// Makes a placeholder.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn make(prefix: &str, random: &SystemRandom) -> Result<String, ring::error::Unspecified> {
    self::random(&format!("{prefix}{MARK}"), random)
}

/// A text that nobody guesses: what is given, and the same random tail.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn random(beginning: &str, random: &SystemRandom) -> Result<String, ring::error::Unspecified> {
    let mut text = String::with_capacity(beginning.len() + TAIL);
    text.push_str(beginning);
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
    FINDER.find_iter(bytes).filter_map(move |at| tail_at(bytes, at + MARK.len()))
}

/// The path with `{}` in place of every placeholder, prefix left as it is, and of every agent's token: what a log may
/// show. Of a path that hides one in encodings nothing is shown.
#[must_use]
pub fn redacted(text: &str) -> String {
    let number = |bytes: &[u8]| FINDER.find_iter(bytes).filter(|at| end(bytes, *at).is_some()).count();
    if percent::decode_fully(text.as_bytes()).is_some_and(|decoded| number(&decoded) > number(text.as_bytes())) {
        return format!("/{}", path::MARK);
    }
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for at in FINDER.find_iter(text.as_bytes()) {
        if let Some(end) = end(text.as_bytes(), at) {
            out.push_str(&text[from..at]);
            out.push_str(path::MARK);
            from = end;
        }
    }
    out + &text[from..]
}

/// Where a placeholder or a token ends whose mark is here.
fn end(bytes: &[u8], at: usize) -> Option<usize> {
    let begin = [TOKEN_PREFIX, MARK].into_iter().find(|mark| bytes[at..].starts_with(mark.as_bytes()))?;
    tail_at(bytes, at + begin.len()).map(|tail| at + begin.len() + tail.len())
}

/// The tail of a placeholder that [`make`] made.
#[must_use]
pub fn tail(placeholder: &str) -> Option<&str> {
    let start = placeholder.len().checked_sub(TAIL)?;
    placeholder.get(start..)
}

/// Made once: most of a search in a short text is making its tables.
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

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
        assert_eq!(redacted("/a%2Fb/c%20d"), "/a%2Fb/c%20d");
        let token = random(TOKEN_PREFIX, &SystemRandom::new()).expect("random bytes");
        assert_eq!(redacted(&format!("/@{token}/openai/{one}{token}/")), "/@{}/openai/{}{}/");
        assert_eq!(redacted(&format!("/@{}/x", token.replace('-', "%2d"))), "/{}");
        for hidden in [one.replace('s', "%73"), one.replace('s', "%2573"), format!("{one}/{}", one.replace('-', "%2D"))]
        {
            assert_eq!(redacted(&format!("/a/{hidden}")), "/{}");
        }
    }

    #[test]
    fn marks_without_a_tail_are_nothing() {
        assert_eq!(tails(b"strongroom-gateway and strongroom-short").count(), 0);
    }
}
