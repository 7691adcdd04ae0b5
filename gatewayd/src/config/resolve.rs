//! The table `[resolve]`: names that are dialled where the operator says, like `curl --resolve`.
//!
//! It refuses names that no authority can have, and one name in two spellings. Asked by the dialler.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use strongroom_protocol::Authority;
use strongroom_protocol::authority::Host;

use super::value::has_port;

/// The whole table.
#[derive(Debug, Clone, Default)]
pub struct Resolve(BTreeMap<ResolveName, ResolveAddress>);

impl Resolve {
    /// Where this authority is dialled, if the table says so. `HOST:PORT` comes before `HOST`.
    #[must_use]
    pub fn address(&self, authority: &Authority) -> Option<SocketAddr> {
        let exact = ResolveName { host: authority.host().clone(), port: Some(authority.port()) };
        let every_port = ResolveName { port: None, ..exact.clone() };
        let address = self.0.get(&exact).or_else(|| self.0.get(&every_port))?;
        Some(SocketAddr::new(address.ip, address.port.unwrap_or(authority.port())))
    }
}

impl<'de> Deserialize<'de> for Resolve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Lines)
    }
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = Resolve;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of names and addresses")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resolve, A::Error> {
        let mut lines = BTreeMap::new();
        while let Some((name, address)) = map.next_entry::<ResolveName, ResolveAddress>()? {
            let written = name.to_string();
            if lines.insert(name, address).is_some() {
                return Err(A::Error::custom(format!("{written} stands twice, in two spellings; keep one")));
            }
        }
        Ok(Resolve(lines))
    }
}

/// The left side of a line in `[resolve]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
struct ResolveName {
    host: Host,
    /// One port, or every port.
    port: Option<u16>,
}

impl TryFrom<String> for ResolveName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let authority = Authority::parse_unicode(&text).map_err(|error| error.to_string())?;
        Ok(Self { host: authority.host().clone(), port: has_port(&text).then(|| authority.port()) })
    }
}

impl fmt::Display for ResolveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// The right side of a line in `[resolve]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
struct ResolveAddress {
    ip: IpAddr,
    /// At this port, or at the one that was asked for.
    port: Option<u16>,
}

impl TryFrom<String> for ResolveAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                Err(format!("\"{text}\" has the port 0; write a port from 1 to 65535"))
            }
            Ok(address) => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            Err(_) => {
                Err(format!("\"{text}\" is no IP address; write one such as \"127.0.0.1\" or \"127.0.0.1:8443\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_resolve_is_seen() {
        let port = |text: &str| ResolveName::try_from(text.to_owned()).unwrap().port;
        assert_eq!(port("a.example"), None);
        assert_eq!(port("a.example:443"), Some(443));
        assert_eq!(port("[2001:db8::1]"), None);
        assert_eq!(port("[2001:db8::1]:8"), Some(8));
        assert_eq!(port("b\u{fc}cher.example:9"), Some(9));
    }
}
