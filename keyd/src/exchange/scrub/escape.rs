//! What a few bytes of a text can mean: themselves, or a byte behind an escape.
//!
//! ```text
//!   %2F   \u002f   \u002F   \/   \"   \\        one byte
//!   \u00e9  \u20ac  \ud83d\ude00                a character beyond ASCII: its bytes in UTF-8
//!   \u00e9                                      or the byte 0xe9, where somebody took UTF-8 for Latin-1
//! ```
//!
//! [`readings`] gives every way to read a place. [`step`] takes the one way that a key without `\` and `%` can have,
//! so that a whole run is read in one pass. They refuse nothing: what is no escape means itself. Called by `form`,
//! `search` and `tail`.

/// One way to read a place: so many bytes of the text mean these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Bytes of the text.
    pub length: usize,
    bytes: [u8; 4],
    count: usize,
}

impl Reading {
    /// What they mean; one to four bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    fn byte(length: usize, byte: u8) -> Self {
        Self { length, bytes: [byte, 0, 0, 0], count: 1 }
    }

    fn character(length: usize, character: char) -> Self {
        let mut bytes = [0; 4];
        let count = character.encode_utf8(&mut bytes).len();
        Self { length, bytes, count }
    }
}

/// Every way to read what stands at a place of the text.
pub fn readings(text: &[u8], at: usize) -> impl Iterator<Item = Reading> + use<> {
    let plain = text.get(at).map(|byte| Reading::byte(1, *byte));
    let rest = text.get(at..).unwrap_or_default();
    let (one, other) = match *rest {
        [b'%', high, low, ..] => (hex(&[high, low]).map(|value| Reading::byte(3, value.to_le_bytes()[0])), None),
        [b'\\', mark @ (b'/' | b'"' | b'\\'), ..] => (Some(Reading::byte(2, mark)), None),
        [b'\\', b'u', ..] => match unit(rest) {
            Some(unit @ 0x80..=0xff) => (
                Some(Reading::byte(6, unit.to_le_bytes()[0])),
                char::from_u32(u32::from(unit)).map(|character| Reading::character(6, character)),
            ),
            Some(high @ 0xd800..=0xdbff) => {
                let low = rest.get(6..).and_then(unit);
                let pair = low.and_then(|low| char::decode_utf16([high, low]).next()?.ok());
                (pair.map(|character| Reading::character(12, character)), None)
            }
            Some(unit) => (char::from_u32(u32::from(unit)).map(|character| Reading::character(6, character)), None),
            None => (None, None),
        },
        _ => (None, None),
    };
    [plain, one, other].into_iter().flatten()
}

/// How many bytes stand for one byte of a key that has neither `\` nor `%`, and for which; none where no such key can
/// go on. Ways that begin inside an escape meet this one at the escape's end, five bytes later at most.
#[must_use]
pub fn step(text: &[u8], at: usize) -> (usize, Option<u8>) {
    let rest = &text[at..];
    let escaped = match *rest {
        [b'%', high, low, ..] => hex(&[high, low]).map(|value| (3, value)),
        [b'\\', mark @ (b'/' | b'"'), ..] => Some((2, u16::from(mark))),
        [b'\\', b'u', ..] => unit(rest).map(|value| (6, value)),
        // Not `\\`: the second one may begin an escape.
        [b'\\' | b'%', ..] => None,
        [byte, ..] => return (1, is_calm(byte).then_some(byte)),
        [] => return (1, None),
    };
    match escaped {
        Some((length, value)) => (length, u8::try_from(value).ok().filter(|byte| is_calm(*byte))),
        None => (1, None),
    }
}

/// Whether a byte has one meaning wherever it stands outside an escape, and one escaped form of each kind.
#[must_use]
pub fn is_calm(byte: u8) -> bool {
    byte.is_ascii() && byte != b'\\' && byte != b'%'
}

/// Bytes of an escape that another way of reading may begin behind.
pub const DEEPEST: usize = 5;
/// Bytes of the text that one reading takes at most.
pub const LONGEST: usize = 12;

/// The number behind `\u`.
fn unit(text: &[u8]) -> Option<u16> {
    match text {
        [b'\\', b'u', digits @ ..] => hex(digits.get(..4)?),
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(text: &str) -> Vec<(usize, Vec<u8>)> {
        readings(text.as_bytes(), 0).map(|reading| (reading.length, reading.bytes().to_vec())).collect()
    }

    fn or_plain(text: &str, length: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        vec![(1, text.as_bytes()[..1].to_vec()), (length, bytes.to_vec())]
    }

    #[test]
    fn every_escape_is_read_and_so_is_the_plain_byte() {
        assert_eq!(means("a"), [(1, b"a".to_vec())]);
        assert_eq!(means("%2fx"), or_plain("%", 3, b"/"));
        assert_eq!(means("%2F"), or_plain("%", 3, b"/"));
        for (text, byte) in [("\\/", b"/"), ("\\\"", b"\""), ("\\\\", b"\\")] {
            assert_eq!(means(text), or_plain("\\", 2, byte));
        }
        assert_eq!(means("\\u002fx"), or_plain("\\", 6, b"/"));
        assert_eq!(means("\\u20AC"), or_plain("\\", 6, "€".as_bytes()));
        assert_eq!(means("\\ud83d\\ude00"), or_plain("\\", 12, "😀".as_bytes()));
        let latin = [(1, b"\\".to_vec()), (6, vec![0xe9]), (6, "é".as_bytes().to_vec())];
        assert_eq!(means("\\u00e9"), latin);
    }

    #[test]
    fn what_is_no_escape_means_itself() {
        for text in
            ["%", "%2", "%2g", "%+2", "\\", "\\n", "\\u", "\\u002", "\\u00+1", "\\ud83d", "\\ud83d\\u0041", "\\ude00"]
        {
            assert_eq!(means(text), [(1, text.as_bytes()[..1].to_vec())], "{text}");
        }
        assert_eq!(means(""), []);
    }

    #[test]
    fn a_step_takes_the_way_of_a_calm_key() {
        for (text, step_) in [
            ("a", (1, Some(b'a'))),
            ("%2F", (3, Some(b'/'))),
            ("\\u002F", (6, Some(b'/'))),
            ("\\/", (2, Some(b'/'))),
            ("\\\\u0041", (1, None)),
            ("%25", (3, None)),
            ("%e9", (3, None)),
            ("\\u00e9", (6, None)),
            ("\\u20ac", (6, None)),
            ("\\n", (1, None)),
            ("%zz", (1, None)),
            ("é", (1, None)),
        ] {
            assert_eq!(step(text.as_bytes(), 0), step_, "{text}");
        }
    }
}
