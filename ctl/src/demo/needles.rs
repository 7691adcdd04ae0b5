//! A key in the forms in which it could lie around, and the search for them.
//!
//! Used by the demo and the leak tests on memory, files, environments and outputs. It refuses to print what it looks
//! for: a finding says only which form was found.

use memchr::memmem;

/// The forms of one key.
pub struct Needles {
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Needles {
    /// As it is, in hexadecimal digits of either case, and in base64 of either alphabet at each of three alignments.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let hex = |upper: bool| -> Vec<u8> {
            let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
            key.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
        };
        let mut forms = vec![("literal", key.to_vec()), ("hex", hex(false)), ("HEX", hex(true))];
        for alignment in 0..3 {
            forms.push(("base64", base64_inside(key, alignment, b"+/")));
            forms.push(("base64url", base64_inside(key, alignment, b"-_")));
        }
        Self { forms }
    }

    /// The first form that is in there.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        self.forms.iter().find(|(_, form)| memmem::find(bytes, form).is_some()).map(|(name, _)| *name)
    }

    /// Bytes of the longest form.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.forms.iter().map(|(_, form)| form.len()).max().unwrap_or(0)
    }
}

/// The characters of a longer text's base64 that are decided by the key alone, where the key begins `alignment` bytes
/// after a group of three.
fn base64_inside(key: &[u8], alignment: usize, last_two: &[u8; 2]) -> Vec<u8> {
    let character = |value: u8| match value {
        0..=25 => b'A' + value,
        26..=51 => b'a' + value - 26,
        52..=61 => b'0' + value - 52,
        62 => last_two[0],
        _ => last_two[1],
    };
    let mut bits = vec![0u8; alignment];
    bits.extend_from_slice(key);
    let all = bits.len() * 8 / 6;
    let value = |index: usize| {
        let (byte, shift) = (index * 6 / 8, index * 6 % 8);
        let pair = u16::from(bits[byte]) << 8 | u16::from(bits.get(byte + 1).copied().unwrap_or(0));
        u8::try_from(pair >> (10 - shift) & 63).unwrap_or(0)
    };
    let first = (alignment * 8).div_ceil(6);
    (first..all).map(|index| character(value(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"sk-Zq8vB3mN7xT2kL9wR4yH";

    #[test]
    fn each_form_is_found_and_a_different_key_is_not() {
        let needles = Needles::of(KEY);
        assert_eq!(needles.find(b"Bearer sk-Zq8vB3mN7xT2kL9wR4yH."), Some("literal"));
        assert_eq!(needles.find(b"736b2d5a71387642336d4e377854326b4c397752347948"), Some("hex"));
        assert_eq!(needles.find(b"736B2D5A71387642336D4E377854326B4C397752347948"), Some("HEX"));
        assert_eq!(needles.find(b"Bearer sk-Zq8vB3mN7xT2kL9wR4yh."), None);
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        // Of "KEY", "u:KEY" and "us:KEY" beside an independent encoder's output.
        let needles = Needles::of(b"0123456789abcdef");
        for text in ["MDEyMzQ1Njc4OWFiY2RlZg==", "dTowMTIzNDU2Nzg5YWJjZGVm", "dXM6MDEyMzQ1Njc4OWFiY2RlZg=="] {
            assert_eq!(needles.find(text.as_bytes()), Some("base64"), "{text}");
        }
        assert_eq!(needles.find(b"YTowMTIzNDU2Nzg5YWJjZGVm"), Some("base64"));
        assert_eq!(needles.find(b"MDEyMzQ1Njc4OWFiY2RkZg=="), None, "one character differs");
    }
}
