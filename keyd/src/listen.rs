//! keyd's two listening sockets: `gateway.sock` (packets) and `admin.sock` (a stream).
//!
//! Each is inherited under its name, or else bound here with mode 0600, or 0666 for an admin.sock that somebody else may
//! use: the umask is set before, so that there is no moment in which others could connect. It refuses to take a socket file away from a keyd that still answers, to
//! remove a file that is no socket, and inherited sockets of the wrong kind. It accepts nothing.
//!
//! Called by `main`, before the cage.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
use strongroom_protocol::home::Home;

use crate::sys;

/// Both listening sockets, non-blocking.
#[derive(Debug)]
pub struct Listeners {
    /// SOCK_SEQPACKET, for gatewayd; accept with [`sys::accept`].
    pub gateway: OwnedFd,
    /// SOCK_STREAM, for ctl.
    pub admin: UnixListener,
}

/// Takes the inherited sockets by their names, `gateway` and `admin`, and binds what is missing. Where there are other
/// admins, everybody can connect to `admin`; who may speak is judged at accept, by the kernel's word.
///
/// # Errors
/// Where an inherited socket is unknown, doubled or of the wrong kind; where another keyd answers; where a socket
/// cannot be bound.
pub fn open(home: &Home, inherited: Vec<(String, OwnedFd)>, has_other_admins: bool) -> Result<Listeners, ListenError> {
    let (mut gateway, mut admin) = (None, None);
    for (name, socket) in inherited {
        let (place, kind) = match name.as_str() {
            "gateway" => (&mut gateway, SockType::SeqPacket),
            "admin" => (&mut admin, SockType::Stream),
            _ => return Err(ListenError::Unexpected(name)),
        };
        if place.is_some() || !sys::socket_kind(socket.as_fd()).is_ok_and(|found| found.is_unix_listener(kind as i32)) {
            return Err(ListenError::Unexpected(name));
        }
        make_non_blocking(&socket).map_err(|error| ListenError::Inherited(name, error))?;
        *place = Some(socket);
    }
    let gateway = gateway.map_or_else(|| bound(&home.gateway_socket(), SockType::SeqPacket, OWNER), Ok)?;
    let without = if has_other_admins { EVERYBODY } else { OWNER };
    let admin = admin.map_or_else(|| bound(&home.admin_socket(), SockType::Stream, without), Ok)?;
    Ok(Listeners { gateway, admin: UnixListener::from(admin) })
}

/// Binds a listening socket under this umask.
fn bound(path: &Path, kind: SockType, without: Mode) -> Result<OwnedFd, ListenError> {
    let failed = |error: io::Error| ListenError::Bind(path.to_owned(), error);
    let address = UnixAddr::new(path).map_err(|error| failed(error.into()))?;
    // Between "nobody answers" and "bind" another keyd could do the same, and each remove the other's socket.
    let _lock = lock_beside(path).map_err(failed)?;
    remove_stale(path, &address, kind)?;

    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, kind, flags, None).map_err(|error| failed(error.into()))?;
    let before = umask(without);
    let result = bind(listener.as_raw_fd(), &address);
    umask(before);
    result.and_then(|()| listen(&listener, Backlog::MAXCONN)).map_err(|error| failed(error.into()))?;
    Ok(listener)
}

/// Waits until no other keyd is between looking and binding; held until dropped.
fn lock_beside(path: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path.with_file_name("keyd.lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

fn remove_stale(path: &Path, address: &UnixAddr, kind: SockType) -> Result<(), ListenError> {
    let failed = |error: io::Error| ListenError::Bind(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, kind, flags, None).map_err(|error| failed(error.into()))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        // EAGAIN: somebody listens, and many are waiting. EPROTOTYPE: somebody listens, with another kind of socket.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(ListenError::InUse(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

fn make_non_blocking(socket: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A umask: our own uid alone (and root) can connect.
const OWNER: Mode = Mode::from_bits_truncate(0o177);
/// A umask: everybody can connect.
const EVERYBODY: Mode = Mode::from_bits_truncate(0o111);

/// Why there is no socket to listen on.
#[derive(Debug)]
pub enum ListenError {
    /// An inherited socket of this name is not wanted, came twice, or is not a listening socket of the right kind.
    Unexpected(String),
    /// An inherited socket could not be prepared.
    Inherited(String, io::Error),
    /// Another process answers there.
    InUse(PathBuf),
    /// Something that is no socket lies there.
    NotASocket(PathBuf),
    /// The kernel's word.
    Bind(PathBuf, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected(name) => write!(
                f,
                "the inherited socket '{name}' is not one that keyd can use; pass one listening SOCK_SEQPACKET socket named 'gateway' and one listening SOCK_STREAM socket named 'admin'"
            ),
            Self::Inherited(name, error) => {
                write!(f, "the inherited socket '{name}' cannot be used: {error}; start keyd again")
            }
            Self::InUse(path) => {
                write!(f, "another process answers on {}; stop it with 'strongroom down' first", path.display())
            }
            Self::NotASocket(path) => write!(f, "{} exists and is no socket; move it away", path.display()),
            Self::Bind(path, error) => {
                write!(f, "cannot listen on {}: {error}; check the directory and who owns it", path.display())
            }
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Inherited(_, error) | Self::Bind(_, error) => Some(error),
            Self::Unexpected(_) | Self::InUse(_) | Self::NotASocket(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;
    use crate::peer::Caller;

    fn home() -> (TempDir, Home) {
        let directory = TempDir::new().unwrap();
        let home = Home::under(directory.path());
        fs::create_dir(&home.run).unwrap();
        (directory, home)
    }

    #[test]
    fn sockets_are_bound_for_their_owner_alone() {
        let (_directory, home) = home();
        let listeners = open(&home, Vec::new(), false).unwrap();
        for path in [home.gateway_socket(), home.admin_socket()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(sys::socket_kind(listeners.gateway.as_fd()).unwrap().is_unix_listener(SockType::SeqPacket as i32));
        assert_eq!(listeners.admin.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = UnixStream::connect(home.admin_socket()).unwrap();
        let (accepted, _) = listeners.admin.accept().unwrap();
        assert_eq!(Caller::of(&accepted).unwrap().pid, std::process::id());
    }

    #[test]
    fn other_admins_can_connect_to_their_socket_and_to_no_other() {
        let (_directory, home) = home();
        let _listeners = open(&home, Vec::new(), true).unwrap();
        for (path, mode) in [(home.gateway_socket(), 0o600), (home.admin_socket(), 0o666)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn gateway_connections_are_accepted_without_blocking() {
        let (_directory, home) = home();
        let listeners = open(&home, Vec::new(), false).unwrap();
        assert_eq!(sys::accept(listeners.gateway.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(client.as_raw_fd(), &UnixAddr::new(&home.gateway_socket()).unwrap()).unwrap();
        let accepted = sys::accept(listeners.gateway.as_fd()).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&accepted, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_directory, home) = home();
        drop(open(&home, Vec::new(), false).unwrap());
        assert!(home.admin_socket().exists(), "the file outlives its process");
        let _live = open(&home, Vec::new(), false).unwrap();
        let refused = open(&home, Vec::new(), false).unwrap_err();
        assert!(matches!(refused, ListenError::InUse(path) if path == home.gateway_socket()));
        UnixStream::connect(home.admin_socket()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let (_directory, home) = home();
        fs::write(home.admin_socket(), "precious").unwrap();
        assert!(matches!(open(&home, Vec::new(), false).unwrap_err(), ListenError::NotASocket(_)));
        assert_eq!(fs::read_to_string(home.admin_socket()).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_is_too_long_is_named() {
        let home = Home::under(Path::new(&format!("/tmp/{}", "x".repeat(120))));
        assert!(
            matches!(open(&home, Vec::new(), false).unwrap_err(), ListenError::Bind(path, _) if path == home.gateway_socket())
        );
    }

    #[test]
    fn inherited_sockets_are_taken_by_name_and_checked() {
        let (_directory, home) = home();
        let (_other_directory, other) = self::home();
        let given = open(&other, Vec::new(), false).unwrap();
        let inherited = vec![("admin".to_owned(), given.admin.into()), ("gateway".to_owned(), given.gateway)];
        let listeners = open(&home, inherited, false).unwrap();
        assert!(!home.admin_socket().exists(), "nothing was bound");
        let swapped = vec![("gateway".to_owned(), OwnedFd::from(listeners.admin))];
        assert!(matches!(open(&home, swapped, false).unwrap_err(), ListenError::Unexpected(name) if name == "gateway"));
        let unknown = vec![("agent".to_owned(), listeners.gateway)];
        assert!(matches!(open(&home, unknown, false).unwrap_err(), ListenError::Unexpected(name) if name == "agent"));
        let (no_listener, _peer) = UnixStream::pair().unwrap();
        let connected = vec![("admin".to_owned(), no_listener.into())];
        assert!(matches!(open(&home, connected, false).unwrap_err(), ListenError::Unexpected(name) if name == "admin"));
    }
}
