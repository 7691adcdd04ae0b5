//! Descriptors that come from outside: inherited at start, accepted, or passed in a message (SCM_RIGHTS).
//!
//! This is where integers become owned descriptors. It refuses messages that were cut off, that bring more than two
//! descriptors or anything else beside them, and inherited numbers that are no sockets; whatever came with a refused
//! message is closed. It never blocks.
//!
//! Called by `listen.rs` at start and by the two servers for each message.

use std::ffi::OsStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_protocol::socket_passing::MOST_DESCRIPTORS;
use tokio::io::unix::AsyncFd;

use super::{checked, checked_length};

/// What one message on a SOCK_SEQPACKET socket brought.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of the buffer that were filled; 0 at the end of the connection.
    pub length: usize,
    /// What was passed beside them, in the sender's order; at most two.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one packet without blocking; passed descriptors are close-on-exec.
///
/// # Errors
/// The kernel's, `WouldBlock` among them; `InvalidData` where the packet is longer than the buffer, or has more or
/// other things beside it than [`MOST_DESCRIPTORS`] descriptors: these are closed and the packet is lost.
pub fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = ControlBuffer { bytes: [0; CONTROL_LENGTH] };
    // SAFETY: msghdr is plain data of the C library, for which all bits zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_LENGTH as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: recvmsg writes to the buffer that `part` describes, which is borrowed mutably for this call, and to
    // `control`, with the lengths that both truly have.
    let length = checked_length(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;

    // Own what came before anything is judged, so that every early return closes it.
    let (descriptors, only_rights) = passed_descriptors(&message);
    let whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    if whole && only_rights && descriptors.len() <= MOST_DESCRIPTORS {
        Ok(Packet { length, descriptors })
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut off or brought what it may not"))
    }
}

/// Takes ownership of the descriptors in a received message; false where there was anything else in it.
fn passed_descriptors(message: &libc::msghdr) -> (Vec<OwnedFd>, bool) {
    let mut descriptors = Vec::new();
    let mut only_rights = true;
    // SAFETY: CMSG_FIRSTHDR reads the control pointer and length, which the kernel has just written.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the CMSG functions return null or a header that lies whole within the control buffer, which is
        // aligned for it; cmsg_len is the kernel's.
        let (level, kind, length) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN and CMSG_DATA compute with the header only.
            let (start, data) = unsafe { (libc::CMSG_LEN(0) as usize, libc::CMSG_DATA(header)) };
            for index in 0..length.saturating_sub(start) / size_of::<RawFd>() {
                // SAFETY: the kernel filled cmsg_len bytes, so this whole integer lies within the buffer; it need not
                // be aligned. The number is a descriptor that this call has just made, owned by nobody else.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()) });
            }
        } else {
            only_rights = false;
        }
        // SAFETY: `header` is a valid header of this message, as CMSG_NXTHDR asks.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (descriptors, only_rights)
}

/// Accepts one connection from a non-blocking listener; non-blocking and close-on-exec itself.
///
/// # Errors
/// The kernel's, `WouldBlock` where nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers say that the peer's address is not wanted; nothing else is written.
    let number = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    // SAFETY: a descriptor that the kernel has just made for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(number)?) })
}

/// Registers a descriptor with the running runtime, to wait until it can be read or written.
///
/// # Errors
/// Where the kernel cannot watch it, as with a file.
pub fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open, and its number the same, for as long as it is registered: OwnedFd keeps
    // both until it is dropped, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

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
}

impl SocketKind {
    /// A TCP connection over IPv4 or IPv6: what an upstream socket must be.
    #[must_use]
    pub fn is_connected_tcp(&self) -> bool {
        matches!(self.domain, libc::AF_INET | libc::AF_INET6)
            && (self.kind, self.protocol) == (libc::SOCK_STREAM, libc::IPPROTO_TCP)
            && self.connected
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

/// Asks the kernel what a descriptor is.
///
/// # Errors
/// `ENOTSOCK` where it is no socket.
pub fn socket_kind(socket: BorrowedFd<'_>) -> io::Result<SocketKind> {
    Ok(SocketKind {
        domain: socket_option(socket, libc::SO_DOMAIN)?,
        kind: socket_option(socket, libc::SO_TYPE)?,
        protocol: socket_option(socket, libc::SO_PROTOCOL)?,
        listening: socket_option(socket, libc::SO_ACCEPTCONN)? != 0,
        connected: has_peer(socket)?,
    })
}

fn socket_option(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
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

/// Room for the header and two descriptors exactly, so that the kernel itself cuts off a third.
// SAFETY: CMSG_SPACE computes with its argument only.
const CONTROL_LENGTH: usize = unsafe { libc::CMSG_SPACE((MOST_DESCRIPTORS * size_of::<RawFd>()) as u32) } as usize;

/// The kernel writes `cmsghdr`s, which must be aligned.
#[repr(C)]
union ControlBuffer {
    bytes: [u8; CONTROL_LENGTH],
    _align: libc::cmsghdr,
}

/// By sd_listen_fds(3).
const FIRST_INHERITED: RawFd = 3;

/// More than this is a mistake; keyd has two.
const MOST_INHERITED: u32 = 16;

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
    use strongroom_protocol::socket_passing::send_packet;

    use super::*;

    fn packet_pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    /// Whether the other end of this stream was closed by everybody.
    fn is_hung_up(mut stream: &UnixStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_packet_brings_its_descriptors_in_order() {
        let (ours, theirs) = packet_pair();
        let (mut near, far) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::unbound().unwrap();
        send_packet(theirs.as_fd(), b"hello", &[far.as_fd(), datagram.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let packet = receive_packet(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..packet.length], b"hello");
        let [first, second] = <[OwnedFd; 2]>::try_from(packet.descriptors).unwrap();
        assert_eq!(socket_kind(second.as_fd()).unwrap().kind, libc::SOCK_DGRAM);
        drop(far);
        UnixStream::from(first).write_all(b"x").unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn passed_descriptors_are_close_on_exec() {
        let (ours, theirs) = packet_pair();
        send_packet(theirs.as_fd(), b"x", &[theirs.as_fd()]).unwrap();
        let packet = receive_packet(ours.as_fd(), &mut [0; 4]).unwrap();
        let flags = nix::fcntl::fcntl(&packet.descriptors[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }

    #[test]
    fn a_cut_off_packet_is_refused_and_what_it_brought_is_closed() {
        let (ours, theirs) = packet_pair();
        let (near, far) = UnixStream::pair().unwrap();
        send_packet(theirs.as_fd(), b"too long", &[far.as_fd()]).unwrap();
        drop(far);
        assert!(!is_hung_up(&near), "the descriptor lives in the message");
        let error = receive_packet(ours.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(is_hung_up(&near));
    }

    #[test]
    fn three_descriptors_are_refused_and_all_are_closed() {
        let (ours, theirs) = packet_pair();
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let (near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let raw: Vec<_> = far.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        drop(far);
        assert!(receive_packet(ours.as_fd(), &mut [0; 4]).is_err());
        assert!(near.iter().all(is_hung_up));
    }

    #[test]
    fn an_empty_socket_would_block_and_a_closed_one_ends() {
        let (ours, theirs) = packet_pair();
        assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap().length, 0);
    }

    #[test]
    fn sockets_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(listener.local_addr().unwrap()).unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        let (packets, _other) = packet_pair();
        let kind = |socket: BorrowedFd<'_>| socket_kind(socket).unwrap();
        assert!(kind(stream.as_fd()).is_connected_tcp());
        assert!(!kind(listener.as_fd()).is_connected_tcp());
        assert!(kind(listener.as_fd()).listening);
        assert!(!kind(udp.as_fd()).is_connected_tcp());
        assert!(kind(unix.as_fd()).is_connected_unix_stream());
        assert!(!kind(unix.as_fd()).is_connected_tcp());
        assert!(!kind(packets.as_fd()).is_connected_unix_stream());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(socket_kind(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
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
