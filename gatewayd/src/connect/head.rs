//! The head of a CONNECT, out of bytes.
//!
//! Parsed by httparse, as hyper's are; here is what hyper checks beside: sizes, and that a field's name stands once where
//! it decides something. It refuses folded lines and whatever httparse refuses. Called by `connect` as bytes come in.

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use memchr::memmem;
use strongroom_protocol::Refusal;

/// A parsed head.
#[derive(Debug)]
pub struct Head {
    /// As it stands: `HOST:PORT`.
    pub target: String,
    /// 1.0 or 1.1.
    pub version: Version,
    /// In order.
    pub fields: HeaderMap,
}

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All of it.
    pub bytes: usize,
    /// How many fields.
    pub fields: usize,
}

/// Parses a head; nothing while bytes are missing. Gives its length too.
///
/// # Errors
/// `bad_request`, `too_large`.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refusal> {
    // Looked for first: parsing again with every byte that trickles in would cost more than the agent's patience.
    if !has_end(bytes) {
        return if bytes.len() <= limits.bytes { Ok(None) } else { Err(Refusal::TooLarge) };
    }
    let mut places = vec![httparse::EMPTY_HEADER; limits.fields];
    let mut request = httparse::Request::new(&mut places);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => length,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.bytes => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::BadRequest),
    };
    let mut fields = HeaderMap::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::BadRequest)?;
        fields.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Refusal::BadRequest)?);
    }
    let version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(Some((Head { target: request.path.unwrap_or_default().to_owned(), version, fields }, length)))
}

/// An empty line, with either line end.
fn has_end(bytes: &[u8]) -> bool {
    memmem::find(bytes, b"\n\r\n").or_else(|| memmem::find(bytes, b"\n\n")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { bytes: 1000, fields: 8 }
    }

    #[test]
    fn a_head_is_read_to_its_end_and_no_further() {
        let text = b"CONNECT a.example:443 HTTP/1.0\r\nHost: a.example\r\n\r\n\x16\x03\x01";
        for length in 0..text.len() - 3 {
            assert!(parse(&text[..length], &limits()).unwrap().is_none(), "{length}");
        }
        let (head, length) = parse(text, &limits()).unwrap().unwrap();
        assert_eq!((head.target.as_str(), head.version, length), ("a.example:443", Version::HTTP_10, text.len() - 3));
        assert_eq!(head.fields["host"], "a.example");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            &b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"[..],
            b"CONNECT a.example:443 HTTP/1.1\r\nHo st: a\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nHost : a\r\n\r\n",
            b"CONNECT  HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:443 HTTP/2.0\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\n\0: x\r\n\r\n",
        ] {
            assert_eq!(parse(text, &limits()).unwrap_err(), Refusal::BadRequest, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn large_heads_are_refused_though_they_have_no_end() {
        let long = format!("CONNECT a.example:443 HTTP/1.1\r\nx: {}", "x".repeat(1000));
        assert_eq!(parse(long.as_bytes(), &limits()).unwrap_err(), Refusal::TooLarge);
        let many = format!("CONNECT a.example:443 HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(9));
        assert_eq!(parse(many.as_bytes(), &limits()).unwrap_err(), Refusal::TooLarge);
    }
}
