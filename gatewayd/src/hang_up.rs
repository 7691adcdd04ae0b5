//! Did the agent hang up, or has it only finished speaking?
//!
//! While a request is served nothing more is read from its connection, so nobody would notice an agent that left; an
//! answer nobody waits for would cost money upstream. But the end of an agent's bytes may also be a half-close, after
//! which it still reads (RFC 9112, 9.6 allows it). On agent.sock the kernel tells the two apart. Over TCP it does not;
//! for an agent on this machine the state of *its* socket does (sock_diag): one that no process holds any more has no
//! inode. For others the end counts as a hang-up, as other proxies take it.
//! It refuses to read or write the connection itself. Watched beside each connection by `serve`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use tokio::io::Interest;
use tokio::time::sleep;

use crate::connection::Connection;

/// Comes back when the agent has hung up in the middle of a request. Between requests hyper notices by itself.
pub async fn hang_up(connection: &Connection) {
    loop {
        let Ok(ready) = connection.ready(Interest::READABLE).await else { return };
        if ready.is_read_closed() && connection.is_busy() && has_left(connection).await {
            return;
        }
        // Bytes are hyper's to read, and a half-close stays readable: ask again, but not in a circle.
        sleep(PAUSE).await;
    }
}

async fn has_left(connection: &Connection) -> bool {
    let Ok(ready) = connection.ready(Interest::READABLE | Interest::WRITABLE).await else { return true };
    if ready.is_write_closed() {
        return true;
    }
    match connection.addresses() {
        None => false,
        Some((own, peer)) => !matches!(is_held(canonical(peer), canonical(own)), Ok(true)),
    }
}

/// An IPv4 agent on an IPv6 listener has an IPv4 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether a process still holds the socket whose own address is `own` and whose peer is `peer`.
///
/// # Errors
/// The kernel's; `NotFound` where there is no such socket on this machine.
fn is_held(own: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink: OwnedFd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &question(own, peer), MsgFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel answers within send, so there is nothing to wait for.
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let word =
        |at: usize| answer[..length].get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = word(4).map(|word| word.to_ne_bytes()).map(|[low, high, ..]| u16::from_ne_bytes([low, high]));
    match (kind, word(HEADER + INODE)) {
        (Some(SOCK_DIAG_BY_FAMILY), Some(inode)) => Ok(inode != 0),
        (Some(_), _) => Err(io::ErrorKind::NotFound.into()),
        (None, _) => Err(io::ErrorKind::InvalidData.into()),
    }
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

const PAUSE: Duration = Duration::from_millis(250);

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// Offset of `idiag_inode` in `struct inet_diag_msg`.
const INODE: usize = 68;

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_half_close_is_told_from_a_hang_up() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let agent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (own, peer) = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            assert!(is_held(peer, own).unwrap());
            agent.shutdown(Shutdown::Write).unwrap();
            assert!(is_held(peer, own).unwrap(), "half-closed");
            drop(agent);
            until("hung up", || !is_held(peer, own).unwrap_or(false));
        }
    }

    #[test]
    fn a_socket_of_another_machine_is_not_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_held("192.0.2.1:1".parse().unwrap(), address).is_err());
    }
}
