//! What goes beside a request on a channel: reserved header fields, stripped at both outer edges.
//!
//! A channel is requests and answers over a socket pair, as [`frames`] with a [`head`] each; gatewayd asks and keyd
//! answers. Everything between them that is
//! not part of the agent's request or the upstream's answer travels in a field whose name begins with [`RESERVED`].
//! gatewayd removes such fields from agents' requests, keyd removes them before the upstream and from upstream heads,
//! and gatewayd removes them before the agent: so neither an agent nor an upstream can forge one.

pub mod frames;
pub mod head;

use http::{HeaderMap, Method};

/// Prefix of every reserved field, in lower case.
pub const RESERVED: &str = "strongroom-";

/// Request: the id under which gatewayd and the audit log know it, 8 to 64 of `A-Z a-z 0-9 - _`.
pub const REQUEST_ID: &str = "strongroom-request-id";

/// Request: the number of the session that it belongs to, in decimal.
pub const SESSION: &str = "strongroom-session";

/// Response: a [`crate::Refusal`] code. The body is empty; gatewayd writes the words. The response's status is the
/// refusal's, or [`crate::Refusal::other_status`] where that says more.
pub const REFUSAL: &str = "strongroom-refusal";

/// Response, beside a refusal: seconds until trying again makes sense.
pub const RETRY_AFTER: &str = "strongroom-retry-after";

/// Response, beside a refusal: the upstream connection had served before and died before any byte of an answer, and
/// nothing of the request was sent, or it is repeatable ([`is_repeatable`]): it may be sent once more over another channel.
pub const STALE: &str = "strongroom-stale";

/// Response, beside a refusal: the upstream turned out to want another protocol before it got anything of the request, or
/// has said that it did not look at it. The same request may be sent once more over another channel.
pub const REDIAL: &str = "strongroom-redial";

/// Response, beside a refusal: no request of this channel was admitted yet, so that the next one may be anybody's.
pub const UNBOUND: &str = "strongroom-unbound";

/// Whether a request may be sent once more where nobody knows what became of it: by its method (RFC 9110, 9.2.2), or for
/// the key by which its server knows it again. A proxy must not repeat any other: it may be a payment.
#[must_use]
pub fn is_repeatable(method: &Method, fields: &HeaderMap) -> bool {
    method.is_idempotent() || fields.contains_key(IDEMPOTENCY_KEY)
}

/// Stripe's field and others', and the IETF's draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Whether a text can be a request id.
#[must_use]
pub fn is_request_id(text: &[u8]) -> bool {
    (8..=64).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether a Content-Type is gRPC's, which takes HTTP/2: such requests have upstream connections of their own. gRPC-Web
/// is not: it was made for HTTP/1.1.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((name, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    name.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_its_namesakes() {
        for grpc in
            [&b"application/grpc"[..], b"application/grpc+proto", b"Application/gRPC; v=1", b"application/grpc ;x"]
        {
            assert!(is_grpc(grpc));
        }
        for other in [
            &b"application/grpc-web"[..],
            b"application/grpc-web+proto",
            b"application/grpcx",
            b"application/json",
            b"",
        ] {
            assert!(!is_grpc(other));
        }
    }

    #[test]
    fn what_may_happen_twice_is_sent_twice_and_nothing_else() {
        let (none, mut key) = (HeaderMap::new(), HeaderMap::new());
        key.insert(IDEMPOTENCY_KEY, http::HeaderValue::from_static("one"));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert!(is_repeatable(&method, &none), "{method}");
        }
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"MKCOL").expect("a method")] {
            assert!(!is_repeatable(&method, &none) && is_repeatable(&method, &key), "{method}");
        }
    }

    #[test]
    fn request_ids_are_short_and_plain() {
        assert!(is_request_id(b"01J9-abc_DEF"));
        for id in [&b"short"[..], b"has space in", b"quote\"quote", &[b'x'; 65]] {
            assert!(!is_request_id(id));
        }
    }
}
