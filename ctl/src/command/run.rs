//! `run`: a program as an agent, with placeholders for keys and the way to the gateway in its environment.
//!
//! The program takes this one's place, so signals, the terminal, job control and the exit code are its own. It refuses
//! to pass on keys that lie in the caller's environment. With `--user` privileges go down before anything is written
//! for the program or started, and it can get none of them back; the caller's session, terminal and session keyring are
//! not its either: `terminal` stays between.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;
use strongroom_protocol::Name;
use strongroom_protocol::home::Kind;

use super::Context;
use crate::admin_client::AdminClient;
use crate::args::{Mode, Run};
use crate::environment::bundle::{self, Bundle};
use crate::environment::source;
use crate::environment::variables::{self, Way};
use crate::error::{CtlError, Outcome};
use crate::login::Login;
use crate::{catalogue, output, terminal};

/// Gives the program's exit code where it ran as a child, and else does not come back.
pub fn run(context: &Context, asked: &Run) -> Outcome<u8> {
    let login = asked.user.as_deref().map(Login::find).transpose()?;
    if let Some(login) = &login
        && let Some(code) = terminal::leave(login.uid())?
    {
        return Ok(code);
    }
    let environment = source::environment(&context.home, &asked.agent)?;
    let catalogue = catalogue::all()?;
    let bundle = (asked.mode == Mode::Proxy).then(|| Bundle::new(&environment.ca));
    let placed = bundle.as_ref().and_then(|bundle| bundle.put_into_home(&context.home));
    if let Some(login) = &login {
        login.become_it()?;
    }
    // Written as the user that reads it: root must not write where that user can put a link.
    let cache = || login.as_ref().map_or_else(bundle::cache, Login::cache);
    let file = match (bundle, placed) {
        (None, _) => None,
        (Some(_), Some(path)) if File::open(&path).is_ok() => Some(path),
        (Some(bundle), _) => Some(bundle.put_into_cache(cache())?),
    };
    let way = file.as_deref().map_or(Way::BaseUrl, Way::Proxy);
    let variables = variables::make(&environment, way, &catalogue)?;
    variables.notes.iter().for_each(|note| output::note(note));
    warn_of_admins(context, &asked.agent, login.as_ref(), environment.as_admin);
    let mut child = variables::of_child(std::env::vars_os(), &variables, &environment, way, &catalogue);
    if let Some(login) = &login {
        login.change(&mut child);
    }
    let Some((program, arguments)) = asked.command.split_first() else {
        return Err(CtlError::usage("the program is missing. Name it behind '--'."));
    };
    Err(replace(program, arguments, child))
}

/// Becomes the program; comes back only where there is none to become.
fn replace(
    program: &OsStr,
    arguments: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> CtlError {
    let error = Command::new(program).args(arguments).env_clear().envs(environment).exec();
    let shown = output::printable(&PathBuf::from(program).display().to_string());
    match error.kind() {
        ErrorKind::NotFound => not_found(&shown),
        // A directory of PATH that this user may not enter gives the same error, and the program need not be there.
        ErrorKind::PermissionDenied if !is_somewhere(program) => not_found(&shown),
        _ => {
            CtlError::not_executable(format!("the program {shown} cannot be run: {error}. Check its mode and format."))
        }
    }
}

fn not_found(shown: &str) -> CtlError {
    CtlError::not_found(format!("there is no program {shown}. Check its name and PATH."))
}

/// Named by a path, or to be seen in a directory of PATH.
fn is_somewhere(program: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.as_bytes().contains(&b'/') || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// An agent that can administer Strongroom can take from others, and see all that needs no passphrase.
fn warn_of_admins(context: &Context, agent: &Name, login: Option<&Login>, told_as_admin: bool) {
    let is_admin = match login {
        None => told_as_admin || geteuid().is_root(),
        // Privileges are down already: keyd says whom it takes for an admin.
        Some(_) => {
            geteuid().is_root() || AdminClient::connect(&context.home).is_ok_and(|mut keyd| keyd.status().is_ok())
        }
    };
    if is_admin {
        let kind = context.home.kind;
        output::note(&format!(
            "Warning: the agent {agent} runs as a user who administers Strongroom, so it can do that too; {}.",
            way_out(kind, geteuid().is_root() || login.is_some())
        ));
    }
}

/// Under sudo it is the system's home that is found, and not a user's own.
fn way_out(kind: Kind, as_root: bool) -> &'static str {
    match (kind, as_root) {
        (_, true) => "'strongroom run --user USER' with another user avoids it",
        (Kind::System, false) => "'sudo strongroom run --user USER' avoids it",
        (_, false) => "only a system installation keeps them apart",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_named_only_where_it_finds_the_same_home() {
        assert!(way_out(Kind::System, false).contains("sudo") && way_out(Kind::System, true).contains("--user"));
        for kind in [Kind::User, Kind::Explicit] {
            assert!(!way_out(kind, false).contains("--user"), "{kind:?}");
        }
    }
}
