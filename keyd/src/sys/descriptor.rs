//! Descriptors that come from outside: inherited at start, or accepted; and what a descriptor is.
//!
//! This is where integers become owned descriptors. It refuses inherited numbers that are no sockets. It never blocks.
//!
//! Called by `listen.rs` at start and by the two servers for each connection.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::checked;
use super::closer::{Origin, PassedDescriptor};

/// Accepts one connection from a non-blocking listener; non-blocking and close-on-exec itself. The peer may have put
/// descriptors into its queue already, even a peer that is refused.
///
/// # Errors
/// The kernel's, `WouldBlock` where nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<PassedDescriptor> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers say that the peer's address is not wanted; nothing else is written.
    let number = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    // SAFETY: a descriptor that the kernel has just made for us; nobody else owns it.
    let connection = unsafe { OwnedFd::from_raw_fd(checked(number)?) };
    Ok(PassedDescriptor::new(connection, Origin::Door))
}

/// Registers a descriptor with the running runtime, to wait until it can be read or written.
///
/// # Errors
/// Where the kernel cannot watch it, as with a file.
pub fn watched<D: Kept>(descriptor: D) -> io::Result<AsyncFd<D>> {
    watched_for(descriptor, Interest::READABLE | Interest::WRITABLE).map_err(|(_, error)| error)
}

/// The same, for other events; gives the descriptor back where it cannot be watched.
pub(super) fn watched_for<D: Kept>(descriptor: D, interest: Interest) -> Result<AsyncFd<D>, (D, io::Error)> {
    // SAFETY: the descriptor must stay open, and its number the same, for as long as it is registered: what is Kept
    // keeps both until it is dropped, and the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(|error| error.into_parts())
}

/// Comes back when nothing can be read from the other end or written to it any more, or when that cannot be watched.
/// Who else reads from the socket is not disturbed: this looks at its state alone.
pub async fn hung_up(socket: PassedDescriptor) {
    // Of all events this is the rarest; a hang-up is told with every one.
    let Ok(socket) = watched_for(socket, Interest::PRIORITY) else { return };
    loop {
        match socket.ready(Interest::PRIORITY).await {
            Ok(ready) if ready.ready().is_read_closed() || ready.ready().is_error() => return,
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => return,
        }
        // Out-of-band bytes wake it too, and anybody may send them.
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(100);

/// What keeps its descriptor open, under the same number, until it is dropped. Only for the types in this folder.
pub trait Kept: AsRawFd {}
impl Kept for OwnedFd {}
impl Kept for PassedDescriptor {}

/// What a socket is, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketKind {
    /// `AF_UNIX`, `AF_INET`, `AF_INET6` ...
    pub domain: i32,
    /// `SOCK_STREAM`, `SOCK_SEQPACKET` ...
    pub kind: i32,
    /// `IPPROTO_TCP` ...; 0 for Unix sockets.
    pub protocol: i32,
    /// Whether it accepts connections.
    pub listening: bool,
    /// Whether it has a peer now.
    pub connected: bool,
    /// Whether the kernel speaks another protocol over it, such as TLS: its calls wait for more than the socket then.
    pub layered: bool,
}

impl SocketKind {
    /// TCP alone, over IPv4 or IPv6, that accepts nothing: what an upstream socket must be, connected or not any more.
    #[must_use]
    pub fn is_tcp_stream(&self) -> bool {
        matches!(self.domain, libc::AF_INET | libc::AF_INET6)
            && (self.kind, self.protocol) == (libc::SOCK_STREAM, libc::IPPROTO_TCP)
            && !self.listening
            && !self.layered
    }

    /// A connected Unix stream: what a channel's pair and an agent's socket must be.
    #[must_use]
    pub fn is_connected_unix_stream(&self) -> bool {
        (self.domain, self.kind) == (libc::AF_UNIX, libc::SOCK_STREAM) && self.connected
    }

    /// A listening Unix socket of this `kind`.
    #[must_use]
    pub fn is_unix_listener(&self, kind: i32) -> bool {
        (self.domain, self.kind) == (libc::AF_UNIX, kind) && self.listening
    }
}

/// Asks the kernel what a descriptor is. Of a family that nobody wants it asks no more than that: each has calls of its
/// own, and they may wait.
///
/// # Errors
/// `ENOTSOCK` where it is no socket.
pub fn socket_kind(socket: BorrowedFd<'_>) -> io::Result<SocketKind> {
    let domain = socket_option(socket, libc::SO_DOMAIN)?;
    let is_internet = matches!(domain, libc::AF_INET | libc::AF_INET6);
    Ok(SocketKind {
        domain,
        kind: socket_option(socket, libc::SO_TYPE)?,
        protocol: socket_option(socket, libc::SO_PROTOCOL)?,
        listening: socket_option(socket, libc::SO_ACCEPTCONN)? != 0,
        connected: (is_internet || domain == libc::AF_UNIX) && has_peer(socket)?,
        layered: is_internet && is_layered(socket),
    })
}

/// Whether another protocol was put above TCP (TCP_ULP); nothing has one that is no TCP.
pub(super) fn is_layered(socket: BorrowedFd<'_>) -> bool {
    let mut name = [0u8; 16];
    let mut length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes, the size of `name`, and the true length to `length`.
    let returned = unsafe {
        let start = name.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, start, &raw mut length)
    };
    returned == 0 && length > 0
}

/// An option of SOL_SOCKET that is an integer.
pub(super) fn socket_option(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes, the size of `value`, and the true length to `length`.
    let returned = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length)
    };
    checked(returned)?;
    Ok(value)
}

fn has_peer(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::uninit();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: getpeername writes at most `length` bytes, the size of `address`, which is never read here.
    let returned = unsafe { libc::getpeername(socket.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length) };
    match checked(returned) {
        Ok(_) => Ok(true),
        // A connection that was reset a moment ago reads as EINVAL: it has no peer any more either.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the sockets that the service manager or `strongroom up` left open for us, by the convention of
/// sd_listen_fds(3), each with its name; a socket without a name is called `unknown`. `variable` reads our
/// environment. `LISTEN_PID` may be missing (`up` cannot know it before it forks) but may not name another process.
/// The sockets can be taken once; call it before any other descriptor is opened and kept.
///
/// # Errors
/// Where a variable makes no sense, or an announced descriptor is no open socket.
pub fn inherited<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>) -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let Some(count) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    let refuse = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let number = |text: &OsStr| text.to_str().and_then(|text| text.parse::<u32>().ok());
    if let Some(pid) = variable("LISTEN_PID")
        && number(pid) != Some(std::process::id())
    {
        // Meant for another process, which passed its environment on: the descriptors are not ours.
        return Ok(Vec::new());
    }
    let count = number(count)
        .filter(|&count| count <= MOST_INHERITED)
        .ok_or_else(|| refuse(format!("LISTEN_FDS is {count:?}, which is no count from 0 to {MOST_INHERITED}")))?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(refuse("the inherited sockets were taken before".to_owned()));
    }
    let names = variable("LISTEN_FDNAMES").and_then(OsStr::to_str).unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut sockets = Vec::new();
    for number in (FIRST_INHERITED..).take(count as usize) {
        // SAFETY: fcntl with F_SETFD takes integers; a number that is not open gives EBADF.
        checked(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map_err(|error| {
            refuse(format!("descriptor {number} was announced by LISTEN_FDS and is not open: {error}"))
        })?;
        // SAFETY: it is open (the line above), whoever started us says that it is ours, and TAKEN makes this the only
        // place that ever takes it.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        sockets.push((names.next().unwrap_or("unknown").to_owned(), socket));
    }
    Ok(sockets)
}

/// By sd_listen_fds(3).
const FIRST_INHERITED: RawFd = 3;

/// More than this is a mistake; keyd has two.
const MOST_INHERITED: u32 = 16;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn packet_pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn sockets_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(listener.local_addr().unwrap()).unwrap();
        let unconnected = nix::sys::socket::socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            nix::sys::socket::SockProtocol::Tcp,
        );
        let unconnected = unconnected.unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        let (packets, _other) = packet_pair();
        let kind = |socket: BorrowedFd<'_>| socket_kind(socket).unwrap();
        assert!(kind(stream.as_fd()).is_tcp_stream());
        assert!(!kind(listener.as_fd()).is_tcp_stream());
        assert!(kind(listener.as_fd()).listening);
        assert!(kind(stream.as_fd()).connected && !kind(unconnected.as_fd()).connected);
        assert!(kind(unconnected.as_fd()).is_tcp_stream(), "as one that was reset");
        assert!(!kind(udp.as_fd()).is_tcp_stream());
        assert!(kind(unix.as_fd()).is_connected_unix_stream());
        assert!(!kind(unix.as_fd()).is_tcp_stream());
        assert!(!kind(packets.as_fd()).is_connected_unix_stream());
        // One that has the kernel itself as its peer.
        let flags = SockFlag::SOCK_CLOEXEC;
        let other = nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, flags, None).unwrap();
        assert!(has_peer(other.as_fd()).unwrap() && !kind(other.as_fd()).connected, "it is not even asked");
        assert!(!kind(stream.as_fd()).layered && !kind(unix.as_fd()).layered);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(socket_kind(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }

    /// Where the kernel has TLS to put above TCP.
    #[test]
    fn tcp_with_a_protocol_above_it_is_no_plain_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(socket_kind(stream.as_fd()).unwrap().is_tcp_stream());
        // SAFETY: setsockopt reads the three bytes.
        let set = unsafe {
            libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, b"tls".as_ptr().cast(), 3)
        };
        assert_eq!(socket_kind(stream.as_fd()).unwrap().is_tcp_stream(), set != 0);
    }

    #[test]
    fn without_announcement_nothing_is_inherited() {
        assert!(inherited(|_| None).unwrap().is_empty());
        let for_another = |name: &str| Some(OsStr::new(if name == "LISTEN_PID" { "1" } else { "2" }));
        assert!(inherited(for_another).unwrap().is_empty());
    }

    #[test]
    fn a_senseless_announcement_is_refused() {
        for count in ["-1", "x", "17", ""] {
            assert!(inherited(|name| (name == "LISTEN_FDS").then_some(OsStr::new(count))).is_err(), "{count:?}");
        }
    }
}
