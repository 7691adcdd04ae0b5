//! The base-URL way in: `/ROUTE/rest?query` means `/rest?query` at the host that ROUTE stands for.
//!
//! The rest is passed on byte for byte; keyd brings the path into its one form. It refuses every target that does not
//! begin with a route's name; percent-encoded names are no names. Called by [`super::read`].

use http::Uri;
use http::uri::PathAndQuery;
use strongroom_protocol::{Name, Refusal};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `/.strongroom/health`.
    Health,
    /// Something at the host of a route.
    Route {
        /// Its name; whether there is one of that name is not known here.
        name: Name,
        /// The target for the upstream, in origin form.
        target: Uri,
    },
}

/// Reads the path and query of a request.
///
/// # Errors
/// Why they lead nowhere.
pub fn read(target: &str) -> Result<Entry, Refusal> {
    let path = target.strip_prefix('/').ok_or(Refusal::BadRequest)?;
    let end = path.find(['/', '?']).unwrap_or(path.len());
    let (segment, rest) = path.split_at(end);
    if segment == RESERVED {
        let is_health = rest == "/health" || rest.starts_with("/health?");
        return if is_health { Ok(Entry::Health) } else { Err(Refusal::HostNotAllowed) };
    }
    // A token names its agent; none is known here.
    if segment.starts_with('@') {
        return Err(Refusal::AgentUnknown);
    }
    let name: Name = segment.parse().map_err(|_| Refusal::HostNotAllowed)?;
    let origin = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let target = PathAndQuery::try_from(origin).map_err(|_| Refusal::BadRequest)?;
    Ok(Entry::Route { name, target: Uri::from(target) })
}

/// First segment of the gateway's own paths; no [`Name`] begins with a dot.
const RESERVED: &str = ".strongroom";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(target: &str) -> Option<(String, String)> {
        match read(target) {
            Ok(Entry::Route { name, target }) => Some((name.to_string(), target.to_string())),
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
        assert_eq!(read("/.strongroom/health"), Ok(Entry::Health));
        assert_eq!(read("/.strongroom/health?probe"), Ok(Entry::Health));
        for target in
            ["/.strongroom", "/.strongroom/", "/.strongroom/healthy", "/.strongroom/health/x", "/.strongroom/status"]
        {
            assert_eq!(read(target), Err(Refusal::HostNotAllowed), "{target}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        assert_eq!(read("/@token/openai/v1"), Err(Refusal::AgentUnknown));
        assert_eq!(read("*"), Err(Refusal::BadRequest));
        assert_eq!(read(""), Err(Refusal::BadRequest));
        for target in
            ["/", "//openai", "/%6fpenai/v1", "/../openai", "/.openai/", "/open ai", "/?q", "/.Strongroom/health"]
        {
            assert_eq!(read(target), Err(Refusal::HostNotAllowed), "{target}");
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
