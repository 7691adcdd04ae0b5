//! Starts a daemon's program with an environment of its own: only what it needs to find its home. As another user it gets
//! none of the caller's keys in the kernel either. Called by `init` and `up`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::Outcome;
use crate::programs;
use crate::session_keyring;
use crate::users::RunAs;

/// A command for one of the daemons, as this user where one is given. The child's groups are its user's alone.
///
/// # Errors
/// Where the program is not installed, or the session keyring cannot be left behind.
pub fn program(name: &str, user: Option<RunAs>) -> Outcome<Command> {
    let mut command = Command::new(programs::find(name)?);
    command.env_clear().current_dir("/");
    for variable in ["STRONGROOM_HOME", "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    if let Some(user) = user {
        if std::env::var_os("STRONGROOM_HOME").is_none() {
            // Only the system's installation is meant then, and the caller's directories are no concern of that user: keyd
            // would look there for one of its own, and have nowhere to look without any.
            for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
                command.env_remove(variable);
            }
            command.env("HOME", "/nonexistent");
        }
        // Ours goes with it: neither 'init' nor 'up' has any use for it.
        session_keyring::leave()?;
        command.gid(user.gid).uid(user.uid);
    }
    Ok(command)
}
