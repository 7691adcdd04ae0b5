//! What goes beside a request on a channel: reserved header fields, stripped at both outer edges.
//!
//! A channel is requests and answers over a socket pair, as [`frames`] with a [`head`] each; gatewayd asks and keyd
//! answers. Everything between them that is
//! not part of the agent's request or the upstream's answer travels in a field whose name begins with [`RESERVED`].
//! gatewayd removes such fields from agents' requests, keyd removes them before the upstream and from upstream heads,
//! and gatewayd removes them before the agent: so neither an agent nor an upstream can forge one.

pub mod frames;
pub mod head;

/// Prefix of every reserved field, in lower case.
pub const RESERVED: &str = "strongroom-";

/// Request: the id under which gatewayd and the audit log know it, 8 to 64 of `A-Z a-z 0-9 - _`.
pub const REQUEST_ID: &str = "strongroom-request-id";

/// Response: a [`crate::Refusal`] code. The body is empty; gatewayd writes the words. The response's status is the
/// refusal's, or [`crate::Refusal::other_status`] where that says more.
pub const REFUSAL: &str = "strongroom-refusal";

/// Response, beside a refusal: seconds until trying again makes sense.
pub const RETRY_AFTER: &str = "strongroom-retry-after";

/// Response, beside a refusal: the upstream connection had served before and died before any byte of an answer, so
/// that the same request may be sent once more over another channel.
pub const STALE: &str = "strongroom-stale";

/// Response, beside a refusal: the upstream turned out to want another protocol before it got anything of the request.
/// keyd knows now; the same request may be sent once more over another channel.
pub const REDIAL: &str = "strongroom-redial";

/// Trailer: the upstream's trailer fields, scrubbed, as one value; hyper drops trailers that were not declared before
/// the body. See [`encode_trailers`].
pub const TRAILERS: &str = "strongroom-trailers";

/// Largest encoded trailer section, in bytes.
pub const TRAILERS_LIMIT: usize = 16 * 1024;

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

/// Encodes trailer fields as one visible-ASCII value: `name:value` in lower-case hex of each value's bytes, joined by
/// commas. Hex, because values may hold any byte of a field value and the carrier is a field value itself.
#[must_use]
pub fn encode_trailers<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push(':');
        for byte in value {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    text
}

/// The fields of [`encode_trailers`], or nothing where the text is no such encoding.
#[must_use]
pub fn decode_trailers(text: &str) -> Option<Vec<(&str, Vec<u8>)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    if text.len() > TRAILERS_LIMIT {
        return None;
    }
    text.split(',')
        .map(|field| {
            let (name, hex) = field.split_once(':')?;
            if name.is_empty() || hex.len() % 2 != 0 {
                return None;
            }
            let digit = |byte: u8| HEX.iter().position(|&known| known == byte);
            let value = hex.as_bytes().chunks_exact(2).map(|pair| {
                let value = digit(pair[0])? * 16 + digit(pair[1])?;
                u8::try_from(value).ok()
            });
            Some((name, value.collect::<Option<Vec<u8>>>()?))
        })
        .collect()
}

const GRPC: &[u8] = b"application/grpc";

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn trailers_round_trip(fields in proptest::collection::vec(("[a-z-]{1,12}", proptest::collection::vec(any::<u8>(), 0..40)), 0..6)) {
            let text = encode_trailers(fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            let back = decode_trailers(&text).expect("decodes");
            let back: Vec<_> = back.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(back, fields);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = decode_trailers(&text);
        }
    }

    #[test]
    fn malformed_trailers_are_refused() {
        for text in [",", "a", "a:1", "a:zz", ":00", "a:AA", "a:é"] {
            assert!(decode_trailers(text).is_none(), "{text}");
        }
    }

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
    fn request_ids_are_short_and_plain() {
        assert!(is_request_id(b"01J9-abc_DEF"));
        for id in [&b"short"[..], b"has space in", b"quote\"quote", &[b'x'; 65]] {
            assert!(!is_request_id(id));
        }
    }
}
