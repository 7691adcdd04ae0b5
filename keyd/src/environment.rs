//! The few environment variables that keyd knows, taken out of a block that is then wiped.
//!
//! Whatever started keyd may have had keys in its own environment, and /proc/PID/environ would show them for as long
//! as keyd lives. It refuses to keep a variable that is not in [`KNOWN`]: SSL_CERT_FILE and its kin, proxies and
//! loader variables are gone before anything could read them.
//!
//! Called by `main`, before everything else.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use strongroom_protocol::Check;
use strongroom_protocol::service_manager::{self, ServiceManager};

use crate::sys;

/// What is left of the environment.
#[derive(Debug, Default)]
pub struct Environment {
    kept: Vec<(&'static str, OsString)>,
}

impl Environment {
    /// Copies the known variables, overwrites the whole block and forgets it.
    ///
    /// # Errors
    /// Where another thread runs already: it might be reading what is overwritten.
    pub fn take() -> Result<Self, TooLate> {
        sys::environment_block::take(KNOWN).map(|kept| Self { kept }).ok_or(TooLate)
    }

    /// The value of a known variable, where it was set and not empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.kept.iter().find(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value.as_os_str())
    }

    /// The same as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// Connects to the service manager, where there is one, and says why where that cannot be; before the cage, which
    /// allows no connecting.
    #[must_use]
    pub fn service_manager(&self) -> (ServiceManager, Option<io::Error>) {
        ServiceManager::find(|name| self.value(name), std::process::id())
    }

    /// Whether the log goes to the journal.
    #[must_use]
    pub fn is_journal(&self) -> bool {
        service_manager::is_journal(self.value("JOURNAL_STREAM"))
    }

    /// The sockets that were left open for us, with their names; once, before any other descriptor is kept.
    ///
    /// # Errors
    /// Where the variables make no sense, or an announced descriptor is not open.
    pub fn inherited_sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        sys::inherited(|name| self.value(name))
    }
}

/// Whether the process has an environment left, asked from inside.
pub fn check() -> Check {
    if std::env::vars_os().next().is_none() {
        Check::ok("environment", "empty, and its block is overwritten.")
    } else {
        Check::failed("environment", "there are variables left.", "This is a fault of the program: please report it.")
    }
}

/// The environment was asked for after a thread was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the environment cannot be cleared once a second thread runs; start the program without libraries that start one")
    }
}

impl std::error::Error for TooLate {}

/// The variables that keyd reads: where everything lies, what was left open, whom to tell that it is ready and alive, and
/// where its log goes.
pub const KNOWN: &[&str] = &[
    "STRONGROOM_HOME",
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_kept_is_known() {
        let environment = Environment { kept: vec![("HOME", "/home/a".into()), ("XDG_DATA_HOME", OsString::new())] };
        assert_eq!(environment.path("HOME"), Some(PathBuf::from("/home/a")));
        assert_eq!(environment.value("XDG_DATA_HOME"), None, "empty is unset");
        assert_eq!(environment.value("PATH"), None);
    }

    #[test]
    fn what_is_said_to_the_service_manager_is_known() {
        assert!(service_manager::VARIABLES.iter().all(|name| KNOWN.contains(name)));
    }

    #[test]
    fn with_other_threads_nothing_is_touched() {
        // The test harness is the other thread.
        assert_eq!(Environment::take().unwrap_err(), TooLate);
        assert!(std::env::vars_os().next().is_some());
    }
}
