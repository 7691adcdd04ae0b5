//! Host and port, parsed once: the only type that names a destination.
//!
//! Policy, SNI, Host, certificate name and dial are all derived from one value of this type, so two parsers can never
//! disagree about where a key goes. It refuses what parsers have disagreed about: userinfo, control characters, empty
//! labels, IP addresses in other spellings than the canonical one (`0x7f.1`, `127.1`, `010.0.0.1`, `[::FFFF:..]`),
//! zone identifiers, port 0. It folds case and one trailing dot.
//! Names are A-labels (RFC 5890); [`Authority::parse_unicode`] exists only with the feature `idna`, which keyd lacks.
//!
//! Called by all three programs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host and a port, in the one spelling that is ever sent, compared or dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority {
    host: Host,
    port: u16,
}

/// The host half: a DNS name in A-labels, or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Lower case, no trailing dot, 1 to 253 bytes.
    Name(String),
    /// From the dotted form only.
    V4(Ipv4Addr),
    /// From the bracketed RFC 5952 form only.
    V6(Ipv6Addr),
}

impl Authority {
    /// The port that is meant where none is written: https is all that we speak.
    pub const DEFAULT_PORT: u16 = 443;

    /// This host at this port, which is not 0.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        debug_assert_ne!(port, 0, "no port");
        Self { host, port }
    }

    /// The host half.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of a `Host` field for this authority: the port is left out where it is 443 (RFC 9110, 7.2).
    #[must_use]
    pub fn to_host_field(&self) -> String {
        if self.port == Self::DEFAULT_PORT { self.host.to_string() } else { self.to_string() }
    }

    /// Like [`str::parse`], with a name in any script turned into A-labels first (UTS 46, strict).
    ///
    /// # Errors
    /// What `parse` refuses, and names that UTS 46 refuses.
    #[cfg(feature = "idna")]
    pub fn parse_unicode(text: &str) -> Result<Self, InvalidAuthority> {
        if text.is_ascii() {
            return text.parse();
        }
        let (host, port) = split_port(text)?;
        let ascii = idna::domain_to_ascii_strict(host).map_err(|_| InvalidAuthority::Idna)?;
        Ok(Self { host: parse_host(&ascii)?, port })
    }
}

impl FromStr for Authority {
    type Err = InvalidAuthority;

    fn from_str(text: &str) -> Result<Self, InvalidAuthority> {
        if text.len() > LONGEST_TEXT {
            return Err(InvalidAuthority::TooLong);
        }
        let (host, port) = split_port(text)?;
        Ok(Self { host: parse_host(host)?, port })
    }
}

impl FromStr for Host {
    type Err = InvalidAuthority;

    fn from_str(text: &str) -> Result<Self, InvalidAuthority> {
        parse_host(text)
    }
}

impl Host {
    /// The address, where the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some((*address).into()),
            Self::V6(address) => Some((*address).into()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for Authority {
    type Error = InvalidAuthority;

    /// From the wire: only the canonical form is taken, so that equal bytes mean equal destinations.
    fn try_from(text: String) -> Result<Self, InvalidAuthority> {
        let authority: Self = text.parse()?;
        if authority.to_string() == text { Ok(authority) } else { Err(InvalidAuthority::NotCanonical) }
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.to_string()
    }
}

/// Why a text names no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAuthority {
    /// No host at all.
    Empty,
    /// Longer than any name with a port can be.
    TooLong,
    /// `user@host`: what stands before the `@` has no place in a destination.
    Userinfo,
    /// A control character, space, slash or other byte that no host name has.
    Character,
    /// Two dots in a row, a dot at the front, or a label over 63 bytes or with a hyphen at an end.
    Label,
    /// An address in a spelling that some parsers read in another way.
    IpSpelling,
    /// No number from 1 to 65535.
    Port,
    /// Not the spelling that this type writes; only a peer's bytes can be refused for this.
    NotCanonical,
    /// UTS 46 refuses the name.
    Idna,
    /// `https://host` or `host/path`, where a host is named.
    Url,
    /// A star in front of a single label: `*.com`.
    TooWide,
}

impl fmt::Display for InvalidAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::TooLong => "the host is longer than a DNS name can be",
            Self::Userinfo => "a host has no user name or password in front of it",
            Self::Character => {
                "the host has a character that no host name has; write it in letters, digits, '-' and '.'"
            }
            Self::Label => "the host has an empty or malformed label between its dots",
            Self::IpSpelling => {
                "the address is not in its usual spelling; write IPv4 as 192.0.2.1 and IPv6 as [2001:db8::1]"
            }
            Self::Port => "the port is not a number from 1 to 65535",
            Self::NotCanonical => "the destination is not in its canonical spelling",
            Self::Idna => "the host is not a valid internationalised name",
            Self::Url => "a host name is wanted, without 'https://' in front and without a path behind",
            Self::TooWide => "'*' in front of a single label would name everybody's hosts; name the hosts one by one",
        })
    }
}

impl std::error::Error for InvalidAuthority {}

fn split_port(text: &str) -> Result<(&str, u16), InvalidAuthority> {
    if text.contains('@') {
        return Err(InvalidAuthority::Userinfo);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']').ok_or(InvalidAuthority::IpSpelling)?;
            match &rest[end + 1..] {
                "" => (&text[..end + 2], None),
                tail => (&text[..end + 2], Some(tail.strip_prefix(':').ok_or(InvalidAuthority::Character)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    Ok((host, port.map_or(Ok(Authority::DEFAULT_PORT), parse_port)?))
}

fn parse_port(text: &str) -> Result<u16, InvalidAuthority> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if !digits {
        return Err(InvalidAuthority::Port);
    }
    text.parse().map_err(|_| InvalidAuthority::Port)
}

fn parse_host(text: &str) -> Result<Host, InvalidAuthority> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(InvalidAuthority::IpSpelling)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| InvalidAuthority::IpSpelling)?;
        // One address, one spelling; an embedded IPv4 address has to be written as one.
        if address.to_ipv4_mapped().is_some() || address.to_string() != inner.to_ascii_lowercase() {
            return Err(InvalidAuthority::IpSpelling);
        }
        return Ok(Host::V6(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(InvalidAuthority::Empty);
    }
    if name.len() > LONGEST_NAME {
        return Err(InvalidAuthority::TooLong);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        return Err(InvalidAuthority::Character);
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err(InvalidAuthority::Label);
        }
    }
    // A name whose last label is a number is an address to the URL standard ("ends in a number"), in decimal, octal
    // or hexadecimal. Only the dotted form, without leading zeros, is read as one here.
    let last = name.rsplit('.').next().expect("split yields at least one part");
    if looks_like_a_number(last) {
        return name.parse().map(Host::V4).map_err(|_| InvalidAuthority::IpSpelling);
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

fn looks_like_a_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// RFC 1035, 2.3.4, less the root's dot.
const LONGEST_NAME: usize = 253;

/// A name, its trailing dot, a colon and five digits.
const LONGEST_TEXT: usize = LONGEST_NAME + 1 + 1 + 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, InvalidAuthority> {
        text.parse::<Authority>().map(|authority| authority.to_string())
    }

    #[test]
    fn case_trailing_dot_and_default_port_are_normalised() {
        assert_eq!(parse("API.OpenAI.com."), Ok("api.openai.com:443".into()));
        assert_eq!(parse("api.openai.com:8443"), Ok("api.openai.com:8443".into()));
        assert_eq!(parse("192.0.2.1"), Ok("192.0.2.1:443".into()));
        assert_eq!(parse("[2001:DB8::1]:99"), Ok("[2001:db8::1]:99".into()));
        assert_eq!(parse("localhost:1"), Ok("localhost:1".into()));
    }

    #[test]
    fn the_host_field_omits_the_default_port() {
        let field = |text: &str| text.parse::<Authority>().expect("valid").to_host_field();
        assert_eq!(field("a.example:443"), "a.example");
        assert_eq!(field("a.example:8443"), "a.example:8443");
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        use InvalidAuthority::*;
        let cases = [
            ("", Empty),
            (".", Empty),
            ("user@a.example", Userinfo),
            ("a.example@evil.example", Userinfo),
            ("a..b", Label),
            (".a", Label),
            ("a.example..", Label),
            ("-a.b", Label),
            ("a-.b", Label),
            ("a b", Character),
            ("a\tb", Character),
            ("a\0", Character),
            ("a/b", Character),
            ("a\\b", Character),
            ("a%2eb", Character),
            ("bücher.example", Character),
            ("a?b", Character),
            ("a#b", Character),
            ("127.1", IpSpelling),
            ("0x7f.0.0.1", IpSpelling),
            ("0177.0.0.1", IpSpelling),
            ("2130706433", IpSpelling),
            ("127.0.0.01", IpSpelling),
            ("1.2.3.4.5", IpSpelling),
            ("0x7f000001", IpSpelling),
            ("256.1.1.1", IpSpelling),
            ("[::ffff:127.0.0.1]", IpSpelling),
            ("[0:0:0:0:0:0:0:1]", IpSpelling),
            ("[fe80::1%eth0]", IpSpelling),
            ("[::1", IpSpelling),
            ("a.0x1", IpSpelling),
            ("a:", Port),
            ("a:0", Port),
            ("a:65536", Port),
            ("a:+1", Port),
            ("a:08", Port),
            ("a:1:2", Port),
            ("::1", Port),
            ("[::1]x", Character),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<Authority>(), Err(reason), "{text:?}");
        }
        assert_eq!(format!("{}.example", "a".repeat(64)).parse::<Authority>(), Err(Label));
        assert_eq!("a.".repeat(140).parse::<Authority>(), Err(TooLong));
    }

    #[test]
    fn a_peer_may_send_only_the_canonical_form() {
        for text in ["API.example:443", "api.example", "api.example.:443"] {
            assert_eq!(Authority::try_from(text.to_owned()), Err(InvalidAuthority::NotCanonical));
        }
    }

    #[cfg(feature = "idna")]
    #[test]
    fn names_in_other_scripts_become_a_labels() {
        assert_eq!(
            Authority::parse_unicode("bücher.example:8443").map(|a| a.to_string()),
            Ok("xn--bcher-kva.example:8443".into())
        );
        assert_eq!(Authority::parse_unicode("a\u{2024}b.example"), Err(InvalidAuthority::Idna));
        // U+FF0E is a full stop to UTS 46: the result is still one canonical name, or nothing.
        assert!(
            Authority::parse_unicode("1２7．0．0．1").is_ok_and(|a| a.host().address().is_some())
                || Authority::parse_unicode("1２7．0．0．1").is_err()
        );
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_a_fixed_point(text in "\\PC{0,40}") {
            if let Ok(authority) = text.parse::<Authority>() {
                let written = authority.to_string();
                prop_assert_eq!(written.parse::<Authority>(), Ok(authority.clone()));
                prop_assert_eq!(Authority::try_from(written), Ok(authority));
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = text.parse::<Authority>();
        }
    }
}
