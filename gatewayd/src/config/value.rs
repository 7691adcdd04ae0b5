//! Values of `gatewayd.toml` that are more than a number or a text: parsed once, so that no later code checks them.
//!
//! It refuses what is out of range, with the range in the words. Called by serde while the file is read.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

/// A number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Count<const MIN: usize, const MAX: usize>(pub(super) usize);

impl<const MIN: usize, const MAX: usize> Count<MIN, MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }

    /// The number, or this one where it is lower; never below the least.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self(self.0.min(most.max(MIN)))
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<i64> for Count<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match usize::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{number} is out of range; write a number from {MIN} to {MAX}")),
        }
    }
}

/// A time in words, such as `"75s"` or `"1h 30m"`; never nothing, and never so long that adding it to now overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = humantime::parse_duration(&text)
            .map_err(|_| format!("\"{text}\" is no time; write one such as \"75s\", \"500ms\" or \"1h 30m\""))?;
        if (SHORTEST..=LONGEST).contains(&span) {
            Ok(Self(span))
        } else {
            Err(format!("\"{text}\" is out of range; write a time from 1ms to 30 days"))
        }
    }
}

/// Whether an authority is written with its port: behind the bracket of an IPv6 address, or anywhere in another host, a
/// colon begins one.
pub(super) fn has_port(text: &str) -> bool {
    text.rsplit_once(']').map_or(text, |(_, tail)| tail).contains(':')
}

/// Addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// A network that is written in the program.
    #[must_use]
    pub const fn new(base: IpAddr, prefix: u8) -> Self {
        Self { base, prefix }
    }

    /// Whether an address belongs to it. IPv4 and IPv6 are never mixed.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let apart = u32::from(base) ^ u32::from(address);
                apart.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let apart = u128::from(base) ^ u128::from(address);
                apart.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => (base, Some(prefix)),
            Some(_) => return None,
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
        // Bits below the prefix mean that something else was meant, such as one host.
        let host_bits = match base {
            IpAddr::V4(base) => u32::from(base).checked_shl(u32::from(prefix)).unwrap_or(0) != 0,
            IpAddr::V6(base) => u128::from(base).checked_shl(u32::from(prefix)).unwrap_or(0) != 0,
        };
        (prefix <= longest && !host_bits).then_some(Self { base, prefix })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
            .ok_or_else(|| format!("\"{text}\" is no network; write one such as \"10.0.0.0/8\" or \"fd00::/8\""))
    }
}

const SHORTEST: Duration = Duration::from_millis(1);

const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fc00::1"));
        assert!(holds("::/0", "::1") && holds("::1/128", "::1"));
        for text in ["", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/33", "::/129", "10.0.0.1/8", "10.0.0.0/8/8", "/8", "1/8"]
        {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }
}
