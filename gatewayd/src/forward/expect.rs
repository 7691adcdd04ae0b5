//! `Expect: 100-continue`: a body that is not asked for before keyd has admitted the request.
//!
//! The expectation goes on to keyd, which says when somebody wants the body; until then the agent's is not read, and so
//! hyper's server sends the agent no 100. A refusal comes without the body having been sent. It refuses to wait where
//! the agent did not ask for it. Called by the gateway for each request.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};

/// Whether an agent waits for 100 before it sends a body (RFC 9110, 10.1.1). hyper's server says 100 over HTTP/1.1
/// alone.
#[must_use]
pub fn is_expected(headers: &HeaderMap, version: Version) -> bool {
    let waits = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes());
    version == Version::HTTP_11 && headers.get(header::EXPECT).is_some_and(waits)
}

/// The expectation's value.
pub const CONTINUE: &str = "100-continue";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_http_1_1_agent_that_says_so_waits() {
        let expected = |value: &'static str, version| {
            let headers = HeaderMap::from_iter([(header::EXPECT, HeaderValue::from_static(value))]);
            is_expected(&headers, version)
        };
        assert!(expected("100-continue", Version::HTTP_11));
        assert!(expected("100-Continue", Version::HTTP_11));
        assert!(!expected("100-continue", Version::HTTP_10));
        assert!(!expected("100-continue", Version::HTTP_2));
        assert!(!expected("200-ok", Version::HTTP_11));
        assert!(!is_expected(&HeaderMap::new(), Version::HTTP_11));
    }
}
