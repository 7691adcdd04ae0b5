//! Which addresses may be dialled: plain functions over tables, without I/O.
//!
//! A name that an agent cannot choose still resolves to what its zone says, so a hostile or mistaken zone must not
//! lead the gateway to the machine itself, its network or a cloud's metadata service. Everything that is not plainly a
//! public unicast address is refused; an IPv6 address that carries an IPv4 address is judged by that one too.
//! Called by the dialler, for each address that it is about to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Network;

/// Whether an address may be dialled. `allowed` is the operator's list of exceptions.
#[must_use]
pub fn may_dial(address: IpAddr, allowed: &[Network]) -> bool {
    is_public(judged(address)) || is_listed(address, allowed)
}

/// Whether the operator's list has it.
#[must_use]
pub fn is_listed(address: IpAddr, allowed: &[Network]) -> bool {
    let listed = |address| allowed.iter().any(|network| network.contains(address));
    listed(judged(address)) || listed(address)
}

fn judged(address: IpAddr) -> IpAddr {
    embedded(address).map_or(address, IpAddr::V4)
}

fn is_public(address: IpAddr) -> bool {
    let inside = |network: &&Network| network.contains(address);
    match address {
        IpAddr::V4(_) => FORBIDDEN_V4.iter().find(inside).is_none(),
        IpAddr::V6(_) => GLOBAL_UNICAST.contains(address) && FORBIDDEN_V6.iter().find(inside).is_none(),
    }
}

/// The IPv4 address that a gateway, a tunnel or the kernel would really reach.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let octets = address.octets();
    let v4 = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match address.segments() {
        // :: and ::1 are no IPv4 addresses, though they look like compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Compatible (RFC 4291, 2.5.5.1), mapped (2.5.5.2) and translated (RFC 2765) addresses.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(v4(12)),
        // NAT64, well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(v4(12)),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(v4(2)),
        _ => None,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Network {
    Network::new(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix)
}

const FORBIDDEN_V4: &[Network] = &[
    v4(0, 0, 0, 0, 8),        // this host, RFC 1122; Linux connects 0.0.0.0 to itself
    v4(10, 0, 0, 0, 8),       // private, RFC 1918
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT, RFC 6598; some clouds' metadata
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's wire server
    v4(169, 254, 0, 0, 16),   // link-local, RFC 3927; 169.254.169.254 is metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments, RFC 6890
    v4(192, 0, 2, 0, 24),     // documentation, RFC 5737
    v4(192, 88, 99, 0, 24),   // 6to4 relays, withdrawn by RFC 7526
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, and broadcast
];

/// What IANA has given out for public unicast; loopback, unique-local (fd00:ec2::254 is metadata), link-local,
/// site-local and multicast addresses lie outside.
const GLOBAL_UNICAST: Network = v6(0x2000, 0, 0, 3);

const FORBIDDEN_V6: &[Network] = &[
    v6(0x2001, 0, 0, 23),     // protocol assignments, Teredo among them
    v6(0x2001, 0xdb8, 0, 32), // documentation, RFC 3849
    v6(0x3fff, 0, 0, 20),     // documentation, RFC 9637
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|text| Network::try_from((*text).to_owned()).unwrap()).collect();
        may_dial(address.parse().unwrap(), &allowed)
    }

    #[test]
    fn public_addresses_are_dialled() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "104.18.6.192",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "223.255.255.255",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "2606:4700::6812:6c0",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "2003::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(judge(address, &[]), "{address}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "64:ff9b:1::a00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::",
        ] {
            assert!(!judge(address, &[]), "{address}");
        }
    }

    #[test]
    fn the_operators_exceptions_hold_for_the_embedded_forms_too_and_for_nothing_else() {
        assert!(judge("10.1.2.3", &["10.0.0.0/8"]));
        assert!(judge("::ffff:10.1.2.3", &["10.0.0.0/8"]));
        assert!(judge("fd12::1", &["192.168.0.0/16", "fd00::/8"]));
        assert!(!judge("10.1.2.3", &["192.168.0.0/16", "fd00::/8"]));
        assert!(!judge("127.0.0.1", &["10.0.0.0/8"]));
        assert!(!judge("fc00::1", &["fd00::/8"]));
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_address_itself(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let mapped = IpAddr::V6(address.to_ipv6_mapped());
            prop_assert_eq!(may_dial(mapped, &[]), may_dial(address.into(), &[]));
        }

        #[test]
        fn no_special_address_of_the_standard_library_is_dialled(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_loopback() || address.is_private() || address.is_link_local() || address.is_multicast()
                || address.is_broadcast() || address.is_documentation() || address.is_unspecified();
            prop_assert!(!special || !may_dial(address.into(), &[]));
        }
    }
}
