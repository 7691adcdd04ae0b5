//! Whether the scrubber can read a body of this kind as it stands: its charset, and codings beside Content-Encoding.
//!
//! Keys are looked for in ASCII and what contains it. It refuses charsets that do not (UTF-16, EBCDIC and what nobody
//! knows), deltas (RFC 3229), and codings of gRPC, Connect and others that leave Content-Encoding alone. Called by `head`,
//! for answers with a body.

use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use strongroom_protocol::Refusal;

/// Refuses what would be searched in vain.
///
/// # Errors
/// `upstream_protocol` where there are two content types, `response_unscrubbable`.
pub fn check<B>(response: &Response<B>) -> Result<(), Refusal> {
    let headers = response.headers();
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    if let Some(kind) = kinds.next()
        && kinds.any(|other| other != kind)
    {
        return Err(Refusal::UpstreamProtocol);
    }
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let is_delta = response.status() == StatusCode::IM_USED || headers.contains_key("im");
    if is_delta || headers.keys().any(|name| codes(name) && !is_only(headers, name.as_str(), b"identity")) {
        return Err(Refusal::ResponseUnscrubbable);
    }
    if charsets(kind).iter().all(|charset| contains_ascii(charset)) {
        Ok(())
    } else {
        Err(Refusal::ResponseUnscrubbable)
    }
}

/// Whether a text begins with the mark of an encoding that does not contain ASCII.
#[must_use]
pub fn is_marked_wide(text: &[u8]) -> bool {
    [&b"\xff\xfe"[..], b"\xfe\xff", b"\0\0\xfe\xff"].iter().any(|mark| text.starts_with(mark))
}

/// Whether a list holds nothing but this word.
pub fn is_only(headers: &HeaderMap, name: &str, allowed: &[u8]) -> bool {
    let words = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).all(|word| word.is_empty() || word.eq_ignore_ascii_case(allowed))
}

/// Codings that are not undone: all but `Content-Encoding` itself. Lists of what a server would take are none, nor is
/// what a store says of an object as it lies there (`x-goog-stored-`, `x-amz-meta-`, `x-ms-meta-`).
fn codes(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_of_a_store = name.starts_with("x-") && (name.contains("-meta-") || name.contains("-stored-"));
    name == "grpc-encoding" || name.ends_with("-content-encoding") && !is_of_a_store
}

/// The values of every `charset` parameter: lower-case letters and digits, without what people put between them.
fn charsets(kind: &[u8]) -> Vec<Vec<u8>> {
    let parameters = kind.split(|byte| matches!(byte, b';' | b',')).skip(1);
    let named = parameters.filter_map(|parameter| {
        let at = parameter.iter().position(|byte| *byte == b'=')?;
        parameter[..at].trim_ascii().eq_ignore_ascii_case(b"charset").then(|| &parameter[at + 1..])
    });
    named
        .map(|value| value.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect())
        .collect()
}

/// Whether bytes below 0x80 mean ASCII in it, always.
fn contains_ascii(charset: &[u8]) -> bool {
    charset.is_empty() || FAMILIES.iter().any(|family| charset.starts_with(family)) || SINGLE.contains(&charset)
}

/// Names as IANA and the WHATWG have them, by how they begin.
const FAMILIES: &[&[u8]] =
    &[b"utf8", b"iso8859", b"latin", b"windows125", b"cp125", b"koi8", b"gb", b"big5", b"euc", b"xeuc", b"shiftjis"];
const SINGLE: &[&[u8]] = &[
    b"ascii",
    b"usascii",
    b"ansix341968",
    b"unicode11utf8",
    b"binary",
    b"sjis",
    b"xsjis",
    b"windows31j",
    b"windows874",
    b"windows949",
    b"ksc56011987",
    b"tis620",
    b"macintosh",
    b"xmaccyrillic",
    b"ibm866",
    b"cp866",
    b"cp437",
    b"cp850",
    b"cp852",
    b"cp858",
    b"cp932",
    b"ms932",
    b"cp949",
    b"xmacroman",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, fields: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let answer = Response::builder().status(status);
        check(&fields.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value)).body(()).expect("one"))
    }

    #[test]
    fn charsets_that_hide_ascii_are_refused_and_others_pass() {
        for kind in [
            "text/plain",
            "text/plain; charset=utf-8",
            "text/plain;charset=\"UTF8\"",
            "text/html; Charset=ISO-8859-1",
            "text/html; charset=windows-1252",
            "text/html; charset=Shift_JIS",
            "text/html; charset=GB18030",
            "application/json; charset=",
            "multipart/form-data; boundary=\"charset\"",
        ] {
            assert_eq!(verdict(200, &[("content-type", kind)]), Ok(()), "{kind}");
        }
        for charset in [
            "utf-16",
            "UTF-16BE",
            "utf-32",
            "ucs-2",
            "unicode",
            "iso-10646-ucs-2",
            "utf-7",
            "iso-2022-jp",
            "IBM500",
            "cp037",
            "x",
        ] {
            let kind: &'static str = Box::leak(format!("text/plain; a=b; CHARSET=\"{charset}\"").into_boxed_str());
            assert_eq!(verdict(200, &[("content-type", kind)]), Err(Refusal::ResponseUnscrubbable), "{charset}");
        }
        let twice = [("content-type", "text/plain"), ("content-type", "text/plain")];
        assert_eq!(verdict(200, &twice), Ok(()));
        let two = [("content-type", "text/plain"), ("content-type", "application/grpc")];
        assert_eq!(verdict(200, &two), Err(Refusal::UpstreamProtocol));
    }

    #[test]
    fn marks_of_wide_texts_are_known() {
        for text in ["\u{feff}s".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(), b"\xfe\xff\0s".to_vec()]
        {
            assert!(is_marked_wide(&text));
        }
        assert!(!is_marked_wide("\u{feff}s".as_bytes()) && !is_marked_wide(b"") && !is_marked_wide(b"\xff\xd8\xff"));
    }

    #[test]
    fn other_codings_are_refused() {
        for name in ["grpc-encoding", "connect-content-encoding", "x-content-encoding"] {
            assert_eq!(verdict(200, &[(name, "gzip")]), Err(Refusal::ResponseUnscrubbable), "{name}");
            assert_eq!(verdict(200, &[(name, "identity")]), Ok(()), "{name}");
        }
        for name in ["x-goog-stored-content-encoding", "x-amz-meta-content-encoding", "x-ms-meta-content-encoding"] {
            assert_eq!(verdict(200, &[(name, "gzip")]), Ok(()), "{name}");
        }
        assert_eq!(verdict(226, &[]), Err(Refusal::ResponseUnscrubbable));
        assert_eq!(verdict(200, &[("im", "gzip")]), Err(Refusal::ResponseUnscrubbable));
        assert_eq!(verdict(200, &[("grpc-accept-encoding", "gzip"), ("content-encoding", "gzip")]), Ok(()));
    }
}
