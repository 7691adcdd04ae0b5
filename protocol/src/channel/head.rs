//! The head of a request or an answer as the payload of a frame.
//!
//! ```text
//!  request:  flags u8 · method (u16 length, bytes) · target (u32 length, bytes) · fields
//!  answer:   flags u8 · status u16 · reason (u16 length, bytes; none: length 0) · fields
//!  end:      fields
//!  fields:   name (u16 length, bytes) · value (u32 length, bytes), until the payload ends
//! ```
//!
//! Big-endian throughout. Field names, values, methods and targets are checked by the `http` crate as they are decoded,
//! so what comes out can stand in a message, and nothing is copied. It refuses payloads that are short, have a flag
//! unknown here, or hold a name or value that HTTP does not know, and requests whose fields frame their body otherwise
//! than the frames do: whoever sent on such a head would have the next one taken for its body.
//!
//! Called by both ends of a channel.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::frames::Malformed;

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// Data and an end follow.
    pub has_body: bool,
    /// The method, with regard to case.
    pub method: Method,
    /// The target in origin form.
    pub target: Uri,
    /// Its fields.
    pub fields: HeaderMap,
}

/// An answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// Data and an end follow.
    pub has_body: bool,
    /// The channel serves no further request.
    pub is_last: bool,
    /// The status.
    pub status: StatusCode,
    /// The reason phrase where it is not the status's own.
    pub reason: Bytes,
    /// Its fields.
    pub fields: HeaderMap,
}

impl RequestHead {
    /// As a payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let target = self.target.path_and_query().map_or("", |target| target.as_str());
        let mut out = BytesMut::with_capacity(16 + target.len() + size_of_fields(&self.fields));
        out.put_u8(u8::from(self.has_body));
        put_short(&mut out, self.method.as_str().as_bytes());
        put_long(&mut out, target.as_bytes());
        put_fields(&mut out, &self.fields);
        out.freeze()
    }

    /// From a payload.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(mut payload: Bytes) -> Result<Self, Malformed> {
        let flags = payload.try_get_u8().map_err(|_| Malformed)?;
        if flags > 1 {
            return Err(Malformed);
        }
        let method = Method::from_bytes(&short(&mut payload)?).map_err(|_| Malformed)?;
        let target = long(&mut payload)?;
        // A target of another form would name another host.
        if !target.starts_with(b"/") {
            return Err(Malformed);
        }
        let target = Uri::from_maybe_shared(target).map_err(|_| Malformed)?;
        let head = Self { has_body: flags == 1, method, target, fields: fields(payload)? };
        if head.frames_agree() { Ok(head) } else { Err(Malformed) }
    }

    /// About how many bytes of memory it will hold, decoded and with the buffer that its payload came in. What is no head is
    /// said to hold no more than its bytes.
    #[must_use]
    pub fn cost(payload: &[u8]) -> usize {
        // It may lie in a buffer that was made twice as large as it.
        2 * payload.len() + COST_OF_FIELD * fields_in(payload).unwrap_or(0)
    }

    /// Bytes of the body, where the head says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        if !self.has_body {
            return Some(0);
        }
        self.fields.get(CONTENT_LENGTH).and_then(length)
    }

    /// At most one length, which is a number, and 0 where no body follows; no coding, for that is the channel's.
    fn frames_agree(&self) -> bool {
        let mut lengths = self.fields.get_all(CONTENT_LENGTH).iter();
        let is_right = match (lengths.next(), lengths.next()) {
            (None, _) => true,
            (Some(one), None) => length(one).is_some_and(|length| self.has_body || length == 0),
            (Some(_), Some(_)) => false,
        };
        is_right && !self.fields.contains_key(TRANSFER_ENCODING)
    }
}

impl AnswerHead {
    /// As a payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16 + self.reason.len() + size_of_fields(&self.fields));
        out.put_u8(u8::from(self.has_body) | u8::from(self.is_last) << 1);
        out.put_u16(self.status.as_u16());
        put_short(&mut out, &self.reason);
        put_fields(&mut out, &self.fields);
        out.freeze()
    }

    /// From a payload.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(mut payload: Bytes) -> Result<Self, Malformed> {
        let flags = payload.try_get_u8().map_err(|_| Malformed)?;
        if flags > 0b11 {
            return Err(Malformed);
        }
        let status = payload.try_get_u16().map_err(|_| Malformed)?;
        let status = StatusCode::from_u16(status).map_err(|_| Malformed)?;
        let reason = short(&mut payload)?;
        let fields = fields(payload)?;
        Ok(Self { has_body: flags & 1 != 0, is_last: flags & 2 != 0, status, reason, fields })
    }
}

/// How many fields a request's payload has.
fn fields_in(payload: &[u8]) -> Option<usize> {
    let mut rest = payload.get(1..)?;
    let short = |rest: &mut &[u8]| {
        let (length, behind) = rest.split_first_chunk()?;
        *rest = behind.get(usize::from(u16::from_be_bytes(*length))..)?;
        Some(())
    };
    let long = |rest: &mut &[u8]| {
        let (length, behind) = rest.split_first_chunk()?;
        *rest = behind.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?;
        Some(())
    };
    short(&mut rest)?;
    long(&mut rest)?;
    let mut count = 0;
    while !rest.is_empty() && count < MOST_FIELDS {
        short(&mut rest)?;
        long(&mut rest)?;
        count += 1;
    }
    Some(count)
}

/// Digits alone: a sign or a space is read by some and not by others.
fn length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// Trailer fields as the payload of an end.
#[must_use]
pub fn encode_fields(fields: &HeaderMap) -> Bytes {
    let mut out = BytesMut::with_capacity(size_of_fields(fields));
    put_fields(&mut out, fields);
    out.freeze()
}

/// Fields from the payload of an end.
///
/// # Errors
/// [`Malformed`].
pub fn fields(mut payload: Bytes) -> Result<HeaderMap, Malformed> {
    let mut fields = HeaderMap::with_capacity(USUAL_FIELDS);
    while !payload.is_empty() {
        let name = HeaderName::from_bytes(&short(&mut payload)?).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(long(&mut payload)?).map_err(|_| Malformed)?;
        fields.try_append(name, value).map_err(|_| Malformed)?;
        if fields.len() > MOST_FIELDS {
            return Err(Malformed);
        }
    }
    Ok(fields)
}

fn size_of_fields(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| 6 + name.as_str().len() + value.len()).sum()
}

fn put_fields(out: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        put_short(out, name.as_str().as_bytes());
        put_long(out, value.as_bytes());
    }
}

/// Texts that http's types keep below 64 KiB: a longer one would not be decoded as it was, and is cut to nothing.
fn put_short(out: &mut BytesMut, text: &[u8]) {
    let (length, text) = u16::try_from(text.len()).map_or((0, &[][..]), |length| (length, text));
    out.put_u16(length);
    out.put_slice(text);
}

fn put_long(out: &mut BytesMut, text: &[u8]) {
    let (length, text) = u32::try_from(text.len()).map_or((0, &[][..]), |length| (length, text));
    out.put_u32(length);
    out.put_slice(text);
}

fn short(payload: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = payload.try_get_u16().map_err(|_| Malformed)?.into();
    take(payload, length)
}

fn long(payload: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = payload.try_get_u32().map_err(|_| Malformed)?;
    take(payload, usize::try_from(length).map_err(|_| Malformed)?)
}

fn take(payload: &mut Bytes, length: usize) -> Result<Bytes, Malformed> {
    if length > payload.len() { Err(Malformed) } else { Ok(payload.split_to(length)) }
}

const USUAL_FIELDS: usize = 16;
/// Of a map's entry, its place in the index, and a short name.
const COST_OF_FIELD: usize = 240;
/// More than either daemon lets through.
const MOST_FIELDS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_fields() -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in [("host", &b"a.example"[..]), ("x-many", b"1"), ("x-many", b"\xff 2"), ("x-empty", b"")] {
            fields.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        fields
    }

    fn a_request() -> RequestHead {
        RequestHead {
            has_body: true,
            method: Method::from_bytes(b"BREW").unwrap(),
            target: "/v1//x?y=/z".parse().unwrap(),
            fields: some_fields(),
        }
    }

    fn an_answer() -> AnswerHead {
        let (status, reason) = (StatusCode::IM_A_TEAPOT, Bytes::from_static(b"Short and stout"));
        AnswerHead { has_body: false, is_last: true, status, reason, fields: some_fields() }
    }

    #[test]
    fn heads_come_out_as_they_went_in() {
        assert_eq!(RequestHead::decode(a_request().encode()), Ok(a_request()));
        assert_eq!(AnswerHead::decode(an_answer().encode()), Ok(an_answer()));
        assert_eq!(fields(encode_fields(&some_fields())), Ok(some_fields()));
        assert_eq!(fields(Bytes::new()), Ok(HeaderMap::new()));
    }

    #[test]
    fn a_head_frames_its_body_as_the_channel_does_or_not_at_all() {
        let decoded = |has_body, list: &[(&'static str, &'static str)]| {
            let fields =
                list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut head = RequestHead { has_body, ..a_request() };
            head.fields = HeaderMap::new();
            for (name, value) in fields {
                head.fields.append(name, value);
            }
            RequestHead::decode(head.encode()).map(|head| head.length())
        };
        assert_eq!(decoded(true, &[("content-length", "5")]), Ok(Some(5)));
        assert_eq!(decoded(true, &[]), Ok(None));
        assert_eq!(decoded(false, &[("content-length", "0")]), Ok(Some(0)));
        assert_eq!(decoded(false, &[]), Ok(Some(0)));
        for (has_body, fields) in [
            (false, &[("content-length", "5")][..]),
            (true, &[("content-length", "5"), ("content-length", "6")]),
            (true, &[("content-length", "5"), ("content-length", "5")]),
            (true, &[("content-length", "+5")]),
            (true, &[("content-length", "5, 5")]),
            (true, &[("content-length", "")]),
            (true, &[("content-length", "99999999999999999999")]),
            (true, &[("transfer-encoding", "chunked")]),
            (false, &[("transfer-encoding", "chunked")]),
        ] {
            assert_eq!(decoded(has_body, fields), Err(Malformed), "{has_body} {fields:?}");
        }
    }

    #[test]
    fn fields_without_end_are_refused() {
        let many = |count| {
            let mut fields = HeaderMap::new();
            for _ in 0..count {
                fields.append("x", HeaderValue::from_static(""));
            }
            encode_fields(&fields)
        };
        assert_eq!(fields(many(MOST_FIELDS)).map(|fields| fields.len()), Ok(MOST_FIELDS));
        assert_eq!(fields(many(MOST_FIELDS + 1)), Err(Malformed));
    }

    #[test]
    fn cut_off_heads_are_refused_or_have_fewer_fields() {
        let whole = a_request().encode();
        for length in 0..whole.len() {
            if let Ok(head) = RequestHead::decode(whole.slice(..length)) {
                assert!(head.fields.len() < a_request().fields.len());
            }
        }
    }

    #[test]
    fn what_cannot_stand_in_a_message_is_refused() {
        let whole = a_request().encode().to_vec();
        assert!(RequestHead::decode(whole.clone().into()).is_ok(), "the positive twin");
        let at = |needle: &[u8]| whole.windows(needle.len()).position(|window| window == needle).unwrap();
        let places = [
            (at(b"BREW"), b' '),
            (at(b"/v1"), b'x'),
            (at(b"/v1") + 1, b' '),
            (at(b"host"), b'H' | 0x80),
            (at(b"a.ex"), b'\n'),
            (at(b"a.ex"), 0),
            (0, 4),
        ];
        for (place, byte) in places {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            assert_eq!(RequestHead::decode(bytes.into()), Err(Malformed), "{place} {byte}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let payload = Bytes::from(payload);
            let _ = (RequestHead::decode(payload.clone()), AnswerHead::decode(payload.clone()), fields(payload));
        }
    }
}
