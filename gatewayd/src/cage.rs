//! gatewayd's own cage: no write access, no program, no tracing, no vault, no privilege.
//!
//! gatewayd faces agents and the network, so it must be able to open sockets, resolve names and start the resolver's
//! threads: its cage is looser than keyd's and lists what is forbidden. Files are Landlock's ([`files`]), system calls
//! are seccomp's ([`calls`]). What a kernel lacks is said in a [`Check`] and left out; nothing here can be undone.
//! It holds no key, so this protects the machine from gatewayd, and keyd's files from it, rather than a secret in it.
//!
//! Entered once, by `main`, after the sockets are open, before any thread is started and before the first peer byte.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use caps::CapSet;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use strongroom_protocol::Check;

pub mod calls;
mod files;

/// What stays readable inside the cage.
pub struct Paths {
    /// The configuration directory, read at start and on reload.
    pub config: PathBuf,
    /// keyd's socket; connected to again when keyd restarts.
    pub gateway_socket: PathBuf,
}

/// Takes away what gatewayd never needs; each rule that the kernel lacks is said and left out.
pub fn enter(paths: &Paths) -> Vec<Check> {
    let mut checks = vec![
        only_thread(),
        forbid_core_dumps(),
        forbid_dumping(),
        raise_descriptor_limit(),
        forbid_new_privileges(),
        drop_capabilities(),
    ];
    checks.extend(files::restrict_to(&paths.config));
    checks.push(calls::forbid());
    checks.push(try_to_write(&paths.gateway_socket));
    checks
}

/// Landlock and capabilities belong to a thread, and only threads that start later inherit them.
fn only_thread() -> Check {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => Check::ok("threads", "the cage was closed before a second thread was started."),
        Ok(count) => Check::failed(
            "threads",
            format!("{count} threads ran before the cage, which does not hold those."),
            "This is a fault of the program: please report it.",
        ),
        Err(error) => Check::warning("threads", format!("/proc does not say how many run: {error}."), "Mount /proc."),
    }
}

fn forbid_core_dumps() -> Check {
    match setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| getrlimit(Resource::RLIMIT_CORE)) {
        Ok((0, 0)) => Check::ok("core-dumps", "RLIMIT_CORE is 0, and cannot be raised again."),
        other => Check::failed(
            "core-dumps",
            format!("RLIMIT_CORE is {other:?}."),
            "Set LimitCORE=0 (ulimit -c 0) from outside.",
        ),
    }
}

fn forbid_dumping() -> Check {
    match prctl::set_dumpable(false).and_then(|()| prctl::get_dumpable()) {
        Ok(false) => Check::ok("undumpable", "other processes of the same user can neither read nor trace this one."),
        other => Check::failed(
            "undumpable",
            format!("PR_GET_DUMPABLE gives {other:?}."),
            "Use a kernel whose filters allow prctl.",
        ),
    }
}

/// An exchange takes three or four descriptors, and the usual soft limit of 1,024 is for programs that use select.
fn raise_descriptor_limit() -> Check {
    let result = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .and_then(|()| getrlimit(Resource::RLIMIT_NOFILE));
    match result {
        Ok((soft, _)) if soft >= FEW_DESCRIPTORS => Check::ok("descriptors", format!("{soft} may be open at once.")),
        Ok((soft, _)) => Check::warning(
            "descriptors",
            format!("only {soft} may be open at once."),
            "Raise the hard limit (LimitNOFILE= or ulimit -Hn) to 16384.",
        ),
        Err(error) => Check::warning("descriptors", format!("the limit is unknown: {error}."), "Allow prlimit64."),
    }
}

fn forbid_new_privileges() -> Check {
    match prctl::set_no_new_privs().and_then(|()| prctl::get_no_new_privs()) {
        Ok(true) => Check::ok("no-new-privileges", "no program started from here could gain privileges."),
        other => Check::failed(
            "no-new-privileges",
            format!("PR_GET_NO_NEW_PRIVS gives {other:?}."),
            "Use Linux 3.5 or newer.",
        ),
    }
}

/// Matters only where root runs gatewayd in user mode; anybody else has none to begin with.
fn drop_capabilities() -> Check {
    // The bounding set needs CAP_SETPCAP, so it comes first; who lacks that has nothing to gain from it.
    let _ = caps::clear(None, CapSet::Bounding);
    let _ = caps::clear(None, CapSet::Ambient);
    let dropped = caps::clear(None, CapSet::Inheritable)
        .and_then(|()| caps::clear(None, CapSet::Permitted))
        .and_then(|()| caps::read(None, CapSet::Permitted));
    match dropped {
        Ok(left) if left.is_empty() => Check::ok("capabilities", "none is left."),
        Ok(_) => Check::failed("capabilities", "some are left.", "Set CapabilityBoundingSet= from outside."),
        Err(error) => Check::failed(
            "capabilities",
            format!("they cannot be dropped: {error}."),
            "Set CapabilityBoundingSet= from outside.",
        ),
    }
}

/// Tries from inside what must fail: a new file where the sockets are.
fn try_to_write(gateway_socket: &Path) -> Check {
    let path = gateway_socket.with_file_name(format!(".cage-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if is_refusal(&error) => {
            Check::ok("inside-write", "making a file beside the sockets was tried and refused.")
        }
        Err(error) => Check::warning(
            "inside-write",
            format!("making a file beside the sockets failed otherwise: {error}."),
            "Check the directory.",
        ),
        Ok(_) => {
            // Ours, made a moment ago; that it cannot be removed again changes nothing about the finding.
            let _ = std::fs::remove_file(&path);
            Check::warning(
                "inside-write",
                "a file beside the sockets could be made.",
                "See the line of Landlock above.",
            )
        }
    }
}

/// By Landlock or the file's mode, or, under systemd's ProtectSystem=, by a mount that takes nothing.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Below this 1,000 connections of agents do not fit.
const FEW_DESCRIPTORS: u64 = 4096;

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn what_may_not_be_written_is_told_from_what_is_not_there() {
        for errno in [Errno::EACCES, Errno::EPERM, Errno::EROFS] {
            assert!(is_refusal(&errno.into()), "{errno}");
        }
        assert!(!is_refusal(&Errno::ENOENT.into()));
    }
}
