//! The scrubber in the plainest way, for tests: every form of every key is tried at every place of a whole text.
//!
//! It shares no code with the real one: forms are written out, escapes are parsed as text, and nothing is skipped. It
//! knows nothing of chunks and of cut-off tails. Called by `whole_tests.rs` and `oracle_tests.rs`.

use std::collections::BTreeSet;

/// The text with every form of every key masked.
pub fn scrubbed(keys: &[&[u8]], text: &[u8]) -> Vec<u8> {
    masked(keys, text, false)
}

/// The same for a text that was made lower case.
pub fn scrubbed_lower(keys: &[&[u8]], text: &[u8]) -> Vec<u8> {
    masked(keys, text, true)
}

/// Base64 of the key behind so many other bytes, without the characters that hold bits of those or of what follows.
pub fn base64_interior(key: &[u8], before: usize) -> Vec<u8> {
    let bits: Vec<u8> =
        vec![0; before].iter().chain(key).flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let sixes = bits.chunks_exact(6).map(|six| six.iter().fold(0, |value, bit| value << 1 | bit));
    sixes.skip((before * 8).div_ceil(6)).map(|six| ALPHABET[usize::from(six)]).collect()
}

/// Two lower-case digits a byte.
pub fn hex(key: &[u8]) -> Vec<u8> {
    key.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn masked(keys: &[&[u8]], text: &[u8], lower: bool) -> Vec<u8> {
    let fold = move |symbol: u8| if lower { symbol.to_ascii_lowercase() } else { symbol };
    let mut out = text.to_vec();
    for key in keys {
        for start in 0..text.len() {
            for end in spelled(text, start, key, true, &|text, key| fold(text) == fold(key)) {
                out[start..end].fill(b'*');
            }
            for end in spelled(text, start, &hex(key), false, &|text, key| text.to_ascii_lowercase() == key) {
                out[start..end].fill(b'*');
            }
            for before in 0..3 {
                let form = base64_interior(key, before);
                for end in spelled(text, start, &form, true, &|text, key| fold(url_safe(text)) == fold(url_safe(key))) {
                    let (mut from, mut to) = (start, end);
                    if before * 8 % 6 != 0 {
                        from = (start.saturating_sub(6)..start)
                            .find(|at| ends_of_character(text, *at).contains(&start))
                            .unwrap_or(start);
                    }
                    if (before + key.len()) * 8 % 6 != 0 {
                        to = ends_of_character(text, end).into_iter().max().unwrap_or(end);
                    }
                    out[from..to].fill(b'*');
                }
            }
        }
    }
    out
}

/// Where one base64 character that begins here can end.
fn ends_of_character(text: &[u8], at: usize) -> BTreeSet<usize> {
    ALPHABET
        .iter()
        .chain(b"-_")
        .flat_map(|symbol| spelled(text, at, &[*symbol], true, &|one, other| one == other))
        .collect()
}

/// Where these bytes end that are spelled from here on, each as it is or escaped.
fn spelled(text: &[u8], at: usize, wanted: &[u8], escapes: bool, same: &dyn Fn(u8, u8) -> bool) -> BTreeSet<usize> {
    let mut places = BTreeSet::from([(0, at)]);
    let mut ends = BTreeSet::new();
    while let Some((spelled, place)) = places.pop_first() {
        if spelled == wanted.len() {
            ends.insert(place);
            continue;
        }
        let mut spells = |length: usize, bytes: &[u8]| {
            let fits = wanted[spelled..].len() >= bytes.len()
                && bytes.iter().zip(&wanted[spelled..]).all(|(one, other)| same(*one, *other));
            if fits && place + length <= text.len() {
                places.insert((spelled + bytes.len(), place + length));
            }
        };
        let rest = &text[place..];
        spells(1, &rest[..rest.len().min(1)]);
        if !escapes {
            continue;
        }
        if let Some(byte) = rest.strip_prefix(b"%").and_then(|rest| number(rest.get(..2)?)) {
            spells(3, &[byte as u8]);
        }
        for mark in [b'/', b'"', b'\\'] {
            if rest.starts_with(&[b'\\', mark]) {
                spells(2, &[mark]);
            }
        }
        let unit =
            |text: &[u8]| text.strip_prefix(b"\\u").and_then(|rest| number(rest.get(..4)?)).map(|unit| unit as u16);
        if let Some(one) = unit(rest) {
            if one < 0x100 {
                spells(6, &[one as u8]);
            }
            if let Some(Ok(character)) = char::decode_utf16([one]).next() {
                spells(6, character.to_string().as_bytes());
            }
            if let Some(other) = rest.get(6..).and_then(unit) {
                let both: Vec<_> = char::decode_utf16([one, other]).collect();
                if let [Ok(character)] = both[..] {
                    spells(12, character.to_string().as_bytes());
                }
            }
        }
    }
    ends
}

fn number(digits: &[u8]) -> Option<u32> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

fn url_safe(symbol: u8) -> u8 {
    if symbol == b'+' {
        b'-'
    } else if symbol == b'/' {
        b'_'
    } else {
        symbol
    }
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
