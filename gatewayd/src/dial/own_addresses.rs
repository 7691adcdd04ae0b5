//! Is an address this machine's own? A public one is, to the tables of [`super::address_rules`], like any other.
//!
//! What listens here and takes connections from this machine alone would take ours. Asked for before connecting, so
//! that nobody learns which ports are open. It sends nothing, and cannot know what the network outside leads back here.
//! Called by the dialler, for each address that the tables allow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Whether an address is one of this machine's.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    is_given(address) || is_bound(address)
}

/// An interface has it.
fn is_given(address: IpAddr) -> bool {
    let Ok(interfaces) = getifaddrs() else { return false };
    interfaces.filter_map(|interface| ip(&interface.address?)).any(|own| own == address)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
}

/// No interface has it, and the kernel takes it for its own all the same, by a local route. Where it binds what is
/// nobody's (`ip_nonlocal_bind`) this says nothing.
fn is_bound(address: IpAddr) -> bool {
    let nobodys: IpAddr = if address.is_ipv4() { NOBODYS_V4.into() } else { NOBODYS_V6.into() };
    UdpSocket::bind((address, 0)).is_ok() && UdpSocket::bind((nobodys, 0)).is_err()
}

/// For documentation (RFC 5737 and 3849); the tables forbid both.
const NOBODYS_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODYS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_own_and_others_are_not() {
        for own in ["127.0.0.1", "127.8.9.10", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.7", "1.1.1.1", "2606:4700::6812:6c0", "::ffff:8.8.8.8"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn what_an_interface_has_is_own() {
        let given: Vec<_> = getifaddrs().unwrap().filter_map(|interface| ip(&interface.address?)).collect();
        assert!(given.iter().all(|&address| is_own(address)), "{given:?}");
    }
}
