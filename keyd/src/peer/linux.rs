//! SO_PEERCRED: user, group and process of whoever connected, as they were then. Called by `Caller::of`.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::Caller;

/// What the kernel says, whatever it is worth.
pub fn credentials(socket: &impl AsFd) -> io::Result<Caller> {
    let credentials = getsockopt(&socket.as_fd(), PeerCredentials)?;
    let pid = credentials.pid().try_into().unwrap_or(0);
    Ok(Caller { uid: credentials.uid(), gid: credentials.gid(), pid })
}
