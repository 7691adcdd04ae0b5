//! SCM_RIGHTS, the sending half.
//!
//! Sends one message on a SOCK_SEQPACKET socket with descriptors beside it. The receiving half creates owned
//! descriptors out of integers, which needs `unsafe`, and lives in keyd's `sys.rs`. It refuses to be used on a
//! stream: there descriptors would attach to an arbitrary byte.
//! Called by gatewayd, when it opens a channel.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Most descriptors in one message.
pub const MOST_DESCRIPTORS: usize = 2;

/// Sends `packet` whole, with `descriptors` beside it, without blocking and without SIGPIPE.
///
/// # Errors
/// The kernel's, `WouldBlock` among them; `InvalidInput` for more than [`MOST_DESCRIPTORS`].
pub fn send_packet(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None)?;
    // A packet goes whole or not at all.
    if sent == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
