//! The three listening sockets, made for the daemons and handed to them.
//!
//! Each exists with its final mode from the first moment: the umask is set before bind. They lie in a directory that
//! neither daemon can write to where the daemons have users of their own. gateway.sock is its user's alone. agent.sock
//! can be connected to by everybody, and so can admin.sock where somebody else may be an admin: what counts there is the
//! caller's uid, which keyd and gatewayd ask the kernel for. It refuses to take the place of a socket on which somebody answers. Called by `up`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, chown};
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use strongroom_protocol::home::Home;

use crate::config_values;
use crate::error::{CtlError, Outcome};
use crate::users::Separate;

/// A listening socket and the name by which its daemon knows it.
pub type Named = (&'static str, OwnedFd);

/// Makes keyd's two: SOCK_SEQPACKET for gatewayd, SOCK_STREAM for ctl.
///
/// # Errors
/// Where somebody answers on one already, or one cannot be made.
pub fn for_keyd(home: &Home, separate: Option<Separate>) -> Outcome<Vec<Named>> {
    let path = home.gateway_socket();
    let gateway = listener(&path, SockType::SeqPacket, OWNER)?;
    if let Some(separate) = separate {
        chown(&path, Some(separate.gateway.uid), Some(separate.gateway.gid)).map_err(|error| cannot(&path, &error))?;
    }
    let has_others = separate.is_some() || config_values::admin_uids(home).iter().any(|&uid| uid != geteuid().as_raw());
    let admin = listener(&home.admin_socket(), SockType::Stream, if has_others { EVERYBODY } else { OWNER })?;
    Ok(vec![("gateway", gateway), ("admin", admin)])
}

/// Makes gatewayd's: SOCK_STREAM for agents.
///
/// # Errors
/// As [`for_keyd`].
pub fn for_gatewayd(home: &Home) -> Outcome<Vec<Named>> {
    Ok(vec![("agent", listener(&home.agent_socket(), SockType::Stream, EVERYBODY)?)])
}

fn listener(path: &Path, kind: SockType, without: Mode) -> Outcome<OwnedFd> {
    let failed = |error: nix::Error| cannot(path, &error.into());
    let address = UnixAddr::new(path).map_err(failed)?;
    clear(path, &address, kind)?;
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    let before = umask(without);
    let bound = bind(socket.as_raw_fd(), &address);
    umask(before);
    bound.and_then(|()| listen(&socket, Backlog::MAXCONN)).map_err(failed)?;
    Ok(socket)
}

/// Takes a dead socket file away.
fn clear(path: &Path, address: &UnixAddr, kind: SockType) -> Outcome<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(path, &error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(CtlError::configuration(format!(
                "{} is in the way and is no socket. Move it away.",
                path.display()
            )));
        }
        Ok(_) => {}
    }
    let probe =
        socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).map_err(|error| cannot(path, &error.into()))?;
    if connect(probe.as_raw_fd(), address).is_ok() {
        return Err(CtlError::failed(format!(
            "somebody answers at {} already. Run 'strongroom down' first.",
            path.display()
        )));
    }
    fs::remove_file(path).map_err(|error| cannot(path, &error))
}

/// A umask: the owner alone may connect.
const OWNER: Mode = Mode::from_bits_truncate(0o177);
/// A umask: everybody may connect.
const EVERYBODY: Mode = Mode::from_bits_truncate(0o111);

fn cannot(path: &Path, error: &io::Error) -> CtlError {
    CtlError::configuration(format!(
        "the socket {} cannot be made: {error}. Check the directory, and that its path is short.",
        path.display()
    ))
}
