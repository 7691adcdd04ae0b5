//! What the kernel holds of what was sent and nobody has read: it is the sender's memory, closed or not.
//!
//! It refuses to change a limit, which the cage does not allow; it looks. Called by `passed_socket` and `main` (limits), and
//! by whoever is done with a socket and waits for its peer to read or close.
//!
//! The peer may be nobody's but ours: it can lie, as a descriptor that was passed, in the queue of a socket that keyd has
//! open, that of the very socket which waits for it to close among them. So whoever waits has emptied its own queue before.
//! Of sockets that hold each other's peers, in a ring of any length, none is kept by a queue then.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::closer::PassedDescriptor;
use super::descriptor::socket_option;

/// How much the kernel holds of what a socket sends, until the peer reads, in the kernel's own count (`SO_SNDBUF`).
pub(super) fn limit(socket: BorrowedFd<'_>) -> io::Result<usize> {
    socket_option(socket, libc::SO_SNDBUF).map(|bytes| usize::try_from(bytes).unwrap_or(0))
}

/// The same for a Unix stream that nobody has changed. Before the filter, which allows no new socket.
///
/// # Errors
/// The kernel's.
pub fn own_queue() -> io::Result<usize> {
    limit(UnixStream::pair()?.0.as_fd())
}

/// Ends a connection, and comes back when its peer has read what lies there for it, or has closed: it is to be closed then,
/// and what lies in its queue with it.
pub async fn let_go(socket: &PassedDescriptor) {
    // SAFETY: shutdown takes integers. That the peer is gone already is no error.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
    if !is_unread(socket.as_fd()) {
        return;
    }
    socket.empty().await;
    // Nothing tells, so it is looked at now and then.
    while is_unread(socket.as_fd()) {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Whether the peer has left unread more than a last word; not where the kernel does not say.
pub(super) fn is_unread(socket: BorrowedFd<'_>) -> bool {
    let mut figures = [0u32; MEMORY_FIGURES];
    let mut length = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes, the size of `figures`, and the true length to `length`.
    let returned = unsafe {
        let start = figures.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, start, &raw mut length)
    };
    returned == 0 && figures[libc::SK_MEMINFO_WMEM_ALLOC as usize] > LITTLE
}

/// How many `SO_MEMINFO` gives.
const MEMORY_FIGURES: usize = 9;
/// Bytes, by the kernel's count.
const LITTLE: u32 = 4 * 1024;
/// Whoever means well has read, or closed, long before the first.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::{OwnedFd, RawFd};

    use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, send, sendmsg, socketpair};

    use super::super::closer;
    use super::*;

    fn pairs(kind: SockType, count: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
        (0..count).map(|_| socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()).unzip()
    }

    fn pass(through: &OwnedFd, what: RawFd, bytes: &[u8], flags: MsgFlags) {
        let raw = [what];
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<()>(through.as_raw_fd(), &[IoSlice::new(bytes)], &rights, flags, None).unwrap();
    }

    fn are_let_go(ours: Vec<OwnedFd>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let all = async {
                // All at once, and each is closed as soon as it may be.
                let waiting = ours.into_iter().map(PassedDescriptor::from);
                let mut waiting: Vec<_> = waiting.map(|one| Box::pin(async move { let_go(&one).await })).collect();
                std::future::poll_fn(|context| {
                    waiting.retain_mut(|one| one.as_mut().poll(context).is_pending());
                    if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                })
                .await;
            };
            tokio::time::timeout(Duration::from_secs(20), all).await.is_ok()
        })
    }

    #[test]
    fn a_peer_that_nobody_has_but_our_own_queues_keeps_nothing() {
        closer::start().unwrap();
        for (kind, count) in [
            (SockType::Stream, 1),
            (SockType::Stream, 2),
            (SockType::Stream, 5),
            (SockType::SeqPacket, 1),
            (SockType::SeqPacket, 3),
        ] {
            let (ours, theirs) = pairs(kind, count);
            for index in 0..count {
                send(ours[index].as_raw_fd(), &[0; 8192], MsgFlags::empty()).unwrap();
                if kind == SockType::SeqPacket {
                    send(theirs[index].as_raw_fd(), &[], MsgFlags::empty()).unwrap();
                }
                let next = theirs[(index + 1) % count].as_raw_fd();
                pass(&theirs[index], next, b"x", MsgFlags::empty());
            }
            drop(theirs);
            assert!(is_unread(ours[0].as_fd()));
            assert!(are_let_go(ours), "{count} of {kind:?}");
        }
    }

    #[test]
    fn what_lies_beside_an_out_of_band_byte_keeps_nothing() {
        closer::start().unwrap();
        let (ours, theirs) = pairs(SockType::Stream, 1);
        send(ours[0].as_raw_fd(), &[0; 8192], MsgFlags::empty()).unwrap();
        pass(&theirs[0], theirs[0].as_raw_fd(), b"x", MsgFlags::MSG_OOB);
        drop(theirs);
        assert!(are_let_go(ours));
    }
}
