//! Whose socket is at the other end of a TCP connection of this machine (sock_diag(7), NETLINK_SOCK_DIAG).
//!
//! Asked for exactly one socket: the one whose own address is our peer's and whose peer is we. A socket that no process
//! holds any more is reported with inode 0 and user 0, whoever made it: that is nobody, and never root. A peer of
//! another machine or network namespace is not found. It refuses to walk through tables.
//! Asked at accept, before a byte is read, and when an agent may have hung up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A socket of a process on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Who made it.
    pub uid: u32,
    /// Whether a process still holds it.
    pub is_held: bool,
}

impl Peer {
    /// Whose it is, where that can be said: not of a socket that nobody holds, and not of a user that this namespace has
    /// no number for.
    #[must_use]
    pub fn user(self) -> Option<u32> {
        (self.is_held && self.uid != OVERFLOW_UID).then_some(self.uid)
    }
}

/// Looks at the socket whose own address is `own` and whose peer is `peer`.
///
/// # Errors
/// The kernel's; `NotFound` where there is no such socket on this machine.
pub fn look_up(own: SocketAddr, peer: SocketAddr) -> io::Result<Peer> {
    let (own, peer) = (canonical(own), canonical(peer));
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink: OwnedFd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &question(own, peer), MsgFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel answers within send, so there is nothing to wait for.
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let word =
        |at: usize| answer[..length].get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = word(4).map(|word| word.to_ne_bytes()).map(|[low, high, ..]| u16::from_ne_bytes([low, high]));
    match (kind, word(HEADER + UID), word(HEADER + INODE)) {
        (Some(SOCK_DIAG_BY_FAMILY), Some(uid), Some(inode)) => Ok(Peer { uid, is_held: inode != 0 }),
        (Some(_), ..) => Err(io::ErrorKind::NotFound.into()),
        (None, ..) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// An IPv4 agent on an IPv6 listener has an IPv4 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for exactly one socket, in any state.
fn question(own: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    const LENGTH: u32 = 72;
    let mut message = Vec::with_capacity(72);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(1u32.to_ne_bytes()); // sequence
    message.extend(0u32.to_ne_bytes()); // to the kernel
    message.extend([if own.is_ipv4() { AF_INET } else { AF_INET6 }, IPPROTO_TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes()); // any state
    message.extend(own.port().to_be_bytes());
    message.extend(peer.port().to_be_bytes());
    for address in [own.ip(), peer.ip()] {
        let mut field = [0; 16];
        match address {
            IpAddr::V4(address) => field[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => field.copy_from_slice(&address.octets()),
        }
        message.extend(field);
    }
    message.extend(0u32.to_ne_bytes()); // any interface
    message.extend([0xff; 8]); // any cookie
    message
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Offset of `idiag_uid` in `struct inet_diag_msg`.
const UID: usize = 64;
/// Offset of `idiag_inode` in `struct inet_diag_msg`.
const INODE: usize = 68;
/// `/proc/sys/kernel/overflowuid`.
const OVERFLOW_UID: u32 = 65534;

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_half_close_is_told_from_a_hang_up_and_an_orphan_is_nobodys() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let agent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (own, peer) = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            let we = nix::unistd::geteuid().as_raw();
            assert_eq!(look_up(peer, own).unwrap(), Peer { uid: we, is_held: true });
            agent.shutdown(Shutdown::Write).unwrap();
            assert_eq!(look_up(peer, own).unwrap().user(), Some(we), "half-closed");
            drop(agent);
            until("hung up", || !look_up(peer, own).is_ok_and(|peer| peer.is_held));
            assert_eq!(look_up(peer, own).ok().and_then(Peer::user), None);
        }
    }

    #[test]
    fn nobody_is_the_user_without_a_number() {
        assert_eq!(Peer { uid: OVERFLOW_UID, is_held: true }.user(), None);
        assert_eq!(Peer { uid: 0, is_held: false }.user(), None);
        assert_eq!(Peer { uid: 0, is_held: true }.user(), Some(0));
    }

    #[test]
    fn a_socket_of_another_machine_is_not_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(look_up("192.0.2.1:1".parse().unwrap(), address).is_err());
    }
}
