//! Whether a value can be a key, and whether it can be searched for.
//!
//! A scrubber for a short or guessable key would be an oracle: an upstream that echoes an agent's guesses shows by the
//! mask which one was right. So such keys are refused, or taken unscrubbed when the admin insists. The measure is
//! deliberately crude: bytes × the bits of the character classes that occur, halved where few characters make it up.
//! Called by `admin/`.

use std::collections::HashMap;

use strongroom_protocol::admin::{BadKey, LONGEST_KEY};

/// Judges a value. `prefix` is the public beginning of the provider's keys and adds no strength.
///
/// # Errors
/// `Short` and `Guessable` may be overruled, the others not.
pub fn judge(value: &[u8], prefix: &str) -> Result<(), BadKey> {
    if value.is_empty() {
        return Err(BadKey::Empty);
    }
    if value.len() > LONGEST_KEY {
        return Err(BadKey::TooLong);
    }
    // Bytes over 0x7f are obs-text (RFC 9110, 5.5): allowed in a field value.
    if value.iter().any(|byte| *byte <= 0x20 || *byte == 0x7f) {
        return Err(BadKey::Character);
    }
    let own = value.strip_prefix(prefix.as_bytes()).unwrap_or(value);
    if value.len() < SHORTEST {
        return Err(BadKey::Short);
    }
    if bits(own) < LEAST_BITS || is_repetitive(value) { Err(BadKey::Guessable) } else { Ok(()) }
}

/// Whether some stretch comes again and again: each time that it stands in an answer, all places that it could be would
/// have to be looked at, which an upstream could use to keep keyd busy.
fn is_repetitive(value: &[u8]) -> bool {
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    value.windows(STRETCH).any(|stretch| {
        let count = counts.entry(stretch).or_default();
        *count += 1;
        *count > MOST_REPEATED
    })
}

fn bits(value: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in value {
        seen[usize::from(*byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let hexadecimal = value.iter().all(u8::is_ascii_hexdigit);
    let letter_or_digit = value.iter().all(u8::is_ascii_alphanumeric);
    let each = if value.iter().all(u8::is_ascii_digit) {
        3
    } else if hexadecimal {
        4
    } else if letter_or_digit {
        5
    } else {
        6
    };
    // Repetition shows in how few characters there are: no more bits a byte than they can hold.
    value.len()
        * each.min(usize::try_from(distinct.max(1).ilog2().max(1)).unwrap_or(1) + usize::from(distinct > 4))
        * usize::from(distinct > 2)
}

const SHORTEST: usize = 16;
const LEAST_BITS: usize = 80;
/// As many bytes as the scrubber compares at least before it looks closer.
const STRETCH: usize = 8;
/// Zeros in base64 are `A`s: some dozens of them are in good keys.
const MOST_REPEATED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_shapes_of_keys_are_taken() {
        for value in [
            "sk-proj-4f8a9b2c1d0e7f6a5b4c3d2e1f0a9b8c",
            "0123456789abcdef0123456789abcdef",
            "ghp_Zt0aQmPz81LkVbNcXsWqEdRfTgYhUj2K3l4M",
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
        ] {
            assert_eq!(judge(value.as_bytes(), "sk-"), Ok(()), "{value}");
        }
    }

    #[test]
    fn weak_values_are_named() {
        assert_eq!(judge(b"", ""), Err(BadKey::Empty));
        assert_eq!(judge(b"hunter2", ""), Err(BadKey::Short));
        assert_eq!(judge(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""), Err(BadKey::Guessable));
        assert_eq!(judge(b"1234567890123456", ""), Err(BadKey::Guessable));
        assert_eq!(judge(b"sk-ant-api03-abcd", "sk-ant-api03-"), Err(BadKey::Guessable));
        assert_eq!(judge(b"a-prefix-and-nothing-behind-it", "a-prefix-and-nothing-behind-it"), Err(BadKey::Guessable));
        assert_eq!(judge(&[b'x'; LONGEST_KEY + 1], ""), Err(BadKey::TooLong));
    }

    #[test]
    fn a_key_that_is_mostly_repetition_is_weak_however_long_it_is() {
        let random = "Zt0aQmPz81LkVbNcXsWqEdRf";
        for (filler, most) in [("a", 64 + 7), ("\\", 64 + 7), ("ab", 64 + 3)] {
            let key = |times| [random, &filler.repeat(times)].concat();
            assert_eq!(judge(key(most).as_bytes(), ""), Ok(()), "{filler}");
            for times in [most + 1, 8000 / filler.len()] {
                assert_eq!(judge(key(times).as_bytes(), ""), Err(BadKey::Guessable), "{filler} {times} times");
            }
        }
    }

    #[test]
    fn white_space_and_control_characters_are_refused() {
        for value in [
            "two words of sixteen",
            "line\nbreak-and-more-of-it",
            "tab\tand-more-of-it-here",
            "nul\0and-more-of-it-here",
        ] {
            assert_eq!(judge(value.as_bytes(), ""), Err(BadKey::Character));
        }
    }
}
