//! The key goes into its position, and nowhere else.
//!
//! Every placeholder has been found to be the whole value of its position before; this file refuses to search for
//! anything. A field's value is replaced whole and marked sensitive, so that nothing prints or indexes it; a target is
//! made of the judged one; a body is spliced. Each buffer is made of the size that it needs, for one that grows leaves
//! copies, and the allocator wipes it when the request is done with it. Called by `forward`, after the decision was
//! written down.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::upload::Upload;
use crate::policy::decide::Allowed;
use crate::policy::find::Position;
use crate::policy::live::Live;
use crate::policy::positions::BodyKind;
use crate::policy::{json, percent};

/// Writes the newest version of each used credential into its position.
///
/// # Errors
/// Where a credential is gone or its value cannot stand in its position: nothing is to be sent then.
pub fn substitute(parts: &mut Parts, upload: &mut Upload, live: &Live, allowed: &Allowed) -> Result<(), NoKey> {
    let (mut in_path, mut in_query, mut in_body) = (None, Vec::new(), Vec::new());
    for one in &allowed.uses {
        let version = live.credential(one.credential).and_then(|credential| credential.versions.last()).ok_or(NoKey)?;
        let key = &version.value[..];
        match &one.position {
            Position::Field { name, before, after } => {
                put(&mut parts.headers, name, &[before.as_bytes(), key, after.as_bytes()])?;
            }
            Position::Basic(user) => {
                let pair = [user.as_bytes(), b":", key].concat();
                let blob = Base64::encode_string(&pair);
                put(&mut parts.headers, &header::AUTHORIZATION, &[b"Basic ", blob.as_bytes()])?;
            }
            Position::Query(name) => in_query.push((&**name, key)),
            Position::Path => in_path = Some(key),
            Position::Body(kind, span) => in_body.push(Splice { span: span.clone(), kind: *kind, key }),
        }
    }
    if in_path.is_some() || !in_query.is_empty() {
        let target = allowed.target.with_keys(in_path, &in_query).map_err(|_| NoKey)?;
        parts.uri = Uri::from_maybe_shared(Bytes::from(target)).map_err(|_| NoKey)?;
    }
    let Some(body) = upload.whole_mut() else { return if in_body.is_empty() { Ok(()) } else { Err(NoKey) } };
    if !in_body.is_empty() {
        let spliced = splice(body.bytes(), in_body)?;
        body.replace(spliced);
        // They were true of the body with the placeholder in it.
        DIGESTS.iter().for_each(|name| drop(parts.headers.remove(*name)));
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.bytes().len()));
    Ok(())
}

fn put(headers: &mut HeaderMap, name: &HeaderName, pieces: &[&[u8]]) -> Result<(), NoKey> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(pieces.concat())).map_err(|_| NoKey)?;
    value.set_sensitive(true);
    headers.insert(name.clone(), value);
    Ok(())
}

/// A key in place of a stretch of the body.
struct Splice<'a> {
    span: std::ops::Range<usize>,
    kind: BodyKind,
    key: &'a [u8],
}

impl Splice<'_> {
    fn length(&self) -> Result<usize, NoKey> {
        match self.kind {
            BodyKind::Json => self.text().map(json::quoted_length),
            BodyKind::Form => Ok(percent::encoded_length(self.key, percent::is_unreserved)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), NoKey> {
        match self.kind {
            BodyKind::Json => json::quote_into(self.text()?, out),
            BodyKind::Form => percent::encode_into(self.key, percent::is_unreserved, out),
        }
        Ok(())
    }

    fn text(&self) -> Result<&str, NoKey> {
        std::str::from_utf8(self.key).map_err(|_| NoKey)
    }
}

fn splice(body: &[u8], mut splices: Vec<Splice<'_>>) -> Result<Vec<u8>, NoKey> {
    splices.sort_by_key(|splice| splice.span.start);
    let mut size = body.len();
    for splice in &splices {
        size = size.checked_sub(splice.span.len()).ok_or(NoKey)? + splice.length()?;
    }
    let mut out = Vec::with_capacity(size);
    let mut at = 0;
    for splice in &splices {
        out.extend_from_slice(body.get(at..splice.span.start).ok_or(NoKey)?);
        splice.write(&mut out)?;
        at = splice.span.end;
    }
    out.extend_from_slice(body.get(at..).ok_or(NoKey)?);
    debug_assert_eq!(out.len(), size, "the buffer did not grow");
    Ok(out)
}

/// The key of a use is not there, or cannot stand where it should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey;

/// RFC 9530, and what was before it.
const DIGESTS: &[&str] = &["content-digest", "content-md5", "digest", "repr-digest"];

#[cfg(test)]
#[path = "substitute_tests.rs"]
mod tests;
