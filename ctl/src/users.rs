//! Under whose uids the daemons run.
//!
//! One uid for everything is user mode, to try things out. As root each daemon can have a user of its own, by
//! `--keyd-user` and `--gateway-user`; for the system's home the package's users are taken. It refuses to mix: both or
//! none, and to start a daemon under another user than the one that owns its files: what it would leave behind, the
//! right one could not open. Called by `init`, `up` and, for uids, by `agent add` and `doctor`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Uid, User, geteuid};
use strongroom_protocol::home::{Home, Kind};

use crate::args::Users;
use crate::error::{CtlError, Outcome};
use crate::ownership::OVERFLOW;
use crate::{config_values, output};

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
/// Where users are named without being root, are not known, stand for nobody, are the same, or the system's are missing.
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
    // Before 'init' makes a home for them: keyd turns a gateway away that it cannot tell from strangers.
    let nobodies = [(separate.keyd.uid, &[NO_UID][..]), (separate.gateway.uid, &[NO_UID, OVERFLOW])];
    if let Some((uid, _)) = nobodies.into_iter().find(|(uid, nobodies)| nobodies.contains(uid)) {
        return Err(CtlError::usage(format!(
            "uid {uid} stands for nobody, so no daemon can be known by it. Name a user of its own."
        )));
    }
    if !separate.is_sound() {
        return Err(CtlError::usage("keyd and gatewayd need two users, neither of them root. Name two others."));
    }
    Ok(Some(separate))
}

/// The uids that were named, whoever asks: keyd's and gatewayd's.
///
/// # Errors
/// Where there is no such user.
pub fn named(asked: &Users) -> Outcome<Option<[u32; 2]>> {
    let (Some(keyd), Some(gateway)) = (&asked.keyd_user, &asked.gateway_user) else { return Ok(None) };
    Ok(Some([find(keyd)?.uid, find(gateway)?.uid]))
}

/// As which uid this process runs, where the kernel says so.
#[must_use]
pub fn of_process(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// Says so where root makes or starts a home whose daemons are root's too.
pub fn warn_of_root(separate: Option<Separate>) {
    if separate.is_none() && geteuid().is_root() {
        output::note(
            "Warning: both daemons run as root. Name --keyd-user and --gateway-user to 'strongroom init', so that each has a user of its own.",
        );
    }
}

impl Separate {
    /// Two users, neither of them root.
    fn is_sound(self) -> bool {
        self.keyd.uid != self.gateway.uid && self.keyd.uid != 0 && self.gateway.uid != 0
    }
}

/// The users of a home that `init` has made: those asked for where they fit, else those that it was made for.
///
/// # Errors
/// Where the home belongs to other users, and as [`resolve`].
pub fn of_existing(home: &Home, asked: &Users) -> Outcome<Option<Separate>> {
    let asked = resolve(home, asked)?;
    // Where it cannot be looked at, the daemons will say so.
    let Ok(data) = home.data.metadata() else { return Ok(asked) };
    let owner = RunAs { uid: data.uid(), gid: data.gid() };
    let named_gateway = config_values::gateway_uid(home);
    let gateway = |uid: u32| match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => RunAs { uid, gid: user.gid.as_raw() },
        _ => RunAs { uid, gid: uid },
    };
    match (asked, named_gateway) {
        (Some(asked), _) if asked.keyd.uid != owner.uid => Err(CtlError::configuration(format!(
            "{} belongs to uid {} and not to uid {}, as which keyd is to run. Name the users that 'strongroom init' was given, or leave them out.",
            home.data.display(),
            owner.uid,
            asked.keyd.uid
        ))),
        (Some(asked), Some(uid)) if asked.gateway.uid != uid => Err(CtlError::configuration(format!(
            "keyd.toml names uid {uid} as the gateway and not uid {}, so keyd would turn it away. Name that user, or correct gateway-uid.",
            asked.gateway.uid
        ))),
        (Some(asked), _) => Ok(Some(asked)),
        (None, _) if owner.uid == geteuid().as_raw() => Ok(None),
        (None, _) if !geteuid().is_root() => Err(CtlError::not_permitted(format!(
            "this home belongs to uid {}. Use that account or root, or choose another STRONGROOM_HOME.",
            owner.uid
        ))),
        (None, Some(uid)) => {
            let separate = Separate { keyd: owner, gateway: gateway(uid) };
            if separate.is_sound() {
                return Ok(Some(separate));
            }
            Err(CtlError::configuration(format!(
                "keyd.toml names uid {uid} as the gateway, and the home belongs to uid {}: keyd and gatewayd need two users, neither of them root. Correct gateway-uid, or use the account that the home belongs to.",
                owner.uid
            )))
        }
        (None, None) => Err(CtlError::configuration(
            "this home was made for users of its own and keyd.toml does not name the gateway's. Name both with --keyd-user and --gateway-user.",
        )),
    }
}

/// The uid of this user, or this number.
///
/// # Errors
/// Where there is no user of that name, or the number is none.
pub fn uid_of(text: &str) -> Outcome<u32> {
    if text.parse() == Ok(NO_UID) {
        return Err(CtlError::failed(format!(
            "{NO_UID} is no user: it is (uid_t)-1, by which the kernel says that there is none. Give the uid of a user."
        )));
    }
    let named = || User::from_name(text).ok().flatten().map(|user| user.uid.as_raw());
    text.parse().ok().or_else(named).ok_or_else(|| {
        CtlError::failed(format!("there is no user {text:?}. Name one of this machine's accounts, or give its uid."))
    })
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

/// `(uid_t)-1`: the kernel's word for none.
const NO_UID: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    fn named(keyd: &str, gateway: &str) -> Users {
        Users { keyd_user: Some(keyd.to_owned()), gateway_user: Some(gateway.to_owned()) }
    }

    fn home(folder: &tempfile::TempDir) -> Home {
        let home = Home::under(folder.path());
        fs::create_dir(&home.data).unwrap();
        fs::create_dir(&home.config).unwrap();
        home
    }

    #[test]
    fn a_home_of_ones_own_needs_no_users() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_existing(&home(&folder), &Users::default()), Ok(None));
    }

    #[test]
    fn uids_are_found_by_name_and_number() {
        assert_eq!((uid_of("root"), uid_of("61001")), (Ok(0), Ok(61_001)));
        for text in ["no-such-user", "-1", "4294967296", ""] {
            assert_eq!(uid_of(text).unwrap_err().code(), 1, "{text}");
        }
        let none = uid_of("4294967295").unwrap_err();
        assert!(none.code() == 1 && none.to_string().contains("(uid_t)-1"), "{none}");
    }

    #[test]
    #[ignore = "needs root: gives directories to other users"]
    fn a_home_made_for_other_users_is_run_by_them_and_by_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder);
        chown(&home.data, Some(61_001), Some(61_001)).unwrap();
        assert_eq!(of_existing(&home, &Users::default()).unwrap_err().code(), 78);
        fs::write(home.keyd_config(), "gateway-uid = 61002\n").unwrap();
        let made_for = of_existing(&home, &Users::default()).unwrap();
        assert_eq!(made_for, of_existing(&home, &named("61001", "61002")).unwrap());
        assert_eq!(made_for.map(|one| (one.keyd.uid, one.gateway.uid)), Some((61_001, 61_002)));
        assert_eq!(of_existing(&home, &named("61003", "61002")).unwrap_err().code(), 78);
        assert_eq!(of_existing(&home, &named("61001", "61003")).unwrap_err().code(), 78);
        // What a file says is held to the same as what is asked for.
        for uid in [0, 61_001] {
            fs::write(home.keyd_config(), format!("gateway-uid = {uid}\n")).unwrap();
            assert_eq!(of_existing(&home, &Users::default()).unwrap_err().code(), 78, "{uid}");
        }
    }

    #[test]
    #[ignore = "needs root: others may not name users"]
    fn root_two_of_a_kind_and_strangers_are_refused() {
        let home = Home::under("/nowhere".as_ref());
        for (keyd, gateway, code) in [("61001", "61001", 64), ("0", "61002", 64), ("no-such-user", "61002", 78)] {
            assert_eq!(resolve(&home, &named(keyd, gateway)).unwrap_err().code(), code, "{keyd} {gateway}");
        }
        for (keyd, gateway) in [("61001", "65534"), ("61001", "4294967295"), ("4294967295", "61002")] {
            let error = resolve(&home, &named(keyd, gateway)).unwrap_err();
            assert!(error.code() == 64 && error.to_string().contains("stands for nobody"), "{error}");
        }
        assert!(resolve(&home, &named("61001", "61002")).unwrap().is_some());
    }
}
