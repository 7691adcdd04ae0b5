//! The head of an upstream's answer: may it pass, and what of it?
//!
//! It refuses answers that cannot be searched or that have two readings, masks keys in the reason phrase and the
//! fields, and announces the trailers. Called by `forward`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use strongroom_protocol::{Refusal, channel};

use super::fields;
use super::scrub::head::{scrub_fields, scrub_text};
use super::scrub::patterns::Patterns;

/// Refuses what the scrubber cannot read, and what was not asked for.
///
/// # Errors
/// `upstream_protocol` or `response_unscrubbable`.
pub fn check(response: &Response<Incoming>, is_head: bool) -> Result<(), Refusal> {
    let both = |headers: &HeaderMap| {
        headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING)
    };
    // Two framings, two readings (RFC 9112, 6.3).
    if both(response.headers()) {
        return Err(Refusal::UpstreamProtocol);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UpstreamProtocol);
    }
    let without_body = is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if without_body {
        return Ok(());
    }
    let headers = response.headers();
    let plain = |name, allowed: &[u8]| {
        headers.get_all(name).iter().all(|value| {
            value.as_bytes().split(|byte| *byte == b',').all(|coding| {
                let coding = coding.trim_ascii();
                coding.is_empty() || coding.eq_ignore_ascii_case(allowed)
            })
        })
    };
    if plain(header::CONTENT_ENCODING, b"identity") && plain(header::TRANSFER_ENCODING, b"chunked") {
        Ok(())
    } else {
        Err(Refusal::ResponseUnscrubbable)
    }
}

/// Masks keys in the reason phrase and fields, and announces the trailers.
pub fn scrub(response: &mut Response<Incoming>, patterns: &Patterns, leave: fields::Leave) -> u64 {
    fields::prepare_response(response.headers_mut(), leave);
    // The channel frames its messages itself: an HTTP/1.0 answer ends with its connection, and a cut-off one would look
    // whole.
    *response.version_mut() = Version::HTTP_11;
    let mut masked = scrub_fields(response.headers_mut(), patterns);
    let clean = response.extensions().get::<ReasonPhrase>().and_then(|reason| scrub_text(reason.as_bytes(), patterns));
    if let Some((clean, count)) = clean {
        masked += count;
        match ReasonPhrase::try_from(Bytes::from(clean)) {
            Ok(reason) => drop(response.extensions_mut().insert(reason)),
            Err(_) => drop(response.extensions_mut().remove::<ReasonPhrase>()),
        }
    }
    if !response.headers().contains_key(header::CONTENT_LENGTH) {
        announce_trailers(response.headers_mut());
    }
    masked
}

fn announce_trailers(headers: &mut HeaderMap) {
    headers.append(header::TRAILER, HeaderValue::from_static(channel::TRAILERS));
}
