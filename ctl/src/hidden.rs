//! What this program knows stays out of core files and of other processes' sight.
//!
//! A passphrase or a key that waits in memory would lie in the file of whoever presses Ctrl-\. Nothing is said where the
//! kernel refuses: it is a second line. It refuses to bind what is not ours: the limit would outlive exec into `run`'s
//! program, and `demo`, which knows nothing but what it made up, has to write to files of its own process in /proc.
//! Called by `main`, first of all.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

use crate::args::Command;

/// Hides this process's memory, until it becomes another program.
pub fn from_others() {
    let _ = set_dumpable(false);
}

/// The rest, when it is known what there is to be done.
pub fn as_fits(command: &Command) {
    let _ = match command {
        Command::Demo(_) => set_dumpable(true),
        Command::Run(_) => Ok(()),
        _ => setrlimit(Resource::RLIMIT_CORE, 0, 0),
    };
}
