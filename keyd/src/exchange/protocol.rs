//! Which HTTP version is offered to an upstream.
//!
//! HTTP/1.1 alone, unless a credential says `--http2`, or the upstream refused a handshake that offered no HTTP/2: then
//! both, and the upstream chooses. gRPC takes HTTP/2, so for it nothing else is offered. It refuses to believe gatewayd
//! in this: what is offered follows from the vault, from the request's Content-Type and from what keyd saw itself.
//! Called by `forward`, before a handshake.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use strongroom_protocol::{Authority, channel};

use crate::policy::live::Live;

/// What ALPN offers (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// `http/1.1`.
    Http1,
    /// `h2`, and `http/1.1` for those who do not know it.
    Both,
    /// `h2`.
    Http2,
}

impl Offer {
    /// For a connection whose first request is about to be made.
    #[must_use]
    pub fn of(live: &Live, credentials: &[u64], authority: &Authority, is_grpc: bool, want_http2: &Learnt) -> Self {
        let asks = |id: &u64| live.credential(*id).is_some_and(|credential| credential.http2);
        if is_grpc {
            Self::Http2
        } else if want_http2.has(authority) || credentials.iter().any(asks) {
            Self::Both
        } else {
            Self::Http1
        }
    }

    /// The names, in the order of preference.
    #[must_use]
    pub fn alpn(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http1 => &[HTTP1],
            Self::Both => &[HTTP2, HTTP1],
            Self::Http2 => &[HTTP2],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }

    /// Whether HTTP/2 is among it.
    #[must_use]
    pub fn has_http2(self) -> bool {
        self != Self::Http1
    }
}

/// Upstreams of which something was learnt by trying, and when. Whoever is on the way can make keyd believe it, so all that
/// may come of it is an offer, or one dial more.
#[derive(Default)]
pub struct Learnt(RefCell<HashMap<Authority, Instant>>);

impl Learnt {
    /// Whether it was learnt of this one.
    #[must_use]
    pub fn has(&self, authority: &Authority) -> bool {
        self.0.borrow().contains_key(authority)
    }

    /// Whether it was, and not longer ago.
    #[must_use]
    pub fn has_lately(&self, authority: &Authority, time: Duration) -> bool {
        self.0.borrow().get(authority).is_some_and(|learnt| learnt.elapsed() < time)
    }

    /// It is so of this one.
    pub fn learn(&self, authority: &Authority) {
        let mut known = self.0.borrow_mut();
        // Wildcards can name many hosts; who is forgotten costs one more dial.
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(authority.clone(), Instant::now());
    }

    /// It is not so of this one, or no more.
    pub fn forget_one(&self, authority: &Authority) {
        self.0.borrow_mut().remove(authority);
    }

    /// Forgets all: names of hosts are not kept while the vault is locked.
    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

/// Whether a request or an answer is gRPC's.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| channel::is_grpc(value.as_bytes()))
}

/// The name of HTTP/2 over TLS.
pub const HTTP2: &[u8] = b"h2";

const HTTP1: &[u8] = b"http/1.1";
const MOST_KNOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    #[test]
    fn http2_is_offered_to_those_who_want_it_and_for_grpc_alone_it_is() {
        let mut contents = fixture::contents();
        let plain = fixture::credential(&mut contents, "plain", "one.example", &[b"key"]);
        let asking = fixture::credential(&mut contents, "asking", "one.example", &[b"key"]);
        contents.credentials[1].http2 = true;
        let live = Live::new(contents);
        let (one, other) = ("one.example".parse().unwrap(), "other.example".parse().unwrap());
        let known = Learnt::default();
        known.learn(&one);
        let offer = |credentials: &[u64], authority, is_grpc| Offer::of(&live, credentials, authority, is_grpc, &known);
        assert_eq!(offer(&[plain], &other, false), Offer::Http1);
        assert_eq!(offer(&[asking], &other, false), Offer::Both);
        assert_eq!(offer(&[plain, asking], &other, false), Offer::Both);
        assert_eq!(offer(&[plain], &one, false), Offer::Both);
        for (credential, authority) in [(plain, &other), (plain, &one), (asking, &other)] {
            assert_eq!(offer(&[credential], authority, true), Offer::Http2);
        }
        assert_eq!(Offer::Both.alpn(), [HTTP2, HTTP1]);
    }

    #[test]
    fn what_is_known_of_upstreams_is_bounded_and_can_be_forgotten() {
        let known = Learnt::default();
        let authority = |number: usize| format!("h{number}.example").parse().unwrap();
        for number in 0..=MOST_KNOWN {
            assert!(!known.has(&authority(number)));
            known.learn(&authority(number));
            assert!(known.has(&authority(number)));
        }
        assert!(known.0.borrow().len() <= MOST_KNOWN);
        known.learn(&authority(0));
        known.forget_one(&authority(MOST_KNOWN));
        assert!(known.has(&authority(0)) && !known.has(&authority(MOST_KNOWN)));
        known.learn(&authority(MOST_KNOWN));
        known.forget();
        assert!(!known.has(&authority(MOST_KNOWN)));
    }
}
