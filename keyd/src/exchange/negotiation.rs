//! One encoding: what an agent's fields may not ask an upstream for.
//!
//! An answer is searched for keys as it is written, so an agent must not choose how: no coding but identity, no delta
//! (RFC 3229), no shared dictionary (RFC 9842), no charset. It refuses nothing; it takes the wish away. What an upstream
//! sends all the same is `answer/readable.rs`'s. Called by `fields`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Leaves one encoding to choose from.
pub fn ask_for_identity(headers: &mut HeaderMap) {
    let asking: Vec<HeaderName> = headers.keys().filter(|name| asks_for_coding(name)).cloned().collect();
    for name in asking {
        headers.insert(name, IDENTITY);
    }
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
    if headers.get_all(header::ACCEPT).iter().any(|value| names_a_charset(value.as_bytes())) {
        let accepted = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
        let kept: Vec<Vec<u8>> = accepted.map(without_charset).collect();
        headers.remove(header::ACCEPT);
        for value in kept {
            // Bytes of a valid value, some of them left out.
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(header::ACCEPT, value);
            }
        }
    }
}

/// `grpc-accept-encoding`, `connect-accept-encoding` and their kin. Some servers cannot tell `_` from `-`.
fn asks_for_coding(name: &HeaderName) -> bool {
    name.as_str().replace('_', "-").ends_with("accept-encoding")
}

fn is_unwanted(name: &HeaderName) -> bool {
    UNWANTED.contains(&name.as_str().replace('_', "-").as_str())
}

fn names_a_charset(value: &[u8]) -> bool {
    value.windows(CHARSET.len()).any(|window| window.eq_ignore_ascii_case(CHARSET))
}

/// Media ranges as they are, but for their `charset` parameters.
fn without_charset(value: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    for range in split(value, b',') {
        if !kept.is_empty() {
            kept.push(b',');
        }
        for (number, part) in split(range, b';').into_iter().enumerate() {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
            if number > 0 && names_a_charset(name) {
                continue;
            }
            if number > 0 {
                kept.push(b';');
            }
            kept.extend_from_slice(part);
        }
    }
    kept
}

/// At every separator that does not stand in a quoted string (RFC 9110, 5.6.4).
fn split(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(|byte| {
            let is_escaped = std::mem::take(&mut escaped);
            match *byte {
                b'\\' if quoted && !is_escaped => escaped = true,
                b'"' if !is_escaped => quoted = !quoted,
                _ => {}
            }
            !quoted && *byte == separator
        })
        .collect()
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const CHARSET: &[u8] = b"charset";
const UNWANTED: &[&str] = &["a-im", "accept-charset", "available-dictionary", "dictionary-id"];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(list: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        ask_for_identity(&mut headers);
        assert_eq!(headers.remove("accept-encoding").unwrap(), "identity");
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn accepted(value: &'static str) -> String {
        asked(&[("accept", value)]).remove(0).1
    }

    #[test]
    fn every_coding_becomes_identity() {
        let got = asked(&[
            ("accept-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip"),
            ("connect-accept-encoding", "br"),
            ("x_accept_encoding", "br"),
        ]);
        assert!(got.len() == 3 && got.iter().all(|(_, value)| value == "identity"), "{got:?}");
    }

    #[test]
    fn deltas_dictionaries_and_charsets_are_not_asked_for() {
        let got = asked(&[
            ("a-im", "gzip"),
            ("accept-charset", "utf-16"),
            ("accept_charset", "utf-16"),
            ("available-dictionary", ":x:"),
            ("accept-language", "en"),
        ]);
        assert_eq!(got, [("accept-language".to_owned(), "en".to_owned())]);
    }

    #[test]
    fn media_ranges_lose_their_charset_alone() {
        assert_eq!(accepted("text/plain;charset=utf-16be"), "text/plain");
        assert_eq!(accepted("text/html ; CharSet = \"a,b;c\" ;q=0.5, */*"), "text/html ;q=0.5, */*");
        assert_eq!(accepted("text/plain;x=\"a\\\";charset=b\";q=1"), "text/plain;x=\"a\\\";charset=b\";q=1");
        assert_eq!(accepted("application/json, text/event-stream"), "application/json, text/event-stream");
        let two = asked(&[("accept", "a/b;charset=x"), ("accept", "c/d")]);
        assert_eq!(two.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a/b", "c/d"]);
    }
}
