//! Is the request meant for this gateway, and does it come from a program rather than a web page?
//!
//! A page that rebinds its own name to 127.0.0.1 sends its own name as Host; a page that calls localhost sends Origin.
//! Both must find nothing (DNS rebinding). It refuses every Host but the address that was connected to, on loopback its
//! other addresses, and `localhost`: whoever forwards a port of theirs to us calls us so, and no page has that name but
//! one of their own machine. Called by [`super::read`].

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::{HeaderMap, Version, header};
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};

/// Checks the host of a request that came in at `address`.
///
/// # Errors
/// [`Refusal::AuthorityMismatch`].
pub fn check(head: &Parts, address: SocketAddr) -> Result<(), Refusal> {
    let fields: Vec<_> = head.headers.get_all(header::HOST).iter().map(|value| value.to_str().ok()).collect();
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (head.version, authority, fields.as_slice()) {
        (Version::HTTP_2, Some(authority), []) => Some(authority),
        (Version::HTTP_2, Some(authority), [Some(host)]) if authority == *host => Some(authority),
        (Version::HTTP_2, Some(_), _) => None,
        (_, _, [host]) => *host,
        _ => None,
    };
    if host.is_some_and(|host| is_own(host, address)) { Ok(()) } else { Err(Refusal::AuthorityMismatch) }
}

/// Whether a request in absolute form names this gateway itself: a client that was told to use a proxy for everything.
#[must_use]
pub fn is_named_in_full(head: &Parts, address: SocketAddr) -> bool {
    let is_http = head.uri.scheme_str() == Some("http");
    is_http && head.uri.authority().is_some_and(|authority| is_own(authority.as_str(), address))
}

/// Checks that no browser sent the request for a page.
///
/// # Errors
/// [`Refusal::AuthorityMismatch`].
pub fn check_browser(headers: &HeaderMap) -> Result<(), Refusal> {
    let same_site = |value: &header::HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
    let from_a_page = headers.contains_key(header::ORIGIN) || !headers.get_all("sec-fetch-site").iter().all(same_site);
    if from_a_page { Err(Refusal::AuthorityMismatch) } else { Ok(()) }
}

fn is_own(host: &str, address: SocketAddr) -> bool {
    // In a Host field a missing port is 80, while an authority of ours without one means 443.
    let has_port = host.rsplit_once(']').map_or(host, |(_, tail)| tail).contains(':');
    let parsed = if has_port {
        host.parse::<Authority>().map(|authority| (authority.host().clone(), authority.port()))
    } else {
        host.parse::<Host>().map(|host| (host, 80))
    };
    let Ok((host, port)) = parsed else { return false };
    // No page has this name and that port, so one without a port is a program's that leaves it out.
    let is_bare = !has_port && matches!(&host, Host::Name(name) if name == "localhost");
    (is_bare || port == address.port()) && is_own_name(&host, address.ip().to_canonical())
}

fn is_own_name(host: &Host, own: IpAddr) -> bool {
    match (host, host.address()) {
        (_, Some(named)) if named == own => true,
        (_, Some(named)) => {
            own.is_loopback() && (named == IpAddr::from([127, 0, 0, 1]) || named.is_ipv6() && named.is_loopback())
        }
        (Host::Name(name), None) => name == "localhost",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn takes(address: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get("/");
        for host in hosts {
            request = request.header("host", *host);
        }
        check(&request.body(()).unwrap().into_parts().0, address.parse().unwrap()).is_ok()
    }

    #[test]
    fn our_own_names_are_taken() {
        for host in ["localhost:7777", "LOCALHOST:7777", "localhost.:7777", "127.0.0.1:7777", "[::1]:7777"] {
            assert!(takes("127.0.0.1:7777", &[host]), "{host}");
        }
        assert!(takes("127.0.0.1:80", &["localhost"]) && takes("127.0.0.1:7777", &["localhost"]));
        assert!(takes("192.0.2.7:7777", &["localhost"]) && takes("192.0.2.7:7777", &["localhost:7777"]));
        assert!(takes("[::1]:7777", &["127.0.0.1:7777"]));
        assert!(takes("[::ffff:127.0.0.1]:7777", &["localhost:7777"]));
        assert!(takes("192.0.2.7:7777", &["192.0.2.7:7777"]));
        assert!(takes("127.0.0.2:7777", &["127.0.0.2:7777"]));
    }

    #[test]
    fn every_other_host_is_refused() {
        for host in [
            "evil.example:7777",
            "localhost:7778",
            "127.0.0.1",
            "localhost:",
            "localhost.evil.example:7777",
            "user@localhost:7777",
            "127.1:7777",
            "2130706433:7777",
            "0x7f.0.0.1:7777",
            "0.0.0.0:7777",
            "[::]:7777",
            "",
            "localhost:7777 ",
            "localhost:07777",
            "127.0.0.2:7777",
            "[::ffff:127.0.0.1]:7777",
            "localhost:7777,evil",
        ] {
            assert!(!takes("127.0.0.1:7777", &[host]), "{host:?}");
        }
        assert!(!takes("192.0.2.7:7777", &["localhost:7778"]));
        assert!(!takes("192.0.2.7:7777", &["127.0.0.1:7777"]));
    }

    #[test]
    fn exactly_one_host_is_wanted() {
        assert!(!takes("127.0.0.1:7777", &[]));
        assert!(!takes("127.0.0.1:7777", &["localhost:7777", "localhost:7777"]));
    }

    #[test]
    fn http2_has_it_in_the_authority() {
        let takes = |authority: &str, host: Option<&str>| {
            let mut request = Request::get(format!("http://{authority}/")).version(Version::HTTP_2);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            check(&request.body(()).unwrap().into_parts().0, "127.0.0.1:7777".parse().unwrap()).is_ok()
        };
        assert!(takes("localhost:7777", None));
        assert!(takes("localhost:7777", Some("localhost:7777")));
        assert!(!takes("localhost:7777", Some("evil.example")));
        assert!(!takes("evil.example:7777", None));
        assert!(!takes("evil.example:7777", Some("localhost:7777")));
        assert!(!takes("user@localhost:7777", None));
    }

    #[test]
    fn pages_are_refused_and_programs_are_not() {
        let takes = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            check_browser(&headers).is_ok()
        };
        assert!(check_browser(&HeaderMap::new()).is_ok());
        assert!(takes("sec-fetch-mode", "cors"));
        assert!(takes("sec-fetch-site", "none"));
        assert!(takes("sec-fetch-site", "same-origin"));
        for value in ["cross-site", "same-site", "", "None"] {
            assert!(!takes("sec-fetch-site", value), "{value}");
        }
        for value in ["null", "http://localhost:7777", ""] {
            assert!(!takes("origin", value), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_host_panics(host in any::<String>()) {
            let _ = is_own(&host, "127.0.0.1:7777".parse().unwrap());
        }
    }
}
