//! A key's value, or another secret of one line, from standard input or a prompt.
//!
//! Exactly one trailing newline is taken off: files end in one, keys do not. It refuses to read more than a key can
//! have, and to take one input for two secrets. Called by `credential add`, `credential rotate`, for recovery codes by
//! `slot.rs`, and for passphrases where there is no terminal by `passphrase.rs`.

use std::io::{self, IsTerminal, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::LONGEST_KEY;
use zeroize::Zeroizing;

use crate::error::{CtlError, Outcome};
use crate::prompt;

/// Reads the value.
///
/// # Errors
/// Where standard input cannot be read, or holds more than a key.
pub fn value() -> Outcome<SecretBytes> {
    let unreadable =
        |error: io::Error| CtlError::failed(format!("the key could not be read: {error}. Give it on standard input."));
    if io::stdin().is_terminal() {
        let mut text = prompt::ask("Key: ").map_err(unreadable)?;
        return Ok(SecretBytes::new(std::mem::take(&mut *text).into_bytes()));
    }
    let too_long =
        || CtlError::failed(format!("the key has more than {LONGEST_KEY} bytes. Check that it is the key alone."));
    let bytes = piped(LARGEST_INPUT).map_err(unreadable)?.ok_or_else(too_long)?;
    Ok(SecretBytes::new(bytes.to_vec()))
}

/// Keeps standard input for a [`value`] that is read later than a passphrase is asked for.
pub fn is_for_a_value() {
    IS_THE_KEYS.store(true, Ordering::Relaxed);
    IS_TAKEN.store(true, Ordering::Relaxed);
}

/// Whose standard input is already, in words.
#[must_use]
pub fn whose() -> Option<&'static str> {
    let is_the_keys = IS_THE_KEYS.load(Ordering::Relaxed);
    IS_TAKEN.load(Ordering::Relaxed).then_some(if is_the_keys { "the key's" } else { "another secret's" })
}

/// What was piped in, for a secret that could not be asked for; nothing where standard input is a terminal, is empty, or
/// was another secret's.
///
/// # Errors
/// Where it cannot be read, or is longer than `longest` bytes.
pub fn instead_of_a_prompt(longest: usize) -> Outcome<Option<Zeroizing<Vec<u8>>>> {
    if io::stdin().is_terminal() || IS_TAKEN.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let unreadable = |error: io::Error| CtlError::failed(format!("standard input could not be read: {error}."));
    let too_long = || CtlError::failed(format!("standard input has more than {longest} bytes. Give the secret alone."));
    let bytes = piped(longest).map_err(unreadable)?.ok_or_else(too_long)?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// All of standard input; nothing where that is too much.
fn piped(longest: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    IS_TAKEN.store(true, Ordering::Relaxed);
    // Sized beforehand: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(longest + 1));
    io::stdin().lock().take(longest as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > longest {
        return Ok(None);
    }
    strip_newline(&mut bytes);
    Ok(Some(bytes))
}

/// It was read to its end, or will be.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// It is a value's.
static IS_THE_KEYS: AtomicBool = AtomicBool::new(false);

/// Reads one line that is a secret: at the terminal without echo, else from standard input.
///
/// # Errors
/// Where it cannot be read.
pub fn line(words: &str) -> Outcome<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        return prompt::ask(words).map_err(|error| {
            CtlError::failed(format!("the terminal could not be read: {error}. Give it on standard input."))
        });
    }
    let bytes = value()?;
    let text = std::str::from_utf8(bytes.expose());
    text.map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| CtlError::failed("what came on standard input is no text. Give the one line that is asked for."))
}

/// Takes one `\n` or `\r\n` off the end.
pub fn strip_newline(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// The longest key and its newline.
const LARGEST_INPUT: usize = LONGEST_KEY + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_newline_is_taken_off() {
        for (before, after) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("a\r", "a\r"), ("\n", ""), ("", "")]
        {
            let mut bytes = before.as_bytes().to_vec();
            strip_newline(&mut bytes);
            assert_eq!(bytes, after.as_bytes(), "{before:?}");
        }
    }
}
