//! Header fields that do not cross keyd, in either direction.
//!
//! To the upstream: nothing of one hop, nothing reserved, nothing that makes a server read another method, host or
//! path than the one that was judged, no encoding but identity. To gatewayd: nothing of one hop, nothing reserved, no
//! cookies unless the credential keeps them. Called by `admit` and `forward`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use strongroom_protocol::{Authority, channel};

use super::negotiation;

/// What the credentials of a request allow beyond the usual.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    /// `Range` may go up.
    pub range: bool,
    /// `Set-Cookie` may come down.
    pub cookies: bool,
}

/// Makes an agent's fields fit to send.
///
/// # Errors
/// Where `Connection` nominates a field that carries meaning end to end: two servers would read two requests.
pub fn prepare_request(headers: &mut HeaderMap, authority: &Authority, leave: Leave) -> Result<(), Ambiguous> {
    drop_hop_by_hop(headers)?;
    drop_reserved(headers);
    let steering: Vec<HeaderName> =
        headers.keys().filter(|name| steers(name) || is_taken_for_ours(name)).cloned().collect();
    for name in steering {
        headers.remove(name);
    }
    join_cookies(headers)?;
    headers.remove(header::EXPECT);
    if !leave.range {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    negotiation::ask_for_identity(headers);
    let host = HeaderValue::try_from(authority.to_host_field()).map_err(|_| Ambiguous)?;
    headers.insert(header::HOST, host);
    Ok(())
}

/// Makes an upstream's fields fit to pass on.
pub fn prepare_response(headers: &mut HeaderMap, leave: Leave) {
    // An upstream that nominates something odd loses that field; there is nobody to tell.
    let _ = drop_hop_by_hop(headers);
    drop_reserved(headers);
    headers.remove(header::ALT_SVC);
    if !leave.cookies {
        headers.remove(header::SET_COOKIE);
        headers.remove("set-cookie2");
    }
}

/// RFC 9110, 7.6.1. `Trailer` stays in answers: it is a list of names and gatewayd needs it.
fn drop_hop_by_hop(headers: &mut HeaderMap) -> Result<(), Ambiguous> {
    let mut nominated: Vec<HeaderName> = Vec::new();
    let mut ambiguous = false;
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.is_empty() {
                continue;
            }
            match HeaderName::from_bytes(token) {
                Ok(name) if END_TO_END.contains(&name.as_str()) => ambiguous = true,
                Ok(name) => nominated.push(name),
                Err(_) => ambiguous = true,
            }
        }
    }
    for name in nominated.iter().map(HeaderName::as_str).chain(HOP_BY_HOP.iter().copied()) {
        headers.remove(name);
    }
    if ambiguous { Err(Ambiguous) } else { Ok(()) }
}

/// Whether some framework would read another method, host or path out of this field. Gateways behind WSGI and CGI
/// cannot tell `_` from `-`.
fn steers(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    STEERING.contains(&name.as_str())
        || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || STEERING_ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether it would be taken, by those who cannot tell `_` from `-`, for a field that is dropped here, or that says where
/// the request ends or who made it so.
fn is_taken_for_ours(name: &HeaderName) -> bool {
    if !name.as_str().contains('_') {
        return false;
    }
    let name = name.as_str().replace('_', "-");
    HOP_BY_HOP.contains(&name.as_str()) || OURS.contains(&name.as_str()) || name.starts_with(channel::RESERVED)
}

/// HTTP/2 may send them one by one; everybody else reads the first alone (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Ambiguous> {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1 {
        let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).map_err(|_| Ambiguous)?;
        headers.insert(header::COOKIE, joined);
    }
    Ok(())
}

fn drop_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(channel::RESERVED)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

/// A head that two servers could read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields that are kept, dropped or made by what they say, beside those of [`HOP_BY_HOP`].
const OURS: &[&str] = &["accept-encoding", "content-length", "content-type", "if-range", "transfer-encoding"];

/// Fields that `Connection` must not take away: without them a request means something else.
const END_TO_END: &[&str] = &["authorization", "content-length", "content-type", "cookie", "host", "x-api-key"];

/// Fields by which frameworks let a client override what the request line and Host say, and cousins of `Range`.
const STEERING: &[&str] = &[
    "forwarded",
    "request-range",
    "trailer",
    "x-host",
    "x-http-host-override",
    "x-http-request-method",
    "x-method",
    "x-middleware-subrequest",
    "x-ms-range",
    "x-override-url",
];

/// The same, where whole families are known. WebSocket's are here until upgrades pass.
const STEERING_PREFIXES: &[&str] =
    &["sec-websocket-", "x-envoy-", "x-forwarded-", "x-http-method", "x-original-", "x-rewrite-"];

/// And by their ends.
const STEERING_ENDS: &[&str] = &["method-override", "path-override", "url-override"];

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVE: Leave = Leave { range: false, cookies: false };

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn prepared(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = fields(list);
        prepare_request(&mut headers, &"a.example:8443".parse().expect("an authority"), LEAVE).expect("unambiguous");
        headers
    }

    #[test]
    fn host_and_encoding_are_our_own() {
        let headers = prepared(&[("host", "evil.example"), ("accept-encoding", "gzip"), ("x-kept", "1")]);
        assert_eq!(headers["host"], "a.example:8443");
        assert_eq!(headers["accept-encoding"], "identity");
        assert_eq!(headers["x-kept"], "1");
    }

    #[test]
    fn fields_of_one_hop_and_nominated_ones_are_dropped() {
        let headers = prepared(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("strongroom-request-id", "forged"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("x_http_method_override", "DELETE"),
            ("x_forwarded_host", "evil.example"),
            ("x-http-method-name", "DELETE"),
            ("x-method", "DELETE"),
            ("http-method-override", "DELETE"),
            ("x-http-path-override", "/admin"),
            ("x-override-url", "/admin"),
            ("x-rewrite-uri", "/admin"),
            ("x-ms-range", "bytes=0-3"),
            ("content_length", "3"),
            ("transfer_encoding", "chunked"),
            ("proxy_authorization", "Basic x"),
            ("keep_alive", "timeout=5"),
            ("if_range", "\"a\""),
            ("accept_encoding", "gzip"),
            ("strongroom_request_id", "forged"),
            ("range", "bytes=0-3"),
        ]);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn fields_that_are_written_with_an_underscore_and_are_nobody_elses_pass() {
        let kept = [("content-length", "3"), ("x_kept", "1"), ("_", "2"), ("content_disposition", "inline")];
        let headers = prepared(&kept);
        kept.iter().for_each(|(name, value)| assert_eq!(headers.get(*name).unwrap(), value));
    }

    #[test]
    fn connection_cannot_take_away_what_gives_a_request_its_meaning() {
        for value in ["authorization", "close, Host", "content-length", "a b"] {
            let mut headers = fields(&[("connection", value)]);
            let authority = "a.example".parse().expect("an authority");
            assert_eq!(prepare_request(&mut headers, &authority, LEAVE), Err(Ambiguous), "{value}");
        }
    }

    #[test]
    fn cookies_that_come_one_by_one_go_on_as_one() {
        let authority = "a.example".parse().expect("an authority");
        let mut headers = fields(&[("cookie", "a=b"), ("cookie", "c=d")]);
        prepare_request(&mut headers, &authority, LEAVE).expect("unambiguous");
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=b; c=d"]);
    }

    #[test]
    fn range_and_cookies_pass_only_with_leave() {
        let mut headers = fields(&[("range", "bytes=0-3")]);
        let authority = "a.example".parse().expect("an authority");
        prepare_request(&mut headers, &authority, Leave { range: true, cookies: false }).expect("unambiguous");
        assert!(headers.contains_key("range"));
        let mut headers = fields(&[("set-cookie", "a=b"), ("strongroom-refusal", "revoked"), ("content-type", "x/y")]);
        prepare_response(&mut headers, LEAVE);
        assert_eq!(headers, fields(&[("content-type", "x/y")]));
        let mut headers = fields(&[("set-cookie", "a=b")]);
        prepare_response(&mut headers, Leave { range: false, cookies: true });
        assert!(headers.contains_key("set-cookie"));
    }
}
