//! A field of an `application/x-www-form-urlencoded` body, found without keeping anything but its place.
//!
//! Strict where servers differ: an encoding that is none, a control character or a byte beyond ASCII is refused, and so
//! is a field that comes twice under any reading of names or separators. Called by `body`.

use std::borrow::Cow;
use std::ops::Range;

use super::percent;

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Where it stands, encoded.
    pub span: Range<usize>,
    /// What it means.
    pub decoded: Vec<u8>,
}

/// Finds the field of this decoded name.
///
/// # Errors
/// Where the text is no form, or has the field twice.
pub fn locate(text: &[u8], field: &str) -> Result<Option<Value>, Fault> {
    check(text)?;
    let mut found = None;
    let mut count = 0;
    for part in Parts::of(text) {
        // Some servers take ';' for '&': what they would read as this field counts as it.
        for piece in text[part.clone()].split(|byte| *byte == b';') {
            let name = piece.split(|byte| *byte == b'=').next().unwrap_or(piece);
            count += usize::from(same_name(name, field));
        }
        let bytes = &text[part.clone()];
        let Some(equals) = bytes.iter().position(|byte| *byte == b'=') else { continue };
        if decoded(&bytes[..equals]) == field.as_bytes() {
            let span = part.start + equals + 1..part.end;
            found = Some(Value { decoded: decoded(&text[span.clone()]).into_owned(), span });
        }
    }
    if count > 1 { Err(Fault::Twice) } else { Ok(found) }
}

/// Whether some server would read this encoded name as that one.
#[must_use]
pub fn same_name(encoded: &[u8], name: &str) -> bool {
    if encoded.len() == name.len() {
        return encoded.eq_ignore_ascii_case(name.as_bytes());
    }
    // A decoded name is never longer, and a shorter one is another.
    encoded.len() > name.len() && decoded(encoded).trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

/// The stretches between `&`.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    text: &'a [u8],
    at: Option<usize>,
}

impl<'a> Parts<'a> {
    /// Of a query or a form.
    #[must_use]
    pub fn of(text: &'a [u8]) -> Self {
        Self { text, at: Some(0) }
    }
}

impl Iterator for Parts<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at?;
        let end = self.text[start..].iter().position(|byte| *byte == b'&').map(|length| start + length);
        self.at = end.map(|end| end + 1);
        Some(start..end.unwrap_or(self.text.len()))
    }
}

fn decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'+') {
        return percent::decode(bytes);
    }
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent::decode_where(&spaced, |_| true))
}

fn check(text: &[u8]) -> Result<(), Fault> {
    let sound = text.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => percent::pair_at(text, at).is_some(),
        byte => byte.is_ascii_graphic(),
    });
    if sound { Ok(()) } else { Err(Fault::Malformed) }
}

/// Why a form is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is none.
    Malformed,
    /// The field comes twice.
    Twice,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str, field: &str) -> Result<Option<(String, String)>, Fault> {
        let found = locate(text.as_bytes(), field)?;
        Ok(found.map(|value| (text[value.span].to_owned(), String::from_utf8(value.decoded).unwrap())))
    }

    #[test]
    fn a_field_is_found_by_its_decoded_name() {
        let found = |raw: &str, decoded: &str| Ok(Some((raw.to_owned(), decoded.to_owned())));
        assert_eq!(value("a=1&key=x%2By+z&b=2", "key"), found("x%2By+z", "x+y z"));
        assert_eq!(value("k%65y=v", "key"), found("v", "v"));
        assert_eq!(value("a+b=v", "a b"), found("v", "v"));
        assert_eq!(value("key=a=b", "key"), found("a=b", "a=b"));
        assert_eq!(value("key=", "key"), found("", ""));
        assert_eq!(value("KEY=v", "key"), Ok(None), "another field, for a server that is exact");
        for text in ["", "key", "a=key", "keys=v", "a=b&&c=d", "xkey=v"] {
            assert_eq!(value(text, "key"), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_field_that_some_server_reads_twice_is_refused() {
        for text in [
            "key=1&key=2",
            "key=1&k%65y=2",
            "key=1&KEY=2",
            "key&key=1",
            "key=1;key=2",
            "a=1;key=2&key=3",
            "key=1&+key=2",
            "key=1&key%20=2",
        ] {
            assert_eq!(value(text, "key"), Err(Fault::Twice), "{text}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for text in ["key=%", "key=%4", "key=%zz", "key=a b", "key=1\r\n", "key=\u{e9}", "{\"key\": 1}", "key=\0"] {
            assert_eq!(value(text, "key"), Err(Fault::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_that_were_written_are_found(fields in proptest::collection::vec(("[a-z]{1,3}", proptest::collection::vec(any::<u8>(), 0..12)), 1..6), which: prop::sample::Index) {
            let mut text = Vec::new();
            for (name, value) in &fields {
                if !text.is_empty() {
                    text.push(b'&');
                }
                text.extend_from_slice(name.as_bytes());
                text.push(b'=');
                percent::encode_into(value, percent::is_unreserved, &mut text);
            }
            let (name, value) = which.get(&fields);
            let twice = fields.iter().filter(|(other, _)| other == name).count() > 1;
            let found = locate(&text, name);
            if twice {
                prop_assert_eq!(found, Err(Fault::Twice));
            } else {
                prop_assert_eq!(found.unwrap().map(|found| found.decoded), Some(value.clone()));
            }
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = locate(&text, "key");
        }
    }
}
