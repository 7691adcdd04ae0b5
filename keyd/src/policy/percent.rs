//! Percent-encoding (RFC 3986, 2.1): reading what agents sent, and writing a key so that it stays one value.
//!
//! It never decides what a decoded byte means. Writing keeps only characters that no server takes for a separator.
//! Called by `path`, `form`, `decide` and the exchange.

use std::borrow::Cow;

/// The value of a percent-encoding at this place.
#[must_use]
pub fn pair_at(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = bytes.get(at..at + 3)? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Decodes the encodings whose value `which` takes; others stay as they are.
#[must_use]
pub fn decode_where(bytes: &[u8], which: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match pair_at(bytes, at).filter(|value| which(*value)) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Decodes once.
#[must_use]
pub fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.contains(&b'%') { Cow::Owned(decode_where(bytes, |_| true)) } else { Cow::Borrowed(bytes) }
}

/// Decodes until nothing changes any more, or so often as anybody could mean it; nothing where there is nothing to
/// decode.
#[must_use]
pub fn decode_fully(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.contains(&b'%') {
        return None;
    }
    let mut current = decode_where(bytes, |_| true);
    for _ in 1..MOST_DECODINGS {
        if !current.contains(&b'%') {
            break;
        }
        current = decode_where(&current, |_| true);
    }
    Some(current)
}

/// What stays as it is where a key is written into a segment of a path: nothing that ends or splits one anywhere.
#[must_use]
pub fn stays_in_a_segment(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b':' | b'@' | b'=')
}

/// RFC 3986, 2.3. Nothing else stays where a key is written into a query or a form.
#[must_use]
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Bytes that the encoding takes.
#[must_use]
pub fn encoded_length(bytes: &[u8], stays: fn(u8) -> bool) -> usize {
    bytes.iter().map(|byte| if stays(*byte) { 1 } else { 3 }).sum()
}

/// Appends the encoding. `out` has room for [`encoded_length`] already where the bytes are a key: a buffer that grows
/// leaves copies behind.
pub fn encode_into(bytes: &[u8], stays: fn(u8) -> bool, out: &mut Vec<u8>) {
    for byte in bytes {
        if stays(*byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Encodings on top of each other that are followed.
pub const MOST_DECODINGS: usize = 4;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decoding_goes_on_until_nothing_is_left() {
        assert_eq!(decode_fully(b"plain"), None);
        assert_eq!(decode_fully(b"%41%2542%252543").as_deref(), Some(&b"ABC"[..]));
        assert_eq!(decode_fully(b"100%").as_deref(), Some(&b"100%"[..]));
        assert_eq!(decode_fully(b"%2525252525").as_deref(), Some(&b"%25"[..]), "five deep, and four are followed");
        assert_eq!(&*decode(b"%2541+"), b"%41+");
    }

    #[test]
    fn no_separator_stays() {
        for byte in 0..=255u8 {
            let mut text = Vec::new();
            encode_into(&[byte], stays_in_a_segment, &mut text);
            assert!(!text.iter().any(|byte| b"/?#;&+\\ \"<>{}|^`".contains(byte)), "{byte}");
            assert!(text == [byte] || text[0] == b'%' && text.len() == 3);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_alike(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for stays in [stays_in_a_segment as fn(u8) -> bool, is_unreserved] {
                let mut text = Vec::new();
                encode_into(&bytes, stays, &mut text);
                prop_assert_eq!(text.len(), encoded_length(&bytes, stays));
                prop_assert_eq!(&*decode(&text), &bytes[..]);
            }
        }
    }
}
