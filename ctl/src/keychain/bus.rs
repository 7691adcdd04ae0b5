//! Who serves the session bus, before a key is sent over it.
//!
//! The address is in the environment and outlives the bus: where a session has ended, another user may have taken its
//! place under /tmp or in the abstract name space, and would be handed the key of a vault. So the kernel is asked who
//! listens. It refuses a bus of another user, and one that is not a Unix socket. What it cannot see is a bus that changes
//! hands between this look and the store's own connection. Called by `secret_service.rs`.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::KeychainError;

/// Connects once, and goes again, where the bus is this user's or root's.
pub fn check() -> Result<(), KeychainError> {
    let address = address();
    let socket = socket(&address).ok_or_else(|| KeychainError::BusAddress(address.clone()))?;
    let unreachable = |error: io::Error| KeychainError::NoBus { address: address.clone(), error };
    let stream = UnixStream::connect_addr(&socket).map_err(unreachable)?;
    let uid = getsockopt(&stream, PeerCredentials).map_err(|error| unreachable(error.into()))?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(KeychainError::ForeignBus { address, uid });
    }
    Ok(())
}

/// As zbus finds it.
fn address() -> String {
    env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|_| {
        let run = env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", geteuid()));
        format!("unix:path={run}/bus")
    })
}

/// The socket of an address such as `unix:path=/run/user/1000/bus,guid=...`; none where it is of another kind, or where
/// it is several addresses, of which only one would be looked at.
fn socket(address: &str) -> Option<SocketAddr> {
    let pairs = address.strip_prefix("unix:").filter(|pairs| !pairs.contains(';'))?;
    pairs.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", path) => SocketAddr::from_pathname(PathBuf::from(OsStr::from_bytes(&unescape(path)?))).ok(),
        ("abstract", name) => SocketAddr::from_abstract_name(unescape(name)?).ok(),
        _ => None,
    })
}

/// Takes `%2F` for what it stands for.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets_are_understood() {
        let path = |address: &str| socket(address)?.as_pathname().map(|path| path.display().to_string());
        assert_eq!(path("unix:path=/run/user/1000/bus").as_deref(), Some("/run/user/1000/bus"));
        assert_eq!(path("unix:path=/tmp/a%2cb,guid=00ff").as_deref(), Some("/tmp/a,b"));
        assert_eq!(path("unix:guid=00ff,path=/tmp/c").as_deref(), Some("/tmp/c"));
        let name = socket("unix:abstract=/tmp/dbus-1,guid=00ff").unwrap();
        assert_eq!(name.as_abstract_name(), Some(b"/tmp/dbus-1".as_slice()));
    }

    #[test]
    fn others_are_not() {
        for bad in [
            "",
            "unix:",
            "tcp:host=localhost,port=1",
            "autolaunch:",
            "unix:path=/a;tcp:host=b",
            "unix:path=/a%2",
            "unix:path=/a%zz",
        ] {
            assert!(socket(bad).is_none(), "{bad}");
        }
    }
}
