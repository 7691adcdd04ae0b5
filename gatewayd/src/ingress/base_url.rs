//! The base-URL way in: `/ROUTE/rest?query` means `/rest?query` at the host that ROUTE stands for, and
//! `/@TOKEN/ROUTE/...` the same for an agent that has a token.
//!
//! The rest is passed on byte for byte; keyd brings the path into its one form. It refuses every target that does not
//! begin with a route's name; percent-encoded names are no names. Called by [`super::read`].

use http::Uri;
use http::uri::PathAndQuery;
use strongroom_protocol::{Name, Refusal};

use super::{Entry, own_paths};
use crate::visitor::Token;

/// Reads the path and query of a request.
///
/// # Errors
/// Why they lead nowhere.
pub fn read(target: &str) -> Result<Entry, Refusal> {
    let path = target.strip_prefix('/').ok_or(Refusal::BadRequest)?;
    let end = path.find(['/', '?']).unwrap_or(path.len());
    let (segment, rest) = path.split_at(end);
    if segment == RESERVED {
        return own_paths::read(rest);
    }
    if let Some(secret) = segment.strip_prefix('@') {
        let token = Token::new(None, secret.as_bytes())?;
        // No token in it, no route, and nothing reserved behind one but the agent's own.
        let behind =
            read(rest).map_err(|refusal| if rest.starts_with('/') { refusal } else { Refusal::HostNotAllowed })?;
        return match behind {
            Entry::Route { name, target, token: None } => Ok(Entry::Route { name, target, token: Some(token) }),
            Entry::Environment(query) => Ok(Entry::Environment(query.with_token(token))),
            _ => Err(Refusal::HostNotAllowed),
        };
    }
    let name: Name = segment.parse().map_err(|_| Refusal::HostNotAllowed)?;
    let origin = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let target = PathAndQuery::try_from(origin).map_err(|_| Refusal::BadRequest)?;
    Ok(Entry::Route { name, target: Uri::from(target), token: None })
}

/// First segment of the gateway's own paths; no [`Name`] begins with a dot.
const RESERVED: &str = ".strongroom";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(target: &str) -> Option<(String, String)> {
        match read(target) {
            Ok(Entry::Route { name, target, token: None }) => Some((name.to_string(), target.to_string())),
            _ => None,
        }
    }

    #[test]
    fn the_rest_is_passed_on_as_it_is() {
        for (target, name, rest) in [
            ("/openai/v1/models", "openai", "/v1/models"),
            ("/openai/v1?a=b&c", "openai", "/v1?a=b&c"),
            ("/openai", "openai", "/"),
            ("/openai/", "openai", "/"),
            ("/openai?x=/y", "openai", "/?x=/y"),
            ("/openai//v1/../%2e%2E/a;b", "openai", "//v1/../%2e%2E/a;b"),
            ("/openai/.strongroom/health", "openai", "/.strongroom/health"),
            ("/a.b_c-1/@x", "a.b_c-1", "/@x"),
        ] {
            assert_eq!(route(target), Some((name.to_owned(), rest.to_owned())), "{target}");
        }
    }

    #[test]
    fn reserved_paths_are_not_routes() {
        assert!(matches!(read("/.strongroom/health"), Ok(Entry::Health)));
        assert!(matches!(read("/.strongroom/health?probe"), Ok(Entry::Health)));
        for target in
            ["/.strongroom", "/.strongroom/", "/.strongroom/healthy", "/.strongroom/health/x", "/.strongroom/status"]
        {
            assert_eq!(read(target).err(), Some(Refusal::HostNotAllowed), "{target}");
        }
    }

    #[test]
    fn a_token_stands_before_a_route_and_goes_no_further() {
        for (text, secret, rest) in [("/@tok/openai/v1?x", "tok", "/v1?x"), ("/@/openai", "", "/")] {
            let Ok(Entry::Route { name, target, token: Some(token) }) = read(text) else { panic!("{text}") };
            assert_eq!(
                (name.as_str(), target.to_string().as_str(), &*token.secret),
                ("openai", rest, secret.as_bytes())
            );
        }
        for text in ["/@tok", "/@tok/", "/@tok/@other/openai", "/@tok/.strongroom/health", "/@tok?x"] {
            assert_eq!(read(text).err(), Some(Refusal::HostNotAllowed), "{text}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        assert_eq!(read("*").err(), Some(Refusal::BadRequest));
        assert_eq!(read("").err(), Some(Refusal::BadRequest));
        for target in
            ["/", "//openai", "/%6fpenai/v1", "/../openai", "/.openai/", "/open ai", "/?q", "/.Strongroom/health"]
        {
            assert_eq!(read(target).err(), Some(Refusal::HostNotAllowed), "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_target_panics(target in any::<String>()) {
            let _ = read(&target);
        }

        #[test]
        fn every_valid_target_below_a_route_keeps_its_bytes(rest in "(/[!-\"$-~]{0,12}){1,4}") {
            if PathAndQuery::try_from(rest.clone()).is_ok_and(|target| target.as_str() == rest) {
                prop_assert_eq!(route(&format!("/openai{rest}")), Some(("openai".to_owned(), rest)));
            }
        }
    }
}
