//! The cage around keyd, closed from inside before the first peer byte is read.
//!
//! ```text
//!   confine()          no dumps, no_new_privs, no capabilities, Landlock   inherited by threads that start later
//!      ... the threads for the disk and for closing are started here, and the runtime built ...
//!   Confined::seal()   seccomp for all threads; then everything is tried   no new thread, socket or program
//! ```
//!
//! The order is the kernel's: Landlock and capabilities belong to a thread and are inherited, so no other thread may
//! exist before [`confine`] (it refuses); seccomp forbids making threads, so the worker starts between the two.
//! Where a kernel lacks a layer the cage steps down and says so in a [`Check`], unless it is told to require all of
//! them. It never loosens anything, and nothing here can be undone.
//!
//! Called by `main`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use strongroom_protocol::{Check, CheckState};

use crate::sys;

mod landlock;
pub mod limits;
mod privileges;
mod seccomp;
mod selftest;

/// What the cage is built around.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The only directory that stays reachable: vault and audit log. It must exist.
    pub data: PathBuf,
    /// Refuse to run where a layer is missing.
    pub require: bool,
}

/// The process after [`confine`]: on the way into the cage, not yet sealed.
#[must_use = "the cage is open until it is sealed"]
#[derive(Debug)]
pub struct Confined {
    checks: Vec<Check>,
    require: bool,
}

/// Takes away privileges and the file system. Threads started from here on inherit that.
///
/// # Errors
/// Where another thread runs already, the data directory cannot be opened, or a required layer is missing.
pub fn confine(paths: &Paths) -> Result<Confined, SandboxError> {
    match sys::privilege::thread_count() {
        1 => {}
        count => return Err(SandboxError::Threads(count)),
    }
    let mut confined = Confined { checks: Vec::new(), require: paths.require };
    confined.add(limits::apply())?;
    confined.add(privileges::drop_all())?;
    confined.add(landlock::restrict_to(&paths.data)?)?;
    Ok(confined)
}

impl Confined {
    /// Installs the seccomp filter for all threads, then tries from inside what must fail. Gives one line for each
    /// rule, for `doctor`.
    ///
    /// # Errors
    /// Where a required layer is missing.
    pub fn seal(mut self) -> Result<Vec<Check>, SandboxError> {
        let installed = seccomp::install();
        self.add(vec![installed])?;
        self.add(selftest::run())?;
        Ok(self.checks)
    }

    fn add(&mut self, checks: Vec<Check>) -> Result<(), SandboxError> {
        // A warning that names a missing layer; what is merely narrower on an older kernel is no reason to stop.
        let missing = |check: &&Check| REQUIRED.contains(&check.name.as_str()) && check.state != CheckState::Ok;
        if self.require
            && let Some(check) = checks.iter().find(missing)
        {
            return Err(SandboxError::Missing(check.clone()));
        }
        self.checks.extend(checks);
        Ok(())
    }
}

/// Why keyd did not enter its cage.
#[derive(Debug)]
pub enum SandboxError {
    /// This many threads ran before the cage.
    Threads(usize),
    /// The data directory cannot be opened.
    Data(PathBuf, io::Error),
    /// A layer is missing and the configuration requires it.
    Missing(Check),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => {
                write!(
                    f,
                    "{count} threads ran before the cage was closed; this is a fault of the program: please report it"
                )
            }
            Self::Data(path, error) => write!(
                f,
                "the data directory {} cannot be opened: {error}; create it with 'strongroom init', owned by the user of keyd",
                path.display()
            ),
            Self::Missing(check) => {
                write!(f, "{}: {} {} Or set require-sandbox = false.", check.name, check.detail, check.remedy)
            }
        }
    }
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Data(_, error) => Some(error),
            Self::Threads(_) | Self::Missing(_) => None,
        }
    }
}

/// Names of the checks that are whole layers. `landlock-network` and `landlock-scopes` are not among them: seccomp
/// alone already leaves no socket and no kill.
const REQUIRED: &[&str] = &[
    limits::CORE_DUMPS,
    limits::UNDUMPABLE,
    privileges::NO_NEW_PRIVILEGES,
    privileges::CAPABILITIES,
    landlock::FILES,
    seccomp::FILTER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cage_refuses_to_close_on_other_threads() {
        // The test harness is the other thread. What the cage does is tried in processes of their own.
        let error = confine(&Paths { data: "/".into(), require: false }).unwrap_err();
        assert!(matches!(error, SandboxError::Threads(count) if count >= 2));
    }

    #[test]
    fn a_missing_layer_stops_only_where_it_is_required() {
        let missing = vec![Check::warning(seccomp::FILTER, "not there.", "Use another kernel.")];
        let narrower = vec![Check::warning("landlock-scopes", "not there.", "Use another kernel.")];
        let mut required = Confined { checks: Vec::new(), require: true };
        required.add(narrower.clone()).unwrap();
        assert!(matches!(required.add(missing.clone()), Err(SandboxError::Missing(check)) if check.name == "seccomp"));
        let mut relaxed = Confined { checks: Vec::new(), require: false };
        relaxed.add(missing).unwrap();
        assert_eq!(relaxed.checks.len(), 1);
    }
}
