//! The sockets that agents connect to: inherited, or bound here.
//!
//! agent.sock is for every user of the machine (mode 0666), as the TCP port is: who an agent is and what it may do is
//! proved to keyd, and the directory belongs to somebody else, so nobody can put another socket in its place. The mode
//! comes from the umask at bind, never from a chmod afterwards. It refuses to take the path from a living process.
//! TCP addresses that were inherited are not bound again, and the others that the configuration names are.
//! Called by `main`, before the cage closes.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use listenfd::ListenFd;
use nix::sys::stat::{Mode, umask};

use crate::config::Config;
use crate::start_error::StartError;

/// Everything that is listened on; non-blocking.
#[derive(Debug, Default)]
pub struct Sockets {
    /// TCP listeners.
    pub tcp: Vec<TcpListener>,
    /// agent.sock.
    pub agent: Vec<UnixListener>,
}

/// Takes inherited sockets, and binds what was not inherited.
///
/// # Errors
/// Which socket could not be had, and why.
pub fn open(config: &Config, agent_socket: &Path) -> Result<Sockets, StartError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = inherited(ListenFd::from_env(), &names)?;
    for address in not_inherited(config.listen.as_deref(), &addresses(&sockets.tcp)?) {
        sockets.tcp.push(bind_tcp(address)?);
    }
    if sockets.agent.is_empty() {
        sockets.agent.push(bind_agent(agent_socket)?);
    }
    for listener in &sockets.tcp {
        listener.set_nonblocking(true).map_err(StartError::Runtime)?;
        let address = listener.local_addr().map_err(StartError::Runtime)?;
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(%address, "other machines can connect, without encryption and with placeholders in the clear");
        }
        tracing::info!(%address, "listening");
    }
    for listener in &sockets.agent {
        listener.set_nonblocking(true).map_err(StartError::Runtime)?;
        tracing::info!(path = %agent_socket.display(), "listening");
    }
    Ok(sockets)
}

fn inherited(mut descriptors: ListenFd, names: &str) -> Result<Sockets, StartError> {
    let mut sockets = Sockets::default();
    let mut names = names.split(':');
    for index in 0..descriptors.len() {
        let name = names.next().unwrap_or_default();
        let unusable = |error| StartError::Inherited(name.to_owned(), error);
        match name {
            "agent" => sockets.agent.extend(descriptors.take_unix_listener(index).map_err(unusable)?),
            "tcp" => sockets.tcp.extend(descriptors.take_tcp_listener(index).map_err(unusable)?),
            other => return Err(StartError::InheritedName(other.to_owned())),
        }
    }
    Ok(sockets)
}

fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, StartError> {
    listeners.iter().map(|listener| listener.local_addr().map_err(StartError::Runtime)).collect()
}

/// What is left to bind. A socket unit says where to listen where the configuration does not.
fn not_inherited(named: Option<&[SocketAddr]>, inherited: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_unnamed = |one: &&SocketAddr| named.is_some_and(|named| !named.iter().any(|wanted| covers(one, wanted)));
    if let Some(address) = inherited.iter().find(is_unnamed) {
        tracing::warn!(%address, "inherited, though 'listen' in gatewayd.toml does not name it: change one of the two");
    }
    let named = match named {
        Some(named) => named,
        None if inherited.is_empty() => &[DEFAULT],
        None => &[],
    };
    let is_missing = |wanted: &&SocketAddr| wanted.port() == 0 || !inherited.iter().any(|one| covers(one, wanted));
    named.iter().filter(is_missing).copied().collect()
}

/// Whether what connects to `wanted` reaches this listener already.
fn covers(listener: &SocketAddr, wanted: &SocketAddr) -> bool {
    let is_wildcard = listener.ip().is_unspecified() && (listener.is_ipv6() || wanted.is_ipv4());
    listener.port() == wanted.port() && (listener.ip() == wanted.ip() || is_wildcard)
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::ListenTcp(address, error))
}

fn bind_agent(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |error| StartError::ListenAgent(path.to_owned(), error);
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    remove_stale(path)?;
    // No other thread exists yet that could make a file under this mask.
    let before = umask(Mode::from_bits_truncate(0o111));
    let bound = UnixListener::bind(path);
    umask(before);
    bound.map_err(failed)
}

/// A socket file outlives its process, and the cage lets none be removed at the end.
fn remove_stale(path: &Path) -> Result<(), StartError> {
    let failed = |error| StartError::ListenAgent(path.to_owned(), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(failed(io::ErrorKind::AlreadyExists.into())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(StartError::AlreadyRunning(path.to_owned())),
    }
}

/// gatewayd's own port, for this machine alone.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7777);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn agent_sock_is_open_to_every_user_and_made_anew_where_nobody_answers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/agent.sock");
        let first = bind_agent(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(matches!(bind_agent(&path), Err(StartError::AlreadyRunning(_))));
        drop(first);
        let _second = bind_agent(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind_agent(&path), Err(StartError::ListenAgent(..))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind_tcp(address).unwrap_err();
        assert!(error.to_string().starts_with(&address.to_string()));
        drop(taken);
        assert!(bind_tcp(address).is_ok());
    }

    #[test]
    fn what_was_inherited_is_not_bound_again_and_the_rest_is() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        for (named, inherited, left) in [
            (None, &[][..], &["127.0.0.1:7777"][..]),
            (None, &["127.0.0.1:8888"], &[]),
            (Some(&[][..]), &[], &[]),
            (Some(&["127.0.0.1:7777"]), &["127.0.0.1:7777"], &[]),
            (Some(&["127.0.0.1:7777", "10.0.0.1:7777"]), &["127.0.0.1:7777"], &["10.0.0.1:7777"]),
            (Some(&["127.0.0.1:7777", "[::1]:7777"]), &["0.0.0.0:7777"], &["[::1]:7777"]),
            (Some(&["127.0.0.1:7777", "[::1]:7777"]), &["[::]:7777"], &[]),
            (Some(&["127.0.0.1:8888"]), &["127.0.0.1:7777"], &["127.0.0.1:8888"]),
            (Some(&["127.0.0.1:0"]), &["127.0.0.1:7777"], &["127.0.0.1:0"]),
        ] {
            let (named, inherited) = (named.map(parse), parse(inherited));
            assert_eq!(not_inherited(named.as_deref(), &inherited), parse(left), "{named:?} {inherited:?}");
        }
    }

    #[test]
    fn without_inherited_descriptors_nothing_is_taken() {
        let sockets = inherited(ListenFd::empty(), "agent").unwrap();
        assert!(sockets.tcp.is_empty() && sockets.agent.is_empty());
    }
}
