//! What lets the demo read its daemons' memory: root, or a user namespace of its own.
//!
//! In a namespace the demo is root over the processes that begin in it, and over nothing else. It refuses to enter
//! one before it has seen a child do it: on systems that forbid namespaces half-way (an unmapped uid, no way back)
//! the demo goes on without. Called by `mod.rs`, before any thread starts: the kernel wants that.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, getuid};

/// Where we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Root: the daemons and the agent run under users of their own.
    Root,
    /// A user namespace of our own: one user, but their memory can be read.
    Namespace,
    /// An ordinary user who may not have a namespace.
    None,
}

/// Enters the best there is.
#[must_use]
pub fn enter() -> Isolation {
    if geteuid().is_root() {
        return Isolation::Root;
    }
    let probe = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command
            .args(["demo", "--role", "probe"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    });
    if probe.is_ok_and(|status| status.success()) && enter_namespace().is_ok() {
        Isolation::Namespace
    } else {
        Isolation::None
    }
}

/// Makes a user namespace in which our uid is 0, and enters it.
///
/// # Errors
/// The kernel's, or the distribution's.
pub fn enter_namespace() -> io::Result<()> {
    let (uid, gid) = (getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Without this the kernel takes no gid map from an ordinary user (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}
