//! The head of an upstream's answer: may it pass, and what of it?
//!
//! It refuses answers that cannot be searched or that have two readings, masks keys in the reason phrase and the
//! fields, and takes away what is not true of a decoded body. Called by `forward`.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use strongroom_protocol::Refusal;

use super::super::connection::MOST_FIELDS;
use super::super::decode::Coding;
use super::super::fields;
use super::super::scrub::head::{scrub_fields, scrub_text};
use super::super::scrub::patterns::Patterns;
use super::messages::Framing;
use super::readable::{self, is_only};

/// What the head says of the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// How it is encoded.
    pub codings: Vec<Coding>,
    /// It is a sequence of messages, framed so.
    pub messages: Option<Framing>,
    /// It may be text, whatever its type says.
    pub may_be_text: bool,
}

/// Refuses what the scrubber cannot read, and what was not asked for.
///
/// # Errors
/// `upstream_protocol` or `response_unscrubbable`.
pub fn check<B: Body>(response: &Response<B>, is_head: bool) -> Result<Shape, Refusal> {
    let headers = response.headers();
    // Two framings, two readings (RFC 9112, 6.3).
    if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::UpstreamProtocol);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UpstreamProtocol);
    }
    // HTTP/2 is limited in bytes alone.
    if headers.len() > MOST_FIELDS {
        return Err(Refusal::UpstreamProtocol);
    }
    // The fields are about a body that is not there. In HTTP/2 it may come all the same.
    let has_none = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_head || has_none && response.body().is_end_stream() {
        return Ok(Shape::default());
    }
    if !is_only(headers, "transfer-encoding", b"chunked") {
        return Err(Refusal::ResponseUnscrubbable);
    }
    readable::check(response)?;
    let codings = Coding::of(headers).map_err(|_| Refusal::ResponseUnscrubbable)?;
    // A piece out of the middle of encoded content cannot be decoded.
    if !codings.is_empty() && response.status() == StatusCode::PARTIAL_CONTENT {
        return Err(Refusal::ResponseUnscrubbable);
    }
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default().to_ascii_lowercase();
    let messages = Framing::of(&kind);
    // The head of a message could look like a mark.
    let may_be_text = messages.is_none() && may_be_text(&kind);
    Ok(Shape { codings, messages, may_be_text })
}

/// Tables and queries come as `application/csv` or `application/octet-stream`; pictures and sounds may begin as no text does.
fn may_be_text(kind: &[u8]) -> bool {
    let is_media = [&b"image/"[..], b"audio/", b"video/"].iter().any(|media| kind.starts_with(media));
    !is_media || memchr::memmem::find(kind, b"xml").is_some()
}

/// Makes one length of several that agree, or of a list of the same one (RFC 9110, 8.6): whoever reads it next may take
/// them for two.
///
/// # Errors
/// `upstream_protocol` where they differ or are no numbers.
pub fn one_length(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let fields = headers.get_all(header::CONTENT_LENGTH);
    let mut words =
        fields.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let Some(first) = words.next() else { return Ok(()) };
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !is_number || !words.all(|word| word == first) {
        return Err(Refusal::UpstreamProtocol);
    }
    let length = HeaderValue::from_bytes(first).map_err(|_| Refusal::UpstreamProtocol)?;
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(())
}

/// Masks keys in the reason phrase and fields.
pub fn scrub<B>(response: &mut Response<B>, shape: &Shape, patterns: &Patterns, leave: fields::Leave) -> u64 {
    fields::prepare_response(response.headers_mut(), leave);
    // Of a HEAD too: it says what a GET would get here.
    if !shape.codings.is_empty() || Coding::of(response.headers()).map_or(true, |codings| !codings.is_empty()) {
        decoded(response.headers_mut());
    }
    // RFC 9110, 8.6; in HTTP/2 it would be a length that the body has not.
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
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
    masked
}

/// Takes away what is true of the encoded content alone, from a head or from trailers.
pub fn decoded(headers: &mut HeaderMap) {
    for name in OF_THE_ENCODED {
        headers.remove(*name);
    }
    // What it tags is equivalent and no longer the same byte for byte (RFC 9110, 8.8.1): so If-None-Match goes on
    // working, and If-Match and If-Range do not.
    let weak = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).map(HeaderValue::as_bytes);
    if let Some(tag) = weak.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag].concat()).ok()) {
        headers.insert(header::ETAG, tag);
    }
}

const OF_THE_ENCODED: &[&str] =
    &["accept-ranges", "content-digest", "content-encoding", "content-length", "content-md5", "digest", "repr-digest"];

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> Response<Empty<Bytes>> {
        let fields = fields
            .iter()
            .fold(Response::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
        fields.body(Empty::new()).expect("an answer")
    }

    fn codings(status: u16, fields: &[(&'static str, &'static str)]) -> Result<Vec<Coding>, Refusal> {
        check(&answer(status, fields), false).map(|shape| shape.codings)
    }

    #[test]
    fn lengths_that_agree_are_one_and_others_none() {
        for (values, one) in [
            (&["2"][..], Some("2")),
            (&["2, 2"], Some("2")),
            (&["2", "2"], Some("2")),
            (&["2", "3"], None),
            (&["2, 3"], None),
            (&["abc"], None),
            (&["+2"], None),
            (&[""], None),
            (&["2,"], None),
        ] {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            let mut headers = answer(200, &fields).into_parts().0.headers;
            assert_eq!(one_length(&mut headers).is_ok(), one.is_some(), "{values:?}");
            if let Some(one) = one {
                assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), [one], "{values:?}");
            }
        }
    }

    #[test]
    fn known_codings_are_taken_and_others_refused() {
        use Coding::{Brotli, Deflate, Gzip, Zstd};
        for (value, known) in [
            ("identity", vec![]),
            ("", vec![]),
            ("gzip", vec![Gzip]),
            ("X-GZIP", vec![Gzip]),
            ("deflate, br", vec![Deflate, Brotli]),
            ("zstd ,identity", vec![Zstd]),
        ] {
            assert_eq!(codings(200, &[("content-encoding", value)]), Ok(known), "{value}");
        }
        for value in ["compress", "gzip, gzip, gzip", "dcb", "aes128gcm", "gzip;q=1", "b r"] {
            assert_eq!(codings(200, &[("content-encoding", value)]), Err(Refusal::ResponseUnscrubbable), "{value}");
        }
        let two = [("content-encoding", "gzip"), ("content-encoding", "br")];
        assert_eq!(codings(200, &two), Ok(vec![Gzip, Brotli]));
        assert_eq!(codings(200, &[("transfer-encoding", "gzip, chunked")]), Err(Refusal::ResponseUnscrubbable));
        assert_eq!(codings(200, &[("transfer-encoding", "chunked")]), Ok(vec![]));
    }

    #[test]
    fn a_piece_of_encoded_content_is_refused_and_a_plain_one_is_not() {
        assert_eq!(codings(206, &[("content-encoding", "gzip")]), Err(Refusal::ResponseUnscrubbable));
        assert_eq!(codings(206, &[("content-range", "bytes 0-1/5")]), Ok(vec![]));
    }

    #[test]
    fn answers_without_a_body_keep_their_fields() {
        for status in [204, 304] {
            assert_eq!(codings(status, &[("content-encoding", "compress")]), Ok(vec![]));
        }
        assert_eq!(check(&answer(200, &[("content-encoding", "compress")]), true), Ok(Shape::default()));
        assert!(check(&answer(200, &[("content-encoding", "compress")]), false).is_err(), "the positive twin");
        let with_body = |status, coding| {
            let (parts, _) = answer(status, &[("content-encoding", coding)]).into_parts();
            check(&Response::from_parts(parts, Full::new(Bytes::from_static(b"x"))), false).map(|shape| shape.codings)
        };
        for status in [204, 304] {
            assert_eq!(with_body(status, "gzip"), Ok(vec![Coding::Gzip]), "a body that HTTP/2 brings all the same");
            assert_eq!(with_body(status, "compress"), Err(Refusal::ResponseUnscrubbable));
        }
    }

    #[test]
    fn compressed_grpc_messages_are_refused() {
        let fields = [("content-type", "application/grpc+proto"), ("grpc-encoding", "gzip")];
        assert_eq!(check(&answer(200, &fields), false), Err(Refusal::ResponseUnscrubbable));
        let fields = [("content-type", "Application/gRPC"), ("grpc-encoding", "identity")];
        assert_eq!(check(&answer(200, &fields), false).map(|shape| shape.messages), Ok(Some(Framing::Grpc)));
        let fields = [("content-type", "application/grpc-web-text")];
        assert_eq!(check(&answer(200, &fields), false).map(|shape| shape.messages), Ok(None));
    }

    /// The head of a message of 16,711,424 bytes is UTF-32's mark.
    #[test]
    fn the_head_of_a_message_is_no_mark_of_a_text() {
        let is_looked_at = |kind| check(&answer(200, &[("content-type", kind)]), false).map(|shape| shape.may_be_text);
        for kind in ["application/grpc", "application/grpc-web+proto", "application/connect+proto", "image/png"] {
            assert_eq!(is_looked_at(kind), Ok(false), "{kind}");
        }
        for kind in ["application/octet-stream", "application/csv", "image/svg+xml"] {
            assert_eq!(is_looked_at(kind), Ok(true), "{kind}");
        }
    }

    #[test]
    fn what_is_said_of_a_body_that_is_not_there_is_true() {
        let patterns =
            crate::exchange::scrub::patterns::fixture::patterns(&[b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e"], "sk-");
        let leave = fields::Leave { range: false, cookies: false };
        let mut head = answer(200, &[("content-encoding", "gzip"), ("content-length", "5")]);
        scrub(&mut head, &Shape::default(), &patterns, leave);
        assert!(head.headers().is_empty(), "a GET gets it decoded: {:?}", head.headers());
        let mut none = answer(204, &[("content-length", "5"), ("x-kept", "1")]);
        scrub(&mut none, &Shape::default(), &patterns, leave);
        assert_eq!(none.headers().len(), 1);
    }

    #[test]
    fn a_decoded_answer_loses_what_is_no_longer_true() {
        let mut answer = answer(
            200,
            &[
                ("content-encoding", "gzip"),
                ("content-length", "5"),
                ("content-md5", "x"),
                ("content-digest", "x"),
                ("repr-digest", "x"),
                ("digest", "x"),
                ("accept-ranges", "bytes"),
                ("etag", "\"strong\""),
                ("vary", "accept-encoding"),
            ],
        );
        decoded(answer.headers_mut());
        assert_eq!(answer.headers().len(), 2, "{:?}", answer.headers());
        assert_eq!(answer.headers()["etag"], "W/\"strong\"");
        decoded(answer.headers_mut());
        assert_eq!(answer.headers()["etag"], "W/\"strong\"", "once is enough");
    }
}
