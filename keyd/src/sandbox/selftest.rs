//! The cage's own account of itself: tries from inside what can be tried without dying.
//!
//! What seccomp forbids ends the process, so those rules are tried by programs of their own in the tests. It
//! refuses to change anything: each question only reads.
//!
//! Called by `Confined::seal`, after the last layer.

use std::fs::File;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use strongroom_protocol::Check;

use crate::sys::privilege;

/// Asks everything; one line for each question.
pub fn run() -> Vec<Check> {
    vec![
        said(
            "inside-core-dumps",
            "RLIMIT_CORE is 0",
            getrlimit(Resource::RLIMIT_CORE).is_ok_and(|limit| limit == (0, 0)),
        ),
        said("inside-undumpable", "PR_GET_DUMPABLE gives 0", prctl::get_dumpable() == Ok(false)),
        said("inside-no-new-privileges", "PR_GET_NO_NEW_PRIVS gives 1", prctl::get_no_new_privs() == Ok(true)),
        said("inside-capabilities", "no capability is held", privilege::has_no_capabilities().unwrap_or(false)),
        said(
            "inside-seccomp",
            "PR_GET_SECCOMP gives 2",
            privilege::seccomp_mode().is_ok_and(|mode| mode == FILTER_MODE),
        ),
        said("inside-landlock", "a file that everybody may read (/etc/passwd) is refused", refused("/etc/passwd")),
    ]
}

fn said(name: &str, what: &str, holds: bool) -> Check {
    if holds {
        Check::ok(name, format!("{what}."))
    } else {
        Check::warning(
            name,
            format!("it was tried, and it is not so that {what}."),
            "See the line of this layer above.",
        )
    }
}

/// Whether a file cannot be opened for want of permission; that it is missing proves nothing.
fn refused(path: &str) -> bool {
    File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// `SECCOMP_MODE_FILTER`.
const FILTER_MODE: i32 = 2;
