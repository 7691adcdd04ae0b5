//! How the most lenient of servers would read a path: rules must hold in every reading.
//!
//! Servers differ in how often they decode, what they take for a slash, where a name ends, and what characters they
//! make of others: full-width and similar ones become ASCII by NFKC (Unicode Standard Annex 15) or a code page's best
//! fit, and old decoders took UTF-8 that is longer than need be (RFC 3629, 3 and 10). It refuses nothing by itself.
//! Called by `path` and `decide`.

use std::borrow::Cow;

use super::percent::{self, MOST_DECODINGS};

/// Whether some server could read a dot segment that is not one as written: after decoding once or more often, behind
/// another kind of slash, in other characters, beside blanks, or in front of a parameter or of what looks like a query
/// after decoding. So it is said of whatever is decoded without end, and of UTF-8 that is longer than need be, in which
/// anything can be hidden.
#[must_use]
pub fn hides_a_dot_segment(path: &str) -> bool {
    // Literal dot segments are resolved and are no secret; only others are judged.
    let literal = path.split('/').filter(|segment| matches!(*segment, "." | "..")).count();
    let mut current = Cow::Borrowed(path.as_bytes());
    for _ in 0..MOST_DECODINGS {
        if is_overlong(&current) {
            return true;
        }
        let read = without_controls(&in_ascii(&current));
        let names = read.split(|byte| matches!(byte, b'/' | b'\\')).map(name);
        if names.filter(|name| matches!(*name, b"." | b"..")).count() > literal {
            return true;
        }
        if !read.contains(&b'%') {
            return false;
        }
        let next = percent::decode_where(&read, |_| true);
        if next == *current {
            return false;
        }
        current = Cow::Owned(next);
    }
    // Still changing: nobody honest encodes so often, and each pass costs time.
    true
}

/// A path as lenient servers read it, in ASCII and lower case, one slash at a time. They differ in whether they cut
/// parameters before they decode or after, whether a decoded slash separates, and whether what looks like a query after
/// decoding is one. For denials, which must hold in each of these.
#[must_use]
pub fn readings(path: &str) -> Vec<String> {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'/' | b'-' | b'_');
    if path.bytes().all(|byte| is_plain(&byte)) {
        return vec![joined(path.split('/'))];
    }
    let mut readings = vec![joined(path.to_ascii_lowercase().split('/'))];
    for cuts_first in [false, true] {
        let text = decoded(path, cuts_first);
        let before_query = text.split(['?', '#']).next().unwrap_or(&text);
        // Whoever does not take a decoded slash for one sees a longer segment: `/` as written separates alone.
        let written = path.split('/').map(|segment| decoded(segment, cuts_first).replace(['/', '\\'], "\u{1}"));
        let written: Vec<String> = written.collect();
        readings.push(joined(written.iter().map(String::as_str)));
        readings.extend([&text, before_query].map(|text| joined(text.split(['/', '\\']))));
    }
    readings.sort_unstable();
    readings.dedup();
    readings
}

/// Decoded as often as anybody would, in lower case.
fn decoded(text: &str, cuts_first: bool) -> String {
    let mut current = text.as_bytes().to_vec();
    for _ in 0..MOST_DECODINGS {
        if cuts_first {
            let cut = current.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next());
            current = cut.map(Option::unwrap_or_default).collect::<Vec<_>>().join(&b'/');
        }
        current = percent::decode_where(&without_controls(&in_ascii(&current)), |_| true);
    }
    String::from_utf8_lossy(&without_controls(&in_ascii(&current))).to_ascii_lowercase()
}

/// A path of the names of these segments.
fn joined<'a>(segments: impl Iterator<Item = &'a str>) -> String {
    let names = segments.map(|segment| {
        let name = segment.split(NAME_ENDS).next().unwrap_or(segment);
        name.trim_start().trim_end_matches(['.', ' '])
    });
    let kept: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    format!("/{}", kept.join("/"))
}

/// A segment without parameters, what looks like a query, and blanks.
fn name(segment: &[u8]) -> &[u8] {
    segment.split(|byte| NAME_ENDS.contains(&char::from(*byte))).next().unwrap_or(segment).trim_ascii()
}

/// Whether a character is written in more bytes than it needs (RFC 3629, 4: no such sequence is UTF-8).
fn is_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| match pair[0] {
        0xc0 | 0xc1 => matches!(pair[1], 0x80..=0xbf),
        0xe0 => matches!(pair[1], 0x80..=0x9f),
        0xf0 => matches!(pair[1], 0x80..=0x8f),
        _ => false,
    })
}

/// With full-width characters, and others that look like a dot or a slash, as the ASCII ones.
fn in_ascii(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.is_ascii() {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                // U+FF01 to U+FF5E are `!` to `~` in the same order.
                '\u{ff01}'..='\u{ff5e}' => out.push(u8::try_from(u32::from(character) - 0xfee0).unwrap_or(b'?')),
                '\u{2024}' | '\u{fe52}' => out.push(b'.'),
                '\u{2025}' => out.extend_from_slice(b".."),
                '\u{2026}' => out.extend_from_slice(b"..."),
                '\u{2044}' | '\u{2215}' | '\u{29f8}' => out.push(b'/'),
                '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' => out.push(b'\\'),
                '\u{fe6a}' | '\u{066a}' => out.push(b'%'),
                '\u{037e}' | '\u{fe54}' => out.push(b';'),
                '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{3000}' => out.push(b' '),
                // Letters in circles, in alphabets of mathematics, and two that case folding makes ASCII.
                '\u{24b6}'..='\u{24cf}' => out.push(letter(character, '\u{24b6}')),
                '\u{24d0}'..='\u{24e9}' => out.push(letter(character, '\u{24d0}')),
                '\u{1d400}'..='\u{1d6a3}' => out.push(letter(character, '\u{1d400}')),
                '\u{212a}' => out.push(b'k'),
                '\u{17f}' => out.push(b's'),
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

/// Which letter this is, in alphabets that follow each other from `first` on.
fn letter(character: char, first: char) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[(character as usize - first as usize) % 26]
}

/// Without control characters, which some parsers drop wherever they stand (WHATWG URL, 4.4).
fn without_controls(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| !byte.is_ascii_control()).collect()
}

/// Where a name ends for some server: parameters, and what is a query or a fragment once it is decoded.
const NAME_ENDS: [char; 3] = [';', '?', '#'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_dot_segments_are_seen() {
        for path in [
            "/a/%2e%2e/b",
            "/a/%252e%252e/b",
            "/a/..%2fb",
            "/a%5c..%5cb",
            "/a/..;/b",
            "/a/..%20/b",
            "/a/%20../b",
            "/a/.%20;x/b",
            "/a/..%c2%a0/b",
            "/a/%ef%bc%8e%ef%bc%8e/b",
            "/a/%e2%80%a5/b",
            "/a%ef%bc%8f..%ef%bc%8fb",
            "/a%e2%88%95..%e2%88%95b",
            "/a/%ef%bc%852e%ef%bc%852e/b",
            "/a/%25ef%25bc%258e%25ef%25bc%258e/b",
            "/a/%c0%ae%c0%ae/b",
            "/a%c0%af..%c0%afb",
            "/a/%e0%80%ae/b",
            "/a/%f0%80%80%ae/b",
            "/a/%c1%a1dmin",
            "/a/..%3f",
            "/a/..%3Fy",
            "/a/..%23",
            "/a/.%3fx/b",
            "/a/%2e%2e%3f/b",
            "/a/..%253fx/b",
            "/a/..%20%23/b",
            "/a%5c..%3f",
            "/a/..%3bx%3fy/b",
            "/a/..%ef%bc%9f/b",
            "/a/..%ef%bc%83/b",
            "/a/.%2509./b",
            "/a/%2e%250d%252e/b",
        ] {
            assert!(hides_a_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn honest_paths_hide_nothing() {
        for path in [
            "/a/b",
            "/a/../b",
            "/a/...",
            "/a/b%20c",
            "/caf%c3%a9",
            "/%e6%97%a5%e6%9c%ac",
            "/a/%c0",
            "/a/%e0%a4%b9",
            "/a/%f0%9f%94%91",
            "/a/x..%20y",
            "/a;x=..;y/b",
            "/a/1%2e5",
            "/a/what%3f",
            "/a/c%23/b",
            "/v1/a..b%3f",
            "/a/...%3f",
            "/a/x%3f..",
            "/a/x%23..%3f/b",
            "/a/../b%3f",
        ] {
            assert!(!hides_a_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn a_slash_that_is_decoded_may_separate_or_not() {
        let group = readings("/api/projects/Group%2fProject/tokens");
        assert!(group.contains(&"/api/projects/group/project/tokens".to_owned()), "{group:?}");
        assert!(group.iter().any(|reading| reading.split('/').count() == 5), "{group:?}");
        assert_eq!(readings("/v1/chat"), ["/v1/chat"]);
    }

    #[test]
    fn a_lenient_reading_sees_through_every_spelling() {
        for path in [
            "/v1/Admin/keys",
            "/v1%2Fadmin%2fkeys",
            "/v1/admin;x/keys;y=1",
            "//v1/admin//keys/",
            "/v1%255cadmin/keys",
            "/v1/admin./keys",
            "/v1/admin%20/%20keys",
            "/v1/%EF%BD%81dmin/keys",
            "/v1%E2%88%95admin%EF%BC%8Fkeys",
            "/v1/admin%EF%BC%9Bx/keys",
            "/v1/admin%3Fx/keys%23",
            "/v1/admin/keys%3Fx/y",
            "/v1;a%2Fb/admin/keys",
            "/v1/admin;a%2fb%3Bc/keys",
            "/v1/%E2%93%90dmin/keys",
            "/v1/%E2%92%B6dmin/keys",
            "/v1/admin/%E2%84%AAeys",
            "/v1/admin/key%C5%BF",
            "/v1/%F0%9D%90%9Admin/keys",
            "/v1/%F0%9D%98%88dmin/keys",
            "/v1/ad%2509min/keys%250a",
        ] {
            assert!(readings(path).contains(&"/v1/admin/keys".to_owned()), "{path}");
        }
    }
}
