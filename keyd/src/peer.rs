//! Who is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED; on macOS LOCAL_PEERCRED).
//!
//! Peer credentials become a [`Caller`], or the connection ends. It refuses the overflow uid, with words: in a user
//! namespace where the peer has no number every stranger looks like 65534. It does not decide who may do what.
//! Ask only accepted sockets: on a client's end the credentials are those of whoever listens.
//!
//! Called by the two servers for each connection, before its first byte is read.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

#[cfg_attr(target_os = "macos", path = "peer/macos.rs")]
#[cfg_attr(not(target_os = "macos"), path = "peer/linux.rs")]
mod kernel;

/// The process that connected, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process; 0 where it has no number in our namespace.
    pub pid: u32,
}

impl Caller {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Where it does not say, or says 65534.
    pub fn of(socket: &impl AsFd) -> Result<Self, PeerError> {
        kernel::credentials(socket).map_err(PeerError::Unknown)?.known()
    }

    fn known(self) -> Result<Self, PeerError> {
        if self.uid == OVERFLOW_UID { Err(PeerError::Overflow) } else { Ok(self) }
    }
}

/// Why a peer is nobody.
#[derive(Debug)]
pub enum PeerError {
    /// The kernel gave no credentials.
    Unknown(io::Error),
    /// The uid is the one that stands for "no number here".
    Overflow,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "the kernel does not say who connected: {error}; connect again"),
            Self::Overflow => write!(
                f,
                "whoever connected has uid {OVERFLOW_UID}, which stands for everybody that a user namespace does not know; run keyd without PrivateUsers=, in the callers' user namespace"
            ),
        }
    }
}

impl std::error::Error for PeerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown(error) => Some(error),
            Self::Overflow => None,
        }
    }
}

/// `/proc/sys/kernel/overflowuid`, which nobody changes; also the user `nobody`, who has no business here.
pub const OVERFLOW_UID: u32 = 65534;
/// `(uid_t)-1`: the kernel's word for none.
pub const NO_UID: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_is_who_the_kernel_says() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let caller = Caller::of(&ours);
        let uid = nix::unistd::geteuid().as_raw();
        if uid == OVERFLOW_UID {
            assert!(matches!(caller, Err(PeerError::Overflow)));
        } else {
            let expected = Caller { uid, gid: nix::unistd::getegid().as_raw(), pid: std::process::id() };
            assert_eq!(caller.unwrap(), expected);
        }
    }

    #[test]
    fn the_overflow_uid_is_nobody() {
        let stranger = Caller { uid: OVERFLOW_UID, gid: 5, pid: 7 };
        let error = stranger.known().unwrap_err();
        assert!(error.to_string().contains("PrivateUsers="));
        assert!(Caller { uid: 65533, ..stranger }.known().is_ok());
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Caller::of(&file), Err(PeerError::Unknown(_))));
    }
}
