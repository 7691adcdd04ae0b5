//! What an agent proves itself with to a proxy: `Proxy-Authorization: Basic AGENT:TOKEN` (RFC 9110, 11.7).
//!
//! `Bearer TOKEN` is the same without a name, and so is Basic with an empty one. It refuses credentials that can be read
//! in two ways. Whether a token is somebody's is keyd's to say. Called for CONNECT and for requests in absolute form.

use base64ct::{Base64, Encoding};
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;
use strongroom_protocol::Refusal;

use crate::visitor::Token;

/// Reads the field; nothing where there is none.
///
/// # Errors
/// `bad_request`.
pub fn token(headers: &HeaderMap) -> Result<Option<Token>, Refusal> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::BadRequest);
    }
    let text = value.to_str().map_err(|_| Refusal::BadRequest)?;
    let (scheme, rest) = text.split_once(' ').ok_or(Refusal::BadRequest)?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Token::new(None, rest.as_bytes()).map(Some);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refusal::BadRequest);
    }
    let decoded = decode(rest).ok_or(Refusal::BadRequest)?;
    let colon = memchr::memchr(b':', &decoded).ok_or(Refusal::BadRequest)?;
    let name = std::str::from_utf8(&decoded[..colon]).map_err(|_| Refusal::BadRequest)?;
    let agent = if name.is_empty() { None } else { Some(name.parse().map_err(|_| Refusal::AgentUnknown)?) };
    let secret: &[u8] = &decoded[colon + 1..];
    // A name without a token proves nothing, and says nothing either.
    if secret.is_empty() { Ok(None) } else { Token::new(agent, secret).map(Some) }
}

/// Base64 (RFC 4648, 4), with its padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<(Option<String>, String)>, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROXY_AUTHORIZATION, value.parse().unwrap());
        }
        let text = |token: Token| String::from_utf8(token.secret.to_vec()).unwrap();
        Ok(token(&headers)?.map(|token| (token.agent.as_ref().map(ToString::to_string), text(token))))
    }

    #[test]
    fn basic_and_bearer_are_read() {
        let token = |agent: Option<&str>| Ok(Some((agent.map(ToOwned::to_owned), "tok:en".to_owned())));
        assert_eq!(read(&["Basic Y29kZXI6dG9rOmVu"]), token(Some("coder")));
        assert_eq!(read(&["basic  Y29kZXI6dG9rOmVu "]), token(Some("coder")));
        assert_eq!(read(&["Basic OnRvazplbg=="]), token(None));
        assert_eq!(read(&["Bearer tok:en"]), token(None));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Basic Y29kZXI6"]), Ok(None), "a name alone");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for values in [
            &["Basic Y29kZXI6dG9rOmVu", "Basic Y29kZXI6dG9rOmVu"][..],
            &["Basic"],
            &["Basic !!!!"],
            &["Basic Y29kZXI"],
            &["Digest x=y"],
            &["Basic Y29kZXI6dG9rOmVu="],
        ] {
            assert_eq!(read(values), Err(Refusal::BadRequest), "{values:?}");
        }
        assert_eq!(read(&["Basic Li4vOnQ="]), Err(Refusal::AgentUnknown), "no agent is called so");
        assert_eq!(read(&[&format!("Bearer {}", "t".repeat(257))]), Err(Refusal::AgentUnknown), "no token is so long");
    }
}
