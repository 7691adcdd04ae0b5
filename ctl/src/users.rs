//! Under whose uids the daemons run.
//!
//! One uid for everything is user mode, to try things out. As root each daemon can have a user of its own, by
//! `--keyd-user` and `--gateway-user`; for the system's home the package's users are taken. It refuses to mix: both or
//! none. Called by `init` and `up`.

use nix::unistd::{Gid, Uid, User, geteuid};
use strongroom_protocol::home::{Home, Kind};

use crate::args::Users;
use crate::error::{CtlError, Outcome};

/// A user to run a program as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Both daemons' users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Separate {
    /// keyd's.
    pub keyd: RunAs,
    /// gatewayd's.
    pub gateway: RunAs,
}

/// The users that were asked for, or that this home has; nothing in user mode.
///
/// # Errors
/// Where users are named without being root, are not known, are the same, or the system's are missing.
pub fn resolve(home: &Home, asked: &Users) -> Outcome<Option<Separate>> {
    let (keyd, gateway) = match (&asked.keyd_user, &asked.gateway_user) {
        (Some(keyd), Some(gateway)) => (keyd.as_str(), gateway.as_str()),
        _ if home.kind == Kind::System => ("strongroom-keyd", "strongroom-gateway"),
        _ => return Ok(None),
    };
    if !geteuid().is_root() {
        return Err(CtlError::not_permitted(
            "only root can run the daemons as other users. Use sudo, or leave the users out.",
        ));
    }
    let separate = Separate { keyd: find(keyd)?, gateway: find(gateway)? };
    if separate.keyd.uid == separate.gateway.uid || separate.keyd.uid == 0 || separate.gateway.uid == 0 {
        return Err(CtlError::usage("keyd and gatewayd need two users, neither of them root. Name two others."));
    }
    Ok(Some(separate))
}

fn find(text: &str) -> Outcome<RunAs> {
    let user = match text.parse::<u32>() {
        // A number needs no account: its group is of the same number then.
        Ok(uid) => match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => Some((user.uid, user.gid)),
            _ => Some((Uid::from_raw(uid), Gid::from_raw(uid))),
        },
        Err(_) => User::from_name(text).ok().flatten().map(|user| (user.uid, user.gid)),
    };
    let (uid, gid) = user.ok_or_else(|| {
        CtlError::configuration(format!("there is no user {text}. Install the package, name users by --keyd-user and --gateway-user, or set STRONGROOM_HOME."))
    })?;
    Ok(RunAs { uid: uid.as_raw(), gid: gid.as_raw() })
}
