//! LOCAL_PEERCRED (by getpeereid) and LOCAL_PEERPID: user, group and process of whoever connected. Called by `Caller::of`.
//!
//! Type-checked for macOS, and never run: docs/macos.md says what else is missing there.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::LocalPeerPid;
use nix::unistd::getpeereid;

use super::Caller;

/// What the kernel says, whatever it is worth.
pub fn credentials(socket: &impl AsFd) -> io::Result<Caller> {
    let (uid, gid) = getpeereid(socket.as_fd())?;
    // The process may have ended; who it was still counts.
    let pid = getsockopt(&socket.as_fd(), LocalPeerPid).ok().and_then(|pid| pid.try_into().ok()).unwrap_or(0);
    Ok(Caller { uid: uid.as_raw(), gid: gid.as_raw(), pid })
}
