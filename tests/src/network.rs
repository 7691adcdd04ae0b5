//! A network of a test's own, in which there is this machine alone: what would leave it finds no way.
//!
//! It belongs to the calling thread and to what that starts, so a test calls it first. It does nothing without root, where
//! the kernel does not allow it. Used by the tests of real clients, which know the providers by their real names.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::geteuid;

/// Leaves this thread, and what it starts, nothing but loopback.
///
/// # Panics
/// Where the kernel refuses.
pub fn cut_off() {
    if geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test runs as root");
        raise_loopback().expect("root of the namespace may");
    }
}

/// Makes an address this machine's own, in the namespace of [`cut_off`].
///
/// # Panics
/// Where the kernel refuses.
pub fn give(address: Ipv4Addr) {
    let given = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).expect("a small number"),
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes of plain numbers, and the family says how the second is read.
    let general = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(given) };
    set("lo:1", libc::SIOCSIFADDR, libc::__c_anonymous_ifr_ifru { ifru_addr: general })
        .expect("root of the namespace may");
}

/// A new namespace has it, but down.
fn raise_loopback() -> nix::Result<()> {
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("two of the low bits");
    set("lo", libc::SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags: up })
}

fn set(interface: &str, what: libc::Ioctl, value: libc::__c_anonymous_ifr_ifru) -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.as_bytes()) {
        *to = from.cast_signed();
    }
    let request = libc::ifreq { ifr_name: name, ifr_ifru: value };
    // SAFETY: these calls read an ifreq, whose name ends with a zero and whose value is set; both outlive the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const request) };
    Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    #[ignore = "needs root: a network namespace of its own"]
    fn loopback_is_there_and_nothing_else() {
        cut_off();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(TcpStream::connect(listener.local_addr().unwrap()).is_ok());
        let elsewhere = UdpSocket::bind("0.0.0.0:0").unwrap().connect("192.0.2.1:53");
        assert_eq!(elsewhere.unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    }
}
