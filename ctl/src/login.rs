//! Another user for a program: found while root, become before it starts.
//!
//! The session keyring goes first, while its keys are nobody else's yet. Groups, group and user change in this order, for
//! each needs what the next takes away; nothing of root is left. It refuses to do anything for others than root. Called by
//! `run --user`.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use crate::error::{CtlError, Outcome};
use crate::session_keyring;

/// A user to become.
#[derive(Debug)]
pub struct Login {
    uid: Uid,
    gid: Gid,
    account: Option<User>,
}

impl Login {
    /// Finds the user; a number needs no account, and gets the group of the same number.
    ///
    /// # Errors
    /// Where we are not root, or there is no such user.
    pub fn find(text: &str) -> Outcome<Self> {
        if !geteuid().is_root() {
            return Err(CtlError::not_permitted(
                "only root can run a program as another user. Use sudo, or leave --user out.",
            ));
        }
        let account = match text.parse::<u32>() {
            Ok(uid) => match User::from_uid(Uid::from_raw(uid)).ok().flatten() {
                None => return Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(uid), account: None }),
                account => account,
            },
            Err(_) => User::from_name(text).ok().flatten(),
        };
        let account = account.ok_or_else(|| {
            CtlError::failed(format!(
                "there is no user {text:?}. Name one of this machine's accounts, or give its uid."
            ))
        })?;
        Ok(Self { uid: account.uid, gid: account.gid, account: Some(account) })
    }

    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Becomes the user, for good, with none of the caller's keys in the kernel.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn become_it(&self) -> Outcome<()> {
        session_keyring::leave()?;
        let refused = |error: nix::Error| {
            CtlError::not_permitted(format!(
                "the kernel does not let us become uid {}: {error}. Run it as root.",
                self.uid
            ))
        };
        match self.account.as_ref().and_then(|account| CString::new(account.name.as_str()).ok()) {
            Some(name) => initgroups(&name, self.gid).map_err(refused)?,
            None => setgroups(&[self.gid]).map_err(refused)?,
        }
        setgid(self.gid).map_err(refused)?;
        setuid(self.uid).map_err(refused)
    }

    /// Its cache directory.
    #[must_use]
    pub fn cache(&self) -> Option<PathBuf> {
        self.account.as_ref().map(|account| account.dir.join(".cache"))
    }

    /// Changes an environment to be the user's, as `su` and `sudo` do.
    pub fn change(&self, environment: &mut BTreeMap<OsString, OsString>) {
        // They lead to what is root's.
        environment
            .retain(|name, _| name.to_str().is_none_or(|name| !ROOTS.contains(&name) && !name.starts_with("XDG_")));
        let Some(account) = &self.account else {
            environment.insert("HOME".into(), "/".into());
            environment.insert("SHELL".into(), "/bin/sh".into());
            return;
        };
        environment.insert("HOME".into(), account.dir.clone().into());
        environment.insert("SHELL".into(), account.shell.clone().into());
        for name in ["USER", "LOGNAME"] {
            environment.insert(name.into(), account.name.clone().into());
        }
    }
}

/// Of the user that called.
const ROOTS: [&str; 7] = ["HOME", "SHELL", "USER", "LOGNAME", "MAIL", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK"];

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(login: &Login) -> BTreeMap<OsString, OsString> {
        let mut environment = BTreeMap::from(
            [("HOME", "/root"), ("USER", "root"), ("XDG_RUNTIME_DIR", "/run/user/0"), ("MAIL", "m"), ("PATH", "/bin")]
                .map(|(name, value)| (name.into(), value.into())),
        );
        login.change(&mut environment);
        environment
    }

    #[test]
    fn nothing_of_the_caller_is_left_in_the_environment() {
        let number = Login { uid: Uid::from_raw(61_001), gid: Gid::from_raw(61_001), account: None };
        let environment = changed(&number);
        let names: Vec<_> = environment.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "PATH", "SHELL"]);
        let account = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        let dir = account.dir.clone();
        let environment = changed(&Login { uid: account.uid, gid: account.gid, account: Some(account) });
        assert_eq!(environment.get(&OsString::from("HOME")), Some(&dir.into()));
        assert_eq!(environment.get(&OsString::from("LOGNAME")), Some(&"root".into()));
    }

    #[test]
    #[ignore = "needs root: others may not name users"]
    fn unknown_users_are_refused_and_numbers_need_no_account() {
        assert_eq!(Login::find("no-such-user").unwrap_err().code(), 1);
        let login = Login::find("61001").unwrap();
        assert_eq!((login.uid.as_raw(), login.gid.as_raw(), login.cache()), (61_001, 61_001, None));
    }
}
