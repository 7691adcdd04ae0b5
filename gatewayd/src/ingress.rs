//! From an agent's request head to what it asks for: plain functions, no I/O.
//!
//! It refuses what is malformed, too large, from a web page or meant for another host. Whether the agent may do what
//! it asks for is keyd's to say. Called by the service, first thing for each request.

pub mod base_url;
pub mod fields;
pub mod full_name;
pub mod own_host;
pub mod own_paths;
pub mod proxy_auth;

use std::net::SocketAddr;
use std::rc::Rc;

use http::request::Parts;
use http::{Method, Uri, Version};
use strongroom_protocol::{Authority, Name, Refusal};

use crate::config::Limits;
use crate::key_client::Positions;
use crate::visitor::Token;

/// Where a request came in.
#[derive(Clone)]
pub enum Door {
    /// Over TCP, on this address of ours.
    Tcp(SocketAddr),
    /// Over agent.sock: no web page reaches it, and Host says nothing, nor do a page's fields.
    Unix,
    /// In a tunnel whose TLS ends here.
    Inside(Rc<Inside>),
}

/// A tunnel whose TLS ends here: everything in it is for one host.
pub struct Inside {
    /// The host of the CONNECT.
    pub authority: Authority,
    /// Where placeholders may stand there.
    pub positions: Rc<Positions>,
    /// What the CONNECT proved its agent with.
    pub token: Option<Token>,
    /// Why nothing in it is answered: another name in the handshake, or no handshake at all.
    pub refusal: Option<Refusal>,
}

/// What a request asks for.
pub enum Entry {
    /// `/.strongroom/health`.
    Health,
    /// `/.strongroom/environment`.
    Environment(own_paths::Query),
    /// Something at the host of a route.
    Route {
        /// Its name; whether there is one of that name is not known here.
        name: Name,
        /// The target for the upstream, in origin form.
        target: Uri,
        /// What the agent proves itself with.
        token: Option<Token>,
    },
    /// Something at a host that is named in full.
    Host {
        /// Which.
        authority: Authority,
        /// The target for the upstream, in origin form.
        target: Uri,
        /// What the agent proves itself with.
        token: Option<Token>,
    },
}

/// Reads a request head as far as its destination.
///
/// # Errors
/// Why it is not taken.
pub fn read(head: &Parts, door: &Door, limits: &Limits) -> Result<Entry, Refusal> {
    fields::check_size(head, limits)?;
    match head.method {
        // The first request of a connection may be one, and is taken before it comes here.
        Method::CONNECT => return Err(Refusal::BadRequest),
        // It would echo a key back (RFC 9110, 9.3.8).
        Method::TRACE => return Err(Refusal::RequestNotAllowed),
        _ => {}
    }
    fields::check_framing(&head.headers)?;
    let address = match door {
        Door::Inside(inside) => return full_name::inside(head, inside),
        Door::Tcp(address) => Some(*address),
        Door::Unix => None,
    };
    let is_for_a_proxy = is_for_a_proxy(head);
    if is_for_a_proxy && !address.is_some_and(|address| own_host::is_named_in_full(head, address)) {
        return full_name::for_a_proxy(head);
    }
    if head.version < Version::HTTP_2 && !is_for_a_proxy && head.uri.scheme().is_some() {
        return Err(Refusal::BadRequest);
    }
    if let Some(address) = address {
        own_host::check(head, address)?;
        own_host::check_browser(&head.headers)?;
    }
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let entry = base_url::read(target)?;
    if is_for_a_proxy { with_a_proxys_token(entry, proxy_auth::token(&head.headers)?) } else { Ok(entry) }
}

/// Whether it is refused on TCP for what browsers send for pages, and for nothing else.
#[must_use]
pub fn is_a_pages(head: &Parts, door: &Door) -> bool {
    let Door::Tcp(address) = door else { return false };
    own_host::check(head, *address).is_ok() && own_host::check_browser(&head.headers).is_err()
}

/// The host of a request in absolute form, where that is not this gateway itself.
#[must_use]
pub fn proxied_host(head: &Parts, door: &Door) -> Option<Authority> {
    let is_own = match door {
        Door::Inside(_) => true,
        Door::Tcp(address) => own_host::is_named_in_full(head, *address),
        Door::Unix => false,
    };
    if is_own || !is_for_a_proxy(head) { None } else { full_name::proxied_host(head).ok() }
}

/// HTTP/2 has an authority with every request; in HTTP/1 one is a proxy's form.
fn is_for_a_proxy(head: &Parts) -> bool {
    head.version < Version::HTTP_2 && head.uri.authority().is_some()
}

/// A client that takes us for its proxy proves its agent so even where it asks for a route of ours.
fn with_a_proxys_token(entry: Entry, shown: Option<Token>) -> Result<Entry, Refusal> {
    match (entry, shown) {
        (Entry::Route { name, target, token: None }, shown) => Ok(Entry::Route { name, target, token: shown }),
        (Entry::Environment(query), Some(shown)) if query.token.is_none() => {
            Ok(Entry::Environment(query.with_token(shown)))
        }
        (
            Entry::Route { token: Some(token), .. } | Entry::Environment(own_paths::Query { token: Some(token), .. }),
            Some(shown),
        ) if token.secret != shown.secret => Err(Refusal::AgentMismatch),
        (entry, _) => Ok(entry),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read_request(request: http::request::Builder, door: Door) -> Result<Entry, Refusal> {
        read(&request.body(()).unwrap().into_parts().0, &door, &Limits::default())
    }

    fn tcp() -> Door {
        Door::Tcp("127.0.0.1:7777".parse().unwrap())
    }

    #[test]
    fn an_ordinary_request_is_read() {
        let request = || Request::post("/openai/v1/models?x=1").header("host", "localhost:7777");
        assert!(matches!(read_request(request(), tcp()), Ok(Entry::Route { .. })));
        assert!(matches!(read_request(Request::get("/openai/"), Door::Unix), Ok(Entry::Route { .. })));
        assert!(matches!(
            read_request(Request::builder().method("BREW").uri("/openai/"), Door::Unix),
            Ok(Entry::Route { .. })
        ));
    }

    #[test]
    fn health_too_is_for_our_own_host_alone() {
        let request = |host: &str| Request::get("/.strongroom/health").header("host", host);
        assert!(matches!(read_request(request("127.0.0.1:7777"), tcp()), Ok(Entry::Health)));
        assert_eq!(read_request(request("evil.example:7777"), tcp()).err().unwrap(), Refusal::AuthorityMismatch);
    }

    #[test]
    fn other_forms_and_methods_are_refused() {
        let case = |method: &str, uri: &str| {
            read_request(Request::builder().method(method).uri(uri), Door::Unix).err().unwrap()
        };
        assert_eq!(case("TRACE", "/openai/"), Refusal::RequestNotAllowed);
        assert_eq!(case("CONNECT", "api.example:443"), Refusal::BadRequest);
        assert_eq!(case("OPTIONS", "*"), Refusal::BadRequest);
    }

    #[test]
    fn the_host_of_a_proxys_request_is_known_though_it_is_refused() {
        let host = |uri: &str, door: Door| {
            let (head, ()) = Request::get(uri).header("host", "evil.example").body(()).unwrap().into_parts();
            assert_eq!(read(&head, &door, &Limits::default()).err(), Some(Refusal::AuthorityMismatch), "{uri}");
            proxied_host(&head, &door).map(|host| host.to_string())
        };
        for door in [tcp(), Door::Unix] {
            assert_eq!(host("http://api.example/v1", door).as_deref(), Some("api.example:443"));
        }
        assert_eq!(host("http://127.0.0.1:7777/openai/v1", tcp()), None, "our own");
        assert_eq!(host("/openai/v1", tcp()), None, "a base URL");
    }

    #[test]
    fn a_target_that_is_too_long_is_refused_and_the_longest_is_not() {
        let uri = |length: usize| format!("/openai/{}", "a".repeat(length - "/openai/".len()));
        assert!(read_request(Request::get(uri(16_384)), Door::Unix).is_ok());
        assert_eq!(read_request(Request::get(uri(16_385)), Door::Unix).err().unwrap(), Refusal::TooLarge);
    }
}
