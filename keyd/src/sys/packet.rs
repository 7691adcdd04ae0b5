//! Messages with descriptors beside them (SCM_RIGHTS): gatewayd's packets, and streams where there may be none.
//!
//! It refuses packets that were cut off, and that bring more than two descriptors or anything else beside them;
//! whatever came with a refused message goes to [`super::closer`]. Room is made for all that the kernel can bring, for
//! what does not fit it closes at once, on the calling thread. It never blocks.
//!
//! Called by `gateway.rs` for each message, and by `passed_socket`.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use strongroom_protocol::socket_passing::MOST_DESCRIPTORS;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::checked_length;
use super::closer::{Account, Origin, PassedDescriptor};

/// What one message on a SOCK_SEQPACKET socket brought.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of the buffer that were filled; 0 at the end of the connection.
    pub length: usize,
    /// What was passed beside them, in the sender's order; at most two.
    pub descriptors: Vec<PassedDescriptor>,
}

/// Waits for one packet, and while too many descriptors that came by the same connection wait to be closed.
///
/// # Errors
/// The kernel's; `InvalidData` where the packet is longer than the buffer, or has more or other things beside it than
/// [`MOST_DESCRIPTORS`] descriptors: these are closed and the packet is lost; `TimedOut` where those that came before
/// are not closed in time, for then they were made not to be.
pub async fn next_packet(
    socket: &AsyncFd<PassedDescriptor>,
    account: &Account,
    buffer: &mut [u8],
) -> io::Result<Packet> {
    loop {
        let room = poll_fn(|context| account.poll_room(context));
        tokio::time::timeout(PATIENCE, room).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        match socket.async_io(Interest::READABLE, |socket| receive_packet(socket.as_fd(), account, buffer)).await {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            received => return received,
        }
    }
}

/// Receives one packet without blocking; passed descriptors are close-on-exec. The errors are those above, and
/// `ResourceBusy` where too many descriptors wait to be closed: nothing is received then.
fn receive_packet(socket: BorrowedFd<'_>, account: &Account, buffer: &mut [u8]) -> io::Result<Packet> {
    if !account.has_room() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: an initialised buffer may be seen as one that need not be, as long as nothing uninitialised is written
    // to it: recvmsg writes only bytes.
    let buffer = unsafe { &mut *(ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
    let received = receive(socket, &Origin::Gateway(Some(account.clone())), buffer)?;
    if received.whole && received.only_rights && received.descriptors.len() <= MOST_DESCRIPTORS {
        Ok(Packet { length: received.length, descriptors: received.descriptors })
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut off or brought what it may not"))
    }
}

/// Receives what a stream has, without blocking. Whatever was beside the bytes is closed, and the bytes are lost.
///
/// # Errors
/// The kernel's, `WouldBlock` among them; `InvalidData` where anything was beside the bytes.
pub(super) fn receive_bytes(socket: &PassedDescriptor, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let received = receive(socket.as_fd(), socket.origin(), buffer)?;
    if received.whole && received.only_rights && received.descriptors.is_empty() {
        Ok(received.length)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "something was passed on a stream that may bring only bytes"))
    }
}

struct Received {
    length: usize,
    /// Neither bytes nor control data were cut off.
    whole: bool,
    /// There was no control data of another kind than SCM_RIGHTS.
    only_rights: bool,
    descriptors: Vec<PassedDescriptor>,
}

fn receive(socket: BorrowedFd<'_>, origin: &Origin, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = MaybeUninit::<ControlBuffer>::uninit();
    // SAFETY: msghdr is plain data of the C library, for which all bits zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<ControlBuffer>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: recvmsg writes to the buffer that `part` describes, which is borrowed mutably for this call, and to
    // `control`, with the lengths that both truly have; it reads neither.
    let length = checked_length(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    // Own what came before anything is judged, so that every early return hands it over.
    let (descriptors, only_rights) = passed_descriptors(&message, origin);
    let whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    Ok(Received { length, whole, only_rights, descriptors })
}

/// Takes ownership of the descriptors in a received message; false where there was anything else in it.
fn passed_descriptors(message: &libc::msghdr, origin: &Origin) -> (Vec<PassedDescriptor>, bool) {
    let mut descriptors = Vec::new();
    let mut only_rights = true;
    // SAFETY: CMSG_FIRSTHDR reads the control pointer and length, which the kernel has just written.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the CMSG functions return null or a header that lies whole within what the kernel wrote to the
        // control buffer, which is aligned for it; cmsg_len is the kernel's.
        let (level, kind, length) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        // SAFETY: CMSG_LEN and CMSG_DATA compute with the header only.
        let (start, data) = unsafe { (libc::CMSG_LEN(0) as usize, libc::CMSG_DATA(header)) };
        // A duplicate of a socket can turn on SO_PASSPIDFD for it, whose message brings a descriptor too.
        if level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
            for index in 0..length.saturating_sub(start) / size_of::<RawFd>() {
                // SAFETY: the kernel filled cmsg_len bytes, so this whole integer lies within the buffer; it need not
                // be aligned.
                let number = unsafe { data.cast::<RawFd>().add(index).read_unaligned() };
                if number >= 0 {
                    // SAFETY: the number is a descriptor that this call has just made, owned by nobody else.
                    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                    descriptors.push(PassedDescriptor::new(descriptor, origin.clone()));
                }
            }
        }
        only_rights &= level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS;
        // SAFETY: `header` is a valid header of this message, as CMSG_NXTHDR asks.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (descriptors, only_rights)
}

/// 253 descriptors, the most that the kernel passes at once (SCM_MAX_FD), are 1,032 bytes; credentials, a security
/// label and a pidfd can come before and after them. The kernel writes `cmsghdr`s, which must be aligned.
#[repr(C)]
union ControlBuffer {
    bytes: [u8; 4096],
    _align: libc::cmsghdr,
}

/// Not in the libc crate: `include/linux/socket.h`, the same on all architectures that keyd runs on.
const SCM_PIDFD: libc::c_int = 4;

/// To close what one packet brings at the slowest takes a second and a half.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::time::Instant;

    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair,
    };
    use strongroom_protocol::socket_passing::send_packet;

    use super::super::closer;
    use super::super::descriptor::{socket_kind, watched};
    use super::super::lingering_fixture::{LINGER, lingering};
    use super::*;

    fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
        super::receive_packet(socket, &Account::default(), buffer)
    }

    fn receive(socket: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
        super::receive(socket, &Origin::Gateway(None), buffer)
    }

    fn packet_pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    /// Whether the other end of this stream is still open somewhere.
    fn is_open(mut stream: &UnixStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err()
    }

    /// Waits until the other end of this stream was closed by everybody.
    fn hangs_up(mut stream: &UnixStream) -> bool {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    }

    fn pass_raw(theirs: &OwnedFd, raw: &[RawFd], flags: MsgFlags) {
        let rights = [ControlMessage::ScmRights(raw)];
        sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], &rights, flags, None).unwrap();
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
        let [first, second] = <[PassedDescriptor; 2]>::try_from(packet.descriptors).unwrap();
        assert_eq!(socket_kind(second.as_fd()).unwrap().kind, libc::SOCK_DGRAM);
        drop(far);
        nix::unistd::write(&first, b"x").unwrap();
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
        assert!(is_open(&near), "the descriptor lives in the message");
        let error = receive_packet(ours.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(hangs_up(&near));
    }

    #[test]
    fn three_descriptors_are_refused_and_all_are_closed() {
        let (ours, theirs) = packet_pair();
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let (near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let raw: Vec<_> = far.iter().map(AsRawFd::as_raw_fd).collect();
        pass_raw(&theirs, &raw, MsgFlags::empty());
        drop(far);
        assert!(receive_packet(ours.as_fd(), &mut [0; 4]).is_err());
        assert!(near.iter().all(hangs_up));
    }

    #[test]
    fn an_empty_socket_would_block_and_a_closed_one_ends() {
        let (ours, theirs) = packet_pair();
        assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap().length, 0);
    }

    #[test]
    fn as_many_as_the_kernel_passes_are_owned_and_closed() {
        let (ours, theirs) = packet_pair();
        let (near, far) = UnixStream::pair().unwrap();
        pass_raw(&theirs, &[far.as_raw_fd(); 253], MsgFlags::empty());
        drop(far);
        let received = receive(ours.as_fd(), &mut [MaybeUninit::uninit(); 4]).unwrap();
        assert_eq!((received.descriptors.len(), received.whole, received.only_rights), (253, true, true));
        assert!(is_open(&near));
        drop(received);
        assert!(hangs_up(&near));
    }

    /// A duplicate of our end may have asked for them.
    #[test]
    fn credentials_and_a_pidfd_beside_the_most_descriptors_cut_nothing_off() {
        let (ours, theirs) = packet_pair();
        setsockopt(&ours, nix::sys::socket::sockopt::PassCred, &true).unwrap();
        let one: libc::c_int = 1;
        const SO_PASSPIDFD: libc::c_int = 76;
        // SAFETY: setsockopt reads an integer of the given size. Kernels before 6.5 refuse, which is as good.
        let with_pidfd = unsafe {
            libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const one).cast(), 4) == 0
        };
        pass_raw(&theirs, &[theirs.as_raw_fd(); 253], MsgFlags::empty());
        let received = receive(ours.as_fd(), &mut [MaybeUninit::uninit(); 4]).unwrap();
        assert_eq!(received.descriptors.len(), 253 + usize::from(with_pidfd));
        assert!(received.whole && !received.only_rights);
    }

    #[test]
    fn what_lingers_in_a_refused_packet_keeps_nobody_waiting() {
        closer::start().unwrap();
        let (ours, theirs) = packet_pair();
        let loaded = || {
            let (sockets, peers): (Vec<_>, Vec<_>) = (0..3).map(|_| lingering()).unzip();
            let raw: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
            pass_raw(&theirs, &raw, MsgFlags::empty());
            peers
        };
        let _peers = loaded();
        let start = Instant::now();
        // SAFETY: the message's control part is absent, so the kernel closes what it brings at once, here.
        unsafe { libc::recv(ours.as_raw_fd(), [0u8; 4].as_mut_ptr().cast(), 4, libc::MSG_DONTWAIT) };
        assert!(start.elapsed() >= LINGER - Duration::from_millis(500), "the twin waits");
        let _peers = loaded();
        let start = Instant::now();
        assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn packets_wait_while_too_much_of_their_senders_waits_to_be_closed_and_come_then() {
        closer::start().unwrap();
        let (ours, theirs) = packet_pair();
        let (sockets, _others): (Vec<_>, Vec<_>) = (0..200).map(|_| UnixStream::pair().unwrap()).unzip();
        let (slow, _peers): (Vec<_>, Vec<_>) = (0..2).map(|_| lingering()).unzip();
        let all = slow.into_iter().chain(sockets.into_iter().map(OwnedFd::from));
        let account = Account::default();
        let all: Vec<_> = all.map(|one| PassedDescriptor::new(one, Origin::Gateway(Some(account.clone())))).collect();
        send_packet(theirs.as_fd(), b"x", &[]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ours = watched(PassedDescriptor::from(ours)).unwrap();
            drop(all);
            let receive = || super::receive_packet(ours.as_fd(), &account, &mut [0; 4]);
            assert_eq!(receive().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
            // Who brought nothing does not wait for it.
            assert_eq!(receive_packet(ours.as_fd(), &mut [0; 4]).unwrap().length, 1);
            assert!(!account.has_room(), "the other is served first");
            send_packet(theirs.as_fd(), b"x", &[]).unwrap();
            assert_eq!(next_packet(&ours, &account, &mut [0; 4]).await.unwrap().length, 1);
            assert!(account.has_room());
        });
    }
}
