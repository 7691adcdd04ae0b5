//! Header fields: how many, how large, how the body is framed, and which go no further than this hop.
//!
//! hyper has parsed the fields and already refuses folded lines, spaces before a colon, differing lengths, and
//! transfer codings that do not end in `chunked`; a body that is framed twice is the connection's to find, for hyper
//! hides it. It refuses here what is left to refuse. Order among fields of one name is
//! kept. Used for requests on their way to keyd and for responses on their way back.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use strongroom_protocol::{Refusal, channel};

use crate::config::Limits;

/// Checks the size of a head.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub fn check_size(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    // Colon, space and line end count as they do on the wire.
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let fits = target <= limits.uri_bytes.get()
        && head.headers.len() <= limits.header_count.get()
        && bytes <= limits.header_bytes.get();
    if fits { Ok(()) } else { Err(Refusal::TooLarge) }
}

/// Checks that the body has one length and one framing.
///
/// # Errors
/// [`Refusal::BadRequest`].
pub fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
    let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    let is_number = |value: &[u8]| !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(()),
        ([length], []) if is_number(length) => Ok(()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::BadRequest),
    }
}

/// Takes out of an agent's request what is for this hop or reserved.
///
/// # Errors
/// [`Refusal::BadRequest`] where Connection names a field that the request means nothing without.
pub fn clean_request(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let nominated = nominated(headers).ok_or(Refusal::BadRequest)?;
    if nominated.iter().any(|name| NEVER_NOMINATED.contains(name)) {
        return Err(Refusal::BadRequest);
    }
    remove_hop_by_hop(headers, &nominated);
    // For this hop; whoever forwards says it anew.
    headers.remove(header::EXPECT);
    headers.remove(header::HOST);
    Ok(())
}

/// Takes out of a response what is for the channel, reserved or forged by an upstream.
pub fn clean_response(headers: &mut HeaderMap) {
    let nominated = nominated(headers).unwrap_or_default();
    remove_hop_by_hop(headers, &nominated);
}

/// Names in an upstream's Trailer field, without our own: an HTTP/1.1 agent gets those trailers alone.
#[must_use]
pub fn declared_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<_> = elements(headers, &header::TRAILER)?.into_iter().filter(|name| !is_reserved(name)).collect();
    let text = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| HeaderValue::try_from(text).ok()).flatten()
}

/// Whether a field belongs to what gatewayd and keyd say to each other.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with(channel::RESERVED)
}

fn remove_hop_by_hop(headers: &mut HeaderMap, nominated: &[HeaderName]) {
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    let others: Vec<_> = headers.keys().filter(|name| is_reserved(name) || is_for_proxies(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

fn is_for_proxies(name: &HeaderName) -> bool {
    name.as_str().starts_with("proxy-")
}

/// The fields that Connection names; nothing where it is malformed.
fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    elements(headers, &header::CONNECTION)
}

fn elements(headers: &HeaderMap, list: &HeaderName) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for value in headers.get_all(list) {
        for element in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if !element.is_empty() {
                names.push(HeaderName::from_bytes(element).ok()?);
            }
        }
    }
    Some(names)
}

/// RFC 9110, 7.6.1, and what is hop-by-hop by its own definition.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Dropping one of these on somebody's word would change what the request means, or take its key's position away.
static NEVER_NOMINATED: [HeaderName; 8] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
];

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn fields_of_this_hop_and_of_ours_are_removed_and_others_stay_in_order() {
        let mut fields = headers(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other ,"),
            ("keep-alive", "1"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "x"),
            ("strongroom-request-id", "forged"),
            ("strongroom-anything", "x"),
            ("expect", "100-continue"),
            ("host", "localhost"),
            ("http2-settings", "x"),
            ("transfer-encoding", "chunked"),
            ("x-many", "1"),
            ("accept", "a"),
            ("x-many", "2"),
            ("x-many", ""),
            ("authorization", "Bearer p"),
            ("content-length", "3"),
        ]);
        clean_request(&mut fields).unwrap();
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "content-length", "x-many"]);
        assert_eq!(fields.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2", ""]);
    }

    #[test]
    fn connection_cannot_take_away_what_a_request_needs() {
        for value in [
            "authorization",
            "close, Authorization",
            "HOST",
            "content-length",
            "transfer-encoding",
            "x-api-key",
            "a b",
            "\"q\"",
        ] {
            assert_eq!(clean_request(&mut headers(&[("connection", value)])), Err(Refusal::BadRequest), "{value}");
        }
        for value in ["close", "upgrade, te", "", ",,", "x-anything"] {
            assert_eq!(clean_request(&mut headers(&[("connection", value)])), Ok(()), "{value}");
        }
    }

    #[test]
    fn a_body_has_one_framing() {
        for fields in
            [&[][..], &[("content-length", "0")], &[("content-length", "12")], &[("transfer-encoding", "Chunked")]]
        {
            assert_eq!(check_framing(&headers(fields)), Ok(()), "{fields:?}");
        }
        for fields in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "0x1")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(check_framing(&headers(fields)), Err(Refusal::BadRequest), "{fields:?}");
        }
    }

    #[test]
    fn size_limits_are_exact() {
        let limits = Limits::default();
        let check = |count: usize, value: usize| {
            let mut request = Request::get("/");
            for _ in 0..count {
                request = request.header("x", "v".repeat(value));
            }
            check_size(&request.body(()).unwrap().into_parts().0, &limits)
        };
        assert_eq!(check(200, 1), Ok(()));
        assert_eq!(check(201, 1), Err(Refusal::TooLarge));
        assert_eq!(check(1, 65_536 - 5), Ok(()));
        assert_eq!(check(1, 65_536 - 4), Err(Refusal::TooLarge));
    }

    #[test]
    fn trailers_are_declared_without_ours() {
        let declared = |text: &str| declared_trailers(&headers(&[("trailer", text)]));
        assert_eq!(
            declared("strongroom-refusal, X-Sum,grpc-status"),
            Some(HeaderValue::from_static("x-sum, grpc-status"))
        );
        assert_eq!(declared("strongroom-refusal"), None);
        assert_eq!(declared_trailers(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_field_panics(names in proptest::collection::vec("[a-z-]{1,12}", 0..6), value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut fields = HeaderMap::new();
            for name in names.iter().map(String::as_str).chain(["connection", "trailer", "content-length"]) {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                    fields.append(name, value);
                }
            }
            let _ = check_framing(&fields);
            let _ = declared_trailers(&fields);
            clean_response(&mut fields.clone());
            if clean_request(&mut fields).is_ok() {
                prop_assert!(fields.keys().all(|name| !is_reserved(name) && !HOP_BY_HOP.contains(name)));
            }
        }
    }
}
