//! Where a credential may go: an authority, or one label in front of one.
//!
//! `*.example.com` stands for exactly one label, as in certificates (RFC 9525, 6.3). It refuses a bare `*`, a star
//! anywhere but in front, and a rest of a single label; whether the rest is a public suffix is ctl's to check, which
//! has the list. Called by ctl (to parse) and keyd (to match).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Host, InvalidAuthority};

/// An authority, or a wildcard for its first label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum HostPattern {
    /// This host at this port.
    Exact(Authority),
    /// One label, a dot, then this host, at this port.
    OneLabelBefore(Authority),
}

impl HostPattern {
    /// Whether the pattern names this authority.
    #[must_use]
    pub fn matches(&self, authority: &Authority) -> bool {
        match self {
            Self::Exact(exact) => exact == authority,
            Self::OneLabelBefore(rest) => {
                let (Host::Name(rest_name), Host::Name(name)) = (rest.host(), authority.host()) else { return false };
                rest.port() == authority.port()
                    && name.split_once('.').is_some_and(|(label, tail)| !label.is_empty() && tail == rest_name)
            }
        }
    }

    /// The authority, where the pattern is one.
    #[must_use]
    pub fn exact(&self) -> Option<&Authority> {
        match self {
            Self::Exact(authority) => Some(authority),
            Self::OneLabelBefore(_) => None,
        }
    }

    /// Like [`str::parse`], with names in any script taken.
    ///
    /// # Errors
    /// As `parse`.
    #[cfg(feature = "idna")]
    pub fn parse_unicode(text: &str) -> Result<Self, InvalidAuthority> {
        parse_with(text, Authority::parse_unicode)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidAuthority;

    fn from_str(text: &str) -> Result<Self, InvalidAuthority> {
        parse_with(text, str::parse)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(authority) => f.write_str(&authority.to_host_field()),
            Self::OneLabelBefore(rest) => write!(f, "*.{}", rest.to_host_field()),
        }
    }
}

fn parse_with(
    text: &str,
    parse: fn(&str) -> Result<Authority, InvalidAuthority>,
) -> Result<HostPattern, InvalidAuthority> {
    // What people paste from a page: the slash would else be looked for in the port.
    if text.contains('/') {
        return Err(InvalidAuthority::Url);
    }
    let Some(rest) = text.strip_prefix("*.") else { return parse(text).map(HostPattern::Exact) };
    let rest = parse(rest)?;
    match rest.host() {
        Host::Name(name) if name.contains('.') => Ok(HostPattern::OneLabelBefore(rest)),
        Host::Name(_) => Err(InvalidAuthority::TooWide),
        _ => Err(InvalidAuthority::Label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().expect("a pattern")
    }

    fn authority(text: &str) -> Authority {
        text.parse().expect("an authority")
    }

    #[test]
    fn a_star_stands_for_exactly_one_label() {
        let pattern = pattern("*.example.com");
        assert!(pattern.matches(&authority("a.example.com")));
        for other in ["example.com", "a.b.example.com", "a.example.com:8443", "aexample.com", "a.example.org"] {
            assert!(!pattern.matches(&authority(other)), "{other}");
        }
    }

    #[test]
    fn an_exact_pattern_matches_itself_alone() {
        assert!(pattern("a.example").matches(&authority("A.example.:443")));
        assert!(!pattern("a.example").matches(&authority("a.example:8443")));
    }

    #[test]
    fn stars_elsewhere_are_refused() {
        for text in ["*", "*.", "*.com", "a.*.com", "*.*.com", "*.192.0.2.1", "**.example.com"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_people_write_in_place_of_a_host_is_told_apart() {
        for text in ["https://a.example", "https://a.example/", "a.example/v1", "a.example:443/", "*.a.example/v1"] {
            assert_eq!(text.parse::<HostPattern>(), Err(InvalidAuthority::Url), "{text}");
        }
        for text in ["*.com", "*.localhost:8443"] {
            assert_eq!(text.parse::<HostPattern>(), Err(InvalidAuthority::TooWide), "{text}");
        }
        for text in ["*.192.0.2.1", "*.a..example"] {
            assert_eq!(text.parse::<HostPattern>(), Err(InvalidAuthority::Label), "{text}");
        }
    }
}
