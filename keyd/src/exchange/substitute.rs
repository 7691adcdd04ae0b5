//! The key goes into its position, and nowhere else.
//!
//! The field's value is replaced whole and marked sensitive, so that nothing prints or indexes it. Every placeholder
//! has been found to be the whole value of its position before; this file refuses to search for anything.
//! Called by `forward`, after the decision was written down.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::policy::decide::Use;
use crate::policy::live::Live;

/// Writes the newest version of each used credential into its field.
///
/// # Errors
/// Where a credential is gone or its value cannot stand in a header: nothing is to be sent then.
pub fn substitute(headers: &mut HeaderMap, live: &Live, uses: &[Use]) -> Result<(), NoKey> {
    for one in uses {
        let version = live.credential(one.credential).and_then(|credential| credential.versions.last()).ok_or(NoKey)?;
        let mut text = Vec::with_capacity(one.before.len() + version.value.len() + one.after.len());
        text.extend_from_slice(one.before.as_bytes());
        text.extend_from_slice(&version.value);
        text.extend_from_slice(one.after.as_bytes());
        // The allocator wipes this buffer when the request is done with it.
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| NoKey)?;
        value.set_sensitive(true);
        headers.insert(one.field.clone(), value);
    }
    Ok(())
}

/// The key of a use is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey;

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::policy::fixture;

    #[test]
    fn the_newest_version_replaces_the_whole_value_and_is_marked() {
        let mut contents = fixture::contents();
        let id = fixture::credential(&mut contents, "one", "a.example", &[b"old-value", b"new-value"]);
        let live = Live::new(contents);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("bearer placeholder"));
        headers.insert("x-other", HeaderValue::from_static("placeholder"));
        let field = HeaderName::from_static("authorization");
        let one = Use { grant: 1, credential: id, field, before: "Bearer ".into(), after: String::new() };
        substitute(&mut headers, &live, &[one]).expect("a key");
        assert_eq!(headers["authorization"], "Bearer new-value");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x-other"], "placeholder");
    }

    #[test]
    fn a_credential_without_a_value_sends_nothing() {
        let mut contents = fixture::contents();
        let id = fixture::credential(&mut contents, "one", "a.example", &[]);
        let live = Live::new(contents);
        let field = HeaderName::from_static("authorization");
        let one = Use { grant: 1, credential: id, field, before: String::new(), after: String::new() };
        assert_eq!(substitute(&mut HeaderMap::new(), &live, &[one]), Err(NoKey));
    }
}
