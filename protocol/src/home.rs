//! Where everything lies: system paths, XDG directories, or all of it under `STRONGROOM_HOME`.
//!
//! All three programs and the tests ask here, so that they can never look in different places. It reads nothing but
//! the variables that it is given and whether the system configuration exists; it creates nothing.

use std::path::{Path, PathBuf};

/// The directories of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// `keyd.toml`, `gatewayd.toml`.
    pub config: PathBuf,
    /// The vault and `audit/`; keyd's alone.
    pub data: PathBuf,
    /// Sockets.
    pub run: PathBuf,
    /// Log files; none where the journal takes them.
    pub log: Option<PathBuf>,
    /// Whose installation it is.
    pub kind: Kind,
}

/// Whose installation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/etc/strongroom` and its kin, under systemd.
    System,
    /// XDG directories of one user.
    User,
    /// Under `STRONGROOM_HOME`.
    Explicit,
}

impl Home {
    /// Finds the installation: `STRONGROOM_HOME`; else the system's for root and where only the system has one; else
    /// the user's. `variable` reads an environment variable, `system_is_installed` says whether `/etc/strongroom` is
    /// there.
    ///
    /// # Errors
    /// Where a variable that is needed is missing or holds a relative path.
    pub fn find(
        variable: impl Fn(&str) -> Option<PathBuf>,
        uid: u32,
        system_is_installed: bool,
    ) -> Result<Self, NoHome> {
        let absolute = |name: &'static str| match variable(name) {
            Some(path) if path.as_os_str().is_empty() => Ok(None),
            Some(path) if path.is_absolute() => Ok(Some(path)),
            Some(path) => Err(NoHome::Relative(name, path)),
            None => Ok(None),
        };
        if let Some(root) = absolute("STRONGROOM_HOME")? {
            return Ok(Self::under(&root));
        }
        if uid == 0 {
            return Ok(Self::system());
        }
        let home = absolute("HOME")?;
        // A service's user, or a cleared environment: there is nothing of its own to be found.
        if system_is_installed && home.is_none() && absolute("XDG_CONFIG_HOME")?.is_none() {
            return Ok(Self::system());
        }
        let below = |name, tail: &str| match absolute(name)? {
            Some(path) => Ok(path),
            None => home.as_ref().map(|home| home.join(tail)).ok_or(NoHome::Missing("HOME")),
        };
        let config = below("XDG_CONFIG_HOME", ".config")?.join("strongroom");
        let data = below("XDG_DATA_HOME", ".local/share")?.join("strongroom");
        if system_is_installed && !config.exists() && !data.exists() {
            return Ok(Self::system());
        }
        let run = absolute("XDG_RUNTIME_DIR")?.ok_or(NoHome::Missing("XDG_RUNTIME_DIR"))?.join("strongroom");
        Ok(Self { config, log: Some(data.join("log")), data, run, kind: Kind::User })
    }

    /// Everything under one directory.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self {
            config: root.join("config"),
            data: root.join("data"),
            run: root.join("run"),
            log: Some(root.join("log")),
            kind: Kind::Explicit,
        }
    }

    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self {
            config: "/etc/strongroom".into(),
            data: "/var/lib/strongroom".into(),
            run: "/run/strongroom".into(),
            log: None,
            kind: Kind::System,
        }
    }

    /// The vault file.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }

    /// The directory of the audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.data.join("audit")
    }

    /// ctl's socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// gatewayd's socket.
    #[must_use]
    pub fn gateway_socket(&self) -> PathBuf {
        self.run.join("gateway.sock")
    }

    /// Agents' socket.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// keyd's configuration.
    #[must_use]
    pub fn keyd_config(&self) -> PathBuf {
        self.config.join("keyd.toml")
    }

    /// gatewayd's configuration.
    #[must_use]
    pub fn gatewayd_config(&self) -> PathBuf {
        self.config.join("gatewayd.toml")
    }
}

/// Why there is no home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoHome {
    /// This variable is needed and not set.
    Missing(&'static str),
    /// This variable holds a relative path.
    Relative(&'static str, PathBuf),
}

impl std::fmt::Display for NoHome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(name) => {
                write!(f, "{name} is not set; set it, or STRONGROOM_HOME to a directory for everything")
            }
            Self::Relative(name, path) => {
                write!(f, "{name} is the relative path {}; give it an absolute one", path.display())
            }
        }
    }
}

impl std::error::Error for NoHome {}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)], uid: u32, system: bool) -> Result<Home, NoHome> {
        Home::find(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()), uid, system)
    }

    #[test]
    fn an_explicit_home_wins_even_for_root() {
        let home = find(&[("STRONGROOM_HOME", "/tmp/h")], 0, true).expect("a home");
        assert_eq!(home.vault(), Path::new("/tmp/h/data/vault"));
        assert_eq!(home.admin_socket(), Path::new("/tmp/h/run/admin.sock"));
        assert_eq!(home.keyd_config(), Path::new("/tmp/h/config/keyd.toml"));
    }

    #[test]
    fn root_means_the_system_and_a_user_the_xdg_directories() {
        assert_eq!(find(&[], 0, false).expect("a home").kind, Kind::System);
        let home =
            find(&[("HOME", "/home/nobody-here"), ("XDG_RUNTIME_DIR", "/run/user/7")], 7, false).expect("a home");
        assert_eq!(home.data, Path::new("/home/nobody-here/.local/share/strongroom"));
        assert_eq!(home.run, Path::new("/run/user/7/strongroom"));
    }

    #[test]
    fn a_user_without_files_of_their_own_administers_the_system() {
        assert_eq!(find(&[("HOME", "/home/nobody-here")], 7, true).expect("a home").kind, Kind::System);
        assert_eq!(find(&[], 7, true).expect("a home").kind, Kind::System);
    }

    #[test]
    fn missing_and_relative_variables_are_named() {
        assert_eq!(find(&[("HOME", "/home/nobody-here")], 7, false), Err(NoHome::Missing("XDG_RUNTIME_DIR")));
        assert_eq!(find(&[("STRONGROOM_HOME", "x")], 7, false), Err(NoHome::Relative("STRONGROOM_HOME", "x".into())));
    }
}
