//! Requests that name their host in full: in absolute form to a proxy, and inside a tunnel whose TLS ends here.
//!
//! `http://` is upgraded: what goes upstream is always TLS. One name decides everything, so every place that could hold
//! another one is compared with it, and a difference is refused, never resolved. Called by [`super::read`].

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Uri, Version, header};
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};

use super::{Entry, Inside, proxy_auth};

/// A request in absolute form.
///
/// # Errors
/// `authority_mismatch` where Host names another host, `bad_request` for other schemes and spellings that could be read
/// in two ways.
pub fn for_a_proxy(head: &Parts) -> Result<Entry, Refusal> {
    let (named, default) = named(head)?;
    let hosts = hosts(head)?;
    // HTTP/1.0 has no Host; where there is one it has to agree.
    let agrees = hosts.iter().all(|host| parse(host, default).as_ref() == Some(&named));
    if !agrees || hosts.is_empty() && head.version > Version::HTTP_10 {
        return Err(Refusal::AuthorityMismatch);
    }
    Ok(Entry::Host {
        authority: upgraded(named, default),
        target: target(head)?,
        token: proxy_auth::token(&head.headers)?,
    })
}

/// The host of a request in absolute form, whatever else is wrong with it.
///
/// # Errors
/// `bad_request` for other schemes and spellings that could be read in two ways.
pub fn proxied_host(head: &Parts) -> Result<Authority, Refusal> {
    named(head).map(|(named, default)| upgraded(named, default))
}

/// What the target names, and the port of its scheme.
fn named(head: &Parts) -> Result<((Host, u16), u16), Refusal> {
    let named = head.uri.authority().ok_or(Refusal::BadRequest)?.as_str();
    let default = match head.uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(Refusal::BadRequest),
    };
    Ok((parse(named, default).ok_or(Refusal::BadRequest)?, default))
}

/// The port of plain HTTP means the one of TLS: nothing is ever sent in the clear.
fn upgraded((host, port): (Host, u16), default: u16) -> Authority {
    Authority::new(host, if (default, port) == (80, 80) { Authority::DEFAULT_PORT } else { port })
}

/// A request in a tunnel to one host.
///
/// # Errors
/// `authority_mismatch` where any of its names is another one, `bad_request` where it has no target.
pub fn inside(head: &Parts, inside: &Inside) -> Result<Entry, Refusal> {
    if let Some(refusal) = inside.refusal {
        return Err(refusal);
    }
    let wanted = (inside.authority.host().clone(), inside.authority.port());
    let is_it = |name: &str| parse(name, Authority::DEFAULT_PORT).as_ref() == Some(&wanted);
    let hosts = hosts(head)?;
    let named = head.uri.authority().map(http::uri::Authority::as_str);
    let scheme_fits = head.uri.scheme_str().is_none_or(|scheme| scheme == "https");
    let is_named = named.is_some() || !hosts.is_empty();
    if !scheme_fits || !is_named || !hosts.iter().all(|host| is_it(host)) || !named.is_none_or(is_it) {
        return Err(Refusal::AuthorityMismatch);
    }
    Ok(Entry::Host { authority: inside.authority.clone(), target: target(head)?, token: inside.token.clone() })
}

/// The Host fields: one at most.
fn hosts(head: &Parts) -> Result<Vec<&str>, Refusal> {
    let fields = head.headers.get_all(header::HOST).iter().map(|value| value.to_str());
    let hosts: Vec<&str> = fields.collect::<Result<_, _>>().map_err(|_| Refusal::AuthorityMismatch)?;
    if hosts.len() > 1 { Err(Refusal::BadRequest) } else { Ok(hosts) }
}

/// Host and port, where a missing port means this one. User names, odd spellings of addresses and the like are none.
pub fn parse(text: &str, default: u16) -> Option<(Host, u16)> {
    let has_port = text.rsplit_once(']').map_or(text, |(_, tail)| tail).contains(':');
    if has_port {
        text.parse::<Authority>().ok().map(|authority| (authority.host().clone(), authority.port()))
    } else {
        text.parse::<Host>().ok().map(|host| (host, default))
    }
}

fn target(head: &Parts) -> Result<Uri, Refusal> {
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let origin = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
    if !origin.starts_with('/') {
        return Err(Refusal::BadRequest);
    }
    PathAndQuery::try_from(origin).map(Uri::from).map_err(|_| Refusal::BadRequest)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::Request;

    use super::*;

    fn head(uri: &str, version: Version, hosts: &[&str]) -> Parts {
        let mut request = Request::get(uri).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn to(entry: Result<Entry, Refusal>) -> Result<(String, String), Refusal> {
        match entry? {
            Entry::Host { authority, target, .. } => Ok((authority.to_string(), target.to_string())),
            _ => panic!("a host"),
        }
    }

    #[test]
    fn plain_http_becomes_tls() {
        let case = |uri: &str, host: &str| to(for_a_proxy(&head(uri, Version::HTTP_11, &[host])));
        let at = |authority: &str, target: &str| Ok((authority.to_owned(), target.to_owned()));
        assert_eq!(case("http://api.example/v1?x=1", "api.example"), at("api.example:443", "/v1?x=1"));
        assert_eq!(case("http://API.example:80/", "api.example"), at("api.example:443", "/"));
        assert_eq!(case("http://api.example:8443", "api.example:8443"), at("api.example:8443", "/"));
        assert_eq!(case("https://api.example/v1", "api.example:443"), at("api.example:443", "/v1"));
        assert_eq!(
            case("https://api.example:80/", "api.example:80"),
            at("api.example:80", "/"),
            "a port that was asked for"
        );
        assert_eq!(case("http://api.example?x", "api.example"), at("api.example:443", "/?x"));
        let old = to(for_a_proxy(&head("http://api.example/", Version::HTTP_10, &[])));
        assert_eq!(old, at("api.example:443", "/"));
    }

    #[test]
    fn two_names_are_one_too_many() {
        let case = |uri: &str, hosts: &[&str]| to(for_a_proxy(&head(uri, Version::HTTP_11, hosts))).unwrap_err();
        for hosts in [&["evil.example"][..], &["api.example:8080"], &["user@api.example"], &[""], &[]] {
            assert_eq!(case("http://api.example/", hosts), Refusal::AuthorityMismatch, "{hosts:?}");
        }
        assert_eq!(case("http://api.example/", &["api.example", "api.example"]), Refusal::BadRequest);
        for uri in ["ftp://api.example/", "http://user@api.example/", "http://127.1/", "http://0x7f.0.0.1/"] {
            assert_eq!(case(uri, &["api.example"]), Refusal::BadRequest, "{uri}");
        }
    }

    #[test]
    fn inside_a_tunnel_only_its_own_host_is_named() {
        let tunnel = |authority: &str, refusal| {
            let (positions, token) = (Rc::default(), None);
            Inside { authority: authority.parse().unwrap(), positions, token, refusal }
        };
        let case = |uri: &str, version, hosts: &[&str]| {
            to(inside(&head(uri, version, hosts), &tunnel("api.example:443", None)))
        };
        let fine = Ok(("api.example:443".to_owned(), "/v1".to_owned()));
        assert_eq!(case("/v1", Version::HTTP_11, &["api.example"]), fine);
        assert_eq!(case("/v1", Version::HTTP_11, &["API.example:443"]), fine);
        assert_eq!(case("https://api.example/v1", Version::HTTP_2, &[]), fine);
        assert_eq!(case("https://api.example/v1", Version::HTTP_11, &["api.example"]), fine);
        for (uri, version, hosts) in [
            ("/v1", Version::HTTP_11, &["evil.example"][..]),
            ("/v1", Version::HTTP_11, &["api.example:8443"]),
            ("/v1", Version::HTTP_11, &[]),
            ("/v1", Version::HTTP_10, &[]),
            ("https://evil.example/v1", Version::HTTP_2, &[]),
            ("https://api.example/v1", Version::HTTP_2, &["evil.example"]),
            ("http://api.example/v1", Version::HTTP_2, &[]),
            ("https://evil.example/v1", Version::HTTP_11, &["api.example"]),
        ] {
            assert_eq!(case(uri, version, hosts), Err(Refusal::AuthorityMismatch), "{uri} {hosts:?}");
        }
        let head = head("/v1", Version::HTTP_11, &["api.example"]);
        let refusal = Some(Refusal::AuthorityMismatch);
        assert_eq!(to(inside(&head, &tunnel("api.example", refusal))), Err(Refusal::AuthorityMismatch));
    }
}
