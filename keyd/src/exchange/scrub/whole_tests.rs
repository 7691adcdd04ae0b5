//! The scrubber against its reference, over texts made of forms, of what is nearly one, and of what breaks one.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;

use super::head::{scrub_fields, scrub_text};
use super::patterns::Patterns;
use super::patterns::fixture::patterns;
use super::reference::{self, base64_interior, hex};
use super::stream::Stream;

/// One of each kind: the usual, the shortest, with base64's own marks, with bytes that look like escapes, beyond
/// ASCII, repetitive.
pub const KEYS: [&str; 7] = [
    "sk-test-4f8a9b2c1d0e7f6a5b4c3d2e",
    "Zt0aQmPz81LkVbNc",
    "wJalr/XUtnFE+MI/K7MDENG+bPxRfiCY==",
    "p%41a\\u0041b\\\\c%%dd/e\"f\\/g%2",
    "a-calm-beginning-of-a-key%41\\u0041\\",
    "schlüssel-über-straße-€-😀",
    "abababababababababab",
];

/// What may swallow, break or begin a form.
const NOISE: &[&str] =
    &["\\", "%", "%4", "\\u00", "\\u", "\\\\", "\\\\u0", "%25", "\\u005c", " ", "\n", "A", "=", "\"", "/", "é"];

/// How one byte of a form is written.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    Percent(bool),
    Unit(bool),
    Mark,
}

fn written(form: &[u8], ways: &[Way]) -> Vec<u8> {
    let escaped = |(byte, way): (&u8, &Way)| match way {
        Way::Percent(true) => format!("%{byte:02X}").into_bytes(),
        Way::Percent(false) => format!("%{byte:02x}").into_bytes(),
        Way::Unit(true) => format!("\\u00{byte:02X}").into_bytes(),
        Way::Unit(false) => format!("\\u{byte:04x}").into_bytes(),
        Way::Mark if b"/\"\\".contains(byte) => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    form.iter().zip(ways.iter().cycle()).flat_map(escaped).collect()
}

/// A key as JSON that is kept in ASCII.
fn json(key: &str) -> Vec<u8> {
    key.encode_utf16()
        .flat_map(|unit| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() && !b"\"\\".contains(&byte) => vec![byte],
            _ => format!("\\u{unit:04x}").into_bytes(),
        })
        .collect()
}

fn form() -> impl Strategy<Value = Vec<u8>> {
    (0..KEYS.len(), 0..8usize).prop_map(|(key, kind)| {
        let key = KEYS[key];
        let bytes = key.as_bytes();
        match kind {
            0 | 1 => bytes.to_vec(),
            2 => hex(bytes),
            3 => hex(bytes).to_ascii_uppercase(),
            4 => json(key),
            before => {
                let standard = base64_interior(bytes, before - 5);
                standard
                    .into_iter()
                    .enumerate()
                    .map(|(at, byte)| match byte {
                        b'+' if at % 2 == 0 => b'-',
                        b'/' if at % 2 == 0 => b'_',
                        other => other,
                    })
                    .collect()
            }
        }
    })
}

fn ways() -> impl Strategy<Value = Vec<Way>> {
    let way = prop_oneof![
        6 => Just(Way::Plain),
        2 => any::<bool>().prop_map(Way::Percent),
        1 => any::<bool>().prop_map(Way::Unit),
        2 => Just(Way::Mark),
    ];
    prop_oneof![2 => Just(vec![Way::Plain]), 3 => proptest::collection::vec(way, 1..12)]
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    let whole = || (form(), ways()).prop_map(|(form, ways)| written(&form, &ways));
    prop_oneof![
        6 => whole(),
        2 => (whole(), any::<Index>()).prop_map(|(form, at)| form[..at.index(form.len())].to_vec()),
        2 => (whole(), any::<Index>()).prop_map(|(form, at)| form[at.index(form.len())..].to_vec()),
        2 => (whole(), any::<Index>(), any::<u8>()).prop_map(|(mut form, at, byte)| {
            let at = at.index(form.len());
            form[at] = byte;
            form
        }),
        6 => proptest::sample::select(NOISE).prop_map(|noise| noise.as_bytes().to_vec()),
        1 => "[a-zA-Z0-9+/_.~=-]{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(part(), 0..7).prop_map(|parts| parts.concat())
}

/// A few of the keys; the class of bytes and the search differ with them.
fn keys() -> impl Strategy<Value = Vec<&'static [u8]>> {
    let few = proptest::sample::subsequence(KEYS.to_vec(), 1..=3);
    prop_oneof![few, Just(vec![KEYS[0]]), Just(KEYS.to_vec())]
        .prop_map(|keys| keys.into_iter().map(str::as_bytes).collect())
}

fn streamed<'a>(patterns: &Rc<Patterns>, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = Stream::new(Rc::clone(patterns));
    let mut out: Vec<u8> =
        chunks.into_iter().flat_map(|chunk| stream.push(Bytes::copy_from_slice(chunk)).concat()).collect();
    out.extend_from_slice(&stream.finish().0);
    out
}

proptest! {
    #[test]
    fn every_form_is_masked_and_nothing_else(keys in keys(), mut text in text()) {
        // No tail of a key at the end: see `tail`.
        text.push(b' ');
        let patterns = Rc::new(patterns(&keys, "sk-"));
        prop_assert_eq!(streamed(&patterns, [&text[..]]), reference::scrubbed(&keys, &text));
    }

    #[test]
    fn any_split_gives_the_unsplit_output(
        keys in keys(),
        text in text(),
        cuts in proptest::collection::vec(any::<Index>(), 0..12),
        each in any::<bool>(),
    ) {
        let patterns = Rc::new(patterns(&keys, "sk-"));
        let whole = streamed(&patterns, [&text[..]]);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let cut = at.windows(2).map(|pair| &text[pair[0]..pair[1]]);
        prop_assert_eq!(if each { streamed(&patterns, text.chunks(1)) } else { streamed(&patterns, cut) }, whole);
    }

    /// Large chunks are not copied behind what is held, but for their edge.
    #[test]
    fn large_chunks_give_the_unsplit_output_too(
        keys in keys(),
        parts in (text(), text()),
        cut in any::<Index>(),
        filler in proptest::sample::select(&["words, and more words. ", "AAAA", "QUJD\\n", "\u{e9}", "%41"][..]),
        length in 0..6000usize,
    ) {
        let patterns = Rc::new(patterns(&keys, "sk-"));
        let filler: Vec<u8> = filler.bytes().cycle().take(length).collect();
        let text = [&parts.0[..], &filler, &parts.1, &filler, b" "].concat();
        let cut = cut.index(parts.0.len() + parts.1.len() + length + 1);
        let expected = streamed(&patterns, [&text[..]]);
        prop_assert_eq!(streamed(&patterns, [&text[..cut], &text[cut..]]), &expected[..]);
        prop_assert_eq!(streamed(&patterns, text.chunks(5000)), expected);
    }

    #[test]
    fn values_and_names_are_masked_as_bodies_are(keys in keys(), text in text()) {
        let patterns = patterns(&keys, "sk-");
        let clean = scrub_text(&text, &patterns).map_or_else(|| text.clone(), |(clean, _)| clean);
        prop_assert_eq!(clean, reference::scrubbed(&keys, &text));

        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let name: Vec<u8> = text.iter().copied().filter(token).map(|byte| byte.to_ascii_lowercase()).collect();
        if let Ok(name) = HeaderName::from_bytes(&name) {
            let mut fields = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("v"))]);
            scrub_fields(&mut fields, &patterns);
            let left: Vec<_> = fields.keys().map(|name| name.as_str().as_bytes().to_vec()).collect();
            prop_assert_eq!(left, [reference::scrubbed_lower(&keys, name.as_str().as_bytes())]);
        }
    }
}

/// Every form of a key, written in every way that is uniform.
pub fn all_forms(key: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = key.as_bytes();
    let mut forms = vec![
        ("plain".to_owned(), bytes.to_vec()),
        ("hex".to_owned(), hex(bytes)),
        ("HEX".to_owned(), hex(bytes).to_ascii_uppercase()),
        ("json".to_owned(), json(key)),
    ];
    let mut sequences = vec![("plain".to_owned(), bytes.to_vec())];
    for before in 0..3 {
        let form = base64_interior(bytes, before);
        let url: Vec<u8> = form
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        forms.push((format!("base64 {before}"), form.clone()));
        forms.push((format!("base64url {before}"), url));
        sequences.push((format!("base64 {before}"), form));
    }
    for (name, form) in sequences {
        for way in [Way::Percent(true), Way::Percent(false), Way::Unit(true), Way::Unit(false), Way::Mark] {
            forms.push((format!("{name} {way:?}"), written(&form, &[way])));
        }
    }
    forms
}

#[test]
fn every_form_is_masked_at_every_cut_and_offset() {
    for key in KEYS {
        let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
        for (name, form) in all_forms(key) {
            for offset in 0..3 {
                let text = [&b"..."[..offset], &form, &b". and more"[..]].concat();
                let expected = [&b"..."[..offset], &vec![b'*'; form.len()], &b". and more"[..]].concat();
                assert_eq!(
                    String::from_utf8_lossy(&streamed(&patterns, [&text[..]])),
                    String::from_utf8_lossy(&expected),
                    "{key} {name}"
                );
                for cut in 0..=text.len() {
                    assert_eq!(
                        streamed(&patterns, [&text[..cut], &text[cut..]]),
                        expected,
                        "{key} {name} cut at {cut}"
                    );
                }
                assert_eq!(streamed(&patterns, text.chunks(1)), expected, "{key} {name} byte by byte");
            }
        }
    }
}

#[test]
fn a_basic_blob_is_masked_for_any_user() {
    for key in KEYS {
        let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
        for user in ["", "u", "us", "use", "user", "users"] {
            let plain = format!("{user}:{key}");
            let blob = base64(plain.as_bytes());
            let text = format!("Basic {blob}, and more");
            let out = String::from_utf8(streamed(&patterns, text.as_bytes().chunks(7))).unwrap();
            // What is left are whole characters of the user's part, and padding.
            let left = (user.len() + 1) * 8 / 6;
            let padding = blob.len() - blob.trim_end_matches('=').len();
            let masked = "*".repeat(blob.len() - left - padding);
            assert_eq!(
                out,
                format!("Basic {}{masked}{}, and more", &blob[..left], &blob[blob.len() - padding..]),
                "{plain}"
            );
        }
    }
}

#[test]
fn every_form_is_masked_in_a_value_a_name_and_a_reason() {
    for key in &KEYS[..3] {
        let patterns = patterns(&[key.as_bytes()], "sk-");
        for (what, form) in all_forms(key) {
            let (clean, count) =
                scrub_text(&[b"a ", &form[..], b" b"].concat(), &patterns).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((clean, count), ([b"a ", &vec![b'*'; form.len()][..], b" b"].concat(), 1), "{what}");
            // A name cannot hold `\`, `/` and `=`.
            if let Ok(name) = HeaderName::from_bytes(&[b"x.", &form[..]].concat()) {
                let mut fields = HeaderMap::from_iter([(name, HeaderValue::from_static("v"))]);
                assert_eq!(scrub_fields(&mut fields, &patterns), 1, "{what}");
                assert_eq!(fields.keys().next().unwrap().as_str(), format!("x.{}", "*".repeat(form.len())), "{what}");
            }
        }
    }
}

fn base64(text: &[u8]) -> String {
    let padded = [text, &[0; 2][..(3 - text.len() % 3) % 3]].concat();
    let mut out = String::from_utf8(base64_interior(&padded, 0)).unwrap();
    let padding = padded.len() - text.len();
    out.truncate(out.len() - padding);
    out.push_str(&"="[..1].repeat(padding));
    out
}
