//! The gateway's own paths, below `/.strongroom/`.
//!
//! `health` answers everybody; `environment` answers for the agent that its evidence, or a placeholder that it presents,
//! names. Nothing here can widen what an agent may do. It refuses every other path. Called by [`super::base_url`].

use base64ct::{Base64, Encoding};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use strongroom_protocol::{Name, Refusal, placeholder};

use super::Entry;
use crate::visitor::Token;

/// What `environment` is asked.
pub struct Query {
    /// Whose it should be; an error where it is another's.
    pub agent: Option<Name>,
    /// Number of the last grant of the page before.
    pub after: Option<u64>,
    /// What the agent proves itself with.
    pub token: Option<Token>,
}

impl Query {
    /// With what the agent proves itself with.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }
}

/// The placeholder that a request shows: what is in `Authorization`, the password where that is Basic; or the first field
/// that holds one.
#[must_use]
pub fn presented(headers: &HeaderMap) -> Option<String> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        let mut texts = headers.values().filter_map(|value| value.to_str().ok());
        return texts.find(|text| placeholder::tails(text).next().is_some()).map(|text| text.trim().to_owned());
    };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Some(rest.trim().to_owned());
    }
    let decoded = String::from_utf8(Base64::decode_vec(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Reads what follows the reserved segment.
///
/// # Errors
/// `host_not_allowed` for every path that there is not, `bad_request` for a query that makes no sense.
pub fn read(rest: &str) -> Result<Entry, Refusal> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    match path {
        "/health" => Ok(Entry::Health),
        "/environment" => {
            let (mut agent, mut after) = (None, None);
            for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                match name {
                    "agent" => agent = Some(value.parse().map_err(|_| Refusal::BadRequest)?),
                    "after" => after = Some(value.parse().map_err(|_| Refusal::BadRequest)?),
                    _ => {}
                }
            }
            Ok(Entry::Environment(Query { agent, after, token: None }))
        }
        _ => Err(Refusal::HostNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_shown_in_the_usual_places() {
        let one = format!("sk-{}{}", placeholder::MARK, "a".repeat(placeholder::TAIL));
        let shown = |fields: &[(&'static str, String)]| {
            let fields =
                fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            presented(&fields.collect())
        };
        let basic = |text: &str| format!("bAsic {}", Base64::encode_string(text.as_bytes()));
        for field in [
            ("authorization", format!("Bearer {one}")),
            ("authorization", format!("token {one}")),
            ("authorization", basic(&format!("x:{one}"))),
            ("x-api-key", one.clone()),
        ] {
            assert_eq!(shown(&[("accept", "*/*".to_owned()), field.clone()]).as_ref(), Some(&one), "{field:?}");
        }
        assert_eq!(shown(&[("authorization", basic("no colon")), ("x-api-key", one)]), None, "one of two");
        assert_eq!(shown(&[("x-api-key", "sk-strongroom-short".to_owned())]), None);
    }

    #[test]
    fn a_page_of_an_environment_is_asked_for() {
        let Ok(Entry::Environment(query)) = read("/environment?agent=coder&after=7") else { panic!("an environment") };
        assert_eq!((query.agent.unwrap().as_str(), query.after), ("coder", Some(7)));
        let Ok(Entry::Environment(query)) = read("/environment") else { panic!("an environment") };
        assert!(query.agent.is_none() && query.after.is_none());
        for bad in ["/environment?agent=../x", "/environment?after=x"] {
            assert_eq!(read(bad).err(), Some(Refusal::BadRequest), "{bad}");
        }
        assert_eq!(read("/environment/").err(), Some(Refusal::HostNotAllowed));
    }
}
