//! What the kernel holds of what was sent and nobody has read: it is the sender's memory, closed or not.
//!
//! It refuses to change a limit, which the cage does not allow; it looks. Called by `passed_socket` and `main` (limits), and
//! by whoever is done with a socket and waits for its peer to read or close.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

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

/// Ends a connection, and comes back when its peer has read what lies there for it, or has closed.
pub async fn let_go(socket: &impl AsFd) {
    // SAFETY: shutdown takes integers. That the peer is gone already is no error.
    unsafe { libc::shutdown(socket.as_fd().as_raw_fd(), libc::SHUT_RDWR) };
    while_unread(|| is_unread(socket.as_fd())).await;
}

/// Looks now and then, for nothing tells: comes back when it is so no more.
pub async fn while_unread(is_unread: impl Fn() -> bool) {
    while is_unread() {
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
